//! What a module in any language does: the sources `contract.*` beside this file register the same tasks.

use std::path::Path;

use fastworker_tests::sdk::{Attempt, tasks};
use serde_json::{Value, json};

/// How a language names the failures of the fixture.
pub(crate) struct Expected {
    /// The kind of the failure with the message "only 2 left".
    pub(crate) kind: &'static str,
    /// A part of the error of the crash.
    pub(crate) crash: &'static str,
}

/// Checks all of the contract on a module.
pub(crate) fn check(module: &Path, expected: &Expected) {
    described(module);
    called(module);
    refused(module);
    failed(module, expected);
    talking(module);
}

fn described(module: &Path) {
    let tasks = tasks(module);
    let names: Vec<&Value> = tasks.as_array().expect("a list").iter().map(|task| &task["name"]).collect();
    assert_eq!(names, ["add", "join", "fail", "whole", "nightly"]);
    let add = &tasks[0];
    assert_eq!(add["documentation"], "Returns the sum of two numbers.");
    let policy = &add["policy"];
    assert!(
        policy["priority"] == "high" && policy["timeout"].as_f64() == Some(90.0) && policy["max_retries"] == 3,
        "{policy}"
    );
    let schedule = serde_json::to_string(&tasks[4]["schedule"]).expect("JSON");
    assert!(schedule.contains("0 3 * * *") && schedule.contains("Europe/Berlin"), "{schedule}");
    let parameters = |task: &Value| -> Vec<(String, bool)> {
        let list = task["schema"]["parameters"].as_array().expect("parameters").iter();
        let name = |it: &Value| it["name"].as_str().expect("a name").to_owned();
        list.map(|it| (name(it), it["required"] == true)).collect()
    };
    assert_eq!(parameters(add), [("x".to_owned(), true), ("y".to_owned(), true)]);
    assert_eq!(parameters(&tasks[1]), [("words".to_owned(), true), ("separator".to_owned(), false)]);
    assert!(tasks.as_array().expect("a list").iter().all(|task| task["warnings"] == json!([])), "{tasks}");
}

fn called(module: &Path) {
    let result = |args: &[&str]| Attempt::run(module, args).result().clone();
    assert_eq!(result(&["add", "2", "3"]), 5);
    assert_eq!(result(&["add", "2", "--kwargs", "y=3"]), 5);
    assert_eq!(result(&["add", "9223372036854775806", "1"]), i64::MAX);
    assert_eq!(result(&["join", r#"["a", "ü\u0000", ""]"#]), "a, ü\0, ");
    assert_eq!(result(&["join", r#"["a", "b"]"#, "-"]), "a-b");
    assert_eq!(result(&["join", "[]"]), "");
    assert_eq!(result(&["nightly"]), Value::Null);
}

fn refused(module: &Path) {
    for (args, message) in [
        (&["add", "2"][..], "add() missing 1 required argument: 'y'"),
        (&["add", "2", "3", "4"], "add() takes 2 arguments but 3 were given"),
        (&["add", "2", "3", "--kwargs", "x=1"], "add() got multiple values for argument 'x'"),
        (&["add", "2", "3", "--kwargs", "z=1"], "add() got an unexpected keyword argument 'z'"),
        (&["add", "2", "x"], "args[1]: expected integer, found string \"x\""),
        (&["join", "[1]"], "args[0][0]: expected string, found number 1"),
        (&["fail", "bad"], "no 7"),
    ] {
        let attempt = Attempt::run(module, args);
        let (kind, _, error) = attempt.failure();
        assert_eq!((kind, error), ("bad-arguments", message));
    }
}

fn failed(module: &Path, expected: &Expected) {
    let attempt = Attempt::run(module, &["fail", "failed"]);
    assert_eq!(attempt.failure(), ("failed", expected.kind, "only 2 left"));
    let attempt = Attempt::run(module, &["fail", "retry"]);
    let (kind, _, error) = attempt.failure();
    assert_eq!((kind, error), ("failed", "later"));
    let attempt = Attempt::run(module, &["fail", "give-up"]);
    let (kind, _, error) = attempt.failure();
    assert_eq!((kind, error), ("gave-up", "closed"));
    assert_eq!(attempt.task["metadata"]["failure"]["details"], json!({"account": 17}));
    let attempt = Attempt::run(module, &["fail", "crash"]);
    let (_, _, error) = attempt.failure();
    assert!(error.contains(expected.crash), "{error}");
}

fn talking(module: &Path) {
    let attempt = Attempt::run(module, &["whole"]);
    assert_eq!(attempt.result(), "whole 1 normal 0");
    for line in ["warn  slow", "printed", "1/2 half", "follow-up add(1, 2)"] {
        assert!(attempt.log.contains(line), "no {line} in {}", attempt.log);
    }
}
