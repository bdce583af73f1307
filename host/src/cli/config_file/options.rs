//! Options of commands that a configuration file sets: their names, their values, and how they become defaults.

use std::error::Error as _;

use clap::{
    Arg, ArgAction, Command, CommandFactory as _,
    error::{ContextKind, ContextValue},
};
use toml::de::DeValue;

use super::{ConfigFile, document::key_of};
use crate::{
    cli::{Cli, command_tree},
    runtime::grants::GrantKind,
};

/// The sections with options: the names of the commands, with underscores.
pub(in crate::cli) const OPTION_SECTIONS: [&str; 2] = ["control_plane", "subworker"];

/// A section with this key.
pub(super) fn section_with(key: &str) -> Option<&'static str> {
    let has_key = |section: &&&str| section_options(&command_of(section)).iter().any(|option| option.key() == key);
    OPTION_SECTIONS.iter().find(has_key).copied()
}

/// The command whose options a section sets.
pub(in crate::cli) fn command_of(section: &str) -> Command {
    command_tree::find(Cli::command(), [section.replace('_', "-").as_str()])
}

/// An option that a section can set.
#[derive(Debug)]
pub(in crate::cli) struct SectionOption<'a>(pub(in crate::cli) &'a Arg);

/// The options of a command that its section can set: those that have a variable, but for the grants and the file.
pub(in crate::cli) fn section_options(command: &Command) -> Vec<SectionOption<'_>> {
    let options = command.get_arguments().filter(|option| option.get_env().is_some() && option.get_long().is_some());
    let options = options.map(SectionOption);
    options
        .filter(|option| option.name() != "config" && GrantKind::ALL.iter().all(|kind| key_of(*kind) != option.key()))
        .collect()
}

impl SectionOption<'_> {
    /// The name of the option, with hyphens.
    pub(in crate::cli) fn name(&self) -> &str {
        self.0.get_long().unwrap_or_default()
    }

    /// The key in the file.
    pub(in crate::cli) fn key(&self) -> String {
        self.name().replace('-', "_")
    }

    /// Converts a value of the file to values of the command line, and checks them.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn values(&self, command: &Command, value: &DeValue<'_>) -> Result<Vec<String>, String> {
        let key = self.key();
        let takes_several = matches!(self.0.get_action(), ArgAction::Append);
        let values = match value {
            DeValue::Boolean(value) => vec![value.to_string()],
            _ if self.is_switch() => return Err(format!("{key} is true or false")),
            DeValue::Array(items) if takes_several => {
                let items = items.iter().map(|item| scalar(item.get_ref()));
                items.collect::<Option<_>>().ok_or_else(|| format!("{key} is an array of strings"))?
            }
            value => match scalar(value) {
                Some(value) => vec![value],
                None if takes_several => return Err(format!("{key} is an array of strings")),
                None => return Err(format!("{key} is one value")),
            },
        };
        self.check(command, &values)?;
        Ok(values)
    }

    /// Whether the option has no value on the command line.
    fn is_switch(&self) -> bool {
        matches!(self.0.get_action(), ArgAction::SetTrue)
            || self.0.get_value_names().is_some_and(|names| names.iter().any(|name| name == "BOOL"))
    }

    /// Checks values as those of the flag.
    ///
    /// # Errors
    /// What to write instead.
    pub(in crate::cli) fn check(&self, command: &Command, values: &[String]) -> Result<(), String> {
        if matches!(self.0.get_action(), ArgAction::SetTrue) {
            return Ok(());
        }
        let command = command.clone().mut_args(|option| option.required(false).env(None::<&'static str>));
        let words = values.iter().map(|value| format!("--{}={value}", self.name()));
        let parsed = command.no_binary_name(true).try_get_matches_from(words);
        parsed.map(drop).map_err(|error| {
            let why = error.source().map_or_else(|| choices(&error), ToString::to_string);
            let is_secret = self.0.is_hide_env_values_set();
            let shown = match error.get(ContextKind::InvalidValue) {
                Some(ContextValue::String(value)) if !is_secret => format!(" '{value}'"),
                _ => String::new(),
            };
            format!("invalid {}{shown}: {why}", self.key())
        })
    }
}

fn choices(error: &clap::Error) -> String {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => format!("choose one of {}", values.join(", ")),
        _ => "write one value".to_owned(),
    }
}

/// The text of a value that is no array and no table.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|it| it.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

impl ConfigFile {
    /// Sets the file's values as the defaults of their options.
    pub(in crate::cli) fn set_defaults(&self, command: Command) -> Command {
        OPTION_SECTIONS.into_iter().fold(command, |command, section| {
            let name = section.replace('_', "-");
            command.mut_subcommand(name, |command| command.mut_args(|option| self.set_default(section, option)))
        })
    }

    fn set_default(&self, section: &str, option: Arg) -> Arg {
        let set = option.get_long().and_then(|long| self.option(section, long));
        let Some(set) = set else { return option };
        // clap keeps defaults for as long as the program runs.
        let values: Vec<&'static str> = set.values.iter().map(|value| &*value.clone().leak()).collect();
        option.required(false).default_values(values)
    }
}
