//! Cancelling: a running or waiting task stops, and its slot runs the next one.

use std::time::{Duration, Instant};

use fastworker::{
    client::Client,
    task::{TaskId, TaskResult, TaskStatus},
};
use fastworker_tests::{Cluster, task_helpers::wait_for_status};

/// Time limit to stop a running task, for the best of some rounds: a busy machine makes some rounds slow, a cancel that
/// waits for a timer all of them.
const STOPPED_WITHIN: Duration = Duration::from_millis(50);
const ROUNDS: usize = 9;

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_on_the_control_plane_is_cancelled() {
    let cluster = Cluster::builder().modules(&["hostile", "arithmetic"]).own_slots(1).start();
    assert_stops_quickly(&cluster, "endless_loop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_on_a_subworker_is_cancelled() {
    let cluster = Cluster::builder().modules(&["hostile", "arithmetic"]).subworkers(1).start();
    assert_stops_quickly(&cluster, "endless_loop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_wait_in_the_host_is_cancelled() {
    let cluster = Cluster::builder().modules(&["hostile", "arithmetic"]).subworkers(1).start();
    assert_stops_quickly(&cluster, "endless_sleep").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_reports_is_cancelled() {
    let cluster = Cluster::builder().modules(&["hostile", "arithmetic"]).subworkers(1).start();
    assert_stops_quickly(&cluster, "progress_flood").await;
}

/// Repeatedly cancels this task on the only slot, for which another task waits.
async fn assert_stops_quickly(cluster: &Cluster, name: &str) {
    let client = cluster.client().await;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let (runs, end) = start(&client, name).await;
        let next = tokio::spawn({
            let client = client.clone();
            async move { client.submit_task("add", (5, 3)).await }
        });
        let from = Instant::now();
        assert!(client.cancel(&runs).await.expect("reply expected"));
        let sum = next.await.expect("no panic expected").expect("result expected");
        times.push(from.elapsed());
        assert_eq!(sum.result.expect("result expected").as_str(), "8");
        let ended = end.await.expect("no panic expected");
        assert_eq!(ended.status, TaskStatus::Cancelled, "{ended:?}");
        assert_eq!(client.get_task_result(&runs).await.expect("reply expected"), Some(ended));
    }
    times.sort();
    assert!(times[0] < STOPPED_WITHIN, "{times:?}");
}

/// Submits a task and waits until it runs. Also returns a wait for its result.
async fn start(client: &Client, name: &str) -> (TaskId, tokio::task::JoinHandle<TaskResult>) {
    let id = TaskId::new();
    let end = tokio::spawn({
        let (client, id, name) = (client.clone(), id.clone(), name.to_owned());
        async move { client.submit_task(&name, ()).task_id(id).await.expect("end expected") }
    });
    wait_for_status(client, &id, TaskStatus::Started).await;
    (id, end)
}

async fn is_cancelled(client: &Client, id: &TaskId) {
    let result = client.get_task_result(id).await.expect("reply expected").expect("end expected");
    assert_eq!((result.status, result.result), (TaskStatus::Cancelled, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_checks_for_cancellation_ends_as_cancelled() {
    let cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let client = cluster.client().await;
    let id = client.delay("slow", (20, 2000)).await.expect("task accepted");
    wait_for_status(&client, &id, TaskStatus::Started).await;
    assert!(client.cancel(&id).await.expect("reply expected"));
    is_cancelled(&client, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_queued_task_never_runs() {
    let cluster = Cluster::builder().modules(&["hostile", "arithmetic"]).subworkers(1).start();
    let client = cluster.client().await;
    let (busy, _end) = start(&client, "endless_loop").await;
    let queued = client.delay("add", (1, 2)).await.expect("task accepted");
    wait_for_status(&client, &queued, TaskStatus::Pending).await;
    assert!(client.cancel(&queued).await.expect("reply expected"));
    is_cancelled(&client, &queued).await;
    assert!(client.cancel(&busy).await.expect("reply expected"));
    let sum = client.submit_task("add", (2, 2)).await.expect("result expected");
    assert_eq!(sum.status, TaskStatus::Success);
    let result = client.get_task_result(&queued).await.expect("reply expected").expect("end expected");
    assert_eq!(result.started_at, None);
    is_cancelled(&client, &queued).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_task_is_cancelled() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(1).start();
    let client = cluster.client().await;
    let id = client.delay("add", (1, 2)).countdown(Duration::from_mins(1)).await.expect("task accepted");
    wait_for_status(&client, &id, TaskStatus::Scheduled).await;
    assert!(client.cancel(&id).await.expect("reply expected"));
    is_cancelled(&client, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_its_next_attempt_is_cancelled() {
    let cluster = Cluster::builder().modules(&["flaky"]).subworkers(1).start();
    let client = cluster.client().await;
    let id = client.delay("flaky", (3,)).retry_delay(Duration::from_mins(1)).await.expect("task accepted");
    wait_for_status(&client, &id, TaskStatus::Retrying).await;
    assert!(client.cancel(&id).await.expect("reply expected"));
    is_cancelled(&client, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_and_unknown_tasks_cannot_be_cancelled() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(1).start();
    let client = cluster.client().await;
    let sum = client.submit_task("add", (1, 2)).await.expect("result expected");
    assert!(!client.cancel(&sum.task_id).await.expect("reply expected"));
    assert_eq!(client.get_task_result(&sum.task_id).await.expect("reply expected"), Some(sum));
    assert!(!client.cancel(&TaskId::new()).await.expect("reply expected"));
}
