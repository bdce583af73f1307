//! The tools of other languages' builds: pinned versions in an own folder, or a program on PATH that serves as well.
//!
//! A tool is in `NAME-VERSION` below the tools' folder. It is installed beside it and then renamed, so a folder of that
//! name is complete; it also contains the pins that it was installed from, and counts as missing if this program has
//! others.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::process;
use crate::cli::{CliError, EXIT_FAILURE, EXIT_MISSING_TOOL};

mod install;

pub(in crate::cli) use install::node;
pub(super) use install::pip_command;

/// The variable with the folder of the tools.
const FOLDER_VARIABLE: &str = "FASTWORKER_TOOLS";
/// The file of an installed tool that contains its pins.
const PINS_FILE: &str = ".fastworker-pins";

/// A tool of a certain version.
#[derive(Debug)]
pub(in crate::cli) struct Tool {
    /// Its name, without the version.
    pub(in crate::cli) name: &'static str,
    pub(in crate::cli) version: &'static str,
    /// What an installation downloads, in MB.
    pub(in crate::cli) download_mb: u32,
    /// What it takes on the disk, in MB.
    pub(in crate::cli) disk_mb: u32,
    pub(in crate::cli) installer: Installer,
    /// A program that serves instead, if it is on PATH and new enough.
    pub(in crate::cli) on_path: Option<OnPath>,
}

/// How a tool is installed. Every file is pinned by its hash.
#[derive(Debug)]
pub(in crate::cli) enum Installer {
    /// By pip into a folder for PYTHONPATH, programs in its `bin`. The text is that of a requirements.txt in which every
    /// requirement has its version and its hashes, dependencies included.
    Pip { requirements: &'static str },
    /// By npm, into `node_modules`. The texts are those of package.json and package-lock.json.
    Npm { manifest: &'static str, lock: &'static str },
}

/// A program on PATH that serves as a tool.
#[derive(Debug)]
pub(in crate::cli) struct OnPath {
    pub(in crate::cli) program: &'static str,
    /// Arguments with which it prints its version, such as `["version"]`.
    pub(in crate::cli) version_args: &'static [&'static str],
    /// Whether it serves, given the numbers of its version: `go1.24.3` is `[1, 24, 3]`.
    pub(in crate::cli) is_usable: fn(&[u32]) -> bool,
    /// The condition in words, such as "go 1.24 or newer".
    pub(in crate::cli) condition: &'static str,
}

/// A tool that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum InstalledTool {
    /// In this folder, as its installer left it.
    Folder(PathBuf),
    /// This program on PATH.
    Program(PathBuf),
}

impl InstalledTool {
    /// The command for `program` of the tool: of a folder, the one at the path `within`, which pip and npm write. Sets
    /// PYTHONPATH for tools that pip installed.
    pub(in crate::cli) fn command(&self, within: &str) -> Command {
        match self {
            Self::Program(program) => Command::new(program),
            Self::Folder(folder) => {
                let mut command = Command::new(folder.join(within));
                command.env("PYTHONPATH", folder).env("PYTHONNOUSERSITE", "1").env_remove("PYTHONHOME");
                command
            }
        }
    }
}

impl Tool {
    /// Its name and version.
    pub(in crate::cli) fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// The text that pins its files.
    fn pins(&self) -> String {
        match self.installer {
            Installer::Pip { requirements } => requirements.to_owned(),
            Installer::Npm { manifest, lock } => format!("{manifest}\n{lock}"),
        }
    }

    /// The folder where it is or would be installed.
    fn folder(&self, tools: &Path) -> PathBuf {
        tools.join(format!("{}-{}", self.name, self.version))
    }

    /// Finds it: on PATH if it is usable there, else in the tools' folder.
    pub(in crate::cli) fn find(&self) -> Option<InstalledTool> {
        if let Some(program) = self.on_path.as_ref().and_then(OnPath::find) {
            return Some(InstalledTool::Program(program));
        }
        let folder = self.folder(&tools_folder().ok()?);
        let is_complete = fs::read_to_string(folder.join(PINS_FILE)).is_ok_and(|pins| pins == self.pins());
        is_complete.then_some(InstalledTool::Folder(folder))
    }

    /// What is missing, in words: its size, and what would serve instead.
    fn missing(&self) -> String {
        let instead = self.on_path.as_ref().map(|it| format!("; {} on PATH would do as well", it.condition));
        let (download, disk) = (self.download_mb, self.disk_mb);
        format!("{} ({download} MB to download, {disk} MB on the disk{})", self.title(), instead.unwrap_or_default())
    }
}

impl OnPath {
    fn find(&self) -> Option<PathBuf> {
        let program = on_path(self.program)?;
        let version = process::first_line(Command::new(&program).args(self.version_args))?;
        (self.is_usable)(&numbers(&version)).then_some(program)
    }
}

/// The first version number in a text: `go version go1.24.3 linux/amd64` has `[1, 24, 3]`.
fn numbers(text: &str) -> Vec<u32> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut words = text.split(|c| !is_number(c)).map(|word| word.trim_matches('.')).filter(|word| word.contains('.'));
    words.next().map(|word| word.split('.').map_while(|part| part.parse().ok()).collect()).unwrap_or_default()
}

/// The path of a program on PATH.
pub(in crate::cli) fn on_path(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let is_program =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    // A relative folder on PATH would be one of the project.
    env::split_paths(&env::var_os("PATH")?)
        .filter(|folder| folder.is_absolute())
        .map(|it| it.join(program))
        .find(is_program)
}

/// The folder of the tools: `$FASTWORKER_TOOLS`, or `fastworker/tools` in the user's cache folder.
fn tools_folder() -> Result<PathBuf, CliError> {
    match env::var_os(FOLDER_VARIABLE).filter(|value| !value.is_empty()) {
        Some(folder) => std::path::absolute(&folder).map_err(|error| CliError::new(EXIT_FAILURE, error)),
        None => Ok(cache_folder()?.join("tools")),
    }
}

/// The folder `fastworker` in the user's cache folder.
///
/// # Errors
/// If the environment has neither `XDG_CACHE_HOME` nor `HOME`.
pub(in crate::cli) fn cache_folder() -> Result<PathBuf, CliError> {
    crate::subworker::cache_folder().ok_or_else(|| {
        CliError::new(EXIT_FAILURE, "there is no folder for caches: neither XDG_CACHE_HOME nor HOME is set")
            .hint("set XDG_CACHE_HOME to a folder that you can write to")
    })
}

/// Whether missing tools are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum MissingTools {
    /// They are an error, which says what is missing, how large it is, and the command that installs it.
    Report,
    /// They are installed.
    Install,
}

/// Finds `tools`, and installs those that are missing if that was asked for. `source` is the path for the command in
/// the error.
///
/// # Errors
/// If a tool is missing, or cannot be installed.
pub(super) fn find_all(
    tools: &[&'static Tool],
    missing: MissingTools,
    source: &Path,
    output: &dyn process::BuildOutput,
) -> Result<Vec<InstalledTool>, CliError> {
    let found: Vec<Option<InstalledTool>> = tools.iter().map(|tool| tool.find()).collect();
    let absent: Vec<&Tool> =
        tools.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(tool, _)| *tool).collect();
    if missing == MissingTools::Report && !absent.is_empty() {
        return Err(missing_tools(&absent, source));
    }
    let install = |(tool, found): (&&'static Tool, Option<InstalledTool>)| match found {
        Some(found) => Ok(found),
        None => install::install(tool, &tools_folder()?, output).map(InstalledTool::Folder),
    };
    tools.iter().zip(found).map(install).collect()
}

fn missing_tools(absent: &[&Tool], source: &Path) -> CliError {
    let list: Vec<String> = absent.iter().map(|tool| tool.missing()).collect();
    let verb = if absent.len() == 1 { "is" } else { "are" };
    let message = format!("building {} needs {}, which {verb} not installed", source.display(), list.join(" and "));
    let command = format!("fastworker build --install {}", process::quote(source.as_os_str()));
    CliError::new(EXIT_MISSING_TOOL, message)
        .hint(format!("install what is missing into fastworker's own folder, and build, with: {command}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_program_is_the_first_number_with_a_dot() {
        assert_eq!(numbers("go version go1.24.3 linux/amd64"), [1, 24, 3]);
        assert_eq!(numbers("0.17.1"), [0, 17, 1]);
        assert_eq!(numbers("go version go1.25rc1 linux/amd64"), [1, 25]);
        assert_eq!(numbers("v20.11.0"), [20, 11, 0]);
        assert_eq!(numbers("none"), Vec::<u32>::new());
    }
}
