//! `fastworker new`
//!
//! A project is written from a template: the files below `templates/LANGUAGE`, without their ending `.in`. The guest SDKs
//! are in no registry: their sources are embedded in this program, and copied into the new project for its tests and for
//! editors. A Rust crate also depends on its copy.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};
use clap_complete::engine::ArgValueCandidates;

use super::{
    CliError, CommandResult, EXIT_FAILURE, EXIT_USAGE,
    build::{Language, sdk},
    complete,
    error::os_message,
    parse_bool, parse_from_str, render,
};

mod rust;
mod template;
mod workspace;

use template::Values;

/// Maximum length of a project's name in bytes.
const NAME_MAX: usize = 64;
/// The folder of the SDK in a new project.
const SDK_FOLDER: &str = ".fastworker/sdk";

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct NewCommand {
    /// Name of the project: letters, digits, - and _
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// Language of the project: rust, python, js, ts, go, c, cpp or zig
    #[arg(long, env = "FASTWORKER_LANG", default_value = "rust", value_name = "LANGUAGE",
          value_parser = parse_from_str::<Language>, add = ArgValueCandidates::new(complete::languages))]
    lang: Language,
    /// Folder to create the project in, new or empty [default: NAME]
    #[arg(long, env = "FASTWORKER_PATH", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    path: Option<PathBuf>,
    /// Folder of the language's guest SDK to use, such as guest-sdk/rust of a clone, instead of a copy
    #[arg(long, env = "FASTWORKER_SDK", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    sdk: Option<PathBuf>,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = parse_bool)]
    json: bool,
}

const AFTER_HELP: &str = "\
The project contains two tasks with tests, and builds with fastworker build. Its folder .fastworker contains a copy of \
the guest SDK of this version.";

impl NewCommand {
    pub(super) fn run(self) -> CommandResult {
        let folder = self.path.clone().unwrap_or_else(|| PathBuf::from(&self.name));
        if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
            let message = format!("the folder {} is not empty", folder.display());
            return Err(CliError::new(EXIT_USAGE, message).hint("choose another folder with --path"));
        }
        let sdk = self.sdk.as_deref().map(|sdk| absolute_sdk_path(self.lang, sdk)).transpose()?;
        let project = NewProject { name: &self.name, folder: &folder, sdk: sdk.as_deref() };
        let module = match self.lang {
            Language::Rust => rust::create(&project)?,
            language => {
                project.create(language).map_err(|error| project.cannot_create(&error))?;
                let name = std::path::absolute(&folder).ok().and_then(|it| Some(it.file_name()?.to_str()?.to_owned()));
                name.unwrap_or_else(|| self.name.clone())
            }
        };
        render::print_created(self.lang, &self.name, &folder, &format!("{module}.wasm"), self.json)
    }
}

/// A project that is to be written.
struct NewProject<'a> {
    name: &'a str,
    folder: &'a Path,
    /// The SDK to use instead of a copy.
    sdk: Option<&'a Path>,
}

impl NewProject<'_> {
    /// Writes the files of a project, and those of the SDK unless another one is used.
    fn create(&self, language: Language) -> io::Result<()> {
        let sdk = self.sdk.unwrap_or(Path::new(SDK_FOLDER)).display().to_string();
        template::write(language, self.folder, &Values { name: self.name, sdk: &sdk })?;
        if self.sdk.is_none() {
            sdk::write(language, &self.folder.join(SDK_FOLDER))?;
        }
        Ok(())
    }

    fn cannot_create(&self, error: &io::Error) -> CliError {
        let message = format!("cannot create the project in {}: {}", self.folder.display(), os_message(error));
        CliError::new(EXIT_FAILURE, message).hint("choose a folder that you can write to with --path")
    }
}

/// Checks that a folder contains a language's SDK, and returns its absolute path.
fn absolute_sdk_path(language: Language, folder: &Path) -> Result<PathBuf, CliError> {
    let is_sdk = match language {
        Language::Rust => {
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
            manifest.contains("name = \"fastworker-guest\"\n")
        }
        other => sdk::files(other).first().is_some_and(|(path, _)| folder.join(path).exists()),
    };
    if !is_sdk {
        let message = format!("{} does not contain the {language} SDK", folder.display());
        let hint = format!("in a clone of fastworker it is in the folder guest-sdk/{}", language.sdk_name());
        return Err(CliError::new(EXIT_USAGE, message).hint(hint));
    }
    fs::canonicalize(folder).map_err(|error| CliError::new(EXIT_FAILURE, format!("{}: {error}", folder.display())))
}

/// Parses the name of a project.
fn parse_name(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) || !text.chars().all(is_allowed) {
        return Err("write letters, digits, - and _, beginning with a letter".into());
    }
    if text.len() > NAME_MAX {
        return Err(format!("choose a name of at most {NAME_MAX} characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_names_everywhere_are_refused() {
        for good in ["hello", "my-tasks", "reports_2"] {
            assert_eq!(parse_name(good).as_deref(), Ok(good));
        }
        for wrong in ["", "2fast", "a b", "../up", "größe", "-x", &"x".repeat(65)] {
            assert!(parse_name(wrong).is_err(), "{wrong}");
        }
    }
}
