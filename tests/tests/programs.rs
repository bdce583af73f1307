//! Programs as tasks: what they get as arguments, and how they end.

use std::{fs, path::PathBuf};

use fastworker_tests::{cli, fastworker};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Writes its arguments to stdout, a NUL after each, and exits with the code -1 if it has none but its name.
const PROGRAM: &str = r#"(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (drop (call $sizes (i32.const 0) (i32.const 12)))
    (drop (call $args (i32.const 64) (i32.const 4096)))
    (i32.store (i32.const 8) (i32.const 4096))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))
    (if (i32.eq (i32.load (i32.const 0)) (i32.const 1)) (then (call $exit (i32.const -1))))))"#;

fn program(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name).with_extension("wasm");
    fs::write(&path, wat::parse_str(PROGRAM).expect("the text is WebAssembly")).expect("file written");
    path
}

/// Runs it, and returns its result in JSON.
fn run(folder: &TempDir, name: &str, arguments: &str) -> Value {
    let mut command = fastworker();
    command.arg("dev").arg(program(folder, name)).args(["--json", "--args-json", arguments, "--", name]);
    cli::run(command).json()
}

#[test]
fn a_program_gets_its_arguments_unchanged() {
    let folder = TempDir::new().expect("a folder");
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let result =
        run(&folder, "-x", &format!(r#"["a b", 1E400, 1e2, 12345678901234567890123, {{"a":1,"a":2}}, {deep}]"#));
    let expected = format!("-x\0a b\x001E400\x001e2\x0012345678901234567890123\0{{\"a\":1,\"a\":2}}\0{deep}\0");
    assert_eq!(result["result"], json!(expected), "{result}");
    let refused = run(&folder, "-x", r#"["a", "\ud800"]"#);
    assert_eq!(refused["error_kind"], "bad-arguments", "{refused}");
    assert!(refused["error"].as_str().is_some_and(|error| error.starts_with("args[1]: ")), "{refused}");
}

#[test]
fn every_exit_code_of_a_program_is_a_failure_with_that_code() {
    let result = run(&TempDir::new().expect("a folder"), "ends", "[]");
    assert_eq!(
        (&result["error"], &result["error_kind"]),
        (&json!("the program exited with code 255"), &json!("failed"))
    );
    assert_eq!(result["metadata"], json!({"failure": {"kind": "exit", "details": {"exit_code": 255}}}));
}
