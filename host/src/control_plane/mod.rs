//! The control plane: owns the queue, the leases, the schedule and the results.
//!
//! A message comes in through [`handler`], enters [`state`] behind the lock of [`core`], and what
//! is to be said leaves on its [`reply_to`]. The rest are the state's books.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    clock::SPAN_MAX,
    config::{Address, BASE_ADDRESS, DISCOVERY_ADDRESS, Exposed, MANAGEMENT_OFFSET, NotAnAddress, SUBWORKER_PORT},
    discovery::{ANNOUNCE_EVERY, Announcement},
    protocol::{self, WORKER_ID_MAX, Welcome, WorkerInfo},
    task::{SerializationFormat, TaskPriority},
    transport::{Announcer, OPEN_REQUESTS_MAX, OpenError, PAYLOAD_MAX, Server, Transport, nng::Nng},
};
#[cfg(feature = "runtime")]
use crate::{
    gui::{Bound, Gui, GuiConfig, GuiError, HealthConfig, Identity as Shown},
    runtime::{Catalog, Runtime},
    subworker::{
        Loading, ModulesConfig, ModulesError, START_WAIT,
        link::LocalLink,
        worker::{Identity, WorkerError, WorkerThreads},
    },
};

pub mod callbacks;
pub mod cluster;
pub mod core;
pub mod events;
pub mod handler;
mod log;
pub mod metrics;
pub mod queue;
pub mod reply_to;
pub mod reports;
pub mod results;
pub mod retry;
pub mod schedules;
pub mod sessions;
pub mod signatures;
pub mod state;
pub mod worker_registry;

use self::{
    core::Core,
    handler::{Clients, Workers},
    state::{Counts, Limits, UNKNOWN_GRACE},
};

/// What a control plane is told before it starts.
#[derive(Clone, Debug)]
pub struct ControlPlaneConfig {
    /// Its worker id. Without a colon, so that it can be announced.
    pub worker_id: String,
    /// Where it listens: this port and the four after it.
    pub base_address: Address,
    /// Where it announces itself.
    pub discovery_address: Address,
    /// How its own messages are written. What others ask is answered in the form they chose.
    pub serialization_format: SerializationFormat,
    /// Where subworkers register, on the host of the base address.
    pub subworker_management_port: u16,
    /// How many results are kept.
    pub result_cache_max_size: usize,
    /// How long a result is kept, in seconds.
    pub result_cache_ttl_seconds: u64,
    /// How long calls of a name that no worker has wait for one, after the start and after each loss
    /// of a worker.
    pub unknown_grace: Duration,
    /// The base address as peers reach it, where that is another than it listens on.
    pub advertise_address: Option<Address>,
    /// Listen off loopback although anybody who reaches it can run tasks.
    pub insecure: bool,
    /// How many requests each address holds open.
    pub open_requests_max: usize,
    /// Which cluster it is. None for the id that is kept in the state folder, or else a new one.
    pub cluster_id: Option<Uuid>,
    /// Where that id is kept; none to keep nothing.
    pub state_dir: Option<PathBuf>,
    /// The web interface; none for no such thing.
    #[cfg(feature = "runtime")]
    pub gui: Option<GuiConfig>,
    /// Where health checks and metrics are served apart from the web interface; none for nowhere.
    #[cfg(feature = "runtime")]
    pub health: Option<HealthConfig>,
    /// The modules that it runs itself. With no sources it runs nothing.
    #[cfg(feature = "runtime")]
    pub modules: ModulesConfig,
}

impl Default for ControlPlaneConfig {
    fn default() -> Self {
        let known = |address: &str| address.parse().expect("the default addresses are addresses");
        Self {
            worker_id: "control-plane".into(),
            base_address: known(BASE_ADDRESS),
            discovery_address: known(DISCOVERY_ADDRESS),
            serialization_format: SerializationFormat::Json,
            subworker_management_port: SUBWORKER_PORT,
            result_cache_max_size: 10_000,
            result_cache_ttl_seconds: 3_600,
            unknown_grace: UNKNOWN_GRACE,
            advertise_address: None,
            insecure: false,
            open_requests_max: OPEN_REQUESTS_MAX,
            cluster_id: None,
            state_dir: cluster::default_state_dir(),
            #[cfg(feature = "runtime")]
            gui: None,
            #[cfg(feature = "runtime")]
            health: None,
            #[cfg(feature = "runtime")]
            modules: ModulesConfig::default(),
        }
    }
}

/// A control plane that could not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// A socket could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An address leads nowhere.
    #[error(transparent)]
    Address(#[from] NotAnAddress),
    /// An address must not be listened on.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The worker id cannot be announced.
    #[error("a worker id is text of 1 to {WORKER_ID_MAX} bytes without colons and control characters, not {0:?}")]
    WorkerId(String),
    /// The system has no more threads.
    #[error("cannot start a thread: {}", crate::system::explain(.0))]
    Thread(#[from] std::io::Error),
    /// Its web interface could not start.
    #[cfg(feature = "runtime")]
    #[error(transparent)]
    Gui(#[from] GuiError),
    /// Its modules could not be loaded.
    #[cfg(feature = "runtime")]
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// Its own slots could not start.
    #[cfg(feature = "runtime")]
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Orders tasks and hands them to workers; with modules it runs tasks itself, too. From
/// [`ControlPlaneWorker::start`] to [`ControlPlaneWorker::stop`]; dropped without that, it stops at
/// once: whoever waits is told so, what runs is stopped, and what was accepted is lost. The drop waits
/// about a second at most.
#[derive(Debug)]
pub struct ControlPlaneWorker {
    config: ControlPlaneConfig,
    running: Option<Running>,
}

struct Running {
    core: Arc<Core>,
    cluster_id: Uuid,
    servers: Vec<Box<dyn Server>>,
    announcements: Sender<()>,
    threads: Vec<JoinHandle<()>>,
    #[cfg(feature = "runtime")]
    worker: Option<WorkerThreads>,
    #[cfg(feature = "runtime")]
    gui: Option<Gui>,
    #[cfg(feature = "runtime")]
    health: Option<Gui>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("servers", &self.servers.len()).finish_non_exhaustive()
    }
}

impl ControlPlaneWorker {
    /// A control plane that has not started.
    pub fn new(config: ControlPlaneConfig) -> Self {
        Self { config, running: None }
    }

    /// Listens, announces itself and begins to load its modules: each runs as soon as it is loaded. Blocks for
    /// up to a second while they load; call it through `spawn_blocking` from async code.
    /// [`ControlPlaneWorker::loading`] tells when all modules are loaded.
    ///
    /// # Errors
    /// [`ControlPlaneError`] says what to mend. Nothing listens then.
    pub fn start(&mut self) -> Result<(), ControlPlaneError> {
        #[cfg(feature = "runtime")]
        let loaded = if self.config.modules.sources.is_empty() { None } else { Some(self.config.modules.begin()?) };
        self.start_with(
            #[cfg(feature = "runtime")]
            loaded,
        )
    }

    /// Listens and announces itself, with modules that are loaded already.
    ///
    /// # Errors
    /// As for [`ControlPlaneWorker::start`].
    pub fn start_with(
        &mut self,
        #[cfg(feature = "runtime")] loaded: Option<(Runtime, Catalog)>,
    ) -> Result<(), ControlPlaneError> {
        let config = &self.config;
        let peers = Peers::of(config)?;
        #[cfg(feature = "runtime")]
        let gui = config.gui.as_ref().map(|gui| Bound::listen(gui, config.insecure)).transpose()?.flatten();
        #[cfg(feature = "runtime")]
        let health = config.health.as_ref().map(|health| Bound::for_health(health, config.insecure)).transpose()?;
        let core = Core::new(Limits {
            results_max: config.result_cache_max_size,
            result_ttl: Duration::from_secs(config.result_cache_ttl_seconds),
            unknown_grace: config.unknown_grace,
            ..Limits::default()
        });
        core.enter(|state, now| {
            state.set_own_id(&config.worker_id);
            state.start(now);
        });
        let threads = CoreThreads(Some(Arc::clone(&core)));
        // Before anybody can submit a task that wants to be called back.
        core.start_callbacks()?;
        let cluster_id = peers.welcome.cluster_id;
        let servers = listen(config, &core, &peers.welcome)?;
        let (announcements, stop) = mpsc::channel();
        let announcer = announcer(config, &peers.announcement)?;
        let timer = core.start_timer()?;
        let announcing = thread::Builder::new().name("fw-announce".into()).spawn(move || {
            let message = peers.announcement.to_message();
            announcer.announce(&message);
            while stop.recv_timeout(ANNOUNCE_EVERY) == Err(RecvTimeoutError::Timeout) {
                announcer.announce(&message);
            }
        })?;
        #[cfg(feature = "runtime")]
        let gui = gui.map(|gui| gui.serve(Arc::clone(&core), shown(config))).transpose()?;
        #[cfg(feature = "runtime")]
        let health = health.map(|health| health.serve_health(Arc::clone(&core), shown(config))).transpose()?;
        // Last, as its threads do not end by themselves.
        #[cfg(feature = "runtime")]
        let worker = loaded.map(|(runtime, catalog)| start_worker(config, &core, runtime, catalog)).transpose()?;
        threads.keep();
        let threads = vec![timer, announcing];
        self.running = Some(Running {
            core,
            cluster_id,
            servers,
            announcements,
            threads,
            #[cfg(feature = "runtime")]
            worker,
            #[cfg(feature = "runtime")]
            gui,
            #[cfg(feature = "runtime")]
            health,
        });
        #[cfg(feature = "runtime")]
        self.loading().wait(START_WAIT);
        Ok(())
    }

    /// The loading of the modules that were there at the start.
    #[cfg(feature = "runtime")]
    pub fn loading(&self) -> Loading {
        let worker = self.running.as_ref().and_then(|running| running.worker.as_ref());
        worker.map(WorkerThreads::loading).unwrap_or_default()
    }

    /// Takes no more tasks, runs what was accepted, at most `limit` long, answers whoever still
    /// waits, and closes. Blocks so long.
    pub fn stop(&mut self, limit: Duration) {
        let Some(running) = &mut self.running else { return };
        let until = Instant::now() + limit.min(SPAN_MAX);
        running.core.enter(|state, _| state.drain());
        running.core.wait_until(until, state::State::is_quiet);
        // Those that nobody can run, that are scheduled or that wait for a retry were not waited for.
        let left = running.core.enter(|state, _| state.unfinished());
        if left > 0 {
            warn!(unfinished = left, "stopping with unfinished tasks, which are lost");
        }
        #[cfg(feature = "runtime")]
        if let Some(worker) = running.worker.take() {
            worker.drain(until.saturating_duration_since(Instant::now()));
        }
        running.core.enter(|state, _| state.farewell());
        running.core.stop_callbacks(CALLBACKS_LIMIT.min(until.saturating_duration_since(Instant::now())));
        for server in &running.servers {
            server.flush(FLUSH_LIMIT);
        }
        self.close();
        info!("stopped");
    }

    fn close(&mut self) {
        if let Some(running) = self.running.take() {
            running.close();
        }
    }

    /// The workers, its own first.
    pub fn get_subworker_status(&self) -> Vec<WorkerInfo> {
        let Some(running) = &self.running else { return Vec::new() };
        running.core.enter(|state, now| state.registry().infos(now.mono))
    }

    /// Which cluster it is, while it runs.
    pub fn cluster_id(&self) -> Option<Uuid> {
        self.running.as_ref().map(|running| running.cluster_id)
    }

    /// Where the page of the web interface is, if there is one.
    #[cfg(feature = "runtime")]
    pub fn gui_url(&self) -> Option<&str> {
        Some(self.running.as_ref()?.gui.as_ref()?.url())
    }

    /// Where health checks are answered apart from the web interface, if they are.
    #[cfg(feature = "runtime")]
    pub fn health_url(&self) -> Option<&str> {
        Some(self.running.as_ref()?.health.as_ref()?.url())
    }

    /// What it counted since it started.
    pub fn counts(&self) -> Counts {
        self.running.as_ref().map(|running| running.core.enter(|state, _| state.counts())).unwrap_or_default()
    }
}

impl Drop for ControlPlaneWorker {
    fn drop(&mut self) {
        let Some(running) = &mut self.running else { return };
        let until = Instant::now() + DROP_LIMIT;
        running.core.enter(|state, _| state.drain());
        #[cfg(feature = "runtime")]
        drop(running.worker.take());
        running.core.enter(|state, _| state.farewell());
        for server in &running.servers {
            server.flush(until.saturating_duration_since(Instant::now()));
        }
        running.core.stop_callbacks(Duration::ZERO);
        self.close();
    }
}

impl Running {
    /// Closes everything, once all has been said.
    fn close(self) {
        #[cfg(feature = "runtime")]
        drop((self.gui, self.health));
        drop(self.announcements);
        self.core.stop_timer();
        for thread in self.threads {
            drop(thread.join());
        }
    }
}

/// Ends the threads of the core when a control plane cannot start.
struct CoreThreads(Option<Arc<Core>>);

impl CoreThreads {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CoreThreads {
    fn drop(&mut self) {
        if let Some(core) = self.0.take() {
            core.stop_callbacks(Duration::ZERO);
            core.stop_timer();
        }
    }
}

/// How long the last callbacks may take to leave.
const CALLBACKS_LIMIT: Duration = Duration::from_secs(3);
/// How long the last answers may take to leave.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// How long the last answers may take to leave of a control plane that is dropped.
const DROP_LIMIT: Duration = Duration::from_millis(500);

/// What peers are told.
struct Peers {
    welcome: Welcome,
    announcement: Announcement,
}

impl Peers {
    fn of(config: &ControlPlaneConfig) -> Result<Self, ControlPlaneError> {
        let id = &config.worker_id;
        if !protocol::is_worker_id(id) {
            return Err(ControlPlaneError::WorkerId(id.chars().take(WORKER_ID_MAX).collect()));
        }
        let base_address = config.base_address.for_peers(config.advertise_address.as_ref(), config.insecure)?;
        // Nobody is told where the bus is, so it need only be guarded.
        config.discovery_address.for_peers(Some(&base_address), config.insecure)?;
        let welcome = Welcome {
            worker_id: id.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: protocol::VERSION,
            base_address: base_address.to_string(),
            subworker_address: base_address.with_port(config.subworker_management_port).to_string(),
            payload_max: PAYLOAD_MAX as u64,
            cluster_id: cluster_id(config),
        };
        Ok(Self { welcome, announcement: Announcement { worker_id: id.clone(), base_address } })
    }
}

/// Which cluster this control plane is.
fn cluster_id(config: &ControlPlaneConfig) -> Uuid {
    if let Some(id) = config.cluster_id {
        return id;
    }
    let Some(folder) = &config.state_dir else { return Uuid::new_v4() };
    cluster::id_in(folder, &config.worker_id, config.base_address.port()).unwrap_or_else(|(id, error)| {
        warn!(
            folder = %folder.display(),
            %error,
            "cannot keep the cluster's id: after a restart at another address, clients and subworkers will not \
             find this cluster again by its announcements; set XDG_STATE_HOME or --cluster-id"
        );
        id
    })
}

/// Opens the sockets of the four priorities, of management and of subworkers.
fn listen(
    config: &ControlPlaneConfig,
    core: &Arc<Core>,
    welcome: &Welcome,
) -> Result<Vec<Box<dyn Server>>, ControlPlaneError> {
    let lanes = TaskPriority::ALL.into_iter().map(Some).chain([None]);
    let mut servers = Vec::new();
    for (offset, lane) in (0..=MANAGEMENT_OFFSET).zip(lanes) {
        let service = Clients::new(Arc::clone(core), welcome.clone(), lane);
        let address = config.base_address.plus(offset)?;
        servers.push(Nng.serve(&address.to_string(), config.open_requests_max, Arc::new(service))?);
    }
    let address = config.base_address.with_port(config.subworker_management_port);
    let service = Workers::new(Arc::clone(core));
    servers.push(Nng.serve(&address.to_string(), config.open_requests_max, Arc::new(service))?);
    Ok(servers)
}

fn announcer(config: &ControlPlaneConfig, announcement: &Announcement) -> Result<Box<dyn Announcer>, OpenError> {
    let joined = announcement.clone();
    Nng.announcer(&config.discovery_address.to_string(), Box::new(move || joined.to_message()))
}

/// Who it is, as the web interface shows it.
#[cfg(feature = "runtime")]
fn shown(config: &ControlPlaneConfig) -> Shown {
    Shown {
        worker_id: config.worker_id.clone(),
        base_address: config.base_address.clone(),
        discovery_address: config.discovery_address.clone(),
    }
}

/// Starts the control plane's own slots.
#[cfg(feature = "runtime")]
fn start_worker(
    config: &ControlPlaneConfig,
    core: &Arc<Core>,
    runtime: Runtime,
    catalog: Catalog,
) -> Result<WorkerThreads, WorkerError> {
    let identity = Identity {
        worker_id: config.worker_id.clone(),
        address: config.base_address.to_string(),
        slots: u32::try_from(config.modules.concurrency.min(runtime.room())).unwrap_or(u32::MAX),
    };
    let link = Arc::new(LocalLink(Arc::clone(core)));
    WorkerThreads::start(link, runtime, catalog, identity, config.modules.reload(), Duration::ZERO)
}
