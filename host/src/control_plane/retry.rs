//! Retries: the delay before the next attempt, if there is one.
//!
//! Pure: the jitter is a hash of task and attempt, not random.

use std::time::Duration;

use crate::task::{ErrorKind, Failure, Policy, TaskId};

/// Default delay before the first retry.
pub const RETRY_DELAY_DEFAULT: Duration = Duration::from_mins(1);
/// Default factor by which each further delay grows.
pub const RETRY_BACKOFF_DEFAULT: f64 = 2.0;
/// Default maximum delay between attempts.
pub const RETRY_BACKOFF_MAX_DEFAULT: Duration = Duration::from_hours(1);
/// Maximum delay that a failed attempt can request.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(7 * 24);
/// Maximum jitter, as a fraction of the delay.
pub const JITTER: f64 = 0.25;

/// Returns the delay before the attempt that follows `attempt` (counted from 1). None if that was the last one.
pub fn delay(policy: &Policy, task: &TaskId, attempt: u32, failure: &Failure) -> Option<Duration> {
    let is_retryable = !matches!(
        failure.kind,
        ErrorKind::BadArguments | ErrorKind::GaveUp | ErrorKind::NotFound | ErrorKind::WorkerLost
    );
    if !is_retryable || attempt > policy.max_retries.unwrap_or(0) {
        return None;
    }
    let requested = failure.retry_after.unwrap_or(Duration::ZERO).min(RETRY_AFTER_MAX);
    let delay = policy.retry_delay.unwrap_or(RETRY_DELAY_DEFAULT);
    if delay.is_zero() {
        // Zero times an infinite power is not a number.
        return Some(requested);
    }
    let longest = policy.retry_backoff_max.unwrap_or(RETRY_BACKOFF_MAX_DEFAULT);
    let backoff = policy.retry_backoff.unwrap_or(RETRY_BACKOFF_DEFAULT).max(0.0);
    // A power that overflows is infinite, and is capped like any other delay.
    let grown = delay.as_secs_f64() * backoff.powf(f64::from(attempt - 1)) * (1.0 + JITTER * jitter(task, attempt));
    let wait = Duration::try_from_secs_f64(grown).map_or(longest, |wait| wait.min(longest));
    Some(wait.max(requested))
}

/// Returns a number from 0 to 1, always the same for one attempt of one task.
fn jitter(task: &TaskId, attempt: u32) -> f64 {
    let hash = blake3::hash(format!("{task} {attempt}").as_bytes());
    let [a, b, ..] = *hash.as_bytes();
    f64::from(u16::from_le_bytes([a, b])) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Failure {
        Failure::new(ErrorKind::Failed, "no")
    }

    fn policy(max_retries: u32) -> Policy {
        Policy { max_retries: Some(max_retries), retry_delay: Some(Duration::from_secs(1)), ..Policy::default() }
    }

    #[test]
    fn delays_double_up_to_the_maximum_and_then_stop() {
        let id = TaskId::new();
        let policy = Policy { retry_backoff_max: Some(Duration::from_secs(3)), ..policy(40) };
        let waits: Vec<_> = (1..=41).map(|attempt| delay(&policy, &id, attempt, &failed())).collect();
        let is_within = |wait: Option<Duration>, least: f64| {
            let wait = wait.expect("a retry").as_secs_f64();
            (least..=least * (1.0 + JITTER)).contains(&wait)
        };
        assert!(is_within(waits[0], 1.0) && is_within(waits[1], 2.0));
        assert_eq!(waits[39], Some(Duration::from_secs(3)), "a huge power is capped");
        assert_eq!(waits[40], None, "40 retries are 41 attempts");
    }

    #[test]
    fn bad_arguments_and_tasks_that_gave_up_are_never_retried() {
        for kind in [ErrorKind::BadArguments, ErrorKind::GaveUp] {
            let failure = Failure::new(kind, "no");
            assert_eq!(delay(&policy(5), &TaskId::new(), 1, &failure), None);
        }
    }

    #[test]
    fn a_guest_can_request_a_longer_delay_but_not_more_attempts() {
        let failure = Failure { retry_after: Some(Duration::from_mins(10)), ..failed() };
        assert_eq!(delay(&policy(1), &TaskId::new(), 1, &failure), Some(Duration::from_mins(10)));
        assert_eq!(delay(&policy(1), &TaskId::new(), 2, &failure), None);
    }

    #[test]
    fn the_delay_that_a_guest_requests_is_bounded() {
        let failure = Failure { retry_after: Some(Duration::from_millis(u64::MAX)), ..failed() };
        assert_eq!(delay(&policy(1), &TaskId::new(), 1, &failure), Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn a_delay_of_zero_stays_zero_for_every_attempt() {
        let policy = Policy { retry_delay: Some(Duration::ZERO), ..policy(u32::MAX) };
        for attempt in [1, 2, 5_000, u32::MAX] {
            assert_eq!(delay(&policy, &TaskId::new(), attempt, &failed()), Some(Duration::ZERO), "{attempt}");
        }
    }
}
