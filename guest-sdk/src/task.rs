//! The tasks of this module: their list, and one attempt of one of them.
//!
//! `#[task]` registers a static [`Task`] each; there is no list to keep. Both targets come
//! through here, a module from its exports and a test from `testing`.

use std::error::Error;

use serde::Serialize;

use crate::arguments::Arguments;
use crate::error::TaskError;

/// What an attempt ends in: the text of one JSON document, or an error.
pub type Outcome = Result<String, TaskError>;

/// A task as `#[task]` writes it.
#[derive(Debug)]
pub struct Task {
    /// The name that clients submit under.
    pub name: &'static str,
    /// The doc comment.
    pub documentation: &'static str,
    /// In the order of the function.
    pub parameters: &'static [Parameter],
    /// The result's type, for people.
    pub result: &'static str,
    /// A JSON object, as the contract describes it.
    pub policy: &'static str,
    /// `file:line` of the function.
    pub declared_at: &'static str,
    /// Reads the arguments, calls the function and writes its result.
    pub run: fn(Arguments<'_>) -> Outcome,
}

/// A parameter of a task.
#[derive(Debug, Serialize)]
pub struct Parameter {
    /// The name that an argument may be given by.
    pub name: &'static str,
    /// The type as written, for people.
    #[serde(rename = "type")]
    pub type_text: &'static str,
    /// Whether a call without it is refused.
    pub required: bool,
}

/// An entry of the registry.
#[derive(Debug)]
pub struct Registered(pub &'static Task);

inventory::collect!(Registered);

/// All tasks in the order of their names.
///
/// # Panics
/// If two have the same name, naming both. A module that traps here is not put to use.
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

/// The parameters and the result as the text of the descriptor's `schema`.
pub(crate) fn schema(task: &Task) -> String {
    #[derive(Serialize)]
    struct Schema<'a> {
        parameters: &'a [Parameter],
        result: &'a str,
    }
    let schema = Schema { parameters: task.parameters, result: task.result };
    serde_json::to_string(&schema).expect("texts and flags can always be written")
}

/// Writes the result of a task that cannot fail.
///
/// # Errors
/// [`TaskError::Failed`] if it has no JSON form, such as a map whose keys are no texts.
pub fn finish<T: Serialize>(result: &T) -> Outcome {
    serde_json::to_string(result)
        .map_err(|error| TaskError::failed(format!("the result cannot be written as JSON: {error}")))
}

/// Writes the result of a task that can fail.
///
/// # Errors
/// The task's own, or that of [`finish`].
pub fn finish_result<T: Serialize, E: Into<Box<dyn Error>>>(result: Result<T, E>) -> Outcome {
    match result {
        Ok(result) => finish(&result),
        Err(error) => Err(TaskError::from_any(error.into())),
    }
}
