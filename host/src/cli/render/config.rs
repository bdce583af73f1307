//! Output of `config check`: each value, and where it comes from.

use std::path::Path;

use serde::Serialize;

use super::{
    CommandResult,
    output::{print_escaped, print_json, print_lines},
    table::{Column, column, lines},
};
use crate::{
    cli::{
        config::{OptionValue, ValueSource},
        config_file::{ConfigFile, FileSetting, OPTION_SECTIONS},
        grant_options::{GrantSource, SourcedGrant},
    },
    escape,
};

/// The configuration as JSON.
#[derive(Serialize)]
struct ConfigurationJson<'a> {
    /// The path of the file; null without a file.
    file: Option<&'a Path>,
    options: Vec<OptionJson<'a>>,
    grants: Vec<GrantJson<'a>>,
    policies: Vec<SettingJson<'a>>,
}

#[derive(Serialize)]
struct OptionJson<'a> {
    section: &'a str,
    key: &'a str,
    value: Option<&'a str>,
    #[serde(flatten)]
    source: SourceJson<'a>,
}

#[derive(Serialize)]
struct GrantJson<'a> {
    /// Null for all modules.
    module: Option<&'a str>,
    key: String,
    /// As in the file.
    value: String,
    /// As in the catalogs of workers.
    name: String,
    #[serde(flatten)]
    source: SourceJson<'a>,
}

#[derive(Serialize)]
struct SettingJson<'a> {
    module: &'a str,
    /// Null for all tasks of the module.
    task: Option<&'a str>,
    key: &'a str,
    /// As in the file.
    value: &'a str,
    #[serde(flatten)]
    source: SourceJson<'a>,
}

/// Where a value comes from: `source` is flag, variable, file or default.
#[derive(Serialize)]
struct SourceJson<'a> {
    source: &'static str,
    variable: Option<&'a str>,
    line: Option<usize>,
}

impl<'a> SourceJson<'a> {
    fn line(line: usize) -> Self {
        Self { source: "file", variable: None, line: Some(line) }
    }

    fn variable(name: &'a str) -> Self {
        Self { source: "variable", variable: Some(name), line: None }
    }
}

impl<'a> From<&'a ValueSource> for SourceJson<'a> {
    fn from(source: &'a ValueSource) -> Self {
        match source {
            ValueSource::Default => Self { source: "default", variable: None, line: None },
            ValueSource::FileLine(line) => Self::line(*line),
            ValueSource::Variable(name) => Self::variable(name),
        }
    }
}

impl<'a> From<&'a GrantSource> for SourceJson<'a> {
    fn from(source: &'a GrantSource) -> Self {
        match source {
            GrantSource::Flag(_) => Self { source: "flag", variable: None, line: None },
            GrantSource::FileLine(line) => Self::line(*line),
            GrantSource::Variable(name) => Self::variable(name),
        }
    }
}

/// Prints the options, the grants and the policies that have effect.
pub(in crate::cli) fn print_configuration(
    file: &ConfigFile,
    options: &[OptionValue],
    grants: &[SourcedGrant],
    json: bool,
) -> CommandResult {
    if json {
        let options = options.iter().map(|OptionValue { section, key, value, source }| OptionJson {
            section,
            key,
            value: value.as_deref(),
            source: source.into(),
        });
        let grants = grants.iter().map(|SourcedGrant { module, grant, source }| GrantJson {
            module: module.as_deref(),
            key: key(grant.kind().option()),
            value: grant.to_string(),
            name: grant.name(),
            source: source.into(),
        });
        let policies = file.settings.iter().map(|FileSetting { module, task, key, value, line }| SettingJson {
            module,
            task: task.as_deref(),
            key,
            value,
            source: SourceJson::line(*line),
        });
        let (options, grants, policies) = (options.collect(), grants.collect(), policies.collect());
        print_json(&ConfigurationJson { file: file.path.as_deref(), options, grants, policies })?;
        return Ok(0);
    }
    match &file.path {
        Some(path) => print_escaped(format_args!("{} has no errors", escape::path(path))),
        None => print_escaped("there is no configuration file"),
    }
    for section in OPTION_SECTIONS {
        let rows = options.iter().filter(|option| option.section == section).map(option_row);
        print_section(section, OPTION_COLUMNS, &rows.collect::<Vec<_>>());
    }
    print_section("grants", GRANT_COLUMNS, &grants.iter().map(grant_row).collect::<Vec<_>>());
    print_section("modules", SETTING_COLUMNS, &file.settings.iter().map(setting_row).collect::<Vec<_>>());
    Ok(0)
}

const OPTION_COLUMNS: [Column; 3] = [column("KEY", ""), column("VALUE", ""), column("FROM", "from ")];
const GRANT_COLUMNS: [Column; 4] =
    [column("KEY", ""), column("MODULE", "of "), column("VALUE", ""), column("FROM", "from ")];
const SETTING_COLUMNS: [Column; 5] =
    [column("MODULE", ""), column("TASK", "task "), column("KEY", ""), column("VALUE", ""), column("FROM", "from ")];

fn print_section<const N: usize>(name: &str, columns: [Column; N], rows: &[[String; N]]) {
    if !rows.is_empty() {
        print_escaped(format_args!("\n[{name}]"));
        print_lines(lines(columns, rows));
    }
}

fn option_row(option: &OptionValue) -> [String; 3] {
    let source = match &option.source {
        ValueSource::Default => "default".to_owned(),
        ValueSource::FileLine(line) => format!("line {line}"),
        ValueSource::Variable(name) => name.clone(),
    };
    [option.key.clone(), option.value.clone().unwrap_or_default(), source]
}

fn grant_row(SourcedGrant { module, grant, source }: &SourcedGrant) -> [String; 4] {
    let source = match source {
        GrantSource::Flag(option) => format!("--{option}"),
        GrantSource::FileLine(line) => format!("line {line}"),
        GrantSource::Variable(name) => name.clone(),
    };
    let module = module.clone().unwrap_or_else(|| "all".to_owned());
    [key(grant.kind().option()), module, grant.to_string(), source]
}

fn setting_row(FileSetting { module, task, key, value, line }: &FileSetting) -> [String; 5] {
    let task = task.clone().unwrap_or_else(|| "all".to_owned());
    [module.clone(), task, key.clone(), value.clone(), format!("line {line}")]
}

fn key(option: &str) -> String {
    option.replace('-', "_")
}
