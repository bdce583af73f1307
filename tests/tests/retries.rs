//! Failed attempts and retries.

use std::time::{Duration, Instant};

use fastworker::task::{ErrorKind, TaskStatus};
use fastworker_tests::{Cluster, Transcript, task_helpers::expect_success};

fn cluster() -> Cluster {
    Cluster::builder().modules(&["flaky", "hostile", "slow"]).subworkers(1).slots(2).without_unknown_grace().start()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flaky_task_succeeds_after_its_retries() {
    let cluster = cluster();
    let client = cluster.client().await;
    let started = Instant::now();
    let result = client.submit_task("flaky", (2,)).await.expect("result expected");
    assert_eq!((expect_success(&result), result.attempts), ("3", 3));
    // The policy of the module: 100 ms, then 200 ms, each lengthened by up to a quarter.
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    let first_time = client.submit_task("flaky", (0,)).await.expect("result expected");
    assert_eq!((expect_success(&first_time), first_time.attempts), ("1", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_is_that_of_the_last_attempt() {
    let cluster = cluster();
    let client = cluster.client().await;
    let call = client.submit_task("flaky", (100,)).retry_delay(Duration::from_millis(1));
    let result = call.await.expect("result expected");
    assert_eq!((result.status, result.error_kind, result.attempts), (TaskStatus::Failure, Some(ErrorKind::Failed), 6));
    assert_eq!(result.error.as_deref(), Some("attempt 6 of 100 that fail"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_the_submitter_overrides_that_of_the_module() {
    let cluster = cluster();
    let client = cluster.client().await;
    let none = client.submit_task("flaky", (1,)).max_retries(0).await.expect("result expected");
    assert_eq!((none.status, none.attempts), (TaskStatus::Failure, 1));
    let call = client.submit_task("flaky", (8,)).max_retries(8).retry_delay(Duration::from_millis(1));
    let more = call.await.expect("result expected");
    assert_eq!((expect_success(&more), more.attempts), ("9", 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_with_retry_after_is_not_retried_earlier() {
    let cluster = cluster();
    let client = cluster.client().await;
    let started = Instant::now();
    let result = client.submit_task("flaky_after", (600,)).await.expect("result expected");
    assert_eq!((expect_success(&result), result.attempts), ("2", 2));
    assert!(started.elapsed() >= Duration::from_millis(600), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_failures_are_not_retried() {
    let cluster = cluster();
    let client = cluster.client().await;
    let picky = client.submit_task("picky", (7,)).await.expect("result expected");
    assert_eq!((picky.error_kind, picky.attempts), (Some(ErrorKind::BadArguments), 1));
    let missing = client.submit_task("flaky", ()).await.expect("result expected");
    assert_eq!((missing.error_kind, missing.attempts), (Some(ErrorKind::BadArguments), 0));
    let unknown = client.submit_task("flakey", ()).max_retries(3).await.expect("result expected");
    assert_eq!((unknown.error_kind, unknown.attempts), (Some(ErrorKind::NotFound), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_gives_up_is_not_retried_and_its_result_states_why() {
    let cluster = cluster();
    let client = cluster.client().await;
    let result = client.submit_task("withdraw", (130,)).max_retries(3).await.expect("result expected");
    assert_eq!((result.error_kind, result.attempts), (Some(ErrorKind::GaveUp), 1));
    assert_eq!(result.error.as_deref(), Some("cannot withdraw 130: the balance is 100"));
    let expected = r#"{"failure":{"kind":"InsufficientFunds","details":{"balance":100,"missing":30}}}"#;
    assert_eq!(result.metadata.as_str(), expected);
    let ran = cluster.cli(["submit", "--task-name", "withdraw", "--args", "130"]).with_code(1);
    let mut errors = Transcript::new();
    errors.add(&ran);
    errors.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn panics_and_timeouts_are_retried() {
    let cluster = cluster();
    let client = cluster.client().await;
    let delay = Duration::from_millis(1);
    let panicked =
        client.submit_task("panic_now", ()).max_retries(2).retry_delay(delay).await.expect("result expected");
    assert_eq!((panicked.error_kind, panicked.attempts), (Some(ErrorKind::Trap), 3));
    let limit = Duration::from_millis(50);
    let call = client.submit_task("endless_loop", ()).max_retries(1).retry_delay(delay).task_timeout(limit);
    let late = call.await.expect("result expected");
    assert_eq!((late.error_kind, late.attempts), (Some(ErrorKind::Timeout), 2));
    assert_eq!(late.error.as_deref(), Some("Task timed out after 0.05s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_computing_and_waiting_tasks() {
    let cluster = cluster();
    let client = cluster.client().await;
    for name in ["endless_loop", "endless_sleep"] {
        let started = Instant::now();
        let late =
            client.submit_task(name, ()).task_timeout(Duration::from_millis(100)).await.expect("result expected");
        assert_eq!((late.status, late.error_kind), (TaskStatus::Failure, Some(ErrorKind::Timeout)));
        let took = started.elapsed();
        // Nothing else would end it before five minutes; a busy machine may take a while.
        assert!(took >= Duration::from_millis(100) && took < Duration::from_mins(1), "{name} {took:?}");
    }
    // Time that passes between attempts, or before the first, does not count.
    let (limit, longer) = (Duration::from_millis(500), Duration::from_millis(600));
    let call = client.submit_task("flaky", (1,)).task_timeout(limit).retry_delay(longer);
    let patient = call.countdown(longer).await.expect("result expected");
    // Attempts are longer on a slow machine.
    assert!(patient.attempts >= 2, "{patient:?}");
    expect_success(&patient);
}
