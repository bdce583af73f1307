//! Signals: the first asks to finish, the second to stop now. One that comes while there is nothing
//! to finish yet stops now, too.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use tokio::signal::unix::{SignalKind, signal};

/// Hears SIGTERM and SIGINT from the moment it is made.
#[derive(Debug)]
pub struct Signals {
    heard: mpsc::Receiver<()>,
    started: Arc<AtomicBool>,
}

impl Signals {
    /// Starts to listen. Until [`Signals::started`], a signal ends the process with `code`.
    ///
    /// # Errors
    /// When the system has no more threads or refuses handlers.
    pub fn listen(code: u8) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut terminate, mut interrupt) = {
            let _context = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let (sender, heard) = mpsc::channel();
        let started = Arc::new(AtomicBool::new(false));
        let has_started = Arc::clone(&started);
        thread::Builder::new().name("fw-signals".into()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    if !has_started.load(Ordering::SeqCst) {
                        std::process::exit(code.into());
                    }
                    if sender.send(()).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok(Self { heard, started })
    }

    /// There is something to finish from now on.
    pub fn started(&self) {
        self.started.store(true, Ordering::SeqCst);
    }

    /// Waits on this thread for the next signal.
    pub fn first(&mut self) {
        let _ = self.heard.recv();
    }

    /// Ends the process at the next signal.
    pub fn exit_on_next(self, code: u8) {
        thread::spawn(move || {
            if self.heard.recv().is_ok() {
                std::process::exit(code.into());
            }
        });
    }
}
