//! Binds the arguments of a call to parameters, for a task whose arguments the host reads.

use super::{ArgumentError, is_in_snake_case, of_name, text};
use crate::json::Json;

/// An argument of a parameter.
#[derive(Debug)]
pub(crate) struct Bound<'a> {
    /// The index of the parameter.
    pub(crate) parameter: usize,
    /// The text of the value.
    pub(crate) value: &'a str,
    /// Its path: `args[1]`, `kwargs.price`.
    pub(crate) path: String,
}

/// Binds arguments to parameters, each with its name in WIT and whether it is required. The errors and their order are
/// those of [`Signature::check`](super::Signature::check).
///
/// # Errors
/// [`ArgumentError`] if arguments are missing or do not belong to a parameter.
pub(crate) fn bind<'a>(
    task: &str,
    parameters: &[(&str, bool)],
    args: &'a Json,
    kwargs: &'a Json,
) -> Result<Vec<Bound<'a>>, ArgumentError> {
    let mut given = 0;
    let mut bound = Vec::with_capacity(parameters.len());
    let mut is_bound = vec![false; parameters.len()];
    for value in text::items(args.as_str()) {
        if given < parameters.len() {
            is_bound[given] = true;
            bound.push(Bound { parameter: given, value, path: format!("args[{given}]") });
        }
        given += 1;
    }
    for (name, value) in text::entries(kwargs.as_str()) {
        let is_it = |(parameter, _): &(&str, bool)| *parameter == name || is_in_snake_case(&name, parameter);
        let Some(parameter) = parameters.iter().position(is_it) else {
            return Err(ArgumentError::Unknown { task: task.into(), name: name.into() });
        };
        if is_bound[parameter] {
            return Err(ArgumentError::Twice { task: task.into(), name: name.into() });
        }
        is_bound[parameter] = true;
        bound.push(Bound { parameter, value, path: of_name(&name) });
    }
    if given > parameters.len() {
        let least = parameters.iter().filter(|(_, required)| *required).count();
        return Err(ArgumentError::TooMany { task: task.into(), least, most: parameters.len(), given });
    }
    let missing = parameters.iter().zip(is_bound).filter(|((_, required), is_bound)| *required && !is_bound);
    let names: Vec<Box<str>> = missing.map(|((name, _), _)| (*name).into()).collect();
    if names.is_empty() { Ok(bound) } else { Err(ArgumentError::Missing { task: task.into(), names }) }
}
