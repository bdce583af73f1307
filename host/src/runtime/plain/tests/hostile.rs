//! Components that violate the canonical ABI on purpose: each attempt ends, and nothing of the host is read or written.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use super::{call, result};
use crate::{
    json::Json,
    runtime::{
        Invocation, Module,
        fixtures::{ATTEMPT, Fixture, failure},
    },
    task::{ErrorKind, TaskId},
};

/// Two pages of memory.
const MEMORY: u32 = 2 << 16;

fn load(fixture: &Fixture, text: &str) -> Module {
    let module = fixture.runtime.load(&fixture.dir.write_text("hostile.wasm", text));
    module.unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A component with `f`, which returns a value of this type: what its core function returns, or leaves at the address
/// that it returns. `types` defines types.
fn returning(types: &str, ty: &str, body: &str, encoding: &str) -> String {
    format!(
        r#"(component
  (core module $m (memory (export "mem") 2) (func (export "f") (result i32) {body}))
  (core instance $i (instantiate $m))
  {types}
  (func $f (result {ty}) (canon lift (core func $i "f") (memory $i "mem") string-encoding={encoding}))
  (export "f" (func $f)))"#
    )
}

/// Stores words at address 0, and returns it.
fn words(words: &[u32]) -> String {
    let mut body = String::new();
    for (index, word) in words.iter().enumerate() {
        write!(body, "(i32.store (i32.const {}) (i32.const {word}))", 4 * index)
            .expect("writing to a string cannot fail");
    }
    body + "(i32.const 0)"
}

/// A component with `f`, which takes a value of this type and returns the first four bytes that it was given an address
/// of, or else 7. `realloc` is the body of its allocator, whose parameters 2 and 3 are alignment and size.
fn taking(ty: &str, core: &str, realloc: &str) -> String {
    format!(
        r#"(component
  (core module $m
    (memory (export "mem") 2)
    (global $free (mut i32) (i32.const 64))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
    (func (export "f") (param {core}) (result i32)
      (if (result i32) (i32.lt_u (local.get 0) (i32.mul (memory.size) (i32.const 65536)))
        (then (i32.load (local.get 0))) (else (i32.const 7)))))
  (core instance $i (instantiate $m))
  (func $f (param "x" {ty}) (result u32)
    (canon lift (core func $i "f") (memory $i "mem") (realloc (func $i "realloc"))))
  (export "f" (func $f)))"#
    )
}

#[test]
fn cases_that_a_type_does_not_have_are_traps() {
    let mut fixture = Fixture::new();
    let many = (0..300).map(|case| format!("(case \"c{case}\")")).collect::<Vec<_>>().join(" ");
    let many = format!(r#"(type $v' (variant {many} (case "last" u8))) (export $v "v" (type $v'))"#);
    let unit = r#"(type $v' (variant (case "a") (case "b"))) (export $v "v" (type $v'))"#;
    let payload = r#"(type $v' (variant (case "a" u8) (case "b" string))) (export $v "v" (type $v'))"#;
    let list = |item: u32| words(&[16, 2, 0, 0, item, 0]);
    for (types, ty, body) in [
        (unit, "$v", "(i32.const 2)".to_owned()),
        (unit, "$v", "(i32.const 256)".to_owned()),
        (unit, "$v", "(i32.const -1)".to_owned()),
        ("", "(result)", "(i32.const 2)".to_owned()),
        ("", "(result)", "(i32.const 0x100)".to_owned()),
        ("", "(result (error u8))", words(&[2])),
        ("", "(result u64 (error u8))", words(&[0xff])),
        (payload, "$v", words(&[2])),
        (many.as_str(), "$v", words(&[301])),
        (many.as_str(), "$v", words(&[0xffff])),
        (unit, "(list $v)", list(2)),
        ("", "(list (option u8))", list(2)),
        ("", "(list (option (option u8)))", words(&[16, 1, 0, 0, 0x0201])),
        ("", "(tuple u8 (option u32))", words(&[0, 255])),
        ("", "(list (result (error char)))", words(&[16, 1, 0, 0, 1, 0xdfff])),
        ("", "char", "(i32.const 0x110000)".to_owned()),
        ("", "(list char)", words(&[16, 1, 0, 0, 0xd800])),
    ] {
        let module = load(&fixture, &returning(types, ty, &body, "utf8"));
        let failed = failure(call(&mut fixture, &module, "f", "[]", "{}"));
        assert_eq!(failed.kind, ErrorKind::Trap, "{ty} {body}: {}", failed.message);
    }
    // What the canonical ABI ignores or reads as true.
    let flags = r#"(type $v' (flags "a" "b" "c")) (export $v "v" (type $v'))"#;
    for (types, ty, body, read) in [
        (flags, "$v", "(i32.const 0xfffffffa)".to_owned(), r#"["b"]"#),
        (flags, "(list $v)", words(&[16, 2, 0, 0, 0xfff8, 0]), r#"[[],["a","b","c"]]"#),
        ("", "bool", "(i32.const 0x100)".to_owned(), "true"),
        ("", "(list bool)", words(&[16, 4, 0, 0, 0xff02_0100]), "[false,true,true,true]"),
        ("", "u8", "(i32.const 0x1ff)".to_owned(), "255"),
        ("", "s16", "(i32.const 0x18000)".to_owned(), "-32768"),
        (many.as_str(), "$v", words(&[0x0007_012c]), r#"{"last":7}"#),
    ] {
        let module = load(&fixture, &returning(types, ty, &body, "utf8"));
        assert_eq!(result(&mut fixture, &module, "f", "[]"), read, "{ty} {body}");
    }
}

#[test]
fn results_outside_of_the_memory_of_the_guest_are_traps() {
    let mut fixture = Fixture::new();
    let at = |address: u32| format!("(i32.const {})", address.cast_signed());
    let (end, most, tag) = (MEMORY, u32::MAX, 1 << 31);
    for (ty, encoding, body) in [
        ("(tuple u32 u32)", "utf8", at(end - 4)),
        ("(tuple u32 u32)", "utf8", at(end)),
        ("(tuple u32 u32)", "utf8", at(most - 3)),
        ("(tuple u32 u32)", "utf8", at(2)),
        ("(tuple u64 u8)", "utf8", at(4)),
        ("string", "utf8", words(&[end, 1])),
        ("string", "utf8", words(&[most, most])),
        ("string", "utf8", words(&[end - 1, 2])),
        ("string", "utf16", words(&[1, 1])),
        ("string", "utf16", words(&[end - 2, 2])),
        ("string", "utf16", words(&[0, tag])),
        ("string", "latin1+utf16", words(&[1, 1])),
        ("string", "latin1+utf16", words(&[end - 2, tag | 2])),
        ("string", "latin1+utf16", words(&[0, most])),
        ("(list u8)", "utf8", words(&[end, 1])),
        ("(list u8)", "utf8", words(&[end + 1, 0])),
        ("(list u8)", "utf8", words(&[most, 0])),
        ("(list u8)", "utf8", words(&[0, most])),
        ("(list u64)", "utf8", words(&[4, 0])),
        ("(list u64)", "utf8", words(&[0, 1 << 29])),
        ("(list (tuple u64 u64 u64 u64))", "utf8", words(&[0, most])),
        ("(list (list u8))", "utf8", words(&[8, 2, 0, 1, end - 1, 2])),
        ("(list string)", "utf8", words(&[8, 1, most, 16])),
        ("(option (list u32))", "utf8", words(&[1, 2, 1])),
        ("(result (list u8) (error string))", "utf8", words(&[1, end, 1])),
    ] {
        let module = load(&fixture, &returning("", ty, &body, encoding));
        let failed = failure(call(&mut fixture, &module, "f", "[]", "{}"));
        let expected = matches!(failed.kind, ErrorKind::Trap | ErrorKind::ResultLimit);
        assert!(expected, "{ty} {encoding} {body}: {:?} {}", failed.kind, failed.message);
    }
    // Nothing, at the end of memory.
    let module = load(&fixture, &returning("", "(list u8)", &words(&[end, 0]), "utf8"));
    assert_eq!(result(&mut fixture, &module, "f", "[]"), "\"\"");
}

#[test]
fn strings_that_are_not_of_their_encoding_are_traps() {
    let mut fixture = Fixture::new();
    for (encoding, length, content) in [
        ("utf8", 1, 0xff),
        ("utf8", 2, 0x80c0),
        ("utf8", 3, 0x0080_a0ed),
        ("utf16", 1, 0xd800),
        ("utf16", 2, 0xd83d_de00),
        ("latin1+utf16", 1 << 31 | 1, 0xdc00),
    ] {
        let text = returning("", "string", &words(&[8, length, content]), encoding);
        let module = load(&fixture, &text);
        let failed = failure(call(&mut fixture, &module, "f", "[]", "{}"));
        assert_eq!(failed.kind, ErrorKind::Trap, "{encoding}: {}", failed.message);
    }
    let module = load(&fixture, &returning("", "string", &words(&[8, 2, 0x41fc]), "latin1+utf16"));
    assert_eq!(result(&mut fixture, &module, "f", "[]"), "\"üA\"");
}

#[test]
fn a_small_memory_cannot_make_a_result_without_end() {
    let mut fixture = Fixture::new();
    // 4,000 lists that are all the same 4,000 lists, which are all the same 64 KiB.
    let nested = r"(local $at i32)
      (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 4000))
      (local.set $at (i32.const 1024))
      (loop $more
        (i32.store (local.get $at) (i32.const 65536)) (i32.store offset=4 (local.get $at) (i32.const 4000))
        (i32.store offset=64512 (local.get $at) (i32.const 0)) (i32.store offset=64516 (local.get $at) (i32.const 65536))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $more (i32.lt_u (local.get $at) (i32.const 33024))))
      (i32.const 0)";
    for ty in ["(list (list string))", "(list (list (list u8)))", "(list (list (list bool)))"] {
        let module = load(&fixture, &returning("", ty, nested, "latin1+utf16"));
        let start = Instant::now();
        let failed = failure(call(&mut fixture, &module, "f", "[]", "{}"));
        assert_eq!(failed.kind, ErrorKind::ResultLimit, "{ty}: {}", failed.message);
        assert!(start.elapsed() < Duration::from_secs(10), "{ty} took {:?}", start.elapsed());
    }
}

#[test]
fn an_allocator_may_return_any_address() {
    let mut fixture = Fixture::new();
    let (lists, text) = ("[[[1,2],[3]]]", r#"["abcd"]"#);
    let wide = format!("[[{}]]", vec!["7"; 17].join(","));
    let tuple = format!("(tuple {})", vec!["u32"; 17].join(" "));
    let at = |address: u32| format!("(i32.const {})", address.cast_signed());
    for (ty, core, args) in
        [("(list (list u32))", "i32 i32", lists), ("string", "i32 i32", text), (tuple.as_str(), "i32", wide.as_str())]
    {
        for address in [MEMORY, MEMORY - 1, MEMORY - 3, u32::MAX, u32::MAX - 3] {
            let module = load(&fixture, &taking(ty, core, &at(address)));
            let failed = failure(call(&mut fixture, &module, "f", args, "{}"));
            assert_eq!(failed.kind, ErrorKind::Trap, "{ty} {address}: {}", failed.message);
        }
        let module = load(&fixture, &taking(ty, core, "unreachable"));
        assert_eq!(failure(call(&mut fixture, &module, "f", args, "{}")).kind, ErrorKind::Trap, "{ty}");
        // Every block at one place: what the guest reads there is its matter.
        let module = load(&fixture, &taking(ty, core, "(i32.const 0)"));
        let _ = result(&mut fixture, &module, "f", args);
    }
    for ty in ["(list u32)", "(list (list u32))"] {
        let module = load(&fixture, &taking(ty, "i32 i32", &at(2)));
        let args = if ty == "(list u32)" { "[[1]]" } else { lists };
        let failed = failure(call(&mut fixture, &module, "f", args, "{}"));
        assert!(failed.message.contains("not aligned"), "{ty}: {}", failed.message);
    }
}

#[test]
fn arguments_are_complete_when_memory_moves_while_they_are_passed() {
    let mut fixture = Fixture::new();
    // Each block is at the end of memory, which grows for it.
    let grow = "(i32.mul (memory.grow (i32.const 300)) (i32.const 65536))";
    let module = load(&fixture, &taking("(list (list u32))", "i32 i32", grow));
    // The list of lists starts with the address of the first list, which is the next block.
    let first = result(&mut fixture, &module, "f", "[[[9],[8]]]");
    assert_eq!(first, (u64::from(MEMORY) + (300 << 16)).to_string());
    let module = load(&fixture, &taking("(list u32)", "i32 i32", grow));
    assert_eq!(result(&mut fixture, &module, "f", "[[4294967295]]"), "4294967295");
    let module = load(&fixture, &taking("string", "i32 i32", grow));
    assert_eq!(result(&mut fixture, &module, "f", r#"["abcd"]"#), u32::from_le_bytes(*b"abcd").to_string());
}

#[test]
fn an_allocator_without_end_is_a_timeout() {
    let mut fixture = Fixture::new();
    let module = load(&fixture, &taking("string", "i32 i32", "(loop $again (br $again)) unreachable"));
    let task_id: TaskId = "T1".parse().expect("a task id");
    let (args, kwargs) = (Json::parse(r#"["x"]"#).expect("JSON"), Json::empty_object());
    let call = Invocation {
        id: ATTEMPT,
        task_id: &task_id,
        name: "f",
        attempt: 1,
        timeout: Duration::from_millis(200),
        args: &args,
        kwargs: &kwargs,
        metadata: "{}",
    };
    assert_eq!(failure(fixture.slot.run(&module, &call).outcome).kind, ErrorKind::Timeout);
}
