//! The executor of async tasks: it runs one future and its timers.
//!
//! A guest has one thread, so [`block_on`] needs no scheduler: it polls the future, and while the future
//! waits, sleeps until the next timer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

thread_local! {
    static TIMERS: RefCell<Timers> = const { RefCell::new(Timers::new()) };
}

/// Waits without blocking the other futures of the task, such as those of a `join`.
///
/// In a task that is not async, use [`std::thread::sleep`].
pub fn sleep(duration: Duration) -> Sleep {
    Sleep {
        // A duration beyond the range of `Instant` lasts until the deadline of the attempt.
        until: Instant::now().checked_add(duration),
        timer: None,
    }
}

/// The future of [`sleep`].
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct Sleep {
    until: Option<Instant>,
    timer: Option<TimerKey>,
}

/// A future is pending, but neither a [`sleep`] nor anything else can wake it, so it would wait
/// forever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitsOnNothing;

/// Runs a future to completion. `#[task]` does this for an `async fn`.
///
/// # Errors
/// [`WaitsOnNothing`] if the future is pending and nothing can wake it.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, WaitsOnNothing> {
    let woken = Arc::new(WakeFlag(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        while !woken.0.swap(false, Ordering::Relaxed) {
            let next = TIMERS.with_borrow(Timers::next).ok_or(WaitsOnNothing)?;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            TIMERS.with_borrow_mut(|timers| timers.fire(Instant::now()));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.remove_timer();
        let now = Instant::now();
        let until = self.until.unwrap_or_else(|| now + ONE_DAY);
        if until <= now {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        self.timer = Some(TIMERS.with_borrow_mut(|timers| timers.add(until, waker)));
        Poll::Pending
    }
}

impl Sleep {
    fn remove_timer(&mut self) {
        if let Some(key) = self.timer.take() {
            TIMERS.with_borrow_mut(|timers| timers.waiting.remove(&key));
        }
    }
}

impl Drop for Sleep {
    // A timer that outlives its future would make `block_on` sleep without need.
    fn drop(&mut self) {
        self.remove_timer();
    }
}

const ONE_DAY: Duration = Duration::from_hours(24);

/// The time, and a number that distinguishes timers of the same time.
type TimerKey = (Instant, u64);

struct Timers {
    waiting: BTreeMap<TimerKey, Waker>,
    last_number: u64,
}

impl Timers {
    const fn new() -> Self {
        Self { waiting: BTreeMap::new(), last_number: 0 }
    }

    fn add(&mut self, until: Instant, waker: Waker) -> TimerKey {
        self.last_number += 1;
        let key = (until, self.last_number);
        self.waiting.insert(key, waker);
        key
    }

    fn next(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(until, _)| *until)
    }

    fn fire(&mut self, now: Instant) {
        while let Some(timer) = self.waiting.first_entry()
            && timer.key().0 <= now
        {
            timer.remove().wake();
        }
    }
}

struct WakeFlag(AtomicBool);

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl fmt::Display for WaitsOnNothing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "the task waits on nothing: its future is pending and no fastworker_guest::sleep is \
             active that could wake it",
        )
    }
}

impl std::error::Error for WaitsOnNothing {}
