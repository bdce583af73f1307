//! How a task fails, from which the host decides whether to retry it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why an attempt did not succeed.
///
/// `?` turns every standard error into [`TaskError::Failed`], with the causes below it:
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskError {
    /// The arguments do not fit the task. Never retried.
    BadArguments(String),
    /// The task failed. Retried while its policy has retries left.
    Failed(String),
    /// The task failed and knows when another attempt makes sense. Retried after the delay while
    /// its policy has retries left.
    RetryAfter {
        /// Why this attempt did not succeed.
        message: String,
        /// The least time to wait before the next attempt.
        delay: Duration,
    },
}

impl TaskError {
    /// The arguments do not fit the task, so a retry would not help.
    pub fn bad_arguments(message: impl Into<String>) -> Self {
        Self::BadArguments(message.into())
    }

    /// The task failed; its policy decides whether it is retried.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// The task failed, and its next attempt should not start before `delay` has passed.
    pub fn retry_after(message: impl Into<String>, delay: Duration) -> Self {
        Self::RetryAfter { message: message.into(), delay }
    }

    /// What went wrong, for people.
    pub fn message(&self) -> &str {
        match self {
            Self::BadArguments(message) | Self::Failed(message) | Self::RetryAfter { message, .. } => message,
        }
    }

    /// Finds the `TaskError` in a boxed error, or makes one from it.
    pub(crate) fn from_any(error: Box<dyn Error>) -> Self {
        match error.downcast::<Boxed>() {
            Ok(own) => own.0,
            Err(other) => Self::Failed(with_causes(&*other)),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

// `TaskError` itself is no `std::error::Error`, or this would overlap with `From<T> for T`.
impl<E: Error + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::from_any(Box::new(error))
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

/// A `TaskError` on its way through code that speaks of `dyn Error`.
struct Boxed(TaskError);

// Not derived: `Duration`'s would add 4 KB to every module.
impl fmt::Debug for Boxed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.message().fmt(formatter)
    }
}

impl fmt::Display for Boxed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Error for Boxed {}

/// `cannot read the order: not JSON: unexpected end`.
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
