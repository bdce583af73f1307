//! Deadlines of many operations, minded by one sleeping `Aio`.
//!
//! NNG has timeouts of its own, but each that is set while no earlier one is pending wakes a thread,
//! and so twice a call: a fifth of a round trip on two cores. This one sleeps until the earliest
//! deadline it knows of, and mostly finds then that all has ended long ago.
//! Invariant: while something is minded, `next` is no later than its deadline, or a look that will
//! see it is under way.

use std::{
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use ::nng::{Aio, Error};

use crate::lock::lock;

/// A moment that does not come.
pub(super) const NEVER: Tick = Tick(u64::MAX);

/// A moment, in milliseconds of its [`DeadlineTimer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u64);

impl Tick {
    /// The moment at which a [`DeadlineTimer`] begins.
    pub(super) const ZERO: Tick = Tick(0);

    /// The moment this much later.
    pub(super) fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// As a number that can be shared between threads.
    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    /// What [`Tick::to_bits`] made.
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// Looks after deadlines. Its methods that post belong inside the gate of its socket.
#[derive(Debug)]
pub(super) struct DeadlineTimer {
    zero: Instant,
    aio: OnceLock<Aio>,
    /// When it looks next. Written under `asleep` only.
    next: AtomicU64,
    /// Whether its sleep or its look is under way.
    asleep: Mutex<bool>,
}

impl DeadlineTimer {
    pub(super) fn new() -> Self {
        Self { zero: Instant::now(), aio: OnceLock::new(), next: AtomicU64::new(NEVER.0), asleep: Mutex::default() }
    }

    /// Makes its `Aio`, whose every wake-up must end in [`DeadlineTimer::run_due`].
    pub(super) fn set_up(&self, awake: impl Fn() + Send + Sync + 'static) -> Result<(), Error> {
        let aio = Aio::new(move |_, _| awake())?;
        self.aio.get_or_init(|| aio);
        Ok(())
    }

    pub(super) fn aio(&self) -> Option<&Aio> {
        self.aio.get()
    }

    /// This moment.
    pub(super) fn now(&self) -> Tick {
        Tick(millis(self.zero.elapsed()))
    }

    /// A moment at which this much time has passed from now.
    pub(super) fn after(&self, limit: Duration) -> Tick {
        Tick(millis(self.zero.elapsed().saturating_add(limit)).saturating_add(1))
    }

    /// Looks at `until` at the latest. What is due then must be there for the look to see already.
    pub(super) fn add(&self, until: Tick) -> Result<(), Error> {
        if self.next.load(SeqCst) <= until.0 {
            return Ok(());
        }
        let mut asleep = lock(&self.asleep);
        if self.next.load(SeqCst) <= until.0 {
            return Ok(());
        }
        self.next.store(until.0, SeqCst);
        let Some(aio) = self.aio.get() else { return Err(Error::Closed) };
        if *asleep {
            // It wakes, looks, and sleeps again for as long as it should. If it looks already, it
            // will find `next` when it is done.
            aio.cancel();
            return Ok(());
        }
        *asleep = true;
        aio.sleep(self.time_until(until))
    }

    /// Has `look` end what is due by a moment and give the earliest deadline left, and sleeps again.
    pub(super) fn run_due(&self, run: impl FnOnce(Tick) -> Tick) -> Result<(), Error> {
        let begun = lock(&self.asleep);
        self.next.store(NEVER.0, SeqCst);
        drop(begun);
        let earliest = run(self.now());
        let mut asleep = lock(&self.asleep);
        let next = earliest.min(Tick(self.next.load(SeqCst)));
        self.next.store(next.0, SeqCst);
        *asleep = next != NEVER;
        match self.aio.get() {
            Some(aio) if *asleep => aio.sleep(self.time_until(next)),
            _ => Ok(()),
        }
    }

    /// Two milliseconds more, as NNG and its crate both round down: who wakes early looks in vain.
    fn time_until(&self, tick: Tick) -> Duration {
        Duration::from_millis(tick.0.saturating_add(2)).saturating_sub(self.zero.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
