//! Graceful shutdown: running tasks finish, leases are returned, waiting clients get a reply.

use std::time::{Duration, Instant};

use fastworker::{
    client::ClientError,
    protocol::{RefusalCode, WorkerStatus},
    task::{TaskId, TaskPriority, TaskStatus},
};
use fastworker_tests::{
    Cluster, Process, TIMEOUT, eventually, fastworker,
    ports::Ports,
    task_helpers::{expect_success, wait_for_result, wait_for_status},
    wait::assert_best_within,
    wording,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_control_plane_finishes_accepted_tasks_and_exits_0() {
    let mut cluster = Cluster::builder().modules(&["slow"]).own_slots(1).start();
    let client = cluster.client().await;
    // One runs, and two wait behind it.
    let mut waits = Vec::new();
    for (seconds, status) in [(4.0, TaskStatus::Started), (0.1, TaskStatus::Pending), (0.1, TaskStatus::Pending)] {
        let id = TaskId::new();
        waits.push(tokio::spawn({
            let (client, id) = (client.clone(), id.clone());
            async move { client.submit_task("slow", (seconds, 2)).task_id(id).await }
        }));
        wait_for_status(&client, &id, status).await;
    }
    cluster.control_plane.terminate();
    let log = || cluster.control_plane.log().contains(wording::DRAINS).then_some(());
    eventually("the server drains", TIMEOUT, log);
    let hasty = cluster.client_with(|builder| builder.timeout(Duration::from_secs(1))).await;
    match hasty.submit_task("slow", (0.0, 1)).await {
        Err(ClientError::Refused(why)) => assert_eq!(why.code, RefusalCode::Stopping, "{why}"),
        other => panic!("{other:?}"),
    }
    for wait in waits {
        assert_eq!(expect_success(&wait.await.expect("no panic expected").expect("result expected")), "2");
    }
    assert_eq!(cluster.control_plane.wait_for_exit(TIMEOUT).code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_control_plane_waits_for_its_subworkers() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let client = cluster.client().await;
    let wait = tokio::spawn({
        let client = client.clone();
        async move { client.submit_task("slow", (3.0, 5)).await }
    });
    cluster.wait_for_workers(&client, "one slot is busy", |workers| workers[0].load == 1).await;
    cluster.control_plane.terminate();
    assert_eq!(expect_success(&wait.await.expect("no panic expected").expect("result expected")), "5");
    assert_eq!(cluster.control_plane.wait_for_exit(TIMEOUT).code(), Some(0));
    // The subworker searches the next control plane, and still exits with success.
    cluster.subworkers[0].terminate();
    assert_eq!(cluster.subworkers[0].wait_for_exit(TIMEOUT).code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_timeout_drops_unfinished_tasks_and_refuses_waiters() {
    let limit = ["--shutdown-timeout", "300ms"];
    let mut cluster = Cluster::builder().modules(&["hostile"]).own_slots(1).control_plane_args(&limit).start();
    // The subworker waits for the next control plane, which does not start.
    let client = cluster.client_with(|builder| builder.timeout(Duration::from_secs(5))).await;
    let wait = tokio::spawn({
        let client = client.clone();
        async move { client.submit_task("endless_loop", ()).await }
    });
    cluster.wait_for_workers(&client, "one slot is busy", |workers| workers[0].load == 1).await;
    let from = Instant::now();
    cluster.control_plane.terminate();
    assert_eq!(cluster.control_plane.wait_for_exit(TIMEOUT).code(), Some(0));
    assert!(from.elapsed() >= Duration::from_millis(300), "{:?}", from.elapsed());
    match wait.await.expect("no panic expected") {
        Err(ClientError::Refused(why)) => assert_eq!(why.code, RefusalCode::Stopping, "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(cluster.control_plane.log().contains("unfinished=1"), "{}", cluster.control_plane.log());
}

/// Signals within this time of the first count as one.
const SAME_SIGNAL: Duration = fastworker::shutdown::SAME_SIGNAL;

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_signals_count_as_one_and_drain() {
    // GNU timeout signals its command and then the group; systemd adds SIGHUP.
    for signals in [&["TERM", "TERM"][..], &["TERM", "HUP", "TERM"], &["HUP"], &["INT", "INT", "INT"]] {
        if signals == ["HUP"] && is_sighup_ignored() {
            // The tests may run under nohup, and the servers inherit it.
            continue;
        }
        let mut cluster = Cluster::builder().modules(&["slow"]).own_slots(1).subworkers(1).start();
        let client = cluster.client().await;
        let mut waits = Vec::new();
        for _ in 0..2 {
            let client = client.clone();
            waits.push(tokio::spawn(async move { client.submit_task("slow", (2.0, 3)).await }));
        }
        cluster
            .wait_for_workers(&client, "all slots are busy", |workers| workers.iter().all(|worker| worker.load == 1))
            .await;
        cluster.subworkers[0].signals(signals);
        cluster.control_plane.signals(signals);
        for wait in waits {
            assert_eq!(
                expect_success(&wait.await.expect("no panic expected").expect("result expected")),
                "3",
                "{signals:?}"
            );
        }
        for process in [&mut cluster.subworkers[0], &mut cluster.control_plane] {
            assert_eq!(process.wait_for_exit(TIMEOUT).code(), Some(0), "{signals:?} {}", process.log());
        }
    }
}

/// Whether this process was started with SIGHUP ignored.
fn is_sighup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[test]
fn sighup_that_was_ignored_at_the_start_stays_ignored() {
    let ports = Ports::claim();
    let directory = tempfile::tempdir().expect("directory created");
    let server = fastworker();
    let mut nohup = fastworker_tests::process::command(std::path::Path::new("sh"));
    // Does what nohup does. The second argument is the program, as sh has no name here.
    nohup.args(["-c", r#"trap "" HUP; exec "$0" "$@""#]).arg(server.get_program()).args(server.get_args());
    for (name, value) in server.get_envs() {
        value.map(|value| nohup.env(name, value));
    }
    nohup.args(["control-plane", "--json", "--base-address", &format!("tcp://127.0.0.1:{}", ports.base())]);
    nohup.args(["--discovery-address", &format!("tcp://127.0.0.1:{}", ports.discovery())]);
    nohup.args(["--subworker-port", &ports.subworkers().to_string()]);
    let mut process = Process::start("control-plane", nohup, directory.path());
    process.wait_until_ready();
    process.signals(&["HUP", "HUP"]);
    // The server still replies after the ignored signals, and the next one counts as the first.
    let mut workers = fastworker();
    workers.args(["workers", "--control-plane-address", &format!("tcp://127.0.0.1:{}", ports.base())]);
    drop(fastworker_tests::cli::run(workers).with_code(0));
    assert!(process.is_running() && !process.log().contains(wording::DRAINS), "{}", process.log());
    process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_second_signal_stops_immediately() {
    assert_best_within("the end after a later signal", SAME_SIGNAL + Duration::from_secs(1), stop_after_later_signal)
        .await;
}

/// The longest time that a process took to end, from the first signal on.
async fn stop_after_later_signal() -> Duration {
    let mut longest = Duration::ZERO;
    let mut cluster = Cluster::builder().modules(&["hostile"]).own_slots(1).subworkers(1).start();
    let client = cluster.client().await;
    for _ in 0..2 {
        client.delay("endless_loop", ()).await.expect("task accepted");
    }
    cluster
        .wait_for_workers(&client, "all slots are busy", |workers| workers.iter().all(|worker| worker.load == 1))
        .await;
    for process in [&mut cluster.subworkers[0], &mut cluster.control_plane] {
        let from = Instant::now();
        process.interrupt();
        eventually("the server drains", TIMEOUT, || process.log().contains(wording::DRAINS).then_some(()));
        // Repeat the signal: the early ones count as one.
        eventually("the process ends", TIMEOUT, || {
            process.terminate();
            (!process.is_running()).then_some(())
        });
        let took = from.elapsed();
        assert_eq!(process.wait_for_exit(TIMEOUT).code(), Some(130));
        assert!(took >= SAME_SIGNAL, "{took:?}");
        longest = longest.max(took);
    }
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_subworker_finishes_running_tasks_and_returns_the_rest() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let client = cluster.client().await;
    let runs = client.delay("slow", (5.0, 6)).await.expect("task accepted");
    wait_for_status(&client, &runs, TaskStatus::Started).await;
    // Later tasks have the highest priority, but this worker accepts none of them.
    let mut rest = Vec::new();
    for _ in 0..20 {
        rest.push(client.delay("slow", (0.0, 1)).priority(TaskPriority::Critical).await.expect("task accepted"));
    }
    cluster.subworkers[0].terminate();
    cluster
        .wait_for_workers(&client, "sw1 drains", |workers| {
            workers.iter().any(|worker| worker.id == "sw1" && worker.status == WorkerStatus::Draining)
        })
        .await;
    cluster.start_subworker("sw2");
    for id in &rest {
        let result = wait_for_result(&client, id).await;
        assert_eq!((expect_success(&result), result.worker_id.as_deref()), ("1", Some("sw2")));
    }
    let finished = wait_for_result(&client, &runs).await;
    assert_eq!((expect_success(&finished), finished.worker_id.as_deref()), ("6", Some("sw1")));
    assert_eq!(cluster.subworkers[0].wait_for_exit(TIMEOUT).code(), Some(0));
    // It has left, so it does not count as lost.
    cluster
        .wait_for_workers(&client, "only sw2 is connected", |workers| matches!(workers, [worker] if worker.id == "sw2"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_subworker_returns_unfinished_tasks_at_the_timeout() {
    let limit = ["--shutdown-timeout", "200ms"];
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).subworker_args(&limit).start();
    let client = cluster.client().await;
    let id = client.delay("slow", (60, 600)).await.expect("task accepted");
    wait_for_status(&client, &id, TaskStatus::Started).await;
    cluster.subworkers[0].terminate();
    assert_eq!(cluster.subworkers[0].wait_for_exit(TIMEOUT).code(), Some(0));
    cluster.start_subworker("sw2");
    let again = wait_for_status(&client, &id, TaskStatus::Started).await;
    assert_eq!((again.worker_id.as_deref(), again.attempt), (Some("sw2"), 1), "{again:?}");
    assert!(client.cancel(&id).await.expect("reply expected"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_subworker_without_control_plane_ends_at_the_timeout() {
    let limit = ["--shutdown-timeout", "300ms"];
    let mut cluster = Cluster::builder().modules(&["hostile"]).subworkers(1).slots(2).subworker_args(&limit).start();
    let client = cluster.client().await;
    let id = client.delay("endless_loop", ()).await.expect("task accepted");
    wait_for_status(&client, &id, TaskStatus::Started).await;
    cluster.control_plane.kill();
    let subworker = &mut cluster.subworkers[0];
    eventually("the subworker logs that it gets no reply", TIMEOUT, || {
        subworker.log().contains(wording::NO_REPLY).then_some(())
    });
    subworker.terminate();
    assert_eq!(subworker.wait_for_exit(TIMEOUT).code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_cluster_stops_promptly_in_either_order() {
    for control_plane_first in [true, false] {
        let what = format!("the end, the control plane first: {control_plane_first}");
        assert_best_within(&what, Duration::from_secs(2), || stop_idle_cluster(control_plane_first)).await;
    }
}

/// The longest time that a process took to end.
async fn stop_idle_cluster(control_plane_first: bool) -> Duration {
    let mut cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(1).subworkers(1).start();
    // A client has a parked request.
    let client = cluster.client().await;
    client.submit_task("add", (1, 2)).await.expect("result expected");
    let Cluster { control_plane, subworkers, .. } = &mut cluster;
    let mut order = [control_plane, &mut subworkers[0]];
    if !control_plane_first {
        order.reverse();
    }
    let mut longest = Duration::ZERO;
    for process in order {
        let from = Instant::now();
        process.terminate();
        assert_eq!(process.wait_for_exit(TIMEOUT).code(), Some(0));
        longest = longest.max(from.elapsed());
    }
    longest
}

#[test]
fn a_subworker_that_searches_its_control_plane_can_be_stopped() {
    let ports = Ports::claim();
    let directory = tempfile::tempdir().expect("directory created");
    let mut command = fastworker();
    command.args(["subworker", "--worker-id", "sw1", "--timeout", "60s"]);
    command.args(["--control-plane-address", &format!("tcp://127.0.0.1:{}", ports.base())]);
    command.args(["--discovery-address", &format!("tcp://127.0.0.1:{}", ports.discovery())]);
    let mut searching = Process::start("sw1", command, directory.path());
    // The threads of NNG exist once the search has started.
    let threads = |id| std::fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count);
    eventually("the subworker searches", TIMEOUT, || (threads(searching.id()) > 4).then_some(()));
    searching.terminate();
    assert_eq!(searching.wait_for_exit(TIMEOUT).code(), Some(130));
}
