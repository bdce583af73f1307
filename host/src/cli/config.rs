//! `fastworker config`

use std::env;

use clap::{Arg, Args, Subcommand};

use super::{
    CliError, CommandResult, EXIT_USAGE,
    config_file::{self, ConfigFile, ConfigOptions, OPTION_SECTIONS},
    grant_options::GrantOptions,
    parse_bool, render,
};

#[derive(Args, Debug)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    command: ConfigSubcommand,
}

#[derive(Debug, Subcommand)]
enum ConfigSubcommand {
    /// Check the configuration, and show each value and where it comes from
    Check(CheckCommand),
    /// Print a configuration file with every key, as comments
    Example,
}

#[derive(Args, Debug)]
#[command(after_help = "Servers read the file when they start. Restart them after a change.")]
struct CheckCommand {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    grants: GrantOptions,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = parse_bool)]
    json: bool,
}

/// Where the value of an option comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueSource {
    Default,
    /// A line of the file.
    FileLine(usize),
    Variable(String),
}

/// The value of an option that a section of the file can set.
#[derive(Debug)]
pub(super) struct OptionValue {
    pub(super) section: &'static str,
    pub(super) key: String,
    /// None without a value, or if the default is not fixed.
    pub(super) value: Option<String>,
    pub(super) source: ValueSource,
}

impl ConfigCommand {
    pub(super) fn run(self, file: &ConfigFile) -> CommandResult {
        match self.command {
            ConfigSubcommand::Check(check) => check.run(file),
            ConfigSubcommand::Example => {
                render::print_text(config_file::EXAMPLE);
                Ok(0)
            }
        }
    }
}

impl CheckCommand {
    fn run(self, file: &ConfigFile) -> CommandResult {
        self.grants.table(file)?;
        let options = OPTION_SECTIONS.into_iter().map(|section| option_values(section, file));
        let options: Vec<OptionValue> = options.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        render::print_configuration(file, &options, &self.grants.with_sources(file), self.json)
    }
}

/// The options of a section, each with its value.
fn option_values(section: &'static str, file: &ConfigFile) -> Result<Vec<OptionValue>, CliError> {
    let command = config_file::command_of(section);
    let mut values = Vec::new();
    for option in config_file::section_options(&command) {
        let (value, source) = match variable(option.0) {
            Some((name, value)) => {
                option.check(&command, std::slice::from_ref(&value)).map_err(|why| {
                    CliError::new(EXIT_USAGE, format!("{name}: {why}")).hint("correct the variable, or unset it")
                })?;
                (Some(value), ValueSource::Variable(name))
            }
            None => match file.option(section, option.name()) {
                Some(set) => (Some(set.values.join(", ")), ValueSource::FileLine(set.line)),
                None => (default(option.0), ValueSource::Default),
            },
        };
        let is_secret = option.0.is_hide_env_values_set();
        let value = value.map(|value| if is_secret { "***".to_owned() } else { value });
        values.push(OptionValue { section, key: option.key(), value, source });
    }
    Ok(values)
}

/// The name and the value of an option's variable, if it is set.
fn variable(option: &Arg) -> Option<(String, String)> {
    let name = option.get_env()?.to_string_lossy().into_owned();
    let value = env::var_os(&name).filter(|value| !value.is_empty())?;
    Some((name, value.to_string_lossy().into_owned()))
}

fn default(option: &Arg) -> Option<String> {
    let values: Vec<_> = option.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}
