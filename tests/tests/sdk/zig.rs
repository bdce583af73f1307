//! Zig as the compiler of tests on this machine, also of C and C++.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use fastworker_tests::{cli::cache, sdk};

/// The program, from the folder of the tools or PATH.
pub(crate) fn program() -> PathBuf {
    let installed = sdk::folder().join("ziglang-0.17.1/ziglang/zig");
    if installed.is_file() { installed } else { PathBuf::from("zig") }
}

/// Runs a command in a folder with the caches that `fastworker build` has in tests.
pub(crate) fn run(folder: &Path, program: impl AsRef<Path>, args: &[&str]) {
    let cache = cache().join("fastworker/build/zig-0.17.1");
    let mut command = Command::new(program.as_ref());
    command.current_dir(folder).args(args).env("ZIG", self::program());
    command.env("ZIG_GLOBAL_CACHE_DIR", &cache).env("ZIG_LOCAL_CACHE_DIR", &cache);
    let ran = command.output().expect("the command can be started");
    let (text, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{args:?} in {}:\n{text}{errors}", folder.display());
}
