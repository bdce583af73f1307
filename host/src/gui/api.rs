//! The endpoints of the Python original, with the same field names and additional fields.
//!
//! Unlike in the original, cancel and retry take effect, and report their real outcome.

use std::{ops::RangeInclusive, sync::Arc};

use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};

use super::{
    App, HttpError,
    response::{JsonResponse, Object, object},
};
use crate::{
    clock::{Now, Timestamp, seconds},
    control_plane::{reply_to::ReplyTo, state},
    json,
    protocol::{Submitted, TaskQuery, TaskSummary, WorkerInfo, WorkerStatus},
    task::{Progress, TaskId, TaskPriority, TaskStatus},
};

/// Default number of tasks in one page.
const LIMIT_DEFAULT: u64 = 50;
/// Maximum number of tasks in one page.
const LIMIT_MAX: u64 = 500;
/// Maximum number of queued tasks to list for each priority.
const QUEUED_MAX: usize = 100;
/// Maximum total size of the results in one page, in bytes. Larger ones are replaced by their size.
const RESULTS_MAX: usize = 1024 * 1024;
/// The statuses of ended tasks.
const ENDED: [TaskStatus; 3] = [TaskStatus::Success, TaskStatus::Failure, TaskStatus::Cancelled];

/// `GET /api/status`
pub(super) async fn status(State(app): State<Arc<App>>) -> JsonResponse<Object> {
    let (active, inactive, stats, cache, now) = app.core.enter(|state, now| {
        let active = state.registry().iter().filter(|(_, worker)| worker.peer.is_some()).count();
        (active, state.registry().lost(now.mono).count(), state.stats(), state.results().stats(), now)
    });
    JsonResponse(object! {
        "worker_id": app.identity.worker_id,
        "running": true,
        "base_address": app.identity.base_address,
        "discovery_address": app.identity.discovery_address,
        "uptime_seconds": seconds(app.started.elapsed()),
        "subworkers": object! { "total": active + inactive, "active": active, "inactive": inactive },
        "tasks": object! { "queued": stats.queued, "active": stats.leases, "cached_results": cache.size },
        "cache": object! { "max_size": cache.size_max, "current_size": cache.size, "ttl_seconds": seconds(cache.ttl) },
        "timestamp": now.wall,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// `GET /api/workers`
pub(super) async fn workers(State(app): State<Arc<App>>) -> JsonResponse<Object> {
    let infos = app.core.enter(|state, now| state.registry().briefs(now.mono));
    let workers: Vec<Object> = infos.iter().map(worker_object).collect();
    JsonResponse(object! { "count": workers.len(), "workers": workers })
}

fn worker_object(info: &WorkerInfo) -> Object {
    let status = match info.status {
        WorkerStatus::Active => "active",
        WorkerStatus::Draining => "draining",
        WorkerStatus::Lost => "inactive",
        WorkerStatus::Other(_) => info.status.as_str(),
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

/// The query parameters of `GET /api/tasks`.
#[derive(Debug, Deserialize)]
pub(super) struct TaskListParams {
    limit: Option<String>,
    offset: Option<String>,
    /// One or more statuses, separated by commas; all ended tasks if empty.
    #[serde(default)]
    status: String,
    name: Option<String>,
    worker: Option<String>,
    /// `false` omits all results.
    results: Option<String>,
}

impl TaskListParams {
    /// Parses a parameter that is a whole number within `range`.
    fn parse_number(
        name: &str,
        value: Option<&str>,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, HttpError> {
        let Some(text) = value.filter(|text| !text.is_empty()) else { return Ok(default) };
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let text: String = text.chars().take(64).collect();
            let upper_bound = if *range.end() == u64::MAX { String::new() } else { format!(" to {}", range.end()) };
            let message = format!("{name} must be a whole number from {}{upper_bound}, not '{text}'", range.start());
            HttpError::new(StatusCode::BAD_REQUEST, message)
        })
    }
}

/// A task in a page.
#[derive(Debug, Serialize)]
struct TaskRow {
    #[serde(flatten)]
    summary: TaskSummary,
    result: Option<json::Json>,
    /// The size of an omitted result in bytes.
    #[serde(rename = "result_left_out", skip_serializing_if = "Option::is_none")]
    omitted_size: Option<usize>,
    cached_at: Option<Timestamp>,
    last_accessed: Option<Timestamp>,
    progress: Option<Progress>,
}

/// `GET /api/tasks?limit=50&offset=0&status=&name=&worker=&results=true`
pub(super) async fn tasks(
    State(app): State<Arc<App>>,
    params: Result<Query<TaskListParams>, QueryRejection>,
) -> Result<JsonResponse<Object>, HttpError> {
    let Query(params) = params.map_err(|error| {
        let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
        let cause = causes.last().map_or_else(|| error.body_text(), ToString::to_string);
        HttpError::new(StatusCode::BAD_REQUEST, format!("invalid query: {cause}"))
    })?;
    let limit = TaskListParams::parse_number("limit", params.limit.as_deref(), LIMIT_DEFAULT, 1..=LIMIT_MAX)?;
    let offset = TaskListParams::parse_number("offset", params.offset.as_deref(), 0, 0..=u64::MAX)?;
    let names = params.status.split(',').map(str::trim).filter(|name| !name.is_empty());
    let statuses: Vec<TaskStatus> = names
        .map(|name| name.parse().map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, format!("{error}"))))
        .collect::<Result<_, _>>()?;
    let omit_results = match params.results.as_deref() {
        None | Some("" | "true") => false,
        Some("false") => true,
        Some(_) => return Err(HttpError::new(StatusCode::BAD_REQUEST, "results must be true or false")),
    };
    let not_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
    let query = TaskQuery {
        statuses: if statuses.is_empty() { ENDED.to_vec() } else { statuses },
        name: not_empty(params.name),
        worker_id: not_empty(params.worker),
        offset,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        ..TaskQuery::default()
    };
    let (rows, total, complete) = app.core.enter(|state, now| {
        let page = state.page(now, &query);
        let mut remaining = if omit_results { 0 } else { RESULTS_MAX };
        let rows: Vec<TaskRow> =
            page.tasks.into_iter().map(|summary| task_row(state, now, summary, &mut remaining)).collect();
        (rows, page.total, page.complete)
    });
    Ok(JsonResponse(object! {
        "tasks": rows,
        "total": total,
        "limit": query.limit,
        "offset": query.offset,
        "complete": complete,
    }))
}

fn task_row(state: &state::State<ReplyTo>, now: Now, summary: TaskSummary, remaining: &mut usize) -> TaskRow {
    let cached = state.results().peek(now.mono, &summary.task_id);
    let result = cached.and_then(|cached| cached.result.result.clone());
    let size = result.as_ref().map_or(0, |result| result.as_str().len());
    let omitted_size = (size > *remaining).then_some(size);
    *remaining -= if omitted_size.is_some() { 0 } else { size };
    TaskRow {
        result: result.filter(|_| omitted_size.is_none()),
        omitted_size,
        cached_at: cached.and(summary.completed_at),
        last_accessed: cached.map(|cached| cached.used_at(now)),
        progress: state.progress(&summary.task_id).cloned(),
        summary,
    }
}

/// `GET /api/queues`
pub(super) async fn queues(State(app): State<Arc<App>>) -> JsonResponse<Object> {
    let priorities = app.core.enter(|state, now| {
        TaskPriority::ALL.map(|priority| {
            let queue = state.queue();
            let oldest = queue.oldest(priority).map(|since| now.mono.since(since));
            (queue.depth(priority), oldest, queue.first(priority, QUEUED_MAX))
        })
    });
    let mut queues = Object::default();
    let mut total = 0;
    for (priority, (count, oldest, first)) in TaskPriority::ALL.into_iter().zip(priorities) {
        let tasks: Vec<Object> = first.iter().map(|(id, name)| object! { "id": id, "name": name }).collect();
        let queue = object! { "count": count, "tasks": tasks, "oldest_age_seconds": oldest.map(seconds) };
        queues.put(priority.as_str(), &queue);
        total += count;
    }
    JsonResponse(object! { "queues": queues, "total_queued": total })
}

/// `GET /api/cache`
pub(super) async fn cache(State(app): State<Arc<App>>) -> JsonResponse<Object> {
    let stats = app.core.enter(|state, _| state.results().stats());
    let percent = |size: usize, max: usize| {
        let share = u32::try_from(size.saturating_mul(10_000) / max.max(1)).unwrap_or(u32::MAX);
        f64::from(share) / 100.0
    };
    let mut by_status = Object::default();
    for (status, count) in ENDED.iter().zip(stats.by_status).filter(|(_, count)| *count > 0) {
        by_status.put(status.as_str(), &count);
    }
    JsonResponse(object! {
        "max_size": stats.size_max,
        "current_size": stats.size,
        "utilization_percent": percent(stats.size, stats.size_max),
        "ttl_seconds": seconds(stats.ttl),
        "by_status": by_status,
        "bytes": stats.bytes,
        "bytes_max": stats.bytes_max,
        "evicted": stats.evicted,
        "expired": stats.expired,
    })
}

/// `GET /api/registered-tasks`
pub(super) async fn registered_tasks(State(app): State<Arc<App>>) -> JsonResponse<Object> {
    let infos = app.core.enter(|state, now| state.registry().infos(now.mono));
    let present = infos.iter().filter(|info| info.status != WorkerStatus::Lost);
    let mut tasks = std::collections::BTreeMap::new();
    for module in present.flat_map(|info| &info.modules) {
        for task in &module.tasks {
            let object = object! {
                "name": task.name,
                "module": module.name,
                "doc": task.documentation,
                "schema": task.schema,
                "policy": task.policy,
            };
            tasks.entry(&task.name).or_insert(object);
        }
    }
    let tasks: Vec<Object> = tasks.into_values().collect();
    JsonResponse(object! { "count": tasks.len(), "tasks": tasks })
}

/// Parses the id of a task in a path.
pub(super) fn parse_task_id(text: &str) -> Result<TaskId, HttpError> {
    text.parse().map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, format!("{error}")))
}

/// `POST /api/tasks/{id}/cancel`
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
) -> Result<JsonResponse<Object>, HttpError> {
    let id = parse_task_id(&text)?;
    let before = app.core.enter(|state, now| {
        let ended = || state.results().peek(now.mono, &id).map(|cached| cached.result.status);
        let before = state.task_view(&id).map(|task| task.status).or_else(ended)?;
        state.cancel(now, std::slice::from_ref(&id), ReplyTo::Discard);
        Some(before)
    });
    match before {
        None => Err(HttpError::unknown_task(&id)),
        Some(before) if before.is_final() => Ok(JsonResponse(object! {
            "cancelled": false,
            "task_id": id,
            "status": before,
            "message": format!("the task had already ended: {before}"),
        })),
        Some(_) => Ok(JsonResponse(object! { "cancelled": true, "task_id": id, "status": TaskStatus::Cancelled })),
    }
}

/// `POST /api/tasks/{id}/retry`: submits the same call again, as a new task.
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
) -> Result<JsonResponse<Object>, HttpError> {
    let id = parse_task_id(&text)?;
    let new_id = TaskId::new();
    let copy = app.core.enter(|state, now| {
        state.again(now, &id, new_id.clone()).ok_or_else(|| state.task_view(&id).map(|task| task.status))
    });
    let outcome = copy.map(|task| {
        let tasks = vec![task];
        let errors = app.core.signatures().check_all(&tasks);
        app.core.enter(|state, now| state.submit_detached(now, tasks, errors)).pop()
    });
    let (status, error) = match outcome {
        Ok(Some(Submitted::Accepted)) => (None, None),
        // No worker has the task any longer, or its new version does not accept the arguments.
        Ok(Some(Submitted::Ended(result))) => (Some(result.status), result.error.clone()),
        Ok(Some(Submitted::Refused(refusal))) => {
            return Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, refusal.message));
        }
        Ok(None) => return Err(HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the task was not accepted")),
        Err(None) => return Err(HttpError::unknown_task(&id)),
        Err(Some(status)) => {
            let message = format!("task {id} has not ended: it is {status}; cancel it first, or let it end");
            return Err(HttpError::new(StatusCode::CONFLICT, message));
        }
    };
    Ok(JsonResponse(object! {
        "retried": true,
        "task_id": new_id,
        "retry_of": id,
        "status": status.unwrap_or(TaskStatus::Pending),
        "error": error,
    }))
}
