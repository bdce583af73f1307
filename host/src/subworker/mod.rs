//! Subworkers: run tasks for a control plane until drained.
//!
//! A subworker dials the control plane and listens on no port. [`worker`] has its threads, which are the same as those
//! of the control plane's own slots; [`link`] sends their requests.

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
        COMPILE_MEMORY_MAX, COMPILE_TIMEOUT, Catalog, Compiler, LoadError, ModuleError, ModuleStore, Runtime,
        RuntimeConfig, RuntimeError, STACK_DEFAULT, SourceError, expand, grants::GrantTable, inspect::Inspection,
        missing_source, policies::PolicyTable,
    },
    task::{AttemptLimits, LoadFailure, SerializationFormat, TAKEN_PREFIX},
    transport::nng::Nng,
};

pub mod link;
mod log;
mod module_filter;
pub mod worker;

use link::{NotFound, RemoteLink};
pub use module_filter::ModuleFilter;
pub use worker::{LoadSummary, Loading};
use worker::{Reload, Transfer, WorkerError, WorkerIdentity, WorkerThreads};

/// Configuration of a subworker.
#[derive(Clone, Debug)]
pub struct SubWorkerConfig {
    /// Its worker id, unique among the workers of its control plane.
    pub worker_id: String,
    /// The base address of its control plane.
    pub control_plane_address: Address,
    /// The address to display for it; it does not listen there.
    pub base_address: Address,
    /// The discovery bus on which it finds the control plane again if that moves.
    pub discovery_address: Address,
    /// The codec of its messages. Postcard by default, as only the control plane reads them: it makes a task in a
    /// subworker 10 to 17 percent faster.
    pub serialization_format: SerializationFormat,
    /// The modules that it loads.
    pub modules: ModulesConfig,
    /// The modules that it takes from its control plane, if any, besides those that it loads.
    pub modules_from_control_plane: Option<ModuleFilter>,
    /// Timeout for finding its control plane, and for another worker of the same id to leave.
    pub timeout: Duration,
}

impl SubWorkerConfig {
    /// Configures a subworker for the control plane at this address, with defaults for the rest.
    pub fn new(worker_id: impl Into<String>, control_plane_address: Address) -> Self {
        Self {
            worker_id: worker_id.into(),
            control_plane_address,
            base_address: default_address(BASE_ADDRESS),
            discovery_address: default_address(DISCOVERY_ADDRESS),
            serialization_format: SerializationFormat::Postcard,
            modules: ModulesConfig::default(),
            modules_from_control_plane: None,
            timeout: Duration::from_secs(30),
        }
    }
}

/// The modules that a worker loads, and how it runs them.
#[derive(Clone, Debug)]
pub struct ModulesConfig {
    /// Files, globs and directories.
    pub sources: Vec<String>,
    /// Number of slots: attempts that run at the same time.
    pub concurrency: usize,
    /// Directory of compiled code; `None` to compile at every start.
    pub cache_dir: Option<PathBuf>,
    /// Whether changed files take effect while the worker runs.
    pub reload: bool,
    /// Time for which a module's file may be missing before the module is dropped.
    pub module_grace: Duration,
    /// Whether a version goes live although waiting tasks have arguments that it does not accept.
    pub force_reload: bool,
    /// The process in which modules are compiled: by default a child process if this program supports it, else this
    /// one.
    pub compiler: Compiler,
    /// Maximum memory for compiling a module in a child process, in bytes.
    pub compile_memory_max: u64,
    /// Maximum processor time for compiling a module in a child process.
    pub compile_timeout: Duration,
    /// What guests may reach, by module.
    pub grants: Arc<GrantTable>,
    /// Whether tasks are left out that need more than is granted. Only a tool that describes modules does without.
    pub checks_needs: bool,
    /// What the operator sets for tasks, by module.
    pub policies: Arc<PolicyTable>,
    /// The limits of an attempt, unless its task has lower ones or the policies set others.
    pub limits: AttemptLimits,
    /// Maximum stack of an attempt, in bytes.
    pub stack_max: usize,
}

/// Maximum time that the start of a worker waits for its modules: enough for cached ones.
pub const START_WAIT: Duration = Duration::from_secs(1);

/// Default of [`ModulesConfig::module_grace`].
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
            grants: Arc::default(),
            checks_needs: true,
            policies: Arc::default(),
            limits: AttemptLimits::default(),
            stack_max: STACK_DEFAULT,
        }
    }
}

impl ModulesConfig {
    /// Loads the modules that exist now, to inspect or run them once. A file that cannot be loaded is in the catalog
    /// with its error, if a directory or a pattern led to it.
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
            catalog.set_error(&path, LoadFailure { at: Timestamp::now(), message: why.to_string(), code: None });
        }
        Ok((runtime, catalog))
    }

    /// Inspects a module file, as this worker would load it.
    ///
    /// # Errors
    /// [`ModulesError`] if there is no such file, or it is not WebAssembly.
    pub fn inspect(&self, path: &Path) -> Result<Inspection, ModulesError> {
        let inspected = self.runtime()?.inspect(path);
        inspected.map_err(|error| match error.why {
            ModuleError::Missing => SourceError::Missing(path.display().to_string()).into(),
            _ => ModulesError::Load(vec![error]),
        })
    }

    /// Creates a runtime that fills the cache of compiled code, and finds the files of these sources.
    ///
    /// # Errors
    /// As for [`ModulesConfig::load`].
    #[cfg(feature = "cli")]
    pub(crate) fn runtime_for(&self, sources: &[String]) -> Result<(Runtime, Vec<PathBuf>), ModulesError> {
        Ok((self.runtime()?, expand(sources)?))
    }

    /// Creates the runtime of a worker, and an empty catalog, as modules are loaded while it works.
    ///
    /// # Errors
    /// [`ModulesError`] if a source can never lead to a module, or the machine cannot run any.
    pub(crate) fn begin(&self) -> Result<(Runtime, Catalog), ModulesError> {
        for source in &self.sources {
            match missing_source(source) {
                Some(error @ SourceError::Pattern { .. }) => return Err(error.into()),
                // Files that appear later have no effect.
                Some(error @ SourceError::Missing(_)) if !self.reload => return Err(error.into()),
                _ => {}
            }
            if source.starts_with(TAKEN_PREFIX) {
                return Err(ModulesError::Reserved(source.clone()));
            }
            if let Some(why) = never_a_module(Path::new(source)) {
                return Err(ModulesError::Load(vec![LoadError { path: source.into(), why }]));
            }
        }
        Ok((self.runtime()?, Catalog::default()))
    }

    fn runtime(&self) -> Result<Runtime, ModulesError> {
        Ok(Runtime::new(RuntimeConfig {
            // A control plane without slots loads its modules, too.
            slots: self.concurrency.max(1),
            cache_dir: self.cache_dir.clone(),
            compiler: self.compiler.clone(),
            compile_memory_max: self.compile_memory_max,
            compile_timeout: self.compile_timeout,
            grants: Arc::clone(&self.grants),
            checks_needs: self.checks_needs,
            policies: Arc::clone(&self.policies),
            limits: self.limits,
            stack_max: self.stack_max,
            ..RuntimeConfig::default()
        })?)
    }

    /// Returns how modules are loaded and reloaded; `None` if there can never be any.
    pub(crate) fn reload(&self, transfer: Transfer) -> Option<Reload> {
        let (sources, grace, force) = (self.sources.clone(), self.module_grace, self.force_reload);
        let has_modules = !sources.is_empty() || matches!(transfer, Transfer::Take(..));
        has_modules.then_some(Reload { sources, grace, force, watch: self.reload, transfer })
    }

    /// Opens the folder of modules that travel between control planes and subworkers.
    pub(crate) fn store(&self) -> ModuleStore {
        ModuleStore::open(self.cache_dir.as_deref())
    }
}

/// Returns why a file cannot become a module: neither its content nor its name is that of a WebAssembly file.
fn never_a_module(path: &Path) -> Option<ModuleError> {
    if path.extension().is_some_and(|it| it == "wasm") || !path.is_file() {
        return None;
    }
    let mut first = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut first));
    // An empty file may still be written.
    (read.is_ok_and(|length| length > 0) && !b"\0asm".starts_with(&first)).then_some(ModuleError::NotWasm)
}

/// The user's folder for compiled modules.
fn default_cache_dir() -> Option<PathBuf> {
    Some(cache_folder()?.join("compiled"))
}

/// The folder `fastworker` in the user's cache folder, by the XDG base directory specification.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("fastworker"))
}

/// Modules that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A source leads to no module.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source has the form of a module that was taken from the control plane.
    #[error("'{0}' is how modules of the control plane are listed: write ./{0} for a file")]
    Reserved(String),
    /// This machine cannot run modules.
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
    /// Its control plane refused it.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Runs tasks for a control plane, from [`SubWorker::start`] to [`SubWorker::stop`]. Dropped without `stop`, it stops
/// immediately: running attempts are stopped and their tasks requeued. The drop blocks for about a second at most.
#[derive(Debug)]
pub struct SubWorker {
    config: SubWorkerConfig,
    worker: Option<WorkerThreads>,
    /// The control plane's reply when this subworker joined.
    joined: Option<Welcome>,
}

impl SubWorker {
    /// Creates a subworker without starting it.
    pub fn new(config: SubWorkerConfig) -> Self {
        Self { config, worker: None, joined: None }
    }

    /// Registers, starts to load its modules, and accepts tasks of each as soon as it is loaded. Blocks until the
    /// control plane is found, and then for up to [`START_WAIT`] while modules load; call it through `spawn_blocking`
    /// from async code. Use [`SubWorker::loading`] to wait for all modules.
    ///
    /// # Errors
    /// [`SubWorkerError`] if the control plane or a module source is not found. Nothing runs then.
    pub fn start(&mut self) -> Result<(), SubWorkerError> {
        let (runtime, catalog) = self.config.modules.begin()?;
        self.start_with(runtime, catalog)
    }

    /// Starts like [`SubWorker::start`], with loaded modules.
    ///
    /// # Errors
    /// As for [`SubWorker::start`].
    pub fn start_with(&mut self, runtime: Runtime, catalog: Catalog) -> Result<(), SubWorkerError> {
        let (config, started) = (&self.config, Instant::now());
        let link = RemoteLink::find(
            Arc::new(Nng),
            &config.control_plane_address,
            &config.discovery_address,
            config.serialization_format,
            config.timeout,
        )?;
        let identity = WorkerIdentity {
            worker_id: config.worker_id.clone(),
            address: config.base_address.to_string(),
            slots: u32::try_from(config.modules.concurrency.min(runtime.capacity())).unwrap_or(u32::MAX),
        };
        let transfer = config
            .modules_from_control_plane
            .clone()
            .map_or(Transfer::None, |filter| Transfer::Take(Arc::new(config.modules.store()), filter));
        let reload = config.modules.reload(transfer);
        let is_empty = catalog.modules().is_empty() && reload.is_none();
        self.joined = Some(link.joined().clone());
        let link = Arc::new(link);
        // Rounded up to a tenth of a second, as it is part of an error message.
        let remaining = config.timeout.saturating_sub(started.elapsed()).as_millis().div_ceil(100);
        let register_timeout = Duration::from_millis(u64::try_from(remaining * 100).unwrap_or(u64::MAX));
        self.worker = Some(WorkerThreads::start(link, runtime, catalog, identity, reload, register_timeout)?);
        if is_empty {
            warn!(worker = config.worker_id, "this subworker has no task modules, so it gets no tasks");
        }
        self.loading().wait(START_WAIT);
        Ok(())
    }

    /// Returns a function that leaves the control plane immediately, for a process that is about to exit: running tasks
    /// are requeued, and do not count as crashes. It blocks for about a second at most.
    pub fn leave(&self) -> Box<dyn Fn() + Send> {
        match &self.worker {
            Some(worker) => Box::new(worker.leave()),
            None => Box::new(|| {}),
        }
    }

    /// The control plane that this subworker joined when it started.
    pub fn control_plane(&self) -> Option<&Welcome> {
        self.joined.as_ref()
    }

    /// Number of tasks in the modules that are loaded now.
    pub fn tasks(&self) -> usize {
        self.worker.as_ref().map_or(0, WorkerThreads::tasks)
    }

    /// Progress of loading the modules that existed at the start.
    pub fn loading(&self) -> Loading {
        self.worker.as_ref().map(WorkerThreads::loading).unwrap_or_default()
    }

    /// Waits at most `limit` for running attempts, returns the other leases and leaves. Blocks until done.
    pub fn stop(&mut self, limit: Duration) {
        if let Some(worker) = self.worker.take() {
            worker.drain(limit);
            info!(worker = self.config.worker_id, "stopped");
        }
    }
}

/// Parses a default address of this program.
fn default_address(address: &str) -> Address {
    address.parse().expect("the default addresses are addresses")
}
