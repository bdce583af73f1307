//! Stories over loopback TCP: askers of our own, and peers that speak the bytes themselves.

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
        CallError, Caller, FRAME_MAX, OPEN_REQUESTS_MAX, OpenError, PAYLOAD_MAX, Peer, Refusal, Reply, Server, Service,
        Transport, call, call_blocking,
    },
    Nng,
    server::{Bounds, NngServer},
};
use crate::lock::lock;

mod blocking_req;
mod crowd;
mod deaf;
mod pair;
mod silent;
mod unsent;

/// Long enough for a busy machine; nothing here takes that long unless it hangs.
const LONG: Duration = Duration::from_secs(30);

// --- Helpers ---

/// Tells the test, which may have ended already.
fn tell<T>(test: &Sender<T>, what: T) {
    test.send(what).unwrap_or_default();
}

/// An address nobody listens at, below the ports that connections are given.
fn free_address() -> String {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    loop {
        let port = 15_000 + u16::try_from(uuid::Uuid::new_v4().as_u128() % 17_000).expect("it fits");
        let is_new = lock(&TAKEN).get_or_insert_default().insert(port);
        if is_new && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!("tcp://127.0.0.1:{port}");
        }
    }
}

/// Spins until it is so. For what tells nobody that it has changed.
fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < LONG, "not so after a long time: {what}");
        thread::yield_now();
    }
}

/// Runs it on a thread of its own and waits, but not for ever.
fn within_time<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(run()));
    end.recv_timeout(LONG).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// What a service heard.
enum Heard {
    Request(Peer, Vec<u8>, Reply),
    Gone(Peer),
}

/// Keeps every request, for the test to answer.
struct Keeper(Sender<Heard>);

impl Keeper {
    fn new() -> (Arc<Self>, Receiver<Heard>) {
        let (sender, receiver) = mpsc::channel();
        (Arc::new(Self(sender)), receiver)
    }

    fn hear(&self, heard: Heard) {
        tell(&self.0, heard);
    }
}

impl Service for Keeper {
    fn request(&self, from: Peer, body: &[u8], reply: Reply) {
        self.hear(Heard::Request(from, body.to_vec(), reply));
    }

    fn refuse(&self, body: &[u8], why: Refusal) -> Vec<u8> {
        format!("{why:?} {}", String::from_utf8_lossy(body)).into_bytes()
    }

    fn gone(&self, peer: Peer) {
        self.hear(Heard::Gone(peer));
    }
}

fn next_request(heard: &Receiver<Heard>) -> (Peer, Vec<u8>, Reply) {
    match heard.recv_timeout(LONG).expect("the service hears something") {
        Heard::Request(peer, body, reply) => (peer, body, reply),
        Heard::Gone(peer) => panic!("{peer:?} is gone, and a request was expected"),
    }
}

fn next_gone(heard: &Receiver<Heard>) -> Peer {
    match heard.recv_timeout(LONG).expect("the service hears something") {
        Heard::Gone(peer) => peer,
        Heard::Request(peer, ..) => panic!("{peer:?} asked, and was expected to go"),
    }
}

/// Answers with what it was asked, unless told to panic; every third answer comes from elsewhere.
#[derive(Default)]
struct Echo {
    asked: AtomicUsize,
}

impl Service for Echo {
    fn request(&self, _: Peer, body: &[u8], reply: Reply) {
        assert!(body != b"panic", "as told");
        if self.asked.fetch_add(1, SeqCst).is_multiple_of(3) {
            let body = body.to_vec();
            thread::spawn(move || reply.send(&body));
        } else {
            reply.send(body);
        }
    }

    fn refuse(&self, body: &[u8], why: Refusal) -> Vec<u8> {
        assert!(body != b"panic twice", "as told");
        format!("{why:?}").into_bytes()
    }

    fn gone(&self, _: Peer) {}
}

fn serve(address: &str, service: Arc<dyn Service>) -> Box<dyn Server> {
    Nng.serve(address, OPEN_REQUESTS_MAX, service).expect("the address is free")
}

fn ask(caller: &dyn Caller, body: &str) -> Result<String, CallError> {
    call_blocking(caller, body.as_bytes(), LONG, |answer| String::from_utf8_lossy(answer).into_owned())
}

/// Asks without waiting; the answer comes over the channel.
fn ask_later(caller: &dyn Caller, body: &str, answers: &Sender<(String, String)>) {
    let (asked, answers) = (body.to_owned(), answers.clone());
    let done = move |answer: Result<&[u8], CallError>| {
        let answer = answer.map_or_else(|error| error.to_string(), |it| String::from_utf8_lossy(it).into_owned());
        tell(&answers, (asked, answer));
    };
    caller.call(body.as_bytes(), LONG, Box::new(done));
}

/// A REQ peer that writes its own bytes.
struct RawPeer(TcpStream);

impl RawPeer {
    fn connect(address: &str) -> Self {
        let mut peer = Self::greet(address, b"\0SP\0\0\x30\0\0").expect("the server accepts");
        let mut theirs = [0; 8];
        peer.0.read_exact(&mut theirs).expect("the server greets");
        assert_eq!(&theirs, b"\0SP\0\0\x31\0\0");
        peer
    }

    fn greet(address: &str, greeting: &[u8]) -> io::Result<Self> {
        let stream = TcpStream::connect(address.trim_start_matches("tcp://"))?;
        stream.set_read_timeout(Some(LONG))?;
        let mut peer = Self(stream);
        peer.0.write_all(greeting)?;
        Ok(peer)
    }

    fn ask(&mut self, id: u32, body: &[u8]) {
        let mut frame = (body.len() as u64 + 4).to_be_bytes().to_vec();
        frame.extend((id | 1 << 31).to_be_bytes());
        frame.extend(body);
        self.0.write_all(&frame).expect("the server reads");
    }

    fn answer(&mut self) -> (u32, Vec<u8>) {
        let (mut length, mut id) = ([0; 8], [0; 4]);
        self.0.read_exact(&mut length).expect("an answer");
        self.0.read_exact(&mut id).expect("an answer's id");
        let mut body = vec![0; usize::try_from(u64::from_be_bytes(length)).expect("a length") - 4];
        self.0.read_exact(&mut body).expect("an answer's body");
        (u32::from_be_bytes(id) & !(1 << 31), body)
    }

    /// Waits until the server closes the connection.
    fn sees_the_end(&mut self) -> bool {
        match self.0.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

// --- Answers ---

#[test]
fn an_answer_reaches_the_asker_whose_request_it_was() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let server = serve(&address, keeper);
    let callers: Vec<_> = (0..10).map(|_| Nng.connect(&address).expect("an address")).collect();
    let (sender, answers) = mpsc::channel();
    for n in 0..1000 {
        ask_later(&*callers[n % 10], &n.to_string(), &sender);
    }
    let mut open: Vec<_> = (0..1000).map(|_| next_request(&heard)).collect();
    assert_eq!(server.open_requests(), 1000);
    assert_eq!(open.iter().map(|(peer, ..)| *peer).collect::<HashSet<_>>().len(), 10);
    while !open.is_empty() {
        let pick = uuid::Uuid::new_v4().as_u128() as usize % open.len();
        let (_, body, reply) = open.swap_remove(pick);
        reply.send(&body);
    }
    for _ in 0..1000 {
        let (asked, answered) = answers.recv_timeout(LONG).expect("an answer to each");
        assert_eq!(asked, answered);
    }
    assert_eq!(server.open_requests(), 0);
}

#[test]
fn two_thousand_connections_with_an_open_request_each_are_all_answered() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit can be raised");
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let server = serve(&address, keeper);
    let mut peers = Vec::new();
    let mut open = Vec::new();
    for n in 0..2000 {
        let mut peer = RawPeer::connect(&address);
        peer.ask(n, &n.to_be_bytes());
        peers.push(peer);
        open.push(next_request(&heard));
    }
    assert_eq!(server.open_requests(), 2000);
    for (_, body, reply) in open.into_iter().rev() {
        reply.send(&body);
    }
    for (n, mut peer) in (0_u32..).zip(peers) {
        assert_eq!(peer.answer(), (n, n.to_be_bytes().to_vec()));
    }
}

#[test]
fn a_request_that_is_forgotten_is_answered_with_nothing() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let _server = serve(&address, keeper);
    let caller = Nng.connect(&address).expect("an address");
    let (sender, answers) = mpsc::channel();
    ask_later(&*caller, "anyone?", &sender);
    drop(next_request(&heard));
    assert_eq!(answers.recv_timeout(LONG).expect("an answer").1, "");
}

#[test]
fn a_flushed_server_can_go_and_its_answers_arrive() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let server = serve(&address, keeper);
    let mut peer = RawPeer::connect(&address);
    for n in 0..100 {
        peer.ask(n, b"?");
    }
    let answer = vec![7; 10_000];
    let open: Vec<_> = (0..100).map(|_| next_request(&heard)).collect();
    let reader = thread::spawn(move || (0..100).map(|_| peer.answer().1.len()).sum::<usize>());
    for (_, _, reply) in open {
        reply.send(&answer);
    }
    server.flush(LONG);
    drop(server);
    assert_eq!(reader.join().expect("every answer arrives"), 100 * answer.len());
}

#[test]
fn a_large_answer_is_given_time_to_leave() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let server = serve(&address, keeper);
    let mut peer = RawPeer::connect(&address);
    peer.ask(1, b"?");
    let reader = thread::spawn(move || peer.answer().1.len());
    next_request(&heard).2.send(&vec![7; PAYLOAD_MAX]);
    server.flush(LONG);
    drop(server);
    assert_eq!(reader.join().expect("the answer arrives"), PAYLOAD_MAX);
}

// --- Peers that go ---

#[test]
fn a_peer_that_goes_gives_its_contexts_back_and_the_service_hears_it() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let server = Nng.serve(&address, 100, keeper).expect("the address is free");
    let mut first = RawPeer::connect(&address);
    (0..100).for_each(|n| first.ask(n, b"first"));
    let orphans: Vec<_> = (0..100).map(|_| next_request(&heard)).collect();
    assert!(orphans.iter().all(|(.., reply)| reply.is_open()));
    drop(first);
    assert_eq!(next_gone(&heard), orphans[0].0);
    assert!(orphans.iter().all(|(.., reply)| !reply.is_open()));
    assert_eq!(server.open_requests(), 0);

    let mut second = RawPeer::connect(&address);
    (0..100).for_each(|n| second.ask(n, &n.to_be_bytes()));
    let open: Vec<_> = (0..100).map(|_| next_request(&heard)).collect();
    assert!(open.iter().all(|(peer, ..)| *peer != orphans[0].0));
    for (_, _, reply) in orphans {
        reply.send(b"too late");
    }
    for (_, body, reply) in open {
        reply.send(&body);
    }
    let answers: HashSet<_> = (0..100).map(|_| second.answer()).collect();
    assert_eq!(answers, (0..100_u32).map(|n| (n, n.to_be_bytes().to_vec())).collect());
}

/// Holds its only request until the peer is gone, and notes whether it heard that too early.
struct Slow {
    gone: AtomicBool,
    heard: Sender<&'static str>,
}

impl Service for Slow {
    fn request(&self, _: Peer, _: &[u8], reply: Reply) {
        tell(&self.heard, "asked");
        until("the request lost its peer", || !reply.is_open());
        tell(&self.heard, if self.gone.load(SeqCst) { "served when it was gone" } else { "served" });
    }

    fn refuse(&self, _: &[u8], _: Refusal) -> Vec<u8> {
        Vec::new()
    }

    fn gone(&self, _: Peer) {
        self.gone.store(true, SeqCst);
        tell(&self.heard, "gone");
    }
}

#[test]
fn the_last_that_a_service_hears_of_a_peer_is_that_it_is_gone() {
    let address = free_address();
    let (sender, heard) = mpsc::channel();
    let _server = serve(&address, Arc::new(Slow { gone: AtomicBool::new(false), heard: sender }));
    let mut peer = RawPeer::connect(&address);
    peer.ask(1, b"?");
    // A request whose peer went before it was received is nobody's.
    assert_eq!(heard.recv_timeout(LONG), Ok("asked"));
    drop(peer);
    assert_eq!(heard.recv_timeout(LONG), Ok("served"));
    assert_eq!(heard.recv_timeout(LONG), Ok("gone"));
}

#[test]
fn a_peer_that_reads_no_answers_is_disconnected_and_the_others_are_served() {
    let address = free_address();
    let bounds = Bounds { answer_limit: Duration::from_millis(200), ..Bounds::default() };
    let server = NngServer::listen(&address, bounds, Arc::new(Echo::default())).expect("the address is free");
    let mut deaf = RawPeer::connect(&address);
    deaf.0.set_write_timeout(Some(LONG)).expect("a socket");
    let frame = vec![0; 1024 * 1024];
    let (mut length, id) = ((frame.len() as u64 + 4).to_be_bytes().to_vec(), [0x80, 0, 0, 1]);
    length.extend(id);
    while deaf.0.write_all(&length).and_then(|()| deaf.0.write_all(&frame)).is_ok() {}
    assert_eq!(ask(&*Nng.connect(&address).expect("an address"), "and I?"), Ok("and I?".to_owned()));
    until("all is sent or given up", || {
        server.flush(LONG);
        server.open_requests() == 0
    });
}

// --- Bounds and panics ---

#[test]
fn beyond_the_bound_of_open_requests_the_asker_is_told_busy() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let server = Nng.serve(&address, 5, keeper).expect("the address is free");
    let caller = Nng.connect(&address).expect("an address");
    let (sender, answers) = mpsc::channel();
    (0..5).for_each(|n| ask_later(&*caller, &n.to_string(), &sender));
    let open: Vec<_> = (0..5).map(|_| next_request(&heard)).collect();
    for n in 0..500 {
        assert_eq!(ask(&*caller, &n.to_string()), Ok(format!("Busy {n}")));
    }
    assert_eq!(server.open_requests(), 5);
    for (_, body, reply) in open {
        reply.send(&body);
        let (asked, answered) = answers.recv_timeout(LONG).expect("an answer");
        assert_eq!(asked, answered);
    }
    ask_later(&*caller, "again", &sender);
    next_request(&heard).2.send(b"yes");
    assert_eq!(answers.recv_timeout(LONG).expect("an answer").1, "yes");
}

#[test]
fn a_panicking_service_answers_broken_and_serves_on() {
    let address = free_address();
    let server = serve(&address, Arc::new(Echo::default()));
    let caller = Nng.connect(&address).expect("an address");
    for _ in 0..200 {
        assert_eq!(ask(&*caller, "panic"), Ok("Broken".to_owned()));
        assert_eq!(ask(&*caller, "fine"), Ok("fine".to_owned()));
    }
    assert_eq!(server.open_requests(), 0);
}

/// Panics over everything.
struct Hopeless;

impl Service for Hopeless {
    fn request(&self, _: Peer, _: &[u8], _reply: Reply) {
        panic!("no request");
    }

    fn refuse(&self, _: &[u8], _: Refusal) -> Vec<u8> {
        panic!("no refusal")
    }

    fn gone(&self, _: Peer) {
        panic!("no farewell");
    }
}

#[test]
fn a_service_that_panics_over_everything_answers_with_nothing() {
    let address = free_address();
    let _server = serve(&address, Arc::new(Hopeless));
    for _ in 0..20 {
        let caller = Nng.connect(&address).expect("an address");
        assert_eq!(ask(&*caller, "well?"), Ok(String::new()));
    }
}

#[test]
fn garbage_and_oversized_frames_are_closed_and_the_others_are_served() {
    let address = free_address();
    let _server = serve(&address, Arc::new(Echo::default()));
    let caller = Nng.connect(&address).expect("an address");
    for greeting in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0SP\0\0\x10\0\0", b"\0SQ\0\0\x30\0\0", &[0xff; 64]] {
        assert!(RawPeer::greet(&address, greeting).expect("the server accepts").sees_the_end());
        assert_eq!(ask(&*caller, "still there?"), Ok("still there?".to_owned()));
    }
    let too_long = [1 << 63, (1 << 63) - 1, u64::MAX - 31, u64::MAX - 47, u64::MAX, 1 << 40, FRAME_MAX as u64 + 1];
    for length in too_long.into_iter().chain([0, 3]) {
        let mut peer = RawPeer::connect(&address);
        peer.0.write_all(&[&length.to_be_bytes()[..], &[0; 3]].concat()).expect("the server reads");
        assert!(peer.sees_the_end(), "a frame of {length} bytes");
        assert_eq!(ask(&*caller, "still there?"), Ok("still there?".to_owned()));
    }
}

#[test]
fn a_message_that_the_other_side_would_not_take_is_not_sent() {
    let address = free_address();
    let server = serve(&address, Arc::new(Echo::default()));
    let caller = Nng.connect(&address).expect("an address");
    let len = |body: usize| call_blocking(&*caller, &vec![1; body], LONG, <[u8]>::len);
    assert_eq!(len(FRAME_MAX), Err(CallError::TooLarge { size: FRAME_MAX }));
    assert_eq!(len(FRAME_MAX - 64), Ok(FRAME_MAX - 64));
    assert_eq!(len(PAYLOAD_MAX), Ok(PAYLOAD_MAX));
    assert_eq!(server.open_requests(), 0);
}

// --- Callers ---

#[test]
fn a_call_to_nobody_times_out_within_its_limit_and_is_done_once() {
    let caller = Nng.connect(&free_address()).expect("an address");
    assert!(!caller.is_connected());
    let (sender, ends) = mpsc::channel();
    let limits = [300, 20, 150, 20, 1, 0, 80];
    for limit in limits {
        let (sender, begun) = (sender.clone(), Instant::now());
        let done = move |answer: Result<&[u8], CallError>| {
            tell(&sender, (limit, answer.map(<[u8]>::to_vec), begun.elapsed()));
        };
        caller.call(b"?", Duration::from_millis(limit), Box::new(done));
    }
    let ended: Vec<_> = (0..limits.len()).map(|_| ends.recv_timeout(LONG).expect("each ends")).collect();
    for (limit, answer, took) in &ended {
        let (address, waited) = (caller.address().to_owned(), Duration::from_millis(*limit));
        assert_eq!(*answer, Err(CallError::TimedOut { address, waited }));
        assert!(*took >= waited && *took < waited + Duration::from_secs(5), "{limit} ms took {took:?}");
    }
    drop(caller);
    drop(sender);
    assert!(ends.recv_timeout(LONG).is_err(), "no call ends twice");
}

#[test]
fn a_call_that_timed_out_at_the_server_frees_its_context_for_others() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let _server = serve(&address, keeper);
    let caller = Nng.connect(&address).expect("an address");
    for n in 0..20_u8 {
        let short = call_blocking(&*caller, b"slow", Duration::from_millis(5), <[u8]>::to_vec);
        assert!(matches!(short, Err(CallError::TimedOut { .. })), "{short:?}");
        let late = heard.try_iter().collect::<Vec<_>>();
        let (sender, answers) = mpsc::channel();
        ask_later(&*caller, "quick", &sender);
        for heard_late in late {
            if let Heard::Request(_, _, reply) = heard_late {
                reply.send(b"too late");
            }
        }
        loop {
            let (_, body, reply) = next_request(&heard);
            reply.send(&[b'a' + n]);
            if body == b"quick" {
                break;
            }
        }
        assert_eq!(answers.recv_timeout(LONG).expect("an answer").1.as_bytes(), [b'a' + n]);
    }
}

#[test]
fn a_caller_finds_a_restarted_server_and_its_open_request_is_repeated() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let server = serve(&address, keeper);
    let caller = Nng.connect(&address).expect("an address");
    let (sender, answers) = mpsc::channel();
    ask_later(&*caller, "patience", &sender);
    let (_, _, lost) = next_request(&heard);
    until("the caller knows that it is connected", || caller.is_connected());
    drop(server);
    assert!(!lost.is_open());
    lost.send(b"from beyond");
    until("the caller knows that it is not", || !caller.is_connected());
    ask_later(&*caller, "meanwhile", &sender);

    let _server = serve(&address, Arc::new(Echo::default()));
    for _ in 0..2 {
        let (asked, answered) = answers.recv_timeout(LONG).expect("an answer from the new server");
        assert_eq!(asked, answered);
    }
    until("the caller knows that it is connected again", || caller.is_connected());
}

#[test]
fn open_calls_of_a_dropped_caller_end_as_closed() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let _server = serve(&address, keeper);
    let caller = Nng.connect(&address).expect("an address");
    let (sender, answers) = mpsc::channel();
    (0..100).for_each(|n| ask_later(&*caller, &n.to_string(), &sender));
    let _open: Vec<_> = (0..100).map(|_| next_request(&heard)).collect();
    within_time("dropping a caller", move || drop(caller));
    for _ in 0..100 {
        assert!(answers.recv_timeout(LONG).expect("each ends").1.ends_with("was closed"));
    }
}

#[test]
fn a_caller_may_be_dropped_by_its_own_answer() {
    let address = free_address();
    let _server = serve(&address, Arc::new(Echo::default()));
    for _ in 0..50 {
        let caller = Nng.connect(&address).expect("an address");
        let (sender, end) = mpsc::channel();
        let own = Arc::clone(&caller);
        let done = move |_: Result<&[u8], CallError>| {
            drop(own);
            tell(&sender, ());
        };
        caller.call(b"last words", LONG, Box::new(done));
        drop(caller);
        end.recv_timeout(LONG).expect("the answer came");
    }
}

#[test]
fn a_panic_over_an_answer_is_the_callers_own_loss() {
    let address = free_address();
    let _server = serve(&address, Arc::new(Echo::default()));
    let caller = Nng.connect(&address).expect("an address");
    let lost = Err(CallError::Closed { address: address.clone() });
    for _ in 0..50 {
        assert_eq!(call_blocking(&*caller, b"?", LONG, |_| assert!(LONG.is_zero(), "as told")), lost);
        assert_eq!(ask(&*caller, "!"), Ok("!".to_owned()));
    }
}

#[tokio::test]
async fn answers_can_be_awaited_together() {
    let address = free_address();
    let _server = serve(&address, Arc::new(Echo::default()));
    let caller = Nng.connect(&address).expect("an address");
    let calls: Vec<_> = (0..200_u32)
        .map(|n| {
            call(&*caller, &n.to_be_bytes(), LONG, |answer| u32::from_be_bytes(answer.try_into().unwrap_or_default()))
        })
        .collect();
    for (n, answer) in (0..).zip(calls) {
        assert_eq!(answer.await, Ok(n));
    }
}

// --- Closing ---

#[test]
fn a_server_closed_under_traffic_does_not_hang() {
    for _ in 0..50 {
        let address = free_address();
        let server = serve(&address, Arc::new(Echo::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..4).map(|_| Nng.connect(&address).expect("an address")).collect();
        for caller in callers.iter().flat_map(|caller| std::iter::repeat_n(caller, 16)) {
            keep_asking(caller, &stop, &answered);
        }
        until("there is traffic", || answered.load(SeqCst) > 200);
        within_time("closing a server", move || drop(server));
        let server = serve(&address, Arc::new(Echo::default()));
        let before = answered.load(SeqCst);
        until("there is traffic again", || answered.load(SeqCst) > before + 200);
        within_time("closing callers", move || drop(callers));
        stop.store(true, SeqCst);
        within_time("closing a server again", move || drop(server));
    }
}

/// Asks again with each answer.
fn keep_asking(caller: &Arc<dyn Caller>, stop: &Arc<AtomicBool>, answered: &Arc<AtomicUsize>) {
    let (weak, stop, answered) = (Arc::downgrade(caller), Arc::clone(stop), Arc::clone(answered));
    let done = move |answer: Result<&[u8], CallError>| {
        answered.fetch_add(usize::from(answer.is_ok()), SeqCst);
        // The last reference may well be this one: then the caller is dropped by its own answer.
        if let (Ok(_), false, Some(caller)) = (answer, stop.load(SeqCst), weak.upgrade()) {
            keep_asking(&caller, &stop, &answered);
        }
    };
    caller.call(&[7; 100], LONG, Box::new(done));
}

/// Drops its server when asked to.
struct Suicidal(Mutex<Option<Box<dyn Server>>>);

impl Service for Suicidal {
    fn request(&self, _: Peer, _: &[u8], reply: Reply) {
        let server = lock(&self.0).take();
        drop(server);
        reply.send(b"never sent");
    }

    fn refuse(&self, _: &[u8], _: Refusal) -> Vec<u8> {
        Vec::new()
    }

    fn gone(&self, _: Peer) {}
}

#[test]
fn a_server_may_be_dropped_by_its_own_service() {
    let address = free_address();
    for _ in 0..20 {
        let service = Arc::new(Suicidal(Mutex::default()));
        let mut peer = None;
        until("the address is free again", || {
            let opened = Nng.serve(&address, 100, Arc::clone(&service) as Arc<dyn Service>);
            let is_open = opened.is_ok();
            *lock(&service.0) = opened.ok();
            is_open
        });
        peer.insert(RawPeer::connect(&address)).ask(1, b"go");
        assert!(peer.is_some_and(|mut peer| peer.sees_the_end()));
    }
}

#[test]
fn a_closed_server_lets_go_of_its_service_even_with_requests_open() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let server = serve(&address, Arc::clone(&keeper) as Arc<dyn Service>);
    let mut peers: Vec<_> = (0..20).map(|_| RawPeer::connect(&address)).collect();
    for peer in &mut peers {
        peer.ask(1, b"?");
    }
    let open: Vec<_> = (0..20).map(|_| next_request(&heard)).collect();
    drop(server);
    assert!(open.iter().all(|(.., reply)| !reply.is_open()));
    assert!(peers.iter_mut().all(RawPeer::sees_the_end));
    drop(open);
    until("nothing holds the service", || Arc::strong_count(&keeper) == 1);
    assert!(heard.try_recv().is_err(), "a closed server told something");
}

#[test]
fn an_address_that_is_taken_or_makes_no_sense_is_refused() {
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
fn announcements_reach_a_hearer_that_joins_later_at_once() {
    let address = free_address();
    let announcer = Nng.announcer(&address, Box::new(|| b"welcome".to_vec())).expect("the address is free");
    announcer.announce(b"to nobody");
    let mut subscribers = Vec::new();
    for _ in 0..20 {
        let (sender, heard) = mpsc::channel();
        let subscriber = Nng.subscriber(&address, Box::new(move |message| tell(&sender, message.to_vec())));
        assert_eq!(heard.recv_timeout(LONG).expect("a welcome"), b"welcome");
        subscribers.push((subscriber.expect("an address"), heard));
    }
    announcer.announce(b"to all");
    for (_, heard) in &subscribers {
        until("it hears what is for all", || heard.try_recv().is_ok_and(|message| message == b"to all"));
    }
    within_time("closing subscribers", move || drop(subscribers));
    within_time("closing an announcer", move || drop(announcer));
}

#[test]
fn a_hearer_finds_an_announcer_that_comes_later_or_comes_back() {
    let address = free_address();
    let (sender, heard) = mpsc::channel();
    let _subscriber = Nng.subscriber(&address, Box::new(move |message| tell(&sender, message.to_vec())));
    for n in 0..5_u8 {
        let announcer = Nng.announcer(&address, Box::new(move || vec![n])).expect("the address is free");
        assert_eq!(heard.recv_timeout(LONG).expect("a welcome"), [n]);
        drop(announcer);
    }
}
