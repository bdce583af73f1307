//! Tests of connections that die silently: neither side is notified.

use std::net::Shutdown;

use super::*;

/// Forwards bytes between callers and a server. A connection that it drops stays open but forwards nothing.
struct Relay {
    address: String,
    dropped: Arc<Mutex<HashSet<usize>>>,
    /// Number of connections so far.
    connections: Arc<AtomicUsize>,
}

impl Relay {
    fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("tcp://{}", listener.local_addr().expect("it is bound"));
        let relay = Self { address, dropped: Arc::default(), connections: Arc::default() };
        let (dropped, connections) = (Arc::clone(&relay.dropped), Arc::clone(&relay.connections));
        let server = server.trim_start_matches("tcp://").to_owned();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let number = connections.fetch_add(1, SeqCst);
                let Ok(far) = TcpStream::connect(&server) else { continue };
                let ends = [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))];
                for (from, into) in ends {
                    let (Ok(from), Ok(into)) = (from, into) else { continue };
                    let dropped = Arc::clone(&dropped);
                    thread::spawn(move || pass_on(number, &dropped, from, into));
                }
            }
        });
        relay
    }

    /// Drops all current connections.
    fn drop_connections(&self) {
        lock(&self.dropped).extend(0..self.connections.load(SeqCst));
    }
}

fn pass_on(number: usize, dropped: &Mutex<HashSet<usize>>, mut from: TcpStream, mut into: TcpStream) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if lock(dropped).contains(&number) {
            continue;
        }
        if into.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    if !lock(dropped).contains(&number) {
        into.shutdown(Shutdown::Both).unwrap_or_default();
    }
}

/// Returns the next request that is not a probe, and replies to probes.
fn next_call(calls: &Receiver<ServiceCall>) -> (Vec<u8>, ReplyHandle) {
    loop {
        match calls.recv_timeout(TIMEOUT).expect("the service is called") {
            ServiceCall::Request(_, body, reply) if body == b"probe" => reply.send(b"here"),
            ServiceCall::Request(_, body, reply) => return (body, reply),
            ServiceCall::Disconnected(_) => {}
        }
    }
}

#[test]
fn an_open_call_is_repeated_when_its_connection_died_silently() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let _server = serve(&address, service);
    let relay = Relay::to(&address);
    let caller = Nng.connect_probed(&relay.address, b"probe".to_vec()).expect("an address");
    let (sender, replies) = mpsc::channel();
    request_later(&*caller, "slow", &sender);
    let (body, lost) = next_call(&calls);
    assert_eq!(body, b"slow");
    relay.drop_connections();
    let dropped = Instant::now();
    let (body, reply) = next_call(&calls);
    assert_eq!(body, b"slow", "it is repeated");
    assert!(dropped.elapsed() < Duration::from_secs(10), "after {:?}", dropped.elapsed());
    lost.send(b"too late");
    reply.send(b"within the timeout");
    assert_eq!(replies.recv_timeout(TIMEOUT), Ok(("slow".to_owned(), "within the timeout".to_owned())));
    assert_eq!(relay.connections.load(SeqCst), 2);
}

#[test]
fn a_connection_with_replies_to_probes_is_kept() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let _server = serve(&address, service);
    let relay = Relay::to(&address);
    let caller = Nng.connect_probed(&relay.address, b"probe".to_vec()).expect("an address");
    let (sender, replies) = mpsc::channel();
    request_later(&*caller, "slow", &sender);
    let (_, reply) = next_call(&calls);
    let mut probes = 0;
    while probes < 3 {
        let (_, body, reply) = next_request(&calls);
        assert_eq!(body, b"probe");
        reply.send(b"here");
        probes += 1;
    }
    reply.send(b"at last");
    assert_eq!(replies.recv_timeout(TIMEOUT).expect("a reply").1, "at last");
    assert_eq!(relay.connections.load(SeqCst), 1);
}

#[test]
fn a_hanging_connection_attempt_is_restarted_while_a_call_is_open() {
    // It accepts connections and sends nothing, like a host whose processes are stopped.
    let stuck = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("tcp://{}", stuck.local_addr().expect("it is bound"));
    let caller = Nng.connect(&address).expect("an address");
    let (sender, replies) = mpsc::channel();
    request_later(&*caller, "anyone?", &sender);
    let first = stuck.accept().expect("it connects");
    let second = stuck.accept().expect("it connects again");
    drop((first, second, stuck));
    let (service, calls) = ManualService::new();
    let _server = serve(&address, service);
    next_call(&calls).1.send(b"yes");
    assert_eq!(replies.recv_timeout(TIMEOUT).expect("a reply").1, "yes");
}

#[test]
fn a_subscriber_redials_a_silent_connection() {
    let address = free_address();
    let announcer = Nng.announcer(&address, Box::new(|| b"welcome".to_vec())).expect("the address is free");
    let relay = Relay::to(&address);
    let (sender, messages) = mpsc::channel();
    let on_message = move |message: &[u8]| report(&sender, message.to_vec());
    let _subscriber = Nng.subscriber(&relay.address, Box::new(on_message)).expect("an address");
    assert_eq!(messages.recv_timeout(TIMEOUT).expect("a welcome"), b"welcome");
    relay.drop_connections();
    announcer.announce(b"lost");
    assert_eq!(messages.recv_timeout(TIMEOUT).expect("a welcome on the next connection"), b"welcome");
}
