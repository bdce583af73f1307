//! Hot reload: what happens to files of modules, and that no task suffers from it.

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
    Cluster, Guest, SOON, Transcript, eventually,
    story::{end_of, end_of_within, success},
    wait::eventually_async,
    wording,
};
use serde::Serialize;
use tempfile::TempDir;

/// A folder of modules.
struct TempModules(TempDir);

impl TempModules {
    fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file beside its place and moves it there.
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        move_to(&self.file(name), bytes);
        self.file(name)
    }
}

fn move_to(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).expect("a file");
    fs::rename(&beside, path).expect("it can be moved");
}

/// A version of the module `greeting`.
fn greeting(answer: &str) -> Vec<u8> {
    Guest::new("greet", &format!("\"{answer}\"")).bytes()
}

/// What the first worker has loaded, by the names of the modules.
async fn list_modules(client: &Client) -> BTreeMap<String, ModuleInfo> {
    let workers = client.list_tasks().await.expect("an answer");
    let live = workers.into_iter().find(|worker| worker.status == WorkerStatus::Active && !worker.modules.is_empty());
    live.into_iter().flat_map(|worker| worker.modules).map(|module| (module.name.clone(), module)).collect()
}

/// Waits until a module of the first worker is so.
async fn until(client: &Client, name: &str, what: &str, is_so: impl Fn(&ModuleInfo) -> bool) -> ModuleInfo {
    let ask = || async { list_modules(client).await.remove(name).filter(&is_so) };
    eventually_async(&format!("{name}: {what}"), SOON, ask).await
}

async fn until_gone(client: &Client, name: &str) {
    let ask = || async { (!list_modules(client).await.contains_key(name)).then_some(()) };
    eventually_async(&format!("that {name} is gone"), SOON, ask).await;
}

async fn greet(client: &Client) -> TaskResult {
    client.submit_task("greet", ()).await.expect("a result")
}

/// Waits until `greet` answers so, and gives the version that does.
async fn until_answer(client: &Client, args: impl Serialize + Copy, answer: &str) -> String {
    let ask = || async {
        let result = client.submit_task("greet", args).await.expect("a result");
        result.module_version.filter(|_| result.result.as_ref().is_some_and(|result| result.as_str() == answer))
    };
    eventually_async(&format!("the answer {answer}"), SOON, ask).await.to_string()
}

/// Waits for another version than `before`, which answers so. The control plane knows of it a moment
/// before its worker runs it.
async fn until_it_answers(client: &Client, before: &ModuleInfo, answer: &str) -> ModuleInfo {
    let module = until(client, &before.name, answer, |module| module.hash != before.hash).await;
    let ask = || async { Some(greet(client).await).filter(|result| success(result) == format!("\"{answer}\"")) };
    let result = eventually_async(&format!("the answer {answer}"), SOON, ask).await;
    assert_eq!(result.module_version.map(|version| version.to_string()).as_deref(), Some(module.version()));
    module
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_live_at_once_and_so_is_the_restored_one() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &greeting("one"));
    let cluster = Cluster::builder().sources([&file]).subworkers(1).start();
    let client = cluster.client().await;
    let first = until(&client, "greeting", "loaded", |module| module.status == ModuleStatus::Loaded).await;
    assert_eq!(success(&greet(&client).await), "\"one\"");
    modules.put("greeting.wasm", &greeting("two"));
    let second = until_it_answers(&client, &first, "two").await;
    assert!(second.loaded_at > first.loaded_at);
    modules.put("greeting.wasm", &greeting("one"));
    let third = until_it_answers(&client, &second, "one").await;
    assert_eq!(third.hash, first.hash);
    let listed = cluster.cli(["list", "--verbose"]).with_code(0).stdout;
    assert!(listed.contains(third.version()) && listed.contains("loaded 20"), "{listed}");
    let reloads = || cluster.subworkers[0].log().matches("module reloaded").count();
    eventually("that both reloads are in the log", SOON, || (reloads() >= 2).then_some(()));
    assert_eq!(reloads(), 2, "{}", cluster.subworkers[0].log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_in_place_is_live_when_it_is_whole() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &greeting("one"));
    let mut cluster = Cluster::builder().sources([&file]).own_slots(1).start();
    let client = cluster.client().await;
    let first = until(&client, "greeting", "loaded", |_| true).await;
    let new = greeting("two");
    let mut writing = File::create(&file).expect("it can be truncated");
    for part in new.chunks(new.len().div_ceil(5)) {
        writing.write_all(part).expect("it can be written");
        // The old version runs meanwhile.
        for _ in 0..20 {
            assert_eq!(success(&greet(&client).await), "\"one\"");
        }
    }
    drop(writing);
    until_it_answers(&client, &first, "two").await;
    assert!(!cluster.control_plane.log().contains(wording::MODULE_REFUSED), "{}", cluster.control_plane.log());
    cluster.control_plane.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_changes_at_once_the_last_one_counts() {
    let modules = TempModules::new();
    modules.put("greeting.wasm", &greeting("one"));
    let cluster = Cluster::builder().sources([modules.path()]).subworkers(1).start();
    let client = cluster.client().await;
    let first = until(&client, "greeting", "loaded", |_| true).await;
    // As editors do: a probe, a backup, a swap file, and the file again and again.
    for number in 0..300 {
        fs::write(modules.file("4913"), "").expect("a file");
        fs::remove_file(modules.file("4913")).expect("it is there");
        fs::write(modules.file(".greeting.wasm"), "hidden").expect("a file");
        fs::copy(modules.file("greeting.wasm"), modules.file("greeting.wasm~")).expect("it is there");
        modules.put("greeting.wasm", &greeting(&format!("number {number}")));
    }
    modules.put("greeting.wasm", &greeting("two"));
    let ask = || async { (success(&greet(&client).await) == "\"two\"").then_some(()) };
    eventually_async("the last version", SOON, ask).await;
    until(&client, "greeting", "without error", |module| module.hash != first.hash && module.last_error.is_none())
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
        let module = until(&client, "greeting", "an error", is_new).await;
        assert_eq!(module.status, ModuleStatus::Loaded);
        assert_eq!(success(&greet(&client).await), "\"one\"");
        last_error = module.last_error.expect("an error").message;
        assert!(cluster.cli(["list", "--json"]).with_code(0).stdout.contains(&last_error));
    }
    let live = until(&client, "greeting", "loaded", |_| true).await;
    modules.put("greeting.wasm", &whole);
    let repaired = until_it_answers(&client, &live, "two").await;
    assert_eq!(repaired.last_error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_are_added_moved_and_dropped_with_their_files() {
    let modules = TempModules::new();
    modules.put("greeting.wasm", &greeting("one"));
    let grace = ["--module-grace", "4s"];
    let cluster = Cluster::builder().sources([modules.path()]).subworkers(1).subworker_args(&grace).start();
    let client = cluster.client().await;
    // A broken one is listed without tasks, and another may not take what is taken.
    fs::write(modules.file("broken.wasm"), "no module").expect("a file");
    modules.put("rival.wasm", &greeting("three"));
    let broken = until(&client, "broken", "listed", |module| module.status == ModuleStatus::Broken).await;
    assert!(broken.tasks.is_empty() && broken.last_error.is_some());
    let rival = until(&client, "rival", "listed", |module| module.status == ModuleStatus::Broken).await;
    let mut errors = Transcript::new();
    errors.note(&rival.last_error.expect("an error").message);
    errors.check();
    fs::remove_file(modules.file("broken.wasm")).expect("it is there");
    fs::remove_file(modules.file("rival.wasm")).expect("it is there");
    until_gone(&client, "broken").await;
    until_gone(&client, "rival").await;

    modules.put("farewell.wasm", &Guest::new("part", "\"bye\"").bytes());
    until(&client, "farewell", "there", |module| module.status == ModuleStatus::Loaded).await;
    assert_eq!(success(&client.submit_task("part", ()).await.expect("a result")), "\"bye\"");
    // A name is always there while its file is renamed.
    fs::rename(modules.file("greeting.wasm"), modules.file("welcome.wasm")).expect("it can be moved");
    for _ in 0..50 {
        assert_eq!(success(&greet(&client).await), "\"one\"");
    }
    until(&client, "welcome", "there", |module| module.status == ModuleStatus::Loaded).await;
    until_gone(&client, "greeting").await;
    assert_eq!(success(&greet(&client).await), "\"one\"");

    fs::remove_file(modules.file("farewell.wasm")).expect("it is there");
    until(&client, "farewell", "missing", |module| module.status == ModuleStatus::Missing).await;
    assert_eq!(success(&client.submit_task("part", ()).await.expect("a result")), "\"bye\"", "the grace is not over");
    until_gone(&client, "farewell").await;
    let result = client.submit_task("part", ()).await.expect("a result");
    assert_eq!(result.error_kind, Some(ErrorKind::NotFound));
    let is_logged = || cluster.subworkers[0].log().contains(wording::MODULE_DROPPED).then_some(());
    eventually("the log message", SOON, is_logged);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_were_submitted_before_a_module_went_run_on_its_last_version() {
    let modules = TempModules::new();
    modules.put("greeting.wasm", &greeting("one"));
    modules.put("busy.wasm", &Guest::new("busy", "1").steps(2_000_000_000).bytes());
    let grace = ["--module-grace", "300ms"];
    let cluster = Cluster::builder().sources([modules.path()]).subworkers(1).subworker_args(&grace).start();
    let client = cluster.client().await;
    let busy = client.delay("busy", ()).await.expect("it is taken");
    let queued = client.delay("greet", ()).await.expect("it is taken");
    let scheduled = client.delay("greet", ()).countdown(Duration::from_secs(8)).await.expect("it is taken");
    fs::remove_file(modules.file("greeting.wasm")).expect("it is there");
    until(&client, "greeting", "leaving", |module| module.status == ModuleStatus::Leaving).await;
    let late = client.submit_task("greet", ()).await.expect("a result");
    assert_eq!(late.error_kind, Some(ErrorKind::NotFound), "it takes nothing new");
    end_of_within(&client, &busy, Duration::from_mins(1)).await;
    assert_eq!(success(&end_of(&client, &queued).await), "\"one\"");
    assert_eq!(success(&end_of(&client, &scheduled).await), "\"one\"");
    until_gone(&client, "greeting").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_named_and_gone_is_missing_and_its_last_version_runs_on() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &greeting("one"));
    let grace = ["--module-grace", "0s"];
    let cluster = Cluster::builder().sources([&file]).subworkers(1).subworker_args(&grace).start();
    let client = cluster.client().await;
    fs::remove_file(&file).expect("it is there");
    let missing = until(&client, "greeting", "missing", |module| module.status == ModuleStatus::Missing).await;
    assert_eq!(success(&greet(&client).await), "\"one\"");
    assert!(cluster.cli(["list"]).with_code(0).stdout.contains("missing"));
    modules.put("greeting.wasm", &greeting("one"));
    let back = until(&client, "greeting", "back", |module| module.status == ModuleStatus::Loaded).await;
    assert_eq!((&back.hash, back.loaded_at), (&missing.hash, missing.loaded_at), "it was not loaded again");
    fs::remove_file(&file).expect("it is there");
    until(&client, "greeting", "missing", |module| module.status == ModuleStatus::Missing).await;
    modules.put("greeting.wasm", &greeting("two"));
    until_it_answers(&client, &back, "two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_and_files_behind_links_are_watched_where_they_are() {
    let modules = TempModules::new();
    for (folder, answer) in [("blue", "one"), ("green", "two")] {
        fs::create_dir(modules.file(folder)).expect("a folder");
        move_to(&modules.file(folder).join("greeting.wasm"), &greeting(answer));
    }
    let point_to = |target: PathBuf, link: &str| {
        symlink(target, modules.file("beside")).expect("a link");
        fs::rename(modules.file("beside"), modules.file(link)).expect("it can be moved");
    };
    // A folder behind a link, in the first worker; a file behind two, in the second.
    point_to(modules.file("blue"), "current");
    point_to(modules.file("current").join("greeting.wasm"), "linked.wasm");
    for (source, name) in [("current", "greeting"), ("linked.wasm", "linked")] {
        let cluster = Cluster::builder().sources([modules.file(source)]).subworkers(1).start();
        let client = cluster.client().await;
        let blue = until(&client, name, "loaded", |_| true).await;
        point_to(modules.file("green"), "current");
        let green = until_it_answers(&client, &blue, "two").await;
        move_to(&modules.file("green/greeting.wasm"), &greeting("three"));
        let third = until_it_answers(&client, &green, "three").await;
        move_to(&modules.file("green/greeting.wasm"), &greeting("two"));
        let green = until_it_answers(&client, &third, "two").await;
        point_to(modules.file("blue"), "current");
        until_it_answers(&client, &green, "one").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_incompatible_with_waiting_tasks_is_refused() {
    let modules = TempModules::new();
    let version = |parameters: &[&str], answer| Guest::new("greet", answer).taking(parameters).bytes();
    let file = modules.put("greeting.wasm", &version(&["name"], "1"));
    let cluster = Cluster::builder().sources([&file]).subworkers(1).start();
    let client = cluster.client().await;
    let first = until(&client, "greeting", "loaded", |_| true).await;
    let waits = client
        .delay("greet", ())
        .kwargs(BTreeMap::from([("name", "Ada")]))
        .countdown(Duration::from_mins(10))
        .await
        .expect("it is taken");
    modules.put("greeting.wasm", &version(&["who"], "2"));
    let refused = until(&client, "greeting", "refused", |module| module.last_error.is_some()).await;
    let error = refused.last_error.expect("an error");
    let mut errors = Transcript::new();
    errors.note(&error.message);
    assert_eq!(error.code, Some(RefusalCode::CatalogConflict));
    assert_eq!((refused.status, &refused.hash), (ModuleStatus::Loaded, &first.hash));
    assert_eq!(success(&client.submit_task("greet", ("Ada",)).await.expect("a result")), "1");
    // A compatible version is accepted, and so is the other one once no task waits.
    modules.put("greeting.wasm", &version(&["name", "who"], "3"));
    modules.put("greeting.wasm", &version(&["who"], "2"));
    client.cancel(&waits).await.expect("an answer");
    let live = until_answer(&client, ("Ada",), "2").await;
    let is_live = |module: &ModuleInfo| module.version() == live && module.last_error.is_none();
    let second = until(&client, "greeting", "reloaded", is_live).await;
    // A name that tasks wait for does not go either.
    client.delay("greet", ("Ada",)).countdown(Duration::from_mins(10)).await.expect("it is taken");
    modules.put("greeting.wasm", &Guest::new("other", "4").bytes());
    let refused = until(&client, "greeting", "refused", |module| module.last_error.is_some()).await;
    let error = refused.last_error.expect("an error");
    errors.note(&error.message);
    assert_eq!(error.code, Some(RefusalCode::CatalogConflict));
    errors.check();
    assert_eq!(refused.hash, second.hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_force_reload_a_version_goes_live_whatever_waits() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &Guest::new("greet", "1").taking(&["name"]).bytes());
    let force = ["--force-reload"];
    let cluster = Cluster::builder().sources([&file]).own_slots(1).control_plane_args(&force).start();
    let client = cluster.client().await;
    let first = until(&client, "greeting", "loaded", |_| true).await;
    client.delay("greet", ("Ada",)).countdown(Duration::from_mins(10)).await.expect("it is taken");
    modules.put("greeting.wasm", &Guest::new("greet", "2").bytes());
    let second = until(&client, "greeting", "reloaded", |module| module.hash != first.hash).await;
    assert_eq!(second.last_error, None);
    assert_eq!(until_answer(&client, (), "2").await, second.version());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_reload_what_was_loaded_at_the_start_stays() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &greeting("one"));
    let cluster = Cluster::builder().sources([&file]).subworkers(1).subworker_args(&["--no-reload"]).start();
    let client = cluster.client().await;
    modules.put("greeting.wasm", &greeting("two"));
    let watched = Cluster::builder().sources([&file]).subworkers(1).start();
    let other = watched.client().await;
    let before = until(&other, "greeting", "loaded", |_| true).await;
    modules.put("greeting.wasm", &greeting("three"));
    until_it_answers(&other, &before, "three").await;
    assert_eq!(success(&greet(&client).await), "\"one\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_reloaded_during_an_outage_are_reported_after_it() {
    let modules = TempModules::new();
    let file = modules.put("greeting.wasm", &greeting("one"));
    let mut cluster = Cluster::builder().sources([&file]).subworkers(1).start();
    let client = cluster.client().await;
    let before = until(&client, "greeting", "loaded", |_| true).await;
    cluster.control_plane.kill();
    modules.put("greeting.wasm", &greeting("two"));
    let log = |words: &str| cluster.subworkers[0].log().contains(words).then_some(());
    eventually("that it is reloaded", Duration::from_secs(20), || log("module reloaded"));
    cluster.restart_control_plane();
    let client = cluster.client().await;
    cluster.until_workers(&client, "its return", |workers| !workers.is_empty()).await;
    until_it_answers(&client, &before, "two").await;
}

const REPLACEMENTS: usize = 50;

/// Submits and waits, again and again, until it is over. Gives each answer and the version it is of.
async fn load(client: Client, over: Arc<AtomicBool>) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let result = greet(&client).await;
        seen.push((success(&result).to_owned(), result.module_version.expect("it was run").to_string()));
    }
    seen
}

/// Replaces a module, in another way each time.
async fn replace(client: &Client, file: &Path, number: usize, new: &[u8]) {
    match number % 5 {
        // In place, in two halves.
        0 => {
            let mut writing = File::create(file).expect("it can be truncated");
            let (head, tail) = new.split_at(new.len() / 2);
            writing.write_all(head).expect("it can be written");
            greet(client).await;
            writing.write_all(tail).expect("it can be written");
        }
        // After a broken one.
        1 => {
            move_to(file, b"\0asm and no more");
            until(client, "greeting", "broken", |module| module.last_error.is_some()).await;
            move_to(file, new);
        }
        // By return, after its absence was noticed.
        2 => {
            fs::remove_file(file).expect("it is there");
            until(client, "greeting", "missing", |module| module.status == ModuleStatus::Missing).await;
            move_to(file, new);
        }
        _ => move_to(file, new),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_reloads_under_load_lose_no_task_and_mix_no_versions() {
    let modules = TempModules::new();
    let answers = ["\"one\"", "\"two\""];
    let versions = answers.map(|answer| Guest::new("greet", answer).steps(200_000).bytes());
    let file = modules.put("greeting.wasm", &versions[0]);
    let cluster = Cluster::builder().sources([modules.path()]).subworkers(2).start();
    let hashes = ["first", "second"].map(|name| cluster.folder().join(name).with_extension("wasm"));
    let hashes = [0, 1].map(|number| {
        let path = &hashes[number];
        fs::write(path, &versions[number]).expect("a file");
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
            .until_workers(&client, &format!("replacement {number} in both workers"), |workers| {
                workers.len() == 2 && workers.iter().all(|worker| worker.modules.iter().all(is_live))
            })
            .await;
        if number % 10 == 0 {
            eventually_async("that nothing older runs any more", SOON, || async {
                for _ in 0..20 {
                    if success(&greet(&client).await) != answers[number % 2] {
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
        for (answer, version) in load.await.expect("no task failed") {
            tasks += 1;
            seen.entry(answer).or_default().insert(version);
        }
    }
    let pairs = [0, 1].map(|number| (answers[number].to_owned(), BTreeSet::from([hashes[number][..16].to_owned()])));
    assert_eq!(seen, pairs.into(), "every answer is of the version that its result names");
    assert!(tasks > 1_000, "{tasks} tasks are no constant load");
}
