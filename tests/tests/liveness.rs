//! Connections that die silently, and workers that hang: tasks continue within seconds.

use std::time::{Duration, Instant};

use fastworker::{
    client::Client,
    json::Json,
    protocol::{EventKind, Found},
    task::{NewTask, TaskId, TaskStatus},
};
use fastworker_tests::{
    Cluster, TIMEOUT, Transcript, eventually,
    relay::{RELAY, Relay, Use},
    task_helpers::{expect_success, wait_for_result, wait_for_status},
    wait::{assert_best_within, eventually_async},
    wording,
};

/// Maximum time until a task sent to a dead connection runs.
const WORKS_AGAIN: Duration = Duration::from_secs(6);

/// A cluster whose subworkers reach it through a relay, and a client that does not.
async fn relayed(modules: &[&str], subworkers: u16, slots: u16) -> (Cluster, Relay, Client) {
    // The control plane chooses its ports first, as they are claimed with it.
    let advertised = format!("tcp://{RELAY}:1");
    let plan =
        Cluster::builder().modules(modules).slots(slots).control_plane_args(&["--advertise-address", &advertised]);
    let mut cluster = plan.start();
    let relay = Relay::start(cluster.ports().subworkers());
    for number in 1..=subworkers {
        cluster.start_subworker(&format!("sw{number}"));
    }
    let base = cluster.base().parse().expect("valid address");
    let client = cluster.client_with(|builder| builder.control_plane_address(base)).await;
    (cluster, relay, client)
}

async fn add(client: &Client) -> Duration {
    let submitted_at = Instant::now();
    assert_eq!(expect_success(&client.submit_task("add", (5, 3)).await.expect("result expected")), "8");
    submitted_at.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_for_a_slot_on_a_dead_connection_runs_within_seconds() {
    assert_best_within("the task runs", WORKS_AGAIN, || async {
        let (_cluster, relay, client) = relayed(&["arithmetic"], 1, 2).await;
        add(&client).await;
        assert_eq!(relay.drop_connections(Some(Use::Work)), 2);
        add(&client).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_connections_all_die_reconnects() {
    let (cluster, relay, client) = relayed(&["slow", "arithmetic"], 1, 2).await;
    let running = client.delay("slow", (7.0, 7)).await.expect("task accepted");
    wait_for_status(&client, &running, TaskStatus::Started).await;
    assert!(relay.drop_connections(None) >= 3);
    assert!(add(&client).await < TIMEOUT);
    let result = wait_for_result(&client, &running).await;
    assert_eq!((expect_success(&result), result.attempts), ("7", 1));
    let events = client.events(0, Duration::ZERO).await.expect("events expected").events;
    assert!(events.iter().all(|event| event.kind != EventKind::WorkerLost), "its beats came over a new connection");
    assert!(!cluster.subworkers[0].log().contains(wording::REGISTERS_AGAIN));
}

#[tokio::test(flavor = "multi_thread")]
async fn quick_results_do_not_wait_for_a_long_task_behind_them() {
    let cluster = Cluster::builder().modules(&["slow"]).subworkers(1).slots(1).start();
    let client = cluster.client().await;
    // The control plane then knows the task as quick, and grants many at a time.
    let quick = |seconds: u32| NewTask { args: Json::of(&(seconds, 1)).expect("valid JSON"), ..NewTask::new("slow") };
    client.submit_many((0..2_000).map(|_| quick(0)).collect()).await.expect("results expected");
    let mut tasks: Vec<NewTask> = (0..200).map(|_| quick(0)).collect();
    tasks.insert(100, quick(600));
    let (long, ids) = (tasks[100].id.clone(), tasks.iter().map(|task| task.id.clone()).collect::<Vec<TaskId>>());
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.submit_many(tasks).await }
    });
    wait_for_status(&client, &long, TaskStatus::Started).await;
    let before_it = &ids[..100];
    eventually_async("all quick results arrive", TIMEOUT, || async {
        let mut found = Vec::new();
        for id in before_it {
            found.push(client.lookup(id, Duration::ZERO).await.expect("reply expected"));
        }
        found.iter().all(|found| matches!(found, Found::Ended(_))).then_some(())
    })
    .await;
    assert!(client.cancel(&long).await.expect("reply expected"));
    waits.await.expect("no panic expected").expect("results expected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_a_draining_worker_with_its_id() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let client = cluster.client().await;
    let running = client.delay("slow", (4.0, 4)).await.expect("task accepted");
    wait_for_status(&client, &running, TaskStatus::Started).await;
    cluster.subworkers[0].terminate();
    cluster.start_subworker("sw1");
    let log = cluster.subworkers[1].log();
    assert!(log.contains(wording::ID_IS_TAKEN), "{log}");
    let result = wait_for_result(&client, &running).await;
    assert_eq!((expect_success(&result), result.attempts), ("4", 1));
    assert_eq!(expect_success(&client.submit_task("slow", (0.0, 1)).await.expect("result expected")), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_replaces_a_hanging_one_with_its_id() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let client = cluster.client().await;
    cluster.subworkers[0].pause();
    cluster.start_subworker("sw1");
    assert_eq!(expect_success(&client.submit_task("slow", (0.0, 1)).await.expect("result expected")), "1");
    cluster.subworkers[0].resume();
    let refused = || cluster.subworkers[0].log().contains(wording::ID_IS_TAKEN).then_some(());
    eventually("the worker finds its id in use", TIMEOUT, refused);
}

#[test]
fn a_worker_whose_id_stays_in_use_ends_with_a_hint() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(1).start();
    let mut command = cluster.command(["subworker", "--worker-id", "sw1", "--timeout", "2s"]);
    command.args(["--control-plane-address", &cluster.base()]);
    let ran = fastworker_tests::cli::run(command).with_code(2);
    let mut errors = Transcript::new();
    errors.note(ran.error());
    errors.check();
}
