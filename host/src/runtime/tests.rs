//! End-to-end tests of attempts and modules, with small guests.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    AttemptId, AttemptResult, Catalog, Invocation, Reports, RuntimeConfig, Slot, SourceError, Stopper, expand,
    fixtures::{ATTEMPT, Fixture, Guest, Imports, METADATA, PRINT, SLEEP, TestDir, failure, limited, run},
};
use crate::{
    json::Json,
    task::{ErrorKind, FollowUp, LimitKind, Outcome, Policy, Report, TaskId},
};

/// Never returns.
const SPIN: &str = "(loop $again (br $again)) (unreachable)";

fn succeeds(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Success { result, .. } if result.as_str() == "42")
}

#[test]
fn a_module_registers_its_tasks_and_runs_them() {
    let mut fixture = Fixture::new();
    let guest = Guest { policy: r#"{\"timeout\": \"5s\", \"colour\": 1}"#, names: &["t", "u"], ..Guest::default() };
    let module = fixture.load(&guest);
    let info = module.info();
    assert_eq!((info.name.as_str(), info.engine.as_str(), info.tasks.len()), ("guest", "pooling", 2));
    assert_eq!(info.imports, ["fastworker:task/host@1.0.0"]);
    let task = module.task("u").expect("the second task");
    assert_eq!(task.policy, Policy { timeout: Some(Duration::from_secs(5)), ..Policy::default() });
    assert_eq!(task.warnings, ["policy has the unknown key 'colour'"]);
    let result = Json::parse("42").expect("JSON");
    assert_eq!(fixture.run(&module), Outcome::Success { result, follow_ups: vec![] });
    let unknown = failure(run(&mut fixture.slot, &module, "v", Duration::from_mins(1)).outcome);
    assert_eq!(unknown.kind, ErrorKind::NotFound);
}

#[test]
fn an_attempt_does_not_affect_the_next() {
    let mut fixture = Fixture::new();
    let once = "(if (i32.load8_u (i32.const 512)) (then (unreachable))) (i32.store8 (i32.const 512) (i32.const 1))
      (call $ok (i32.const 96) (i32.const 2))";
    let module = fixture.load(&Guest::with_run(once));
    assert!((0..3).all(|_| succeeds(&fixture.run(&module))));
}

#[test]
fn a_trap_has_the_guests_last_error_and_a_backtrace() {
    let mut fixture = Fixture::new();
    let panic = "(call $log (i32.const 4) (i32.const 106) (i32.const 29)) (call $inner)";
    let guest = Guest { run: panic, more: "(func $inner (result i32) (unreachable))", ..Guest::default() };
    let failure = fixture.fail(&guest);
    assert_eq!(failure.kind, ErrorKind::Trap);
    assert_eq!(failure.message, "panicked at mine.rs:1:2: boom\nwasm trap: unreachable\n  0: inner\n  1: run");
    let module = fixture.load(&Guest::default());
    assert!(succeeds(&fixture.run(&module)), "the slot still works");
}

#[test]
fn an_endless_loop_ends_at_its_timeout() {
    let mut fixture = Fixture::new();
    let module = fixture.load(&Guest::with_run(SPIN));
    let failure = failure(fixture.run_for(&module, Duration::from_millis(50)));
    assert_eq!((failure.kind, failure.message.as_str()), (ErrorKind::Timeout, "Task timed out after 0.05s"));
}

#[test]
fn a_wait_in_the_host_ends_at_its_timeout() {
    let mut fixture = Fixture::new();
    let a_day = "(call $block (call $subscribe (i64.const 86400000000000))) (unreachable)";
    let module = fixture.load(&Guest { imports: SLEEP, ..Guest::with_run(a_day) });
    let failure = failure(fixture.run_for(&module, Duration::from_millis(50)));
    assert_eq!(failure.kind, ErrorKind::Timeout);
    let spins = fixture.load(&Guest { imports: SLEEP, ..Guest::with_run(SPIN) });
    assert_eq!(super::fixtures::failure(fixture.run_for(&spins, Duration::from_millis(50))).kind, ErrorKind::Timeout);
    let a_microsecond = "(call $block (call $subscribe (i64.const 1000))) (call $ok (i32.const 96) (i32.const 2))";
    let module = fixture.load(&Guest { imports: SLEEP, ..Guest::with_run(a_microsecond) });
    assert!(succeeds(&fixture.run(&module)));
}

/// Stops an attempt as soon as one reports something.
struct StopAtReport {
    stopper: OnceLock<Stopper>,
    attempt: AttemptId,
    found: OnceLock<bool>,
}

impl Reports for StopAtReport {
    fn report(&self, _attempt: AttemptId, _report: Report) {
        let stopper = self.stopper.get().expect("a stopper");
        self.found.set(stopper.stop(self.attempt)).expect("one report");
    }
}

fn stop_at_report(attempt: AttemptId, then: &'static str) -> (Outcome, bool) {
    let fixture = Fixture::new();
    let reports = Arc::new(StopAtReport { stopper: OnceLock::new(), attempt, found: OnceLock::new() });
    let mut slot = fixture.runtime.slot(reports.clone());
    reports.stopper.set(slot.stopper()).expect("the only stopper");
    let module = fixture.load(&Guest::with_run(then));
    let AttemptResult { outcome, .. } = run(&mut slot, &module, "t", Duration::from_mins(1));
    assert!(!slot.stopper().stop(ATTEMPT), "it has ended");
    (outcome, *reports.found.get().expect("a report"))
}

#[test]
fn a_running_attempt_can_be_stopped() {
    let spin = "(call $log (i32.const 2) (i32.const 96) (i32.const 2)) (loop $again (br $again)) (unreachable)";
    assert_eq!(stop_at_report(ATTEMPT, spin), (Outcome::Stopped, true));
    let polite = "(call $log (i32.const 2) (i32.const 96) (i32.const 2))
      (loop $again (br_if $again (i32.eqz (call $is_cancelled)))) (call $ok (i32.const 96) (i32.const 2))";
    assert_eq!(stop_at_report(ATTEMPT, polite), (Outcome::Stopped, true));
}

#[test]
fn stopping_another_attempt_does_nothing() {
    let ok = "(call $log (i32.const 2) (i32.const 96) (i32.const 2)) (call $ok (i32.const 96) (i32.const 2))";
    let (outcome, found) = stop_at_report(AttemptId(ATTEMPT.0 + 1), ok);
    assert!(succeeds(&outcome) && !found);
}

#[test]
fn memory_beyond_the_limit_is_refused() {
    let mut fixture = Fixture::with(limited(LimitKind::Memory, 1 << 20));
    let grow = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (unreachable)";
    let failure = fixture.fail(&Guest::with_run(grow));
    assert_eq!(failure.kind, ErrorKind::OutOfMemory);
    assert!(failure.message.starts_with("out of memory: using 1 MiB, requested 64 KiB more, limit 1 MiB\n"));
    let recover = "(drop (memory.grow (i32.const 1000))) (call $ok (i32.const 96) (i32.const 2))";
    let recovers = fixture.load(&Guest::with_run(recover));
    assert!(succeeds(&fixture.run(&recovers)), "a guest may handle a refusal");
}

#[test]
fn an_infinite_recursion_is_a_stack_overflow() {
    let mut fixture = Fixture::new();
    let more = "(func $deep (result i32) (i32.add (call $deep) (i32.const 1)))";
    let failure = fixture.fail(&Guest { more, ..Guest::with_run("(call $deep)") });
    assert_eq!(failure.kind, ErrorKind::StackOverflow);
    assert_eq!(failure.message, "stack overflow: it calls itself too deeply\n  0: deep (20 times)\n  …");
    // A guest that keeps its stack in memory runs out of that first.
    let more = "(func $deep (param i32) (result i32)
      (i32.store (local.get 0) (i32.const 1)) (i32.add (call $deep (i32.sub (local.get 0) (i32.const 64))) (i32.const 1)))";
    let failure = fixture.fail(&Guest { more, ..Guest::with_run("(call $deep (i32.const 65000))") });
    assert_eq!(failure.kind, ErrorKind::StackOverflow);
}

#[test]
fn a_result_must_be_one_json_document() {
    let mut fixture = Fixture::new();
    let broken = fixture.fail(&Guest::with_run("(call $ok (i32.const 105) (i32.const 1))"));
    assert_eq!(broken.kind, ErrorKind::Failed);
    assert!(broken.message.starts_with("the module returned no JSON document: not a JSON document"), "{broken:?}");
    let nan = fixture.fail(&Guest::with_run("(call $ok (i32.const 102) (i32.const 3))"));
    assert!(nan.message.ends_with("JSON has no NaN or Infinity: send null or a string instead"));
    let mut small = Fixture::with(limited(LimitKind::Result, 1));
    let large = small.fail(&Guest::default());
    assert_eq!(large.kind, ErrorKind::ResultLimit);
    assert_eq!(large.message, "returned a result of 2 bytes: the limit is 1 bytes");
}

#[test]
fn a_result_beyond_the_hostcall_limit_is_too_large() {
    // The second exceeds what one call may pass to the host; the message is almost the same.
    let config = limited(LimitKind::Result, 1 << 20);
    let mut fixture = Fixture::with(config);
    for (bytes, words) in [(1_100_000, "returned a result of 1 MiB"), (3 << 20, "returned a result of more than 2 MiB")]
    {
        let run = format!("(call $ok (i32.const 4096) (i32.const {bytes}))");
        let large = fixture.fail(&Guest { pages: 64, ..Guest::with_run(run.leak()) });
        assert_eq!(large.kind, ErrorKind::ResultLimit, "{large:?}");
        assert_eq!(large.message, format!("{words}: the limit is 1 MiB"));
    }
}

#[test]
fn a_guest_may_hold_as_many_handles_as_documented() {
    let mut fixture = Fixture::new();
    let held = |count: u32| {
        format!(
            "(local $n i32)
             (loop $again
               (drop (call $subscribe (i64.const 1)))
               (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {count}))))
             (call $ok (i32.const 96) (i32.const 2))"
        )
    };
    let module = fixture.load(&Guest { imports: SLEEP, ..Guest::with_run(held(10_000).leak()) });
    let ended = fixture.run(&module);
    assert!(succeeds(&ended), "{ended:?}");
    let failure = fixture.fail(&Guest { imports: SLEEP, ..Guest::with_run(held(10_001).leak()) });
    assert_eq!(failure.kind, ErrorKind::Trap, "{failure:?}");
    assert!(failure.message.contains("handle"), "{failure:?}");
}

#[test]
fn the_failure_that_a_guest_reports_keeps_its_message_and_delay() {
    let mut fixture = Fixture::new();
    let bad = fixture.fail(&Guest::with_run("(call $err (i32.const 0) (i32.const 96) (i32.const 2))"));
    assert_eq!((bad.kind, bad.message.as_str(), bad.retry_after), (ErrorKind::BadArguments, "42", None));
    let failed = fixture.fail(&Guest::with_run("(call $err (i32.const 1) (i32.const 96) (i32.const 2))"));
    assert_eq!((failed.kind, failed.retry_after), (ErrorKind::Failed, None));
    let later = fixture.fail(&Guest::with_run("(call $err (i32.const 2) (i32.const 96) (i32.const 2))"));
    assert_eq!((later.kind, later.retry_after), (ErrorKind::Failed, Some(Duration::from_millis(1500))));
    let gave_up = fixture.fail(&Guest::with_run("(call $err (i32.const 3) (i32.const 96) (i32.const 2))"));
    assert_eq!((gave_up.kind, gave_up.message.as_str(), gave_up.retry_after), (ErrorKind::GaveUp, "42", None));
    let broken = fixture.fail(&Guest::with_run("(call $ok (i32.const 96) (i32.const -1))"));
    assert_eq!(broken.kind, ErrorKind::Trap);
}

#[test]
fn the_kind_and_details_of_a_failure_become_metadata() {
    let mut fixture = Fixture::new();
    let described = fixture.run_guest(&Guest::with_run(
        "(call $describe (i32.const 106) (i32.const 8) (i32.const 98) (i32.const 2))
         (call $err (i32.const 3) (i32.const 96) (i32.const 2))",
    ));
    let metadata = described.metadata.expect("metadata");
    assert_eq!(metadata.as_str(), r#"{"failure":{"kind":"panicked","details":[]}}"#);
    assert_eq!(failure(described.outcome).kind, ErrorKind::GaveUp);
    let invalid = fixture.run_guest(&Guest::with_run(
        "(call $describe (i32.const 96) (i32.const 0) (i32.const 105) (i32.const 1))
         (call $err (i32.const 1) (i32.const 96) (i32.const 2))",
    ));
    assert_eq!((invalid.metadata, failure(invalid.outcome).message.as_str()), (None, "42"));
    let reports = fixture.take_reports();
    let [warning] = reports.as_slice() else { panic!("expected one warning, not {reports:?}") };
    assert!(warning.contains("the failure's details were dropped"), "{warning}");
}

#[test]
fn a_guest_gets_the_metadata_of_its_invocation() {
    let mut fixture = Fixture::new();
    let echo = fixture.run_guest(&Guest::with_run("(call $ok (local.get $metadata) (local.get $metadata_len))"));
    assert!(matches!(&echo.outcome, Outcome::Success { result, .. } if result.as_str() == METADATA), "{echo:?}");
}

#[test]
fn infinite_logging_is_stopped() {
    let mut fixture = Fixture::with(limited(LimitKind::Log, 1000));
    let flood = "(loop $again (call $log (i32.const 2) (i32.const 96) (i32.const 2)) (br $again)) (unreachable)";
    let failure = fixture.fail(&Guest::with_run(flood));
    assert_eq!((failure.kind, failure.message.as_str()), (ErrorKind::LogLimit, "logged more than 1000 bytes"));
    assert_eq!(fixture.take_reports().len(), 1000 / (2 + 32));
}

#[test]
fn printed_lines_are_logged() {
    let mut fixture = Fixture::new();
    let print = "(call $write (call $stderr) (i32.const 106) (i32.const 30) (i32.const 64))
      (call $write (call $stderr) (i32.const 106) (i32.const 8) (i32.const 64))
      (call $ok (i32.const 96) (i32.const 2))";
    let module = fixture.load(&Guest { imports: PRINT, ..Guest::with_run(print) });
    assert!(succeeds(&fixture.run(&module)));
    let lines = [
        r#"Log { level: Error, message: "panicked at mine.rs:1:2: boom" }"#,
        r#"Log { level: Error, message: "panicked" }"#,
    ];
    assert_eq!(fixture.take_reports(), lines);
    let flood = "(local $stream i32) (local.set $stream (call $stderr))
      (loop $again (call $write (local.get $stream) (i32.const 106) (i32.const 30) (i32.const 64)) (br $again)) (unreachable)";
    assert_eq!(fixture.fail(&Guest { imports: PRINT, ..Guest::with_run(flood) }).kind, ErrorKind::OutputLimit);
}

#[test]
fn follow_up_tasks_are_part_of_the_outcome() {
    let mut fixture = Fixture::with(RuntimeConfig { follow_ups_max: 1, ..RuntimeConfig::default() });
    // The second has an object where an array belongs, the third is one too many.
    let submit = "
      (call $submit (i32.const 96) (i32.const 2) (i32.const 98) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then (unreachable)))
      (call $submit (i32.const 96) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 64))
      (if (i32.eqz (i32.load8_u (i32.const 64))) (then (unreachable)))
      (call $submit (i32.const 96) (i32.const 2) (i32.const 98) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 64))
      (if (i32.eqz (i32.load8_u (i32.const 64))) (then (unreachable)))
      (call $ok (i32.const 96) (i32.const 2))";
    let module = fixture.load(&Guest::with_run(submit));
    let Outcome::Success { follow_ups, .. } = fixture.run(&module) else { panic!("expected a success") };
    let expected = FollowUp {
        name: "42".to_owned(),
        args: Json::empty_array(),
        kwargs: Json::empty_object(),
        policy: Policy::default(),
        countdown: None,
        metadata: Json::empty_object(),
    };
    assert_eq!(follow_ups, [expected]);
}

#[test]
fn loading_has_the_same_limits_as_running() {
    let limits = limited(LimitKind::Memory, 1 << 20);
    let hasty = Fixture::with(RuntimeConfig { register_timeout: Duration::from_millis(50), ..limits.clone() });
    let fixture = Fixture::with(limits);
    let refused = |fixture: &Fixture, guest: &Guest| {
        let path = fixture.dir.write_guest("refused.wasm", guest);
        fixture.runtime.load(&path).expect_err("a module that cannot be used").to_string()
    };
    let spins =
        refused(&hasty, &Guest { more: "(func $spin (loop $again (br $again))) (start $spin)", ..Guest::default() });
    assert!(spins.ends_with("did not register its tasks within 0.05 s"), "{spins}");
    let hog = refused(&fixture, &Guest { pages: 17, ..Guest::default() });
    assert!(hog.ends_with("out of memory: using 0 bytes, requested 1 MiB more, limit 1 MiB"), "{hog}");
    let traps = refused(&fixture, &Guest { more: "(func $trap (unreachable)) (start $trap)", ..Guest::default() });
    assert!(traps.contains("failed while it registered its tasks: wasm trap: unreachable"), "{traps}");
}

#[test]
fn a_task_is_limited_to_what_it_declares() {
    let mut fixture = Fixture::new();
    let log = "(call $log (i32.const 2) (i32.const 96) (i32.const 2)) (call $log (i32.const 2) (i32.const 96) (i32.const 2)) (unreachable)";
    let print = "(call $write (call $stderr) (i32.const 106) (i32.const 30) (i32.const 64)) (unreachable)";
    let a_day = "(call $block (call $subscribe (i64.const 86400000000000))) (unreachable)";
    let three_waits = "(call $block (call $subscribe (i64.const 30000000)))
      (call $block (call $subscribe (i64.const 30000000)))
      (call $block (call $subscribe (i64.const 30000000))) (unreachable)";
    let grow = "(if (i32.eq (memory.grow (i32.const 40)) (i32.const -1)) (then (unreachable))) (unreachable)";
    let large = "(call $ok (i32.const 4096) (i32.const 1100000))";
    let plain = Guest::default;
    let cases = [
        (r#"{\"max_cpu_time\": 0.05}"#, plain(), SPIN, "cpu-time-limit: used more than 0.05 s of CPU time"),
        (
            r#"{\"max_cpu_time\": 0.05}"#,
            Guest { imports: SLEEP, ..plain() },
            SPIN,
            "cpu-time-limit: used more than 0.05 s of CPU time",
        ),
        (
            r#"{\"max_host_time\": 0.05}"#,
            Guest { imports: SLEEP, ..plain() },
            a_day,
            "host-time-limit: waited more than 0.05 s in calls of the host",
        ),
        (
            r#"{\"max_host_time\": \"70ms\"}"#,
            Guest { imports: SLEEP, ..plain() },
            three_waits,
            "host-time-limit: waited more than 0.07 s in calls of the host",
        ),
        (r#"{\"max_timeout\": 0.05}"#, plain(), SPIN, "timeout: Task timed out after 0.05s"),
        (
            r#"{\"max_memory\": \"2MiB\"}"#,
            plain(),
            grow,
            "out-of-memory: out of memory: using 64 KiB, requested 2.5 MiB more, limit 2 MiB",
        ),
        (r#"{\"max_log\": 60}"#, plain(), log, "log-limit: logged more than 60 bytes"),
        (
            r#"{\"max_output\": 60}"#,
            Guest { imports: PRINT, ..plain() },
            print,
            "output-limit: printed more than 60 bytes",
        ),
        (
            r#"{\"max_result\": \"1MiB\"}"#,
            Guest { pages: 64, ..plain() },
            large,
            "result-limit: returned a result of 1 MiB: the limit is 1 MiB",
        ),
    ];
    for (policy, guest, run, expected) in cases {
        let failure = fixture.fail(&Guest { policy, ..Guest { run, ..guest } });
        let first = failure.message.lines().next().unwrap_or_default();
        assert_eq!(format!("{}: {first}", failure.kind), expected, "{policy}");
    }
}

#[test]
fn waiting_takes_no_cpu_time_and_computing_no_host_time() {
    let mut fixture = Fixture::new();
    let wait = "(call $block (call $subscribe (i64.const 60000000))) (call $ok (i32.const 96) (i32.const 2))";
    let policy = r#"{\"max_cpu_time\": 0.03}"#;
    let module = fixture.load(&Guest { imports: SLEEP, policy, ..Guest::with_run(wait) });
    assert!(succeeds(&fixture.run(&module)));
    let policy = r#"{\"max_host_time\": 0.02, \"max_cpu_time\": 0.06}"#;
    let failure = fixture.fail(&Guest { imports: SLEEP, policy, ..Guest::with_run(SPIN) });
    assert_eq!(failure.kind, ErrorKind::CpuTimeLimit);
}

#[test]
fn an_unusable_module_is_reported_with_its_reason() {
    let fixture = Fixture::new();
    let why = |name: &str| fixture.runtime.load(&fixture.dir.path().join(name)).expect_err("unusable").to_string();
    assert!(why("missing.wasm").ends_with("missing.wasm: there is no such file"));
    fixture.dir.write_text("core.wasm", "(module)");
    assert!(why("core.wasm").contains("is a core module without a function `_start`"));
    fixture.dir.write("half.wasm", b"\0asm\x0d\0\x01\0\x01\xff");
    assert!(why("half.wasm").contains("the file ends in the middle"));
    fixture.dir.write("junk.wasm", b"\0asm\x0d\0\x01\0\x0b\x01\xff");
    assert!(why("junk.wasm").contains("cannot be compiled: "));
    fixture.dir.write_text("other.wasm", "(component (type $t u8) (export \"hello\" (type $t)))");
    assert!(why("other.wasm").ends_with("without functions: it exports hello, and not fastworker:task/tasks@1.0.0"));
    let component = "(import \"mine:own/thing@1.0.0\" (instance (export \"f\" (func))))";
    let imports = Imports { component, ..Imports::default() };
    fixture.dir.write_guest("import.wasm", &Guest { imports, ..Guest::default() });
    assert!(why("import.wasm").contains("imports mine:own/thing@1.0.0, "));
    fixture.dir.write_guest("twice.wasm", &Guest { names: &["t", "t"], ..Guest::default() });
    assert!(why("twice.wasm").contains("two tasks under the name 't'"));
    fixture.dir.write_guest("nameless.wasm", &Guest { names: &[""], ..Guest::default() });
    assert!(why("nameless.wasm").contains("registers a task under the name \"\""));
    fixture.dir.write_guest("nothing.wasm", &Guest { names: &[], ..Guest::default() });
    assert!(why("nothing.wasm").contains("registers no tasks"));
}

#[test]
fn only_regular_files_are_accepted_and_others_never_block() {
    let fixture = Fixture::new();
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let pipe = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let socket = fixture.dir.path().join("socket.wasm");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let kinds = [
        (PathBuf::from(pipe), "a pipe"),
        (PathBuf::from("/dev/zero"), "a device"),
        (socket, "a socket"),
        (fixture.dir.path().to_owned(), "a folder"),
    ];
    for (path, kind) in kinds {
        let why = fixture.runtime.load(&path).expect_err("no module").to_string();
        assert_eq!(why, format!("{}: this is {kind}, not a file", path.display()));
    }
}

#[test]
fn a_module_that_does_not_fit_into_the_pool_runs_on_demand() {
    let mut fixture = Fixture::new();
    let module = fixture.load(&Guest { more: "(memory $a 1) (memory $b 1)", ..Guest::default() });
    assert_eq!(module.info().engine, "on-demand");
    assert!(succeeds(&fixture.run(&module)));
}

#[test]
fn compiled_code_is_cached_and_verified() {
    let dir = TestDir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("a private directory");
    let fixture =
        || Fixture::with(RuntimeConfig { cache_dir: Some(dir.path().to_owned()), ..RuntimeConfig::default() });
    let files = || fs::read_dir(dir.path()).expect("a directory").map(|entry| entry.expect("an entry").path());
    fixture().load(&Guest::default());
    let kept: Vec<_> = files().collect();
    let [kept] = kept.as_slice() else { panic!("expected one file, not {kept:?}") };
    let mut damaged = fs::read(kept).expect("compiled code");
    *damaged.last_mut().expect("some bytes") ^= 1;
    fs::write(kept, &damaged).expect("a damaged file");
    let mut second = fixture();
    let module = second.load(&Guest::default());
    assert!(succeeds(&second.run(&module)));
    let again = fs::read(kept).expect("compiled code");
    assert!(again != damaged, "compiled again");
    fixture().load(&Guest::default());
    assert!(fs::read(kept).expect("compiled code") == again, "read from the cache");
    assert_eq!(files().count(), 1);
}

#[test]
fn a_cache_directory_that_others_can_write_is_not_used() {
    let dir = TestDir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("a shared directory");
    let fixture = Fixture::with(RuntimeConfig { cache_dir: Some(dir.path().to_owned()), ..RuntimeConfig::default() });
    fixture.load(&Guest::default());
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

#[test]
fn a_catalog_finds_modules_by_task_name_and_reports_duplicates() {
    let fixture = Fixture::new();
    let first = fixture.dir.write_guest("a.wasm", &Guest { names: &["a", "b"], ..Guest::default() });
    let second = fixture.dir.write_guest("b.wasm", &Guest { names: &["c", "b"], ..Guest::default() });
    let third = fixture.dir.write_guest("c.wasm", &Guest { names: &["d"], ..Guest::default() });
    let (mut catalog, errors) = Catalog::load(&fixture.runtime, &[first.clone(), second.clone(), third.clone()]);
    let [error] = errors.as_slice() else { panic!("expected one error, not {errors:?}") };
    let message = error.to_string();
    assert!(
        message.contains("b.wasm: the module has a task 'b', and so has ") && message.contains("a.wasm: rename"),
        "{message}"
    );
    assert_eq!(catalog.describe().iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(catalog.find("b").expect("a module").path(), first);
    assert!(catalog.find("c").is_none());
    assert!(catalog.remove(&first).is_some() && catalog.find("b").is_none());
    catalog.put(fixture.runtime.load(&second).expect("a module")).expect("free names");
    assert_eq!(catalog.find("b").expect("a module").path(), second);
    catalog.put(fixture.runtime.load(&third).expect("a module")).expect("its own names again");
    assert_eq!(catalog.modules().len(), 2);
}

#[test]
fn sources_are_files_directories_and_patterns() {
    let dir = TestDir::new();
    let (one, two) = (dir.write("one.wasm", b""), dir.write("two.wasm", b""));
    dir.write("notes.txt", b"");
    let text = |path: &std::path::Path| path.display().to_string();
    let root = text(dir.path());
    let files = |sources: &[String]| expand(sources).expect("files");
    assert_eq!(files(std::slice::from_ref(&root)), [one.clone(), two.clone()]);
    assert_eq!(files(&[text(&two), format!("{root}/*.wasm")]), [two, one]);
    fs::create_dir(dir.path().join("empty")).expect("a directory");
    assert!(matches!(expand(&[format!("{root}/empty")]), Err(SourceError::EmptyDirectory(_))));
    assert!(matches!(expand(&[format!("{root}/x*")]), Err(SourceError::NoMatch(_))));
    assert!(matches!(expand(&[format!("{root}/x")]), Err(SourceError::Missing(_))));
    assert!(matches!(expand(&[format!("{root}/[")]), Err(SourceError::Pattern { .. })));
}

#[test]
fn an_attempt_without_a_sandbox_can_be_repeated_later() {
    let fixture = Fixture::with(RuntimeConfig { slots: 1, ..RuntimeConfig::default() });
    let module = fixture.load(&Guest::with_run("(call $ok (i32.const 96) (i32.const 2))"));
    let (task_id, args, kwargs) = (TaskId::new(), Json::empty_array(), Json::empty_object());
    let timeout = Duration::from_mins(1);
    let call = Invocation {
        id: AttemptId(7),
        task_id: &task_id,
        name: "t",
        attempt: 1,
        timeout,
        args: &args,
        kwargs: &kwargs,
        metadata: METADATA,
    };
    let new = || fixture.runtime.slot(Arc::new(IgnoreReports));
    // An attempt keeps its store until it is cleared, so these fill the pool and its reserve for loading.
    let mut slots: Vec<Slot> = (0..fixture.runtime.slots_max() + super::LOADS_MAX).map(|_| new()).collect();
    let mut outcomes = slots.iter_mut().map(|slot| slot.try_run(&module, &call));
    assert!(outcomes.all(|ended| ended.is_ok_and(|ended| succeeds(&ended.outcome))));
    let mut slot = new();
    let none = slot.try_run(&module, &call).expect_err("the pool is full");
    assert!(!none.has_started && none.why.contains("concurrent limit"), "{none:?}");
    assert!(slot.try_sandbox(&module).is_err());
    slots[0].clear();
    assert!(slot.try_sandbox(&module).is_ok());
    assert!(slot.try_run(&module, &call).is_ok_and(|ended| succeeds(&ended.outcome)));
}

struct IgnoreReports;

impl Reports for IgnoreReports {
    fn report(&self, _: AttemptId, _: Report) {}
}
