//! Stories of a thread that asks and waits on a socket of its own.

use super::*;
use crate::transport::BlockingReq;

fn dial(address: &str) -> Box<dyn BlockingReq> {
    Nng.blocking_req(address).expect("an address")
}

fn ask(blocking_req: &mut dyn BlockingReq, body: &str, limit: Duration) -> Result<String, CallError> {
    let mut answer = None;
    let mut read = |body: &[u8]| answer = Some(String::from_utf8_lossy(body).into_owned());
    blocking_req.ask(body.as_bytes(), limit, &mut || {}, &mut read)?;
    Ok(answer.expect("an answer is read"))
}

#[test]
fn a_dialog_is_answered_question_by_question_and_does_something_else_meanwhile() {
    let (keeper, heard) = Keeper::new();
    let address = free_address();
    let _server = serve(&address, keeper);
    let mut blocking_req = dial(&address);
    for question in ["one", "two", "three"] {
        let (mut read, mut done) = (Vec::new(), 0);
        let mut answer = || {
            done += 1;
            let (_, body, reply) = next_request(&heard);
            assert_eq!(body, question.as_bytes(), "it is on its way");
            reply.send(format!("{question}!").as_bytes());
        };
        blocking_req.ask(question.as_bytes(), LONG, &mut answer, &mut |body| read = body.to_vec()).expect("an answer");
        assert_eq!((String::from_utf8_lossy(&read).into_owned(), done), (format!("{question}!"), 1));
    }
}

#[test]
fn a_dialog_gives_up_in_time_and_goes_on_afterwards() {
    let address = free_address();
    let waited = Duration::from_millis(50);
    let mut blocking_req = dial(&address);
    let timed_out = Err(CallError::TimedOut { address: address.clone(), waited });
    assert_eq!(ask(&mut *blocking_req, "to nobody", waited), timed_out);
    let too_large = blocking_req.ask(&vec![1; FRAME_MAX], LONG, &mut || {}, &mut |_| {});
    assert_eq!(too_large, Err(CallError::TooLarge { size: FRAME_MAX }));
    let (keeper, heard) = Keeper::new();
    let _server = serve(&address, keeper);
    let held = ask(&mut *blocking_req, "to silence", Duration::from_secs(2));
    assert!(matches!(held, Err(CallError::TimedOut { .. })), "{held:?}");
    let (peer, body, late) = next_request(&heard);
    assert_eq!(body, b"to silence");
    let answering = thread::spawn(move || {
        // Its silent connection stays until another one has brought an answer.
        let (other, _, reply) = next_request(&heard);
        assert_ne!(other, peer, "a new connection");
        reply.send(b"in time");
        assert_eq!(next_gone(&heard), peer);
    });
    late.send(b"too late");
    assert_eq!(ask(&mut *blocking_req, "again", LONG), Ok("in time".to_owned()));
    answering.join().expect("it answers");
}

#[test]
fn a_dialog_repeats_its_question_to_a_server_that_came_back() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let server = serve(&address, keeper);
    let mut blocking_req = dial(&address);
    let asking = thread::spawn(move || ask(&mut *blocking_req, "who?", LONG));
    let (_, _, reply) = next_request(&heard);
    within_time("closing the server", move || drop(server));
    reply.send(b"nobody");
    let _server = serve(&address, Arc::new(Echo::default()));
    let answer = within_time("the second server's answer", move || asking.join().expect("it asks"));
    assert_eq!(answer, Ok("who?".to_owned()));
}
