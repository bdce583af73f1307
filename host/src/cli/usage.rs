//! What is wrong with a command line, in our words and with the variable that a value came from.
//!
//! Apart because clap finds these mistakes before there is a command to run. Empty variables are as
//! good as unset.

use std::{env, error::Error as _, ffi::OsString};

use clap::{
    Arg, Command, CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Cli, Failure, WRONG_USAGE, switch};

/// Values that may begin with a hyphen, so that `-1` is told to be no such value.
const MEASURES: [&str; 5] = ["SPAN", "COUNT", "NUMBER", "PORT", "SLOTS"];

/// A command line that runs no command.
pub(super) enum Stop {
    /// It asks for help or the version, or lacks its command: clap has the words.
    Shown(clap::Error),
    /// It cannot work.
    Wrong(Failure),
}

/// Reads the command line of this process.
///
/// # Errors
/// [`Stop`] when there is no command to run.
pub(super) fn read() -> Result<Cli, Stop> {
    let read = command().try_get_matches_from(env::args_os()).and_then(|matches| Cli::from_arg_matches(&matches));
    read.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => Stop::Shown(help(error)),
        ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Stop::Shown(error),
        _ => Stop::Wrong(Line::of(&words()).failure(&error)),
    })
}

/// The command line, without the variables that are empty or a service's.
pub(super) fn command() -> Command {
    prepared(Cli::command(), &|option| value_of(option).is_some_and(|value| value.is_empty()) || is_services(option))
}

/// What the variable of an option says.
fn value_of(option: &Arg) -> Option<OsString> {
    env::var_os(option.get_env()?)
}

/// Whether the variable of an option is one that Kubernetes sets for a service: next to a service called
/// `fastworker-gui`, `FASTWORKER_GUI_PORT` is `tcp://10.0.0.1:8080`. No number reads like that; addresses do.
fn is_services(option: &Arg) -> bool {
    const SCHEMES: [&str; 3] = ["tcp://", "udp://", "sctp://"];
    let value = takes_measure(option).then(|| value_of(option)).flatten();
    value.is_some_and(|value| SCHEMES.iter().any(|scheme| value.to_string_lossy().starts_with(scheme)))
}

fn takes_measure(option: &Arg) -> bool {
    let name = option.get_value_names().and_then(|names| names.first());
    name.is_some_and(|name| MEASURES.contains(&name.as_str()))
}

/// What to say of the variables that are left out, as they are a service's. A flag says what they do not.
pub(super) fn notes() -> Vec<String> {
    let words = words();
    let line = Line::of(&words);
    let left_out = line.raw().into_iter().filter(|option| {
        let long = option.get_long().map(|long| format!("--{long}"));
        is_services(option) && !long.is_some_and(|long| is_given(line.words, &long))
    });
    let note = |option: Arg| {
        let variable = option.get_env().unwrap_or_default().display();
        let value = value_of(&option).unwrap_or_default();
        let long = option.get_long().unwrap_or_default();
        format!(
            "{variable}={} is ignored: Kubernetes sets it for a service of that name; set --{long}, or give the service \
             another name",
            value.display()
        )
    };
    left_out.map(note).collect()
}

fn prepared(command: Command, is_left_out: &impl Fn(&Arg) -> bool) -> Command {
    let prepare = |option: Arg| {
        let is_left_out = option.get_env().is_some() && is_left_out(&option);
        let option = if takes_measure(&option) { option.allow_hyphen_values(true) } else { option };
        if is_left_out { option.env(None::<&'static str>) } else { option }
    };
    command.display_name("fastworker").mut_args(prepare).mut_subcommands(|below| prepared(below, is_left_out))
}

/// Help names all variables, also those that are empty now.
fn help(error: clap::Error) -> clap::Error {
    prepared(Cli::command(), &|_| false).try_get_matches_from(env::args_os()).err().unwrap_or(error)
}

/// Whether JSON is asked for, be it by a command line that cannot be read.
pub(super) fn wants_json() -> bool {
    let mut options = env::args_os().skip(1).take_while(|word| word != "--");
    options.any(|word| word == "--json") || env::var("FASTWORKER_JSON").is_ok_and(|text| switch(&text) == Ok(true))
}

/// The variable that an option was set by, if it was and the flag was not given.
pub(super) fn variable(long: &str) -> Option<String> {
    Line::of(&words()).variable(long)
}

/// The command line of this process, as far as it is text.
fn words() -> Vec<String> {
    env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn is_given(line: &[String], long: &str) -> bool {
    line.iter().any(|word| word.strip_prefix(long).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
}

/// A command line, and the command that it calls.
struct Line<'a> {
    words: &'a [String],
    command: Command,
}

impl<'a> Line<'a> {
    fn of(words: &'a [String]) -> Self {
        let mut command = command();
        command.build();
        for word in words.iter().skip(1) {
            match command.find_subcommand(word) {
                Some(below) => command = below.clone(),
                None => break,
            }
        }
        Self { words, command }
    }

    /// How it is called: `fastworker schedule add`.
    fn name(&self) -> &str {
        self.command.get_bin_name().unwrap_or("fastworker")
    }

    /// The options of the command, with all of their variables.
    fn raw(&self) -> Vec<Arg> {
        let mut command = prepared(Cli::command(), &|_| false);
        command.build();
        for name in self.name().split_whitespace().skip(1) {
            match command.find_subcommand(name) {
                Some(below) => command = below.clone(),
                None => break,
            }
        }
        command.get_arguments().cloned().collect()
    }

    fn help(&self) -> String {
        format!("{} --help shows every option", self.name())
    }

    /// How the command is used, which clap would say with every option that a variable has set.
    fn usage(&self) -> String {
        let usage = self.command.clone().render_usage().to_string();
        let usage: Vec<&str> = usage.trim_start_matches("Usage:").split_whitespace().collect();
        format!("usage: {}", usage.join(" "))
    }

    /// An option by what clap calls it: `--timeout <SPAN>`.
    fn option(&self, shown: &str) -> Option<&Arg> {
        let word = shown.split([' ', '=']).next()?;
        self.command.get_arguments().find(|option| match option.get_long() {
            Some(long) => word.strip_prefix("--") == Some(long),
            None => option.get_value_names().is_some_and(|names| {
                names.first().is_some_and(|name| word.trim_matches(['<', '>', '[', ']', '.']) == name.as_str())
            }),
        })
    }

    /// The variable that an option is set by, if the flag is not given.
    fn variable(&self, shown: &str) -> Option<String> {
        let option = self.option(shown)?;
        let is_typed = option.get_long().is_some_and(|long| is_given(self.words, &format!("--{long}")));
        let variable = option.get_env().filter(|variable| !is_typed && env::var_os(variable).is_some())?;
        Some(variable.to_string_lossy().into_owned())
    }

    /// The option's name, and the variable that its value came from.
    fn told(&self, shown: &str) -> String {
        let name = shown.split([' ', '=']).next().unwrap_or(shown);
        match self.variable(shown) {
            Some(variable) if self.option(shown).is_some_and(Arg::is_hide_set) => variable,
            Some(variable) => format!("{name} (from {variable})"),
            None => name.to_owned(),
        }
    }

    /// A clap error, told as all errors are.
    fn failure(&self, error: &clap::Error) -> Failure {
        let of = |kind| texts(error.get(kind));
        let one = |kind| of(kind).into_iter().next().unwrap_or_default();
        let (option, value) = (one(ContextKind::InvalidArg), one(ContextKind::InvalidValue));
        let wrong = |message: String| Failure::new(WRONG_USAGE, message);
        match error.kind() {
            ErrorKind::InvalidValue if value.is_empty() => {
                wrong(format!("{} needs a value", self.told(&option))).hint(self.help())
            }
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
                let is_secret = self.option(&option).is_some_and(Arg::is_hide_env_values_set);
                let value = if is_secret { "value".to_owned() } else { format!("value '{value}'") };
                let choices = of(ContextKind::ValidValue).join(", ");
                let hint = error.source().map_or(format!("choose one of {choices}"), ToString::to_string);
                wrong(format!("invalid {value} for {}", self.told(&option))).hint(hint)
            }
            ErrorKind::MissingRequiredArgument => {
                let missing: Vec<String> =
                    of(ContextKind::InvalidArg).iter().map(|shown| alternatives(shown)).collect();
                let verb = if missing.len() > 1 { "are" } else { "is" };
                let hint = format!("{}; {}", self.usage(), self.help());
                wrong(format!("{} {verb} missing", missing.join(" and "))).hint(hint)
            }
            ErrorKind::UnknownArgument if option.starts_with('-') => {
                let hint = match one(ContextKind::SuggestedArg) {
                    near if near.is_empty() => self.help(),
                    near => format!("did you mean {near}?"),
                };
                wrong(format!("{} has no option {option}", self.name())).hint(hint)
            }
            ErrorKind::UnknownArgument | ErrorKind::TooManyValues => {
                let word = if option.is_empty() { value } else { option };
                wrong(format!("unexpected argument '{word}'")).hint(self.usage())
            }
            ErrorKind::InvalidSubcommand => {
                let hint = match of(ContextKind::SuggestedSubcommand).as_slice() {
                    [] => format!("{} --help lists the commands", self.name()),
                    near => format!("did you mean '{}'?", near.join("' or '")),
                };
                wrong(format!("{} has no command '{}'", self.name(), one(ContextKind::InvalidSubcommand))).hint(hint)
            }
            ErrorKind::ArgumentConflict => self.conflict(&option, &of(ContextKind::PriorArg)),
            ErrorKind::InvalidUtf8 => wrong("an argument is not valid UTF-8".into()).hint(self.usage()),
            _ => {
                let told = error.render().to_string();
                let first = told.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
                wrong(first).hint(self.help())
            }
        }
    }

    fn conflict(&self, option: &str, others: &[String]) -> Failure {
        if others.iter().any(|other| other == option) {
            return Failure::new(WRONG_USAGE, format!("{} can be given only once", self.told(option)))
                .hint(self.help());
        }
        let others: Vec<String> = others.iter().map(|other| self.told(other)).collect();
        let (one, other) = (self.told(option), others.join(" and "));
        let is_by_variable = [&one, &other].iter().any(|told| told.contains("(from "));
        let hint = if is_by_variable { "unset the variable, or leave out the option" } else { "leave one of them out" };
        Failure::new(WRONG_USAGE, format!("{one} cannot be used with {other}")).hint(hint)
    }
}

/// `<--every <SPAN>|--cron <PATTERN>>` as it is said: one or the other.
fn alternatives(shown: &str) -> String {
    match shown.strip_prefix('<').and_then(|group| group.strip_suffix('>')) {
        Some(group) if group.contains('|') => group.replace('|', " or "),
        _ => shown.to_owned(),
    }
}

fn texts(value: Option<&ContextValue>) -> Vec<String> {
    match value {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str]) -> Failure {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let error = command().try_get_matches_from(&words).expect_err("it is wrong");
        Line::of(&words).failure(&error)
    }

    #[test]
    fn mistakes_are_told_in_our_words() {
        let missing = told(&["fastworker", "schedule", "add", "s", "--task-name", "x"]);
        assert_eq!(missing.message, "--every <SPAN> or --cron <PATTERN> is missing");
        let unknown = told(&["fastworker", "submit", "--task-nam", "x"]);
        assert_eq!(unknown.message, "fastworker submit has no option --task-nam");
        assert_eq!(unknown.hint.as_deref(), Some("did you mean --task-name?"));
        let number = told(&["fastworker", "events", "--after", "-1"]);
        assert_eq!(number.message, "invalid value '-1' for --after");
        assert_eq!(number.hint.as_deref(), Some("write a whole number, 0 or more"));
        let secret = told(&["fastworker", "control-plane", "--gui-api-key", "two words"]);
        assert_eq!(secret.message, "invalid value for --gui-api-key");
    }

    #[test]
    fn an_empty_variable_is_left_out_everywhere() {
        let emptied = prepared(Cli::command(), &|option| option.get_env().is_some_and(|it| it == "FASTWORKER_TIMEOUT"));
        let submit = emptied.find_subcommand("submit").expect("there is a submit");
        let variable =
            |long: &str| submit.get_arguments().find(|it| it.get_long() == Some(long)).and_then(Arg::get_env);
        assert_eq!((variable("timeout"), variable("json")), (None, Some(std::ffi::OsStr::new("FASTWORKER_JSON"))));
    }
}
