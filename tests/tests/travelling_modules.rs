//! Modules travel from the control plane to its subworkers.

#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "fastworker writes these names")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastworker::{
    client::Client,
    protocol::{WorkerInfo, WorkerStatus},
    task::{ErrorKind, ModuleInfo, ModuleStatus, TaskResult},
};
use fastworker_tests::{
    Cluster, Guest, TIMEOUT, eventually,
    process::Process,
    task_helpers::{expect_success, wait_for_result},
    wait::eventually_async,
};
use tempfile::TempDir;

/// The modules of a control plane, and the cache of the machine of its subworkers.
struct Folders(TempDir);

impl Folders {
    fn new() -> Self {
        let this = Self(TempDir::new().expect("folder created"));
        fs::create_dir(this.modules()).expect("folder created");
        this
    }

    fn modules(&self) -> PathBuf {
        self.0.path().join("modules")
    }

    /// The cache folder of the subworkers.
    fn cache(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    /// The modules that the subworkers have taken, by file name, and their sizes.
    fn taken(&self) -> BTreeMap<String, u64> {
        let entries = fs::read_dir(self.cache().join("modules")).into_iter().flatten().flatten();
        let file = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.len()));
        entries.filter_map(file).collect()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.modules().join(name).with_extension("wasm");
        let temporary = self.0.path().join("new");
        fs::write(&temporary, bytes).expect("file written");
        fs::rename(&temporary, &path).expect("file moved");
        path
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.modules().join(name).with_extension("wasm")).expect("file removed");
    }

    /// A control plane without slots, which has these modules.
    fn cluster(&self) -> Cluster {
        self.cluster_with(&[])
    }

    fn cluster_with(&self, options: &[&str]) -> Cluster {
        let modules = self.modules();
        let own = self.0.path().join("own-cache");
        let paths = [modules.to_str(), own.to_str()].map(|path| path.expect("text"));
        let own = ["--concurrency", "0", "--task-modules", paths[0], "--cache-dir", paths[1]];
        let cache = self.cache();
        let cluster = Cluster::builder().control_plane_args(&own).control_plane_args(options);
        cluster.subworker_args(&["--cache-dir", cache.to_str().expect("text")]).start()
    }
}

/// A module whose task of the same name returns this text.
fn module(task: &str, result: &str) -> Vec<u8> {
    Guest::new(task, &format!("\"{result}\"")).bytes()
}

/// A module followed by a custom section of this size, which is different for each `seed`.
fn large(bytes: Vec<u8>, size: usize, seed: u8) -> Vec<u8> {
    let content = (0..size).scan(u32::from(seed) + 1, |state, _| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(state.to_be_bytes()[0])
    });
    let payload: Vec<u8> = [1, b'x'].into_iter().chain(content).collect();
    let mut length = Vec::new();
    let mut rest = payload.len();
    while rest >= 0x80 {
        length.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    length.push(u8::try_from(rest).expect("seven bits"));
    [bytes, vec![0], length, payload].concat()
}

fn is_of(worker: &str) -> impl Fn(&&WorkerInfo) -> bool {
    move |info| info.id == worker && info.status == WorkerStatus::Active
}

async fn modules_of(client: &Client, worker: &str) -> BTreeMap<String, ModuleInfo> {
    let workers = client.list_tasks().await.unwrap_or_default();
    let modules = workers.iter().find(is_of(worker)).map(|info| info.modules.clone()).unwrap_or_default();
    modules.into_iter().map(|module| (module.name.clone(), module)).collect()
}

/// Waits until a module of a worker fulfils a condition.
async fn wait_for_module(
    client: &Client,
    worker: &str,
    (name, what): (&str, &str),
    condition: impl Fn(&ModuleInfo) -> bool,
) -> ModuleInfo {
    let poll = || async { modules_of(client, worker).await.remove(name).filter(&condition) };
    eventually_async(&format!("{name} on {worker}: {what}"), TIMEOUT, poll).await
}

fn is_live(module: &ModuleInfo) -> bool {
    module.status == ModuleStatus::Loaded && !module.hash.is_empty()
}

async fn call(client: &Client, name: &str) -> TaskResult {
    client.submit_task(name, ()).await.expect("result expected")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_subworker_runs_the_tasks_of_all_modules() {
    let folders = Folders::new();
    for number in 0..20 {
        folders.put(&format!("m{number}"), &module(&format!("task{number}"), &format!("{number}")));
    }
    folders.put("broken", b"\0asm not a module");
    let mut cluster = folders.cluster();
    let client = cluster.client().await;
    // Its name is known, although nothing can run it yet.
    let early = client.delay("task7", ()).await.expect("accepted");
    let ready = cluster.start_subworker("w2").wait_until_loaded();
    assert!(ready.contains(r#""modules":20,"broken":0,"tasks":20"#), "{ready}");
    assert_eq!(expect_success(&wait_for_result(&client, &early).await), "\"7\"");
    for number in 0..20 {
        let result = call(&client, &format!("task{number}")).await;
        assert_eq!((expect_success(&result), result.worker_id.as_deref()), (&*format!("\"{number}\""), Some("w2")));
    }
    let wrong = client.submit_task("task1", (1,)).await.expect("result expected");
    assert_eq!(wrong.error_kind, Some(ErrorKind::BadArguments));
    // Only WebAssembly files travel, and only those that the control plane could load.
    let taken = folders.taken();
    assert!(taken.len() == 20 && taken.keys().all(|name| name.ends_with(".wasm")), "{taken:?}");
    let listed = cluster.cli(["list"]).with_code(0).stdout;
    assert!(listed.contains("loaded by control-plane, w2 (from the control plane)"), "{listed}");
    let json = cluster.cli(["list", "--json"]).with_code(0).json();
    let of_w2 = json.as_array().expect("a list").iter().filter(|module| module["worker_id"] == "w2");
    assert!(of_w2.clone().count() == 20 && of_w2.clone().all(|module| module["origin"] == "control-plane"), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn subworkers_of_one_machine_transfer_a_module_once() {
    let folders = Folders::new();
    folders.put("large", &large(module("task", "done"), 8 << 20, 1));
    let mut cluster = folders.cluster();
    for id in ["w2", "w3", "w4"] {
        cluster.launch_subworker(id);
    }
    for worker in &mut cluster.subworkers {
        worker.wait_until_ready();
        worker.wait_until_loaded();
    }
    assert_eq!(folders.taken().len(), 1, "no copies are left");
    let client = cluster.client().await;
    assert_eq!(expect_success(&call(&client, "task").await), "\"done\"");
    // A restarted one takes nothing.
    cluster.subworkers.remove(0).stop();
    cluster.start_subworker("w5").wait_until_loaded();
    assert!(!cluster.subworkers.last().expect("started").log().contains("part"), "nothing went wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_modules_are_taken_and_own_files_come_first() {
    let folders = Folders::new();
    for name in ["one", "two", "three"] {
        folders.put(name, &module(name, "control plane"));
    }
    let own = folders.cache().join("two.wasm");
    fs::create_dir(folders.cache()).expect("folder created");
    fs::write(&own, module("two", "own")).expect("file written");
    let mut cluster = folders.cluster();
    let start = |cluster: &mut Cluster, id: &str, options: &[&str]| {
        let worker = cluster.launch_subworker_with(id, |command| {
            let mut with = std::process::Command::new(command.get_program());
            with.args(command.get_args()).args(options);
            for (name, value) in command.get_envs() {
                if let Some(value) = value {
                    with.env(name, value);
                }
            }
            with
        });
        worker.wait_until_ready();
        worker.wait_until_loaded();
    };
    start(&mut cluster, "some", &["--modules-from", "control-plane:one,three,four"]);
    let client = cluster.client().await;
    let some = modules_of(&client, "some").await;
    assert_eq!(some.keys().collect::<Vec<_>>(), ["one", "three"]);
    let log = cluster.subworkers[0].log();
    assert!(log.contains("four") && log.contains("has no modules of these names"), "{log}");
    let own = own.to_str().expect("text");
    start(&mut cluster, "both", &["--modules-from", "control-plane", "--task-modules", own]);
    let workers = client.list_tasks().await.expect("reply expected");
    let both = &workers.iter().find(is_of("both")).expect("connected").modules;
    let live: BTreeMap<&str, bool> =
        both.iter().filter(|module| is_live(module)).map(|module| (&*module.name, module.is_taken())).collect();
    assert_eq!(live, BTreeMap::from([("one", true), ("three", true), ("two", false)]));
    let refused = both.iter().find(|module| module.is_taken() && module.name == "two").expect("listed");
    assert!(refused.last_error.is_some(), "{refused:?}");
    assert_eq!(expect_success(&call(&client, "two").await), "\"own\"");
    start(&mut cluster, "files", &["--task-modules", own]);
    assert_eq!(modules_of(&client, "files").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_arrives_without_a_lost_or_failed_task() {
    let folders = Folders::new();
    folders.put("greeting", &module("greet", "v0"));
    folders.put("leaving", &module("leave", "here"));
    let mut cluster = folders.cluster();
    for id in ["w2", "w3"] {
        cluster.start_subworker(id).wait_until_loaded();
    }
    let client = Arc::new(cluster.client().await);
    let is_over = Arc::new(AtomicBool::new(false));
    let load = {
        let (client, is_over) = (Arc::clone(&client), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut seen = BTreeMap::new();
            while !is_over.load(Ordering::SeqCst) {
                let result = call(&client, "greet").await;
                *seen.entry(expect_success(&result).to_owned()).or_insert(0) += 1;
            }
            seen
        })
    };
    for version in 1..6 {
        let bytes = module("greet", &format!("v{version}"));
        let hash = blake3_hex(&bytes);
        folders.put("greeting", &bytes);
        for worker in ["w2", "w3"] {
            wait_for_module(&client, worker, ("greeting", "the new version"), |module| module.hash == hash).await;
        }
    }
    folders.put("added", &module("add", "new"));
    folders.remove("leaving");
    wait_for_module(&client, "w3", ("added", "taken"), is_live).await;
    for worker in ["w2", "w3"] {
        let poll = || async { (!modules_of(&client, worker).await.contains_key("leaving")).then_some(()) };
        eventually_async(&format!("removed from {worker}"), TIMEOUT, poll).await;
    }
    is_over.store(true, Ordering::SeqCst);
    let seen = load.await.expect("no task has failed");
    assert!(seen.contains_key("\"v0\"") && seen.contains_key("\"v5\""), "{seen:?}");
    assert_eq!(expect_success(&call(&client, "add").await), "\"new\"");
    let gone = client.submit_task("leave", ()).await.expect("result expected");
    assert_eq!(gone.error_kind, Some(ErrorKind::NotFound));
}

fn blake3_hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Number of bytes of the transfer in progress.
fn partial(folders: &Folders) -> Option<u64> {
    folders.taken().into_iter().find(|(name, size)| name.ends_with(".part") && *size > 0).map(|(_, size)| size)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_continues_with_a_restarted_control_plane_or_worker() {
    let folders = Folders::new();
    folders.put("large", &large(module("task", "done"), 120 << 20, 2));
    let mut cluster = folders.cluster();
    let worker = cluster.launch_subworker("w2").id();
    let before = eventually("the transfer has begun", TIMEOUT, || partial(&folders));
    cluster.control_plane.kill();
    assert!(!folders.taken().keys().any(|name| name.ends_with(".wasm")), "it was killed in the middle");
    cluster.restart_control_plane();
    let resumed = eventually("it continues", TIMEOUT, || partial(&folders).filter(|now| *now > before));
    // And in another process.
    let mut killed = cluster.subworkers.remove(0);
    assert_eq!(killed.id(), worker);
    killed.kill();
    assert!(partial(&folders).is_some_and(|kept| kept >= resumed), "what has arrived is kept");
    cluster.start_subworker("w3").wait_until_loaded();
    let taken = folders.taken();
    assert!(taken.len() == 1 && taken.keys().all(|name| name.ends_with(".wasm")), "{taken:?}");
    let client = cluster.client().await;
    assert_eq!(expect_success(&call(&client, "task").await), "\"done\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_keeps_its_modules_while_the_control_plane_restarts() {
    let folders = Folders::new();
    folders.put("greeting", &module("greet", "before"));
    let mut cluster = folders.cluster();
    cluster.start_subworker("w2").wait_until_loaded();
    let client = cluster.client().await;
    let first = wait_for_module(&client, "w2", ("greeting", "live"), is_live).await;
    cluster.control_plane.kill();
    cluster.restart_control_plane();
    let again = wait_for_module(&client, "w2", ("greeting", "registered again"), is_live).await;
    assert_eq!((first.hash, first.loaded_at), (again.hash, again.loaded_at), "it was not loaded again");
    let hash = blake3_hex(&module("greet", "after"));
    folders.put("greeting", &module("greet", "after"));
    wait_for_module(&client, "w2", ("greeting", "followed"), |module| module.hash == hash).await;
    assert_eq!(expect_success(&call(&client, "greet").await), "\"after\"");
}

/// Overwrites a file, which keeps its size.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("file read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("file written");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_and_parts_are_never_used() {
    let folders = Folders::new();
    let bytes = large(module("task", "done"), 1 << 20, 3);
    let (path, hash) = (folders.put("large", &bytes), blake3_hex(&bytes));
    let mut cluster = folders.cluster_with(&["--no-reload"]);
    let stored = folders.0.path().join("own-cache/modules").join(&hash).with_extension("wasm");
    eventually("the control plane has stored it", TIMEOUT, || stored.exists().then_some(()));
    damage(&stored);
    // What an interrupted transfer left is damaged, and so is what the control plane has stored.
    let cache = folders.cache().join("modules");
    fs::create_dir_all(&cache).expect("folder created");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&cache, mode).expect("permissions set");
    fs::write(cache.join(&hash).with_extension("part"), vec![7; 1 << 18]).expect("file written");
    cluster.start_subworker("w2").wait_until_loaded();
    let client = cluster.client().await;
    assert_eq!(expect_success(&call(&client, "task").await), "\"done\"");
    // A damaged stored module is transferred again.
    cluster.subworkers.remove(0).stop();
    damage(&cache.join(&hash).with_extension("wasm"));
    cluster.start_subworker("w3").wait_until_loaded();
    assert_eq!(expect_success(&call(&client, "task").await), "\"done\"");
    // Without its file, the control plane has nothing intact to pass on.
    cluster.subworkers.remove(0).stop();
    let own = folders.0.path().join("own-cache/modules").join(&hash).with_extension("wasm");
    damage(&path);
    if own.exists() {
        damage(&own);
    }
    fs::remove_dir_all(&cache).expect("folder removed");
    let worker = cluster.launch_subworker("w4");
    worker.wait_until_ready();
    let failed = wait_for_module(&client, "w4", ("large", "failed"), |module| module.last_error.is_some()).await;
    let error = failed.last_error.expect("just checked").message;
    assert!(error.contains("does not have it any more"), "{error}");
    assert!(!folders.taken().keys().any(|name| name.ends_with(".wasm")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_cannot_be_stored_is_listed_with_the_reason() {
    let folders = Folders::new();
    folders.put("small", &module("small", "works"));
    let bytes = large(module("task", "done"), 1 << 20, 4);
    folders.put("large", &bytes);
    // A folder in the place of the file, as no test can fill a disk.
    let cache = folders.cache().join("modules");
    fs::create_dir_all(cache.join(blake3_hex(&bytes)).with_extension("part")).expect("folder created");
    fs::set_permissions(&cache, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("permissions set");
    let mut cluster = folders.cluster();
    let loaded = cluster.start_subworker("w2").wait_until_loaded();
    assert!(loaded.contains(r#""modules":1,"broken":1"#), "{loaded}");
    let client = cluster.client().await;
    let failed = wait_for_module(&client, "w2", ("large", "failed"), |module| module.last_error.is_some()).await;
    let error = failed.last_error.expect("just checked").message;
    assert!(error.contains("cannot be taken from the control plane: it cannot be stored"), "{error}");
    assert_eq!(expect_success(&call(&client, "small").await), "\"works\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subworker_waits_for_the_first_modules() {
    let folders = Folders::new();
    let mut cluster = folders.cluster();
    let worker: &mut Process = cluster.start_subworker("w2");
    worker.wait_until_loaded();
    let log = || worker.log();
    eventually("it is logged", TIMEOUT, || log().contains("the control plane has no modules").then_some(()));
    folders.put("late", &module("late", "arrived"));
    let client = cluster.client().await;
    wait_for_module(&client, "w2", ("late", "taken"), is_live).await;
    assert_eq!(expect_success(&call(&client, "late").await), "\"arrived\"");
    // A control plane without any modules has the same effect.
    let mut bare = Cluster::builder().start();
    let worker = bare.start_subworker("w2");
    worker.wait_until_loaded();
    eventually("it is logged", TIMEOUT, || worker.log().contains("has no modules").then_some(()));
}

#[test]
fn a_subworker_needs_a_slot_and_a_known_source() {
    let cluster = Cluster::builder().start();
    let base = cluster.base();
    let start = ["subworker", "--worker-id", "w2", "--control-plane-address", &base];
    let no_slots = cluster.cli(start.iter().chain(&["--concurrency", "0"])).with_code(2).with_error();
    assert!(no_slots.error().contains("would run no tasks"), "{no_slots:?}");
    for wrong in ["registry", "control-plane:", "control-plane:a,,b", "control-planes"] {
        let wrong = cluster.cli(start.iter().chain(&["--modules-from", wrong])).with_code(2).with_error();
        assert!(wrong.error().contains("control-plane:NAME,NAME"), "{wrong:?}");
    }
    let reserved = cluster.cli(start.iter().chain(&["--task-modules", "control-plane:/x.wasm"])).with_code(2);
    assert!(
        reserved.error().contains("--task-modules") || reserved.error().contains("./control-plane:/"),
        "{reserved:?}"
    );
}

#[test]
fn compiling_ahead_fills_the_cache_for_the_next_start() {
    let folders = Folders::new();
    folders.put("one", &module("one", "1"));
    folders.put("two", &module("two", "2"));
    let cluster = Cluster::builder().start();
    let (modules, cache) = (folders.modules(), folders.cache());
    let (modules, cache) = (modules.to_str().expect("text"), cache.to_str().expect("text"));
    let compile = ["compile", modules, "--cache-dir", cache];
    let first = cluster.cli(compile.iter().chain(&["--json"])).with_code(0).json();
    let statuses: Vec<_> = first.as_array().expect("a list").iter().map(|module| module["status"].clone()).collect();
    assert_eq!(statuses, ["compiled", "compiled"]);
    let second = cluster.cli(compile).with_code(0).stdout;
    assert!(second.contains("one.wasm: cached already") && second.contains("2 modules are in"), "{second}");
    assert_eq!(folders.taken().len(), 2, "a subworker needs no transfer");
    folders.put("broken", b"\0asm");
    let broken = cluster.cli(compile).with_code(1);
    assert!(broken.stderr.contains("broken.wasm") && broken.stdout.contains("1 cannot be loaded"), "{broken:?}");
    let missing = cluster.cli(["compile", "nowhere.wasm"]).with_code(5).with_error();
    assert!(missing.error().contains("nowhere.wasm"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_module_delays_no_task() {
    let folders = Folders::new();
    folders.put("small", &module("small", "works"));
    let mut cluster = folders.cluster();
    cluster.start_subworker("w2").wait_until_loaded();
    let client = cluster.client().await;
    let bytes = large(module("task", "done"), 100 << 20, 5);
    let hash = blake3_hex(&bytes);
    folders.put("large", &bytes);
    let mut slowest = Duration::ZERO;
    let mut calls = 0;
    while modules_of(&client, "w2").await.get("large").is_none_or(|module| module.hash != hash) {
        let started = std::time::Instant::now();
        assert_eq!(expect_success(&call(&client, "small").await), "\"works\"");
        slowest = slowest.max(started.elapsed());
        calls += 1;
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?} in {calls} calls");
}
