//! Unmodified clients of the Python original from `PyPI`.

use std::thread;

use fastworker_tests::{
    Cluster,
    python::{self, VERSIONS},
};

fn cluster() -> Cluster {
    let modules = ["arithmetic", "text", "flaky", "slow", "hostile"];
    Cluster::builder().modules(&modules).subworkers(1).slots(2).without_unknown_grace().start()
}

#[test]
fn both_python_versions_submit_and_receive_failures() {
    let cluster = cluster();
    for version in VERSIONS {
        python::run(version, "calls.py", &cluster, &[]);
    }
}

#[test]
fn both_versions_get_correct_results_with_64_concurrent_calls() {
    let cluster = cluster();
    for version in VERSIONS {
        python::run(version, "many_calls.py", &cluster, &["64", "20"]);
    }
}

#[test]
fn the_newer_version_cancels_schedules_and_submits_batches() {
    python::run("0.3.0", "newer.py", &cluster(), &[]);
}

#[test]
fn a_countdown_does_not_depend_on_the_time_zone() {
    python::run("0.3.0", "zones.py", &cluster(), &[]);
}

#[test]
fn pickle_is_refused_with_an_explanation() {
    let cluster = cluster();
    for version in VERSIONS {
        python::run(version, "pickles.py", &cluster, &[]);
    }
}

#[test]
fn both_versions_receive_callbacks() {
    let cluster = cluster();
    for (number, version) in (0..).zip(VERSIONS) {
        let address = format!("tcp://127.0.0.1:{}", cluster.ports().spare(number));
        python::run(version, "callbacks.py", &cluster, &[&address]);
    }
}

#[test]
fn a_call_repeated_after_its_timeout_runs_once() {
    thread::scope(|scope| {
        for version in VERSIONS {
            scope.spawn(|| python::run(version, "timeouts.py", &cluster(), &[]));
        }
    });
}
