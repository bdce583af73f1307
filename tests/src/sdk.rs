//! Task modules in other languages than Rust, built by `fastworker build` with its tools.
//!
//! The tools are in the folder that `fastworker` itself uses, because they are large. In CI (`CI` is set) missing ones are
//! installed; elsewhere the tests that need them are skipped, which is reported.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{Ran, binary, cli, fastworker};

/// Exit code of `fastworker build` without its tools.
const MISSING_TOOL: i32 = 6;
/// Timeout of a build on a busy machine, with empty caches.
const LIMIT: Duration = Duration::from_mins(10);

/// The folder of the tools: `FASTWORKER_TOOLS`, else the one in the user's cache.
pub fn folder() -> PathBuf {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache"));
    variable("FASTWORKER_TOOLS").unwrap_or_else(|| cache().join("fastworker/tools"))
}

/// Whether a tool is missing, and this is not CI, which would install it.
pub fn is_without(tool: &str) -> bool {
    let is_installed = fs::read_dir(folder()).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{tool}-")))
    });
    let is_without = !is_installed && !is_ci();
    if is_without {
        report_skipped(&format!("{tool} is not in {}; fastworker build --install installs it", folder().display()));
    }
    is_without
}

#[allow(clippy::print_stderr, reason = "the test results must show skipped tests")]
fn report_skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// Whether missing tools are installed, as this is CI.
pub fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// A command in a directory that uses the tools.
pub fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = fastworker();
    command.current_dir(directory).args(args).env("FASTWORKER_TOOLS", folder());
    command
}

/// Runs a command in a directory. Where the tools are is not part of what it shows.
pub fn run(directory: &Path, args: &[&str]) -> Ran {
    let mut ran = cli::run_within(LIMIT, command(directory, args));
    if let Some(at) = ran.command.find("fastworker ") {
        ran.command.replace_range(..at, "");
    }
    // The same wherever it runs.
    ran.command = ran.command.replace("build --install", "build");
    ran
}

/// Runs `fastworker build PATH` in a directory; in CI it installs what is missing.
pub fn build(directory: &Path, path: &str) -> Ran {
    run_build(directory, &[path])
}

/// Runs `fastworker build` in a directory with these arguments.
fn run_build(directory: &Path, args: &[&str]) -> Ran {
    let install = is_ci().then_some("--install");
    let args: Vec<&str> = ["build"].into_iter().chain(install).chain(args.iter().copied()).collect();
    // Each uses all cores.
    let _one_at_a_time = binary::lock("fastworker-sdk");
    run(directory, &args)
}

/// Builds a source in a directory. Returns the names and signatures of its tasks, as the build shows them.
pub fn built(directory: &Path, path: &str) -> String {
    let shown = build(directory, path).with_code(0).stdout;
    // The last lines are the size and the hash of the module.
    shown.lines().take_while(|line| !line.contains(".wasm, ")).collect::<Vec<_>>().join("\n")
}

/// Builds a source of the repository to `NAME.wasm` in the target directory, and returns that path. None if its tools are
/// missing, which is reported; in CI they are installed.
///
/// # Panics
/// When it does not build.
pub fn build_module(source: &Path, name: &str) -> Option<PathBuf> {
    let module = binary::target_dir().join("tests-sdk").join(name).with_extension("wasm");
    let [output, source] = [&module, source].map(|path| path.to_str().expect("a path in UTF-8"));
    let ran = run_build(&binary::root(), &["--output", output, source]);
    if ran.code == Some(MISSING_TOOL) {
        report_skipped(&format!("{source} is not tested: {}", ran.error()));
        return None;
    }
    let _ = ran.with_code(0);
    Some(module)
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
