//! Components that know nothing of fastworker, whose functions are tasks.

use std::{fs, path::PathBuf};

use fastworker::{
    client::Client,
    task::{ErrorKind, TaskResult, TaskStatus},
};
use fastworker_tests::{
    Cluster, TIMEOUT, cli, fastworker, module, task_helpers::expect_success, wait::eventually_async,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A component with `add`, and `mul` in the interface `ns:NAME/ops@1.0.0`.
fn calculator(name: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
  (core module $m
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "mul") (param i64 i64) (result i64) (i64.mul (local.get 0) (local.get 1)))
    (func (export "read") (param i32)))
  (core instance $i (instantiate $m))
  (func $add (param "x" u32) (param "y" u32) (result u32) (canon lift (core func $i "add")))
  (func $mul (param "x" s64) (param "y" s64) (result s64) (canon lift (core func $i "mul")))
  (func $read (param "from" (stream u8)) (canon lift (core func $i "read")))
  (instance $ops (export "mul" (func $mul)) (export "read" (func $read)))
  (export "add" (func $add))
  (export "ns:{name}/ops@1.0.0" (instance $ops)))"#
    );
    wat::parse_str(text).expect("the text is WebAssembly")
}

fn write(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name).with_extension("wasm");
    fs::write(&path, calculator(name)).expect("file written");
    path
}

#[track_caller]
fn refused(result: &TaskResult, error: &str) {
    assert_eq!((result.status, result.error_kind), (TaskStatus::Failure, Some(ErrorKind::BadArguments)), "{result:?}");
    assert_eq!(result.error.as_deref(), Some(error));
    assert_eq!((result.attempts, &result.worker_id), (0, &None), "a worker has seen it");
}

async fn run(client: &Client, name: &str, args: Value) -> TaskResult {
    client.submit_task(name, args).await.expect("result expected")
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_a_plain_component_are_tasks_with_typed_arguments() {
    let cluster = Cluster::builder().modules(&["plain-pricing"]).subworkers(1).start();
    let client = cluster.client().await;
    assert_eq!(expect_success(&run(&client, "sales-tax", json!([])).await), "19");
    let items = json!([{"name": "tea", "unit-price": 2.5, "count": 4}, {"name": "pot", "unit_price": 12, "count": 1, "note": "blue"}]);
    let expected = r#"{"total":24.5,"currency":"jpy","lines":[["tea",10.0],["pot (blue)",12.0]]}"#;
    for name in ["quotes.price", "shop:pricing/quotes@1.0.0#price"] {
        let by_position = run(&client, name, json!([items, "none", ["express"], "jpy"])).await;
        assert_eq!(expect_success(&by_position), expected);
        let kwargs = json!({"items": items, "discount": "none", "extras": ["express"], "currency": "jpy"});
        let by_name = client.submit_task(name, ()).kwargs(kwargs).await.expect("result expected");
        assert_eq!(expect_success(&by_name), expected);
    }
    let item = |key: &str, value: Value| json!([[{"name": "a", "unit-price": 1, "count": 1}, {"name": "b", "unit-price": 1, "count": 1, key: value}], "none", []]);
    for (args, error) in [
        (item("count", json!(-1)), "args[0][1].count: expected integer from 0 to 4294967295, found number -1"),
        (item("count", json!(1.5)), "args[0][1].count: expected integer from 0 to 4294967295, found number 1.5"),
        (item("colour", json!(1)), "args[0][1].colour: expected no such property, found number 1"),
        (
            json!([[{"name": "a", "count": 1}], "none", []]),
            r#"args[0][0]["unit-price"]: expected number, "NaN", "Infinity" or "-Infinity", found nothing"#,
        ),
        (json!([[], "half", []]), r#"args[1]: expected "none", {"amount": …} or {"percent": …}, found string "half""#),
        (
            json!([[], {"percent": "x"}, []]),
            r#"args[1].percent: expected number, "NaN", "Infinity" or "-Infinity", found string "x""#,
        ),
        (json!([[], "none", ["free"]]), r#"args[2][0]: expected "gift-wrap" or "express", found string "free""#),
        (json!([[]]), "quotes.price() missing 2 required arguments: 'discount' and 'extras'"),
    ] {
        refused(&run(&client, "quotes.price", args).await, error);
    }
    refused(&run(&client, "labels.checksum", json!(["a-b"])).await, r#"args[0]: expected base64, found string "a-b""#);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_function_is_the_failure_with_its_payload() {
    let cluster = Cluster::builder().modules(&["plain-pricing"]).subworkers(1).start();
    let client = cluster.client().await;
    let failed = run(&client, "quotes.price", json!([[], "none", []])).await;
    assert_eq!((failed.status, failed.error.as_deref()), (TaskStatus::Failure, Some("empty-order")));
    let item = json!([{"name": "a", "unit-price": 1, "count": 1}]);
    let failed = run(&client, "quotes.price", json!([item, {"amount": 5}, []])).await;
    assert_eq!(failed.error.as_deref(), Some("bad-discount: 5 of 1"));
    let shown = cluster.cli(["result", &failed.task_id.to_string(), "--json"]).with_code(1).json();
    assert_eq!(shown["metadata"]["failure"], json!({"kind": "bad-discount", "details": {"bad-discount": "5 of 1"}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_base64_up_to_the_limit_of_arguments() {
    let cluster = Cluster::builder().modules(&["plain-pricing"]).subworkers(1).start();
    let client = cluster.client().await;
    for bytes in [json!([0, 1, 255]), json!("AAH/"), json!("AAH/")] {
        assert_eq!(expect_success(&run(&client, "labels.reverse", json!([bytes])).await), "\"/wEA\"");
    }
    // 11 MiB of zeros.
    let text = "AAAA".repeat((11 << 20) / 3);
    let reversed = run(&client, "labels.reverse", json!([text])).await;
    assert!(expect_success(&reversed).trim_matches('"') == text, "the bytes differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_name_of_two_modules_is_the_name_of_neither() {
    let folder = TempDir::new().expect("folder created");
    let one = write(&folder, "one");
    let cluster = Cluster::builder().sources([folder.path()]).subworkers(1).start();
    let client = cluster.client().await;
    assert_eq!(
        expect_success(&run(&client, "ops.mul", json!([-3, 1_i64 << 61])).await),
        (-3 * (1_i64 << 61)).to_string()
    );
    let served = async |expected: &[&str]| {
        eventually_async(&format!("the tasks are {expected:?}"), TIMEOUT, || async {
            let workers = client.list_tasks().await.expect("reply expected");
            let tasks = workers.iter().flat_map(|worker| &worker.modules).flat_map(|module| &module.tasks);
            let mut names: Vec<&str> = tasks.map(|task| task.name.as_str()).collect();
            names.sort_unstable();
            (names == expected).then_some(())
        })
        .await;
    };
    served(&["add", "ns:one/ops@1.0.0#mul", "one#add", "ops.mul"]).await;
    write(&folder, "two");
    served(&["ns:one/ops@1.0.0#mul", "ns:two/ops@1.0.0#mul", "one#add", "two#add"]).await;
    for name in ["one#add", "two#add"] {
        assert_eq!(expect_success(&run(&client, name, json!([4_294_967_295_u32, 1])).await), "0");
    }
    let listed = cluster.cli(["list"]).with_code(0).stdout;
    for line in [
        "  one#add(x: u32, y: u32) -> u32\n",
        "not callable: ns:two/ops@1.0.0#read, as its parameter 'from' has a stream",
    ] {
        assert!(listed.replace("\n    ", " ").contains(line), "{listed}");
    }
    fs::remove_file(one).expect("file removed");
    served(&["add", "ns:two/ops@1.0.0#mul", "ops.mul", "two#add"]).await;
}

#[test]
fn one_command_lists_or_runs_the_functions_of_a_file() {
    let folder = TempDir::new().expect("folder created");
    let file = write(&folder, "calc");
    let run = |args: &[&str]| {
        let mut command = fastworker();
        command.args(args);
        cli::run(command)
    };
    let file = file.to_str().expect("UTF-8");
    assert_eq!(run(&["dev", file, "ops.mul", "6", "7"]).with_code(0).stdout, "42\n");
    assert_eq!(run(&["dev", file, "calc#add", "--kwargs", "x=1", "y=2"]).with_code(0).stdout, "3\n");
    let _ = run(&["dev", file, "add", "1", "4294967296"]).with_code(1).with_error();
    let listed = run(&["list", "--task-modules", file, "--json"]).with_code(0).json();
    let tasks = listed[0]["tasks"].as_array().expect("array expected").clone();
    let names: Vec<_> = tasks.iter().map(|task| (&task["name"], &task["full_name"])).collect();
    assert_eq!(names[0], (&json!("add"), &json!("calc#add")));
    assert_eq!(names[3], (&json!("ns:calc/ops@1.0.0#mul"), &Value::Null));
    let reason = "its parameter 'from' has a stream";
    assert_eq!(listed[0]["not_callable"], json!([{"name": "ns:calc/ops@1.0.0#read", "reason": reason}]));
    let schema = run(&["list", "--task-modules", file, "--schema", "add"]).with_code(0).json();
    assert_eq!(schema["parameters"][0]["schema"]["maximum"], 4_294_967_295_u32);
    let pricing = module("plain-pricing");
    let inspected = run(&["inspect", pricing.to_str().expect("UTF-8"), "--json"]).with_code(0).json();
    assert_eq!(inspected["tasks"][0]["name"], "sales-tax");
}
