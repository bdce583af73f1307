//! Installs a pinned tool: wheels by pip, packages by npm, without running any of their scripts.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Installer, PINS_FILE, Tool, on_path, process};
use crate::cli::{CliError, EXIT_FAILURE, EXIT_MISSING_TOOL, build::process::BuildOutput, error::os_message};

/// Oldest node that the tools run on.
const NODE_MIN: [u32; 1] = [20];

/// Installs a tool below the folder `tools`, and returns its folder. If another process is installing it, waits for
/// that and uses the result.
pub(super) fn install(tool: &Tool, tools: &Path, output: &dyn BuildOutput) -> Result<PathBuf, CliError> {
    let folder = tool.folder(tools);
    let failed = |error: io::Error| cannot_write(tools, &error);
    fs::create_dir_all(tools).map_err(failed)?;
    let _lock = lock(tool, tools, output)?;
    if let Some(super::InstalledTool::Folder(folder)) = tool.find() {
        return Ok(folder);
    }
    let new = tools.join(format!(".{}-{}.new", tool.name, tool.version));
    // An earlier installation was interrupted: this one has the lock.
    remove(&new).map_err(failed)?;
    fs::create_dir_all(&new).map_err(failed)?;
    output.begin(&format!(
        "installing {} ({} MB to download) into {}",
        tool.title(),
        tool.download_mb,
        folder.display()
    ));
    let installed = match tool.installer {
        Installer::Pip { requirements } => pip(&new, requirements, output),
        Installer::Npm { manifest, lock } => npm(&new, manifest, lock, output),
    };
    output.end();
    let installed = installed.map_err(|error| error_of(tool, error)).and_then(|()| {
        fs::write(new.join(PINS_FILE), tool.pins()).map_err(failed)?;
        remove(&folder).map_err(failed)?;
        fs::rename(&new, &folder).map_err(failed)
    });
    if installed.is_err() {
        let _ = remove(&new);
    }
    installed.map(|()| {
        output.note(&format!("{} is in {}", tool.title(), folder.display()));
        folder
    })
}

/// Locks the installation of a tool against other processes until the file is dropped.
fn lock(tool: &Tool, tools: &Path, output: &dyn BuildOutput) -> Result<File, CliError> {
    let failed = |error: io::Error| cannot_write(tools, &error);
    let path = tools.join(format!(".{}-{}.lock", tool.name, tool.version));
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    if file.try_lock().is_err() {
        output.begin(&format!("waiting for another process that is installing {}", tool.title()));
        let locked = file.lock();
        output.end();
        locked.map_err(failed)?;
    }
    Ok(file)
}

/// Removes a folder, if there is one.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn cannot_write(folder: &Path, error: &io::Error) -> CliError {
    CliError::new(EXIT_FAILURE, format!("cannot install tools into {}: {}", folder.display(), os_message(error)))
        .hint("set FASTWORKER_TOOLS to a folder that you can write to")
}

fn error_of(tool: &Tool, mut error: CliError) -> CliError {
    error.message = format!("cannot install {}: {}", tool.title(), error.message);
    if error.hint.is_none() {
        error =
            error.hint("its output above says why; it downloads from the registry that pip or npm is configured for");
    }
    error
}

fn pip(folder: &Path, requirements: &str, output: &dyn BuildOutput) -> Result<(), CliError> {
    let list = folder.join("requirements.txt");
    fs::write(&list, requirements).map_err(|error| cannot_write(folder, &error))?;
    let python = on_path("python3").ok_or_else(|| {
        CliError::new(EXIT_MISSING_TOOL, "python3 is not on PATH, which brings pip").hint(
            "install Python 3.9 or newer with pip: with apt-get install python3-pip, or from https://www.python.org",
        )
    })?;
    let (mut command, temporary) = pip_command(&python, folder, output)?;
    command.args(["install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--no-compile"]);
    command.args(["--require-hashes", "--only-binary", ":all:", "--no-deps", "--requirement"]).arg(&list);
    command.arg("--target").arg(folder).env("PIP_ROOT_USER_ACTION", "ignore");
    let installed = process::run(&mut command, output);
    if let Some(temporary) = temporary {
        let _ = remove(&temporary);
    }
    installed
}

/// The command that starts pip: that of python3, else that of a new virtual environment, whose folder is returned as
/// well.
pub(in crate::cli::build) fn pip_command(
    python: &Path,
    folder: &Path,
    output: &dyn BuildOutput,
) -> Result<(Command, Option<PathBuf>), CliError> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip"]);
    if process::first_line(Command::new(python).args(["-m", "pip", "--version"])).is_some() {
        return Ok((pip, None));
    }
    let environment = folder.join(".venv");
    process::run(Command::new(python).args(["-m", "venv"]).arg(&environment), output).map_err(|_| {
        CliError::new(EXIT_MISSING_TOOL, format!("{} has neither pip nor venv", python.display()))
            .hint("install pip, such as with: apt-get install python3-pip")
    })?;
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip"]);
    Ok((pip, Some(environment)))
}

fn npm(folder: &Path, manifest: &str, lock: &str, output: &dyn BuildOutput) -> Result<(), CliError> {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text);
    write("package.json", manifest)
        .and_then(|()| write("package-lock.json", lock))
        .map_err(|error| cannot_write(folder, &error))?;
    let _ = node()?;
    let npm = on_path("npm").ok_or_else(|| {
        CliError::new(EXIT_MISSING_TOOL, "npm is not on PATH")
            .hint("install it with Node.js from https://nodejs.org, or with: apt-get install npm")
    })?;
    let mut command = Command::new(npm);
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]);
    process::run(command.current_dir(folder), output)
}

/// The program node, which must be new enough for the tools.
///
/// # Errors
/// If it is missing or too old.
pub(in crate::cli) fn node() -> Result<PathBuf, CliError> {
    let [oldest] = NODE_MIN;
    let hint = format!("install Node.js {oldest} or newer from https://nodejs.org");
    let Some(node) = on_path("node") else {
        return Err(CliError::new(EXIT_MISSING_TOOL, "node is not on PATH").hint(hint));
    };
    let version = process::first_line(Command::new(&node).arg("--version")).unwrap_or_default();
    if super::numbers(&version).as_slice() < NODE_MIN.as_slice() {
        return Err(
            CliError::new(EXIT_MISSING_TOOL, format!("node is too old: {} is {version}", node.display())).hint(hint)
        );
    }
    Ok(node)
}
