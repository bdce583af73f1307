//! Why a command failed: the message, a hint on what to do, and the exit code.
//!
//! All errors of the program are converted to messages here, by one `From` per error type in [`client`] and
//! [`server`]. There is no hint if it would only repeat the message.

use std::{fmt, io, time::Duration};

use super::{INTERRUPTED, NOT_FOUND};
use crate::{client::ClientError, nearest::did_you_mean, task::TaskId};

mod client;
mod host;
mod server;

/// The hint if there is no control plane.
const START_ONE: &str = "start one with: fastworker control-plane --task-modules X.wasm";

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The task that the failure is about, if there is one.
    pub(super) task_id: Option<TaskId>,
}

impl Failure {
    pub(super) fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: None, task_id: None }
    }

    /// The command was interrupted by a signal.
    pub(super) fn interrupted() -> Self {
        Self::new(INTERRUPTED, "interrupted")
    }

    /// The task has not ended in time.
    pub(super) fn not_ended(id: &TaskId, waited: Duration) -> Self {
        ClientError::TimedOut { task_id: id.clone(), waited }.into()
    }

    /// If the command was interrupted, adds that the task continues to run.
    pub(super) fn with_running_task(self, id: &TaskId) -> Self {
        if self.code != INTERRUPTED {
            return self;
        }
        Self::new(INTERRUPTED, format!("interrupted; task {id} continues to run"))
            .hint(format!("wait for it with: fastworker result {id} --wait; or cancel it with: fastworker cancel {id}"))
            .for_task(id)
    }

    /// Adds a line with details to the message.
    pub(super) fn with_detail(mut self, detail: Option<String>) -> Self {
        if let Some(detail) = detail {
            self.message = format!("{}\n{detail}", self.message);
        }
        self
    }

    /// Sets the hint.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the task that the failure is about.
    pub(super) fn for_task(mut self, id: &TaskId) -> Self {
        self.task_id = Some(id.clone());
        self
    }

    /// An unknown name, with similar names as the hint, or `otherwise` if there are none.
    pub(super) fn unknown<'a>(
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
        otherwise: impl Into<String>,
    ) -> Self {
        let hint = did_you_mean(name, known).unwrap_or_else(|| otherwise.into());
        Self::new(NOT_FOUND, format!("there is no {what} '{name}'")).hint(hint)
    }
}

/// The message of an I/O error, without the number of the operating system.
pub(super) fn os_message(error: &io::Error) -> String {
    let message = error.to_string();
    message.split_once(" (os error").map(|(what, _)| what.to_owned()).unwrap_or(message)
}
