//! Subworkers: work, run, work again, until drained.
//!
//! A subworker dials the control plane and listens nowhere. [`worker`] holds its threads, which are
//! the same as those of the control plane's own slots; [`link`] is how they ask.

use std::{
    fs::File,
    io::Read as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use crate::{
    clock::Timestamp,
    config::{Address, BASE_ADDRESS, DISCOVERY_ADDRESS},
    protocol::Welcome,
    runtime::{
        COMPILE_MEMORY_MAX, COMPILE_TIMEOUT, Catalog, Compiler, LoadError, ModuleError, Runtime, RuntimeConfig,
        RuntimeError, SourceError, awaited, expand,
    },
    task::{LoadFailure, SerializationFormat},
    transport::nng::Nng,
};

pub mod link;
mod log;
pub mod worker;

use link::{NotFound, RemoteLink};
use worker::{Identity, Reload, WorkerError, WorkerThreads};
pub use worker::{Loading, LoadingEnd};

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
    /// Who compiles: by default this program if it has said that it can, else this process.
    pub compiler: Compiler,
    /// Bytes of memory that compiling a module may take, in a process of its own.
    pub compile_memory_max: u64,
    /// Processor time that compiling a module may take, in a process of its own.
    pub compile_timeout: Duration,
}

/// How long the start of a worker waits for its modules: long enough for those that are in the cache.
pub const START_WAIT: Duration = Duration::from_secs(1);

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
            compiler: Compiler::default(),
            compile_memory_max: COMPILE_MEMORY_MAX,
            compile_timeout: COMPILE_TIMEOUT,
        }
    }
}

impl ModulesConfig {
    /// Loads the modules that are there now, for somebody who wants to look at them. A file that cannot be
    /// loaded is in the catalog with its error, if a folder or a pattern led to it.
    ///
    /// # Errors
    /// [`ModulesError`] if a source leads to no file, or names a file that cannot be loaded.
    pub fn load(&self) -> Result<(Runtime, Catalog), ModulesError> {
        let paths = expand(&self.sources)?;
        let runtime = self.runtime()?;
        let (mut catalog, errors) = Catalog::load(&runtime, &paths);
        let is_named = |error: &LoadError| self.sources.iter().any(|source| Path::new(source) == error.path);
        if errors.iter().any(is_named) {
            return Err(ModulesError::Load(errors));
        }
        for LoadError { path, why } in errors {
            catalog.set_error(&path, LoadFailure { at: Timestamp::now(), message: why.to_string() });
        }
        Ok((runtime, catalog))
    }

    /// What a worker starts with: no modules yet, they are loaded while it works.
    ///
    /// # Errors
    /// [`ModulesError`] if a source can never lead to a module, or the machine cannot run any.
    pub(crate) fn begin(&self) -> Result<(Runtime, Catalog), ModulesError> {
        for source in &self.sources {
            match awaited(source) {
                Some(error @ SourceError::Pattern { .. }) => return Err(error.into()),
                // Nothing that comes later is looked at.
                Some(error @ SourceError::Missing(_)) if !self.reload => return Err(error.into()),
                _ => {}
            }
            if let Some(why) = never_a_module(Path::new(source)) {
                return Err(ModulesError::Load(vec![LoadError { path: source.into(), why }]));
            }
        }
        Ok((self.runtime()?, Catalog::default()))
    }

    fn runtime(&self) -> Result<Runtime, ModulesError> {
        Ok(Runtime::new(RuntimeConfig {
            slots: self.concurrency,
            cache_dir: self.cache_dir.clone(),
            compiler: self.compiler.clone(),
            compile_memory_max: self.compile_memory_max,
            compile_timeout: self.compile_timeout,
            ..RuntimeConfig::default()
        })?)
    }

    /// How modules are loaded and change.
    pub(crate) fn reload(&self) -> Option<Reload> {
        let (sources, grace, force) = (self.sources.clone(), self.module_grace, self.force_reload);
        (!sources.is_empty()).then_some(Reload { sources, grace, force, watch: self.reload })
    }
}

/// Why a file that a source names will never be a module: its content is something else, and so is its
/// name. Another may well become one.
fn never_a_module(path: &Path) -> Option<ModuleError> {
    if path.extension().is_some_and(|it| it == "wasm") || !path.is_file() {
        return None;
    }
    let mut first = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut first));
    (read.is_ok() && first != *b"\0asm").then_some(ModuleError::NotWasm)
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
    Worker(#[from] WorkerError),
}

/// Runs tasks for a control plane, from [`SubWorker::start`] to [`SubWorker::stop`]. Dropped without
/// that, it stops at once: what runs is stopped and given back to the control plane, which the drop
/// waits for, about a second at most.
#[derive(Debug)]
pub struct SubWorker {
    config: SubWorkerConfig,
    worker: Option<WorkerThreads>,
    /// Who its control plane said it is when it joined.
    joined: Option<Welcome>,
}

impl SubWorker {
    /// A subworker that has not started.
    pub fn new(config: SubWorkerConfig) -> Self {
        Self { config, worker: None, joined: None }
    }

    /// Registers, begins to load its modules, and takes work for each as soon as it is loaded. Blocks while
    /// it looks for its control plane, and then for up to [`START_WAIT`] while it loads; call it through
    /// `spawn_blocking` from async code. [`SubWorker::loading`] tells when all modules are loaded.
    ///
    /// # Errors
    /// [`SubWorkerError`] says what to mend. Nothing runs then.
    pub fn start(&mut self) -> Result<(), SubWorkerError> {
        let (runtime, catalog) = self.config.modules.begin()?;
        self.start_with(runtime, catalog)
    }

    /// The same, with modules that are loaded already.
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
        let is_empty = catalog.modules().is_empty() && config.modules.sources.is_empty();
        self.joined = Some(link.joined().clone());
        let (link, reload) = (Arc::new(link), config.modules.reload());
        // To a tenth of a second, as it is told to people.
        let left = config.timeout.saturating_sub(begun.elapsed()).as_millis().div_ceil(100);
        let patience = Duration::from_millis(u64::try_from(left * 100).unwrap_or(u64::MAX));
        self.worker = Some(WorkerThreads::start(link, runtime, catalog, identity, reload, patience)?);
        if is_empty {
            warn!(worker = config.worker_id, "this subworker has no task modules, so it gets no tasks");
        }
        self.loading().wait(START_WAIT);
        Ok(())
    }

    /// A call that leaves the control plane at once, from another thread, for a process that is about to end:
    /// what runs here is run elsewhere, and nothing is held against it. It takes about a second at most.
    pub fn leave(&self) -> Box<dyn Fn() + Send> {
        match &self.worker {
            Some(worker) => Box::new(worker.leave()),
            None => Box::new(|| {}),
        }
    }

    /// Who the control plane said it is that this subworker joined when it started.
    pub fn control_plane(&self) -> Option<&Welcome> {
        self.joined.as_ref()
    }

    /// How many tasks its modules have now.
    pub fn tasks(&self) -> usize {
        self.worker.as_ref().map_or(0, WorkerThreads::tasks)
    }

    /// The loading of the modules that were there at the start.
    pub fn loading(&self) -> Loading {
        self.worker.as_ref().map(WorkerThreads::loading).unwrap_or_default()
    }

    /// Finishes what runs, at most `limit` long, hands the rest back and leaves. Blocks so long.
    pub fn stop(&mut self, limit: Duration) {
        if let Some(worker) = self.worker.take() {
            worker.drain(limit);
            info!(worker = self.config.worker_id, "stopped");
        }
    }
}

/// An address that this program itself wrote out.
fn known(address: &str) -> Address {
    address.parse().expect("the default addresses are addresses")
}
