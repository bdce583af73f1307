//! Compiles modules within limits.
//!
//! A module is hostile input even before it runs: a small one can keep a compiler busy for minutes and make it allocate
//! gigabytes. So each is compiled in a separate process, with limited memory and time and only two pipes, one for the
//! module and one for the code. If that process fails, the module cannot be compiled.
//!
//! A program that embeds this library is never started a second time without its consent: see
//! [`Compiler`].

use std::{
    cell::Cell,
    env,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use self::{process::CompilerProcess, protocol::Request, semaphore::CompilePermit};
use super::{
    Inner,
    error::{CompileError, ModuleError},
    fingerprint::fingerprint,
    lower_thread_priority,
};
use rlimit::Resource;

mod process;

mod protocol;

mod child;

mod precompile;

mod semaphore;

pub(super) use self::{protocol::CompiledCode, semaphore::CompileSemaphore};

/// The only argument of a program that is started to compile a module.
pub const COMPILE_ARGUMENT: &str = "compile-module";
/// Maximum memory for compiling one module in bytes. A Python module of 22 MB takes a fifth of that.
pub const COMPILE_MEMORY_MAX: u64 = 2 << 30;
/// Maximum processor time for compiling one module. A Python module of 22 MB takes a tenth of that.
pub const COMPILE_TIMEOUT: Duration = Duration::from_mins(2);
/// Stack of a thread that compiles in this process, or runs a module while it registers its tasks.
pub(super) const STACK: usize = 4 * 1024 * 1024;

/// The compiler of modules that are not in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// This program, started for each module with the one argument [`COMPILE_ARGUMENT`], an empty environment, no open
    /// files but pipes, and limited memory and time. Its `main` must call [`compile_if_requested`] first, as that of
    /// `fastworker` does. Name the installed `fastworker` of the same version here, or your own program.
    Binary(PathBuf),
    /// This process, on threads of low priority. Nothing limits the memory and the time that a module
    /// takes, and the allocator may keep the memory: only for modules that you trust.
    InProcess,
}

/// The program that this process runs, once it has called [`compile_if_requested`].
static THIS_PROGRAM: OnceLock<PathBuf> = OnceLock::new();

impl Default for Compiler {
    /// This program, if its `main` called [`compile_if_requested`]; else this process.
    fn default() -> Self {
        THIS_PROGRAM.get().cloned().map_or(Self::InProcess, Self::Binary)
    }
}

/// Call this first in `main` to let this library start your program as a compiler of modules
/// ([`Compiler::Binary`]). If it was started as one, this compiles the module and exits.
pub fn compile_if_requested() {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == COMPILE_ARGUMENT) && arguments.next().is_none() {
        child::run()
    }
    let program = if cfg!(target_os = "linux") {
        // The running program, even if its file was replaced since.
        Some(PathBuf::from("/proc/self/exe"))
    } else {
        env::current_exe().ok()
    };
    if let Some(program) = program {
        THIS_PROGRAM.get_or_init(|| program);
    }
}

/// A request to compile one module.
pub(super) struct CompileJob<'a> {
    threads: usize,
    /// Set when the code is no longer needed.
    is_unwanted: &'a AtomicBool,
    /// Whether its thread only loads this module.
    is_in_background: bool,
    /// The permit that it has already acquired.
    permit: Cell<Option<CompilePermit<'a>>>,
}

impl<'a> CompileJob<'a> {
    pub(super) fn new(threads: usize, is_unwanted: &'a AtomicBool) -> Self {
        Self { threads, is_unwanted, is_in_background: false, permit: Cell::new(None) }
    }

    /// A job on a thread that only loads this module.
    pub(super) fn in_background(threads: usize, is_unwanted: &'a AtomicBool) -> Self {
        Self { is_in_background: true, ..Self::new(threads, is_unwanted) }
    }

    fn is_unwanted(&self) -> bool {
        self.is_unwanted.load(Ordering::Relaxed)
    }

    /// Waits for a permit, before the module is read into memory. Returns false once the module is unwanted.
    pub(super) fn acquire_permit(&self, semaphore: &'a CompileSemaphore) -> bool {
        let permit = semaphore.acquire(|| self.is_unwanted());
        let has_permit = permit.is_some();
        self.permit.set(permit);
        has_permit
    }

    /// Lowers the priority of this thread if it only loads this module. Call it before the module runs.
    pub(super) fn lower_priority(&self) {
        if self.is_in_background {
            lower_thread_priority();
        }
    }

    /// Releases a permit that was not needed.
    pub(super) fn release_permit(&self) {
        self.permit.set(None);
    }
}

/// Compiles a component for the engines of `runtime`. Waits for a permit first.
///
/// # Errors
/// [`ModuleError::Invalid`] if it is not a component, [`ModuleError::Compile`] if it cannot be compiled within its
/// limits.
pub(super) fn compile<'a>(runtime: &'a Inner, bytes: &[u8], job: &CompileJob<'a>) -> Result<CompiledCode, ModuleError> {
    let permit = job.permit.take().or_else(|| runtime.semaphore.acquire(|| job.is_unwanted()));
    let permit = permit.ok_or(CompileError::Unwanted)?;
    let config = &runtime.config;
    let profile = &runtime.engines[0];
    match &config.compiler {
        Compiler::InProcess => {
            let bytes = in_process(runtime, bytes, job.threads)?;
            Ok(CompiledCode { bytes, memory: 0 })
        }
        Compiler::Binary(program) => {
            let (memory_max, memory_limit) = memory_limit(config.compile_memory_max);
            let request = Request {
                parent: std::process::id().into(),
                is_constrained: profile.is_constrained.into(),
                threads: job.threads as u64,
                memory_max,
                seconds_max: config.compile_timeout.as_secs().max(1),
                size: bytes.len() as u64,
                settings: fingerprint(&profile.engine),
            };
            let is_unwanted = job.is_unwanted;
            CompilerProcess { program, request, memory_limit, bytes, config, is_unwanted }.run(permit)
        }
    }
}

/// The memory limit of a compiler, and the setting that it comes from: a child cannot have more than this process.
fn memory_limit(configured: u64) -> (u64, &'static str) {
    let soft = |limit: Resource| limit.get().map_or(u64::MAX, |(soft, _hard)| soft);
    [
        (configured, "the compile memory limit"),
        (soft(Resource::AS), "`ulimit -v`"),
        (soft(Resource::DATA), "`ulimit -d`"),
    ]
    .into_iter()
    .min_by_key(|(bytes, _)| *bytes)
    .unwrap_or((configured, "the compile memory limit"))
}

fn in_process(runtime: &Inner, bytes: &[u8], threads: usize) -> Result<Vec<u8>, ModuleError> {
    let (engine, concurrent) = (&runtime.engines[0].engine, || Ok(runtime.concurrent_engine().clone()));
    let compile = || {
        // A panic in the compiler must not end this thread.
        panic::catch_unwind(AssertUnwindSafe(|| precompile::precompile(engine, concurrent, bytes)))
            .unwrap_or_else(|_| Err("the compiler crashed on it, which is a bug in the compiler".to_owned()))
            .map_err(ModuleError::Invalid)
    };
    // wasmtime compiles on the threads of the pool that it is called in.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK)
        .thread_name(|_| "fw-load".to_owned())
        .start_handler(|_| lower_thread_priority())
        .build();
    match pool {
        Ok(pool) => pool.install(compile),
        // The system has no more threads.
        Err(_) => compile(),
    }
}
