//! The configuration file, `fastworker.toml`.
//!
//! It sets options of the servers, grants, and policies by module and task. An option that the file sets becomes the
//! default of the option, below its flag and its variable. Invariant: a file has effect whole or not at all, and all of
//! its errors are reported at once, each with its line.

use std::{
    env,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};

use super::{CliError, EXIT_NOT_FOUND, EXIT_USAGE, error::os_message, usage};
use crate::{
    escape,
    runtime::{grants::Grant, policies::PolicyTable},
};

mod document;
mod options;

use document::{Document, FileError};
pub(super) use options::{OPTION_SECTIONS, command_of, section_options};

/// The variable of `--config`.
const VARIABLE: &str = "FASTWORKER_CONFIG";
/// The name of the file in a folder for configuration.
const FILE: &str = "fastworker/fastworker.toml";
/// Maximum bytes of the file.
const FILE_MAX: u64 = 1 << 20;
/// Permission of users other than the owner and its group to write a file.
const WRITABLE_BY_OTHERS: u32 = 0o002;
/// A file with every key, as comments.
pub(super) const EXAMPLE: &str = include_str!("config_file/example.toml");

/// The option that names the configuration file. [`ConfigFile::find`] reads it before the other options are parsed.
#[derive(Args, Debug)]
pub(super) struct ConfigOptions {
    /// Read settings from this file [default: fastworker/fastworker.toml in your configuration folder, else
    /// /etc/fastworker/fastworker.toml]
    #[arg(long, env = VARIABLE, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
}

impl ConfigOptions {
    /// The option as it is on the command line, for a server that this process starts.
    pub(super) fn typed(&self) -> Option<String> {
        let path = self.config.as_ref().filter(|_| usage::is_typed("config"))?;
        Some(format!("--config={}", path.display()))
    }
}

/// The settings of a file.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    /// The file; none if there is no file.
    pub(super) path: Option<PathBuf>,
    /// Options, by section and name.
    options: Vec<FileOption>,
    /// Grants, in the order of the file.
    pub(super) grants: Vec<FileGrant>,
    /// Policies of tasks.
    pub(super) policies: PolicyTable,
    /// What the policies were read from.
    pub(super) settings: Vec<FileSetting>,
    /// Grants that cannot be read on this host. They are errors for a command that runs modules only.
    host_errors: Vec<FileError>,
}

/// An option of a command.
#[derive(Debug)]
pub(super) struct FileOption {
    /// The section: the command's name, with underscores.
    pub(super) section: &'static str,
    /// The option's name, with hyphens.
    pub(super) option: String,
    /// Its values, as on the command line.
    pub(super) values: Vec<String>,
    /// Its line, from 1.
    pub(super) line: usize,
}

/// A grant.
#[derive(Debug)]
pub(super) struct FileGrant {
    /// The module; none for all modules.
    pub(super) module: Option<String>,
    pub(super) grant: Grant,
    /// Its line, from 1.
    pub(super) line: usize,
}

/// A setting of a module or a task.
#[derive(Debug)]
pub(super) struct FileSetting {
    pub(super) module: String,
    /// The task; none for all tasks of the module.
    pub(super) task: Option<String>,
    pub(super) key: String,
    /// The value as in the file.
    pub(super) value: String,
    /// Its line, from 1.
    pub(super) line: usize,
}

impl ConfigFile {
    /// Reads the file that a command line, a variable or the default names. No file is no settings.
    ///
    /// # Errors
    /// All errors of the file, or the reason why it cannot be read.
    pub(super) fn find(words: &[String]) -> Result<Self, CliError> {
        let given = flag(words).or_else(|| env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from));
        if let Some(path) = given {
            return Self::read(&path);
        }
        let default = default_paths().into_iter().find(|path| path.exists());
        default.map_or_else(|| Ok(Self::default()), |path| Self::read(&path))
    }

    fn read(path: &Path) -> Result<Self, CliError> {
        let text = read_text(path)?;
        let mut document = Document::new(&text);
        let file = document.read();
        let mut errors = document.into_errors();
        if errors.is_empty() {
            return Ok(Self { path: Some(path.to_owned()), ..file });
        }
        errors.extend(file.host_errors);
        Err(invalid(path, errors))
    }

    /// The values of an option that the file sets.
    pub(super) fn option(&self, section: &str, option: &str) -> Option<&FileOption> {
        self.options.iter().find(|it| it.section == section && it.option == option)
    }

    /// Checks that everything that the file grants can be read on this host.
    ///
    /// # Errors
    /// All grants that cannot.
    pub(super) fn check_host(&self) -> Result<(), CliError> {
        match &self.path {
            Some(path) if !self.host_errors.is_empty() => Err(invalid(path, self.host_errors.clone())),
            _ => Ok(()),
        }
    }
}

/// The value of `--config` on a command line, which is not parsed yet.
fn flag(words: &[String]) -> Option<PathBuf> {
    let mut words = words.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        match word.strip_prefix("--config") {
            Some("") => return words.next().map(PathBuf::from),
            Some(rest) if rest.starts_with('=') => return Some(PathBuf::from(&rest[1..])),
            _ => {}
        }
    }
    None
}

/// Where the file is by default, the first that exists. Never in the current folder, which others may have written.
fn default_paths() -> Vec<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let own = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    own.into_iter().chain([PathBuf::from("/etc")]).map(|folder| folder.join(FILE)).collect()
}

fn read_text(path: &Path) -> Result<String, CliError> {
    let shown = escape::path(path);
    let cannot_read = |why: io::Error| {
        let code = if why.kind() == io::ErrorKind::NotFound { EXIT_NOT_FOUND } else { EXIT_USAGE };
        CliError::new(code, format!("cannot read the configuration file {shown}: {}", os_message(&why)))
            .hint("name a file with --config; fastworker config example prints one")
    };
    let file = File::open(path).map_err(cannot_read)?;
    let meta = file.metadata().map_err(cannot_read)?;
    if meta.is_file() && meta.permissions().mode() & WRITABLE_BY_OTHERS != 0 {
        let message = format!("every user can write to {shown}, and so grant to modules whatever fastworker may reach");
        return Err(CliError::new(EXIT_USAGE, message).hint(format!("chmod o-w {shown}")));
    }
    let mut text = String::new();
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(cannot_read)?;
    if text.len() as u64 > FILE_MAX {
        let message = format!("the configuration file {shown} is too large: the limit is {FILE_MAX} bytes");
        return Err(CliError::new(EXIT_USAGE, message));
    }
    Ok(text)
}

/// The error of a file with errors, a line each.
fn invalid(path: &Path, mut errors: Vec<FileError>) -> CliError {
    errors.sort_by_key(|error| error.line);
    let shown = escape::path(path);
    let lines: Vec<String> = errors.iter().map(|error| format!("{shown}:{}: {}", error.line, error.message)).collect();
    let message = match lines.len() {
        1 => lines.concat(),
        count => format!("{count} errors in the configuration file\n{}", lines.join("\n")),
    };
    CliError::new(EXIT_USAGE, message).hint("fastworker config example prints a file with every key")
}

#[cfg(test)]
mod tests;
