//! Submission of tasks.

use std::{fmt::Write as _, sync::Arc};

use super::{DueAt, Limits, Phase, Responder, SessionId, State, SubmitOutcome, TASK_SESSIONS_MAX, TaskRecord};
use crate::{
    clock::Now,
    control_plane::{events::NewEvent, reports::ReportLog, results::TaskMeta},
    json::Json,
    nearest::did_you_mean,
    protocol::{EventKind, Refusal, RefusalCode},
    signature::ArgumentError,
    task::{CallbackInfo, ErrorKind, METADATA_MAX, NewTask, TaskId, TaskName, TaskResult, Unknown, metadata},
    transport::PAYLOAD_MAX,
};

fn too_many_sessions() -> Refusal {
    let message = format!("over {TASK_SESSIONS_MAX} sessions wait for this task, which is the limit: look it up");
    Refusal::new(RefusalCode::SessionLimit, message)
}

impl<R: Responder> State<R> {
    /// Accepts a client's task, unless the control plane is stopping.
    pub(super) fn submit_task(
        &mut self,
        now: Now,
        task: NewTask,
        error: Option<ArgumentError>,
        session: Option<SessionId>,
    ) -> SubmitOutcome {
        match self.known_call(now, &task.id) {
            Some((name, args, kwargs)) if (name, args, kwargs) != (&*task.name, &task.args, &task.kwargs) => {
                let message = format!("the task id {} is already used by another call, of {name}", task.id);
                return SubmitOutcome::Refused(Refusal::new(RefusalCode::IdTaken, message));
            }
            None if self.is_draining => {
                let message = "the control plane is stopping and accepts no more tasks";
                return SubmitOutcome::Refused(Refusal::new(RefusalCode::Stopping, message));
            }
            Some(_) | None => {}
        }
        self.accept(now, task, error, session)
    }

    /// Returns the name and arguments of the call under this id, if it is still known.
    fn known_call(&self, now: Now, id: &TaskId) -> Option<(&str, &Json, &Json)> {
        if let Some(record) = self.tasks.get(id) {
            return Some((&record.name, &record.args, &record.kwargs));
        }
        let TaskMeta { name, args, kwargs, .. } = &self.results.peek(now.mono, id)?.meta;
        Some((name, args, kwargs))
    }

    /// Accepts a task, or attaches the session to the one that has its id.
    pub(super) fn accept(
        &mut self,
        now: Now,
        task: NewTask,
        error: Option<ArgumentError>,
        session: Option<SessionId>,
    ) -> SubmitOutcome {
        if let Some(record) = self.tasks.get_mut(&task.id) {
            let attached = session.is_none_or(|session| record.attach(session, &self.sessions));
            return if attached { SubmitOutcome::Live } else { SubmitOutcome::Refused(too_many_sessions()) };
        }
        if let Some(kept) = self.results.get(now.mono, &task.id) {
            return SubmitOutcome::Ended(kept.result.clone());
        }
        if let Some(refusal) = self.refusal(&task) {
            return SubmitOutcome::Refused(refusal);
        }
        if let Some(error @ ArgumentError::Unreadable(_)) = error {
            // It can never run, whether or not a worker serves its name.
            return SubmitOutcome::Ended(self.bad_arguments(now, task, &error));
        }
        let served = self.registry.served(now.mono, &task.name);
        let unserved = served.is_none() && task.unknown == Unknown::Fail;
        if unserved && !self.is_worker_expected(now, &task.name) {
            return SubmitOutcome::Ended(self.not_found(now, task));
        }
        let (name, policy) = match served {
            Some((name, module_policy)) => (name.clone(), task.policy.or(module_policy)),
            None => (self.shared_name(&task.name), task.policy),
        };
        let task = NewTask { policy, ..task };
        if let Some(error) = error.filter(|_| !unserved) {
            return SubmitOutcome::Ended(self.bad_arguments(now, task, &error));
        }
        self.add(now, task, name, session, unserved);
        SubmitOutcome::Live
    }

    /// Ends a task whose arguments are wrong.
    fn bad_arguments(&mut self, now: Now, task: NewTask, error: &ArgumentError) -> Arc<TaskResult> {
        let task = NewTask { metadata: metadata::merge(&task.metadata, &error.metadata()), ..task };
        self.end_immediately(now, task, ErrorKind::BadArguments, error.to_string())
    }

    /// Adds a task that passed all checks.
    fn add(&mut self, now: Now, task: NewTask, name: Arc<str>, session: Option<SessionId>, unserved: bool) {
        let wait = match (task.countdown, task.eta) {
            (Some(countdown), _) if !countdown.is_zero() => Some(DueAt::Countdown(now.mono + countdown)),
            (None, Some(eta)) if eta > now.wall => Some(DueAt::Eta(eta)),
            _ => None,
        };
        let due_at = match wait {
            Some(DueAt::Countdown(at) | DueAt::Retry(at)) => at,
            Some(DueAt::Eta(eta)) => now.mono + eta.since(now.wall),
            None => now.mono,
        };
        let NewTask { id, args, kwargs, policy, callback, metadata, .. } = task;
        let record = TaskRecord {
            name,
            args,
            kwargs,
            priority: policy.priority.unwrap_or_default(),
            policy,
            created_at: now.wall,
            due_at,
            waiting_since: now.mono,
            phase: Phase::Scheduled(wait.unwrap_or(DueAt::Countdown(now.mono))),
            attempt: 0,
            losses: 0,
            quarantined: false,
            unserved,
            session,
            other_sessions: Vec::new(),
            watchers: Vec::new(),
            reports: ReportLog::default(),
            callback: callback.map(Arc::new),
            last_failure: None,
            metadata,
        };
        self.bytes += record.bytes();
        self.counts.accepted += 1;
        if unserved {
            self.add_unserved(record.name.clone(), id.clone());
        }
        if wait.is_some() {
            let event = NewEvent::of_task(EventKind::TaskScheduled, &id, &record.name, record.priority);
            self.event_log.push(now.wall, event);
        }
        self.tasks.insert(id.clone(), Box::new(record));
        match wait {
            Some(wait) => self.set_delay_timer(now, wait, id),
            None => self.enqueue(now, &id),
        }
    }

    /// Returns why a task is refused, if it is.
    pub(super) fn refusal(&self, task: &NewTask) -> Option<Refusal> {
        let Limits { tasks_max, bytes_max, .. } = self.limits;
        let size = task.size();
        let (code, message) = if let Err(invalid) = TaskName::check(&task.name) {
            (RefusalCode::BadRequest, invalid.to_string())
        } else if size > PAYLOAD_MAX {
            let message = format!("the arguments of {size} bytes are over the limit of {PAYLOAD_MAX} bytes");
            (RefusalCode::TooLarge, message)
        } else if !task.args.as_str().starts_with('[') || !task.kwargs.as_str().starts_with('{') {
            let message = "positional arguments must be a JSON array, and named arguments a JSON object";
            (RefusalCode::BadRequest, message.into())
        } else if !metadata::is_valid(&task.metadata) {
            (RefusalCode::MetadataInvalid, format!("metadata must be a JSON object of at most {METADATA_MAX} bytes"))
        } else if let Some(message) = task.callback.as_ref().and_then(CallbackInfo::problem) {
            (RefusalCode::CallbackInvalid, message)
        } else if self.tasks.len() >= tasks_max {
            let message = format!("the queue is full: {tasks_max} tasks are unfinished; try again later");
            (RefusalCode::QueueFull, message)
        } else if self.bytes + size > bytes_max {
            let message = format!("the queue is full: its arguments hold {bytes_max} bytes; try again later");
            (RefusalCode::QueueFull, message)
        } else {
            return None;
        };
        Some(Refusal::new(code, message))
    }

    /// Ends a task whose name no worker serves.
    fn not_found(&mut self, now: Now, task: NewTask) -> Arc<TaskResult> {
        let error = self.not_found_message(&task.name);
        self.end_immediately(now, task, ErrorKind::NotFound, error)
    }

    /// Returns the error for a name that no worker serves, with the nearest names.
    pub(super) fn not_found_message(&self, name: &str) -> String {
        let mut message = format!("Task {name} not found");
        if let Some(missing) = self.missing_grants(name) {
            let _ = write!(message, ": {missing}");
        } else if let Some(suggestion) = did_you_mean(name, self.registry.open_names()) {
            let _ = write!(message, ": {suggestion}");
        } else if self.registry.iter().next().is_none() {
            message.push_str(": no worker is connected");
        }
        message
    }

    /// Returns which grants the workers lack that have a task but do not serve it. None if no worker has it.
    fn missing_grants(&self, name: &str) -> Option<String> {
        let lacking = self.registry.iter().filter_map(|(_, worker)| {
            let mut ungranted = worker.modules().iter().flat_map(|module| &module.ungranted);
            let missing = &ungranted.find(|task| task.name == name)?.missing;
            Some((&*worker.id, missing.join(", ")))
        });
        let mut lacking: Vec<(&str, String)> = lacking.collect();
        lacking.sort_unstable();
        let (worker, missing) = lacking.first()?;
        let others = match lacking.len() - 1 {
            0 => String::new(),
            count => format!(" (nor do {count} other workers that have it)"),
        };
        Some(format!("worker {worker} has it, but does not grant what it needs: {missing}{others}"))
    }
}
