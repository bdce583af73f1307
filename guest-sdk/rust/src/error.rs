//! The errors of tasks, which determine whether the host retries them.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::log::{self, Level};

/// Why an attempt failed.
///
/// `?` turns every standard error into [`TaskError::failed`], with its causes in the message:
///
/// ```
/// use fastworker_guest::TaskError;
///
/// fn port(text: &str) -> Result<u16, TaskError> {
///     Ok(text.parse()?)
/// }
///
/// let error = port("http").unwrap_err();
/// assert_eq!(error, TaskError::failed("invalid digit found in string"));
/// ```
///
/// The kind and the details are machine-readable, and part of the task's result:
///
/// ```
/// use fastworker_guest::{Retry, TaskError};
/// use serde_json::json;
///
/// let error = TaskError::give_up("the account is closed")
///     .with_kind("AccountClosed")
///     .with_details(&json!({"account": 17}));
/// assert_eq!(error.kind(), "AccountClosed");
/// assert_eq!(error.details(), r#"{"account":17}"#);
/// assert_eq!(error.retry(), Retry::Never);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskError {
    pub(crate) retry: Retry,
    pub(crate) message: String,
    pub(crate) kind: String,
    pub(crate) details: String,
}

/// Whether another attempt follows a failed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// While the task's policy has retries left.
    Policy,
    /// While the task's policy has retries left, but not before this delay.
    After(Duration),
    /// Never: the task gave up.
    Never,
    /// Never: the arguments do not match the parameters.
    BadArguments,
}

impl TaskError {
    fn new(retry: Retry, message: impl Into<String>) -> Self {
        Self { retry, message: message.into(), kind: String::new(), details: String::new() }
    }

    /// The arguments do not match the parameters. Never retried.
    pub fn bad_arguments(message: impl Into<String>) -> Self {
        Self::new(Retry::BadArguments, message)
    }

    /// The task failed. Its policy decides whether it is retried.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Retry::Policy, message)
    }

    /// The task failed, and the next attempt must wait for `delay`. Its policy decides whether there
    /// is one.
    pub fn retry_after(message: impl Into<String>, delay: Duration) -> Self {
        Self::new(Retry::After(delay), message)
    }

    /// The task failed, and another attempt would fail too. Never retried, regardless of the policy.
    pub fn give_up(message: impl Into<String>) -> Self {
        Self::new(Retry::Never, message)
    }

    /// Sets a machine-readable name of the error, such as `"ValueError"` or `"timeout"`: at most 128
    /// bytes without control characters. The host drops other kinds with a warning.
    #[must_use]
    pub fn with_kind(self, kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..self }
    }

    /// Sets machine-readable details: a JSON document of at most 2 KiB. Details that cannot be serialized
    /// to JSON are omitted with a warning in the task's log; the host drops larger ones.
    #[must_use]
    pub fn with_details(self, details: &(impl Serialize + ?Sized)) -> Self {
        let details = serde_json::to_string(details).unwrap_or_else(|error| {
            log::write(Level::Warn, format_args!("the details of an error cannot be serialized to JSON: {error}"));
            String::new()
        });
        Self { details, ..self }
    }

    /// Whether another attempt may follow.
    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// The human-readable message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The machine-readable name of the error; empty if it was not set.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The details as JSON; empty if they were not set.
    pub fn details(&self) -> &str {
        &self.details
    }

    /// Finds the `TaskError` in a boxed error, or creates one from it.
    pub(crate) fn from_boxed(error: Box<dyn Error>) -> Self {
        match error.downcast::<Boxed>() {
            Ok(boxed) => boxed.0,
            Err(other) => Self::failed(with_causes(&*other)),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

// `TaskError` itself does not implement `std::error::Error`: this would overlap with `From<T> for T`.
impl<E: Error + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::from_boxed(Box::new(error))
    }
}

impl From<TaskError> for Box<dyn Error> {
    fn from(error: TaskError) -> Self {
        Box::new(Boxed(error))
    }
}

impl From<TaskError> for Box<dyn Error + Send + Sync> {
    fn from(error: TaskError) -> Self {
        Box::new(Boxed(error))
    }
}

/// A `TaskError` as a `dyn Error`.
struct Boxed(TaskError);

// Not derived: the `Debug` of `Duration` would add 4 KB to every module.
impl fmt::Debug for Boxed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.message.fmt(formatter)
    }
}

impl fmt::Display for Boxed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Error for Boxed {}

/// The message of an error and its causes, such as `cannot read the order: not JSON: unexpected end`.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}
