//! Schedules: those of modules, and those that are added by hand.

use std::collections::BTreeSet;

use fastworker::{
    client::{Client, ClientError, OnConflict},
    json::Json,
    protocol::{EventKind, NewSchedule, ScheduleInfo, ScheduleSource, ScheduleStatus, TaskQuery},
    task::{ScheduleSpec, TaskStatus, schedule::When},
};
use fastworker_tests::{
    Cluster, Transcript, cli,
    task_helpers::{expect_success, wait_for_result},
    wait::{TIMEOUT, eventually_async},
};

/// Waits until a schedule fulfils a condition, and returns it.
async fn wait_for_schedule(
    client: &Client,
    name: &str,
    what: &str,
    is_done: impl Fn(&ScheduleInfo) -> bool,
) -> ScheduleInfo {
    let is_done = &is_done;
    let check = || async move {
        let all = client.schedules().list().await.expect("reply expected");
        all.into_iter().find(|info| info.schedule.name == name && is_done(info))
    };
    eventually_async(what, TIMEOUT, check).await
}

/// Waits until a schedule has submitted `wanted` tasks, and returns their ids.
async fn wait_for_runs(client: &Client, name: &str, wanted: usize) -> Vec<String> {
    let (mut after, mut ids) = (0, Vec::new());
    loop {
        let read = client.events(after, TIMEOUT).await.expect("reply expected");
        assert!(!read.events.is_empty(), "{name} was fired {} times and no more", ids.len());
        after = read.last;
        let own = read.events.into_iter().filter(|event| event.name.as_deref() == Some(name));
        let runs = own.filter(|event| event.kind == EventKind::ScheduleFired);
        ids.extend(runs.map(|event| event.task_id.expect("task expected").to_string()));
        if ids.len() >= wanted {
            return ids;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_of_a_module_submit_its_tasks() {
    let cluster = Cluster::builder().modules(&["periodic"]).subworkers(2).start();
    let client = cluster.client().await;
    let ids = wait_for_runs(&client, "countdown", 3).await;
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3, "two workers, one schedule: {ids:?}");
    for id in &ids {
        assert_eq!(expect_success(&wait_for_result(&client, &id.parse().expect("id expected")).await), "null");
    }
    let counted = wait_for_schedule(&client, "countdown", "three times", |info| info.last_status.is_some()).await;
    assert_eq!((counted.status, counted.runs, counted.remaining), (ScheduleStatus::Finished, 3, Some(0)));
    assert_eq!((counted.source, counted.next_run), (ScheduleSource::Module("periodic".into()), None));

    let mut list = cluster.command(["schedule", "list"]);
    list.env("COLUMNS", "200");
    let listed = cli::run(list).with_code(0).stdout;
    let line = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{listed}"));
    assert!(line("morning_report").contains(" 09:00:00 CE"), "{listed}");
    assert!(line("morning_report").contains("0 9 * * MON-FRI Europe/Paris, queue"), "{listed}");
    assert!(line("tick").contains("every 10 s") && line("tick").contains("module periodic"), "{listed}");

    // A schedule of a module is paused, not removed.
    let mut errors = Transcript::new();
    errors.add(&cluster.cli(["schedule", "remove", "tick"]).with_code(2));
    errors.check();
    let _ = cluster.cli(["schedule", "pause", "tick"]).with_code(0);
    let paused = wait_for_schedule(&client, "tick", "it is paused", |_| true).await;
    assert_eq!((paused.status, paused.next_run), (ScheduleStatus::Paused, None));
    let id = cluster.cli(["schedule", "trigger", "tick"]).with_code(0).stdout;
    let ticked = wait_for_result(&client, &id.trim().parse().expect("id expected")).await;
    assert_eq!(expect_success(&ticked), format!("\"{}\"", id.trim()), "by hand it runs, paused or not");
    let resumed = cluster.cli(["schedule", "resume", "tick", "--json"]).with_code(0).json();
    assert_eq!((&resumed["status"], &resumed["runs"]), (&"active".into(), &paused.runs.into()), "{resumed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn due_times_of_a_running_task_are_skipped_or_one_is_queued() {
    let cluster = Cluster::builder().modules(&["slow"]).subworkers(1).slots(4).start();
    let client = cluster.client().await;
    for (name, overlap) in [("skips", "skip"), ("queues", "queue")] {
        let options = ["--every", "100ms", "--overlap", overlap, "--args", "0.5", "1"];
        let _ = cluster.cli([&["schedule", "add", name, "--task-name", "slow"], &options[..]].concat()).with_code(0);
    }
    for name in ["skips", "queues"] {
        let info =
            wait_for_schedule(&client, name, "times are left out", |info| info.runs >= 2 && info.skipped >= 4).await;
        assert!(info.last_status.is_some_and(|status| status != TaskStatus::Failure), "{info:?}");
        let running = client.tasks(TaskQuery { name: Some("slow".into()), limit: 100, ..TaskQuery::default() }).await;
        let live = running.expect("reply expected").tasks.into_iter().filter(|task| !task.status.is_final()).count();
        assert!(live <= 2, "{live} of two schedules");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_added_triggered_and_removed_by_command() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(1).start();
    let client = cluster.client().await;
    let mut errors = Transcript::new();
    errors.add(&cluster.cli(["schedule", "pause", "sums"]).with_code(5));

    let add = ["schedule", "add", "sums", "--task-name", "add", "--every", "100ms", "--count", "3", "--args", "5", "3"];
    let added = cluster.cli(add).with_code(0).stdout;
    assert!(added.starts_with("added sums\n") && added.contains("add(5, 3)"), "{added}");
    let ids = wait_for_runs(&client, "sums", 3).await;
    for id in &ids {
        assert_eq!(expect_success(&wait_for_result(&client, &id.parse().expect("id expected")).await), "8");
    }
    let over =
        wait_for_schedule(&client, "sums", "it is finished", |info| info.last_status == Some(TaskStatus::Success))
            .await;
    assert_eq!((over.status, over.runs), (ScheduleStatus::Finished, 3));

    // Adding the same schedule changes nothing; a different one needs `--replace`.
    assert!(cluster.cli(add).with_code(0).stdout.starts_with("unchanged sums\n"));
    errors.add(&cluster.cli(["schedule", "resume", "sums"]).with_code(1));
    let daily = ["schedule", "add", "sums", "--task-name", "add", "--cron", "0 9 * * MON-FRI", "--tz", "Europe/Paris"];
    let daily = [&daily[..], &["--args-json", "[20,22]"]].concat();
    errors.add(&cluster.cli(daily.clone()).with_code(2));
    assert!(cluster.cli([&daily[..], &["--replace"]].concat()).with_code(0).stdout.starts_with("replaced sums\n"));
    let replace = [&daily[..], &["--replace", "--json"]].concat();
    let added = cluster.cli(replace).with_code(0).json();
    assert_eq!((&added["runs"], &added["args"]), (&0.into(), &serde_json::json!([20, 22])), "{added}");
    assert_eq!((&added["tz"], &added["every"]), (&"Europe/Paris".into(), &serde_json::Value::Null));

    let id = cluster.cli(["schedule", "trigger", "sums"]).with_code(0).stdout;
    assert_eq!(expect_success(&wait_for_result(&client, &id.trim().parse().expect("id expected")).await), "42");
    let triggered =
        wait_for_schedule(&client, "sums", "it ran", |info| info.last_status == Some(TaskStatus::Success)).await;
    assert_eq!((triggered.runs, triggered.status), (0, ScheduleStatus::Active), "by hand does not count");

    errors.add(&cluster.cli(["schedule", "trigger", "sum"]).with_code(5));
    let removed = cluster.cli(["schedule", "remove", "sums", "--json"]).with_code(0).json();
    assert_eq!((&removed["status"], &removed["next_run"]), (&"removed".into(), &serde_json::Value::Null));
    errors.add(&cluster.cli(["schedule", "remove", "sums"]).with_code(5));
    errors.check();
}

#[test]
fn a_schedule_of_an_unavailable_task_is_added_with_a_warning() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(1).start();
    let mut shown = Transcript::new();
    // A worker may connect later. A call with invalid arguments is refused.
    let every_hour = |name: &str, more: &[&str]| {
        let add = ["schedule", "add", name, "--every", "1h", "--task-name"];
        cluster.cli([&add, more].concat())
    };
    shown.note(&every_hour("a", &["ad"]).with_code(0).stderr);
    shown.add(&every_hour("b", &["add", "--args", "1"]).with_code(2));
    shown.check();
    assert_eq!(every_hour("c", &["ad", "--wait-for-worker"]).with_code(0).stderr, "");
    assert_eq!(every_hour("d", &["add", "--args", "1", "2"]).with_code(0).stderr, "");
}

#[test]
fn an_invalid_schedule_is_a_usage_error() {
    let cluster = Cluster::builder().start();
    let mut errors = Transcript::new();
    for options in [
        &[][..],
        &["--cron", "0 25 * * *"],
        &["--cron", "0 0 31 2 *"],
        &["--cron", "@daily", "--tz", "Pariss"],
        &["--every", "1ms"],
        &["--every", "1s", "--cron", "@daily"],
        &["--every", "1s", "--until", "tomorrow"],
        &["--every", "1s", "--until", "2020-01-01T00:00:00Z"],
        &["--every", "1s", "--overlap", "both"],
    ] {
        errors.add(&cluster.cli([&["schedule", "add", "s", "--task-name", "add"], options].concat()).with_code(2));
    }
    errors.add(&cluster.cli(["schedule", "add", "--help"]).with_code(0));
    errors.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_adds_triggers_and_removes_schedules() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(1).start();
    let client = cluster.client().await;
    let schedules = client.schedules();
    let daily = ScheduleSpec::new(When::Cron { pattern: "@daily".into(), tz: "UTC".into() });
    let schedule = NewSchedule { args: Json::of(&(1, 2)).expect("valid JSON"), ..NewSchedule::new("s", "add", daily) };
    let added = schedules.add(schedule.clone(), OnConflict::Keep).await.expect("schedule added");
    assert_eq!((&*added.schedule, added.status), (&schedule, ScheduleStatus::Active));
    let other = NewSchedule { task_name: "multiply".into(), ..schedule.clone() };
    let refused = schedules.add(other.clone(), OnConflict::Keep).await;
    assert!(matches!(refused, Err(ClientError::Refused(_))), "{refused:?}");
    schedules.add(other, OnConflict::Replace).await.expect("schedule added");
    let id = schedules.trigger("s").await.expect("reply expected").expect("there is one");
    assert_eq!(expect_success(&wait_for_result(&client, &id).await), "2");
    assert_eq!(
        schedules.pause("s").await.expect("reply expected").map(|info| info.status),
        Some(ScheduleStatus::Paused)
    );
    assert_eq!(
        schedules.resume("s").await.expect("reply expected").map(|info| info.status),
        Some(ScheduleStatus::Active)
    );
    assert!(schedules.remove("s").await.expect("reply expected").is_some());
    assert_eq!(schedules.trigger("s").await.expect("reply expected"), None);
    assert_eq!(schedules.list().await.expect("reply expected"), []);
}
