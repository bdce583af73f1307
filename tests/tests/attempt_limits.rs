//! What one attempt may use: each limit has its option and its key, and an error kind of its own.

use std::fs;

use fastworker_tests::{
    Cluster, cli, fastworker, module,
    servers::{Server, send_forever},
};
use serde_json::{Value, json};

/// The kind and the first line of the error of a task that must fail, run with these options.
#[track_caller]
fn failed(options: &[&str], example: &str, task: &str, args: &Value) -> String {
    let mut command = fastworker();
    command.args(["dev", "--json", "--task-timeout", "30s"]).args(options).arg(module(example));
    command.args([task, "--args-json", &args.to_string()]);
    let ended = cli::run(command).with_code(1).json();
    let text = |key: &str| ended[key].as_str().unwrap_or_default().to_owned();
    assert!(ended["usage"]["cpu_us"].is_u64(), "{ended}");
    // The module's own words come before those of the host.
    let error = text("error");
    let line = error.lines().rfind(|line| line.contains(" than ") || line.contains("limit")).unwrap_or(&error);
    format!("{}: {line}", text("error_kind"))
}

#[test]
fn each_limit_has_an_option_and_an_error_kind() {
    let none = json!([]);
    let cases = [
        ("--max-timeout", "200ms", "endless_loop", &none, "timeout: Task timed out after 0.2s"),
        ("--max-cpu-time", "200ms", "endless_loop", &none, "cpu-time-limit: used more than 0.2 s of CPU time"),
        (
            "--max-host-time",
            "200ms",
            "endless_sleep",
            &none,
            "host-time-limit: waited more than 0.2 s in calls of the host",
        ),
        ("--max-output", "2000", "output_flood", &none, "output-limit: printed more than 1.9 KiB"),
        ("--max-log", "2000", "log_flood", &none, "log-limit: logged more than 1.9 KiB"),
        (
            "--max-result",
            "1KiB",
            "huge_result",
            &json!([2000]),
            "result-limit: returned a result of 1.9 KiB: the limit is 1 KiB",
        ),
    ];
    for (option, limit, task, args, expected) in cases {
        assert_eq!(failed(&[option, limit], "hostile", task, args), expected, "{option}");
    }
    let memory = failed(&["--max-memory", "8MiB"], "hostile", "memory_hog", &json!([20]));
    assert!(memory.starts_with("out-of-memory: ") && memory.ends_with("limit 8 MiB"), "{memory}");
    let stack = failed(&[], "hostile", "deep_recursion", &json!([20_000]));
    assert!(stack.starts_with("stack-overflow: "), "{stack}");
}

#[test]
fn a_larger_stack_lets_a_task_recurse_deeper() {
    // Its frames are on the engine's stack only, unlike those of Rust, which has another stack in its memory.
    let deep = r#"(component (core module $m
      (func $descend (param i64) (result i64)
        (if (result i64) (i64.eqz (local.get 0))
          (then (i64.const 0))
          (else (i64.add (local.get 0) (call $descend (i64.sub (local.get 0) (i64.const 1)))))))
      (export "f" (func $descend)))
      (core instance $i (instantiate $m))
      (func (export "descend") (param "depth" s64) (result s64) (canon lift (core func $i "f"))))"#;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep.wasm");
    fs::write(&path, wat::parse_str(deep).expect("WebAssembly text")).expect("file written");
    let descend = |options: &[&str], depth: &str| {
        let mut command = fastworker();
        command.args(["dev", "--json"]).args(options).arg(&path).args(["descend", depth]);
        cli::run(command)
    };
    assert_eq!(descend(&[], "100000").with_code(1).json()["error_kind"], "stack-overflow");
    assert_eq!(descend(&["--max-stack", "64MiB"], "100000").with_code(0).json()["status"], "success");
    let endless = descend(&["--max-stack", "64MiB"], "-1").with_code(1).json();
    assert_eq!(endless["error_kind"], "stack-overflow", "{endless}");
    let small = descend(&["--max-stack", "64KiB"], "10000").with_code(1).json();
    assert_eq!(small["error_kind"], "stack-overflow", "{small}");
}

#[test]
fn the_network_of_an_attempt_has_limits_of_its_own() {
    let server = Server::tcp(|mut stream, _| send_forever(&mut stream, &[b'x'; 16 << 10]));
    let address = server.address();
    let with = |option: &str, limit: &str, words: &str| {
        let args = json!(["127.0.0.1", server.port(), words]);
        failed(&["--allow-tcp", &address, option, limit], "outside", "talk_to_address", &args)
    };
    let refused = with("--max-connections", "0", "go");
    assert_eq!(refused, "connection-limit: opened more than 0 connections at a time");
    let received = with("--max-received", "10KiB", "go");
    assert_eq!(received, "network-limit: received more than 10 KiB from the network");
    let sent = with("--max-sent", "10", "more than ten bytes");
    assert_eq!(sent, "network-limit: sent more than 10 bytes to the network");
}

#[test]
fn the_configuration_file_limits_modules_and_tasks() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fastworker.toml");
    let text = "[control_plane]\nmax_log = \"10 KiB\"\n\n[modules.hostile]\nmax_cpu_time = \"100ms\"\n\n\
                [modules.hostile.tasks.endless_loop]\nmax_cpu_time = 0.3\n";
    fs::write(&path, text).expect("file written");
    let config = path.to_str().expect("a path");
    let builder = Cluster::builder().modules(&["hostile"]).own_slots(1);
    let cluster = builder.control_plane_args(&["--config", config]).start();
    let submit = |task: &str| {
        let ended = cluster.cli(["submit", "--json", "--task-name", task]).with_code(1).json();
        format!("{}: {}", ended["error_kind"].as_str().unwrap_or_default(), ended["error"].as_str().unwrap_or_default())
    };
    assert_eq!(submit("endless_loop"), "cpu-time-limit: used more than 0.3 s of CPU time");
    assert!(submit("log_flood").starts_with("log-limit: logged more than 10 KiB"));
    let list = cluster.cli(["list", "--json"]).with_code(0).json();
    let tasks = list[0]["tasks"].as_array().cloned().unwrap_or_default();
    let limits = |name: &str| tasks.iter().find(|task| task["name"] == name).map(|task| task["limits"].clone());
    assert_eq!(limits("endless_loop"), Some(json!({"max_cpu_time": 0.3})));
    assert_eq!(limits("log_flood"), Some(json!({"max_cpu_time": 0.1})));
    let events = cluster.cli(["events", "--json", "--kind", "task.failure"]).with_code(0);
    let first: Value = serde_json::from_str(events.stdout.lines().next().unwrap_or_default()).expect("an event");
    assert!(first["usage"]["cpu_us"].as_u64().is_some_and(|cpu| cpu > 200_000), "{first}");
}
