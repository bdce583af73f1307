//! Lost workers: no task is lost, and none is recorded twice.

use std::{collections::HashMap, time::Duration};

use fastworker::{
    client::Client,
    clock::Timestamp,
    protocol::WorkerStatus,
    task::{ErrorKind, NewTask, TaskId, TaskStatus},
};
use fastworker_tests::{
    Cluster, TIMEOUT,
    task_helpers::{expect_success, wait_for_result, wait_for_result_within, wait_for_status},
    wait::{assert_best_within, eventually, eventually_async},
};

/// Maximum time until the tasks of a killed worker run again. Its closed connection reports the loss.
const FAILOVER_TIME: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_tasks_of_three_clients_survive_a_killed_worker() {
    let mut cluster = Cluster::builder().modules(&["primes"]).subworkers(2).start();
    let primes = first_primes(6000);
    let watcher = cluster.client().await;
    let mut submitted = HashMap::new();
    let mut waits = Vec::new();
    for (number, count) in [1667, 1667, 1666].into_iter().enumerate() {
        let client = cluster.client().await;
        let tasks: Vec<NewTask> = (0..count).map(|index| nth_prime(5000 + (index * 3 + number) % 1000)).collect();
        for task in &tasks {
            let n: usize = task.args.as_str().trim_matches(['[', ']']).parse().expect("valid number");
            submitted.insert(task.id.clone(), primes[n - 1]);
        }
        waits.push(tokio::spawn(async move { client.submit_many(tasks).await.expect("results expected") }));
    }
    assert_eq!(submitted.len(), 5000);
    // Kill sw1 after it has run some tasks, while it holds more.
    cluster
        .wait_for_workers(&watcher, "sw1 has run 200 tasks", |workers| {
            workers.iter().any(|worker| worker.id == "sw1" && worker.attempts >= 200)
        })
        .await;
    cluster.subworkers[0].kill();
    cluster.start_subworker("sw3");

    let mut results = HashMap::new();
    for wait in waits {
        for result in wait.await.expect("no panic expected") {
            let result = result.expect("result expected");
            assert_eq!(expect_success(&result), submitted[&result.task_id].to_string());
            assert!(results.insert(result.task_id.clone(), result).is_none(), "one result each");
        }
    }
    assert_eq!(results.len(), 5000);
    let by_worker = |id: &str| results.values().filter(|result| result.worker_id.as_deref() == Some(id)).count();
    assert!(by_worker("sw1") >= 200 && by_worker("sw2") > 0, "{} {}", by_worker("sw1"), by_worker("sw2"));
    // The recorded results equal the reported ones.
    for (id, result) in &results {
        let recorded = watcher.get_task_result(id).await.expect("reply expected").expect("recorded result");
        assert_eq!(&recorded, &**result);
    }
}

fn nth_prime(n: usize) -> NewTask {
    let args = fastworker::json::Json::of(&[n]).expect("a number is JSON");
    NewTask { args, ..NewTask::new("nth_prime") }
}

fn first_primes(count: usize) -> Vec<u64> {
    let mut primes: Vec<u64> = Vec::with_capacity(count);
    let mut candidate = 2;
    while primes.len() < count {
        if primes.iter().take_while(|prime| **prime * **prime <= candidate).all(|prime| candidate % prime != 0) {
            primes.push(candidate);
        }
        candidate += 1;
    }
    primes
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_killed_worker_run_again_within_a_second() {
    assert_best_within("the tasks run again", FAILOVER_TIME, failover_time).await;
}

/// Kills a worker, and returns the time until its task runs again.
async fn failover_time() -> Duration {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let client = cluster.client().await;
    let running = client.delay("slow", (60, 600)).await.expect("task accepted");
    let queued = client.delay("slow", (0.0, 1)).await.expect("task accepted");
    wait_for_status(&client, &running, TaskStatus::Started).await;
    cluster.start_subworker("sw2");
    let killed_at = Timestamp::now();
    cluster.subworkers[0].kill();
    let again = eventually_async("sw2 runs the task", TIMEOUT, || async {
        let runs = wait_for_status(&client, &running, TaskStatus::Started).await;
        (runs.worker_id.as_deref() == Some("sw2")).then_some(runs)
    });
    let again_at = again.await.started_at.expect("still running");
    assert!(again_at > killed_at, "{again_at:?} {killed_at:?}");
    assert!(client.cancel(&running).await.expect("reply expected"));
    let ended = wait_for_result(&client, &queued).await;
    expect_success(&ended);
    for result in [ended, wait_for_result(&client, &running).await] {
        assert_eq!(result.worker_id.as_deref(), Some("sw2"));
        // A loss does not count as an attempt.
        assert_eq!(result.attempts, 1);
    }
    cluster
        .wait_for_workers(&client, "sw1 is lost", |workers| {
            workers.iter().any(|worker| worker.id == "sw1" && worker.status == WorkerStatus::Lost)
        })
        .await;
    again_at.since(killed_at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_crashes_three_workers_ends_as_worker_lost() {
    let mut cluster = Cluster::builder().modules(&["hostile", "arithmetic"]).subworkers(1).start();
    let client = cluster.client().await;
    let crashing = client.delay("endless_loop", ()).await.expect("task accepted");
    let other = client.delay("add", (5, 3)).await.expect("task accepted");
    let mut started_at = None;
    for number in 2..=4 {
        started_at = Some(started_after(&client, &crashing, started_at).await);
        cluster.subworkers.last_mut().expect("subworker expected").kill();
        cluster.start_subworker(&format!("sw{number}"));
    }
    let ended = wait_for_result(&client, &crashing).await;
    assert_eq!((ended.status, ended.error_kind), (TaskStatus::Failure, Some(ErrorKind::WorkerLost)), "{ended:?}");
    assert!(ended.error.as_deref().is_some_and(|error| error.contains('3')), "{ended:?}");
    assert_eq!(expect_success(&wait_for_result(&client, &other).await), "8");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stopped_by_signals_does_not_count_as_lost() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let client = cluster.client().await;
    let long = client.delay("slow", (60, 600)).await.expect("task accepted");
    let mut started_at = None;
    for number in 2..=5 {
        started_at = Some(started_after(&client, &long, started_at).await);
        let worker = cluster.subworkers.last_mut().expect("subworker expected");
        // Repeat the signal: the second one that counts stops the worker.
        eventually("the worker ends", TIMEOUT, || {
            worker.terminate();
            (!worker.is_running()).then_some(())
        });
        assert_eq!(worker.wait_for_exit(TIMEOUT).code(), Some(130), "{}", worker.log());
        cluster.start_subworker(&format!("sw{number}"));
    }
    started_after(&client, &long, started_at).await;
    let task = wait_for_status(&client, &long, TaskStatus::Started).await;
    assert!(task.error.as_deref().is_some_and(|error| error.contains("'sw4'")), "{task:?}");
    assert!(client.cancel(&long).await.expect("reply expected"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_worker_is_lost_and_its_late_outcomes_do_not_count() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let client = cluster.client().await;
    let id = client.delay("slow", (4.0, 4)).await.expect("task accepted");
    wait_for_status(&client, &id, TaskStatus::Started).await;
    cluster.subworkers[0].pause();
    cluster.start_subworker("sw2");
    let result = wait_for_result_within(&client, &id, Duration::from_mins(1)).await;
    expect_success(&result);
    assert_eq!(result.worker_id.as_deref(), Some("sw2"));
    cluster.subworkers[0].resume();
    cluster
        .wait_for_workers(&client, "sw1 is back", |workers| {
            workers.iter().any(|worker| worker.id == "sw1" && worker.status == WorkerStatus::Active)
        })
        .await;
    assert_eq!(client.get_task_result(&id).await.expect("reply expected"), Some(result));
    cluster.subworkers[1].kill();
    assert_eq!(expect_success(&client.submit_task("slow", (0.0, 1)).await.expect("result expected")), "1");
}

/// Waits until a task has started again, and returns the start time.
async fn started_after(client: &Client, id: &TaskId, before: Option<Timestamp>) -> Timestamp {
    eventually_async("the task starts", TIMEOUT, || async {
        wait_for_status(client, id, TaskStatus::Started).await.started_at.filter(|at| Some(*at) != before)
    })
    .await
}

/// Checks the harness itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_cluster_leaves_no_processes_or_ports() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(1).subworkers(1).start();
    let client: Client = cluster.client().await;
    drop(client);
    let ids = [cluster.control_plane.id(), cluster.subworkers[0].id()];
    let base = cluster.ports().base();
    drop(cluster);
    for id in ids {
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists(), "process {id}");
    }
    assert!(std::net::TcpStream::connect(("127.0.0.1", base)).is_err());
}
