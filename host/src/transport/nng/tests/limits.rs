//! Tests of limits that peers share.

use super::*;

/// Makes requests with these ids, and waits until the service has them.
fn open(peer: &mut RawPeer, calls: &Receiver<ServiceCall>, ids: std::ops::Range<u32>) -> Vec<ReplyHandle> {
    ids.map(|id| {
        peer.send_request(id, b"open");
        next_request(calls).2
    })
    .collect()
}

fn limited(address: &str, open_requests_max: usize) -> (NngServer, Receiver<ServiceCall>) {
    let (service, calls) = ManualService::new();
    let limits = ServerLimits { open_requests_max, ..ServerLimits::default() };
    (NngServer::listen(address, limits, service).expect("the address is free"), calls)
}

#[test]
fn the_peer_with_most_open_requests_is_disconnected_for_others() {
    let address = free_address();
    let (server, calls) = limited(&address, 100);
    let (mut modest, mut greedy) = (RawPeer::connect(&address), RawPeer::connect(&address));
    let mut replies = open(&mut modest, &calls, 0..10);
    replies.extend(open(&mut greedy, &calls, 0..90));
    // It is refused itself as long as it has the most.
    greedy.send_request(90, b"more");
    assert_eq!(greedy.read_reply(), (90, b"Busy more".to_vec()));
    let mut late = RawPeer::connect(&address);
    late.send_request(1, b"late");
    assert!(greedy.is_closed_by_server());
    let late_reply = loop {
        match calls.recv_timeout(TIMEOUT).expect("the late request arrives") {
            ServiceCall::Request(_, body, reply) if body == b"late" => break reply,
            ServiceCall::Request(..) => panic!("no other requests"),
            ServiceCall::Disconnected(_) => {}
        }
    };
    wait_until("the capacity is free again", || server.open_requests() == 11);
    late_reply.send(b"welcome");
    assert_eq!(late.read_reply(), (1, b"welcome".to_vec()));
    replies.into_iter().take(10).for_each(|reply| reply.send(b"stayed"));
    (0..10).for_each(|_| assert_eq!(modest.read_reply().1, b"stayed"));
}

#[test]
fn a_new_peer_is_served_in_addition_to_many_greedy_ones() {
    let address = free_address();
    let (_server, calls) = limited(&address, 60);
    let mut greedy: Vec<_> = (0..10).map(|_| RawPeer::connect(&address)).collect();
    let mut replies: Vec<_> = greedy.iter_mut().flat_map(|peer| open(peer, &calls, 0..6)).collect();
    for n in 0..30 {
        let mut late = RawPeer::connect(&address);
        late.send_request(n, b"late");
        let reply = loop {
            match calls.recv_timeout(TIMEOUT).expect("the late request arrives") {
                ServiceCall::Request(_, _, reply) => break reply,
                ServiceCall::Disconnected(_) => {}
            }
        };
        reply.send(b"through");
        assert_eq!(late.read_reply(), (n, b"through".to_vec()));
    }
    replies.clear();
}

#[test]
fn a_new_peer_is_refused_if_no_other_has_more_open_requests() {
    let address = free_address();
    let (server, calls) = limited(&address, 20);
    let mut peers: Vec<_> = (0..20).map(|_| RawPeer::connect(&address)).collect();
    let replies: Vec<_> = peers.iter_mut().flat_map(|peer| open(peer, &calls, 1..2)).collect();
    let mut late = RawPeer::connect(&address);
    for n in 0..5 {
        late.send_request(n, b"late");
        assert_eq!(late.read_reply(), (n, b"Busy late".to_vec()));
    }
    assert_eq!(server.open_requests(), 20);
    for (reply, peer) in replies.into_iter().zip(&mut peers) {
        reply.send(b"stayed");
        assert_eq!(peer.read_reply(), (1, b"stayed".to_vec()));
    }
}

/// Announces a message of a megabyte and sends `sent` bytes of it.
#[cfg(target_os = "linux")]
fn half_a_message(address: &str, sent: usize) -> RawPeer {
    let mut peer = RawPeer::connect(address);
    peer.0.write_all(&(1_u64 << 20).to_be_bytes()).expect("the server reads");
    peer.0.write_all(&vec![0x80; sent]).expect("the server reads");
    peer
}

#[cfg(target_os = "linux")]
#[test]
fn incomplete_messages_are_limited_and_complete_ones_pass() {
    const HALF: u64 = 1 << 19;
    let address = free_address();
    let server = NngServer::listen_with_frames(&address, Arc::new(Echo::default()), 4 * HALF + 1024, TIMEOUT * 10);
    let _server = server.expect("the address is free");
    let mut idle = RawPeer::connect(&address);
    let mut peers: Vec<_> = (0..12).map(|_| half_a_message(&address, 1 << 19)).collect();
    let mut requesting = RawPeer::connect(&address);
    let ended = |peer: &mut RawPeer| {
        peer.0.set_nonblocking(true).expect("a socket");
        let read = peer.0.read(&mut [0]);
        peer.0.set_nonblocking(false).expect("a socket");
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    };
    let started = Instant::now();
    loop {
        requesting.send_request(7, b"whole");
        assert_eq!(requesting.read_reply(), (7, b"whole".to_vec()));
        peers.retain_mut(|peer| !ended(peer));
        if peers.len() <= 4 {
            break;
        }
        assert!(started.elapsed() < TIMEOUT, "{} half sent messages are held", peers.len());
    }
    assert_eq!(peers.len(), 4, "those that fit stay");
    // A peer that completes its message is served.
    let mut last = peers.pop().expect("four");
    last.0.write_all(&vec![1; 1 << 19]).expect("the server reads");
    assert_eq!(last.read_reply().1.len(), (1 << 20) - 4);
    idle.send_request(1, b"still here");
    assert_eq!(idle.read_reply(), (1, b"still here".to_vec()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_peer_with_a_slow_message_is_disconnected_but_no_idle_one() {
    let address = free_address();
    let server =
        NngServer::listen_with_frames(&address, Arc::new(Echo::default()), u64::MAX, Duration::from_millis(300));
    let _server = server.expect("the address is free");
    let mut idle = RawPeer::connect(&address);
    idle.send_request(1, b"before");
    assert_eq!(idle.read_reply(), (1, b"before".to_vec()));
    assert!(half_a_message(&address, 0).is_closed_by_server(), "a length alone");
    assert!(half_a_message(&address, 1000).is_closed_by_server(), "half a body");
    idle.send_request(2, b"after");
    assert_eq!(idle.read_reply(), (2, b"after".to_vec()));
}
