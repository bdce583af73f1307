//! Logs a worker's attempts at level debug: the reports of each, and its outcome.
//!
//! Reports of guests are logged under the target `task` and never above debug: a hostile guest must not fill
//! the log of its worker.

use std::time::Duration;

use tracing::{Level, debug, enabled};

use crate::{
    clock,
    protocol::Lease,
    runtime::Module,
    task::{ModuleVersion, Outcome, Report, TaskId},
};

/// Logs one attempt.
#[derive(Clone, Debug)]
pub(super) struct AttemptLogger {
    task: TaskId,
    name: std::sync::Arc<str>,
    attempt: u32,
    worker: String,
    module: String,
    version: ModuleVersion,
}

impl AttemptLogger {
    /// Returns a logger if the log level is enabled.
    pub(super) fn new(lease: &Lease, worker: &str, module: &Module) -> Option<Self> {
        let is_enabled = enabled!(target: "task", Level::DEBUG) || enabled!(Level::DEBUG);
        is_enabled.then(|| Self {
            task: lease.task_id.clone(),
            name: lease.name.clone(),
            attempt: lease.attempt,
            worker: worker.to_owned(),
            module: module.info().name.clone(),
            version: module.version(),
        })
    }

    /// Logs a report of the attempt.
    pub(super) fn log_report(&self, report: &Report) {
        let Self { task, name, attempt, worker, module, version } = self;
        let (severity, progress, message) = match report {
            Report::Log { level, message } => (Some(level.as_str()), None, message),
            Report::Progress(progress) => {
                (None, Some(format!("{}/{}", progress.done, progress.total)), &progress.message)
            }
        };
        debug!(target: "task", %task, %name, attempt, worker, module, %version, severity, progress, "{message}");
    }

    /// Logs how the attempt ended.
    pub(super) fn log_end(&self, outcome: &Outcome, ran: Duration) {
        let Self { task, name, attempt, worker, module, version } = self;
        let (outcome, error) = match outcome {
            Outcome::Success { .. } => ("success", None),
            Outcome::Failure(failure) => (failure.kind.as_str(), Some(failure.message.as_str())),
            Outcome::Stopped => ("stopped", None),
        };
        let ran_s = clock::seconds(ran);
        debug!(%task, %name, attempt, worker, module, %version, outcome, ran_s, error, "an attempt ended");
    }
}
