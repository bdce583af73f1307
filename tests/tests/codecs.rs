//! Both codecs carry everything: every verb end to end, and a round trip of every message.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use fastworker::{
    json::Json,
    protocol::{
        Found, Reply, Request, WorkerReply, WorkerRequest, codec,
        python_compat::{self, Call},
    },
    task::{ErrorKind, LogLevel, NewTask, Report, SerializationFormat, TaskId, TaskPriority, TaskStatus},
};
use fastworker_tests::{
    Cluster,
    task_helpers::{expect_success, wait_for_result, wait_for_status},
};
use proptest::{
    collection::vec, option, prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner,
};
use serde::{Serialize, de::DeserializeOwned};

#[path = "codecs/documents.rs"]
mod documents;
#[path = "codecs/shapes.rs"]
mod shapes;
#[path = "codecs/strategies.rs"]
mod strategies;

use strategies::{callbacks, documents, ids, replies, requests, results, text, worker_replies, worker_requests};

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_works_in_both_formats_through_workers_of_both_formats() {
    for worker in SerializationFormat::ALL {
        let format = ["--serialization-format", worker.as_str()];
        let modules = ["arithmetic", "slow", "hostile", "flaky", "text"];
        let cluster = Cluster::builder()
            .modules(&modules)
            .subworkers(1)
            .slots(2)
            .without_unknown_grace()
            .subworker_args(&format)
            .start();
        for format in SerializationFormat::ALL {
            every_verb(&cluster, format).await;
            let options =
                ["submit", "--serialization-format", format.as_str(), "--task-name", "add", "--args", "5", "3"];
            assert_eq!(cluster.cli(options).with_code(0).stdout, "8\n");
        }
    }
}

async fn every_verb(cluster: &Cluster, format: SerializationFormat) {
    let client = cluster.client_with_format(format).await;
    assert_eq!(expect_success(&client.submit_task("add", (5, 3)).await.expect("result expected")), "8");
    let named = client.submit_task("add", ()).kwargs(serde_json::json!({ "x": 1, "y": -2 })).await;
    assert_eq!(expect_success(&named.expect("result expected")), "-1");
    let text = "größe \u{1f600} \"\\\n";
    let reversed = client.submit_task("reverse", (text,)).await.expect("result expected");
    let expected: String = text.chars().rev().collect();
    assert_eq!(serde_json::from_str::<String>(expect_success(&reversed)).expect("string expected"), expected);

    let failed = client.submit_task("picky", (1,)).priority(TaskPriority::Low).await.expect("result expected");
    assert_eq!(failed.error_kind, Some(ErrorKind::BadArguments));
    let retried =
        client.submit_task("flaky", (1,)).retry_delay(Duration::from_millis(1)).await.expect("result expected");
    assert_eq!(retried.attempts, 2);
    let unknown = client.submit_task("ad", ()).await.expect("result expected");
    assert_eq!(unknown.error_kind, Some(ErrorKind::NotFound));

    let long = client.delay("slow", (60, 600)).priority(TaskPriority::Critical).await.expect("task accepted");
    let task = wait_for_status(&client, &long, TaskStatus::Started).await;
    assert_eq!((task.name.as_str(), task.priority, task.args.as_str()), ("slow", TaskPriority::Critical, "[60,600]"));
    assert!(client.cancel(&long).await.expect("reply expected"));
    let id = client.delay("slow", (0.2, 2)).await.expect("task accepted");
    let (mut after, mut seen) = (0, Vec::new());
    let followed = loop {
        let reports = client.follow(&id, after, Duration::from_secs(5)).await.expect("reply expected");
        after = reports.last;
        seen.extend(reports.reports);
        if let Found::Ended(result) = reports.task {
            break result;
        }
    };
    assert_eq!(expect_success(&followed), "2");
    let last = Report::Log { level: LogLevel::Info, message: "slept 0.2 s".into() };
    assert_eq!((seen.len(), seen.last()), (3, Some(&last)), "{seen:?}");
    assert_eq!(client.get_task_result(&id).await.expect("reply expected").as_ref(), Some(&*followed));

    let endless = client.delay("endless_loop", ()).await.expect("task accepted");
    wait_for_status(&client, &endless, TaskStatus::Started).await;
    assert!(client.cancel(&endless).await.expect("reply expected"));
    assert_eq!(wait_for_result(&client, &endless).await.status, TaskStatus::Cancelled);
    assert_eq!(client.get_task_result(&TaskId::new()).await.expect("reply expected"), None);

    let workers = client.list_tasks().await.expect("reply expected");
    assert_eq!((workers.len(), workers[0].id.as_str(), workers[0].modules.len()), (1, "sw1", 5));
    let tasks: Vec<NewTask> = (0..300)
        .map(|number| NewTask { args: Json::of(&(number, number)).expect("valid JSON"), ..NewTask::new("add") })
        .collect();
    for (number, sum) in client.submit_many(tasks).await.expect("results expected").into_iter().enumerate() {
        assert_eq!(expect_success(&sum.expect("result expected")), (2 * number).to_string());
    }
}

/// Writes and reads a message in both codecs.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
    for format in SerializationFormat::ALL {
        let bytes = codec::encode(format, message);
        assert_eq!(codec::form(&bytes).expect("valid format"), format);
        let read = codec::decode::<T>(&bytes);
        assert_eq!(&read.unwrap_or_else(|error| panic!("{error} in {message:?} as {format}")), message);
        // A truncated message is only an error.
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(codec::decode::<T>(&bytes[..length]).is_err(), "{length} bytes of {message:?} as {format}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_round_trip_in_both_codecs(request in requests()) {
        round_trip(&request);
    }

    #[test]
    fn replies_round_trip_in_both_codecs(reply in replies()) {
        round_trip(&reply);
    }

    #[test]
    fn worker_requests_round_trip_in_both_codecs(request in worker_requests()) {
        round_trip(&request);
    }

    #[test]
    fn worker_replies_round_trip_in_both_codecs(reply in worker_replies()) {
        round_trip(&reply);
    }

    #[test]
    fn original_requests_are_parsed_with_all_fields(
        id in ids(), name in text(), args in documents(), kwargs in documents(), spans in (1_u32..9_000, 1_u32..9_000),
        callback in option::of(callbacks()), lane in option::of(select(TaskPriority::ALL.to_vec())),
    ) {
        let (timeout, delay) = spans;
        let address = callback.as_ref().map(|callback| &callback.address);
        let data = callback.as_ref().and_then(|callback| callback.data.as_ref());
        let callback_text = serde_json::to_string(&callback).expect("valid JSON");
        let message = format!(
            r#"{{"id": {}, "name": {}, "args": {args}, "kwargs": {kwargs}, "priority": "low", "started_at": null,
                "callback": {callback_text}, "timeout": {timeout}, "retry_delay": {delay}.5, "invented": [{{}}]}}"#,
            Json::of(&id.to_string()).expect("valid JSON"), Json::of(&name).expect("valid JSON"),
        );
        let Ok(Call::Submit(task)) = python_compat::read(message.as_bytes(), lane) else { panic!("{message}") };
        prop_assert_eq!((&task.id, &task.name, &task.args, &task.kwargs), (&id, &name, &args, &kwargs));
        prop_assert_eq!(task.policy.priority, Some(lane.unwrap_or(TaskPriority::Low)));
        prop_assert_eq!(task.policy.timeout, Some(Duration::from_secs(timeout.into())));
        let delayed = task.policy.retry_delay.map_or(0.0, |delay| delay.as_secs_f64());
        prop_assert!((delayed - f64::from(delay) - 0.5).abs() < 1e-9);
        prop_assert_eq!(task.callback.as_ref().map(|callback| &callback.address), address);
        prop_assert_eq!(task.callback.as_ref().and_then(|callback| callback.data.as_ref()), data);
        let batch = format!(r#"{{"action": "batch_submit", "tasks": [{message}, {message}]}}"#);
        prop_assert!(matches!(python_compat::read(batch.as_bytes(), lane), Ok(Call::Batch(tasks)) if tasks.len() == 2));
        let query = format!(r#"{{"task_id": {}}}"#, Json::of(&id.to_string()).expect("valid JSON"));
        prop_assert!(matches!(python_compat::read(query.as_bytes(), lane), Ok(Call::Query(query)) if query == id.to_string()));
    }

    #[test]
    fn original_replies_have_all_fields_of_the_result(result in results(), callback in option::of(callbacks())) {
        let id = result.task_id.to_string();
        let found = Found::Ended(result.clone());
        let replies = [python_compat::ended(&result, callback.as_ref()), python_compat::query(&id, &found)];
        let [ended, queried] = replies.map(|reply| serde_json::from_slice::<serde_json::Value>(&reply));
        // Python reads numbers that this parser does not.
        if let (Ok(ended), Ok(queried)) = (ended, queried) {
            for reply in [&ended, &queried["result"]] {
                prop_assert_eq!(reply["task_id"].as_str(), Some(&*id));
                prop_assert_eq!(reply["error"].as_str(), result.error.as_deref());
                let read = result.result.as_ref().map(|result| result.read::<serde_json::Value>().expect("valid JSON"));
                prop_assert_eq!(&reply["result"], &read.unwrap_or_default());
                prop_assert_eq!(reply.as_object().map(serde_json::Map::len), Some(7));
            }
        } else {
            let data = callback.as_ref().and_then(|callback| callback.data.as_ref());
            prop_assert!(result.result.iter().chain(data).any(|document| document.as_str() == "1e400"));
        }
    }

    #[test]
    fn random_bytes_are_at_most_an_error(bytes in vec(any::<u8>(), 0..200), first in select(vec![b'{', 1, 0x80])) {
        let bytes = [&[first], &bytes[..]].concat();
        drop(codec::decode::<Request>(&bytes));
        drop(codec::decode::<WorkerRequest>(&bytes));
        drop(codec::decode::<Reply>(&bytes));
        drop(codec::decode::<WorkerReply>(&bytes));
    }
}

/// Every message in both formats, and those of the original.
fn frames() -> Vec<Vec<u8>> {
    const EACH: usize = 60;
    fn of<T: Serialize>(frames: &mut Vec<Vec<u8>>, runner: &mut TestRunner, messages: &impl Strategy<Value = T>) {
        for format in SerializationFormat::ALL {
            for _ in 0..EACH {
                let message = messages.new_tree(runner).expect("message expected").current();
                frames.push(codec::encode(format, &message));
            }
        }
    }
    let (mut frames, mut runner) = (Vec::new(), TestRunner::deterministic());
    of(&mut frames, &mut runner, &requests());
    of(&mut frames, &mut runner, &replies());
    of(&mut frames, &mut runner, &worker_requests());
    of(&mut frames, &mut runner, &worker_replies());
    let originals = [
        r#"{"id": "8f6b", "name": "add", "args": [5, 3], "kwargs": {"a": 1.5}, "priority": "normal", "created_at": "2026-11-24 05:37:30.601531", "status": "pending", "callback": {"address": "tcp://127.0.0.1:16000", "data": {"source": "t"}}, "max_retries": 0, "retry_delay": 60.0, "timeout": null, "eta": "2026-11-24T05:37:30"}"#,
        r#"{"action": "batch_submit", "tasks": [{"id": "a", "name": "add", "args": [1, 2]}, {"name": "x", "timeout": 5}]}"#,
        r#"{"action": "cancel", "task_id": "cc6f2bcd"}"#,
        r#"{"task_id": "e8da884f"}"#,
    ];
    frames.extend(originals.map(|text| text.as_bytes().to_vec()));
    frames
}

/// Changes a frame in a few places.
fn mutate(rng: &mut fastrand::Rng, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = frames[rng.usize(..frames.len())].clone();
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..=bytes.len());
        let to = rng.usize(at..=bytes.len().min(at + 40));
        match rng.u8(0..9) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            2 if at < bytes.len() => bytes[at] = *[0, 1, 0x7f, 0x80, 0xff].get(rng.usize(..5)).unwrap_or(&0),
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..to)),
            5 => drop(bytes.splice(at..at, std::iter::repeat_with(|| rng.u8(..)).take(3).collect::<Vec<_>>())),
            // The largest number that postcard can encode.
            6 => drop(bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
            7 => {
                let part = bytes[at..to].repeat(rng.usize(1..20));
                bytes.splice(at..at, part);
            }
            _ => {
                let other = &frames[rng.usize(..frames.len())];
                let from = rng.usize(..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
    }
    bytes
}

/// Decodes bytes as a message, which must then round-trip.
fn read_as<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let Ok(message) = codec::decode::<T>(bytes) else { return false };
    let format = codec::form(bytes).expect("it was read");
    let written = codec::encode(format, &message);
    let again = codec::decode::<T>(&written).unwrap_or_else(|error| panic!("{error} in what we wrote"));
    assert_eq!(codec::encode(format, &again), written, "it changes with every reading");
    true
}

/// `FASTWORKER_MUTATIONS=1000000` tries more of them.
#[test]
fn mutated_frames_are_read_or_refused_within_bounds() {
    const TIMES: u64 = 200_000;
    let times = std::env::var("FASTWORKER_MUTATIONS").ok().map_or(TIMES, |times| times.parse().expect("valid number"));
    let frames = frames();
    let before = peak_memory();
    let mut read = 0_u64;
    for seed in 0..times {
        let bytes = mutate(&mut fastrand::Rng::with_seed(seed), &frames);
        let started = Instant::now();
        let all = || {
            let known = [read_as::<Request>, read_as::<Reply>, read_as::<WorkerRequest>, read_as::<WorkerReply>];
            let lane = Some(TaskPriority::Low).filter(|_| seed % 2 == 0);
            codec::is_envelope(&bytes);
            let query = python_compat::read(&bytes, lane).is_ok();
            known.into_iter().filter(|read| read(&bytes)).count() + usize::from(query)
        };
        let tried = catch_unwind(AssertUnwindSafe(all));
        read += tried.unwrap_or_else(|_| panic!("seed {seed}: {}", bytes.escape_ascii())) as u64;
        // Most take microseconds; a busy machine may pause.
        assert!(started.elapsed() < Duration::from_secs(5), "seed {seed} took {:?}", started.elapsed());
    }
    assert!(read > times / 50, "of {times} frames only {read} are valid");
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 64 << 20, "reading small frames took {grown} bytes");
}

/// The peak memory of this process in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|peak| peak.trim().parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes * 1024)
}
