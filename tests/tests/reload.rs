//! Hot reload: changes of module files do not affect tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastworker::{
    client::Client,
    protocol::{RefusalCode, WorkerStatus},
    task::{ErrorKind, ModuleInfo, ModuleStatus, TaskResult},
};
use fastworker_tests::{
    Cluster, Guest, TIMEOUT, Transcript, eventually,
    task_helpers::{expect_success, wait_for_result, wait_for_result_within},
    wait::eventually_async,
    wording,
};
use serde::Serialize;
use tempfile::TempDir;

/// A directory of modules.
struct TempModules(TempDir);

impl TempModules {
    fn new() -> Self {
        Self(TempDir::new().expect("directory created"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a temporary file and moves it to its path.
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        move_to(&self.file(name), bytes);
        self.file(name)
    }
}

fn move_to(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes).expect("file access");
    fs::rename(&temporary, path).expect("file moved");
}

/// A version of the module `greeting`.
fn greeting(expected: &str) -> Vec<u8> {
    Guest::new("greet", &format!("\"{expected}\"")).bytes()
}

/// The modules of the first worker, by name.
async fn list_modules(client: &Client) -> BTreeMap<String, ModuleInfo> {
    let workers = client.list_tasks().await.expect("reply expected");
    let live = workers.into_iter().find(|worker| worker.status == WorkerStatus::Active && !worker.modules.is_empty());
    live.into_iter().flat_map(|worker| worker.modules).map(|module| (module.name.clone(), module)).collect()
}

/// Waits until a module of the first worker fulfils a condition.
async fn wait_for_module(
    client: &Client,
    name: &str,
    what: &str,
    condition: impl Fn(&ModuleInfo) -> bool,
) -> ModuleInfo {
    let poll = || async { list_modules(client).await.remove(name).filter(&condition) };
    eventually_async(&format!("{name}: {what}"), TIMEOUT, poll).await
}

async fn wait_until_removed(client: &Client, name: &str) {
    let poll = || async { (!list_modules(client).await.contains_key(name)).then_some(()) };
    eventually_async(&format!("{name} is removed"), TIMEOUT, poll).await;
}

async fn greet(client: &Client) -> TaskResult {
    client.submit_task("greet", ()).await.expect("result expected")
}

/// Waits until `greet` returns this result, and returns the version that does.
async fn wait_for_result_text(client: &Client, args: impl Serialize + Copy, expected: &str) -> String {
    let poll = || async {
        let result = client.submit_task("greet", args).await.expect("result expected");
        result.module_version.filter(|_| result.result.as_ref().is_some_and(|result| result.as_str() == expected))
    };
    eventually_async(&format!("the result {expected}"), TIMEOUT, poll).await.to_string()
}

/// Waits for another version than `before` that returns this result. The control plane lists it shortly before its
/// worker runs it.
async fn wait_for_new_version(client: &Client, before: &ModuleInfo, expected: &str) -> ModuleInfo {
    let module = wait_for_module(client, &before.name, expected, |module| module.hash != before.hash).await;
    let poll =
        || async { Some(greet(client).await).filter(|result| expect_success(result) == format!("\"{expected}\"")) };
    let result = eventually_async(&format!("the result {expected}"), TIMEOUT, poll).await;
    assert_eq!(result.module_version.map(|version| version.to_string()).as_deref(), Some(module.version()));
    module
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_and_restored_files_are_live_immediately() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &greeting("one"));
    let cluster = Cluster::builder().sources([&file]).subworkers(1).start();
    let client = cluster.client().await;
    let first = wait_for_module(&client, "greeting", "loaded", |module| module.status == ModuleStatus::Loaded).await;
    assert_eq!(expect_success(&greet(&client).await), "\"one\"");
    modules.put("greeting.wasm", &greeting("two"));
    let second = wait_for_new_version(&client, &first, "two").await;
    assert!(second.loaded_at > first.loaded_at);
    modules.put("greeting.wasm", &greeting("one"));
    let third = wait_for_new_version(&client, &second, "one").await;
    assert_eq!(third.hash, first.hash);
    let listed = cluster.cli(["list", "--verbose"]).with_code(0).stdout;
    assert!(listed.contains(third.version()) && listed.contains("loaded 20"), "{listed}");
    let reloads = || cluster.subworkers[0].log().matches("module reloaded").count();
    eventually("both reloads are logged", TIMEOUT, || (reloads() >= 2).then_some(()));
    assert_eq!(reloads(), 2, "{}", cluster.subworkers[0].log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_written_in_place_is_live_when_complete() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &greeting("one"));
    let mut cluster = Cluster::builder().sources([&file]).own_slots(1).start();
    let client = cluster.client().await;
    let first = wait_for_module(&client, "greeting", "loaded", |_| true).await;
    let new = greeting("two");
    let mut writing = File::create(&file).expect("file truncated");
    for part in new.chunks(new.len().div_ceil(5)) {
        writing.write_all(part).expect("file written");
        // The old version continues to run.
        for _ in 0..20 {
            assert_eq!(expect_success(&greet(&client).await), "\"one\"");
        }
    }
    drop(writing);
    wait_for_new_version(&client, &first, "two").await;
    assert!(!cluster.control_plane.log().contains(wording::MODULE_REFUSED), "{}", cluster.control_plane.log());
    cluster.control_plane.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_many_quick_changes_is_loaded() {
    let modules = TempModules::new();
    modules.put("greeting.wasm", &greeting("one"));
    let cluster = Cluster::builder().sources([modules.path()]).subworkers(1).start();
    let client = cluster.client().await;
    let first = wait_for_module(&client, "greeting", "loaded", |_| true).await;
    // Write as editors do: a probe, a backup, a swap file, and the file repeatedly.
    for number in 0..300 {
        fs::write(modules.file("4913"), "").expect("file access");
        fs::remove_file(modules.file("4913")).expect("existing file");
        fs::write(modules.file(".greeting.wasm"), "hidden").expect("file access");
        fs::copy(modules.file("greeting.wasm"), modules.file("greeting.wasm~")).expect("existing file");
        modules.put("greeting.wasm", &greeting(&format!("number {number}")));
    }
    modules.put("greeting.wasm", &greeting("two"));
    let poll = || async { (expect_success(&greet(&client).await) == "\"two\"").then_some(()) };
    eventually_async("the last version is live", TIMEOUT, poll).await;
    wait_for_module(&client, "greeting", "without error", |module| {
        module.hash != first.hash && module.last_error.is_none()
    })
    .await;
    assert_eq!(list_modules(&client).await.len(), 1, "nothing else is a module");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_keeps_the_live_version_and_is_listed() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &greeting("one"));
    let cluster = Cluster::builder().sources([&file]).subworkers(1).start();
    let client = cluster.client().await;
    let whole = greeting("two");
    let mut last_error = String::new();
    for broken in [&b"no module"[..], &whole[..whole.len() / 2]] {
        modules.put("greeting.wasm", broken);
        let is_new = |module: &ModuleInfo| module.last_error.as_ref().is_some_and(|error| error.message != last_error);
        let module = wait_for_module(&client, "greeting", "an error", is_new).await;
        assert_eq!(module.status, ModuleStatus::Loaded);
        assert_eq!(expect_success(&greet(&client).await), "\"one\"");
        last_error = module.last_error.expect("error expected").message;
        assert!(cluster.cli(["list", "--json"]).with_code(0).stdout.contains(&last_error));
    }
    let live = wait_for_module(&client, "greeting", "loaded", |_| true).await;
    modules.put("greeting.wasm", &whole);
    let repaired = wait_for_new_version(&client, &live, "two").await;
    assert_eq!(repaired.last_error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_are_added_moved_and_removed_with_their_files() {
    let modules = TempModules::new();
    modules.put("greeting.wasm", &greeting("one"));
    let grace = ["--module-grace", "4s"];
    let cluster = Cluster::builder().sources([modules.path()]).subworkers(1).subworker_args(&grace).start();
    let client = cluster.client().await;
    // A broken module is listed without tasks, and another may not have the same task.
    fs::write(modules.file("broken.wasm"), "no module").expect("file access");
    modules.put("rival.wasm", &greeting("three"));
    let broken = wait_for_module(&client, "broken", "listed", |module| module.status == ModuleStatus::Broken).await;
    assert!(broken.tasks.is_empty() && broken.last_error.is_some());
    let rival = wait_for_module(&client, "rival", "listed", |module| module.status == ModuleStatus::Broken).await;
    let mut errors = Transcript::new();
    errors.note(&rival.last_error.expect("error expected").message);
    errors.check();
    fs::remove_file(modules.file("broken.wasm")).expect("existing file");
    fs::remove_file(modules.file("rival.wasm")).expect("existing file");
    wait_until_removed(&client, "broken").await;
    wait_until_removed(&client, "rival").await;

    modules.put("farewell.wasm", &Guest::new("part", "\"bye\"").bytes());
    wait_for_module(&client, "farewell", "there", |module| module.status == ModuleStatus::Loaded).await;
    assert_eq!(expect_success(&client.submit_task("part", ()).await.expect("result expected")), "\"bye\"");
    // A task stays available while its file is renamed.
    fs::rename(modules.file("greeting.wasm"), modules.file("welcome.wasm")).expect("file moved");
    for _ in 0..50 {
        assert_eq!(expect_success(&greet(&client).await), "\"one\"");
    }
    wait_for_module(&client, "welcome", "there", |module| module.status == ModuleStatus::Loaded).await;
    wait_until_removed(&client, "greeting").await;
    assert_eq!(expect_success(&greet(&client).await), "\"one\"");

    fs::remove_file(modules.file("farewell.wasm")).expect("existing file");
    wait_for_module(&client, "farewell", "missing", |module| module.status == ModuleStatus::Missing).await;
    assert_eq!(
        expect_success(&client.submit_task("part", ()).await.expect("result expected")),
        "\"bye\"",
        "the grace is not over"
    );
    wait_until_removed(&client, "farewell").await;
    let result = client.submit_task("part", ()).await.expect("result expected");
    assert_eq!(result.error_kind, Some(ErrorKind::NotFound));
    let is_logged = || cluster.subworkers[0].log().contains(wording::MODULE_DROPPED).then_some(());
    eventually("the message is logged", TIMEOUT, is_logged);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_tasks_of_a_removed_module_run_on_its_last_version() {
    let modules = TempModules::new();
    modules.put("greeting.wasm", &greeting("one"));
    modules.put("busy.wasm", &Guest::new("busy", "1").steps(2_000_000_000).bytes());
    let grace = ["--module-grace", "300ms"];
    let cluster = Cluster::builder().sources([modules.path()]).subworkers(1).subworker_args(&grace).start();
    let client = cluster.client().await;
    let busy = client.delay("busy", ()).await.expect("task accepted");
    let queued = client.delay("greet", ()).await.expect("task accepted");
    let scheduled = client.delay("greet", ()).countdown(Duration::from_secs(8)).await.expect("task accepted");
    fs::remove_file(modules.file("greeting.wasm")).expect("existing file");
    wait_for_module(&client, "greeting", "leaving", |module| module.status == ModuleStatus::Leaving).await;
    let late = client.submit_task("greet", ()).await.expect("result expected");
    assert_eq!(late.error_kind, Some(ErrorKind::NotFound), "it takes nothing new");
    wait_for_result_within(&client, &busy, Duration::from_mins(1)).await;
    assert_eq!(expect_success(&wait_for_result(&client, &queued).await), "\"one\"");
    assert_eq!(expect_success(&wait_for_result(&client, &scheduled).await), "\"one\"");
    wait_until_removed(&client, "greeting").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_named_file_is_missing_and_its_last_version_runs() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &greeting("one"));
    let grace = ["--module-grace", "0s"];
    let cluster = Cluster::builder().sources([&file]).subworkers(1).subworker_args(&grace).start();
    let client = cluster.client().await;
    fs::remove_file(&file).expect("existing file");
    let missing =
        wait_for_module(&client, "greeting", "missing", |module| module.status == ModuleStatus::Missing).await;
    assert_eq!(expect_success(&greet(&client).await), "\"one\"");
    assert!(cluster.cli(["list"]).with_code(0).stdout.contains("missing"));
    modules.put("greeting.wasm", &greeting("one"));
    let back = wait_for_module(&client, "greeting", "back", |module| module.status == ModuleStatus::Loaded).await;
    assert_eq!((&back.hash, back.loaded_at), (&missing.hash, missing.loaded_at), "it was not loaded again");
    fs::remove_file(&file).expect("existing file");
    wait_for_module(&client, "greeting", "missing", |module| module.status == ModuleStatus::Missing).await;
    modules.put("greeting.wasm", &greeting("two"));
    wait_for_new_version(&client, &back, "two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn symlinked_directories_and_files_are_watched() {
    let modules = TempModules::new();
    for (directory, expected) in [("blue", "one"), ("green", "two")] {
        fs::create_dir(modules.file(directory)).expect("directory created");
        move_to(&modules.file(directory).join("greeting.wasm"), &greeting(expected));
    }
    let point_to = |target: PathBuf, link: &str| {
        symlink(target, modules.file("temporary")).expect("a link");
        fs::rename(modules.file("temporary"), modules.file(link)).expect("file moved");
    };
    // The first worker has a directory behind a symlink, the second a file behind two.
    point_to(modules.file("blue"), "current");
    point_to(modules.file("current").join("greeting.wasm"), "linked.wasm");
    for (source, name) in [("current", "greeting"), ("linked.wasm", "linked")] {
        let cluster = Cluster::builder().sources([modules.file(source)]).subworkers(1).start();
        let client = cluster.client().await;
        let blue = wait_for_module(&client, name, "loaded", |_| true).await;
        point_to(modules.file("green"), "current");
        let green = wait_for_new_version(&client, &blue, "two").await;
        move_to(&modules.file("green/greeting.wasm"), &greeting("three"));
        let third = wait_for_new_version(&client, &green, "three").await;
        move_to(&modules.file("green/greeting.wasm"), &greeting("two"));
        let green = wait_for_new_version(&client, &third, "two").await;
        point_to(modules.file("blue"), "current");
        wait_for_new_version(&client, &green, "one").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_incompatible_with_waiting_tasks_is_refused() {
    let modules = TempModules::new();
    let version = |parameters: &[&str], expected| Guest::new("greet", expected).with_parameters(parameters).bytes();
    let file = modules.put("greeting.wasm", &version(&["name"], "1"));
    let cluster = Cluster::builder().sources([&file]).subworkers(1).start();
    let client = cluster.client().await;
    let first = wait_for_module(&client, "greeting", "loaded", |_| true).await;
    let waits = client
        .delay("greet", ())
        .kwargs(BTreeMap::from([("name", "Ada")]))
        .countdown(Duration::from_mins(10))
        .await
        .expect("task accepted");
    modules.put("greeting.wasm", &version(&["who"], "2"));
    let refused = wait_for_module(&client, "greeting", "refused", |module| module.last_error.is_some()).await;
    let error = refused.last_error.expect("error expected");
    let mut errors = Transcript::new();
    errors.note(&error.message);
    assert_eq!(error.code, Some(RefusalCode::CatalogConflict));
    assert_eq!((refused.status, &refused.hash), (ModuleStatus::Loaded, &first.hash));
    assert_eq!(expect_success(&client.submit_task("greet", ("Ada",)).await.expect("result expected")), "1");
    // A compatible version is accepted, and so is the other one once no task waits.
    modules.put("greeting.wasm", &version(&["name", "who"], "3"));
    modules.put("greeting.wasm", &version(&["who"], "2"));
    client.cancel(&waits).await.expect("reply expected");
    let live = wait_for_result_text(&client, ("Ada",), "2").await;
    let is_live = |module: &ModuleInfo| module.version() == live && module.last_error.is_none();
    let second = wait_for_module(&client, "greeting", "reloaded", is_live).await;
    // A task name for which tasks wait is not removed either.
    client.delay("greet", ("Ada",)).countdown(Duration::from_mins(10)).await.expect("task accepted");
    modules.put("greeting.wasm", &Guest::new("other", "4").bytes());
    let refused = wait_for_module(&client, "greeting", "refused", |module| module.last_error.is_some()).await;
    let error = refused.last_error.expect("error expected");
    errors.note(&error.message);
    assert_eq!(error.code, Some(RefusalCode::CatalogConflict));
    errors.check();
    assert_eq!(refused.hash, second.hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn force_reload_loads_an_incompatible_version() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &Guest::new("greet", "1").with_parameters(&["name"]).bytes());
    let force = ["--force-reload"];
    let cluster = Cluster::builder().sources([&file]).own_slots(1).control_plane_args(&force).start();
    let client = cluster.client().await;
    let first = wait_for_module(&client, "greeting", "loaded", |_| true).await;
    client.delay("greet", ("Ada",)).countdown(Duration::from_mins(10)).await.expect("task accepted");
    modules.put("greeting.wasm", &Guest::new("greet", "2").bytes());
    let second = wait_for_module(&client, "greeting", "reloaded", |module| module.hash != first.hash).await;
    assert_eq!(second.last_error, None);
    assert_eq!(wait_for_result_text(&client, (), "2").await, second.version());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reload_keeps_the_modules_of_the_start() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &greeting("one"));
    let cluster = Cluster::builder().sources([&file]).subworkers(1).subworker_args(&["--no-reload"]).start();
    let client = cluster.client().await;
    modules.put("greeting.wasm", &greeting("two"));
    let watched = Cluster::builder().sources([&file]).subworkers(1).start();
    let other = watched.client().await;
    let before = wait_for_module(&other, "greeting", "loaded", |_| true).await;
    modules.put("greeting.wasm", &greeting("three"));
    wait_for_new_version(&other, &before, "three").await;
    assert_eq!(expect_success(&greet(&client).await), "\"one\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_reloaded_during_an_outage_are_reported_after_it() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &greeting("one"));
    let mut cluster = Cluster::builder().sources([&file]).subworkers(1).start();
    let client = cluster.client().await;
    let before = wait_for_module(&client, "greeting", "loaded", |_| true).await;
    cluster.control_plane.kill();
    modules.put("greeting.wasm", &greeting("two"));
    let log = |words: &str| cluster.subworkers[0].log().contains(words).then_some(());
    eventually("the module is reloaded", Duration::from_secs(20), || log("module reloaded"));
    cluster.restart_control_plane();
    let client = cluster.client().await;
    cluster.wait_for_workers(&client, "the worker is back", |workers| !workers.is_empty()).await;
    wait_for_new_version(&client, &before, "two").await;
}

const REPLACEMENTS: usize = 50;

/// Submits and waits repeatedly until stopped. Returns each result and its version.
async fn load(client: Client, over: Arc<AtomicBool>) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let result = greet(&client).await;
        seen.push((expect_success(&result).to_owned(), result.module_version.expect("it was run").to_string()));
    }
    seen
}

/// Replaces a module, in a different way each time.
async fn replace(client: &Client, file: &Path, number: usize, new: &[u8]) {
    match number % 5 {
        // In place, in two halves.
        0 => {
            let mut writing = File::create(file).expect("file truncated");
            let (head, tail) = new.split_at(new.len() / 2);
            writing.write_all(head).expect("file written");
            greet(client).await;
            writing.write_all(tail).expect("file written");
        }
        // After a broken one.
        1 => {
            move_to(file, b"\0asm and no more");
            wait_for_module(client, "greeting", "broken", |module| module.last_error.is_some()).await;
            move_to(file, new);
        }
        // Written again after its absence was noticed.
        2 => {
            fs::remove_file(file).expect("existing file");
            wait_for_module(client, "greeting", "missing", |module| module.status == ModuleStatus::Missing).await;
            move_to(file, new);
        }
        _ => move_to(file, new),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_reloads_under_load_lose_no_task_and_mix_no_versions() {
    let modules = TempModules::new();
    let results = ["\"one\"", "\"two\""];
    let versions = results.map(|expected| Guest::new("greet", expected).steps(200_000).bytes());
    let file = modules.put("greeting.wasm", &versions[0]);
    let cluster = Cluster::builder().sources([modules.path()]).subworkers(2).start();
    let hashes = ["first", "second"].map(|name| cluster.directory().join(name).with_extension("wasm"));
    let hashes = [0, 1].map(|number| {
        let path = &hashes[number];
        fs::write(path, &versions[number]).expect("file access");
        let listed =
            fastworker_tests::cli::run(cluster.command(["list", "--json", "--task-modules", &path.to_string_lossy()]));
        listed.json()[0]["hash"].as_str().expect("a hash").to_owned()
    });
    let client = cluster.client().await;
    let over = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = (0..8).map(|_| tokio::spawn(load(client.clone(), over.clone()))).collect();
    for number in 1..=REPLACEMENTS {
        let wanted = &hashes[number % 2];
        replace(&client, &file, number, &versions[number % 2]).await;
        let is_live = |module: &ModuleInfo| module.hash == *wanted && module.status == ModuleStatus::Loaded;
        cluster
            .wait_for_workers(&client, &format!("replacement {number} in both workers"), |workers| {
                workers.len() == 2 && workers.iter().all(|worker| worker.modules.iter().all(is_live))
            })
            .await;
        if number % 10 == 0 {
            eventually_async("no older version runs", TIMEOUT, || async {
                for _ in 0..20 {
                    if expect_success(&greet(&client).await) != results[number % 2] {
                        return None;
                    }
                }
                Some(())
            })
            .await;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut seen = BTreeMap::<String, BTreeSet<String>>::new();
    let mut tasks = 0;
    for load in loads {
        for (expected, version) in load.await.expect("no task failed") {
            tasks += 1;
            seen.entry(expected).or_default().insert(version);
        }
    }
    let pairs = [0, 1].map(|number| (results[number].to_owned(), BTreeSet::from([hashes[number][..16].to_owned()])));
    assert_eq!(seen, pairs.into(), "each result names the version that returned it");
    assert!(tasks > 1_000, "{tasks} tasks are no constant load");
}
