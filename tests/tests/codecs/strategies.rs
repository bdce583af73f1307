//! Random messages for the tests of both codecs.

use std::{sync::Arc, time::Duration};

use fastworker::{
    clock::Timestamp,
    json::Json,
    protocol::{
        Beat, Blob, CatalogChange, Chunk, ChunkQuery, Collect, Collected, Ended, Event, EventKind, EventQuery, Events,
        Follow, Found, Lease, LeaseId, Lookup, ModuleList, ModulesQuery, NewSchedule, Note, Notify, OfferedModule,
        Order, Refusal, RefusalCode, Registration, Reply, Reports, Request, ScheduleInfo, ScheduleRequest,
        ScheduleSource, ScheduleStatus, Submit, Submitted, TaskPage, TaskQuery, TaskSummary, Welcome, Work, WorkerInfo,
        WorkerReply, WorkerRequest, WorkerStatus,
    },
    task::{
        CallbackInfo, Delivery, DeliveryState, ErrorKind, Failure, FollowUp, LimitKind, LoadFailure, LogLevel,
        ModuleInfo, ModuleStatus, ModuleVersion, NewTask, NotCallable, Outcome, Policy, Progress, Report, ScheduleSpec,
        Task, TaskId, TaskInfo, TaskLimits, TaskPriority, TaskResult, TaskStatus, UngrantedTask, Unknown, Usage,
        schedule::{Overlap, When},
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde::de::DeserializeOwned;

pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_.]{1,12}", "\\PC{0,20}", Just("\u{0} \" \\ \n".to_owned())]
}

pub(super) fn ids() -> impl Strategy<Value = TaskId> {
    let named = "[a-zA-Z0-9ü:/-]{1,40}".prop_map(|id| id.parse().expect("id expected"));
    prop_oneof![uuids().prop_map(TaskId::from), named]
}

pub(super) fn uuids() -> impl Strategy<Value = uuid::Uuid> {
    any::<u128>().prop_map(uuid::Uuid::from_u128)
}

/// Documents, without `null` where it means a missing document.
pub(super) fn documents() -> impl Strategy<Value = Json> {
    let texts = ["[]", "{}", "1e400", "-0.0", "[1, 2 ]", r#"{"a": {"b": [null, true, "\u00fc"]}}"#, "false"];
    let fixed = select(texts.to_vec()).prop_map(|text| Json::parse(text).expect("valid JSON"));
    prop_oneof![
        fixed,
        text().prop_map(|text| Json::of(&text).expect("valid JSON")),
        any::<i64>().prop_map(|number| Json::of(&number).expect("valid JSON"))
    ]
}

/// Known values, and one of a later version.
pub(super) fn open<T: DeserializeOwned + Clone + std::fmt::Debug + 'static>(known: Vec<T>) -> impl Strategy<Value = T> {
    let later = serde_json::from_str(r#""a-later.Value""#).expect("an open value");
    prop_oneof![4 => select(known), 1 => Just(later)]
}

pub(super) fn refusals() -> impl Strategy<Value = Refusal> {
    (open(RefusalCode::ALL.to_vec()), text()).prop_map(|(code, message)| Refusal { code, message })
}

pub(super) fn metadata() -> impl Strategy<Value = Json> {
    let texts = ["{}", "{}", r#"{"parent":"T1","tags":["a"]}"#];
    select(texts.to_vec()).prop_map(|text| Json::parse(text).expect("valid JSON"))
}

pub(super) fn moments() -> impl Strategy<Value = Timestamp> {
    // The years 1900 to 2200.
    (-2_208_988_800_000_000_i64..7_258_118_400_000_000).prop_map(Timestamp::from_micros)
}

pub(super) fn spans() -> impl Strategy<Value = Duration> {
    (0_u64..1 << 38).prop_map(Duration::from_millis)
}

pub(super) fn policies() -> impl Strategy<Value = Policy> {
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

pub(super) fn callbacks() -> impl Strategy<Value = CallbackInfo> {
    (text(), option::of(documents())).prop_map(|(address, data)| CallbackInfo { data, ..CallbackInfo::new(address) })
}

pub(super) fn deliveries() -> impl Strategy<Value = Delivery> {
    let state = open(DeliveryState::ALL.to_vec());
    (text(), state, any::<u32>(), option::of(text())).prop_map(|(address, state, attempts, reason)| Delivery {
        address,
        state,
        attempts,
        reason,
    })
}

pub(super) fn new_tasks() -> impl Strategy<Value = NewTask> {
    let unknown = select(vec![Unknown::Fail, Unknown::Wait]);
    let when = (option::of(moments()), option::of(spans()));
    let what = (text(), documents(), documents());
    (ids(), what, policies(), when, option::of(callbacks()), unknown, metadata()).prop_map(
        |(id, (name, args, kwargs), policy, (eta, countdown), callback, unknown, metadata)| NewTask {
            id,
            name,
            args,
            kwargs,
            policy,
            eta,
            countdown,
            callback,
            unknown,
            metadata,
        },
    )
}

pub(super) fn progresses() -> impl Strategy<Value = Progress> {
    (any::<u64>(), any::<u64>(), text()).prop_map(|(done, total, message)| Progress { done, total, message })
}

pub(super) fn reports() -> impl Strategy<Value = Report> {
    let level = select(vec![LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error]);
    let log = (level, text()).prop_map(|(level, message)| Report::Log { level, message });
    prop_oneof![log, progresses().prop_map(Report::Progress)]
}

fn usages() -> impl Strategy<Value = Usage> {
    any::<[u64; 6]>().prop_map(Usage::from)
}

pub(super) fn tasks() -> impl Strategy<Value = Task> {
    let moments = || option::of(moments());
    let when = (self::moments(), moments(), moments());
    let what = (text(), documents(), documents());
    let status = (open(TaskStatus::ALL.to_vec()), select(TaskPriority::ALL.to_vec()));
    let end = (option::of(documents()), option::of(text()), option::of(progresses()), any::<u32>());
    let version = option::of(any::<u64>().prop_map(ModuleVersion));
    let kind = option::of(open(ErrorKind::ALL.to_vec()));
    let last = (option::of(deliveries()), metadata(), option::of(usages()));
    let more = (kind, option::of(text()), moments(), any::<bool>(), version, last);
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
            usage: more.5.2.map(Box::new),
            callback: more.5.0.map(Box::new),
            metadata: more.5.1,
        },
    )
}

pub(super) fn results() -> impl Strategy<Value = Arc<TaskResult>> {
    let moments = || option::of(moments());
    let end = (option::of(documents()), option::of(text()), option::of(open(ErrorKind::ALL.to_vec())));
    let status = open(TaskStatus::ALL.to_vec());
    let when = (moments(), moments());
    let by = (option::of(text()), any::<u32>(), option::of(any::<u64>().prop_map(ModuleVersion)));
    let last = (option::of(deliveries()), metadata(), option::of(usages()));
    (ids(), status, end, when, by, last).prop_map(
        |(task_id, status, (result, error, error_kind), when, by, (callback, metadata, usage))| {
            let (worker_id, attempts, module_version) = by;
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
                usage: usage.map(Box::new),
                callback: callback.map(Box::new),
                metadata,
            })
        },
    )
}

fn limits() -> impl Strategy<Value = TaskLimits> {
    vec((select(LimitKind::ALL.to_vec()), any::<u64>()), 0..3).prop_map(|set| {
        set.into_iter().fold(TaskLimits::default(), |mut limits, (kind, limit)| {
            limits.set(kind, limit);
            limits
        })
    })
}

pub(super) fn modules() -> impl Strategy<Value = ModuleInfo> {
    let names = (text(), option::of(text()));
    let policy = (policies(), limits());
    let task = (names, text(), documents(), policy, option::of(specs()), vec(text(), 0..3), vec(text(), 0..3))
        .prop_map(|((name, full_name), documentation, schema, (policy, limits), schedule, needs, warnings)| TaskInfo {
            name,
            full_name,
            documentation,
            schema,
            policy,
            limits,
            schedule,
            needs,
            warnings,
        });
    let ungranted = (text(), vec(text(), 0..3)).prop_map(|(name, missing)| UngrantedTask { name, missing });
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
            ..ModuleInfo::default()
        });
    let not_callable = (text(), text()).prop_map(|(name, reason)| NotCallable { name, reason });
    let granted = (vec(ungranted, 0..3), vec(text(), 0..3), vec(not_callable, 0..3));
    let code = option::of(open(RefusalCode::ALL.to_vec()));
    let failure = (moments(), text(), code).prop_map(|(at, message, code)| LoadFailure { at, message, code });
    let failures = option::of(failure);
    (loaded, granted, open(ModuleStatus::ALL.to_vec()), failures).prop_map(
        |(module, (ungranted, grants, not_callable), status, last_error)| ModuleInfo {
            ungranted,
            not_callable,
            grants,
            status,
            last_error,
            ..module
        },
    )
}

pub(super) fn specs() -> impl Strategy<Value = ScheduleSpec> {
    let cron = (text(), text()).prop_map(|(pattern, tz)| When::Cron { pattern, tz });
    let when = prop_oneof![spans().prop_map(When::Every), cron];
    (when, any::<Option<u64>>(), option::of(moments()), select(Overlap::ALL.to_vec()))
        .prop_map(|(when, count, until, overlap)| ScheduleSpec { when, count, until, overlap })
}

pub(super) fn new_schedules() -> impl Strategy<Value = NewSchedule> {
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

pub(super) fn schedule_requests() -> impl Strategy<Value = ScheduleRequest> {
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

pub(super) fn schedule_infos() -> impl Strategy<Value = ScheduleInfo> {
    let source =
        prop_oneof![Just(ScheduleSource::Command), text().prop_map(|name| ScheduleSource::Module(name.into()))];
    let status = open(ScheduleStatus::ALL.to_vec());
    let last = (option::of(moments()), option::of(ids()), option::of(open(TaskStatus::ALL.to_vec())));
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

pub(super) fn requests() -> impl Strategy<Value = Request> {
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

pub(super) fn task_queries() -> impl Strategy<Value = TaskQuery> {
    let statuses = vec(open(TaskStatus::ALL.to_vec()), 0..TaskStatus::ALL.len());
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

pub(super) fn summaries() -> impl Strategy<Value = TaskSummary> {
    let status = (open(TaskStatus::ALL.to_vec()), select(TaskPriority::ALL.to_vec()));
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

pub(super) fn events() -> impl Strategy<Value = Event> {
    let what = (open(EventKind::ALL.to_vec()), option::of(ids()), option::of(text()));
    let detail = (option::of(text()), option::of(usages()));
    let more = (option::of(select(TaskPriority::ALL.to_vec())), option::of(text()), any::<u32>(), detail);
    (any::<u64>(), moments(), what, more).prop_map(
        |(number, at, (kind, task_id, name), (priority, worker_id, attempt, (detail, usage)))| Event {
            number,
            at,
            kind,
            task_id,
            name: name.map(Into::into),
            priority,
            worker_id: worker_id.map(Into::into),
            attempt,
            detail: detail.map(Into::into),
            usage,
        },
    )
}

pub(super) fn found() -> impl Strategy<Value = Found> {
    prop_oneof![
        Just(Found::Unknown),
        tasks().prop_map(|task| Found::Live(Box::new(task))),
        results().prop_map(Found::Ended),
    ]
}

pub(super) fn workers() -> impl Strategy<Value = WorkerInfo> {
    let status = open(WorkerStatus::ALL.to_vec());
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

pub(super) fn replies() -> impl Strategy<Value = Reply> {
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
        refusals().prop_map(Submitted::Refused),
    ];
    let collected = (any::<bool>(), vec(results(), 0..4)).prop_map(|(known, results)| Collected { known, results });
    let reports =
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
        reports.prop_map(Reply::Reports),
        page.prop_map(Reply::Tasks),
        lately.prop_map(Reply::Events),
        vec(schedule_infos(), 0..3).prop_map(Reply::Schedules),
        refusals().prop_map(Reply::Refused),
        option::of(tasks()).prop_map(|task| Reply::Described(task.map(Box::new))),
    ]
}

pub(super) fn outcomes() -> impl Strategy<Value = Outcome> {
    let follow_up = (text(), documents(), documents(), policies(), option::of(spans()), metadata()).prop_map(
        |(name, args, kwargs, policy, countdown, metadata)| FollowUp {
            name,
            args,
            kwargs,
            policy,
            countdown,
            metadata,
        },
    );
    let success =
        (documents(), vec(follow_up, 0..3)).prop_map(|(result, follow_ups)| Outcome::Success { result, follow_ups });
    let failure = (open(ErrorKind::ALL.to_vec()), text(), option::of(spans()))
        .prop_map(|(kind, message, retry_after)| Outcome::Failure(Failure { kind, message, retry_after }));
    prop_oneof![success, failure, Just(Outcome::Stopped)]
}

pub(super) fn leases() -> impl Strategy<Value = LeaseId> {
    any::<u64>().prop_map(LeaseId)
}

pub(super) fn worker_requests() -> impl Strategy<Value = WorkerRequest> {
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
    let ended = (leases(), option::of(outcomes()), any::<u64>(), usages(), version, vec(reports(), 0..3), metadata())
        .prop_map(|(lease, outcome, ran_us, usage, version, reports, metadata)| Ended {
            lease,
            outcome,
            ran_us,
            usage,
            version,
            reports,
            metadata,
        });
    let work = (uuids(), any::<u32>(), any::<u64>(), vec(ended, 0..3), any::<u32>())
        .prop_map(|(worker, slot, sequence, ended, capacity)| Work { worker, slot, sequence, ended, capacity });
    let note = (uuids(), any::<u64>(), vec((leases(), reports()), 0..3), vec(leases(), 0..3))
        .prop_map(|(worker, sequence, reports, returned)| Note { worker, sequence, reports, returned });
    let change = (uuids(), any::<u64>(), vec(modules(), 0..2), any::<bool>())
        .prop_map(|(worker, sequence, modules, force)| CatalogChange { worker, sequence, modules, force });
    let list = (uuids(), any::<u64>(), any::<u32>()).prop_map(|(worker, known, wait_ms)| ModulesQuery {
        worker,
        known,
        wait_ms,
    });
    let chunk = (uuids(), text(), any::<u64>()).prop_map(|(worker, hash, offset)| ChunkQuery { worker, hash, offset });
    prop_oneof![
        register.prop_map(WorkerRequest::Register),
        work.prop_map(WorkerRequest::Work),
        (uuids(), vec(leases(), 0..4)).prop_map(|(worker, holds)| WorkerRequest::Beat(Beat { worker, holds })),
        note.prop_map(WorkerRequest::Note),
        uuids().prop_map(WorkerRequest::Drain),
        uuids().prop_map(WorkerRequest::Leave),
        change.prop_map(WorkerRequest::Catalog),
        list.prop_map(WorkerRequest::Modules),
        chunk.prop_map(WorkerRequest::Chunk),
    ]
}

pub(super) fn worker_replies() -> impl Strategy<Value = WorkerReply> {
    let more = (select(TaskPriority::ALL.to_vec()), metadata());
    let lease = (leases(), ids(), text(), any::<u32>(), any::<u64>(), documents(), documents(), more).prop_map(
        |(id, task_id, name, attempt, timeout_us, args, kwargs, (priority, metadata))| Lease {
            id,
            task_id,
            name: name.into(),
            attempt,
            timeout_us,
            args,
            kwargs,
            priority,
            metadata,
        },
    );
    let module = (text(), text(), any::<u64>()).prop_map(|(path, hash, size)| OfferedModule { path, hash, size });
    let list = (any::<u64>(), any::<bool>(), vec(module, 0..3)).prop_map(|(version, is_loading, modules)| ModuleList {
        version,
        is_loading,
        modules,
    });
    let chunk =
        (any::<u64>(), vec(any::<u8>(), 0..40)).prop_map(|(offset, bytes)| Chunk { offset, bytes: Blob(bytes) });
    prop_oneof![
        Just(WorkerReply::Registered),
        vec(lease, 0..4).prop_map(WorkerReply::Leases),
        vec(leases().prop_map(Order::Stop), 0..4).prop_map(WorkerReply::Orders),
        Just(WorkerReply::Noted),
        Just(WorkerReply::Unknown),
        refusals().prop_map(WorkerReply::Refused),
        refusals().prop_map(WorkerReply::Declined),
        refusals().prop_map(WorkerReply::IdInUse),
        list.prop_map(WorkerReply::Modules),
        chunk.prop_map(WorkerReply::Chunk),
    ]
}
