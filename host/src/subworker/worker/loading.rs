//! Waits until the modules that existed when a worker started are loaded.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use crate::{
    clock::after,
    lock::{self, lock},
};

/// Progress of loading the modules that existed at the start. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Loading(Arc<LoadingInner>);

#[derive(Debug)]
struct LoadingInner {
    state: Mutex<LoadingState>,
    ended: Condvar,
}

#[derive(Clone, Copy, Debug)]
enum LoadingState {
    InProgress,
    Ended(LoadSummary),
    /// The worker stopped before the end.
    Aborted,
}

/// Result of loading the modules that existed at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadSummary {
    /// Number of modules that are loaded.
    pub modules: usize,
    /// Number of modules that cannot be loaded.
    pub broken: usize,
    /// Number of tasks in the loaded modules.
    pub tasks: usize,
}

impl Default for Loading {
    /// The state of a worker that has no modules to load.
    fn default() -> Self {
        Self::of(LoadingState::Ended(LoadSummary::default()))
    }
}

impl Loading {
    pub(super) fn start() -> Self {
        Self::of(LoadingState::InProgress)
    }

    fn of(state: LoadingState) -> Self {
        Self(Arc::new(LoadingInner { state: Mutex::new(state), ended: Condvar::new() }))
    }

    /// Blocks until all modules are loaded or refused, at most `limit`. `None` after that time, or if the worker has
    /// stopped.
    pub fn wait(&self, limit: Duration) -> Option<LoadSummary> {
        let until = after(limit);
        let mut state = lock(&self.0.state);
        loop {
            match *state {
                LoadingState::Ended(end) => return Some(end),
                LoadingState::Aborted => return None,
                LoadingState::InProgress => {}
            }
            let remaining = until.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return None;
            }
            state = lock::wait_timeout(&self.0.ended, state, remaining).0;
        }
    }

    /// Whether loading has not ended.
    pub(super) fn is_in_progress(&self) -> bool {
        matches!(*lock(&self.0.state), LoadingState::InProgress)
    }

    pub(super) fn finish(&self, end: LoadSummary) {
        self.set(LoadingState::Ended(end));
    }

    pub(super) fn abort(&self) {
        self.set(LoadingState::Aborted);
    }

    fn set(&self, new: LoadingState) {
        let mut state = lock(&self.0.state);
        if matches!(*state, LoadingState::InProgress) {
            *state = new;
        }
        drop(state);
        self.0.ended.notify_all();
    }
}
