//! Loading modules: a file that breaks the compiler or its registration affects no other module.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastworker_tests::{Cluster, Guest, Process, TIMEOUT, Transcript, cli, eventually, fastworker, module, wording};
use serde_json::Value;
use tempfile::TempDir;

/// Number of values of a function that takes about 10 s and 700 MB to compile.
const DENSE: usize = 6_000;
/// The same, for some seconds and little memory.
const SLOW: usize = 2_500;

fn directory() -> TempDir {
    TempDir::new().expect("directory created")
}

fn write_module(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let (temporary, path) = (directory.join("temporary"), directory.join(name));
    fs::write(&temporary, bytes).expect("file access");
    fs::rename(&temporary, &path).expect("file moved");
    path
}

fn returning(task: &str, result: &str) -> Guest {
    Guest::new(task, result)
}

/// A separate code cache, so that each module is compiled.
fn cache(directory: &TempDir) -> String {
    directory.path().join("cache").display().to_string()
}

/// The row of a module in `list`.
fn row(cluster: &Cluster, name: &str) -> Option<Value> {
    let listed = cluster.cli(["list", "--json"]).with_code(0).json();
    listed.as_array().expect("list expected").iter().find(|row| row["name"] == name).cloned()
}

/// Waits until a module is listed with an error that contains a string.
fn wait_for_refusal(cluster: &Cluster, name: &str, words: &str, limit: Duration) -> Value {
    let is_refused = |row: &Value| row["last_error"]["message"].as_str().is_some_and(|it| it.contains(words));
    eventually(&format!("{name} is refused: {words}"), limit, || row(cluster, name).filter(is_refused))
}

fn wait_for_output(cluster: &Cluster, task: &str, result: &str) {
    let poll = || {
        let ran = cluster.cli(["submit", "--task-name", task, "--wait-for-worker"]);
        (ran.code == Some(0) && ran.stdout.trim() == result).then_some(())
    };
    eventually(&format!("{task} returns {result}"), TIMEOUT, poll);
}

/// The compiler processes of a process.
fn compilers(of: u32) -> Vec<u32> {
    let parent = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (_, after) = stat.rsplit_once(") ")?;
        after.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let entries = fs::read_dir("/proc").expect("Linux").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| parent(*id) == Some(of)).collect()
}

/// Whether a process runs and is not a zombie.
fn is_running(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, after)| !after.starts_with(['Z', 'X']))
}

/// Peak memory of a process in bytes.
fn peak_memory(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("still running");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM expected");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("valid number") << 10
}

#[test]
fn a_module_that_needs_too_much_memory_or_time_is_refused_alone() {
    let (modules, kept) = (directory(), directory());
    let add = module("arithmetic");
    fs::copy(&add, modules.path().join("arithmetic.wasm")).expect("file copied");
    let bounds = ["--cache-dir", &cache(&kept), "--compile-memory", "256", "--compile-timeout", "2s"];
    let mut cluster = Cluster::builder().sources([modules.path()]).own_slots(1).control_plane_args(&bounds).start();
    write_module(modules.path(), "dense.wasm", &Guest::new("dense", "1").dense(DENSE).bytes());
    write_module(modules.path(), "slow.wasm", &Guest::new("slow", "2").functions(12_000).bytes());
    let _ = wait_for_refusal(&cluster, "dense", "the compile memory limit", Duration::from_mins(2));
    // 2 s of processor time, or of wall time on a busy machine.
    let _ = wait_for_refusal(&cluster, "slow", "the compile timeout", Duration::from_mins(2));
    let sum = cluster.cli(["submit", "--task-name", "add", "--args", "5", "3"]).with_code(0);
    assert_eq!(sum.stdout, "8\n");
    assert!(peak_memory(&cluster.control_plane) < 256 << 20, "{}", peak_memory(&cluster.control_plane));
    assert_eq!(compilers(cluster.control_plane.id()), [0; 0]);
    cluster.control_plane.stop();
}

#[test]
fn broken_endless_and_conflicting_modules_are_listed_and_isolated() {
    let (modules, kept) = (directory(), directory());
    for number in 0..3 {
        let name = format!("endless{number}");
        write_module(modules.path(), &format!("{name}.wasm"), &Guest::new(&name, "1").with_endless_start().bytes());
        write_module(modules.path(), &format!("broken{number}.wasm"), b"no module");
    }
    write_module(modules.path(), "first.wasm", &Guest::new("greet", "\"first\"").functions(3_000).bytes());
    write_module(modules.path(), "second.wasm", &returning("greet", "\"second\"").bytes());
    write_module(modules.path(), "third.wasm", &returning("part", "\"third\"").bytes());
    let args = ["--cache-dir", &cache(&kept)];
    let started = Instant::now();
    let cluster =
        Cluster::builder().sources([modules.path()]).own_slots(1).control_plane_args(&args).start_without_waiting();
    wait_for_output(&cluster, "part", "\"third\"");
    assert!(started.elapsed() < Duration::from_secs(9), "the endless ones held it up: {:?}", started.elapsed());
    // Either of the two may be loaded first.
    wait_for_output(&cluster, "greet", "\"first\"");
    let _ = wait_for_refusal(&cluster, "second", "first", TIMEOUT);
    let _ = wait_for_refusal(&cluster, "broken1", "WebAssembly", TIMEOUT);
    let _ = wait_for_refusal(&cluster, "endless2", "10 s", TIMEOUT);
    let loaded = eventually("the modules are settled", TIMEOUT, || {
        let log = cluster.control_plane.log();
        log.lines().find(|line| line.contains(wording::MODULES_SETTLED)).map(str::to_owned)
    });
    assert!(loaded.contains("modules=2") && loaded.contains("broken=7") && loaded.contains("tasks=2"), "{loaded}");
    // Once the first is removed, the other takes over.
    fs::remove_file(modules.path().join("first.wasm")).expect("existing file");
    wait_for_output(&cluster, "greet", "\"second\"");
    assert_eq!(row(&cluster, "second").expect("module listed")["status"], "loaded");
}

#[test]
fn directories_and_files_may_be_empty_or_appear_later() {
    let (modules, kept) = (directory(), directory());
    let later = modules.path().join("later");
    let (file, empty) = (modules.path().join("file.wasm"), modules.path().join("empty"));
    fs::create_dir(&empty).expect("directory created");
    let pattern = modules.path().join("pattern-*.wasm");
    let args = ["--cache-dir", &cache(&kept)];
    let sources = [&later, &file, &empty, &pattern];
    let cluster = Cluster::builder().sources(sources).own_slots(1).control_plane_args(&args).start();
    eventually("the log names the missing sources", TIMEOUT, || {
        let log = cluster.control_plane.log();
        (log.contains("later") && log.contains(".wasm")).then_some(())
    });
    let _ = wait_for_refusal(&cluster, "file", "file.wasm", TIMEOUT);
    assert_eq!(row(&cluster, "later").expect("module listed")["status"], "broken");
    fs::create_dir(&later).expect("directory created");
    write_module(&later, "one.wasm", &returning("one", "1").bytes());
    write_module(&empty, "two.wasm", &returning("two", "2").bytes());
    write_module(modules.path(), "file.wasm", &returning("three", "3").bytes());
    write_module(modules.path(), "pattern-4.wasm", &returning("four", "4").bytes());
    for (task, result) in [("one", "1"), ("two", "2"), ("three", "3"), ("four", "4")] {
        wait_for_output(&cluster, task, result);
    }
    assert_eq!(row(&cluster, "later"), None);
    assert_eq!(row(&cluster, "file").expect("module listed")["last_error"], Value::Null);
}

#[test]
fn a_path_that_cannot_be_a_module_stops_the_start() {
    let modules = directory();
    let notes = modules.path().join("notes.txt");
    fs::write(&notes, "no module").expect("file access");
    let missing = modules.path().join("missing.wasm");
    let run = |args: &[&str], source: &Path| {
        let mut command = fastworker();
        command.arg("control-plane").args(args).arg("--task-modules").arg(source);
        cli::run(command)
    };
    let mut errors = Transcript::new();
    errors.add(&run(&[], &notes).with_code(2));
    errors.add(&run(&[], Path::new("a[")).with_code(2));
    errors.add(&run(&["--no-reload"], &missing).with_code(5));
    errors.check();
}

#[test]
fn no_reload_loads_only_the_modules_of_the_start() {
    let modules = directory();
    write_module(modules.path(), "one.wasm", &returning("one", "1").bytes());
    let cluster =
        Cluster::builder().sources([modules.path()]).own_slots(1).control_plane_args(&["--no-reload"]).start();
    write_module(modules.path(), "one.wasm", &returning("one", "2").bytes());
    wait_for_output(&cluster, "one", "1");
    assert_eq!(row(&cluster, "one").expect("module listed")["last_error"], Value::Null);
}

#[test]
fn a_compiler_inherits_nothing_and_ends_with_its_worker() {
    let (modules, kept) = (directory(), directory());
    write_module(modules.path(), "good.wasm", &returning("good", "1").bytes());
    let args = ["--cache-dir", &cache(&kept)];
    let mut cluster = Cluster::builder().sources([modules.path()]).own_slots(1).control_plane_args(&args).start();
    write_module(modules.path(), "dense.wasm", &Guest::new("dense", "1").dense(DENSE).bytes());
    let id = cluster.control_plane.id();
    let compiler = || eventually("a compiler starts", TIMEOUT, || compilers(id).pop());
    let first = compiler();
    let is_alone = || {
        let open = fs::read_dir(format!("/proc/{first}/fd")).ok()?.count();
        let environment = fs::read(format!("/proc/{first}/environ")).ok()?;
        // Its initial descriptors, and at most their copies.
        (environment.is_empty() && open <= 5).then_some(())
    };
    eventually("a compiler has only its pipes", TIMEOUT, is_alone);
    let is_limited = || {
        let limits = fs::read_to_string(format!("/proc/{first}/limits")).ok()?;
        let has = |name: &str, limit: &str| limits.lines().any(|line| line.starts_with(name) && line.contains(limit));
        (has("Max core file size", " 0 ") && has("Max data size", "2147483648") && has("Max cpu time", " 120 "))
            .then_some(())
    };
    eventually("a compiler has its limits", TIMEOUT, is_limited);
    // A killed compiler is reported, and the module tried again.
    let killed = std::process::Command::new("kill").args(["-KILL", &first.to_string()]).status();
    assert!(killed.is_ok_and(|killed| killed.success()));
    wait_for_refusal(&cluster, "dense", "was killed by signal 9", TIMEOUT);
    wait_for_output(&cluster, "good", "1");
    let second = eventually("another compiler starts", 2 * TIMEOUT, || compilers(id).pop());
    assert_ne!(first, second);
    // The worker does not wait for its compiler, which ends with it.
    let stopped_at = Instant::now();
    cluster.control_plane.stop();
    assert!(stopped_at.elapsed() < Duration::from_secs(5), "{:?}", stopped_at.elapsed());
    eventually("the compiler ends", TIMEOUT, || (!is_running(second)).then_some(()));
}

#[test]
fn a_compiler_ends_when_its_worker_is_killed() {
    let (modules, kept) = (directory(), directory());
    write_module(modules.path(), "dense.wasm", &Guest::new("dense", "1").dense(DENSE).bytes());
    let args = ["--cache-dir", &cache(&kept)];
    let mut cluster =
        Cluster::builder().sources([modules.path()]).own_slots(1).control_plane_args(&args).start_without_waiting();
    assert_eq!(row(&cluster, "dense").expect("module listed")["status"], "loading");
    let id = cluster.control_plane.id();
    let compiler = eventually("a compiler starts", TIMEOUT, || compilers(id).pop());
    cluster.control_plane.kill();
    eventually("the compiler ends", TIMEOUT, || (!is_running(compiler)).then_some(()));
}

#[test]
fn a_module_changed_during_compilation_loads_its_last_version() {
    let (modules, kept) = (directory(), directory());
    write_module(modules.path(), "module.wasm", &Guest::new("task", "1").dense(DENSE).bytes());
    let args = ["--cache-dir", &cache(&kept)];
    let cluster =
        Cluster::builder().sources([modules.path()]).own_slots(1).control_plane_args(&args).start_without_waiting();
    let first = eventually("a compiler starts", TIMEOUT, || compilers(cluster.control_plane.id()).pop());
    write_module(modules.path(), "module.wasm", &returning("task", "2").bytes());
    wait_for_output(&cluster, "task", "2");
    eventually("the first compiler ends", TIMEOUT, || (!is_running(first)).then_some(()));
    assert_eq!(row(&cluster, "module").expect("module listed")["last_error"], Value::Null);
}

#[test]
fn a_worker_does_not_grow_with_each_compiled_version() {
    let (modules, kept) = (directory(), directory());
    let version = |number: usize| Guest::new("version", &number.to_string()).functions(2_000).bytes();
    write_module(modules.path(), "version.wasm", &version(100));
    let args = ["--cache-dir", &cache(&kept)];
    let cluster = Cluster::builder().sources([modules.path()]).own_slots(1).control_plane_args(&args).start();
    let mut before = 0;
    for number in 101..110 {
        write_module(modules.path(), "version.wasm", &version(number));
        wait_for_output(&cluster, "version", &number.to_string());
        if number == 103 {
            before = cluster.control_plane.memory();
        }
    }
    let grown = cluster.control_plane.memory().saturating_sub(before);
    assert!(grown < 20 << 20, "six versions added {grown} bytes to {before}");
}

#[test]
fn an_unwritable_cache_only_costs_time() {
    let (modules, kept) = (directory(), directory());
    let file = kept.path().join("file");
    fs::write(&file, "").expect("file access");
    write_module(modules.path(), "good.wasm", &returning("good", "1").bytes());
    // Not even root can create a directory below a file.
    let args = ["--cache-dir", &file.join("cache").display().to_string()];
    let cluster = Cluster::builder().sources([modules.path()]).own_slots(1).control_plane_args(&args).start();
    wait_for_output(&cluster, "good", "1");
    assert!(cluster.control_plane.log().contains(wording::NO_CODE_CACHE), "{}", cluster.control_plane.log());
}

#[test]
fn the_compiler_command_is_internal() {
    let mut command = fastworker();
    command.arg("compile-module");
    assert_eq!(cli::run(command).with_code(2).stdout, "");
}

#[test]
fn slow_modules_do_not_delay_quick_ones() {
    let (modules, kept) = (directory(), directory());
    for number in 0..3 {
        let name = format!("slow{number}");
        write_module(modules.path(), &format!("a-{name}.wasm"), &Guest::new(&name, "1").dense(SLOW + number).bytes());
    }
    write_module(modules.path(), "quick.wasm", &returning("quick", "1").bytes());
    let args = ["--cache-dir", &cache(&kept)];
    let cluster =
        Cluster::builder().sources([modules.path()]).own_slots(1).control_plane_args(&args).start_without_waiting();
    wait_for_output(&cluster, "quick", "1");
    for number in 0..3 {
        let name = format!("slow{number}");
        eventually(&name, Duration::from_mins(2), || {
            row(&cluster, &format!("a-{name}")).filter(|row| row["status"] == "loaded")
        });
    }
}
