//! Small task modules of which a test needs many versions, written as WebAssembly text.
//!
//! The modules of [`crate::modules`] are compiled from sources instead.

use std::fmt::Write as _;

/// A module with one task, which always returns the same result.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its task name.
    pub task: String,
    /// The names of its parameters, all required.
    pub parameters: Vec<String>,
    /// Its result, as JSON.
    pub result: String,
    /// Number of steps before it returns; a million take about a millisecond.
    pub steps: u32,
    /// More functions of its core module, as text.
    pub more: String,
}

impl Guest {
    /// A task without parameters.
    pub fn new(task: &str, result: &str) -> Self {
        Self { task: task.to_owned(), parameters: Vec::new(), result: result.to_owned(), steps: 0, more: String::new() }
    }

    /// The same, with these parameters.
    #[must_use]
    pub fn with_parameters(self, parameters: &[&str]) -> Self {
        Self { parameters: parameters.iter().map(ToString::to_string).collect(), ..self }
    }

    /// The same, taking a number of steps.
    #[must_use]
    pub fn steps(self, steps: u32) -> Self {
        Self { steps, ..self }
    }

    /// The same, whose start never ends.
    #[must_use]
    pub fn with_endless_start(self) -> Self {
        Self { more: "(func $start (loop $again (br $again))) (start $start)".into(), ..self }
    }

    /// The same, with one function that is hard to compile: a number of values that are all alive over as many branches.
    /// 20,000 values take 690 KB of code, 8 GB of memory and a minute.
    #[must_use]
    pub fn dense(self, values: usize) -> Self {
        let mut text = String::from("(func (param i32) (result i64) (local");
        text += &" i64".repeat(values);
        text += ")";
        let write = "text takes all";
        for value in 0..values {
            let local = value + 1;
            write!(text, "(local.set {local} (i64.extend_i32_u (i32.add (local.get 0) (i32.const {value}))))")
                .expect(write);
        }
        for value in 0..values {
            let [local, one, other] = [1, 7, 13].map(|step| 1 + value * step % values);
            let bit = 1_u32 << (value % 31);
            write!(
                text,
                "(if (i32.and (local.get 0) (i32.const {bit})) (then (local.set {local} (i64.mul (local.get {one}) (local.get {other})))))"
            )
            .expect(write);
        }
        text += "(i64.const 0)";
        for local in 1..=values {
            write!(text, "(i64.add (local.get {local}))").expect(write);
        }
        Self { more: text + ")", ..self }
    }

    /// The same, with a number of functions of some size.
    #[must_use]
    pub fn functions(self, count: usize) -> Self {
        let function = |number: usize| {
            let mut text = String::from("(func (param i32 i64) (result i64) (local i64)");
            for step in 0..12 {
                write!(
                    text,
                    "(if (i32.and (local.get 0) (i32.const {})) (then (local.set 2 (i64.add (local.get 2) (i64.rotl (local.get 1) (i64.const {})))) (i64.store offset={} (i32.const 60000) (local.get 2))))",
                    1 << step,
                    number % 61 + step,
                    number % 500 * 8
                )
                .expect("write to a string");
            }
            text + "(i64.add (local.get 1) (local.get 2)))"
        };
        Self { more: (0..count).map(function).collect(), ..self }
    }

    /// The file.
    ///
    /// # Panics
    /// When it is not valid WebAssembly text.
    pub fn bytes(&self) -> Vec<u8> {
        wat::parse_str(self.text()).expect("WebAssembly text")
    }

    /// The descriptor table and the strings of the data segments, and the address of the result.
    fn data(&self) -> (String, String, usize) {
        let parameters = self.parameters.iter().map(|name| format!(r#"{{"name":"{name}","required":true}}"#));
        let schema = format!(r#"{{"parameters":[{}]}}"#, parameters.collect::<Vec<_>>().join(","));
        // Name, documentation, schema and policy; the result follows them.
        let strings = [self.task.as_str(), "", &schema, "{}"];
        let (mut table, mut at) = (String::new(), 2048);
        for string in strings {
            for number in [at, string.len()] {
                table += &escaped(&u32::try_from(number).expect("small number").to_le_bytes());
            }
            at += string.len();
        }
        (table, escaped([strings.concat().as_str(), &self.result].concat().as_bytes()), at)
    }

    fn text(&self) -> String {
        let Self { result, steps, more, .. } = self;
        let (table, data, at) = self.data();
        let length = result.len();
        format!(
            r#"(component
  (core module $guest
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 32768))
    (data (i32.const 1024) "{table}")
    (data (i32.const 2048) "{data}")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "register") (result i32)
      (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1))
      (i32.const 0))
    (func (export "run")
      (param i32 i32 i32 i32 i32) (param i64) (param i32 i32 i32 i32 i32 i32) (result i32)
      (local $left i32)
      (local.set $left (i32.const {steps}))
      (block $done (loop $more
        (br_if $done (i32.eqz (local.get $left)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $more)))
      (i32.store8 (i32.const 0) (i32.const 0))
      (i32.store (i32.const 8) (i32.const {at})) (i32.store (i32.const 12) (i32.const {length}))
      (i32.const 0))
    {more})
  (core instance $guest (instantiate $guest))
  (alias core export $guest "memory" (core memory $mem))
  (alias core export $guest "realloc" (core func $realloc))
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
  (export "fastworker:task/tasks@1.0.0" (instance $tasks)))"#
        )
    }
}

/// Bytes as WebAssembly text writes them.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "\\{byte:02x}").expect("write to a string");
        text
    })
}
