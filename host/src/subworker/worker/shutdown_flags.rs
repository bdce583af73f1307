//! How far the shutdown of a worker is.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set once by [`WorkerThreads`](super::WorkerThreads), read by all of its threads.
#[derive(Debug, Default)]
pub(super) struct ShutdownFlags {
    is_draining: AtomicBool,
    is_stopping: AtomicBool,
}

impl ShutdownFlags {
    /// Lets the worker take no more work.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    /// Lets the threads end that are no slots, and gives up open requests.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }
}
