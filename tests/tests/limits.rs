//! Processes under system limits: they name the limit, and do not hang, panic
//! or abort.

use std::{fs, process::Command};

use fastworker_tests::{Cluster, cli, fastworker, module};

/// The same command under a limit, such as `-n 16`.
fn limited(command: &Command, limit: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[test]
fn a_command_without_files_names_the_limit() {
    for (limit, command) in [("-n 12", "status"), ("-n 12", "control-plane"), ("-n 32", "control-plane")] {
        let mut started = fastworker();
        started.arg(command);
        if command == "status" {
            started.arg("00000000-0000-4000-8000-000000000000");
        }
        let ran = cli::run(limited(&started, limit)).with_code(1);
        assert!(ran.stderr.contains("RLIMIT_NOFILE") && !ran.stderr.contains("panicked"), "{ran:?}");
    }
}

#[test]
fn a_worker_without_address_space_does_not_start() {
    let arithmetic = module("arithmetic");
    let mut subworker = fastworker();
    subworker.args(["subworker", "--worker-id", "sick", "--control-plane-address", "tcp://127.0.0.1:1"]);
    subworker.arg("--task-modules").arg(arithmetic);
    let ran = cli::run(limited(&subworker, "-v 250000")).with_code(1);
    assert!(ran.stderr.contains("RLIMIT_AS") && !ran.stderr.contains("panicked"), "{ran:?}");
}

#[test]
fn tasks_do_not_fail_because_a_worker_lost_its_address_space() {
    let mut cluster = Cluster::builder().modules(&["arithmetic"]).slots(2).start();
    // A limit at the start disables the pool, so that each attempt allocates its own address space.
    cluster.launch_subworker_with("sick", |command| limited(command, "-v 2000000")).wait_until_ready();
    let sick = cluster.subworkers[0].id().to_string();
    // Limit it to little more than it already uses.
    let status = fs::read_to_string(format!("/proc/{sick}/status")).expect("still running");
    let used = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("size expected");
    let used: u64 = used.trim().trim_end_matches(" kB").parse().expect("valid number");
    let limit = format!("--as={}", (used << 10) + (16 << 20));
    let status = Command::new("prlimit").args(["--pid", &sick, &limit]).status().expect("util-linux is there");
    assert!(status.success());
    let submit = ["submit", "--task-name", "add", "--args", "1", "2", "--timeout", "2s", "--json"];
    // It is returned to the queue and waits: there is no other worker.
    let ran = cluster.cli(submit).with_code(4);
    assert!(!ran.stdout.contains("failure"), "{ran:?}");
    let log = cluster.subworkers[0].log();
    assert_eq!(log.matches("cannot create a sandbox (out of memory)").count(), 1, "{log}");
    assert!(log.contains("RLIMIT_AS (ulimit -v) is "), "{log}");
    // Another worker gets it and all further tasks.
    cluster.start_subworker("healthy");
    for _ in 0..20 {
        let ran = cluster.cli(["submit", "--task-name", "add", "--args", "1", "2", "--json"]).with_code(0);
        assert_eq!(ran.json()["worker_id"], "healthy");
    }
    assert!(cluster.subworkers[0].is_running());
    assert!(cluster.subworkers[0].log().matches("RLIMIT_AS").count() <= 2);
}
