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

/// A script that builds `src/tasks.zig` with the SDK that it is given, a module of its own, and an option.
const SCRIPT: &str = r#"const std = @import("std");

pub fn build(b: *std.Build) void {
    const sdk = b.option(std.Build.LazyPath, "fastworker", "The SDK").?;
    const module = b.addExecutable(.{
        .name = "shop",
        .root_module = b.createModule(.{
            .root_source_file = b.path("src/tasks.zig"),
            .target = b.resolveTargetQuery(.{ .cpu_arch = .wasm32, .os_tag = .wasi }),
            .optimize = .ReleaseSafe,
            .imports = &.{
                .{ .name = "fastworker", .module = b.createModule(.{ .root_source_file = sdk }) },
                .{ .name = "rates", .module = b.createModule(.{ .root_source_file = b.path("rates/rates.zig") }) },
            },
        }),
    });
    module.entry = .disabled;
    module.rdynamic = true;
    b.installArtifact(module);
}
"#;

#[test]
fn a_zig_project_builds_by_its_own_script() {
    let directory = tempfile::tempdir().expect("directory created");
    let write = |path: &str, text: &str| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directory created");
        std::fs::write(path, text).expect("file access");
    };
    let tasks = "const fw = @import(\"fastworker\");\nconst rates = @import(\"rates\");\nconst numbers = @import(\"numbers.zig\");\n\
                 fn price(net: f64) f64 {\n    return numbers.twice(net) * rates.vat;\n}\n\
                 const tasks = [_]fw.Task{fw.task(\"price\", price, .{ .params = &.{\"net\"} })};\n\
                 comptime {\n    fw.exportTasks(&tasks);\n}\n";
    write("build.zig", SCRIPT);
    write("src/tasks.zig", tasks);
    write("src/numbers.zig", "pub fn twice(x: f64) f64 {\n    return 2 * x;\n}\n");
    write("rates/rates.zig", "pub const vat: f64 = 1.5;\n");
    let Some(module) = build_module(directory.path(), "script-zig") else { return };
    assert_eq!(Attempt::run(&module, &["price", "10"]).result(), 30.0);

    write("build.zig", &SCRIPT.replace("    b.installArtifact(module);\n", ""));
    let ran = cli::run(sdk::command(directory.path(), &["build", "."])).with_code(2);
    assert!(ran.stderr.contains("installs 0 WebAssembly files") && ran.stderr.contains("b.installArtifact"), "{ran:?}");
    write("src/tasks.zig", "pub fn nothing() void {}\n");
    write("build.zig", SCRIPT);
    let ran = cli::run(sdk::command(directory.path(), &["build", "."])).with_code(2);
    assert!(ran.stderr.contains("exports no tasks") && ran.stderr.contains("fw.exportTasks"), "{ran:?}");
}
