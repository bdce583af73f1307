//! One timer, a sleeping `Aio`, for the deadlines of many operations.
//!
//! NNG has its own timeouts, but setting one while no earlier one is pending wakes a thread, and so twice per call: a
//! fifth of a round trip on two cores. This timer sleeps until the earliest known deadline; mostly all operations have
//! ended by then. Invariant: `next` is no later than any deadline, or a run is in progress that will see that deadline.

use std::{
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use ::nng::{Aio, Error};

use crate::lock::lock;

/// A time that is never reached.
pub(super) const NEVER: Tick = Tick(u64::MAX);

/// A time, in milliseconds of its [`DeadlineTimer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u64);

impl Tick {
    /// The time when a [`DeadlineTimer`] was created.
    pub(super) const ZERO: Tick = Tick(0);

    /// The time `duration` later.
    pub(super) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Converts it to a number that can be shared between threads.
    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`Tick::to_bits`].
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// A timer for many deadlines. Call `add` and `run_due` only while the close guard of its socket is open, as they post
/// operations.
#[derive(Debug)]
pub(super) struct DeadlineTimer {
    zero: Instant,
    aio: OnceLock<Aio>,
    /// When it runs next. Written under the lock of `is_active` only.
    next: AtomicU64,
    /// Whether it sleeps or runs.
    is_active: Mutex<bool>,
}

impl DeadlineTimer {
    pub(super) fn new() -> Self {
        Self { zero: Instant::now(), aio: OnceLock::new(), next: AtomicU64::new(NEVER.0), is_active: Mutex::default() }
    }

    /// Creates its `Aio`. Every call of `on_wake` must end in [`DeadlineTimer::run_due`].
    pub(super) fn set_up(&self, on_wake: impl Fn() + Send + Sync + 'static) -> Result<(), Error> {
        let aio = Aio::new(move |_, _| on_wake())?;
        self.aio.get_or_init(|| aio);
        Ok(())
    }

    pub(super) fn aio(&self) -> Option<&Aio> {
        self.aio.get()
    }

    /// The current time.
    pub(super) fn now(&self) -> Tick {
        Tick(millis(self.zero.elapsed()))
    }

    /// The time at which `limit` has passed from now.
    pub(super) fn after(&self, limit: Duration) -> Tick {
        Tick(millis(self.zero.elapsed().saturating_add(limit)).saturating_add(1))
    }

    /// Runs at `until` at the latest. The operation with this deadline must be visible to `run` already.
    pub(super) fn add(&self, until: Tick) -> Result<(), Error> {
        if self.next.load(SeqCst) <= until.0 {
            return Ok(());
        }
        let mut is_active = lock(&self.is_active);
        if self.next.load(SeqCst) <= until.0 {
            return Ok(());
        }
        self.next.store(until.0, SeqCst);
        let Some(aio) = self.aio.get() else { return Err(Error::Closed) };
        if *is_active {
            // It wakes, runs, and sleeps until the new deadline. If it runs already, it sees `next` when it is
            // done.
            aio.cancel();
            return Ok(());
        }
        *is_active = true;
        aio.sleep(self.time_until(until))
    }

    /// Calls `run` with the current time, to end what is due and to return the earliest remaining deadline. Then sleeps
    /// again.
    pub(super) fn run_due(&self, run: impl FnOnce(Tick) -> Tick) -> Result<(), Error> {
        let guard = lock(&self.is_active);
        self.next.store(NEVER.0, SeqCst);
        drop(guard);
        let earliest = run(self.now());
        let mut is_active = lock(&self.is_active);
        let next = earliest.min(Tick(self.next.load(SeqCst)));
        self.next.store(next.0, SeqCst);
        *is_active = next != NEVER;
        match self.aio.get() {
            Some(aio) if *is_active => aio.sleep(self.time_until(next)),
            _ => Ok(()),
        }
    }

    /// Adds two milliseconds, as NNG and its crate both round down: waking up early is useless.
    fn time_until(&self, tick: Tick) -> Duration {
        Duration::from_millis(tick.0.saturating_add(2)).saturating_sub(self.zero.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
