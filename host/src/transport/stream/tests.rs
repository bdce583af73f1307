//! Tests against servers that write raw bytes, valid and invalid ones.

use std::{
    io::Read as _,
    net::TcpListener,
    thread::{self, JoinHandle},
};

use super::*;
use crate::transport::PAYLOAD_MAX;

/// Timeout for hangs, long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Handles one connection of a server.
type Handler = fn(&mut TcpStream) -> io::Result<()>;

/// Starts a server that handles one connection with each handler, and ends.
fn serve(handlers: &'static [Handler]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("tcp://{}", listener.local_addr().expect("its address"));
    let server = thread::spawn(move || {
        for handler in handlers {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
            handler(&mut stream).expect("the other side continues");
        }
    });
    (address, server)
}

/// Completes the server's part of the handshake.
fn handshake(stream: &mut TcpStream) -> io::Result<()> {
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting)?;
    assert_eq!(greeting, REQ);
    stream.write_all(&REP)
}

/// Reads one request: its id and its body.
fn next(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; LENGTH_LEN];
    stream.read_exact(&mut len)?;
    let mut request = vec![0; usize::try_from(u64::from_be_bytes(len)).expect("a length")];
    stream.read_exact(&mut request)?;
    Ok(request)
}

fn accept(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    handshake(stream)?;
    next(stream)
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u64).to_be_bytes(), body].concat()
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let request = accept(stream)?;
    stream.write_all(&frame(&request))
}

fn dial(address: &str) -> StreamReq {
    StreamReq::new(address).expect("an address")
}

fn send_within(blocking_req: &mut StreamReq, body: &[u8], limit: Duration) -> Result<Vec<u8>, CallError> {
    let mut reply = None;
    blocking_req.request(body, limit, &mut || {}, &mut |body| reply = Some(body.to_vec()))?;
    Ok(reply.expect("a reply is read"))
}

fn send(blocking_req: &mut StreamReq, body: &[u8]) -> Result<Vec<u8>, CallError> {
    send_within(blocking_req, body, TIMEOUT)
}

/// Makes a request that times out, and returns how long that took.
fn send_until_timeout(blocking_req: &mut StreamReq, body: &[u8], waited: Duration) -> Duration {
    let started = Instant::now();
    let timed_out = Err(CallError::TimedOut { address: blocking_req.text.clone(), waited });
    assert_eq!(send_within(blocking_req, body, waited), timed_out);
    started.elapsed()
}

#[test]
fn a_request_is_repeated_until_there_is_a_valid_reply() {
    let (address, server) = serve(&[
        |_| Ok(()),
        |stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        |stream| accept(stream).map(drop),
        |stream| accept(stream).and_then(|_| stream.write_all(&u64::MAX.to_be_bytes())),
        |stream| accept(stream).and_then(|_| stream.write_all(&frame(b"abc"))),
        |stream| accept(stream).and_then(|_| stream.write_all(&frame(b"\x80\0\0\0another reply."))),
        |stream| accept(stream).and_then(|request| stream.write_all(&frame(&request)[..9])),
        |stream| {
            let reply = frame(&accept(stream)?);
            reply.iter().try_for_each(|byte| stream.write_all(&[*byte]))
        },
    ]);
    let (mut times, mut reply) = (0, Vec::new());
    let mut read = |body: &[u8]| reply = body.to_vec();
    dial(&address).request(b"hello", TIMEOUT, &mut || times += 1, &mut read).expect("a reply");
    assert_eq!((&reply[..], times), (&b"hello"[..], 6), "it was sent six times");
    server.join().expect("each connection was used");
}

#[test]
fn a_repeated_reply_is_not_the_reply_to_the_next_request() {
    let (address, server) = serve(&[
        |stream| {
            let reply = frame(&accept(stream)?);
            stream.write_all(&[&reply[..], &reply[..]].concat())?;
            // Until the client closes the connection.
            while next(stream).is_ok() {}
            Ok(())
        },
        echo,
    ]);
    let mut blocking_req = dial(&address);
    for body in ["one", "two"] {
        assert_eq!(send(&mut blocking_req, body.as_bytes()), Ok(body.into()));
    }
    server.join().expect("both connections were used");
}

#[test]
fn request_ids_wrap_around() {
    let (address, server) = serve(&[|stream| {
        for number in [0x8000_0000_u32, 0x8000_0001] {
            let request = if number == 0x8000_0000 { accept(stream)? } else { next(stream)? };
            assert_eq!(request[..ID_LEN], number.to_be_bytes());
            stream.write_all(&frame(&request))?;
        }
        Ok(())
    }]);
    let mut blocking_req = dial(&address);
    blocking_req.last_id = LAST_HOP - 1;
    for _ in 0..2 {
        assert_eq!(send(&mut blocking_req, b"?"), Ok(b"?".to_vec()));
    }
    server.join().expect("the numbers are right");
}

#[test]
fn requests_to_silent_stuck_or_slow_servers_time_out() {
    let limit = Duration::from_secs(1);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("tcp://{}", silent.local_addr().expect("its address"));
    let took = send_until_timeout(&mut dial(&address), b"?", limit);
    assert!(took < 20 * limit, "silence took {took:?}");

    let (address, server) = serve(&[|stream| {
        handshake(stream)?;
        stream.peek(&mut [0]).map(drop)?;
        thread::park_timeout(Duration::from_secs(2));
        Ok(())
    }]);
    let took = send_until_timeout(&mut dial(&address), &vec![0; BODY_MAX], limit);
    assert!(took < 20 * limit, "a server that does not read took {took:?}");
    server.join().expect("it greets");

    // A byte every 0.3 s must not extend the wait: it would take 5 s in all.
    let (address, server) = serve(&[|stream| {
        let reply = frame(&accept(stream)?);
        for byte in &reply {
            stream.set_read_timeout(Some(Duration::from_millis(300)))?;
            let hung_up = matches!(stream.peek(&mut [0]), Ok(0));
            if hung_up || stream.write_all(&[*byte]).is_err() {
                return Ok(());
            }
        }
        panic!("the client waited to the end");
    }]);
    send_until_timeout(&mut dial(&address), b"?", limit);
    server.join().expect("the client hangs up");
}

#[test]
fn bodies_of_all_allowed_sizes_are_echoed() {
    let (address, server) = serve(&[|stream| {
        handshake(stream)?;
        for _ in 0..4 {
            let request = next(stream)?;
            stream.write_all(&frame(&request))?;
        }
        Ok(())
    }]);
    let mut blocking_req = dial(&address);
    for size in [0, BODY_MAX, 1, PAYLOAD_MAX] {
        let body = vec![b'x'; size];
        assert!(send(&mut blocking_req, &body).is_ok_and(|reply| reply == body), "{size} bytes");
        assert!(
            blocking_req.request.capacity() + blocking_req.reply.capacity() <= 2 * KEPT_CAPACITY_MAX,
            "buffers shrink"
        );
    }
    assert_eq!(send(&mut blocking_req, &vec![0; BODY_MAX + 1]), Err(CallError::TooLarge { size: BODY_MAX + 1 }));
    server.join().expect("it replies to each");
}

#[test]
fn invalid_addresses_are_refused() {
    for wrong in ["", "127.0.0.1:5560", "tcp://127.0.0.1", "ipc:///tmp/x"] {
        assert!(matches!(StreamReq::new(wrong), Err(OpenError::BadAddress { .. })), "{wrong}");
    }
}
