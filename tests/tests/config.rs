//! The configuration file: where it is found, what it sets, and its errors.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use fastworker_tests::{Cluster, Ran, TIMEOUT, Transcript, cli, eventually, fastworker, module};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Writes a configuration file.
fn file(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("fastworker.toml");
    fs::write(&path, text).expect("file written");
    path
}

fn folder() -> TempDir {
    TempDir::new().expect("folder created")
}

/// `fastworker config check` with this file.
fn check(path: &Path, args: &[&str], change: impl FnOnce(&mut Command)) -> Ran {
    let mut command = fastworker();
    command.args(["config", "check", "--config"]).arg(path).args(args);
    change(&mut command);
    cli::run(command)
}

/// The value of an option, and where it comes from.
fn option(checked: &Value, section: &str, key: &str) -> (Value, Value) {
    let options = checked["options"].as_array().expect("array expected");
    let is_it = |option: &&Value| option["section"] == section && option["key"] == key;
    let option = options.iter().find(is_it).unwrap_or_else(|| panic!("no {key} in {checked}"));
    (option["value"].clone(), option["source"].clone())
}

#[test]
fn a_variable_precedes_the_file_and_the_file_the_default() {
    let folder = folder();
    let path = file(&folder, "[subworker]\nconcurrency = 3\ntimeout = \"7s\"\n[control_plane]\ninsecure = true\n");
    let ran = check(&path, &["--json"], |command| {
        command.env("FASTWORKER_TIMEOUT", "9s");
    });
    let checked = ran.with_code(0).json();
    assert_eq!(option(&checked, "subworker", "concurrency"), (json!("3"), json!("file")));
    assert_eq!(option(&checked, "subworker", "timeout"), (json!("9s"), json!("variable")));
    assert_eq!(option(&checked, "subworker", "log_level"), (json!("info"), json!("default")));
    assert_eq!(option(&checked, "control_plane", "insecure"), (json!("true"), json!("file")));
    assert_eq!(checked["file"], path.to_str().expect("UTF-8"));
}

#[test]
fn grants_of_a_flag_replace_those_of_the_file_for_the_same_modules() {
    let folder = folder();
    let text =
        "[grants]\nallow_tcp = [\"a:1\", \"b:2\"]\nallow_http = \"a.com\"\n[modules.mail]\nallow_tcp = [\"c:3\"]\n";
    let path = file(&folder, text);
    let ran = check(&path, &["--json", "--allow-tcp", "d:4", "--allow-tcp", "other@e:5"], |command| {
        command.env("FASTWORKER_ALLOW_HTTP", "b.com\n*.c.com/v1#GET\n");
    });
    let checked = ran.with_code(0).json();
    let grants = checked["grants"].as_array().expect("array expected").iter();
    let grants: Vec<Value> = grants.map(|grant| json!([grant["module"], grant["name"], grant["source"]])).collect();
    assert_eq!(
        grants,
        [
            json!([null, "http:b.com", "variable"]),
            json!([null, "http:*.c.com/v1#GET", "variable"]),
            json!([null, "tcp:d:4", "flag"]),
            json!(["mail", "tcp:c:3", "file"]),
            json!(["other", "tcp:e:5", "flag"]),
        ]
    );
}

#[test]
fn all_errors_of_a_file_are_reported_at_once_with_their_lines() {
    let folder = folder();
    let text = "[control_plane]\nbase_adress = \"tcp://127.0.0.1:1\"\nconcurrency = -1\ngui_enabled = \"no\"\n\
                allow_http = [\"a.com\"]\n[subworker]\ngui_port = 1\nlog_format = \"xml\"\n[grants]\n\
                allow_env = [\"1X=secret\", \"FASTWORKER_NO_SUCH_VARIABLE\"]\nallow_http = [\"localhost:80\", \"ftp://a.com\"]\n\
                allow_dir = \"/no/such/folder::/data\"\nsecret = [\"KEY=hunter2\", \"KEY=file:/no/such/file\"]\nallow_tcp = \"db\"\n\
                [modules.mail]\ntimeout = \"soon\"\nevery = \"1h\"\nallow_env = [\"A=1\", \"A=2\"]\n\
                [modules.mail.tasks.send]\nneeds = [\"disk\"]\ncron = \"0 25 * * *\"\nretry = 1\n[module.x]\n";
    let path = file(&folder, text);
    let mut errors = Transcript::new();
    for args in [&["config", "check"][..], &["subworker"], &["control-plane"], &["dev", "x.wasm", "x"]] {
        let mut command = fastworker();
        command.args(args).arg("--config").arg(&path);
        let ran = cli::run(command).with_code(2).with_error();
        assert!(!format!("{ran:?}").contains("hunter2") && !format!("{ran:?}").contains("X=secret"), "{ran:?}");
        if args[0] == "config" {
            errors.add(&ran);
        }
    }
    errors.check();
    let ran = check(&file(&folder, "[grants\n"), &["--json"], |_| {}).with_code(2);
    assert_eq!(ran.json()["code"], 2);
}

#[test]
fn the_file_is_found_in_the_configuration_folder_only() {
    let (config, current) = (folder(), folder());
    fs::write(current.path().join("fastworker.toml"), "this is not TOML").expect("file written");
    let run = |config: &Path| {
        let mut command = fastworker();
        command.args(["config", "check", "--json"]).current_dir(current.path()).env("XDG_CONFIG_HOME", config);
        cli::run(command)
    };
    let without = run(config.path()).with_code(0).json();
    assert!(without["file"].as_str().is_none_or(|path| path.starts_with("/etc/")), "{without}");
    let path = config.path().join("fastworker/fastworker.toml");
    fs::create_dir(path.parent().expect("it is in a folder")).expect("folder created");
    fs::write(&path, "[subworker]\nconcurrency = 5\n").expect("file written");
    let checked = run(config.path()).with_code(0).json();
    assert_eq!(checked["file"], path.to_str().expect("UTF-8"));
    assert_eq!(option(&checked, "subworker", "concurrency"), (json!("5"), json!("file")));
}

#[test]
fn a_file_that_is_missing_or_that_everyone_can_write_is_refused() {
    let folder = folder();
    let path = file(&folder, "");
    let _ = check(&folder.path().join("none.toml"), &[], |_| {}).with_code(5).with_error();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("permissions set");
    let mut errors = Transcript::new();
    errors.add(&check(&path, &[], |_| {}).with_code(2));
    errors.check();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).expect("permissions set");
    let _ = check(&path, &[], |_| {}).with_code(0);
}

#[test]
fn a_secret_is_named_but_never_shown() {
    let folder = folder();
    let secret = folder.path().join("key");
    fs::write(&secret, "correct horse\n").expect("file written");
    let text = format!(
        "[control_plane]\ngui_api_key = \"battery\"\n[grants]\nsecret = \"KEY=file:{}\"\nallow_env = \"FASTWORKER_TEST_VALUE\"\n",
        secret.display()
    );
    let path = file(&folder, &text);
    for args in [&[][..], &["--json"]] {
        let ran = check(&path, args, |command| {
            command.env("FASTWORKER_TEST_VALUE", "staple");
        });
        let shown = ran.with_code(0).stdout;
        assert!(["correct horse", "battery", "staple"].iter().all(|value| !shown.contains(value)), "{shown}");
        assert!(shown.contains("KEY=file:") && shown.contains("***"), "{shown}");
    }
    fs::write(&secret, "abc").expect("file written");
    let ran = check(&path, &[], |command| {
        command.env("FASTWORKER_TEST_VALUE", "staple");
    });
    assert!(ran.with_code(2).with_error().error().contains("4 to 65536 bytes"));
}

#[test]
fn the_printed_example_is_a_valid_file() {
    let mut command = fastworker();
    command.args(["config", "example"]);
    let example = cli::run(command).with_code(0).stdout;
    let folder = folder();
    let _ = check(&file(&folder, &example), &[], |_| {}).with_code(0);
}

#[test]
fn a_subworker_takes_its_options_grants_and_policies_from_the_file() {
    let folder = folder();
    let mut cluster = Cluster::builder().modules(&["arithmetic"]).start();
    let text = format!(
        "[subworker]\nworker_id = \"from-file\"\ncontrol_plane_address = \"{}\"\ndiscovery_address = \"{}\"\n\
         task_modules = [\"{}\"]\nconcurrency = 1\n[grants]\nallow_tcp = [\"db:5432\"]\n[modules.arithmetic]\n\
         timeout = \"7s\"\nallow_env = \"MODE=test\"\n[modules.arithmetic.tasks.add]\npriority = \"high\"\nmax_retries = 4\n",
        cluster.base(),
        cluster.discovery(),
        module("arithmetic").display()
    );
    let path = file(&folder, &text);
    cluster.launch_subworker_with("from-file", |_| {
        let mut command = fastworker();
        command.args(["subworker", "--json", "--config"]).arg(&path);
        command
    });
    let listed = || {
        let list = cluster.cli(["list", "--json"]).with_code(0).json();
        list.as_array()?.iter().find(|module| module["worker_id"] == "from-file" && module["hash"].is_string()).cloned()
    };
    let module = eventually("the subworker's module is listed", TIMEOUT, listed);
    assert_eq!(module["grants"], json!(["env:MODE", "tcp:db:5432"]));
    let task = |name: &str| {
        let tasks = module["tasks"].as_array().expect("array expected").iter();
        tasks.clone().find(|task| task["name"] == name).expect("task expected")["policy"].clone()
    };
    assert_eq!(task("add"), json!({"priority": "high", "timeout": 7.0, "max_retries": 4}));
    assert_eq!(task("multiply"), json!({"timeout": 7.0}));
}
