//! Parses the command line, and reports clap's errors in this program's style: with the environment
//! variable that a value came from, and with a hint. Empty variables count as unset.

use std::{env, error::Error as _, ffi::OsString, fmt::Display};

use clap::{
    Arg, Command, CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Cli, CliError, EXIT_USAGE, command_tree, config_file::ConfigFile, parse_bool};

/// Value names of numeric options. Their values may start with a hyphen, so that `-1` is reported as an
/// invalid value and not as an unknown option.
const NUMERIC_VALUES: [&str; 5] = ["DURATION", "COUNT", "NUMBER", "PORT", "SLOTS"];

/// The reason why a command line does not run a command.
pub(super) enum ParseError {
    /// It requests help or the version, or has no command: clap's output is printed unchanged.
    Display(clap::Error),
    /// It is invalid.
    Invalid(CliError),
}

/// Parses the command line of this process, and reads the configuration file of a command that has one.
///
/// # Errors
/// [`ParseError`] when there is no command to run.
pub(super) fn parse() -> Result<(Cli, ConfigFile), ParseError> {
    let words = words();
    let command_line = CommandLine::of(&words).command;
    // `list` reads it for files of modules only.
    let has_file =
        command_line.get_name() != "list" && command_line.get_arguments().any(|option| option.get_id() == "config");
    let file = if has_file { ConfigFile::find(&words) } else { Ok(ConfigFile::default()) };
    let command = match &file {
        Ok(file) => file.set_defaults(command()),
        Err(_) => command(),
    };
    let parsed = command.try_get_matches_from(env::args_os()).and_then(|matches| Cli::from_arg_matches(&matches));
    match (parsed, file) {
        (Ok(cli), Ok(file)) => Ok((cli, file)),
        (Err(error), file) => match error.kind() {
            ErrorKind::DisplayHelp => Err(ParseError::Display(help(error))),
            ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Err(ParseError::Display(error))
            }
            // Without the file's settings, options may seem to be missing.
            _ => Err(ParseError::Invalid(file.err().unwrap_or_else(|| CommandLine::of(&words).convert(&error)))),
        },
        (Ok(_), Err(error)) => Err(ParseError::Invalid(error)),
    }
}

/// The configuration file of this command line.
///
/// # Errors
/// All errors of the file, or the reason why it cannot be read.
pub(super) fn config_file() -> Result<ConfigFile, CliError> {
    ConfigFile::find(&words())
}

/// The definition of the command line, without the variables that are empty or set by Kubernetes.
pub(super) fn command() -> Command {
    prepare(Cli::command(), &|option| {
        variable_value(option).is_some_and(|value| value.is_empty()) || is_kubernetes_variable(option)
    })
}

/// The value of an option's variable.
fn variable_value(option: &Arg) -> Option<OsString> {
    env::var_os(option.get_env()?)
}

/// Whether Kubernetes has set the variable of an option for a service: with a service called
/// `fastworker-gui`, `FASTWORKER_GUI_PORT` is `tcp://10.0.0.1:8080`. Such a value is never a number; for
/// options that take addresses it cannot be distinguished.
fn is_kubernetes_variable(option: &Arg) -> bool {
    const SCHEMES: [&str; 3] = ["tcp://", "udp://", "sctp://"];
    let value = takes_number(option).then(|| variable_value(option)).flatten();
    value.is_some_and(|value| SCHEMES.iter().any(|scheme| value.to_string_lossy().starts_with(scheme)))
}

fn takes_number(option: &Arg) -> bool {
    let name = option.get_value_names().and_then(|names| names.first());
    name.is_some_and(|name| NUMERIC_VALUES.contains(&name.as_str()))
}

/// A note for each variable that is ignored because Kubernetes has set it, unless its flag is given.
pub(super) fn ignored_variables() -> Vec<String> {
    let words = words();
    let line = CommandLine::of(&words);
    let ignored = line.all_options().into_iter().filter(|option| {
        let long = option.get_long().map(|long| format!("--{long}"));
        is_kubernetes_variable(option) && !long.is_some_and(|long| is_given(line.words, &long))
    });
    let note = |option: Arg| {
        let variable = option.get_env().unwrap_or_default().display();
        let value = variable_value(&option).unwrap_or_default();
        let long = option.get_long().unwrap_or_default();
        format!(
            "{variable}={} is ignored, because Kubernetes sets it for a service of that name; set --{long}, or rename the \
             service",
            value.display()
        )
    };
    ignored.map(note).collect()
}

/// Removes the variables for which `is_ignored` returns true, and lets numeric values start with a hyphen.
fn prepare(command: Command, is_ignored: &impl Fn(&Arg) -> bool) -> Command {
    let prepare_option = |option: Arg| {
        let is_ignored = option.get_env().is_some() && is_ignored(&option);
        let option = if takes_number(&option) { option.allow_hyphen_values(true) } else { option };
        if is_ignored { option.env(None::<&'static str>) } else { option }
    };
    command.display_name("fastworker").mut_args(prepare_option).mut_subcommands(|below| prepare(below, is_ignored))
}

/// Renders help with all variables, including those that are empty.
fn help(error: clap::Error) -> clap::Error {
    prepare(Cli::command(), &|_| false).try_get_matches_from(env::args_os()).err().unwrap_or(error)
}

/// Whether JSON output is requested, even by a command line that is invalid.
pub(super) fn wants_json() -> bool {
    let mut arguments = env::args_os().skip(1).take_while(|word| word != "--");
    arguments.any(|word| word == "--json")
        || env::var("FASTWORKER_JSON").is_ok_and(|text| parse_bool(&text) == Ok(true))
}

/// The variable that sets an option, unless its flag is given.
pub(super) fn variable(long: &str) -> Option<String> {
    CommandLine::of(&words()).variable(long)
}

/// Whether the flag of an option is on the command line.
pub(super) fn is_typed(long: &str) -> bool {
    let words: Vec<String> = words().into_iter().take_while(|word| word != "--").collect();
    is_given(&words, &format!("--{long}"))
}

/// The command line of this process, with invalid UTF-8 replaced.
fn words() -> Vec<String> {
    env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn is_given(line: &[String], long: &str) -> bool {
    line.iter().any(|word| word.strip_prefix(long).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
}

/// The words of a command line, and the command that they select.
struct CommandLine<'a> {
    words: &'a [String],
    command: Command,
}

impl<'a> CommandLine<'a> {
    fn of(words: &'a [String]) -> Self {
        let command = command_tree::find(command(), words.iter().skip(1).map(String::as_str));
        Self { words, command }
    }

    /// The full name of the command: `fastworker schedule add`.
    fn name(&self) -> &str {
        self.command.get_bin_name().unwrap_or("fastworker")
    }

    /// The options of the command, including the variables that are ignored.
    fn all_options(&self) -> Vec<Arg> {
        let root = prepare(Cli::command(), &|_| false);
        let command = command_tree::find(root, self.name().split_whitespace().skip(1));
        command.get_arguments().cloned().collect()
    }

    fn help(&self) -> String {
        format!("{} --help shows every option", self.name())
    }

    /// The usage line of the command. clap's own would list every option that a variable sets.
    fn usage(&self) -> String {
        let usage = self.command.clone().render_usage().to_string();
        let usage: Vec<&str> = usage.trim_start_matches("Usage:").split_whitespace().collect();
        format!("usage: {}", usage.join(" "))
    }

    /// Finds an option by clap's display form: `--timeout <DURATION>`.
    fn option(&self, shown: &str) -> Option<&Arg> {
        let word = shown.split([' ', '=']).next()?;
        self.command.get_arguments().find(|option| match option.get_long() {
            Some(long) => word.strip_prefix("--") == Some(long),
            None => option.get_value_names().is_some_and(|names| {
                names.first().is_some_and(|name| word.trim_matches(['<', '>', '[', ']', '.']) == name.as_str())
            }),
        })
    }

    /// The variable that sets an option, unless its flag is given.
    fn variable(&self, shown: &str) -> Option<String> {
        let option = self.option(shown)?;
        let is_typed = option.get_long().is_some_and(|long| is_given(self.words, &format!("--{long}")));
        let variable = option.get_env().filter(|variable| !is_typed && env::var_os(variable).is_some())?;
        Some(variable.to_string_lossy().into_owned())
    }

    /// The name of an option, with the variable that its value came from.
    fn option_name(&self, shown: &str) -> String {
        let name = shown.split([' ', '=']).next().unwrap_or(shown);
        match self.variable(shown) {
            Some(variable) if self.option(shown).is_some_and(Arg::is_hide_set) => variable,
            Some(variable) => format!("{name} (from {variable})"),
            None => name.to_owned(),
        }
    }

    /// Converts a clap error.
    fn convert(&self, error: &clap::Error) -> CliError {
        let context = |kind| strings(error.get(kind));
        let first = |kind| context(kind).into_iter().next().unwrap_or_default();
        let (option, value) = (first(ContextKind::InvalidArg), first(ContextKind::InvalidValue));
        match error.kind() {
            ErrorKind::InvalidValue if value.is_empty() => {
                usage_error(format!("{} needs a value", self.option_name(&option))).hint(self.help())
            }
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => self.invalid_value(error, &option, &value),
            ErrorKind::MissingRequiredArgument => self.missing(&context(ContextKind::InvalidArg)),
            ErrorKind::UnknownArgument if option.starts_with('-') => {
                let hint = match first(ContextKind::SuggestedArg) {
                    near if !near.is_empty() => format!("did you mean {near}?"),
                    _ if self.command.get_positionals().next().is_some() => {
                        format!("{}; write -- before values that start with a hyphen", self.help())
                    }
                    _ => self.help(),
                };
                usage_error(format!("{} has no option {option}", self.name())).hint(hint)
            }
            ErrorKind::UnknownArgument | ErrorKind::TooManyValues => {
                let word = if option.is_empty() { value } else { option };
                usage_error(format!("unexpected argument '{word}'")).hint(self.usage())
            }
            ErrorKind::InvalidSubcommand => {
                let hint = match context(ContextKind::SuggestedSubcommand).as_slice() {
                    [] => format!("{} --help lists the commands", self.name()),
                    near => format!("did you mean '{}'?", near.join("' or '")),
                };
                usage_error(format!("{} has no command '{}'", self.name(), first(ContextKind::InvalidSubcommand)))
                    .hint(hint)
            }
            ErrorKind::ArgumentConflict => self.conflict(&option, &context(ContextKind::PriorArg)),
            ErrorKind::InvalidUtf8 => usage_error("an argument is not valid UTF-8").hint(self.usage()),
            _ => {
                let message = error.render().to_string();
                let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
                usage_error(first).hint(self.help())
            }
        }
    }

    fn invalid_value(&self, error: &clap::Error, option: &str, value: &str) -> CliError {
        let is_secret = self.option(option).is_some_and(Arg::is_hide_env_values_set);
        let value = if is_secret { "value".to_owned() } else { format!("value '{value}'") };
        let choices = strings(error.get(ContextKind::ValidValue)).join(", ");
        let hint = error.source().map_or(format!("choose one of {choices}"), ToString::to_string);
        usage_error(format!("invalid {value} for {}", self.option_name(option))).hint(hint)
    }

    fn missing(&self, options: &[String]) -> CliError {
        let missing: Vec<String> = options.iter().map(|shown| alternatives(shown)).collect();
        let verb = if missing.len() > 1 { "are" } else { "is" };
        let hint = format!("{}; {}", self.usage(), self.help());
        usage_error(format!("{} {verb} missing", missing.join(" and "))).hint(hint)
    }

    fn conflict(&self, option: &str, others: &[String]) -> CliError {
        if others.iter().any(|other| other == option) {
            return usage_error(format!("{} can be given only once", self.option_name(option))).hint(self.help());
        }
        let others: Vec<String> = others.iter().map(|other| self.option_name(other)).collect();
        let (one, other) = (self.option_name(option), others.join(" and "));
        let is_by_variable = [&one, &other].iter().any(|name| name.contains("(from "));
        let hint = if is_by_variable { "unset the variable or omit the option" } else { "omit one of them" };
        usage_error(format!("{one} cannot be used with {other}")).hint(hint)
    }
}

fn usage_error(message: impl Display) -> CliError {
    CliError::new(EXIT_USAGE, message)
}

/// Formats a required group, such as `<--every <DURATION>|--cron <PATTERN>>`, with "or" between its options.
fn alternatives(shown: &str) -> String {
    match shown.strip_prefix('<').and_then(|group| group.strip_suffix('>')) {
        Some(group) if group.contains('|') => group.replace('|', " or "),
        _ => shown.to_owned(),
    }
}

fn strings(value: Option<&ContextValue>) -> Vec<String> {
    match value {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(values)) => values.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_error(words: &[&str]) -> CliError {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let error = command().try_get_matches_from(&words).expect_err("the command line is invalid");
        CommandLine::of(&words).convert(&error)
    }

    #[test]
    fn clap_errors_are_reported_in_our_style() {
        let missing = parse_error(&["fastworker", "schedule", "add", "s", "--task-name", "x"]);
        assert_eq!(missing.message, "--every <DURATION> or --cron <PATTERN> is missing");
        let unknown = parse_error(&["fastworker", "submit", "--task-nam", "x"]);
        assert_eq!(unknown.message, "fastworker submit has no option --task-nam");
        assert_eq!(unknown.hint.as_deref(), Some("did you mean --task-name?"));
        let value = parse_error(&["fastworker", "dev", "./-x.wasm", "-x"]);
        assert_eq!(
            value.hint.as_deref(),
            Some("fastworker dev --help shows every option; write -- before values that start with a hyphen")
        );
        let number = parse_error(&["fastworker", "events", "--after", "-1"]);
        assert_eq!(number.message, "invalid value '-1' for --after");
        assert_eq!(number.hint.as_deref(), Some("write a whole number, 0 or more"));
        let secret = parse_error(&["fastworker", "control-plane", "--gui-api-key", "two words"]);
        assert_eq!(secret.message, "invalid value for --gui-api-key");
    }

    #[test]
    fn an_empty_variable_counts_as_unset_everywhere() {
        let prepared = prepare(Cli::command(), &|option| option.get_env().is_some_and(|it| it == "FASTWORKER_TIMEOUT"));
        let submit = prepared.find_subcommand("submit").expect("there is a submit");
        let variable =
            |long: &str| submit.get_arguments().find(|it| it.get_long() == Some(long)).and_then(Arg::get_env);
        assert_eq!((variable("timeout"), variable("json")), (None, Some(std::ffi::OsStr::new("FASTWORKER_JSON"))));
    }
}
