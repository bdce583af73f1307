//! TCP connections of tasks that run as plain Rust.
#![cfg(feature = "tcp")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use fastworker_guest::tcp::TcpStream;

#[test]
fn a_connection_reads_and_writes() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).expect("4 bytes");
        stream.write_all(&bytes).expect("an open connection");
    });
    let mut stream = TcpStream::connect("127.0.0.1", port).expect("it listens");
    stream.write_all(b"ping").expect("an open connection");
    stream.flush().expect("an open connection");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("text until the end");
    assert_eq!(reply, "ping");
    server.join().expect("it replied");
}

#[test]
fn a_read_ends_at_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let mut stream = TcpStream::connect_timeout("127.0.0.1", port, Duration::from_secs(10)).expect("it listens");
    assert!(stream.set_timeout(Some(Duration::ZERO)).is_err());
    stream.set_timeout(Some(Duration::from_millis(1))).expect("a timeout");
    let error = stream.read(&mut [0; 1]).expect_err("nothing was sent");
    assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
}
