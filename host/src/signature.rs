//! Signatures: which calls a task takes, so that a wrong one is refused before it is queued.
//!
//! Made from what a module says of its task ([`TaskInfo::schema`]), once; a check then walks the text
//! of the arguments and builds no value of it. A call of a task with plain parameters costs well under
//! a microsecond and allocates nothing. What a signature does not say is let through: the task reads
//! its arguments itself, and has the last word.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{json::Json, task::TaskInfo};

mod form;
mod rust_type;
mod text;

use form::{Fault, Form};

/// Parameters that a task may have for its calls to be checked: a bit each while one is.
pub const PARAMETERS_MAX: usize = 64;

/// Which calls a task takes.
#[derive(Debug)]
pub struct Signature {
    task: Box<str>,
    /// None if the module does not say.
    parameters: Option<Box<[Parameter]>>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Parameter {
    name: Box<str>,
    required: bool,
    form: Option<Form>,
}

/// Why a task does not take a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// More positional arguments than parameters.
    #[error("{task}() takes {} but {given} {} given", range(*least, *most), if *given == 1 { "was" } else { "were" })]
    TooMany {
        /// The task name.
        task: Box<str>,
        /// How many it needs.
        least: usize,
        /// How many it takes.
        most: usize,
        /// How many there were.
        given: usize,
    },
    /// Parameters without an argument.
    #[error("{task}() missing {}: {}", counted(names.len(), "required argument"), listed(names))]
    Missing {
        /// The task name.
        task: Box<str>,
        /// The parameters.
        names: Vec<Box<str>>,
    },
    /// An argument for no parameter.
    #[error("{task}() got an unexpected keyword argument '{name}'")]
    Unknown {
        /// The task name.
        task: Box<str>,
        /// The argument's.
        name: Box<str>,
    },
    /// A parameter with two arguments.
    #[error("{task}() got multiple values for argument '{name}'")]
    Twice {
        /// The task name.
        task: Box<str>,
        /// The parameter's.
        name: Box<str>,
    },
    /// An argument, or something in it, of another form.
    #[error("{path}: expected {expected}, found {found}")]
    Form {
        /// Where: `args[1].items[3].price`.
        path: Box<str>,
        /// What should be there.
        expected: Box<str>,
        /// What is there, shortened.
        found: Box<str>,
    },
    /// A call that no task could take, as it cannot be read.
    #[error("{0}")]
    Unreadable(Box<str>),
}

/// What a module says of a task.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    parameters: Option<Vec<SaidOfParameter>>,
    /// Text as the rest: a value does not hold every document.
    #[serde(default)]
    result: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct SaidOfParameter {
    name: String,
    #[serde(rename = "type", default)]
    type_text: Option<String>,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    schema: Option<Box<RawValue>>,
}

/// The text of a type, and its schema if it has one.
#[derive(Default, Deserialize)]
struct SaidOfResult {
    #[serde(rename = "type", default)]
    type_text: Option<String>,
    #[serde(default)]
    schema: Option<Box<RawValue>>,
}

impl SaidOfResult {
    /// It is said in an object, or as the text of the type alone.
    fn read(said: &RawValue) -> Self {
        match serde_json::from_str(said.get()) {
            Ok(text) => Self { type_text: Some(text), schema: None },
            Err(_) => serde_json::from_str(said.get()).unwrap_or_default(),
        }
    }
}

/// A task as one would call it: `add(x: i64, y?: i64) -> i64`.
pub fn line(task: &TaskInfo) -> String {
    let Ok(Said { parameters, result }) = task.schema.read() else { return format!("{}(…)", task.name) };
    let parameters = parameters.into_iter().flatten().map(|parameter| {
        let optional = if parameter.required { "" } else { "?" };
        let kind = parameter.type_text.map(|kind| format!(": {kind}")).unwrap_or_default();
        format!("{}{optional}{kind}", parameter.name)
    });
    let parameters: Vec<String> = parameters.collect();
    let result = result.and_then(|said| SaidOfResult::read(&said).type_text).map(|result| format!(" -> {result}"));
    format!("{}({}){}", task.name, parameters.join(", "), result.unwrap_or_default())
}

/// All that is known of a task's parameters and result.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    task: &'a str,
    documentation: &'a str,
    parameters: Vec<Documented>,
    result: Documented,
}

/// A parameter or the result.
#[derive(Debug, Serialize)]
struct Documented {
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
    /// What a module says of this task, with the schemas of the types that are known by their name.
    pub fn of(task: &'a TaskInfo) -> Self {
        let of_type = |text: &Option<String>| {
            text.as_deref().and_then(rust_type::schema).and_then(|schema| Json::of(&schema).ok())
        };
        let said = task.schema.read().unwrap_or(Said { parameters: None, result: None });
        let parameters = said.parameters.into_iter().flatten().map(|said| {
            let SaidOfParameter { name, type_text, required, schema } = said;
            let schema = schema.map(Json::from).or_else(|| of_type(&type_text));
            Documented { name: Some(name), type_text, required: Some(required), schema }
        });
        let parameters = parameters.collect();
        let SaidOfResult { type_text, schema } = said.result.map(|said| SaidOfResult::read(&said)).unwrap_or_default();
        let schema = schema.map(Json::from).or_else(|| of_type(&type_text));
        let result = Documented { name: None, type_text, required: None, schema };
        Self { task: &task.name, documentation: &task.documentation, parameters, result }
    }
}

impl Signature {
    /// The signature of a task.
    pub fn of(task: &TaskInfo) -> Self {
        Self::read(&task.name, &task.schema)
    }

    /// The signature of a task of this name and schema.
    pub fn read(task: &str, schema: &Json) -> Self {
        let mut signature = Self { task: task.into(), parameters: None, warnings: Vec::new() };
        match schema.read::<Said>() {
            Err(error) => signature.warn(&format!("its schema cannot be read: {error}")),
            Ok(Said { parameters: None, .. }) => {}
            Ok(Said { parameters: Some(said), .. }) if said.len() > PARAMETERS_MAX => {
                signature.warn(&format!("it has {} parameters, more than {PARAMETERS_MAX}", said.len()));
            }
            Ok(Said { parameters: Some(said), .. }) => {
                let parameters = said.into_iter().map(|said| signature.parameter(said)).collect();
                signature.parameters = Some(parameters);
            }
        }
        signature
    }

    fn parameter(&mut self, said: SaidOfParameter) -> Parameter {
        let SaidOfParameter { name, type_text, required, schema } = said;
        let form = match schema {
            Some(schema) => {
                let schema = serde_json::from_str::<Value>(schema.get()).map_err(|error| error.to_string());
                match schema.and_then(|schema| Form::of_schema(&schema)) {
                    Ok(form) => Some(form),
                    Err(why) => {
                        self.warn(&format!("the schema of '{name}' cannot be used: {why}"));
                        None
                    }
                }
            }
            None => type_text.and_then(|text| Form::of_type(&rust_type::schema(&text)?).ok()),
        };
        Parameter { name: name.into(), required, form }
    }

    fn warn(&mut self, why: &str) {
        self.warnings.push(format!("arguments are checked by the task only: {why}"));
    }

    /// What of it could not be used.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Checks a call: `args` is a JSON array, `kwargs` a JSON object.
    ///
    /// # Errors
    /// [`ArgumentError`] if the task does not take it: it must not be queued.
    pub fn check(&self, args: &Json, kwargs: &Json) -> Result<(), ArgumentError> {
        let Some(parameters) = &self.parameters else { return Ok(()) };
        let (mut given, mut bound, mut fault) = (0, 0_u64, None);
        for item in text::items(args.as_str()) {
            if let Some(parameter) = parameters.get(given) {
                bound |= 1 << given;
                if fault.is_none() {
                    fault = parameter.check(item).err().map(|fault| argument_error(fault, &format!("args[{given}]")));
                }
            }
            given += 1;
        }
        for (name, value) in text::entries(kwargs.as_str()) {
            let Some(place) = parameters.iter().position(|parameter| *parameter.name == *name) else {
                return Err(ArgumentError::Unknown { task: self.task.clone(), name: name.into() });
            };
            if bound & (1 << place) != 0 {
                return Err(ArgumentError::Twice { task: self.task.clone(), name: name.into() });
            }
            bound |= 1 << place;
            if fault.is_none() {
                fault = parameters[place].check(value).err().map(|fault| argument_error(fault, &of_name(&name)));
            }
        }
        let is_missing = |(place, parameter): &(usize, &Parameter)| parameter.required && bound & (1 << place) == 0;
        if given > parameters.len() {
            let least = parameters.iter().filter(|parameter| parameter.required).count();
            return Err(ArgumentError::TooMany { task: self.task.clone(), least, most: parameters.len(), given });
        }
        if parameters.iter().enumerate().any(|each| is_missing(&each)) {
            let missing = parameters.iter().enumerate().filter(is_missing);
            let names = missing.map(|(_, parameter)| parameter.name.clone()).collect();
            return Err(ArgumentError::Missing { task: self.task.clone(), names });
        }
        fault.map_or(Ok(()), Err)
    }
}

impl Parameter {
    fn check(&self, value: &str) -> Result<(), Fault> {
        match &self.form {
            // One that may be left out may be null.
            Some(_) if !self.required && value == "null" => Ok(()),
            Some(form) => form.check(value),
            None => Ok(()),
        }
    }
}

fn of_name(name: &str) -> String {
    let mut path = "kwargs".to_owned();
    form::push_key(&mut path, name);
    path
}

#[cold]
fn argument_error(fault: Fault, root: &str) -> ArgumentError {
    let (path, expected, found) = fault.told(root);
    ArgumentError::Form { path: path.into(), expected: expected.into(), found: found.into() }
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
