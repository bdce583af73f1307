//! Control planes that restart, take over or are not there yet while commands and clients wait, and
//! addresses that lead to another cluster.

use std::{thread, time::Duration};

use fastworker::{
    client::{Client, ClientError, Endpoint},
    task::TaskStatus,
};
use fastworker_tests::{
    Cluster, Process, SOON, Transcript,
    cli::{self, Ran, fastworker},
    eventually,
    ports::Ports,
    story::{success, until_status},
    wording,
};

/// Runs commands side by side, and gives how each ended.
fn side_by_side(commands: Vec<std::process::Command>) -> Vec<thread::JoinHandle<Ran>> {
    commands.into_iter().map(|command| thread::spawn(move || cli::run(command))).collect()
}

/// How many tasks are known.
fn known(cluster: &Cluster) -> usize {
    cluster.cli(["tasks", "--json"]).with_code(0).json().as_array().map(Vec::len).unwrap_or_default()
}

#[test]
fn commands_that_wait_go_on_when_the_control_plane_restarts() {
    for kills in [true, false] {
        let soon = ["--shutdown-timeout", "100ms"];
        let mut cluster =
            Cluster::builder().modules(&["slow"]).subworkers(1).slots(8).control_plane_args(&soon).start();
        let task = ["--task-name", "slow", "--args", "2", "4", "--wait-for-worker"];
        let commands = [&["submit"][..], &["submit", "--follow"], &["submit"]];
        let waits =
            side_by_side(commands.iter().map(|command| cluster.command([command, &task[..]].concat())).collect());
        eventually("that they wait", SOON, || (known(&cluster) == 3).then_some(()));
        if kills {
            cluster.control_plane.kill();
        } else {
            // It ends at once, and what it has not finished is refused.
            cluster.control_plane.terminate();
            assert!(cluster.control_plane.wait_for_exit(SOON).success());
        }
        cluster.restart_control_plane();
        for wait in waits {
            let ran = wait.join().expect("no panic").with_code(0);
            assert_eq!(ran.stdout.trim(), "4", "{ran:?}");
        }
    }
}

#[test]
fn a_result_that_a_restart_lost_is_not_found_and_not_waited_for() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let id = cluster.cli(["submit", "--non-blocking", "--task-name", "slow", "--args", "60", "60"]).with_code(0).stdout;
    let mut waiting = Process::start("result", cluster.command(["result", id.trim(), "--wait"]), cluster.folder());
    eventually("that it waits", SOON, || waiting.log().contains(wording::WAITS).then_some(()));
    cluster.control_plane.kill();
    cluster.restart_control_plane();
    assert_eq!(waiting.wait_for_exit(SOON).code(), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_stopping_control_plane_refuses_goes_to_the_next_one() {
    let mut cluster = Cluster::builder().modules(&["slow"]).own_slots(1).start();
    let client = cluster.client().await;
    let busy = client.delay("slow", (3, 3)).await.expect("it is taken");
    until_status(&client, &busy, TaskStatus::Started).await;
    cluster.control_plane.terminate();
    let log = || cluster.control_plane.log().contains(wording::DRAINS).then_some(());
    eventually("that it drains", SOON, log);
    let late: Vec<_> = (0..5)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.submit_task("slow", (0.0, 1)).await })
        })
        .collect();
    assert!(cluster.control_plane.wait_for_exit(SOON).success());
    cluster.restart_control_plane();
    for call in late {
        assert_eq!(success(&call.await.expect("no panic").expect("a result")), "1");
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
fn a_mistyped_address_joins_no_other_cluster() {
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
    assert_eq!(success(&client.submit_task("add", (1, 2)).await.expect("a result")), "3");
    cluster.control_plane.kill();
    let ports = Ports::claim();
    let mut command = cluster.command(["control-plane", "--json"]);
    command.args(["--base-address", &format!("tcp://127.0.0.1:{}", ports.base())]);
    command.args(["--subworker-port", &ports.subworkers().to_string()]);
    let mut other = Process::start("other", command, cluster.folder());
    other.wait_until_ready();
    let lost = client.submit_task("add", (5, 3)).wait_for_worker().await;
    let Err(ClientError::Unreachable { endpoint: Endpoint::Announced { base, .. }, .. }) = lost else {
        panic!("{lost:?}")
    };
    assert_eq!(base.to_string(), cluster.base());
    let new = Client::builder().control_plane_address(format!("tcp://127.0.0.1:{}", ports.base()).parse().expect("it"));
    let new = new.build();
    new.start().await.expect("it is there");
    assert_eq!(new.list_tasks().await.expect("an answer"), []);
    drop(other);
    cluster.restart_control_plane();
    assert_eq!(success(&client.submit_task("add", (5, 3)).wait_for_worker().await.expect("a result")), "8");
}
