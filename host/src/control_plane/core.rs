//! The state behind its lock, and the timer thread.
//!
//! Every message enters the state on the thread that received it, for a few microseconds. Replies are encoded and sent
//! after unlocking. There is no core thread and no channel on the path of a task.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    callbacks::Callbacks,
    log,
    reply_to::ReplyTo,
    signatures::Signatures,
    state::{Applied, Callback, Effect, Limits, State},
};
use crate::{
    clock::{Moment, Now},
    lock::lock,
    transport::nng::Nng,
};

/// The state, shared by all threads that receive messages.
#[derive(Debug)]
pub struct Core {
    state: Mutex<State<ReplyTo>>,
    /// The number of the last event that was logged. Written under the lock of the state.
    last_logged: AtomicU64,
    /// Number of threads that wait for a change of the state.
    waiters: AtomicUsize,
    changed: Condvar,
    waker: TimerWaker,
    /// Set once the thread for callbacks has started.
    callbacks: OnceLock<Callbacks>,
    signatures: Signatures,
}

/// Wakes the timer thread when something is due.
#[derive(Debug)]
struct TimerWaker {
    /// The [`Moment`] until which it sleeps, in microseconds.
    at: AtomicU64,
    stopped: AtomicBool,
    sleeping: Mutex<()>,
    changed: Condvar,
}

impl Core {
    /// Creates a core with an empty state.
    pub fn new(limits: Limits) -> Arc<Self> {
        let waker = TimerWaker {
            at: AtomicU64::new(Moment::NEVER.micros()),
            stopped: AtomicBool::new(false),
            sleeping: Mutex::new(()),
            changed: Condvar::new(),
        };
        Arc::new(Self {
            state: Mutex::new(State::new(limits)),
            last_logged: AtomicU64::new(0),
            waiters: AtomicUsize::new(0),
            changed: Condvar::new(),
            waker,
            callbacks: OnceLock::new(),
            signatures: Signatures::default(),
        })
    }

    /// Runs `transition` on the locked state, then sends the replies it produced, after unlocking.
    pub fn enter<T>(&self, transition: impl FnOnce(&mut State<ReplyTo>, Now) -> T) -> T {
        self.change(lock(&self.state), transition)
    }

    /// Does the same if the state is not locked. Returns none if it is.
    pub fn try_enter<T>(&self, transition: impl FnOnce(&mut State<ReplyTo>, Now) -> T) -> Option<T> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.change(state, transition))
    }

    fn change<T>(
        &self,
        mut state: MutexGuard<'_, State<ReplyTo>>,
        transition: impl FnOnce(&mut State<ReplyTo>, Now) -> T,
    ) -> T {
        let now = Now::read();
        let Applied { output, effects, next_wake } = state.apply(now, |state| transition(state, now));
        let changes = state.take_changes();
        let has_changes = !changes.is_empty();
        if has_changes {
            self.signatures.record(changes);
        }
        let records = self.new_log_records(&state, now);
        drop(state);
        if has_changes {
            self.signatures.apply();
        }
        if self.waiters.load(Ordering::Relaxed) > 0 {
            self.changed.notify_all();
        }
        self.waker.set(next_wake);
        for effect in effects {
            match effect {
                Effect::Reply { to, reply } => to.send(reply),
                Effect::Callback(callback) => self.post_callback(callback),
            }
        }
        records.iter().for_each(log::LogRecord::write);
        output
    }

    /// The signatures of the loaded tasks.
    pub fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// Returns the events to log since the last call.
    fn new_log_records(&self, state: &State<ReplyTo>, now: Now) -> Vec<log::LogRecord> {
        let (last, last_logged) = (state.event_log().last(), self.last_logged.load(Ordering::Relaxed));
        if last == last_logged {
            return Vec::new();
        }
        self.last_logged.store(last, Ordering::Relaxed);
        log::records(state, now, last_logged)
    }

    /// Blocks until the state meets `condition`, which is checked after each change, at most until `until`. Returns
    /// whether it does.
    pub fn wait_until(&self, until: Instant, condition: impl Fn(&State<ReplyTo>) -> bool) -> bool {
        let state = lock(&self.state);
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let left = until.saturating_duration_since(Instant::now());
        let over = self.changed.wait_timeout_while(state, left, |state| !condition(state));
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        !over.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Starts the thread that delivers callbacks.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn start_callbacks(self: &Arc<Self>) -> std::io::Result<()> {
        let core = Arc::downgrade(self);
        let callbacks = Callbacks::start(Arc::new(Nng), move |end| {
            if let Some(core) = core.upgrade() {
                core.enter(|state, now| state.callback_ended(now, end));
            }
        })?;
        self.callbacks.get_or_init(|| callbacks);
        Ok(())
    }

    /// Delivers the queued callbacks, for at most `limit`, and ends the thread.
    pub fn stop_callbacks(&self, limit: Duration) {
        if let Some(callbacks) = self.callbacks.get() {
            callbacks.stop(limit);
        }
    }

    fn post_callback(&self, callback: Callback) {
        let Some(callbacks) = self.callbacks.get() else {
            return tracing::error!(task.id = %callback.result.task_id, "the thread for callbacks has not started");
        };
        callbacks.post(callback);
    }

    /// Starts the thread that calls [`State::tick`] when something is due.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn start_timer(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let core = Arc::clone(self);
        thread::Builder::new().name("fw-timer".into()).spawn(move || {
            while !core.waker.stopped.load(Ordering::SeqCst) {
                core.waker.at.store(Moment::NEVER.micros(), Ordering::SeqCst);
                core.enter(State::tick);
                core.waker.sleep();
            }
        })
    }

    /// Ends the timer thread.
    pub fn stop_timer(&self) {
        self.waker.stopped.store(true, Ordering::SeqCst);
        let _sleeping = lock(&self.waker.sleeping);
        self.waker.changed.notify_all();
    }
}

impl TimerWaker {
    /// Makes the timer thread wake at `at`, or earlier.
    fn set(&self, at: Moment) {
        if self.at.fetch_min(at.micros(), Ordering::SeqCst) > at.micros() {
            let _sleeping = lock(&self.sleeping);
            self.changed.notify_all();
        }
    }

    fn sleep(&self) {
        let mut sleeping = lock(&self.sleeping);
        loop {
            let until = Moment::from_micros(self.at.load(Ordering::SeqCst));
            let now = Now::read().mono;
            if until <= now || self.stopped.load(Ordering::SeqCst) {
                return;
            }
            sleeping = self.changed.wait_timeout(sleeping, until.since(now)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
