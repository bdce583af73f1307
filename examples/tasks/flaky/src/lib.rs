//! Example: a failed task is retried according to its policy, after a delay that it chooses, or not at
//! all.

use std::time::Duration;

use fastworker_guest::context::attempt;
use fastworker_guest::{TaskError, task, warn};
use serde::Serialize;

/// Fails `fail_times` times, then returns the number of the attempt that succeeded.
#[task(max_retries = 5, retry_delay = "100ms", retry_backoff = 2.0, retry_backoff_max = "1s")]
fn flaky(fail_times: u32) -> Result<u32, TaskError> {
    if attempt() <= fail_times {
        warn!("attempt {} fails as requested", attempt());
        return Err(TaskError::failed(format!("attempt {} of {fail_times} that fail", attempt())));
    }
    Ok(attempt())
}

/// Fails the first time and requests a retry after `ms` milliseconds.
#[task(max_retries = 5, retry_delay = "100ms")]
fn flaky_after(ms: u64) -> Result<u32, TaskError> {
    if attempt() == 1 {
        let delay = Duration::from_millis(ms);
        return Err(TaskError::retry_after("busy, come back later", delay));
    }
    Ok(attempt())
}

/// Refuses its argument, which is never retried.
#[task(max_retries = 5)]
fn picky(value: i64) -> Result<i64, TaskError> {
    Err(TaskError::bad_arguments(format!("argument 'value': {value} is not to my taste")))
}

/// Withdraws `amount` from an account with a balance of 100.
///
/// It gives up if the balance is too low, which is never retried. The kind and the details of the error
/// are machine-readable.
#[task(max_retries = 5)]
fn withdraw(amount: u32) -> Result<u32, TaskError> {
    const BALANCE: u32 = 100;
    BALANCE.checked_sub(amount).ok_or_else(|| {
        TaskError::give_up(format!("cannot withdraw {amount}: the balance is {BALANCE}"))
            .with_kind("InsufficientFunds")
            .with_details(&Shortfall { balance: BALANCE, missing: amount - BALANCE })
    })
}

#[derive(Serialize)]
struct Shortfall {
    balance: u32,
    missing: u32,
}

#[cfg(test)]
mod tests {
    use fastworker_guest::Retry;
    use fastworker_guest::testing::{self, Context};

    use super::*;

    #[test]
    fn it_fails_as_often_as_requested() {
        let (second, seen) = Context::new().attempt(2).run(|| flaky(2));
        assert_eq!(second, Err(TaskError::failed("attempt 2 of 2 that fail")));
        assert_eq!(seen.logs.len(), 1);
        let (third, _) = Context::new().attempt(3).run(|| flaky(2));
        assert_eq!(third, Ok(3));
    }

    #[test]
    fn it_chooses_when_to_be_retried() {
        let delay = Duration::from_millis(250);
        let expected = TaskError::retry_after("busy, come back later", delay);
        assert_eq!(flaky_after(250), Err(expected));
    }

    #[test]
    fn it_gives_up_with_a_kind_and_details() {
        assert_eq!(withdraw(30), Ok(70));
        let error = withdraw(130).expect_err("the account has too little");
        assert_eq!((error.retry(), error.kind()), (Retry::Never, "InsufficientFunds"));
        assert_eq!(error.details(), r#"{"balance":100,"missing":30}"#);
    }

    #[test]
    fn the_attribute_becomes_the_policy() {
        let policy = testing::tasks()[0].policy;
        let expected = r#"{"max_retries":5,"retry_delay":0.1,"retry_backoff":2.0,"retry_backoff_max":1.0}"#;
        assert_eq!(policy, expected);
    }
}
