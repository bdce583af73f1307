//! Plain components: values of every type, into a guest and back, and what is refused.

use std::{fmt::Write as _, time::Duration};

use wasmtime::{
    Config, Engine, Store,
    component::{Component, Linker, Val},
};

use super::{
    Exported, read,
    shape::{Kind, Types},
};
use crate::{
    json::Json,
    runtime::{
        Invocation, Module,
        fixtures::{ATTEMPT, Fixture, failure},
    },
    signature::Signature,
    task::{ErrorKind, Outcome, TaskId},
};

mod hostile;
mod modules;
mod random;

use random::{Random, Type};

/// A component whose functions take and return values of a type without looking at them: `echo` (a list), `dump`, which
/// returns its core values, and `wide`, whose parameters do not fit into core values.
fn echo(ty: &Type) -> String {
    let mut types = String::new();
    let name = ty.define(&mut types, &mut 0);
    let flat = ty.flat();
    let fits = flat.len() <= 16;
    let (params, stores) = if fits { (flat.as_slice(), dump(&flat)) } else { (&["i32"][..], String::new()) };
    let wide = "(param \"pad\" (tuple u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64))";
    let dump = format!(
        r#"(func $dump (param "x" {name}) (result (list u64))
             (canon lift (core func $i "dump") (memory $i "mem") (realloc (func $i "realloc"))))
           (export "dump" (func $dump))"#
    );
    format!(
        r#"(component
  {types}
  (core module $m
    (memory (export "mem") 1)
    (global $free (mut i32) (i32.const 1024))
    (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and
        (i32.add (global.get $free) (i32.sub (local.get 2) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get 2))))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (block $grown (loop $more
        (br_if $grown (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
        (br $more)))
      (local.get $at))
    (func (export "echo") (param i32 i32) (result i32)
      (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)) (i32.const 0))
    (func (export "wide") (param i32) (result i32)
      (i32.store (i32.const 0) (i32.add (local.get 0) (i32.const 128))) (i32.store (i32.const 4) (i32.const 1))
      (i32.const 0))
    (func (export "dump") (param {params}) (result i32)
      {stores}
      (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {count})) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $echo (param "x" (list {name})) (result (list {name}))
    (canon lift (core func $i "echo") (memory $i "mem") (realloc (func $i "realloc"))))
  (export "echo" (func $echo))
  (func $wide {wide} (param "x" {name}) (result (list {name}))
    (canon lift (core func $i "wide") (memory $i "mem") (realloc (func $i "realloc"))))
  (export "wide" (func $wide))
  {dump})"#,
        params = params.join(" "),
        count = flat.len(),
        dump = if fits { dump.as_str() } else { "" },
    )
}

/// Stores every parameter of a core function as 64 bits from address 64 on.
fn dump(flat: &[&str]) -> String {
    let mut stores = String::new();
    for (index, ty) in flat.iter().enumerate() {
        let bits = match *ty {
            "i32" => format!("(i64.extend_i32_u (local.get {index}))"),
            "f32" => format!("(i64.extend_i32_u (i32.reinterpret_f32 (local.get {index})))"),
            "f64" => format!("(i64.reinterpret_f64 (local.get {index}))"),
            _ => format!("(local.get {index})"),
        };
        write!(stores, "(i64.store (i32.const {}) {bits})", 64 + 8 * index).expect("writing to a string cannot fail");
    }
    stores
}

fn engine() -> Engine {
    let mut config = Config::new();
    config.wasm_component_model_map(true).wasm_component_model_fixed_length_lists(true);
    Engine::new(&config).expect("an engine")
}

/// Runs a task of a component.
fn call(fixture: &mut Fixture, module: &Module, name: &str, args: &str, kwargs: &str) -> Outcome {
    let task_id: TaskId = "T1".parse().expect("a task id");
    let (args, kwargs) = (Json::parse(args).expect("JSON"), Json::parse(kwargs).expect("JSON"));
    let call = Invocation {
        id: ATTEMPT,
        task_id: &task_id,
        name,
        attempt: 1,
        timeout: Duration::from_mins(1),
        args: &args,
        kwargs: &kwargs,
        metadata: "{}",
    };
    fixture.slot.run(module, &call).outcome
}

/// The result of a task that succeeds.
#[track_caller]
fn result(fixture: &mut Fixture, module: &Module, name: &str, args: &str) -> String {
    match call(fixture, module, name, args, "{}") {
        Outcome::Success { result, .. } => result.to_string(),
        other => panic!("{name}{args}: {other:?}"),
    }
}

/// The core values that `dump` gets from wasmtime for a value.
fn dumped(component: &Component, value: Val) -> Vec<Val> {
    let mut store = Store::new(component.engine(), ());
    let instance = Linker::new(component.engine()).instantiate(&mut store, component).expect("an instance");
    let function = instance.get_func(&mut store, "dump").expect("a function");
    let mut results = [Val::Bool(false)];
    function.call(&mut store, &[value], &mut results).expect("a result");
    match results {
        [Val::List(values)] => values,
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_of_every_type_return_from_a_guest_unchanged() {
    let mut fixture = Fixture::new();
    let (mut random, engine) = (Random(11), engine());
    let mut dumps = 0;
    for _ in 0..60 {
        let ty = random.ty(3);
        let text = echo(&ty);
        let module = fixture.runtime.load(&fixture.dir.write_text("echo.wasm", &text));
        let module = module.unwrap_or_else(|error| panic!("{error}\n{text}"));
        let component = Component::new(&engine, wat::parse_str(&text).expect("text")).expect("a component");
        let values: Vec<(Val, String)> = (0..8).map(|_| random.value(&ty)).collect();
        let list = values.iter().map(|(_, json)| json.clone()).collect::<Vec<_>>().join(",");
        match ty {
            Type::Integer(1, false) => {}
            _ => {
                assert_eq!(
                    result(&mut fixture, &module, "echo", &format!("[[{list}]]")),
                    format!("[{list}]"),
                    "{ty:?}"
                );
            }
        }
        for (value, json) in values {
            if ty.flat().len() <= 16 {
                let ours = result(&mut fixture, &module, "dump", &format!("[{json}]"));
                let theirs: Vec<String> = dumped(&component, value).iter().map(number).collect();
                assert_eq!(ours, format!("[{}]", theirs.join(",")), "{ty:?} {json}");
                dumps += 1;
            }
            if !matches!(ty, Type::Integer(1, false)) {
                let pad = vec!["0"; 16].join(",");
                assert_eq!(result(&mut fixture, &module, "wide", &format!("[[{pad}],{json}]")), format!("[{json}]"));
            }
        }
    }
    assert!(dumps > 100, "{dumps}");
}

fn number(value: &Val) -> String {
    match value {
        Val::U64(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_schema_allows_exactly_what_can_be_read() {
    let (mut random, engine) = (Random(5), engine());
    let (mut read_values, mut refused) = (0, 0);
    for _ in 0..120 {
        let ty = random.ty(3);
        let component = Component::new(&engine, wat::parse_str(echo(&ty)).expect("text")).expect("a component");
        let exported = Exported::of(&engine, &component, "m");
        let task = exported.tasks.iter().find(|task| task.name == "wide").expect("a task");
        let signature = Signature::of(task);
        assert!(signature.warnings().is_empty(), "{:?}", signature.warnings());
        let types: &Types = &exported.by_name["wide"].types;
        let pad = format!("[{}]", vec!["0"; 16].join(","));
        for _ in 0..60 {
            let value = random.almost(&ty);
            let (args, kwargs) = match random.below(3) {
                0 => (format!("[{pad},{value}]"), "{}".to_owned()),
                1 => (format!("[{pad}]"), format!("{{\"x\":{value}}}")),
                _ => ("[]".to_owned(), format!("{{\"x\":{value},\"pad\":{pad}}}")),
            };
            let (args, kwargs) = (Json::parse(&args).expect("JSON"), Json::parse(&kwargs).expect("JSON"));
            let allowed = signature.check(&args, &kwargs);
            let read = read::arguments("wide", &types.parameters, &args, &kwargs);
            assert_eq!(allowed.is_ok(), read.is_ok(), "{allowed:?} {read:?}\n{value}\n{ty:?}\n{}", task.schema);
            if read.is_ok() {
                read_values += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(read_values > 1_000 && refused > 1_000, "{read_values} {refused}");
}

#[test]
fn reader_and_schema_name_the_same_cases() {
    let mut random = Random(23);
    let (mut compared, engine) = (0, engine());
    for _ in 0..200 {
        let ty = random.ty(2);
        let component = Component::new(&engine, wat::parse_str(echo(&ty)).expect("text")).expect("a component");
        let exported = Exported::of(&engine, &component, "m");
        let types: &Types = &exported.by_name["wide"].types;
        let is_union = matches!(&types.parameters.kind, Kind::Record(record)
            if matches!(record.fields[1].shape.kind, Kind::Variant(_) | Kind::Result(_) | Kind::Flags(_)));
        if !is_union {
            continue;
        }
        let signature = Signature::of(exported.tasks.iter().find(|task| task.name == "wide").expect("a task"));
        for value in ["1", "null", "\"no-case\"", "{}", "{\"no-case\":1}"] {
            let args = Json::parse(&format!("[[{}],{value}]", vec!["0"; 16].join(","))).expect("JSON");
            let kwargs = Json::empty_object();
            let (Err(refused), Err(unread)) =
                (signature.check(&args, &kwargs), read::arguments("wide", &types.parameters, &args, &kwargs))
            else {
                panic!("{value} is accepted: {ty:?}");
            };
            assert_eq!(refused.to_string(), unread.to_string(), "{ty:?}");
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
}

/// A component with functions that return what they are given.
fn identities() -> String {
    let mut functions = String::new();
    let types = [
        ("bool", "i32"),
        ("s8", "i32"),
        ("u8", "i32"),
        ("s16", "i32"),
        ("u16", "i32"),
        ("s32", "i32"),
        ("u32", "i32"),
        ("s64", "i64"),
        ("u64", "i64"),
        ("f32", "f32"),
        ("f64", "f64"),
        ("char", "i32"),
        ("$colour", "i32"),
        ("$rights", "i32"),
        ("$wrapped", "i64"),
        ("(tuple s16)", "i32"),
        ("(list bool 1)", "i32"),
        ("$outcome", "i32"),
    ];
    for (ty, core) in types {
        let name = ty.trim_matches(['$', '(', ')']).replace(' ', "-").replace("-1", "-one");
        writeln!(
            functions,
            r#"(core module $m-{name} (func (export "f") (param {core}) (result {core}) local.get 0))
               (core instance $i-{name} (instantiate $m-{name}))
               (func $f-{name} (param "x" {ty}) (result {ty}) (canon lift (core func $i-{name} "f")))
               (export "id-{name}" (func $f-{name}))"#
        )
        .expect("writing to a string cannot fail");
    }
    format!(
        r#"(component
  (type $colour' (enum "red" "dark-green")) (export $colour "colour" (type $colour'))
  (type $rights' (flags "read" "write" "run-it")) (export $rights "rights" (type $rights'))
  (type $wrapped' (record (field "big-value" s64))) (export $wrapped "wrapped" (type $wrapped'))
  (type $outcome' (variant (case "won") (case "lost"))) (export $outcome "outcome" (type $outcome'))
  {functions})"#
    )
}

#[test]
fn scalars_are_exact_at_their_extremes_and_refused_beyond() {
    let mut fixture = Fixture::new();
    let module = fixture.runtime.load(&fixture.dir.write_text("id.wasm", &identities())).expect("a module");
    for (name, kept, refused) in [
        ("bool", &["true", "false"][..], &["0", "\"true\"", "null"][..]),
        ("s8", &["-128", "127", "0"], &["-129", "128", "1.5", "1.0", "1e1", "\"1\"", "null", "true"]),
        ("u8", &["0", "255"], &["-1", "256", "0.5"]),
        ("s16", &["-32768", "32767"], &["-32769", "32768"]),
        ("u16", &["0", "65535"], &["-1", "65536"]),
        ("s32", &["-2147483648", "2147483647"], &["-2147483649", "2147483648"]),
        ("u32", &["0", "4294967295"], &["-1", "4294967296"]),
        (
            "s64",
            &["-9223372036854775808", "9223372036854775807", "9007199254740993"],
            &["-9223372036854775809", "9223372036854775808", "1e18"],
        ),
        ("u64", &["0", "18446744073709551615", "18446744073709551614"], &["-1", "18446744073709551616", "1e19"]),
        (
            "f32",
            &["0.1", "-0.0", "3.4028235e+38", "1e-45", "16777216.0", "\"NaN\"", "\"Infinity\"", "\"-Infinity\""],
            &["3.5e38", "-1e39", "\"inf\"", "\"nan\"", "\"1\"", "null"],
        ),
        (
            "f64",
            &["0.1", "-0.0", "1.7976931348623157e+308", "5e-324", "\"NaN\"", "\"Infinity\"", "\"-Infinity\""],
            &["1e309", "-1e999", "\"Nan\""],
        ),
        ("char", &["\"a\"", "\"ü\"", "\"\\n\"", "\"😀\""], &["\"\"", "\"ab\"", "\"\\ud800\"", "97", "null"]),
        ("colour", &["\"red\"", "\"dark-green\""], &["\"blue\"", "0", "\"dark_green\"", "null"]),
        (
            "rights",
            &["[]", "[\"read\",\"run-it\"]", "[\"write\"]"],
            &["[\"own\"]", "[\"read\",\"read\"]", "\"read\"", "{}", "null"],
        ),
        ("wrapped", &["{\"big-value\":-9223372036854775808}"], &["{}", "{\"big\":1}", "1"]),
        ("tuple-s16", &["[-32768]"], &["[]", "[1,2]", "-1"]),
        ("list-bool-one", &["[true]"], &["[]", "[true,true]"]),
        ("outcome", &["\"won\"", "\"lost\""], &["{\"won\":null}", "\"drawn\""]),
    ] {
        for json in kept {
            let name = format!("id-{name}");
            assert_eq!(result(&mut fixture, &module, &name, &format!("[{json}]")), *json, "{name}");
        }
        for json in refused {
            let failed = failure(call(&mut fixture, &module, &format!("id-{name}"), &format!("[{json}]"), "{}"));
            assert_eq!(failed.kind, ErrorKind::BadArguments, "{name} {json}: {}", failed.message);
            assert!(failed.message.starts_with("args[0]"), "{name} {json}: {}", failed.message);
        }
    }
    // Other texts of the same values.
    for (name, json, kept) in [
        ("id-f32", "0.100000001490116", "0.1"),
        ("id-f32", "16777217", "16777216.0"),
        ("id-f64", "1", "1.0"),
        ("id-s8", "-0", "0"),
        ("id-char", "\"\\u00fc\"", "\"ü\""),
        ("id-wrapped", "{\"big_value\":7}", "{\"big-value\":7}"),
        ("id-rights", "[\"write\",\"read\"]", "[\"read\",\"write\"]"),
    ] {
        assert_eq!(result(&mut fixture, &module, name, &format!("[{json}]")), kept, "{name} {json}");
    }
}

#[test]
fn what_would_be_changed_is_refused() {
    let fixture = Fixture::new();
    let module = fixture.runtime.load(&fixture.dir.write_text("id.wasm", &identities())).expect("a module");
    for (name, value, message) in [
        ("u64", "-1", "expected integer from 0 to 18446744073709551615, found number -1"),
        ("s64", "1.5", "expected integer from -9223372036854775808 to 9223372036854775807, found number 1.5"),
        ("rights", r#"["read", "write", "\u0072ead"]"#, r#"expected each one once, found string "read" twice"#),
    ] {
        let signature = Signature::of(module.task(&format!("id-{name}")).expect("a task"));
        let args = Json::parse(&format!("[{value}]")).expect("JSON");
        let refused = signature.check(&args, &Json::empty_object()).expect_err("it is refused");
        assert_eq!(refused.to_string(), format!("args[0]: {message}"));
    }
}
