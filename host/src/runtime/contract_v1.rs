//! Version 1 of the contract (`wit/v1/task.wit`) in our own words.
//!
//! Apart because a published version is served for good: the next one gets its own file beside
//! this one, and nothing else changes. Only what a guest means is decided here, not whether it
//! may.

use std::time::Duration;

use wasmtime::{
    component::{Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower, types::ComponentItem},
    error::Context as _,
};

use self::bindings::exports::fastworker::task::tasks::{Descriptor, Failure as GuestFailure};
pub(super) use self::bindings::{
    exports::fastworker::task::tasks::Invocation as GuestInvocation,
    fastworker::task::host::{Context, FollowUp as GuestFollowUp, Host, Level, add_to_linker},
};
use super::{
    descriptor::{self, Keys},
    output::cut,
};
use crate::{
    json::Json,
    signature::Signature,
    task::{ErrorKind, Failure, LogLevel, TaskInfo},
};

/// What wasmtime makes of the WIT file.
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "task-module",
        imports: { default: trappable },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// The interface that makes a component a task module.
pub(super) const TASKS: &str = "fastworker:task/tasks@1.0.0";
/// Longest documentation of a task in bytes; what is longer is cut.
const DOCUMENTATION_MAX: usize = 64 << 10;
/// Longest message of a failure in bytes; what is longer is cut.
const MESSAGE_MAX: usize = 64 << 10;

/// The parameters of `run`.
pub(super) type RunParams<'a> = (GuestInvocation<'a>,);
/// The results of `run`.
pub(super) type RunResults = (Result<String, GuestFailure>,);
/// The results of `register`.
pub(super) type RegisterResults = (Vec<Descriptor>,);

/// Where a component keeps the functions of the contract.
pub(super) struct Exports {
    pub(super) register: ComponentExportIndex,
    pub(super) run: ComponentExportIndex,
    register_type: ComponentItem,
    run_type: ComponentItem,
}

impl Exports {
    /// Finds them, if the component is a task module.
    pub(super) fn of(component: &Component) -> Option<Self> {
        let tasks = component.get_export_index(None, TASKS)?;
        let (register_type, register) = component.get_export(Some(&tasks), "register")?;
        let (run_type, run) = component.get_export(Some(&tasks), "run")?;
        Some(Self { register, run, register_type, run_type })
    }

    /// Whether they have the types of the contract.
    pub(super) fn check<T>(&self, pre: &InstancePre<T>) -> wasmtime::Result<()> {
        check::<(), RegisterResults, T>(&self.register_type, pre).context("register")?;
        check::<RunParams<'_>, RunResults, T>(&self.run_type, pre).context("run")
    }
}

fn check<P, R, T>(found: &ComponentItem, pre: &InstancePre<T>) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    match found {
        ComponentItem::ComponentFunc(function) => function.typecheck::<P, R>(&pre.instance_type()),
        _ => wasmtime::bail!("is not a function"),
    }
}

/// What went wrong in the guest, for everybody else.
pub(super) fn failure(said: GuestFailure) -> Failure {
    match said {
        GuestFailure::BadArguments(message) => Failure::new(ErrorKind::BadArguments, shortened(message, MESSAGE_MAX)),
        GuestFailure::Failed(message) => Failure::new(ErrorKind::Failed, shortened(message, MESSAGE_MAX)),
        GuestFailure::TryAgainAfter(retry) => Failure {
            retry_after: Some(Duration::from_millis(retry.delay_ms)),
            ..Failure::new(ErrorKind::Failed, shortened(retry.message, MESSAGE_MAX))
        },
    }
}

fn shortened(text: String, max: usize) -> String {
    if text.len() > max { cut(&text, max).into_owned() } else { text }
}

/// How much a line matters.
pub(super) fn level(level: Level) -> LogLevel {
    match level {
        Level::Trace => LogLevel::Trace,
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
    }
}

/// A task as its module describes it, with warnings for what cannot be read.
pub(super) fn task_info(descriptor: Descriptor) -> TaskInfo {
    let wishes = descriptor::wishes(&descriptor.policy, Keys::Policy);
    let mut warnings = wishes.unreadable;
    warnings.extend(wishes.unknown.iter().map(|key| format!("policy has the unknown key '{key}'")));
    let schema = descriptor::schema(&descriptor.schema).unwrap_or_else(|why| {
        warnings.push(why);
        Json::empty_object()
    });
    warnings.extend(Signature::read(&descriptor.name, &schema).warnings().iter().cloned());
    let schedule = wishes.schedule.filter(|_| {
        let required = descriptor::required(&schema);
        if let Some(name) = required.first() {
            warnings.push(format!("the task is not scheduled: a call must have its argument '{name}'"));
        }
        required.is_empty()
    });
    TaskInfo {
        name: descriptor.name,
        documentation: shortened(descriptor.documentation, DOCUMENTATION_MAX),
        schema,
        policy: wishes.policy,
        schedule,
        warnings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_needs_arguments_is_not_scheduled() {
        let describe = |schema: &str| {
            task_info(Descriptor {
                name: "tick".into(),
                documentation: String::new(),
                schema: schema.into(),
                policy: r#"{"every": 10}"#.into(),
            })
        };
        assert!(describe(r#"{"parameters": [{"name": "x", "required": false}]}"#).schedule.is_some());
        let info = describe(r#"{"parameters": [{"name": "x", "required": true}]}"#);
        assert_eq!(info.schedule, None);
        assert_eq!(info.warnings, ["the task is not scheduled: a call must have its argument 'x'"]);
    }

    #[test]
    fn a_descriptor_that_cannot_be_read_in_part_is_a_warning() {
        let info = task_info(Descriptor {
            name: "resize".into(),
            documentation: String::new(),
            schema: "[]".into(),
            policy: r#"{"timeout": "30s", "colour": 1, "max_retries": -1}"#.into(),
        });
        assert_eq!(info.policy.timeout, Some(Duration::from_secs(30)));
        assert_eq!(info.schema, Json::empty_object());
        assert_eq!(
            info.warnings,
            [
                "max_retries is -1 and should be a whole number",
                "policy has the unknown key 'colour'",
                "schema should be a JSON object",
            ]
        );
    }
}
