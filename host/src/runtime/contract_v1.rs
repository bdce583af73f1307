//! Version 1 of the contract (`wit/v1/task.wit`), converted to and from the program's own types.
//!
//! A published version is supported permanently: the next one gets its own file next to this one, and nothing else
//! changes.

use std::time::Duration;

use serde::Serialize;

use wasmtime::{
    component::{Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower, types::ComponentItem},
    error::Context as _,
};

use self::bindings::exports::fastworker::task::tasks::{Descriptor, Failure as GuestFailure, TaskError};
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

/// The bindings that wasmtime generates from the WIT file.
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "task-module",
        imports: { default: trappable },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// The interface that a task module exports.
pub(super) const TASKS: &str = "fastworker:task/tasks@1.0.0";
/// Maximum documentation of a task in bytes; longer ones are cut.
const DOCUMENTATION_MAX: usize = 64 << 10;
/// Maximum message of a failure in bytes; longer ones are cut.
const MESSAGE_MAX: usize = 64 << 10;
/// Maximum kind of a failure in bytes; longer ones are dropped.
const FAILURE_KIND_MAX: usize = 128;
/// Maximum details of a failure in bytes; larger ones are dropped. With the kind they take about half of a result's
/// metadata, so that the task's own metadata fits as well.
const FAILURE_DETAILS_MAX: usize = 2 << 10;

/// The parameters of `run`.
pub(super) type RunParams<'a> = (GuestInvocation<'a>,);
/// The results of `run`.
pub(super) type RunResults = (Result<String, GuestFailure>,);
/// The results of `register`.
pub(super) type RegisterResults = (Vec<Descriptor>,);

/// The functions of the contract that a component exports.
pub(super) struct Exports {
    pub(super) register: ComponentExportIndex,
    pub(super) run: ComponentExportIndex,
    register_type: ComponentItem,
    run_type: ComponentItem,
}

impl Exports {
    /// Finds the exports. None if the component is not a task module.
    pub(super) fn of(component: &Component) -> Option<Self> {
        let tasks = component.get_export_index(None, TASKS)?;
        let (register_type, register) = component.get_export(Some(&tasks), "register")?;
        let (run_type, run) = component.get_export(Some(&tasks), "run")?;
        Some(Self { register, run, register_type, run_type })
    }

    /// Checks that they have the types of the contract.
    ///
    /// # Errors
    /// wasmtime's description of the difference.
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

/// A failure as the guest reported it.
pub(super) struct ReportedFailure {
    pub(super) failure: Failure,
    /// `{"failure": {"kind": …, "details": …}}` if the guest gave either.
    pub(super) metadata: Option<Json>,
    /// Warnings about dropped values, for the task's log.
    pub(super) warnings: Vec<String>,
}

/// The failure of a function that returned an error of its own.
pub(super) fn failed(message: String, kind: String, details: String) -> ReportedFailure {
    failure(GuestFailure::Failed(TaskError { message, kind, details }))
}

/// The kind of Python's exception for a failed allocation. In other languages the attempt traps.
const MEMORY_ERROR: &str = "MemoryError";

/// Converts a guest's failure, without a kind or details that violate the contract.
pub(super) fn failure(reported: GuestFailure) -> ReportedFailure {
    let (kind, retry_after, error) = match reported {
        GuestFailure::BadArguments(error) => (ErrorKind::BadArguments, None, error),
        GuestFailure::Failed(error) => (ErrorKind::Failed, None, error),
        GuestFailure::TryAgainAfter(retry) => {
            (ErrorKind::Failed, Some(Duration::from_millis(retry.delay_ms)), retry.error)
        }
        GuestFailure::GiveUp(error) => (ErrorKind::GaveUp, None, error),
    };
    let mut warnings = Vec::new();
    let metadata = failure_metadata(&error, &mut warnings);
    let kind = if kind == ErrorKind::Failed && error.kind == MEMORY_ERROR { ErrorKind::OutOfMemory } else { kind };
    let failure = Failure { retry_after, ..Failure::new(kind, shortened(error.message, MESSAGE_MAX)) };
    ReportedFailure { failure, metadata, warnings }
}

fn failure_metadata(error: &TaskError, warnings: &mut Vec<String>) -> Option<Json> {
    #[derive(Serialize)]
    struct Metadata<'a> {
        failure: Fields<'a>,
    }
    #[derive(Serialize)]
    struct Fields<'a> {
        #[serde(skip_serializing_if = "str::is_empty")]
        kind: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        details: Option<Json>,
    }
    let mut accept = |checked: Result<(), String>| checked.map_err(|warning| warnings.push(warning)).is_ok();
    let kind = if accept(check_kind(&error.kind)) { error.kind.as_str() } else { "" };
    let details = match error.details.trim() {
        "" => None,
        text => {
            let details = parse_details(text);
            accept(details.as_ref().map(drop).map_err(Clone::clone));
            details.ok()
        }
    };
    if kind.is_empty() && details.is_none() {
        return None;
    }
    let metadata = Metadata { failure: Fields { kind, details } };
    Some(Json::of(&metadata).expect("strings and JSON can always be written as JSON"))
}

fn check_kind(kind: &str) -> Result<(), String> {
    if kind.len() > FAILURE_KIND_MAX {
        return Err(format!("the failure's kind was dropped: {} bytes, limit {FAILURE_KIND_MAX}", kind.len()));
    }
    if kind.contains(char::is_control) {
        return Err("the failure's kind was dropped: it has control characters".to_owned());
    }
    Ok(())
}

fn parse_details(text: &str) -> Result<Json, String> {
    if text.len() > FAILURE_DETAILS_MAX {
        return Err(format!("the failure's details were dropped: {} bytes, limit {FAILURE_DETAILS_MAX}", text.len()));
    }
    Json::parse(text).map_err(|error| format!("the failure's details were dropped: {error}"))
}

fn shortened(text: String, max: usize) -> String {
    if text.len() > max { cut(&text, max).into_owned() } else { text }
}

/// Converts the level of a log line.
pub(super) fn level(level: Level) -> LogLevel {
    match level {
        Level::Trace => LogLevel::Trace,
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
    }
}

/// Converts the description of a task, with warnings for values that cannot be parsed.
pub(super) fn task_info(descriptor: Descriptor) -> TaskInfo {
    let policy = descriptor::parse_policy(&descriptor.policy, Keys::Policy);
    let mut warnings = policy.errors;
    warnings.extend(policy.unknown.iter().map(|key| format!("policy has the unknown key '{key}'")));
    let schema = descriptor::parse_schema(&descriptor.schema).unwrap_or_else(|why| {
        warnings.push(why);
        Json::empty_object()
    });
    warnings.extend(Signature::read(&descriptor.name, &schema).warnings().iter().cloned());
    let schedule = policy.schedule.filter(|_| {
        let required = descriptor::required_parameters(&schema);
        if let Some(name) = required.first() {
            warnings.push(format!("the task is not scheduled: a call must have its argument '{name}'"));
        }
        required.is_empty()
    });
    TaskInfo {
        name: descriptor.name,
        full_name: None,
        documentation: shortened(descriptor.documentation, DOCUMENTATION_MAX),
        schema,
        policy: policy.policy,
        schedule,
        limits: policy.limits,
        needs: policy.needs.into_iter().flatten().map(|need| need.to_string()).collect(),
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

    #[test]
    fn a_failure_carries_its_kind_and_details_in_the_metadata() {
        let error =
            |kind: &str, details: &str| TaskError { message: "no".into(), kind: kind.into(), details: details.into() };
        let metadata = |error: TaskError| failure(GuestFailure::Failed(error)).metadata.map(|json| json.to_string());
        assert_eq!(metadata(error("", "")), None);
        assert_eq!(metadata(error("Time\"out", "")).as_deref(), Some(r#"{"failure":{"kind":"Time\"out"}}"#));
        assert_eq!(metadata(error("", " [1, 2]\n")).as_deref(), Some(r#"{"failure":{"details":[1, 2]}}"#));
        let gave_up = failure(GuestFailure::GiveUp(error("Closed", r#"{"till": 3}"#)));
        assert_eq!(gave_up.failure, Failure::new(ErrorKind::GaveUp, "no"));
        let expected = r#"{"failure":{"kind":"Closed","details":{"till": 3}}}"#;
        assert_eq!(gave_up.metadata.map(|json| json.to_string()).as_deref(), Some(expected));
    }

    #[test]
    fn a_kind_or_details_that_violate_the_contract_are_dropped() {
        let report = |kind: &str, details: &str| {
            let error = TaskError { message: "no".into(), kind: kind.into(), details: details.into() };
            failure(GuestFailure::BadArguments(error))
        };
        for (kind, details) in
            [("a\nb", ""), (&*"k".repeat(129), ""), ("", "{"), ("", &format!("\"{}\"", "d".repeat(2047)))]
        {
            let reported = report(kind, details);
            assert_eq!((reported.metadata, reported.warnings.len()), (None, 1), "{kind} {details}");
            assert_eq!(reported.failure, Failure::new(ErrorKind::BadArguments, "no"));
        }
        let half = report("kept", "NaN");
        assert_eq!(half.metadata.map(|json| json.to_string()).as_deref(), Some(r#"{"failure":{"kind":"kept"}}"#));
        assert!(half.warnings[0].starts_with("the failure's details were dropped: "), "{:?}", half.warnings);
        assert!(report(&"k".repeat(128), &format!("\"{}\"", "d".repeat(2046))).warnings.is_empty());
    }
}
