//! Readable but malicious messages: odd strings, odd numbers, false registrations and outcomes.
//! Each is refused with a reason, and does not affect others.

use std::time::Duration;

use fastworker::{
    clock::Timestamp,
    json::Json,
    protocol::{
        Beat, Collect, Ended, EventQuery, FRAME_ITEMS_MAX, Follow, LeaseId, Lookup, Note, Notify, RefusalCode,
        Registration, Reply, Request, Submit, Submitted, TaskQuery, Work, WorkerReply, WorkerRequest, codec,
    },
    task::{
        ErrorKind, LogLevel, ModuleInfo, NewTask, Outcome, Policy, Report, SerializationFormat, TaskId, TaskInfo,
        TaskLimits, TaskPriority, TaskStatus, Unknown,
    },
};
use fastworker_tests::{
    Cluster, TIMEOUT, eventually, http,
    original::send_request,
    peer::{Peer, REQUEST},
    steady::Steady,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

fn cluster() -> Cluster {
    let few = ["--result-cache-size", "100"];
    Cluster::builder().modules(&["arithmetic"]).subworkers(1).slots(2).control_plane_args(&few).start()
}

fn management(cluster: &Cluster) -> Peer {
    Peer::handshake(cluster.ports().base() + 4, REQUEST).expect("handshake expected")
}

fn subworkers(cluster: &Cluster) -> Peer {
    Peer::handshake(cluster.ports().subworkers(), REQUEST).expect("handshake expected")
}

/// Sends a request in one format, and decodes the reply in the same.
fn call<Q: Serialize, A: DeserializeOwned>(peer: &mut Peer, format: SerializationFormat, request: &Q) -> A {
    let reply = peer.call(&codec::encode(format, request)).expect("reply expected");
    assert_eq!(codec::form(&reply).expect("valid format"), format);
    codec::decode(&reply).expect("valid reply")
}

/// Sends a request in both formats. The replies are of the same kind.
fn call_both(peer: &mut Peer, request: &Request) -> Reply {
    let [json, postcard] = SerializationFormat::ALL.map(|format| call::<_, Reply>(peer, format, request));
    assert_eq!(std::mem::discriminant(&json), std::mem::discriminant(&postcard), "{json:?} and {postcard:?}");
    json
}

fn worker_reply(peer: &mut Peer, request: &WorkerRequest) -> WorkerReply {
    call(peer, SerializationFormat::Postcard, request)
}

/// The message of a refusal, in any kind of reply.
fn refusal_message(reply: &[u8]) -> String {
    if reply.first() == Some(&codec::POSTCARD) {
        let refused = codec::decode::<Reply>(reply).ok().and_then(|reply| match reply {
            Reply::Refused(refusal) => Some(refusal.message),
            _ => None,
        });
        let worker = || match codec::decode::<WorkerReply>(reply) {
            Ok(WorkerReply::Refused(refusal)) => refusal.message,
            other => panic!("no refusal: {other:?}"),
        };
        return refused.unwrap_or_else(worker);
    }
    if reply.first() == Some(&0x80) {
        // A pickle gets a pickle as its reply.
        return String::from_utf8_lossy(reply).into_owned();
    }
    let reply: Value = serde_json::from_slice(reply).expect("valid JSON");
    let places = [&reply["message"]["refused"]["message"], &reply["error"], &reply["result"]["error"]];
    places.into_iter().find_map(Value::as_str).unwrap_or_else(|| panic!("no refusal: {reply}")).to_owned()
}

#[test]
fn unreadable_messages_are_refused_with_a_reason() {
    let cluster = cluster();
    let steady = Steady::start(&cluster);
    let base = cluster.ports().base();
    let pickle = b"\x80\x04\x95\x12\0\0\0\0\0\0\0}\x94\x8c\x07task_id\x94\x8c\x01x\x94s.";
    let envelope = |message: &str| format!(r#"{{"v":1,"message":{message}}}"#).into_bytes();
    let ours: [(Vec<u8>, &str); 17] = [
        (Vec::new(), "empty"),
        (b"hello".to_vec(), "starts with byte 0x68: send JSON, or postcard"),
        (b"\xff\xfe\0".to_vec(), "starts with byte 0xff"),
        (pickle.to_vec(), "postcard"),
        (br#"{"v":2,"message":"hello"}"#.to_vec(), "protocol version 2"),
        (br#"{"v":4294967296,"message":"hello"}"#.to_vec(), "u32"),
        (br#"{"v":"1","message":"hello"}"#.to_vec(), "u32"),
        (envelope(r#""explode""#), "unknown variant `explode`"),
        (envelope(r#"{"cancel":[],"lookup":5}"#), "cannot read the message: expected"),
        (envelope(r#"{"cancel":["a\u0000b"]}"#), "task id"),
        (envelope(&format!(r#"{{"cancel":["{}"]}}"#, "x".repeat(129))), "task id"),
        (envelope(r#"{"submit":{"tasks":[],"tasks":[],"notify":"no"}}"#), "duplicate field `tasks`"),
        (envelope(r#"{"collect":{"session":"x","sequence":1e99,"wait_ms":-1}}"#), "cannot read the message"),
        (b"{\"v\":1,\"message\":{\"cancel\":[\"\xff\xfe\"]}}".to_vec(), "unicode"),
        ([&envelope(r#""hello""#)[..], b" {}"].concat(), "trailing"),
        (vec![1], "ends too early"),
        (vec![1, 0, 0], "follow its end"),
    ];
    for port in (base..=base + 4).chain([cluster.ports().subworkers()]) {
        let mut peer = Peer::handshake(port, REQUEST).expect("handshake expected");
        for (message, why) in &ours {
            let message = match message[..] {
                // The first verb of a worker has fields.
                [1, 0, 0] if port == cluster.ports().subworkers() => continue,
                _ => message,
            };
            let reply = peer.call(message).expect("reply expected");
            let refusal_message = refusal_message(&reply);
            let is_verb = refusal_message.contains("unknown variant") && port == cluster.ports().subworkers();
            assert!(
                refusal_message.contains(why) || is_verb,
                "'{refusal_message}' to {:?} at {port}",
                message.escape_ascii().to_string()
            );
            assert!(refusal_message.len() < 1_000, "{refusal_message}");
        }
    }
    steady.stop();
}

#[test]
fn unusual_ids_and_names_are_accepted_or_refused() {
    let cluster = cluster();
    let mut peer = management(&cluster);
    let whole = "\u{202e}gnp.exe \u{200b}\u{1f600} ' \" \\ <b> %s ${x} ../..";
    let right = [whole.to_owned(), "x".repeat(128), "ü".repeat(64), "null".into(), "0".into()];
    for id in right {
        let task = NewTask { id: id.parse().expect("id expected"), args: add_args(), ..NewTask::new("add") };
        let submit = Request::Submit(Submit { tasks: vec![task], notify: Notify::Answer });
        for format in SerializationFormat::ALL {
            match call::<_, Reply>(&mut peer, format, &submit) {
                Reply::Submitted(submitted) => match &submitted[..] {
                    [Submitted::Ended(ended)] => assert_eq!(ended.task_id.to_string(), id),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
        let cancelled =
            send_request(cluster.ports().base() + 4, json!({ "action": "cancel", "task_id": id }).to_string());
        assert_eq!(cancelled, json!({ "cancelled": false, "task_id": id }));
    }
    let names = [String::new(), "x".repeat(129), "a\0b".into(), "a\nb".into(), "\u{7f}".into()];
    for name in names {
        let submit = Request::Submit(Submit { tasks: vec![NewTask::new(name)], notify: Notify::Answer });
        match call_both(&mut peer, &submit) {
            Reply::Submitted(submitted) => match &submitted[..] {
                [Submitted::Refused(why)] => assert_eq!(why.code, RefusalCode::BadRequest, "{why}"),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    // The wire of the original has the same limits, and does not echo a long id.
    let long = "y".repeat(1 << 20);
    let [base, queries] = [0, 4].map(|offset| cluster.ports().base() + offset);
    for action in ["query", "cancel", &long] {
        let reply = send_request(queries, json!({ "action": action, "task_id": long }).to_string());
        let error = reply["error"].as_str().expect("error message expected");
        assert!(error.len() < 200, "{error:.300}");
    }
    let reply = send_request(queries, json!({ "action": long, "task_id": "x" }).to_string());
    assert!(reply["error"].as_str().is_some_and(|error| error.len() < 200));
    for id in [json!("a\u{0}b"), json!(""), json!(5), json!(long)] {
        let reply = send_request(base, json!({ "id": id, "name": "add", "args": [1, 2] }).to_string());
        assert_eq!(reply["status"], "failure", "{reply:.300}");
        assert!(reply["error"].as_str().is_some_and(|error| error.len() < 1_000), "{reply:.300}");
    }
}

fn add_args() -> Json {
    Json::parse("[5, 3]").expect("valid JSON")
}

/// The depth overflows every stack of a recursive parser.
#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_json_overflows_no_stack() {
    const DEPTH: usize = 100_000;
    let mut cluster = cluster();
    let steady = Steady::start(&cluster);
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(DEPTH), close.repeat(DEPTH));
    let client = cluster.client().await;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let document = Json::parse(&format!("[{}]", deep(open, close))).expect("valid JSON");
        let task = NewTask { args: document.clone(), ..NewTask::new("add") };
        let ended = client.submit_many(vec![task]).await.expect("reply expected").remove(0).expect("result expected");
        assert_eq!((ended.status, ended.error_kind), (TaskStatus::Failure, Some(ErrorKind::BadArguments)), "{ended:?}");
        let error = ended.error.clone().unwrap_or_default();
        assert!(error.len() < 10_000, "{} bytes of error", error.len());
        // A waiting task shows its arguments unchanged.
        let waiting = NewTask { args: document.clone(), unknown: Unknown::Wait, ..NewTask::new("nobody") };
        let id = waiting.id.clone();
        let mut peer = management(&cluster);
        call_both(&mut peer, &Request::Submit(Submit { tasks: vec![waiting], notify: Notify::No }));
        match call_both(&mut peer, &Request::Lookup(Lookup { ids: vec![id.clone()], wait_ms: 0 })) {
            Reply::Found(found) => assert!(format!("{found:?}").contains(document.as_str())),
            other => panic!("{other:?}"),
        }
        assert!(client.cancel(&id).await.expect("reply expected"));
        // Clients of the original can send it in any field.
        let base = cluster.ports().base();
        let nested = deep(open, close);
        for field in ["args", "kwargs", "id", "name", "timeout", "callback", "tasks", "action", "task_id", "v", "x"] {
            let other = if field == "name" { "other" } else { "name" };
            for message in [
                format!(r#"{{"{other}":"add","{field}":{nested}}}"#),
                format!(r#"{{"{field}":{nested}"#),
                nested.clone(),
            ] {
                for port in [base, base + 4, cluster.ports().subworkers()] {
                    let reply = Peer::handshake(port, REQUEST).and_then(|mut peer| peer.call(message.as_bytes()));
                    assert!(reply.is_ok_and(|reply| reply.len() < 10_000), "{field} at {port}");
                }
            }
        }
        let message = format!(r#"{{"v":1,"message":{{"submit":{{"tasks":{nested},"notify":{nested}}}}}}}"#);
        assert!(refusal_message(&peer.call(message.as_bytes()).expect("reply expected")).len() < 1_000);
    }
    steady.stop();
    assert!(cluster.control_plane.is_running() && cluster.subworkers[0].is_running());
}

#[test]
fn invalid_numbers_are_refused_and_huge_ones_are_bounded() {
    let cluster = cluster();
    let steady = Steady::start(&cluster);
    let mut peer = management(&cluster);
    let submit = |task: &str| {
        let message = format!(r#"{{"v":1,"message":{{"submit":{{"tasks":[{task}],"notify":"no"}}}}}}"#);
        message.into_bytes()
    };
    let spans = ["-1", "1e300", "1e999", "\"5\"", "NaN", "Infinity", "-0.5", "9007199254740993e300"];
    for span in spans {
        for field in ["countdown", "policy"] {
            let value = if field == "policy" { format!(r#"{{"timeout":{span}}}"#) } else { span.to_owned() };
            let message = submit(&format!(r#"{{"id":"a","name":"add","args":[1,2],"{field}":{value}}}"#));
            let why = refusal_message(&peer.call(&message).expect("reply expected"));
            assert!(why.contains("cannot read the message"), "{why}");
        }
    }
    for args in ["{}", "5", "\"[]\"", "null", "[1,]", "[NaN]"] {
        let message = submit(&format!(r#"{{"id":"a","name":"add","args":{args}}}"#));
        let reply = peer.call(&message).expect("reply expected");
        let text = String::from_utf8_lossy(&reply);
        assert!(text.contains("refused"), "{args}: {text}");
    }
    far_times_are_accepted(&mut peer);
    absurd_policies_are_accepted(&mut peer);
    // On the wire of the original, numbers out of range are ignored.
    for field in ["timeout", "retry_delay", "retry_backoff", "retry_backoff_max", "max_retries"] {
        for number in ["-1", "1e308", "1e15", "0", "null"] {
            let message = format!(r#"{{"name":"add","args":[5,3],"{field}":{number}}}"#);
            let reply = send_request(cluster.ports().base(), message);
            let refused = field == "max_retries" && number.contains(['-', 'e']);
            assert!(reply["result"] == 8 || (refused && reply["status"] == "failure"), "{field} {number}: {reply}");
        }
    }
    steady.stop();
}

/// Submits tasks with unusual but valid times.
fn far_times_are_accepted(peer: &mut Peer) {
    let far = [
        NewTask { eta: Some(Timestamp::from_micros(i64::MAX)), args: add_args(), ..NewTask::new("add") },
        NewTask { eta: Some(Timestamp::from_micros(i64::MIN)), args: add_args(), ..NewTask::new("add") },
        NewTask { countdown: Some(fastworker::clock::DURATION_MAX), args: add_args(), ..NewTask::new("add") },
        NewTask {
            eta: Some("9999-12-30T00:00:00Z".parse().expect("valid time")),
            args: add_args(),
            ..NewTask::new("add")
        },
    ];
    for task in far {
        let (id, soon) = (task.id.clone(), task.eta.is_some_and(|eta| eta.micros() < 0));
        let submitted = call_both(peer, &Request::Submit(Submit { tasks: vec![task], notify: Notify::No }));
        assert!(matches!(submitted, Reply::Submitted(_)), "{submitted:?}");
        let wait_ms = if soon { 5_000 } else { 0 };
        let found = call_both(peer, &Request::Lookup(Lookup { ids: vec![id.clone()], wait_ms }));
        let Reply::Found(found) = found else { panic!("{found:?}") };
        assert!(format!("{found:?}").contains(if soon { "status: Success" } else { "status: Scheduled" }), "{found:?}");
        call_both(peer, &Request::Cancel(vec![id]));
    }
}

/// Submits tasks with unusual but valid policies.
fn absurd_policies_are_accepted(peer: &mut Peer) {
    let absurd = Policy {
        priority: Some(TaskPriority::Critical),
        timeout: Some(Duration::ZERO),
        max_retries: Some(u32::MAX),
        retry_delay: Some(fastworker::clock::DURATION_MAX),
        retry_backoff: Some(f64::NAN),
        retry_backoff_max: Some(fastworker::clock::DURATION_MAX),
    };
    for retry_backoff in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MIN_POSITIVE, f64::MAX] {
        let policy = Policy { retry_backoff: Some(retry_backoff), ..absurd.clone() };
        let task = NewTask { args: add_args(), policy, ..NewTask::new("add") };
        let id = task.id.clone();
        let submit = Request::Submit(Submit { tasks: vec![task], notify: Notify::No });
        let submitted: Reply = call(peer, SerializationFormat::Postcard, &submit);
        assert!(matches!(submitted, Reply::Submitted(_)), "{submitted:?}");
        // The first attempt times out immediately, and the next one is as late as possible.
        eventually("the first attempt ends", TIMEOUT, || {
            let lookup = Request::Lookup(Lookup { ids: vec![id.clone()], wait_ms: 0 });
            let found = format!("{:?}", call_both(peer, &lookup));
            (found.contains("status: Retrying") || found.contains("status: Success")).then_some(())
        });
        call_both(peer, &Request::Cancel(vec![id]));
    }
}

#[test]
fn oversized_requests_are_refused_or_bounded() {
    let mut cluster = cluster();
    let steady = Steady::start(&cluster);
    let mut peer = management(&cluster);
    let many =
        |count: usize| (0..count).map(|number| TaskId::from(Uuid::from_u128(number as u128))).collect::<Vec<_>>();
    let over = FRAME_ITEMS_MAX + 1;
    let tasks = vec![NewTask::new("add"); over];
    let refused = [
        Request::Submit(Submit { tasks, notify: Notify::No }),
        Request::Lookup(Lookup { ids: many(over), wait_ms: 0 }),
        Request::Cancel(many(over)),
        Request::Tasks(TaskQuery { statuses: vec![TaskStatus::Cancelled; 1_000_000], ..TaskQuery::default() }),
    ];
    for request in refused {
        for format in SerializationFormat::ALL {
            match call::<_, Reply>(&mut peer, format, &request) {
                Reply::Refused(why) => {
                    assert_eq!(why.code, RefusalCode::Unreadable, "{why}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let ids: Reply = {
        let lookup =
            codec::encode(SerializationFormat::Postcard, &Request::Lookup(Lookup { ids: many(900_000), wait_ms: 0 }));
        codec::decode(&peer.call(&lookup).expect("reply expected")).expect("valid reply")
    };
    assert!(matches!(ids, Reply::Refused(_)), "{ids:?}");

    let session = Uuid::from_u128(3);
    let accepted = [
        Request::Tasks(TaskQuery { offset: u64::MAX, limit: u32::MAX, ..TaskQuery::default() }),
        Request::Tasks(TaskQuery { limit: u32::MAX, name: Some("x".repeat(1 << 20)), ..TaskQuery::default() }),
        Request::Events(EventQuery { after: u64::MAX, wait_ms: u32::MAX }),
        Request::Events(EventQuery { after: u64::MAX - 1, wait_ms: 0 }),
        Request::Follow(Follow { id: TaskId::new(), after: u64::MAX, wait_ms: u32::MAX }),
        Request::Collect(Collect { session, sequence: u64::MAX, wait_ms: 0 }),
        Request::Collect(Collect { session, sequence: 0, wait_ms: u32::MAX }),
    ];
    for request in accepted {
        let reply = call_both(&mut peer, &request);
        assert!(!matches!(reply, Reply::Refused(_)), "{request:?}: {reply:?}");
    }
    thousands_of_sessions_are_limited(&cluster, &mut peer);
    steady.stop();
    assert!(cluster.control_plane.is_running());
}

/// Opens thousands of sessions: their number is limited, and none gets the results of another.
fn thousands_of_sessions_are_limited(cluster: &Cluster, peer: &mut Peer) {
    let before = cluster.control_plane.memory();
    for round in 0..20 {
        for number in 0..1_000_u32 {
            let session = Uuid::from_u128(u128::from(round * 1_000 + number) << 64);
            let collect = Request::Collect(Collect { session, sequence: 1, wait_ms: 0 });
            peer.send_request(number, &codec::encode(SerializationFormat::Postcard, &collect))
                .expect("open connection");
        }
        for _ in 0..1_000 {
            let (_, body) = peer.receive_reply().expect("reply expected");
            assert!(matches!(codec::decode(&body), Ok(Reply::Collected(collected)) if collected.results.is_empty()));
        }
    }
    let grown = cluster.control_plane.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for sessions");
}

fn registration(worker_id: &str) -> Registration {
    Registration {
        previous: None,
        worker: Uuid::new_v4(),
        worker_id: worker_id.into(),
        address: "tcp://127.0.0.1:1".into(),
        slots: 1,
        modules: Vec::new(),
    }
}

fn module(names: &[&str], documentation: &str) -> ModuleInfo {
    let task = |name: &&str| TaskInfo {
        name: (*name).to_owned(),
        full_name: None,
        documentation: documentation.to_owned(),
        schema: Json::empty_object(),
        policy: Policy::default(),
        limits: TaskLimits::default(),
        schedule: None,
        needs: Vec::new(),
        warnings: Vec::new(),
    };
    ModuleInfo {
        name: "fake".into(),
        path: "fake.wasm".into(),
        hash: "0".repeat(64),
        size: 1,
        loaded_at: Timestamp::from_micros(0),
        engine: "pooling".into(),
        tasks: names.iter().map(task).collect(),
        ..ModuleInfo::default()
    }
}

#[test]
fn invalid_registrations_are_refused() {
    let cluster = cluster();
    let steady = Steady::start(&cluster);
    let mut peer = subworkers(&cluster);
    let of = |modules| Registration { modules, ..registration("fake") };
    let large = "d".repeat(9 << 20);
    let long = "n".repeat(129);
    let lies = [
        (Registration { slots: 0, ..registration("fake") }, "1 to 4096 slots"),
        (Registration { slots: u32::MAX, ..registration("fake") }, "1 to 4096 slots"),
        (registration(""), "worker id"),
        (registration(&long), "worker id"),
        (registration("a\u{1b}[2Jb"), "worker id"),
        (registration("sw1"), "connected already"),
        (Registration { address: "\0".into(), ..registration("fake") }, "address"),
        (Registration { address: "x".repeat(1 << 20), ..registration("fake") }, "address"),
        (of(vec![module(&["a\nb"], "")]), "task name"),
        (of(vec![module(&[""], "")]), "task name"),
        (of(vec![module(&[&long], "")]), "task name"),
        (of(vec![module(&["a"], &large)]), "over the limit of 8388608 bytes"),
    ];
    for (lie, why) in lies {
        match worker_reply(&mut peer, &WorkerRequest::Register(lie)) {
            WorkerReply::Refused(refusal) | WorkerReply::IdInUse(refusal) => {
                let message = refusal.message;
                assert!(message.contains(why) && message.len() < 1_000, "{message}");
            }
            other => panic!("{why}: {other:?}"),
        }
    }
    invalid_schemas_are_refused(&mut peer);
    // Too many of everything.
    let modules = vec![module(&[], ""); 1_001];
    assert!(matches!(worker_reply(&mut peer, &WorkerRequest::Register(of(modules))), WorkerReply::Refused(_)));
    let names: Vec<String> = (0..10_001).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let modules = vec![module(&names, "")];
    assert!(matches!(worker_reply(&mut peer, &WorkerRequest::Register(of(modules))), WorkerReply::Refused(_)));

    // A repeated task name counts once, and a large catalog does not delay other requests.
    let twice = of(vec![module(&["odd", "odd"], ""), module(&["odd"], &"d".repeat(7 << 20))]);
    let key = twice.worker;
    assert_eq!(worker_reply(&mut peer, &WorkerRequest::Register(twice)), WorkerReply::Registered);
    match call_both(&mut management(&cluster), &Request::Workers) {
        Reply::Workers(workers) => {
            assert_eq!(workers.len(), 2);
            assert!(workers.iter().any(|worker| worker.id == "sw1" && worker.slots == 2));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(worker_reply(&mut peer, &WorkerRequest::Leave(key)), WorkerReply::Noted);
    steady.stop();
}

/// Registers with a schema that is not JSON. The encoder cannot write one, so the bytes are changed afterwards.
fn invalid_schemas_are_refused(peer: &mut Peer) {
    let registration =
        || WorkerRequest::Register(Registration { modules: vec![module(&["a"], "")], ..registration("fake") });
    let json = codec::encode(SerializationFormat::Json, &registration());
    let json = String::from_utf8(json).expect("valid UTF-8").replace(r#""schema":{}"#, r#""schema":{]"#);
    assert!(refusal_message(&peer.call(json.as_bytes()).expect("reply expected")).contains("cannot read"));
    let mut postcard = codec::encode(SerializationFormat::Postcard, &registration());
    let schema = postcard.windows(3).position(|bytes| bytes == [2, b'{', b'}']).expect("schema expected");
    postcard[schema + 2] = b']';
    assert!(refusal_message(&peer.call(&postcard).expect("reply expected")).contains("a document that is not JSON"));
}

#[test]
fn thousands_of_workers_are_limited_and_removed_when_silent() {
    let cluster = cluster();
    let steady = Steady::start(&cluster);
    let mut peer = subworkers(&cluster);
    let (mut submitted, mut refused) = (0, 0);
    for number in 0..3_000 {
        let register = WorkerRequest::Register(registration(&format!("fake-{number}")));
        match worker_reply(&mut peer, &register) {
            WorkerReply::Registered => submitted += 1,
            WorkerReply::Refused(why) if why.code == RefusalCode::WorkerLimit => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(submitted > 900 && refused > 0, "{submitted} accepted, {refused} refused");
    steady.continues();
    drop(peer);
    let mut management = management(&cluster);
    eventually("silent workers are removed", 2 * TIMEOUT, || match call_both(&mut management, &Request::Workers) {
        Reply::Workers(workers) => {
            let active = workers.iter().filter(|worker| worker.status != fastworker::protocol::WorkerStatus::Lost);
            (active.count() == 1 && workers.len() < 100).then_some(())
        }
        other => panic!("{other:?}"),
    });
    steady.stop();
}

#[test]
fn unexpected_outcomes_change_nothing() {
    let cluster = cluster();
    let steady = Steady::start(&cluster);
    let mut peer = subworkers(&cluster);
    let registration = registration("fake");
    let worker = registration.worker;
    assert_eq!(worker_reply(&mut peer, &WorkerRequest::Register(registration)), WorkerReply::Registered);
    let forged = |lease: u64| Ended {
        lease: LeaseId(lease),
        outcome: Some(Outcome::Success { result: Json::parse("-1").expect("valid JSON"), follow_ups: Vec::new() }),
        ran_us: u64::MAX,
        usage: [u64::MAX; 6].into(),
        version: None,
        reports: vec![Report::Log { level: LogLevel::Error, message: "forged".into() }],
        metadata: Json::parse("[1]").expect("valid JSON"),
    };
    // Leases have numbers in the order of time, in microseconds since 1970.
    let now = u64::try_from(Timestamp::now().micros()).expect("after 1970");
    let leases = (0..500).chain(now - 500..now + 500).chain([u64::MAX]);
    let forgeries: Vec<u64> = leases.collect();
    for (sequence, some) in (1..).zip(forgeries.chunks(100)) {
        let ended = some.iter().copied().map(forged).collect();
        let work = Work { worker, slot: 0, sequence, ended, capacity: 0 };
        assert_eq!(worker_reply(&mut peer, &WorkerRequest::Work(work)), WorkerReply::Leases(Vec::new()));
    }
    // Decreasing sequence numbers, slots that it does not have, unknown keys.
    let work = |slot, sequence| Work { worker, slot, sequence, ended: vec![forged(1)], capacity: 0 };
    assert_eq!(worker_reply(&mut peer, &WorkerRequest::Work(work(0, 1))), WorkerReply::Leases(Vec::new()));
    assert_eq!(worker_reply(&mut peer, &WorkerRequest::Work(work(0, 0))), WorkerReply::Leases(Vec::new()));
    for slot in [1, u32::MAX] {
        let reply = worker_reply(&mut peer, &WorkerRequest::Work(work(slot, u64::MAX)));
        assert!(matches!(&reply, WorkerReply::Refused(why) if why.code == RefusalCode::NoSuchSlot), "{reply:?}");
    }
    let unknown = Work { worker: Uuid::nil(), ..work(0, 1) };
    assert_eq!(worker_reply(&mut peer, &WorkerRequest::Work(unknown)), WorkerReply::Unknown);
    let returned = (0..1_000).map(LeaseId).collect();
    let reports = forgeries.iter().map(|lease| (LeaseId(*lease), forged(1).reports.remove(0))).collect();
    let note = Note { worker, sequence: u64::MAX, reports, returned };
    assert_eq!(worker_reply(&mut peer, &WorkerRequest::Note(note)), WorkerReply::Noted);
    let holds = |count: usize| WorkerRequest::Beat(Beat { worker, holds: vec![LeaseId(7); count] });
    assert!(matches!(worker_reply(&mut peer, &holds(256)), WorkerReply::Orders(orders) if orders.len() == 256));
    for count in [257, 2_000_000] {
        let refusal = worker_reply(&mut peer, &holds(count));
        assert!(matches!(refusal, WorkerReply::Refused(_)), "{count} leases held");
    }
    let many = Work { ended: vec![forged(1); 1_001], ..work(0, u64::MAX) };
    assert!(matches!(worker_reply(&mut peer, &WorkerRequest::Work(many)), WorkerReply::Refused(_)));
    assert_eq!(worker_reply(&mut peer, &WorkerRequest::Leave(worker)), WorkerReply::Noted);
    assert_eq!(worker_reply(&mut peer, &WorkerRequest::Leave(worker)), WorkerReply::Noted);
    steady.stop();
}

/// Whether a character can change how a terminal shows what follows.
fn is_wild(char: char) -> bool {
    char.is_control() && !matches!(char, '\n' | '\t')
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[test]
fn control_characters_of_others_are_escaped() {
    const EVIL: &str = "no\u{1b}[31m red\u{1b}[8m hidden\u{1b}]52;c;ZXZpbA==\u{7} \u{202e}gnp.exe\u{2069}\u{200b} \
        \u{9b}2J\u{85}\u{2028}\r\nhint: run this\t.";
    let directory = tempfile::tempdir().expect("directory created");
    let module = directory.path().join("odd\u{202e}\n2026 ERROR forged\u{1b}[31m.wasm");
    std::fs::copy(fastworker_tests::modules::module("hostile"), &module).expect("file copied");
    let broken = directory.path().join("broken\n\u{1b}[31m\u{202e}.wasm");
    std::fs::write(&broken, "no module").expect("file access");
    let cluster = Cluster::builder().sources([module]).own_slots(1).gui().start();
    let name = "pay\u{202e}eno";
    let args = Json::of(&(EVIL,)).expect("valid JSON");
    let failed = cluster.cli(["submit", "--task-name", "panic_now", "--args-json", args.as_str()]).with_code(1);
    assert!(
        failed.stderr.contains("\\u001b[31m red") && failed.stderr.contains("\n  hint: run this"),
        "{}",
        failed.stderr
    );
    let id = cluster.cli(["tasks", "--json"]).with_code(0);
    let id = id.stdout.split('"').nth(3).expect("id expected").to_owned();
    let waiting = ["submit", "--task-name", name, "--non-blocking", "--wait-for-worker"];
    let _ = cluster.cli(waiting).with_code(0);
    let schedule = ["schedule", "add", name, "--task-name", name, "--every", "1h", "--wait-for-worker"];
    let _ = cluster.cli(schedule).with_code(0);
    let broken = broken.display().to_string();
    let commands: [(&[&str], i32); 9] = [
        (&["status", &id], 1),
        (&["result", &id], 1),
        (&["tasks"], 0),
        (&["events"], 0),
        (&["workers"], 0),
        (&["list", "--verbose"], 0),
        (&["schedule", "list"], 0),
        (&["list", "--task-modules", &broken], 2),
        (&["submit", "--task-name", "\u{202e}nothing", "--args", "1"], 5),
    ];
    for (command, code) in commands {
        let ran = cluster.cli(command).with_code(code);
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!text.contains(is_wild), "{command:?}: {text:?}");
            assert!(!text.lines().any(|line| line.starts_with("2026 ERROR")), "{command:?}: {text}");
            assert!(!text.lines().any(|line| line == "hint: run this\t."), "{command:?}: {text}");
        }
    }
    for path in ["tasks", "modules", "registered-tasks", "queues", &format!("tasks/{id}")] {
        let response = http::Request::get(&cluster.gui(), &format!("/api/{path}")).send().with_status(200);
        assert!(!response.body.contains(is_wild), "{path}: {:?}", response.body);
    }
    let log = cluster.control_plane.log();
    assert!(log.contains("forged") && !log.contains(is_wild), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("2026 ERROR") || line.starts_with("hint:")), "{log}");
}
