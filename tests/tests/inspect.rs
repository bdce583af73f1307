//! `fastworker inspect`, and workers that differ in what they grant.

use std::{fs, path::PathBuf};

use fastworker_tests::{Cluster, Ran, TIMEOUT, Transcript, cli, eventually, fastworker, module};
use serde_json::{Value, json};
use tempfile::TempDir;

fn inspect(file: &str, args: &[&str]) -> Ran {
    let mut command = fastworker();
    command.args(["inspect", file]).args(args);
    cli::run(command)
}

fn example(name: &str) -> String {
    module(name).to_str().expect("UTF-8").to_owned()
}

/// Writes a component, given as text.
fn component(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, wat::parse_str(text).expect("the text is WebAssembly")).expect("file written");
    path.to_str().expect("UTF-8").to_owned()
}

/// The entry of an import.
fn import<'a>(inspected: &'a Value, name: &str) -> &'a Value {
    let imports = inspected["imports"].as_array().expect("array expected");
    let is_it = |import: &&Value| import["name"].as_str().is_some_and(|it| it.starts_with(name));
    imports.iter().find(is_it).unwrap_or_else(|| panic!("no {name} in {inspected}"))
}

#[test]
fn a_module_is_described_with_its_tools_costs_and_tasks() {
    let ran = inspect(&example("arithmetic"), &["--recompile", "--json"]).with_code(0);
    let inspected = ran.json();
    assert_eq!((&inspected["kind"], &inspected["language"]), (&json!("component"), &json!("Rust")));
    assert_eq!(inspected["engine"], "pooling");
    for measure in ["compile_time", "compile_memory", "instantiation_time", "size"] {
        assert!(inspected[measure].as_f64().is_some_and(|value| value > 0.0), "{measure} in {inspected}");
    }
    let task = &inspected["tasks"][0];
    assert_eq!((&task["name"], &task["signature"]), (&json!("add"), &json!("add(x: i64, y: i64) -> i64")));
    let exports = inspected["exports"][0].clone();
    assert_eq!(exports["name"], "fastworker:task/tasks@1.0.0");
    assert!(exports["functions"][0].as_str().is_some_and(|text| text.starts_with("register: func() -> list<record {")));
    assert_eq!(inspect(&example("arithmetic"), &["--json"]).with_code(0).json()["compile_time"], Value::Null);
    let _ = inspect("no-such-file.wasm", &[]).with_code(5).with_error();
}

#[test]
fn each_import_is_shown_with_its_grants_or_the_option_that_grants() {
    let module = example("arithmetic");
    let inspected = inspect(&module, &["--json"]).with_code(0).json();
    let environment = import(&inspected, "wasi:cli/environment@");
    assert_eq!((&environment["grants"], &environment["is_provided"]), (&json!([]), &json!(true)));
    assert_eq!(environment["options"], json!(["--allow-env NAME", "--secret NAME=file:PATH"]));
    let args = ["--json", "--allow-env", "arithmetic@MODE=test", "--allow-env", "other@X=1", "--allow-http", "a.com"];
    let inspected = inspect(&module, &args).with_code(0).json();
    assert_eq!(import(&inspected, "wasi:cli/environment@")["grants"], json!(["env:MODE"]));
    assert_eq!(inspected["grants"], json!(["env:MODE", "http:a.com"]));
    let shown = inspect(&module, &args[1..]).with_code(0).stdout;
    assert!(shown.contains("granted without an import that uses it\n  http:a.com"), "{shown}");
}

#[test]
fn list_and_bench_load_files_with_the_grants_and_the_file_of_a_worker() {
    let folder = TempDir::new().expect("folder created");
    let file = folder.path().join("fastworker.toml");
    fs::write(&file, "[modules.arithmetic]\nneeds = [\"env:MODE\"]\n").expect("file written");
    let run = |words: &[&str]| {
        let mut command = fastworker();
        command.args(words).args(["--task-modules", &example("arithmetic"), "--json"]);
        cli::run(command)
    };
    let config = ["--config", file.to_str().expect("UTF-8")];
    let listed = run(&[&["list"], &config[..]].concat()).with_code(0).json();
    assert_eq!((&listed[0]["tasks"], &listed[0]["grants"]), (&json!([]), &json!([])));
    assert!(listed[0]["ungranted"].to_string().contains("env:MODE"), "{listed}");
    let grant = ["--allow-env", "arithmetic@MODE=test"];
    let listed = run(&[&["list"], &config[..], &grant[..]].concat()).with_code(0).json();
    assert_eq!((&listed[0]["grants"], &listed[0]["ungranted"]), (&json!(["env:MODE"]), &json!([])));
    assert_eq!(listed[0]["tasks"][0]["name"], "add");
    let bench = ["bench", "--rounds", "1", "--turn", "20ms", "--bulk", "10", "--concurrency", "1"];
    let ran = run(&[&bench[..], &config[..]].concat()).with_code(2).with_error();
    assert!(ran.stderr.contains("has no task 'add'"), "{ran:?}");
    let rows = run(&[&bench[..], &config[..], &grant[..]].concat()).with_code(0).json();
    assert!(rows.to_string().contains("runtime alone"), "{rows}");
    // Of workers, the grants are their own.
    let mut command = fastworker();
    command.args(["list", "--allow-env", "MODE=test"]);
    let ran = cli::run(command).with_code(2).with_error();
    assert!(ran.stderr.contains("--task-modules"), "{ran:?}");
}

#[test]
fn a_module_that_cannot_be_loaded_names_what_is_missing_and_near() {
    let folder = TempDir::new().expect("folder created");
    let mut errors = Transcript::new();
    for (name, text) in [
        ("other.wasm", r#"(component (import "mine:own/thing@1.0.0" (instance (export "f" (func)))))"#),
        ("newer.wasm", r#"(component (import "fastworker:task/host@2.0.0" (instance (export "f" (func)))))"#),
        ("wasi3.wasm", r#"(component (import "wasi:cli/stdout@0.3.0" (instance (export "f" (func)))))"#),
        ("typo.wasm", r#"(component (import "wasi:cli/environmant@0.2.0" (instance (export "f" (func)))))"#),
    ] {
        // Without an export it would be refused for that.
        let text = text.strip_suffix(')').expect("a component").to_owned() + EXPORT + ")";
        let file = component(&folder, name, &text);
        let mut command = fastworker();
        command.current_dir(folder.path()).args(["list", "--task-modules", name]);
        let listed = cli::run(command).with_code(2).with_error();
        errors.note(listed.error());
        let ran = inspect(&file, &["--json"]).with_code(2);
        let problem = &ran.json()["imports"][0];
        assert_eq!(problem["is_provided"], false, "{ran:?}");
        assert!(
            ran.json()["error"]
                .as_str()
                .is_some_and(|error| error.contains(problem["problem"].as_str().unwrap_or("?")))
        );
    }
    let newer = format!("(component {} )", EXPORT.replace("tasks@1.0.0", "tasks@2.0.0"));
    let incomplete = format!("(component {EXPORT} )");
    for (name, text) in [("newer-tasks.wasm", newer), ("incomplete.wasm", incomplete)] {
        component(&folder, name, &text);
        let mut command = fastworker();
        command.current_dir(folder.path()).args(["list", "--task-modules", name]);
        errors.note(cli::run(command).with_code(2).error());
    }
    errors.check();
}

/// An export of the contract without its functions.
const EXPORT: &str = r#"
    (core module $m (func (export "x")))
    (core instance $i (instantiate $m))
    (func $x (canon lift (core func $i "x")))
    (instance $tasks (export "x" (func $x)))
    (export "fastworker:task/tasks@1.0.0" (instance $tasks))"#;

/// A configuration file by which `add` needs a variable.
fn needs(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("fastworker.toml");
    let text = "[modules.arithmetic.tasks.add]\nneeds = [\"env:KEY\", \"http:api.example.com/v1#GET\"]\n";
    fs::write(&path, text).expect("file written");
    path
}

#[test]
fn a_task_goes_only_to_workers_that_grant_what_it_needs() {
    let folder = TempDir::new().expect("folder created");
    let config = needs(&folder);
    let config = config.to_str().expect("UTF-8");
    let mut cluster = Cluster::builder()
        .modules(&["arithmetic"])
        .subworkers(1)
        .subworker_args(&["--config", config])
        .without_unknown_grace()
        .start();
    let call = ["submit", "--task-name", "add", "--args", "1", "2"];
    let mut transcript = Transcript::new();
    transcript.add(&cluster.cli(call).with_code(5));
    assert_eq!(cluster.cli(["submit", "--task-name", "multiply", "--args", "3", "2"]).with_code(0).stdout, "6\n");

    let grant = |command: &std::process::Command| {
        let mut changed = std::process::Command::new(command.get_program());
        changed.args(command.get_args()).args(["--allow-env", "KEY=x", "--allow-http", "*.example.com"]);
        command.get_envs().for_each(|(name, value)| match value {
            Some(value) => drop(changed.env(name, value)),
            None => drop(changed.env_remove(name)),
        });
        changed
    };
    cluster.launch_subworker_with("granting", grant);
    let sum = || Some(cluster.cli([&call[..], &["--json"]].concat())).filter(|ran| ran.code == Some(0));
    let ran = eventually("a worker that grants it serves the task", TIMEOUT, sum);
    assert_eq!((&ran.json()["result"], &ran.json()["worker_id"]), (&json!(3), &json!("granting")));
    let listed = cluster.cli(["list"]).with_code(0);
    transcript.add(&listed);
    transcript.check();
    let list = cluster.cli(["list", "--json"]).with_code(0).json();
    let modules = list.as_array().expect("array expected");
    let lacking = modules.iter().find(|module| module["worker_id"] != "granting").expect("module expected");
    assert_eq!(lacking["ungranted"], json!([{"name": "add", "missing": ["env:KEY", "http:api.example.com/v1#GET"]}]));
    assert_eq!(lacking["grants"], json!([]));
}

#[test]
fn dev_refuses_a_task_whose_needs_are_not_granted() {
    let folder = TempDir::new().expect("folder created");
    let config = needs(&folder);
    let run = |args: &[&str]| {
        let mut command = fastworker();
        command.args(["dev", &example("arithmetic"), "add", "1", "2", "--config"]).arg(&config).args(args);
        cli::run(command)
    };
    let refused = run(&["--allow-env", "KEY=x"]).with_code(2).with_error();
    assert!(refused.error().contains("--allow-http api.example.com/v1#GET"), "{refused:?}");
    assert_eq!(run(&["--allow-env", "KEY=x", "--allow-http", "api.example.com"]).with_code(0).stdout, "3\n");
}
