//! Tests over loopback TCP, with callers of this crate and with raw peers that write their own bytes.

use std::{
    collections::HashSet,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{
        CallError, Caller, FRAME_MAX, OPEN_REQUESTS_MAX, OpenError, PAYLOAD_MAX, Peer, Rejection, ReplyHandle, Server,
        Service, Transport, call, call_blocking,
    },
    Nng,
    server::{NngServer, ServerLimits},
};
use crate::lock::lock;

mod blocking_req;
mod limits;
mod pair;
mod silent;
mod unread;
mod unsent;

/// Timeout for hangs, long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

// --- Helpers ---

/// Sends a value to the test, which may have ended already.
fn report<T>(test: &Sender<T>, value: T) {
    test.send(value).unwrap_or_default();
}

/// Returns a free address, below the ephemeral ports.
fn free_address() -> String {
    static USED: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    loop {
        let port = 15_000 + u16::try_from(uuid::Uuid::new_v4().as_u128() % 17_000).expect("it fits");
        let is_new = lock(&USED).get_or_insert_default().insert(port);
        if is_new && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!("tcp://127.0.0.1:{port}");
        }
    }
}

/// Spins until a condition is met that cannot be awaited.
fn wait_until(what: &str, is_met: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_met() {
        assert!(started.elapsed() < TIMEOUT, "timed out: {what}");
        thread::yield_now();
    }
}

/// Runs a closure on its own thread, with a timeout.
fn within_time<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(run()));
    end.recv_timeout(TIMEOUT).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// A call to a service.
enum ServiceCall {
    Request(Peer, Vec<u8>, ReplyHandle),
    Disconnected(Peer),
}

/// Passes every request to the test, which replies.
struct ManualService(Sender<ServiceCall>);

impl ManualService {
    fn new() -> (Arc<Self>, Receiver<ServiceCall>) {
        let (sender, receiver) = mpsc::channel();
        (Arc::new(Self(sender)), receiver)
    }

    fn forward(&self, call: ServiceCall) {
        report(&self.0, call);
    }
}

impl Service for ManualService {
    fn request(&self, from: Peer, body: &[u8], reply: ReplyHandle) {
        self.forward(ServiceCall::Request(from, body.to_vec(), reply));
    }

    fn refuse(&self, body: &[u8], why: Rejection) -> Vec<u8> {
        format!("{why:?} {}", String::from_utf8_lossy(body)).into_bytes()
    }

    fn disconnected(&self, peer: Peer) {
        self.forward(ServiceCall::Disconnected(peer));
    }
}

fn next_request(calls: &Receiver<ServiceCall>) -> (Peer, Vec<u8>, ReplyHandle) {
    match calls.recv_timeout(TIMEOUT).expect("the service is called") {
        ServiceCall::Request(peer, body, reply) => (peer, body, reply),
        ServiceCall::Disconnected(peer) => panic!("{peer:?} disconnected, and should send a request"),
    }
}

fn next_disconnect(calls: &Receiver<ServiceCall>) -> Peer {
    match calls.recv_timeout(TIMEOUT).expect("the service is called") {
        ServiceCall::Disconnected(peer) => peer,
        ServiceCall::Request(peer, ..) => panic!("{peer:?} sent a request, and should disconnect"),
    }
}

/// Replies with the request's body, every third time from another thread; panics on request.
#[derive(Default)]
struct Echo {
    count: AtomicUsize,
}

impl Service for Echo {
    fn request(&self, _: Peer, body: &[u8], reply: ReplyHandle) {
        assert!(body != b"panic", "on request");
        if self.count.fetch_add(1, SeqCst).is_multiple_of(3) {
            let body = body.to_vec();
            thread::spawn(move || reply.send(&body));
        } else {
            reply.send(body);
        }
    }

    fn refuse(&self, body: &[u8], why: Rejection) -> Vec<u8> {
        assert!(body != b"panic twice", "on request");
        format!("{why:?}").into_bytes()
    }

    fn disconnected(&self, _: Peer) {}
}

fn serve(address: &str, service: Arc<dyn Service>) -> Box<dyn Server> {
    Nng.serve(address, OPEN_REQUESTS_MAX, service).expect("the address is free")
}

fn request(caller: &dyn Caller, body: &str) -> Result<String, CallError> {
    call_blocking(caller, body.as_bytes(), TIMEOUT, |reply| String::from_utf8_lossy(reply).into_owned())
}

/// Makes a call without waiting; the reply arrives over the channel.
fn request_later(caller: &dyn Caller, body: &str, replies: &Sender<(String, String)>) {
    let (request, replies) = (body.to_owned(), replies.clone());
    let done = move |reply: Result<&[u8], CallError>| {
        let reply = reply.map_or_else(|error| error.to_string(), |it| String::from_utf8_lossy(it).into_owned());
        report(&replies, (request, reply));
    };
    caller.call(body.as_bytes(), TIMEOUT, Box::new(done));
}

/// A REQ peer that writes raw bytes.
struct RawPeer(TcpStream);

impl RawPeer {
    fn connect(address: &str) -> Self {
        let mut peer = Self::handshake(address, b"\0SP\0\0\x30\0\0").expect("the server accepts");
        let mut theirs = [0; 8];
        peer.0.read_exact(&mut theirs).expect("the server completes the handshake");
        assert_eq!(&theirs, b"\0SP\0\0\x31\0\0");
        peer
    }

    fn handshake(address: &str, greeting: &[u8]) -> io::Result<Self> {
        let stream = TcpStream::connect(address.trim_start_matches("tcp://"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut peer = Self(stream);
        peer.0.write_all(greeting)?;
        Ok(peer)
    }

    fn send_request(&mut self, id: u32, body: &[u8]) {
        let mut frame = (body.len() as u64 + 4).to_be_bytes().to_vec();
        frame.extend((id | 1 << 31).to_be_bytes());
        frame.extend(body);
        self.0.write_all(&frame).expect("the server reads");
    }

    fn read_reply(&mut self) -> (u32, Vec<u8>) {
        let (mut length, mut id) = ([0; 8], [0; 4]);
        self.0.read_exact(&mut length).expect("a reply");
        self.0.read_exact(&mut id).expect("a reply's id");
        let mut body = vec![0; usize::try_from(u64::from_be_bytes(length)).expect("a length") - 4];
        self.0.read_exact(&mut body).expect("a reply's body");
        (u32::from_be_bytes(id) & !(1 << 31), body)
    }

    /// Waits until the server closes the connection.
    fn is_closed_by_server(&mut self) -> bool {
        match self.0.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

// --- Replies ---

#[test]
fn each_reply_reaches_the_caller_of_its_request() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let server = serve(&address, service);
    let callers: Vec<_> = (0..10).map(|_| Nng.connect(&address).expect("an address")).collect();
    let (sender, replies) = mpsc::channel();
    for n in 0..1000 {
        request_later(&*callers[n % 10], &n.to_string(), &sender);
    }
    let mut open: Vec<_> = (0..1000).map(|_| next_request(&calls)).collect();
    assert_eq!(server.open_requests(), 1000);
    assert_eq!(open.iter().map(|(peer, ..)| *peer).collect::<HashSet<_>>().len(), 10);
    while !open.is_empty() {
        let pick = uuid::Uuid::new_v4().as_u128() as usize % open.len();
        let (_, body, reply) = open.swap_remove(pick);
        reply.send(&body);
    }
    for _ in 0..1000 {
        let (sent, received) = replies.recv_timeout(TIMEOUT).expect("a reply to each");
        assert_eq!(sent, received);
    }
    assert_eq!(server.open_requests(), 0);
}

#[test]
fn requests_of_two_thousand_connections_get_their_replies() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit can be raised");
    let address = free_address();
    let (service, calls) = ManualService::new();
    let server = serve(&address, service);
    let mut peers = Vec::new();
    let mut open = Vec::new();
    for n in 0..2000 {
        let mut peer = RawPeer::connect(&address);
        peer.send_request(n, &n.to_be_bytes());
        peers.push(peer);
        open.push(next_request(&calls));
    }
    assert_eq!(server.open_requests(), 2000);
    for (_, body, reply) in open.into_iter().rev() {
        reply.send(&body);
    }
    for (n, mut peer) in (0_u32..).zip(peers) {
        assert_eq!(peer.read_reply(), (n, n.to_be_bytes().to_vec()));
    }
}

#[test]
fn a_dropped_reply_handle_sends_an_empty_reply() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let _server = serve(&address, service);
    let caller = Nng.connect(&address).expect("an address");
    let (sender, replies) = mpsc::channel();
    request_later(&*caller, "anyone?", &sender);
    drop(next_request(&calls));
    assert_eq!(replies.recv_timeout(TIMEOUT).expect("a reply").1, "");
}

#[test]
fn replies_of_a_flushed_server_arrive_after_it_is_dropped() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let server = serve(&address, service);
    let mut peer = RawPeer::connect(&address);
    for n in 0..100 {
        peer.send_request(n, b"?");
    }
    let body = vec![7; 10_000];
    let open: Vec<_> = (0..100).map(|_| next_request(&calls)).collect();
    let reader = thread::spawn(move || (0..100).map(|_| peer.read_reply().1.len()).sum::<usize>());
    for (_, _, reply) in open {
        reply.send(&body);
    }
    server.flush(TIMEOUT);
    drop(server);
    assert_eq!(reader.join().expect("every reply arrives"), 100 * body.len());
}

#[test]
fn flushing_waits_for_a_large_reply() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let server = serve(&address, service);
    let mut peer = RawPeer::connect(&address);
    peer.send_request(1, b"?");
    let reader = thread::spawn(move || peer.read_reply().1.len());
    next_request(&calls).2.send(&vec![7; PAYLOAD_MAX]);
    server.flush(TIMEOUT);
    drop(server);
    assert_eq!(reader.join().expect("the reply arrives"), PAYLOAD_MAX);
}

// --- Disconnects ---

#[test]
fn a_disconnected_peer_frees_its_contexts_and_is_reported() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let server = Nng.serve(&address, 100, service).expect("the address is free");
    let mut first = RawPeer::connect(&address);
    (0..100).for_each(|n| first.send_request(n, b"first"));
    let orphans: Vec<_> = (0..100).map(|_| next_request(&calls)).collect();
    assert!(orphans.iter().all(|(.., reply)| reply.is_open()));
    drop(first);
    assert_eq!(next_disconnect(&calls), orphans[0].0);
    assert!(orphans.iter().all(|(.., reply)| !reply.is_open()));
    assert_eq!(server.open_requests(), 0);

    let mut second = RawPeer::connect(&address);
    (0..100).for_each(|n| second.send_request(n, &n.to_be_bytes()));
    let open: Vec<_> = (0..100).map(|_| next_request(&calls)).collect();
    assert!(open.iter().all(|(peer, ..)| *peer != orphans[0].0));
    for (_, _, reply) in orphans {
        reply.send(b"too late");
    }
    for (_, body, reply) in open {
        reply.send(&body);
    }
    let replies: HashSet<_> = (0..100).map(|_| second.read_reply()).collect();
    assert_eq!(replies, (0..100_u32).map(|n| (n, n.to_be_bytes().to_vec())).collect());
}

/// Holds its only request until the peer has disconnected, and records whether `disconnected` was called too early.
struct SlowService {
    disconnected: AtomicBool,
    calls: Sender<&'static str>,
}

impl Service for SlowService {
    fn request(&self, _: Peer, _: &[u8], reply: ReplyHandle) {
        report(&self.calls, "request");
        wait_until("the request lost its peer", || !reply.is_open());
        report(&self.calls, if self.disconnected.load(SeqCst) { "served after it disconnected" } else { "served" });
    }

    fn refuse(&self, _: &[u8], _: Rejection) -> Vec<u8> {
        Vec::new()
    }

    fn disconnected(&self, _: Peer) {
        self.disconnected.store(true, SeqCst);
        report(&self.calls, "disconnected");
    }
}

#[test]
fn disconnected_is_the_last_call_of_a_service_for_a_peer() {
    let address = free_address();
    let (sender, calls) = mpsc::channel();
    let _server = serve(&address, Arc::new(SlowService { disconnected: AtomicBool::new(false), calls: sender }));
    let mut peer = RawPeer::connect(&address);
    peer.send_request(1, b"?");
    // A request whose peer disconnects before it was received is dropped.
    assert_eq!(calls.recv_timeout(TIMEOUT), Ok("request"));
    drop(peer);
    assert_eq!(calls.recv_timeout(TIMEOUT), Ok("served"));
    assert_eq!(calls.recv_timeout(TIMEOUT), Ok("disconnected"));
}

#[test]
fn a_peer_that_reads_no_replies_is_disconnected() {
    let address = free_address();
    let limits = ServerLimits { send_timeout: Duration::from_millis(200), ..ServerLimits::default() };
    let server = NngServer::listen(&address, limits, Arc::new(Echo::default())).expect("the address is free");
    let mut slow = RawPeer::connect(&address);
    slow.0.set_write_timeout(Some(TIMEOUT)).expect("a socket");
    let frame = vec![0; 1024 * 1024];
    let (mut length, id) = ((frame.len() as u64 + 4).to_be_bytes().to_vec(), [0x80, 0, 0, 1]);
    length.extend(id);
    while slow.0.write_all(&length).and_then(|()| slow.0.write_all(&frame)).is_ok() {}
    assert_eq!(request(&*Nng.connect(&address).expect("an address"), "and I?"), Ok("and I?".to_owned()));
    wait_until("all is sent or dropped", || {
        server.flush(TIMEOUT);
        server.open_requests() == 0
    });
}

// --- Limits and panics ---

#[test]
fn requests_beyond_the_limit_of_open_ones_are_rejected_as_busy() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let server = Nng.serve(&address, 5, service).expect("the address is free");
    let caller = Nng.connect(&address).expect("an address");
    let (sender, replies) = mpsc::channel();
    (0..5).for_each(|n| request_later(&*caller, &n.to_string(), &sender));
    let open: Vec<_> = (0..5).map(|_| next_request(&calls)).collect();
    for n in 0..500 {
        assert_eq!(request(&*caller, &n.to_string()), Ok(format!("Busy {n}")));
    }
    assert_eq!(server.open_requests(), 5);
    for (_, body, reply) in open {
        reply.send(&body);
        let (sent, received) = replies.recv_timeout(TIMEOUT).expect("a reply");
        assert_eq!(sent, received);
    }
    request_later(&*caller, "again", &sender);
    next_request(&calls).2.send(b"yes");
    assert_eq!(replies.recv_timeout(TIMEOUT).expect("a reply").1, "yes");
}

#[test]
fn a_panic_of_the_service_is_rejected_as_internal() {
    let address = free_address();
    let server = serve(&address, Arc::new(Echo::default()));
    let caller = Nng.connect(&address).expect("an address");
    for _ in 0..200 {
        assert_eq!(request(&*caller, "panic"), Ok("Internal".to_owned()));
        assert_eq!(request(&*caller, "fine"), Ok("fine".to_owned()));
    }
    assert_eq!(server.open_requests(), 0);
}

/// Panics in every method.
struct PanickingService;

impl Service for PanickingService {
    fn request(&self, _: Peer, _: &[u8], _reply: ReplyHandle) {
        panic!("no request");
    }

    fn refuse(&self, _: &[u8], _: Rejection) -> Vec<u8> {
        panic!("no refusal")
    }

    fn disconnected(&self, _: Peer) {
        panic!("no disconnect");
    }
}

#[test]
fn a_service_that_panics_in_every_method_sends_empty_replies() {
    let address = free_address();
    let _server = serve(&address, Arc::new(PanickingService));
    for _ in 0..20 {
        let caller = Nng.connect(&address).expect("an address");
        assert_eq!(request(&*caller, "well?"), Ok(String::new()));
    }
}

#[test]
fn peers_that_send_garbage_are_disconnected() {
    let address = free_address();
    let _server = serve(&address, Arc::new(Echo::default()));
    let caller = Nng.connect(&address).expect("an address");
    for greeting in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0SP\0\0\x10\0\0", b"\0SQ\0\0\x30\0\0", &[0xff; 64]] {
        assert!(RawPeer::handshake(&address, greeting).expect("the server accepts").is_closed_by_server());
        assert_eq!(request(&*caller, "still there?"), Ok("still there?".to_owned()));
    }
    let too_long = [1 << 63, (1 << 63) - 1, u64::MAX - 31, u64::MAX - 47, u64::MAX, 1 << 40, FRAME_MAX as u64 + 1];
    for length in too_long.into_iter().chain([0, 3]) {
        let mut peer = RawPeer::connect(&address);
        peer.0.write_all(&[&length.to_be_bytes()[..], &[0; 3]].concat()).expect("the server reads");
        assert!(peer.is_closed_by_server(), "a frame of {length} bytes");
        assert_eq!(request(&*caller, "still there?"), Ok("still there?".to_owned()));
    }
}

#[test]
fn a_message_over_the_size_limit_is_not_sent() {
    let address = free_address();
    let server = serve(&address, Arc::new(Echo::default()));
    let caller = Nng.connect(&address).expect("an address");
    let len = |body: usize| call_blocking(&*caller, &vec![1; body], TIMEOUT, <[u8]>::len);
    assert_eq!(len(FRAME_MAX), Err(CallError::TooLarge { size: FRAME_MAX }));
    assert_eq!(len(FRAME_MAX - 64), Ok(FRAME_MAX - 64));
    assert_eq!(len(PAYLOAD_MAX), Ok(PAYLOAD_MAX));
    assert_eq!(server.open_requests(), 0);
}

// --- Callers ---

#[test]
fn a_call_without_a_server_times_out_and_ends_once() {
    let caller = Nng.connect(&free_address()).expect("an address");
    assert!(!caller.is_connected());
    let (sender, ends) = mpsc::channel();
    let limits = [300, 20, 150, 20, 1, 0, 80];
    for limit in limits {
        let (sender, started) = (sender.clone(), Instant::now());
        let done = move |reply: Result<&[u8], CallError>| {
            report(&sender, (limit, reply.map(<[u8]>::to_vec), started.elapsed()));
        };
        caller.call(b"?", Duration::from_millis(limit), Box::new(done));
    }
    let ended: Vec<_> = (0..limits.len()).map(|_| ends.recv_timeout(TIMEOUT).expect("each ends")).collect();
    for (limit, reply, took) in &ended {
        let (address, waited) = (caller.address().to_owned(), Duration::from_millis(*limit));
        assert_eq!(*reply, Err(CallError::TimedOut { address, waited }));
        assert!(*took >= waited && *took < waited + Duration::from_secs(5), "{limit} ms took {took:?}");
    }
    drop(caller);
    drop(sender);
    assert!(ends.recv_timeout(TIMEOUT).is_err(), "no call ends twice");
}

#[test]
fn a_call_that_timed_out_frees_its_context_for_others() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let _server = serve(&address, service);
    let caller = Nng.connect(&address).expect("an address");
    for n in 0..20_u8 {
        let short = call_blocking(&*caller, b"slow", Duration::from_millis(5), <[u8]>::to_vec);
        assert!(matches!(short, Err(CallError::TimedOut { .. })), "{short:?}");
        let late = calls.try_iter().collect::<Vec<_>>();
        let (sender, replies) = mpsc::channel();
        request_later(&*caller, "quick", &sender);
        for late_call in late {
            if let ServiceCall::Request(_, _, reply) = late_call {
                reply.send(b"too late");
            }
        }
        loop {
            let (_, body, reply) = next_request(&calls);
            reply.send(&[b'a' + n]);
            if body == b"quick" {
                break;
            }
        }
        assert_eq!(replies.recv_timeout(TIMEOUT).expect("a reply").1.as_bytes(), [b'a' + n]);
    }
}

#[test]
fn open_requests_are_repeated_to_a_restarted_server() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let server = serve(&address, service);
    let caller = Nng.connect(&address).expect("an address");
    let (sender, replies) = mpsc::channel();
    request_later(&*caller, "patience", &sender);
    let (_, _, lost) = next_request(&calls);
    wait_until("the caller knows that it is connected", || caller.is_connected());
    drop(server);
    assert!(!lost.is_open());
    lost.send(b"from the closed server");
    wait_until("the caller knows that it is not", || !caller.is_connected());
    request_later(&*caller, "while disconnected", &sender);

    let _server = serve(&address, Arc::new(Echo::default()));
    for _ in 0..2 {
        let (sent, received) = replies.recv_timeout(TIMEOUT).expect("a reply from the new server");
        assert_eq!(sent, received);
    }
    wait_until("the caller knows that it is connected again", || caller.is_connected());
}

#[test]
fn open_calls_of_a_dropped_caller_end_as_closed() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let _server = serve(&address, service);
    let caller = Nng.connect(&address).expect("an address");
    let (sender, replies) = mpsc::channel();
    (0..100).for_each(|n| request_later(&*caller, &n.to_string(), &sender));
    let _open: Vec<_> = (0..100).map(|_| next_request(&calls)).collect();
    within_time("dropping a caller", move || drop(caller));
    for _ in 0..100 {
        assert!(replies.recv_timeout(TIMEOUT).expect("each ends").1.ends_with("was closed"));
    }
}

#[test]
fn a_caller_may_be_dropped_by_its_own_reply() {
    let address = free_address();
    let _server = serve(&address, Arc::new(Echo::default()));
    for _ in 0..50 {
        let caller = Nng.connect(&address).expect("an address");
        let (sender, end) = mpsc::channel();
        let own = Arc::clone(&caller);
        let done = move |_: Result<&[u8], CallError>| {
            drop(own);
            report(&sender, ());
        };
        caller.call(b"last words", TIMEOUT, Box::new(done));
        drop(caller);
        end.recv_timeout(TIMEOUT).expect("the reply arrives");
    }
}

#[test]
fn a_panic_in_a_decoder_ends_only_its_own_call() {
    let address = free_address();
    let _server = serve(&address, Arc::new(Echo::default()));
    let caller = Nng.connect(&address).expect("an address");
    let lost = Err(CallError::Closed { address: address.clone() });
    for _ in 0..50 {
        assert_eq!(call_blocking(&*caller, b"?", TIMEOUT, |_| assert!(TIMEOUT.is_zero(), "on request")), lost);
        assert_eq!(request(&*caller, "!"), Ok("!".to_owned()));
    }
}

#[tokio::test]
async fn replies_can_be_awaited_together() {
    let address = free_address();
    let _server = serve(&address, Arc::new(Echo::default()));
    let caller = Nng.connect(&address).expect("an address");
    let calls: Vec<_> = (0..200_u32)
        .map(|n| {
            call(&*caller, &n.to_be_bytes(), TIMEOUT, |reply| u32::from_be_bytes(reply.try_into().unwrap_or_default()))
        })
        .collect();
    for (n, reply) in (0..).zip(calls) {
        assert_eq!(reply.await, Ok(n));
    }
}

// --- Closing ---

#[test]
fn a_server_closed_under_traffic_does_not_hang() {
    for _ in 0..50 {
        let address = free_address();
        let server = serve(&address, Arc::new(Echo::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let reply_count = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..4).map(|_| Nng.connect(&address).expect("an address")).collect();
        for caller in callers.iter().flat_map(|caller| std::iter::repeat_n(caller, 16)) {
            keep_requesting(caller, &stop, &reply_count);
        }
        wait_until("there is traffic", || reply_count.load(SeqCst) > 200);
        within_time("closing a server", move || drop(server));
        let server = serve(&address, Arc::new(Echo::default()));
        let before = reply_count.load(SeqCst);
        wait_until("there is traffic again", || reply_count.load(SeqCst) > before + 200);
        within_time("closing callers", move || drop(callers));
        stop.store(true, SeqCst);
        within_time("closing a server again", move || drop(server));
    }
}

/// Makes a new call on each reply.
fn keep_requesting(caller: &Arc<dyn Caller>, stop: &Arc<AtomicBool>, reply_count: &Arc<AtomicUsize>) {
    let (weak, stop, reply_count) = (Arc::downgrade(caller), Arc::clone(stop), Arc::clone(reply_count));
    let done = move |reply: Result<&[u8], CallError>| {
        reply_count.fetch_add(usize::from(reply.is_ok()), SeqCst);
        // The last reference may well be this one: then the caller is dropped by its own reply.
        if let (Ok(_), false, Some(caller)) = (reply, stop.load(SeqCst), weak.upgrade()) {
            keep_requesting(&caller, &stop, &reply_count);
        }
    };
    caller.call(&[7; 100], TIMEOUT, Box::new(done));
}

/// Drops its own server with the first request.
struct DroppingService(Mutex<Option<Box<dyn Server>>>);

impl Service for DroppingService {
    fn request(&self, _: Peer, _: &[u8], reply: ReplyHandle) {
        let server = lock(&self.0).take();
        drop(server);
        reply.send(b"never sent");
    }

    fn refuse(&self, _: &[u8], _: Rejection) -> Vec<u8> {
        Vec::new()
    }

    fn disconnected(&self, _: Peer) {}
}

#[test]
fn a_server_may_be_dropped_by_its_own_service() {
    let address = free_address();
    for _ in 0..20 {
        let service = Arc::new(DroppingService(Mutex::default()));
        let mut peer = None;
        wait_until("the address is free again", || {
            let opened = Nng.serve(&address, 100, Arc::clone(&service) as Arc<dyn Service>);
            let is_open = opened.is_ok();
            *lock(&service.0) = opened.ok();
            is_open
        });
        peer.insert(RawPeer::connect(&address)).send_request(1, b"go");
        assert!(peer.is_some_and(|mut peer| peer.is_closed_by_server()));
    }
}

#[test]
fn a_closed_server_drops_its_service_even_with_open_requests() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let server = serve(&address, Arc::clone(&service) as Arc<dyn Service>);
    let mut peers: Vec<_> = (0..20).map(|_| RawPeer::connect(&address)).collect();
    for peer in &mut peers {
        peer.send_request(1, b"?");
    }
    let open: Vec<_> = (0..20).map(|_| next_request(&calls)).collect();
    drop(server);
    assert!(open.iter().all(|(.., reply)| !reply.is_open()));
    assert!(peers.iter_mut().all(RawPeer::is_closed_by_server));
    drop(open);
    wait_until("nothing holds the service", || Arc::strong_count(&service) == 1);
    assert!(calls.try_recv().is_err(), "a closed server called its service");
}

#[test]
fn an_address_that_is_in_use_or_invalid_is_refused() {
    let address = free_address();
    let server = serve(&address, Arc::new(Echo::default()));
    let again = Nng.serve(&address, 1, Arc::new(Echo::default())).map(drop);
    assert_eq!(again, Err(OpenError::InUse { address: address.clone() }));
    assert_eq!(
        Nng.announcer(&address, Box::new(Vec::new)).map(drop),
        Err(OpenError::InUse { address: address.clone() })
    );
    drop(server);
    drop(serve(&address, Arc::new(Echo::default())));
    for text in [
        "",
        "nonsense",
        "http://127.0.0.1:1",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:port",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:1/path",
        "tcp://a\0b:1",
    ] {
        let bad = OpenError::BadAddress { address: text.to_owned() };
        assert_eq!(Nng.connect(text).map(drop), Err(bad.clone()), "connect {text}");
        assert_eq!(Nng.serve(text, 1, Arc::new(Echo::default())).map(drop), Err(bad.clone()), "serve {text}");
        assert_eq!(Nng.subscriber(text, Box::new(|_| ())).map(drop), Err(bad), "subscriber {text}");
    }
}

// --- Announcements ---

#[test]
fn a_late_subscriber_gets_an_announcement_immediately() {
    let address = free_address();
    let announcer = Nng.announcer(&address, Box::new(|| b"welcome".to_vec())).expect("the address is free");
    announcer.announce(b"to no subscriber");
    let mut subscribers = Vec::new();
    for _ in 0..20 {
        let (sender, messages) = mpsc::channel();
        let subscriber = Nng.subscriber(&address, Box::new(move |message| report(&sender, message.to_vec())));
        assert_eq!(messages.recv_timeout(TIMEOUT).expect("a welcome"), b"welcome");
        subscribers.push((subscriber.expect("an address"), messages));
    }
    announcer.announce(b"to all");
    for (_, messages) in &subscribers {
        wait_until("the message for all arrives", || messages.try_recv().is_ok_and(|message| message == b"to all"));
    }
    within_time("closing subscribers", move || drop(subscribers));
    within_time("closing an announcer", move || drop(announcer));
}

#[test]
fn a_subscriber_finds_an_announcer_that_starts_later_or_restarts() {
    let address = free_address();
    let (sender, messages) = mpsc::channel();
    let _subscriber = Nng.subscriber(&address, Box::new(move |message| report(&sender, message.to_vec())));
    for n in 0..5_u8 {
        let announcer = Nng.announcer(&address, Box::new(move || vec![n])).expect("the address is free");
        assert_eq!(messages.recv_timeout(TIMEOUT).expect("a welcome"), [n]);
        drop(announcer);
    }
}
