//! Wrong arguments are refused before a task is queued, whoever sends them, and told by their path.

use fastworker::{
    client::ClientError,
    task::{ErrorKind, NewTask, SerializationFormat, TaskId, TaskResult, TaskStatus},
};
use fastworker_tests::{
    Cluster, cli, module,
    original::ask,
    story::{end_of, success},
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

const MISFIT: &str = r#"args[1].items[3].price: expected number, found string "x""#;

#[track_caller]
fn refused(result: &TaskResult, error: &str) {
    assert_eq!((result.status, result.error_kind), (TaskStatus::Failure, Some(ErrorKind::BadArguments)));
    assert_eq!(result.error.as_deref(), Some(error));
    // No worker has seen it.
    assert_eq!((result.attempts, &result.worker_id, result.started_at), (0, &None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_is_told_the_path_and_no_worker_sees_the_task() {
    let cluster = cluster();
    for format in SerializationFormat::ALL {
        let client = cluster.client_speaking(format).await;
        let result = client.submit_task("total", ("Ada", order(&json!("x")))).await.expect("a result");
        refused(&result, MISFIT);
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
            refused(&call.await.expect("a result"), error);
        }
        let tasks = ["1", "[]"].map(|x| NewTask {
            args: fastworker::json::Json::parse(&format!("[1, {x}]")).expect("JSON"),
            ..NewTask::new("add")
        });
        let ids = client.delay_many(tasks.to_vec()).await.expect("ids");
        assert_eq!(success(&end_of(&client, &ids[0]).await), "2");
        refused(&end_of(&client, &ids[1]).await, "args[1]: expected integer, found array []");
        assert_eq!(success(&client.submit_task("total", ("Ada", order(&json!(2)))).await.expect("a result")), {
            r#"{"customer":"Ada","total":8.5}"#
        });
    }
    let workers = cluster.client().await.list_tasks().await.expect("workers");
    assert_eq!(workers.iter().map(|worker| worker.attempts).sum::<u64>(), 4, "{workers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_known_is_for_the_same_call_only() {
    let cluster = cluster();
    let client = cluster.client().await;
    let id = TaskId::new();
    let first = client.submit_task("add", (1, 2)).task_id(id.clone()).await.expect("a result");
    let again = client.submit_task("add", (1, 2)).task_id(id.clone()).await.expect("a result");
    assert_eq!((success(&first), success(&again)), ("3", "3"));
    let other = client.submit_task("add", ("x",)).task_id(id).await;
    assert!(matches!(&other, Err(ClientError::Refused(why)) if why.contains("another call")), "{other:?}");
    let wrong = TaskId::new();
    let error = client.submit_task("add", (1,)).task_id(wrong.clone()).await.expect("a result");
    assert_eq!(client.submit_task("add", (1,)).task_id(wrong).await.expect("a result"), error);
}

#[test]
fn the_original_is_told_as_of_any_failure() {
    let cluster = cluster();
    let args = json!(["Ada", order(&json!("x"))]);
    let answer = ask(cluster.ports().base() + 1, json!({"id": "a", "name": "total", "args": args}).to_string());
    assert_eq!((&answer["task_id"], &answer["status"]), (&json!("a"), &json!("failure")), "{answer}");
    assert_eq!(answer["error"], MISFIT);
    let management = cluster.ports().base() + 4;
    let tasks = json!([{"id": "b", "name": "add", "args": [1]}, {"id": "c", "name": "add", "args": [1, 2]}]);
    let batch = ask(management, json!({"action": "batch_submit", "tasks": tasks}).to_string());
    assert_eq!(batch, json!({"batch_accepted": true, "task_ids": ["b", "c"]}));
    let found = ask(management, json!({"task_id": "b"}).to_string());
    assert_eq!(found["result"]["error"], "add() missing 1 required argument: 'y'", "{found}");
}

#[test]
fn the_command_line_tells_the_path_and_what_to_do() {
    let cluster = cluster();
    let args = json!(["Ada", order(&json!("x"))]).to_string();
    let submit = ["submit", "--task-name", "total", "--args-json", &args];
    let ran = cluster.cli(submit).with_code(1).says("failed (bad-arguments)").says(MISFIT);
    let _ = ran.hints("list --schema NAME");
    let json = cluster.cli([&submit[..], &["--json"]].concat()).with_code(1).json();
    assert_eq!((&json["error_kind"], &json["attempts"]), (&json!("bad-arguments"), &json!(0)));

    let reverse = |options: &[&str]| cluster.cli([&["submit", "--task-name", "reverse"], options].concat());
    let _ = reverse(&["--args", "12"]).with_code(1).hints(r#"quote it twice to pass text: '"12"'"#);
    let _ = reverse(&["--kwargs", "text=true"]).with_code(1).hints(r#"'text="true"'"#);
    assert_eq!(reverse(&["--args", r#""12""#]).with_code(0).stdout, "\"21\"\n");
    let background = reverse(&["--args", "12", "--non-blocking"]).with_code(1);
    let _ = background.says("args[0]: expected string, found number 12");

    // `dev` tells the same, without a cluster.
    let file = module("orders");
    let dev = |args: &[&str]| {
        let mut command = cli::fastworker();
        command.arg("dev").arg(&file).args(args);
        cli::run(command)
    };
    let _ = dev(&["total", "--args-json", &args]).with_code(1).says(MISFIT);
    let _ = dev(&["total", "7"]).with_code(1).says("total() missing 1 required argument: 'order'");
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
    assert_eq!(order["$defs"]["Item"]["properties"]["price"]["description"], "The price of one, in euros.");
    assert_eq!(loaded["result"]["schema"]["properties"]["total"]["type"], "number");
    let _ = inspect(&["--schema", "totals"]).with_code(5).says("there is no task 'totals'").hints("total");
    let _ = cluster.cli(["list", "--schema", "rev"]).with_code(5).hints("reverse");
}
