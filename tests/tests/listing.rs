//! Results, tasks, workers and events as commands show them, and the log.

use std::{collections::BTreeSet, fs};

use fastworker_tests::{Cluster, Process, TIMEOUT, Transcript, cli, eventually, fastworker, module};
use serde_json::Value;

fn cluster() -> Cluster {
    Cluster::builder().modules(&["arithmetic", "flaky", "hostile", "slow"]).own_slots(2).without_unknown_grace().start()
}

fn submit(cluster: &Cluster, args: &[&str]) -> String {
    let ran = cluster.cli([&["submit", "--non-blocking", "--task-name"], args].concat()).with_code(0);
    assert_eq!(ran.stderr, "", "a hint is for terminals");
    ran.stdout.trim().to_owned()
}

/// The lines of JSON in a string.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

#[test]
fn result_prints_and_exits_as_submit_does() {
    let cluster = cluster();
    let id = submit(&cluster, &["add", "--args", "5", "3"]);
    let ran = cluster.cli(["result", &id, "--wait"]).with_code(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("8\n", ""));
    assert_eq!(cluster.cli(["result", &id, "--json"]).with_code(0).json()["result"], 8);

    let failed = submit(&cluster, &["picky", "--args", "1"]);
    let mut errors = Transcript::new();
    errors.add(&cluster.cli(["result", &failed, "--wait"]).with_code(1));

    let slow = submit(&cluster, &["slow", "--args", "60"]);
    let _ = cluster.cli(["result", &slow]).with_code(4).with_error();
    let late = cluster.cli(["result", &slow, "--wait", "--timeout", "3123.4567ms"]).with_code(4);
    errors.note(late.error());
    assert_eq!(cluster.cli(["result", &slow, "--json"]).with_code(4).json()["name"], "slow");
    let _ = cluster.cli(["cancel", &slow]).with_code(0);
    errors.add(&cluster.cli(["result", &slow]).with_code(1));
    errors.add(&cluster.cli(["result", "an-unknown-id"]).with_code(5));
    errors.check();
}

#[test]
fn a_task_id_is_an_argument_an_option_or_a_variable() {
    let cluster = cluster();
    let id = submit(&cluster, &["add", "--args", "5", "3"]);
    let _ = cluster.cli(["result", &id, "--wait"]).with_code(0);
    let status = |args: &[&str], variable: &str| {
        let mut command = cluster.command([&["status", "--json"], args].concat());
        command.env("FASTWORKER_TASK_ID", variable);
        cli::run(command)
    };
    for args in [&[][..], &[id.as_str()], &["--task-id", &id]] {
        assert_eq!(status(args, &id).with_code(0).json()["task_id"], id.as_str());
    }
    assert_eq!(status(&[&id], "another").with_code(0).json()["task_id"], id.as_str());
    let _ = status(&[&id, "--task-id", "a-third"], "another").with_code(2).with_error();
    let mut again = cluster.command(["submit", "--json", "--task-name", "add", "--args", "1", "1"]);
    again.env("FASTWORKER_TASK_ID", &id);
    assert_eq!(cli::run(again).with_code(0).json()["result"], 2, "a variable makes no submission the first one again");
}

#[test]
fn tasks_are_listed_by_status_name_worker_and_age() {
    let mut cluster = cluster();
    cluster.start_subworker("sw1");
    for args in [&["add", "--args", "1", "2"][..], &["picky", "--args", "1"]] {
        let id = submit(&cluster, args);
        let _ = cluster.cli(["result", &id, "--wait"]);
    }
    let scheduled = submit(&cluster, &["add", "--countdown", "10m", "--args", "1", "2", "--priority", "high"]);
    let list = |args: &[&str]| {
        let tasks = cluster.cli([&["tasks", "--json"], args].concat()).with_code(0).json();
        let tasks = tasks.as_array().expect("list expected").clone();
        tasks.iter().map(|task| task["name"].as_str().expect("name expected").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(&[]), ["add", "picky", "add"], "scheduled ones before ended ones, the newest first");
    assert_eq!(list(&["--status", "failure"]), ["picky"]);
    assert_eq!(list(&["--status", "failure", "scheduled"]), ["add", "picky"]);
    assert_eq!(list(&["--name", "add", "--status", "success,scheduled"]), ["add", "add"]);
    assert_eq!(list(&["--worker", "nobody"]), [""; 0]);
    assert_eq!(list(&["--since", "1h"]).len(), 3);
    assert_eq!(list(&["--since", "0s"]), [""; 0]);
    assert_eq!(list(&["--limit", "1"]), ["add"]);
    assert_eq!(list(&["--limit", "1", "--offset", "1"]), ["picky"]);

    let shown = cluster.cli(["tasks", "--limit", "2"]).with_code(0);
    assert!(shown.stdout.contains(&scheduled) && shown.stdout.contains("high"), "{shown:?}");
    assert!(shown.stdout.contains("not to my taste"), "{shown:?}");
    let mut notes = Transcript::new();
    notes.note(&shown.stderr);
    notes.add(&cluster.cli(["tasks", "--name", "nobody"]).with_code(0));
    notes.add(&cluster.cli(["tasks", "--status", "queued"]).with_code(2));
    notes.check();
}

#[test]
fn an_empty_list_is_shown_as_a_note() {
    let cluster = Cluster::builder().start();
    let mut notes = Transcript::new();
    for command in [
        &["tasks"][..],
        &["tasks", "--since", "1h"],
        &["events", "--kind", "task"],
        &["schedule", "list"],
        &["workers"],
        &["list"],
    ] {
        let ran = cluster.cli(command).with_code(0);
        assert!(ran.stdout.is_empty() && ran.stderr.starts_with("note: "), "{ran:?}");
        notes.add(&ran);
        let json = cluster.cli([command, &["--json"]].concat()).with_code(0).stdout;
        assert_eq!(json, if command[0] == "events" { "" } else { "[]\n" });
    }
    notes.check();
}

#[test]
fn a_task_has_the_same_fields_in_every_command() {
    let cluster = cluster();
    let fields =
        |task: &Value| -> BTreeSet<String> { task.as_object().expect("task expected").keys().cloned().collect() };
    let scheduled =
        ["submit", "--json", "--non-blocking", "--countdown", "10m", "--task-name", "add", "--args", "5", "3"];
    let scheduled = cluster.cli(scheduled).with_code(0).json();
    assert_eq!((&scheduled["status"], &scheduled["attempts"]), (&"scheduled".into(), &0.into()));
    let (all, id) = (fields(&scheduled), scheduled["task_id"].as_str().expect("id expected"));
    assert_eq!(cluster.cli(["status", "--json", id]).with_code(0).json(), scheduled);
    assert_eq!(cluster.cli(["result", "--json", id]).with_code(4).json(), scheduled);
    let cancelled = cluster.cli(["cancel", "--json", id]).with_code(0).json();
    assert_eq!((fields(&cancelled), &cancelled["status"]), (all.clone(), &"cancelled".into()));
    assert_eq!((&cancelled["name"], &cancelled["args"]), (&scheduled["name"], &scheduled["args"]));
    let failed = cluster.cli(["submit", "--json", "--task-name", "picky", "--args", "1"]).with_code(1).json();
    assert_eq!(fields(&failed), all);
    for listed in cluster.cli(["tasks", "--json"]).with_code(0).json().as_array().expect("list expected") {
        assert!(fields(listed).is_subset(&all), "{listed}");
        let whole = cluster.cli(["status", "--json", listed["task_id"].as_str().expect("id expected")]).json();
        assert!(fields(listed).iter().all(|field| listed[field] == whole[field]), "{listed} {whole}");
    }
}

#[test]
fn status_shows_the_call_and_what_the_task_waits_for() {
    let cluster = cluster();
    let status = |id: &str| cluster.cli(["status", id]).stdout;
    let scheduled = submit(&cluster, &["add", "--countdown", "10m", "--args", "5", "3"]);
    let shown = status(&scheduled);
    assert!(shown.contains("(in 10 min)"), "{shown}");
    let mut transcript = Transcript::new();
    transcript.add(&cluster.cli(["status", &scheduled]));

    let wait = ["submit", "--wait-for-worker", "--timeout", "3s", "--task-id", "odd", "--task-name", "nope"];
    transcript.note(cluster.cli(wait).with_code(4).error());
    transcript.add(&cluster.cli(["status", "odd"]));

    let retried = submit(&cluster, &["panic_now", "--max-retries", "1", "--retry-delay", "10m"]);
    let shown =
        eventually("the first attempt fails", TIMEOUT, || Some(status(&retried)).filter(|it| it.contains("retrying")));
    assert!(shown.lines().any(|line| line.starts_with("due ")) && shown.contains("trap"), "{shown}");
    let result = cluster.cli(["result", &retried]).with_code(4).stderr;
    assert!(result.contains("attempt 1"), "{result}");

    let _ = cluster.cli(["cancel", &scheduled]).with_code(0);
    let shown = status(&scheduled);
    for line in ["name       add\n", "call       add(5, 3)\n", "priority   normal\n", "created    20"] {
        assert!(shown.contains(line), "{shown}");
    }
    transcript.check();
}

#[test]
fn output_fits_eighty_columns_and_ids_are_whole() {
    let cluster = cluster();
    let (id, name) = (format!("größe-日本-{}", "i".repeat(100)), "n".repeat(100));
    let _ = cluster.cli(["submit", "--task-id", &id, "--task-name", "add", "--args", "1", "2"]).with_code(0);
    let _ = cluster.cli(["submit", "--task-name", &name, "--priority", "low"]).with_code(5);
    let unknown = cluster.cli(["submit", "--json", "--task-name", &name]).with_code(5).json();
    let daily = ["--cron", "0 9 * * MON-FRI", "--tz", "America/Argentina/Buenos_Aires", "--task-name", "add"];
    let _ = cluster.cli([&["schedule", "add", &name], &daily[..]].concat());
    for command in [&["tasks"][..], &["events"], &["workers"], &["list"], &["schedule", "list"], &["status", &id]] {
        let shown = cluster.cli(command).with_code(0).stdout;
        for line in shown.lines() {
            // A single word, such as an id, is not broken.
            let is_word = line.split_whitespace().count() == 1 || line.starts_with("task ");
            assert!(line.chars().count() <= 80 || is_word, "{command:?}: {line}");
        }
    }
    let tasks = cluster.cli(["tasks"]).with_code(0).stdout;
    assert!(tasks.contains(&format!("\n{id}\n")) && tasks.contains(&format!("    {name},")), "{tasks}");
    assert!(
        tasks.contains(unknown["task_id"].as_str().expect("id expected")) && tasks.contains("priority low"),
        "{tasks}"
    );
}

#[test]
fn workers_are_listed_with_their_status() {
    let mut cluster = Cluster::builder().modules(&["arithmetic"]).start();
    assert_eq!(cluster.cli(["workers", "--json"]).with_code(0).stdout, "[]\n");
    cluster.start_subworker("sw1");
    let shown = cluster.cli(["workers"]).with_code(0).stdout;
    assert!(shown.contains("sw1") && shown.contains("active") && shown.contains(" ago"), "{shown}");
    let workers = cluster.cli(["workers", "--json"]).with_code(0).json();
    assert_eq!((&workers[0]["worker_id"], &workers[0]["task_count"]), (&"sw1".into(), &2.into()), "{workers}");
    assert_eq!(workers[0]["address"], Value::Null, "it listens nowhere");
    assert_eq!(workers[0]["modules"][0], "arithmetic");
}

#[test]
fn events_are_shown_by_kind_and_after_a_number() {
    let cluster = cluster();
    let id = submit(&cluster, &["add", "--args", "1", "2"]);
    let _ = cluster.cli(["result", &id, "--wait"]).with_code(0);
    let ended = cluster.cli(["events", "--json", "--kind", "task.success"]).with_code(0);
    let ended = lines(&ended.stdout);
    assert_eq!((ended.len(), &ended[0]["task_id"]), (1, &id.as_str().into()));
    let kinds = |args: &[&str]| {
        let ran = cluster.cli([&["events", "--json"], args].concat()).with_code(0);
        lines(&ran.stdout)
            .iter()
            .map(|event| event["kind"].as_str().expect("a kind").to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(kinds(&["--kind", "worker"]), BTreeSet::from(["worker.joined".to_owned()]));
    assert!(kinds(&[]).len() > 1);
    assert_eq!(kinds(&["--after", &ended[0]["number"].to_string()]), BTreeSet::new());
    let text = cluster.cli(["events", "--kind", "task.success"]).with_code(0).stdout;
    assert!(text.contains(" task.success       add\n"), "{text}");
    assert!(text.contains(&format!("\n       {id} on control-plane\n")), "{text}");
    let mut errors = Transcript::new();
    errors.add(&cluster.cli(["events", "--kind", "tusk"]).with_code(2));
    errors.check();
}

#[test]
fn events_are_followed_across_restarts_of_the_control_plane() {
    let mut cluster = cluster();
    let command = cluster.command(["events", "--follow", "--json", "--kind", "task.success", "worker.joined"]);
    let mut events = Process::start("events", command, cluster.directory());
    let mut next = || events.line(TIMEOUT).map(|line| lines(&line).remove(0)).expect("event expected");
    assert_eq!(next()["kind"], "worker.joined");
    let first = submit(&cluster, &["add", "--args", "1", "2"]);
    assert_eq!(next()["task_id"], first.as_str());
    cluster.control_plane.stop();
    cluster.restart_control_plane();
    // Events of the new one start at 1 and none is skipped.
    let joined = next();
    assert_eq!((&joined["kind"], &joined["number"]), (&"worker.joined".into(), &1.into()));
    let second = submit(&cluster, &["add", "--args", "3", "4"]);
    assert_eq!(next()["task_id"], second.as_str());
    cluster.control_plane.kill();
    cluster.restart_control_plane();
    assert_eq!(next()["number"], 1);
    events.interrupt();
    assert_eq!(events.wait_for_exit(TIMEOUT).code(), Some(130));
    assert!(events.log().contains("note: "), "{}", events.log());
}

#[test]
fn the_log_has_fields() {
    let cluster = Cluster::builder()
        .modules(&["flaky", "slow"])
        .own_slots(1)
        .control_plane_args(&["--log-format", "json", "--log-level", "debug"])
        .start();
    let failed = submit(&cluster, &["picky", "--args", "1"]);
    let _ = cluster.cli(["result", &failed, "--wait"]).with_code(1);
    let slow = submit(&cluster, &["slow", "--args", "0.01", "1"]);
    let _ = cluster.cli(["result", &slow, "--wait"]).with_code(0);
    let find = |message: &str, id: &str| {
        eventually(message, TIMEOUT, || {
            lines(&cluster.control_plane.log())
                .into_iter()
                .find(|line| line["message"] == message && line["task"] == id)
        })
    };
    let line = find("a task failed", &failed);
    for (field, value) in [("level", "WARN"), ("name", "picky"), ("worker", "control-plane"), ("module", "flaky")] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!(line["attempt"], 1);
    assert!(line["version"].is_string() && line["error"].as_str().is_some_and(|it| it.contains("taste")), "{line}");
    assert_eq!(find("an attempt ended", &slow)["outcome"], "success");
    assert_eq!(find("a task succeeded", &slow)["level"], "DEBUG");
    let line = find("slept 0.01 s", &slow);
    assert_eq!((&line["target"], &line["severity"], &line["module"]), (&"task".into(), &"info".into(), &"slow".into()));
}

#[test]
fn by_default_the_log_has_failures_but_no_successes() {
    let cluster = cluster();
    let succeeded = submit(&cluster, &["add", "--args", "1", "2"]);
    let _ = cluster.cli(["result", &succeeded, "--wait"]).with_code(0);
    let failed = submit(&cluster, &["picky", "--args", "1"]);
    let _ = cluster.cli(["result", &failed, "--wait"]).with_code(1);
    eventually("the failure is logged", TIMEOUT, || cluster.control_plane.log().contains(&failed).then_some(()));
    assert!(!cluster.control_plane.log().contains(&succeeded));
}

#[test]
fn list_ignores_the_variable_for_the_modules_of_a_worker() {
    let cluster = cluster();
    let mut command = cluster.command(["list", "--json"]);
    command.env("FASTWORKER_TASK_MODULES", module("arithmetic")).env("FASTWORKER_FOLLOW", "true");
    assert_eq!(cli::run(command).with_code(0).json()[0]["worker_id"], "control-plane");
    let mut command = fastworker();
    command.args(["list", "--json"]).env("FASTWORKER_LIST_TASK_MODULES", module("arithmetic"));
    assert_eq!(cli::run(command).with_code(0).json()[0]["name"], "arithmetic");
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let directory = tempfile::tempdir().expect("directory created");
    let mut command = fastworker();
    command.args(["man", "--out"]).arg(directory.path());
    let _ = cli::run(command).with_code(0);
    let page = |name: &str| fs::read_to_string(directory.path().join(name)).expect("a page");
    assert!(page("fastworker.1").contains("fastworker\\-submit(1)"));
    for name in ["fastworker-control-plane.1", "fastworker-result.1", "fastworker-man.1"] {
        assert!(page(name).starts_with(".ie"), "{name} is no page");
    }
    assert!(page("fastworker-submit.1").contains("FASTWORKER_TASK_NAME"));
    let mut command = fastworker();
    command.args(["man", "sumbit"]);
    let mut errors = Transcript::new();
    errors.add(&cli::run(command).with_code(2));
    errors.check();
    let mut command = fastworker();
    command.args(["man", "schedule", "add"]);
    assert!(cli::run(command).with_code(0).stdout.contains("fastworker\\-schedule\\-add"));
}
