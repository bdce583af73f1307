//! Waiting for a condition, with a deadline.

use std::{
    future::Future,
    thread,
    time::{Duration, Instant},
};

/// Timeout for anything that should happen immediately, generous enough for a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// Interval between two checks of a condition.
const STEP: Duration = Duration::from_millis(5);

/// Polls until `poll` returns a value.
///
/// # Panics
/// With `what` when there is none within `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < until, "not within {limit:?}: {what}");
        thread::park_timeout(STEP);
    }
}

/// Polls until the future of `poll` returns a value.
///
/// # Panics
/// With `what` when there is none within `limit`.
pub async fn eventually_async<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut poll: impl FnMut() -> F,
) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(value) = poll().await {
            return value;
        }
        assert!(Instant::now() < until, "not within {limit:?}: {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// Measures until a round takes less than `limit`, at most `ROUNDS` times: a busy machine makes some rounds slow, a slow
/// program all of them.
///
/// # Panics
/// With `what` when no round is quick enough.
pub async fn assert_best_within<F: Future<Output = Duration>>(
    what: &str,
    limit: Duration,
    mut measure: impl FnMut() -> F,
) {
    const ROUNDS: usize = 4;
    let mut took = Vec::new();
    while took.len() < ROUNDS {
        took.push(measure().await);
        if took.last() < Some(&limit) {
            return;
        }
    }
    panic!("never within {limit:?}, but {took:?}: {what}");
}
