//! The endpoints of the Python original, in its shapes and words.
//!
//! What it has is here under the same names; more fields may stand beside them. Other than there,
//! cancel and retry do what they say, and tell the truth.

use std::{ops::RangeInclusive, sync::Arc};

use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};

use super::{
    App, Refusal,
    answer::{Answer, Object, object},
};
use crate::{
    clock::{Now, Timestamp, seconds},
    control_plane::{reply_to::ReplyTo, state},
    json,
    protocol::{Submitted, TaskQuery, TaskSummary, WorkerInfo, WorkerStatus},
    task::{Progress, TaskId, TaskPriority, TaskStatus},
};

/// Tasks of one page, unless asked otherwise, and at most.
const LIMIT: u64 = 50;
const LIMIT_MAX: u64 = 500;
/// Waiting tasks that are named of each priority.
const QUEUED_SHOWN: usize = 100;
/// Bytes of results in one page of tasks. Those beyond are left out, and said to be.
const RESULTS_MAX: usize = 1024 * 1024;
/// Statuses of tasks that have ended.
const ENDED: [TaskStatus; 3] = [TaskStatus::Success, TaskStatus::Failure, TaskStatus::Cancelled];

/// `GET /api/status`
pub(super) async fn status(State(app): State<Arc<App>>) -> Answer<Object> {
    let (active, inactive, stats, fill, now) = app.core.enter(|state, now| {
        let active = state.registry().iter().filter(|(_, worker)| worker.peer.is_some()).count();
        (active, state.registry().lost(now.mono).count(), state.stats(), state.results().fill(), now)
    });
    Answer(object! {
        "worker_id": app.identity.worker_id,
        "running": true,
        "base_address": app.identity.base_address,
        "discovery_address": app.identity.discovery_address,
        "uptime_seconds": seconds(app.started.elapsed()),
        "subworkers": object! { "total": active + inactive, "active": active, "inactive": inactive },
        "tasks": object! { "queued": stats.queued, "active": stats.leases, "cached_results": fill.size },
        "cache": object! { "max_size": fill.size_max, "current_size": fill.size, "ttl_seconds": seconds(fill.ttl) },
        "timestamp": now.wall,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// `GET /api/workers`
pub(super) async fn workers(State(app): State<Arc<App>>) -> Answer<Object> {
    let infos = app.core.enter(|state, now| state.registry().briefs(now.mono));
    let workers: Vec<Object> = infos.iter().map(worker).collect();
    Answer(object! { "count": workers.len(), "workers": workers })
}

fn worker(info: &WorkerInfo) -> Object {
    let status = match info.status {
        WorkerStatus::Active => "active",
        WorkerStatus::Draining => "draining",
        WorkerStatus::Lost => "inactive",
    };
    object! {
        "id": info.id,
        "address": info.address,
        "status": status,
        "load": info.load,
        "last_seen": info.last_seen,
        "registered_at": info.registered_at,
        "is_control_plane": info.is_control_plane,
        "slots": info.slots,
        "attempts": info.attempts,
    }
}

/// What `GET /api/tasks` may be asked.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    limit: Option<String>,
    offset: Option<String>,
    /// One status or several, with commas between. Without it, tasks that have ended.
    #[serde(default)]
    status: String,
    name: Option<String>,
    worker: Option<String>,
    /// `false` leaves results out, whatever their size.
    results: Option<String>,
}

impl Asked {
    /// A parameter that is a whole number between two bounds, which both count.
    fn number(name: &str, given: Option<&str>, usual: u64, bounds: RangeInclusive<u64>) -> Result<u64, Refusal> {
        let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(usual) };
        text.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
            let text: String = text.chars().take(64).collect();
            let most = if *bounds.end() == u64::MAX { String::new() } else { format!(" to {}", bounds.end()) };
            let why = format!("{name} is a whole number from {}{most}, not '{text}'", bounds.start());
            Refusal::new(StatusCode::BAD_REQUEST, why)
        })
    }
}

/// One task of a page.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    summary: TaskSummary,
    result: Option<json::Json>,
    /// The bytes of a result that is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_left_out: Option<usize>,
    cached_at: Option<Timestamp>,
    last_accessed: Option<Timestamp>,
    progress: Option<Progress>,
}

/// `GET /api/tasks?limit=50&offset=0&status=&name=&worker=&results=true`
pub(super) async fn tasks(
    State(app): State<Arc<App>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Answer<Object>, Refusal> {
    let Query(asked) = asked.map_err(|error| {
        let told = error.body_text();
        let why = told.rsplit_once(": ").map_or(told.as_str(), |(_, why)| why);
        Refusal::new(StatusCode::BAD_REQUEST, format!("the query cannot be read: {why}"))
    })?;
    let limit = Asked::number("limit", asked.limit.as_deref(), LIMIT, 1..=LIMIT_MAX)?;
    let offset = Asked::number("offset", asked.offset.as_deref(), 0, 0..=u64::MAX)?;
    let words = asked.status.split(',').map(str::trim).filter(|word| !word.is_empty());
    let statuses: Vec<TaskStatus> = words
        .map(|word| word.parse().map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("{error}"))))
        .collect::<Result<_, _>>()?;
    let without_results = match asked.results.as_deref() {
        None | Some("" | "true") => false,
        Some("false") => true,
        Some(_) => return Err(Refusal::new(StatusCode::BAD_REQUEST, "results is true or false")),
    };
    let not_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
    let query = TaskQuery {
        statuses: if statuses.is_empty() { ENDED.to_vec() } else { statuses },
        name: not_empty(asked.name),
        worker_id: not_empty(asked.worker),
        offset,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        ..TaskQuery::default()
    };
    let (rows, total, complete) = app.core.enter(|state, now| {
        let page = state.page(now, &query);
        let mut room = if without_results { 0 } else { RESULTS_MAX };
        let rows: Vec<Row> = page.tasks.into_iter().map(|summary| row(state, now, summary, &mut room)).collect();
        (rows, page.total, page.complete)
    });
    Ok(Answer(object! {
        "tasks": rows,
        "total": total,
        "limit": query.limit,
        "offset": query.offset,
        "complete": complete,
    }))
}

fn row(state: &state::State<ReplyTo>, now: Now, summary: TaskSummary, room: &mut usize) -> Row {
    let kept = state.results().peek(now.mono, &summary.task_id);
    let whole = kept.and_then(|kept| kept.result.result.clone());
    let size = whole.as_ref().map_or(0, |result| result.as_str().len());
    let left_out = (size > *room).then_some(size);
    *room -= if left_out.is_some() { 0 } else { size };
    Row {
        result: whole.filter(|_| left_out.is_none()),
        result_left_out: left_out,
        cached_at: kept.and(summary.completed_at),
        last_accessed: kept.map(|kept| kept.used_at(now)),
        progress: state.progress(&summary.task_id).cloned(),
        summary,
    }
}

/// `GET /api/queues`
pub(super) async fn queues(State(app): State<Arc<App>>) -> Answer<Object> {
    let lanes = app.core.enter(|state, now| {
        TaskPriority::ALL.map(|priority| {
            let queue = state.queue();
            let oldest = queue.oldest(priority).map(|since| now.mono.since(since));
            (queue.depth(priority), oldest, queue.first(priority, QUEUED_SHOWN))
        })
    });
    let mut queues = Object::default();
    let mut total = 0;
    for (priority, (count, oldest, first)) in TaskPriority::ALL.into_iter().zip(lanes) {
        let tasks: Vec<Object> = first.iter().map(|(id, name)| object! { "id": id, "name": name }).collect();
        let lane = object! { "count": count, "tasks": tasks, "oldest_age_seconds": oldest.map(seconds) };
        queues.put(priority.as_str(), &lane);
        total += count;
    }
    Answer(object! { "queues": queues, "total_queued": total })
}

/// `GET /api/cache`
pub(super) async fn cache(State(app): State<Arc<App>>) -> Answer<Object> {
    let fill = app.core.enter(|state, _| state.results().fill());
    let percent = |size: usize, max: usize| {
        let share = u32::try_from(size.saturating_mul(10_000) / max.max(1)).unwrap_or(u32::MAX);
        f64::from(share) / 100.0
    };
    let mut by_status = Object::default();
    for (status, count) in ENDED.iter().zip(fill.by_status).filter(|(_, count)| *count > 0) {
        by_status.put(status.as_str(), &count);
    }
    Answer(object! {
        "max_size": fill.size_max,
        "current_size": fill.size,
        "utilization_percent": percent(fill.size, fill.size_max),
        "ttl_seconds": seconds(fill.ttl),
        "by_status": by_status,
        "bytes": fill.bytes,
        "bytes_max": fill.bytes_max,
        "evicted": fill.evicted,
        "expired": fill.expired,
    })
}

/// `GET /api/registered-tasks`
pub(super) async fn registered_tasks(State(app): State<Arc<App>>) -> Answer<Object> {
    let infos = app.core.enter(|state, now| state.registry().infos(now.mono));
    let present = infos.iter().filter(|info| info.status != WorkerStatus::Lost);
    let mut tasks = std::collections::BTreeMap::new();
    for module in present.flat_map(|info| &info.modules) {
        for task in &module.tasks {
            let known = object! {
                "name": task.name,
                "module": module.name,
                "doc": task.documentation,
                "schema": task.schema,
                "policy": task.policy,
            };
            tasks.entry(&task.name).or_insert(known);
        }
    }
    let tasks: Vec<Object> = tasks.into_values().collect();
    Answer(object! { "count": tasks.len(), "tasks": tasks })
}

/// Reads the id of a task out of a path.
pub(super) fn id(text: &str) -> Result<TaskId, Refusal> {
    text.parse().map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("{error}")))
}

/// `POST /api/tasks/{id}/cancel`
pub(super) async fn cancel(State(app): State<Arc<App>>, Path(text): Path<String>) -> Result<Answer<Object>, Refusal> {
    let id = id(&text)?;
    let before = app.core.enter(|state, now| {
        let ended = || state.results().peek(now.mono, &id).map(|kept| kept.result.status);
        let before = state.task_view(&id).map(|look| look.status).or_else(ended)?;
        state.cancel(now, std::slice::from_ref(&id), ReplyTo::Nobody);
        Some(before)
    });
    match before {
        None => Err(Refusal::unknown_task(&id)),
        Some(before) if before.is_final() => Ok(Answer(object! {
            "cancelled": false,
            "task_id": id,
            "status": before,
            "message": format!("the task had ended already: {before}"),
        })),
        Some(_) => Ok(Answer(object! { "cancelled": true, "task_id": id, "status": TaskStatus::Cancelled })),
    }
}

/// `POST /api/tasks/{id}/retry`: the same call once more, as a task of its own.
pub(super) async fn retry(State(app): State<Arc<App>>, Path(text): Path<String>) -> Result<Answer<Object>, Refusal> {
    let id = id(&text)?;
    let new = TaskId::new();
    let call = app.core.enter(|state, now| {
        state.again(now, &id, new.clone()).ok_or_else(|| state.task_view(&id).map(|look| look.status))
    });
    let taken = call.map(|task| {
        let tasks = vec![task];
        let errors = app.core.signatures().errors(&tasks);
        app.core.enter(|state, now| state.take(now, tasks, errors)).pop()
    });
    let (status, error) = match taken {
        Ok(Some(Submitted::Accepted)) => (None, None),
        // Nobody has it any more, or it has changed and does not take these arguments.
        Ok(Some(Submitted::Ended(result))) => (Some(result.status), result.error.clone()),
        Ok(Some(Submitted::Refused(why))) => return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)),
        Ok(None) => return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the task was not taken")),
        Err(None) => return Err(Refusal::unknown_task(&id)),
        Err(Some(status)) => {
            let why = format!("task {id} has not ended: it is {status}; cancel it first, or let it end");
            return Err(Refusal::new(StatusCode::CONFLICT, why));
        }
    };
    Ok(Answer(object! {
        "retried": true,
        "task_id": new,
        "retry_of": id,
        "status": status.unwrap_or(TaskStatus::Pending),
        "error": error,
    }))
}
