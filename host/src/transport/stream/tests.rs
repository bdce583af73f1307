//! Stories of a question and of servers that speak the bytes themselves, rightly or not.

use std::{
    io::Read as _,
    net::TcpListener,
    thread::{self, JoinHandle},
};

use super::*;
use crate::transport::PAYLOAD_MAX;

/// Long enough for a busy machine; nothing here takes that long unless it hangs.
const LONG: Duration = Duration::from_secs(30);

/// How a server treats one connection.
type Treatment = fn(&mut TcpStream) -> io::Result<()>;

/// A server that takes one connection after the other, treats each as it says there, and ends.
fn treat(treatments: &'static [Treatment]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("tcp://{}", listener.local_addr().expect("its address"));
    let server = thread::spawn(move || {
        for treatment in treatments {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(Some(LONG)).expect("a timeout");
            treatment(&mut stream).expect("the other side goes on");
        }
    });
    (address, server)
}

/// Shakes hands.
fn greet(stream: &mut TcpStream) -> io::Result<()> {
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting)?;
    assert_eq!(greeting, REQ);
    stream.write_all(&REP)
}

/// Reads one question: its number and its body.
fn next(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; LENGTH_LEN];
    stream.read_exact(&mut len)?;
    let mut question = vec![0; usize::try_from(u64::from_be_bytes(len)).expect("a length")];
    stream.read_exact(&mut question)?;
    Ok(question)
}

fn hear(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    greet(stream)?;
    next(stream)
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u64).to_be_bytes(), body].concat()
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let question = hear(stream)?;
    stream.write_all(&frame(&question))
}

fn dial(address: &str) -> StreamReq {
    StreamReq::new(address).expect("an address")
}

fn ask_within(blocking_req: &mut StreamReq, body: &[u8], limit: Duration) -> Result<Vec<u8>, CallError> {
    let mut answer = None;
    blocking_req.ask(body, limit, &mut || {}, &mut |body| answer = Some(body.to_vec()))?;
    Ok(answer.expect("an answer is read"))
}

fn ask(blocking_req: &mut StreamReq, body: &[u8]) -> Result<Vec<u8>, CallError> {
    ask_within(blocking_req, body, LONG)
}

/// Asks a server that will not answer, and gives how long that took.
fn ask_in_vain(blocking_req: &mut StreamReq, body: &[u8], waited: Duration) -> Duration {
    let begun = Instant::now();
    let late = Err(CallError::TimedOut { address: blocking_req.text.clone(), waited });
    assert_eq!(ask_within(blocking_req, body, waited), late);
    begun.elapsed()
}

#[test]
fn a_question_is_asked_until_somebody_makes_sense() {
    let (address, server) = treat(&[
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
    ]);
    let (mut times, mut answer) = (0, Vec::new());
    let mut read = |body: &[u8]| answer = body.to_vec();
    dial(&address).ask(b"anybody?", LONG, &mut || times += 1, &mut read).expect("an answer");
    assert_eq!((&answer[..], times), (&b"anybody?"[..], 6), "it was on its way six times");
    server.join().expect("each connection was used");
}

#[test]
fn an_answer_that_comes_twice_is_not_taken_for_the_next_one() {
    let (address, server) = treat(&[
        |stream| {
            let answer = frame(&hear(stream)?);
            stream.write_all(&[&answer[..], &answer[..]].concat())?;
            // Until it is hung up.
            while next(stream).is_ok() {}
            Ok(())
        },
        echo,
    ]);
    let mut blocking_req = dial(&address);
    for question in ["one", "two"] {
        assert_eq!(ask(&mut blocking_req, question.as_bytes()), Ok(question.into()));
    }
    server.join().expect("both connections were used");
}

#[test]
fn the_numbers_of_questions_begin_again_after_the_last() {
    let (address, server) = treat(&[|stream| {
        for number in [0x8000_0000_u32, 0x8000_0001] {
            let question = if number == 0x8000_0000 { hear(stream)? } else { next(stream)? };
            assert_eq!(question[..NUMBER_LEN], number.to_be_bytes());
            stream.write_all(&frame(&question))?;
        }
        Ok(())
    }]);
    let mut blocking_req = dial(&address);
    blocking_req.number = LAST_HOP - 1;
    for _ in 0..2 {
        assert_eq!(ask(&mut blocking_req, b"?"), Ok(b"?".to_vec()));
    }
    server.join().expect("the numbers are right");
}

#[test]
fn servers_that_keep_silent_or_do_not_read_or_dribble_are_given_up_in_time() {
    let limit = Duration::from_secs(1);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("tcp://{}", silent.local_addr().expect("its address"));
    let took = ask_in_vain(&mut dial(&address), b"?", limit);
    assert!(took < 20 * limit, "silence took {took:?}");

    let (address, server) = treat(&[|stream| {
        greet(stream)?;
        stream.peek(&mut [0]).map(drop)?;
        thread::park_timeout(Duration::from_secs(2));
        Ok(())
    }]);
    let took = ask_in_vain(&mut dial(&address), &vec![0; BODY_MAX], limit);
    assert!(took < 20 * limit, "a server that does not read took {took:?}");
    server.join().expect("it greets");

    // A byte each 0.3 s would keep a wait alive that begins anew with each: 5 s in all.
    let (address, server) = treat(&[|stream| {
        let answer = frame(&hear(stream)?);
        for byte in &answer {
            stream.set_read_timeout(Some(Duration::from_millis(300)))?;
            let hung_up = matches!(stream.peek(&mut [0]), Ok(0));
            if hung_up || stream.write_all(&[*byte]).is_err() {
                return Ok(());
            }
        }
        panic!("it was waited for to the end");
    }]);
    ask_in_vain(&mut dial(&address), b"?", limit);
    server.join().expect("it is hung up on");
}

#[test]
fn bodies_of_every_size_that_is_allowed_come_back() {
    let (address, server) = treat(&[|stream| {
        greet(stream)?;
        for _ in 0..4 {
            let question = next(stream)?;
            stream.write_all(&frame(&question))?;
        }
        Ok(())
    }]);
    let mut blocking_req = dial(&address);
    for size in [0, BODY_MAX, 1, PAYLOAD_MAX] {
        let body = vec![b'x'; size];
        assert!(ask(&mut blocking_req, &body).is_ok_and(|answer| answer == body), "{size} bytes");
        assert!(
            blocking_req.question.capacity() + blocking_req.answer.capacity() <= 2 * KEPT_MAX,
            "room is given back"
        );
    }
    assert_eq!(ask(&mut blocking_req, &vec![0; BODY_MAX + 1]), Err(CallError::TooLarge { size: BODY_MAX + 1 }));
    server.join().expect("it answers each");
}

#[test]
fn only_addresses_are_taken() {
    for wrong in ["", "127.0.0.1:5560", "tcp://127.0.0.1", "ipc:///tmp/x"] {
        assert!(matches!(StreamReq::new(wrong), Err(OpenError::BadAddress { .. })), "{wrong}");
    }
}
