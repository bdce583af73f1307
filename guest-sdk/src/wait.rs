//! Waiting in async tasks: one future at a time, and timers for it to wait on.
//!
//! A guest has one thread and the host stops it at its deadline, so there is nothing to schedule:
//! [`block_on`] polls, and when the future waits it sleeps until the next timer.

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

/// Waits without stopping the other futures of the task, such as those of a `join`.
///
/// In a task that is not async use [`std::thread::sleep`].
pub fn sleep(duration: Duration) -> Sleep {
    Sleep {
        // A wait too long to be counted ends when the deadline stops the attempt.
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

/// A future waits, but neither on a [`sleep`] nor on anything else that could wake it, so it
/// would wait for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitsOnNothing;

/// Runs a future to its end. `#[task]` does this for an `async fn`.
///
/// # Errors
/// [`WaitsOnNothing`] if the future waits and nothing can wake it any more.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, WaitsOnNothing> {
    let woken = Arc::new(Woken(AtomicBool::new(false)));
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
        self.forget_timer();
        let now = Instant::now();
        let until = self.until.unwrap_or_else(|| now + A_DAY);
        if until <= now {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        self.timer = Some(TIMERS.with_borrow_mut(|timers| timers.add(until, waker)));
        Poll::Pending
    }
}

impl Sleep {
    fn forget_timer(&mut self) {
        if let Some(key) = self.timer.take() {
            TIMERS.with_borrow_mut(|timers| timers.waiting.remove(&key));
        }
    }
}

impl Drop for Sleep {
    // A timer that outlives its future would make `block_on` sleep for nobody.
    fn drop(&mut self) {
        self.forget_timer();
    }
}

const A_DAY: Duration = Duration::from_hours(24);

/// When, and a number that tells apart timers of the same moment.
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

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl fmt::Display for WaitsOnNothing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "the task waits on nothing: its future is pending and no fastworker_guest::sleep is \
             under way that could wake it",
        )
    }
}

impl std::error::Error for WaitsOnNothing {}
