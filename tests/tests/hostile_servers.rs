//! Malicious servers: our client and subworker report an error or keep
//! polling. They do not hang, crash or grow.

use std::{
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastworker::{
    json::Json,
    protocol::{Lease, LeaseId, Order, Reply, Request, VERSION, Welcome, WorkerReply, WorkerRequest, codec},
    task::{SerializationFormat, TaskId, TaskPriority},
};
use fastworker_tests::{
    Process, TIMEOUT, cli, eventually, fastworker, module,
    peer::{Peer, REPLY, REQUEST, frame, greeting},
    ports::Ports,
};

const JSON: SerializationFormat = SerializationFormat::Json;
/// Maximum memory of a subworker that gets invalid replies.
const MEMORY_MAX: u64 = 64 << 20;

/// The reaction of a server to a request.
enum Reaction {
    /// Sends this reply.
    Reply(Vec<u8>),
    /// Writes these bytes instead of a reply, and then nothing.
    Write(Vec<u8>),
    /// Closes the connection.
    Close,
    /// Does nothing.
    Hold,
}

/// Serves a port with the reaction of `act` to each request, until the test ends.
fn serve(port: u16, act: impl Fn(&[u8]) -> Reaction + Send + Sync + 'static) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("free port");
    let act = Arc::new(act);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let act = Arc::clone(&act);
            // A failed connection ends.
            thread::spawn(move || drop(serve_connection(stream, &*act)));
        }
    });
}

fn serve_connection(stream: TcpStream, act: &dyn Fn(&[u8]) -> Reaction) -> std::io::Result<()> {
    let mut peer = Peer::from_stream(stream)?;
    peer.write(&greeting(REPLY))?;
    peer.read(8)?;
    loop {
        let request = match peer.receive() {
            Ok(request) => request,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let (id, body) = request.split_at(4);
        match act(body) {
            Reaction::Reply(reply) => peer.send(&[id, &reply].concat())?,
            Reaction::Write(bytes) => peer.write(&bytes)?,
            Reaction::Close => return Ok(()),
            Reaction::Hold => {}
        }
    }
}

fn welcome(ports: &Ports) -> Vec<u8> {
    let address = |port: u16| format!("tcp://127.0.0.1:{port}");
    codec::encode(
        JSON,
        &Reply::Welcome(Welcome {
            worker_id: "control-plane".into(),
            version: "0".into(),
            protocol: VERSION,
            base_address: address(ports.base()),
            subworker_address: address(ports.subworkers()),
            payload_max: u64::MAX,
            cluster_id: uuid::Uuid::from_u128(1),
        }),
    )
}

/// Invalid replies.
fn invalid_replies() -> Vec<Vec<u8>> {
    let nested = [br#"{"v":1,"message":"#.to_vec(), vec![b'['; 200_000]].concat();
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        Vec::new(),
        vec![0; 100],
        vec![0x80; 100],
        // Postcard: a list of nearly 2^64 items.
        vec![0x01, 0x03, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        vec![0x01; 1 << 20],
        text("{"),
        text("{}"),
        text(r#"{"v":99,"message":{"found":[]}}"#),
        text(r#"{"v":1,"message":{"found":[]}}"#),
        text(r#"{"v":1,"message":{"found":["unknown","unknown","unknown"]}}"#),
        text(r#"{"v":1,"message":{"cancelled":[true]}}"#),
        text(r#"{"v":1,"message":{"refused":{"code":"bad-request","message":"no \u001b[2J\u0007"}}}"#),
        text(r#"{"v":1,"message":{"leases":[]}}"#),
        nested,
        [
            br#"{"v":1,"message":{"refused":{"code":"bad-request","message":""#.to_vec(),
            vec![b'x'; 15 << 20],
            br#""}}}"#.to_vec(),
        ]
        .concat(),
    ]
}

/// Bytes sent instead of a reply.
fn invalid_frames() -> Vec<Vec<u8>> {
    vec![
        vec![0xff; 64],
        (1_u64 << 40).to_be_bytes().to_vec(),
        // A reply without a request, and a truncated one.
        frame(b"\x80\x00\x00\x00{}"),
        frame(&[0x80; 1000])[..500].to_vec(),
        frame(b""),
    ]
}

fn reactions() -> Vec<Reaction> {
    let (replies, others) =
        (invalid_replies().into_iter().map(Reaction::Reply), invalid_frames().into_iter().map(Reaction::Write));
    replies.chain(others).chain([Reaction::Close, Reaction::Hold]).collect()
}

/// Requests the state of a task, and checks that the command ends with an error.
fn status_fails(ports: &Ports, what: &str) {
    let mut command = fastworker();
    command.args(["status", "a-task", "--timeout", "2s"]);
    command.args(["--control-plane-address", &format!("tcp://127.0.0.1:{}", ports.base())]);
    command.args(["--discovery-address", &format!("tcp://127.0.0.1:{}", ports.discovery())]);
    let begun = Instant::now();
    let ran = cli::run(command);
    assert!(begun.elapsed() < 3 * TIMEOUT, "{what}: after {:?}", begun.elapsed());
    assert!(matches!(ran.code, Some(1 | 3 | 4 | 5)), "{what}: {ran:?}");
    assert!(ran.error().starts_with("error: ") && !ran.stderr.contains("panicked"), "{what}: {ran:?}");
    assert!(!ran.stderr.contains('\u{1b}') && ran.stderr.len() < 4_000, "{what}: {} bytes", ran.stderr.len());
}

#[test]
fn a_client_reports_invalid_replies_within_its_timeout() {
    thread::scope(|scope| {
        for number in 0..reactions().len() {
            for greets in [false, true] {
                scope.spawn(move || {
                    let ports = Ports::claim();
                    let hello = welcome(&ports);
                    serve(ports.base() + 4, move |body| {
                        let is_hello = matches!(codec::decode::<Request>(body), Ok(Request::Hello));
                        if is_hello && greets {
                            Reaction::Reply(hello.clone())
                        } else {
                            reactions().swap_remove(number)
                        }
                    });
                    status_fails(&ports, &format!("act {number}, greets: {greets}"));
                });
            }
        }
    });
}

#[test]
fn a_client_gives_up_after_a_wrong_handshake() {
    let greetings: [&'static [u8]; 4] = [b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0; 8], b"\0SP\0\0\x70\0\0", b"\0SP"];
    thread::scope(|scope| {
        for wrong in greetings {
            scope.spawn(move || {
                let ports = Ports::claim();
                let listener = TcpListener::bind(("127.0.0.1", ports.base() + 4)).expect("free port");
                thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        let Ok(mut peer) = Peer::from_stream(stream) else { continue };
                        drop(peer.write(wrong));
                        // It receives our reply, and stays silent.
                        thread::spawn(move || peer.is_closed_within(TIMEOUT));
                    }
                });
                status_fails(&ports, &String::from_utf8_lossy(wrong));
            });
        }
    });
}

/// The replies of a malicious control plane to a request for work.
fn malicious_work(number: usize) -> Reaction {
    let lease = |number: u64| Lease {
        id: LeaseId(number),
        task_id: TaskId::new(),
        name: if number.is_multiple_of(2) { "add".into() } else { "nobody_has_it".into() },
        attempt: u32::MAX,
        timeout_us: if number.is_multiple_of(3) { 0 } else { u64::MAX },
        args: Json::of(&(u64::MAX, "x")).expect("a document"),
        kwargs: Json::empty_object(),
        priority: TaskPriority::Normal,
        metadata: Json::empty_object(),
    };
    let respond = |reply: &WorkerReply| Reaction::Reply(codec::encode(JSON, reply));
    let strange = invalid_replies();
    match number {
        0 => respond(&WorkerReply::Leases(vec![lease(0), lease(0), lease(1), lease(2)])),
        1 => respond(&WorkerReply::Leases((0..900).map(lease).collect())),
        2 => respond(&WorkerReply::Orders((0..900).map(|lease| Order::Stop(LeaseId(lease))).collect())),
        3 => respond(&WorkerReply::Unknown),
        4 => Reaction::Write(vec![0xff; 64]),
        5 => Reaction::Close,
        _ => Reaction::Reply(strange[number % strange.len()].clone()),
    }
}

#[test]
fn a_subworker_survives_invalid_replies() {
    let ports = Ports::claim();
    let hello = welcome(&ports);
    serve(ports.base() + 4, move |_| Reaction::Reply(hello.clone()));
    let works = Arc::new(AtomicUsize::new(0));
    let (counted, beats) = (Arc::clone(&works), AtomicUsize::new(0));
    serve(ports.subworkers(), move |body| {
        let respond = |reply: &WorkerReply| Reaction::Reply(codec::encode(JSON, reply));
        match codec::decode::<WorkerRequest>(body) {
            Ok(WorkerRequest::Register(_)) => respond(&WorkerReply::Registered),
            Ok(WorkerRequest::Work(_)) => malicious_work(counted.fetch_add(1, Ordering::SeqCst)),
            Ok(WorkerRequest::Beat(_)) => {
                let orders = (0..900).map(|lease| Order::Stop(LeaseId(lease))).collect();
                match beats.fetch_add(1, Ordering::SeqCst) % 3 {
                    0 => respond(&WorkerReply::Orders(orders)),
                    1 => Reaction::Reply(b"{}".to_vec()),
                    _ => respond(&WorkerReply::Leases(Vec::new())),
                }
            }
            Ok(_) => respond(&WorkerReply::Noted),
            Err(error) => panic!("unreadable request of the subworker: {error}"),
        }
    });
    let directory = tempfile::tempdir().expect("directory created");
    let mut command = fastworker();
    command.args(["subworker", "--worker-id", "brave", "--concurrency", "2", "--json", "--task-modules"]);
    command.arg(module("arithmetic"));
    command.args(["--control-plane-address", &format!("tcp://127.0.0.1:{}", ports.base())]);
    command.args(["--discovery-address", &format!("tcp://127.0.0.1:{}", ports.discovery())]);
    let mut subworker = Process::start("subworker", command, directory.path());
    subworker.wait_until_ready();
    let before = subworker.memory();
    eventually("the subworker still polls for work", Duration::from_secs(50), || {
        assert!(subworker.is_running(), "it ended:\n{}", subworker.log());
        (works.load(Ordering::SeqCst) >= 12).then_some(())
    });
    let grown = subworker.memory().saturating_sub(before);
    assert!(grown < MEMORY_MAX, "it grew by {grown} bytes");
    assert!(!subworker.log().contains("panicked"), "{}", subworker.log());
    subworker.terminate();
    assert!(subworker.wait_for_exit(Duration::from_secs(45)).success(), "{}", subworker.log());
    assert!(Peer::handshake(ports.subworkers(), REQUEST).is_ok(), "the server is still there");
}
