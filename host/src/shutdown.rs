//! Signals: the first one drains, a later one stops immediately.

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::MissedTickBehavior,
};

use crate::system::{self, FD_CHECK_INTERVAL, FdMonitor};

/// Time after the first signal in which further ones count as the same: GNU timeout signals a process and then its
/// group, and systemd can send SIGTERM and SIGHUP. Pressing Ctrl-C twice takes longer.
pub const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// Handles SIGTERM, SIGINT and SIGHUP from its creation on. Its thread also logs when the process runs out of file
/// descriptors.
#[derive(Debug)]
pub struct Signals {
    received: mpsc::Receiver<()>,
    is_ready: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers. Until [`Signals::mark_ready`] a signal ends the process with the code that `leave` returns.
    ///
    /// # Errors
    /// When the system allows no more threads or rejects the handlers.
    pub fn listen(leave: impl Fn() -> u8 + Send + 'static) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut stops = {
            let _context = runtime.enter();
            StopSignals::listen()?
        };
        let (sender, received) = mpsc::channel();
        let is_ready = Arc::new(AtomicBool::new(false));
        let is_ready_flag = Arc::clone(&is_ready);
        thread::Builder::new().name("fw-signals".into()).spawn(move || {
            runtime.block_on(async {
                let mut wait: Option<Instant> = None;
                let mut descriptors = FdMonitor::default();
                let mut checks = tokio::time::interval(FD_CHECK_INTERVAL);
                checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        _ = checks.tick() => {
                            descriptors.check();
                            continue;
                        }
                        () = stops.next() => {}
                    }
                    if !is_ready_flag.load(Ordering::SeqCst) {
                        std::process::exit(leave().into());
                    }
                    if wait.is_some_and(|wait| wait.elapsed() < SAME_SIGNAL) {
                        continue;
                    }
                    wait.get_or_insert_with(Instant::now);
                    if sender.send(()).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok(Self { received, is_ready })
    }

    /// Marks the process as ready: from now on signals are returned by [`Signals::wait`].
    pub fn mark_ready(&self) {
        self.is_ready.store(true, Ordering::SeqCst);
    }

    /// Blocks until the next signal.
    pub fn wait(&mut self) {
        let _ = self.received.recv();
    }

    /// Ends the process at the next signal, as [`Signals::listen`] does.
    pub fn exit_on_next(self, leave: impl Fn() -> u8 + Send + 'static) {
        let wait = move || {
            if self.received.recv().is_ok() {
                std::process::exit(leave().into());
            }
        };
        if let Err(error) = thread::Builder::new().name("fw-exit".into()).spawn(wait) {
            let error = system::explain(&error);
            tracing::error!(
                error,
                "cannot start a thread to wait for a second signal: only SIGKILL stops this process sooner"
            );
        }
    }
}

/// The signals that request a process to stop.
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` if SIGHUP was ignored when the process started, as under `nohup`: then it stays ignored.
    hang_up: Option<Signal>,
}

impl StopSignals {
    /// Installs the handlers. Call it within a tokio runtime.
    ///
    /// # Errors
    /// When the system rejects the handlers.
    pub(crate) fn listen() -> io::Result<Self> {
        let hang_up = SignalKind::hangup();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: if is_ignored(hang_up) { None } else { Some(signal(hang_up)?) },
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hang_up => {}
        }
    }
}

/// Whether this process was started with the signal ignored. Assumed if that is unknown, so that the signal is left as
/// it is.
fn is_ignored(kind: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_recognized() {
        // Rust's runtime ignores SIGPIPE; tests are not started with SIGCHLD ignored.
        assert!(is_ignored(SignalKind::pipe()));
        assert!(!is_ignored(SignalKind::child()));
    }
}
