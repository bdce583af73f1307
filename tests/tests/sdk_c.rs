//! The SDK for C and C++: the contract in both, the example, and new projects.

use std::{path::Path, process::Command};

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

#[test]
fn a_module_in_c_fulfils_the_contract() {
    let Some(module) = build_module(Path::new("tests/tests/sdk/contract.c"), "contract-c") else { return };
    contract::check(&module, &contract::Expected { kind: "OutOfStock", crash: "unreachable" });
}

#[test]
fn a_module_in_cpp_fulfils_the_contract() {
    let Some(module) = build_module(Path::new("tests/tests/sdk/contract.cpp"), "contract-cpp") else { return };
    contract::check(&module, &contract::Expected { kind: "OutOfStock", crash: "out_of_range was thrown" });
    zig::run(&root().join("guest-sdk/c"), "./tests/run", &[]);
}

#[test]
fn the_example_in_c_makes_an_image_black_and_white() {
    let source = Path::new("examples/tasks/c-threshold/threshold.c");
    let Some(module) = build_module(source, "threshold") else { return };
    let result = |args: &[&str]| Attempt::run(&module, &[&["threshold"], args].concat()).result().clone();
    // P5, 4 1, 255, and the greys 10, 20, 200, 210; then 0, 0, 255, 255, and 0, 255, 255, 255.
    let image = "UDUKNCAxCjI1NQoKFMjS";
    assert_eq!(result(&[image]), "UDUKNCAxCjI1NQoAAP//");
    assert_eq!(result(&[image, "20"]), "UDUKNCAxCjI1NQoA////");
    // Half of an image, text, and an empty one.
    for (image, problem) in [
        ("UDUKNCAxCjI1NQoK", "it ends before its last pixel"),
        ("aGk=", "it is no PGM image of bytes (P5)"),
        ("", "it is no PGM image of bytes (P5)"),
        ("UDUKNCAx", "it has no width, height and white value"),
    ] {
        let wrong = Attempt::run(&module, &["threshold", &format!("\"{image}\"")]);
        let message = format!("argument 'image': {problem}");
        assert_eq!(wrong.failure(), ("bad-arguments", "BadArguments", message.as_str()));
    }
}

#[test]
fn the_example_in_cpp_finds_the_shortest_route() {
    let source = Path::new("examples/tasks/cpp-route/route.cpp");
    let Some(module) = build_module(source, "route") else { return };
    let road = |from: &str, to: &str, km: f64| json!({ "from": from, "to": to, "km": km });
    let roads = json!([road("a", "b", 2.0), road("c", "b", 1.5), road("a", "c", 9.0), road("x", "y", 1.0)]).to_string();
    let run = |from: &str, to: &str| Attempt::run(&module, &["route", &roads, from, to]);
    assert_eq!(run("a", "c").result(), &json!({ "places": ["a", "b", "c"], "km": 3.5 }));
    assert_eq!(run("a", "a").result(), &json!({ "places": ["a"], "km": 0.0 }));
    assert_eq!(run("a", "y").failure(), ("gave-up", "NoRoute", "no roads lead from a to y"));
    assert_eq!(run("a", "z").failure(), ("bad-arguments", "BadArguments", "no road leads to z"));
}

fn new_project(language: &str) {
    let directory = tempfile::tempdir().expect("directory created");
    let command = sdk::command(directory.path(), &["new", "my-tasks", "--lang", language]);
    let _ = cli::run(command).with_code(0);
    let project = directory.path().join("my-tasks");
    let Some(module) = build_module(&project, &format!("new-{language}")) else { return };
    assert_eq!(Attempt::run(&module, &["mean", "[1, 2]"]).result(), 1.5);
    let greetings = Attempt::run(&module, &["greet", "Ada", "--kwargs", "times=2"]);
    assert_eq!(greetings.result(), &json!(["Hello, Ada!", "Hello, Ada!"]));
    if Command::new("make").arg("--version").output().is_ok() {
        let zig = zig::program();
        let compilers = [format!("CC={} cc", zig.display()), format!("CXX={} c++", zig.display())];
        zig::run(&project, "make", &["test", &compilers[0], &compilers[1]]);
    }
}

#[test]
fn a_new_project_in_c_builds_and_passes_its_test() {
    new_project("c");
}

#[test]
fn a_new_project_in_cpp_builds_and_passes_its_test() {
    new_project("cpp");
}

#[test]
fn a_project_may_have_several_sources_headers_and_flags() {
    let directory = tempfile::tempdir().expect("directory created");
    let write = |path: &str, text: &str| {
        let path = directory.path().join("several").join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directory created");
        std::fs::write(path, text).expect("file access");
    };
    let task = "#include <fastworker.h>\n#include \"half.h\"\nstatic void half_task(fw_call *call) {\n    \
                fw_return_int(call, half(fw_int(call, \"x\")) + PLUS);\n}\n\
                FW_TASKS({.name = \"half\", .run = half_task, .params = {{\"x\", FW_INT}}})\n";
    write("tasks.c", task);
    write("src/half.c", "#include \"half.h\"\nlong long half(long long x) { return x / 2; }\n");
    write("headers/half.h", "long long half(long long x);\n");
    write("half_test.c", "not C, and not compiled\n");
    write("compile_flags.txt", "-Iheaders\n-DPLUS=100\n");
    let Some(module) = build_module(&directory.path().join("several"), "several-c") else { return };
    assert_eq!(Attempt::run(&module, &["half", "8"]).result(), 104);
}
