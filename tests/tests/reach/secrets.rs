//! Secrets: in the guest as they are, and `***` in everything that leaves it.

use fastworker_tests::{
    Cluster, TIMEOUT, cli, eventually, fastworker, http::Request, module, task_helpers::expect_success,
};
use serde_json::json;

use super::{expect_result, run_command};

/// With characters that JSON and HTML escape.
const SECRET: &str = "tw0-line\n\"se<cr>et\" & é";

/// Parts of it that occur nowhere else, as they are and escaped.
const PARTS: [&str; 3] = ["tw0-line", "se<cr>et", "se\\u003ccr"];

#[track_caller]
fn assert_masked(what: &str, text: &str) {
    for part in PARTS {
        assert!(!text.contains(part), "a secret in {what}: {text}");
    }
}

#[test]
fn a_secret_is_masked_in_all_that_a_guest_writes() {
    for (task, args) in
        [("reveal", json!(["KEY", false])), ("reveal", json!(["KEY", true])), ("reveal_in_panic", json!(["KEY"]))]
    {
        let mut command = fastworker();
        command.env("SECRET", SECRET);
        let ended = run_command(command, &["--secret", "KEY=env:SECRET"], task, &args);
        let written = format!("{ended:?}");
        assert_masked(task, &written);
        let shown = [
            "log ***",
            "stdout *** end",
            "stderr ***",
            "progress ***",
            r#"{\"json\":\"***\"}"#,
            "text_length(\"***\")",
        ];
        let is_shown = |text: &&str| written.contains(*text) || written.contains(&text.replace('"', "\\\""));
        match task {
            "reveal" => assert!(shown.iter().take(4).all(is_shown), "{written}"),
            _ => assert!(written.contains("panic ***"), "{written}"),
        }
    }
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let file = folder.path().join("key");
    std::fs::write(&file, "file-secret\n").expect("file written");
    let grant = format!("KEY=file:{}", file.display());
    assert_eq!(expect_result(&["--secret", &grant], "environment", &json!([])), json!({"KEY": "***"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_nowhere_in_what_a_cluster_writes() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let file = folder.path().join("key");
    std::fs::write(&file, SECRET).expect("file written");
    let grant = format!("outside@KEY=file:{}", file.display());
    let builder = Cluster::builder().modules(&["outside"]).own_slots(1).gui();
    let cluster = builder.control_plane_args(&["--secret", &grant, "--log-level", "trace"]).start();
    let client = cluster.client().await;
    let result = client.submit_task("reveal", ("KEY", false)).await.expect("result expected");
    assert_eq!(expect_success(&result), r#"["result ***","kept"]"#);
    let failed = client.submit_task("reveal", ("KEY", true)).await.expect("result expected");
    assert_masked("a failure", &format!("{failed:?}"));
    assert!(failed.error.as_deref().is_some_and(|error| error.starts_with("error ***")), "{failed:?}");
    assert!(failed.metadata.as_str().contains(r#""details":"***""#), "{failed:?}");
    // The follow-up got what was written, and that is masked.
    eventually("the follow-up has ended", TIMEOUT, || {
        let tasks = cluster.cli(["tasks", "--json"]).json().to_string();
        tasks.contains("text_length").then_some(())
    });
    for args in [vec!["tasks", "--json"], vec!["list", "--json"], vec!["workers", "--json"]] {
        assert_masked(args[0], &format!("{:?}", cluster.cli(&args)));
    }
    assert_masked("the log", &cluster.control_plane.log());
    let task = cluster.cli(["status", &result.task_id.to_string(), "--json"]);
    assert_masked("a status", &format!("{task:?}"));
    for path in ["/api/status", "/api/tasks", "/api/registered-tasks", "/api/overview", "/metrics", "/api/modules"] {
        assert_masked(path, &Request::get(&cluster.gui(), path).send().body);
    }
    let mut inspect = fastworker();
    inspect.arg("inspect").arg(module("outside"));
    assert_masked("inspect", &format!("{:?}", cli::run(inspect)));
}
