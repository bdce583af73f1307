//! Signatures of tasks: refuse calls with wrong arguments before they are queued.
//!
//! A signature is compiled once from the schema of a task ([`TaskInfo::schema`]). A check walks the text of the
//! arguments without building values: for plain parameters it takes well under a microsecond and allocates nothing.
//! Anything that a signature does not constrain is accepted: the task reads its arguments itself.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::{json::Json, task::TaskInfo};

#[cfg(feature = "runtime")]
mod bind;
mod rust_type;
mod schema;
pub(crate) mod text;

#[cfg(feature = "runtime")]
pub(crate) use bind::{Bound, bind};
use schema::CompiledSchema;
pub(crate) use schema::Violation;
#[cfg(feature = "runtime")]
pub(crate) use schema::{Alternatives, Step, check_unique, found};

/// Maximum parameters of a task whose calls are checked: one bit each during a check.
pub const PARAMETERS_MAX: usize = 64;

/// The parameters of a task, and their schemas.
#[derive(Debug)]
pub struct Signature {
    task: Box<str>,
    /// None if the module does not declare them.
    parameters: Option<Box<[Parameter]>>,
    types: Types,
    warnings: Vec<String>,
}

/// What the types of a signature are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Types {
    /// The types of a plain component, in WIT: the host reads the arguments.
    Wit,
    /// The types that a guest reads with serde, or of unknown meaning.
    #[default]
    #[serde(other)]
    Guest,
}

#[derive(Debug)]
struct Parameter {
    name: Box<str>,
    required: bool,
    schema: Option<CompiledSchema>,
}

/// Error in the arguments of a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// More positional arguments than parameters.
    #[error("{task}() takes {} but {given} {} given", range(*least, *most), if *given == 1 { "was" } else { "were" })]
    TooMany {
        /// The task name.
        task: Box<str>,
        /// Number of required parameters.
        least: usize,
        /// Number of parameters.
        most: usize,
        /// Number of positional arguments.
        given: usize,
    },
    /// Parameters without an argument.
    #[error("{task}() missing {}: {}", counted(names.len(), "required argument"), listed(names))]
    Missing {
        /// The task name.
        task: Box<str>,
        /// Names of the parameters.
        names: Vec<Box<str>>,
    },
    /// An argument for no parameter.
    #[error("{task}() got an unexpected keyword argument '{name}'")]
    Unknown {
        /// The task name.
        task: Box<str>,
        /// Name of the argument.
        name: Box<str>,
    },
    /// A parameter with two arguments.
    #[error("{task}() got multiple values for argument '{name}'")]
    Twice {
        /// The task name.
        task: Box<str>,
        /// Name of the parameter.
        name: Box<str>,
    },
    /// An argument, or a value in it, that violates its schema.
    #[error("{path}: expected {expected}, found {found}")]
    Mismatch {
        /// Path of the value: `args[1].items[3].price`.
        path: Box<str>,
        /// Description of the allowed values.
        expected: Box<str>,
        /// The value, shortened.
        found: Box<str>,
    },
    /// Arguments that cannot be read.
    #[error("{0}")]
    Unreadable(Box<str>),
}

impl ArgumentError {
    /// The metadata of the result of a call with these arguments, machine-readable: `{"failure": {"kind": …,
    /// "details": …}}`, as a task reports its own failures.
    pub(crate) fn metadata(&self) -> Json {
        let (kind, details) = match self {
            Self::TooMany { most, given, .. } => ("too-many-arguments", json!({ "maximum": most, "given": given })),
            Self::Missing { names, .. } => ("missing-arguments", json!({ "parameters": names })),
            Self::Unknown { name, .. } => ("unknown-argument", json!({ "argument": name })),
            Self::Twice { name, .. } => ("duplicate-argument", json!({ "argument": name })),
            Self::Mismatch { path, expected, found } => {
                ("type-mismatch", json!({ "path": path, "expected": expected, "found": found }))
            }
            Self::Unreadable(_) => ("unreadable-arguments", Value::Null),
        };
        Json::of(&json!({ "failure": { "kind": kind, "details": details } })).unwrap_or_else(|_| Json::empty_object())
    }
}

/// The schema of a task, as its module declares it.
#[derive(Default, Deserialize)]
struct TaskSchema {
    #[serde(default)]
    parameters: Option<Vec<ParameterSchema>>,
    #[serde(default)]
    types: Types,
    /// Raw text, because a [`Value`] cannot hold every document.
    #[serde(default)]
    result: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct ParameterSchema {
    name: String,
    #[serde(rename = "type", default)]
    type_text: Option<String>,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    schema: Option<Box<RawValue>>,
}

/// The type of a result, and its schema if it has one.
#[derive(Default, Deserialize)]
struct ResultSchema {
    #[serde(rename = "type", default)]
    type_text: Option<String>,
    #[serde(default)]
    schema: Option<Box<RawValue>>,
}

impl ResultSchema {
    /// Reads an object, or the name of the type alone.
    fn read(text: &RawValue) -> Self {
        match serde_json::from_str(text.get()) {
            Ok(text) => Self { type_text: Some(text), schema: None },
            Err(_) => serde_json::from_str(text.get()).unwrap_or_default(),
        }
    }
}

/// Formats the signature of a task: `add(x: i64, y?: i64) -> i64`.
pub fn line(task: &TaskInfo) -> String {
    let Ok(TaskSchema { parameters, result, .. }) = task.schema.read() else { return format!("{}(…)", task.name) };
    let parameters = parameters.into_iter().flatten().map(|parameter| {
        let optional = if parameter.required { "" } else { "?" };
        let kind = parameter.type_text.map(|kind| format!(": {kind}")).unwrap_or_default();
        format!("{}{optional}{kind}", parameter.name)
    });
    let parameters: Vec<String> = parameters.collect();
    let result = result.and_then(|text| ResultSchema::read(&text).type_text).map(|result| format!(" -> {result}"));
    format!("{}({}){}", task.name, parameters.join(", "), result.unwrap_or_default())
}

/// The parameters and the result of a task with their schemas, for `list --schema`.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    task: &'a str,
    documentation: &'a str,
    parameters: Vec<DocumentedType>,
    result: DocumentedType,
}

/// A parameter or the result.
#[derive(Debug, Serialize)]
struct DocumentedType {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "type")]
    type_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<bool>,
    /// A JSON Schema.
    schema: Option<Json>,
}

impl<'a> Document<'a> {
    /// Documents a task. Plain types get the schema that their name implies.
    pub fn of(task: &'a TaskInfo) -> Self {
        let of_type = |text: &Option<String>| {
            text.as_deref().and_then(rust_type::schema).and_then(|schema| Json::of(&schema).ok())
        };
        let declared = task.schema.read::<TaskSchema>().unwrap_or_default();
        let parameters = declared.parameters.into_iter().flatten().map(|parameter| {
            let ParameterSchema { name, type_text, required, schema } = parameter;
            let schema = schema.map(Json::from).or_else(|| of_type(&type_text));
            DocumentedType { name: Some(name), type_text, required: Some(required), schema }
        });
        let parameters = parameters.collect();
        let ResultSchema { type_text, schema } =
            declared.result.map(|text| ResultSchema::read(&text)).unwrap_or_default();
        let schema = schema.map(Json::from).or_else(|| of_type(&type_text));
        let result = DocumentedType { name: None, type_text, required: None, schema };
        Self { task: &task.name, documentation: &task.documentation, parameters, result }
    }
}

/// The beginning of the warning for a schema that cannot be used.
pub(crate) const CHECKED_BY_TASK_ONLY: &str = "arguments are checked by the task only";

impl Signature {
    /// Compiles the signature of a task.
    pub fn of(task: &TaskInfo) -> Self {
        Self::read(&task.name, &task.schema)
    }

    /// Compiles the signature of a task of this name and schema.
    pub fn read(task: &str, schema: &Json) -> Self {
        let mut signature = Self { task: task.into(), parameters: None, types: Types::Guest, warnings: Vec::new() };
        match schema.read::<TaskSchema>() {
            Err(error) => signature.warn(&format!("its schema cannot be read: {error}")),
            Ok(TaskSchema { parameters: None, .. }) => {}
            Ok(TaskSchema { parameters: Some(declared), .. }) if declared.len() > PARAMETERS_MAX => {
                signature.warn(&format!("it has {} parameters, more than {PARAMETERS_MAX}", declared.len()));
            }
            Ok(TaskSchema { parameters: Some(declared), types, .. }) => {
                signature.types = types;
                let parameters = declared.into_iter().map(|parameter| signature.parameter(parameter)).collect();
                signature.parameters = Some(parameters);
            }
        }
        signature
    }

    fn parameter(&mut self, declared: ParameterSchema) -> Parameter {
        let ParameterSchema { name, type_text, required, schema } = declared;
        let schema = match schema {
            Some(schema) => {
                let schema = serde_json::from_str::<Value>(schema.get()).map_err(|error| error.to_string());
                let compile = match self.types {
                    Types::Guest => CompiledSchema::of_schema,
                    Types::Wit => CompiledSchema::of_wit,
                };
                match schema.and_then(|schema| compile(&schema)) {
                    Ok(compiled) => Some(compiled),
                    Err(why) => {
                        self.warn(&format!("the schema of '{name}' cannot be used: {why}"));
                        None
                    }
                }
            }
            None => type_text.and_then(|text| CompiledSchema::of_type(&rust_type::schema(&text)?).ok()),
        };
        Parameter { name: name.into(), required, schema }
    }

    fn warn(&mut self, why: &str) {
        self.warnings.push(format!("{CHECKED_BY_TASK_ONLY}: {why}"));
    }

    /// The parts of the schema that could not be used, with the reason.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Checks a call: `args` is a JSON array, `kwargs` a JSON object.
    ///
    /// # Errors
    /// [`ArgumentError`] if the arguments are wrong: the call must not be queued.
    pub fn check(&self, args: &Json, kwargs: &Json) -> Result<(), ArgumentError> {
        let Some(parameters) = &self.parameters else { return Ok(()) };
        let (mut given, mut bound, mut violation) = (0, 0_u64, None);
        for item in text::items(args.as_str()) {
            if let Some(parameter) = parameters.get(given) {
                bound |= 1 << given;
                if violation.is_none() {
                    violation =
                        parameter.check(item).err().map(|violation| violation.into_error(&format!("args[{given}]")));
                }
            }
            given += 1;
        }
        for (name, value) in text::entries(kwargs.as_str()) {
            let is_it = |parameter: &Parameter| {
                *parameter.name == *name || (self.types == Types::Wit && is_in_snake_case(&name, &parameter.name))
            };
            let Some(index) = parameters.iter().position(is_it) else {
                return Err(ArgumentError::Unknown { task: self.task.clone(), name: name.into() });
            };
            if bound & (1 << index) != 0 {
                return Err(ArgumentError::Twice { task: self.task.clone(), name: name.into() });
            }
            bound |= 1 << index;
            if violation.is_none() {
                violation = parameters[index].check(value).err().map(|violation| violation.into_error(&of_name(&name)));
            }
        }
        let is_missing = |(index, parameter): &(usize, &Parameter)| parameter.required && bound & (1 << index) == 0;
        if given > parameters.len() {
            let least = parameters.iter().filter(|parameter| parameter.required).count();
            return Err(ArgumentError::TooMany { task: self.task.clone(), least, most: parameters.len(), given });
        }
        if parameters.iter().enumerate().any(|each| is_missing(&each)) {
            let missing = parameters.iter().enumerate().filter(is_missing);
            let names = missing.map(|(_, parameter)| parameter.name.clone()).collect();
            return Err(ArgumentError::Missing { task: self.task.clone(), names });
        }
        violation.map_or(Ok(()), Err)
    }
}

impl Parameter {
    fn check(&self, value: &str) -> Result<(), Violation> {
        match &self.schema {
            // Optional parameters accept null.
            Some(_) if !self.required && value == "null" => Ok(()),
            Some(schema) => schema.check(value),
            None => Ok(()),
        }
    }
}

/// Whether a name is a WIT name in `snake_case`.
fn is_in_snake_case(name: &str, wit: &str) -> bool {
    let is_same = |(byte, wit): (u8, u8)| byte == if wit == b'-' { b'_' } else { wit };
    name.len() == wit.len() && name.bytes().zip(wit.bytes()).all(is_same)
}

fn of_name(name: &str) -> String {
    let mut path = "kwargs".to_owned();
    schema::push_key(&mut path, name);
    path
}

impl Violation {
    /// The error of an argument, whose path is `root`.
    #[cold]
    pub(crate) fn into_error(self, root: &str) -> ArgumentError {
        let (path, expected, found) = self.into_parts(root);
        ArgumentError::Mismatch { path: path.into(), expected: expected.into(), found: found.into() }
    }
}

fn range(least: usize, most: usize) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        if least < most {
            write!(f, "from {least} to ")?;
        }
        write!(f, "{}", counted(most, "argument"))
    })
}

fn counted(count: usize, what: &str) -> impl fmt::Display {
    fmt::from_fn(move |f| write!(f, "{count} {what}{}", if count == 1 { "" } else { "s" }))
}

fn listed(names: &[Box<str>]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    match quoted.as_slice() {
        [some @ .., last] if !some.is_empty() => format!("{} and {last}", some.join(", ")),
        quoted => quoted.join(", "),
    }
}

#[cfg(test)]
mod tests;
