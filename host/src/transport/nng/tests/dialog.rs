//! Stories of a thread that asks and waits on a socket of its own.

use super::*;
use crate::transport::Dialog;

fn dial(address: &str, limit: Duration) -> Box<dyn Dialog> {
    Nng.dialog(address, limit).expect("an address")
}

fn ask(dialog: &mut dyn Dialog, body: &str) -> Result<String, CallError> {
    let mut answer = None;
    dialog.ask(body.as_bytes(), &mut || {}, &mut |body| answer = Some(String::from_utf8_lossy(body).into_owned()))?;
    Ok(answer.expect("an answer is read"))
}

#[test]
fn a_dialog_is_answered_question_by_question_and_does_something_else_meanwhile() {
    let (keeper, heard) = Keeper::new();
    let address = free_address();
    let _server = serve(&address, keeper);
    let mut dialog = dial(&address, LONG);
    for question in ["one", "two", "three"] {
        let (mut read, mut done) = (Vec::new(), 0);
        let mut answer = || {
            done += 1;
            let (_, body, reply) = next_request(&heard);
            assert_eq!(body, question.as_bytes(), "it is on its way");
            reply.send(format!("{question}!").as_bytes());
        };
        dialog.ask(question.as_bytes(), &mut answer, &mut |body| read = body.to_vec()).expect("an answer");
        assert_eq!((String::from_utf8_lossy(&read).into_owned(), done), (format!("{question}!"), 1));
    }
}

#[test]
fn a_dialog_gives_up_in_time_and_goes_on_afterwards() {
    let address = free_address();
    let waited = Duration::from_millis(50);
    let mut dialog = dial(&address, waited);
    let timed_out = Err(CallError::TimedOut { address: address.clone(), waited });
    assert_eq!(ask(&mut *dialog, "to nobody"), timed_out);
    let too_large = dialog.ask(&vec![1; FRAME_MAX], &mut || {}, &mut |_| {});
    assert_eq!(too_large, Err(CallError::TooLarge { size: FRAME_MAX }));
    let (keeper, heard) = Keeper::new();
    let _server = serve(&address, keeper);
    let mut dialog = dial(&address, Duration::from_secs(5));
    let held = ask(&mut *dialog, "to silence");
    assert!(matches!(held, Err(CallError::TimedOut { .. })), "{held:?}");
    let (peer, body, late) = next_request(&heard);
    assert_eq!(body, b"to silence");
    assert_eq!(next_gone(&heard), peer, "its connection is of no more use");
    let answering = thread::spawn(move || next_request(&heard).2.send(b"in time"));
    late.send(b"too late");
    assert_eq!(ask(&mut *dialog, "again"), Ok("in time".to_owned()));
    answering.join().expect("it answers");
}

#[test]
fn a_dialog_repeats_its_question_to_a_server_that_came_back() {
    let address = free_address();
    let (keeper, heard) = Keeper::new();
    let server = serve(&address, keeper);
    let mut dialog = dial(&address, LONG);
    let asking = thread::spawn(move || ask(&mut *dialog, "who?"));
    let (_, _, reply) = next_request(&heard);
    within_time("closing the server", move || drop(server));
    reply.send(b"nobody");
    let _server = serve(&address, Arc::new(Echo::default()));
    let answer = within_time("the second server's answer", move || asking.join().expect("it asks"));
    assert_eq!(answer, Ok("who?".to_owned()));
}

/// How a server treats one connection, after taking it.
type Treatment = fn(&mut TcpStream) -> io::Result<()>;

/// Takes connections one after the other, and treats each as it says there; then no more.
fn treat(address: &str, treatments: &'static [Treatment]) -> thread::JoinHandle<()> {
    let listener = TcpListener::bind(address.trim_start_matches("tcp://")).expect("a free port");
    thread::spawn(move || {
        for treatment in treatments {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(Some(LONG)).expect("a timeout");
            treatment(&mut stream).expect("it listens");
        }
    })
}

/// Shakes hands and reads one question: its number and its body.
fn hear(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting)?;
    assert_eq!(&greeting, b"\0SP\0\0\x30\0\0");
    stream.write_all(b"\0SP\0\0\x31\0\0")?;
    let mut len = [0; 8];
    stream.read_exact(&mut len)?;
    let mut question = vec![0; usize::try_from(u64::from_be_bytes(len)).expect("a length")];
    stream.read_exact(&mut question)?;
    Ok(question)
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u64).to_be_bytes(), body].concat()
}

#[test]
fn a_dialog_asks_again_until_somebody_makes_sense() {
    let address = free_address();
    let server = treat(
        &address,
        &[
            |_| Ok(()),
            |stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            |stream| hear(stream).map(drop),
            |stream| hear(stream).and_then(|_| stream.write_all(&u64::MAX.to_be_bytes())),
            |stream| hear(stream).and_then(|_| stream.write_all(&frame(b"abc"))),
            |stream| hear(stream).and_then(|_| stream.write_all(&frame(b"\x80\0\0\0another answer"))),
            |stream| hear(stream).and_then(|question| stream.write_all(&frame(&question)[..9])),
            |stream| {
                let answer = frame(&hear(stream)?);
                answer.iter().try_for_each(|byte| stream.write_all(&[*byte]))
            },
        ],
    );
    let mut dialog = dial(&address, LONG);
    assert_eq!(ask(&mut *dialog, "anybody?"), Ok("anybody?".to_owned()));
    server.join().expect("each connection was used");
}

#[test]
fn a_dialog_with_who_only_takes_connections_ends_in_time() {
    let address = free_address();
    let listener = TcpListener::bind(address.trim_start_matches("tcp://")).expect("a free port");
    let waited = Duration::from_millis(300);
    let mut dialog = dial(&address, waited);
    let timed_out = CallError::TimedOut { address, waited };
    let answer = within_time("a question to silence", move || ask(&mut *dialog, "?"));
    assert_eq!(answer, Err(timed_out));
    drop(listener);
}

#[test]
fn a_dialog_carries_the_largest_bodies() {
    let address = free_address();
    let _server = serve(&address, Arc::new(Echo::default()));
    let mut dialog = dial(&address, LONG);
    for size in [0, 1, PAYLOAD_MAX, 2] {
        let (body, mut same) = (vec![b'x'; size], false);
        dialog.ask(&body, &mut || {}, &mut |answer| same = answer == body).expect("an answer");
        assert!(same, "{size} bytes come back");
    }
}
