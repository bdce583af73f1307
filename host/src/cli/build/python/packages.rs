//! The packages of a module: installed once for a list of requirements, and kept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{PYTHON, ask, python, script};
use crate::cli::{
    CliError,
    build::{Build, cannot, tools::pip_command},
};

/// The file of a finished folder that says what is in it.
const CONTENT_FILE: &str = ".fastworker-packages";

/// Packages that a module needs.
#[derive(Debug, Default)]
pub(super) struct Packages {
    /// Their folder. None if there are none.
    pub(super) folder: Option<PathBuf>,
    /// Their names and versions.
    pub(super) installed: Vec<String>,
    /// Those that have compiled code, which does not run in a module and was left out.
    pub(super) without_compiled: Vec<String>,
}

/// What the script `build_plan.py` prints.
#[derive(Deserialize)]
struct Requirements {
    /// Lines of a requirements.txt.
    requirements: Vec<String>,
}

/// What the script `build_packages.py` prints.
#[derive(Deserialize, Serialize)]
struct Installed {
    packages: Vec<String>,
    without_compiled: Vec<String>,
}

/// Finds out what the source needs, and installs it unless that has been done before.
///
/// # Errors
/// If the requirements cannot be read, or a package does not exist as a wheel in pure Python.
pub(super) fn install(build: &Build<'_>, scripts: &Path) -> Result<Packages, CliError> {
    let mut command = script(build, &scripts.join("build_plan.py"), "requirements")?;
    let step = format!("reading the requirements of {}", build.source.path.display());
    let Requirements { requirements } = ask(build, &step, &mut command)?;
    if requirements.is_empty() {
        return Ok(Packages::default());
    }
    let text = requirements.join("\n") + "\n";
    let script = scripts.join("build_packages.py");
    let packages = build.cache("python-packages")?;
    let folder = packages.join(key(&requirements, &script));
    let content = folder.join(CONTENT_FILE);
    let known = fs::read(&content).ok().and_then(|bytes| serde_json::from_slice::<Installed>(&bytes).ok());
    let installed = match known {
        Some(installed) => installed,
        None => install_new(build, &script, &text, &folder)?,
    };
    Ok(Packages { folder: Some(folder), installed: installed.packages, without_compiled: installed.without_compiled })
}

/// A name for the folder of these requirements: other lists, constraints, scripts or versions of Python have others.
fn key(requirements: &[String], script: &Path) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(PYTHON.as_bytes()).update(script.as_os_str().as_encoded_bytes());
    for line in requirements {
        hash.update(line.as_bytes()).update(b"\n");
        if let Some(file) = line.strip_prefix("-c ") {
            hash.update(&fs::read(file).unwrap_or_default());
        }
    }
    hash.finalize().to_hex()[..16].to_owned()
}

/// Installs into a folder beside `folder`, and renames it: a folder of that name is complete.
fn install_new(build: &Build<'_>, script: &Path, requirements: &str, folder: &Path) -> Result<Installed, CliError> {
    let list = build.scratch().join("requirements.txt");
    build.write(&list, requirements)?;
    let new = build.scratch().join("packages");
    let environment = build.scratch().join("pip");
    let (pip, _) = pip_command(&python()?, &environment, build.output)?;
    let mut command = std::process::Command::new(pip.get_program());
    command.args(["-I", "-B"]).arg(script).arg(&new).arg(&list);
    let count = requirements.lines().count();
    let step = format!("installing {count} {} with pip", if count == 1 { "package" } else { "packages" });
    let installed: Installed = ask(build, &step, &mut command)?;
    fs::create_dir_all(&new).map_err(|error| cannot("create", &new, &error))?;
    let content = serde_json::to_string(&installed).unwrap_or_default();
    build.write(&new.join(CONTENT_FILE), &content)?;
    let _ = fs::remove_dir_all(folder);
    match fs::rename(&new, folder) {
        // Another build was faster, with the same content.
        Err(_) if folder.join(CONTENT_FILE).is_file() => Ok(installed),
        renamed => renamed.map(|()| installed).map_err(|error| cannot("write", folder, &error)),
    }
}
