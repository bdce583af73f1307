//! The loading of the modules that were there when a worker started.
//!
//! Apart because others wait for it: whoever starts a worker for a moment, and its command until it can
//! tell that all is there.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use crate::{
    clock::after,
    lock::{self, lock},
};

/// Tells when the modules that were there at the start are loaded or refused. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Loading(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Clone, Copy, Debug)]
enum State {
    UnderWay,
    Ended(LoadingEnd),
    /// The worker stopped before.
    GivenUp,
}

/// What became of the modules that were there at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadingEnd {
    /// Modules that run.
    pub modules: usize,
    /// Modules that cannot be loaded.
    pub broken: usize,
    /// Tasks of those that run.
    pub tasks: usize,
}

impl Default for Loading {
    /// Of a worker that has no modules to load.
    fn default() -> Self {
        Self::of(State::Ended(LoadingEnd::default()))
    }
}

impl Loading {
    pub(super) fn begin() -> Self {
        Self::of(State::UnderWay)
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Inner { state: Mutex::new(state), ended: Condvar::new() }))
    }

    /// Waits until all is loaded or refused, at most `limit`. None if it is not by then, or if the worker
    /// stops before.
    pub fn wait(&self, limit: Duration) -> Option<LoadingEnd> {
        let until = after(limit);
        let mut state = lock(&self.0.state);
        loop {
            match *state {
                State::Ended(end) => return Some(end),
                State::GivenUp => return None,
                State::UnderWay => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = lock::wait_timeout(&self.0.ended, state, left).0;
        }
    }

    /// Whether it has not ended.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(*lock(&self.0.state), State::UnderWay)
    }

    pub(super) fn end(&self, how: LoadingEnd) {
        self.settle(State::Ended(how));
    }

    pub(super) fn give_up(&self) {
        self.settle(State::GivenUp);
    }

    fn settle(&self, how: State) {
        let mut state = lock(&self.0.state);
        if matches!(*state, State::UnderWay) {
            *state = how;
        }
        drop(state);
        self.0.ended.notify_all();
    }
}
