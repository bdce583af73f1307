//! The exports of the module: converts the contract's calls to those of `task`.
//!
//! They are part of this library, so that an author's crate does not need exports.

use std::panic::{PanicHookInfo, set_hook};
use std::time::{Duration, SystemTime};

use self::bindings::exports::fastworker::task::tasks::{
    Descriptor, Failure, Guest, Invocation, Retry as WitRetry, TaskError as WitTaskError,
};
use crate::context::{self, Attempt};
use crate::error::{Retry, TaskError};
use crate::host;
use crate::log::Level;
use crate::task::{self, Arguments};

/// The bindings that wit-bindgen generates from the contract.
#[allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated: the canonical ABI is raw pointers"
)]
pub(crate) mod bindings {
    wit_bindgen::generate!({
        world: "task-module",
        path: "wit",
    });

    use super::Module;
    export!(Module with_types_in self);
}

pub(crate) struct Module;

impl Guest for Module {
    fn register() -> Vec<Descriptor> {
        set_hook(Box::new(log_panic));
        task::all().into_iter().map(describe).collect()
    }

    fn run(call: Invocation) -> Result<String, Failure> {
        set_hook(Box::new(log_panic));
        let Invocation { task_id, name, attempt, deadline_ms, args, kwargs, metadata } = call;
        context::set_current(Some(Attempt {
            task_id,
            name: name.clone(),
            number: attempt,
            deadline: SystemTime::UNIX_EPOCH + Duration::from_millis(deadline_ms),
            metadata,
        }));
        let arguments = Arguments { args: &args, kwargs: &kwargs };
        task::run(&name, arguments).map_err(Failure::from)
    }
}

fn describe(task: &task::Task) -> Descriptor {
    Descriptor {
        name: task.name.to_owned(),
        documentation: task.documentation.to_owned(),
        schema: task::schema(task),
        policy: task.policy.to_owned(),
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        let TaskError { retry, message, kind, details } = error;
        let error = WitTaskError { message, kind, details };
        match retry {
            Retry::BadArguments => Self::BadArguments(error),
            Retry::Policy => Self::Failed(error),
            Retry::After(delay) => {
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                Self::TryAgainAfter(WitRetry { error, delay_ms })
            }
            Retry::Never => Self::GiveUp(error),
        }
    }
}

/// Logs `panicked at src/lib.rs:7:5: …` in the log of the task, instead of std's message on stderr.
/// Afterwards the attempt traps.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a value that is not a string");
    let line = match panic.location() {
        Some(location) => format!("panicked at {location}: {message}"),
        None => format!("panicked: {message}"),
    };
    host::log(Level::Error, &line);
}
