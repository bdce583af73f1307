//! Plain components as task modules: components that know nothing of fastworker.
//!
//! Every exported function is a task: `add`, `ops.mul`, and in full `ns:pkg/ops@1.0.0#mul`. Its WIT types determine the
//! schema of its arguments and their JSON; `docs/plain-components.md` has the table. Functions with types that JSON
//! cannot express are listed as not callable.
//!
//! Invariants:
//! - Arguments are read completely before the guest starts, and take a bounded amount of memory.
//! - What the schema allows is what can be read: the control plane refuses the rest before it is queued.

use std::{collections::HashMap, marker::PhantomData, sync::Arc};

use serde_json::Value;
use wasmtime::{
    Engine, Store,
    component::{Component, ComponentExportIndex, InstancePre},
};

pub(super) use self::write::ResultTooLarge;
use self::{
    abi::{Arguments, Returned as RawReturned},
    names::{ExportedFunction, exported_functions},
    shape::{Kind, Types},
    write::Written,
};
use super::{
    Invocation,
    attempt::Attempt,
    call::{GuestCall, TypedCall},
    contract_v1::{self, ReportedFailure},
    descriptor::SCHEMA_BYTES_MAX,
    entry::Returned,
    usage_clock::FunctionStart,
};
use crate::{
    json::Json,
    signature::{ArgumentError, Signature},
    task::{ErrorKind, NotCallable, Policy, TaskInfo, TaskLimits, TaskName},
};

mod abi;
mod describe;
mod image;
mod names;
mod read;
mod shape;
mod write;

#[cfg(test)]
mod tests;

/// Maximum functions that are listed as not callable.
const NOT_CALLABLE_MAX: usize = 1000;
/// Maximum value of an error in bytes in which a message for people is searched.
const PAYLOAD_READ_MAX: usize = 64 << 10;
/// The message of a function that returned an error without a value.
const NO_REASON: &str = "the function returned an error";

/// The functions of a plain component.
pub(super) struct Functions {
    pre: InstancePre<Attempt>,
    /// By each of their task names.
    by_name: HashMap<String, Arc<Function>>,
}

/// A function that can be called.
struct Function {
    export: ComponentExportIndex,
    types: Arc<Types>,
}

/// The exported functions of a component.
#[derive(Default)]
pub(super) struct Exported {
    pub(super) tasks: Vec<TaskInfo>,
    pub(super) not_callable: Vec<NotCallable>,
    by_name: HashMap<String, Arc<Function>>,
}

impl Exported {
    /// Finds the exported functions of a component. `module` is the name of its file.
    pub(super) fn of(engine: &Engine, component: &Component, module: &str) -> Self {
        let mut exported = Self::default();
        for function in exported_functions(engine, component, module) {
            let name = function.full_name.clone();
            if let Err(reason) = exported.add(function)
                && exported.not_callable.len() < NOT_CALLABLE_MAX
            {
                exported.not_callable.push(NotCallable { name, reason });
            }
        }
        exported
    }

    /// Adds a function under its names.
    ///
    /// # Errors
    /// The reason why it cannot be called.
    fn add(&mut self, function: ExportedFunction) -> Result<(), String> {
        let ExportedFunction { full_name, short_name, export, ty, obstacle } = function;
        if let Some(reason) = obstacle {
            return Err(reason.to_owned());
        }
        let types = Types::of(&ty)?;
        let schema = Json::of(&describe::signature(&types)).map_err(|error| error.to_string())?;
        if schema.as_str().len() > SCHEMA_BYTES_MAX {
            return Err(format!("the schema of its types is larger than {SCHEMA_BYTES_MAX} bytes"));
        }
        TaskName::check(&full_name).map_err(|invalid| invalid.to_string())?;
        let function = Arc::new(Function { export, types: Arc::new(types) });
        let short = short_name.map(|name| (name, Some(full_name.clone())));
        for (name, full_name) in short.into_iter().chain([(full_name, None)]) {
            self.by_name.insert(name.clone(), Arc::clone(&function));
            self.tasks.push(TaskInfo {
                warnings: Signature::read(&name, &schema).warnings().to_vec(),
                name,
                full_name,
                documentation: String::new(),
                schema: schema.clone(),
                policy: Policy::default(),
                limits: TaskLimits::default(),
                schedule: None,
                needs: Vec::new(),
            });
        }
        Ok(())
    }

    /// The functions to call, with the component's imports.
    pub(super) fn into_functions(self, pre: InstancePre<Attempt>) -> Functions {
        Functions { pre, by_name: self.by_name }
    }
}

impl Functions {
    /// One call of the function with the name of a task of the module.
    pub(super) fn call<'a>(&'a self, call: &Invocation<'_>) -> FunctionCall<'a> {
        let function = self.by_name.get(call.name).expect("each task of the module is a function");
        let read = read::arguments(call.name, &function.types.parameters, call.args, call.kwargs);
        let arguments = read.map(|read| Arguments { types: Arc::clone(&function.types), read });
        FunctionCall { pre: &self.pre, function, arguments }
    }
}

/// A call of a function, with its arguments.
pub(super) struct FunctionCall<'a> {
    pre: &'a InstancePre<Attempt>,
    function: &'a Function,
    arguments: Result<Arguments, ArgumentError>,
}

impl<'a> FunctionCall<'a> {
    /// The call as wasmtime makes it, or the failure of its arguments.
    fn prepare(self) -> Result<(TypedCall<'a, Arguments, RawReturned>, &'a Types), ReportedFailure> {
        let Self { pre, function, arguments } = self;
        let params = arguments.map_err(|error| bad_arguments(&error))?;
        Ok((TypedCall { pre, export: &function.export, params, results: PhantomData }, &function.types))
    }
}

impl GuestCall for FunctionCall<'_> {
    type Output = Returned;

    fn call(self, store: &mut Store<Attempt>, start: &mut FunctionStart) -> wasmtime::Result<Returned> {
        let (call, types) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(failure) => return Ok(Err(failure)),
        };
        let RawReturned(written) = call.call(store, start)?;
        Ok(returned(written, types))
    }

    async fn call_async(self, store: &mut Store<Attempt>, start: &mut FunctionStart) -> wasmtime::Result<Returned> {
        let (call, types) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(failure) => return Ok(Err(failure)),
        };
        let RawReturned(written) = call.call_async(store, start).await?;
        Ok(returned(written, types))
    }
}

/// The failure of a call whose arguments cannot be read. Most are refused before they are queued.
pub(super) fn bad_arguments(error: &ArgumentError) -> ReportedFailure {
    ReportedFailure {
        failure: crate::task::Failure::new(ErrorKind::BadArguments, error.to_string()),
        metadata: Some(error.metadata()),
        warnings: Vec::new(),
    }
}

/// The result of a task. The error branch of a function's own `result` is its failure.
fn returned(written: Written, types: &Types) -> Returned {
    written.map_err(|payload| {
        let err = types.result.as_ref().and_then(|shape| match &shape.kind {
            Kind::Result(branches) => branches.payloads[1].as_ref(),
            _ => None,
        });
        let has_cases = err.is_some_and(|err| matches!(err.kind, Kind::Variant(_)));
        let value = Some(&payload).filter(|payload| payload.len() <= PAYLOAD_READ_MAX);
        let value = value.and_then(|payload| serde_json::from_str(payload).ok()).unwrap_or(Value::Bool(true));
        let kind = if has_cases { case_name(&value).unwrap_or_default() } else { String::new() };
        let details = if value.is_null() { String::new() } else { payload.clone() };
        contract_v1::failed(message(&value, payload), kind, details)
    })
}

/// The name of a case of a variant, from its JSON.
fn case_name(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Object(entries) => entries.keys().next().cloned(),
        _ => None,
    }
}

/// A message for people, from the value of an error and its text.
fn message(value: &Value, text: String) -> String {
    match value {
        Value::Null => NO_REASON.to_owned(),
        Value::String(message) => message.clone(),
        Value::Object(entries) => match (entries.get("message"), entries.iter().next()) {
            (Some(Value::String(message)), _) => message.clone(),
            (_, Some((case, Value::String(message)))) if entries.len() == 1 => format!("{case}: {message}"),
            _ => text,
        },
        _ => text,
    }
}
