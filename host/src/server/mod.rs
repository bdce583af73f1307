//! The control plane as a server: starts and stops its core, sockets, own worker and web interface, in order.
//!
//! A separate module, since it depends on all of them: [`crate::control_plane`] depends on neither the web interface
//! nor the runtime.

use std::{
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
    clock::DURATION_MAX,
    control_plane::{
        core::Core,
        state::{Counts, Limits, State},
    },
    discovery::ANNOUNCE_EVERY,
    protocol::WorkerInfo,
    transport::Server,
};
#[cfg(feature = "runtime")]
use crate::{
    control_plane::{handler::ChunkReader, local_link::LocalLink},
    gui::{BoundServer, Gui, Identity as GuiIdentity},
    runtime::{Catalog, ModuleStore, Runtime},
    subworker::{
        Loading, START_WAIT,
        worker::{Transfer, WorkerError, WorkerIdentity, WorkerThreads},
    },
};

#[cfg(feature = "runtime")]
mod chunks;
mod config;
mod sockets;

#[cfg(feature = "runtime")]
use chunks::ChunkServer;
pub use config::{ControlPlaneConfig, ControlPlaneError};
use sockets::PeerInfo;

/// Timeout for sending the last callbacks.
const CALLBACKS_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout for sending the last replies.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeout for sending the last replies of a control plane that is dropped.
const DROP_TIMEOUT: Duration = Duration::from_millis(500);

/// A control plane: queues tasks and leases them to workers. With modules it also runs tasks itself.
///
/// It runs from [`ControlPlaneWorker::start`] to [`ControlPlaneWorker::stop`]. Dropped without `stop`, it closes
/// immediately: open requests are refused, running attempts are stopped, and accepted tasks are lost. The drop blocks for at
/// most about a second.
#[derive(Debug)]
pub struct ControlPlaneWorker {
    config: ControlPlaneConfig,
    running: Option<Running>,
}

struct Running {
    core: Arc<Core>,
    cluster_id: Uuid,
    servers: Vec<Box<dyn Server>>,
    /// Dropped to end the thread that sends announcements.
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
    /// Creates a control plane that has not started.
    pub fn new(config: ControlPlaneConfig) -> Self {
        Self { config, running: None }
    }

    /// Listens, announces itself and starts to load its modules: each can run as soon as it is loaded. Blocks for
    /// up to a second while they load; call it through `spawn_blocking` from async code.
    /// [`ControlPlaneWorker::loading`] waits until all modules are loaded.
    ///
    /// # Errors
    /// [`ControlPlaneError`] with the reason. Then nothing listens.
    pub fn start(&mut self) -> Result<(), ControlPlaneError> {
        #[cfg(feature = "runtime")]
        let loaded = if self.config.modules.sources.is_empty() { None } else { Some(self.config.modules.begin()?) };
        self.start_with(
            #[cfg(feature = "runtime")]
            loaded,
        )
    }

    /// Listens and announces itself, with modules that have already been loaded.
    ///
    /// # Errors
    /// As for [`ControlPlaneWorker::start`].
    pub fn start_with(
        &mut self,
        #[cfg(feature = "runtime")] loaded: Option<(Runtime, Catalog)>,
    ) -> Result<(), ControlPlaneError> {
        let config = &self.config;
        let peer_info = PeerInfo::new(config)?;
        #[cfg(feature = "runtime")]
        let gui = config.gui.as_ref().map(|gui| BoundServer::for_web(gui, config.insecure)).transpose()?.flatten();
        #[cfg(feature = "runtime")]
        let health =
            config.health.as_ref().map(|health| BoundServer::for_health(health, config.insecure)).transpose()?;
        let core = new_core(config);
        let core_threads = CoreThreads(Some(Arc::clone(&core)));
        // Before a client can submit a task with a callback.
        core.start_callbacks()?;
        let cluster_id = peer_info.welcome.cluster_id;
        #[cfg(feature = "runtime")]
        let store = loaded.as_ref().map(|_| Arc::new(config.modules.store()));
        #[cfg(feature = "runtime")]
        let chunks = store.as_ref().map(|store| serve_modules(&core, store)).transpose()?;
        #[cfg(not(feature = "runtime"))]
        let chunks = None;
        let servers = sockets::listen(config, &core, &peer_info.welcome, chunks)?;
        let timer = core.start_timer()?;
        let (announcements, announcer) = start_announcements(config, peer_info)?;
        #[cfg(feature = "runtime")]
        let gui = gui.map(|gui| gui.serve(Arc::clone(&core), gui_identity(config))).transpose()?;
        #[cfg(feature = "runtime")]
        let health = health.map(|health| health.serve_health(Arc::clone(&core), gui_identity(config))).transpose()?;
        // Last, as its threads do not end on their own.
        #[cfg(feature = "runtime")]
        let worker = loaded.map(|loaded| start_worker(config, &core, loaded, store)).transpose()?;
        core_threads.keep();
        let threads = vec![timer, announcer];
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

    /// The loading of the modules that were configured at the start.
    #[cfg(feature = "runtime")]
    pub fn loading(&self) -> Loading {
        let worker = self.running.as_ref().and_then(|running| running.worker.as_ref());
        worker.map(WorkerThreads::loading).unwrap_or_default()
    }

    /// Refuses new tasks, runs accepted ones for at most `limit`, replies to open requests, and closes. Blocks until
    /// then.
    pub fn stop(&mut self, limit: Duration) {
        let Some(running) = &mut self.running else { return };
        let deadline = Instant::now() + limit.min(DURATION_MAX);
        running.core.enter(|state, _| state.drain());
        running.core.wait_until(deadline, State::is_quiet);
        // It does not wait for tasks that no worker can run, that are scheduled or that wait for a retry.
        let unfinished = running.core.enter(|state, _| state.unfinished());
        if unfinished > 0 {
            warn!(unfinished, "stopping with unfinished tasks, which are lost");
        }
        #[cfg(feature = "runtime")]
        if let Some(worker) = running.worker.take() {
            worker.drain(deadline.saturating_duration_since(Instant::now()));
        }
        running.core.enter(|state, _| state.close_all());
        running.core.stop_callbacks(CALLBACKS_TIMEOUT.min(deadline.saturating_duration_since(Instant::now())));
        for server in &running.servers {
            server.flush(FLUSH_TIMEOUT);
        }
        self.close();
        info!("stopped");
    }

    fn close(&mut self) {
        if let Some(running) = self.running.take() {
            running.close();
        }
    }

    /// The workers, starting with its own.
    pub fn get_subworker_status(&self) -> Vec<WorkerInfo> {
        let Some(running) = &self.running else { return Vec::new() };
        running.core.enter(|state, now| state.registry().infos(now.mono))
    }

    /// The id of its cluster. None unless it runs.
    pub fn cluster_id(&self) -> Option<Uuid> {
        self.running.as_ref().map(|running| running.cluster_id)
    }

    /// The URL of the web interface, if there is one.
    #[cfg(feature = "runtime")]
    pub fn gui_url(&self) -> Option<&str> {
        Some(self.running.as_ref()?.gui.as_ref()?.url())
    }

    /// The URL of the separate server for health checks, if there is one.
    #[cfg(feature = "runtime")]
    pub fn health_url(&self) -> Option<&str> {
        Some(self.running.as_ref()?.health.as_ref()?.url())
    }

    /// The numbers of tasks accepted, ended and granted since the start.
    pub fn counts(&self) -> Counts {
        self.running.as_ref().map(|running| running.core.enter(|state, _| state.counts())).unwrap_or_default()
    }
}

impl Drop for ControlPlaneWorker {
    fn drop(&mut self) {
        let Some(running) = &mut self.running else { return };
        let deadline = Instant::now() + DROP_TIMEOUT;
        running.core.enter(|state, _| state.drain());
        #[cfg(feature = "runtime")]
        drop(running.worker.take());
        running.core.enter(|state, _| state.close_all());
        for server in &running.servers {
            server.flush(deadline.saturating_duration_since(Instant::now()));
        }
        running.core.stop_callbacks(Duration::ZERO);
        self.close();
    }
}

impl Running {
    /// Stops all threads and servers, after all replies have been sent.
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

/// Ends the threads of the core on drop, when a control plane cannot start.
struct CoreThreads(Option<Arc<Core>>);

impl CoreThreads {
    /// Lets the threads continue.
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

fn new_core(config: &ControlPlaneConfig) -> Arc<Core> {
    let core = Core::new(Limits {
        results_max: config.result_cache_max_size,
        result_ttl: Duration::from_secs(config.result_cache_ttl_seconds),
        unknown_grace: config.unknown_grace,
        ..Limits::default()
    });
    core.enter(|state, now| {
        state.set_control_plane_id(&config.worker_id);
        state.start(now);
    });
    core
}

/// Starts the thread that announces the control plane until the sender is dropped.
fn start_announcements(
    config: &ControlPlaneConfig,
    peer_info: PeerInfo,
) -> Result<(Sender<()>, JoinHandle<()>), ControlPlaneError> {
    let announcer = sockets::announcer(config, &peer_info.announcement)?;
    let (stop, stopped) = mpsc::channel();
    let thread = thread::Builder::new().name("fw-announce".into()).spawn(move || {
        let message = peer_info.announcement.to_message();
        announcer.announce(&message);
        while stopped.recv_timeout(ANNOUNCE_EVERY) == Err(RecvTimeoutError::Timeout) {
            announcer.announce(&message);
        }
    })?;
    Ok((stop, thread))
}

#[cfg(feature = "runtime")]
fn gui_identity(config: &ControlPlaneConfig) -> GuiIdentity {
    GuiIdentity {
        worker_id: config.worker_id.clone(),
        base_address: config.base_address.clone(),
        discovery_address: config.discovery_address.clone(),
    }
}

/// Lets subworkers take the modules of the control plane's own worker, which starts later.
#[cfg(feature = "runtime")]
fn serve_modules(core: &Core, store: &Arc<ModuleStore>) -> Result<Box<dyn ChunkReader>, ControlPlaneError> {
    core.enter(|state, _| state.expect_modules());
    Ok(Box::new(ChunkServer::start(Arc::clone(store))?))
}

/// Starts the control plane's own worker.
#[cfg(feature = "runtime")]
fn start_worker(
    config: &ControlPlaneConfig,
    core: &Arc<Core>,
    (runtime, catalog): (Runtime, Catalog),
    store: Option<Arc<ModuleStore>>,
) -> Result<WorkerThreads, WorkerError> {
    let identity = WorkerIdentity {
        worker_id: config.worker_id.clone(),
        address: config.base_address.to_string(),
        slots: u32::try_from(config.modules.concurrency.min(runtime.capacity())).unwrap_or(u32::MAX),
    };
    let link = Arc::new(LocalLink(Arc::clone(core)));
    let reload = config.modules.reload(store.map_or(Transfer::None, Transfer::Offer));
    let loads_nothing = reload.is_none();
    let worker = WorkerThreads::start(link, runtime, catalog, identity, reload, Duration::ZERO)?;
    if loads_nothing {
        core.enter(|state, _| state.modules_loaded());
    }
    Ok(worker)
}
