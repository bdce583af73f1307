//! The example `redis`: a real server, reached through the SDK's `TcpStream`.

use std::process::Command;

use fastworker_tests::{Cluster, Process, TIMEOUT, eventually, ports::Ports, process};
use serde_json::json;

/// The password of the server.
const PASSWORD: &str = "redis-test-password";

/// Whether there is a `redis-server`. Tests without one are skipped, except in CI.
fn has_redis() -> bool {
    let has_it = Command::new("redis-server").arg("--version").output().is_ok_and(|ran| ran.status.success());
    assert!(has_it || std::env::var_os("CI").is_none(), "redis-server is missing: apt-get install redis-server");
    has_it
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_use_a_redis_server_that_is_granted() {
    if !has_redis() {
        return;
    }
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let ports = Ports::claim();
    let address = format!("127.0.0.1:{}", ports.base());
    let mut command = process::command("redis-server".as_ref());
    command.args(["--bind", "127.0.0.1", "--port", &ports.base().to_string(), "--save", "", "--requirepass", PASSWORD]);
    let _server = Process::start("redis", command, folder.path());
    eventually("redis listens", TIMEOUT, || std::net::TcpStream::connect(&address).ok());

    std::fs::write(folder.path().join("password"), PASSWORD).expect("file written");
    let (env, secret) = (format!("REDIS_ADDRESS={address}"), folder.path().join("password").display().to_string());
    let secret = format!("redis@REDIS_PASSWORD=file:{secret}");
    let grants = ["--allow-env", &env, "--allow-tcp", &address, "--secret", &secret];
    let cluster = Cluster::builder().modules(&["redis"]).own_slots(2).control_plane_args(&grants).start();
    let client = cluster.client().await;
    let redis = async |words: &[&str]| {
        let result = client.submit_task("redis_command", (words,)).await.expect("result expected");
        result.result.map(|json| json.to_string()).ok_or(result.error.unwrap_or_default())
    };
    assert_eq!(redis(&["SET", "key", "two\r\nlines"]).await.as_deref(), Ok("\"OK\""));
    assert_eq!(redis(&["GET", "key"]).await, Ok(json!("two\r\nlines").to_string()));
    assert_eq!(redis(&["GET", "none"]).await.as_deref(), Ok("null"));
    let large = "x".repeat(1 << 20);
    assert_eq!(redis(&["SET", "large", &large]).await.as_deref(), Ok("\"OK\""));
    assert_eq!(redis(&["GET", "large"]).await, Ok(json!(large).to_string()));
    for visits in ["1", "2"] {
        let counted = client.submit_task("count_visit", ("home",)).await.expect("result expected");
        assert_eq!(counted.result.map(|json| json.to_string()).as_deref(), Some(visits), "{:?}", counted.error);
    }
    // What the server returns is masked, too.
    assert_eq!(redis(&["CONFIG", "GET", "requirepass"]).await.as_deref(), Ok(r#"["requirepass","***"]"#));
    assert!(redis(&["NO-SUCH-COMMAND"]).await.is_err_and(|error| error.contains("unknown command")));
}
