//! Correct use of the command line, with the built binary.

use std::{fs, time::Duration};

use fastworker_tests::{Cluster, Transcript, cli, eventually, fastworker, module, modules, wait::TIMEOUT};
use serde_json::{Value, json};

fn cluster() -> Cluster {
    Cluster::builder().modules(&["arithmetic", "text", "flaky", "slow", "hostile"]).own_slots(2).start()
}

#[test]
fn submit_prints_only_the_result() {
    let cluster = cluster();
    let sum = cluster.cli(["submit", "--task-name", "add", "--args", "5", "3"]).with_code(0);
    assert_eq!((sum.stdout.as_str(), sum.stderr.as_str()), ("8\n", ""));
}

#[test]
fn json_results_have_the_names_of_the_api_reference() {
    let cluster = cluster();
    let sum = cluster.cli(["submit", "--json", "--task-name", "add", "--args", "5", "3"]).with_code(0).json();
    assert_eq!(sum["status"], "success");
    assert_eq!(sum["result"], 8);
    assert_eq!(sum["error"], Value::Null);
    for field in ["task_id", "started_at", "completed_at"] {
        assert!(sum[field].is_string(), "{field} in {sum}");
    }
    let id = sum["task_id"].as_str().expect("id expected");
    // It also has the fields of a task, as in each command.
    let task = ["id", "name", "args", "kwargs", "priority", "created_at"].map(|field| sum[field].clone());
    assert_eq!(task[..5], [json!(id), json!("add"), json!([5, 3]), json!({}), json!("normal")]);
    assert!(task[5].is_string(), "{sum}");
    for command in ["status", "result"] {
        assert_eq!(cluster.cli([command, "--json", id]).with_code(0).json(), sum);
    }
    let failed = cluster.cli(["submit", "--json", "--task-name", "picky", "--args", "1"]).with_code(1).json();
    assert_eq!(failed["status"], "failure");
    assert_eq!(failed["result"], Value::Null);
    assert_eq!(failed["error_kind"], "bad-arguments");
}

#[test]
fn arguments_that_are_not_json_are_strings() {
    let cluster = cluster();
    let submit = |args: &[&str]| cluster.cli([&["submit"], args].concat()).with_code(0).stdout;
    assert_eq!(submit(&["--task-name", "add", "--args", "-5", "3"]), "-2\n");
    assert_eq!(submit(&["--task-name", "reverse", "--args", "größe"]), "\"eßörg\"\n");
    assert_eq!(submit(&["--task-name", "reverse", "--args", "\"12\""]), "\"21\"\n");
    assert_eq!(submit(&["--task-name", "join", "--args", r#"["a", "b"]"#, "+"]), "\"a+b\"\n");
    assert_eq!(submit(&["--task-name", "join", "--args", "[\"a\", \"b\"]", "--kwargs", "separator=-"]), "\"a-b\"\n");
    assert_eq!(submit(&["--task-name", "add", "--kwargs", "x=1", "y=2"]), "3\n");
    assert_eq!(submit(&["--task-name", "add", "--kwargs", "x=1", "--kwargs", "y=-2"]), "-1\n");
    assert_eq!(submit(&["--task-name", "add", "--args-json", "[5, 3]"]), "8\n");
    assert!(submit(&["--task-name", "add", "--args", "1", "--json", "--kwargs", "y=1"]).contains("\"result\": 2"));
}

#[test]
fn a_task_submitted_without_waiting_is_looked_up_by_its_id() {
    let cluster = cluster();
    let submitted = cluster.cli(["submit", "--non-blocking", "--task-name", "slow", "--args", "0.2", "2"]).with_code(0);
    let id = submitted.stdout.trim();
    let under_way = cluster.cli(["status", "--task-id", id]).with_code(0);
    assert!(under_way.stdout.contains("name       slow"), "{under_way:?}");
    let ended = eventually("the task ends", TIMEOUT, || {
        let status = cluster.cli(["status", "--json", "--task-id", id]).with_code(0).json();
        (status["status"] == "success").then_some(status)
    });
    assert_eq!(ended["result"], 2);
    let shown = cluster.cli(["status", "--task-id", id]).with_code(0);
    assert!(shown.stdout.contains("status     success\nresult     2\n"), "{shown:?}");
}

#[test]
fn status_of_a_failed_task_is_exit_code_1() {
    let cluster = cluster();
    let submitted = cluster.cli(["submit", "--json", "--task-name", "picky", "--args", "1"]).with_code(1).json();
    let id = submitted["task_id"].as_str().expect("id expected");
    let shown = cluster.cli(["status", "--task-id", id]).with_code(1);
    let names = ["status", "error", "kind", "worker", "attempts"];
    let lines = shown.stdout.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    let mut transcript = Transcript::new();
    transcript.note(&lines.collect::<Vec<_>>().join("\n"));
    transcript.check();
}

#[test]
fn a_chosen_id_is_submitted_once() {
    let cluster = cluster();
    let submit = |args: [&str; 2]| {
        let options = ["submit", "--json", "--task-id", "mine", "--task-name", "add", "--args"];
        cluster.cli([&options[..], &args[..]].concat())
    };
    let first = submit(["5", "3"]).with_code(0).json();
    assert_eq!(first["task_id"], "mine");
    assert_eq!(submit(["5", "3"]).with_code(0).json(), first);
    let mut errors = Transcript::new();
    errors.add(&submit(["100", "100"]).with_code(2));
    errors.check();
}

#[test]
fn a_countdown_delays_a_task() {
    let cluster = cluster();
    let options = ["submit", "--non-blocking", "--countdown", "4s", "--task-name", "add", "--args", "1", "2"];
    let id = cluster.cli(options).with_code(0).stdout.trim().to_owned();
    let status = |id: &str| cluster.cli(["status", "--json", "--task-id", id]).json();
    assert_eq!(status(&id)["status"], "scheduled");
    let ended = eventually("the task ends", TIMEOUT, || Some(status(&id)).filter(|it| it["result"] == 3));
    let moment = |field: &str| ended[field].as_str().expect("a moment").to_owned();
    assert!(moment("started_at") < moment("completed_at"));
    // A waiting command gets the result.
    let waited = ["submit", "--countdown", "100ms", "--task-name", "add", "--args", "2", "2"];
    assert_eq!(cluster.cli(waited).with_code(0).stdout, "4\n");
}

#[test]
fn follow_shows_progress_and_logs_while_the_task_runs() {
    let cluster = cluster();
    let followed = cluster.cli(["submit", "--follow", "--task-name", "slow", "--args", "0.3", "3"]).with_code(0);
    assert_eq!(followed.stdout, "3\n");
    let expected = "1/3 step 1 of 3\n2/3 step 2 of 3\n3/3 step 3 of 3\ninfo  slept 0.3 s\n";
    assert_eq!(followed.stderr, expected);
}

#[test]
fn a_failed_task_is_shown_with_kind_worker_and_attempts() {
    let cluster = cluster();
    let options = ["submit", "--retry-delay", "1ms", "--task-name", "flaky", "--args", "10"];
    let failed = cluster.cli(options).with_code(1);
    assert_eq!(failed.stdout, "");
    let mut errors = Transcript::new();
    errors.add(&failed);
    errors.check();
}

#[test]
fn cancel_stops_a_running_task() {
    let cluster = cluster();
    let id = cluster.cli(["submit", "--non-blocking", "--task-name", "endless_loop"]).with_code(0).stdout;
    let id = id.trim();
    let cancelled = cluster.cli(["cancel", "--task-id", id]).with_code(0);
    assert_eq!(cancelled.stdout, format!("cancelled {id}\n"));
    let status = cluster.cli(["status", "--json", "--task-id", id]).with_code(1).json();
    assert_eq!(status["status"], "cancelled");
    let mut errors = Transcript::new();
    errors.add(&cluster.cli(["cancel", "--task-id", id]).with_code(1));
    errors.check();
    let id = cluster.cli(["submit", "--non-blocking", "--task-name", "endless_loop"]).stdout;
    let cancelled = cluster.cli(["cancel", "--json", "--task-id", id.trim()]).with_code(0).json();
    assert_eq!((&cancelled["task_id"], &cancelled["status"]), (&json!(id.trim()), &json!("cancelled")));
}

#[test]
fn a_flag_overrides_a_variable_and_a_variable_the_default() {
    let cluster = cluster();
    let submit = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut command = cluster.command(["submit", "--json"]);
        command.args(flags).envs(variables.iter().copied());
        cli::run(command)
    };
    let both = [("FASTWORKER_TASK_NAME", "multiply"), ("FASTWORKER_ARGS_JSON", "[5, 3]")];
    assert_eq!(submit(&[], &both).with_code(0).json()["result"], 15);
    assert_eq!(submit(&["--task-name", "add"], &both).with_code(0).json()["result"], 8);
    assert_eq!(submit(&["--args-json", "[2, 2]"], &both).with_code(0).json()["result"], 4);
    let nowhere = [("FASTWORKER_DISCOVERY_ADDRESS", "tcp://127.0.0.1:9"), ("FASTWORKER_TIMEOUT", "100ms")];
    let submission = ["--task-name", "add", "--args", "1", "1"];
    let ran = submit(&submission, &nowhere).with_code(3).with_error();
    assert!(ran.stderr.contains("tcp://127.0.0.1:9"), "{ran:?}");
    let discovery = cluster.discovery();
    let there = [&submission[..], &["--discovery-address", &discovery]].concat();
    let found = submit(&there, &[nowhere[0]]).with_code(0);
    assert_eq!(found.json()["result"], 2);
    let default = cli::run({
        let mut command = fastworker();
        command.args(["submit", "--help"]);
        command
    });
    let words = default.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("[env: FASTWORKER_DISCOVERY_ADDRESS=] [default: tcp://127.0.0.1:5550]"), "{words}");
}

#[test]
fn a_client_uses_the_base_address_without_discovery() {
    let cluster = cluster();
    let mut command = fastworker();
    command.args(["submit", "--control-plane-address", &cluster.base(), "--task-name", "add", "--args", "1", "2"]);
    assert_eq!(cli::run(command).with_code(0).stdout, "3\n");
}

#[test]
fn list_shows_what_each_worker_has_loaded() {
    let mut cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(1).start();
    cluster.start_subworker("sw1");
    let shown = cluster.cli(["list"]).with_code(0);
    assert!(shown.stdout.contains("\n  loaded by control-plane, sw1\n"), "{}", shown.stdout);
    assert!(shown.stdout.contains("add(x: i64, y: i64) -> i64\n      Adds two numbers.\n"), "{}", shown.stdout);
    let modules = cluster.cli(["list", "--json"]).with_code(0).json();
    let of = |module: &Value| (module["worker_id"].clone(), module["name"].clone());
    let loaded: Vec<_> = modules.as_array().expect("list expected").iter().map(of).collect();
    assert_eq!(loaded, ["control-plane", "sw1"].map(|worker| (json!(worker), json!("arithmetic"))));
    assert_eq!(modules[1]["tasks"][0]["signature"], "add(x: i64, y: i64) -> i64");
}

#[test]
fn list_inspects_files_without_a_server() {
    let list = |args: &[&str]| {
        let mut command = fastworker();
        command.arg("list").args(args);
        cli::run(command).with_code(0)
    };
    let (arithmetic, text) = (module("arithmetic"), module("text"));
    let [arithmetic, text] = [&arithmetic, &text].map(|path| path.to_str().expect("valid UTF-8"));
    let shown = list(&["--task-modules", arithmetic]).stdout;
    assert!(shown.contains("  add(x: i64, y: i64) -> i64\n      Adds two numbers.\n"), "{shown}");
    assert!(shown.contains(", imports ") && shown.contains(" interfaces\n"), "{shown}");
    let whole = list(&["--verbose", "--task-modules", arithmetic]).stdout;
    assert!(whole.contains("\n    wasi:cli/") && whole.contains("pooling engine"), "{whole}");
    let flaky = module("flaky");
    let policy = list(&["--task-modules", flaky.to_str().expect("valid UTF-8")]).stdout;
    assert!(policy.contains("[max_retries 5, retry_delay 0.1 s, retry_backoff 2, retry_backoff_max 1 s]"), "{policy}");

    let names = |args: &[&str]| {
        let listed = list(&[&["--json"], args].concat()).json();
        let modules = listed.as_array().expect("list expected").clone();
        modules.iter().map(|module| module["name"].as_str().expect("name expected").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&["--task-modules", text, arithmetic]), ["text", "arithmetic"]);
    assert_eq!(names(&["--task-modules", text, "--task-modules", arithmetic]), ["text", "arithmetic"]);
    assert_eq!(names(&["--task-modules", arithmetic, arithmetic]), ["arithmetic"]);
    let directory = tempfile::tempdir().expect("directory created");
    for name in ["flaky", "text"] {
        fs::copy(module(name), directory.path().join(name).with_extension("wasm")).expect("file copied");
    }
    fs::write(directory.path().join("notes.txt"), "no module").expect("file access");
    let path = directory.path().to_str().expect("valid UTF-8");
    assert_eq!(names(&["--task-modules", path]), ["flaky", "text"]);
    assert_eq!(names(&["--task-modules", &format!("{path}/f*.wasm")]), ["flaky"]);
    assert_eq!(names(&["--task-modules", &format!("{path}/*.wasm"), arithmetic]), ["flaky", "text", "arithmetic"]);
}

#[test]
fn all_example_modules_load_together() {
    let mut command = fastworker();
    command.args(["list", "--json", "--task-modules"]).arg(modules::directory());
    let listed = cli::run(command).with_code(0).json();
    let names: Vec<&str> =
        listed.as_array().expect("list expected").iter().filter_map(|it| it["name"].as_str()).collect();
    for name in ["arithmetic", "compress", "flaky", "follow", "hostile", "periodic", "primes", "slow", "text"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
}

#[test]
fn dev_runs_a_call_without_ports_and_shows_its_output() {
    let dev = |name: &str, args: &[&str]| {
        let mut command = fastworker();
        command.arg("dev").arg(module(name)).args(args);
        cli::run(command)
    };
    assert_eq!(dev("arithmetic", &["add", "-5", "3"]).with_code(0).stdout, "-2\n");
    assert_eq!(dev("arithmetic", &["add", "--kwargs", "x=1", "y=2"]).with_code(0).stdout, "3\n");
    assert_eq!(dev("arithmetic", &["add", "--json", "1", "1"]).with_code(0).json()["result"], 2);
    let slow = dev("slow", &["slow", "0.02", "2"]).with_code(0);
    assert_eq!(slow.stderr, "1/2 step 1 of 2\n2/2 step 2 of 2\ninfo  slept 0.02 s\n");
    assert_eq!(dev("flaky", &["flaky", "1", "--attempt", "2"]).with_code(0).stdout, "2\n");
    let mut shown = Transcript::new();
    shown.add(&dev("flaky", &["flaky", "1"]).with_code(1));
    shown.add(&dev("hostile", &["endless_loop", "--task-timeout", "100ms"]).with_code(1));
    shown.add(&dev("arithmetic", &["ad"]).with_code(5));
    shown.add(&dev("follow", &["spread", "2"]).with_code(0));
    shown.check();
}

#[test]
fn the_ready_line_has_ids_address_and_pid() {
    let mut cluster = Cluster::builder().start();
    let line = {
        cluster.control_plane.stop();
        let mut command = cluster.command(["control-plane", "--json", "--worker-id", "cp7"]);
        command.args(["--base-address", &cluster.base()]);
        command.args(["--subworker-port", &cluster.ports().subworkers().to_string()]);
        cluster.control_plane = fastworker_tests::Process::start("cp7", command, cluster.directory());
        cluster.control_plane.wait_until_ready()
    };
    let ready: Value = serde_json::from_str(&line).expect("valid JSON");
    let id = cluster.control_plane.id();
    let is_uuid = |id: &Value| id.as_str().is_some_and(|id| id.parse::<uuid::Uuid>().is_ok());
    assert!(is_uuid(&ready["cluster_id"]), "{line}");
    let expected = json!({ "event": "ready", "worker_id": "cp7", "cluster_id": ready["cluster_id"], "address": cluster.base(), "pid": id });
    assert_eq!(ready, expected);
    cluster.control_plane.terminate();
    assert!(cluster.control_plane.wait_for_exit(Duration::from_secs(10)).success());
    assert_eq!(cluster.control_plane.line(Duration::ZERO), None);
}
