//! Task modules for tests, written as WebAssembly text.
//!
//! Tests of the host must not need a compiler for guests. A [`Guest`] is the smallest module that fulfils the contract;
//! a test defines its functions.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{AttemptId, AttemptResult, Invocation, Module, Reports, Runtime, RuntimeConfig, Slot};
use crate::{
    json::Json,
    task::{Failure, LimitKind, Outcome, Report, TaskId},
};

/// A module with one task. Its functions are WebAssembly text and may call `$log` (level,
/// pointer, length), `$submit` and `$is_cancelled`. They return with `$ok` (pointer, length of the
/// result) or `$err` (case, pointer, length of the message), before which `$describe` sets the kind
/// and the details of the failure (pointer and length of each).
pub(super) struct Guest {
    /// The names of its tasks; each has the schema `{}` and the policy.
    pub(super) names: &'static [&'static str],
    pub(super) policy: &'static str,
    /// The body of `run`; must leave a pointer to its result.
    pub(super) run: &'static str,
    /// More functions and data of the core module.
    pub(super) more: &'static str,
    /// Pages of 64 KiB at the start.
    pub(super) pages: u32,
    /// Further imports.
    pub(super) imports: Imports,
}

/// Imports in addition to the contract's.
#[derive(Clone, Copy, Default)]
pub(super) struct Imports {
    /// Imports of the component, lowered to core functions.
    pub(super) component: &'static str,
    /// These core functions as exports of the core instance `env`.
    pub(super) env: &'static str,
    /// The imports of the core module from `env`.
    pub(super) core: &'static str,
}

/// `$subscribe` (nanoseconds) and `$block`, which wait in the host.
pub(super) const SLEEP: Imports = Imports {
    component: r#"
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $pollable'))
    (export "pollable" (type $pollable (eq $pollable')))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))"#,
    env: r#"(export "subscribe" (func $subscribe)) (export "block" (func $block))"#,
    core: r#"
    (import "env" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "env" "block" (func $block (param i32)))"#,
};

/// `$stderr`, and `$write` (stream, pointer, length, pointer to the result).
pub(super) const PRINT: Imports = Imports {
    component: r#"
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $stream (sub resource)))
    (alias outer 1 $error (type $error'))
    (export "error" (type $error (eq $error')))
    (type $failure' (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $failure (eq $failure')))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $failure)))))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stderr@0.2.0" (instance $stderr
    (alias outer 1 $stream (type $stream'))
    (export "output-stream" (type $stream (eq $stream')))
    (export "get-stderr" (func (result (own $stream))))))
  (core func $stderr (canon lower (func $stderr "get-stderr")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $mem)))"#,
    env: r#"(export "stderr" (func $stderr)) (export "write" (func $write))"#,
    core: r#"
    (import "env" "stderr" (func $stderr (result i32)))
    (import "env" "write" (func $write (param i32 i32 i32 i32)))"#,
};

/// The component, with placeholders for the fields of a [`Guest`].
const TEMPLATE: &str = r#"(component
  (import "fastworker:task/host@1.0.0" (instance $host
    (type $level' (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (type $task' (record (field "name" string) (field "args" string) (field "kwargs" string) (field "options" string)))
    (export "follow-up" (type $task (eq $task')))
    (export "log" (func (param "level" $level) (param "message" string)))
    (export "progress" (func (param "done" u64) (param "total" u64) (param "message" string)))
    (export "is-cancelled" (func (result bool)))
    (export "submit" (func (param "task" $task) (result (result string (error string)))))))
  (core module $memory
    (memory (export "memory") {pages})
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))
  {component}
  (core func $log (canon lower (func $host "log") (memory $mem)))
  (core func $progress (canon lower (func $host "progress") (memory $mem)))
  (core func $is_cancelled (canon lower (func $host "is-cancelled")))
  (core func $submit (canon lower (func $host "submit") (memory $mem) (realloc $realloc)))
  (core module $guest
    (import "env" "memory" (memory {pages}))
    (import "env" "log" (func $log (param i32 i32 i32)))
    (import "env" "progress" (func $progress (param i64 i64 i32 i32)))
    (import "env" "is_cancelled" (func $is_cancelled (result i32)))
    (import "env" "submit" (func $submit (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    {core}
    ;; 0: the result; 64: the result of a host call; 96: texts; 1024: descriptors; 2048: names
    (data (i32.const 96) "42[]{}NaN{panicked at mine.rs:1:2: boom\0a")
    (data (i32.const 1024) "{table}")
    (data (i32.const 2048) "{names}")
    (data (i32.const 3072) "{policy}")
    (func $ok (param i32 i32) (result i32)
      (i32.store8 (i32.const 0) (i32.const 0))
      (i32.store (i32.const 8) (local.get 0)) (i32.store (i32.const 12) (local.get 1))
      (i32.const 0))
    (func $err (param $case i32) (param i32 i32) (result i32)
      (i32.store8 (i32.const 0) (i32.const 1))
      (i32.store8 (i32.const 8) (local.get $case))
      (i32.store (i32.const 16) (local.get 1)) (i32.store (i32.const 20) (local.get 2))
      (i64.store (i32.const 40) (i64.const 1500))
      (i32.const 0))
    (func $describe (param i32 i32 i32 i32)
      (i32.store (i32.const 24) (local.get 0)) (i32.store (i32.const 28) (local.get 1))
      (i32.store (i32.const 32) (local.get 2)) (i32.store (i32.const 36) (local.get 3)))
    (func (export "register") (result i32)
      (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const {count}))
      (i32.const 0))
    (func $run (export "run")
      (param $id i32) (param $id_len i32) (param $name i32) (param $name_len i32) (param $attempt i32)
      (param $deadline i64) (param $args i32) (param $args_len i32) (param $kwargs i32) (param $kwargs_len i32)
      (param $metadata i32) (param $metadata_len i32) (result i32)
      {run})
    {more})
  (core instance $guest (instantiate $guest (with "env" (instance
    (export "memory" (memory $mem)) (export "log" (func $log)) (export "progress" (func $progress))
    (export "is_cancelled" (func $is_cancelled)) (export "submit" (func $submit))
    {env}))))
  (type $descriptor (record
    (field "name" string) (field "documentation" string) (field "schema" string) (field "policy" string)))
  (type $invocation (record
    (field "task-id" string) (field "name" string) (field "attempt" u32) (field "deadline-ms" u64)
    (field "args" string) (field "kwargs" string) (field "metadata" string)))
  (type $task-error (record (field "message" string) (field "kind" string) (field "details" string)))
  (type $retry (record (field "error" $task-error) (field "delay-ms" u64)))
  (type $failure (variant (case "bad-arguments" $task-error) (case "failed" $task-error) (case "try-again-after" $retry)
    (case "give-up" $task-error)))
  (func $register (result (list $descriptor))
    (canon lift (core func $guest "register") (memory $mem)))
  (func $run (param "call" $invocation) (result (result string (error $failure)))
    (canon lift (core func $guest "run") (memory $mem) (realloc $realloc)))
  (instance $tasks
    (export "descriptor" (type $descriptor)) (export "invocation" (type $invocation))
    (export "task-error" (type $task-error)) (export "retry" (type $retry)) (export "failure" (type $failure))
    (export "register" (func $register)) (export "run" (func $run)))
  (export "fastworker:task/tasks@1.0.0" (instance $tasks)))"#;

impl Default for Guest {
    fn default() -> Self {
        Self {
            names: &["t"],
            policy: "{}",
            run: "(call $ok (i32.const 96) (i32.const 2))",
            more: "",
            pages: 1,
            imports: Imports::default(),
        }
    }
}

impl Guest {
    /// A module with this body of `run`.
    pub(super) fn with_run(run: &'static str) -> Self {
        Self { run, ..Self::default() }
    }

    /// The component in the text format.
    fn text(&self) -> String {
        let (table, names) = self.descriptors();
        let (count, pages) = (self.names.len().to_string(), self.pages.to_string());
        let Imports { component, env, core } = self.imports;
        let values = [
            ("{component}", component),
            ("{env}", env),
            ("{core}", core),
            ("{pages}", &pages),
            ("{count}", &count),
            ("{table}", &table),
            ("{names}", &names),
            ("{policy}", self.policy),
            ("{run}", self.run),
            ("{more}", self.more),
        ];
        values.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// The descriptors as `register` returns them, and the names they point to.
    fn descriptors(&self) -> (String, String) {
        let (mut table, mut names) = (String::new(), String::new());
        for name in self.names {
            let policy = self.policy.replace("\\\"", "\"").len();
            // Name, documentation, schema (the `{}` of the texts), policy.
            for (at, length) in [(2048 + names.len(), name.len()), (0, 0), (100, 2), (3072, policy)] {
                let numbers = [at, length].map(|number| u32::try_from(number).expect("a small number"));
                for byte in numbers.into_iter().flat_map(u32::to_le_bytes) {
                    write!(table, "\\{byte:02x}").expect("writing to a string cannot fail");
                }
            }
            names.push_str(name);
        }
        (table, names)
    }
}

/// A directory for one test, removed when it is dropped.
pub(super) struct TestDir(PathBuf);

impl TestDir {
    pub(super) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("fastworker-{}", TaskId::new()));
        std::fs::create_dir(&path).expect("a directory for a test");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file of a test");
        path
    }

    pub(super) fn write_text(&self, name: &str, text: &str) -> PathBuf {
        self.write(name, wat::parse_str(text).expect("WebAssembly text"))
    }

    pub(super) fn write_guest(&self, name: &str, guest: &Guest) -> PathBuf {
        self.write_text(name, &guest.text())
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Records the reports of attempts.
#[derive(Default)]
pub(super) struct RecordedReports(Mutex<Vec<(AttemptId, Report)>>);

impl RecordedReports {
    pub(super) fn take(&self) -> Vec<(AttemptId, Report)> {
        std::mem::take(&mut self.0.lock().expect("no panic while a report was recorded"))
    }
}

impl Reports for RecordedReports {
    fn report(&self, attempt: AttemptId, report: Report) {
        self.0.lock().expect("no panic while a report was recorded").push((attempt, report));
    }
}

/// A runtime, one slot, and the reports of its attempts.
pub(super) struct Fixture {
    pub(super) runtime: Runtime,
    pub(super) slot: Slot,
    pub(super) reports: Arc<RecordedReports>,
    pub(super) dir: TestDir,
}

/// The default configuration, but for one limit.
pub(super) fn limited(kind: LimitKind, limit: u64) -> RuntimeConfig {
    let defaults = RuntimeConfig::default();
    RuntimeConfig { limits: defaults.limits.with(kind, limit), ..defaults }
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(RuntimeConfig::default())
    }

    pub(super) fn with(config: RuntimeConfig) -> Self {
        let runtime = Runtime::new(RuntimeConfig { slots: 1, ..config }).expect("a runtime");
        let reports = Arc::new(RecordedReports::default());
        let slot = runtime.slot(reports.clone());
        Self { runtime, slot, reports, dir: TestDir::new() }
    }

    pub(super) fn load(&self, guest: &Guest) -> Module {
        self.runtime.load(&self.dir.write_guest("guest.wasm", guest)).expect("a module")
    }

    pub(super) fn run(&mut self, module: &Module) -> Outcome {
        self.run_for(module, Duration::from_mins(1))
    }

    pub(super) fn run_for(&mut self, module: &Module, timeout: Duration) -> Outcome {
        run(&mut self.slot, module, "t", timeout).outcome
    }

    /// Runs a guest and returns its outcome with the metadata.
    pub(super) fn run_guest(&mut self, guest: &Guest) -> AttemptResult {
        let module = self.load(guest);
        run(&mut self.slot, &module, "t", Duration::from_mins(1))
    }

    /// Runs a guest that fails.
    pub(super) fn fail(&mut self, guest: &Guest) -> Failure {
        let module = self.load(guest);
        failure(self.run(&module))
    }

    /// The reports so far, as text.
    pub(super) fn take_reports(&self) -> Vec<String> {
        self.reports.take().into_iter().map(|(_, report)| format!("{report:?}")).collect()
    }
}

/// Returns the failure of an attempt.
pub(super) fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failure(failure) => failure,
        other => panic!("expected a failure, not {other:?}"),
    }
}

/// The number of the attempts of [`run`].
pub(super) const ATTEMPT: AttemptId = AttemptId(7);

/// The invocation's metadata in the attempts of [`run`].
pub(super) const METADATA: &str = r#"{"priority":"high"}"#;

/// Runs one attempt without arguments.
pub(super) fn run(slot: &mut Slot, module: &Module, name: &str, timeout: Duration) -> AttemptResult {
    let task_id: TaskId = "T1".parse().expect("a task id");
    let (args, kwargs) = (Json::empty_array(), Json::empty_object());
    let call = Invocation {
        id: ATTEMPT,
        task_id: &task_id,
        name,
        attempt: 1,
        timeout,
        args: &args,
        kwargs: &kwargs,
        metadata: METADATA,
    };
    slot.run(module, &call)
}
