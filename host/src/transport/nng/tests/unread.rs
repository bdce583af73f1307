//! Tests of peers that read no replies.

use super::*;

/// Sends up to `times` small requests and reads no reply, until it is disconnected.
fn request_without_reading(address: &str, times: usize) -> RawPeer {
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

/// Sends replies that exceed the system's buffers for a peer that does not read.
struct LargeReplies;

impl Service for LargeReplies {
    fn request(&self, _: Peer, body: &[u8], reply: ReplyHandle) {
        reply.send(&body.repeat(1_000));
    }

    fn refuse(&self, _: &[u8], why: Rejection) -> Vec<u8> {
        format!("{why:?}").into_bytes()
    }

    fn disconnected(&self, _: Peer) {}
}

#[test]
fn a_peer_that_reads_nothing_is_disconnected_for_others() {
    let address = free_address();
    // Not disconnected by the timeout of a reply.
    let limits = ServerLimits { open_requests_max: 100, send_timeout: 100 * TIMEOUT, ..ServerLimits::default() };
    let server = NngServer::listen(&address, limits, Arc::new(LargeReplies)).expect("the address is free");
    let caller = Nng.connect(&address).expect("an address");
    for _ in 0..3 {
        let mut slow = request_without_reading(&address, 1_000);
        let reply = call_blocking(&*caller, b"and I?", TIMEOUT, <[u8]>::len);
        assert_eq!(reply, Ok(6_000));
        assert!(slow.is_closed_by_server());
    }
    wait_until("all is sent or dropped", || server.open_requests() == 0);
}

#[test]
fn only_the_slowest_reader_is_disconnected_beyond_the_limit() {
    let address = free_address();
    let limits = ServerLimits { unsent_max: 20 << 20, send_timeout: 100 * TIMEOUT, ..ServerLimits::default() };
    let _server = NngServer::listen(&address, limits, Arc::new(LargeReplies)).expect("the address is free");
    let mut reader = request_without_reading(&address, 100);
    let mut slow = request_without_reading(&address, 1_000);
    assert!(slow.is_closed_by_server());
    for _ in 0..100 {
        assert_eq!(reader.read_reply(), (1, vec![b'x'; 100_000]));
    }
}
