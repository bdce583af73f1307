//! Runs the process that compiles one module, and limits its time.

use std::{
    io::{self, Read, Write},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, setpriority_pgrp};

use super::{
    super::{
        LOADER_NICENESS, RuntimeConfig,
        compiled::CODE_MAX,
        error::{CompileError, ModuleError},
    },
    COMPILE_ARGUMENT, child,
    protocol::{CompiledCode, Request, Response},
    semaphore::CompilePermit,
};

/// Timeout of a compiler by the clock, as a multiple of its processor time: the machine may be busy.
const WALL_FACTOR: u32 = 5;
/// Maximum bytes to keep of what a compiler prints, for the error message if it crashes.
const STDERR_MAX: usize = 2_000;
/// Time after which a compiler gets a lower priority. Most modules take less.
const NORMAL_PRIORITY_TIME: Duration = Duration::from_secs(1);
/// Interval of checks whether the code is still needed.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Timeout for a compiler to exit after it has closed its output.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// One module, and the process that compiles it.
pub(super) struct CompilerProcess<'a> {
    pub(super) program: &'a Path,
    pub(super) request: Request,
    /// The setting that limits its memory.
    pub(super) memory_limit: &'static str,
    pub(super) bytes: &'a [u8],
    pub(super) config: &'a RuntimeConfig,
    pub(super) is_unwanted: &'a AtomicBool,
}

/// The reason why this process killed a compiler.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KillReason {
    Overdue,
    Unwanted,
}

impl CompilerProcess<'_> {
    pub(super) fn run(&self, permit: CompilePermit<'_>) -> Result<CompiledCode, ModuleError> {
        let started = Instant::now();
        let mut child = self.start().map_err(|why| self.cannot_start(why))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { unreachable!("all three are pipes") };
        let (done, responded) = mpsc::channel();
        let ended = thread::scope(|scope| {
            let thread = || thread::Builder::new().name("fw-compile".to_owned());
            let spawned = thread().spawn_scoped(scope, || self.send_request(stdin)).and_then(|_| {
                let printed = thread().spawn_scoped(scope, move || stderr_tail(stderr))?;
                let response = thread().spawn_scoped(scope, move || read_response(stdout, &done))?;
                Ok((printed, response))
            });
            let id = Pid::from_child(&child);
            let killed = match &spawned {
                Ok(_) => self.wait(&responded, started, id, permit),
                Err(_) => Some(KillReason::Unwanted),
            };
            // A compiler that has closed its output is about to exit.
            let status = wait_or_kill(&mut child, if killed.is_some() { Duration::ZERO } else { EXIT_TIMEOUT });
            let (printed, response) = spawned?;
            Ok((printed.join().unwrap_or_default(), response.join().unwrap_or_default(), killed, status?))
        });
        let (printed, response, killed, status) = ended.map_err(|why| self.cannot_start(why))?;
        let error = match (response, killed) {
            (Some(Response::Code(code)), _) => return Ok(code),
            (Some(Response::Invalid(why)), _) => return Err(ModuleError::Invalid(why)),
            (Some(Response::TooLarge(size)), _) => CompileError::CodeSize { size, max: CODE_MAX },
            (Some(Response::OtherSettings), _) => self.wrong_program(),
            (None, Some(KillReason::Unwanted)) => CompileError::Unwanted,
            (None, Some(KillReason::Overdue)) => self.too_long(self.wall_max(), "by the clock"),
            (None, None) => self.classify_exit(status, printed),
        };
        Err(error.into())
    }

    fn start(&self) -> io::Result<Child> {
        Command::new(self.program)
            .arg0("fastworker")
            .arg(COMPILE_ARGUMENT)
            .env_clear()
            .current_dir("/")
            // Ctrl-C is meant for this process, which may first finish its tasks.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Sends the request and the module. A compiler that does not read them exits without a response.
    fn send_request(&self, mut stdin: ChildStdin) {
        let _ = self.request.write(&mut stdin).and_then(|()| stdin.write_all(self.bytes));
    }

    fn wall_max(&self) -> Duration {
        self.config.compile_timeout.saturating_mul(WALL_FACTOR)
    }

    /// Waits until the compiler has responded or closed its output. Returns a reason to kill it
    /// otherwise.
    fn wait(
        &self,
        responded: &mpsc::Receiver<()>,
        started: Instant,
        compiler: Pid,
        mut permit: CompilePermit<'_>,
    ) -> Option<KillReason> {
        let wall_max = self.wall_max();
        let mut has_normal_priority = true;
        loop {
            match responded.recv_timeout(CHECK_INTERVAL) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.is_unwanted.load(Ordering::Relaxed) {
                return Some(KillReason::Unwanted);
            }
            if started.elapsed() >= wall_max {
                return Some(KillReason::Overdue);
            }
            permit.mark_slow_after(started.elapsed());
            if has_normal_priority && started.elapsed() >= NORMAL_PRIORITY_TIME {
                has_normal_priority = false;
                // Its process group, so that all its threads are affected.
                if let Err(error) = setpriority_pgrp(Some(compiler), LOADER_NICENESS) {
                    tracing::debug!(%error, "cannot lower the priority of a compiler");
                }
            }
        }
    }

    /// The error of a compiler that exited without a response and was not killed by this process.
    fn classify_exit(&self, status: ExitStatus, printed: String) -> CompileError {
        let is_out_of_memory =
            ["memory allocation of", "out of memory", "Cannot allocate memory"].iter().any(|it| printed.contains(it));
        match status.signal() {
            _ if is_out_of_memory => {
                let (size, max_mib) = (self.bytes.len(), self.request.memory_max >> 20);
                CompileError::Memory { size, max_mib, limit: self.memory_limit }
            }
            Some(libc::SIGXCPU) => self.too_long(self.config.compile_timeout, "of processor time"),
            Some(signal @ (libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP)) => {
                CompileError::Killed { signal }
            }
            // Another program or an old version, which does not know the argument.
            None if matches!(status.code(), Some(0 | child::NOT_A_COMPILER)) => self.wrong_program(),
            _ => CompileError::Crashed { status: status.to_string(), printed },
        }
    }

    fn cannot_start(&self, why: io::Error) -> CompileError {
        CompileError::Start { program: self.program.display().to_string(), why }
    }

    fn wrong_program(&self) -> CompileError {
        CompileError::WrongProgram { program: self.program.display().to_string() }
    }

    fn too_long(&self, max: Duration, clock: &'static str) -> CompileError {
        CompileError::Time { size: self.bytes.len(), max, clock }
    }
}

/// Waits at most `limit` for a compiler to exit, and then kills it.
fn wait_or_kill(child: &mut Child, limit: Duration) -> io::Result<ExitStatus> {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        crate::clock::pause(Duration::from_millis(1));
    }
    // It may have exited just now.
    let _ = child.kill();
    child.wait()
}

/// Reads the response, and signals `done`.
fn read_response(mut stdout: ChildStdout, done: &mpsc::Sender<()>) -> Option<Response> {
    let response = Response::read(&mut stdout, CODE_MAX);
    let _ = done.send(());
    response
}

/// The last bytes that a compiler prints. Reads all output, so that the compiler is never blocked.
fn stderr_tail(mut stderr: impl Read) -> String {
    let (mut tail, mut block) = (Vec::new(), [0; 4096]);
    while let Ok(size @ 1..) = stderr.read(&mut block) {
        tail.extend_from_slice(&block[..size]);
        let excess = tail.len().saturating_sub(STDERR_MAX);
        tail.drain(..excess);
    }
    String::from_utf8_lossy(&tail).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_that_a_compiler_prints_are_kept() {
        let text = "x".repeat(10 * STDERR_MAX) + "memory allocation of 5 bytes failed\n";
        let tail = stderr_tail(text.as_bytes());
        assert!(tail.ends_with("memory allocation of 5 bytes failed") && tail.len() <= STDERR_MAX);
    }
}
