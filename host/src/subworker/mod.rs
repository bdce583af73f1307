//! Subworkers: work, run, work again, until drained.
//!
//! A subworker dials the control plane and listens nowhere. [`crew`] holds its threads, which are
//! the same as those of the control plane's own slots; [`link`] is how they ask.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use crate::{
    config::{Address, BASE_ADDRESS, DISCOVERY_ADDRESS},
    protocol::Welcome,
    runtime::{Catalog, LoadError, Runtime, RuntimeConfig, RuntimeError, SourceError, expand},
    task::SerializationFormat,
    transport::nng::Nng,
};

pub mod crew;
pub mod link;
mod log;

use crew::{Crew, CrewError, Identity, Reload};
use link::{NotFound, RemoteLink};

/// What a subworker is told before it starts.
#[derive(Clone, Debug)]
pub struct SubWorkerConfig {
    /// Its worker id. No two workers of a control plane have the same.
    pub worker_id: String,
    /// The base address of its control plane.
    pub control_plane_address: Address,
    /// The address that is shown for it; nothing listens there.
    pub base_address: Address,
    /// Where it looks for the control plane when that has moved, once it has joined it.
    pub discovery_address: Address,
    /// How its messages are written. Postcard by default, as nobody but the control plane reads
    /// them: measured, it takes a tenth to a sixth off a task's way through a subworker.
    pub serialization_format: SerializationFormat,
    /// The modules it loads.
    pub modules: ModulesConfig,
    /// How long it looks for its control plane, and waits for another worker of its id to be gone.
    pub timeout: Duration,
}

impl SubWorkerConfig {
    /// A subworker of that id for the control plane at that address, with every default.
    pub fn new(worker_id: impl Into<String>, control_plane_address: Address) -> Self {
        Self {
            worker_id: worker_id.into(),
            control_plane_address,
            base_address: known(BASE_ADDRESS),
            discovery_address: known(DISCOVERY_ADDRESS),
            serialization_format: SerializationFormat::Postcard,
            modules: ModulesConfig::default(),
            timeout: Duration::from_secs(30),
        }
    }
}

/// Which modules a worker loads, and how it runs them.
#[derive(Clone, Debug)]
pub struct ModulesConfig {
    /// Files, globs and directories.
    pub sources: Vec<String>,
    /// How many attempts run at a time.
    pub concurrency: usize,
    /// Where compiled code is kept; none to compile anew each time.
    pub cache_dir: Option<PathBuf>,
    /// Whether a changed file goes live, or only what was loaded at the start.
    pub reload: bool,
    /// How long a module may be gone from its folder before it is dropped.
    pub module_grace: Duration,
    /// Whether a version goes live although tasks wait whose arguments it does not take.
    pub force_reload: bool,
}

/// How long a module may be gone from its folder.
pub const MODULE_GRACE: Duration = Duration::from_secs(5);

impl Default for ModulesConfig {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            concurrency: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            cache_dir: default_cache_dir(),
            reload: true,
            module_grace: MODULE_GRACE,
            force_reload: false,
        }
    }
}

impl ModulesConfig {
    /// Loads the modules.
    ///
    /// # Errors
    /// [`ModulesError`] if a source names nothing, or a module cannot be loaded: nothing half loaded starts.
    pub fn load(&self) -> Result<(Runtime, Catalog), ModulesError> {
        let paths = expand(&self.sources)?;
        let cache_dir = self.cache_dir.clone();
        let runtime = Runtime::new(RuntimeConfig { slots: self.concurrency, cache_dir, ..RuntimeConfig::default() })?;
        let (catalog, errors) = Catalog::load(&runtime, &paths);
        if errors.is_empty() { Ok((runtime, catalog)) } else { Err(ModulesError::Load(errors)) }
    }

    /// How what was loaded changes, if it does.
    pub(crate) fn reload(&self) -> Option<Reload> {
        let (sources, grace, force) = (self.sources.clone(), self.module_grace, self.force_reload);
        self.reload.then_some(Reload { sources, grace, force })
    }
}

/// Where the user's cache is, after the XDG base directory specification.
fn default_cache_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("fastworker").join("compiled"))
}

/// Modules that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A source names nothing that can be loaded.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The machine cannot run modules.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// These modules cannot be loaded.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Load(Vec<LoadError>),
}

/// A subworker that could not start.
#[derive(Debug, thiserror::Error)]
pub enum SubWorkerError {
    /// Its modules could not be loaded.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// Its control plane could not be found.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// Its control plane did not take it.
    #[error(transparent)]
    Crew(#[from] CrewError),
}

/// Runs tasks for a control plane, from [`SubWorker::start`] to [`SubWorker::stop`]. Dropped without
/// that, it stops at once: what runs is stopped and given back to the control plane, which the drop
/// waits for, about a second at most.
#[derive(Debug)]
pub struct SubWorker {
    config: SubWorkerConfig,
    crew: Option<Crew>,
    /// Who its control plane said it is when it joined.
    joined: Option<Welcome>,
}

impl SubWorker {
    /// A subworker that has not started.
    pub fn new(config: SubWorkerConfig) -> Self {
        Self { config, crew: None, joined: None }
    }

    /// Loads the modules, registers and takes work. Blocks while it loads and looks for its control
    /// plane; call it through `spawn_blocking` from async code.
    ///
    /// # Errors
    /// [`SubWorkerError`] says what to mend. Nothing runs then.
    pub fn start(&mut self) -> Result<(), SubWorkerError> {
        let (runtime, catalog) = self.config.modules.load()?;
        self.start_with(runtime, catalog)
    }

    /// Registers with modules that are loaded already.
    ///
    /// # Errors
    /// As for [`SubWorker::start`].
    pub fn start_with(&mut self, runtime: Runtime, catalog: Catalog) -> Result<(), SubWorkerError> {
        let (config, begun) = (&self.config, Instant::now());
        let link = RemoteLink::find(
            Arc::new(Nng),
            &config.control_plane_address,
            &config.discovery_address,
            config.serialization_format,
            config.timeout,
        )?;
        let identity = Identity {
            worker_id: config.worker_id.clone(),
            address: config.base_address.to_string(),
            slots: u32::try_from(config.modules.concurrency.min(runtime.room())).unwrap_or(u32::MAX),
        };
        let is_empty = catalog.modules().is_empty();
        self.joined = Some(link.joined().clone());
        let (link, reload) = (Arc::new(link), config.modules.reload());
        // To a tenth of a second, as it is told to people.
        let left = config.timeout.saturating_sub(begun.elapsed()).as_millis().div_ceil(100);
        let patience = Duration::from_millis(u64::try_from(left * 100).unwrap_or(u64::MAX));
        self.crew = Some(Crew::start(link, runtime, catalog, identity, reload, patience)?);
        if is_empty {
            warn!(worker = config.worker_id, "this subworker has no task modules, so it gets no tasks");
        }
        Ok(())
    }

    /// A call that leaves the control plane at once, from another thread, for a process that is about to end:
    /// what runs here is run elsewhere, and nothing is held against it. It takes about a second at most.
    pub fn leave(&self) -> Box<dyn Fn() + Send> {
        match &self.crew {
            Some(crew) => Box::new(crew.leave()),
            None => Box::new(|| {}),
        }
    }

    /// Who the control plane said it is that this subworker joined when it started.
    pub fn control_plane(&self) -> Option<&Welcome> {
        self.joined.as_ref()
    }

    /// Finishes what runs, at most `limit` long, hands the rest back and leaves. Blocks so long.
    pub fn stop(&mut self, limit: Duration) {
        if let Some(crew) = self.crew.take() {
            crew.drain(limit);
            info!(worker = self.config.worker_id, "stopped");
        }
    }
}

/// An address that this program itself wrote out.
fn known(address: &str) -> Address {
    address.parse().expect("the default addresses are addresses")
}
