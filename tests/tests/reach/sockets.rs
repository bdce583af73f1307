//! TCP: only granted hosts and ports, at addresses that a look-up or a grant named.

use std::io::{Read as _, Write as _};

use fastworker_tests::servers::{Server, send_forever};
use serde_json::{Value, json};

use super::{expect_error, expect_result, run};

/// A server that replies with what it receives first.
fn echo() -> Server {
    Server::tcp(|mut stream, _| {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).unwrap_or(0);
        let _ = stream.write_all(&bytes[..count]);
    })
}

#[test]
fn a_connection_goes_to_the_address_and_port_of_its_grant() {
    let (server, other) = (echo(), echo());
    let grant = ["--allow-tcp", &server.address()];
    let talk = |task: &str, host: &str, port: u16| run(&grant, task, &json!([host, port, "ping"]));
    assert_eq!(talk("talk_to_address", "127.0.0.1", server.port()).result, "ping");
    assert_eq!(talk("talk", "127.0.0.1", server.port()).result, "ping");
    for (task, host, port) in [
        ("talk_to_address", "127.0.0.1", other.port()),
        ("talk_to_address", "127.0.0.2", server.port()),
        ("talk_to_address", "::1", server.port()),
        ("talk_to_address", "10.0.0.1", server.port()),
        ("talk", "127.0.0.1", other.port()),
        ("talk", "localhost", server.port()),
        ("talk", "127.1", server.port()),
        ("talk", "2130706433", server.port()),
        ("talk", "0x7f000001", server.port()),
        ("talk", "example.com", server.port()),
    ] {
        let ended = talk(task, host, port);
        assert!(ended.result.is_null(), "{task} {host}:{port}: {ended:?}");
        assert!(["access-denied", "invalid-argument"].iter().any(|code| ended.error.contains(code)), "{ended:?}");
    }
    assert_eq!(other.connections().get(), 0);
    assert_eq!(server.connections().get(), 2);
    let refused = talk("talk_to_address", "127.0.0.1", other.port()).error;
    assert!(refused.contains(&format!("grant it with --allow-tcp {}", other.address())), "{refused}");
}

#[test]
fn a_granted_name_leads_to_no_special_address_by_itself() {
    let server = echo();
    // The configuration file of the resolver names these; `localhost` itself cannot be granted for HTTP.
    for name in ["localhost", "ip6-localhost"] {
        let grant = format!("{name}:{}", server.port());
        let ended = run(&["--allow-tcp", &grant], "talk", &json!([name, server.port(), "ping"]));
        assert!(ended.result.is_null(), "{ended:?}");
    }
    assert_eq!(server.connections().get(), 0);
    // A second grant names the address: the name leads there.
    let (name, address) = (format!("localhost:{}", server.port()), server.address());
    let grants = ["--allow-tcp", &name, "--allow-tcp", &address];
    assert_eq!(expect_result(&grants, "look_up", &json!(["localhost"])), json!(["127.0.0.1"]));
    assert_eq!(expect_result(&grants, "talk", &json!(["LOCALHOST.", server.port(), "ping"])), "ping");
    let refusal = expect_error(&["--allow-tcp", &name], "look_up", &json!(["localhost"]));
    assert!(refusal.contains("a loopback address — grant it with --allow-tcp"), "{refusal}");
}

#[test]
fn no_module_binds_or_listens_or_opens_udp_sockets() {
    let server = echo();
    for grants in [vec![], vec!["--allow-tcp".to_owned(), server.address()]] {
        let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
        let ended = run(&grants, "forbidden_sockets", &json!([]));
        let errors = ended.result.as_array().expect("a list");
        let is_denied = |error: &Value| error.as_str().is_some_and(|error| error.contains("access-denied"));
        assert!(errors.len() == 5 && errors.iter().all(is_denied), "{ended:?}");
        assert!(ended.log.contains("opening a UDP socket, which task modules cannot do"), "{ended:?}");
    }
}

#[test]
fn sockets_are_bounded_and_can_be_closed() {
    let server = echo();
    let opened = expect_result(&["--allow-tcp", &server.address()], "open_sockets", &json!([100]));
    assert_eq!((&opened[0], &opened[2]), (&json!(64), &json!(true)), "{opened}");
    assert!(opened[1].as_str().is_some_and(|error| error.contains("new-socket-limit")), "{opened}");
}

#[test]
fn a_server_that_sends_without_end_is_stopped() {
    let server = Server::tcp(|mut stream, _| send_forever(&mut stream, &[b'x'; 16 << 10]));
    let ended = run(&["--allow-tcp", &server.address()], "talk_to_address", &json!(["127.0.0.1", server.port(), "go"]));
    assert_eq!(ended.kind, "network-limit", "{ended:?}");
    assert!(ended.error.contains("received more than 256 MiB from the network"), "{ended:?}");
}
