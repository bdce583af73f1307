//! The endpoints of the page that are not in the original.

use std::{sync::Arc, time::Duration};

use axum::extract::{Path, State};
use serde::Serialize;

use super::{
    App, HttpError, api,
    response::{JsonResponse, Object, object},
};
use crate::{
    clock::{Timestamp, seconds},
    control_plane::{reply_to::ReplyTo, state::TaskDetail, worker_registry::WorkerRecord},
    json,
    protocol::{WorkerInfo, WorkerStatus},
    task::{ModuleInfo, TaskPriority, TaskStatus, Usage},
};

/// Maximum number of workers in an overview.
const WORKERS_MAX: usize = 500;
/// Maximum size of a displayed document in bytes. Larger documents are replaced by their size.
const DOCUMENT_MAX: usize = 256 * 1024;

/// A summary of the control plane, which the page shows every second.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    /// The number of the newest event.
    number: u64,
    at: Timestamp,
    worker_id: String,
    version: &'static str,
    uptime_seconds: f64,
    draining: bool,
    /// The queues by priority, most urgent first.
    queues: [QueueView; 4],
    /// Number of scheduled tasks and retries that are not due yet.
    due: usize,
    /// Number of tasks that are leased to workers.
    leased: usize,
    slots: usize,
    busy: usize,
    /// Number of accepted tasks since the start.
    accepted: u64,
    ended: EndedCounts,
    /// The histogram of the total times of tasks since the start; the bounds are in seconds.
    #[serde(rename = "took")]
    total_times: DurationHistogram,
    workers: Vec<WorkerView>,
    cache: CacheView,
}

#[derive(Debug, Serialize)]
struct QueueView {
    priority: TaskPriority,
    count: usize,
    oldest_age_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct EndedCounts {
    success: u64,
    failure: u64,
    cancelled: u64,
}

#[derive(Debug, Serialize)]
struct DurationHistogram {
    bounds: Vec<f64>,
    counts: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct WorkerView {
    id: Arc<str>,
    address: String,
    status: WorkerStatus,
    is_control_plane: bool,
    slots: u32,
    load: usize,
    attempts: u64,
    registered_at: Timestamp,
    last_seen: Timestamp,
    modules: usize,
    tasks: usize,
}

#[derive(Debug, Serialize)]
struct CacheView {
    size: usize,
    size_max: usize,
    bytes: usize,
    bytes_max: usize,
    ttl_seconds: f64,
    success: usize,
    failure: usize,
    cancelled: usize,
    evicted: u64,
    expired: u64,
}

impl Overview {
    /// Reads an overview from the state.
    pub(super) fn of(app: &App) -> Self {
        app.core.enter(|state, now| {
            let (stats, counts, cache) = (state.stats(), state.counts(), state.results().stats());
            let queues = TaskPriority::ALL.map(|priority| QueueView {
                priority,
                count: state.queue().depth(priority),
                oldest_age_seconds: state.queue().oldest(priority).map(|since| seconds(now.mono.since(since))),
            });
            let mut workers: Vec<WorkerView> =
                state.registry().iter().take(WORKERS_MAX).map(|(_, worker)| WorkerView::of(worker)).collect();
            workers.extend(state.registry().lost(now.mono).map(WorkerView::of_lost));
            let [success, failure, cancelled] = counts.ended;
            Self {
                number: state.event_log().last(),
                at: now.wall,
                worker_id: app.identity.worker_id.clone(),
                version: env!("CARGO_PKG_VERSION"),
                uptime_seconds: seconds(app.started.elapsed()),
                draining: state.is_draining(),
                queues,
                due: stats.unfinished.saturating_sub(stats.queued + stats.leases),
                leased: stats.leases,
                slots: state.registry().slots(),
                busy: state.registry().iter().map(|(_, worker)| worker.load()).sum(),
                accepted: counts.accepted,
                ended: EndedCounts { success, failure, cancelled },
                total_times: DurationHistogram::of(state.metrics().priorities().iter().map(|meter| &meter.total)),
                workers,
                cache: CacheView::of(&cache),
            }
        })
    }
}

impl DurationHistogram {
    fn of<'a>(histograms: impl Iterator<Item = &'a crate::control_plane::metrics::Histogram>) -> Self {
        use crate::control_plane::metrics::BOUNDS_US;
        let mut counts = vec![0; BOUNDS_US.len() + 1];
        for histogram in histograms {
            counts.iter_mut().zip(histogram.counts).for_each(|(sum, count)| *sum += count);
        }
        Self { bounds: BOUNDS_US.map(|us| Duration::from_micros(us).as_secs_f64()).to_vec(), counts }
    }
}

impl WorkerView {
    fn of(worker: &WorkerRecord<ReplyTo>) -> Self {
        Self {
            id: worker.id.clone(),
            address: worker.address().to_owned(),
            status: if worker.draining { WorkerStatus::Draining } else { WorkerStatus::Active },
            is_control_plane: worker.peer.is_none(),
            slots: worker.size(),
            load: worker.load(),
            attempts: worker.attempts,
            registered_at: worker.registered_at(),
            last_seen: worker.last_seen.wall,
            modules: worker.modules().len(),
            tasks: worker.names().len(),
        }
    }

    fn of_lost(info: &WorkerInfo) -> Self {
        Self {
            id: info.id.as_str().into(),
            address: info.address.clone(),
            status: info.status,
            is_control_plane: info.is_control_plane,
            slots: info.slots,
            load: info.load as usize,
            attempts: info.attempts,
            registered_at: info.registered_at,
            last_seen: info.last_seen,
            modules: info.modules.len(),
            tasks: info.modules.iter().map(|module| module.tasks.len()).sum(),
        }
    }
}

impl CacheView {
    fn of(stats: &crate::control_plane::results::CacheStats) -> Self {
        let [success, failure, cancelled] = stats.by_status;
        Self {
            size: stats.size,
            size_max: stats.size_max,
            bytes: stats.bytes,
            bytes_max: stats.bytes_max,
            ttl_seconds: seconds(stats.ttl),
            success,
            failure,
            cancelled,
            evicted: stats.evicted,
            expired: stats.expired,
        }
    }
}

/// `GET /api/overview`
pub(super) async fn overview(State(app): State<Arc<App>>) -> JsonResponse<Overview> {
    JsonResponse(Overview::of(&app))
}

/// `GET /api/modules`: the modules that each worker has loaded.
pub(super) async fn modules(State(app): State<Arc<App>>) -> JsonResponse<Object> {
    #[derive(Serialize)]
    struct Loaded<'a> {
        worker_id: &'a str,
        #[serde(flatten)]
        module: &'a ModuleInfo,
    }
    let infos = app.core.enter(|state, now| state.registry().infos(now.mono));
    let present = infos.iter().filter(|info| info.status != WorkerStatus::Lost);
    let loaded: Vec<Loaded<'_>> =
        present.flat_map(|info| info.modules.iter().map(|module| Loaded { worker_id: &info.id, module })).collect();
    JsonResponse(object! { "modules": loaded, "count": loaded.len() })
}

/// `GET /api/tasks/{id}`: all that is known about a task.
pub(super) async fn task(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
) -> Result<JsonResponse<Object>, HttpError> {
    let id = api::parse_task_id(&text)?;
    let detail = app.core.enter(|state, now| state.detail(now, &id)).ok_or_else(|| HttpError::unknown_task(&id))?;
    let TaskDetail { summary, args, kwargs, policy, ended, progress, reports } = detail;
    let ended = ended.as_deref();
    let result = ended.and_then(|ended| ended.result.as_ref());
    Ok(JsonResponse(object! {
        "task_id": summary.task_id,
        "name": summary.name,
        "status": summary.status,
        "priority": summary.priority,
        "created_at": summary.created_at,
        "started_at": summary.started_at,
        "completed_at": summary.completed_at,
        "worker_id": summary.worker_id,
        "attempt": summary.attempt,
        "args": display_text(Some(&args)),
        "args_bytes": args.as_str().len(),
        "kwargs": display_text(Some(&kwargs)),
        "kwargs_bytes": kwargs.as_str().len(),
        "policy": policy,
        "result": display_text(result),
        "result_bytes": result.map(|result| result.as_str().len()),
        "error": ended.and_then(|ended| ended.error.as_ref()),
        "error_kind": ended.and_then(|ended| ended.error_kind),
        "module_version": ended.and_then(|ended| ended.module_version),
        "usage": ended.and_then(|ended| ended.usage.as_deref().copied().map(Usage::named)),
        "callback": ended.and_then(|ended| ended.callback.as_ref()),
        "metadata": ended.map(|ended| &ended.metadata),
        "progress": progress,
        "reports": reports,
        "can_cancel": !summary.status.is_final(),
        "can_retry": TaskStatus::is_final(summary.status),
    }))
}

/// The text of a document, unless it is too large to display. Sent as a string, since a browser would lose the
/// precision of large numbers.
fn display_text(document: Option<&json::Json>) -> Option<&str> {
    document.map(json::Json::as_str).filter(|text| text.len() <= DOCUMENT_MAX)
}
