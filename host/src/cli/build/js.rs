//! Builds TypeScript and JavaScript.
//!
//! The SDK's own build does the work, in Node: it reads the signatures of the tasks from the source, bundles it with
//! its packages, and chooses the engine; then the engine's tool makes a component of the bundle. The author's code runs
//! in the sandbox of the engine only.

use std::{path::Path, process::Command};

use serde::Deserialize;

use super::{
    Artifact, Build, Language,
    tools::{InstalledTool, Installer, Tool, node},
};
use crate::cli::{CliError, EXIT_FAILURE};

/// The types of the source, the bundler, and the small engine.
static SMALL: Tool = Tool {
    name: "componentize-qjs",
    version: "0.4.5",
    download_mb: 25,
    disk_mb: 72,
    installer: Installer::Npm {
        manifest: include_str!("../../../sdk/js/tools/small/package.json"),
        lock: include_str!("../../../sdk/js/tools/small/package-lock.json"),
    },
    on_path: None,
};
/// The complete engine, in addition.
static COMPLETE: Tool = Tool {
    name: "componentize-js",
    version: "0.23.0",
    download_mb: 60,
    disk_mb: 215,
    installer: Installer::Npm {
        manifest: include_str!("../../../sdk/js/tools/complete/package.json"),
        lock: include_str!("../../../sdk/js/tools/complete/package-lock.json"),
    },
    on_path: None,
};

/// The engine of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    /// `QuickJS`.
    Small,
    /// `StarlingMonkey`: async, timers, fetch.
    Complete,
}

impl Engine {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Complete => "complete",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Small => "QuickJS",
            Self::Complete => "StarlingMonkey",
        }
    }
}

/// What bundling reports.
#[derive(Debug, Deserialize)]
struct Bundled {
    engine: Engine,
    /// Why it is not the small engine.
    reason: Option<String>,
    /// Whether it uses `fetch`, so that the module imports wasi:http.
    fetches: bool,
    warnings: Vec<Finding>,
}

/// What a failed step reports.
#[derive(Debug, Deserialize)]
struct Failed {
    errors: Vec<Finding>,
}

/// An error or a warning.
#[derive(Debug, Deserialize)]
struct Finding {
    text: String,
    /// Its place, as `file:line:column`.
    at: Option<String>,
    /// What to do.
    hint: Option<String>,
}

/// Builds the source of a [`Build`].
pub(super) fn build(build: &Build<'_>) -> Result<Artifact, CliError> {
    let source = build.source.path.display();
    let (small, sdk) = (build.tool(&SMALL)?, build.sdk(Language::TypeScript)?);
    let (bundle, component) = (build.scratch().join("module.js"), build.scratch().join("module.wasm"));
    let script = sdk.join("build/build.mjs");

    let mut command = step(&script, "bundle", &bundle)?;
    add_tool(&mut command, &small);
    command.arg(&build.source.path);
    let output = run(build, &format!("bundling {source} with esbuild"), &mut command)?;
    let Bundled { engine, reason, fetches, warnings } =
        serde_json::from_slice(&output).map_err(|error| unreadable(&script, &error))?;
    for warning in &warnings {
        build.note(&format!("warning: {warning}"));
    }
    if let Some(reason) = reason {
        build.note(&format!("the {} engine ({}), because {reason}", engine.as_str(), engine.title()));
    }

    let mut command = step(&script, "componentize", &component)?;
    command.args(["--engine", engine.as_str()]).arg("--wit").arg(sdk.join("wit"));
    match engine {
        Engine::Small => add_tool(&mut command, &small),
        Engine::Complete => add_tool(&mut command, &build.tool(&COMPLETE)?),
    }
    if fetches {
        command.arg("--fetch");
    }
    run(build, &format!("building {source} for {}", engine.title()), command.arg(&bundle))?;
    Artifact::read(&component)
}

/// The command of one step, which writes the file `out`.
fn step(script: &Path, name: &str, out: &Path) -> Result<Command, CliError> {
    let mut command = Command::new(node()?);
    // Options for the author's own programs.
    command.env_remove("NODE_OPTIONS").arg(script).arg(name).arg("--out").arg(out);
    Ok(command)
}

fn add_tool(command: &mut Command, tool: &InstalledTool) {
    let (InstalledTool::Folder(path) | InstalledTool::Program(path)) = tool;
    command.arg("--tools").arg(path);
}

/// Runs a step and returns its report.
fn run(build: &Build<'_>, title: &str, command: &mut Command) -> Result<Vec<u8>, CliError> {
    build.run_captured(title, command).map_err(|(error, output)| match serde_json::from_slice::<Failed>(&output) {
        Ok(failed) => failed.into_error(&build.source.path),
        // Not an error of the author: the output of the program is shown.
        Err(_) => error,
    })
}

fn unreadable(script: &Path, error: &serde_json::Error) -> CliError {
    CliError::new(EXIT_FAILURE, format!("{} printed a report that cannot be read: {error}", script.display()))
}

impl Failed {
    fn into_error(self, source: &Path) -> CliError {
        let shown = source.display();
        match <[Finding; 1]>::try_from(self.errors) {
            Ok([Finding { text, at, hint }]) => {
                let place = at.unwrap_or_else(|| shown.to_string());
                let error = CliError::new(EXIT_FAILURE, format!("{place}: {text}"));
                hint.into_iter().fold(error, CliError::hint)
            }
            Err(errors) => {
                let lines: Vec<String> = errors.iter().map(|error| format!("  {error}")).collect();
                CliError::new(EXIT_FAILURE, format!("{shown} has {} errors:\n{}", errors.len(), lines.join("\n")))
            }
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { text, at, hint } = self;
        if let Some(at) = at {
            write!(f, "{at}: ")?;
        }
        f.write_str(text)?;
        hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}
