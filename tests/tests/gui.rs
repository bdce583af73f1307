//! The web interface for programs: endpoints, events, access checks, metrics.

#![allow(clippy::float_cmp, reason = "what is compared is counted, and exact")]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpListener,
    slice,
    time::Duration,
};

use fastworker::{json::Json, task::NewTask};
use fastworker_tests::{
    Cluster, Process, TIMEOUT, Transcript, cli, eventually, fastworker,
    guests::Guest,
    http::{Request, Response, ServerEvent},
    ports::Ports,
};
use serde_json::{Value, json};

fn cluster() -> Cluster {
    Cluster::builder()
        .modules(&["arithmetic", "slow", "flaky", "hostile"])
        .subworkers(1)
        .gui()
        .without_unknown_grace()
        .start()
}

fn get(cluster: &Cluster, path: &str) -> Response {
    Request::get(&cluster.gui(), path).send()
}

fn post(cluster: &Cluster, path: &str) -> Response {
    Request::post(&cluster.gui(), path).send()
}

/// Submits without waiting, and returns the id.
fn submit(cluster: &Cluster, args: &[&str]) -> String {
    let ran = cluster.cli(["submit", "--non-blocking", "--task-name"].iter().chain(args)).with_code(0);
    ran.stdout.trim().to_owned()
}

/// Waits until a task has this status, and returns it.
fn wait_for_status(cluster: &Cluster, id: &str, status: &str) -> Value {
    eventually(status, TIMEOUT, || {
        Some(get(cluster, &format!("/api/tasks/{id}")))
            .map(|response| response.json())
            .filter(|task| task["status"] == status)
    })
}

#[track_caller]
fn has_fields(value: &Value, names: &[&str]) {
    for name in names {
        assert!(value.get(name).is_some(), "no '{name}' in {value}");
    }
}

#[test]
fn the_endpoints_of_the_original_keep_their_shapes() {
    let cluster = cluster();
    let _ = cluster.cli(["submit", "--task-name", "add", "--args", "5", "3"]).with_code(0);

    let status = get(&cluster, "/api/status").with_status(200).json();
    has_fields(&status, &["worker_id", "running", "base_address", "discovery_address", "uptime_seconds", "timestamp"]);
    assert_eq!(status["base_address"], json!(cluster.base()));
    assert_eq!(status["subworkers"], json!({ "total": 1, "active": 1, "inactive": 0 }));
    assert_eq!(status["tasks"], json!({ "queued": 0, "active": 0, "cached_results": 1 }));
    assert_eq!(status["cache"], json!({ "max_size": 10_000, "current_size": 1, "ttl_seconds": 3600.0 }));

    let workers = get(&cluster, "/api/workers").with_status(200).json();
    assert_eq!((&workers["count"], &workers["workers"][0]["id"]), (&json!(1), &json!("sw1")));
    let fields = ["id", "address", "status", "load", "last_seen", "registered_at", "is_control_plane"];
    has_fields(&workers["workers"][0], &fields);
    assert_eq!(workers["workers"][0]["status"], "active");

    let tasks = get(&cluster, "/api/tasks?limit=7").with_status(200).json();
    assert_eq!((&tasks["total"], &tasks["limit"], &tasks["offset"]), (&json!(1), &json!(7), &json!(0)));
    let fields = ["task_id", "status", "result", "error", "started_at", "completed_at", "cached_at", "last_accessed"];
    has_fields(&tasks["tasks"][0], &fields);
    assert_eq!((&tasks["tasks"][0]["status"], &tasks["tasks"][0]["result"]), (&json!("success"), &json!(8)));

    let queues = get(&cluster, "/api/queues").with_status(200).json();
    assert_eq!(queues["total_queued"], 0);
    for priority in ["critical", "high", "normal", "low"] {
        assert_eq!(
            (&queues["queues"][priority]["count"], &queues["queues"][priority]["tasks"]),
            (&json!(0), &json!([]))
        );
    }

    let cache = get(&cluster, "/api/cache").with_status(200).json();
    assert_eq!((&cache["max_size"], &cache["current_size"]), (&json!(10_000), &json!(1)));
    assert_eq!((&cache["utilization_percent"], &cache["by_status"]), (&json!(0.01), &json!({ "success": 1 })));
    assert_eq!(cache["ttl_seconds"], 3600.0);

    let registered = get(&cluster, "/api/registered-tasks").with_status(200).json();
    let known = registered["tasks"].as_array().expect("tasks expected");
    assert_eq!(registered["count"], known.len());
    let add = known.iter().find(|task| task["name"] == "add").expect("it is loaded");
    assert!(add["module"] == "arithmetic" && add["doc"].is_string(), "{add}");
}

#[test]
fn tasks_are_filtered_and_waiting_ones_listed_in_order() {
    let cluster = cluster();
    let running = submit(&cluster, &["slow", "--args", "30"]);
    wait_for_status(&cluster, &running, "started");
    let waiting: Vec<String> = ["low", "high"]
        .iter()
        .map(|priority| submit(&cluster, &["add", "--args", "1", "2", "--priority", priority]))
        .collect();
    let of = |query: &str| -> Vec<String> {
        let page = get(&cluster, &format!("/api/tasks?{query}")).with_status(200).json();
        let tasks = page["tasks"].as_array().expect("tasks expected").clone();
        tasks.iter().map(|task| task["task_id"].as_str().expect("id expected").to_owned()).collect()
    };
    assert!(of("").is_empty(), "nothing has ended");
    assert_eq!(of("status=started"), slice::from_ref(&running));
    assert_eq!(of("status=pending,scheduled"), [waiting[1].clone(), waiting[0].clone()]);
    assert_eq!(of("status=pending&limit=1&offset=1"), waiting[..1]);
    assert!(of("status=started&name=add").is_empty() && of("status=started&worker=other").is_empty());
    assert_eq!(of("status=started&name=slow&worker=sw1"), slice::from_ref(&running));
    let queues = get(&cluster, "/api/queues").json();
    assert_eq!(queues["queues"]["high"]["tasks"], json!([{ "id": waiting[1], "name": "add" }]));
    assert!(queues["queues"]["low"]["oldest_age_seconds"].is_number(), "{queues}");
    let _ = get(&cluster, "/api/tasks?status=queued").with_status(400);
    for (wrong, why) in [
        ("limit=many", "limit must be a whole number from 1 to 500, not 'many'"),
        ("limit=501", "from 1 to 500"),
        ("offset=-1", "offset must be a whole number from 0, not '-1'"),
        ("limit=1&limit=2", "invalid query: duplicate field `limit`"),
    ] {
        let refused = get(&cluster, &format!("/api/tasks?{wrong}")).with_status(400).json();
        assert!(refused["error"].as_str().is_some_and(|error| error.contains(why)), "{refused}");
    }
}

#[test]
fn cancel_returns_what_it_cancelled() {
    let cluster = cluster();
    let running = submit(&cluster, &["endless_loop"]);
    wait_for_status(&cluster, &running, "started");
    let waiting = submit(&cluster, &["add", "--args", "1", "2"]);
    for id in [&waiting, &running] {
        let cancelled = post(&cluster, &format!("/api/tasks/{id}/cancel")).with_status(200).json();
        assert_eq!((&cancelled["cancelled"], &cancelled["task_id"]), (&json!(true), &json!(id)));
        wait_for_status(&cluster, id, "cancelled");
    }
    let again = post(&cluster, &format!("/api/tasks/{running}/cancel")).with_status(200).json();
    assert_eq!((&again["cancelled"], &again["status"]), (&json!(false), &json!("cancelled")));
    let unknown = post(&cluster, "/api/tasks/unknown-id/cancel").with_status(404).json();
    assert!(unknown["error"].as_str().is_some_and(|error| error.contains("unknown-id")), "{unknown}");
    let _ = get(&cluster, &format!("/api/tasks/{running}/cancel")).with_status(405);
}

#[test]
fn retry_runs_the_same_call_as_a_new_task() {
    let cluster = cluster();
    let first = submit(&cluster, &["multiply", "--args", "6", "7", "--priority", "high"]);
    let before = wait_for_status(&cluster, &first, "success");
    let retried = post(&cluster, &format!("/api/tasks/{first}/retry")).with_status(200).json();
    assert_eq!((&retried["retried"], &retried["retry_of"]), (&json!(true), &json!(first)));
    let new = retried["task_id"].as_str().expect("id expected").to_owned();
    assert_ne!(new, first);
    let after = wait_for_status(&cluster, &new, "success");
    for same in ["name", "args", "kwargs", "priority", "result"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_eq!(
        get(&cluster, &format!("/api/tasks/{first}")).json()["result"],
        before["result"],
        "the first is as it was"
    );

    let _ = post(&cluster, "/api/tasks/unknown-id/retry").with_status(404);
    let running = submit(&cluster, &["endless_loop"]);
    wait_for_status(&cluster, &running, "started");
    let conflict = post(&cluster, &format!("/api/tasks/{running}/retry")).with_status(409).json();
    assert!(conflict["error"].as_str().is_some_and(|error| error.contains("started")), "{conflict}");
}

#[test]
fn a_task_is_shown_with_its_arguments_error_log_and_progress() {
    let cluster = cluster();
    let failed = submit(&cluster, &["panic_now", "--args", "as asked"]);
    let task = wait_for_status(&cluster, &failed, "failure");
    assert_eq!((&task["args"], &task["error_kind"]), (&json!("[\"as asked\"]"), &json!("trap")));
    assert!(task["error"].as_str().is_some_and(|error| error.contains("as asked")), "{task}");
    let slow = submit(&cluster, &["slow", "--args", "30", "3000"]);
    let progress = eventually("progress is shown", TIMEOUT, || {
        let task = get(&cluster, &format!("/api/tasks/{slow}")).json();
        task["progress"]["total"].as_u64().filter(|total| *total > 0)
    });
    assert_eq!(progress, 3_000);
    let listed = get(&cluster, "/api/tasks?status=started").json();
    assert_eq!(listed["tasks"][0]["progress"]["total"], 3_000);
}

#[test]
fn events_stream_with_the_originals_names_and_can_be_resumed() {
    let cluster = cluster();
    let mut stream = Request::get(&cluster.gui(), "/api/events?overview=true").follow();
    assert_eq!(stream.next(TIMEOUT).map(|sent| sent.event).as_deref(), Some("overview"));
    let id = submit(&cluster, &["add", "--args", "5", "3"]);
    let mut sent_events = Vec::new();
    for event in ["task.queued", "task.started", "task.success"] {
        let sent = stream.next_named(event);
        assert_eq!((&sent.data["task_id"], &sent.data["kind"]), (&json!(id), &json!(event)));
        sent_events.push(sent);
    }
    let later = stream.next_named("overview");
    assert_eq!(later.data["ended"]["success"], 1);

    let again = |last: Option<u64>, path: &str| {
        let request = Request::get(&cluster.gui(), path);
        last.map_or(request.clone(), |last| request.header("Last-Event-ID", &last.to_string())).follow()
    };
    let mut resumed = again(sent_events[0].id, "/api/events");
    assert_eq!(resumed.next(TIMEOUT).as_ref(), Some(&sent_events[1]));
    assert_eq!(resumed.next(TIMEOUT).as_ref(), Some(&sent_events[2]));
    let mut recent = again(None, "/api/events?recent=1");
    assert_eq!(recent.next(TIMEOUT).as_ref(), Some(&sent_events[2]));
    let mut fresh = again(None, "/api/events");
    let next = submit(&cluster, &["add", "--args", "1", "1"]);
    for stream in [&mut fresh, &mut recent, &mut resumed] {
        let first: ServerEvent = stream.next(TIMEOUT).expect("event expected");
        assert_eq!((first.event.as_str(), &first.data["task_id"]), ("task.queued", &json!(next)));
    }
    // No more events of that task follow.
    fresh.next_named("task.success");
    let other = again(Some(1_000_000), "/api/events").next(Duration::from_millis(50));
    assert_eq!(other, None, "a number of another control plane");
}

#[test]
fn a_reader_gets_the_number_of_missed_events() {
    let cluster = cluster();
    // Each is at least two events; 4,096 are kept.
    let call = || NewTask { args: Json::parse("[5, 3]").expect("an array"), ..NewTask::new("add") };
    let runtime = tokio::runtime::Runtime::new().expect("runtime created");
    runtime.block_on(async {
        let client = cluster.client().await;
        let ended = client.submit_many((0..2_500).map(|_| call()).collect()).await.expect("tasks accepted");
        assert_eq!(ended.len(), 2_500);
    });
    let mut stream = Request::get(&cluster.gui(), "/api/events").header("Last-Event-ID", "1").follow();
    let missed = stream.next(TIMEOUT).expect("word of them");
    assert_eq!(missed.event, "missed");
    let first = stream.next(TIMEOUT).and_then(|sent| sent.id).expect("the first that is known");
    assert_eq!(missed.data["missed"], first - 2);
}

#[test]
fn followers_are_limited_and_a_disconnect_frees_a_place() {
    let cluster = cluster();
    let request = Request::get(&cluster.gui(), "/api/events");
    let mut streams: Vec<_> = (0..64).map(|_| request.follow()).collect();
    let refused = request.send().with_status(503).json();
    assert!(refused["error"].as_str().is_some_and(|error| !error.is_empty()), "{refused}");
    streams.pop();
    let mut late = eventually("a place is free", TIMEOUT, || {
        // The server notices a closed stream when it sends the next event.
        let _ = submit(&cluster, &["add", "--args", "1", "1"]);
        let mut response = request.open("close");
        let mut first = [0; 12];
        response.read_exact(&mut first).expect("reply expected");
        (&first == b"HTTP/1.1 200").then_some(response)
    });
    assert!(late.read_exact(&mut [0; 12]).is_ok());
}

#[test]
fn the_key_protects_everything_but_health_and_the_empty_page() {
    let cluster = Cluster::builder().gui().control_plane_args(&["--gui-api-key", "s3cret-key"]).start();
    let guarded = [
        "/api/status",
        "/api/workers",
        "/api/tasks",
        "/api/queues",
        "/api/cache",
        "/api/registered-tasks",
        "/api/events",
        "/api/overview",
        "/api/modules",
        "/api/tasks/x",
        "/metrics",
    ];
    for path in guarded {
        let request = Request::get(&cluster.gui(), path);
        let refused = request.send().with_status(401);
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
        for wrong in ["Bearer s3cret", "Bearer s3cret-key2", "Basic s3cret-key", "s3cret-key", "Bearer "] {
            let _ = request.clone().header("Authorization", wrong).send().with_status(401);
        }
    }
    for path in ["/api/tasks/x/cancel", "/api/tasks/x/retry"] {
        let request = Request::post(&cluster.gui(), path);
        let _ = request.send().with_status(401);
        let _ = request.header("Authorization", "Bearer s3cret-key").send().with_status(404);
    }
    for path in ["/", "/page/app.js", "/healthz", "/readyz"] {
        let _ = get(&cluster, path).with_status(200);
    }
    let shown = Request::get(&cluster.gui(), "/api/status").header("Authorization", "bearer s3cret-key");
    let _ = shown.header("Host", "queue.example").send().with_status(200);
}

#[test]
fn other_origins_cannot_send_requests_through_a_browser() {
    let cluster = Cluster::builder().gui().start();
    let request = Request::get(&cluster.gui(), "/api/status");
    for host in ["evil.example", "evil.example:8080", "localhost.evil.example", ""] {
        let _ = request.clone().header("Host", host).send().with_status(421);
    }
    for host in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080"] {
        let _ = request.clone().header("Host", host).send().with_status(200);
    }
    let own = cluster.gui();
    let cancel = Request::post(&own, "/api/tasks/x/cancel");
    for origin in ["http://evil.example", "null", "http://localhost:1", "http://127.0.0.1"] {
        let _ = cancel.clone().header("Origin", origin).send().with_status(403);
    }
    let _ = cancel.clone().header("Origin", &own).send().with_status(404);
    let _ = cancel.send().with_status(404);
    let page = get(&cluster, "/").with_status(200);
    let policy = &page.headers["content-security-policy"];
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(
        (page.headers["x-content-type-options"].as_str(), page.headers["cache-control"].as_str()),
        ("nosniff", "no-store")
    );
    let _ = get(&cluster, "/nothing").with_status(404).json();
}

#[test]
fn large_and_slow_requests_are_disconnected() {
    let cluster = Cluster::builder().gui().start();
    let large = Request::get(&cluster.gui(), "/api/status").header("X", &"x".repeat(100_000));
    let mut cut = large.open("close");
    let mut response = String::new();
    let _ = cut.read_to_string(&mut response);
    assert!(response.is_empty() || response.starts_with("HTTP/1.1 4"), "{response}");
    let address = cluster.gui().replace("http://", "");
    let mut idle: Vec<_> =
        (0..100).map(|_| std::net::TcpStream::connect(&address).expect("listening socket")).collect();
    for one in &mut idle {
        one.write_all(b"GET /api/status HTTP/1.1\r\nHost: ").expect("request sent");
    }
    let _ = get(&cluster, "/healthz").with_status(200);
    let mut rest = Vec::new();
    idle[0].set_read_timeout(Some(2 * TIMEOUT)).expect("read timeout set");
    let ended = idle[0].read_to_end(&mut rest);
    assert!(ended.is_ok(), "the head of a request has a time limit: {ended:?}");
}

/// JSON documents that no value of a JSON library represents exactly.
fn odd_documents() -> Vec<String> {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let texts = [r#""\ud800""#, "1e999", "1e-999", "-0", r#"{"a":1,"a":2,"":3,"__proto__":{"x":1}}"#];
    let unseen = "\"</script><!-- \u{202e}gnp \u{2028}\u{9b}31m\u{7f}\"";
    let texts = texts.map(str::to_owned).into_iter();
    texts.chain(["9".repeat(400), nested(128), nested(10_000), unseen.to_owned()]).collect()
}

/// Writes a module with one task for each document, which returns it.
fn module_of(documents: &[String], directory: &std::path::Path) -> Vec<String> {
    let write = |(number, document): (usize, &String)| {
        let path = directory.join(format!("odd{number}.wasm"));
        std::fs::write(&path, Guest::new(&format!("odd{number}"), document).bytes()).expect("file access");
        path.display().to_string()
    };
    documents.iter().enumerate().map(write).collect()
}

#[test]
fn results_that_serde_cannot_hold_do_not_truncate_responses() {
    let documents = odd_documents();
    let directory = tempfile::tempdir().expect("directory created");
    let modules = module_of(&documents, directory.path());
    let cluster = Cluster::builder().sources(modules).own_slots(1).gui().start();
    let mut stream = Request::get(&cluster.gui(), "/api/events?overview=true").follow();
    for (number, document) in documents.iter().enumerate() {
        let name = format!("odd{number}");
        let ran = cluster.cli(["submit", "--task-name", &name]).with_code(0);
        assert_eq!(ran.stdout.trim_end(), document, "a program gets what the task returned");
        let page = get(&cluster, &format!("/api/tasks?name={name}")).with_status(200);
        let shown = document.replace('\u{202e}', "\\u202e").replace('\u{2028}', "\\u2028");
        let shown = shown.replace('\u{9b}', "\\u009b").replace('\u{7f}', "\\u007f");
        assert!(page.body.contains(&format!(r#""result":{shown},"#)), "{:.600}", page.body);
        let all = cluster.cli(["tasks", "--name", &name, "--json"]).with_code(0);
        let id = all.stdout.split('"').nth(3).expect("id expected").to_owned();
        let detail = get(&cluster, &format!("/api/tasks/{id}")).with_status(200).json();
        assert_eq!(detail["result"].as_str(), Some(document.as_str()));
        for command in ["result", "status"] {
            let whole = cluster.cli([command, &id, "--json"]).with_code(0);
            assert!(whole.stdout.contains(document), "{command}: {:.600}", whole.stdout);
            let _ = cluster.cli([command, &id]).with_code(0);
        }
        let without = get(&cluster, &format!("/api/tasks?name={name}&results=false")).with_status(200).json();
        assert_eq!(without["tasks"][0]["result_left_out"], document.len());
    }
    for path in ["status", "workers", "queues", "cache", "registered-tasks", "modules", "overview"] {
        let _ = get(&cluster, &format!("/api/{path}")).with_status(200);
    }
    let _ = stream.next_named("overview");
    let values = values(&get(&cluster, "/metrics").with_status(200).body);
    assert_eq!(values["fastworker_panics_total{place=\"http\"}"], 0.0);
}

#[test]
fn partial_requests_block_no_other_client() {
    let cluster = Cluster::builder().gui().start();
    let address = cluster.gui().replace("http://", "");
    let half = || {
        let mut stream = std::net::TcpStream::connect(&address).expect("listening socket");
        stream.write_all(b"GET /api/status HTTP/1.1\r\nHost: ").expect("request sent");
        stream
    };
    let mut followed = Request::get(&cluster.gui(), "/api/events?overview=true").follow();
    let mut streams: Vec<_> = (0..300).map(|_| half()).collect();
    let _ = get(&cluster, "/healthz").with_status(200);
    let _ = get(&cluster, "/api/status").with_status(200);
    let _ = followed.next_named("overview");
    // The oldest was dropped for the newest; the others have a timeout.
    for stream in [0, 299] {
        streams[stream].set_read_timeout(Some(2 * TIMEOUT)).expect("read timeout set");
        let ended = streams[stream].read_to_end(&mut Vec::new());
        assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "{stream} is still there");
    }
}

#[test]
fn the_health_address_is_separate_from_the_web_interface() {
    let health = |cluster: &Cluster| {
        let ready: Value = serde_json::from_str(cluster.ready()).expect("valid JSON line");
        ready["health"].as_str().expect("there is a health address").to_owned()
    };
    let cluster = Cluster::builder().gui().control_plane_args(&["--health-address", "127.0.0.1:0"]).start();
    let url = health(&cluster);
    let (web, own) = (cluster.gui().replace("http://", ""), url.replace("http://", ""));
    // More partial requests than the limit, on both addresses.
    let mut streams = Vec::new();
    for address in [&web, &own] {
        for _ in 0..300 {
            let mut stream = std::net::TcpStream::connect(address).expect("listening socket");
            stream.write_all(b"GET /").expect("request sent");
            streams.push(stream);
        }
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let _ = Request::get(&url, path).send().with_status(200);
    }
    let _ = Request::get(&url, "/api/status").send().with_status(404).json();
    let _ = Request::get(&url, "/").send().with_status(404);
    drop(streams);
    // Without a web interface, and with a key for the metrics.
    let args = ["--health-address", "0.0.0.0:0", "--gui-api-key", "s3cret", "--no-gui"];
    let cluster = Cluster::builder().control_plane_args(&args).start();
    let url = health(&cluster).replace("0.0.0.0", "127.0.0.1");
    let _ = Request::get(&url, "/healthz").header("Host", "pod.example").send().with_status(200);
    let _ = Request::get(&url, "/metrics").send().with_status(401);
    let _ = Request::get(&url, "/metrics").header("Authorization", "Bearer s3cret").send().with_status(200);
    // On a public address without a key, metrics are refused.
    let cluster = Cluster::builder().control_plane_args(&["--health-address", "0.0.0.0:0", "--no-gui"]).start();
    let url = health(&cluster).replace("0.0.0.0", "127.0.0.1");
    let _ = Request::get(&url, "/readyz").send().with_status(200);
    let refused = Request::get(&url, "/metrics").send().with_status(403).json();
    assert!(refused["error"].is_string(), "{refused}");
}

#[test]
fn health_checks_work_under_any_host_name() {
    let cluster = Cluster::builder().gui().start();
    for host in ["queue.internal:8080", "", "evil.example"] {
        for path in ["/healthz", "/readyz"] {
            let _ = Request::get(&cluster.gui(), path).header("Host", host).send().with_status(200);
        }
        for path in ["/metrics", "/api/status", "/"] {
            let _ = Request::get(&cluster.gui(), path).header("Host", host).send().with_status(421);
        }
    }
}

#[test]
fn a_draining_control_plane_is_alive_and_not_ready() {
    let mut cluster = cluster();
    assert_eq!(get(&cluster, "/healthz").with_status(200).json(), json!({ "healthy": true }));
    assert_eq!(get(&cluster, "/readyz").with_status(200).json(), json!({ "ready": true, "workers": 1 }));
    let running = submit(&cluster, &["slow", "--args", "30"]);
    wait_for_status(&cluster, &running, "started");
    cluster.control_plane.terminate();
    let response = eventually("/readyz returns 503", TIMEOUT, || {
        Some(get(&cluster, "/readyz")).filter(|response| response.status == 503)
    });
    assert_eq!(response.json()["ready"], false);
    let _ = get(&cluster, "/healthz").with_status(200);
    let _ = post(&cluster, &format!("/api/tasks/{running}/cancel")).with_status(200);
    assert!(cluster.control_plane.wait_for_exit(TIMEOUT).success());
}

/// The values of a page of metrics, by name and labels.
fn values(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("'{line}' is no sample"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("'{line}' has no value")))
        })
        .collect()
}

#[test]
fn metrics_are_well_formed_and_updated() {
    let cluster = cluster();
    let read = || {
        let response = get(&cluster, "/metrics").with_status(200);
        assert!(response.headers["content-type"].starts_with("application/openmetrics-text"), "{response:?}");
        for line in response.body.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).unwrap_or_default();
            assert!(response.body.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
        values(&response.body)
    };
    let before = read();
    assert_eq!((before["fastworker_slots"], before[r#"fastworker_workers{status="active"}"#]), (1.0, 1.0));
    for priority in ["critical", "high", "normal", "low"] {
        assert_eq!(before[&format!(r#"fastworker_queue_depth{{priority="{priority}"}}"#)], 0.0);
        assert_eq!(before[&format!(r#"fastworker_queue_oldest_age_seconds{{priority="{priority}"}}"#)], 0.0);
    }
    for _ in 0..3 {
        let _ = cluster.cli(["submit", "--task-name", "add", "--args", "5", "3"]).with_code(0);
    }
    let _ = cluster.cli(["submit", "--task-name", "panic_now", "--args", "x"]).with_code(1);
    let _ = cluster.cli(["submit", "--task-name", "no\"such\\thing"]).with_code(5);
    let running = submit(&cluster, &["slow", "--args", "30"]);
    wait_for_status(&cluster, &running, "started");
    let _ = submit(&cluster, &["add", "--args", "1", "2", "--priority", "low"]);
    let after = eventually("an age is reported", TIMEOUT, || {
        Some(read()).filter(|after| after[r#"fastworker_queue_oldest_age_seconds{priority="low"}"#] > 0.0)
    });
    let value = |name: &str| after.get(name).copied().unwrap_or_else(|| panic!("no {name} in {after:#?}"));
    assert_eq!(value(r#"fastworker_tasks_ended_total{name="add",status="success"}"#), 3.0);
    assert_eq!(value(r#"fastworker_tasks_ended_total{name="panic_now",status="failure"}"#), 1.0);
    assert_eq!(value(r#"fastworker_tasks_ended_total{name="(unknown)",status="failure"}"#), 1.0);
    assert_eq!(value(r#"fastworker_queue_depth{priority="low"}"#), 1.0);
    assert_eq!((value("fastworker_slots_busy"), value("fastworker_tasks_accepted_total")), (1.0, 7.0));
    assert_eq!(value(r#"fastworker_result_cache_results{status="success"}"#), 3.0);
    for name in [r#"task_run_seconds_count{name="add"}"#, r#"task_run_seconds_bucket{le="+Inf",name="add"}"#] {
        let found = after.iter().find(|(key, _)| same_labels(key, &format!("fastworker_{name}")));
        assert_eq!(found.map(|(_, value)| *value), Some(3.0), "{name} in {after:#?}");
    }
    assert_eq!(value(r#"fastworker_task_wait_seconds_count{priority="normal"}"#), 4.0);
    assert_eq!(value(r#"fastworker_task_total_seconds_count{priority="normal"}"#), 4.0);
    assert!(value(r#"fastworker_task_total_seconds_sum{priority="normal"}"#) > 0.0);
}

/// Whether two samples are equal, ignoring the order of their labels.
fn same_labels(one: &str, other: &str) -> bool {
    let parts = |text: &str| {
        let (name, labels) = text.split_once('{').unwrap_or((text, ""));
        let mut labels: Vec<String> = labels.trim_end_matches('}').split(',').map(ToOwned::to_owned).collect();
        labels.sort();
        (name.to_owned(), labels)
    };
    parts(one) == parts(other)
}

#[test]
fn a_port_in_use_is_an_error_only_if_it_was_chosen() {
    let (ports, directory) = (Ports::claim(), tempfile::tempdir().expect("directory created"));
    let listener = TcpListener::bind(("127.0.0.1", ports.spare(0))).expect("free port");
    let port = listener.local_addr().expect("valid address").port().to_string();
    let address = |port: u16| format!("tcp://127.0.0.1:{port}");
    let command = || {
        let mut command = fastworker();
        command.env("FASTWORKER_GUI_ENABLED", "true");
        command.args(["control-plane", "--json", "--base-address", &address(ports.base())]);
        command.args(["--discovery-address", &address(ports.discovery())]);
        command.args(["--subworker-port", &ports.subworkers().to_string()]);
        command
    };
    let mut explicit = command();
    explicit.args(["--gui-port", &port]);
    let mut errors = Transcript::new();
    errors.add(&cli::run(explicit).with_code(1));
    let mut off = command();
    off.env("FASTWORKER_GUI_ENABLED", "false").args(["--gui-port", &port]);
    let ready = Process::start("control-plane", off, directory.path()).wait_until_ready();
    assert!(!ready.contains("gui"), "{ready}");
    let mut exposed = command();
    exposed.args(["--gui-host", "0.0.0.0", "--gui-port", "0"]);
    errors.add(&cli::run(exposed).with_code(2));
    let mut no_key = command();
    no_key.args(["--gui-host", "0.0.0.0"]).env("FASTWORKER_GUI_API_KEY", "");
    errors.add(&cli::run(no_key).with_code(2));
    errors.check();
    let mut keyed = command();
    keyed.args(["--gui-host", "0.0.0.0", "--gui-port", "0"]).env("FASTWORKER_GUI_API_KEY", "k");
    let ready = Process::start("control-plane", keyed, directory.path()).wait_until_ready();
    assert!(ready.contains(r#""gui":"http://0.0.0.0:"#), "{ready}");
}

#[test]
fn the_control_plane_stays_small() {
    let cluster = cluster();
    let _stream = Request::get(&cluster.gui(), "/api/events?overview=true").follow();
    let _ = get(&cluster, "/metrics").with_status(200);
    let memory = cluster.control_plane.memory();
    assert!(memory < 25 * 1024 * 1024, "{memory} bytes");
}
