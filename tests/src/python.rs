//! Unmodified clients of the Python original, installed by `scripts/python-clients`.

use std::{collections::BTreeMap, path::PathBuf, process::Command, sync::LazyLock};

use crate::{binary, cli, cluster::Cluster, process};

/// The versions that are tested.
pub const VERSIONS: [&str; 2] = ["0.3.0", "0.1.1"];

/// Runs a script of `tests/python` with a version's client against a cluster. Its output is only informative: it reports
/// failures as exceptions.
///
/// # Panics
/// When the script fails.
pub fn run(version: &str, script: &str, cluster: &Cluster, args: &[&str]) -> String {
    let mut command = process::command(&interpreter(version));
    command.args(["-u", "-B"]).arg(binary::root().join("tests/python").join(script));
    command.arg(cluster.discovery()).args(args).env("PYTHONFAULTHANDLER", "1");
    let ran = cli::run(command);
    assert_eq!(ran.code, Some(0), "{script} with {version}:\n{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

fn interpreter(version: &str) -> PathBuf {
    static INSTALLED: LazyLock<BTreeMap<&str, PathBuf>> = LazyLock::new(|| {
        let target = binary::target_dir();
        let _one_at_a_time = binary::lock("fastworker-python");
        let installed = Command::new(binary::root().join("scripts/python-clients"))
            .args(VERSIONS)
            .env("CARGO_TARGET_DIR", &target)
            .output()
            .expect("scripts/python-clients can be started");
        let errors = String::from_utf8_lossy(&installed.stderr);
        assert!(installed.status.success(), "the Python clients cannot be installed:\n{errors}");
        VERSIONS.iter().map(|version| (*version, target.join("python").join(version).join("bin/python"))).collect()
    });
    INSTALLED.get(version).unwrap_or_else(|| panic!("version {version} is not tested")).clone()
}
