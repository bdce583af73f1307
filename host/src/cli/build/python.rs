//! Builds Python with componentize-py, which puts `CPython` and all imported modules into a component.
//!
//! What needs Python to be read is read by scripts of the SDK, which run in the python3 that also runs componentize-py:
//! `build_plan.py` finds the modules with tasks, and `build_packages.py` installs packages. An app of a few lines imports
//! the modules, and the SDK takes the tasks that they registered.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, de::DeserializeOwned};

use self::{output::GuestOutput, packages::Packages};
use super::{
    Artifact, Build, Language, cannot, process,
    tools::{InstalledTool, Installer, Tool, on_path},
};
use crate::cli::{CliError, EXIT_FAILURE, EXIT_MISSING_TOOL, EXIT_USAGE};

mod output;
mod packages;

/// The version of Python in the modules, as packages are chosen for it.
const PYTHON: &str = "3.14";
/// The module that componentize-py starts with. No module of the user may have its name.
const APP: &str = "fastworker_app";
/// Where the components see the folder of the app, as the first of their folders.
const APP_FOLDER: &str = "/0";

static COMPONENTIZE_PY: Tool = Tool {
    name: "componentize-py",
    version: "0.25.1",
    download_mb: 17,
    disk_mb: 47,
    installer: Installer::Pip { requirements: include_str!("python/componentize-py.txt") },
    on_path: None,
};

/// The modules with tasks.
#[derive(Debug, Deserialize)]
struct Plan {
    /// The folder in which modules are found.
    root: PathBuf,
    /// The names of those with tasks.
    modules: Vec<String>,
    /// Whether something that they import sends HTTP requests.
    http: bool,
    /// What was left out.
    notes: Vec<String>,
}

/// What a script prints.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reply<T> {
    Problem { error: String, hint: String },
    Value(T),
}

/// Builds the source of a [`Build`].
pub(super) fn build(build: &Build<'_>) -> Result<Artifact, CliError> {
    let tool = build.tool(&COMPONENTIZE_PY)?;
    let scripts = build.sdk(Language::Python)?;
    let packages = packages::install(build, &scripts)?;
    let mut command = script(build, &scripts.join("build_plan.py"), "modules")?;
    command.arg("--copy").arg(files(build));
    if let Some(folder) = &packages.folder {
        command.arg("--packages").arg(folder);
    }
    let plan: Plan = ask(build, &format!("finding the tasks in {}", build.source.path.display()), &mut command)?;
    let module = build.scratch().join("module.wasm");
    componentize(build, &tool, &scripts, &plan, &packages, &module)?;
    report(build, &plan, &packages)?;
    Artifact::read(&module)
}

/// The copy of the user's files. The tool reads all of the folders that it is given, and follows links out of them.
fn files(build: &Build<'_>) -> PathBuf {
    build.scratch().join("files")
}

/// The program python3.
///
/// # Errors
/// If it is not on PATH.
fn python() -> Result<PathBuf, CliError> {
    on_path("python3").ok_or_else(|| {
        CliError::new(EXIT_MISSING_TOOL, "python3 is not on PATH").hint("install Python 3.9 or newer with pip")
    })
}

/// A script that reads the source.
fn script(build: &Build<'_>, path: &Path, command: &str) -> Result<Command, CliError> {
    let mut script = Command::new(python()?);
    // Neither modules beside the script nor settings of the user change what it does.
    script.args(["-I", "-B"]).arg(path).arg(command).arg(&build.source.folder).args(&build.source.file);
    Ok(script)
}

/// Runs a script and reads what it prints.
fn ask<T: DeserializeOwned>(build: &Build<'_>, step: &str, command: &mut Command) -> Result<T, CliError> {
    let printed = build.run_captured(step, command).map_err(|(error, _)| error)?;
    match serde_json::from_slice(&printed) {
        Ok(Reply::Value(value)) => Ok(value),
        Ok(Reply::Problem { error, hint }) => Err(CliError::new(EXIT_USAGE, error).hint(hint)),
        Err(error) => {
            Err(CliError::new(EXIT_FAILURE, format!("cannot read the output of a script of the SDK: {error}")))
        }
    }
}

/// Makes the component.
fn componentize(
    build: &Build<'_>,
    tool: &InstalledTool,
    sdk: &Path,
    plan: &Plan,
    packages: &Packages,
    module: &Path,
) -> Result<(), CliError> {
    let app = build.scratch().join("app");
    build.write(&app.join(format!("{APP}.py")), &app_source(&plan.modules, build.source.file.is_some()))?;
    // Without it, componentize-py would add the packages of the user's environment to the module.
    let no_packages = build.scratch().join("environment");
    let folder = no_packages.join("lib/site-packages");
    fs::create_dir_all(&folder).map_err(|error| cannot("create", &folder, &error))?;
    let InstalledTool::Folder(installed) = tool else {
        return Err(CliError::new(EXIT_FAILURE, "componentize-py is not in the folder of the tools"));
    };
    let mut command = Command::new(python()?);
    command.arg(installed.join("bin/componentize-py")).args(["-q", "-d"]).arg(sdk.join("wit"));
    command.args(["-w", if plan.http { "module-with-http" } else { "module" }, "componentize", APP]);
    let (files, sdk_folder) = (files(build), sdk.to_path_buf());
    for folder in [Some(&app), Some(&files), packages.folder.as_ref(), Some(&sdk_folder)].into_iter().flatten() {
        command.arg("-p").arg(folder);
    }
    command.arg("-o").arg(module);
    command.env("PYTHONPATH", installed).env("PYTHONNOUSERSITE", "1").env_remove("PYTHONHOME");
    command.env("VIRTUAL_ENV", &no_packages).env("RUST_BACKTRACE", "0").env("RUST_LIB_BACKTRACE", "0");
    let shown = build.source.path.display();
    let output = GuestOutput::new(build.output, &root_as_given(build, plan));
    build.output.begin(&format!("building {shown} with {}", COMPONENTIZE_PY.title()));
    let result = process::run(&mut command, &output);
    build.output.end();
    result.map_err(|error| output.into_error(build, error, packages))
}

/// The root as the user gave it, for messages: empty for a file in the current folder.
fn root_as_given(build: &Build<'_>, plan: &Plan) -> PathBuf {
    let given = if build.source.file.is_some() {
        build.source.path.parent().unwrap_or(Path::new("")).to_owned()
    } else {
        let below = plan.root.strip_prefix(&build.source.folder).unwrap_or(Path::new(""));
        build.source.path.join(below)
    };
    given.strip_prefix(".").map(Path::to_owned).unwrap_or(given)
}

/// The module that componentize-py imports.
fn app_source(modules: &[String], is_file: bool) -> String {
    let names: Vec<String> = modules.iter().map(|name| format!("{name:?}")).collect();
    format!(
        "import sys\n\n# No files beside the user's own.\nsys.dont_write_bytecode = True\n\nfrom fastworker import prepare\n\n\
         prepare.modules({}, is_script={})\n\nfrom fastworker.module import Tasks\n\n\
         prepare.finish(\"{APP_FOLDER}/notes\")\n",
        names.join(", "),
        if is_file { "True" } else { "False" }
    )
}

/// Tells the author what is in the module.
fn report(build: &Build<'_>, plan: &Plan, packages: &Packages) -> Result<(), CliError> {
    let notes = build.scratch().join("app/notes");
    let notes = fs::read_to_string(&notes).map_err(|error| cannot("read", &notes, &error))?;
    plan.notes.iter().map(String::as_str).chain(notes.lines()).for_each(|note| build.note(note));
    let modules = plan.modules.join(", ");
    let installed = match packages.installed.as_slice() {
        [] => String::new(),
        installed => format!(" and of {}", installed.join(", ")),
    };
    build.note(&format!("the module holds Python {PYTHON}, and what {modules} imports of its library{installed}"));
    if !packages.without_compiled.is_empty() {
        build.note(&format!("without their compiled code: {}", packages.without_compiled.join(", ")));
    }
    if plan.http {
        build.note("it can send HTTP requests, to hosts that its worker grants: --allow-http HOST");
    }
    Ok(())
}
