//! Periodic tasks: those of modules, and those that somebody adds.

use std::collections::BTreeSet;

use fastworker::{
    client::{Client, ClientError, OnConflict},
    json::Json,
    protocol::{EventKind, NewSchedule, ScheduleInfo, ScheduleSource, ScheduleStatus, TaskQuery},
    task::{ScheduleSpec, TaskStatus, schedule::When},
};
use fastworker_tests::{
    Cluster, cli,
    story::{end_of, success},
    wait::{SOON, eventually_async},
};

/// Waits until a schedule stands so, and gives it.
async fn until(client: &Client, name: &str, what: &str, is_so: impl Fn(&ScheduleInfo) -> bool) -> ScheduleInfo {
    let is_so = &is_so;
    let ask = || async move {
        let all = client.schedules().list().await.expect("an answer");
        all.into_iter().find(|info| info.schedule.name == name && is_so(info))
    };
    eventually_async(what, SOON, ask).await
}

/// The ids of the tasks that a schedule submitted, as the events tell, as soon as there are so many.
async fn fired(client: &Client, name: &str, wanted: usize) -> Vec<String> {
    let (mut after, mut ids) = (0, Vec::new());
    loop {
        let told = client.events(after, SOON).await.expect("an answer");
        assert!(!told.events.is_empty(), "{name} was fired {} times and no more", ids.len());
        after = told.last;
        let of_it = told.events.into_iter().filter(|event| event.name.as_deref() == Some(name));
        let fired = of_it.filter(|event| event.kind == EventKind::ScheduleFired);
        ids.extend(fired.map(|event| event.task_id.expect("a task").to_string()));
        if ids.len() >= wanted {
            return ids;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_says_when_is_submitted_by_itself_as_long_as_a_worker_has_it() {
    let cluster = Cluster::builder().modules(&["periodic"]).subworkers(2).start();
    let client = cluster.client().await;
    let ids = fired(&client, "countdown", 3).await;
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3, "two workers, one schedule: {ids:?}");
    for id in &ids {
        assert_eq!(success(&end_of(&client, &id.parse().expect("an id")).await), "null");
    }
    let counted = until(&client, "countdown", "three times", |info| info.last_status.is_some()).await;
    assert_eq!((counted.status, counted.runs, counted.remaining), (ScheduleStatus::Finished, 3, Some(0)));
    assert_eq!((counted.source, counted.next_run), (ScheduleSource::Module("periodic".into()), None));

    let mut list = cluster.command(["schedule", "list"]);
    list.env("COLUMNS", "200");
    let listed = cli::run(list).with_code(0).stdout;
    let line = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{listed}"));
    assert!(line("morning_report").contains(" 09:00:00 CE"), "{listed}");
    assert!(line("morning_report").contains("0 9 * * MON-FRI Europe/Paris, queue"), "{listed}");
    assert!(line("tick").contains("every 10 s") && line("tick").contains("module periodic"), "{listed}");

    // What a module has is paused, not removed.
    let refused = cluster.cli(["schedule", "remove", "tick"]).with_code(2);
    drop(refused.says("comes from the module periodic").hints("fastworker schedule pause tick"));
    drop(cluster.cli(["schedule", "pause", "tick"]).with_code(0));
    let paused = until(&client, "tick", "it is paused", |_| true).await;
    assert_eq!((paused.status, paused.next_run), (ScheduleStatus::Paused, None));
    let id = cluster.cli(["schedule", "trigger", "tick"]).with_code(0).stdout;
    let ticked = end_of(&client, &id.trim().parse().expect("an id")).await;
    assert_eq!(success(&ticked), format!("\"{}\"", id.trim()), "by hand it runs, paused or not");
    let resumed = cluster.cli(["schedule", "resume", "tick", "--json"]).with_code(0).json();
    assert_eq!((&resumed["status"], &resumed["runs"]), (&"active".into(), &paused.runs.into()), "{resumed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_last_task_runs_times_are_left_out_or_one_waits() {
    let cluster = Cluster::builder().modules(&["slow"]).subworkers(1).slots(4).start();
    let client = cluster.client().await;
    for (name, overlap) in [("skips", "skip"), ("queues", "queue")] {
        let options = ["--every", "100ms", "--overlap", overlap, "--args", "0.5", "1"];
        drop(cluster.cli([&["schedule", "add", name, "--task-name", "slow"], &options[..]].concat()).with_code(0));
    }
    for name in ["skips", "queues"] {
        let info = until(&client, name, "times are left out", |info| info.runs >= 2 && info.skipped >= 4).await;
        assert!(info.last_status.is_some_and(|status| status != TaskStatus::Failure), "{info:?}");
        let running = client.tasks(TaskQuery { name: Some("slow".into()), limit: 100, ..TaskQuery::default() }).await;
        let live = running.expect("an answer").tasks.into_iter().filter(|task| !task.status.is_final()).count();
        assert!(live <= 2, "{live} of two schedules");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_added_triggered_and_removed_by_hand() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(1).start();
    let client = cluster.client().await;
    drop(cluster.cli(["schedule", "pause", "sums"]).with_code(5).says("no schedule 'sums'").hints("schedule add"));

    let add = ["schedule", "add", "sums", "--task-name", "add", "--every", "100ms", "--count", "3", "--args", "5", "3"];
    let said = cluster.cli(add).with_code(0).stdout;
    assert!(said.starts_with("added sums\n") && said.contains("add(5, 3)"), "{said}");
    let ids = fired(&client, "sums", 3).await;
    for id in &ids {
        assert_eq!(success(&end_of(&client, &id.parse().expect("an id")).await), "8");
    }
    let over = until(&client, "sums", "it is over", |info| info.last_status == Some(TaskStatus::Success)).await;
    assert_eq!((over.status, over.runs), (ScheduleStatus::Finished, 3));

    // The same again changes nothing, another one must say that it takes its place.
    assert!(cluster.cli(add).with_code(0).stdout.starts_with("unchanged sums\n"));
    let resumed = cluster.cli(["schedule", "resume", "sums"]).with_code(1);
    drop(resumed.says("schedule 'sums' is finished").hints("fastworker schedule add sums --replace"));
    let daily = ["schedule", "add", "sums", "--task-name", "add", "--cron", "0 9 * * MON-FRI", "--tz", "Europe/Paris"];
    let daily = [&daily[..], &["--args-json", "[20,22]"]].concat();
    drop(cluster.cli(daily.clone()).with_code(2).says("'sums' with other content").hints("--replace"));
    assert!(cluster.cli([&daily[..], &["--replace"]].concat()).with_code(0).stdout.starts_with("replaced sums\n"));
    let replace = [&daily[..], &["--replace", "--json"]].concat();
    let added = cluster.cli(replace).with_code(0).json();
    assert_eq!((&added["runs"], &added["args"]), (&0.into(), &serde_json::json!([20, 22])), "{added}");
    assert_eq!((&added["tz"], &added["every"]), (&"Europe/Paris".into(), &serde_json::Value::Null));

    let id = cluster.cli(["schedule", "trigger", "sums"]).with_code(0).stdout;
    assert_eq!(success(&end_of(&client, &id.trim().parse().expect("an id")).await), "42");
    let triggered = until(&client, "sums", "it ran", |info| info.last_status == Some(TaskStatus::Success)).await;
    assert_eq!((triggered.runs, triggered.status), (0, ScheduleStatus::Active), "by hand does not count");

    drop(cluster.cli(["schedule", "trigger", "sum"]).with_code(5).hints("did you mean 'sums'?"));
    let removed = cluster.cli(["schedule", "remove", "sums", "--json"]).with_code(0).json();
    assert_eq!((&removed["status"], &removed["next_run"]), (&"removed".into(), &serde_json::Value::Null));
    drop(cluster.cli(["schedule", "remove", "sums"]).with_code(5).says("no schedule 'sums'"));

    // A task that nobody has is told, and added all the same: a worker may come. A call that its task
    // does not take is not.
    let every_hour = |name: &str, more: &[&str]| {
        let add = ["schedule", "add", name, "--every", "1h", "--task-name"];
        cluster.cli([&add, more].concat())
    };
    let doubt = |name: &str, more: &[&str]| every_hour(name, more).with_code(0).stderr;
    assert!(doubt("a", &["ad"]).starts_with("note: no worker has the task ad now"));
    let error = every_hour("b", &["add", "--args", "1"]).with_code(2);
    drop(error.says("add() missing 1 required argument: 'y'").hints("list --schema add"));
    assert_eq!(doubt("c", &["ad", "--wait-for-worker"]), "");
    assert_eq!(doubt("d", &["add", "--args", "1", "2"]), "");
}

#[test]
fn a_wrong_schedule_is_wrong_usage_and_says_what_is_wrong_with_it() {
    let cluster = Cluster::builder().start();
    let add =
        |more: &[&str]| cluster.cli([&["schedule", "add", "s", "--task-name", "add"], more].concat()).with_code(2);
    drop(add(&["--cron", "0 25 * * *"]).says("'0 25 * * *' is not a cron pattern").hints("'0 9 * * MON-FRI'"));
    drop(add(&["--cron", "0 0 31 2 *"]).says("is never due").hints("minute, hour"));
    drop(add(&["--cron", "@daily", "--tz", "Pariss"]).says("did you mean Europe/Paris?").hints("America/New_York"));
    drop(add(&["--every", "1ms"]).says("an interval must be 0.1 s to ten years").hints("follow-up"));
    assert!(add(&[]).stderr.contains("--every"));
    assert!(add(&["--every", "1s", "--cron", "@daily"]).stderr.contains("cannot be used with"));
    assert!(add(&["--every", "1s", "--until", "tomorrow"]).stderr.contains("write it like 2026-11-24T17:30:00Z"));
    drop(add(&["--every", "1s", "--until", "2020-01-01T00:00:00Z"]).says("is in the past"));
    assert!(add(&["--every", "1s", "--overlap", "both"]).stderr.contains("skip, queue"));
    let help = cluster.cli(["schedule", "add", "--help"]).with_code(0).stdout;
    assert!(help.contains("Sunday") && help.contains("FASTWORKER_CRON"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_does_all_of_it_too() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(1).start();
    let client = cluster.client().await;
    let schedules = client.schedules();
    let daily = ScheduleSpec::new(When::Cron { pattern: "@daily".into(), tz: "UTC".into() });
    let schedule = NewSchedule { args: Json::of(&(1, 2)).expect("JSON"), ..NewSchedule::new("s", "add", daily) };
    let added = schedules.add(schedule.clone(), OnConflict::Keep).await.expect("it is kept");
    assert_eq!((&*added.schedule, added.status), (&schedule, ScheduleStatus::Active));
    let other = NewSchedule { task_name: "multiply".into(), ..schedule.clone() };
    let refused = schedules.add(other.clone(), OnConflict::Keep).await;
    assert!(matches!(refused, Err(ClientError::Refused(_))), "{refused:?}");
    schedules.add(other, OnConflict::Replace).await.expect("it is kept");
    let id = schedules.trigger("s").await.expect("an answer").expect("there is one");
    assert_eq!(success(&end_of(&client, &id).await), "2");
    assert_eq!(schedules.pause("s").await.expect("an answer").map(|info| info.status), Some(ScheduleStatus::Paused));
    assert_eq!(schedules.resume("s").await.expect("an answer").map(|info| info.status), Some(ScheduleStatus::Active));
    assert!(schedules.remove("s").await.expect("an answer").is_some());
    assert_eq!(schedules.trigger("s").await.expect("an answer"), None);
    assert_eq!(schedules.list().await.expect("an answer"), []);
}
