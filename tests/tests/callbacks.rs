//! Callbacks: one message for each end; a dead listener does no harm.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use fastworker::{
    client::{Client, Listener},
    json::Json,
    protocol::{CallbackMessage, EventKind},
    task::{CallbackInfo, Delivery, DeliveryState, ErrorKind, NewTask, Policy, TaskId, TaskStatus},
};
use fastworker_tests::{
    Cluster, TIMEOUT,
    original::{Wire, send_request},
    peer::{PAIR, Peer, greeting},
    task_helpers::wait_for_result,
    wait::eventually_async,
    wording,
};
use futures::{StreamExt, future::join_all};
use serde_json::{Value, json};

/// Timeout for all tries of many dead addresses.
const LONG: Duration = Duration::from_mins(1);
/// No address is given up earlier.
const ALL_TRIES: Duration = Duration::from_secs(8);

fn cluster() -> Cluster {
    Cluster::builder()
        .modules(&["arithmetic", "flaky", "hostile"])
        .subworkers(1)
        .slots(2)
        .without_unknown_grace()
        .start()
}

fn listen() -> Listener {
    Listener::bind("tcp://127.0.0.1:0").expect("free port")
}

/// A call of `add` that calls back with this number.
fn add(number: usize, address: &str) -> NewTask {
    let data = Json::of(&number).expect("valid JSON");
    NewTask {
        args: Json::of(&(number, 1)).expect("valid JSON"),
        callback: Some(CallbackInfo::new(address).with_data(data)),
        ..NewTask::new("add")
    }
}

async fn next(listener: &mut Listener) -> CallbackMessage {
    next_within(listener, TIMEOUT).await
}

async fn next_within(listener: &mut Listener, limit: Duration) -> CallbackMessage {
    let message = tokio::time::timeout(limit, listener.next()).await.expect("message within the timeout");
    message.expect("the socket works").expect("callback expected")
}

async fn delivery(client: &Client, id: &TaskId) -> Delivery {
    *wait_for_result(client, id).await.callback.expect("it has a callback")
}

/// Waits until a callback is delivered or given up.
async fn wait_for_delivery(client: &Client, id: &TaskId) -> Delivery {
    let known = || async {
        let delivery = delivery(client, id).await;
        (delivery.state != DeliveryState::Pending).then_some(delivery)
    };
    eventually_async("the fate of the callback is known", LONG, known).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_thousand_tasks_is_reported_once() {
    let cluster = cluster();
    let client = cluster.client().await;
    let mut listener = listen();
    let address = listener.address().to_owned();
    let task = |number: usize| match number % 100 {
        0 => NewTask { name: "picky".into(), args: Json::of(&[3]).expect("valid JSON"), ..add(number, &address) },
        1 => NewTask { name: "nosuch".into(), ..add(number, &address) },
        2 => NewTask {
            name: "endless_loop".into(),
            args: Json::empty_array(),
            policy: Policy { timeout: Some(Duration::from_millis(20)), ..Policy::default() },
            ..add(number, &address)
        },
        3 => NewTask { countdown: Some(LONG), ..add(number, &address) },
        _ => add(number, &address),
    };
    let sends = join_all((0..1_000).map(|number| client.send(task(number)))).await;
    let ids: Vec<TaskId> = sends.into_iter().map(|sent| sent.expect("task accepted")).collect();
    for late in ids.iter().skip(3).step_by(100) {
        assert!(client.cancel(late).await.expect("reply expected"));
    }
    let mut received: HashMap<TaskId, CallbackMessage> = HashMap::new();
    while received.len() < ids.len() {
        let message = next(&mut listener).await;
        let again = received.insert(message.task_id.clone(), message);
        assert!(again.is_none(), "received twice: {again:?}");
    }
    let mut ends: BTreeMap<(TaskStatus, Option<ErrorKind>), usize> = BTreeMap::new();
    for (number, id) in ids.iter().enumerate() {
        let (message, end) = (&received[id], wait_for_result(&client, id).await);
        assert_eq!((message.status, &message.result, &message.error), (end.status, &end.result, &end.error));
        assert_eq!((message.started_at, message.completed_at), (end.started_at, end.completed_at));
        assert_eq!((message.error_kind, &message.worker_id), (end.error_kind, &end.worker_id));
        assert_eq!(message.callback_data.as_ref().map(Json::as_str), Some(&*number.to_string()));
        let fate = wait_for_delivery(&client, id).await;
        assert_eq!((fate.state, &*fate.address, fate.reason), (DeliveryState::Delivered, &*address, None));
        *ends.entry((end.status, end.error_kind)).or_default() += 1;
    }
    let failed = |kind| (TaskStatus::Failure, Some(kind));
    let expected = [
        ((TaskStatus::Success, None), 960),
        (failed(ErrorKind::BadArguments), 10),
        (failed(ErrorKind::Timeout), 10),
        (failed(ErrorKind::NotFound), 10),
        ((TaskStatus::Cancelled, None), 10),
    ];
    assert_eq!(ends, expected.into_iter().collect());
    // All are known to be delivered: any further message would be a duplicate.
    assert!(tokio::time::timeout(Duration::from_millis(100), listener.next()).await.is_err(), "one too many");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callbacks_to_dead_addresses_delay_no_task() {
    let cluster = cluster();
    let client = cluster.client().await;
    let mut listener = listen();
    // Warm up connections that stay open, so that they do not count.
    client.send(add(0, listener.address())).await.expect("task accepted");
    next(&mut listener).await;
    let files = || cluster.control_plane.open_files();
    let before = files();
    let port = cluster.ports().spare(0);
    // Every second callback has its own address; the others share one.
    let dead = |number: usize| match number % 2 {
        0 => format!("tcp://127.9.{}.{}:{port}", number / 200, number % 200 + 1),
        _ => format!("tcp://127.0.0.1:{port}"),
    };
    let tasks = (0..1_000).map(|number| add(number, &dead(number))).collect::<Vec<_>>();
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id.clone()).collect();
    let submitted_at = Instant::now();
    let results = client.submit_many(tasks).await.expect("tasks accepted");
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|end| end.status == TaskStatus::Success)));
    let live: Vec<TaskId> = join_all((0..100).map(|number| client.send(add(number, listener.address()))))
        .await
        .into_iter()
        .map(|sent| sent.expect("task accepted"))
        .collect();
    for _ in &live {
        next(&mut listener).await;
    }
    // Dead addresses are tried for longer than that: the live ones did not wait for them.
    let fate = delivery(&client, &ids[999]).await.state;
    assert!(fate == DeliveryState::Pending || submitted_at.elapsed() > ALL_TRIES, "the dead ones are still tried");
    for id in &ids {
        let fate = wait_for_delivery(&client, id).await;
        let reason = fate.reason.unwrap_or_default();
        assert_eq!((fate.state, fate.attempts), (DeliveryState::Failed, 3), "{reason}");
        assert!(!reason.is_empty());
    }
    let are_back = || async { (files() <= before).then_some(()) };
    eventually_async("the files are closed", LONG, are_back).await;
    let events = client.events(0, Duration::ZERO).await.expect("events expected");
    assert!(events.last > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_callback_addresses_delay_no_others() {
    let cluster = cluster();
    let client = cluster.client().await;
    // One accepts connections and stays silent, one completes the handshake and never reads.
    let silent = TcpListener::bind("127.0.0.1:0").expect("valid port");
    let unread = TcpListener::bind("127.0.0.1:0").expect("valid port");
    let address = |listener: &TcpListener| format!("tcp://{}", listener.local_addr().expect("valid address"));
    let (to_silent, to_unread) = (address(&silent), address(&unread));
    let shakes = std::thread::spawn(move || Wire::accept_pair(unread.accept().expect("open connection").0));
    let first = client.send(add(1, &to_silent)).await.expect("task accepted");
    let large = Json::of(&"x".repeat(1_000_000)).expect("valid JSON");
    let mut stuck = Vec::new();
    for number in 0..20 {
        let callback = CallbackInfo::new(&*to_unread).with_data(large.clone());
        stuck.push(
            client.send(NewTask { callback: Some(callback), ..add(number, &to_unread) }).await.expect("task accepted"),
        );
    }
    let _unread = shakes.join().expect("handshake expected");
    let mut listener = listen();
    for number in 0..100 {
        client.send(add(number, listener.address())).await.expect("task accepted");
        assert_eq!(next(&mut listener).await.callback_data.expect("data").as_str(), number.to_string());
    }
    let last = stuck.last().expect("some");
    assert_eq!(delivery(&client, last).await.state, DeliveryState::Pending);
    let fate = wait_for_delivery(&client, &first).await;
    assert!(fate.state == DeliveryState::Failed && fate.reason.is_some(), "{fate:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_starts_late_or_restarts_misses_nothing() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(1);
    let cluster = cluster.control_plane_args(&["--log-level", "debug"]).start();
    let client = cluster.client().await;
    let address = format!("tcp://127.0.0.1:{}", cluster.ports().spare(0));
    let late = client.send(add(1, &address)).await.expect("task accepted");
    let has_failed = || async { cluster.control_plane.log().contains(wording::CALLBACK_FAILED).then_some(()) };
    eventually_async("the first try fails", TIMEOUT, has_failed).await;
    let bind = || async { Listener::bind(&address).ok() };
    let mut listener = eventually_async("the port is free", TIMEOUT, bind).await;
    assert_eq!(next_within(&mut listener, LONG).await.task_id, late);
    let fate = wait_for_delivery(&client, &late).await;
    assert!(fate.state == DeliveryState::Delivered && fate.attempts > 1, "{fate:?}");

    drop(listener);
    // A message sent while a connection closes is lost without notice.
    let port = cluster.ports().spare(0);
    let is_over = || async { (!is_connected_to(port)).then_some(()) };
    eventually_async("the connection is closed", TIMEOUT, is_over).await;
    let next_id = client.send(add(2, &address)).await.expect("task accepted");
    wait_for_result(&client, &next_id).await;
    let mut listener = eventually_async("the port is free", TIMEOUT, bind).await;
    assert_eq!(next_within(&mut listener, LONG).await.task_id, next_id);
}

/// Whether a socket of this machine is connected to this port, or was and has not been closed yet.
fn is_connected_to(port: u16) -> bool {
    let sockets = fs::read_to_string("/proc/net/tcp").expect("socket table");
    sockets.lines().any(|socket| {
        let mut fields = socket.split_whitespace().skip(2);
        let is_there = fields.next().is_some_and(|remote| remote.ends_with(&format!(":{port:04X}")));
        // ESTABLISHED and CLOSE_WAIT.
        is_there && fields.next().is_some_and(|state| state == "01" || state == "08")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_listener_gets_everything_and_delays_no_task() {
    let cluster = cluster();
    let client = cluster.client().await;
    let mut listener = listen();
    let padding = Json::of(&"x".repeat(20_000)).expect("valid JSON");
    let task = || NewTask {
        callback: Some(CallbackInfo::new(listener.address()).with_data(padding.clone())),
        ..add(1, listener.address())
    };
    // More than the kernel buffers for a connection, and none is read.
    let tasks: Vec<NewTask> = (0..1_000).map(|_| task()).collect();
    let ends = client.submit_many(tasks).await.expect("tasks accepted");
    let ids: std::collections::HashSet<TaskId> =
        ends.into_iter().map(|end| end.expect("end expected").task_id.clone()).collect();
    assert_eq!(ids.len(), 1_000);
    let mut received = std::collections::HashSet::new();
    while received.len() < ids.len() {
        let message = next(&mut listener).await;
        assert!(ids.contains(&message.task_id) && received.insert(message.task_id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_to_a_busy_listener_is_retried() {
    let cluster = cluster();
    let client = cluster.client().await;
    // On a busy machine the first connection may be open at each of the few tries of the second.
    let is_repeated = || async { is_repeated(&client).await.then_some(()) };
    eventually_async("the callback is repeated", 3 * LONG, is_repeated).await;
}

/// Whether a listener with another peer receives a callback, at the same time or afterwards.
async fn is_repeated(client: &Client) -> bool {
    let mut listener = listen();
    // The same listener under another name is another address, so a second connection.
    let other_name = listener.address().replace("127.0.0.1", "127.1");
    let first = client.delay_with_callback("add", listener.address(), (1, 2)).await.expect("task accepted");
    assert_eq!(next(&mut listener).await.task_id, first);
    let second =
        client.delay_with_callback("add", &other_name, (1, 2)).callback_data([1]).await.expect("task accepted");
    let fate = async {
        let fate = wait_for_delivery(client, &second).await;
        if fate.state == DeliveryState::Delivered {
            std::future::pending::<()>().await;
        }
        fate
    };
    tokio::select! {
        received = next_within(&mut listener, LONG) => assert_eq!(received.task_id, second),
        fate = fate => {
            assert_eq!((fate.state, fate.attempts), (DeliveryState::Failed, 3), "{fate:?}");
            return false;
        }
    }
    assert_eq!(wait_for_delivery(client, &second).await.state, DeliveryState::Delivered);
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_callback_is_an_error_and_the_next_is_received() {
    let mut listener = listen();
    let port = listener.address().rsplit_once(':').expect("valid port").1.parse().expect("valid number");
    let mut peer = Wire::pair(port);
    peer.send(b"hello");
    peer.send(br#"{"task_id": "t", "status": "success", "result": null}"#);
    let unreadable = StreamExt::next(&mut listener).await.expect("the socket works").expect_err("no callback");
    assert_eq!(unreadable.text, "hello");
    let message = next(&mut listener).await;
    assert_eq!((message.status, message.result), (TaskStatus::Success, Some(Json::null())));
}

#[tokio::test(flavor = "multi_thread")]
async fn original_submissions_get_callbacks_in_the_original_format() {
    let cluster = cluster();
    let client = cluster.client().await;
    let callbacks = TcpListener::bind("127.0.0.1:0").expect("valid port");
    let address = format!("tcp://{}", callbacks.local_addr().expect("valid address"));
    let submission = json!({
        "id": "T1", "name": "add", "args": [5, 3],
        "callback": { "address": address, "data": { "source": "t" } },
    });
    let normal = cluster.ports().base() + 2;
    // The client listens before it submits, and a dropped connection is replaced.
    let received = tokio::task::spawn_blocking(move || {
        callbacks.incoming().find_map(|stream| {
            let mut peer = Peer::from_stream(stream.ok()?).ok()?;
            peer.write(&greeting(PAIR)).ok()?;
            assert_eq!(peer.read(8).ok()?, greeting(PAIR));
            peer.receive().ok()
        })
    });
    let reply = tokio::task::spawn_blocking(move || send_request(normal, submission.to_string()))
        .await
        .expect("reply expected");
    assert_eq!(reply["result"], 8);
    let received =
        tokio::time::timeout(LONG, received).await.expect("message within the timeout").expect("no panic expected");
    let message: Value = serde_json::from_slice(&received.expect("message expected")).expect("valid JSON");
    let with_t = |field: &str| Value::String(reply[field].as_str().expect("time expected").replace(' ', "T"));
    let expected = json!({
        "task_id": "T1", "status": "success", "result": 8, "error": null,
        "started_at": with_t("started_at"), "completed_at": with_t("completed_at"),
        "callback_data": { "source": "t" },
    });
    assert_eq!(message, expected);
    // The callback does not delay the reply, and reaches a listener that disconnects immediately.
    let fate = wait_for_delivery(&client, &"T1".parse().expect("id expected")).await;
    assert_eq!(fate.state, DeliveryState::Delivered);
    let events = client.events(0, Duration::ZERO).await.expect("events expected").events;
    assert!(events.iter().any(|event| event.kind == EventKind::CallbackDelivered));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_callback_address_is_refused_with_a_reason() {
    let cluster = cluster();
    let client = cluster.client().await;
    let refused = client.delay_with_callback("add", "ipc:///tmp/x", (1, 2)).await.expect_err("no such address");
    assert!(refused.to_string().contains("ipc:///tmp/x"), "{refused}");
    client.delay("add", (1, 2)).callback_data("x").await.expect_err("data without an address");
    let normal = cluster.ports().base() + 2;
    let submission = json!({ "name": "add", "args": [5, 3], "callback": { "address": "inproc://x" } }).to_string();
    let reply = tokio::task::spawn_blocking(move || send_request(normal, submission)).await.expect("reply expected");
    assert_eq!(reply["status"], "failure");
    assert!(reply["error"].as_str().is_some_and(|error| error.contains("inproc://x")), "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_control_plane_sends_waiting_callbacks() {
    let mut cluster = cluster();
    let client = cluster.client().await;
    let mut listener = listen();
    let dead = format!("tcp://127.0.0.1:{}", cluster.ports().spare(0));
    let tasks = (0..200).map(|number| add(number, listener.address())).chain([add(0, &dead)]).collect();
    client.submit_many(tasks).await.expect("tasks accepted");
    cluster.control_plane.terminate();
    for _ in 0..200 {
        next(&mut listener).await;
    }
    assert_eq!(cluster.control_plane.wait_for_exit(TIMEOUT).code(), Some(0));
    let log = cluster.control_plane.log();
    assert!(log.contains(wording::CALLBACKS_LOST), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_submits_and_listens() {
    let cluster = cluster();
    let mut listen = fastworker_tests::Process::start(
        "listen",
        cluster.command(["listen", "tcp://127.0.0.1:0", "--count", "1", "--json"]),
        cluster.directory(),
    );
    let address_line =
        || async { listen.log().lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned)) };
    let address = eventually_async("the listener prints its address", TIMEOUT, address_line).await;
    let submit = ["submit", "--task-name", "add", "--args", "5", "3", "--json", "--callback", &address];
    let ran = cluster.cli(submit.into_iter().chain(["--callback-data", r#"{"a": 1}"#]));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let result: Value = serde_json::from_str(&ran.stdout).expect("valid JSON");
    let line = listen.line(TIMEOUT).expect("callback expected");
    let message: Value = serde_json::from_str(&line).expect("valid JSON");
    assert_eq!((&message["task_id"], &message["callback_data"]), (&result["task_id"], &json!({ "a": 1 })));
    assert_eq!(listen.wait_for_exit(TIMEOUT).code(), Some(0));
    let client = cluster.client().await;
    let id = result["task_id"].as_str().expect("id expected");
    wait_for_delivery(&client, &id.parse().expect("id expected")).await;
    let status = cluster.cli(["status", "--task-id", id]).stdout;
    assert!(status.contains(&format!("callback   delivered to {address} after ")), "{status}");
    let ran = cluster.cli(["submit", "--task-name", "add", "--args", "5", "3", "--callback-data", "1"]);
    assert_eq!(ran.code, Some(2), "data without a callback");
}
