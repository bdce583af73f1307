//! The SDK for Python: the contract, files written for the Python `FastWorker`, errors of builds, the examples, and a new
//! project.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fastworker_tests::{
    Cluster, Ran, binary, cli,
    sdk::{self, Attempt},
};
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "sdk/contract.rs"]
mod contract;
#[path = "sdk/python_network.rs"]
mod network;

const TOOL: &str = "componentize-py";

fn directory() -> TempDir {
    TempDir::new().expect("directory created")
}

/// Copies a file of the repository, and builds it. Returns the path of the module.
fn build_copy(directory: &Path, file: &str, name: &str) -> PathBuf {
    fs::copy(binary::root().join(file), directory.join(name)).expect("file copied");
    let _ = sdk::build(directory, name).with_code(0);
    directory.join(name).with_extension("wasm")
}

/// Builds a file with this text, which must fail.
fn build_broken(directory: &Path, name: &str, text: &str) -> Ran {
    fs::write(directory.join(name), text).expect("file written");
    sdk::build(directory, name)
}

/// Runs unit tests in a folder.
fn unittest(folder: &Path) {
    let mut command = Command::new("python3");
    command.args(["-m", "unittest", "discover", "-s", ".", "-t", "."]).current_dir(folder);
    let ran = command.env("PYTHONDONTWRITEBYTECODE", "1").output().expect("python3 can be started");
    assert!(ran.status.success(), "{}:\n{}", folder.display(), String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn the_python_sdk_passes_its_own_tests() {
    unittest(&binary::root().join("guest-sdk/python"));
}

#[test]
fn a_module_in_python_fulfils_the_contract() {
    if sdk::is_without(TOOL) {
        return;
    }
    let directory = directory();
    let module = build_copy(directory.path(), "tests/tests/sdk/contract.py", "contract.py");
    contract::check(&module, &contract::Expected { kind: "OutOfStock", crash: "IndexError: list index out of range" });
    let crash = Attempt::run(&module, &["fail", "crash"]);
    let (_, kind, error) = crash.failure();
    assert_eq!(kind, "IndexError");
    assert!(error.contains("File \"contract.py\", line ") && error.contains("return [][1]"), "{error}");
    assert!(crash.log.contains("Traceback (most recent call last):"), "{crash:?}");
}

#[test]
fn a_file_for_the_python_fastworker_runs_unchanged() {
    if sdk::is_without(TOOL) {
        return;
    }
    let directory = directory();
    let module = build_copy(directory.path(), "guest-sdk/python/tests/seed_tasks.py", "mytasks.py");
    let cluster = Cluster::builder().sources([module]).subworkers(1).start();
    let submit = |name: &str, args: &[&str]| {
        let mut all = vec!["submit", "--json", "--task-name", name, "--args"];
        all.extend(args);
        cluster.cli(all)
    };
    assert_eq!(submit("add", &["5", "3"]).with_code(0).json()["result"], 8);
    assert_eq!(submit("async_add", &["5", "3"]).with_code(0).json()["result"], 8);
    assert_eq!(submit("notify_user", &["7", "hello", "null"]).with_code(0).json()["result"], json!({ "email": 7 }));
    let failed = submit("divide", &["1", "0"]).with_code(1).json();
    let error = failed["error"].as_str().expect("an error");
    assert!(error.starts_with("ValueError: Cannot divide by zero\n  File \"mytasks.py\", line "), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    let refused = submit("add", &["5", "three"]).json();
    assert_eq!(refused["error_kind"], "bad-arguments", "{refused}");
    let schedules = cluster.cli(["list", "--json"]).with_code(0).stdout;
    assert!(schedules.contains("0 */6 * * *"), "{schedules}");
}

#[test]
fn errors_of_python_sources_are_shown_as_python_shows_them() {
    if sdk::is_without(TOOL) {
        return;
    }
    let directory = directory();
    let task = "from fastworker import task\n\n\n@task\ndef double(x: int) -> int:\n    return 2 * x\n";
    for (text, expected) in [
        ("from fastworker import task\nx = (\n".to_owned(), "SyntaxError: '(' was never closed"),
        (
            format!("import missing_package\nimport also_missing\n{task}"),
            "`# dependencies = [\"missing_package\", \"also_missing\"]`",
        ),
        (format!("import os\nHOME = os.environ['HOME']\n{task}"), "read HOME in the task, with --allow-env HOME"),
        (task.replace("@task", "@task(retries=3, max_memory='lots')"), "2 mistakes in the tasks"),
        (task.replace("@task", "@task(retries=3)"), "task() has no option retries: did you mean max_retries?"),
        (
            task.replace("@task", "@task('twice')").repeat(2),
            "the task twice is already registered by File \"broken.py\"",
        ),
        (format!("{task}\nraise RuntimeError('at import')\n"), "RuntimeError: at import"),
        ("import fastworker\n".to_owned(), "write @task above a function"),
    ] {
        let ran = build_broken(directory.path(), "broken.py", &text).with_code(1);
        assert!(ran.stderr.contains(expected), "no {expected} in {ran:?}");
        assert!(!ran.stderr.contains("wasm backtrace") && !ran.stderr.contains("registry.py"), "{ran:?}");
        if !expected.starts_with("write") {
            assert!(ran.stderr.contains("File \"broken.py\", line "), "{ran:?}");
        }
    }
    assert!(!directory.path().join("broken.wasm").exists());
}

#[test]
fn links_in_a_python_project_are_not_followed_around() {
    if sdk::is_without(TOOL) {
        return;
    }
    let directory = directory();
    let project = directory.path().join("shop");
    fs::create_dir(&project).expect("folder created");
    let source = "from pathlib import Path\nfrom fastworker import task\n\n\
                  TEXT = (Path(__file__).parent / 'text').read_text()\n\n@task\ndef text() -> str:\n    return TEXT\n";
    fs::write(project.join("tasks.py"), source).expect("file written");
    fs::write(project.join("text"), "read while building").expect("file written");
    for (name, target) in [("target", "."), ("around", "."), ("root", "/")] {
        std::os::unix::fs::symlink(target, project.join(name)).expect("link created");
    }
    let ran = sdk::build(directory.path(), "shop").with_code(0);
    assert!(ran.stderr.contains("around, root, target are links that leave the folder"), "{ran:?}");
    assert_eq!(Attempt::run(&project.join("shop.wasm"), &["text"]).result(), "read while building");
}

#[test]
fn what_a_python_task_cannot_do_is_explained() {
    if sdk::is_without(TOOL) {
        return;
    }
    let directory = directory();
    let source = "
import math
import os
import subprocess
import sys
import threading
from fastworker import task

@task
def attempt(how: str):
    import csv  # found in the function, so it is there
    match how:
        case 'thread': threading.Thread(target=print).start()
        case 'process': subprocess.run(['ls'])
        case 'import': return __import__('colorsys').__name__
        case 'file': return open('/etc/passwd').read()
        case 'variable': return os.environ['HOME']
        case 'nan': return {'values': [1.0, math.nan]}
        case 'exit': sys.exit(3)
        case 'memory': return [bytearray(10 << 20) for _ in range(1000)]
        case 'deep': return attempt('deep')
    return csv.__name__
";
    fs::write(directory.path().join("tasks.py"), source).expect("file written");
    let _ = sdk::build(directory.path(), "tasks.py").with_code(0);
    let module = directory.path().join("tasks.wasm");
    assert_eq!(Attempt::run(&module, &["attempt", "well"]).result(), "csv");
    for (how, kind, words) in [
        ("thread", "RuntimeError", "a task has no threads"),
        ("process", "OSError", "a task cannot start processes"),
        ("import", "ModuleNotFoundError", "add `import colorsys` at the top of the file"),
        ("file", "FileNotFoundError", "--allow-dir HOST::GUEST"),
        ("variable", "KeyError", "--allow-env HOME"),
        ("nan", "NotSerializable", "result.values[1] is nan"),
        ("exit", "SystemExit", "sys.exit() ends the attempt as failed"),
        ("memory", "MemoryError", "MemoryError"),
        ("deep", "RecursionError", "maximum recursion depth exceeded"),
    ] {
        let attempt = Attempt::run(&module, &["attempt", how]);
        let (_, found, error) = attempt.failure();
        assert_eq!(found, kind, "{error}");
        assert!(error.contains(words), "no {words} in {error}");
    }
}

#[test]
fn the_python_example_describes_a_csv() {
    if sdk::is_without(TOOL) {
        return;
    }
    let directory = directory();
    let module = build_copy(directory.path(), "examples/tasks/python-csv/csv_statistics.py", "csv_statistics.py");
    let text = "city,rain\nOslo,3\nRome,1\nRome,2\n";
    let report = Attempt::run(&module, &["csv_statistics", text]);
    let numbers = json!({ "least": 1.0, "most": 3.0, "mean": 2.0, "deviation": 0.816_496_580_927_726 });
    let expected = json!({ "rows": 3, "columns": [
        { "name": "city", "filled": 3, "distinct": 2, "numbers": Value::Null },
        { "name": "rain", "filled": 3, "distinct": 3, "numbers": numbers },
    ] });
    assert_eq!(report.result(), &expected);
    let wrong = Attempt::run(&module, &["csv_statistics", text, r#"{"delimiter": 5}"#]);
    assert_eq!(wrong.failure().2, "args[1].delimiter: expected string, found number 5");
}

#[test]
fn a_new_project_in_python_builds_and_passes_its_tests() {
    if sdk::is_without(TOOL) {
        return;
    }
    let directory = directory();
    let _ = cli::run(sdk::command(directory.path(), &["new", "my-tasks", "--lang", "python"])).with_code(0);
    let project = directory.path().join("my-tasks");
    let _ = sdk::build(directory.path(), "my-tasks").with_code(0);
    let module = project.join("my-tasks.wasm");
    assert_eq!(Attempt::run(&module, &["mean", "[1, 2]"]).result(), 1.5);
    unittest(&project);
}
