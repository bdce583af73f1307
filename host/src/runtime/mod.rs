//! Running task modules: WebAssembly components, each attempt alone in a fresh sandbox.
//!
//! Apart because it is the only place that knows wasmtime. The rest of the program hands a
//! [`Module`] and an [`Invocation`] to a [`Slot`] and gets an [`Outcome`](crate::task::Outcome)
//! back, whatever the guest did.
//!
//! Invariants:
//! - A guest is hostile. Its time, memory, output and reach are bounded from its first
//!   instruction on, while its module is being loaded too, and no attempt takes its slot along.
//! - Nothing of one attempt is left for the next: each has a new store and a new instance.
//! - An attempt that does not wait costs no thread, no timer and no system call of ours.

mod backtrace;
mod call;
mod catalog;
mod compiled;
mod compiler;
mod component;
mod contract_v1;
mod descriptor;
mod ending;
mod engine;
#[cfg(test)]
mod fixtures;
mod host_calls;
mod last_words;
mod limits;
mod module;
mod output;
mod sources;
#[cfg(test)]
mod tests;
mod wasi;
mod watch;
mod watchdog;

use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

pub(crate) use self::module::name_of;
use self::{
    call::Prepared,
    compiled::Cache,
    compiler::{Effort, Turns},
    engine::{Ground, Grounds},
    watchdog::Watchdog,
};
pub use self::{
    call::{Invocation, NoSandbox, Slot},
    catalog::Catalog,
    compiler::{COMPILE_ARGUMENT, COMPILE_MEMORY_MAX, COMPILE_TIMEOUT, CompileError, Compiler, compile_if_asked},
    module::{LoadError, Module, ModuleError},
    sources::{SourceError, awaited, expand, in_order},
    watch::{Change, Content, POLL, Watch, WatchEnd},
    watchdog::Stopper,
};
use crate::{lock::lock, system, task::Report, transport::PAYLOAD_MAX};

/// The bounds within which attempts run.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// How many attempts are to run at once. Room for them is reserved once and for all; see
    /// [`Runtime::slots_max`].
    pub slots: usize,
    /// Bytes of linear memory one attempt may have; it comes in pages of 64 KiB.
    pub memory_max: usize,
    /// Bytes that the result and the follow-up tasks of one attempt may have together.
    pub result_max: usize,
    /// Bytes that one attempt may log and print together.
    pub log_max: usize,
    /// How many follow-up tasks one attempt may submit.
    pub follow_ups_max: usize,
    /// How long a module may take to come up and register its tasks.
    pub register_timeout: Duration,
    /// Bytes that a module's file may have.
    pub module_max: u64,
    /// Where compiled code is kept; none to compile each time.
    pub cache_dir: Option<PathBuf>,
    /// Who compiles.
    pub compiler: Compiler,
    /// Bytes of memory that compiling a module may take, in a process of its own.
    pub compile_memory_max: u64,
    /// Processor time that compiling a module may take, in a process of its own.
    pub compile_timeout: Duration,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            slots: std::thread::available_parallelism().map_or(2, usize::from),
            memory_max: 512 << 20,
            result_max: PAYLOAD_MAX - 64 * 1024,
            log_max: 1 << 20,
            follow_ups_max: 1000,
            register_timeout: Duration::from_secs(10),
            module_max: 256 << 20,
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
    /// There is no room for a single sandbox.
    #[error("cannot set up a sandbox for a task: {0}")]
    NoRoom(String),
}

/// The caller's number for an attempt. No two attempts share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Hears what attempts say while they run.
pub trait Reports: Send + Sync {
    /// Takes a report of the attempt that the slot runs now. Called on the slot's thread while the
    /// guest waits: it must not block.
    fn report(&self, attempt: AttemptId, report: Report);
}

/// Everything that modules and slots share: engines, bounds, the watchdog and the code cache.
/// One is enough for a process. Cloning it is cheap.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    config: Arc<RuntimeConfig>,
    /// The engines, the better one first.
    grounds: Vec<Ground>,
    /// How many attempts the engines take at a time.
    slots_max: usize,
    /// How many there was room for at the start.
    room: usize,
    cache: Cache,
    watchdog: Watchdog,
    /// Which modules are compiled now.
    turns: Turns,
    /// Slots in which modules register their tasks, while none does.
    registries: Mutex<Vec<Slot>>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtime").field(&self.0.config).finish()
    }
}

impl Runtime {
    /// Sets up the engines and starts the watchdog.
    ///
    /// A cache folder that cannot be used is a warning in the log, not an error.
    ///
    /// # Errors
    /// [`RuntimeError`] if WebAssembly cannot run here at all.
    pub fn new(config: RuntimeConfig) -> Result<Runtime, RuntimeError> {
        let set_up = Grounds::new(&config).map_err(engine_error)?;
        let trials = set_up.trials().map_err(engine_error)?;
        let Grounds { engines: grounds, slots_max, .. } = set_up;
        let engines = grounds.iter().map(|ground| ground.engine.clone()).collect();
        let watchdog = Watchdog::start(engines).map_err(RuntimeError::Watchdog)?;
        let cache = Cache::open(config.cache_dir.as_deref());
        let (turns, registries, room) = (Turns::default(), Mutex::new(Vec::new()), config.slots);
        let config = Arc::new(config);
        let mut inner = Inner { config, grounds, slots_max, room, cache, watchdog, turns, registries };
        // On a thread of its own: this one may drive async work, in which no other can be driven.
        let tried = std::thread::scope(|scope| {
            let trial = std::thread::Builder::new()
                .name("fw-trial".into())
                .spawn_scoped(scope, || inner.try_sandboxes(&trials));
            let trial = trial.map_err(|error| system::explain(&error))?;
            trial.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        });
        inner.room = tried.map_err(RuntimeError::NoRoom)?;
        Ok(Self(Arc::new(inner)))
    }

    /// For how many slots sandboxes could be set up at a time when this began: at most
    /// [`RuntimeConfig::slots`], and less where memory or address space are short.
    pub fn room(&self) -> usize {
        self.0.room
    }

    /// Loads a module: reads its file, compiles it or takes its code from the cache, and lets it
    /// register its tasks. What this returns can run.
    ///
    /// Blocks for as long as that takes, so it is not for async code. At most [`LOADS_MAX`] modules are
    /// to be loaded at a time.
    ///
    /// # Errors
    /// [`LoadError`] with the path and what is wrong with the module.
    pub fn load(&self, path: &Path) -> Result<Module, LoadError> {
        let wanted = AtomicBool::new(false);
        module::load(&self.0, path, &Effort::new(threads_max(), &wanted))
            .map_err(|why| LoadError { path: path.to_owned(), why })
    }

    /// Loads the module at `path` on this thread, which gives way to all others once the module runs. None
    /// if its content is another by now, or gone, or once it is `unwanted`.
    ///
    /// # Errors
    /// [`LoadError`] with the path and what is wrong with the module.
    pub fn load_aside(
        &self,
        path: &Path,
        content: Content,
        pace: Pace,
        unwanted: &AtomicBool,
    ) -> Result<Option<Module>, LoadError> {
        let threads = if pace == Pace::Fast { threads_max() } else { 1 };
        let effort = Effort::aside(threads, unwanted);
        let is_kept = self.0.cache.has(&self.0.grounds[0].engine, &content.into());
        if !is_kept && !effort.take_turn(&self.0.turns) {
            return Ok(None);
        }
        let bytes = match module::read(path, self.0.config.module_max) {
            Ok(bytes) if blake3::hash(&bytes) == content => bytes,
            Ok(_) | Err(ModuleError::Missing) => return Ok(None),
            Err(why) => return Err(LoadError { path: path.to_owned(), why }),
        };
        // Whatever breaks on a module must not take the thread along, for which others wait.
        let loaded = panic::catch_unwind(AssertUnwindSafe(|| module::load_bytes(&self.0, path, &bytes, &effort)));
        let broke = || Err(ModuleError::Invalid("fastworker broke on it, which is a bug".to_owned()));
        match loaded.unwrap_or_else(|_| broke()) {
            Ok(module) => Ok(Some(module)),
            Err(ModuleError::Compile(CompileError::Unwanted)) => Ok(None),
            Err(why) => Err(LoadError { path: path.to_owned(), why }),
        }
    }

    /// The bounds within which attempts run.
    pub fn config(&self) -> &RuntimeConfig {
        &self.0.config
    }

    /// How many attempts can run at once. It is at least [`RuntimeConfig::slots`], so that a worker
    /// can grow a little; attempts beyond it fail.
    pub fn slots_max(&self) -> usize {
        self.0.slots_max
    }

    /// Room for one running attempt, whose reports go to `reports`.
    pub fn slot(&self, reports: Arc<dyn Reports>) -> Slot {
        Slot::new(&self.0.config, &self.0.watchdog, reports)
    }
}

/// Modules that can be loaded at a time: each has room in the pool while it registers its tasks.
pub const LOADS_MAX: usize = 16;
/// Threads on which one module is compiled.
const COMPILE_THREADS_MAX: usize = 4;
/// How far whoever loads modules steps back: to about a quarter of a busy processor.
const LOADER_NICENESS: i32 = 5;

/// How fast modules are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// On several threads: tasks wait for these modules.
    Fast,
    /// On one thread, beside the work of the slots.
    Beside,
}

/// The most threads on which one module is compiled.
fn threads_max() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(COMPILE_THREADS_MAX)
}

/// Lets all other threads go before this one.
fn give_way() {
    // On Linux this is about the calling thread; elsewhere it would be about the process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, LOADER_NICENESS) {
        tracing::debug!(%error, "modules are loaded at the same priority as everything else");
    }
}

fn engine_error(error: wasmtime::Error) -> RuntimeError {
    if ending::is_hosts(&error) { RuntimeError::NoRoom(ending::explained(&error)) } else { RuntimeError::Engine(error) }
}

impl Inner {
    /// Sets up a sandbox on every engine, and on the first one as many at a time as there are slots.
    /// Returns for how many there was room.
    ///
    /// # Errors
    /// What was missing for even one.
    fn try_sandboxes(&self, trials: &[Prepared]) -> Result<usize, String> {
        let slots = self.config.slots.max(1);
        // Whatever else a worker takes later: its threads, and the transport's.
        let taken = call::TAKEN_LATER + slots * compiler::STACK;
        let _taken = if system::has_limited_address_space() {
            let room = system::reserve(taken);
            Some(room.ok_or_else(|| format!("{} are not left: {}", system::bytes(taken as u64), system::memory()))?)
        } else {
            None
        };
        let (mut sandboxes, mut room) = (Vec::with_capacity(slots), 0);
        for (place, trial) in trials.iter().enumerate() {
            let wanted = if place == 0 { slots } else { 1 };
            for count in 0..wanted {
                let mut slot = Slot::new(&self.config, &self.watchdog, Arc::new(DebugLog));
                let (result, store) = slot.set_up(trial);
                match result {
                    Ok(()) if place == 0 => {
                        room += 1;
                        sandboxes.push((slot, store));
                    }
                    Ok(()) => {}
                    Err(error) if place == 0 && count > 0 => {
                        let why = ending::explained(&error);
                        tracing::warn!(
                            room,
                            slots,
                            why,
                            "there is room for fewer slots than were asked for: the others are left out"
                        );
                        break;
                    }
                    // Only modules that do not fit into the pool miss it.
                    Err(error) if place > 0 => {
                        let why = ending::explained(&error);
                        tracing::warn!(why, "no room for modules that do not fit into the pool of instances");
                    }
                    Err(error) => return Err(ending::explained(&error)),
                }
            }
            sandboxes.clear();
        }
        Ok(room)
    }

    /// Runs `work` in a slot that is kept for loading modules.
    fn with_registry<R>(&self, work: impl FnOnce(&mut Slot) -> R) -> R {
        let free = lock(&self.registries).pop();
        let mut slot = free.unwrap_or_else(|| Slot::new(&self.config, &self.watchdog, Arc::new(DebugLog)));
        let done = work(&mut slot);
        // Its last attempt is over and gives back what it used.
        slot.clear();
        lock(&self.registries).push(slot);
        done
    }
}

/// What a module says while it is being loaded goes to our own log.
struct DebugLog;

impl Reports for DebugLog {
    fn report(&self, _attempt: AttemptId, report: Report) {
        if let Report::Log { level, message } = report {
            tracing::debug!(%level, message, "a module spoke while it was loaded");
        }
    }
}
