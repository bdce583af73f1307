//! Control planes that restart, take over or start later while commands and clients wait, and
//! addresses of another cluster.

use std::{thread, time::Duration};

use fastworker::{
    client::{Client, ClientError, Endpoint},
    task::TaskStatus,
};
use fastworker_tests::{
    Cluster, Process, TIMEOUT, Transcript,
    cli::{self, Ran, fastworker},
    eventually,
    ports::Ports,
    task_helpers::{expect_success, wait_for_status},
    wording,
};

/// Runs commands concurrently, and returns how each ended.
fn run_concurrently(commands: Vec<std::process::Command>) -> Vec<thread::JoinHandle<Ran>> {
    commands.into_iter().map(|command| thread::spawn(move || cli::run(command))).collect()
}

/// The number of known tasks.
fn task_count(cluster: &Cluster) -> usize {
    cluster.cli(["tasks", "--json"]).with_code(0).json().as_array().map(Vec::len).unwrap_or_default()
}

#[test]
fn waiting_commands_continue_when_the_control_plane_restarts() {
    for kills in [true, false] {
        let timeout = ["--shutdown-timeout", "100ms"];
        let mut cluster =
            Cluster::builder().modules(&["slow"]).subworkers(1).slots(8).control_plane_args(&timeout).start();
        let task = ["--task-name", "slow", "--args", "2", "4", "--wait-for-worker"];
        let commands = [&["submit"][..], &["submit", "--follow"], &["submit"]];
        let waits =
            run_concurrently(commands.iter().map(|command| cluster.command([command, &task[..]].concat())).collect());
        eventually("three tasks are known", TIMEOUT, || (task_count(&cluster) == 3).then_some(()));
        if kills {
            cluster.control_plane.kill();
        } else {
            // It ends immediately, and refuses unfinished tasks.
            cluster.control_plane.terminate();
            assert!(cluster.control_plane.wait_for_exit(TIMEOUT).success());
        }
        cluster.restart_control_plane();
        for wait in waits {
            let ran = wait.join().expect("no panic expected").with_code(0);
            assert_eq!(ran.stdout.trim(), "4", "{ran:?}");
        }
    }
}

#[test]
fn a_result_lost_in_a_restart_is_not_found() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let id = cluster.cli(["submit", "--non-blocking", "--task-name", "slow", "--args", "60", "60"]).with_code(0).stdout;
    let mut waiting = Process::start("result", cluster.command(["result", id.trim(), "--wait"]), cluster.directory());
    eventually("the command waits", TIMEOUT, || waiting.log().contains(wording::WAITS).then_some(()));
    cluster.control_plane.kill();
    cluster.restart_control_plane();
    assert_eq!(waiting.wait_for_exit(TIMEOUT).code(), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_refused_by_a_stopping_control_plane_goes_to_the_next() {
    let mut cluster = Cluster::builder().modules(&["slow"]).own_slots(1).start();
    let client = cluster.client().await;
    let busy = client.delay("slow", (3, 3)).await.expect("task accepted");
    wait_for_status(&client, &busy, TaskStatus::Started).await;
    cluster.control_plane.terminate();
    let log = || cluster.control_plane.log().contains(wording::DRAINS).then_some(());
    eventually("the control plane drains", TIMEOUT, log);
    let late: Vec<_> = (0..5)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.submit_task("slow", (0.0, 1)).await })
        })
        .collect();
    assert!(cluster.control_plane.wait_for_exit(TIMEOUT).success());
    cluster.restart_control_plane();
    for call in late {
        assert_eq!(expect_success(&call.await.expect("no panic expected").expect("result expected")), "1");
    }
}

#[test]
fn a_command_prints_what_it_waits_for_after_a_second() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let submit = |more: &[&str]| cluster.cli([&["submit", "--timeout", "3s"], more].concat());
    let mut shown = Transcript::new();
    let mut note = |ran: &Ran| {
        let (note, rest) = ran.stderr.split_once('\n').expect("two lines");
        assert!(note.starts_with("note: ") && rest.starts_with("error: "), "{ran:?}");
        // Times differ from run to run.
        shown.note(note.split_once(" since ").or_else(|| note.split_once(", at most ")).map_or(note, |(note, _)| note));
    };
    note(&submit(&["--task-name", "slow", "--args", "30", "30"]).with_code(4));
    let queued = submit(&["--json", "--task-name", "slow", "--args", "0", "1"]).with_code(4);
    assert_eq!(queued.json()["code"], 4);
    note(&queued);
    note(&submit(&["--wait-for-worker", "--task-name", "unavailable"]).with_code(4));
    let quick = ["submit", "--wait-for-worker", "--task-name", "unavailable", "--timeout", "500ms"];
    let quick = cluster.cli(quick).with_code(4).stderr;
    assert!(quick.starts_with("error: "), "{quick}");

    cluster.control_plane.kill();
    let base = cluster.base();
    let options = ["submit", "--task-name", "slow", "--control-plane-address", &base, "--timeout", "3s"];
    note(&cluster.cli(options).with_code(3));
    note(&cluster.cli(["submit", "--task-name", "slow", "--timeout", "3s"]).with_code(3));
    shown.check();
}

#[test]
fn a_mistyped_address_does_not_join_another_cluster() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).start();
    let wrong = Ports::claim();
    let wrong = format!("tcp://127.0.0.1:{}", wrong.base());
    let run = |args: &[&str]| {
        let mut command = fastworker();
        command.args(args).args(["--timeout", "2s", "--discovery-address", &cluster.discovery()]);
        command.args(["--control-plane-address", &wrong]);
        cli::run(command)
    };
    for ran in [run(&["subworker", "--worker-id", "sw1"]), run(&["workers"]), run(&["submit", "--task-name", "add"])] {
        let ran = ran.with_code(3);
        let (error, hint) = ran.stderr.split_once("\nhint: ").expect("a hint");
        assert!(error.contains(&wrong) && hint.contains(&cluster.base()), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_of_another_cluster_are_ignored() {
    let mut cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(1).slots(2).start();
    let client = cluster.client_with(|builder| builder.timeout(Duration::from_secs(6))).await;
    assert_eq!(expect_success(&client.submit_task("add", (1, 2)).await.expect("result expected")), "3");
    cluster.control_plane.kill();
    let ports = Ports::claim();
    let mut command = cluster.command(["control-plane", "--json"]);
    command.args(["--base-address", &format!("tcp://127.0.0.1:{}", ports.base())]);
    command.args(["--subworker-port", &ports.subworkers().to_string()]);
    let mut other = Process::start("other", command, cluster.directory());
    other.wait_until_ready();
    let lost = client.submit_task("add", (5, 3)).wait_for_worker().await;
    let Err(ClientError::Unreachable { endpoint: Endpoint::Announced { base, .. }, .. }) = lost else {
        panic!("{lost:?}")
    };
    assert_eq!(base.to_string(), cluster.base());
    let new = Client::builder().control_plane_address(format!("tcp://127.0.0.1:{}", ports.base()).parse().expect("it"));
    let new = new.build();
    new.start().await.expect("control plane reachable");
    assert_eq!(new.list_tasks().await.expect("reply expected"), []);
    drop(other);
    cluster.restart_control_plane();
    assert_eq!(
        expect_success(&client.submit_task("add", (5, 3)).wait_for_worker().await.expect("result expected")),
        "8"
    );
}
