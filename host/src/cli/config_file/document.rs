//! Reads the TOML of a configuration file, and collects all of its errors.

use std::ops::Range;

use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    ConfigFile, FileGrant, FileOption, FileSetting,
    options::{self, SectionOption},
};
use crate::{
    nearest::did_you_mean,
    runtime::{
        grants::{GrantKind, GrantTable},
        policies::TaskSettings,
    },
};

/// The section of the grants of all modules.
const GRANTS: &str = "grants";
/// The section with one table for each module.
const MODULES: &str = "modules";
/// The key of a module with one table for each task.
const TASKS: &str = "tasks";

/// An error of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct FileError {
    /// The line, from 1.
    pub(super) line: usize,
    pub(super) message: String,
}

/// The text of a file, and the errors that were found in it.
pub(super) struct Document<'a> {
    text: &'a str,
    errors: Vec<FileError>,
    /// Errors of grants that cannot be read on this host.
    host_errors: Vec<FileError>,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, errors: Vec::new(), host_errors: Vec::new() }
    }

    pub(super) fn into_errors(self) -> Vec<FileError> {
        self.errors
    }

    /// Reads the whole file. What it returns is complete only without errors.
    pub(super) fn read(&mut self) -> ConfigFile {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            // The first line says what, the others repeat the text of the file.
            let message = error.message().lines().next().unwrap_or_default().to_owned();
            self.error_at(error.span(), message);
        }
        let mut file = ConfigFile::default();
        for (key, value) in root.get_ref() {
            match key.get_ref().as_ref() {
                GRANTS => self.grants_section(&mut file, value),
                MODULES => self.modules_section(&mut file, value),
                name => {
                    let mut sections = options::OPTION_SECTIONS.into_iter();
                    if let Some(section) = sections.find(|section| *section == name) {
                        self.options_section(&mut file, section, value);
                    } else {
                        let known = options::OPTION_SECTIONS.into_iter().chain([GRANTS, MODULES]);
                        let all = "the sections are [control_plane], [subworker], [grants] and [modules.NAME]";
                        self.unknown(key, known, all);
                    }
                }
            }
        }
        self.check_grants(&file);
        file.host_errors = std::mem::take(&mut self.host_errors);
        file
    }

    fn error_at(&mut self, span: Option<Range<usize>>, message: String) {
        let line = self.line(span.map_or(0, |span| span.start));
        self.errors.push(FileError { line, message });
    }

    fn error<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        self.error_at(Some(at.span()), message.into());
    }

    /// The line of a byte of the text, from 1.
    fn line(&self, byte: usize) -> usize {
        self.text.as_bytes().iter().take(byte).filter(|byte| **byte == b'\n').count() + 1
    }

    fn unknown<'k, K: AsRef<str>>(&mut self, key: &Spanned<K>, known: impl Iterator<Item = &'k str>, otherwise: &str) {
        let name = key.get_ref().as_ref();
        let suggestion = did_you_mean(&name.replace('-', "_"), known);
        let message = format!("unknown key '{name}': {}", suggestion.as_deref().unwrap_or(otherwise));
        self.error(key, message);
    }

    fn table<'v>(&mut self, value: &'v Spanned<DeValue<'a>>, what: &str) -> Option<&'v DeTable<'a>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.error(value, format!("{what} is a table, written [{what}]"));
        }
        table
    }

    fn options_section(&mut self, file: &mut ConfigFile, section: &'static str, value: &Spanned<DeValue<'a>>) {
        let Some(table) = self.table(value, section) else { return };
        let command = options::command_of(section);
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let known = options::section_options(&command);
            let Some(option) = known.iter().find(|option| option.key() == name) else {
                if GrantKind::ALL.iter().any(|kind| key_of(*kind) == name) {
                    let message = format!("'{name}' belongs in [grants], or in [modules.NAME] for one module");
                    self.error(key, message);
                } else {
                    let keys: Vec<String> = known.iter().map(SectionOption::key).collect();
                    if let Some(other) = options::section_with(name) {
                        self.error(key, format!("'{name}' is a key of [{other}], and not of [{section}]"));
                        continue;
                    }
                    let otherwise = format!("fastworker {} --help shows every option", command.get_name());
                    self.unknown(key, keys.iter().map(String::as_str), &otherwise);
                }
                continue;
            };
            let line = self.line(key.span().start);
            match option.values(&command, value.get_ref()) {
                Ok(values) => {
                    let option = option.name().to_owned();
                    file.options.push(FileOption { section, option, values, line });
                }
                Err(message) => self.error(key, message),
            }
        }
    }

    fn grants_section(&mut self, file: &mut ConfigFile, value: &Spanned<DeValue<'a>>) {
        let Some(table) = self.table(value, GRANTS) else { return };
        for (key, value) in table {
            if let Some(kind) = GrantKind::ALL.into_iter().find(|kind| key_of(*kind) == key.get_ref().as_ref()) {
                self.grants(file, kind, None, value);
            } else {
                let keys = GrantKind::ALL.map(key_of);
                self.unknown(key, keys.iter().map(String::as_str), &format!("the keys are {}", keys.join(", ")));
            }
        }
    }

    /// Reads the grants of one key: a string, or an array of strings.
    fn grants(&mut self, file: &mut ConfigFile, kind: GrantKind, module: Option<&str>, value: &Spanned<DeValue<'a>>) {
        let items: Vec<&Spanned<DeValue<'a>>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        for item in items {
            let Some(text) = item.get_ref().as_str() else {
                self.error(item, format!("{} is an array of strings", key_of(kind)));
                continue;
            };
            let line = self.line(item.span().start);
            match kind.parse(text) {
                Ok(grant) => file.grants.push(FileGrant { module: module.map(str::to_owned), grant, line }),
                Err(error) => {
                    let is_of_host = error.is_of_host();
                    // What may be a secret by mistake is not repeated.
                    let shown = if kind == GrantKind::Secret || kind == GrantKind::Env {
                        String::new()
                    } else {
                        format!(" '{text}'")
                    };
                    let error = FileError { line, message: format!("invalid {}{shown}: {error}", key_of(kind)) };
                    if is_of_host { self.host_errors.push(error) } else { self.errors.push(error) }
                }
            }
        }
    }

    /// Checks that no variable and no folder is granted twice.
    fn check_grants(&mut self, file: &ConfigFile) {
        let mut table = GrantTable::default();
        for FileGrant { module, grant, line } in &file.grants {
            if let Err(error) = table.add(module.as_deref(), grant.clone()) {
                self.errors.push(FileError { line: *line, message: error.to_string() });
            }
        }
    }

    fn modules_section(&mut self, file: &mut ConfigFile, value: &Spanned<DeValue<'a>>) {
        let Some(modules) = self.table(value, MODULES) else { return };
        for (name, value) in modules {
            let module = name.get_ref().as_ref();
            let Some(table) = self.table(value, &format!("{MODULES}.{module}")) else { continue };
            let mut policy = Vec::new();
            for (key, value) in table {
                let name = key.get_ref().as_ref();
                if name == TASKS {
                    self.tasks(file, module, value);
                } else if let Some(kind) = GrantKind::ALL.into_iter().find(|kind| key_of(*kind) == name) {
                    self.grants(file, kind, Some(module), value);
                } else if TaskSettings::MODULE_KEYS.contains(&name) {
                    policy.push((key, value));
                } else if TaskSettings::SCHEDULE_KEYS.contains(&name) {
                    self.error(
                        key,
                        format!("'{name}' schedules one task: write it into [modules.{module}.tasks.TASK]"),
                    );
                } else {
                    let grants = GrantKind::ALL.map(key_of);
                    let keys =
                        TaskSettings::MODULE_KEYS.into_iter().chain(grants.iter().map(String::as_str)).chain([TASKS]);
                    let all: Vec<&str> = keys.clone().collect();
                    self.unknown(key, keys, &format!("the keys are {}", all.join(", ")));
                }
            }
            self.policy(file, module, None, &policy);
        }
    }

    fn tasks(&mut self, file: &mut ConfigFile, module: &str, value: &Spanned<DeValue<'a>>) {
        let Some(tasks) = self.table(value, &format!("{MODULES}.{module}.{TASKS}")) else { return };
        for (name, value) in tasks {
            let task = name.get_ref().as_ref();
            let Some(table) = self.table(value, &format!("{MODULES}.{module}.{TASKS}.{task}")) else { continue };
            let keys: Vec<_> = table.iter().collect();
            self.policy(file, module, Some(task), &keys);
        }
    }

    /// Reads the policy of a module's tasks, or of one task.
    fn policy<K: AsRef<str>>(
        &mut self,
        file: &mut ConfigFile,
        module: &str,
        task: Option<&str>,
        keys: &[(&Spanned<K>, &Spanned<DeValue<'a>>)],
    ) {
        let mut values = Map::new();
        for (key, value) in keys {
            let name = key.get_ref().as_ref();
            let Some(json) = json(value.get_ref()) else {
                self.error(*value, format!("{name} cannot be a table or a number of this size"));
                continue;
            };
            values.insert(name.to_owned(), json);
            file.settings.push(FileSetting {
                module: module.to_owned(),
                task: task.map(str::to_owned),
                key: name.to_owned(),
                value: self.text.get(value.span()).unwrap_or_default().to_owned(),
                line: self.line(key.span().start),
            });
        }
        match TaskSettings::read(&values) {
            Ok(settings) => file.policies.set(module, task, settings),
            Err(errors) => {
                for error in errors {
                    let at =
                        keys.iter().find(|(key, _)| key.get_ref().as_ref() == error.key).map(|(key, _)| key.span());
                    self.error_at(at, error.message);
                }
            }
        }
    }
}

/// The key of the grants of an option.
pub(super) fn key_of(kind: GrantKind) -> String {
    kind.option().replace('-', "_")
}

/// Converts a value to JSON.
fn json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()?.into(),
        DeValue::Float(number) => serde_json::Number::from_f64(number.as_str().parse().ok()?)?.into(),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| json(item.get_ref())).collect::<Option<_>>()?),
        DeValue::Table(_) => return None,
    })
}
