//! The SDK for Zig: the contract, the example, and a new project.

use std::path::Path;

use fastworker_tests::{
    binary::root,
    cli,
    sdk::{self, Attempt, build_module},
};
use serde_json::json;

#[path = "sdk/contract.rs"]
mod contract;
#[path = "sdk/zig.rs"]
mod zig;

/// Runs the tests of a file with tasks.
fn test(folder: &Path, file: &str, sdk: &str) {
    let (file, sdk) = (format!("-Mroot={file}"), format!("-Mfastworker={sdk}/src/fastworker.zig"));
    zig::run(folder, zig::program(), &["test", "--dep", "fastworker", &file, &sdk]);
}

#[test]
fn a_module_in_zig_fulfils_the_contract() {
    let Some(module) = build_module(Path::new("tests/tests/sdk/contract.zig"), "contract-zig") else { return };
    contract::check(&module, &contract::Expected { kind: "OutOfStock", crash: "index out of bounds" });
    zig::run(&root().join("guest-sdk/zig"), zig::program(), &["test", "src/fastworker.zig"]);
}

#[test]
fn the_example_in_zig_draws_the_mandelbrot_set() {
    let folder = Path::new("examples/tasks/zig-mandelbrot");
    let Some(module) = build_module(&folder.join("mandelbrot.zig"), "mandelbrot") else { return };
    let attempt = Attempt::run(&module, &["mandelbrot", "--kwargs", "width=2", "height=1", "iterations=9"]);
    // P6, 2 1, 255, and two pixels.
    let image = attempt.result().as_str().expect("base64");
    assert!(image.starts_with("UDYKMiAxCjI1NQ") && image.len() == 24, "{image}");
    assert!(attempt.log.contains("1/1 drawing"), "{attempt:?}");
    let wrong = Attempt::run(&module, &["mandelbrot", "--kwargs", "zoom=0"]);
    assert_eq!(wrong.failure(), ("bad-arguments", "BadArguments", "argument 'zoom': must be positive"));
    test(&root().join(folder), "mandelbrot.zig", "../../../guest-sdk/zig");
}

#[test]
fn a_new_project_in_zig_builds_and_passes_its_tests() {
    let directory = tempfile::tempdir().expect("directory created");
    let command = sdk::command(directory.path(), &["new", "my-tasks", "--lang", "zig"]);
    let _ = cli::run(command).with_code(0);
    let project = directory.path().join("my-tasks");
    let Some(module) = build_module(&project, "new-zig") else { return };
    assert_eq!(Attempt::run(&module, &["mean", "[1, 2]"]).result(), 1.5);
    let greetings = Attempt::run(&module, &["greet", "Ada", "--kwargs", "times=2"]);
    assert_eq!(greetings.result(), &json!(["Hello, Ada!", "Hello, Ada!"]));
    test(&project, "tasks.zig", ".fastworker/sdk");
}
