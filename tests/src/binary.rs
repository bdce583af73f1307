//! The binary under test: `fastworker` as the same `cargo` builds it in the same profile.
//!
//! `cargo test` only builds the binaries of the package whose tests it runs, and this is another package. So the harness
//! searches the directory above its own executable, and lets cargo build the binary if it is missing or outdated.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::SystemTime,
};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

/// The directory of the current profile, such as `…/target/release`.
pub fn profile_dir() -> PathBuf {
    let executable = env::current_exe().expect("path of the executable");
    let deps = executable.parent().expect("directory of the executable");
    deps.parent().expect("parent of …/deps").to_owned()
}

/// The target directory.
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("parent of the profile directory").to_owned()
}

/// The binary, built from the current sources.
pub fn path() -> &'static Path {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        let binary = profile_dir().join("fastworker");
        let _one_at_a_time = lock("fastworker-binary");
        if !is_current(&binary) {
            build();
        }
        assert!(binary.exists(), "there is no {}: run scripts/test, which builds it", binary.display());
        binary
    });
    &BUILT
}

/// Locks the creation of something that several test processes share.
pub(crate) fn lock(name: &str) -> fs::File {
    let path = target_dir().join(format!("{name}.lock"));
    let file = fs::File::create(&path).expect("writable target directory");
    file.lock().expect("a file can be locked");
    file
}

/// Whether the binary exists and is newer than its sources.
fn is_current(binary: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified());
    let Ok(built) = modified(binary) else { return false };
    let is_older = |path: &Path| modified(path).unwrap_or(SystemTime::UNIX_EPOCH) <= built && path.exists();
    let Ok(rule) = fs::read_to_string(binary.with_extension("d")) else { return false };
    let Some((_, sources)) = rule.split_once(": ") else { return false };
    let manifests = ["Cargo.lock", "Cargo.toml", "host/Cargo.toml"].map(|name| root().join(name));
    // A space within a path is written as "\ " there.
    let sources = sources.replace("\\ ", "\0");
    let mut sources = sources.split_whitespace().map(|path| PathBuf::from(path.replace('\0', " ")));
    sources.all(|path| is_older(&path)) && manifests.iter().all(|path| is_older(path))
}

fn build() {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    // The same command as in scripts/test, so that crates have the same features and none is built
    // twice.
    command.args(["build", "--quiet", "--workspace", "--bin", "fastworker", "--target-dir"]).arg(target_dir());
    match profile_dir().file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(profile) => drop(command.args(["--profile", profile])),
    }
    let built = command.current_dir(root()).status().expect("cargo can be started");
    assert!(built.success(), "fastworker does not build");
}
