//! `fastworker new`: the project builds, passes its tests and runs without changes.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fastworker_tests::{Cluster, Ran, Transcript, binary, cli, fastworker, modules::compiler_variables};

fn new(directory: &Path, args: &[&str]) -> Ran {
    let mut command = fastworker();
    command.current_dir(directory).arg("new").args(args);
    cli::run(command)
}

/// Runs a command of the new crate, which may take long because it compiles the SDK.
fn build(crate_folder: &Path, program: impl Into<OsString>, args: &[&str]) {
    let mut command = Command::new(program.into());
    // Kept between runs, as nothing else is built there.
    let target = binary::target_dir().join("new-crate");
    command.current_dir(crate_folder).args(args).env("CARGO_TARGET_DIR", target);
    let ran = command.output().expect("cargo can be started");
    assert!(ran.status.success(), "{args:?}:\n{}", String::from_utf8_lossy(&ran.stderr));
}

/// Builds the module with `fastworker build`.
fn module(crate_folder: &Path) -> PathBuf {
    let mut command = fastworker();
    command.arg("build").arg(crate_folder).arg("--json").envs(compiler_variables());
    command.env("CARGO_TARGET_DIR", binary::target_dir().join("new-crate"));
    let built = cli::run(command).with_code(0).json();
    PathBuf::from(built["path"].as_str().expect("a path"))
}

#[test]
fn a_new_crate_builds_and_serves_its_tasks_unchanged() {
    let directory = tempfile::tempdir().expect("directory created");
    let mut shown = Transcript::new();
    shown.add(&new(directory.path(), &["my-tasks"]).with_code(0));
    shown.check();
    let made = directory.path().join("my-tasks");
    let dependency = fs::read_to_string(made.join("Cargo.toml")).expect("valid manifest");
    assert!(dependency.contains(r#"fastworker-guest = { path = ".fastworker/sdk/guest-sdk/rust" }"#), "{dependency}");
    // The locked versions of crates, instead of the newest.
    fs::copy(binary::root().join("Cargo.lock"), made.join("Cargo.lock")).expect("file copied");

    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    build(&made, cargo, &["test", "--quiet"]);
    let module = module(&made);
    assert_eq!(module, made.join("my_tasks.wasm"));
    let mut dev = fastworker();
    dev.arg("dev").arg(&module).args(["greet", "Ada", "--kwargs", "times=2"]);
    assert_eq!(cli::run(dev).with_code(0).stdout, "[\"Hello, Ada!\",\"Hello, Ada!\"]\n");

    let served = module.to_str().expect("valid UTF-8");
    let cluster = Cluster::builder().control_plane_args(&["--task-modules", served, "--concurrency", "1"]).start();
    let mean = cluster.cli(["submit", "--task-name", "mean", "--args", "[1, 2, 6]"]).with_code(0);
    assert_eq!(mean.stdout, "3.0\n");
    let failed = cluster.cli(["submit", "--task-name", "mean", "--args", "[]"]).with_code(1).with_error();
    assert!(failed.stderr.contains("bad-arguments"), "{failed:?}");
}

#[test]
fn a_new_crate_in_a_workspace_leaves_both_buildable() {
    let directory = tempfile::tempdir().expect("directory created");
    let at = |path: &str| directory.path().join(path);
    let write = |path: &str, text: &str| {
        fs::create_dir_all(at(path).parent().expect("parent directory")).expect("directory created");
        fs::write(at(path), text).expect("file access");
    };
    let workspace = "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\nexclude = [\"crates/out\"]\n";
    write("Cargo.toml", workspace);
    write("crates/old/Cargo.toml", "[package]\nname = \"old\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    write("crates/old/src/lib.rs", "");
    // The SDK would count as a member, which is not possible.
    let mut errors = Transcript::new();
    errors.add(&new(directory.path(), &["one", "--path", "crates/one"]).with_code(2));
    assert!(!at("crates/one").exists());
    write("Cargo.toml", &workspace.replace("\"crates/out\"", "\"crates/out\", \".fastworker\""));
    for path in ["crates/one", "crates/two", "crates/out", "elsewhere", "crates/one/deep"] {
        let name = path.replace('/', "-");
        let _ = new(directory.path(), &[&name, "--path", path]).with_code(0);
    }
    // Crates that the workspace includes share its SDK.
    assert!(at(".fastworker/sdk/Cargo.toml").exists() && !at("crates/one/.fastworker").exists());
    let cargo = || env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Without a build: cargo reads all manifests, and finds every crate in its workspace.
    for path in ["", "crates/one", "crates/two", "crates/out", "elsewhere", "crates/one/deep"] {
        build(&at(path), cargo(), &["metadata", "--format-version", "1", "--quiet"]);
    }
    write("nest/Cargo.toml", "[workspace]\nmembers = [\"**\"]\n");
    errors.add(&new(&at("nest"), &["greedy"]).with_code(2));
    errors.check();
}

#[test]
fn a_new_crate_is_written_to_its_path_and_overwrites_nothing() {
    let directory = tempfile::tempdir().expect("directory created");
    let made = new(directory.path(), &["tasks", "--path", "a/b", "--json"]).with_code(0).json();
    assert_eq!((&made["name"], &made["path"]), (&"tasks".into(), &"a/b".into()));
    assert_eq!((&made["language"], &made["module"]), (&"rust".into(), &"tasks.wasm".into()));
    assert!(directory.path().join("a/b/src/lib.rs").exists());
    let mut errors = Transcript::new();
    errors.add(&new(directory.path(), &["other", "--path", "a/b"]).with_code(2));
    errors.add(&new(directory.path(), &["../up"]).with_code(2));
    errors.add(&new(directory.path(), &["x", "--sdk", "a"]).with_code(2));
    errors.add(&new(directory.path(), &["x", "--lang", "python", "--sdk", "a"]).with_code(2));
    errors.add(&new(directory.path(), &["match"]).with_code(2));
    errors.add(&new(directory.path(), &["x", "--lang", "pyhton"]).with_code(2));
    errors.check();
    let sdk = binary::root().join("guest-sdk/rust");
    let _ = new(directory.path(), &["with-sdk", "--sdk", sdk.to_str().expect("valid UTF-8")]).with_code(0);
    let manifest = fs::read_to_string(directory.path().join("with-sdk/Cargo.toml")).expect("valid manifest");
    assert!(manifest.contains(&format!("{{ path = \"{}\" }}", sdk.canonicalize().expect("existing file").display())));
    assert!(!directory.path().join("with-sdk/.fastworker").exists());
}

#[test]
fn a_new_python_project_passes_its_tests_unchanged() {
    let directory = tempfile::tempdir().expect("directory created");
    // Inside of a cargo workspace and a Go module, which do not concern it.
    fs::write(directory.path().join("Cargo.toml"), "[workspace]\nmembers = [\"**\"]\n").expect("file access");
    fs::write(directory.path().join("go.mod"), "module around\n").expect("file access");
    let mut shown = Transcript::new();
    shown.add(&new(directory.path(), &["my-tasks", "--lang", "python"]).with_code(0));
    shown.check();
    let made = directory.path().join("my-tasks");
    build(&made, "python3", &["-m", "unittest"]);
}
