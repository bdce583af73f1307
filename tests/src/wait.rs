//! Waiting for a condition, with a deadline.

use std::{
    future::Future,
    thread,
    time::{Duration, Instant},
};

/// Long enough for what should happen at once, on a machine that does much else.
pub const SOON: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

/// Asks until there is an answer.
///
/// # Panics
/// With `what` when there is none within `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "{what}: not within {limit:?}");
        thread::park_timeout(STEP);
    }
}

/// Awaits until there is an answer.
///
/// # Panics
/// With `what` when there is none within `limit`.
pub async fn eventually_async<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "{what}: not within {limit:?}");
        tokio::time::sleep(STEP).await;
    }
}

/// Measures until something takes less than `limit`, at most `ROUNDS` times: a busy machine makes a
/// round slow, a slow program makes all of them slow.
///
/// # Panics
/// With `what` when no round is so quick.
pub async fn at_best<F: Future<Output = Duration>>(what: &str, limit: Duration, mut measure: impl FnMut() -> F) {
    const ROUNDS: usize = 4;
    let mut took = Vec::new();
    while took.len() < ROUNDS {
        took.push(measure().await);
        if took.last() < Some(&limit) {
            return;
        }
    }
    panic!("{what}: never within {limit:?}, but {took:?}");
}
