//! Tests of calls that are not sent.

use super::*;

#[test]
fn a_call_that_was_not_sent_does_not_affect_later_calls() {
    let caller = Nng.connect(&free_address()).expect("an address");
    let too_large = || call_blocking(&*caller, &vec![1; FRAME_MAX], TIMEOUT, <[u8]>::len);
    for _ in 0..5 {
        assert_eq!(too_large(), Err(CallError::TooLarge { size: FRAME_MAX }));
        let waited = Duration::from_millis(50);
        let without_server = call_blocking(&*caller, b"?", waited, <[u8]>::len);
        assert_eq!(without_server, Err(CallError::TimedOut { address: caller.address().to_owned(), waited }));
    }
    let (service, calls) = ManualService::new();
    let _server = serve(caller.address(), service);
    for _ in 0..5 {
        assert_eq!(too_large(), Err(CallError::TooLarge { size: FRAME_MAX }));
        let waited = Duration::from_millis(50);
        let without_reply = call_blocking(&*caller, b"slow", waited, <[u8]>::len);
        assert_eq!(without_reply, Err(CallError::TimedOut { address: caller.address().to_owned(), waited }));
        let (sender, replies) = mpsc::channel();
        request_later(&*caller, "quick", &sender);
        while next_request(&calls).1 != b"quick" {}
        // Its reply was dropped: it is empty.
        assert_eq!(replies.recv_timeout(TIMEOUT).expect("a reply").1, "");
    }
}

#[test]
fn calls_that_are_not_sent_may_make_another_and_end_once_each() {
    let address = free_address();
    let _server = serve(&address, Arc::new(Echo::default()));
    let caller = Nng.connect(&address).expect("an address");
    let (sender, ends) = mpsc::channel();
    fail_again(&caller, 200, &sender);
    assert_eq!(ends.recv_timeout(TIMEOUT), Ok(()));
    assert_eq!(request(&*caller, "after all"), Ok("after all".to_owned()));
    let (sender, ends) = mpsc::channel();
    for _ in 0..100 {
        let sender = sender.clone();
        caller.call(&vec![0; FRAME_MAX], TIMEOUT, Box::new(move |reply| report(&sender, reply.is_err())));
    }
    drop(sender);
    within_time("dropping the caller", move || drop(caller));
    assert_eq!(ends.iter().filter(|is_err| *is_err).count(), 100);
}

/// Makes calls that are too large, each from the callback of the last.
fn fail_again(caller: &Arc<dyn Caller>, times: usize, ended: &Sender<()>) {
    let (own, ended) = (Arc::clone(caller), ended.clone());
    let done = move |reply: Result<&[u8], CallError>| {
        assert_eq!(reply, Err(CallError::TooLarge { size: FRAME_MAX }));
        if times > 1 { fail_again(&own, times - 1, &ended) } else { report(&ended, ()) }
    };
    caller.call(&vec![0; FRAME_MAX], TIMEOUT, Box::new(done));
}
