//! HTTP: hosts, ports, paths and methods; addresses; redirects; servers that reply too much or too slowly.

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use fastworker_tests::{
    Cluster, TIMEOUT, cli, eventually, fastworker,
    process::{self, Process},
    servers::{Counter, Server, read_until, respond, send_forever, wait_for_end},
};
use serde_json::{Value, json};

use super::{Ended, expect_error, expect_result, run, run_command};

/// Connections that an attempt may have at a time.
const CONNECTIONS_MAX: usize = 64;

/// A server that behaves as the path says, and else replies with the head of the request.
fn server() -> Server {
    Server::http(serve)
}

fn serve(head: &str, stream: &mut TcpStream, connections: &Counter) {
    let path = head.split(' ').nth(1).unwrap_or_default();
    if head.starts_with("POST") {
        // The end of a chunked body.
        read_until(stream, b"0\r\n\r\n");
    }
    let begin = b"HTTP/1.1 200 OK\r\n";
    match path.split('?').next().unwrap_or_default() {
        "/redirect" => {
            let to = path.split_once("to=").map_or("/", |(_, to)| to);
            respond(stream, "302 Found", &format!("location: {to}\r\n"), "");
        }
        "/endless" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            send_forever(stream, &[b'x'; 16 << 10]);
        }
        "/claims-too-much" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n");
            send_forever(stream, &[b'x'; 16 << 10]);
        }
        "/endless-headers" => {
            let _ = stream.write_all(begin);
            send_forever(stream, format!("x: {}\r\n", "y".repeat(1000)).as_bytes());
        }
        "/many-headers" => {
            let headers: String = (0..1000).map(|number| format!("x{number}: y\r\n")).collect::<Vec<_>>().concat();
            respond(stream, "200 OK", &headers, "");
        }
        "/endless-continue" => send_forever(stream, b"HTTP/1.1 100 Continue\r\n\r\n"),
        "/no-http" => send_forever(stream, b"no HTTP at all"),
        "/silent" => wait_for_end(stream),
        "/stalls" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nstart");
            wait_for_end(stream);
        }
        "/breaks-off" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nstart");
        }
        "/together" => {
            // Replies only once all that may be open are open.
            connections.wait_for(CONNECTIONS_MAX);
            respond(stream, "200 OK", "", "together");
        }
        _ => respond(stream, "200 OK", "", head),
    }
}

fn request(server: &Server, path: &str) -> Value {
    json!([{"authority": server.address(), "path": path}])
}

#[track_caller]
fn get(server: &Server, path: &str) -> Ended {
    run(&["--allow-http", &server.address()], "request", &request(server, path))
}

#[test]
fn a_request_reaches_its_host_and_nothing_else_does() {
    let (server, other) = (server(), server());
    let grant = format!("{}/v1#GET,POST", server.address());
    let grants = ["--allow-http", &grant];
    let ask = |method: &str, authority: &str, path: &str| {
        let request = json!([{"method": method, "authority": authority, "path": path, "headers": {"x-own": "1"}}]);
        run(&grants, "request", &request)
    };
    let got = ask("GET", &server.address(), "/v1/users?a=/../b");
    let expected = format!("GET /v1/users?a=/../b HTTP/1.1\r\nhost: {}\r\nx-own: 1\r\n", server.address());
    assert_eq!(got.result["status"], 200, "{got:?}");
    assert!(got.result["text"].as_str().is_some_and(|text| text.starts_with(&expected)), "{got:?}");
    assert_eq!(ask("GET", &server.address(), "/v1").result["status"], 200);
    let sent = json!([{"method": "POST", "authority": server.address(), "path": "/v1/", "body": "text"}]);
    assert_eq!(expect_result(&grants, "request", &sent)["status"], 200);
    let reached = server.connections().get();

    let (address, port) = (server.address(), server.port());
    let refused = [
        ("GET", &*address, "/"),
        ("GET", &address, "/v10"),
        ("GET", &address, "/v1/../admin"),
        ("GET", &address, "//v1"),
        ("GET", &address, "/v1/%2e%2e/admin"),
        ("GET", &address, "/v1/.%2E/admin"),
        ("GET", &address, "/v1/..%2fadmin"),
        ("GET", &address, "/v1%2f..%2fadmin"),
        ("GET", &address, "/v1/%252e%252e/admin"),
        ("GET", &address, "/v1/..;x/admin"),
        ("GET", &address, "/v1/..\\admin"),
        ("GET", &address, "/V1"),
        ("DELETE", &address, "/v1"),
        ("CONNECT", &address, "/v1"),
        ("GET", &other.address(), "/v1"),
        ("GET", "127.0.0.1", "/v1"),
        ("GET", "example.com", "/v1"),
        ("GET", &format!("127.0.0.2:{port}"), "/v1"),
        ("GET", &format!("localhost:{port}"), "/v1"),
        ("GET", &format!("[::1]:{port}"), "/v1"),
        ("GET", &format!("[::ffff:127.0.0.1]:{port}"), "/v1"),
        ("GET", &format!("127.1:{port}"), "/v1"),
        ("GET", &format!("2130706433:{port}"), "/v1"),
        ("GET", &format!("0x7f000001:{port}"), "/v1"),
        ("GET", &format!("0177.0.0.1:{port}"), "/v1"),
        ("GET", &format!("user@{address}"), "/v1"),
        ("GET", &format!("{address}@{}", other.address()), "/v1"),
        ("GET", &format!("{}@{address}", other.address()), "/v1"),
        ("GET", &format!("127.0.0.1.:{port}"), "/v1"),
        ("GET", "", "/v1"),
    ];
    for (method, authority, path) in refused {
        let ended = ask(method, authority, path);
        assert!(ended.result.is_null(), "{method} {authority}{path}: {ended:?}");
    }
    let refusal = ask("GET", &address, "/v1/../admin");
    assert!(refusal.error.contains("HttpRequestDenied") && refusal.error.contains("not granted: GET"), "{refusal:?}");
    assert_eq!((server.connections().get(), other.connections().get()), (reached, 0));
}

#[test]
fn headers_that_choose_the_host_or_the_connection_are_refused() {
    let server = server();
    for header in ["host", "connection", "proxy-authorization", "transfer-encoding", "upgrade"] {
        let request = json!([{"authority": server.address(), "path": "/", "headers": {header: "evil.example"}}]);
        let error = expect_error(&["--allow-http", &server.address()], "request", &request);
        assert!(error.contains("Forbidden"), "{header}: {error}");
    }
    let injected = json!([{"authority": server.address(), "path": "/", "headers": {"x": "1\r\nhost: evil.example"}}]);
    expect_error(&["--allow-http", &server.address()], "request", &injected);
    assert_eq!(server.connections().get(), 0);
}

#[test]
fn a_name_leads_to_no_special_address_by_itself() {
    let server = server();
    let any = format!("*:{}", server.port());
    let ask = |grants: &[&str], host: &str| {
        run(grants, "request", &json!([{"authority": format!("{host}:{}", server.port()), "path": "/"}]))
    };
    for host in ["localhost", "ip6-localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254"]
    {
        let ended = ask(&["--allow-http", &any], host);
        assert!(ended.result.is_null() && !ended.error.is_empty(), "{host}: {ended:?}");
    }
    assert_eq!(server.connections().get(), 0);
    let refused = ask(&["--allow-http", &any], "localhost");
    let expected = format!("a loopback address — grant it with --allow-http {}", server.address());
    assert!(refused.error.contains("DestinationIpProhibited") && refused.error.contains(&expected), "{refused:?}");
    // A second grant names the address, so the name may lead there.
    let named = ask(&["--allow-http", &any, "--allow-http", &server.address()], "LocalHost.");
    let host = format!("host: localhost:{}\r\n", server.port());
    assert!(named.result["text"].as_str().is_some_and(|text| text.contains(&host)), "{named:?}");
}

#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let (server, proxy) = (server(), server());
    let mut command = fastworker();
    for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"] {
        command.env(variable, format!("http://{}", proxy.address()));
    }
    let ended = run_command(command, &["--allow-http", &server.address()], "request", &request(&server, "/"));
    assert_eq!(ended.result["status"], 200, "{ended:?}");
    assert_eq!(proxy.connections().get(), 0);
}

#[test]
fn a_redirect_is_another_request() {
    let (server, private) = (server(), server());
    let path = format!("/redirect?to=http://{}/secret", private.address());
    let grants = ["--allow-http", &server.address()];
    let not_followed = expect_result(&grants, "request", &request(&server, &path));
    assert_eq!(not_followed["status"], 302);
    let refused = expect_error(&grants, "request_with_redirects", &request(&server, &path));
    let hint = format!("GET http://{}/secret — grant it with --allow-http {0}", private.address());
    assert!(refused.contains("HttpRequestDenied") && refused.contains(&hint), "{refused}");
    for target in ["169.254.169.254/latest/meta-data", "localhost:9/", "[::1]:9/"] {
        let path = format!("/redirect?to=http://{target}");
        expect_error(&grants, "request_with_redirects", &request(&server, &path));
    }
    assert_eq!(private.connections().get(), 0);
    let both = ["--allow-http", &server.address(), "--allow-http", &private.address()];
    assert_eq!(expect_result(&both, "request_with_redirects", &request(&server, &path))["status"], 200);
}

#[test]
fn responses_without_end_are_stopped() {
    let server = server();
    for path in ["/endless", "/claims-too-much"] {
        let ended = get(&server, path);
        let size = ended.result["size"].as_u64().unwrap_or_default();
        assert!(size > 200 << 20 && size <= 256 << 20, "{path}: {ended:?}");
        assert!(ended.result["error"].is_string(), "{ended:?}");
        assert!(ended.log.contains("received more than 256 MiB from the network"), "{ended:?}");
    }
    for path in ["/endless-headers", "/many-headers", "/no-http"] {
        let ended = get(&server, path);
        assert!(ended.result.is_null() && ended.error.contains("ErrorCode::"), "{path}: {ended:?}");
    }
    let broken = get(&server, "/breaks-off");
    assert!(broken.result["error"].is_string() && broken.result["size"] == 5, "{broken:?}");
}

#[test]
fn slow_servers_are_bounded_by_the_guest_and_by_the_attempt() {
    let server = server();
    let ask = |path: &str| {
        let request = json!([{"authority": server.address(), "path": path, "timeout": 200}]);
        run(&["--allow-http", &server.address()], "request", &request)
    };
    let silent = ask("/silent");
    assert!(silent.error.contains("HttpResponseTimeout"), "{silent:?}");
    let stalled = ask("/stalls");
    assert!(stalled.result["error"].as_str().is_some_and(|error| error.contains("timeout")), "{stalled:?}");
    // The attempt's own deadline ends all without any timeout of the guest.
    for path in ["/silent", "/stalls", "/endless-continue"] {
        let mut command = fastworker();
        command.args(["dev", "--json", "--task-timeout", "300ms", "--allow-http", &server.address()]);
        command.arg(fastworker_tests::module("outside")).args(["request", "--args-json"]);
        command.arg(request(&server, path).to_string());
        let ended = cli::run(command).json();
        assert_eq!(ended["error_kind"], "timeout", "{ended}");
    }
}

#[test]
fn connections_at_a_time_are_bounded() {
    let server = server();
    let grants = ["--allow-http", &server.address()];
    let args = json!([{"authority": server.address(), "path": "/together"}, CONNECTIONS_MAX]);
    assert_eq!(expect_result(&grants, "request_often", &args), json!([CONNECTIONS_MAX, null]));
    // No earlier request gets a response, so the last one would be one connection too many.
    let args = json!([{"authority": server.address(), "path": "/silent"}, CONNECTIONS_MAX + 1]);
    let error = expect_result(&grants, "last_of_many", &args);
    assert_eq!(error, json!("ErrorCode::ConnectionLimitReached"));
    // One after the other, there is no limit.
    let args = json!([{"authority": server.address(), "path": "/"}, 1]);
    assert_eq!(expect_result(&grants, "request_often", &args), json!([1, null]));
}

#[test]
fn a_connection_closes_when_its_attempt_ends() {
    let (closed, ended) = std::sync::mpsc::channel();
    let server = Server::http(move |_, stream, _| {
        wait_for_end(stream);
        let _ = closed.send(());
    });
    let cluster = Cluster::builder().modules(&["outside"]).own_slots(1);
    let mut cluster = cluster.control_plane_args(&["--allow-http", &server.address()]).start();
    let args = request(&server, "/").to_string();
    let submit = ["submit", "--task-name", "request", "--args-json", &args, "--timeout", "30s"];
    let _ = cluster.cli(submit.iter().copied().chain(["--task-timeout", "300ms"])).with_code(1);
    ended.recv_timeout(TIMEOUT).expect("the connection of an attempt that timed out is closed");
    assert!(cluster.control_plane.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_wait_on_the_network_hold_no_core() {
    let server = server();
    let slots = u16::try_from(CONNECTIONS_MAX).expect("a small number");
    let builder = Cluster::builder().modules(&["outside"]).own_slots(slots);
    let cluster = builder.control_plane_args(&["--allow-http", &server.address()]).start();
    let client = cluster.client().await;
    let from = Instant::now();
    // Each gets its response only once all are connected.
    let request = json!({"authority": server.address(), "path": "/together"});
    let calls = (0..slots).map(|_| client.submit_task("request", (&request,)).into_future());
    for result in futures::future::join_all(calls).await {
        assert_eq!(result.expect("result expected").error, None);
    }
    assert!(from.elapsed() < TIMEOUT, "{:?}", from.elapsed());
}

/// Starts `openssl s_server -WWW` with a certificate for 127.0.0.1, and returns its port and the authority's file.
fn tls_server(folder: &std::path::Path) -> (Process, u16) {
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().is_ok_and(|status| status.success()), "openssl {args:?}");
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(
        &[
            &["req", "-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem"][..],
            &key,
        ]
        .concat(),
    );
    openssl(&[&["req", "-subj", "/CN=test", "-keyout", "key.pem", "-out", "request.pem"][..], &key].concat());
    fs::write(folder.join("extensions"), "subjectAltName=IP:127.0.0.1\n").expect("file written");
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        "request.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "extensions",
        "-out",
        "certificate.pem",
    ]);
    let port = fastworker_tests::ports::Ports::claim();
    let mut command = process::command("openssl".as_ref());
    command.args(["s_server", "-quiet", "-WWW", "-accept", &format!("127.0.0.1:{}", port.base())]);
    command.args(["-cert", "certificate.pem", "-key", "key.pem"]).current_dir(folder);
    let server = Process::start("openssl", command, folder);
    eventually("openssl listens", TIMEOUT, || TcpStream::connect(("127.0.0.1", port.base())).ok());
    (server, port.base())
}

#[test]
fn https_is_encrypted_for_a_host_that_proves_its_name() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("page"), "HTTP/1.0 200 OK\r\n\r\nencrypted").expect("file written");
    let (_server, port) = tls_server(folder.path());
    let grant = format!("127.0.0.1:{port}");
    let request = json!([{"scheme": "https", "authority": grant, "path": "/page"}]);
    let ask = |authority_file: &str| {
        let mut command = fastworker();
        command.env("SSL_CERT_FILE", folder.path().join(authority_file)).env_remove("SSL_CERT_DIR");
        run_command(command, &["--allow-http", &grant], "request", &request)
    };
    let trusted = ask("ca.pem");
    assert!(trusted.result["text"].as_str().is_some_and(|text| text.contains("encrypted")), "{trusted:?}");
    let unknown = ask("none.pem");
    assert!(unknown.error.contains("TlsCertificateError"), "{unknown:?}");
    let plain = Duration::from_secs(10);
    let from = Instant::now();
    let not_encrypted = json!([{"scheme": "http", "authority": grant, "path": "/page"}]);
    expect_error(&["--allow-http", &grant], "request", &not_encrypted);
    assert!(from.elapsed() < plain);
}
