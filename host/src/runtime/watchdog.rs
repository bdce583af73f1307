//! The watchdog: ends attempts that ran too long or that were stopped.
//!
//! Several threads work together here. A slot registers its attempt and deadline with an [`AttemptTimer`]; the watchdog
//! thread or a [`Stopper`] ends the attempt; the guest stops at its next epoch check or, while it waits in the host, by
//! [`AttemptTimer::expired`].
//!
//! An attempt costs two uncontended locks. The thread sleeps until the earliest deadline and is woken only for an
//! earlier one, so it needs no processor time while idle.
//!
//! Invariants: an attempt is first *requested* to end, which the guest can see by `is-cancelled`, and *expires*
//! [`CANCEL_GRACE`] later. Ending one attempt never affects the next, because both sides compare and change the current
//! attempt under one lock.

use std::{
    fmt, io, mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    thread::{self, Thread},
    time::Duration,
};

use futures::task::AtomicWaker;
use wasmtime::Engine;

use super::{AttemptId, cpu_clock::CpuClock};
use crate::{
    clock::{Moment, Now},
    lock::lock,
};

/// Time for the guest to end by itself between the request and the end.
const CANCEL_GRACE: Duration = Duration::from_millis(10);
/// Interval of the epoch increments while an expired attempt still runs. One increment can be lost:
/// the guest may check its state just before it, and set its next epoch just after it.
const EPOCH_INTERVAL: Duration = Duration::from_millis(5);

/// Minimum interval between two checks of the CPU time of an attempt, which may wait with little of it left.
const CPU_CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// The reason why the host ended an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndReason {
    /// Its deadline passed.
    TimedOut,
    /// It used too much CPU time.
    CpuTime,
    /// It waited in calls of the host for too long.
    HostTime,
    /// It was stopped by a [`Stopper`].
    Stopped,
}

/// The phase of the attempt that a slot runs.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The slot runs nothing.
    Idle,
    /// The attempt may run until its deadline, or until it has used its CPU time.
    Running { deadline: Moment, cpu: Option<CpuBudget> },
    /// The attempt was requested to end, and may do so until it expires.
    CancelRequested { reason: EndReason, expires_at: Moment },
    /// The attempt must end now.
    Expired { reason: EndReason },
}

/// The CPU time that an attempt may use.
#[derive(Clone, Copy, Debug)]
struct CpuBudget {
    clock: CpuClock,
    /// What the clock shows when it is used up.
    end: Duration,
    /// When it can be used up, if the thread runs all the time until then.
    check_at: Moment,
}

impl CpuBudget {
    /// The budget of an attempt that this thread runs from now on.
    fn new(max: Duration) -> Option<Self> {
        let clock = CpuClock::of_this_thread()?;
        Some(Self { clock, end: clock.read()? + max, check_at: Now::read().mono + max })
    }

    /// Whether it is used up. Otherwise it is checked again when it can be.
    fn is_used_up(&mut self, now: Moment) -> bool {
        if self.check_at > now {
            return false;
        }
        let left = self.clock.read().map_or(Duration::ZERO, |used| self.end.saturating_sub(used));
        self.check_at = now + left.max(CPU_CHECK_INTERVAL);
        left.is_zero()
    }
}

struct Current {
    attempt: AttemptId,
    phase: Phase,
}

/// The attempt that a slot runs, and its deadline.
pub(super) struct AttemptTimer {
    current: Mutex<Current>,
    /// Wakes the slot's thread while it waits in the host.
    waker: AtomicWaker,
    watchdog: Arc<Shared>,
}

impl AttemptTimer {
    fn lock(&self) -> MutexGuard<'_, Current> {
        lock(&self.current)
    }

    /// Starts the time of `attempt`, which this thread may run until `deadline`, for `cpu_time_max` of CPU time.
    pub(super) fn begin(
        &self,
        attempt: AttemptId,
        deadline: Moment,
        cpu_time_max: Option<Duration>,
    ) -> AttemptGuard<'_> {
        let cpu = cpu_time_max.and_then(CpuBudget::new);
        *self.lock() = Current { attempt, phase: Phase::Running { deadline, cpu } };
        self.watchdog.wake_before(cpu.map_or(deadline, |cpu| cpu.check_at.min(deadline)));
        AttemptGuard { timer: self, has_ended: false }
    }

    /// Whether the attempt was requested to end.
    pub(super) fn is_cancel_requested(&self) -> bool {
        matches!(self.lock().phase, Phase::CancelRequested { .. } | Phase::Expired { .. })
    }

    /// Whether the attempt must end now.
    pub(super) fn is_expired(&self) -> bool {
        matches!(self.lock().phase, Phase::Expired { .. })
    }

    /// Ready when the attempt must end.
    pub(super) fn poll_expired(&self, context: &Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        if self.is_expired() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The attempt must end now, unless it was requested to end before.
    pub(super) fn expire(&self, reason: EndReason) {
        let mut current = self.lock();
        if let Phase::Running { .. } = current.phase {
            current.phase = Phase::Expired { reason };
        }
    }

    /// Moves the attempt to its next phase if that is due.
    fn check(&self, now: Moment) -> NextCheck {
        let mut current = self.lock();
        if let Phase::Running { deadline, cpu } = &mut current.phase {
            let deadline = *deadline;
            if deadline <= now {
                let expires_at = deadline + CANCEL_GRACE;
                current.phase = Phase::CancelRequested { reason: EndReason::TimedOut, expires_at };
            } else if cpu.as_mut().is_some_and(|cpu| cpu.is_used_up(now)) {
                current.phase = Phase::CancelRequested { reason: EndReason::CpuTime, expires_at: now + CANCEL_GRACE };
            }
        }
        if let Phase::CancelRequested { reason, expires_at } = current.phase
            && expires_at <= now
        {
            current.phase = Phase::Expired { reason };
        }
        match current.phase {
            Phase::Idle => NextCheck::At(Moment::NEVER),
            Phase::Running { deadline, cpu } => NextCheck::At(cpu.map_or(deadline, |cpu| cpu.check_at.min(deadline))),
            Phase::CancelRequested { expires_at, .. } => NextCheck::At(expires_at),
            Phase::Expired { .. } => NextCheck::Overdue,
        }
    }

    fn stop(&self, attempt: AttemptId) -> bool {
        let mut current = self.lock();
        if current.attempt != attempt {
            return false;
        }
        let reason = EndReason::Stopped;
        current.phase = match current.phase {
            Phase::Idle => return false,
            Phase::Running { .. } => Phase::CancelRequested { reason, expires_at: Now::read().mono + CANCEL_GRACE },
            Phase::CancelRequested { expires_at, .. } => Phase::CancelRequested { reason, expires_at },
            Phase::Expired { .. } => Phase::Expired { reason },
        };
        drop(current);
        self.watchdog.wake();
        true
    }
}

/// The time when to check a slot again.
enum NextCheck {
    /// There is nothing to do before this time.
    At(Moment),
    /// Its attempt has expired and has not ended yet.
    Overdue,
}

/// A running attempt. The timer stops at its end, also when it is dropped without [`Self::end`].
pub(super) struct AttemptGuard<'a> {
    timer: &'a AttemptTimer,
    has_ended: bool,
}

impl AttemptGuard<'_> {
    /// Stops the timer, and returns why the attempt was requested to end, if it was.
    pub(super) fn end(mut self) -> Option<EndReason> {
        self.has_ended = true;
        match mem::replace(&mut self.timer.lock().phase, Phase::Idle) {
            Phase::CancelRequested { reason, .. } | Phase::Expired { reason } => Some(reason),
            Phase::Idle | Phase::Running { .. } => None,
        }
    }
}

impl Drop for AttemptGuard<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.timer.lock().phase = Phase::Idle;
        }
    }
}

/// Stops the attempt that a slot runs, from any thread.
#[derive(Clone)]
pub struct Stopper(Arc<AttemptTimer>);

impl Stopper {
    pub(super) fn of(timer: &Arc<AttemptTimer>) -> Self {
        Self(Arc::clone(timer))
    }

    /// Stops `attempt` and returns true if it is the one that the slot runs now. It ends within about 10 ms, as
    /// [`Outcome::Stopped`](crate::task::Outcome::Stopped).
    pub fn stop(&self, attempt: AttemptId) -> bool {
        self.0.stop(attempt)
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stopper").field(&self.0.lock().attempt).finish()
    }
}

/// The state that the watchdog thread shares with the slots.
struct Shared {
    timers: Mutex<Vec<Weak<AttemptTimer>>>,
    /// The time when the thread wakes up by itself, in microseconds. While it checks the timers this is "never", so an
    /// attempt that starts in that time wakes it.
    sleeps_until: AtomicU64,
    is_stopped: AtomicBool,
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

    fn timers(&self) -> MutexGuard<'_, Vec<Weak<AttemptTimer>>> {
        lock(&self.timers)
    }

    /// Checks every slot once, and returns when to check again.
    fn check_all(&self, engines: &[Engine]) -> Moment {
        let now = Now::read().mono;
        let mut next = Moment::NEVER;
        let mut overdue = Vec::new();
        self.timers().retain(|timer| {
            let Some(timer) = timer.upgrade() else { return false };
            match timer.check(now) {
                NextCheck::At(time) => next = next.min(time),
                NextCheck::Overdue => overdue.push(timer),
            }
            true
        });
        if overdue.is_empty() {
            return next;
        }
        engines.iter().for_each(Engine::increment_epoch);
        for timer in overdue {
            timer.waker.wake();
        }
        next.min(now + EPOCH_INTERVAL)
    }

    fn run(&self, engines: &[Engine]) {
        while !self.is_stopped.load(SeqCst) {
            self.sleeps_until.store(Moment::NEVER.micros(), SeqCst);
            let next = self.check_all(engines);
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
    /// Starts the thread. `engines` are those whose epochs it increments.
    pub(super) fn start(engines: Vec<Engine>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            timers: Mutex::default(),
            sleeps_until: AtomicU64::new(u64::MAX),
            is_stopped: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("watchdog".into()).spawn(move || for_thread.run(&engines))?;
        // This is the only place that sets it.
        let _ = shared.thread.set(thread.thread().clone());
        Ok(Self(shared))
    }

    /// A timer for one slot, which the thread checks until it is dropped.
    pub(super) fn timer(&self) -> Arc<AttemptTimer> {
        let current = Mutex::new(Current { attempt: AttemptId(0), phase: Phase::Idle });
        let timer = Arc::new(AttemptTimer { current, waker: AtomicWaker::new(), watchdog: Arc::clone(&self.0) });
        self.0.timers().push(Arc::downgrade(&timer));
        timer
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.is_stopped.store(true, SeqCst);
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Moment = Moment::from_micros(1_000_000);

    #[test]
    fn an_attempt_is_requested_to_end_before_it_expires() {
        let watchdog = Watchdog::start(Vec::new()).expect("a thread");
        let timer = watchdog.timer();
        let deadline = Now::read().mono + Duration::from_hours(1);
        let guard = timer.begin(AttemptId(1), deadline, None);
        assert!(matches!(timer.check(LATER), NextCheck::At(at) if at == deadline));
        assert!(!timer.is_cancel_requested());
        assert!(matches!(timer.check(deadline), NextCheck::At(at) if at == deadline + CANCEL_GRACE));
        assert!(timer.is_cancel_requested() && !timer.is_expired());
        assert!(matches!(timer.check(deadline + CANCEL_GRACE), NextCheck::Overdue));
        assert!(timer.is_expired());
        assert_eq!(guard.end(), Some(EndReason::TimedOut));
        assert!(!timer.is_cancel_requested() && !timer.stop(AttemptId(1)));
        let guard = timer.begin(AttemptId(2), deadline, None);
        assert!(!timer.stop(AttemptId(1)) && timer.stop(AttemptId(2)) && timer.is_cancel_requested());
        drop(guard);
        assert!(matches!(timer.check(LATER), NextCheck::At(Moment::NEVER)));
    }

    #[test]
    fn an_attempt_ends_when_its_thread_has_used_its_cpu_time() {
        let watchdog = Watchdog::start(Vec::new()).expect("a thread");
        let timer = watchdog.timer();
        let deadline = Now::read().mono + Duration::from_hours(1);
        let guard = timer.begin(AttemptId(1), deadline, Some(Duration::from_millis(20)));
        crate::clock::pause(Duration::from_millis(30));
        assert!(matches!(timer.check(Now::read().mono), NextCheck::At(at) if at < deadline));
        assert!(!timer.is_cancel_requested(), "waiting takes no CPU time");
        while !timer.is_expired() {}
        assert_eq!(guard.end(), Some(EndReason::CpuTime));
    }
}
