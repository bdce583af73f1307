//! Wrong usage of the command line: each mistake has its exit code, and an error with a hint, which are snapshots.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use fastworker_tests::{
    Cluster, Process, Ran, TIMEOUT, Transcript, binary, cli, eventually, fastworker, module,
    ports::Ports,
    process::{self, Background},
};

fn run(args: &[&str]) -> Ran {
    let mut command = fastworker();
    command.args(args);
    cli::run(command)
}

/// Adds a command that is refused: the error and hint are the same with --json, and none of clap's own words.
#[track_caller]
fn refused(transcript: &mut Transcript, args: &[&str]) {
    let ran = run(args).with_code(2);
    assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains("\n\nhint: "), "{ran:?}");
    assert!(!ran.stderr.contains("try '--help'"), "{ran:?}");
    assert_eq!(ran.stdout, "");
    let as_json = run(&[&args[..1], &["--json"], &args[1..]].concat()).with_code(2);
    let (error, hint) = (as_json.json()["error"].clone(), as_json.json()["hint"].clone());
    assert!(as_json.stderr.contains(error.as_str().expect("string expected")) && hint.is_string(), "{as_json:?}");
    assert_eq!(as_json.json()["code"], 2);
    transcript.add(&ran);
}

#[test]
fn a_wrong_option_is_reported_with_a_correction() {
    let mut errors = Transcript::new();
    for args in [
        &["submit"][..],
        &["sumbit"],
        &["status"],
        &["subworker", "--worker-id", "sw1"],
        &["subworker", "--control-plane-address", "tcp://127.0.0.1:5555"],
        &["control-plane", "--base-address", "tcp://127.0.0.1:65534"],
        &["control-plane", "--concurrency", "2000"],
        &["control-plane", "--subworker-port", "0"],
        &["control-plane", "--subworker-port", "5557"],
        &["control-plane", "--log-level", "loud"],
        &["schedule", "add", "", "--task-name", "add", "--every", "1s"],
        &["listen", "--count", "0", "tcp://127.0.0.1:0"],
        &["bench", "--rounds", "0"],
        &["dev"],
    ] {
        refused(&mut errors, args);
    }
    errors.check();
}

#[test]
fn a_wrong_submit_option_is_reported_with_a_correction() {
    let mut errors = Transcript::new();
    refused(&mut errors, &["submit", "--task-name", ""]);
    refused(&mut errors, &["submit", "--task-nam", "x"]);
    for options in [
        &["--priority", "urgent"][..],
        &["--task-timeout", "5 parsecs"],
        &["--task-timeout", "0"],
        &["--timeout", "0"],
        &["--countdown=-1s"],
        &["--countdown", "-1"],
        &["--countdown", "99999d"],
        &["--max-retries", "-1"],
        &["--max-retries", "many"],
        &["--args-json", "{}"],
        &["--args-json", "[5,"],
        &["--args-json", "[1]", "--args", "1"],
        &["--kwargs", "five"],
        &["--non-blocking", "--follow"],
        &["--task-id", ""],
        &["--discovery-address", "127.0.0.1:5550"],
        &["--serialization-format", "pickle"],
    ] {
        refused(&mut errors, &[&["submit", "--task-name", "add"], options].concat());
    }
    errors.check();
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("existing file");
    let mut command = fastworker();
    command.args(["man", "submit"]);
    let _ = run_into(command, full).with_code(1).with_error();
}

#[test]
fn a_wrong_variable_is_reported() {
    let mut errors = Transcript::new();
    for (args, name, value) in [
        (&["submit", "--task-name", "add"][..], "FASTWORKER_TIMEOUT", "soon"),
        (&["submit", "--task-name", "add", "--args", "1"], "FASTWORKER_ARGS_JSON", "[1]"),
        (&["control-plane"], "FASTWORKER_GUI_ENABLED", "x"),
        // The usage names no option that only a variable has set.
        (&["status"], "FASTWORKER_CONTROL_PLANE_ADDRESS", "tcp://127.0.0.1:5555"),
    ] {
        let mut command = fastworker();
        command.args(args).env(name, value);
        errors.add(&cli::run(command).with_code(2));
    }
    errors.check();
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let mut command = fastworker();
    command.args(["man", "status"]);
    for name in ["FASTWORKER_JSON", "FASTWORKER_OUT"] {
        command.env(name, "");
    }
    assert!(cli::run(command).with_code(0).stdout.contains("FASTWORKER_TASK_ID"));
    let mut command = fastworker();
    command.args(["workers", "--control-plane-address", "tcp://127.0.0.1:9", "--timeout", "10ms"]);
    command.env("FASTWORKER_SERIALIZATION_FORMAT", "").env("FASTWORKER_DISCOVERY_ADDRESS", "");
    let _ = cli::run(command).with_code(3);
}

#[test]
fn the_variables_of_a_kubernetes_service_are_ignored_with_a_warning() {
    const ADDRESS: &str = "tcp://10.0.0.1:8080";
    let mut errors = Transcript::new();
    // The variables are read: the error is about the address, which is checked last.
    let mut command = fastworker();
    command.args(["control-plane", "--base-address", "tcp://10.0.0.1:5555"]);
    for name in ["FASTWORKER_GUI_PORT", "FASTWORKER_SUBWORKER_PORT", "FASTWORKER_PORT", "FASTWORKER_CONCURRENCY"] {
        command.env(name, ADDRESS);
    }
    errors.add(&cli::run(command).with_code(2));
    // An address is a valid control plane address, and a command does not warn about variables of other commands.
    let mut command = fastworker();
    command.args(["workers", "--timeout", "10ms"]);
    for name in ["FASTWORKER_CONTROL_PLANE_ADDRESS", "FASTWORKER_GUI_PORT"] {
        command.env(name, ADDRESS);
    }
    errors.add(&cli::run(command).with_code(3));
    errors.check();
}

#[test]
fn an_error_is_an_object_with_json_output() {
    let cluster = Cluster::builder().modules(&["slow"]).own_slots(1).start();
    let mut errors = Transcript::new();
    let late = ["submit", "--json", "--timeout", "3s", "--task-name", "slow", "--args", "30"];
    let late = cluster.cli(late).with_code(4);
    errors.add(&late);
    assert_eq!(late.json()["code"], 4);
    let id = late.json()["task_id"].as_str().expect("id expected").to_owned();
    let _ = cluster.cli(["cancel", &id]).with_code(0);
    let again = cluster.cli(["cancel", &id, "--json"]).with_code(1).json();
    assert_eq!((&again["task_id"], &again["code"]), (&id.into(), &1.into()));
    for unknown in [&["status", "x"][..], &["schedule", "pause", "x"], &["list", "--task-modules", "nofile"]] {
        let ran = cluster.cli([unknown, &["--json"]].concat()).with_code(5);
        assert_eq!(ran.json()["code"], 5);
        errors.add(&ran);
    }
    errors.check();
}

#[test]
fn a_port_that_is_not_the_base_port_is_recognised() {
    let cluster = Cluster::builder().start();
    let wrong = format!("tcp://127.0.0.1:{}", cluster.ports().subworkers() - 4);
    let mut errors = Transcript::new();
    errors.add(&run(&["workers", "--control-plane-address", &wrong, "--timeout", "5s"]).with_code(3));
    errors.check();
}

#[test]
fn no_control_plane_is_exit_code_3_after_the_timeout() {
    let ports = Ports::claim();
    let discovery = format!("tcp://127.0.0.1:{}", ports.discovery());
    let base = format!("tcp://127.0.0.1:{}", ports.base());
    let mut errors = Transcript::new();
    for (option, address) in [("--discovery-address", &discovery), ("--control-plane-address", &base)] {
        for command in [
            &["submit", "--task-name", "add"][..],
            &["status", "--task-id", "x"],
            &["cancel", "--task-id", "x"],
            &["result", "--task-id", "x"],
            &["list"],
        ] {
            errors.add(&run(&[command, &[option, address, "--timeout", "200ms"]].concat()).with_code(3));
        }
    }
    let lost = ["subworker", "--worker-id", "sw1", "--timeout", "200ms", "--control-plane-address", &base];
    let ran = run(&[&lost[..], &["--discovery-address", &discovery]].concat()).with_code(3);
    assert!(ran.error().contains("\n\nhint: "), "{ran:?}");
    errors.check();
}

#[test]
fn a_timeout_is_exit_code_4_with_a_command_for_later() {
    let cluster = Cluster::builder().modules(&["slow"]).own_slots(1).start();
    let mut errors = Transcript::new();
    for follow in [&[][..], &["--follow"]] {
        let options = ["submit", "--timeout", "3s", "--task-name", "slow", "--args", "30"];
        let ran = cluster.cli([&options[..], follow].concat()).with_code(4);
        let id = ran.stderr.trim().rsplit(' ').nth(1).expect("the id is last but one: result ID --wait");
        let _ = cluster.cli(["status", "--task-id", id]).with_code(0);
        let _ = cluster.cli(["cancel", "--task-id", id]).with_code(0);
        errors.note(ran.error());
    }
    errors.check();
}

#[test]
fn unknown_tasks_and_ids_are_exit_code_5() {
    let cluster = Cluster::builder().modules(&["arithmetic", "text"]).own_slots(1).start();
    let mut errors = Transcript::new();
    for command in ["status", "cancel"] {
        errors.add(&cluster.cli([command, "--task-id", "no-such-task"]).with_code(5));
    }
    let empty = Cluster::builder().start();
    errors.add(&empty.cli(["list", "--schema", "add"]).with_code(5));
    errors.check();
}

#[test]
fn a_wrong_task_name_suggests_the_nearest() {
    let cluster = Cluster::builder().modules(&["arithmetic", "text"]).own_slots(1).without_unknown_grace().start();
    let mut errors = Transcript::new();
    errors.add(&cluster.cli(["submit", "--task-name", "ad", "--args", "1", "2"]).with_code(5));
    errors.add(&cluster.cli(["submit", "--task-name", "word-count", "--args", "x"]).with_code(5));
    errors.check();
    let json = cluster.cli(["submit", "--json", "--task-name", "mul"]).with_code(5).json();
    assert_eq!(json["error_kind"], "not-found");
}

#[test]
fn wrong_arguments_are_reported_as_in_the_language_of_the_task() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(1).start();
    let mut errors = Transcript::new();
    for args in [
        &[][..],
        &["--args", "5"],
        &["--args", "1", "2", "3"],
        &["--args", "1", "two"],
        &["--args", "1", "--kwargs", "z=2"],
    ] {
        errors.add(&cluster.cli([&["submit", "--task-name", "add"], args].concat()).with_code(1));
    }
    errors.check();
}

#[test]
fn ctrl_c_is_exit_code_130() {
    let cluster = Cluster::builder().modules(&["slow"]).own_slots(1).start();
    let command = cluster.command(["submit", "--follow", "--task-name", "slow", "--args", "30", "300"]);
    let mut waiting = Process::start("submit", command, cluster.directory());
    eventually("the first progress is shown", TIMEOUT, || waiting.log().contains("step 1").then_some(()));
    waiting.interrupt();
    assert_eq!(waiting.wait_for_exit(TIMEOUT).code(), Some(130));
    let log = waiting.log();
    let mut errors = Transcript::new();
    errors.note(&log[log.find("error: ").expect("error expected")..]);
    errors.check();
}

#[test]
fn a_public_control_plane_is_refused_without_insecure() {
    let ports = Ports::claim();
    let base = format!("tcp://0.0.0.0:{}", ports.base());
    let discovery = format!("tcp://127.0.0.1:{}", ports.discovery());
    let port = ports.subworkers().to_string();
    let mut errors = Transcript::new();
    let mut start = |base: &str, discovery: &str, more: &[&str]| {
        let options = ["--base-address", base, "--discovery-address", discovery, "--subworker-port", &port];
        errors.add(&run(&[&["control-plane"], &options[..], more].concat()).with_code(2));
    };
    start(&base, &discovery, &[]);
    start(&base, &discovery, &["--insecure"]);
    let elsewhere = format!("tcp://0.0.0.0:{}", ports.discovery());
    start(&format!("tcp://127.0.0.1:{}", ports.base()), &elsewhere, &[]);
    errors.check();

    let mut command = fastworker();
    command.args(["control-plane", "--json", "--insecure", "--base-address", &base, "--subworker-port", &port]);
    let advertised = format!("tcp://127.0.0.1:{}", ports.base());
    command.args(["--discovery-address", &discovery, "--advertise-address", &advertised]);
    let directory = tempfile::tempdir().expect("directory created");
    let mut explicit = Process::start("control-plane", command, directory.path());
    explicit.wait_until_ready();
    let listed = run(&["list", "--json", "--discovery-address", &discovery]).with_code(0);
    assert_eq!(listed.json(), serde_json::json!([]));
}

#[test]
fn a_port_in_use_is_an_error_with_a_hint() {
    let ports = Ports::claim();
    let _taken = TcpListener::bind(("127.0.0.1", ports.base() + 2)).expect("free port");
    let base = format!("tcp://127.0.0.1:{}", ports.base());
    let discovery = format!("tcp://127.0.0.1:{}", ports.discovery());
    let port = ports.subworkers().to_string();
    let usual = ["control-plane", "--base-address", &base, "--subworker-port", &port];
    let ran = run(&[&usual[..], &["--discovery-address", &discovery]].concat()).with_code(1).with_error();
    assert!(ran.stderr.contains(&format!("127.0.0.1:{}", ports.base() + 2)), "{ran:?}");
    let mut errors = Transcript::new();
    errors.add(&ran);
    errors.check();
}

#[test]
fn a_worker_id_that_cannot_be_announced_is_refused() {
    let ports = Ports::claim();
    let base = format!("tcp://127.0.0.1:{}", ports.base());
    let discovery = format!("tcp://127.0.0.1:{}", ports.discovery());
    let usual = ["control-plane", "--base-address", &base, "--discovery-address", &discovery, "--worker-id"];
    let mut errors = Transcript::new();
    for id in ["a:b", "", "tab\there"] {
        errors.add(&run(&[&usual[..], &[id]].concat()).with_code(2));
    }
    errors.check();
}

#[test]
fn the_error_of_a_broken_module_names_it_and_the_reason() {
    let directory = tempfile::tempdir().expect("directory created");
    let whole = fs::read(module("arithmetic")).expect("a module");
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("file access");
        path.to_str().expect("valid UTF-8").to_owned()
    };
    let core_module = [b"\0asm".as_slice(), &[1, 0, 0, 0]].concat();
    let bare_component = [b"\0asm".as_slice(), &[0x0d, 0, 1, 0]].concat();
    let broken = [
        file("empty.wasm", b""),
        file("truncated.wasm", &whole[..1000]),
        file("text.wasm", b"(module)"),
        file("core.wasm", &core_module),
        file("bare.wasm", &bare_component),
    ];
    let mut errors = Transcript::new();
    for path in &broken {
        let listed = run(&["list", "--task-modules", path]).with_code(2);
        assert_eq!(listed.stdout, "");
        errors.add(&listed);
        let ran = run(&["dev", path, "add"]).with_code(2).with_error();
        assert!(ran.stderr.contains(path), "{ran:?}");
    }
    // All named modules must be valid.
    let good = module("arithmetic");
    let among =
        run(&["list", "--task-modules", good.to_str().expect("valid UTF-8"), &broken[0]]).with_code(2).with_error();
    assert!(among.stderr.contains(&broken[0]), "{among:?}");
    for missing in ["missing.wasm", "nothing/*.wasm"] {
        let path = directory.path().join(missing);
        errors.add(&run(&["list", "--task-modules", path.to_str().expect("valid UTF-8")]).with_code(5));
    }
    errors.check();
}

#[test]
fn the_second_module_with_the_same_task_is_broken() {
    let directory = tempfile::tempdir().expect("directory created");
    let [first, second] = ["first.wasm", "second.wasm"].map(|name| directory.path().join(name));
    for path in [&first, &second] {
        fs::copy(module("arithmetic"), path).expect("file copied");
    }
    fs::write(directory.path().join("half.wasm"), &fs::read(&first).expect("file access")[..1000])
        .expect("file access");
    let path = directory.path().to_str().expect("valid UTF-8");
    let listed = run(&["list", "--json", "--task-modules", path]).with_code(0).json();
    let row = |name: &str| {
        let rows = listed.as_array().expect("list expected");
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {listed}")).clone()
    };
    assert_eq!((&row("first")["status"], row("first")["tasks"].as_array().map(Vec::len)), (&"loaded".into(), Some(2)));
    let mut errors = Transcript::new();
    for name in ["second", "half"] {
        assert_eq!(row(name)["status"], "broken");
        errors.note(row(name)["last_error"]["message"].as_str().expect("message expected"));
    }
    errors.check();
    // Modules that are named themselves are an error.
    let [first, second] = [&first, &second].map(|path| path.to_str().expect("valid UTF-8"));
    let ran = run(&["list", "--task-modules", first, second]).with_code(2);
    assert!(ran.stderr.contains("first.wasm") && ran.stderr.contains("second.wasm"), "{ran:?}");
}

#[test]
fn pipes_and_no_color_disable_colour() {
    let wrong = run(&["status", "--task-id", "x", "--timeout", "10ms", "--discovery-address", "tcp://127.0.0.1:9"]);
    assert!(!wrong.stderr.contains('\x1b'), "{wrong:?}");
    let usage = run(&["status"]);
    assert!(!usage.stderr.contains('\x1b'), "{usage:?}");

    // The same on a terminal.
    let on_terminal = |no_color: &str| {
        let mut command = process::command(Path::new("python3"));
        command.args(["-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"]);
        command.arg(binary::path());
        command.args(["status", "--task-id", "x", "--timeout", "10ms", "--discovery-address", "tcp://127.0.0.1:9"]);
        cli::run({
            command.env("NO_COLOR", no_color).env("TERM", "xterm");
            command
        })
    };
    let plain = on_terminal("1").with_code(3);
    assert!(plain.stdout.starts_with("error: ") && !plain.stdout.contains('\x1b'), "{plain:?}");
    let coloured = on_terminal("").with_code(3);
    assert!(coloured.stdout.contains("\x1b[1m\x1b[31merror:\x1b[0m "), "{coloured:?}");
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    for args in [&["list", "--task-modules"][..], &["list", "--json", "--task-modules"]] {
        let mut command = fastworker();
        command.args(args).arg(module("arithmetic"));
        let ran = run_into_closed_pipe(command);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }
    let mut command = fastworker();
    command.arg("--help");
    assert!(!run_into_closed_pipe(command).stderr.contains("panicked"));
}

fn run_into_closed_pipe(command: Command) -> Ran {
    let (reader, writer) = std::io::pipe().expect("pipe created");
    drop(reader);
    run_into(command, writer)
}

fn run_into(mut command: Command, output: impl Into<Stdio>) -> Ran {
    let shown = cli::command_line(&command);
    let ran = command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped()).output().expect("it starts");
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    Ran { command: shown, code: ran.status.code(), stdout: String::new(), stderr }
}

#[test]
fn a_server_continues_when_its_output_is_closed() {
    let cluster = Cluster::builder().start();
    let ports = Ports::claim();
    let discovery = format!("tcp://127.0.0.1:{}", ports.discovery());
    let base = format!("tcp://127.0.0.1:{}", ports.base());
    let mut command = fastworker();
    command.args(["control-plane", "--json", "--log-level", "trace", "--base-address", &base]);
    command.args(["--discovery-address", &discovery, "--subworker-port", &ports.subworkers().to_string()]);
    command.arg("--task-modules").arg(module("arithmetic"));
    let (reader, writer) = std::io::pipe().expect("pipe created");
    drop(reader);
    command.stdin(Stdio::null()).stdout(writer.try_clone().expect("pipe created")).stderr(writer);
    let mut server = Background::start(command);
    let options =
        ["submit", "--wait-for-worker", "--discovery-address", &discovery, "--task-name", "add", "--args", "1", "2"];
    let sum = cluster.cli(options).with_code(0);
    assert_eq!(sum.stdout, "3\n");
    assert!(server.is_running());
}
