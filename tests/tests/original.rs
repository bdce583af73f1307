//! The wire of the Python original, byte by byte: frames captured from its clients, and frames
//! that its clients would not send.

use std::{
    thread,
    time::{Duration, Instant},
};

use fastworker::task::TaskStatus;
use fastworker_tests::{
    Cluster, TIMEOUT, eventually,
    original::{Wire, send_request},
    task_helpers::wait_for_status,
};
use serde_json::{Value, json};

/// A submission of client 0.3.0, as captured.
const SUBMISSION: &str = r#"{"id": "8f6b8253-4446-40d6-b65a-6b320883fdcf", "name": "add", "args": [5, 3], "kwargs": {}, "priority": "normal", "created_at": "2026-11-24 05:37:30.601531", "started_at": null, "completed_at": null, "status": "pending", "result": null, "error": null, "callback": null, "retry_count": 0, "max_retries": 0, "retry_delay": 60.0, "retry_backoff": 2.0, "retry_backoff_max": 3600.0, "timeout": null, "eta": null, "assigned_worker": null}"#;

fn cluster() -> Cluster {
    Cluster::builder().modules(&["arithmetic", "flaky", "hostile", "slow"]).own_slots(1).without_unknown_grace().start()
}

/// The four priorities' ports: critical, high, normal, low.
fn lanes(cluster: &Cluster) -> [u16; 4] {
    [0, 1, 2, 3].map(|offset| cluster.ports().base() + offset)
}

fn queries(cluster: &Cluster) -> u16 {
    cluster.ports().base() + 4
}

#[test]
fn the_bus_announces_immediately_and_every_two_seconds() {
    let cluster = cluster();
    let expected = format!("WORKER_ANNOUNCE:control-plane:{}", cluster.base());
    let next = |bus: &mut Wire| {
        let started = Instant::now();
        assert_eq!(bus.receive().expect("announcement expected"), expected.as_bytes());
        started.elapsed()
    };
    // Just after an announcement, the next comes in two seconds.
    next(&mut Wire::bus(cluster.ports().discovery()));
    let mut joined: Vec<_> = (0..5).map(|_| next(&mut Wire::bus(cluster.ports().discovery()))).collect();
    joined.sort();
    assert!(joined[0] < Duration::from_secs(1), "{joined:?}");
    let mut bus = Wire::bus(cluster.ports().discovery());
    next(&mut bus);
    let mut gaps = [next(&mut bus), next(&mut bus)];
    gaps.sort();
    assert!(gaps[0] < Duration::from_millis(2500), "{gaps:?}");
}

#[test]
fn a_captured_submission_gets_the_replies_of_the_original() {
    let cluster = cluster();
    for (number, port) in lanes(&cluster).into_iter().enumerate() {
        let id = format!("8f6b8253-4446-40d6-b65a-6b320883fd0{number}");
        let reply = send_request(port, SUBMISSION.replace("8f6b8253-4446-40d6-b65a-6b320883fdcf", &id));
        let fields: Vec<&str> = reply.as_object().expect("object expected").keys().map(String::as_str).collect();
        let mut expected = ["task_id", "status", "result", "error", "started_at", "completed_at", "callback"];
        expected.sort_unstable();
        assert_eq!(fields, expected);
        assert_eq!((&reply["task_id"], &reply["status"]), (&json!(id), &json!("success")));
        assert_eq!((&reply["result"], &reply["error"], &reply["callback"]), (&json!(8), &Value::Null, &Value::Null));
        for field in ["started_at", "completed_at"] {
            assert!(is_naive_time(reply[field].as_str().expect("time expected")), "{reply}");
        }
    }
}

/// Whether this is a time such as `2026-11-24 05:37:30.604487`.
fn is_naive_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00 00:00:00.000000"
}

#[test]
fn failures_are_reported_in_the_original_format() {
    let cluster = cluster();
    let [critical, high, normal, low] = lanes(&cluster);
    let failure = |reply: &Value, id: &str, error: &str| {
        assert_eq!((&reply["task_id"], &reply["status"]), (&json!(id), &json!("failure")), "{reply}");
        assert_eq!(reply["result"], Value::Null);
        assert!(reply["error"].as_str().is_some_and(|it| it.contains(error)), "no '{error}' in {reply}");
    };
    failure(&send_request(normal, r#"{"id": "a", "name": "picky", "args": [7]}"#), "a", "7 is not to my taste");
    failure(&send_request(low, r#"{"id": "b", "name": "nosuch", "args": []}"#), "b", "Task nosuch not found");
    failure(
        &send_request(high, r#"{"id": "c", "name": "add", "args": [5]}"#),
        "c",
        "add() missing 1 required argument: 'y'",
    );
    let late = r#"{"id": "d", "name": "endless_loop", "timeout": 0.5}"#;
    failure(&send_request(critical, late), "d", "Task timed out after 0.5s");
    let with_nan = SUBMISSION.replace("[5, 3]", "[NaN, 3]");
    failure(&send_request(normal, with_nan), "8f6b8253-4446-40d6-b65a-6b320883fdcf", "NaN");
    failure(&send_request(normal, r#"{"id": "e", "args": [1]}"#), "e", "name");
    failure(&send_request(normal, r#"{"id": "f", "name": "add", "args": {"x": 1}}"#), "f", "");
    failure(&send_request(normal, r#"{"id": "g", "name": "add", "priority": "urgent"}"#), "g", "priority");
    failure(&send_request(normal, r#"{"id": "h", "name": "add", "args": [1, 2]"#), "h", "");
    failure(&send_request(normal, r#"{"id": "i", "name": "add", "timeout": -1}"#), "i", "");
}

#[test]
fn only_the_name_is_required_and_the_callback_is_echoed() {
    let cluster = cluster();
    let normal = lanes(&cluster)[2];
    let nameless = send_request(normal, r#"{"name": "add", "args": [1, 2]}"#);
    assert_eq!(nameless["result"], 3);
    assert_eq!(nameless["task_id"].as_str().map(str::len), Some(36), "a UUID of ours");
    let callback =
        json!({ "address": format!("tcp://127.0.0.1:{}", cluster.ports().spare(0)), "data": { "source": "t" } });
    let request = json!({ "name": "add", "args": [1, 2], "callback": callback });
    assert_eq!(send_request(normal, request.to_string())["callback"], callback);
    let anything = send_request(normal, r#"{"name": "add", "args": [1, 2], "invented": {"later": true}}"#);
    assert_eq!(anything["result"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fifth_port_returns_results_and_cancels_tasks() {
    let cluster = cluster();
    let client = cluster.client().await;
    let [_, _, normal, _] = lanes(&cluster);
    let port = queries(&cluster);
    let done = send_request(normal, SUBMISSION);
    let id = "8f6b8253-4446-40d6-b65a-6b320883fdcf";
    let found = send_request(port, format!(r#"{{"task_id": "{id}"}}"#));
    assert_eq!(found, json!({ "found": true, "result": done }));
    assert_eq!(send_request(port, format!(r#"{{"action": "query", "task_id": "{id}"}}"#)), found);
    let unknown = send_request(port, r#"{"task_id": "nope"}"#);
    assert_eq!(unknown, json!({ "found": false, "error": "Task nope not found in cache or expired" }));
    assert_eq!(send_request(port, "{}"), json!({ "error": "Missing task_id" }));
    assert_eq!(send_request(port, r#"{"action": "cancel"}"#), json!({ "error": "Missing task_id" }));
    assert!(send_request(port, r#"{"action": "explode", "task_id": "x"}"#)["error"].is_string());
    let cancel = |id: &str| send_request(port, format!(r#"{{"action": "cancel", "task_id": "{id}"}}"#));
    assert_eq!(cancel(id), json!({ "cancelled": false, "task_id": id }));
    assert_eq!(cancel("nope"), json!({ "cancelled": false, "task_id": "nope" }));

    let mut running = Wire::request(normal);
    running.send_request(7, r#"{"id": "loop", "name": "endless_loop"}"#);
    wait_for_status(&client, &"loop".parse().expect("id expected"), TaskStatus::Started).await;
    // The slot is busy, so this task waits.
    let mut queued = Wire::request(normal);
    queued.send_request(8, r#"{"id": "queued", "name": "add", "args": [1, 2]}"#);
    assert_eq!(send_request(port, r#"{"task_id": "loop"}"#)["found"], false);
    for (id, wire, number) in [("queued", &mut queued, 8), ("loop", &mut running, 7)] {
        eventually("the task can be cancelled", TIMEOUT, || (cancel(id)["cancelled"] == true).then_some(()));
        let reply = wire.receive_reply(number);
        assert_eq!((&reply["task_id"], &reply["status"]), (&json!(id), &json!("cancelled")), "{reply}");
    }
}

#[test]
fn a_batch_is_accepted_immediately_and_its_results_queried() {
    let cluster = cluster();
    let task = |id: &str, args: Value| json!({ "id": id, "name": "add", "args": args, "priority": "low" });
    let tasks = [task("b1", json!([1, 2])), task("b2", json!([3, 4])), task("b3", json!(["x", 4]))];
    let batch = json!({ "action": "batch_submit", "tasks": tasks });
    let accepted = send_request(lanes(&cluster)[2], batch.to_string());
    assert_eq!(accepted, json!({ "batch_accepted": true, "task_ids": ["b1", "b2", "b3"] }));
    for (id, status, result) in
        [("b1", "success", json!(3)), ("b2", "success", json!(7)), ("b3", "failure", Value::Null)]
    {
        let found = eventually("the result is recorded", TIMEOUT, || {
            let found = send_request(queries(&cluster), json!({ "task_id": id }).to_string());
            (found["found"] == true).then_some(found)
        });
        assert_eq!((&found["result"]["status"], &found["result"]["result"]), (&json!(status), &result));
    }
}

#[test]
fn a_batch_with_a_nan_is_accepted_task_by_task() {
    let cluster = cluster();
    let batch = r#"{"action": "batch_submit", "tasks": [{"id": "b1", "name": "add", "args": [1, 2]},
        {"id": "b2", "name": "add", "args": [NaN, 2]}, {"id": "b3", "name": "add", "args": [3, 4]}]}"#;
    let accepted = send_request(lanes(&cluster)[2], batch);
    assert_eq!(accepted, json!({ "batch_accepted": true, "task_ids": ["b1", "b2", "b3"] }));
    for (id, result, words) in [("b1", json!(3), ""), ("b2", Value::Null, "NaN"), ("b3", json!(7), "")] {
        let found = eventually("the result is recorded", TIMEOUT, || {
            let found = send_request(queries(&cluster), json!({ "task_id": id }).to_string());
            (found["found"] == true).then_some(found["result"].clone())
        });
        assert_eq!(found["result"], result);
        assert!(found["error"].as_str().unwrap_or_default().contains(words), "{found}");
    }
}

#[test]
fn a_repeated_submission_runs_once_and_both_get_replies() {
    let cluster = cluster();
    let normal = lanes(&cluster)[2];
    let message = r#"{"id": "twice", "name": "slow", "args": [0.5, 5]}"#;
    let mut wires = [Wire::request(normal), Wire::request(normal)];
    for wire in &mut wires {
        wire.send_request(1, message);
    }
    let [first, second] = wires.map(|mut wire| wire.receive_reply(1));
    assert_eq!(first, second);
    assert_eq!(first["result"], 5);
    assert_eq!(send_request(normal, message), first);
}

#[test]
fn every_hop_of_a_request_is_echoed() {
    let cluster = cluster();
    let mut wire = Wire::request(lanes(&cluster)[2]);
    let hops = [[0, 0, 0, 1], [0x12, 0x34, 0x56, 0x78], [0x80, 0, 0, 9]].concat();
    wire.send(&[&hops[..], SUBMISSION.as_bytes()].concat());
    let reply = wire.receive().expect("reply expected");
    assert_eq!(reply[..hops.len()], hops);
    let result: Value = serde_json::from_slice(&reply[hops.len()..]).expect("valid JSON");
    assert_eq!(result["result"], 8);
}

#[test]
fn requests_of_one_connection_get_replies_with_their_ids() {
    let cluster = cluster();
    let mut wire = Wire::request(lanes(&cluster)[2]);
    for number in 0..500 {
        wire.send_request(number, json!({ "name": "add", "args": [number, 1] }).to_string());
    }
    let mut seen = vec![false; 500];
    for _ in 0..500 {
        let body = wire.receive().expect("reply expected");
        let id = u32::from_be_bytes(body[..4].try_into().expect("four bytes")) & 0x7fff_ffff;
        let reply: Value = serde_json::from_slice(&body[4..]).expect("valid JSON");
        assert_eq!(reply["result"], id + 1);
        seen[id as usize] = true;
    }
    assert!(seen.into_iter().all(|seen| seen));
}

#[test]
fn a_pickle_is_refused_with_an_explanation() {
    let cluster = cluster();
    // pickle.dumps({"task_id": "x"}, protocol 4)
    let pickle = b"\x80\x04\x95\x12\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x07task_id\x94\x8c\x01x\x94s.";
    for (port, words) in [(lanes(&cluster)[2], "failure"), (queries(&cluster), "error")] {
        let mut wire = Wire::request(port);
        wire.send_request(1, pickle);
        let reply = wire.receive().expect("reply expected");
        // The reply is a pickle, as the sender reads nothing else.
        let text = String::from_utf8_lossy(&reply[4..]);
        assert!(reply[4..].starts_with(b"\x80\x02}(") && reply.ends_with(b"u."), "{text}");
        assert!(text.contains(words) && text.contains("Python pickle") && text.contains("postcard"), "{text}");
    }
    assert_eq!(cluster.control_plane.log().matches("Python pickle").count(), 1, "{}", cluster.control_plane.log());
}

#[test]
fn garbage_gets_a_reply_and_affects_no_other_client() {
    let cluster = cluster();
    let [critical, _, normal, _] = lanes(&cluster);
    let mut open = Wire::request(normal);
    open.send_request(3, r#"{"id": "steady", "name": "slow", "args": [1, 10]}"#);
    let deep = [vec![b'{'; 1], br#""name":"add","args":"#.to_vec(), vec![b'['; 100_000]].concat();
    let garbage: [&[u8]; 10] =
        [b"", b"\0", b"\xff\xfe", b"hello", b"[1, 2]", b"null", b"{", b"{\"name\": 5}", b"\x01\xff\xff\xff\xff", &deep];
    for message in garbage {
        for port in [critical, normal, queries(&cluster), cluster.ports().subworkers()] {
            let mut wire = Wire::request(port);
            wire.send_request(1, message);
            let reply = wire.receive().expect("reply expected");
            assert!(reply.len() > 4, "{message:?} on {port}");
        }
    }
    // Bytes that are not a frame end the connection.
    let mut http = Wire::request(normal);
    http.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(http.is_closed_within(TIMEOUT));
    let mut endless = Wire::request(normal);
    endless.send_raw(&u64::MAX.to_be_bytes());
    assert!(endless.is_closed_within(TIMEOUT));
    let mut short = Wire::request(normal);
    short.send(&[1, 2]);
    assert!(short.is_closed_within(TIMEOUT));
    drop(Wire::request(normal));
    assert_eq!(open.receive_reply(3)["result"], 10);
    assert_eq!(send_request(normal, SUBMISSION)["result"], 8);
}

#[test]
fn a_disconnected_client_does_not_delay_others() {
    let cluster = cluster();
    let normal = lanes(&cluster)[2];
    for number in 0..200 {
        let mut wire = Wire::request(normal);
        wire.send_request(number, json!({ "name": "slow", "args": [0.001, 1] }).to_string());
    }
    assert_eq!(send_request(lanes(&cluster)[0], SUBMISSION)["result"], 8);
}

/// Opens the maximum number of clients of the original, each with a separate connection until its task has ended.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_open_submissions_all_get_replies() {
    const THREADS: u32 = 8;
    const EACH: u32 = 1250;
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit on open files can be raised");
    let cluster = cluster();
    let client = cluster.client().await;
    let busy = client.delay("endless_loop", ()).await.expect("task accepted");
    wait_for_status(&client, &busy, TaskStatus::Started).await;
    let ports = lanes(&cluster);
    let opened: Vec<_> = (0..THREADS)
        .map(|thread| {
            thread::spawn(move || {
                let mut wires = Vec::new();
                for index in 0..EACH {
                    let number = thread * EACH + index;
                    let mut wire = Wire::request(ports[number as usize % 4]);
                    let task = json!({ "id": format!("open-{number}"), "name": "add", "args": [number, 1] });
                    wire.send_request(number, task.to_string());
                    wires.push((number, wire));
                }
                wires
            })
        })
        .collect();
    let opened: Vec<_> = opened.into_iter().map(|thread| thread.join().expect("no panic expected")).collect();
    for number in (0..THREADS * EACH).rev().step_by(97) {
        let id = format!("open-{number}").parse().expect("id expected");
        wait_for_status(&client, &id, TaskStatus::Pending).await;
    }
    assert!(cluster.control_plane.open_files() > 10_000, "{} open files", cluster.control_plane.open_files());
    assert!(client.cancel(&busy).await.expect("reply expected"));
    let replied: Vec<_> = opened
        .into_iter()
        .map(|wires| {
            thread::spawn(move || {
                for (number, mut wire) in wires {
                    let reply = wire.receive_reply(number);
                    assert_eq!((&reply["status"], &reply["result"]), (&json!("success"), &json!(number + 1)));
                }
            })
        })
        .collect();
    for thread in replied {
        thread.join().expect("every reply is correct");
    }
    let back = || (cluster.control_plane.open_files() < 200).then_some(());
    eventually("the connections are closed", TIMEOUT, back);
}
