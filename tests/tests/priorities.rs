//! The order of waiting tasks.

use fastworker::{
    client::Client,
    task::{TaskId, TaskPriority, TaskStatus},
};
use fastworker_tests::{
    Cluster,
    task_helpers::{wait_for_result, wait_for_status},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_slot_runs_critical_first_and_low_last() {
    let cluster = Cluster::builder().modules(&["slow", "hostile"]).own_slots(1).start();
    forty_tasks_run_in_order(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subworker_slot_runs_critical_first_and_low_last() {
    let cluster = Cluster::builder().modules(&["slow", "hostile"]).subworkers(1).start();
    forty_tasks_run_in_order(&cluster).await;
}

/// Submits 40 tasks while the only slot is busy, the least urgent first.
async fn forty_tasks_run_in_order(cluster: &Cluster) {
    let client = cluster.client().await;
    let busy = occupy(&client).await;
    let mut submitted = Vec::new();
    for priority in TaskPriority::ALL.into_iter().rev() {
        for _ in 0..10 {
            let id = client.delay("slow", (0.003, 1)).priority(priority).await.expect("task accepted");
            submitted.push((priority, id));
        }
    }
    assert!(client.cancel(&busy).await.expect("reply expected"));

    let mut ran = Vec::new();
    for (_, id) in &submitted {
        let result = wait_for_result(&client, id).await;
        assert_eq!(result.status, TaskStatus::Success, "{result:?}");
        ran.push((result.started_at.expect("it ran"), id.clone()));
    }
    ran.sort_by_key(|(started_at, _)| *started_at);
    // The sort is stable, so tasks of one priority stay in submission order.
    submitted.sort_by_key(|(priority, _)| *priority);
    let ran: Vec<TaskId> = ran.into_iter().map(|(_, id)| id).collect();
    let expected: Vec<TaskId> = submitted.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ran, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_priority_of_the_submitter_overrides_that_of_the_module() {
    let cluster = Cluster::builder().modules(&["follow", "hostile"]).own_slots(1).start();
    let client = cluster.client().await;
    let busy = occupy(&client).await;
    let usual = client.delay("leaf", (1,)).await.expect("task accepted");
    let urgent = client.delay("leaf", (2,)).priority(TaskPriority::Critical).await.expect("task accepted");
    for (id, priority) in [(&usual, "normal"), (&urgent, "critical")] {
        let status = cluster.cli(["status", "--json", "--task-id", &id.to_string()]).with_code(0).json();
        assert_eq!(status["priority"], priority);
    }
    assert!(client.cancel(&busy).await.expect("reply expected"));
    let (usual, urgent) = (wait_for_result(&client, &usual).await, wait_for_result(&client, &urgent).await);
    assert!(urgent.started_at < usual.started_at, "{urgent:?} {usual:?}");
}

/// Keeps the only slot busy, and returns the task that does.
async fn occupy(client: &Client) -> TaskId {
    let id = client.delay("endless_loop", ()).await.expect("task accepted");
    wait_for_status(client, &id, TaskStatus::Started).await;
    id
}
