//! From the arguments of a call to the parameters of a function, by Python's rules.
//!
//! Arguments come by position, by name, or both. Their JSON is split here without being
//! understood; each piece is then read once, straight into its parameter's type.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::TaskError;
use crate::task::Task;

/// The arguments of one call.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    /// The text of a JSON array: the arguments by position.
    pub(crate) args: &'a str,
    /// The text of a JSON object: the arguments by name.
    pub(crate) kwargs: &'a str,
}

/// The JSON of a parameter's argument, if there is one.
type Slot<'a> = Option<&'a RawValue>;

impl<'a> Arguments<'a> {
    /// Gives each of the task's parameters its argument, in the order of the parameters.
    ///
    /// # Errors
    /// [`TaskError::bad_arguments`] if there are too many, an unknown or a doubled one, or if one
    /// that is required is missing.
    pub fn bind<const N: usize>(self, task: &Task) -> Result<[Slot<'a>; N], TaskError> {
        let mut slots = [None; N];
        self.fill(task, &mut slots)?;
        Ok(slots)
    }

    fn fill(self, task: &Task, slots: &mut [Slot<'a>]) -> Result<(), TaskError> {
        let positional: Vec<&RawValue> =
            serde_json::from_str(self.args).map_err(|error| malformed("positional", "array", &error))?;
        for (slot, value) in slots.iter_mut().zip(&positional) {
            *slot = Some(*value);
        }
        let named: Named<'_> =
            serde_json::from_str(self.kwargs).map_err(|error| malformed("named", "object", &error))?;
        for (name, value) in named.0 {
            let Some(index) = task.parameters.iter().position(|it| it.name == name) else {
                return Err(complaint(task, &format!("got an unexpected keyword argument '{name}'")));
            };
            if slots[index].replace(value).is_some() {
                return Err(complaint(task, &format!("got multiple values for argument '{name}'")));
            }
        }
        if positional.len() > slots.len() {
            return Err(too_many(task, positional.len()));
        }
        let is_missing = |index: usize| task.parameters[index].required && slots[index].is_none();
        if (0..slots.len()).any(is_missing) {
            let missing = (0..slots.len()).filter(|index| is_missing(*index));
            return Err(missing_arguments(task, missing.map(|index| task.parameters[index].name)));
        }
        Ok(())
    }
}

/// A type that may be a parameter.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a task: it cannot be read from JSON",
    label = "has no `serde::Deserialize`",
    note = "it and every type in it need `#[derive(serde::Deserialize)]`"
)]
pub trait Argument<'a>: Sized {
    /// Reads one.
    ///
    /// # Errors
    /// When the JSON does not fit.
    fn read(json: &'a str) -> serde_json::Result<Self>;
}

#[diagnostic::do_not_recommend]
impl<'a, T: Deserialize<'a>> Argument<'a> for T {
    fn read(json: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }
}

/// Reads a parameter that must be given.
///
/// # Errors
/// [`TaskError::bad_arguments`] if the argument does not fit the type.
pub fn required<'a, T: Argument<'a>>(name: &str, slot: Slot<'a>) -> Result<T, TaskError> {
    // `bind` has refused the call if a required argument is missing.
    let json = slot.map_or("null", RawValue::get);
    T::read(json).map_err(|error| misfit(name, &error))
}

/// Reads a parameter that may be left out.
///
/// # Errors
/// [`TaskError::bad_arguments`] if the argument does not fit the type.
pub fn optional<'a, T: Argument<'a>>(name: &str, slot: Slot<'a>) -> Result<Option<T>, TaskError> {
    match slot.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(json) => T::read(json).map(Some).map_err(|error| misfit(name, &error)),
    }
}

/// `{"name": value, …}`, with repeated names kept so that they can be refused.
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

/// A name, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn complaint(task: &Task, what: &str) -> TaskError {
    TaskError::bad_arguments(format!("{}() {what}", task.name))
}

fn too_many(task: &Task, given: usize) -> TaskError {
    let most = task.parameters.len();
    let least = task.parameters.iter().filter(|it| it.required).count();
    let range = if least < most { format!("from {least} to {most}") } else { most.to_string() };
    let argument = plural(most);
    let were = if given == 1 { "was" } else { "were" };
    complaint(task, &format!("takes {range} {argument} but {given} {were} given"))
}

fn missing_arguments(task: &Task, names: impl Iterator<Item = &'static str>) -> TaskError {
    let names: Vec<String> = names.map(|name| format!("'{name}'")).collect();
    let count = names.len();
    let argument = plural(count);
    let listed = match names.as_slice() {
        [some @ .., last] if !some.is_empty() => format!("{} and {last}", some.join(", ")),
        names => names.join(", "),
    };
    complaint(task, &format!("missing {count} required {argument}: {listed}"))
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "argument" } else { "arguments" }
}

fn misfit(name: &str, error: &serde_json::Error) -> TaskError {
    TaskError::bad_arguments(format!("argument '{name}': {}", without_place(error)))
}

fn malformed(which: &str, form: &str, error: &serde_json::Error) -> TaskError {
    TaskError::bad_arguments(format!("the {which} arguments are not a JSON {form}: {error}"))
}

/// The complaint alone: line and column count from the start of a single argument, where nobody
/// would look for them.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map(str::to_owned).unwrap_or(text)
}
