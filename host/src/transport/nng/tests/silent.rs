//! Stories of connections that die silently: nothing tells either side.

use std::net::Shutdown;

use super::*;

/// Passes bytes on between callers and a server. A connection that it forgets stays open, and nothing
/// gets through it any more.
struct Relay {
    address: String,
    forgotten: Arc<Mutex<HashSet<usize>>>,
    /// Connections so far.
    connections: Arc<AtomicUsize>,
}

impl Relay {
    fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("tcp://{}", listener.local_addr().expect("it is bound"));
        let relay = Self { address, forgotten: Arc::default(), connections: Arc::default() };
        let (forgotten, connections) = (Arc::clone(&relay.forgotten), Arc::clone(&relay.connections));
        let server = server.trim_start_matches("tcp://").to_owned();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let number = connections.fetch_add(1, SeqCst);
                let Ok(far) = TcpStream::connect(&server) else { continue };
                let ends = [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))];
                for (from, into) in ends {
                    let (Ok(from), Ok(into)) = (from, into) else { continue };
                    let forgotten = Arc::clone(&forgotten);
                    thread::spawn(move || pass_on(number, &forgotten, from, into));
                }
            }
        });
        relay
    }

    /// Forgets every connection that there is.
    fn forget(&self) {
        lock(&self.forgotten).extend(0..self.connections.load(SeqCst));
    }
}

fn pass_on(number: usize, forgotten: &Mutex<HashSet<usize>>, mut from: TcpStream, mut into: TcpStream) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if lock(forgotten).contains(&number) {
            continue;
        }
        if into.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    if !lock(forgotten).contains(&number) {
        into.shutdown(Shutdown::Both).unwrap_or_default();
    }
}

/// The next request that is no probe. Probes are answered.
fn next_question(heard: &Receiver<Heard>) -> (Vec<u8>, Reply) {
    loop {
        match heard.recv_timeout(LONG).expect("the service hears something") {
            Heard::Request(_, body, reply) if body == b"probe" => reply.send(b"here"),
            Heard::Request(_, body, reply) => return (body, reply),
            Heard::Gone(_) => {}
        }
    }
}

#[test]
fn an_open_call_is_repeated_when_its_connection_died_silently() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let _server = serve(&address, keeper);
    let relay = Relay::to(&address);
    let caller = Nng.connect_probed(&relay.address, b"probe".to_vec()).expect("an address");
    let (sender, answers) = mpsc::channel();
    ask_later(&*caller, "slow", &sender);
    let (body, lost) = next_question(&heard);
    assert_eq!(body, b"slow");
    relay.forget();
    let forgotten = Instant::now();
    let (body, reply) = next_question(&heard);
    assert_eq!(body, b"slow", "it is asked again");
    assert!(forgotten.elapsed() < Duration::from_secs(10), "after {:?}", forgotten.elapsed());
    lost.send(b"too late");
    reply.send(b"in time");
    assert_eq!(answers.recv_timeout(LONG), Ok(("slow".to_owned(), "in time".to_owned())));
    assert_eq!(relay.connections.load(SeqCst), 2);
}

#[test]
fn a_connection_that_answers_probes_is_kept_however_long_a_call_is_open() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let _server = serve(&address, keeper);
    let relay = Relay::to(&address);
    let caller = Nng.connect_probed(&relay.address, b"probe".to_vec()).expect("an address");
    let (sender, answers) = mpsc::channel();
    ask_later(&*caller, "slow", &sender);
    let (_, reply) = next_question(&heard);
    let mut probes = 0;
    while probes < 3 {
        let (_, body, reply) = next_request(&heard);
        assert_eq!(body, b"probe");
        reply.send(b"here");
        probes += 1;
    }
    reply.send(b"at last");
    assert_eq!(answers.recv_timeout(LONG).expect("an answer").1, "at last");
    assert_eq!(relay.connections.load(SeqCst), 1);
}

#[test]
fn an_attempt_to_connect_that_hangs_is_started_again_while_a_call_is_open() {
    // It takes connections and says nothing, as a host does whose processes are stopped.
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("tcp://{}", deaf.local_addr().expect("it is bound"));
    let caller = Nng.connect(&address).expect("an address");
    let (sender, answers) = mpsc::channel();
    ask_later(&*caller, "anyone?", &sender);
    let first = deaf.accept().expect("it connects");
    let second = deaf.accept().expect("it connects again");
    drop((first, second, deaf));
    let (keeper, heard) = Keeper::new();
    let _server = serve(&address, keeper);
    next_question(&heard).1.send(b"yes");
    assert_eq!(answers.recv_timeout(LONG).expect("an answer").1, "yes");
}

#[test]
fn a_hearer_on_whose_connection_nothing_comes_dials_again() {
    let address = free_address();
    let announcer = Nng.announcer(&address, Box::new(|| b"welcome".to_vec())).expect("the address is free");
    let relay = Relay::to(&address);
    let (sender, heard) = mpsc::channel();
    let hear = move |message: &[u8]| tell(&sender, message.to_vec());
    let _subscriber = Nng.subscriber(&relay.address, Box::new(hear)).expect("an address");
    assert_eq!(heard.recv_timeout(LONG).expect("a welcome"), b"welcome");
    relay.forget();
    announcer.announce(b"lost");
    assert_eq!(heard.recv_timeout(LONG).expect("a welcome on the next connection"), b"welcome");
}
