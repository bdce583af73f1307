//! The short form of the fault suites: one round of each kind. `scripts/faults` runs more.

use fastworker_tests::faults::{Kind, run};

#[tokio::test(flavor = "multi_thread")]
async fn kill_workers() {
    run(Kind::KillWorkers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_control_plane() {
    run(Kind::KillControlPlane).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop() {
    run(Kind::Stop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut() {
    run(Kind::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restart() {
    run(Kind::Restart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_twice() {
    run(Kind::SignalTwice).await;
}
