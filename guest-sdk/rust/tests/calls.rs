//! Calls of tasks: signatures, and the calls that they accept.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use fastworker_guest::testing::{self, Context};
use fastworker_guest::{Level, Priority, Retry, TaskError, context, info, sleep, task};
use serde::{Deserialize, Serialize};

/// Adds two numbers,
/// and one more if asked to.
#[task]
fn add(x: i64, y: i64, more: Option<i64>) -> i64 {
    x + y + more.unwrap_or_default()
}

#[task(name = "say.nothing")]
fn nothing() {}

#[task(
    needs = ["http:api.example.com", "dir:/a \"b\""],
    max_memory = "64 MiB",
    max_cpu_time = "500ms",
    max_host_time = "1m 30s",
    max_output = "1KiB",
    max_log = 2048,
    max_result = "1 MiB",
    max_connections = 4,
    max_received = "1 GiB",
    max_sent = "1000 B"
)]
fn confined() {}

#[derive(Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Serialize)]
struct Receipt {
    total: f64,
}

#[task]
fn order(order: &Order, prices: &BTreeMap<String, f64>) -> Result<Receipt, String> {
    let price = prices.get(&order.item).ok_or("no such item")?;
    Ok(Receipt { total: price * f64::from(order.count) })
}

#[task]
fn borrow(text: &str, numbers: &[i64], other: Option<&str>, r#type: Option<&u8>) -> String {
    format!("{text} {numbers:?} {other:?} {type:?}")
}

#[task]
fn parse(text: &str) -> Result<u16, TaskError> {
    Ok(text.parse::<u16>()?)
}

#[task]
fn retry_boxed() -> Result<(), Box<dyn std::error::Error>> {
    Err(TaskError::retry_after("busy", Duration::from_secs(1)).into())
}

#[task]
fn close(account: u32) -> Result<(), Box<dyn std::error::Error>> {
    let details = BTreeMap::from([("account", account)]);
    Err(TaskError::give_up("closed").with_kind("Closed").with_details(&details).into())
}

#[task]
fn unwritable() -> BTreeMap<(u8, u8), u8> {
    BTreeMap::from([((1, 2), 3)])
}

#[task(priority = "low")]
async fn nap(ms: u64) -> Result<u32, TaskError> {
    sleep(Duration::from_millis(ms)).await;
    info!("napped");
    Ok(context::attempt())
}

#[task]
async fn hang() {
    std::future::pending::<()>().await;
}

#[task]
#[cfg(any())]
fn never_compiled(broken: Nonexistent) {}

fn call(name: &str, args: &str, kwargs: &str) -> Result<String, TaskError> {
    testing::call(name, args, kwargs)
}

#[track_caller]
fn assert_refused(name: &str, args: &str, kwargs: &str, message: &str) {
    assert_eq!(call(name, args, kwargs), Err(TaskError::bad_arguments(message)));
}

#[test]
fn arguments_are_passed_by_position_by_name_or_both() {
    assert_eq!(call("add", "[1, 2]", "{}").as_deref(), Ok("3"));
    assert_eq!(call("add", "[1]", r#"{"y": 2}"#).as_deref(), Ok("3"));
    assert_eq!(call("add", "[]", r#"{"more": 3, "y": 2, "x": 1}"#).as_deref(), Ok("6"));
    assert_eq!(call("add", "[1, 2, null]", "{}").as_deref(), Ok("3"));
    assert_eq!(call("add", " [ 1 , 2 ] ", r#" { "\u006dore" : 1 } "#).as_deref(), Ok("4"));
}

#[test]
fn arguments_that_do_not_match_are_refused_as_in_python() {
    assert_refused("add", "[1]", "{}", "add() missing 1 required argument: 'y'");
    assert_refused("add", "[]", "{}", "add() missing 2 required arguments: 'x' and 'y'");
    assert_refused("add", "[1, 2]", r#"{"z": 3}"#, "add() got an unexpected keyword argument 'z'");
    assert_refused("add", "[1, 2]", r#"{"x": 3}"#, "add() got multiple values for argument 'x'");
    assert_refused("add", "[]", r#"{"x": 3, "x": 4}"#, "add() got multiple values for argument 'x'");
    assert_refused("add", "[1, 2, 3, 4]", "{}", "add() takes from 2 to 3 arguments but 4 were given");
    assert_refused("parse", "[1, 2]", "{}", "parse() takes 1 argument but 2 were given");
    assert_refused("say.nothing", "[1]", "{}", "say.nothing() takes 0 arguments but 1 was given");
    assert_refused("add", r#"["a", 2]"#, "{}", "argument 'x': invalid type: string \"a\", expected i64");
    assert_refused("add", "[1, 2, 1.5]", "{}", "argument 'more': invalid type: floating point `1.5`, expected i64");
    assert_refused("order", r#"[{"item": "tea"}, {}]"#, "{}", "argument 'order': missing field `count`");
    assert_refused("none", "[]", "{}", "this module has no task 'none'");
}

#[test]
fn own_types_are_parameters_and_results() {
    let args = r#"[{"item": "tea", "count": 2}, {"tea": 1.25}]"#;
    assert_eq!(call("order", args, "{}").as_deref(), Ok(r#"{"total":2.5}"#));
}

#[test]
fn borrowed_parameters_accept_strings_with_escapes() {
    let result = call("borrow", r#"["a\"b", [1, 2], "c\n"]"#, r#"{"type": 7}"#);
    let expected = r#""a\"b [1, 2] Some(\"c\\n\") Some(7)""#;
    assert_eq!(result.as_deref(), Ok(expected));
}

#[test]
fn a_float_is_not_changed() {
    let args = r#"[{"item": "x", "count": 1}, {"x": 2.2250738585072011e-308}]"#;
    assert_eq!(call("order", args, "{}").as_deref(), Ok(r#"{"total":2.225073858507201e-308}"#));
}

#[test]
fn no_result_is_null() {
    assert_eq!(call("say.nothing", "[]", "{}").as_deref(), Ok("null"));
}

#[test]
fn every_kind_of_error_fails_the_task() {
    let args = r#"[{"item": "gold", "count": 2}, {}]"#;
    assert_eq!(call("order", args, "{}"), Err(TaskError::failed("no such item")));
    assert_eq!(call("parse", r#"["x"]"#, "{}"), Err(TaskError::failed("invalid digit found in string")));
    assert_eq!(call("retry_boxed", "[]", "{}"), Err(TaskError::retry_after("busy", Duration::from_secs(1))));
}

#[test]
fn a_task_gives_up_with_a_kind_and_details() {
    let error = call("close", "[17]", "{}").expect_err("it gives up");
    assert_eq!((error.retry(), error.message()), (Retry::Never, "closed"));
    assert_eq!((error.kind(), error.details()), ("Closed", r#"{"account":17}"#));
    let (error, seen) = Context::new().run(|| TaskError::failed("no").with_details(&BTreeMap::from([((1, 2), 3)])));
    assert_eq!((error.details(), seen.logs.len()), ("", 1));
}

#[test]
fn a_task_reads_the_metadata_of_its_invocation() {
    let json = r#"{"priority": "high", "parent": "p1", "tags": ["a", "b"], "traceparent": 1, "new": {"x": 1}}"#;
    let ((), _) = Context::new().metadata(json).run(|| {
        assert_eq!((context::priority(), context::parent().as_deref()), (Priority::High, Some("p1")));
        assert_eq!((context::tags(), context::traceparent()), (vec!["a".to_owned(), "b".to_owned()], None));
        assert_eq!(context::metadata::<BTreeMap<String, u8>>("new"), Some(BTreeMap::from([("x".to_owned(), 1)])));
        assert_eq!(context::metadata_json(), json);
    });
    assert_eq!((context::priority(), context::parent(), context::tags()), (Priority::Normal, None, Vec::new()));
}

#[test]
fn a_result_without_a_json_form_is_a_failure_that_names_the_cause() {
    assert_eq!(
        call("unwritable", "[]", "{}"),
        Err(TaskError::failed("the result cannot be serialized to JSON: key must be a string"))
    );
}

#[test]
fn an_async_task_waits_for_its_timers() {
    let (result, seen) = Context::new().attempt(3).run(|| call("nap", "[1]", "{}"));
    assert_eq!(result.as_deref(), Ok("3"));
    assert_eq!(seen.logs, [(Level::Info, "napped".to_owned())]);
}

#[test]
fn a_future_that_nothing_can_wake_is_an_error() {
    let result = call("hang", "[]", "{}");
    let error = result.expect_err("it cannot end");
    assert!(error.message().contains("waits on nothing") && error.retry() == Retry::Policy, "{error:?}");
}

#[test]
fn the_host_receives_the_descriptor_of_a_task() {
    let tasks = testing::tasks();
    assert!(tasks.is_sorted_by_key(|task| task.name));
    let add = &tasks[0];
    assert_eq!(add.name, "add");
    assert_eq!(add.documentation, "Adds two numbers,\nand one more if asked to.");
    assert_eq!(
        add.schema,
        r#"{"parameters":[{"name":"x","type":"i64","required":true},{"name":"y","type":"i64","required":true},{"name":"more","type":"Option<i64>","required":false}],"result":"i64"}"#
    );
    assert_eq!(add.policy, "{}");
    let confined = tasks.iter().find(|task| task.name == "confined").expect("it is there");
    assert_eq!(
        confined.policy,
        r#"{"needs":["http:api.example.com","dir:/a \"b\""],"max_memory":67108864,"max_cpu_time":0.5,"max_host_time":90.0,"max_output":1024,"max_log":2048,"max_result":1048576,"max_connections":4,"max_received":1073741824,"max_sent":1000}"#
    );
}

#[test]
fn a_context_ends_with_its_run() {
    let (before, _) = Context::new().task_id("a").attempt(2).run(|| {
        Context::new().task_id("b").run(context::task_id);
        (context::task_id(), context::attempt())
    });
    assert_eq!(before, ("a".to_owned(), 2));
    assert_eq!(context::attempt(), 1);
    assert!(!context::is_cancelled());
}

#[test]
fn the_remaining_time_ends_at_the_deadline() {
    let (left, _) = Context::new().remaining(Duration::from_secs(5)).run(context::remaining);
    assert!(left <= Duration::from_secs(5) && left > Duration::from_secs(1));
}

#[test]
fn malformed_follow_ups_are_refused() {
    let single = context::follow_up("add", 5).submit();
    assert!(matches!(&single, Err(error) if error.message().contains("`(x,)`")), "{single:?}");
    let named = context::follow_up("add", ()).kwargs([1]).submit();
    assert!(named.is_err());
    let ((), seen) = Context::new().run(|| {
        let kwargs = BTreeMap::from([("x", 1), ("y", 2)]);
        let id = context::follow_up("add", ()).kwargs(kwargs).submit();
        assert_eq!(id.as_deref(), Ok("test-1"));
    });
    assert_eq!(seen.follow_ups[0].args, "[]");
    assert_eq!(seen.follow_ups[0].kwargs, r#"{"x":1,"y":2}"#);
}
