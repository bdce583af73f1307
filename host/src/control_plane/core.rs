//! The state behind its lock, and the thread that wakes it in time.
//!
//! Every message enters the state on the thread that brought it, for a few microseconds; what is
//! to be said is written out and sent after the lock is free. Nothing else runs the control plane:
//! there is no core thread and no channel on the way.

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
    state::{Callback, Effect, Limits, State},
};
use crate::{
    clock::{Moment, Now},
    lock::lock,
    transport::nng::Nng,
};

/// The state, shared by everything that brings it messages.
#[derive(Debug)]
pub struct Core {
    state: Mutex<State<ReplyTo>>,
    /// The last event that was logged. Written under the lock of the state.
    logged: AtomicU64,
    /// How many threads wait for a change of the state.
    watched: AtomicUsize,
    changed: Condvar,
    alarm: Alarm,
    /// Whoever sends callbacks, once it has started.
    callbacks: OnceLock<Callbacks>,
    signatures: Signatures,
}

/// When the timer thread wakes next.
#[derive(Debug)]
struct Alarm {
    /// Microseconds of the [`Moment`] it sleeps to.
    at: AtomicU64,
    stopped: AtomicBool,
    asleep: Mutex<()>,
    changed: Condvar,
}

impl Core {
    /// A core that knows nothing yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        let alarm = Alarm {
            at: AtomicU64::new(Moment::NEVER.micros()),
            stopped: AtomicBool::new(false),
            asleep: Mutex::new(()),
            changed: Condvar::new(),
        };
        Arc::new(Self {
            state: Mutex::new(State::new(limits)),
            logged: AtomicU64::new(0),
            watched: AtomicUsize::new(0),
            changed: Condvar::new(),
            alarm,
            callbacks: OnceLock::new(),
            signatures: Signatures::default(),
        })
    }

    /// Lets `enter` change the state, and then says what is to be said.
    pub fn enter<T>(&self, enter: impl FnOnce(&mut State<ReplyTo>, Now) -> T) -> T {
        self.change(lock(&self.state), enter)
    }

    /// The same, if the state is free at this moment.
    pub fn try_enter<T>(&self, enter: impl FnOnce(&mut State<ReplyTo>, Now) -> T) -> Option<T> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.change(state, enter))
    }

    fn change<T>(
        &self,
        mut state: MutexGuard<'_, State<ReplyTo>>,
        enter: impl FnOnce(&mut State<ReplyTo>, Now) -> T,
    ) -> T {
        let now = Now::read();
        let given = enter(&mut state, now);
        state.notify_event_waiters(now);
        let (effects, wake) = (state.take_outbox(), state.next_wake());
        let changes = state.take_changes();
        let has_changes = !changes.is_empty();
        if has_changes {
            self.signatures.note(changes);
        }
        let lines = self.lines(&state, now);
        drop(state);
        if has_changes {
            self.signatures.settle();
        }
        if self.watched.load(Ordering::Relaxed) > 0 {
            self.changed.notify_all();
        }
        self.alarm.set(wake);
        for effect in effects {
            match effect {
                Effect::Say { to, answer } => to.send(answer),
                Effect::Call(callback) => self.call_back(callback),
            }
        }
        lines.iter().for_each(log::Line::write);
        given
    }

    /// Which calls the loaded tasks take.
    pub fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// What is to be logged of what happened since this was last asked.
    fn lines(&self, state: &State<ReplyTo>, now: Now) -> Vec<log::Line> {
        let (last, logged) = (state.event_log().last(), self.logged.load(Ordering::Relaxed));
        if last == logged {
            return Vec::new();
        }
        self.logged.store(last, Ordering::Relaxed);
        log::lines(state, now, logged)
    }

    /// Waits on this thread until the state is as `wanted`, looking after each change, but not
    /// beyond `until`. Returns whether it is.
    pub fn wait_until(&self, until: Instant, wanted: impl Fn(&State<ReplyTo>) -> bool) -> bool {
        let state = lock(&self.state);
        self.watched.fetch_add(1, Ordering::SeqCst);
        let left = until.saturating_duration_since(Instant::now());
        let over = self.changed.wait_timeout_while(state, left, |state| !wanted(state));
        self.watched.fetch_sub(1, Ordering::SeqCst);
        !over.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Starts the thread that sends callbacks.
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

    /// Sends the callbacks that wait, at most `limit` long, and ends the thread that does.
    pub fn stop_callbacks(&self, limit: Duration) {
        if let Some(callbacks) = self.callbacks.get() {
            callbacks.stop(limit);
        }
    }

    fn call_back(&self, callback: Callback) {
        let Some(callbacks) = self.callbacks.get() else {
            return tracing::error!(task.id = %callback.result.task_id, "nobody sends callbacks");
        };
        callbacks.post(callback);
    }

    /// Starts the thread that ticks the state when something is due.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn start_timer(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let core = Arc::clone(self);
        thread::Builder::new().name("fw-timer".into()).spawn(move || {
            while !core.alarm.stopped.load(Ordering::SeqCst) {
                core.alarm.at.store(Moment::NEVER.micros(), Ordering::SeqCst);
                core.enter(State::tick);
                core.alarm.sleep();
            }
        })
    }

    /// Ends the timer thread.
    pub fn stop_timer(&self) {
        self.alarm.stopped.store(true, Ordering::SeqCst);
        let _asleep = lock(&self.alarm.asleep);
        self.alarm.changed.notify_all();
    }
}

impl Alarm {
    /// Sees to it that the timer thread wakes by `at`.
    fn set(&self, at: Moment) {
        if self.at.fetch_min(at.micros(), Ordering::SeqCst) > at.micros() {
            let _asleep = lock(&self.asleep);
            self.changed.notify_all();
        }
    }

    fn sleep(&self) {
        let mut asleep = lock(&self.asleep);
        loop {
            let until = Moment::from_micros(self.at.load(Ordering::SeqCst));
            let now = Now::read().mono;
            if until <= now || self.stopped.load(Ordering::SeqCst) {
                return;
            }
            asleep = self.changed.wait_timeout(asleep, until.since(now)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
