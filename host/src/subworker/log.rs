//! The log of a worker's attempts: how each ended, and what its guest said, at level debug.
//!
//! Apart because it is only for whoever looks closely. What a guest says is logged under the target
//! `task` and never above debug: a hostile one must not fill the log of its worker.

use std::time::Duration;

use tracing::{Level, debug, enabled};

use crate::{
    clock,
    protocol::Lease,
    runtime::Module,
    task::{ModuleVersion, Outcome, Report, TaskId},
};

/// Which attempt speaks.
#[derive(Clone, Debug)]
pub(super) struct Speaker {
    task: TaskId,
    name: std::sync::Arc<str>,
    attempt: u32,
    worker: String,
    module: String,
    version: ModuleVersion,
}

impl Speaker {
    /// The speaker of an attempt, if anybody wants to know.
    pub(super) fn of(lease: &Lease, worker: &str, module: &Module) -> Option<Self> {
        let is_wanted = enabled!(target: "task", Level::DEBUG) || enabled!(Level::DEBUG);
        is_wanted.then(|| Self {
            task: lease.task_id.clone(),
            name: lease.name.clone(),
            attempt: lease.attempt,
            worker: worker.to_owned(),
            module: module.info().name.clone(),
            version: module.version(),
        })
    }

    /// Logs what it says.
    pub(super) fn says(&self, report: &Report) {
        let Self { task, name, attempt, worker, module, version } = self;
        let (severity, progress, message) = match report {
            Report::Log { level, message } => (Some(level.as_str()), None, message),
            Report::Progress(progress) => {
                (None, Some(format!("{}/{}", progress.done, progress.total)), &progress.message)
            }
        };
        debug!(target: "task", %task, %name, attempt, worker, module, %version, severity, progress, "{message}");
    }

    /// Logs how it ended.
    pub(super) fn ended(&self, outcome: &Outcome, ran: Duration) {
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
