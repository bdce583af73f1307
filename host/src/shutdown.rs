//! Signals: the first asks to finish, the second to stop now.

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
    serving: Arc<AtomicBool>,
}

impl Signals {
    /// Starts to listen. Until [`Signals::serve`] a signal ends the process, with the code that `leave`
    /// gives once it has said so.
    ///
    /// # Errors
    /// When the system has no more threads or refuses handlers.
    pub fn listen(leave: impl Fn() -> u8 + Send + 'static) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut terminate, mut interrupt) = {
            let _context = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let (sender, heard) = mpsc::channel();
        let serving = Arc::new(AtomicBool::new(false));
        let has_started = Arc::clone(&serving);
        thread::Builder::new().name("fw-signals".into()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    if !has_started.load(Ordering::SeqCst) {
                        std::process::exit(leave().into());
                    }
                    if sender.send(()).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok(Self { heard, serving })
    }

    /// From now on there is something to finish: signals are for whoever waits for them.
    pub fn serve(&self) {
        self.serving.store(true, Ordering::SeqCst);
    }

    /// Waits on this thread for the next signal.
    pub fn first(&mut self) {
        let _ = self.heard.recv();
    }

    /// Ends the process at the next signal, as [`Signals::listen`] does.
    pub fn exit_on_next(self, leave: impl Fn() -> u8 + Send + 'static) {
        thread::spawn(move || {
            if self.heard.recv().is_ok() {
                std::process::exit(leave().into());
            }
        });
    }
}
