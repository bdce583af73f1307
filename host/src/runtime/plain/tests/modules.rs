//! Plain components as modules: their names, what cannot be called, and how calls end.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{call, result};
use crate::{
    json::Json,
    runtime::{
        Catalog, Invocation, Module, ModuleError,
        fixtures::{ATTEMPT, Fixture, failure, limited},
    },
    task::{ErrorKind, LimitKind, NotCallable, Outcome, TaskId},
};

/// A core module with a memory, an allocator and these functions, and its instance `$i`.
fn core(functions: &str) -> String {
    format!(
        r#"(core module $m
    (memory (export "mem") 2)
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (block $grown (loop $more
        (br_if $grown (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (if (i32.eq (memory.grow (i32.const 64)) (i32.const -1)) (then unreachable))
        (br $more)))
      (memory.copy (local.get $at) (local.get 0) (select (local.get 1) (local.get 3)
        (i32.lt_u (local.get 1) (local.get 3))))
      (local.get $at))
    {functions})
  (core instance $i (instantiate $m))"#
    )
}

/// A component that exports `add` and `hang`, and an interface of this name with `mul`, `neg` and functions that cannot
/// be called.
fn calculator(interface: &str) -> String {
    let core = core(
        r#"(func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
           (func (export "mul") (param i64 i64) (result i64) (i64.mul (local.get 0) (local.get 1)))
           (func (export "hang") (loop $again (br $again)))
           (func (export "crash") unreachable)
           (func (export "take") (param i32))"#,
    );
    format!(
        r#"(component
  {core}
  (func $add (param "x" s32) (param "y-value" s32) (result s32) (canon lift (core func $i "add")))
  (func $mul (param "x" s64) (param "y" s64) (result s64) (canon lift (core func $i "mul")))
  (func $hang (canon lift (core func $i "hang")))
  (func $crash (canon lift (core func $i "crash")))
  (type $blob' (resource (rep i32)))
  (component $inner
    (import "blob" (type $blob (sub resource)))
    (import "mul" (func $mul (param "x" s64) (param "y" s64) (result s64)))
    (import "take" (func $take (param "blob" (own $blob))))
    (export $blob'' "blob" (type $blob))
    (export "mul" (func $mul))
    (export "take" (func $take) (func (param "blob" (own $blob'')))))
  (func $take (param "blob" (own $blob')) (canon lift (core func $i "take")))
  (instance $ops (instantiate $inner
    (with "blob" (type $blob')) (with "mul" (func $mul)) (with "take" (func $take))))
  (instance $tool (export "init" (func $crash)))
  (export "add" (func $add))
  (export "hang" (func $hang))
  (export "crash" (func $crash))
  (export "exports" (instance $tool))
  (export "{interface}" (instance $ops)))"#
    )
}

fn load(fixture: &Fixture, name: &str, text: &str) -> Module {
    fixture.runtime.load(&fixture.dir.write_text(name, text)).unwrap_or_else(|error| panic!("{error}"))
}

fn names(module: &Module) -> Vec<&str> {
    module.info().tasks.iter().map(|task| task.name.as_str()).collect()
}

#[test]
fn every_exported_function_is_a_task_with_a_short_and_a_full_name() {
    let mut fixture = Fixture::new();
    let module = load(&fixture, "calc.wasm", &calculator("ns:pkg/ops@1.0.0"));
    assert_eq!(
        names(&module),
        ["add", "calc#add", "hang", "calc#hang", "crash", "calc#crash", "ops.mul", "ns:pkg/ops@1.0.0#mul"]
    );
    let reason = "its parameter 'blob' has a resource".to_owned();
    assert_eq!(module.info().not_callable, [NotCallable { name: "ns:pkg/ops@1.0.0#take".into(), reason }]);
    for name in ["ops.mul", "ns:pkg/ops@1.0.0#mul"] {
        assert_eq!(result(&mut fixture, &module, name, "[-3, 9223372036854775807]"), "-9223372036854775805");
    }
    let by_name = call(&mut fixture, &module, "add", "[1]", r#"{"y_value": 2}"#);
    assert!(matches!(&by_name, Outcome::Success { result, .. } if result.as_str() == "3"), "{by_name:?}");
    for (args, kwargs, message) in [
        ("[1]", "{}", "add() missing 1 required argument: 'y-value'"),
        ("[1, 2, 3]", "{}", "add() takes 2 arguments but 3 were given"),
        ("[1, 2]", r#"{"y-value": 2}"#, "add() got multiple values for argument 'y-value'"),
        ("[]", r#"{"x": 1, "y-value": 2, "y_value": 2}"#, "add() got multiple values for argument 'y_value'"),
        ("[1, 2]", r#"{"z": 2}"#, "add() got an unexpected keyword argument 'z'"),
        (
            "[1]",
            r#"{"y-value": 2.5}"#,
            "kwargs[\"y-value\"]: expected integer from -2147483648 to 2147483647, found number 2.5",
        ),
    ] {
        let failed = failure(call(&mut fixture, &module, "add", args, kwargs));
        assert_eq!((failed.kind, failed.message.as_str()), (ErrorKind::BadArguments, message));
    }
}

#[test]
fn calls_of_plain_functions_end_as_those_of_other_tasks() {
    let mut fixture = Fixture::new();
    let module = load(&fixture, "calc.wasm", &calculator("ops"));
    assert!(names(&module).contains(&"ops.mul") && names(&module).contains(&"ops#mul"), "{:?}", names(&module));
    let trapped = failure(call(&mut fixture, &module, "crash", "[]", "{}"));
    assert_eq!(trapped.kind, ErrorKind::Trap, "{}", trapped.message);
    let (task_id, none, no) = ("T1".parse::<TaskId>().expect("an id"), Json::empty_array(), Json::empty_object());
    let (name, timeout) = ("hang", Duration::from_millis(200));
    let call = Invocation {
        id: ATTEMPT,
        task_id: &task_id,
        name,
        attempt: 1,
        timeout,
        args: &none,
        kwargs: &no,
        metadata: "{}",
    };
    assert_eq!(failure(fixture.slot.run(&module, &call).outcome).kind, ErrorKind::Timeout);
}

#[test]
fn a_short_name_of_two_modules_is_the_name_of_neither() {
    let fixture = Fixture::new();
    let mut catalog = Catalog::default();
    let one = load(&fixture, "one.wasm", &calculator("ns:one/ops@1.0.0"));
    let two = load(&fixture, "two.wasm", &calculator("ns:two/ops@1.0.0"));
    catalog.put(one.clone()).expect("free names");
    assert!(["add", "ops.mul"].iter().all(|name| catalog.find(name).is_some()));
    catalog.put(two.clone()).expect("full names that differ");
    assert!(["add", "ops.mul"].iter().all(|name| catalog.find(name).is_none()));
    let full = ["one#add", "two#add", "ns:one/ops@1.0.0#mul", "ns:two/ops@1.0.0#mul"];
    assert!(full.iter().all(|name| catalog.find(name).is_some()));
    let described = catalog.describe();
    assert!(
        described.iter().all(|info| info.tasks.len() == 4 && info.tasks.iter().all(|task| task.full_name.is_none()))
    );
    catalog.remove(one.path());
    assert!(["add", "ops.mul"].iter().all(|name| catalog.find(name).is_some_and(|module| module.path() == two.path())));
}

#[test]
fn of_two_functions_with_one_full_name_only_the_first_is_callable() {
    let fixture = Fixture::new();
    let mut catalog = Catalog::default();
    let one = load(&fixture, "one.wasm", &calculator("ns:two/ops@1.0.0"));
    let two = load(&fixture, "two.wasm", &calculator("ns:two/ops@1.0.0"));
    catalog.put_all(vec![one.clone(), two.clone()]).expect("the rest works");
    let path = |name: &str| catalog.find(name).map(Module::path);
    assert_eq!([path("ns:two/ops@1.0.0#mul"), path("ops.mul")], [Some(one.path()), Some(one.path())]);
    assert_eq!([path("one#add"), path("two#add"), path("add")], [Some(one.path()), Some(two.path()), None]);
    let [first, second] = [0, 1].map(|index| catalog.describe()[index].clone());
    let mut names: Vec<&str> = second.tasks.iter().map(|task| task.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["two#add", "two#crash", "two#hang"]);
    assert_eq!(second.not_callable.len(), first.not_callable.len() + 1);
    let NotCallable { name, reason } = second.not_callable.last().expect("a function");
    assert_eq!(name, "ns:two/ops@1.0.0#mul");
    let [own, other] = [two.path(), one.path()].map(|path| path.display().to_string());
    let change = "give one of them another package name or version, or load only one";
    assert_eq!(*reason, format!("{other} has a task of that name, and {own} as well: {change}"));
    catalog.remove(one.path());
    assert!(["add", "ops.mul", "ns:two/ops@1.0.0#mul"].iter().all(|name| catalog.find(name).is_some()));
    assert!(catalog.taken_from(two.path()).is_empty());
}

#[test]
fn short_names_that_a_component_has_twice_are_not_used() {
    let fixture = Fixture::new();
    let core = core(r#"(func (export "f") (result i32) (i32.const 7))"#);
    let text = format!(
        r#"(component
  {core}
  (func $f (result u8) (canon lift (core func $i "f")))
  (instance $ops (export "f" (func $f)) (export "g" (func $f)))
  (instance $other (export "f" (func $f)))
  (export "a:one/ops@1.0.0" (instance $ops))
  (export "b:two/ops" (instance $other)))"#
    );
    let module = load(&fixture, "twice.wasm", &text);
    assert_eq!(names(&module), ["a:one/ops@1.0.0#f", "ops.g", "a:one/ops@1.0.0#g", "b:two/ops#f"]);
}

#[test]
fn a_component_without_callable_functions_names_the_reason() {
    let fixture = Fixture::new();
    let refuse = |text: &str| fixture.runtime.load(&fixture.dir.write_text("no.wasm", text)).expect_err("refused").why;
    let nothing = refuse("(component)");
    assert!(matches!(nothing, ModuleError::NoTasks { .. }), "{nothing}");
    let core = core(r#"(func (export "f") (param i32))"#);
    for (ty, reason) in [
        ("(future u8)", "its parameter 'x' has a future"),
        ("(stream u8)", "its parameter 'x' has a stream"),
        ("(list (option (tuple u8 (stream u8))))", "its parameter 'x' has a stream"),
    ] {
        let core = if ty.starts_with("(list") { core.replace("(param i32)", "(param i32 i32)") } else { core.clone() };
        let lift = r#"(memory $i "mem") (realloc (func $i "realloc"))"#;
        let text = format!(
            r#"(component {core} (func $f (param "x" {ty}) (canon lift (core func $i "f") {lift})) (export "f" (func $f)))"#
        );
        let refused = refuse(&text);
        assert_eq!(
            refused.to_string(),
            format!("the component exports no function that can be called as a task: no#f cannot, as {reason}")
        );
    }
}

/// A component with `f`, which takes nothing and returns what its core function leaves at the address it returns.
fn returning(types: &str, result: &str, body: &str, options: &str) -> String {
    let core = core(&format!(r#"(data (i32.const 1024) "\fft\00e\00") (func (export "f") (result i32) {body})"#));
    format!(
        r#"(component {core} {types}
  (func $f (result {result}) (canon lift (core func $i "f") (memory $i "mem") {options}))
  (export "f" (func $f)))"#
    )
}

#[test]
fn the_error_branch_of_a_result_is_the_failure_with_its_payload() {
    let mut fixture = Fixture::new();
    let types = r#"(type $p' (variant (case "closed") (case "bad-name" string) (case "at" (tuple u8 u8))))
                   (export $p "p" (type $p'))"#;
    let branch = |case: u32, more: &str| {
        format!(
            "(i32.store8 (i32.const 0) (i32.const 1)) (i32.store8 (i32.const 4) (i32.const {case})) {more} (i32.const 0)"
        )
    };
    let text = "(i32.store (i32.const 8) (i32.const 1025)) (i32.store (i32.const 12) (i32.const 1))";
    for (body, message, metadata) in [
        (branch(0, ""), "closed", r#"{"failure":{"kind":"closed","details":"closed"}}"#),
        (branch(1, text), "bad-name: t", r#"{"failure":{"kind":"bad-name","details":{"bad-name":"t"}}}"#),
        (
            branch(2, "(i32.store16 (i32.const 8) (i32.const 513))"),
            r#"{"at":[1,2]}"#,
            r#"{"failure":{"kind":"at","details":{"at":[1,2]}}}"#,
        ),
    ] {
        let module = load(&fixture, "fails.wasm", &returning(types, "(result u8 (error $p))", &body, ""));
        let task_id: TaskId = "T1".parse().expect("an id");
        let (args, kwargs, timeout) = (Json::empty_array(), Json::empty_object(), Duration::from_mins(1));
        let (task_id, args, kwargs) = (&task_id, &args, &kwargs);
        let call = Invocation { id: ATTEMPT, task_id, name: "f", attempt: 1, timeout, args, kwargs, metadata: "{}" };
        let ended = fixture.slot.run(&module, &call);
        assert_eq!(ended.metadata.map(|metadata| metadata.to_string()).as_deref(), Some(metadata));
        let failed = failure(ended.outcome);
        assert_eq!((failed.kind, failed.message.as_str()), (ErrorKind::Failed, message));
    }
    let ok = returning(
        "",
        "(result u8 (error string))",
        "(i32.store8 offset=4 (i32.const 0) (i32.const 9)) (i32.const 0)",
        "",
    );
    let module = load(&fixture, "fails.wasm", &ok);
    assert_eq!(result(&mut fixture, &module, "f", "[]"), "9");
    let plain = returning("", "(result)", "(i32.const 1)", "");
    let module = load(&fixture, "fails.wasm", &plain);
    assert_eq!(failure(call(&mut fixture, &module, "f", "[]", "{}")).message, "the function returned an error");
}

#[test]
fn a_long_error_is_cut_and_has_its_size() {
    let mut fixture = Fixture::new();
    let many = "(i32.store8 (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 8192)) (i32.store (i32.const 8) (i32.const 5000)) (i32.const 0)";
    let module = load(&fixture, "fails.wasm", &returning("", "(result (error (list u8)))", many, ""));
    let message = failure(call(&mut fixture, &module, "f", "[]", "{}")).message;
    assert_eq!(message, format!("{}… (6668 bytes)", "A".repeat(4096)));
    let dropped = "the failure's details were dropped: 6670 bytes, limit 2048";
    let reports = fixture.take_reports();
    assert!(reports.iter().any(|report| report.contains(dropped)), "{reports:?}");
}

#[test]
fn a_map_with_a_key_twice_is_a_trap() {
    let mut fixture = Fixture::new();
    let map = |second: u32| {
        let words = [16, 2, 0, 0, 1025, 1, 7, second, 1, 8];
        let stores = words
            .iter()
            .enumerate()
            .map(|(index, word)| format!("(i32.store (i32.const {}) (i32.const {word}))", 4 * index));
        stores.collect::<String>() + "(i32.const 0)"
    };
    let module = load(&fixture, "map.wasm", &returning("", "(map string u8)", &map(1027), ""));
    assert_eq!(result(&mut fixture, &module, "f", "[]"), r#"{"t":7,"e":8}"#);
    let module = load(&fixture, "map.wasm", &returning("", "(map string u8)", &map(1025), ""));
    let failed = failure(call(&mut fixture, &module, "f", "[]", "{}"));
    assert_eq!((failed.kind, failed.message.as_str()), (ErrorKind::Trap, r#"a map has the key "t" twice"#));
}

#[test]
fn a_result_that_violates_the_canonical_abi_is_a_trap() {
    let mut fixture = Fixture::new();
    let pair = |pointer: i64, length: i64| {
        format!(
            "(i32.store (i32.const 0) (i32.const {pointer})) (i32.store (i32.const 4) (i32.const {length})) (i32.const 0)"
        )
    };
    let colour = r#"(type $c' (enum "red" "green")) (export $c "c" (type $c'))"#;
    for (types, ty, body, words) in [
        ("", "string", pair(1024, 1), "utf-8"),
        ("", "string", pair(131_071, 2), "out of bounds"),
        ("", "(list u32)", pair(2, 1), "not aligned"),
        ("", "(list u32)", pair(0, -1), "out of bounds"),
        ("", "(list u8)", pair(131_072, 1), "out of bounds"),
        ("", "(tuple u32 u32)", "(i32.const 2)".into(), "not aligned"),
        ("", "(tuple u32 u32)", "(i32.const -4)".into(), "out of bounds"),
        ("", "char", "(i32.const 0xd800)".into(), "char"),
        (colour, "$c", "(i32.const 2)".into(), "discriminant"),
        (colour, "$c", "(i32.const 256)".into(), "discriminant"),
        ("", "(option u8)", "(i32.store8 (i32.const 0) (i32.const 2)) (i32.const 0)".into(), "discriminant"),
    ] {
        let module = load(&fixture, "wrong.wasm", &returning(types, ty, &body, ""));
        let failed = failure(call(&mut fixture, &module, "f", "[]", "{}"));
        assert_eq!(failed.kind, ErrorKind::Trap, "{ty} {body}: {}", failed.message);
        assert!(failed.message.contains(words), "{ty} {body}: {}", failed.message);
    }
}

#[test]
fn strings_of_every_encoding_are_text() {
    let mut fixture = Fixture::new();
    for encoding in ["utf8", "utf16", "latin1+utf16"] {
        let core = core(
            r#"(func (export "echo") (param i32 i32) (result i32)
                 (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)) (i32.const 0))"#,
        );
        let text = format!(
            r#"(component {core}
  (func $f (param "x" (list string)) (result (list string)) (canon lift (core func $i "echo")
    (memory $i "mem") (realloc (func $i "realloc")) string-encoding={encoding}))
  (export "f" (func $f)))"#
        );
        let module = load(&fixture, "text.wasm", &text);
        let json = r#"["","a","ü","😀\n","\u0000"]"#;
        assert_eq!(result(&mut fixture, &module, "f", &format!("[{json}]")), json, "{encoding}");
    }
}

/// A component with `f`, which returns its argument of this type: one list or string.
fn mirror(types: &str, ty: &str) -> String {
    let core = core(
        r#"(func (export "echo") (param i32 i32) (result i32)
             (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)) (i32.const 0))"#,
    );
    format!(
        r#"(component {core} {types}
  (func $f (param "x" {ty}) (result {ty}) (canon lift (core func $i "echo") (memory $i "mem") (realloc (func $i "realloc"))))
  (export "f" (func $f)))"#
    )
}

#[test]
fn bytes_pass_up_to_the_result_limit_wherever_they_are() {
    let mut fixture = Fixture::new();
    let limit = fixture.runtime.config().limits.size(LimitKind::Result);
    let types = r#"(type $p' (record (field "name" string) (field "data" (list u8)))) (export $p "p" (type $p'))"#;
    for (types, ty, [before, after]) in [
        ("", "(list u8)", ["\"", "\""]),
        ("", "string", ["\"", "\""]),
        (types, "(list $p)", [r#"[{"name":"n","data":""#, "\"}]"]),
    ] {
        let module = load(&fixture, "bytes.wasm", &mirror(types, ty));
        for bytes in [1 << 20, 11 << 20] {
            let json = format!("{before}{}{after}", BASE64_STANDARD.encode(vec![0xa5; bytes]));
            assert!(result(&mut fixture, &module, "f", &format!("[{json}]")) == json, "{ty} of {bytes} bytes differ");
        }
        let whole = (limit - before.len() - after.len()) / 4 * 3;
        let json = |bytes: usize| format!("[{before}{}{after}]", BASE64_STANDARD.encode(vec![0; bytes]));
        assert!(result(&mut fixture, &module, "f", &json(whole)).len() <= limit);
        let beyond = failure(call(&mut fixture, &module, "f", &json(whole + 3), "{}"));
        assert_eq!(beyond.kind, ErrorKind::ResultLimit, "{ty}: {}", beyond.message);
    }
}

#[test]
fn lists_take_a_bounded_amount_of_memory() {
    let mut fixture = Fixture::with(limited(LimitKind::Memory, 32 << 20));
    let types = r#"(type $p' (record (field "a" (option u64)) (field "b" (option u64)) (field "c" (option u64))))
                   (export $p "p" (type $p'))"#;
    let module = load(&fixture, "list.wasm", &mirror(types, "(list $p)"));
    let many = format!("[[{}]]", vec!["{}"; 5 << 20].join(","));
    let failed = failure(call(&mut fixture, &module, "f", &many, "{}"));
    assert_eq!(failed.kind, ErrorKind::BadArguments);
    assert!(failed.message.contains("expected arguments of at most 128 MiB of memory"), "{}", failed.message);
    // The guest's own limit applies as well.
    let module = load(&fixture, "list.wasm", &mirror("", "(list u64)"));
    let many = format!("[[{}]]", vec!["0"; 7 << 20].join(","));
    let failed = failure(call(&mut fixture, &module, "f", &many, "{}"));
    assert!(matches!(failed.kind, ErrorKind::Trap | ErrorKind::OutOfMemory), "{:?}: {}", failed.kind, failed.message);
    // A result is not larger in JSON than any result may be, however small it is in memory.
    let huge = returning(
        "",
        "(list bool)",
        "(drop (memory.grow (i32.const 200))) (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 10000000)) (i32.const 0)",
        "",
    );
    let module = load(&fixture, "huge.wasm", &huge);
    let failed = failure(call(&mut fixture, &module, "f", "[]", "{}"));
    assert_eq!(failed.kind, ErrorKind::ResultLimit, "{}", failed.message);
}
