//! Tasks that try to crash their worker: each fails alone, within a time limit, with its error kind.

use std::time::{Duration, Instant};

use fastworker::{
    client::Client,
    task::{ErrorKind, TaskPriority, TaskResult, TaskStatus},
};
use fastworker_tests::{
    Cluster, eventually,
    task_helpers::{self, expect_success},
};
use serde::Serialize;

/// Time limit of a hostile task. Most take milliseconds; filling the memory takes longer.
const BOUND: Duration = Duration::from_mins(1);
/// Longer than any task needs, so that each ends with its own error kind instead of a timeout.
const TASK_TIMEOUT: Duration = Duration::from_secs(30);
/// Allowed growth of a worker's memory after hostile tasks.
const BACK_WITHIN_BYTES: u64 = 8 << 20;
/// Time until that memory is freed.
const BACK_WITHIN: Duration = Duration::from_secs(20);

fn cluster() -> Cluster {
    Cluster::builder().modules(&["hostile", "arithmetic"]).subworkers(1).slots(2).start()
}

/// Runs a hostile task, which must fail with this error kind.
async fn expect_failure(client: &Client, name: &str, args: impl Serialize, kind: ErrorKind) -> TaskResult {
    let started = Instant::now();
    let call = client.submit_task(name, args).task_timeout(TASK_TIMEOUT);
    let result = call.await.expect("result expected");
    assert_eq!((result.status, result.error_kind), (TaskStatus::Failure, Some(kind)), "{name}: {result:?}");
    assert!(started.elapsed() < BOUND, "{name} took {:?}", started.elapsed());
    let error = result.error.as_deref().unwrap_or_default();
    assert!(!error.is_empty() && error.len() < 200_000, "{name}: {} bytes of error", error.len());
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hostile_task_fails_alone_and_the_worker_continues() {
    let mut cluster = cluster();
    let client = cluster.client().await;
    let late =
        client.submit_task("endless_loop", ()).task_timeout(Duration::from_millis(100)).await.expect("result expected");
    assert_eq!(late.error_kind, Some(ErrorKind::Timeout));
    let late = client
        .submit_task("endless_sleep", ())
        .task_timeout(Duration::from_millis(100))
        .await
        .expect("result expected");
    assert_eq!(late.error_kind, Some(ErrorKind::Timeout));
    let late = client
        .submit_task("progress_flood", ())
        .task_timeout(Duration::from_millis(300))
        .await
        .expect("result expected");
    assert_eq!(late.error_kind, Some(ErrorKind::Timeout));

    let full = expect_failure(&client, "memory_hog", (), ErrorKind::OutOfMemory).await;
    assert!(full.error.as_deref().is_some_and(|error| error.contains("512 MiB")), "{full:?}");
    expect_failure(&client, "deep_recursion", (), ErrorKind::StackOverflow).await;
    expect_failure(&client, "output_flood", (), ErrorKind::OutputLimit).await;
    expect_failure(&client, "log_flood", (), ErrorKind::LogLimit).await;
    let huge = expect_failure(&client, "huge_result", (17 << 20,), ErrorKind::ResultLimit).await;
    assert!(huge.error.as_deref().is_some_and(|error| error.contains("15.9 MiB")), "{huge:?}");
    expect_failure(&client, "huge_error", (20 << 20,), ErrorKind::Failed).await;
    expect_failure(&client, "exit_now", (3,), ErrorKind::Failed).await;
    expect_failure(&client, "follow_up_flood", (), ErrorKind::Failed).await;

    // Values just within the limits succeed.
    assert_eq!(expect_success(&client.submit_task("memory_hog", (100,)).await.expect("result expected")), "100");
    assert_eq!(expect_success(&client.submit_task("deep_recursion", (1000,)).await.expect("result expected")), "1000");
    let large = client.submit_task("huge_result", (15 << 20,)).await.expect("result expected");
    assert_eq!(expect_success(&large).len(), (15 << 20) + 2);

    assert!(cluster.subworkers[0].is_running());
    let sum = client.submit_task("add", (5, 3)).await.expect("result expected");
    assert_eq!((expect_success(&sum), sum.worker_id.as_deref()), ("8", Some("sw1")));
    let workers = client.list_tasks().await.expect("reply expected");
    assert_eq!(workers.len(), 1, "{workers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_reported_with_its_message_and_functions() {
    let cluster = cluster();
    let client = cluster.client().await;
    let trap = expect_failure(&client, "panic_now", ("out of patience",), ErrorKind::Trap).await;
    let error = trap.error.expect("error expected");
    assert!(error.starts_with("panicked at "), "{error}");
    assert!(error.contains("out of patience"), "{error}");
    assert!(error.contains("hostile::panic_now"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_memory_is_freed_after_hostile_tasks() {
    let cluster = cluster();
    let client = cluster.client().await;
    let worker = &cluster.subworkers[0];
    // Warm up pools and buffers, which a worker keeps.
    for _ in 0..2 {
        client.submit_task("memory_hog", (1,)).await.expect("result expected");
        client.submit_task("huge_result", (1 << 20,)).await.expect("result expected");
        client.submit_task("add", (5, 3)).await.expect("result expected");
    }
    let before = worker.memory();
    for _ in 0..2 {
        let hostile: [(&str, ErrorKind); 5] = [
            ("memory_hog", ErrorKind::OutOfMemory),
            ("deep_recursion", ErrorKind::StackOverflow),
            ("output_flood", ErrorKind::OutputLimit),
            ("log_flood", ErrorKind::LogLimit),
            ("panic_now", ErrorKind::Trap),
        ];
        futures::future::join_all(hostile.map(|(name, kind)| expect_failure(&client, name, (), kind))).await;
        expect_failure(&client, "huge_result", (17 << 20,), ErrorKind::ResultLimit).await;
    }
    let after = || worker.memory().saturating_sub(before);
    let what = format!("memory within {BACK_WITHIN_BYTES} bytes of {before}, {} bytes over at first", after());
    eventually(&what, BACK_WITHIN, || (after() <= BACK_WITHIN_BYTES).then_some(()));
}

/// Compares the p99 of small tasks alone and alongside hostile ones, measured in turns so that other load affects both:
/// the best quarter alongside them with the median alone.
#[tokio::test(flavor = "multi_thread")]
async fn small_tasks_are_hardly_slower_alongside_hostile_ones() {
    const ROUNDS: usize = 5;
    /// Below this time, the ratio only measures the scheduler.
    const FLOOR: Duration = Duration::from_millis(12);
    let cluster = cluster();
    let client = cluster.client().await;
    let (mut alone, mut alongside) = (Vec::new(), Vec::new());
    p99_of_small_tasks(&client).await;
    for _ in 0..ROUNDS {
        alone.push(p99_of_small_tasks(&client).await);
        let stream = tokio::spawn(hostile_stream(cluster.client().await));
        let busy = |workers: &[fastworker::protocol::WorkerInfo]| workers[0].load > 0;
        cluster.wait_for_workers(&client, "hostile tasks run", busy).await;
        alongside.push(p99_of_small_tasks(&client).await);
        stream.abort();
        let idle = |workers: &[fastworker::protocol::WorkerInfo]| workers[0].load == 0;
        cluster.wait_for_workers(&client, "hostile tasks end", idle).await;
    }
    alone.sort();
    alongside.sort();
    let (alone, alongside) = (alone[ROUNDS / 2], alongside[ROUNDS / 4]);
    assert!(alongside <= (3 * alone).max(FLOOR), "alone {alone:?}, alongside hostile tasks {alongside:?}");
}

async fn p99_of_small_tasks(client: &Client) -> Duration {
    let mut took = Vec::new();
    for number in 0..200 {
        let from = Instant::now();
        let call = client.submit_task("add", (number, 1)).priority(TaskPriority::High);
        let sum = call.await.expect("result expected");
        took.push(from.elapsed());
        assert_eq!(expect_success(&sum), (number + 1).to_string());
    }
    took.sort();
    took[took.len() * 99 / 100]
}

/// Runs hostile tasks one after another, which occupies one of the two slots.
async fn hostile_stream(client: Client) {
    let limit = Duration::from_millis(50);
    for name in
        ["endless_loop", "memory_hog", "deep_recursion", "log_flood", "panic_now", "endless_sleep"].iter().cycle()
    {
        let call = client.submit_task(name, ()).priority(TaskPriority::Low).task_timeout(limit);
        assert_eq!(call.await.expect("result expected").status, TaskStatus::Failure);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_submits_no_follow_ups() {
    let cluster = Cluster::builder().modules(&["follow"]).subworkers(1).start();
    let client = cluster.client().await;
    let failed = client.delay("spread", (3, true)).await.expect("task accepted");
    assert_eq!(task_helpers::wait_for_result(&client, &failed).await.status, TaskStatus::Failure);
    for number in 0..3 {
        assert_eq!(client.get_task_result(&failed.follow_up(number)).await.expect("reply expected"), None);
    }
}
