//! Task modules in other languages than Rust: built by `fastworker build`, with the tools of this machine.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{binary, cli, fastworker};

/// Exit code of `fastworker build` without its tools.
const MISSING_TOOL: i32 = 6;

/// The folder of the tools on this machine: `$FASTWORKER_TOOLS`, or its default.
pub fn tools() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let default = || cache().expect("XDG_CACHE_HOME or HOME is set").join("fastworker/tools");
    set("FASTWORKER_TOOLS").unwrap_or_else(default)
}

/// A `fastworker` command with these tools.
pub fn with_tools() -> Command {
    let mut command = fastworker();
    command.env("FASTWORKER_TOOLS", tools());
    command
}

/// Builds a source to `NAME.wasm` in the target directory, and returns that path. None if the tools are missing, which
/// is reported.
///
/// # Panics
/// When it does not build; in CI also when the tools are missing.
pub fn build(source: &Path, name: &str) -> Option<PathBuf> {
    let source = binary::root().join(source);
    let module = binary::target_dir().join("tests-sdk").join(name).with_extension("wasm");
    let mut command = with_tools();
    command.arg("build").arg(&source).arg("--output").arg(&module);
    let ran = cli::run(command);
    if ran.code == Some(MISSING_TOOL) {
        assert!(env::var_os("CI").is_none(), "a tool is missing, with which CI tests: {ran:?}");
        report_skipped(&source, ran.error());
        return None;
    }
    let _ = ran.with_code(0);
    Some(module)
}

#[allow(clippy::print_stderr, reason = "the test results must show skipped tests")]
fn report_skipped(source: &Path, error: &str) {
    eprintln!("SKIPPED: {} is not tested: {error}", source.display());
}

/// The outcome of one attempt, by `fastworker dev`.
#[derive(Debug)]
pub struct Attempt {
    /// The task, as `fastworker status --json` prints it.
    pub task: Value,
    /// What it logged and reported.
    pub log: String,
}

impl Attempt {
    /// Runs a task of a module with arguments as the command line takes them.
    pub fn run(module: &Path, args: &[&str]) -> Self {
        let mut command = fastworker();
        command.arg("dev").arg("--json").arg(module).args(args);
        let ran = cli::run(command);
        Self { task: ran.json(), log: ran.stderr }
    }

    /// Its result.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn result(&self) -> &Value {
        assert_eq!(self.task["status"], "success", "{self:?}");
        &self.task["result"]
    }

    /// The kind of its error for the host, that of the task, and its message.
    ///
    /// # Panics
    /// When it succeeded.
    #[track_caller]
    pub fn failure(&self) -> (&str, &str, &str) {
        assert_eq!(self.task["status"], "failure", "{self:?}");
        let text = |pointer: &str| self.task.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        (text("/error_kind"), text("/metadata/failure/kind"), text("/error"))
    }
}

/// The tasks of a module, as `fastworker list --json` prints them.
pub fn tasks(module: &Path) -> Value {
    let mut command = fastworker();
    command.args(["list", "--json", "--task-modules"]).arg(module);
    cli::run(command).with_code(0).json()[0]["tasks"].take()
}
