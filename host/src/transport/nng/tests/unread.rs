//! Stories of peers that ask and read nothing.

use super::*;

/// Asks small questions and reads no answer, until it is cut off or so many are sent.
fn ask_and_read_nothing(address: &str, times: usize) -> RawPeer {
    let mut deaf = RawPeer::connect(address);
    let mut frame = (4 + 100_u64).to_be_bytes().to_vec();
    frame.extend([0x80, 0, 0, 1]);
    frame.extend([b'x'; 100]);
    let many = frame.repeat(100);
    for _ in 0..times / 100 {
        if deaf.0.write_all(&many).is_err() {
            break;
        }
    }
    deaf
}

/// What is answered to such a question: more than the system takes for a peer that does not read.
struct Lecturer;

impl Service for Lecturer {
    fn request(&self, _: Peer, body: &[u8], reply: Reply) {
        reply.send(&body.repeat(1_000));
    }

    fn refuse(&self, _: &[u8], why: Refusal) -> Vec<u8> {
        format!("{why:?}").into_bytes()
    }

    fn gone(&self, _: Peer) {}
}

#[test]
fn the_room_that_a_deaf_peer_takes_is_given_to_others_at_once() {
    let address = free_address();
    // Nobody is disconnected for the time that it takes.
    let bounds = ServerLimits { open_requests_max: 100, answer_limit: 100 * LONG, ..ServerLimits::default() };
    let server = NngServer::listen(&address, bounds, Arc::new(Lecturer)).expect("the address is free");
    let caller = Nng.connect(&address).expect("an address");
    for _ in 0..3 {
        let mut deaf = ask_and_read_nothing(&address, 1_000);
        let answer = call_blocking(&*caller, b"and I?", LONG, <[u8]>::len);
        assert_eq!(answer, Ok(6_000));
        assert!(deaf.sees_the_end());
    }
    until("all is sent or given up", || server.open_requests() == 0);
}

#[test]
fn the_peer_that_lets_most_wait_is_cut_off_and_the_others_are_not() {
    let address = free_address();
    let bounds = ServerLimits { unsent_max: 20 << 20, answer_limit: 100 * LONG, ..ServerLimits::default() };
    let _server = NngServer::listen(&address, bounds, Arc::new(Lecturer)).expect("the address is free");
    let mut slow = ask_and_read_nothing(&address, 100);
    let mut deaf = ask_and_read_nothing(&address, 1_000);
    assert!(deaf.sees_the_end());
    for _ in 0..100 {
        assert_eq!(slow.answer(), (1, vec![b'x'; 100_000]));
    }
}
