//! Wrong arguments are refused before a task is queued, from every kind of client, with their path.

use fastworker::{
    client::ClientError,
    protocol::RefusalCode,
    task::{ErrorKind, NewTask, SerializationFormat, TaskId, TaskResult, TaskStatus},
};
use fastworker_tests::{
    Cluster, Transcript, cli, module,
    original::send_request,
    task_helpers::{expect_success, wait_for_result},
};
use serde_json::{Value, json};

fn cluster() -> Cluster {
    Cluster::builder().modules(&["orders", "text", "arithmetic"]).subworkers(2).start()
}

/// An order whose fourth item has this price.
fn order(price: &Value) -> Value {
    let item = |price: &Value| json!({"name": "tea", "price": price});
    let mut items = vec![item(&json!(1)); 3];
    items.push(item(price));
    json!({"items": items})
}

const WRONG_PRICE: &str = r#"args[1].items[3].price: expected number, found string "x""#;

#[track_caller]
fn refused(result: &TaskResult, error: &str) {
    assert_eq!((result.status, result.error_kind), (TaskStatus::Failure, Some(ErrorKind::BadArguments)));
    assert_eq!(result.error.as_deref(), Some(error));
    // No worker has seen it.
    assert_eq!((result.attempts, &result.worker_id, result.started_at), (0, &None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_returns_the_path_and_no_worker_gets_the_task() {
    let cluster = cluster();
    for format in SerializationFormat::ALL {
        let client = cluster.client_with_format(format).await;
        let result = client.submit_task("total", ("Ada", order(&json!("x")))).await.expect("result expected");
        refused(&result, WRONG_PRICE);
        for (args, kwargs, error) in [
            (json!(["Ada"]), json!({}), "total() missing 1 required argument: 'order'"),
            (json!([1, order(&json!(1))]), json!({}), "args[0]: expected string, found number 1"),
            (
                json!(["Ada"]),
                json!({"order": {"items": [], "delivery": {"by": "pigeon"}}}),
                r#"kwargs.order.delivery.by: expected "post" or "courier", found string "pigeon""#,
            ),
            (
                json!(["Ada"]),
                json!({"order": {"items": [], "delivery": {"by": "courier", "until": 300}}}),
                "kwargs.order.delivery.until: expected integer from 0 to 255, found number 300",
            ),
        ] {
            let call = client.submit_task("total", args).kwargs(kwargs);
            refused(&call.await.expect("result expected"), error);
        }
        let tasks = ["1", "[]"].map(|x| NewTask {
            args: fastworker::json::Json::parse(&format!("[1, {x}]")).expect("valid JSON"),
            ..NewTask::new("add")
        });
        let ids = client.delay_many(tasks.to_vec()).await.expect("ids");
        assert_eq!(expect_success(&wait_for_result(&client, &ids[0]).await), "2");
        refused(&wait_for_result(&client, &ids[1]).await, "args[1]: expected integer, found array []");
        assert_eq!(
            expect_success(&client.submit_task("total", ("Ada", order(&json!(2)))).await.expect("result expected")),
            { r#"{"customer":"Ada","total":8.5}"# }
        );
    }
    let workers = cluster.client().await.list_tasks().await.expect("workers expected");
    assert_eq!(workers.iter().map(|worker| worker.attempts).sum::<u64>(), 4, "{workers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_id_is_accepted_for_the_same_call_only() {
    let cluster = cluster();
    let client = cluster.client().await;
    let id = TaskId::new();
    let first = client.submit_task("add", (1, 2)).task_id(id.clone()).await.expect("result expected");
    let again = client.submit_task("add", (1, 2)).task_id(id.clone()).await.expect("result expected");
    assert_eq!((expect_success(&first), expect_success(&again)), ("3", "3"));
    let other = client.submit_task("add", ("x",)).task_id(id).await;
    assert!(matches!(&other, Err(ClientError::Refused(why)) if why.code == RefusalCode::IdTaken), "{other:?}");
    let wrong = TaskId::new();
    let error = client.submit_task("add", (1,)).task_id(wrong.clone()).await.expect("result expected");
    assert_eq!(client.submit_task("add", (1,)).task_id(wrong).await.expect("result expected"), error);
}

#[test]
fn original_clients_get_wrong_arguments_as_a_failure() {
    let cluster = cluster();
    let args = json!(["Ada", order(&json!("x"))]);
    let reply = send_request(cluster.ports().base() + 1, json!({"id": "a", "name": "total", "args": args}).to_string());
    assert_eq!((&reply["task_id"], &reply["status"]), (&json!("a"), &json!("failure")), "{reply}");
    assert_eq!(reply["error"], WRONG_PRICE);
    let management = cluster.ports().base() + 4;
    let tasks = json!([{"id": "b", "name": "add", "args": [1]}, {"id": "c", "name": "add", "args": [1, 2]}]);
    let batch = send_request(management, json!({"action": "batch_submit", "tasks": tasks}).to_string());
    assert_eq!(batch, json!({"batch_accepted": true, "task_ids": ["b", "c"]}));
    let found = send_request(management, json!({"task_id": "b"}).to_string());
    assert_eq!(found["result"]["error"], "add() missing 1 required argument: 'y'", "{found}");
}

#[test]
fn the_command_line_shows_the_path_and_a_hint() {
    let cluster = cluster();
    let args = json!(["Ada", order(&json!("x"))]).to_string();
    let submit = ["submit", "--task-name", "total", "--args-json", &args];
    let mut errors = Transcript::new();
    errors.add(&cluster.cli(submit).with_code(1));
    let json = cluster.cli([&submit[..], &["--json"]].concat()).with_code(1).json();
    assert_eq!((&json["error_kind"], &json["attempts"]), (&json!("bad-arguments"), &json!(0)));

    let reverse = |options: &[&str]| cluster.cli([&["submit", "--task-name", "reverse"], options].concat());
    errors.add(&reverse(&["--args", "12"]).with_code(1));
    errors.add(&reverse(&["--kwargs", "text=true"]).with_code(1));
    assert_eq!(reverse(&["--args", r#""12""#]).with_code(0).stdout, "\"21\"\n");
    errors.add(&reverse(&["--args", "12", "--non-blocking"]).with_code(1));

    // `dev` shows the same, without a cluster.
    let file = module("orders");
    let dev = |args: &[&str]| {
        let mut command = cli::fastworker();
        command.arg("dev").arg(&file).args(args);
        cli::run(command)
    };
    errors.add(&dev(&["total", "--args-json", &args]).with_code(1));
    errors.add(&dev(&["total", "7"]).with_code(1));
    errors.check();
}

#[test]
fn list_shows_schemas_and_each_module_once() {
    let cluster = cluster();
    let listed = cluster.cli(["list"]).with_code(0).stdout;
    assert_eq!(listed.matches("total(customer: &str, order: &Order) -> Receipt").count(), 1, "{listed}");
    assert!(listed.contains("loaded by sw1, sw2"), "{listed}");

    let file = module("orders");
    let inspect = |args: &[&str]| {
        let mut command = cli::fastworker();
        command.args(["list", "--task-modules"]).arg(&file).args(args);
        cli::run(command)
    };
    let loaded = cluster.cli(["list", "--schema", "total"]).with_code(0).json();
    assert_eq!(inspect(&["--schema", "total"]).with_code(0).json(), loaded);
    assert_eq!(inspect(&["--schema", "total", "--json"]).with_code(0).json(), loaded);
    assert_eq!(loaded["task"], "total");
    assert_eq!(loaded["parameters"][0]["schema"], json!({"type": "string"}));
    let order = &loaded["parameters"][1]["schema"];
    assert_eq!(order["$defs"]["Item"]["properties"]["price"]["description"], "The price of one item, in euros.");
    assert_eq!(loaded["result"]["schema"]["properties"]["total"]["type"], "number");
    let mut errors = Transcript::new();
    errors.add(&inspect(&["--schema", "totals"]).with_code(5));
    errors.add(&cluster.cli(["list", "--schema", "rev"]).with_code(5));
    errors.check();
}
