//! Tasks, workers, modules and schedules as `--json` prints them: the same fields in every command.
//!
//! Separate from the protocol's types, which may change without changing this output. A field without
//! a value is null. `docs/operating.md` lists the fields.

use serde::Serialize;

use crate::{
    clock::Timestamp,
    config::BASE_ADDRESS,
    json::Json,
    protocol::{ScheduleInfo, ScheduleSource, TaskSummary, WorkerInfo, WorkerStatus},
    signature,
    task::{
        Delivery, ErrorKind, LoadFailure, ModuleInfo, ModuleStatus, ModuleVersion, NotCallable, Policy, Progress,
        ScheduleSpec, Task, TaskId, TaskInfo, TaskPriority, TaskResult, TaskStatus, UngrantedTask, Unknown, Usage,
        schedule::{Overlap, When},
    },
};

/// The fields of a task that lists show as well.
#[derive(Serialize)]
pub(super) struct TaskSummaryJson<'a> {
    task_id: &'a TaskId,
    /// The same value: the API reference calls it `id` in a task, and `task_id` in a result.
    id: &'a TaskId,
    name: Option<&'a str>,
    status: TaskStatus,
    priority: Option<TaskPriority>,
    created_at: Option<Timestamp>,
    due_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    worker_id: Option<&'a str>,
    attempts: u32,
    error: Option<&'a str>,
}

/// A task with all of its fields.
#[derive(Serialize)]
pub(super) struct TaskJson<'a> {
    #[serde(flatten)]
    summary: TaskSummaryJson<'a>,
    error_kind: Option<ErrorKind>,
    args: Option<&'a Json>,
    kwargs: Option<&'a Json>,
    result: Option<&'a Json>,
    progress: Option<&'a Progress>,
    offered: Option<bool>,
    unknown_until: Option<Timestamp>,
    module_version: Option<ModuleVersion>,
    usage: Option<serde_json::Map<String, serde_json::Value>>,
    callback: Option<&'a Delivery>,
    metadata: &'a Json,
}

/// The summary of a [`Task`] or a [`TaskSummary`], whose fields have the same names except for the id.
macro_rules! summary {
    ($task:expr, $id:expr) => {
        TaskSummaryJson {
            task_id: $id,
            id: $id,
            name: Some(&$task.name),
            status: $task.status,
            priority: Some($task.priority),
            created_at: Some($task.created_at),
            due_at: $task.due_at,
            started_at: $task.started_at,
            completed_at: $task.completed_at,
            worker_id: $task.worker_id.as_deref(),
            attempts: $task.attempt,
            error: $task.error.as_deref(),
        }
    };
}

impl<'a> From<&'a TaskSummary> for TaskSummaryJson<'a> {
    fn from(task: &'a TaskSummary) -> Self {
        summary!(task, &task.task_id)
    }
}

impl<'a> From<&'a Task> for TaskJson<'a> {
    fn from(task: &'a Task) -> Self {
        Self {
            summary: summary!(task, &task.id),
            error_kind: task.error_kind,
            args: Some(&task.args),
            kwargs: Some(&task.kwargs),
            result: task.result.as_ref(),
            progress: task.progress.as_ref(),
            offered: Some(task.offered),
            unknown_until: task.unknown_until,
            module_version: task.module_version,
            usage: task.usage.as_deref().copied().map(Usage::named),
            callback: task.callback.as_deref(),
            metadata: &task.metadata,
        }
    }
}

/// A task of which only the result is known.
impl<'a> From<&'a TaskResult> for TaskJson<'a> {
    fn from(result: &'a TaskResult) -> Self {
        Self {
            summary: TaskSummaryJson {
                task_id: &result.task_id,
                id: &result.task_id,
                name: None,
                status: result.status,
                priority: None,
                created_at: None,
                due_at: None,
                started_at: result.started_at,
                completed_at: result.completed_at,
                worker_id: result.worker_id.as_deref(),
                attempts: result.attempts,
                error: result.error.as_deref(),
            },
            error_kind: result.error_kind,
            args: None,
            kwargs: None,
            result: result.result.as_ref(),
            progress: None,
            offered: None,
            unknown_until: None,
            module_version: result.module_version,
            usage: result.usage.as_deref().copied().map(Usage::named),
            callback: result.callback.as_deref(),
            metadata: &result.metadata,
        }
    }
}

impl<'a> TaskJson<'a> {
    /// The result of a call that ran without a control plane.
    pub(super) fn of_call(name: &'a str, result: &'a TaskResult) -> Self {
        let mut task = Self::from(result);
        task.summary.name = Some(name);
        task
    }
}

/// A worker.
#[derive(Serialize)]
pub(super) struct WorkerJson<'a> {
    worker_id: &'a str,
    status: WorkerStatus,
    is_control_plane: bool,
    slots: u32,
    busy: u32,
    attempts: u64,
    modules: Vec<&'a str>,
    task_count: usize,
    registered_at: Timestamp,
    /// None for the control plane's own slots, which send no heartbeats.
    last_seen: Option<Timestamp>,
    address: Option<&'a str>,
}

impl<'a> From<&'a WorkerInfo> for WorkerJson<'a> {
    fn from(worker: &'a WorkerInfo) -> Self {
        Self {
            worker_id: &worker.id,
            status: worker.status,
            is_control_plane: worker.is_control_plane,
            slots: worker.slots,
            busy: worker.load,
            attempts: worker.attempts,
            modules: worker.modules.iter().map(|module| module.name.as_str()).collect(),
            task_count: super::workers::task_count(worker),
            registered_at: worker.registered_at,
            last_seen: Some(worker.last_seen).filter(|_| !worker.is_control_plane),
            address: address(worker),
        }
    }
}

/// The address of a worker, if it was set. A subworker does not listen; its address is the default unless set.
pub(super) fn address(worker: &WorkerInfo) -> Option<&str> {
    Some(worker.address.as_str()).filter(|address| worker.is_control_plane || *address != BASE_ADDRESS)
}

/// A module as one worker has loaded it, or as read from a file.
#[derive(Serialize)]
pub(super) struct ModuleJson<'a> {
    name: &'a str,
    worker_id: Option<&'a str>,
    path: &'a str,
    /// `control-plane` if the worker has taken it from there, else `file`.
    origin: &'static str,
    status: ModuleStatus,
    last_error: Option<&'a LoadFailure>,
    version: Option<&'a str>,
    hash: Option<&'a str>,
    size: Option<u64>,
    engine: Option<&'a str>,
    loaded_at: Option<Timestamp>,
    imports: &'a [String],
    grants: &'a [String],
    tasks: Vec<TaskInfoJson<'a>>,
    ungranted: &'a [UngrantedTask],
    not_callable: &'a [NotCallable],
}

/// A task of a module.
#[derive(Serialize)]
pub(super) struct TaskInfoJson<'a> {
    name: &'a str,
    full_name: Option<&'a str>,
    signature: String,
    documentation: &'a str,
    policy: &'a Policy,
    schedule: Option<&'a ScheduleSpec>,
    schema: &'a Json,
    /// Seconds, bytes or a count.
    limits: serde_json::Map<String, serde_json::Value>,
    needs: &'a [String],
    warnings: &'a [String],
}

impl<'a> ModuleJson<'a> {
    pub(super) fn of(module: &'a ModuleInfo, worker_id: Option<&'a str>) -> Self {
        let is_known = !module.hash.is_empty();
        Self {
            name: &module.name,
            worker_id,
            path: &module.path,
            origin: if module.is_taken() { "control-plane" } else { "file" },
            status: module.status,
            last_error: module.last_error.as_ref(),
            version: is_known.then(|| module.version()),
            hash: is_known.then_some(&module.hash),
            size: is_known.then_some(module.size),
            engine: is_known.then_some(&module.engine),
            loaded_at: is_known.then_some(module.loaded_at),
            imports: &module.imports,
            grants: &module.grants,
            tasks: module.tasks.iter().map(TaskInfoJson::from).collect(),
            ungranted: &module.ungranted,
            not_callable: &module.not_callable,
        }
    }
}

impl<'a> From<&'a TaskInfo> for TaskInfoJson<'a> {
    fn from(task: &'a TaskInfo) -> Self {
        Self {
            name: &task.name,
            full_name: task.full_name.as_deref(),
            signature: signature::line(task),
            documentation: &task.documentation,
            policy: &task.policy,
            schedule: task.schedule.as_ref(),
            schema: &task.schema,
            limits: task.limits.named(),
            needs: &task.needs,
            warnings: &task.warnings,
        }
    }
}

/// A schedule.
#[derive(Serialize)]
pub(super) struct ScheduleJson<'a> {
    name: &'a str,
    /// The status of the schedule, or `removed`.
    status: &'a str,
    task_name: &'a str,
    args: &'a Json,
    kwargs: &'a Json,
    policy: &'a Policy,
    wait_for_worker: bool,
    /// Seconds.
    every: Option<f64>,
    cron: Option<&'a str>,
    tz: Option<&'a str>,
    count: Option<u64>,
    until: Option<Timestamp>,
    overlap: Overlap,
    module: Option<&'a str>,
    next_run: Option<Timestamp>,
    last_run: Option<Timestamp>,
    last_task_id: Option<&'a TaskId>,
    last_status: Option<TaskStatus>,
    runs: u64,
    skipped: u64,
    remaining: Option<u64>,
}

impl<'a> ScheduleJson<'a> {
    pub(super) fn of(info: &'a ScheduleInfo) -> Self {
        let (schedule, spec) = (&*info.schedule, &info.schedule.spec);
        let (every, cron, tz) = match &spec.when {
            When::Every(interval) => (Some(interval.as_secs_f64()), None, None),
            When::Cron { pattern, tz } => (None, Some(pattern.as_str()), Some(tz.as_str())),
        };
        Self {
            name: &schedule.name,
            status: info.status.as_str(),
            task_name: &schedule.task_name,
            args: &schedule.args,
            kwargs: &schedule.kwargs,
            policy: &schedule.policy,
            wait_for_worker: schedule.unknown == Unknown::Wait,
            every,
            cron,
            tz,
            count: spec.count,
            until: spec.until,
            overlap: spec.overlap,
            module: match &info.source {
                ScheduleSource::Command => None,
                ScheduleSource::Module(module) => Some(module),
            },
            next_run: info.next_run,
            last_run: info.last_run,
            last_task_id: info.last_task_id.as_ref(),
            last_status: info.last_status,
            runs: info.runs,
            skipped: info.skipped,
            remaining: info.remaining,
        }
    }

    /// A schedule that has been removed.
    pub(super) fn removed(info: &'a ScheduleInfo) -> Self {
        Self { status: "removed", next_run: None, ..Self::of(info) }
    }
}
