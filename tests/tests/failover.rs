//! Restarted and moved control planes: workers, clients and open waits continue with the next one.

use std::time::Instant;

use fastworker::{
    protocol::WorkerStatus,
    task::{TaskId, TaskStatus},
};
use fastworker_tests::{
    Cluster, Process, TIMEOUT,
    ports::Ports,
    task_helpers::{expect_success, wait_for_status},
};

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_clients_reconnect_to_a_restarted_control_plane() {
    let mut cluster = Cluster::builder().modules(&["arithmetic", "slow"]).subworkers(1).start();
    let client = cluster.client().await;
    assert_eq!(expect_success(&client.submit_task("add", (1, 2)).await.expect("result expected")), "3");
    let before = client.delay("slow", (20, 20)).await.expect("task accepted");
    wait_for_status(&client, &before, TaskStatus::Started).await;
    cluster.control_plane.kill();
    cluster.restart_control_plane();

    let sum = client.submit_task("add", (5, 3)).wait_for_worker().await.expect("result expected");
    assert_eq!(expect_success(&sum), "8");
    assert_eq!(sum.worker_id.as_deref(), Some("sw1"));
    // The control plane keeps nothing, so the old task is unknown and its slot was freed for the new one.
    assert_eq!(client.get_task_result(&before).await.expect("reply expected"), None);
    cluster
        .wait_for_workers(
            &client,
            "only sw1 is connected",
            |workers| matches!(workers, [worker] if worker.id == "sw1" && worker.status == WorkerStatus::Active),
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_survives_a_restart_of_the_control_plane() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).slots(8).start();
    let client = cluster.client().await;
    let ids: Vec<TaskId> = (0..6).map(|_| TaskId::new()).collect();
    let waits: Vec<_> = ids
        .iter()
        .map(|id| {
            let (client, id) = (client.clone(), id.clone());
            let call = async move { client.submit_task("slow", (4, 10)).task_id(id).wait_for_worker().await };
            tokio::spawn(call)
        })
        .collect();
    for id in &ids {
        wait_for_status(&client, id, TaskStatus::Started).await;
    }
    cluster.control_plane.kill();
    let killed = Instant::now();
    cluster.restart_control_plane();
    for wait in waits {
        assert_eq!(expect_success(&wait.await.expect("no panic expected").expect("result expected")), "10");
    }
    assert!(killed.elapsed() < 3 * TIMEOUT, "{:?}", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_subworkers_follow_a_control_plane_that_moves() {
    let id = ["--cluster-id", "5f0c2d7e-6a51-4a0e-9d8e-3b1f0c9a7e42"];
    let mut cluster =
        Cluster::builder().modules(&["arithmetic"]).subworkers(1).slots(2).control_plane_args(&id).start();
    let client = cluster.client().await;
    assert_eq!(expect_success(&client.submit_task("add", (1, 2)).await.expect("result expected")), "3");
    let ports = Ports::claim();
    cluster.control_plane.kill();
    let mut command = cluster.command(["control-plane", "--json"]);
    command.args(id).args(["--base-address", &format!("tcp://127.0.0.1:{}", ports.base())]);
    command.args(["--subworker-port", &ports.subworkers().to_string()]);
    cluster.control_plane = Process::start("elsewhere", command, cluster.directory());
    cluster.control_plane.wait_until_ready();
    let submitted_at = Instant::now();
    let result = client.submit_task("add", (5, 3)).wait_for_worker().await.expect("result expected");
    // A request to the old control plane would only end after its timeout.
    assert!(submitted_at.elapsed() < TIMEOUT, "{:?}", submitted_at.elapsed());
    assert_eq!((expect_success(&result), result.worker_id.as_deref()), ("8", Some("sw1")));
    assert_eq!(cluster.subworkers[0].log().matches("the control plane has moved").count(), 1);
}
