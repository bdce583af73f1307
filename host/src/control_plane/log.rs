//! Writes the events of the state to the log, with their subject as fields.
//!
//! Separate from the state, which is pure. The core copies the new events of the enabled levels while it holds the
//! lock, and writes them after it has unlocked and sent all replies. An event of a disabled level costs one check.

use tracing::{Level, enabled};

use super::{reply_to::ReplyTo, state::State};
use crate::{
    clock::Now,
    protocol::{Event, EventKind},
    task::ModuleVersion,
};

/// An event that is written to the log.
#[derive(Debug)]
pub(super) struct LogRecord {
    event: Event,
    /// The module that ran the task's last attempt.
    module: Option<String>,
    version: Option<ModuleVersion>,
}

/// Returns the events after number `after` whose level is enabled.
pub(super) fn records(state: &State<ReplyTo>, now: Now, after: u64) -> Vec<LogRecord> {
    let enabled = state.event_log().since(after).filter(|event| is_enabled(level(event.kind)));
    enabled.map(|event| LogRecord::of(state, now, event)).collect()
}

impl LogRecord {
    fn of(state: &State<ReplyTo>, now: Now, event: &Event) -> Self {
        let ended = event.task_id.as_ref().and_then(|id| state.results().peek(now.mono, id));
        let version = ended.and_then(|kept| kept.result.module_version);
        let module = version.zip(event.worker_id.as_deref()).and_then(|(version, worker)| {
            let (_, worker) = state.registry().iter().find(|(_, other)| *other.id == *worker)?;
            worker.module(version).map(str::to_owned)
        });
        Self { event: event.clone(), module, version }
    }

    /// Writes the record.
    pub(super) fn write(&self) {
        let event = &self.event;
        let (failed, detail) = match event.kind {
            EventKind::TaskFailure | EventKind::TaskRetrying | EventKind::CallbackFailed => (&event.detail, &None),
            // The detail only repeats that it was cancelled.
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
                    detail = detail.as_deref(),
                    "{}",
                    message(event.kind)
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

/// The log level of an event.
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
        EventKind::TaskQueued | EventKind::TaskScheduled | EventKind::TaskStarted | EventKind::Other(_) => Level::TRACE,
    }
}

fn is_enabled(level: Level) -> bool {
    match level {
        Level::WARN => enabled!(Level::WARN),
        Level::INFO => enabled!(Level::INFO),
        Level::DEBUG => enabled!(Level::DEBUG),
        _ => enabled!(Level::TRACE),
    }
}

fn message(kind: EventKind) -> &'static str {
    match kind {
        EventKind::TaskQueued => "a task is queued",
        EventKind::TaskScheduled => "a task is scheduled",
        EventKind::TaskStarted => "an attempt started",
        EventKind::TaskRetrying => "an attempt failed; another will follow",
        EventKind::TaskSuccess => "a task succeeded",
        EventKind::TaskFailure => "a task failed",
        EventKind::TaskCancelled => "a task was cancelled",
        EventKind::WorkerJoined => "a worker joined",
        EventKind::WorkerDraining => "a worker is draining",
        EventKind::WorkerLeft => "a worker left",
        EventKind::WorkerLost => "a worker was lost",
        EventKind::ModulesChanged => "a worker's modules changed",
        EventKind::ModuleRefused => "a module was refused",
        EventKind::CallbackDelivered => "a callback was delivered",
        EventKind::CallbackFailed => "a callback was given up",
        EventKind::ScheduleFired => "a schedule submitted a task",
        EventKind::ScheduleSkipped => "a schedule submitted nothing",
        EventKind::Other(_) => "an event of another kind",
    }
}
