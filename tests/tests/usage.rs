//! The command line, used wrongly: each mistake is told clearly, with a hint and its exit code.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use fastworker_tests::{
    Cluster, Process, Ran, SOON, binary, cli, eventually, fastworker, module,
    ports::Ports,
    process::{self, Background},
};

fn run(args: &[&str]) -> Ran {
    let mut command = fastworker();
    command.args(args);
    cli::run(command)
}

/// What cannot be read: the error with its hint, and nothing of clap's own words. With --json it is an object, too.
#[track_caller]
fn refused(args: &[&str], words: &str) {
    let ran = run(args).with_code(2).says(words);
    assert!(ran.stderr.contains("\n\nhint: ") && !ran.stderr.contains("try '--help'"), "{ran:?}");
    assert_eq!(ran.stdout, "");
    let told = run(&[&args[..1], &["--json"], &args[1..]].concat()).with_code(2);
    let (error, hint) = (told.json()["error"].clone(), told.json()["hint"].clone());
    assert!(told.stderr.contains(error.as_str().expect("words")) && hint.is_string(), "{told:?}");
    assert_eq!(told.json()["code"], 2);
}

#[test]
fn a_wrong_option_is_named_with_what_would_be_right() {
    refused(&["submit"], "--task-name <NAME>");
    refused(&["sumbit"], "submit");
    refused(&["submit", "--task-nam", "x"], "--task-name");
    refused(&["submit", "--task-name", "add", "--priority", "urgent"], "critical, high, normal, low");
    refused(&["submit", "--task-name", "add", "--task-timeout", "5 parsecs"], "write a span such as");
    refused(&["submit", "--task-name", "add", "--args-json", "{}"], "one JSON array, such as '[5, 3]'");
    refused(&["submit", "--task-name", "add", "--args-json", "[5,"], "--args-json");
    refused(&["submit", "--task-name", "add", "--args-json", "[1]", "--args", "1"], "cannot be used with");
    refused(&["submit", "--task-name", "add", "--task-timeout", "0"], "longer than 0");
    refused(&["submit", "--task-name", "add", "--countdown=-1s"], "a span cannot be negative");
    refused(&["submit", "--task-name", "add", "--countdown", "-1"], "a span cannot be negative");
    refused(&["submit", "--task-name", "add", "--max-retries", "-1"], "write a whole number");
    refused(&["submit", "--task-name", "add", "--timeout", "0"], "longer than 0");
    refused(&["submit", "--task-name", ""], "a task name has 1 to 128 bytes");
    refused(&["schedule", "add", "", "--task-name", "add", "--every", "1s"], "a schedule's name has 1 to 128 bytes");
    refused(&["listen", "--count", "0", "tcp://127.0.0.1:0"], "write a whole number, 1 or more");
    refused(&["bench", "--rounds", "0"], "write a whole number from 1");
    refused(&["control-plane", "--base-address", "tcp://127.0.0.1:65534"], "at most 65531");
    refused(&["submit", "--task-name", "add", "--countdown", "99999d"], "a span is at most ten years");
    refused(&["submit", "--task-name", "add", "--kwargs", "five"], "name=value");
    refused(&["submit", "--task-name", "add", "--non-blocking", "--follow"], "cannot be used with");
    refused(&["submit", "--task-name", "add", "--task-id", ""], "--task-id");
    refused(&["submit", "--task-name", "add", "--max-retries", "many"], "--max-retries");
    refused(&["submit", "--task-name", "add", "--discovery-address", "127.0.0.1:5550"], "like tcp://127.0.0.1:5555");
    refused(&["submit", "--task-name", "add", "--serialization-format", "pickle"], "json, postcard");
    refused(&["status"], "<ID>");
    refused(&["subworker", "--worker-id", "sw1"], "--control-plane-address <ADDRESS>");
    refused(&["subworker", "--control-plane-address", "tcp://127.0.0.1:5555"], "--worker-id <ID>");
    refused(&["control-plane", "--concurrency", "0"], "a whole number from 1 to 1024");
    refused(&["control-plane", "--subworker-port", "0"], "--subworker-port");
    refused(
        &["control-plane", "--subworker-port", "5557"],
        "--subworker-port and by --base-address, which takes 5555 to 5559",
    );
    refused(&["control-plane", "--log-level", "loud"], "trace, debug, info, warn, error");
    refused(&["dev"], "<MODULE>");
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let mut command = fastworker();
    let ended = command.args(["man", "submit"]).stdout(full).output().expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1));
    assert!(said.starts_with("error: cannot write the output: "), "{said}");
}

#[test]
fn a_wrong_variable_is_named_too() {
    let mut command = fastworker();
    command.args(["submit", "--task-name", "add"]).env("FASTWORKER_TIMEOUT", "soon");
    let _ = cli::run(command).with_code(2).says("'soon' for --timeout (from FASTWORKER_TIMEOUT)").hints("write a span");
    let mut command = fastworker();
    command.args(["submit", "--task-name", "add", "--args", "1"]).env("FASTWORKER_ARGS_JSON", "[1]");
    let _ = cli::run(command).with_code(2).says("--args-json (from FASTWORKER_ARGS_JSON)");
    let mut command = fastworker();
    command.arg("control-plane").env("FASTWORKER_GUI_ENABLED", "x");
    let _ = cli::run(command).with_code(2).says("'x' for FASTWORKER_GUI_ENABLED").hints("true, false, 1, 0, yes or no");
    // No option is named that only a variable has set.
    let mut command = fastworker();
    command.arg("status").env("FASTWORKER_CONTROL_PLANE_ADDRESS", "tcp://127.0.0.1:5555");
    let usage = cli::run(command).with_code(2).hints("usage: fastworker status [OPTIONS] <ID>");
    assert!(!usage.stderr.contains("--control-plane-address"), "{usage:?}");
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
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
    let service = |command: &mut Command, name: &str| {
        command.env(name, "tcp://10.0.0.1:8080");
    };
    // They are read: what is wrong is the address, which is said last.
    let mut command = fastworker();
    command.args(["control-plane", "--base-address", "tcp://10.0.0.1:5555"]);
    for name in ["FASTWORKER_GUI_PORT", "FASTWORKER_SUBWORKER_PORT", "FASTWORKER_PORT", "FASTWORKER_CONCURRENCY"] {
        service(&mut command, name);
    }
    let ran = cli::run(command);
    for name in ["FASTWORKER_GUI_PORT", "FASTWORKER_SUBWORKER_PORT", "FASTWORKER_CONCURRENCY"] {
        assert!(ran.stderr.contains(&format!("{name}=tcp://10.0.0.1:8080 is ignored")), "{ran:?}");
    }
    assert!(ran.stderr.contains("error: ") && !ran.stderr.contains("invalid value"), "{ran:?}");
    // An address may well be one, and a command says nothing of what is not for it.
    let mut command = fastworker();
    command.args(["workers", "--timeout", "10ms"]);
    for name in ["FASTWORKER_CONTROL_PLANE_ADDRESS", "FASTWORKER_GUI_PORT"] {
        service(&mut command, name);
    }
    let ran = cli::run(command).with_code(3).says("tcp://10.0.0.1:8080");
    assert!(!ran.stderr.contains("is ignored"), "{ran:?}");
}

#[test]
fn an_error_is_an_object_where_json_is_asked_for() {
    let cluster = Cluster::builder().modules(&["slow"]).own_slots(1).start();
    let late = ["submit", "--json", "--timeout", "3s", "--task-name", "slow", "--args", "30"];
    let late = cluster.cli(late).with_code(4).says("has not ended within 3 s").json();
    assert_eq!(late["code"], 4);
    assert!(late["hint"].as_str().is_some_and(|hint| hint.starts_with("wait for it with")), "{late}");
    let id = late["task_id"].as_str().expect("an id");
    let _ = cluster.cli(["cancel", id]).with_code(0);
    let again = cluster.cli(["cancel", id, "--json"]).with_code(1).json();
    assert_eq!((&again["task_id"], &again["code"]), (&id.into(), &1.into()));
    for unknown in [&["status", "x"][..], &["schedule", "pause", "x"], &["list", "--task-modules", "nofile"]] {
        assert_eq!(cluster.cli([unknown, &["--json"]].concat()).with_code(5).json()["code"], 5);
    }
}

#[test]
fn another_port_than_the_base_port_is_told_as_that() {
    let cluster = Cluster::builder().start();
    let ports = cluster.ports();
    let wrong = format!("tcp://127.0.0.1:{}", ports.subworkers() - 4);
    let ran = run(&["workers", "--control-plane-address", &wrong, "--timeout", "5s"]).with_code(3);
    let _ = ran.says(&format!("{wrong} is not the base address of a control plane")).hints("base=tcp://");
}

#[test]
fn nobody_there_is_exit_code_3_after_the_timeout() {
    let ports = Ports::claim();
    let discovery = format!("tcp://127.0.0.1:{}", ports.discovery());
    let base = format!("tcp://127.0.0.1:{}", ports.base());
    for (option, address) in [("--discovery-address", &discovery), ("--control-plane-address", &base)] {
        for command in [
            &["submit", "--task-name", "add"][..],
            &["status", "--task-id", "x"],
            &["cancel", "--task-id", "x"],
            &["result", "--task-id", "x"],
            &["list"],
        ] {
            let ran = run(&[command, &[option, address, "--timeout", "200ms"]].concat()).with_code(3);
            let words = match option {
                "--discovery-address" => format!("no control plane announced itself at {address} within 0.2 s"),
                _ => format!("no answer from the control plane at {address} within 0.2 s"),
            };
            let ran = ran.says(&words);
            let _ = ran.hints("fastworker control-plane");
        }
    }
    let lost = ["subworker", "--worker-id", "sw1", "--timeout", "200ms", "--control-plane-address", &base];
    let ran = run(&[&lost[..], &["--discovery-address", &discovery]].concat()).with_code(3);
    assert!(
        ran.stderr.contains("within 0.2 s, and no other was announced") && ran.stderr.contains("hint: start one with"),
        "{ran:?}"
    );
}

#[test]
fn a_wait_that_is_over_is_exit_code_4_and_says_how_to_ask_later() {
    let cluster = Cluster::builder().modules(&["slow"]).own_slots(1).start();
    for follow in [&[][..], &["--follow"]] {
        let options = ["submit", "--timeout", "3s", "--task-name", "slow", "--args", "30"];
        let ran = cluster.cli([&options[..], follow].concat()).with_code(4).says("has not ended within 3 s");
        let ran = ran.hints("fastworker result ");
        let id = ran.stderr.trim().rsplit(' ').nth(1).expect("the id is last but one: result ID --wait");
        let _ = cluster.cli(["status", "--task-id", id]).with_code(0);
        let _ = cluster.cli(["cancel", "--task-id", id]).with_code(0);
    }
}

#[test]
fn what_nobody_knows_is_exit_code_5() {
    let cluster = Cluster::builder().modules(&["arithmetic", "text"]).own_slots(1).start();
    for command in ["status", "cancel"] {
        let ran =
            cluster.cli([command, "--task-id", "no-such-task"]).with_code(5).says("there is no task no-such-task");
        let _ = ran.hints("--result-cache-ttl");
    }
    let empty = Cluster::builder().start();
    let _ = empty.cli(["list", "--schema", "add"]).with_code(5).says("no worker is connected");
}

#[test]
fn a_wrong_task_name_names_the_nearest() {
    let cluster = Cluster::builder().modules(&["arithmetic", "text"]).own_slots(1).without_unknown_grace().start();
    let wrong = cluster.cli(["submit", "--task-name", "ad", "--args", "1", "2"]).with_code(5);
    let _ = wrong.says("did you mean 'add'?").hints("fastworker list");
    let wrong = cluster.cli(["submit", "--task-name", "word-count", "--args", "x"]).with_code(5);
    let _ = wrong.says("word_count");
    let json = cluster.cli(["submit", "--json", "--task-name", "mul"]).with_code(5).json();
    assert_eq!(json["error_kind"], "not-found");
}

#[test]
fn wrong_arguments_of_a_task_are_told_as_its_language_would() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(1).start();
    let add = |args: &[&str]| {
        let ran = cluster.cli([&["submit", "--task-name", "add"], args].concat()).with_code(1);
        ran.says("(bad-arguments)").stderr
    };
    assert!(add(&[]).contains("add() missing 2 required arguments: 'x' and 'y'"), "{}", add(&[]));
    assert!(add(&["--args", "5"]).contains("add() missing 1 required argument: 'y'"));
    assert!(add(&["--args", "1", "2", "3"]).contains('3'));
    assert!(add(&["--args", "1", "two"]).contains(r#"args[1]: expected integer, found string "two""#));
    assert!(add(&["--args", "1", "--kwargs", "z=2"]).contains("'z'"));
}

#[test]
fn ctrl_c_is_exit_code_130() {
    let cluster = Cluster::builder().modules(&["slow"]).own_slots(1).start();
    let command = cluster.command(["submit", "--follow", "--task-name", "slow", "--args", "30", "300"]);
    let mut waiting = Process::start("submit", command, cluster.folder());
    eventually("its first progress", SOON, || waiting.log().contains("step 1").then_some(()));
    waiting.interrupt();
    assert_eq!(waiting.wait_for_exit(SOON).code(), Some(130));
    let said = waiting.log();
    assert!(
        said.contains("error: interrupted; task ") && said.contains("hint: wait for it with: fastworker result"),
        "{said}"
    );
}

#[test]
fn a_control_plane_beyond_this_machine_is_refused_unless_asked_for() {
    let ports = Ports::claim();
    let base = format!("tcp://0.0.0.0:{}", ports.base());
    let discovery = format!("tcp://127.0.0.1:{}", ports.discovery());
    let port = ports.subworkers().to_string();
    let start = |more: &[&str]| {
        let usual = ["control-plane", "--base-address", &base, "--subworker-port", &port];
        run(&[&usual[..], &["--discovery-address", &discovery], more].concat())
    };
    let _ = start(&[]).with_code(2).says("can be reached from other machines").hints("--insecure");
    let _ = start(&["--insecure"]).with_code(2).says("others cannot dial tcp://0.0.0.0:").hints("--advertise-address");
    let elsewhere = format!("tcp://0.0.0.0:{}", ports.discovery());
    let inside = format!("tcp://127.0.0.1:{}", ports.base());
    let usual = ["control-plane", "--base-address", &inside, "--subworker-port", &port];
    let open_bus = run(&[&usual[..], &["--discovery-address", &elsewhere]].concat());
    let _ = open_bus.with_code(2).says("can be reached from other machines");

    let mut command = fastworker();
    command.args(["control-plane", "--json", "--insecure", "--base-address", &base, "--subworker-port", &port]);
    let advertised = format!("tcp://127.0.0.1:{}", ports.base());
    command.args(["--discovery-address", &discovery, "--advertise-address", &advertised]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut asked_for = Process::start("control-plane", command, folder.path());
    asked_for.wait_until_ready();
    let listed = run(&["list", "--json", "--discovery-address", &discovery]).with_code(0);
    assert_eq!(listed.json(), serde_json::json!([]));
}

#[test]
fn a_taken_port_is_told_with_a_way_out() {
    let ports = Ports::claim();
    let _taken = TcpListener::bind(("127.0.0.1", ports.base() + 2)).expect("a free port");
    let base = format!("tcp://127.0.0.1:{}", ports.base());
    let discovery = format!("tcp://127.0.0.1:{}", ports.discovery());
    let port = ports.subworkers().to_string();
    let usual = ["control-plane", "--base-address", &base, "--subworker-port", &port];
    let ran = run(&[&usual[..], &["--discovery-address", &discovery]].concat()).with_code(1);
    assert!(ran.stderr.contains(&format!("127.0.0.1:{}", ports.base() + 2)), "{ran:?}");
    let _ = ran.hints("--base-address");
}

#[test]
fn a_worker_id_that_cannot_be_announced_is_refused() {
    let ports = Ports::claim();
    let base = format!("tcp://127.0.0.1:{}", ports.base());
    let discovery = format!("tcp://127.0.0.1:{}", ports.discovery());
    let usual = ["control-plane", "--base-address", &base, "--discovery-address", &discovery, "--worker-id"];
    for id in ["a:b", "", "tab\there"] {
        let _ = run(&[&usual[..], &[id]].concat()).with_code(2).says("worker id");
    }
}

#[test]
fn a_broken_module_is_told_by_name_and_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = fs::read(module("arithmetic")).expect("a module");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let core_module = [b"\0asm".as_slice(), &[1, 0, 0, 0]].concat();
    let bare_component = [b"\0asm".as_slice(), &[0x0d, 0, 1, 0]].concat();
    let broken = [
        (file("empty.wasm", b""), "empty", "again"),
        (file("truncated.wasm", &whole[..whole.len() / 2]), "", "again"),
        (file("text.wasm", b"(module)"), "", "wasm32-wasip2"),
        (file("core.wasm", &core_module), "component", "wasm32-wasip2"),
        (file("bare.wasm", &bare_component), "export", "fastworker new"),
    ];
    for (path, reason, hint) in &broken {
        let listed = run(&["list", "--task-modules", path]).with_code(2).says(path).says(reason).hints(hint);
        assert_eq!(listed.stdout, "");
        let _ = run(&["dev", path, "add"]).with_code(2).says(path);
    }
    // All that is named must be good, and is else told together.
    let good = module("arithmetic");
    let among = run(&["list", "--task-modules", good.to_str().expect("UTF-8"), &broken[0].0]).with_code(2);
    let _ = among.says(&broken[0].0);
    for missing in ["missing.wasm", "nothing/*.wasm"] {
        let path = folder.path().join(missing);
        let _ = run(&["list", "--task-modules", path.to_str().expect("UTF-8")])
            .with_code(5)
            .says(missing)
            .hints("patterns");
    }
}

#[test]
fn of_two_modules_with_a_task_of_one_name_the_second_is_listed_with_its_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let [first, second] = ["first.wasm", "second.wasm"].map(|name| folder.path().join(name));
    for path in [&first, &second] {
        fs::copy(module("arithmetic"), path).expect("a copy");
    }
    fs::write(folder.path().join("half.wasm"), &fs::read(&first).expect("a file")[..1000]).expect("a file");
    let path = folder.path().to_str().expect("UTF-8");
    let listed = run(&["list", "--json", "--task-modules", path]).with_code(0).json();
    let row = |name: &str| {
        let rows = listed.as_array().expect("a list");
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {listed}")).clone()
    };
    assert_eq!((&row("first")["status"], row("first")["tasks"].as_array().map(Vec::len)), (&"loaded".into(), Some(2)));
    for (name, why) in [("second", "first.wasm"), ("half", "ends in the middle")] {
        assert_eq!(row(name)["status"], "broken");
        assert!(row(name)["last_error"]["message"].as_str().is_some_and(|it| it.contains(why)), "{listed}");
    }
    // Those that are named themselves are an error.
    let [first, second] = [&first, &second].map(|path| path.to_str().expect("UTF-8"));
    let ran = run(&["list", "--task-modules", first, second]).with_code(2);
    assert!(ran.stderr.contains("first.wasm") && ran.stderr.contains("second.wasm"), "{ran:?}");
}

#[test]
fn there_is_no_colour_in_a_pipe_and_none_where_it_is_not_wanted() {
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
fn a_reader_that_has_read_enough_is_no_error() {
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

fn run_into_closed_pipe(mut command: Command) -> Ran {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ran = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().expect("it starts");
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    Ran { code: ran.status.code(), stdout: String::new(), stderr }
}

#[test]
fn a_server_goes_on_when_nobody_reads_what_it_says() {
    let cluster = Cluster::builder().start();
    let ports = Ports::claim();
    let discovery = format!("tcp://127.0.0.1:{}", ports.discovery());
    let base = format!("tcp://127.0.0.1:{}", ports.base());
    let mut command = fastworker();
    command.args(["control-plane", "--json", "--log-level", "trace", "--base-address", &base]);
    command.args(["--discovery-address", &discovery, "--subworker-port", &ports.subworkers().to_string()]);
    command.arg("--task-modules").arg(module("arithmetic"));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    command.stdin(Stdio::null()).stdout(writer.try_clone().expect("a pipe")).stderr(writer);
    let mut server = Background::start(command);
    let options =
        ["submit", "--wait-for-worker", "--discovery-address", &discovery, "--task-name", "add", "--args", "1", "2"];
    let sum = cluster.cli(options).with_code(0);
    assert_eq!(sum.stdout, "3\n");
    assert!(server.is_running());
}
