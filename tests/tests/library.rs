//! The crate as a library: guarantees for programs that use it.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use fastworker::{
    client::{Client, ClientError, Endpoint},
    config::Address,
    json::Json,
    protocol::{Found, RefusalCode, WorkerStatus},
    server::{ControlPlaneConfig, ControlPlaneWorker},
    subworker::{ModulesConfig, SubWorker, SubWorkerConfig},
    task::{ErrorKind, NewTask, Policy, TaskId, TaskPriority, TaskStatus},
};
use fastworker_tests::{
    Cluster, TIMEOUT, cli, eventually, module,
    ports::Ports,
    task_helpers::{expect_success, wait_for_result, wait_for_status},
    wait::eventually_async,
};

fn address(port: u16) -> Address {
    format!("tcp://127.0.0.1:{port}").parse().expect("valid address")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_control_plane_fails_within_its_timeout() {
    let ports = Ports::claim();
    let timeout = Duration::from_millis(300);
    let looking = Client::builder().discovery_address(address(ports.discovery())).timeout(timeout).build();
    let going = Client::builder().control_plane_address(address(ports.base())).timeout(timeout).build();
    let [discovery, given] = [Endpoint::Discovery(address(ports.discovery())), Endpoint::Given(address(ports.base()))];
    for (client, expected) in [(looking, discovery), (going, given)] {
        let from = Instant::now();
        match client.start().await {
            Err(ClientError::Unreachable { endpoint, waited }) => {
                assert_eq!((endpoint, waited), (expected, timeout));
            }
            other => panic!("{other:?}"),
        }
        let took = from.elapsed();
        assert!(took >= timeout && took < timeout + TIMEOUT, "{took:?}");
        assert!(matches!(client.delay("add", (1, 2)).await, Err(ClientError::Stopped)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_the_control_plane_in_milliseconds() {
    let cluster = Cluster::builder().start();
    let mut took = Vec::new();
    for _ in 0..9 {
        let from = Instant::now();
        let client = cluster.client().await;
        took.push(from.elapsed());
        let welcome = client.control_plane().expect("it has started");
        assert_eq!((welcome.worker_id.as_str(), &welcome.base_address), ("control-plane", &cluster.base()));
    }
    took.sort();
    assert!(took[0] < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_start_before_the_control_plane() {
    let mut cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(1).start();
    cluster.control_plane.kill();
    let discovery = cluster.discovery().parse().expect("valid address");
    let client = Client::builder().discovery_address(discovery).build();
    let starting = tokio::spawn({
        let client = client.clone();
        async move { client.start().await }
    });
    cluster.restart_control_plane();
    starting.await.expect("no panic expected").expect("it finds it");
    assert_eq!(expect_success(&client.submit_task("add", (1, 2)).await.expect("result expected")), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_every_open_wait_and_start_works_again() {
    let cluster = Cluster::builder().modules(&["hostile", "arithmetic"]).subworkers(1).start();
    let client = cluster.client().await;
    let busy = client.delay("endless_loop", ()).await.expect("task accepted");
    wait_for_status(&client, &busy, TaskStatus::Started).await;
    let mut waits: Vec<_> = (0..20)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.submit_task("add", (number, 1)).await.map(drop) })
        })
        .collect();
    waits.push(tokio::spawn({
        let (client, busy) = (client.clone(), busy.clone());
        async move { client.lookup(&busy, Duration::from_mins(1)).await.map(drop) }
    }));
    waits.push(tokio::spawn({
        let (client, busy) = (client.clone(), busy.clone());
        async move { client.follow(&busy, 0, Duration::from_mins(1)).await.map(drop) }
    }));
    waits.push(tokio::spawn({
        let client = client.clone();
        async move {
            let task = NewTask { args: Json::parse("[1, 2]").expect("valid JSON"), ..NewTask::new("add") };
            let ends = client.submit_many(vec![task; 3]).await;
            ends.and_then(|ends| ends.into_iter().collect::<Result<Vec<_>, _>>()).map(drop)
        }
    }));
    let other = cluster.client().await;
    let all_there = || async {
        let found = other.lookup(&busy, Duration::ZERO).await.expect("reply expected");
        matches!(found, Found::Live(_)).then_some(())
    };
    eventually_async("all waits are open", TIMEOUT, all_there).await;
    let from = Instant::now();
    client.stop();
    for wait in waits {
        assert!(matches!(wait.await.expect("no panic expected"), Err(ClientError::Stopped)));
    }
    assert!(from.elapsed() < TIMEOUT, "{:?}", from.elapsed());
    assert!(matches!(client.list_tasks().await, Err(ClientError::Stopped)));
    assert!(matches!(client.submit_task("add", (1, 2)).await, Err(ClientError::Stopped)));

    client.start().await.expect("control plane reachable");
    assert!(client.cancel(&busy).await.expect("reply expected"));
    assert_eq!(expect_success(&client.submit_task("add", (1, 2)).await.expect("result expected")), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_results_are_returned_in_order() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(2).start();
    let client = cluster.client().await;
    let tasks: Vec<NewTask> = (0..2000)
        .map(|number| NewTask { args: Json::of(&(number, 1)).expect("valid JSON"), ..NewTask::new("add") })
        .collect();
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id.clone()).collect();
    let results = client.submit_many(tasks).await.expect("results expected");
    assert_eq!(results.len(), 2000);
    for (number, (result, id)) in results.into_iter().zip(&ids).enumerate() {
        let result = result.expect("result expected");
        assert_eq!((expect_success(&result), &result.task_id), ((number + 1).to_string().as_str(), id));
        assert_eq!(client.get_result(id).as_ref(), Some(&*result));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_returns_received_results_without_a_request() {
    let cluster = Cluster::builder().modules(&["arithmetic", "hostile"]).subworkers(1).start();
    let client = cluster.client().await;
    let unknown = TaskId::new();
    assert_eq!((client.get_result(&unknown), client.get_status(&unknown)), (None, None));
    let sum = client.submit_task("add", (1, 2)).await.expect("result expected");
    assert_eq!(client.get_result(&sum.task_id), Some(sum.clone()));
    assert_eq!(client.get_status(&sum.task_id), Some(TaskStatus::Success));

    let busy = client.delay("endless_loop", ()).await.expect("task accepted");
    assert_eq!((client.get_result(&busy), client.get_status(&busy)), (None, Some(TaskStatus::Pending)));
    assert!(client.cancel(&busy).await.expect("reply expected"));
    // The client also receives the ends of tasks without a wait.
    let seen = || async { client.get_status(&busy).filter(|status| *status == TaskStatus::Cancelled) };
    eventually_async("the client receives the end of the task", TIMEOUT, seen).await;
    let other = client.delay("add", (3, 4)).await.expect("task accepted");
    let result =
        eventually_async("the client receives the result", TIMEOUT, || async { client.get_result(&other) }).await;
    assert_eq!(expect_success(&result), "7");
    // Another client has not received it, and sends a request.
    let second = cluster.client().await;
    assert_eq!(second.get_result(&other), None);
    assert_eq!(second.get_task_result(&other).await.expect("reply expected"), Some(result.clone()));
    assert_eq!(second.get_result(&other), Some(result));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_submitted_many_times_runs_once_for_all_clients() {
    let cluster = Cluster::builder().modules(&["slow"]).subworkers(1).slots(4).start();
    let clients = [cluster.client().await, cluster.client().await];
    let id = TaskId::new();
    let waits: Vec<_> = (0..12)
        .map(|number| {
            let (client, id) = (clients[number % 2].clone(), id.clone());
            tokio::spawn(async move { client.submit_task("slow", (0.3, 3)).task_id(id).await })
        })
        .collect();
    let mut results = Vec::new();
    for wait in waits {
        results.push(wait.await.expect("no panic expected").expect("result expected"));
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:?}");
    assert_eq!(results[0].attempts, 1);
    let workers = clients[0].list_tasks().await.expect("reply expected");
    assert_eq!(workers[0].attempts, 1);
    // The same in one batch, and after the end.
    let args = Json::of(&(0.3, 3)).expect("valid JSON");
    let again = NewTask { id: id.clone(), args, ..NewTask::new("slow") };
    for result in clients[0].submit_many(vec![again.clone(), again]).await.expect("results expected") {
        assert_eq!(*result.expect("result expected"), results[0]);
    }
    assert_eq!(clients[1].delay("slow", (0.3, 3)).task_id(id.clone()).await.expect("task accepted"), id);
    // A different call does not get the result of this one.
    let other = clients[1].delay("slow", (9, 9)).task_id(id.clone()).await;
    assert!(matches!(&other, Err(ClientError::Refused(why)) if why.code == RefusalCode::IdTaken), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_ups_have_ids_derived_from_their_parent() {
    let cluster = Cluster::builder().modules(&["follow", "arithmetic"]).subworkers(1).start();
    let client = cluster.client().await;
    let spread = client.submit_task("spread", (25,)).await.expect("result expected");
    let ids: Vec<TaskId> = serde_json::from_str::<Vec<String>>(expect_success(&spread))
        .expect("list expected")
        .iter()
        .map(|id| id.parse().expect("id expected"))
        .collect();
    assert_eq!(ids, (0..25).map(|index| spread.task_id.follow_up(index)).collect::<Vec<_>>());
    for (index, id) in ids.iter().enumerate() {
        assert_eq!(expect_success(&wait_for_result(&client, id).await), (index * index).to_string());
    }
    let elsewhere = client.submit_task("elsewhere", ("add", [5, 3])).await.expect("result expected");
    assert_eq!(expect_success(&wait_for_result(&client, &elsewhere.task_id.follow_up(0)).await), "8");

    let mut link = client.submit_task("chain", (3, 1)).await.expect("result expected").task_id;
    for left in (0..3).rev() {
        link = link.follow_up(0);
        let found = || async { client.get_task_result(&link).await.expect("reply expected") };
        assert_eq!(
            expect_success(&eventually_async("the next follow-up ends", TIMEOUT, found).await),
            left.to_string()
        );
    }
    assert_eq!(client.get_task_result(&link.follow_up(0)).await.expect("reply expected"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_timeout_names_the_task_which_continues() {
    let cluster = Cluster::builder().modules(&["slow"]).subworkers(1).slots(4).start();
    let timeout = Duration::from_secs(3);
    let client = cluster.client_with(|builder| builder.timeout(timeout)).await;
    // Single waits and a batch.
    let calls = (0..4).map(|_| async { client.submit_task("slow", (60, 600)).await });
    let from = Instant::now();
    let mut ids = Vec::new();
    for ended in futures::future::join_all(calls).await {
        match ended {
            Err(ClientError::TimedOut { task_id, waited }) => {
                assert_eq!(waited, timeout);
                ids.push(task_id);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(from.elapsed() < timeout + TIMEOUT, "{:?}", from.elapsed());
    let other = cluster.client().await;
    for id in &ids {
        wait_for_status(&other, id, TaskStatus::Started).await;
        assert!(other.cancel(id).await.expect("reply expected"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_calls_are_refused_before_they_are_sent() {
    let cluster = Cluster::builder().modules(&["text"]).subworkers(1).start();
    let client = cluster.client().await;
    let text = "x".repeat(17 << 20);
    assert!(matches!(client.submit_task("reverse", (&text,)).await, Err(ClientError::TooLarge { .. })));
    assert!(matches!(client.delay("reverse", (&text,)).await, Err(ClientError::TooLarge { .. })));
    assert!(matches!(client.delay("reverse", "no list").await, Err(ClientError::BadArguments(_))));
    assert!(matches!(client.delay("reverse", ()).kwargs([1]).await, Err(ClientError::BadArguments(_))));
    let large = "x".repeat(7 << 20);
    let reversed = client.submit_task("reverse", (&large,)).await.expect("result expected");
    assert_eq!(expect_success(&reversed).len(), large.len() + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_kept_within_limits_of_count_and_age() {
    let bounds = ["--result-cache-size", "3", "--result-cache-ttl", "5"];
    let cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(1).control_plane_args(&bounds).start();
    let client = cluster.client().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(client.submit_task("add", (number, 1)).await.expect("result expected").task_id);
    }
    let kept = futures::future::join_all(ids.iter().map(|id| client.get_task_result(id))).await;
    let kept: Vec<bool> = kept.into_iter().map(|kept| kept.expect("reply expected").is_some()).collect();
    assert_eq!(kept, [false, false, true, true, true]);
    let expired = || async { client.get_task_result(&ids[4]).await.expect("reply expected").is_none().then_some(()) };
    eventually_async("the result expires", TIMEOUT, expired).await;
    // The client still has the results it received.
    assert!(client.get_result(&ids[0]).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_may_wait_for_a_worker_that_has_it() {
    let mut cluster = Cluster::builder().modules(&["arithmetic"]).without_unknown_grace().start();
    let client = cluster.client().await;
    let unknown = client.submit_task("add", (1, 2)).await.expect("result expected");
    assert_eq!(unknown.error_kind, Some(ErrorKind::NotFound));
    let id = client.delay("add", (1, 2)).wait_for_worker().await.expect("task accepted");
    wait_for_status(&client, &id, TaskStatus::Pending).await;
    cluster.start_subworker("sw1");
    assert_eq!(expect_success(&wait_for_result(&client, &id).await), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eta_and_a_policy_are_sent_with_a_task() {
    let cluster = Cluster::builder().modules(&["flaky"]).own_slots(1).start();
    let client = cluster.client().await;
    let eta = fastworker::clock::Timestamp::now() + Duration::from_millis(300);
    let policy =
        Policy { priority: Some(TaskPriority::High), retry_delay: Some(Duration::from_millis(1)), ..Policy::default() };
    let task = NewTask { args: Json::of(&[1]).expect("valid JSON"), policy, eta: Some(eta), ..NewTask::new("flaky") };
    let result = client.run(task).await.expect("result expected");
    assert_eq!((expect_success(&result), result.attempts), ("2", 2));
    assert!(result.started_at >= Some(eta), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_with_the_same_id_replaces_the_first_or_fails() {
    let patience = ["--timeout", "3s"];
    let mut cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(1).subworker_args(&patience).start();
    let client = cluster.client().await;
    let second = cluster.launch_subworker("sw1");
    let status = second.wait_for_exit(TIMEOUT);
    assert_eq!(status.code(), Some(2), "{}", second.log());
    assert!(second.log().contains("error: ") && second.log().contains("sw1"), "{}", second.log());
    assert_eq!(client.list_tasks().await.expect("reply expected").len(), 1);
    assert_eq!(expect_success(&client.submit_task("add", (1, 2)).await.expect("result expected")), "3");
}

fn modules(name: &str, concurrency: usize) -> ModulesConfig {
    ModulesConfig {
        sources: vec![module(name).to_str().expect("valid UTF-8").to_owned()],
        concurrency,
        cache_dir: Some(cli::cache()),
        ..ModulesConfig::default()
    }
}

fn control_plane_at(ports: &Ports) -> ControlPlaneConfig {
    ControlPlaneConfig {
        state_dir: None,
        worker_id: "cp".into(),
        base_address: address(ports.base()),
        discovery_address: address(ports.discovery()),
        subworker_management_port: ports.subworkers(),
        ..ControlPlaneConfig::default()
    }
}

fn subworker_at(ports: &Ports, id: &str, modules: ModulesConfig) -> SubWorkerConfig {
    SubWorkerConfig {
        discovery_address: address(ports.discovery()),
        modules,
        ..SubWorkerConfig::new(id, address(ports.base()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_and_a_subworker_run_within_a_program() {
    let ports = Ports::claim();
    let mut control_plane = ControlPlaneWorker::new(control_plane_at(&ports));
    let mut subworker = SubWorker::new(subworker_at(&ports, "sw1", modules("arithmetic", 2)));
    let started = tokio::task::spawn_blocking(move || {
        control_plane.start().expect("free ports");
        subworker.start().expect("control plane reachable");
        let loaded = subworker.loading().wait(TIMEOUT).expect("its modules are loaded");
        assert_eq!((loaded.modules, loaded.broken, loaded.tasks, subworker.tasks()), (1, 0, 2, 2));
        (control_plane, subworker)
    });
    let (mut control_plane, mut subworker) = started.await.expect("no panic expected");
    let client = Client::builder().discovery_address(address(ports.discovery())).build();
    client.start().await.expect("control plane reachable");
    let sums = futures::future::join_all((0..100).map(|number| {
        let client = &client;
        async move { client.submit_task("add", (number, 1)).await.expect("result expected") }
    }));
    for (number, sum) in sums.await.iter().enumerate() {
        assert_eq!(expect_success(sum), (number + 1).to_string());
    }
    let status = control_plane.get_subworker_status();
    assert_eq!((status.len(), status[0].id.as_str(), status[0].slots), (1, "sw1", 2));
    assert_eq!(status[0].status, WorkerStatus::Active);
    assert_eq!(control_plane.counts().ended, [100, 0, 0]);
    let stopped = tokio::task::spawn_blocking(move || {
        subworker.stop(TIMEOUT);
        assert!(control_plane.get_subworker_status().is_empty());
        control_plane.stop(TIMEOUT);
    });
    stopped.await.expect("no panic expected");
    client.stop();
    // The ports are free again.
    wait_until_free(ports.base());
    drop(Arc::new(ports));
}

/// Drops it, and returns how long that took.
async fn time_to_drop<T: Send + 'static>(dropped: T) -> Duration {
    let drops = tokio::task::spawn_blocking(move || {
        let from = Instant::now();
        drop(dropped);
        from.elapsed()
    });
    drops.await.expect("no panic expected")
}

/// Waits until a port is free. A process that another test starts briefly holds copies of our sockets.
fn wait_until_free(port: u16) {
    eventually("the port is free", TIMEOUT, || TcpListener::bind(("127.0.0.1", port)).ok());
}

async fn started_subworker(ports: &Ports, id: &str) -> SubWorker {
    let mut subworker = SubWorker::new(subworker_at(ports, id, modules("hostile", 1)));
    let starts = tokio::task::spawn_blocking(move || {
        subworker.start().expect("control plane reachable");
        subworker
    });
    starts.await.expect("no panic expected")
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_workers_stop_immediately() {
    /// Shorter than a drain, and longer than a busy machine needs.
    const AT_ONCE: Duration = Duration::from_secs(8);
    let ports = Ports::claim();
    let mut control_plane = ControlPlaneWorker::new(control_plane_at(&ports));
    control_plane.start().expect("free ports");
    let client = Client::builder().discovery_address(address(ports.discovery())).build();
    client.start().await.expect("control plane reachable");

    // A worker refused for the id of the control plane has nothing to stop.
    let mut existing = SubWorker::new(subworker_at(&ports, "cp", ModulesConfig::default()));
    let refused = tokio::task::spawn_blocking(move || existing.start().map_err(|error| error.to_string()));
    let why = refused.await.expect("no panic expected").expect_err("id in use");
    assert!(why.contains("'cp'"), "{why}");

    let first = started_subworker(&ports, "sw1").await;
    let busy = client.delay("endless_loop", ()).await.expect("task accepted");
    wait_for_status(&client, &busy, TaskStatus::Started).await;
    let took = time_to_drop(first).await;
    assert!(took < AT_ONCE, "{took:?}");
    // It has left, and another worker runs its task.
    let has_left = || async { control_plane.get_subworker_status().is_empty().then_some(()) };
    eventually_async("the worker has left", TIMEOUT, has_left).await;
    let second = started_subworker(&ports, "sw2").await;
    let runs = || async { (control_plane.get_subworker_status()[0].load == 1).then_some(()) };
    eventually_async("the task runs on sw2", TIMEOUT, runs).await;

    let mut waits = Box::pin(client.lookup(&busy, Duration::from_mins(1)));
    // It has arrived once a later request has its reply.
    tokio::select! {
        biased;
        early = &mut waits => panic!("{early:?}"),
        workers = client.list_tasks() => assert_eq!(workers.expect("reply expected").len(), 1),
    }
    let took = time_to_drop(control_plane).await;
    assert!(took < AT_ONCE, "{took:?}");
    // A wait moves to the next control plane, which does not know the task.
    // Without a control plane.
    let took = time_to_drop(second).await;
    assert!(took < AT_ONCE, "{took:?}");

    // The ports are free again, for one that runs tasks itself.
    let config = ControlPlaneConfig { modules: modules("hostile", 1), ..control_plane_at(&ports) };
    let mut control_plane = ControlPlaneWorker::new(config);
    control_plane.start().expect("free ports");
    assert!(matches!(waits.await, Ok(Found::Unknown)));
    let busy = client.delay("endless_loop", ()).await.expect("task accepted");
    wait_for_status(&client, &busy, TaskStatus::Started).await;
    let took = time_to_drop(control_plane).await;
    assert!(took < AT_ONCE, "{took:?}");
    wait_until_free(ports.base());
}
