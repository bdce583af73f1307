//! Shell completion: the replies of the binary to a shell, and the result in a real bash.

use std::{path::Path, process::Command};

use fastworker_tests::{Cluster, TIMEOUT, binary, cli, eventually, fastworker, module, process};

/// The completions of the last of these words.
fn offered(cluster: Option<&Cluster>, words: &[&str]) -> Vec<String> {
    let mut command = if let Some(cluster) = cluster {
        cluster.command(["--", "fastworker"])
    } else {
        let mut command = fastworker();
        command.env("FASTWORKER_DISCOVERY_ADDRESS", "tcp://127.0.0.1:9").args(["--", "fastworker"]);
        command
    };
    command.args(words).env("FASTWORKER_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let ran = cli::run(command).with_code(0);
    assert_eq!(ran.stderr, "");
    ran.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn names_and_ids_come_from_the_running_control_plane() {
    let mut cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(1).start();
    cluster.start_subworker("sw1");
    let submitted =
        cluster.cli(["submit", "--non-blocking", "--countdown", "10m", "--task-name", "add", "--args", "1", "2"]);
    let (id, ended) = (submitted.stdout.trim(), "add-5-3");
    let ran = cluster.cli(["submit", "--task-name", "add", "--args", "5", "3", "--task-id", ended]).with_code(0);
    assert_eq!(ran.stdout, "8\n");
    let offered = |words: &[&str]| offered(Some(&cluster), words);
    // On a busy machine a completion may time out: repeat it.
    let until = |words: &[&str], expected: &[&str]| {
        eventually(&format!("{expected:?} for {words:?}"), TIMEOUT, || (offered(words) == expected).then_some(()));
    };
    until(&["submit", "--task-name", ""], &["add", "multiply"]);
    until(&["submit", "--task-name", "m"], &["multiply"]);
    until(&["tasks", "--worker", ""], &["control-plane", "sw1"]);
    until(&["status", "--task-id", ""], &[id, ended]);
    until(&["cancel", "--task-id", ""], &[id]);
    until(&["result", "add-"], &[ended]);
    until(&["list", "--schema", "m"], &["multiply"]);
    let add = ["schedule", "add", "sums", "--task-name", "add", "--every", "1h", "--args", "5", "3"];
    drop(cluster.cli(add).with_code(0));
    until(&["schedule", "pause", "s"], &["sums"]);
}

#[test]
fn completion_queries_the_control_plane_of_the_typed_options() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(1).start();
    let base = cluster.base();
    let words = ["submit", "--control-plane-address", &base, "--task-name", "a"];
    eventually("task names of the typed control plane are offered", TIMEOUT, || {
        (offered(None, &words) == ["add"]).then_some(())
    });
    let assigned = format!("--control-plane-address={base}");
    let words = ["submit", &assigned, "--task-name", "a"];
    eventually("task names of the typed control plane are offered", TIMEOUT, || {
        (offered(None, &words) == ["add"]).then_some(())
    });
}

#[test]
fn fixed_words_are_completed_without_a_control_plane() {
    assert_eq!(offered(None, &["submit", "--task-name", ""]), [""; 0]);
    assert_eq!(offered(None, &["res"]), ["result"]);
    assert_eq!(offered(None, &["submit", "--prio"]), ["--priority"]);
    assert_eq!(offered(None, &["submit", "--priority", ""]), ["critical", "high", "normal", "low"]);
    assert_eq!(offered(None, &["tasks", "--status", "s"]), ["scheduled", "started", "success"]);
    assert_eq!(offered(None, &["events", "--kind", "worker.l"]), ["worker.left", "worker.lost"]);
    assert_eq!(offered(None, &["submit", "--serialization-format", "p"]), ["postcard"]);
    assert_eq!(offered(None, &["schedule", "add", "x", "--overlap", ""]), ["skip", "queue"]);
    assert_eq!(offered(None, &["man", "schedule-a"]), ["schedule-add"]);
}

#[test]
fn module_options_complete_files_and_directories() {
    let directory = tempfile::tempdir().expect("directory created");
    for name in ["a.wasm", "b.txt"] {
        std::fs::write(directory.path().join(name), "").expect("file access");
    }
    let beginning = format!("{}/", directory.path().display());
    let found = offered(None, &["control-plane", "--task-modules", &beginning]);
    assert_eq!(found, [format!("{beginning}a.wasm")]);
    // Compiling may take longer than the timeout of a completion: repeat it.
    let module = module("arithmetic");
    let module = module.to_str().expect("valid UTF-8");
    eventually("task names of the module are offered", TIMEOUT, || {
        let _ = cli::run({
            let mut command = fastworker();
            command.args(["list", "--task-modules", module]);
            command
        });
        (offered(None, &["dev", module, "m"]) == ["multiply"]).then_some(())
    });
}

#[test]
fn every_shell_gets_a_script() {
    for (shell, word) in [("bash", "complete -o"), ("zsh", "#compdef fastworker"), ("fish", "complete --keep-order")] {
        let mut command = fastworker();
        command.args(["completions", shell]);
        let script = cli::run(command).with_code(0).stdout;
        assert!(script.contains(word) && script.contains("FASTWORKER_COMPLETE"), "{script}");
    }
    let mut command = fastworker();
    command.args(["completions", "tcsh"]);
    let ran = cli::run(command).with_code(2).with_error();
    assert!(ran.stderr.contains("bash, elvish, fish, powershell, zsh"), "{ran:?}");
}

#[test]
fn bash_completes_with_the_script() {
    const LINES: &str = r#"
        source <("$0" completions bash)
        COMP_WORDS=(fastworker submit --priority h) COMP_CWORD=3 COMP_TYPE=9
        "$(complete -p fastworker | sed 's/.*-F \([^ ]*\) .*/\1/')" fastworker h --priority
        echo "${COMPREPLY[@]}"
    "#;
    if !Path::new("/bin/bash").exists() && Command::new("bash").arg("--version").output().is_err() {
        return;
    }
    let mut command = process::command(Path::new("bash"));
    command.args(["--norc", "-c", LINES]).arg(binary::path());
    assert_eq!(cli::run(command).with_code(0).stdout, "high\n");
}
