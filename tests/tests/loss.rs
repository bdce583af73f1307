//! Lost workers and restarted control planes: no task is lost, and none is recorded twice.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

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

/// Maximum time until the tasks of a lost worker run again. A killed worker is noticed by its closed connection.
const FAILOVER_TIME: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_tasks_of_three_clients_outlive_a_killed_worker() {
    let mut cluster = Cluster::builder().modules(&["primes"]).subworkers(2).start();
    let primes = first_primes(6000);
    let watcher = cluster.client().await;
    let mut submitted = HashMap::new();
    let mut waits = Vec::new();
    for (number, count) in [1667, 1667, 1666].into_iter().enumerate() {
        let client = cluster.client().await;
        let tasks: Vec<NewTask> = (0..count).map(|index| nth_prime(5000 + (index * 3 + number) % 1000)).collect();
        for task in &tasks {
            let n: usize = task.args.as_str().trim_matches(['[', ']']).parse().expect("a number");
            submitted.insert(task.id.clone(), primes[n - 1]);
        }
        waits.push(tokio::spawn(async move { client.submit_many(tasks).await.expect("results") }));
    }
    assert_eq!(submitted.len(), 5000);
    // In the middle of it: sw1 has run some tasks and holds more.
    cluster
        .wait_for_workers(&watcher, "sw1 at work", |workers| {
            workers.iter().any(|worker| worker.id == "sw1" && worker.attempts >= 200)
        })
        .await;
    cluster.subworkers[0].kill();
    cluster.start_subworker("sw3");

    let mut results = HashMap::new();
    for wait in waits {
        for result in wait.await.expect("no panic") {
            let result = result.expect("a result");
            assert_eq!(expect_success(&result), submitted[&result.task_id].to_string());
            assert!(results.insert(result.task_id.clone(), result).is_none(), "one result each");
        }
    }
    assert_eq!(results.len(), 5000);
    let by_worker = |id: &str| results.values().filter(|result| result.worker_id.as_deref() == Some(id)).count();
    assert!(by_worker("sw1") >= 200 && by_worker("sw2") > 0, "{} {}", by_worker("sw1"), by_worker("sw2"));
    // The recorded results are the reported ones.
    for (id, result) in &results {
        let recorded = watcher.get_task_result(id).await.expect("an answer").expect("it is kept");
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
async fn the_tasks_of_a_killed_worker_are_back_in_work_within_a_second() {
    assert_best_within("that they are back in work", FAILOVER_TIME, failover_time).await;
}

/// Kills a worker, and returns how long its tasks did not run.
async fn failover_time() -> Duration {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let client = cluster.client().await;
    let running = client.delay("slow", (60, 600)).await.expect("it is taken");
    let queued = client.delay("slow", (0.0, 1)).await.expect("it is taken");
    wait_for_status(&client, &running, TaskStatus::Started).await;
    cluster.start_subworker("sw2");
    let killed_at = Timestamp::now();
    cluster.subworkers[0].kill();
    let again = eventually_async("that sw2 runs it", TIMEOUT, || async {
        let runs = wait_for_status(&client, &running, TaskStatus::Started).await;
        (runs.worker_id.as_deref() == Some("sw2")).then_some(runs)
    });
    let again_at = again.await.started_at.expect("it runs");
    assert!(again_at > killed_at, "{again_at:?} {killed_at:?}");
    assert!(client.cancel(&running).await.expect("an answer"));
    let ended = wait_for_result(&client, &queued).await;
    expect_success(&ended);
    for result in [ended, wait_for_result(&client, &running).await] {
        assert_eq!(result.worker_id.as_deref(), Some("sw2"));
        // A loss is no attempt of the task.
        assert_eq!(result.attempts, 1);
    }
    cluster
        .wait_for_workers(&client, "that sw1 is lost", |workers| {
            workers.iter().any(|worker| worker.id == "sw1" && worker.status == WorkerStatus::Lost)
        })
        .await;
    again_at.since(killed_at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_takes_its_worker_along_three_times_ends_as_worker_lost() {
    let mut cluster = Cluster::builder().modules(&["hostile", "arithmetic"]).subworkers(1).start();
    let client = cluster.client().await;
    let crashing = client.delay("endless_loop", ()).await.expect("it is taken");
    let other = client.delay("add", (5, 3)).await.expect("it is taken");
    let mut started_at = None;
    for number in 2..=4 {
        started_at = Some(started_after(&client, &crashing, started_at).await);
        cluster.subworkers.last_mut().expect("a subworker").kill();
        cluster.start_subworker(&format!("sw{number}"));
    }
    let ended = wait_for_result(&client, &crashing).await;
    assert_eq!((ended.status, ended.error_kind), (TaskStatus::Failure, Some(ErrorKind::WorkerLost)), "{ended:?}");
    assert!(ended.error.as_deref().is_some_and(|error| error.contains('3')), "{ended:?}");
    assert_eq!(expect_success(&wait_for_result(&client, &other).await), "8");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_at_once_does_not_count_as_lost() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let client = cluster.client().await;
    let long = client.delay("slow", (60, 600)).await.expect("it is taken");
    let mut started_at = None;
    for number in 2..=5 {
        started_at = Some(started_after(&client, &long, started_at).await);
        let worker = cluster.subworkers.last_mut().expect("a subworker");
        // Signals without end: the second one that counts stops it.
        eventually("the end", TIMEOUT, || {
            worker.terminate();
            (!worker.is_running()).then_some(())
        });
        assert_eq!(worker.wait_for_exit(TIMEOUT).code(), Some(130), "{}", worker.log());
        cluster.start_subworker(&format!("sw{number}"));
    }
    started_after(&client, &long, started_at).await;
    let task = wait_for_status(&client, &long, TaskStatus::Started).await;
    assert!(task.error.as_deref().is_some_and(|error| error.contains("'sw4'")), "{task:?}");
    assert!(client.cancel(&long).await.expect("an answer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_worker_is_lost_and_its_late_outcomes_do_not_count() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).start();
    let client = cluster.client().await;
    let id = client.delay("slow", (4.0, 4)).await.expect("it is taken");
    wait_for_status(&client, &id, TaskStatus::Started).await;
    cluster.subworkers[0].pause();
    cluster.start_subworker("sw2");
    let result = wait_for_result_within(&client, &id, Duration::from_mins(1)).await;
    expect_success(&result);
    assert_eq!(result.worker_id.as_deref(), Some("sw2"));
    cluster.subworkers[0].resume();
    cluster
        .wait_for_workers(&client, "that sw1 is back", |workers| {
            workers.iter().any(|worker| worker.id == "sw1" && worker.status == WorkerStatus::Active)
        })
        .await;
    assert_eq!(client.get_task_result(&id).await.expect("an answer"), Some(result));
    cluster.subworkers[1].kill();
    assert_eq!(expect_success(&client.submit_task("slow", (0.0, 1)).await.expect("a result")), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_and_a_client_that_outlive_their_control_plane_find_the_next() {
    let mut cluster = Cluster::builder().modules(&["arithmetic", "slow"]).subworkers(1).start();
    let client = cluster.client().await;
    assert_eq!(expect_success(&client.submit_task("add", (1, 2)).await.expect("a result")), "3");
    let before = client.delay("slow", (20, 20)).await.expect("it is taken");
    wait_for_status(&client, &before, TaskStatus::Started).await;
    cluster.control_plane.kill();
    cluster.restart_control_plane();

    let sum = client.submit_task("add", (5, 3)).wait_for_worker().await.expect("a result");
    assert_eq!(expect_success(&sum), "8");
    assert_eq!(sum.worker_id.as_deref(), Some("sw1"));
    // Nothing of it was kept, so the old task is unknown: its slot was freed for the new one.
    assert_eq!(client.get_task_result(&before).await.expect("an answer"), None);
    cluster
        .wait_for_workers(
            &client,
            "one worker",
            |workers| matches!(workers, [worker] if worker.id == "sw1" && worker.status == WorkerStatus::Active),
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_survives_a_restart_of_the_control_plane() {
    let mut cluster = Cluster::builder().modules(&["slow"]).subworkers(1).slots(8).start();
    let client = cluster.client().await;
    // One that goes by itself, and many that go together.
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
        assert_eq!(expect_success(&wait.await.expect("no panic").expect("a result")), "10");
    }
    assert!(killed.elapsed() < 3 * TIMEOUT, "{:?}", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_subworkers_follow_a_control_plane_that_moves() {
    let id = ["--cluster-id", "5f0c2d7e-6a51-4a0e-9d8e-3b1f0c9a7e42"];
    let mut cluster =
        Cluster::builder().modules(&["arithmetic"]).subworkers(1).slots(2).control_plane_args(&id).start();
    let client = cluster.client().await;
    assert_eq!(expect_success(&client.submit_task("add", (1, 2)).await.expect("a result")), "3");
    let ports = fastworker_tests::ports::Ports::claim();
    cluster.control_plane.kill();
    let mut command = cluster.command(["control-plane", "--json"]);
    command.args(id).args(["--base-address", &format!("tcp://127.0.0.1:{}", ports.base())]);
    command.args(["--subworker-port", &ports.subworkers().to_string()]);
    cluster.control_plane = fastworker_tests::Process::start("elsewhere", command, cluster.folder());
    cluster.control_plane.wait_until_ready();
    let submitted_at = Instant::now();
    let result = client.submit_task("add", (5, 3)).wait_for_worker().await.expect("a result");
    // Long before a question that the first one took would be given up.
    assert!(submitted_at.elapsed() < TIMEOUT, "{:?}", submitted_at.elapsed());
    assert_eq!((expect_success(&result), result.worker_id.as_deref()), ("8", Some("sw1")));
    assert_eq!(cluster.subworkers[0].log().matches("the control plane has moved").count(), 1);
}

/// Waits until a task has started again, and returns when.
async fn started_after(client: &Client, id: &TaskId, before: Option<Timestamp>) -> Timestamp {
    eventually_async("that it starts", TIMEOUT, || async {
        wait_for_status(client, id, TaskStatus::Started).await.started_at.filter(|at| Some(*at) != before)
    })
    .await
}

/// A check of the harness itself.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_cluster_is_left_when_it_is_dropped() {
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
