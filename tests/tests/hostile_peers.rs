//! Malicious peers at every port: they are refused or disconnected, delay no other client, and leak nothing.

use std::{
    io, iter,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use fastworker::{
    protocol::{
        Beat, EventQuery, Follow, Lookup, Note, Notify, Registration, Reply, Request, Submit, TaskQuery, Work,
        WorkerRequest, codec,
    },
    task::{NewTask, SerializationFormat, TaskId},
    transport::FRAME_MAX,
};
use fastworker_tests::{
    Cluster, TIMEOUT, eventually,
    peer::{BUS, PAIR, Peer, REPLY, REQUEST, frame, greeting, request_frame},
    steady::Steady,
};
use uuid::Uuid;

/// Maximum growth of memory during a storm of frames.
const GROWTH_MAX: u64 = 10 << 20;
/// Tolerance for the number of open files.
const FILES_SLACK: usize = 16;

fn cluster() -> Cluster {
    let few = ["--result-cache-size", "100"];
    Cluster::builder()
        .modules(&["arithmetic"])
        .subworkers(1)
        .slots(2)
        .without_unknown_grace()
        .control_plane_args(&few)
        .start()
}

/// Every port of a control plane, and its kind of socket.
fn ports(cluster: &Cluster) -> Vec<(u16, u8)> {
    let ports = cluster.ports();
    let requests = (0..=4).map(|offset| ports.base() + offset).chain([ports.subworkers()]);
    requests.map(|port| (port, REQUEST)).chain([(ports.discovery(), BUS)]).collect()
}

/// Checks that this port serves a well-behaved peer.
fn assert_serves(port: u16, kind: u8) {
    let mut peer = Peer::handshake(port, kind).expect("connection served");
    if kind == BUS {
        let announcement = peer.receive().expect("announcement expected");
        assert!(announcement.starts_with(b"WORKER_ANNOUNCE:"), "{announcement:?}");
    } else {
        assert!(!peer.call(b"?").expect("reply expected").is_empty());
    }
}

/// Waits until the files held by hostile peers are closed.
fn wait_for_open_files(cluster: &Cluster, before: usize) {
    let open = || cluster.control_plane.open_files();
    let what = format!("the open files: {before} before, {} at first", open());
    eventually(&what, 2 * TIMEOUT, || (open() <= before + FILES_SLACK).then_some(()));
}

/// Checks that memory does not grow with each storm of one kind. A storm raises the peak by chance, so only one of a few
/// must not grow.
fn assert_stops_growing(cluster: &Cluster, mut storm: impl FnMut()) {
    const STORMS: usize = 4;
    let mut grown = Vec::new();
    while grown.len() < STORMS {
        let before = cluster.control_plane.memory();
        storm();
        grown.push(cluster.control_plane.memory().saturating_sub(before));
        if grown.last() < Some(&GROWTH_MAX) {
            return;
        }
    }
    panic!("bytes more after each storm: {grown:?}");
}

#[test]
fn a_wrong_handshake_is_disconnected() {
    let cluster = cluster();
    let steady = Steady::start(&cluster);
    let before = cluster.control_plane.open_files();
    let noise = noise(&mut Rng::with_seed(7), 64 << 10);
    for (port, kind) in ports(&cluster) {
        let other = if kind == BUS { REQUEST } else { BUS };
        let greetings: [&[u8]; 11] = [
            b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello",
            &[0; 8],
            &[0xff; 8],
            b"\0SP\x01\0\x30\0\0",
            b"\0SP\0\0\x30\0\x01",
            b"\0SP\0\xff\xff\0\0",
            &greeting(PAIR),
            &greeting(REPLY),
            &greeting(other),
            &noise,
        ];
        for (number, wrong) in greetings.into_iter().enumerate() {
            let mut peer = Peer::connect(port).expect("listener expected");
            // It may be disconnected before the end.
            drop(peer.write(wrong));
            assert!(peer.is_closed_within(TIMEOUT), "greeting {number} at {port}");
        }
        for length in 0..8 {
            let mut peer = Peer::connect(port).expect("listener expected");
            peer.write(&greeting(kind)[..length]).expect("open connection");
        }
        assert_serves(port, kind);
    }
    steady.stop();
    wait_for_open_files(&cluster, before);
}

#[test]
fn the_web_interface_survives_nonsense_and_idle_connections() {
    let cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(1).gui().start();
    let steady = Steady::start(&cluster);
    let before = cluster.control_plane.open_files();
    let port = cluster.gui().rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("valid port");
    let long = [b"GET /".to_vec(), vec![b'x'; 64 << 10], b" HTTP/1.1\r\n\r\n".to_vec()].concat();
    let noise = noise(&mut Rng::with_seed(11), 64 << 10);
    let nonsense: [&[u8]; 8] = [
        b"\0SP\0\0\x30\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/tasks/x/cancel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        &long,
        &noise,
    ];
    for (number, wrong) in nonsense.into_iter().enumerate() {
        let mut peer = Peer::connect(port).expect("listener expected");
        drop(peer.write(wrong));
        assert!(peer.is_closed_within(2 * TIMEOUT), "nonsense {number}");
    }
    // A refused connection gets the refusal before it sends anything.
    let receives = |bytes: &[u8], status: &[u8]| {
        let reply = Peer::connect(port).and_then(|mut peer| {
            peer.write(bytes)?;
            peer.read(status.len())
        });
        reply.is_ok_and(|reply| reply == status)
    };
    let is_served = || receives(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 200");
    assert!(is_served());
    let mut peers: Vec<Peer> = (0..600)
        .map(|_| {
            let mut peer = Peer::connect(port).expect("listener expected");
            // Beyond the limit it is refused and disconnected.
            drop(peer.write(b"GET /"));
            peer
        })
        .collect();
    // Idle connections are dropped for one that sends a request.
    eventually("a request alongside idle peers is served", TIMEOUT, || is_served().then_some(()));
    assert!(peers[0].is_closed_within(TIMEOUT), "the one that waited longest");
    drop(peers);
    eventually("a request is served after the peers disconnect", 2 * TIMEOUT, || is_served().then_some(()));
    steady.stop();
    wait_for_open_files(&cluster, before);
}

#[test]
fn invalid_frames_are_disconnected_or_ignored() {
    let cluster = cluster();
    let steady = Steady::start(&cluster);
    let before = cluster.control_plane.open_files();
    for (port, kind) in ports(&cluster) {
        let lengths = [u64::MAX, 1 << 63, 1 << 62, (1 << 32) + 4, FRAME_MAX as u64 + 1];
        for length in lengths {
            let mut peer = Peer::handshake(port, kind).expect("handshake expected");
            peer.write(&length.to_be_bytes()).expect("open connection");
            drop(peer.write(&[0x80; 64]));
            assert!(peer.is_closed_within(TIMEOUT), "a frame of {length} bytes at {port}");
        }
        // Disconnect after a part of the announced frame.
        for cut in [0, 1, 7, 8, 9, 12, 13, 200] {
            let mut peer = Peer::handshake(port, kind).expect("handshake expected");
            let whole = request_frame(1, &[b'{'; 300]);
            peer.write(&whole[..cut]).expect("open connection");
        }
        if kind == REQUEST {
            // A missing or endless request id.
            for short in [&b""[..], b"\x80", b"\0\0\0", &[0; 16]] {
                let mut peer = Peer::handshake(port, kind).expect("handshake expected");
                peer.send(short).expect("open connection");
                assert!(peer.is_closed_within(TIMEOUT), "{short:?} at {port}");
            }
            // A request with too many hops is ignored, and the next one gets a reply.
            let mut peer = Peer::handshake(port, kind).expect("handshake expected");
            let hops = [[0, 0, 0, 9].repeat(40), vec![0x80, 0, 0, 9], b"?".to_vec()].concat();
            drop(peer.send(&hops));
            let mut peer = Peer::handshake(port, kind).expect("handshake expected");
            let eight = [[0, 0, 0, 9].repeat(7), vec![0x80, 0, 0, 9], b"?".to_vec()].concat();
            peer.send(&eight).expect("open connection");
            assert_eq!(peer.receive().expect("reply expected")[..32], eight[..32]);
        } else {
            // The control plane ignores announcements of others.
            let mut peer = Peer::handshake(port, kind).expect("handshake expected");
            for size in [0, 1, 4_000] {
                drop(peer.send(&vec![b'x'; size]));
            }
        }
        assert_serves(port, kind);
    }
    steady.stop();
    wait_for_open_files(&cluster, before);
}

#[test]
fn thousands_of_half_open_connections_block_no_one() {
    const EACH: usize = 600;
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit on open files can be raised");
    let mut cluster = cluster();
    let steady = Steady::start(&cluster);
    let before = cluster.control_plane.open_files();
    let mut open = Vec::new();
    for (port, kind) in ports(&cluster) {
        for number in 0..EACH {
            let mut peer = Peer::connect(port).expect("listener expected");
            let part: Vec<u8> = match number % 5 {
                0 => Vec::new(),
                1 => greeting(kind)[..5].to_vec(),
                2 => greeting(kind).to_vec(),
                3 => [&greeting(kind)[..], &[0, 0, 0]].concat(),
                // The largest accepted frame, of which only the start is sent.
                _ => [&greeting(kind)[..], &(FRAME_MAX as u64).to_be_bytes()[..], &[0x80, 0, 0, 1, b'{']].concat(),
            };
            drop(peer.write(&part));
            open.push(peer);
        }
    }
    let held = || (cluster.control_plane.open_files() > before + open.len() / 2).then_some(());
    eventually("all peers are connected", TIMEOUT, held);
    let memory = cluster.control_plane.memory();
    assert!(memory < 256 << 20, "{memory} bytes for {} connections", open.len());
    steady.continues();
    for (port, kind) in ports(&cluster) {
        assert_serves(port, kind);
    }
    // A slow but correct client is served as well.
    let management = cluster.ports().base() + 4;
    let message = request_frame(5, br#"{"v":1,"message":"hello"}"#);
    let mut slow: Vec<_> = (0..50).map(|_| Peer::handshake(management, REQUEST).expect("handshake expected")).collect();
    for byte in &message {
        for peer in &mut slow {
            peer.write(&[*byte]).expect("open connection");
        }
        thread::yield_now();
    }
    for peer in &mut slow {
        let (id, body) = peer.receive_reply().expect("reply expected");
        assert!(id == 5 && matches!(codec::decode(&body), Ok(Reply::Welcome(_))), "{id}: {body:?}");
    }
    cluster.start_subworker("sw2");
    // A client that never sends a handshake is disconnected eventually.
    let mut silent = open.swap_remove(0);
    assert!(silent.is_closed_within(3 * TIMEOUT), "a connection without a greeting stays");
    drop((slow, silent, open));
    steady.continues();
    // The tolerance covers the connections of the new worker.
    wait_for_open_files(&cluster, before);
    steady.stop();
}

#[test]
fn short_connections_leak_nothing() {
    const TIMES: usize = 10_000;
    let cluster = cluster();
    let steady = Steady::start(&cluster);
    let ports = ports(&cluster);
    let storm = |times: usize| {
        for number in 0..times {
            let (port, kind) = ports[number % ports.len()];
            let mut peer = Peer::connect(port).expect("listener expected");
            match number % 4 {
                0 => {}
                1 => drop(peer.write(&greeting(kind))),
                2 => drop(peer.write(&[&greeting(kind)[..], &request_frame(1, b"?")].concat())),
                _ => drop(peer.write(b"\0SP")),
            }
        }
    };
    let before = cluster.control_plane.open_files();
    storm(TIMES);
    wait_for_open_files(&cluster, before);
    assert_stops_growing(&cluster, || {
        storm(TIMES);
        steady.continues();
        wait_for_open_files(&cluster, before);
    });
    steady.stop();
}

#[test]
fn a_client_that_reads_no_replies_is_disconnected() {
    const FRAMES: usize = 100_000;
    let cluster = cluster();
    let steady = Steady::start(&cluster);
    for (port, kind) in ports(&cluster) {
        if kind == BUS {
            continue;
        }
        let before = cluster.control_plane.memory();
        let mut silent: Vec<_> = (0..2).map(|_| Peer::handshake(port, kind).expect("handshake expected")).collect();
        let frames = request_frame(1, b"{\"v\":1,\"message\":\"workers\"}").repeat(100);
        for peer in &mut silent {
            peer.write_within(Duration::from_secs(1));
            for _ in 0..FRAMES / 100 {
                if peer.write(&frames).is_err() {
                    break;
                }
            }
        }
        let started = Instant::now();
        assert_serves(port, kind);
        assert!(started.elapsed() < TIMEOUT, "{port} serves others after {:?}", started.elapsed());
        steady.continues();
        let grown = cluster.control_plane.memory().saturating_sub(before);
        assert!(grown < 1 << 30, "{grown} bytes for unread replies");
    }
    steady.stop();
}

/// One frame of a storm.
enum TestFrame {
    /// A request, which gets a reply.
    Valid(Vec<u8>),
    /// Arbitrary bytes: they get a reply, are ignored or end the connection.
    Arbitrary(Vec<u8>),
}

/// Frames of every kind, from good ones to noise.
struct FrameGenerator {
    rng: Rng,
    good: Vec<Vec<u8>>,
}

impl FrameGenerator {
    fn new(seed: u64) -> Self {
        let mut good = Vec::new();
        for format in SerializationFormat::ALL {
            good.extend(requests().iter().map(|request| codec::encode(format, request)));
            good.extend(worker_requests().iter().map(|request| codec::encode(format, request)));
        }
        let originals = [
            r#"{"id": "a", "name": "nosuch", "args": [5, 3], "kwargs": {}, "priority": "normal", "timeout": null}"#,
            r#"{"action": "batch_submit", "tasks": [{"id": "b", "name": "nosuch"}, {"name": "nosuch"}]}"#,
            r#"{"task_id": "c"}"#,
            r#"{"action": "cancel", "task_id": "d"}"#,
            r#"{"id": "e", "name": "nosuch", "args": [NaN, Infinity]}"#,
            "{}",
        ];
        good.extend(originals.map(|text| text.as_bytes().to_vec()));
        Self { rng: Rng::with_seed(seed), good }
    }

    fn next_frame(&mut self) -> TestFrame {
        let rng = &mut self.rng;
        let mut body = self.good[rng.usize(..self.good.len())].clone();
        match rng.u8(0..20) {
            0..8 => {}
            8..13 => {
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(..body.len());
                    body[at] ^= 1 << rng.u8(0..8);
                }
            }
            13 | 14 => body.truncate(rng.usize(..body.len())),
            15 => body = b"\x80\x04\x95\x12\0\0\0\0\0\0\0}\x94\x8c\x07task_id\x94\x8c\x01x\x94s.".to_vec(),
            16 => body = noise(rng, 300),
            17 => body = [br#"{"v":1,"message":"#.to_vec(), b"[".repeat(rng.usize(1..5_000))].concat(),
            18 => body = br#"{"v":1,"message":{"explode":["\ud800",1e999,"\u0000"]}}"#.to_vec(),
            _ => {
                let noise = noise(rng, 40);
                return TestFrame::Arbitrary(if rng.bool() { frame(&noise) } else { noise });
            }
        }
        TestFrame::Valid(body)
    }
}

/// Random bytes, up to `most`.
fn noise(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = rng.usize(..most);
    iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

/// Requests, none of which waits.
fn requests() -> Vec<Request> {
    let id = || TaskId::from(Uuid::from_u128(7));
    let task = NewTask { id: id(), ..NewTask::new("nosuch") };
    vec![
        Request::Hello,
        Request::Workers,
        Request::Submit(Submit { tasks: vec![task; 3], notify: Notify::No }),
        Request::Lookup(Lookup { ids: vec![id(), "x".parse().expect("id expected")], wait_ms: 0 }),
        Request::Cancel(vec![id()]),
        Request::Follow(Follow { id: id(), after: 0, wait_ms: 0 }),
        Request::Tasks(TaskQuery { limit: 3, ..TaskQuery::default() }),
        Request::Events(EventQuery { after: 0, wait_ms: 0 }),
    ]
}

/// Requests of a worker with an unknown key, so that none of them waits.
fn worker_requests() -> Vec<WorkerRequest> {
    let worker = Uuid::from_u128(9);
    vec![
        WorkerRequest::Register(Registration {
            previous: None,
            worker: Uuid::nil(),
            worker_id: "sw1".into(),
            address: "tcp://127.0.0.1:1".into(),
            slots: 1,
            modules: Vec::new(),
        }),
        WorkerRequest::Work(Work { worker, slot: 0, sequence: 1, ended: Vec::new(), capacity: 1 }),
        WorkerRequest::Beat(Beat { worker, holds: Vec::new() }),
        WorkerRequest::Note(Note { worker, sequence: 1, reports: Vec::new(), returned: Vec::new() }),
        WorkerRequest::Drain(worker),
        WorkerRequest::Leave(worker),
    ]
}

/// Sends a number of frames to a port, and waits for all replies that must come.
fn send_frames(port: u16, kind: u8, generator: &mut FrameGenerator, frames: usize) -> io::Result<()> {
    const ROUND: usize = 50;
    let mut left = frames;
    while left > 0 {
        let mut peer = Peer::handshake(port, kind)?;
        let (mut bodies, mut arbitrary) = (Vec::new(), None);
        while bodies.len() < ROUND && left > 0 && arbitrary.is_none() {
            left -= 1;
            match generator.next_frame() {
                TestFrame::Valid(body) => bodies.push(body),
                TestFrame::Arbitrary(bytes) => arbitrary = Some(bytes),
            }
        }
        for (number, body) in bodies.iter().enumerate() {
            peer.send_request(u32::try_from(number).expect("small number"), body)?;
        }
        if kind != BUS {
            let mut replied = vec![false; bodies.len()];
            for _ in 0..bodies.len() {
                let (id, body) = peer.receive_reply()?;
                assert!(!body.is_empty(), "{:?} gets an empty reply", bodies[id as usize]);
                replied[id as usize] = true;
            }
            assert!(replied.into_iter().all(|replied| replied));
        }
        if let Some(bytes) = arbitrary {
            drop(peer.write(&bytes));
        }
    }
    Ok(())
}

#[test]
fn a_hundred_thousand_frames_of_every_kind_leak_nothing() {
    const FRAMES: usize = 100_000;
    const THREADS: u64 = 2;
    let mut cluster = cluster();
    let steady = Steady::start(&cluster);
    let ports = ports(&cluster);
    let storm = |frames: usize, seed: u64| {
        let fired = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (ports, fired) = (&ports, Arc::clone(&fired));
                scope.spawn(move || {
                    let mut generator = FrameGenerator::new(seed + thread);
                    while fired.fetch_add(100, Ordering::Relaxed) < frames {
                        let (port, kind) = ports[generator.rng.usize(..ports.len())];
                        let next_frame = send_frames(port, kind, &mut generator, 100);
                        next_frame.unwrap_or_else(|error| panic!("{error} at {port}, seed {}", seed + thread));
                    }
                });
            }
        });
    };
    storm(FRAMES / 5, 1_000);
    let before = cluster.control_plane.open_files();
    let mut seeds = (2..).map(|round| round * 1_000);
    assert_stops_growing(&cluster, || {
        storm(FRAMES, seeds.next().expect("there is no end of them"));
        steady.continues();
        wait_for_open_files(&cluster, before);
    });
    for (port, kind) in ports {
        assert_serves(port, kind);
    }
    assert!(cluster.control_plane.is_running() && cluster.subworkers[0].is_running());
    steady.stop();
}
