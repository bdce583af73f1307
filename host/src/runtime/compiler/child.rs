//! The process that compiles one module, and then ends.
//!
//! Apart because everything here runs in a program that was started for it: see
//! [`Compiler::Binary`](super::Compiler::Binary). It gives up what it does not need before it reads the
//! first byte of the module: open files, the right to large memory and to much time.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::fd::AsFd as _,
    process,
};

use rlimit::Resource;
use wasmtime::Engine;

use super::{Answer, COMPILE_ARGUMENT, Request, STACK};
use crate::runtime::{compiled, engine};

/// The exit code when the module could not be compiled for a reason that is no answer.
const BROKE: i32 = 70;
/// The exit code when it was not started as a compiler.
pub(super) const NOT_ASKED: i32 = 2;
/// Open files: the pipes, and what the C library may need for a moment.
const FILES_MAX: u64 = 16;
/// Address space beyond the memory that is allowed: the program itself, stacks, and what the allocator
/// reserves without using it.
const ADDRESS_SPACE_MORE: u64 = 2 << 30;

/// Compiles the module that comes in at the standard input.
pub(super) fn run() -> ! {
    // Not by way of everything that would be freed.
    process::exit(work())
}

fn work() -> i32 {
    close_what_was_inherited();
    if io::stdin().is_terminal() {
        let _ = writeln!(io::stderr(), "error: {COMPILE_ARGUMENT} is how workers start a compiler, and no command");
        return NOT_ASKED;
    }
    let Ok(mut input) = io::stdin().as_fd().try_clone_to_owned().map(File::from) else {
        return BROKE;
    };
    let Ok(request) = Request::read(&mut input) else { return NOT_ASKED };
    if let Err(error) = settle(&request) {
        let _ = writeln!(io::stderr(), "the limits of this process cannot be set: {error}");
        return BROKE;
    }
    let mut bytes = Vec::new();
    if input.take(request.size).read_to_end(&mut bytes).is_err() || bytes.len() as u64 != request.size {
        return BROKE;
    }
    let answer = compile(&request, &bytes);
    let output = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let written = output.and_then(|mut output| answer.write(&mut output));
    if written.is_ok() { 0 } else { BROKE }
}

fn compile(request: &Request, bytes: &[u8]) -> Answer {
    let threads = usize::try_from(request.threads).unwrap_or(1);
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK);
    // Where the system has no more threads, this one does it all.
    let pool = if threads > 1 { builder.build().ok() } else { None };
    let mut settings = if request.tight == 0 { engine::roomy() } else { engine::tight() };
    settings.parallel_compilation(pool.is_some());
    let engine = match Engine::new(&settings) {
        Ok(engine) if compiled::digest(&engine) == request.settings => engine,
        Ok(_) => return Answer::OtherSettings,
        Err(error) => return Answer::Invalid(format!("{error:#}")),
    };
    let compile = || engine.precompile_component(bytes);
    let code = match pool {
        Some(pool) => pool.install(compile),
        None => compile(),
    };
    code.map_or_else(|error| Answer::Invalid(format!("{error:#}")), Answer::Code)
}

/// Makes this process one that ends with its parent and cannot grow.
fn settle(request: &Request) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // It may have ended before that.
        let parent = rustix::process::getppid().map(|parent| u64::from(parent.as_raw_nonzero().get().unsigned_abs()));
        // One in another namespace of processes has no number here.
        if parent.is_some_and(|parent| parent != request.parent) {
            process::exit(BROKE);
        }
        // Where memory runs out, this process is the first to go.
        let _ = fs::write("/proc/self/oom_score_adj", "1000");
        let _ = fs::write("/proc/self/comm", "fw-compile");
    }
    let memory = request.memory_max;
    // The memory itself, and, for systems that do not count that, the addresses.
    lower(Resource::DATA, memory, memory)?;
    let addresses = memory.saturating_add(ADDRESS_SPACE_MORE);
    lower(Resource::AS, addresses, addresses)?;
    lower(Resource::CPU, request.seconds_max, request.seconds_max.saturating_add(1))?;
    lower(Resource::NOFILE, FILES_MAX, FILES_MAX)?;
    lower(Resource::FSIZE, 0, 0)?;
    lower(Resource::CORE, 0, 0)
}

/// Lowers a limit, unless it is lower already.
fn lower(limit: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let (old_soft, old_hard) = limit.get()?;
    limit.set(soft.min(old_soft), hard.min(old_hard))
}

/// Closes whatever is open beside the three standard streams: sockets of the worker, and what it
/// inherited itself.
fn close_what_was_inherited() {
    #[cfg(target_os = "linux")]
    {
        #[allow(unsafe_code, reason = "nothing else closes what nobody here has opened")]
        // SAFETY: this is the first thing that this process does. It has opened nothing, so no owner of
        // any of these descriptors exists, and it has no other threads.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
        if closed == 0 {
            return;
        }
    }
    // An older kernel, or another system.
    let last = Resource::NOFILE.get().map_or(1024, |(soft, _)| soft.min(65_536));
    for descriptor in 3..i32::try_from(last).unwrap_or(1024) {
        #[allow(unsafe_code, reason = "nothing else closes what nobody here has opened")]
        // SAFETY: as above.
        unsafe {
            libc::close(descriptor);
        }
    }
}
