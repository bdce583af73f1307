//! The example task modules, built once by `scripts/build-tasks`.

use std::{path::PathBuf, process::Command, sync::LazyLock};

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
