//! Assigns the arguments of a call to the parameters of a function, by Python's rules.
//!
//! Arguments are passed by position, by name, or both. Their JSON is only split here; each argument is
//! then parsed once, directly into its parameter's type.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::TaskError;
use crate::task::{Arguments, Task};

/// The JSON of a parameter's argument, if there is one.
type RawArgument<'a> = Option<&'a RawValue>;

impl<'a> Arguments<'a> {
    /// Finds the argument of each parameter of the task, in the order of the parameters.
    ///
    /// # Errors
    /// [`TaskError::bad_arguments`] if there are too many arguments, an unknown or a duplicate one, or
    /// if a required one is missing.
    pub fn bind<const N: usize>(self, task: &Task) -> Result<[RawArgument<'a>; N], TaskError> {
        let mut arguments = [None; N];
        self.fill(task, &mut arguments)?;
        Ok(arguments)
    }

    fn fill(self, task: &Task, arguments: &mut [RawArgument<'a>]) -> Result<(), TaskError> {
        let positional: Vec<&RawValue> =
            serde_json::from_str(self.args).map_err(|error| invalid_json("positional", "array", &error))?;
        for (argument, value) in arguments.iter_mut().zip(&positional) {
            *argument = Some(*value);
        }
        let named: Named<'_> =
            serde_json::from_str(self.kwargs).map_err(|error| invalid_json("named", "object", &error))?;
        for (name, value) in named.0 {
            let Some(index) = task.parameters.iter().position(|it| it.name == name) else {
                return Err(argument_error(task, &format!("got an unexpected keyword argument '{name}'")));
            };
            if arguments[index].replace(value).is_some() {
                return Err(argument_error(task, &format!("got multiple values for argument '{name}'")));
            }
        }
        if positional.len() > arguments.len() {
            return Err(too_many(task, positional.len()));
        }
        let is_missing = |index: usize| task.parameters[index].required && arguments[index].is_none();
        if (0..arguments.len()).any(is_missing) {
            let missing = (0..arguments.len()).filter(|index| is_missing(*index));
            return Err(missing_arguments(task, missing.map(|index| task.parameters[index].name)));
        }
        Ok(())
    }
}

/// A type that can be a parameter.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a task: it cannot be deserialized from JSON",
    label = "does not implement `serde::Deserialize`",
    note = "add `#[derive(serde::Deserialize)]` to it and to every type in it"
)]
pub trait Argument<'a>: Sized {
    /// Parses a value.
    ///
    /// # Errors
    /// If the JSON does not match the type.
    fn read(json: &'a str) -> serde_json::Result<Self>;
}

#[diagnostic::do_not_recommend]
impl<'a, T: Deserialize<'a>> Argument<'a> for T {
    fn read(json: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }
}

/// Parses the argument of a required parameter.
///
/// # Errors
/// [`TaskError::bad_arguments`] if the argument does not match the type.
pub fn required<'a, T: Argument<'a>>(name: &str, argument: RawArgument<'a>) -> Result<T, TaskError> {
    // `bind` has already refused a call without it.
    let json = argument.map_or("null", RawValue::get);
    T::read(json).map_err(|error| invalid_argument(name, &error))
}

/// Parses the argument of an optional parameter.
///
/// # Errors
/// [`TaskError::bad_arguments`] if the argument does not match the type.
pub fn optional<'a, T: Argument<'a>>(name: &str, argument: RawArgument<'a>) -> Result<Option<T>, TaskError> {
    match argument.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(json) => T::read(json).map(Some).map_err(|error| invalid_argument(name, &error)),
    }
}

/// `{"name": value, …}` with all duplicate names, so that they can be refused.
struct Named<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Named<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Named<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    entries.push((name, value));
                }
                Ok(Named(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// A name, borrowed unless it has escape sequences.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn argument_error(task: &Task, problem: &str) -> TaskError {
    TaskError::bad_arguments(format!("{}() {problem}", task.name))
}

fn too_many(task: &Task, given: usize) -> TaskError {
    let most = task.parameters.len();
    let least = task.parameters.iter().filter(|it| it.required).count();
    let range = if least < most { format!("from {least} to {most}") } else { most.to_string() };
    let argument = plural(most);
    let were = if given == 1 { "was" } else { "were" };
    argument_error(task, &format!("takes {range} {argument} but {given} {were} given"))
}

fn missing_arguments(task: &Task, names: impl Iterator<Item = &'static str>) -> TaskError {
    let names: Vec<String> = names.map(|name| format!("'{name}'")).collect();
    let count = names.len();
    let argument = plural(count);
    let listed = match names.as_slice() {
        [some @ .., last] if !some.is_empty() => format!("{} and {last}", some.join(", ")),
        names => names.join(", "),
    };
    argument_error(task, &format!("missing {count} required {argument}: {listed}"))
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "argument" } else { "arguments" }
}

fn invalid_argument(name: &str, error: &serde_json::Error) -> TaskError {
    TaskError::bad_arguments(format!("argument '{name}': {}", without_position(error)))
}

fn invalid_json(which: &str, expected: &str, error: &serde_json::Error) -> TaskError {
    TaskError::bad_arguments(format!("the {which} arguments are not a JSON {expected}: {error}"))
}

/// The message without line and column, which would be misleading: they count from the start of this
/// argument.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).map(str::to_owned).unwrap_or(text)
}
