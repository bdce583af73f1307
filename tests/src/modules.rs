//! The example task modules, built once by `scripts/build-tasks`.

use std::{env, path::PathBuf, process::Command, sync::LazyLock};

use crate::binary;

/// The file of an example module, such as `arithmetic`.
///
/// # Panics
/// When the example does not exist or does not build.
pub fn module(name: &str) -> PathBuf {
    let path = directory().join(name).with_extension("wasm");
    assert!(path.exists(), "there is no example module {name}");
    path
}

/// The directory of all example modules.
pub fn directory() -> PathBuf {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        let target = binary::target_dir();
        let _one_at_a_time = binary::lock("fastworker-tasks");
        let built = Command::new(binary::root().join("scripts/build-tasks"))
            .env("CARGO_TARGET_DIR", &target)
            .output()
            .expect("scripts/build-tasks can be started");
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "the example task modules do not build:\n{errors}");
        target.join("tasks")
    });
    BUILT.clone()
}

/// The variables with which cargo, and `fastworker build`, compile task modules on this machine.
///
/// # Panics
/// When there is no compiler for task modules.
pub fn compiler_variables() -> Vec<(String, String)> {
    static VARIABLES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
        let _one_at_a_time = binary::lock("fastworker-tasks");
        let prepared = Command::new(binary::root().join("scripts/guest-toolchain")).status();
        assert!(prepared.is_ok_and(|status| status.success()), "there is no compiler for modules");
        let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/wasm-sdk");
        let sdk = env::var_os("WASM_SDK_DIR").map_or_else(home, PathBuf::from);
        let printed = Command::new(sdk.join("guest-env")).arg("env").output().expect("guest-env can be started");
        let text = String::from_utf8_lossy(&printed.stdout).into_owned();
        let variables = text.lines().filter_map(|line| line.split_once('='));
        let is_of_compiler = |name: &str| ["RUSTC", "PATH"].contains(&name) || name.starts_with("CARGO");
        variables.filter(|(name, _)| is_of_compiler(name)).map(|(name, value)| (name.into(), value.into())).collect()
    });
    VARIABLES.clone()
}
