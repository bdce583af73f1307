//! Attempts and modules from end to end, with small guests.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    AttemptId, Catalog, Invocation, Reports, RuntimeConfig, Slot, SourceError, Stopper, expand,
    fixtures::{ATTEMPT, Folder, Guest, PRINT, Reach, SLEEP, Stage, failure, run},
};
use crate::{
    json::Json,
    task::{ErrorKind, FollowUp, Outcome, Policy, Report, TaskId},
};

/// Never returns.
const SPIN: &str = "(loop $again (br $again)) (unreachable)";

fn succeeds(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Success { result, .. } if result.as_str() == "42")
}

#[test]
fn a_module_registers_its_tasks_and_runs_them() {
    let mut stage = Stage::new();
    let guest = Guest { policy: r#"{\"timeout\": \"5s\", \"colour\": 1}"#, names: &["t", "u"], ..Guest::default() };
    let module = stage.load(&guest);
    let info = module.info();
    assert_eq!((info.name.as_str(), info.engine.as_str(), info.tasks.len()), ("guest", "pooling", 2));
    assert_eq!(info.imports, ["fastworker:task/host@1.0.0"]);
    let task = module.task("u").expect("the second task");
    assert_eq!(task.policy, Policy { timeout: Some(Duration::from_secs(5)), ..Policy::default() });
    assert_eq!(task.warnings, ["policy has the unknown key 'colour'"]);
    let result = Json::parse("42").expect("JSON");
    assert_eq!(stage.run(&module), Outcome::Success { result, follow_ups: vec![] });
    let unknown = failure(run(&mut stage.slot, &module, "v", Duration::from_mins(1)));
    assert_eq!(unknown.kind, ErrorKind::NotFound);
}

#[test]
fn nothing_of_one_attempt_is_left_for_the_next() {
    let mut stage = Stage::new();
    let once = "(if (i32.load8_u (i32.const 512)) (then (unreachable))) (i32.store8 (i32.const 512) (i32.const 1))
      (call $ok (i32.const 96) (i32.const 2))";
    let module = stage.load(&Guest::that(once));
    assert!((0..3).all(|_| succeeds(&stage.run(&module))));
}

#[test]
fn a_trap_tells_the_guests_last_words_and_where_it_was() {
    let mut stage = Stage::new();
    let panic = "(call $log (i32.const 4) (i32.const 106) (i32.const 29)) (call $inner)";
    let guest = Guest { run: panic, more: "(func $inner (result i32) (unreachable))", ..Guest::default() };
    let failure = stage.fail(&guest);
    assert_eq!(failure.kind, ErrorKind::Trap);
    assert_eq!(failure.message, "panicked at mine.rs:1:2: boom\nwasm trap: unreachable\n  0: inner\n  1: run");
    let module = stage.load(&Guest::default());
    assert!(succeeds(&stage.run(&module)), "the slot goes on");
}

#[test]
fn an_endless_loop_ends_at_its_timeout() {
    let mut stage = Stage::new();
    let module = stage.load(&Guest::that(SPIN));
    let failure = failure(stage.run_for(&module, Duration::from_millis(50)));
    assert_eq!((failure.kind, failure.message.as_str()), (ErrorKind::Timeout, "Task timed out after 0.05s"));
}

#[test]
fn a_wait_in_the_host_ends_at_its_timeout() {
    let mut stage = Stage::new();
    let a_day = "(call $block (call $subscribe (i64.const 86400000000000))) (unreachable)";
    let module = stage.load(&Guest { reach: SLEEP, ..Guest::that(a_day) });
    let failure = failure(stage.run_for(&module, Duration::from_millis(50)));
    assert_eq!(failure.kind, ErrorKind::Timeout);
    let spins = stage.load(&Guest { reach: SLEEP, ..Guest::that(SPIN) });
    assert_eq!(super::fixtures::failure(stage.run_for(&spins, Duration::from_millis(50))).kind, ErrorKind::Timeout);
    let a_moment = "(call $block (call $subscribe (i64.const 1000))) (call $ok (i32.const 96) (i32.const 2))";
    let module = stage.load(&Guest { reach: SLEEP, ..Guest::that(a_moment) });
    assert!(succeeds(&stage.run(&module)));
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
    let stage = Stage::new();
    let reports = Arc::new(StopAtReport { stopper: OnceLock::new(), attempt, found: OnceLock::new() });
    let mut slot = stage.runtime.slot(reports.clone());
    reports.stopper.set(slot.stopper()).expect("the only stopper");
    let module = stage.load(&Guest::that(then));
    let outcome = run(&mut slot, &module, "t", Duration::from_mins(1));
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
fn memory_beyond_the_bound_is_refused() {
    let mut stage = Stage::with(RuntimeConfig { memory_max: 1 << 20, ..RuntimeConfig::default() });
    let grow = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (unreachable)";
    let failure = stage.fail(&Guest::that(grow));
    assert_eq!(failure.kind, ErrorKind::OutOfMemory);
    assert!(failure.message.starts_with("out of memory: it had 1 MiB and wanted 64 KiB more, 1 MiB is the most\n"));
    let cope = "(drop (memory.grow (i32.const 1000))) (call $ok (i32.const 96) (i32.const 2))";
    let copes = stage.load(&Guest::that(cope));
    assert!(succeeds(&stage.run(&copes)), "a guest may cope with a refusal");
}

#[test]
fn a_recursion_without_end_is_a_stack_overflow() {
    let mut stage = Stage::new();
    let more = "(func $deep (result i32) (i32.add (call $deep) (i32.const 1)))";
    let failure = stage.fail(&Guest { more, ..Guest::that("(call $deep)") });
    assert_eq!(failure.kind, ErrorKind::StackOverflow);
    assert_eq!(failure.message, "stack overflow: it calls itself too deeply\n  0: deep (20 times)\n  …");
    // A guest that keeps its stack in memory runs out of that first.
    let more = "(func $deep (param i32) (result i32)
      (i32.store (local.get 0) (i32.const 1)) (i32.add (call $deep (i32.sub (local.get 0) (i32.const 64))) (i32.const 1)))";
    let failure = stage.fail(&Guest { more, ..Guest::that("(call $deep (i32.const 65000))") });
    assert_eq!(failure.kind, ErrorKind::StackOverflow);
}

#[test]
fn a_result_must_be_one_json_document() {
    let mut stage = Stage::new();
    let broken = stage.fail(&Guest::that("(call $ok (i32.const 105) (i32.const 1))"));
    assert_eq!(broken.kind, ErrorKind::Failed);
    assert!(broken.message.starts_with("the module returned no JSON document: not a JSON document"), "{broken:?}");
    let nan = stage.fail(&Guest::that("(call $ok (i32.const 102) (i32.const 3))"));
    assert!(nan.message.ends_with("JSON has no NaN or Infinity: send null or a text instead"));
    let mut small = Stage::with(RuntimeConfig { result_max: 1, ..RuntimeConfig::default() });
    let large = small.fail(&Guest::default());
    assert_eq!(large.kind, ErrorKind::OutputLimit);
    assert_eq!(large.message, "returned a result of 2 bytes, 1 bytes is the most");
}

#[test]
fn a_result_beyond_all_measure_is_one_that_is_too_large() {
    // More than one call may pass to the host at all: the same limit, in the same words.
    let config = RuntimeConfig { result_max: 1 << 20, ..RuntimeConfig::default() };
    let mut stage = Stage::with(config);
    for (bytes, words) in
        [(1_100_000, "returned a result of 1 MiB, 1 MiB"), (3 << 20, "returned a result of more than 2 MiB, 1 MiB")]
    {
        let run = format!("(call $ok (i32.const 4096) (i32.const {bytes}))");
        let large = stage.fail(&Guest { pages: 64, ..Guest::that(run.leak()) });
        assert_eq!(large.kind, ErrorKind::OutputLimit, "{large:?}");
        assert_eq!(large.message, format!("{words} is the most"));
    }
}

#[test]
fn a_guest_may_hold_as_many_handles_as_the_manual_says() {
    let mut stage = Stage::new();
    let held = |count: u32| {
        format!(
            "(local $n i32)
             (loop $again
               (drop (call $subscribe (i64.const 1)))
               (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {count}))))
             (call $ok (i32.const 96) (i32.const 2))"
        )
    };
    let module = stage.load(&Guest { reach: SLEEP, ..Guest::that(held(10_000).leak()) });
    let ended = stage.run(&module);
    assert!(succeeds(&ended), "{ended:?}");
    let failure = stage.fail(&Guest { reach: SLEEP, ..Guest::that(held(10_001).leak()) });
    assert_eq!(failure.kind, ErrorKind::Trap, "{failure:?}");
    assert!(failure.message.contains("handle"), "{failure:?}");
}

#[test]
fn what_a_guest_says_of_its_failure_is_passed_on() {
    let mut stage = Stage::new();
    let bad = stage.fail(&Guest::that("(call $err (i32.const 0) (i32.const 96) (i32.const 2))"));
    assert_eq!((bad.kind, bad.message.as_str(), bad.retry_after), (ErrorKind::BadArguments, "42", None));
    let failed = stage.fail(&Guest::that("(call $err (i32.const 1) (i32.const 96) (i32.const 2))"));
    assert_eq!((failed.kind, failed.retry_after), (ErrorKind::Failed, None));
    let later = stage.fail(&Guest::that("(call $err (i32.const 2) (i32.const 96) (i32.const 2))"));
    assert_eq!((later.kind, later.retry_after), (ErrorKind::Failed, Some(Duration::from_millis(1500))));
    let broken = stage.fail(&Guest::that("(call $ok (i32.const 96) (i32.const -1))"));
    assert_eq!(broken.kind, ErrorKind::Trap);
}

#[test]
fn logging_without_end_is_stopped() {
    let mut stage = Stage::with(RuntimeConfig { log_max: 1000, ..RuntimeConfig::default() });
    let flood = "(loop $again (call $log (i32.const 2) (i32.const 96) (i32.const 2)) (br $again)) (unreachable)";
    let failure = stage.fail(&Guest::that(flood));
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (ErrorKind::OutputLimit, "logged and printed more than 1000 bytes")
    );
    assert_eq!(stage.heard().len(), 1000 / (2 + 32));
}

#[test]
fn printed_lines_go_to_the_log() {
    let mut stage = Stage::new();
    let print = "(call $write (call $stderr) (i32.const 106) (i32.const 30) (i32.const 64))
      (call $write (call $stderr) (i32.const 106) (i32.const 8) (i32.const 64))
      (call $ok (i32.const 96) (i32.const 2))";
    let module = stage.load(&Guest { reach: PRINT, ..Guest::that(print) });
    assert!(succeeds(&stage.run(&module)));
    let lines = [
        r#"Log { level: Error, message: "panicked at mine.rs:1:2: boom" }"#,
        r#"Log { level: Error, message: "panicked" }"#,
    ];
    assert_eq!(stage.heard(), lines);
    let flood = "(local $stream i32) (local.set $stream (call $stderr))
      (loop $again (call $write (local.get $stream) (i32.const 106) (i32.const 30) (i32.const 64)) (br $again)) (unreachable)";
    assert_eq!(stage.fail(&Guest { reach: PRINT, ..Guest::that(flood) }).kind, ErrorKind::OutputLimit);
}

#[test]
fn follow_up_tasks_travel_with_the_outcome() {
    let mut stage = Stage::with(RuntimeConfig { follow_ups_max: 1, ..RuntimeConfig::default() });
    // The second has an object where an array belongs, the third is one too many.
    let submit = "
      (call $submit (i32.const 96) (i32.const 2) (i32.const 98) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then (unreachable)))
      (call $submit (i32.const 96) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 64))
      (if (i32.eqz (i32.load8_u (i32.const 64))) (then (unreachable)))
      (call $submit (i32.const 96) (i32.const 2) (i32.const 98) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 100) (i32.const 2) (i32.const 64))
      (if (i32.eqz (i32.load8_u (i32.const 64))) (then (unreachable)))
      (call $ok (i32.const 96) (i32.const 2))";
    let module = stage.load(&Guest::that(submit));
    let Outcome::Success { follow_ups, .. } = stage.run(&module) else { panic!("expected a success") };
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
fn loading_is_bounded_like_running() {
    let limits = RuntimeConfig { memory_max: 1 << 20, ..RuntimeConfig::default() };
    let hasty = Stage::with(RuntimeConfig { register_timeout: Duration::from_millis(50), ..limits.clone() });
    let stage = Stage::with(limits);
    let refused = |stage: &Stage, guest: &Guest| {
        let path = stage.folder.write_guest("refused.wasm", guest);
        stage.runtime.load(&path).expect_err("a module that cannot be used").to_string()
    };
    let spins =
        refused(&hasty, &Guest { more: "(func $spin (loop $again (br $again))) (start $spin)", ..Guest::default() });
    assert!(spins.ends_with("did not register its tasks within 0.05 s"), "{spins}");
    let hog = refused(&stage, &Guest { pages: 17, ..Guest::default() });
    assert!(hog.ends_with("out of memory: it had 0 bytes and wanted 1 MiB more, 1 MiB is the most"), "{hog}");
    let traps = refused(&stage, &Guest { more: "(func $trap (unreachable)) (start $trap)", ..Guest::default() });
    assert!(traps.contains("failed while it registered its tasks: wasm trap: unreachable"), "{traps}");
}

#[test]
fn a_module_that_cannot_be_used_says_why() {
    let stage = Stage::new();
    let why = |name: &str| stage.runtime.load(&stage.folder.path().join(name)).expect_err("unusable").to_string();
    assert!(why("missing.wasm").ends_with("missing.wasm: there is no such file"));
    stage.folder.write_text("core.wasm", "(module)");
    assert!(why("core.wasm").contains("is a core module, not a component"));
    stage.folder.write("half.wasm", b"\0asm\x0d\0\x01\0\x01\xff");
    assert!(why("half.wasm").contains("the file ends in the middle"));
    stage.folder.write("junk.wasm", b"\0asm\x0d\0\x01\0\x0b\x01\xff");
    assert!(why("junk.wasm").contains("cannot be compiled: "));
    let other = "(component (core module $m (func (export \"f\"))) (core instance $i (instantiate $m))
      (func (export \"hello\") (canon lift (core func $i \"f\"))))";
    stage.folder.write_text("other.wasm", other);
    assert!(why("other.wasm").ends_with("no task module: it exports hello, and not fastworker:task/tasks@1.0.0"));
    let component = "(import \"mine:own/thing@1.0.0\" (instance (export \"f\" (func))))";
    let reach = Reach { component, ..Reach::default() };
    stage.folder.write_guest("import.wasm", &Guest { reach, ..Guest::default() });
    assert!(why("import.wasm").contains("imports mine:own/thing@1.0.0, which is not granted"));
    stage.folder.write_guest("twice.wasm", &Guest { names: &["t", "t"], ..Guest::default() });
    assert!(why("twice.wasm").contains("two tasks under the name 't'"));
    stage.folder.write_guest("nameless.wasm", &Guest { names: &[""], ..Guest::default() });
    assert!(why("nameless.wasm").contains("registers a task under the name \"\""));
    stage.folder.write_guest("nothing.wasm", &Guest { names: &[], ..Guest::default() });
    assert!(why("nothing.wasm").contains("registers no tasks"));
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let stage = Stage::new();
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let pipe = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let socket = stage.folder.path().join("socket.wasm");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let kinds = [
        (PathBuf::from(pipe), "a pipe"),
        (PathBuf::from("/dev/zero"), "a device"),
        (socket, "a socket"),
        (stage.folder.path().to_owned(), "a folder"),
    ];
    for (path, kind) in kinds {
        let why = stage.runtime.load(&path).expect_err("no module").to_string();
        assert_eq!(why, format!("{}: this is {kind}, not a file", path.display()));
    }
}

#[test]
fn what_does_not_fit_into_the_pool_runs_on_demand() {
    let mut stage = Stage::new();
    let module = stage.load(&Guest { more: "(memory $a 1) (memory $b 1)", ..Guest::default() });
    assert_eq!(module.info().engine, "on-demand");
    assert!(succeeds(&stage.run(&module)));
}

#[test]
fn compiled_code_is_kept_and_checked() {
    let dir = Folder::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("a private folder");
    let stage = || Stage::with(RuntimeConfig { cache_dir: Some(dir.path().to_owned()), ..RuntimeConfig::default() });
    let files = || fs::read_dir(dir.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
    stage().load(&Guest::default());
    let kept: Vec<_> = files().collect();
    let [kept] = kept.as_slice() else { panic!("expected one file, not {kept:?}") };
    let mut damaged = fs::read(kept).expect("compiled code");
    *damaged.last_mut().expect("some bytes") ^= 1;
    fs::write(kept, &damaged).expect("a damaged file");
    let mut second = stage();
    let module = second.load(&Guest::default());
    assert!(succeeds(&second.run(&module)));
    let again = fs::read(kept).expect("compiled code");
    assert!(again != damaged, "made again");
    stage().load(&Guest::default());
    assert!(fs::read(kept).expect("compiled code") == again, "taken as it is");
    assert_eq!(files().count(), 1);
}

#[test]
fn a_folder_that_others_may_write_is_not_trusted() {
    let dir = Folder::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("an open folder");
    let stage = Stage::with(RuntimeConfig { cache_dir: Some(dir.path().to_owned()), ..RuntimeConfig::default() });
    stage.load(&Guest::default());
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);
}

#[test]
fn a_catalog_leads_from_names_to_modules_and_says_who_has_a_name_twice() {
    let stage = Stage::new();
    let first = stage.folder.write_guest("a.wasm", &Guest { names: &["a", "b"], ..Guest::default() });
    let second = stage.folder.write_guest("b.wasm", &Guest { names: &["c", "b"], ..Guest::default() });
    let third = stage.folder.write_guest("c.wasm", &Guest { names: &["d"], ..Guest::default() });
    let (mut catalog, errors) = Catalog::load(&stage.runtime, &[first.clone(), second.clone(), third.clone()]);
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
    catalog.put(stage.runtime.load(&second).expect("a module")).expect("free names");
    assert_eq!(catalog.find("b").expect("a module").path(), second);
    catalog.put(stage.runtime.load(&third).expect("a module")).expect("its own names again");
    assert_eq!(catalog.modules().len(), 2);
}

#[test]
fn sources_are_files_folders_and_patterns() {
    let folder = Folder::new();
    let (one, two) = (folder.write("one.wasm", b""), folder.write("two.wasm", b""));
    folder.write("notes.txt", b"");
    let text = |path: &std::path::Path| path.display().to_string();
    let root = text(folder.path());
    let files = |sources: &[String]| expand(sources).expect("files");
    assert_eq!(files(std::slice::from_ref(&root)), [one.clone(), two.clone()]);
    assert_eq!(files(&[text(&two), format!("{root}/*.wasm")]), [two, one]);
    fs::create_dir(folder.path().join("empty")).expect("a folder");
    assert!(matches!(expand(&[format!("{root}/empty")]), Err(SourceError::EmptyFolder(_))));
    assert!(matches!(expand(&[format!("{root}/x*")]), Err(SourceError::NoMatch(_))));
    assert!(matches!(expand(&[format!("{root}/x")]), Err(SourceError::Missing(_))));
    assert!(matches!(expand(&[format!("{root}/[")]), Err(SourceError::Pattern { .. })));
}

#[test]
fn an_attempt_without_room_for_its_sandbox_says_nothing_about_its_task() {
    let stage = Stage::with(RuntimeConfig { slots: 1, ..RuntimeConfig::default() });
    let module = stage.load(&Guest::that("(call $ok (i32.const 96) (i32.const 2))"));
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
    };
    let new = || stage.runtime.slot(Arc::new(Unheard));
    // What an attempt used is there until it is cleared, so these fill the pool, with its places for loading.
    let mut slots: Vec<Slot> = (0..stage.runtime.slots_max() + super::LOADS_MAX).map(|_| new()).collect();
    let mut outcomes = slots.iter_mut().map(|slot| slot.try_run(&module, &call));
    assert!(outcomes.all(|outcome| outcome.is_ok_and(|outcome| succeeds(&outcome))));
    let mut slot = new();
    let none = slot.try_run(&module, &call).expect_err("the pool is full");
    assert!(!none.began && none.why.contains("concurrent limit"), "{none:?}");
    assert!(slot.try_sandbox(&module).is_err());
    slots[0].clear();
    assert!(slot.try_sandbox(&module).is_ok());
    assert!(slot.try_run(&module, &call).is_ok_and(|outcome| succeeds(&outcome)));
}

struct Unheard;

impl Reports for Unheard {
    fn report(&self, _: AttemptId, _: Report) {}
}
