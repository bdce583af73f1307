//! Ends attempts that ran too long or that somebody stopped.
//!
//! Apart because it is the one place where threads meet: a slot says what it runs and until
//! when, the watchdog thread and a [`Stopper`] decide that it is over, and the guest notices at
//! its next epoch check or, while it waits in the host, by [`Watch::over`].
//!
//! An attempt costs two uncontended locks. The thread sleeps until the earliest deadline and is
//! woken only for an earlier one, so an idle machine stays idle.
//!
//! Invariants: an attempt is first *asked* to end (the guest may see that by `is-cancelled`) and
//! is *over* [`GRACE`] later. What is said about one attempt never reaches the next, because
//! both sides compare and change the attempt under one lock.

use std::{
    fmt,
    future::poll_fn,
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::Poll,
    thread::{self, Thread},
    time::Duration,
};

use futures::task::AtomicWaker;
use wasmtime::Engine;

use super::AttemptId;
use crate::{
    clock::{Moment, Now},
    lock::lock,
};

/// Between asking an attempt to end and ending it.
const GRACE: Duration = Duration::from_millis(10);
/// How often an attempt that is over and still runs is reminded. One reminder can be lost: the
/// guest may look at its state just before, and set its next epoch just after it.
const REMIND_EVERY: Duration = Duration::from_millis(5);

/// Why an attempt was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its deadline passed.
    TimedOut,
    /// Somebody stopped it.
    Stopped,
}

/// How a slot stands.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// It runs nothing.
    Idle,
    /// Its attempt may run until this deadline.
    Runs { until: Moment },
    /// Its attempt may end in good order until then.
    Asked { why: Why, until: Moment },
    /// Its attempt must end now.
    Over { why: Why },
}

struct Current {
    attempt: AttemptId,
    phase: Phase,
}

/// What one slot runs, and until when.
pub(super) struct Watch {
    current: Mutex<Current>,
    /// The slot's thread, while it waits in the host.
    waiting: AtomicWaker,
    shared: Arc<Shared>,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Current> {
        lock(&self.current)
    }

    /// Says that `attempt` begins and may run until `deadline`.
    pub(super) fn begin(&self, attempt: AttemptId, deadline: Moment) -> Watched<'_> {
        *self.lock() = Current { attempt, phase: Phase::Runs { until: deadline } };
        self.shared.wake_before(deadline);
        Watched { watch: self, ended: false }
    }

    /// Whether the attempt should end in good order.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.lock().phase, Phase::Asked { .. } | Phase::Over { .. })
    }

    /// Whether the attempt must end now.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.lock().phase, Phase::Over { .. })
    }

    /// Waits until the attempt must end.
    pub(super) async fn over(&self) {
        poll_fn(|context| {
            self.waiting.register(context.waker());
            if self.is_over() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Moves the attempt on if it is due, and says when to look again.
    fn patrol(&self, now: Moment) -> Look {
        let mut current = self.lock();
        if let Phase::Runs { until } = current.phase
            && until <= now
        {
            current.phase = Phase::Asked { why: Why::TimedOut, until: until + GRACE };
        }
        if let Phase::Asked { why, until } = current.phase
            && until <= now
        {
            current.phase = Phase::Over { why };
        }
        match current.phase {
            Phase::Idle => Look::At(Moment::NEVER),
            Phase::Runs { until } | Phase::Asked { until, .. } => Look::At(until),
            Phase::Over { .. } => Look::Remind,
        }
    }

    fn stop(&self, attempt: AttemptId) -> bool {
        let mut current = self.lock();
        if current.attempt != attempt {
            return false;
        }
        current.phase = match current.phase {
            Phase::Idle => return false,
            Phase::Runs { .. } => Phase::Asked { why: Why::Stopped, until: Now::read().mono + GRACE },
            Phase::Asked { until, .. } => Phase::Asked { why: Why::Stopped, until },
            Phase::Over { .. } => Phase::Over { why: Why::Stopped },
        };
        drop(current);
        self.shared.wake();
        true
    }
}

/// What a look at a slot found.
enum Look {
    /// Nothing to do before this moment.
    At(Moment),
    /// Its attempt is over and has not ended yet.
    Remind,
}

/// An attempt that is being watched.
pub(super) struct Watched<'a> {
    watch: &'a Watch,
    ended: bool,
}

impl Watched<'_> {
    /// Says that the attempt has ended, and tells why it was asked to, if it was.
    pub(super) fn end(mut self) -> Option<Why> {
        self.ended = true;
        match mem::replace(&mut self.watch.lock().phase, Phase::Idle) {
            Phase::Asked { why, .. } | Phase::Over { why } => Some(why),
            Phase::Idle | Phase::Runs { .. } => None,
        }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.watch.lock().phase = Phase::Idle;
        }
    }
}

/// Stops the attempt that a slot runs, from any thread.
#[derive(Clone)]
pub struct Stopper(Arc<Watch>);

impl Stopper {
    pub(super) fn of(watch: &Arc<Watch>) -> Self {
        Self(Arc::clone(watch))
    }

    /// Stops `attempt` if it is the one that the slot runs now, and tells whether it is. It ends
    /// within some 10 ms, as [`Outcome::Stopped`](crate::task::Outcome::Stopped).
    pub fn stop(&self, attempt: AttemptId) -> bool {
        self.0.stop(attempt)
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stopper").field(&self.0.lock().attempt).finish()
    }
}

/// What the watchdog thread shares with the slots.
struct Shared {
    watches: Mutex<Vec<Weak<Watch>>>,
    /// The thread looks again at this moment (microseconds) by itself. While it looks, this is
    /// "never", so whoever begins meanwhile wakes it.
    sleeps_until: AtomicU64,
    gone: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Shared {
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn wake_before(&self, deadline: Moment) {
        if deadline.micros() < self.sleeps_until.load(SeqCst) {
            self.wake();
        }
    }

    fn watches(&self) -> MutexGuard<'_, Vec<Weak<Watch>>> {
        lock(&self.watches)
    }

    /// Looks at every slot once, and says when to look again.
    fn patrol(&self, engines: &[Engine]) -> Moment {
        let now = Now::read().mono;
        let mut next = Moment::NEVER;
        let mut late = Vec::new();
        self.watches().retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            match watch.patrol(now) {
                Look::At(moment) => next = next.min(moment),
                Look::Remind => late.push(watch),
            }
            true
        });
        if late.is_empty() {
            return next;
        }
        engines.iter().for_each(Engine::increment_epoch);
        for watch in late {
            watch.waiting.wake();
        }
        next.min(now + REMIND_EVERY)
    }

    fn run(&self, engines: &[Engine]) {
        while !self.gone.load(SeqCst) {
            self.sleeps_until.store(Moment::NEVER.micros(), SeqCst);
            let next = self.patrol(engines);
            self.sleeps_until.store(next.micros(), SeqCst);
            if next == Moment::NEVER {
                thread::park();
            } else {
                thread::park_timeout(next.since(Now::read().mono));
            }
        }
    }
}

/// Owns the watchdog thread, which ends when this is dropped.
pub(super) struct Watchdog(Arc<Shared>);

impl Watchdog {
    /// Starts the thread; `engines` are those whose stores look at their epoch.
    pub(super) fn start(engines: Vec<Engine>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            watches: Mutex::default(),
            sleeps_until: AtomicU64::new(u64::MAX),
            gone: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let its = Arc::clone(&shared);
        let thread = thread::Builder::new().name("watchdog".into()).spawn(move || its.run(&engines))?;
        // Only this sets it, once.
        let _ = shared.thread.set(thread.thread().clone());
        Ok(Self(shared))
    }

    /// A slot to look after, until it is dropped.
    pub(super) fn watch(&self) -> Arc<Watch> {
        let idle = Current { attempt: AttemptId(0), phase: Phase::Idle };
        let watch =
            Arc::new(Watch { current: Mutex::new(idle), waiting: AtomicWaker::new(), shared: Arc::clone(&self.0) });
        self.0.watches().push(Arc::downgrade(&watch));
        watch
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.gone.store(true, SeqCst);
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Moment = Moment::from_micros(1_000_000);

    #[test]
    fn an_attempt_is_asked_to_end_before_it_is_over() {
        let watchdog = Watchdog::start(Vec::new()).expect("a thread");
        let watch = watchdog.watch();
        let deadline = Now::read().mono + Duration::from_hours(1);
        let watched = watch.begin(AttemptId(1), deadline);
        assert!(matches!(watch.patrol(LATER), Look::At(until) if until == deadline));
        assert!(!watch.is_asked());
        assert!(matches!(watch.patrol(deadline), Look::At(until) if until == deadline + GRACE));
        assert!(watch.is_asked() && !watch.is_over());
        assert!(matches!(watch.patrol(deadline + GRACE), Look::Remind));
        assert!(watch.is_over());
        assert_eq!(watched.end(), Some(Why::TimedOut));
        assert!(!watch.is_asked() && !watch.stop(AttemptId(1)));
        let watched = watch.begin(AttemptId(2), deadline);
        assert!(!watch.stop(AttemptId(1)) && watch.stop(AttemptId(2)) && watch.is_asked());
        drop(watched);
        assert!(matches!(watch.patrol(LATER), Look::At(Moment::NEVER)));
    }
}
