//! Signals: the first asks to finish, the second to stop now.

use std::{io, sync::mpsc, thread};

use tokio::signal::unix::{SignalKind, signal};

/// Hears SIGTERM and SIGINT from the moment it is made.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<()>);

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the system has no more threads or refuses handlers.
    pub fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut terminate, mut interrupt) = {
            let _context = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let (heard, signals) = mpsc::channel();
        thread::Builder::new().name("fw-signals".into()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    if heard.send(()).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok(Self(signals))
    }

    /// Waits on this thread for the next signal.
    pub fn first(&mut self) {
        let _ = self.0.recv();
    }

    /// Ends the process at the next signal.
    pub fn exit_on_next(self, code: u8) {
        thread::spawn(move || {
            if self.0.recv().is_ok() {
                std::process::exit(code.into());
            }
        });
    }
}
