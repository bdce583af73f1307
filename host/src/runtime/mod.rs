//! Runs task modules: WebAssembly components, each attempt in its own fresh sandbox.
//!
//! This is the only place that uses wasmtime. The rest of the program passes a [`Module`] and an [`Invocation`] to a
//! [`Slot`] and gets an [`AttemptResult`], regardless of what the guest does.
//!
//! Invariants:
//! - A guest is hostile. Its time, memory, output and access are limited from its first instruction on, also while its
//!   module is loaded, and no attempt can break its slot.
//! - No attempt affects the next: each has a new store and a new instance.
//! - An attempt that does not wait needs no thread, no timer and no system call of the host.

mod slot;

mod stack;

mod usage_clock;

mod cpu_clock;

mod call;

mod entry;

mod attempt;

mod ending;

mod host_errors;

mod backtrace;

mod contract_v1;

mod descriptor;

mod host_calls;

mod follow_ups;

mod wasi;

pub mod grants;

mod reach;

pub mod policies;

mod output;

mod last_error;

mod limits;

mod watchdog;

mod engine;

mod trial;

mod error;

mod module;

mod load;

mod mismatch;

pub mod inspect;

mod component;

mod plain;

mod program;

mod program_io;

mod sections;

mod wrap;

mod compiled;

mod cache_dir;

mod module_store;

mod fill;

mod background;

mod fingerprint;

mod compiler;

mod catalog;

mod sources;

mod watch;

#[cfg(test)]
mod fixtures;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    panic::{self},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

pub(crate) use self::module::module_name;
pub use self::{
    attempt::AttemptResult,
    background::{LoadPriority, Origin},
    catalog::Catalog,
    compiler::{COMPILE_ARGUMENT, COMPILE_MEMORY_MAX, COMPILE_TIMEOUT, Compiler, compile_if_requested},
    error::{CompileError, LoadError, ModuleError, TransferError},
    fill::CachedModule,
    module::Module,
    module_store::{Download, ModuleStore, OpenModule},
    reach::{FolderUnavailable, NetworkTimeouts, NetworkUsage},
    slot::{Invocation, NoSandbox, Slot},
    sources::{SourceError, existing_files, expand, missing_source},
    watch::{Change, Content, FileWatcher, POLL_INTERVAL, WatcherHandle},
    watchdog::Stopper,
    wrap::wrap_core_module,
};
use self::{
    compiled::Cache,
    compiler::{CompileJob, CompileSemaphore},
    engine::{EngineProfile, EngineSet},
    grants::GrantTable,
    host_errors::{explain, is_host_error},
    policies::PolicyTable,
    reach::IoRuntime,
    watchdog::Watchdog,
};
use crate::{
    lock::lock,
    system,
    task::{AttemptLimits, Report},
};

/// Default of [`RuntimeConfig::stack_max`].
pub const STACK_DEFAULT: usize = 1 << 20;

/// The limits of attempts, and how modules are compiled.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Attempts to run at a time. Capacity for them is reserved at the start; see [`Runtime::slots_max`].
    pub slots: usize,
    /// The limits of an attempt, unless its task has lower ones or the policies set others.
    pub limits: AttemptLimits,
    /// Maximum stack of an attempt in bytes; see [`Runtime::thread_stack`].
    pub stack_max: usize,
    /// Maximum follow-up tasks of one attempt.
    pub follow_ups_max: usize,
    /// Timeout for instantiating a module and registering its tasks.
    pub register_timeout: Duration,
    /// Maximum size of a module file in bytes.
    pub module_max: u64,
    /// What guests may reach, by module.
    pub grants: Arc<GrantTable>,
    /// Whether tasks are left out that need more than is granted. Only a tool that describes modules does without.
    pub checks_needs: bool,
    /// Maximum durations of what an attempt does in the network.
    pub network: NetworkTimeouts,
    /// What the operator sets for tasks, by module.
    pub policies: Arc<PolicyTable>,
    /// The directory of compiled code; none to compile at each start.
    pub cache_dir: Option<PathBuf>,
    /// The compiler of the modules.
    pub compiler: Compiler,
    /// Maximum memory for compiling a module in a separate process, in bytes.
    pub compile_memory_max: u64,
    /// Maximum processor time for compiling a module in a separate process.
    pub compile_timeout: Duration,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            slots: std::thread::available_parallelism().map_or(2, usize::from),
            limits: AttemptLimits::default(),
            stack_max: STACK_DEFAULT,
            follow_ups_max: 1000,
            register_timeout: Duration::from_secs(10),
            module_max: 256 << 20,
            grants: Arc::default(),
            checks_needs: true,
            network: NetworkTimeouts::default(),
            policies: Arc::default(),
            cache_dir: None,
            compiler: Compiler::default(),
            compile_memory_max: COMPILE_MEMORY_MAX,
            compile_timeout: COMPILE_TIMEOUT,
        }
    }
}

/// The runtime could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// wasmtime does not work on this machine with these settings.
    #[error("cannot set up the WebAssembly engine: {0:#}")]
    Engine(wasmtime::Error),
    /// The thread that ends overdue attempts could not be started.
    #[error("cannot start the watchdog thread: {}", system::explain(.0))]
    Watchdog(std::io::Error),
    /// There is not enough memory or address space for one sandbox.
    #[error("cannot create a sandbox for a task: {0}")]
    OutOfMemory(String),
}

/// The caller's number for an attempt. No two attempts share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Receives the reports of running attempts.
pub trait Reports: Send + Sync {
    /// Called with a report of the attempt that the slot runs now, on the slot's thread while the
    /// guest waits. Must not block.
    fn report(&self, attempt: AttemptId, report: Report);
}

/// The state that modules and slots share: engines, limits, the watchdog and the code cache. One is enough for a
/// process. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    config: Arc<RuntimeConfig>,
    /// The engines, the preferred one first, and that of components with async types last.
    engines: Vec<EngineProfile>,
    /// Maximum attempts of the engines at a time.
    slots_max: usize,
    /// Number of sandboxes that could be created at the start.
    capacity: usize,
    cache: Cache,
    watchdog: Watchdog,
    /// In which attempts wait for files and connections.
    io: IoRuntime,
    /// Limits how many modules are compiled at a time.
    semaphore: CompileSemaphore,
    /// Idle slots in which modules register their tasks.
    load_slots: Mutex<Vec<Slot>>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtime").field(&self.0.config).finish()
    }
}

impl Runtime {
    /// Sets up the engines and starts the watchdog.
    ///
    /// A cache directory that cannot be used is logged as a warning, not an error.
    ///
    /// # Errors
    /// [`RuntimeError`] if WebAssembly cannot run here at all.
    pub fn new(config: RuntimeConfig) -> Result<Runtime, RuntimeError> {
        let set_up = EngineSet::new(&config).map_err(engine_error)?;
        let trials = trial::trial_modules(&set_up).map_err(engine_error)?;
        let EngineSet { engines, slots_max, .. } = set_up;
        let watched = engines.iter().map(|profile| profile.engine.clone()).collect();
        let watchdog = Watchdog::start(watched).map_err(RuntimeError::Watchdog)?;
        let cache = Cache::open(config.cache_dir.as_deref());
        let (semaphore, load_slots, capacity) = (CompileSemaphore::default(), Mutex::new(Vec::new()), config.slots);
        let config = Arc::new(config);
        let io = IoRuntime::default();
        let mut inner = Inner { config, engines, slots_max, capacity, cache, watchdog, io, semaphore, load_slots };
        // On a separate thread: the caller's may run async code, where a slot cannot block.
        let capacity = std::thread::scope(|scope| {
            let trial = std::thread::Builder::new()
                .name("fw-trial".into())
                .spawn_scoped(scope, || inner.try_sandboxes(&trials));
            let trial = trial.map_err(|error| system::explain(&error))?;
            trial.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        });
        inner.capacity = capacity.map_err(RuntimeError::OutOfMemory)?;
        Ok(Self(Arc::new(inner)))
    }

    /// Number of sandboxes that could be created at a time at the start: at most [`RuntimeConfig::slots`], or fewer if
    /// memory or address space is short.
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Loads a module: reads its file, compiles it or takes its code from the cache, and registers its
    /// tasks. The module can then run.
    ///
    /// It blocks, so do not call it in async code. Load at most [`LOADS_MAX`] modules at a time.
    ///
    /// # Errors
    /// [`LoadError`] with the path and the problem of the module.
    pub fn load(&self, path: &Path) -> Result<Module, LoadError> {
        let is_unwanted = AtomicBool::new(false);
        load::load(&self.0, path, &CompileJob::new(threads_max(), &is_unwanted))
            .map_err(|why| LoadError { path: path.to_owned(), why })
    }

    /// The limits of attempts, and how modules are compiled.
    pub fn config(&self) -> &RuntimeConfig {
        &self.0.config
    }

    /// Maximum attempts at a time: at least [`RuntimeConfig::slots`], so that a worker can grow slightly. Attempts
    /// beyond it fail.
    pub fn slots_max(&self) -> usize {
        self.0.slots_max
    }

    /// A slot for one running attempt at a time, which sends its reports to `reports`.
    pub fn slot(&self, reports: Arc<dyn Reports>) -> Slot {
        Slot::new(&self.0.config, &self.0.watchdog, reports)
    }
}

/// Maximum modules to load at a time: each uses the pool while it registers its tasks.
pub const LOADS_MAX: usize = 16;
/// Maximum threads for compiling one module.
const COMPILE_THREADS_MAX: usize = 4;
/// Niceness of threads that load modules: it leaves them about a quarter of a busy processor.
const LOADER_NICENESS: i32 = 5;

/// Threads for compiling one module, as far as there are processors.
fn threads_max() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(COMPILE_THREADS_MAX)
}

/// Lowers the priority of this thread.
pub(crate) fn lower_thread_priority() {
    // On Linux this applies to the calling thread, elsewhere it would apply to the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, LOADER_NICENESS) {
        tracing::debug!(%error, "modules are loaded at normal priority");
    }
}

fn engine_error(error: wasmtime::Error) -> RuntimeError {
    if is_host_error(&error) { RuntimeError::OutOfMemory(explain(&error)) } else { RuntimeError::Engine(error) }
}

impl Inner {
    /// The engine of components with async types.
    fn concurrent_engine(&self) -> &wasmtime::Engine {
        &self.engines.last().expect("there are engines").engine
    }

    /// Runs `f` with a slot for registering tasks.
    fn with_load_slot<R: Send>(&self, f: impl FnOnce(&mut Slot) -> R + Send) -> std::io::Result<R> {
        let idle = lock(&self.load_slots).pop();
        let mut slot = idle.unwrap_or_else(|| Slot::new(&self.config, &self.watchdog, Arc::new(DebugLog)));
        stack::with_stack(self.config.stack_max, move || {
            let result = f(&mut slot);
            slot.clear();
            lock(&self.load_slots).push(slot);
            result
        })
    }
}

/// Writes log lines of a module that is being loaded to this program's log.
struct DebugLog;

impl Reports for DebugLog {
    fn report(&self, _attempt: AttemptId, report: Report) {
        if let Report::Log { level, message } = report {
            tracing::debug!(%level, message, "a module logged while it was being loaded");
        }
    }
}
