//! Both codecs carry everything: the whole line in each, and every message there and back.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use fastworker::{
    clock::Timestamp,
    json::Json,
    protocol::{
        Beat, CatalogChange, Collect, Collected, Ended, Event, EventKind, EventQuery, Events, Follow, Found, Lease,
        LeaseId, Lookup, NewSchedule, Note, Notify, Order, Registration, Reply, Reports, Request, ScheduleInfo,
        ScheduleRequest, ScheduleSource, ScheduleStatus, Submit, Submitted, TaskPage, TaskQuery, TaskSummary, Welcome,
        Work, WorkerInfo, WorkerReply, WorkerRequest, WorkerStatus, codec,
        python_compat::{self, Call},
    },
    task::{
        CallbackInfo, Delivery, DeliveryState, ErrorKind, Failure, FollowUp, LoadFailure, LogLevel, ModuleInfo,
        ModuleStatus, ModuleVersion, NewTask, Outcome, Policy, Progress, Report, ScheduleSpec, SerializationFormat,
        Task, TaskId, TaskInfo, TaskPriority, TaskResult, TaskStatus, Unknown,
        schedule::{Overlap, When},
    },
};
use fastworker_tests::{
    Cluster,
    story::{end_of, success, until_status},
};
use proptest::{
    collection::vec, option, prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner,
};
use serde::{Serialize, de::DeserializeOwned};

#[path = "codecs/documents.rs"]
mod documents;
#[path = "codecs/shapes.rs"]
mod shapes;

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
        for asker in SerializationFormat::ALL {
            every_verb(&cluster, asker).await;
            let options =
                ["submit", "--serialization-format", asker.as_str(), "--task-name", "add", "--args", "5", "3"];
            assert_eq!(cluster.cli(options).with_code(0).stdout, "8\n");
        }
    }
}

async fn every_verb(cluster: &Cluster, format: SerializationFormat) {
    let client = cluster.client_speaking(format).await;
    assert_eq!(success(&client.submit_task("add", (5, 3)).await.expect("a result")), "8");
    let named = client.submit_task("add", ()).kwargs(serde_json::json!({ "x": 1, "y": -2 })).await;
    assert_eq!(success(&named.expect("a result")), "-1");
    let text = "größe \u{1f600} \"\\\n";
    let reversed = client.submit_task("reverse", (text,)).await.expect("a result");
    let expected: String = text.chars().rev().collect();
    assert_eq!(serde_json::from_str::<String>(success(&reversed)).expect("a text"), expected);

    let failed = client.submit_task("picky", (1,)).priority(TaskPriority::Low).await.expect("a result");
    assert_eq!(failed.error_kind, Some(ErrorKind::BadArguments));
    let retried = client.submit_task("flaky", (1,)).retry_delay(Duration::from_millis(1)).await.expect("a result");
    assert_eq!(retried.attempts, 2);
    let unknown = client.submit_task("ad", ()).await.expect("a result");
    assert_eq!(unknown.error_kind, Some(ErrorKind::NotFound));

    let long = client.delay("slow", (60, 600)).priority(TaskPriority::Critical).await.expect("it is taken");
    let task = until_status(&client, &long, TaskStatus::Started).await;
    assert_eq!((task.name.as_str(), task.priority, task.args.as_str()), ("slow", TaskPriority::Critical, "[60,600]"));
    assert!(client.cancel(&long).await.expect("an answer"));
    let id = client.delay("slow", (0.2, 2)).await.expect("it is taken");
    let (mut after, mut seen) = (0, Vec::new());
    let followed = loop {
        let told = client.follow(&id, after, Duration::from_secs(5)).await.expect("an answer");
        after = told.last;
        seen.extend(told.reports);
        if let Found::Ended(result) = told.task {
            break result;
        }
    };
    assert_eq!(success(&followed), "2");
    let last = Report::Log { level: LogLevel::Info, message: "slept 0.2 s".into() };
    assert_eq!((seen.len(), seen.last()), (3, Some(&last)), "{seen:?}");
    assert_eq!(client.get_task_result(&id).await.expect("an answer").as_ref(), Some(&*followed));

    let endless = client.delay("endless_loop", ()).await.expect("it is taken");
    until_status(&client, &endless, TaskStatus::Started).await;
    assert!(client.cancel(&endless).await.expect("an answer"));
    assert_eq!(end_of(&client, &endless).await.status, TaskStatus::Cancelled);
    assert_eq!(client.get_task_result(&TaskId::new()).await.expect("an answer"), None);

    let workers = client.list_tasks().await.expect("an answer");
    assert_eq!((workers.len(), workers[0].id.as_str(), workers[0].modules.len()), (1, "sw1", 5));
    let tasks: Vec<NewTask> = (0..300)
        .map(|number| NewTask { args: Json::of(&(number, number)).expect("JSON"), ..NewTask::new("add") })
        .collect();
    for (number, sum) in client.submit_many(tasks).await.expect("results").into_iter().enumerate() {
        assert_eq!(success(&sum.expect("a result")), (2 * number).to_string());
    }
}

/// Writes and reads a message in both codecs.
fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
    for format in SerializationFormat::ALL {
        let bytes = codec::encode(format, message);
        assert_eq!(codec::form(&bytes).expect("a form"), format);
        let read = codec::decode::<T>(&bytes);
        assert_eq!(&read.unwrap_or_else(|error| panic!("{error} in {message:?} as {format}")), message);
        // Cut short, it is an error and nothing worse.
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(codec::decode::<T>(&bytes[..length]).is_err(), "{length} bytes of {message:?} as {format}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_survive_both_codecs(request in requests()) {
        there_and_back(&request);
    }

    #[test]
    fn replies_survive_both_codecs(reply in replies()) {
        there_and_back(&reply);
    }

    #[test]
    fn requests_of_workers_survive_both_codecs(request in worker_requests()) {
        there_and_back(&request);
    }

    #[test]
    fn replies_to_workers_survive_both_codecs(reply in worker_replies()) {
        there_and_back(&reply);
    }

    #[test]
    fn what_the_original_asks_is_read_as_it_was_meant(
        id in ids(), name in text(), args in documents(), kwargs in documents(), spans in (1_u32..9_000, 1_u32..9_000),
        callback in option::of(callbacks()), lane in option::of(select(TaskPriority::ALL.to_vec())),
    ) {
        let (timeout, delay) = spans;
        let address = callback.as_ref().map(|callback| &callback.address);
        let data = callback.as_ref().and_then(|callback| callback.data.as_ref());
        let callback_text = serde_json::to_string(&callback).expect("JSON");
        let message = format!(
            r#"{{"id": {}, "name": {}, "args": {args}, "kwargs": {kwargs}, "priority": "low", "started_at": null,
                "callback": {callback_text}, "timeout": {timeout}, "retry_delay": {delay}.5, "invented": [{{}}]}}"#,
            Json::of(&id.to_string()).expect("JSON"), Json::of(&name).expect("JSON"),
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
        let asked = format!(r#"{{"task_id": {}}}"#, Json::of(&id.to_string()).expect("JSON"));
        prop_assert!(matches!(python_compat::read(asked.as_bytes(), lane), Ok(Call::Query(asked)) if asked == id.to_string()));
    }

    #[test]
    fn what_the_original_is_answered_has_all_of_the_result(result in results(), callback in option::of(callbacks())) {
        let id = result.task_id.to_string();
        let found = Found::Ended(result.clone());
        let answers = [python_compat::ended(&result, callback.as_ref()), python_compat::query(&id, &found)];
        let [ended, queried] = answers.map(|answer| serde_json::from_slice::<serde_json::Value>(&answer));
        // Python reads numbers beyond those of this reader.
        if let (Ok(ended), Ok(queried)) = (ended, queried) {
            for answer in [&ended, &queried["result"]] {
                prop_assert_eq!(answer["task_id"].as_str(), Some(&*id));
                prop_assert_eq!(answer["error"].as_str(), result.error.as_deref());
                let read = result.result.as_ref().map(|result| result.read::<serde_json::Value>().expect("JSON"));
                prop_assert_eq!(&answer["result"], &read.unwrap_or_default());
                prop_assert_eq!(answer.as_object().map(serde_json::Map::len), Some(7));
            }
        } else {
            let data = callback.as_ref().and_then(|callback| callback.data.as_ref());
            prop_assert!(result.result.iter().chain(data).any(|document| document.as_str() == "1e400"));
        }
    }

    #[test]
    fn no_bytes_are_more_than_an_error(bytes in vec(any::<u8>(), 0..200), first in select(vec![b'{', 1, 0x80])) {
        let bytes = [&[first], &bytes[..]].concat();
        drop(codec::decode::<Request>(&bytes));
        drop(codec::decode::<WorkerRequest>(&bytes));
        drop(codec::decode::<Reply>(&bytes));
        drop(codec::decode::<WorkerReply>(&bytes));
    }
}

/// Every message in both forms, and the original's.
fn frames() -> Vec<Vec<u8>> {
    const EACH: usize = 60;
    fn of<T: Serialize>(frames: &mut Vec<Vec<u8>>, runner: &mut TestRunner, messages: &impl Strategy<Value = T>) {
        for format in SerializationFormat::ALL {
            for _ in 0..EACH {
                let message = messages.new_tree(runner).expect("a message").current();
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
fn tamper(dice: &mut fastrand::Rng, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = frames[dice.usize(..frames.len())].clone();
    for _ in 0..dice.usize(1..5) {
        let at = dice.usize(..=bytes.len());
        let to = dice.usize(at..=bytes.len().min(at + 40));
        match dice.u8(0..9) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << dice.u8(0..8),
            2 if at < bytes.len() => bytes[at] = *[0, 1, 0x7f, 0x80, 0xff].get(dice.usize(..5)).unwrap_or(&0),
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..to)),
            5 => drop(bytes.splice(at..at, std::iter::repeat_with(|| dice.u8(..)).take(3).collect::<Vec<_>>())),
            // A number of postcard, as large as can be written.
            6 => drop(bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
            7 => {
                let part = bytes[at..to].repeat(dice.usize(1..20));
                bytes.splice(at..at, part);
            }
            _ => {
                let other = &frames[dice.usize(..frames.len())];
                let from = dice.usize(..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
    }
    bytes
}

/// Reads bytes as a message; what is read is written and read the same.
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
fn frames_that_were_tampered_with_are_read_or_refused_in_bounds() {
    const TIMES: u64 = 200_000;
    let times = std::env::var("FASTWORKER_MUTATIONS").ok().map_or(TIMES, |times| times.parse().expect("a number"));
    let frames = frames();
    let before = peak_memory();
    let mut read = 0_u64;
    for seed in 0..times {
        let bytes = tamper(&mut fastrand::Rng::with_seed(seed), &frames);
        let began = Instant::now();
        let all = || {
            let known = [read_as::<Request>, read_as::<Reply>, read_as::<WorkerRequest>, read_as::<WorkerReply>];
            let lane = Some(TaskPriority::Low).filter(|_| seed % 2 == 0);
            codec::is_envelope(&bytes);
            let asked = python_compat::read(&bytes, lane).is_ok();
            known.into_iter().filter(|read| read(&bytes)).count() + usize::from(asked)
        };
        let tried = catch_unwind(AssertUnwindSafe(all));
        read += tried.unwrap_or_else(|_| panic!("seed {seed}: {}", bytes.escape_ascii())) as u64;
        // Most take microseconds; a busy machine may stand still for a while.
        assert!(began.elapsed() < Duration::from_secs(5), "seed {seed} took {:?}", began.elapsed());
    }
    assert!(read > times / 50, "of {times} frames {read} are read: the others say little");
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 64 << 20, "reading small frames took {grown} bytes");
}

/// The most memory that this process had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|peak| peak.trim().parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes * 1024)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_.]{1,12}", "\\PC{0,20}", Just("\u{0} \" \\ \n".to_owned())]
}

fn ids() -> impl Strategy<Value = TaskId> {
    let named = "[a-zA-Z0-9ü:/-]{1,40}".prop_map(|id| id.parse().expect("an id"));
    prop_oneof![uuids().prop_map(TaskId::from), named]
}

fn uuids() -> impl Strategy<Value = uuid::Uuid> {
    any::<u128>().prop_map(uuid::Uuid::from_u128)
}

/// Documents; `null` is left out where it would be no document at all.
fn documents() -> impl Strategy<Value = Json> {
    let texts = ["[]", "{}", "1e400", "-0.0", "[1, 2 ]", r#"{"a": {"b": [null, true, "\u00fc"]}}"#, "false"];
    let fixed = select(texts.to_vec()).prop_map(|text| Json::parse(text).expect("JSON"));
    prop_oneof![
        fixed,
        text().prop_map(|text| Json::of(&text).expect("JSON")),
        any::<i64>().prop_map(|number| Json::of(&number).expect("JSON"))
    ]
}

fn moments() -> impl Strategy<Value = Timestamp> {
    // The years 1900 to 2200.
    (-2_208_988_800_000_000_i64..7_258_118_400_000_000).prop_map(Timestamp::from_micros)
}

fn spans() -> impl Strategy<Value = Duration> {
    (0_u64..1 << 38).prop_map(Duration::from_millis)
}

fn policies() -> impl Strategy<Value = Policy> {
    let backoff = option::of((0.0..1e9_f64).boxed());
    let priority = option::of(select(TaskPriority::ALL.to_vec()));
    let spans = || option::of(spans());
    (priority, spans(), any::<Option<u32>>(), spans(), backoff, spans()).prop_map(
        |(priority, timeout, max_retries, retry_delay, retry_backoff, retry_backoff_max)| Policy {
            priority,
            timeout,
            max_retries,
            retry_delay,
            retry_backoff,
            retry_backoff_max,
        },
    )
}

fn callbacks() -> impl Strategy<Value = CallbackInfo> {
    (text(), option::of(documents())).prop_map(|(address, data)| CallbackInfo { data, ..CallbackInfo::new(address) })
}

fn deliveries() -> impl Strategy<Value = Delivery> {
    let state = select(vec![DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::Failed]);
    (text(), state, any::<u32>(), option::of(text())).prop_map(|(address, state, attempts, reason)| Delivery {
        address,
        state,
        attempts,
        reason,
    })
}

fn new_tasks() -> impl Strategy<Value = NewTask> {
    let unknown = select(vec![Unknown::Fail, Unknown::Wait]);
    let when = (option::of(moments()), option::of(spans()));
    (ids(), text(), documents(), documents(), policies(), when, option::of(callbacks()), unknown).prop_map(
        |(id, name, args, kwargs, policy, (eta, countdown), callback, unknown)| NewTask {
            id,
            name,
            args,
            kwargs,
            policy,
            eta,
            countdown,
            callback,
            unknown,
        },
    )
}

fn progresses() -> impl Strategy<Value = Progress> {
    (any::<u64>(), any::<u64>(), text()).prop_map(|(done, total, message)| Progress { done, total, message })
}

fn reports() -> impl Strategy<Value = Report> {
    let level = select(vec![LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error]);
    let log = (level, text()).prop_map(|(level, message)| Report::Log { level, message });
    prop_oneof![log, progresses().prop_map(Report::Progress)]
}

fn tasks() -> impl Strategy<Value = Task> {
    let moments = || option::of(moments());
    let when = (self::moments(), moments(), moments());
    let what = (text(), documents(), documents());
    let status = (select(TaskStatus::ALL.to_vec()), select(TaskPriority::ALL.to_vec()));
    let end = (option::of(documents()), option::of(text()), option::of(progresses()), any::<u32>());
    let version = option::of(any::<u64>().prop_map(ModuleVersion));
    let kind = option::of(select(ErrorKind::ALL.to_vec()));
    let more = (kind, option::of(text()), moments(), any::<bool>(), version, option::of(deliveries()));
    (ids(), what, when, status, end, more).prop_map(
        |(id, (name, args, kwargs), (created_at, started_at, completed_at), (status, priority), end, more)| Task {
            id,
            name,
            args,
            kwargs,
            priority,
            created_at,
            started_at,
            completed_at,
            status,
            result: end.0,
            error: end.1,
            progress: end.2,
            attempt: end.3,
            error_kind: more.0,
            worker_id: more.1,
            due_at: more.2,
            offered: more.3,
            unknown_until: more.2,
            module_version: more.4,
            callback: more.5.map(Box::new),
        },
    )
}

fn results() -> impl Strategy<Value = Arc<TaskResult>> {
    let moments = || option::of(moments());
    let end = (option::of(documents()), option::of(text()), option::of(select(ErrorKind::ALL.to_vec())));
    let status = select(TaskStatus::ALL.to_vec());
    let when = (moments(), moments());
    let by = (option::of(text()), any::<u32>(), option::of(any::<u64>().prop_map(ModuleVersion)));
    (ids(), status, end, when, by, option::of(deliveries())).prop_map(
        |(task_id, status, (result, error, error_kind), when, (worker_id, attempts, module_version), callback)| {
            let (started_at, completed_at) = when;
            // A success has a result, if only null.
            let result = if status == TaskStatus::Success { result.or_else(|| Some(Json::null())) } else { result };
            Arc::new(TaskResult {
                task_id,
                status,
                result,
                error,
                started_at,
                completed_at,
                error_kind,
                worker_id,
                attempts,
                module_version,
                callback: callback.map(Box::new),
            })
        },
    )
}

fn modules() -> impl Strategy<Value = ModuleInfo> {
    let task = (text(), text(), documents(), policies(), option::of(specs()), vec(text(), 0..3)).prop_map(
        |(name, documentation, schema, policy, schedule, warnings)| TaskInfo {
            name,
            documentation,
            schema,
            policy,
            schedule,
            warnings,
        },
    );
    let loaded = (text(), text(), text(), any::<u64>(), moments(), text(), vec(text(), 0..3), vec(task, 0..3))
        .prop_map(|(name, path, hash, size, loaded_at, engine, imports, tasks)| ModuleInfo {
            name,
            path,
            hash,
            size,
            loaded_at,
            engine,
            imports,
            tasks,
            status: ModuleStatus::default(),
            last_error: None,
        });
    let statuses = [
        ModuleStatus::Loaded,
        ModuleStatus::Missing,
        ModuleStatus::Leaving,
        ModuleStatus::Broken,
        ModuleStatus::Loading,
    ];
    let failures = option::of((moments(), text()).prop_map(|(at, message)| LoadFailure { at, message }));
    (loaded, select(statuses.to_vec()), failures).prop_map(|(module, status, last_error)| ModuleInfo {
        status,
        last_error,
        ..module
    })
}

fn specs() -> impl Strategy<Value = ScheduleSpec> {
    let cron = (text(), text()).prop_map(|(pattern, tz)| When::Cron { pattern, tz });
    let when = prop_oneof![spans().prop_map(When::Every), cron];
    (when, any::<Option<u64>>(), option::of(moments()), select(Overlap::ALL.to_vec()))
        .prop_map(|(when, count, until, overlap)| ScheduleSpec { when, count, until, overlap })
}

fn new_schedules() -> impl Strategy<Value = NewSchedule> {
    let unknown = select(vec![Unknown::Fail, Unknown::Wait]);
    (text(), specs(), text(), documents(), documents(), policies(), unknown).prop_map(
        |(name, spec, task_name, args, kwargs, policy, unknown)| NewSchedule {
            name,
            spec,
            task_name,
            args,
            kwargs,
            policy,
            unknown,
        },
    )
}

fn schedule_requests() -> impl Strategy<Value = ScheduleRequest> {
    prop_oneof![
        (new_schedules(), any::<bool>())
            .prop_map(|(schedule, replace)| ScheduleRequest::Add { schedule: Box::new(schedule), replace }),
        Just(ScheduleRequest::List),
        text().prop_map(ScheduleRequest::Pause),
        text().prop_map(ScheduleRequest::Resume),
        (text(), ids()).prop_map(|(name, task_id)| ScheduleRequest::Trigger { name, task_id }),
        text().prop_map(ScheduleRequest::Remove),
    ]
}

fn schedule_infos() -> impl Strategy<Value = ScheduleInfo> {
    let source =
        prop_oneof![Just(ScheduleSource::Command), text().prop_map(|name| ScheduleSource::Module(name.into()))];
    let status = select(ScheduleStatus::ALL.to_vec());
    let last = (option::of(moments()), option::of(ids()), option::of(select(TaskStatus::ALL.to_vec())));
    let numbers = (any::<u64>(), any::<u64>(), any::<Option<u64>>());
    (new_schedules(), source, status, option::of(moments()), last, numbers).prop_map(
        |(schedule, source, status, next_run, last, (runs, skipped, remaining))| ScheduleInfo {
            schedule: Arc::new(schedule),
            source,
            status,
            next_run,
            last_run: last.0,
            last_task_id: last.1,
            last_status: last.2,
            runs,
            skipped,
            remaining,
        },
    )
}

fn requests() -> impl Strategy<Value = Request> {
    let notify = prop_oneof![Just(Notify::No), Just(Notify::Answer), uuids().prop_map(Notify::Session)];
    let submit = (vec(new_tasks(), 0..4), notify).prop_map(|(tasks, notify)| Submit { tasks, notify });
    let collect = (uuids(), any::<u64>(), any::<u32>()).prop_map(|(session, sequence, wait_ms)| Collect {
        session,
        sequence,
        wait_ms,
    });
    prop_oneof![
        Just(Request::Hello),
        submit.prop_map(Request::Submit),
        collect.prop_map(Request::Collect),
        (vec(ids(), 0..4), any::<u32>()).prop_map(|(ids, wait_ms)| Request::Lookup(Lookup { ids, wait_ms })),
        vec(ids(), 0..4).prop_map(Request::Cancel),
        Just(Request::Workers),
        (ids(), any::<u64>(), any::<u32>()).prop_map(|(id, after, wait_ms)| Request::Follow(Follow {
            id,
            after,
            wait_ms
        })),
        task_queries().prop_map(Request::Tasks),
        (any::<u64>(), any::<u32>()).prop_map(|(after, wait_ms)| Request::Events(EventQuery { after, wait_ms })),
        schedule_requests().prop_map(Request::Schedule),
        ids().prop_map(Request::Describe),
    ]
}

fn task_queries() -> impl Strategy<Value = TaskQuery> {
    let statuses = vec(select(TaskStatus::ALL.to_vec()), 0..TaskStatus::ALL.len());
    (statuses, option::of(text()), option::of(text()), option::of(moments()), any::<u64>(), any::<u32>()).prop_map(
        |(statuses, name, worker_id, since, offset, limit)| TaskQuery {
            statuses,
            name,
            worker_id,
            since,
            offset,
            limit,
        },
    )
}

fn summaries() -> impl Strategy<Value = TaskSummary> {
    let status = (select(TaskStatus::ALL.to_vec()), select(TaskPriority::ALL.to_vec()));
    let when = (moments(), option::of(moments()), option::of(moments()), option::of(moments()));
    (ids(), text(), status, when, option::of(text()), any::<u32>(), option::of(text())).prop_map(
        |(task_id, name, (status, priority), when, worker_id, attempt, error)| {
            let (created_at, started_at, completed_at, due_at) = when;
            let (name, worker_id) = (name.into(), worker_id.map(Into::into));
            TaskSummary {
                task_id,
                name,
                status,
                priority,
                created_at,
                started_at,
                completed_at,
                worker_id,
                attempt,
                error,
                due_at,
            }
        },
    )
}

fn events() -> impl Strategy<Value = Event> {
    let what = (select(EventKind::ALL.to_vec()), option::of(ids()), option::of(text()));
    let more = (option::of(select(TaskPriority::ALL.to_vec())), option::of(text()), any::<u32>(), option::of(text()));
    (any::<u64>(), moments(), what, more).prop_map(
        |(number, at, (kind, task_id, name), (priority, worker_id, attempt, detail))| Event {
            number,
            at,
            kind,
            task_id,
            name: name.map(Into::into),
            priority,
            worker_id: worker_id.map(Into::into),
            attempt,
            detail: detail.map(Into::into),
        },
    )
}

fn found() -> impl Strategy<Value = Found> {
    prop_oneof![
        Just(Found::Unknown),
        tasks().prop_map(|task| Found::Live(Box::new(task))),
        results().prop_map(Found::Ended),
    ]
}

fn workers() -> impl Strategy<Value = WorkerInfo> {
    let status = select(vec![WorkerStatus::Active, WorkerStatus::Draining, WorkerStatus::Lost]);
    let numbers = (any::<u32>(), any::<u32>(), any::<u64>());
    (text(), text(), status, any::<bool>(), numbers, moments(), moments(), vec(modules(), 0..2)).prop_map(
        |(id, address, status, is_control_plane, (slots, load, attempts), registered_at, last_seen, modules)| {
            WorkerInfo {
                id,
                address,
                status,
                is_control_plane,
                slots,
                load,
                registered_at,
                last_seen,
                attempts,
                modules,
            }
        },
    )
}

fn replies() -> impl Strategy<Value = Reply> {
    let welcome = (text(), text(), any::<u32>(), text(), text(), any::<u64>(), any::<u128>()).prop_map(
        |(worker_id, version, protocol, base_address, subworker_address, payload_max, cluster)| Welcome {
            worker_id,
            version,
            protocol,
            base_address,
            subworker_address,
            payload_max,
            cluster_id: uuid::Uuid::from_u128(cluster),
        },
    );
    let submitted = prop_oneof![
        Just(Submitted::Accepted),
        results().prop_map(Submitted::Ended),
        text().prop_map(Submitted::Refused),
    ];
    let collected = (any::<bool>(), vec(results(), 0..4)).prop_map(|(known, results)| Collected { known, results });
    let told =
        (vec(reports(), 0..4), any::<u64>(), found()).prop_map(|(reports, last, task)| Reports { reports, last, task });
    let page = (vec(summaries(), 0..4), any::<u64>(), any::<bool>()).prop_map(|(tasks, total, complete)| TaskPage {
        tasks,
        total,
        complete,
    });
    let lately = (vec(events(), 0..4), any::<u64>(), any::<u64>(), option::of(moments()));
    let lately = lately.prop_map(|(events, last, missed, began)| Events { events, last, missed, began });
    prop_oneof![
        welcome.prop_map(Reply::Welcome),
        vec(submitted, 0..4).prop_map(Reply::Submitted),
        collected.prop_map(Reply::Collected),
        vec(found(), 0..4).prop_map(Reply::Found),
        vec(any::<bool>(), 0..4).prop_map(Reply::Cancelled),
        vec(workers(), 0..3).prop_map(Reply::Workers),
        told.prop_map(Reply::Reports),
        page.prop_map(Reply::Tasks),
        lately.prop_map(Reply::Events),
        vec(schedule_infos(), 0..3).prop_map(Reply::Schedules),
        text().prop_map(Reply::Refused),
        option::of(tasks()).prop_map(|task| Reply::Described(task.map(Box::new))),
    ]
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let follow_up = (text(), documents(), documents(), policies(), option::of(spans()))
        .prop_map(|(name, args, kwargs, policy, countdown)| FollowUp { name, args, kwargs, policy, countdown });
    let success =
        (documents(), vec(follow_up, 0..3)).prop_map(|(result, follow_ups)| Outcome::Success { result, follow_ups });
    let failure = (select(ErrorKind::ALL.to_vec()), text(), option::of(spans()))
        .prop_map(|(kind, message, retry_after)| Outcome::Failure(Failure { kind, message, retry_after }));
    prop_oneof![success, failure, Just(Outcome::Stopped)]
}

fn leases() -> impl Strategy<Value = LeaseId> {
    any::<u64>().prop_map(LeaseId)
}

fn worker_requests() -> impl Strategy<Value = WorkerRequest> {
    let register = (uuids(), option::of(uuids()), text(), text(), any::<u32>(), vec(modules(), 0..2)).prop_map(
        |(worker, previous, worker_id, address, slots, modules)| Registration {
            worker,
            previous,
            worker_id,
            address,
            slots,
            modules,
        },
    );
    let version = option::of(any::<u64>().prop_map(ModuleVersion));
    let ended = (leases(), option::of(outcomes()), any::<u64>(), version, vec(reports(), 0..3))
        .prop_map(|(lease, outcome, ran_us, version, reports)| Ended { lease, outcome, ran_us, version, reports });
    let work = (uuids(), any::<u32>(), any::<u64>(), vec(ended, 0..3), any::<u32>())
        .prop_map(|(worker, slot, sequence, ended, capacity)| Work { worker, slot, sequence, ended, capacity });
    let note = (uuids(), any::<u64>(), vec((leases(), reports()), 0..3), vec(leases(), 0..3))
        .prop_map(|(worker, sequence, reports, returned)| Note { worker, sequence, reports, returned });
    let change = (uuids(), any::<u64>(), vec(modules(), 0..2), any::<bool>())
        .prop_map(|(worker, sequence, modules, force)| CatalogChange { worker, sequence, modules, force });
    prop_oneof![
        register.prop_map(WorkerRequest::Register),
        work.prop_map(WorkerRequest::Work),
        (uuids(), vec(leases(), 0..4)).prop_map(|(worker, holds)| WorkerRequest::Beat(Beat { worker, holds })),
        note.prop_map(WorkerRequest::Note),
        uuids().prop_map(WorkerRequest::Drain),
        uuids().prop_map(WorkerRequest::Leave),
        change.prop_map(WorkerRequest::Catalog),
    ]
}

fn worker_replies() -> impl Strategy<Value = WorkerReply> {
    let lease = (leases(), ids(), text(), any::<u32>(), any::<u64>(), documents(), documents()).prop_map(
        |(id, task_id, name, attempt, timeout_us, args, kwargs)| Lease {
            id,
            task_id,
            name: name.into(),
            attempt,
            timeout_us,
            args,
            kwargs,
        },
    );
    prop_oneof![
        Just(WorkerReply::Registered),
        vec(lease, 0..4).prop_map(WorkerReply::Leases),
        vec(leases().prop_map(Order::Stop), 0..4).prop_map(WorkerReply::Orders),
        Just(WorkerReply::Noted),
        Just(WorkerReply::Unknown),
        text().prop_map(WorkerReply::Refused),
        text().prop_map(WorkerReply::Declined),
        text().prop_map(WorkerReply::IdInUse),
    ]
}
