//! The tasks of this module, and the calls of them.
//!
//! `#[task]` registers a static [`Task`] for each function, so there is no list to maintain. Modules
//! use this from their exports, tests from `testing`.

use std::error::Error;

use serde::Serialize;
#[cfg(feature = "schema")]
use serde_json::value::RawValue;

use crate::error::TaskError;
use crate::schema::Describe;

/// The result of an attempt: a JSON document, as text, or an error.
pub type Outcome = Result<String, TaskError>;

/// The arguments of one call.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    /// The arguments by position: a JSON array, as text.
    pub(crate) args: &'a str,
    /// The arguments by name: a JSON object, as text.
    pub(crate) kwargs: &'a str,
}

/// A task as `#[task]` generates it.
#[derive(Debug)]
pub struct Task {
    /// The name that clients submit.
    pub name: &'static str,
    /// The doc comment.
    pub documentation: &'static str,
    /// In the order of the function's signature.
    pub parameters: &'static [Parameter],
    /// The result.
    pub result: Returned,
    /// A JSON object, as the contract specifies it.
    pub policy: &'static str,
    /// `file:line` of the function.
    pub declared_at: &'static str,
    /// Parses the arguments, calls the function and serializes its result.
    pub run: fn(Arguments<'_>) -> Outcome,
}

/// A parameter of a task.
#[derive(Debug)]
pub struct Parameter {
    /// The name by which an argument may be passed.
    pub name: &'static str,
    /// The type as written, human-readable.
    pub type_text: &'static str,
    /// Whether a call without it is refused.
    pub required: bool,
    #[cfg(feature = "schema")]
    describe: Describe,
}

impl Parameter {
    /// A parameter of this name and type.
    pub const fn new(name: &'static str, type_text: &'static str, required: bool, describe: Describe) -> Self {
        #[cfg(not(feature = "schema"))]
        let _ = describe;
        Self {
            name,
            type_text,
            required,
            #[cfg(feature = "schema")]
            describe,
        }
    }
}

/// The result of a task.
#[derive(Debug)]
pub struct Returned {
    /// The type of a success as written, human-readable.
    pub type_text: &'static str,
    #[cfg(feature = "schema")]
    describe: Describe,
}

impl Returned {
    /// A result of this type.
    pub const fn new(type_text: &'static str, describe: Describe) -> Self {
        #[cfg(not(feature = "schema"))]
        let _ = describe;
        Self {
            type_text,
            #[cfg(feature = "schema")]
            describe,
        }
    }
}

/// An entry of the registry.
#[derive(Debug)]
pub struct Registered(pub &'static Task);

inventory::collect!(Registered);

/// All tasks in the order of their names.
///
/// # Panics
/// If two have the same name, with the locations of both. A module that traps here is not loaded.
pub(crate) fn all() -> Vec<&'static Task> {
    let mut tasks: Vec<&Task> = inventory::iter::<Registered>.into_iter().map(|registered| registered.0).collect();
    tasks.sort_unstable_by_key(|task| (task.name, task.declared_at));
    for pair in tasks.windows(2) {
        assert!(
            pair[0].name != pair[1].name,
            "two tasks are named '{}': one at {}, one at {}",
            pair[0].name,
            pair[0].declared_at,
            pair[1].declared_at,
        );
    }
    tasks
}

/// Runs the task called `name`.
pub(crate) fn run(name: &str, arguments: Arguments<'_>) -> Outcome {
    let task = inventory::iter::<Registered>
        .into_iter()
        .find(|registered| registered.0.name == name)
        .ok_or_else(|| TaskError::bad_arguments(format!("this module has no task '{name}'")))?;
    (task.0.run)(arguments)
}

/// The parameters and the result as the descriptor's `schema`.
pub(crate) fn schema(task: &Task) -> String {
    #[derive(Serialize)]
    struct Schema<'a> {
        parameters: Vec<ParameterSchema<'a>>,
        #[cfg(not(feature = "schema"))]
        result: &'a str,
        #[cfg(feature = "schema")]
        result: Result<'a>,
    }
    #[derive(Serialize)]
    struct ParameterSchema<'a> {
        name: &'a str,
        #[serde(rename = "type")]
        type_text: &'a str,
        required: bool,
        #[cfg(feature = "schema")]
        #[serde(skip_serializing_if = "Option::is_none")]
        schema: Option<Box<RawValue>>,
    }
    #[cfg(feature = "schema")]
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Result<'a> {
        Plain(&'a str),
        Described {
            #[serde(rename = "type")]
            type_text: &'a str,
            schema: Box<RawValue>,
        },
    }
    let describe = |parameter: &'static Parameter| ParameterSchema {
        name: parameter.name,
        type_text: parameter.type_text,
        required: parameter.required,
        #[cfg(feature = "schema")]
        schema: json_schema(parameter.describe),
    };
    let type_text = task.result.type_text;
    #[cfg(not(feature = "schema"))]
    let result = type_text;
    #[cfg(feature = "schema")]
    let result = match json_schema(task.result.describe) {
        Some(schema) => Result::Described { type_text, schema },
        None => Result::Plain(type_text),
    };
    let schema = Schema { parameters: task.parameters.iter().map(describe).collect(), result };
    serde_json::to_string(&schema).expect("strings and flags can always be serialized")
}

#[cfg(feature = "schema")]
fn json_schema(describe: Describe) -> Option<Box<RawValue>> {
    RawValue::from_string(describe.and_then(|describe| describe())?).ok()
}

/// A type that can be a result.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a task: it cannot be serialized to JSON",
    label = "does not implement `serde::Serialize`",
    note = "add `#[derive(serde::Serialize)]` to it and to every type in it"
)]
pub trait TaskOutput {
    /// Serializes the value to JSON.
    ///
    /// # Errors
    /// If it has no JSON form, such as a map whose keys are not strings.
    fn write(&self) -> serde_json::Result<String>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize> TaskOutput for T {
    fn write(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// A type that can be an error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task",
    label = "cannot be converted to a `Box<dyn Error>`",
    note = "use `TaskError`, a `String`, or a type that implements `std::error::Error`"
)]
pub trait IntoError {
    /// Converts it.
    fn into_boxed(self) -> Box<dyn Error>;
}

#[diagnostic::do_not_recommend]
impl<E: Into<Box<dyn Error>>> IntoError for E {
    fn into_boxed(self) -> Box<dyn Error> {
        self.into()
    }
}

/// Serializes the result of a task that cannot fail.
///
/// # Errors
/// [`TaskError::failed`] if it has no JSON form.
pub fn finish<T: TaskOutput>(result: &T) -> Outcome {
    result.write().map_err(|error| TaskError::failed(format!("the result cannot be serialized to JSON: {error}")))
}

/// Serializes the result of a task that can fail.
///
/// # Errors
/// The error of the task, or that of [`finish`].
pub fn finish_result<T: TaskOutput, E: IntoError>(result: Result<T, E>) -> Outcome {
    match result {
        Ok(result) => finish(&result),
        Err(error) => Err(TaskError::from_boxed(error.into_boxed())),
    }
}
