//! Tests of the blocking request socket against a server of NNG.

use super::*;
use crate::transport::BlockingReq;

fn dial(address: &str) -> Box<dyn BlockingReq> {
    Nng.blocking_req(address).expect("an address")
}

fn send(blocking_req: &mut dyn BlockingReq, body: &str, limit: Duration) -> Result<String, CallError> {
    let mut reply = None;
    let mut read = |body: &[u8]| reply = Some(String::from_utf8_lossy(body).into_owned());
    blocking_req.request(body.as_bytes(), limit, &mut || {}, &mut read)?;
    Ok(reply.expect("a reply is read"))
}

#[test]
fn on_sent_is_called_once_per_request() {
    let (service, calls) = ManualService::new();
    let address = free_address();
    let _server = serve(&address, service);
    let mut blocking_req = dial(&address);
    for request in ["one", "two", "three"] {
        let (mut read, mut sent_count) = (Vec::new(), 0);
        let mut on_sent = || {
            sent_count += 1;
            let (_, body, reply) = next_request(&calls);
            assert_eq!(body, request.as_bytes(), "it was sent");
            reply.send(format!("{request}!").as_bytes());
        };
        blocking_req
            .request(request.as_bytes(), TIMEOUT, &mut on_sent, &mut |body| read = body.to_vec())
            .expect("a reply");
        assert_eq!((String::from_utf8_lossy(&read).into_owned(), sent_count), (format!("{request}!"), 1));
    }
}

#[test]
fn a_request_times_out_and_the_next_uses_a_new_connection() {
    let address = free_address();
    let waited = Duration::from_millis(50);
    let mut blocking_req = dial(&address);
    let timed_out = Err(CallError::TimedOut { address: address.clone(), waited });
    assert_eq!(send(&mut *blocking_req, "no server", waited), timed_out);
    let too_large = blocking_req.request(&vec![1; FRAME_MAX], TIMEOUT, &mut || {}, &mut |_| {});
    assert_eq!(too_large, Err(CallError::TooLarge { size: FRAME_MAX }));
    let (service, calls) = ManualService::new();
    let _server = serve(&address, service);
    let held = send(&mut *blocking_req, "to silence", Duration::from_secs(2));
    assert!(matches!(held, Err(CallError::TimedOut { .. })), "{held:?}");
    let (peer, body, late) = next_request(&calls);
    assert_eq!(body, b"to silence");
    let replying = thread::spawn(move || {
        // Its silent connection stays until a reply has arrived over another one.
        let (other, _, reply) = next_request(&calls);
        assert_ne!(other, peer, "a new connection");
        reply.send(b"within the timeout");
        assert_eq!(next_disconnect(&calls), peer);
    });
    late.send(b"too late");
    assert_eq!(send(&mut *blocking_req, "again", TIMEOUT), Ok("within the timeout".to_owned()));
    replying.join().expect("it replies");
}

#[test]
fn a_request_is_repeated_to_a_restarted_server() {
    let address = free_address();
    let (service, calls) = ManualService::new();
    let server = serve(&address, service);
    let mut blocking_req = dial(&address);
    let requesting = thread::spawn(move || send(&mut *blocking_req, "who?", TIMEOUT));
    let (_, _, reply) = next_request(&calls);
    within_time("closing the server", move || drop(server));
    reply.send(b"too late");
    let _server = serve(&address, Arc::new(Echo::default()));
    let reply = within_time("the second server's reply", move || requesting.join().expect("it sends requests"));
    assert_eq!(reply, Ok("who?".to_owned()));
}
