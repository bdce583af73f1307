//! The log of what happened: the feed's events as log lines, with what they are about as fields.
//!
//! Apart from the state, which is pure: it only notes events. The core takes the new ones that
//! somebody wants to see while it holds the lock, and writes them once it has let go of it and all
//! answers are on their way. What nobody wants to see costs a look at its level.

use tracing::{Level, enabled};

use super::{reply_to::ReplyTo, state::State};
use crate::{
    clock::Now,
    protocol::{Event, EventKind},
    task::ModuleVersion,
};

/// One line of the log.
#[derive(Debug)]
pub(super) struct Line {
    event: Event,
    /// The module that ran the task's last attempt.
    module: Option<String>,
    version: Option<ModuleVersion>,
}

/// What happened after event number `after`, as far as it is logged.
pub(super) fn lines(state: &State<ReplyTo>, now: Now, after: u64) -> Vec<Line> {
    let wanted = state.event_log().since(after).filter(|event| is_wanted(level(event.kind)));
    wanted.map(|event| Line::of(state, now, event)).collect()
}

impl Line {
    fn of(state: &State<ReplyTo>, now: Now, event: &Event) -> Self {
        let ended = event.task_id.as_ref().and_then(|id| state.results().peek(now.mono, id));
        let version = ended.and_then(|kept| kept.result.module_version);
        let module = version.zip(event.worker_id.as_deref()).and_then(|(version, worker)| {
            let (_, worker) = state.registry().iter().find(|(_, other)| *other.id == *worker)?;
            worker.module(version).map(str::to_owned)
        });
        Self { event: event.clone(), module, version }
    }

    /// Writes it.
    pub(super) fn write(&self) {
        let event = &self.event;
        let (failed, told) = match event.kind {
            EventKind::TaskFailure | EventKind::TaskRetrying | EventKind::CallbackFailed => (&event.detail, &None),
            // It says "cancelled" once more.
            EventKind::TaskCancelled => (&None, &None),
            _ => (&None, &event.detail),
        };
        macro_rules! write {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    task = event.task_id.as_ref().map(tracing::field::display),
                    name = event.name.as_deref(),
                    priority = event.priority.map(tracing::field::display),
                    attempt = Some(event.attempt).filter(|attempt| *attempt > 0),
                    worker = event.worker_id.as_deref(),
                    module = self.module.as_deref(),
                    version = self.version.map(tracing::field::display),
                    error = failed.as_deref(),
                    detail = told.as_deref(),
                    "{}",
                    words(event.kind)
                )
            };
        }
        match level(event.kind) {
            Level::WARN => write!(Level::WARN),
            Level::INFO => write!(Level::INFO),
            Level::DEBUG => write!(Level::DEBUG),
            _ => write!(Level::TRACE),
        }
    }
}

/// How much it matters to whoever runs this.
fn level(kind: EventKind) -> Level {
    match kind {
        EventKind::TaskFailure | EventKind::WorkerLost | EventKind::ModuleRefused | EventKind::CallbackFailed => {
            Level::WARN
        }
        EventKind::TaskRetrying
        | EventKind::TaskCancelled
        | EventKind::WorkerJoined
        | EventKind::WorkerDraining
        | EventKind::WorkerLeft
        | EventKind::ModulesChanged
        | EventKind::ScheduleSkipped => Level::INFO,
        EventKind::TaskSuccess | EventKind::CallbackDelivered | EventKind::ScheduleFired => Level::DEBUG,
        EventKind::TaskQueued | EventKind::TaskScheduled | EventKind::TaskStarted => Level::TRACE,
    }
}

fn is_wanted(level: Level) -> bool {
    match level {
        Level::WARN => enabled!(Level::WARN),
        Level::INFO => enabled!(Level::INFO),
        Level::DEBUG => enabled!(Level::DEBUG),
        _ => enabled!(Level::TRACE),
    }
}

fn words(kind: EventKind) -> &'static str {
    match kind {
        EventKind::TaskQueued => "a task waits",
        EventKind::TaskScheduled => "a task waits for its moment",
        EventKind::TaskStarted => "an attempt began",
        EventKind::TaskRetrying => "an attempt failed; another will follow",
        EventKind::TaskSuccess => "a task succeeded",
        EventKind::TaskFailure => "a task failed",
        EventKind::TaskCancelled => "a task was cancelled",
        EventKind::WorkerJoined => "a worker joined",
        EventKind::WorkerDraining => "a worker takes no more work",
        EventKind::WorkerLeft => "a worker left",
        EventKind::WorkerLost => "a worker was lost",
        EventKind::ModulesChanged => "a worker's modules changed",
        EventKind::ModuleRefused => "a module was refused",
        EventKind::CallbackDelivered => "a callback was delivered",
        EventKind::CallbackFailed => "a callback was given up",
        EventKind::ScheduleFired => "a schedule submitted a task",
        EventKind::ScheduleSkipped => "a schedule submitted nothing",
    }
}
