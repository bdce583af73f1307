//! The tools with which `fastworker build` builds other languages than Rust.
//!
//! They are in the folder that `fastworker` itself uses, because they are large. In CI (`CI` is set) missing ones are
//! installed; elsewhere the tests that need them are skipped, which is reported.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{Ran, cli, fastworker};

/// Timeout of a build on a busy machine, with the compilation of a large engine.
const LIMIT: Duration = Duration::from_mins(10);

/// The folder of the tools: `FASTWORKER_TOOLS`, else the one in the user's cache.
pub fn folder() -> PathBuf {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache"));
    variable("FASTWORKER_TOOLS").unwrap_or_else(|| cache().join("fastworker/tools"))
}

/// Whether a tool is missing, and this is not CI, which would install it.
#[allow(clippy::print_stderr, reason = "the test results must show skipped tests")]
pub fn is_without(tool: &str) -> bool {
    let is_installed = fs::read_dir(folder()).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{tool}-")))
    });
    let is_without = !is_installed && !is_ci();
    if is_without {
        eprintln!("SKIPPED: {tool} is not in {}; fastworker build --install installs it", folder().display());
    }
    is_without
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
    let args: &[&str] = if is_ci() { &["build", "--install", path] } else { &["build", path] };
    run(directory, args)
}

/// Builds a source in a directory. Returns the names and signatures of its tasks, as the build shows them.
pub fn built(directory: &Path, path: &str) -> String {
    let shown = build(directory, path).with_code(0).stdout;
    // The last lines are the size and the hash of the module.
    shown.lines().take_while(|line| !line.contains(".wasm, ")).collect::<Vec<_>>().join("\n")
}
