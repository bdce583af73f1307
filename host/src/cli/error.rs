//! The error of a command: the message, a hint on what to do, and the exit code.
//!
//! Errors are converted to messages by one `From` per type, in [`client`], [`server`] and `bench`; [`host`] checks host
//! names for hints. There is no hint if it would only repeat the message.

use std::{fmt, io, time::Duration};

use super::{EXIT_INTERRUPTED, EXIT_NOT_FOUND};
use crate::{client::ClientError, nearest::did_you_mean, task::TaskId};

mod client;
mod host;
mod server;

/// The hint if there is no control plane.
const START_CONTROL_PLANE_HINT: &str = "start one with: fastworker control-plane --task-modules X.wasm";

/// The error of a command.
#[derive(Debug)]
pub(super) struct CliError {
    pub(super) code: u8,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The task that the error is about, if there is one.
    pub(super) task_id: Option<TaskId>,
}

impl CliError {
    pub(super) fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: None, task_id: None }
    }

    /// The command was interrupted by a signal.
    pub(super) fn interrupted() -> Self {
        Self::new(EXIT_INTERRUPTED, "interrupted")
    }

    /// The task has not ended within the timeout.
    pub(super) fn timed_out(id: &TaskId, waited: Duration) -> Self {
        ClientError::TimedOut { task_id: id.clone(), waited }.into()
    }

    /// If the command was interrupted, returns an error that states that the task continues to run.
    pub(super) fn for_interrupted_task(self, id: &TaskId) -> Self {
        if self.code != EXIT_INTERRUPTED {
            return self;
        }
        Self::new(EXIT_INTERRUPTED, format!("interrupted; task {id} continues to run"))
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

    /// Sets the task that the error is about.
    pub(super) fn for_task(mut self, id: &TaskId) -> Self {
        self.task_id = Some(id.clone());
        self
    }

    /// The error for a name that does not exist. The hint gives similar names, or is `otherwise` if there are none.
    pub(super) fn not_found<'a>(
        kind: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
        otherwise: impl Into<String>,
    ) -> Self {
        let hint = did_you_mean(name, known).unwrap_or_else(|| otherwise.into());
        Self::new(EXIT_NOT_FOUND, format!("there is no {kind} '{name}'")).hint(hint)
    }
}

/// The message of an I/O error, without the number of the operating system.
pub(super) fn os_message(error: &io::Error) -> String {
    let message = error.to_string();
    message.split_once(" (os error").map(|(reason, _)| reason.to_owned()).unwrap_or(message)
}
