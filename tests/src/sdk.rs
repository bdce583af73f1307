//! Task modules in other languages than Rust: built by `fastworker build`, with the tools of this machine.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::{binary, cli, fastworker, tools};

/// Exit code of `fastworker build` without its tools.
const MISSING_TOOL: i32 = 6;
/// Timeout of a build on a busy machine, with empty caches.
const BUILT: Duration = Duration::from_mins(10);

/// Builds a source to `NAME.wasm` in the target directory, and returns that path. None if its tools are missing, which
/// is reported; in CI they are installed.
///
/// # Panics
/// When it does not build.
pub fn build(source: &Path, name: &str) -> Option<PathBuf> {
    let source = binary::root().join(source);
    let module = binary::target_dir().join("tests-sdk").join(name).with_extension("wasm");
    let mut command = tools::command(&binary::root(), &["build", "--output"]);
    command.arg(&module).arg(&source).args(tools::is_ci().then_some("--install"));
    // Each uses all cores.
    let _one_at_a_time = binary::lock("fastworker-sdk");
    let ran = cli::run_within(BUILT, command);
    if ran.code == Some(MISSING_TOOL) {
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
