//! What is shown of the state: tasks by how they stand, and what happened lately.

use std::sync::Arc;

use super::{Phase, Responder, State, TaskRecord, Timer, WaitCondition, wait};
use crate::control_plane::{
    events::NewEvent,
    results::{About, Kept},
};
use crate::{
    clock::{Now, Timestamp},
    json::Json,
    protocol::{EventQuery, Reply, TaskPage, TaskQuery, TaskSummary},
    task::{Delivery, NewTask, Policy, Progress, Report, Task, TaskId, TaskResult, TaskStatus},
    transport::PAYLOAD_MAX,
};

/// Tasks that one page may have.
const PAGE_MAX: usize = 1_000;
/// Tasks that are looked at for one page: it is made under the lock.
const SCAN_MAX: usize = 20_000;
/// Reports that are shown of one task, the newest.
const REPORTS_SHOWN: usize = 200;

/// All that is known of one task.
#[derive(Debug)]
pub struct Detail {
    /// How it stands.
    pub summary: TaskSummary,
    /// Its positional arguments.
    pub args: Json,
    /// Its named arguments.
    pub kwargs: Json,
    /// How it wants to be treated.
    pub policy: Policy,
    /// How it ended, if it has.
    pub ended: Option<Arc<TaskResult>>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// What it said lately, oldest first.
    pub reports: Vec<Report>,
}

/// A task that may be shown.
enum Seen<'a> {
    Live(&'a TaskId, &'a TaskRecord),
    Ended(&'a Kept),
}

impl<R: Responder> State<R> {
    /// Tells a client of tasks.
    pub fn tasks(&mut self, now: Now, query: &TaskQuery, reply_to: R) {
        let page = self.page(now, query);
        self.reply(reply_to, Reply::Tasks(page));
    }

    /// The tasks that a query asks for: running ones first, then waiting ones in the order of the
    /// queue, then those that wait for their moment, the next first, then ended ones, the newest first.
    pub fn page(&self, now: Now, query: &TaskQuery) -> TaskPage {
        // Only those are looked at that can match, so that few are found behind many others.
        let wanted = |statuses: &[TaskStatus]| {
            query.statuses.is_empty() || statuses.iter().any(|status| query.statuses.contains(status))
        };
        let running = wanted(&[TaskStatus::Started, TaskStatus::Pending])
            .then(|| self.leases.values().filter_map(|granted| self.live(&granted.task)));
        let waiting = wanted(&[TaskStatus::Pending]).then(|| self.queue.iter().filter_map(|(_, id)| self.live(id)));
        let scheduled = wanted(&[TaskStatus::Scheduled, TaskStatus::Retrying]).then(|| {
            let timed = self.timers.iter().filter_map(|(_, timer)| match timer {
                Timer::Due(id) => self.live(id),
                _ => None,
            });
            let etas = self.etas.iter().filter_map(|(_, id)| self.live(id));
            timed.chain(etas)
        });
        let ended = wanted(&[TaskStatus::Success, TaskStatus::Failure, TaskStatus::Cancelled])
            .then(|| self.results.newest(now.mono).map(Seen::Ended));
        let (running, waiting) = (running.into_iter().flatten(), waiting.into_iter().flatten());
        let (scheduled, ended) = (scheduled.into_iter().flatten(), ended.into_iter().flatten());
        let all = running.chain(waiting).chain(scheduled).chain(ended);
        let mut scanned = 0;
        let limit = (query.limit as usize).min(PAGE_MAX);
        let skip = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let (mut matching, mut tasks) = (0, Vec::new());
        for task in all.take(SCAN_MAX) {
            scanned += 1;
            if !self.is_asked_for(query, &task) {
                continue;
            }
            matching += 1;
            if matching > skip && tasks.len() < limit {
                tasks.push(match task {
                    Seen::Live(id, record) => self.summary(id, record),
                    Seen::Ended(kept) => summary_of(kept),
                });
            }
        }
        TaskPage { tasks, total: matching as u64, complete: scanned < SCAN_MAX }
    }

    /// All that is known of a task. Looking counts as no use of its result.
    pub fn detail(&self, now: Now, id: &TaskId) -> Option<Detail> {
        let newest = |log: &crate::control_plane::reports::ReportLog| {
            log.after(log.last().saturating_sub(REPORTS_SHOWN as u64)).cloned().collect()
        };
        if let Some(record) = self.tasks.get(id) {
            return Some(Detail {
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
        let About { args, kwargs, policy, .. } = kept.about.clone();
        let progress = kept.reports.progress().cloned();
        let reports = newest(&kept.reports);
        Some(Detail {
            summary: summary_of(kept),
            args,
            kwargs,
            policy,
            ended: Some(kept.result.clone()),
            progress,
            reports,
        })
    }

    /// Tells a client all that is known of a task.
    pub fn describe(&mut self, now: Now, id: &TaskId, reply_to: R) {
        let task = match self.tasks.get(id) {
            Some(record) => Some(self.view(id, record)),
            None => self.results.peek(now.mono, id).map(|kept| self.view_of_ended(kept)),
        };
        self.reply(reply_to, Reply::Described(task.map(Box::new)));
    }

    /// A task that has not ended.
    pub(super) fn view(&self, id: &TaskId, record: &TaskRecord) -> Task {
        let begun = self.begun(record);
        let last_failure = record.last_failure.as_deref();
        Task {
            id: id.clone(),
            name: record.name.to_string(),
            args: record.args.clone(),
            kwargs: record.kwargs.clone(),
            priority: record.priority,
            created_at: record.created_at,
            started_at: begun.map(|(at, _)| at),
            completed_at: None,
            status: record.status(),
            result: None,
            error: last_failure.map(|last_failure| last_failure.message.to_string()),
            attempt: record.attempt,
            progress: record.reports.progress().cloned(),
            error_kind: last_failure.map(|last_failure| last_failure.kind),
            worker_id: begun.and_then(|(_, worker)| worker).map(ToString::to_string),
            due_at: record.due_on(),
            offered: self.registry.has(&record.name),
            unknown_until: if record.unclaimed { self.claimable_until(&record.name, id) } else { None },
            module_version: None,
            callback: record.callback.as_deref().map(|info| Box::new(Delivery::pending(&info.address))),
        }
    }

    fn view_of_ended(&self, kept: &Kept) -> Task {
        let (about, result) = (&kept.about, TaskResult::clone(&kept.result));
        let documents = [&about.args, &about.kwargs].map(|document| document.as_str().len()).iter().sum::<usize>();
        let fits = documents + result.size() <= PAYLOAD_MAX;
        let shown = |document: &Json| if fits { document.clone() } else { Json::null() };
        Task {
            id: result.task_id,
            name: about.name.to_string(),
            args: shown(&about.args),
            kwargs: shown(&about.kwargs),
            priority: about.priority,
            created_at: about.created_at,
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
            offered: self.registry.has(&about.name),
            unknown_until: None,
            module_version: result.module_version,
            callback: result.callback,
        }
    }

    /// How far a task is that has not ended, if it told.
    pub fn progress(&self, id: &TaskId) -> Option<&Progress> {
        self.tasks.get(id)?.reports.progress()
    }

    /// The call of a task that has ended, as another task with the id `new`.
    pub fn again(&self, now: Now, ended: &TaskId, new: TaskId) -> Option<NewTask> {
        let About { name, args, kwargs, policy, .. } = self.results.peek(now.mono, ended)?.about.clone();
        Some(NewTask { id: new, args, kwargs, policy, ..NewTask::new(&*name) })
    }

    fn live<'a>(&'a self, id: &'a TaskId) -> Option<Seen<'a>> {
        self.tasks.get(id).map(|record| Seen::Live(id, record))
    }

    /// Whether a query asks for a task. The summary is only made of those that are shown.
    fn is_asked_for(&self, query: &TaskQuery, task: &Seen<'_>) -> bool {
        match task {
            Seen::Live(_, record) => {
                let begun = self.begun(record);
                query.matches(
                    record.status(),
                    &record.name,
                    begun.and_then(|(_, worker)| worker).map(|id| &**id),
                    begun.map_or(record.created_at, |(at, _)| at),
                )
            }
            Seen::Ended(Kept { result, about, .. }) => query.matches(
                result.status,
                &about.name,
                result.worker_id.as_deref(),
                result.completed_at.or(result.started_at).unwrap_or(about.created_at),
            ),
        }
    }

    /// When the attempt that runs began, and at which worker.
    fn begun(&self, record: &TaskRecord) -> Option<(Timestamp, Option<&Arc<str>>)> {
        let Phase::Leased { lease, started_at, .. } = record.phase else { return None };
        let worker = || self.registry.get(self.leases.get(&lease)?.worker).map(|worker| &worker.id);
        started_at.map(|at| (at, worker()))
    }

    fn summary(&self, id: &TaskId, record: &TaskRecord) -> TaskSummary {
        let begun = self.begun(record);
        TaskSummary {
            task_id: id.clone(),
            name: record.name.clone(),
            status: record.status(),
            priority: record.priority,
            created_at: record.created_at,
            started_at: begun.map(|(at, _)| at),
            completed_at: None,
            worker_id: begun.and_then(|(_, worker)| worker).cloned(),
            attempt: record.attempt,
            error: record.last_failure.as_deref().map(|last_failure| first_line(&last_failure.message)),
            due_at: record.due_on(),
        }
    }

    /// Tells a client what happened, once there is something to tell.
    pub fn events(&mut self, now: Now, query: EventQuery, reply_to: R) {
        let condition = WaitCondition::Events { after: query.after };
        if self.event_log.last() == query.after && query.wait_ms > 0 {
            self.park(now, condition, wait(query.wait_ms), reply_to);
            // Those whose wait is over, or who are gone, make room, so that they cannot pile up.
            if self.event_waiters.len() == self.event_waiters.capacity() {
                let event_waiters = std::mem::take(&mut self.event_waiters);
                self.event_waiters = self.those_who_wait(event_waiters);
            }
            self.event_waiters.push(self.last_park);
            // Nothing is new to it, and to those who waited before.
            self.last_notified_event = self.event_log.last();
        } else {
            let answer = self.answer_to(now, &condition);
            self.reply(reply_to, answer);
        }
    }

    /// Notes what happened. Who waits for it is told when the state is left.
    pub(super) fn note_event(&mut self, now: Now, event: NewEvent<'_>) {
        self.event_log.push(now.wall, event);
    }

    /// Tells those who wait for events, if there are any and something happened.
    pub fn notify_event_waiters(&mut self, now: Now) {
        if self.event_waiters.is_empty() || self.last_notified_event == self.event_log.last() {
            return;
        }
        self.last_notified_event = self.event_log.last();
        for park in std::mem::take(&mut self.event_waiters) {
            self.unpark(now, park);
        }
    }
}

fn summary_of(kept: &Kept) -> TaskSummary {
    let (result, about) = (&kept.result, &kept.about);
    TaskSummary {
        task_id: result.task_id.clone(),
        name: about.name.clone(),
        status: result.status,
        priority: about.priority,
        created_at: about.created_at,
        started_at: result.started_at,
        completed_at: result.completed_at,
        worker_id: result.worker_id.as_deref().map(Into::into),
        attempt: result.attempts,
        error: result.error.as_deref().map(first_line),
        due_at: None,
    }
}

/// As much of an error as a list shows.
fn first_line(error: &str) -> String {
    let line = error.trim_start().lines().next().unwrap_or_default();
    line[..line.floor_char_boundary(200)].to_owned()
}
