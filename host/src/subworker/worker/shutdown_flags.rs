//! Flags by which a worker's threads drain and stop.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set once by [`WorkerThreads`](super::WorkerThreads), read by all of its threads.
#[derive(Debug, Default)]
pub(super) struct ShutdownFlags {
    is_draining: AtomicBool,
    is_stopping: AtomicBool,
}

impl ShutdownFlags {
    /// Lets the worker accept no more work.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    /// Ends the threads other than those of the slots, and stops retrying requests.
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
