//! What guests reach outside of their sandbox: only what is granted, and nothing by any trick.
//!
//! Each test runs tasks of the example `outside` with the built binary, against servers and folders of its own.

use std::process::Command;

use fastworker_tests::{cli, fastworker, module};
use serde_json::{Value, json};

#[path = "reach/files.rs"]
mod files;
#[path = "reach/http.rs"]
mod http;
#[path = "reach/redis.rs"]
mod redis;
#[path = "reach/secrets.rs"]
mod secrets;
#[path = "reach/sockets.rs"]
mod sockets;

/// How one attempt of a task ended.
#[derive(Debug)]
struct Ended {
    /// Its result; null if it failed.
    result: Value,
    /// Its error; empty if it succeeded.
    error: String,
    /// The kind of its error.
    kind: String,
    /// Its log.
    log: String,
}

/// Runs a task with these grants.
fn run(grants: &[&str], task: &str, args: &Value) -> Ended {
    run_command(fastworker(), grants, task, args)
}

fn run_command(mut command: Command, grants: &[&str], task: &str, args: &Value) -> Ended {
    command.arg("dev").args(["--json", "--task-timeout", "30s"]).args(grants);
    command.arg(module("outside")).args([task, "--args-json", &args.to_string()]);
    let ran = cli::run(command);
    let ended = ran.json();
    let text = |key: &str| ended[key].as_str().unwrap_or_default().to_owned();
    Ended { result: ended["result"].clone(), error: text("error"), kind: text("error_kind"), log: ran.stderr }
}

/// The result of a task that must succeed.
#[track_caller]
fn expect_result(grants: &[&str], task: &str, args: &Value) -> Value {
    let ended = run(grants, task, args);
    assert_eq!(ended.error, "", "{ended:?}");
    ended.result
}

/// The error of a task that must fail.
#[track_caller]
fn expect_error(grants: &[&str], task: &str, args: &Value) -> String {
    let ended = run(grants, task, args);
    assert_ne!(ended.error, "", "{ended:?}");
    ended.error
}

#[test]
fn nothing_is_reached_without_a_grant_and_the_refusal_names_it() {
    let request = json!([{"authority": "127.0.0.1:9", "path": "/a?b=c"}]);
    let refused = [
        ("request", request, "HttpRequestDenied", "GET http://127.0.0.1:9/a", "--allow-http 127.0.0.1:9"),
        ("look_up", json!(["example.com"]), "access-denied", "looking up example.com", "--allow-tcp example.com:PORT"),
        ("look_up", json!(["127.0.0.1"]), "access-denied", "looking up 127.0.0.1", "--allow-tcp 127.0.0.1:PORT"),
        ("talk_to_address", json!(["127.0.0.1", 9, ""]), "access-denied", "a TCP socket", "--allow-tcp HOST:PORT"),
    ];
    for (task, args, code, what, option) in refused {
        let ended = run(&[], task, &args);
        let hint = format!("{what} — grant it with {option}");
        assert!(ended.error.contains(code), "{ended:?}");
        assert!(ended.log.contains(&hint), "{ended:?}");
        assert_eq!(ended.error.matches(&hint).count(), 1, "{ended:?}");
    }
    assert_eq!(expect_result(&[], "environment", &json!([])), json!({}));
    let no_file = expect_error(&[], "read_file", &json!(["/etc/hostname"]));
    assert!(no_file.contains("os error"), "{no_file}");
}

#[test]
fn a_module_has_the_variables_that_are_granted_to_it() {
    let mut command = fastworker();
    command.env("GIVEN", "from here").env("KEPT", "not for guests");
    let grants = ["--allow-env", "GIVEN", "--allow-env", "SET=1 = 1", "--allow-env", "other@ELSE=1"];
    let ended = run_command(command, &grants, "environment", &json!([]));
    assert_eq!(ended.result, json!({"GIVEN": "from here", "SET": "1 = 1"}), "{ended:?}");
}
