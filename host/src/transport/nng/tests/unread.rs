//! Tests of peers that read no answers.

use super::*;

/// Sends up to `times` small requests and reads no answer, until it is disconnected.
fn ask_and_read_nothing(address: &str, times: usize) -> RawPeer {
    let mut slow = RawPeer::connect(address);
    let mut frame = (4 + 100_u64).to_be_bytes().to_vec();
    frame.extend([0x80, 0, 0, 1]);
    frame.extend([b'x'; 100]);
    let many = frame.repeat(100);
    for _ in 0..times / 100 {
        if slow.0.write_all(&many).is_err() {
            break;
        }
    }
    slow
}

/// Sends answers that exceed the system's buffers for a peer that does not read.
struct LargeAnswers;

impl Service for LargeAnswers {
    fn request(&self, _: Peer, body: &[u8], reply: ReplyHandle) {
        reply.send(&body.repeat(1_000));
    }

    fn refuse(&self, _: &[u8], why: Rejection) -> Vec<u8> {
        format!("{why:?}").into_bytes()
    }

    fn gone(&self, _: Peer) {}
}

#[test]
fn a_peer_that_reads_nothing_is_disconnected_when_others_need_room() {
    let address = free_address();
    // Not disconnected by the timeout of an answer.
    let limits = ServerLimits { open_requests_max: 100, answer_limit: 100 * LONG, ..ServerLimits::default() };
    let server = NngServer::listen(&address, limits, Arc::new(LargeAnswers)).expect("the address is free");
    let caller = Nng.connect(&address).expect("an address");
    for _ in 0..3 {
        let mut slow = ask_and_read_nothing(&address, 1_000);
        let answer = call_blocking(&*caller, b"and I?", LONG, <[u8]>::len);
        assert_eq!(answer, Ok(6_000));
        assert!(slow.is_disconnected());
    }
    until("all is sent or given up", || server.open_requests() == 0);
}

#[test]
fn only_the_slowest_reader_is_disconnected_beyond_the_limit() {
    let address = free_address();
    let limits = ServerLimits { unsent_max: 20 << 20, answer_limit: 100 * LONG, ..ServerLimits::default() };
    let _server = NngServer::listen(&address, limits, Arc::new(LargeAnswers)).expect("the address is free");
    let mut reader = ask_and_read_nothing(&address, 100);
    let mut slow = ask_and_read_nothing(&address, 1_000);
    assert!(slow.is_disconnected());
    for _ in 0..100 {
        assert_eq!(reader.answer(), (1, vec![b'x'; 100_000]));
    }
}
