//! A REQ socket of one thread over a plain TCP stream.
//!
//! Apart from the sockets of NNG, whose threads hand each answer on twice before who waits for it
//! runs: here the thread itself waits in the kernel, which saves a slot two wake-ups on the way of
//! each task. The bytes are the same; `docs/protocol.md` describes them. Invariants: a question whose
//! connection failed is asked again over the next one, and no wait is longer than its limit, but for
//! the system's search for a host by its name.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use tracing::debug;

use super::{BODY_MAX, CallError, Dialog, FRAME_MAX, OpenError, RECONNECT_MAX, RECONNECT_MIN};
use crate::{
    clock::{after, pause},
    config::Address,
};

/// How long a question waits for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// What a REQ socket says first, and what a REP socket answers.
const REQ: [u8; 8] = [0, b'S', b'P', 0, 0, 0x30, 0, 0];
const REP: [u8; 8] = [0, b'S', b'P', 0, 0, 0x31, 0, 0];
/// Bytes of the length before each frame, and of the question's number at its beginning.
const LENGTH_LEN: usize = 8;
const NUMBER_LEN: usize = 4;
/// Marks the number as the last part of the header.
const LAST_HOP: u32 = 1 << 31;
/// How much is read at once.
const READ_SIZE: usize = 64 * 1024;
/// Room for a message that is kept for the next one.
const KEPT_MAX: usize = 1024 * 1024;
/// So much longer than its limit a wait may take, for which the kernel is not told a new limit.
const SLACK: Duration = Duration::from_millis(100);

/// A dialled REQ socket for one question at a time. It connects when there is something to ask.
pub(super) struct StreamDialog {
    address: Address,
    /// The address as it was given.
    text: String,
    limit: Duration,
    connection: Option<Connection>,
    /// The number of the last question.
    number: u32,
    /// The frame of the last question, and of the last answer.
    question: Vec<u8>,
    answer: Vec<u8>,
}

impl StreamDialog {
    /// Notes where to ask, and how long a question waits at most.
    pub(super) fn new(address: &str, limit: Duration) -> Result<Self, OpenError> {
        let text = address.to_owned();
        let address = address.parse().map_err(|_| OpenError::BadAddress { address: text.clone() })?;
        Ok(Self { address, text, limit, connection: None, number: 0, question: Vec::new(), answer: Vec::new() })
    }

    fn write_question(&mut self, body: &[u8]) {
        self.number = (self.number + 1) & !LAST_HOP;
        self.question.clear();
        self.question.extend_from_slice(&((NUMBER_LEN + body.len()) as u64).to_be_bytes());
        self.question.extend_from_slice(&(self.number | LAST_HOP).to_be_bytes());
        self.question.extend_from_slice(body);
    }

    /// Asks until there is an answer.
    fn converse(&mut self, meanwhile: &mut dyn FnMut()) -> Result<(), CallError> {
        let until = after(self.limit);
        let mut step = RECONNECT_MIN;
        loop {
            if self.connection.is_none()
                && let Err(error) = self.connect(until.min(after(CONNECT_MAX)))
            {
                debug!(%error, address = self.text, "no connection");
                return Err(self.late(until));
            }
            let Err(error) = self.exchange(until, meanwhile) else { return Ok(()) };
            debug!(%error, address = self.text, "a connection failed");
            // Whatever it may still bring is of no use.
            self.connection = None;
            let Ok(left) = left(until) else { return Err(self.late(until)) };
            // Some servers take a connection only to drop it.
            pause(step.min(left));
            step = (step * 2).min(RECONNECT_MAX);
        }
    }

    /// Sends the question over the connection that is there, and waits for the answer.
    fn exchange(&mut self, until: Instant, meanwhile: &mut dyn FnMut()) -> io::Result<()> {
        let connection = self.connection.as_mut().ok_or(ErrorKind::NotConnected)?;
        connection.send(&self.question, until)?;
        meanwhile();
        connection.receive(&mut self.answer, until)?;
        // Every earlier question of this connection was answered, so this answers no other.
        let number = &self.question[LENGTH_LEN..LENGTH_LEN + NUMBER_LEN];
        if self.answer.starts_with(number) { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Connects, and tries again until then.
    fn connect(&mut self, until: Instant) -> io::Result<()> {
        let places: Vec<_> = (self.address.bare_host(), self.address.port()).to_socket_addrs()?.collect();
        let mut step = RECONNECT_MIN;
        loop {
            match Connection::open(&places, until) {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(error) => pause(step.min(left(until).map_err(|_| error)?)),
            }
            step = (step * 2).min(RECONNECT_MAX);
        }
    }

    /// What a question ends in that is given up before then, or at that time.
    fn late(&self, until: Instant) -> CallError {
        let waited = if left(until).is_err() { self.limit } else { CONNECT_MAX };
        CallError::TimedOut { address: self.text.clone(), waited }
    }
}

impl Dialog for StreamDialog {
    fn ask(&mut self, body: &[u8], meanwhile: &mut dyn FnMut(), read: &mut dyn FnMut(&[u8])) -> Result<(), CallError> {
        if body.len() > BODY_MAX {
            return Err(CallError::TooLarge { size: body.len() });
        }
        self.write_question(body);
        let outcome = self.converse(meanwhile);
        if outcome.is_ok() {
            read(&self.answer[NUMBER_LEN..]);
        }
        for frame in [&mut self.question, &mut self.answer] {
            frame.clear();
            frame.shrink_to(KEPT_MAX);
        }
        outcome
    }

    fn address(&self) -> &str {
        &self.text
    }
}

/// A connection over which hands were shaken.
struct Connection {
    stream: BufReader<TcpStream>,
    /// How long the kernel waits on it at most.
    wait: Duration,
}

impl Connection {
    /// Connects to one of these until then. Each has its part of the time.
    fn open(places: &[SocketAddr], until: Instant) -> io::Result<Self> {
        let mut failure = ErrorKind::NotFound.into();
        for (place, others) in places.iter().zip((0..places.len()).rev()) {
            let part = left(until)? / u32::try_from(others + 1).unwrap_or(u32::MAX);
            match Self::greet(place, after(part)) {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn greet(place: &SocketAddr, until: Instant) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(place, left(until)?)?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream: BufReader::with_capacity(READ_SIZE, stream), wait: Duration::ZERO };
        connection.send(&REQ, until)?;
        let mut said = Vec::new();
        connection.read(REP.len(), &mut said, until)?;
        if said == REP { Ok(connection) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Bounds the next wait for the kernel.
    fn bound(&mut self, until: Instant) -> io::Result<()> {
        let left = left(until)?;
        if left.abs_diff(self.wait) > SLACK {
            self.stream.get_ref().set_read_timeout(Some(left))?;
            self.stream.get_ref().set_write_timeout(Some(left))?;
            self.wait = left;
        }
        Ok(())
    }

    fn send(&mut self, mut bytes: &[u8], until: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            self.bound(until)?;
            match self.stream.get_mut().write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if is_early(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads one frame.
    fn receive(&mut self, frame: &mut Vec<u8>, until: Instant) -> io::Result<()> {
        self.read(LENGTH_LEN, frame, until)?;
        let len = frame.iter().fold(0, |len: u64, byte| len << 8 | u64::from(*byte));
        let len = usize::try_from(len).ok().filter(|len| (NUMBER_LEN..=FRAME_MAX).contains(len));
        self.read(len.ok_or(ErrorKind::InvalidData)?, frame, until)
    }

    /// Reads so many bytes. What it takes of memory has come in.
    fn read(&mut self, len: usize, into: &mut Vec<u8>, until: Instant) -> io::Result<()> {
        into.clear();
        while into.len() < len {
            if self.stream.buffer().is_empty() {
                self.bound(until)?;
            }
            let some = match self.stream.fill_buf() {
                Ok([]) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(some) => &some[..some.len().min(len - into.len())],
                Err(error) if is_early(&error) => continue,
                Err(error) => return Err(error),
            };
            into.extend_from_slice(some);
            let taken = some.len();
            self.stream.consume(taken);
        }
        Ok(())
    }
}

/// Whether the kernel's wait was cut short, or took as long as it was told: ours may go on.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// How long it is until then.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests;
