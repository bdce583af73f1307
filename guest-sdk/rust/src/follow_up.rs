//! Follow-up tasks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::TaskError;
use crate::host;

/// A task to submit when this attempt succeeds. Created by
/// [`context::follow_up`](crate::context::follow_up).
///
/// It is submitted with the outcome of the attempt, and discarded if the attempt fails. Its id is derived
/// from the id of this task and its index among the accepted follow-ups, so an attempt that runs twice submits the same
/// follow-ups once, if it submits them in the same order.
///
/// Options that are not set have the defaults of the named task.
///
/// ```
/// # fn main() -> Result<(), fastworker_guest::TaskError> {
/// use std::time::Duration;
///
/// use fastworker_guest::Priority;
/// use fastworker_guest::context::follow_up;
///
/// let id = follow_up("send_mail", ("ada@example.org", "Hello"))
///     .priority(Priority::Low)
///     .countdown(Duration::from_secs(60))
///     .submit()?;
/// # assert!(!id.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a follow-up is not submitted before `submit` is called"]
pub struct FollowUp {
    name: String,
    args: serde_json::Result<String>,
    kwargs: serde_json::Result<String>,
    options: Options,
}

/// The priority among the waiting tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    Critical,
    /// Before normal and low.
    High,
    /// The default.
    Normal,
    /// After all others.
    Low,
}

/// The JSON `options` of the WIT function `submit`. Durations are in seconds.
#[derive(Debug, Default, Serialize)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    countdown: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_delay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_backoff: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_backoff_max: Option<f64>,
}

impl FollowUp {
    pub(crate) fn new(name: &str, args: &impl Serialize) -> Self {
        Self {
            name: name.to_owned(),
            args: serde_json::to_string(args),
            kwargs: Ok("{}".to_owned()),
            options: Options::default(),
        }
    }

    /// Its arguments by name: a map with string keys, or a struct.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        self.kwargs = serde_json::to_string(&kwargs);
        self
    }

    /// The priority among the waiting tasks.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = Some(priority);
        self
    }

    /// The delay before its first attempt.
    pub fn countdown(mut self, countdown: Duration) -> Self {
        self.options.countdown = Some(countdown.as_secs_f64());
        self
    }

    /// Timeout of each attempt.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout.as_secs_f64());
        self
    }

    /// Maximum number of attempts after the first one.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.options.max_retries = Some(max_retries);
        self
    }

    /// The delay before its second attempt.
    pub fn retry_delay(mut self, retry_delay: Duration) -> Self {
        self.options.retry_delay = Some(retry_delay.as_secs_f64());
        self
    }

    /// The factor of the delay before each further attempt.
    pub fn retry_backoff(mut self, factor: f64) -> Self {
        self.options.retry_backoff = Some(factor);
        self
    }

    /// Maximum delay between two attempts.
    pub fn retry_backoff_max(mut self, retry_backoff_max: Duration) -> Self {
        self.options.retry_backoff_max = Some(retry_backoff_max.as_secs_f64());
        self
    }

    /// Passes the follow-up to the host and returns its id.
    ///
    /// # Errors
    /// [`TaskError::failed`] if it is malformed or a limit is exceeded.
    pub fn submit(self) -> Result<String, TaskError> {
        let Self { name, args, kwargs, options } = self;
        let failed = |error: &dyn std::fmt::Display| {
            TaskError::failed(format!("the follow-up '{name}' cannot be submitted: {error}"))
        };
        let mut args = args.map_err(|error| failed(&error))?;
        let kwargs = kwargs.map_err(|error| failed(&error))?;
        // `()` is serialized as null.
        if args == "null" {
            args.replace_range(.., "[]");
        }
        if !args.starts_with('[') {
            return Err(failed(&"its arguments are not a tuple or list; write `(x,)` for a single one"));
        }
        if !kwargs.starts_with('{') {
            return Err(failed(&"its arguments by name are not a map or struct"));
        }
        let options = serde_json::to_string(&options).map_err(|error| failed(&error))?;
        host::submit(&name, args, kwargs, options).map_err(|error| failed(&error))
    }
}
