//! A host for tests: runs tasks as plain Rust and records their calls to the host.
//!
//! ```
//! use fastworker_guest::testing::{self, Context};
//! use fastworker_guest::{TaskError, context, info, task};
//!
//! /// Fails the first time.
//! #[task(max_retries = 1)]
//! fn flaky(name: &str) -> Result<String, TaskError> {
//!     info!("attempt {}", context::attempt());
//!     if context::attempt() == 1 {
//!         return Err(TaskError::failed("not yet"));
//!     }
//!     Ok(format!("hello {name}"))
//! }
//!
//! # fn main() {
//! // A task is a function.
//! assert_eq!(flaky("Ada"), Err(TaskError::failed("not yet")));
//!
//! // In a context that the test sets:
//! let (result, seen) = Context::new().attempt(2).run(|| flaky("Ada"));
//! assert_eq!(result.as_deref(), Ok("hello Ada"));
//! assert_eq!(seen.logs[0].1, "attempt 2");
//!
//! // Through JSON, as the host calls it:
//! let (result, _) = Context::new().attempt(2).run(|| testing::call("flaky", r#"["Ada"]"#, "{}"));
//! assert_eq!(result.as_deref(), Ok(r#""hello Ada""#));
//! # }
//! ```

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use crate::context::{self, Attempt};
use crate::error::TaskError;
use crate::log::Level;
use crate::task::{self, Arguments};

/// Calls the task `name` of this crate through JSON, as the host does, and returns the JSON of
/// its result. `args` is an array, `kwargs` an object.
///
/// # Errors
/// Those of the task, or [`TaskError::bad_arguments`] if the arguments do not match or no task
/// has that name.
pub fn call(name: &str, args: &str, kwargs: &str) -> Result<String, TaskError> {
    task::run(name, Arguments { args, kwargs })
}

/// The tasks as the host receives them, in the order of their names.
///
/// # Panics
/// If two tasks have the same name.
pub fn tasks() -> Vec<Descriptor> {
    let describe = |task: &task::Task| Descriptor {
        name: task.name,
        documentation: task.documentation,
        schema: task::schema(task),
        policy: task.policy,
    };
    task::all().into_iter().map(describe).collect()
}

/// A task as the host receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The name that clients submit.
    pub name: &'static str,
    /// The doc comment.
    pub documentation: &'static str,
    /// The JSON of its parameters and its result.
    pub schema: String,
    /// The JSON of its defaults.
    pub policy: &'static str,
}

/// The attempt in which a test runs code.
#[derive(Clone, Debug)]
#[must_use = "a context does nothing before `run` is called"]
pub struct Context {
    task_id: String,
    attempt: u32,
    remaining: Duration,
    metadata: String,
    cancelled_after: Option<u32>,
}

/// The calls that the host received from tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Log lines.
    pub logs: Vec<(Level, String)>,
    /// Progress reports: done, total, message.
    pub progress: Vec<(u64, u64, String)>,
    /// Submitted follow-up tasks.
    pub follow_ups: Vec<FollowUp>,
}

/// A follow-up task as the host receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// The id that `submit` returned.
    pub id: String,
    /// The task name.
    pub name: String,
    /// The JSON array of its arguments by position.
    pub args: String,
    /// The JSON object of its arguments by name.
    pub kwargs: String,
    /// The JSON object of its options, such as `priority`.
    pub options: String,
}

impl Context {
    /// A first attempt with a minute left.
    pub fn new() -> Self {
        Self {
            task_id: "test".to_owned(),
            attempt: 1,
            remaining: Duration::from_mins(1),
            metadata: r#"{"priority":"normal"}"#.to_owned(),
            cancelled_after: None,
        }
    }

    /// The id of the task.
    pub fn task_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.task_id);
        self
    }

    /// The number of the attempt, counted from 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The time left until the deadline.
    pub fn remaining(mut self, remaining: Duration) -> Self {
        self.remaining = remaining;
        self
    }

    /// The task's metadata: a JSON object, such as `{"parent": "…", "tags": ["nightly"]}`.
    pub fn metadata(mut self, json: &str) -> Self {
        json.clone_into(&mut self.metadata);
        self
    }

    /// The attempt is cancelled from the start.
    pub fn cancelled(self) -> Self {
        self.cancelled_after(0)
    }

    /// The attempt is cancelled after it has called `is_cancelled` `times` times.
    pub fn cancelled_after(mut self, times: u32) -> Self {
        self.cancelled_after = Some(times);
        self
    }

    /// Runs `body` in this context, and returns its result and the calls that the host received.
    pub fn run<T>(self, body: impl FnOnce() -> T) -> (T, Seen) {
        let restore = Restore {
            attempt: context::set_current(Some(Attempt {
                task_id: self.task_id,
                name: "test".to_owned(),
                number: self.attempt,
                deadline: SystemTime::now() + self.remaining,
                metadata: self.metadata,
            })),
            host: HOST.replace(Host { seen: Seen::default(), checks_left: self.cancelled_after }),
        };
        let result = body();
        let seen = HOST.with_borrow_mut(|host| std::mem::take(&mut host.seen));
        drop(restore);
        (result, seen)
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::default());
}

/// The host for the tests on this thread.
#[derive(Default)]
struct Host {
    seen: Seen,
    /// Number of checks that still return false before the attempt is cancelled.
    checks_left: Option<u32>,
}

/// Restores the previous context, even if the test panics.
struct Restore {
    attempt: Option<Attempt>,
    host: Host,
}

impl Drop for Restore {
    fn drop(&mut self) {
        context::set_current(self.attempt.take());
        HOST.replace(std::mem::take(&mut self.host));
    }
}

/// The contract's host functions for tests.
pub(crate) mod host {
    use super::{FollowUp, HOST};
    use crate::context;
    use crate::log::Level;

    pub(crate) fn log(level: Level, message: &str) {
        HOST.with_borrow_mut(|host| host.seen.logs.push((level, message.to_owned())));
    }

    pub(crate) fn progress(done: u64, total: u64, message: &str) {
        HOST.with_borrow_mut(|host| host.seen.progress.push((done, total, message.to_owned())));
    }

    pub(crate) fn is_cancelled() -> bool {
        HOST.with_borrow_mut(|host| match &mut host.checks_left {
            None => false,
            Some(0) => true,
            Some(remaining) => {
                *remaining -= 1;
                false
            }
        })
    }

    // By value like the contract's import, to which the strings are moved.
    pub(crate) fn submit(name: &str, args: String, kwargs: String, options: String) -> Result<String, String> {
        HOST.with_borrow_mut(|host| {
            let id = format!("{}-{}", context::task_id(), host.seen.follow_ups.len() + 1);
            host.seen.follow_ups.push(FollowUp { id: id.clone(), name: name.to_owned(), args, kwargs, options });
            Ok(id)
        })
    }
}
