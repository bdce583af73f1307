//! The process that compiles one module, and then exits.
//!
//! This code runs in a program that was started for it: see [`Compiler::Binary`](super::Compiler::Binary). Before it
//! reads the first byte of the module, it closes all inherited files and limits its own memory and time.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::fd::AsFd as _,
    process,
};

use rlimit::Resource;
use wasmtime::Engine;

use super::{
    COMPILE_ARGUMENT, STACK,
    precompile::precompile,
    protocol::{CompiledCode, Request, Response},
};
use crate::runtime::{STACK_DEFAULT, engine, fingerprint::fingerprint};

/// The exit code if there is no response.
const FAILED: i32 = 70;
/// The exit code if the process was not started as a compiler.
pub(super) const NOT_A_COMPILER: i32 = 2;
/// Maximum open files: the pipes, and what the C library may open temporarily.
const FILES_MAX: u64 = 16;
/// Address space beyond the memory limit: the program itself, stacks, and what the allocator reserves
/// without using it.
const ADDRESS_SPACE_EXTRA: u64 = 2 << 30;

/// Compiles the module on stdin.
pub(super) fn run() -> ! {
    // Exits without freeing memory first.
    process::exit(exit_code())
}

fn exit_code() -> i32 {
    close_inherited_files();
    if io::stdin().is_terminal() {
        let _ = writeln!(io::stderr(), "error: {COMPILE_ARGUMENT} starts a compiler for a worker, it is not a command");
        return NOT_A_COMPILER;
    }
    let Ok(mut input) = io::stdin().as_fd().try_clone_to_owned().map(File::from) else {
        return FAILED;
    };
    let Ok(request) = Request::read(&mut input) else { return NOT_A_COMPILER };
    if let Err(error) = limit_this_process(&request) {
        let _ = writeln!(io::stderr(), "the limits of this process cannot be set: {error}");
        return FAILED;
    }
    let mut bytes = Vec::new();
    if input.take(request.size).read_to_end(&mut bytes).is_err() || bytes.len() as u64 != request.size {
        return FAILED;
    }
    let response = compile(&request, &bytes);
    let output = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let written = output.and_then(|mut output| response.write(&mut output));
    if written.is_ok() { 0 } else { FAILED }
}

fn compile(request: &Request, bytes: &[u8]) -> Response {
    let threads = usize::try_from(request.threads).unwrap_or(1);
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK);
    // If no threads can be started, this one compiles alone.
    let pool = if threads > 1 { builder.build().ok() } else { None };
    let mut settings = if request.is_constrained == 0 {
        engine::standard_config(STACK_DEFAULT)
    } else {
        engine::constrained_config(STACK_DEFAULT)
    };
    settings.parallel_compilation(pool.is_some());
    let engine = match Engine::new(&settings) {
        Ok(engine) if fingerprint(&engine) == request.settings => engine,
        Ok(_) => return Response::OtherSettings,
        Err(error) => return Response::Invalid(format!("{error:#}")),
    };
    let concurrent = || Engine::new(&engine::concurrent_config(settings.clone()));
    let compile = || precompile(&engine, concurrent, bytes);
    let code = match pool {
        Some(pool) => pool.install(compile),
        None => compile(),
    };
    code.map_or_else(Response::Invalid, |bytes| Response::Code(CompiledCode { bytes, memory: peak_memory() }))
}

/// Peak memory of this process in bytes, 0 if the system does not tell.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
    peak.and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Lets this process end with its parent, and limits its memory and time.
fn limit_this_process(request: &Request) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // The parent may have ended before that.
        let parent = rustix::process::getppid().map(|parent| u64::from(parent.as_raw_nonzero().get().unsigned_abs()));
        // A parent in another pid namespace has no number here.
        if parent.is_some_and(|parent| parent != request.parent) {
            process::exit(FAILED);
        }
        // If memory runs out, this process is killed first.
        let _ = fs::write("/proc/self/oom_score_adj", "1000");
        let _ = fs::write("/proc/self/comm", "fw-compile");
    }
    let memory = request.memory_max;
    // The memory itself, and the address space for systems that do not count memory.
    lower(Resource::DATA, memory, memory)?;
    let addresses = memory.saturating_add(ADDRESS_SPACE_EXTRA);
    lower(Resource::AS, addresses, addresses)?;
    lower(Resource::CPU, request.seconds_max, request.seconds_max.saturating_add(1))?;
    lower(Resource::NOFILE, FILES_MAX, FILES_MAX)?;
    lower(Resource::FSIZE, 0, 0)?;
    lower(Resource::CORE, 0, 0)
}

/// Lowers a limit, unless it is already lower.
fn lower(limit: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let (old_soft, old_hard) = limit.get()?;
    limit.set(soft.min(old_soft), hard.min(old_hard))
}

/// Closes all files except the three standard streams: sockets of the worker, and files that the worker inherited
/// itself.
fn close_inherited_files() {
    #[cfg(target_os = "linux")]
    {
        #[allow(unsafe_code, reason = "the inherited descriptors have no owner in this process")]
        // SAFETY: this process has not opened any file yet, so none of these descriptors has an owner,
        // and it has no other threads.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
        if closed == 0 {
            return;
        }
    }
    // An older kernel, or another system.
    let last = Resource::NOFILE.get().map_or(1024, |(soft, _)| soft.min(65_536));
    for descriptor in 3..i32::try_from(last).unwrap_or(1024) {
        #[allow(unsafe_code, reason = "the inherited descriptors have no owner in this process")]
        // SAFETY: as above.
        unsafe {
            libc::close(descriptor);
        }
    }
}
