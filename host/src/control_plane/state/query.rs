//! Queries: pages of tasks, and the details of one task. Only reads.

use std::sync::Arc;

use super::{Phase, Responder, State, TaskRecord, Timer};
use crate::control_plane::results::{Kept, TaskMeta};
use crate::{
    clock::{Now, Timestamp},
    json::Json,
    protocol::{Reply, TaskPage, TaskQuery, TaskSummary},
    task::{Delivery, NewTask, Policy, Progress, Report, Task, TaskId, TaskResult, TaskStatus},
    transport::PAYLOAD_MAX,
};

/// Maximum number of tasks on one page.
const PAGE_MAX: usize = 1_000;
/// Maximum number of tasks that are scanned for one page, as the state is locked during the scan.
const SCAN_MAX: usize = 20_000;
/// Maximum number of reports in the details of a task, the newest.
const DETAIL_REPORTS_MAX: usize = 200;

/// Everything about one task.
#[derive(Debug)]
pub struct TaskDetail {
    /// Its summary.
    pub summary: TaskSummary,
    /// Its positional arguments.
    pub args: Json,
    /// Its named arguments.
    pub kwargs: Json,
    /// Its policy.
    pub policy: Policy,
    /// Its result, if it has ended.
    pub ended: Option<Arc<TaskResult>>,
    /// Its progress.
    pub progress: Option<Progress>,
    /// Its newest reports, oldest first.
    pub reports: Vec<Report>,
}

/// An unfinished or finished task.
enum TaskRef<'a> {
    Live(&'a TaskId, &'a TaskRecord),
    Ended(&'a Kept),
}

impl<R: Responder> State<R> {
    /// Replies with a page of tasks.
    pub fn tasks(&mut self, now: Now, query: &TaskQuery, reply_to: R) {
        let page = self.page(now, query);
        self.reply(reply_to, Reply::Tasks(page));
    }

    /// Returns the tasks that match a query: running ones first, then waiting ones in the order of the queue, then
    /// scheduled ones, the next first, then finished ones, the newest first.
    pub fn page(&self, now: Now, query: &TaskQuery) -> TaskPage {
        // Scan only groups that can match, so that a few matches are found among many other tasks.
        let may_match = |statuses: &[TaskStatus]| {
            query.statuses.is_empty() || statuses.iter().any(|status| query.statuses.contains(status))
        };
        let running = may_match(&[TaskStatus::Started, TaskStatus::Pending])
            .then(|| self.leases.values().filter_map(|granted| self.live(&granted.task)));
        let waiting = may_match(&[TaskStatus::Pending]).then(|| self.queue.iter().filter_map(|(_, id)| self.live(id)));
        let scheduled = may_match(&[TaskStatus::Scheduled, TaskStatus::Retrying]).then(|| {
            let timed = self.timers.iter().filter_map(|(_, timer)| match timer {
                Timer::EnqueueDelayed(id) => self.live(id),
                _ => None,
            });
            let etas = self.etas.iter().filter_map(|(_, id)| self.live(id));
            timed.chain(etas)
        });
        let ended = may_match(&[TaskStatus::Success, TaskStatus::Failure, TaskStatus::Cancelled])
            .then(|| self.results.newest(now.mono).map(TaskRef::Ended));
        let (running, waiting) = (running.into_iter().flatten(), waiting.into_iter().flatten());
        let (scheduled, ended) = (scheduled.into_iter().flatten(), ended.into_iter().flatten());
        let all = running.chain(waiting).chain(scheduled).chain(ended);
        let mut scanned = 0;
        let limit = (query.limit as usize).min(PAGE_MAX);
        let skip = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let (mut matching, mut tasks) = (0, Vec::new());
        for task in all.take(SCAN_MAX) {
            scanned += 1;
            if !self.matches(query, &task) {
                continue;
            }
            matching += 1;
            if matching > skip && tasks.len() < limit {
                tasks.push(match task {
                    TaskRef::Live(id, record) => self.summary(id, record),
                    TaskRef::Ended(kept) => summary_of(kept),
                });
            }
        }
        TaskPage { tasks, total: matching as u64, complete: scanned < SCAN_MAX }
    }

    /// Returns everything about a task. Does not count as a use of its result.
    pub fn detail(&self, now: Now, id: &TaskId) -> Option<TaskDetail> {
        let newest = |log: &crate::control_plane::reports::ReportLog| {
            log.after(log.last().saturating_sub(DETAIL_REPORTS_MAX as u64)).cloned().collect()
        };
        if let Some(record) = self.tasks.get(id) {
            return Some(TaskDetail {
                summary: self.summary(id, record),
                args: record.args.clone(),
                kwargs: record.kwargs.clone(),
                policy: record.policy.clone(),
                ended: None,
                progress: record.reports.progress().cloned(),
                reports: newest(&record.reports),
            });
        }
        let kept = self.results.peek(now.mono, id)?;
        let TaskMeta { args, kwargs, policy, .. } = kept.meta.clone();
        let progress = kept.reports.progress().cloned();
        let reports = newest(&kept.reports);
        Some(TaskDetail {
            summary: summary_of(kept),
            args,
            kwargs,
            policy,
            ended: Some(kept.result.clone()),
            progress,
            reports,
        })
    }

    /// Replies with everything about a task.
    pub fn describe(&mut self, now: Now, id: &TaskId, reply_to: R) {
        let task = match self.tasks.get(id) {
            Some(record) => Some(self.view(id, record)),
            None => self.results.peek(now.mono, id).map(|kept| self.view_of_ended(kept)),
        };
        self.reply(reply_to, Reply::Described(task.map(Box::new)));
    }

    /// Describes an unfinished task.
    pub(super) fn view(&self, id: &TaskId, record: &TaskRecord) -> Task {
        let running_attempt = self.running_attempt(record);
        let last_failure = record.last_failure.as_deref();
        Task {
            id: id.clone(),
            name: record.name.to_string(),
            args: record.args.clone(),
            kwargs: record.kwargs.clone(),
            priority: record.priority,
            created_at: record.created_at,
            started_at: running_attempt.map(|(at, _)| at),
            completed_at: None,
            status: record.status(),
            result: None,
            error: last_failure.map(|last_failure| last_failure.message.to_string()),
            attempt: record.attempt,
            progress: record.reports.progress().cloned(),
            error_kind: last_failure.map(|last_failure| last_failure.kind),
            worker_id: running_attempt.and_then(|(_, worker)| worker).map(ToString::to_string),
            due_at: record.due_on(),
            offered: self.registry.has(&record.name),
            unknown_until: if record.unserved { self.unserved_until(&record.name, id) } else { None },
            module_version: None,
            usage: None,
            callback: record.callback.as_deref().map(|info| Box::new(Delivery::pending(&info.address))),
            metadata: record.metadata.clone(),
        }
    }

    fn view_of_ended(&self, kept: &Kept) -> Task {
        let (meta, result) = (&kept.meta, TaskResult::clone(&kept.result));
        let documents = [&meta.args, &meta.kwargs].map(|document| document.as_str().len()).iter().sum::<usize>();
        let fits = documents + result.size() <= PAYLOAD_MAX;
        let if_fits = |document: &Json| if fits { document.clone() } else { Json::null() };
        Task {
            id: result.task_id,
            name: meta.name.to_string(),
            args: if_fits(&meta.args),
            kwargs: if_fits(&meta.kwargs),
            priority: meta.priority,
            created_at: meta.created_at,
            started_at: result.started_at,
            completed_at: result.completed_at,
            status: result.status,
            result: result.result,
            error: result.error,
            attempt: result.attempts,
            progress: kept.reports.progress().cloned(),
            error_kind: result.error_kind,
            worker_id: result.worker_id,
            due_at: None,
            offered: self.registry.has(&meta.name),
            unknown_until: None,
            module_version: result.module_version,
            usage: result.usage,
            callback: result.callback,
            metadata: result.metadata,
        }
    }

    /// Returns the progress of an unfinished task, if it reported any.
    pub fn progress(&self, id: &TaskId) -> Option<&Progress> {
        self.tasks.get(id)?.reports.progress()
    }

    /// Returns the call of a finished task as a new task with the id `new`.
    pub fn again(&self, now: Now, ended: &TaskId, new: TaskId) -> Option<NewTask> {
        let TaskMeta { name, args, kwargs, policy, .. } = self.results.peek(now.mono, ended)?.meta.clone();
        Some(NewTask { id: new, args, kwargs, policy, ..NewTask::new(&*name) })
    }

    fn live<'a>(&'a self, id: &'a TaskId) -> Option<TaskRef<'a>> {
        self.tasks.get(id).map(|record| TaskRef::Live(id, record))
    }

    /// Whether a task matches a query. Summaries are only made of tasks on the page.
    fn matches(&self, query: &TaskQuery, task: &TaskRef<'_>) -> bool {
        match task {
            TaskRef::Live(_, record) => {
                let running_attempt = self.running_attempt(record);
                query.matches(
                    record.status(),
                    &record.name,
                    running_attempt.and_then(|(_, worker)| worker).map(|id| &**id),
                    running_attempt.map_or(record.created_at, |(at, _)| at),
                )
            }
            TaskRef::Ended(Kept { result, meta, .. }) => query.matches(
                result.status,
                &meta.name,
                result.worker_id.as_deref(),
                result.completed_at.or(result.started_at).unwrap_or(meta.created_at),
            ),
        }
    }

    /// Returns when the running attempt started, and on which worker.
    fn running_attempt(&self, record: &TaskRecord) -> Option<(Timestamp, Option<&Arc<str>>)> {
        let Phase::Leased { lease, started_at, .. } = record.phase else { return None };
        let worker = || self.registry.get(self.leases.get(&lease)?.worker).map(|worker| &worker.id);
        started_at.map(|at| (at, worker()))
    }

    fn summary(&self, id: &TaskId, record: &TaskRecord) -> TaskSummary {
        let running_attempt = self.running_attempt(record);
        TaskSummary {
            task_id: id.clone(),
            name: record.name.clone(),
            status: record.status(),
            priority: record.priority,
            created_at: record.created_at,
            started_at: running_attempt.map(|(at, _)| at),
            completed_at: None,
            worker_id: running_attempt.and_then(|(_, worker)| worker).cloned(),
            attempt: record.attempt,
            error: record.last_failure.as_deref().map(|last_failure| first_line(&last_failure.message)),
            due_at: record.due_on(),
        }
    }
}

fn summary_of(kept: &Kept) -> TaskSummary {
    let (result, meta) = (&kept.result, &kept.meta);
    TaskSummary {
        task_id: result.task_id.clone(),
        name: meta.name.clone(),
        status: result.status,
        priority: meta.priority,
        created_at: meta.created_at,
        started_at: result.started_at,
        completed_at: result.completed_at,
        worker_id: result.worker_id.as_deref().map(Into::into),
        attempt: result.attempts,
        error: result.error.as_deref().map(first_line),
        due_at: None,
    }
}

/// Returns the first line of an error, shortened for a list.
fn first_line(error: &str) -> String {
    let line = error.trim_start().lines().next().unwrap_or_default();
    line[..line.floor_char_boundary(200)].to_owned()
}
