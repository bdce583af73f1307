//! A REQ socket of one thread over a plain TCP stream.
//!
//! Apart from the sockets of NNG, whose threads hand each answer on twice before who waits for it
//! runs: here the thread itself waits in the kernel, which saves a slot two wake-ups on the way of
//! each task. The bytes are the same; `docs/protocol.md` describes them. Invariants: a question whose
//! connection failed is asked again over the next one, and no wait is longer than its limit.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use tracing::debug;

use super::{CallError, Dialog, FRAME_MAX, HEADER_MAX, OpenError};
use crate::{clock::pause, config::Address};

/// How long a question waits for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How soon a failed connection is dialled again, at first and at most.
const RECONNECT_MIN: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_millis(500);
/// What a REQ socket says first, and what a REP socket answers.
const REQ: [u8; 8] = [0, b'S', b'P', 0, 0, 0x30, 0, 0];
const REP: [u8; 8] = [0, b'S', b'P', 0, 0, 0x31, 0, 0];
/// Bytes of the length before each frame, and of the question's number at its begin.
const LENGTH_LEN: usize = 8;
const NUMBER_LEN: usize = 4;
/// Marks the number as the last part of the header.
const LAST_HOP: u32 = 1 << 31;
/// How much is read at once.
const READ_SIZE: usize = 64 * 1024;
/// Room for a message that is kept for the next one.
const KEPT_MAX: usize = 1024 * 1024;

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
        let mut step = RECONNECT_MIN;
        loop {
            match Connection::open(&self.address, until, self.limit) {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(error) => pause(step.min(left(until).map_err(|_| error)?)),
            }
            step = (step * 2).min(RECONNECT_MAX);
        }
    }

    fn write_question(&mut self, body: &[u8]) {
        self.number = (self.number + 1) & !LAST_HOP;
        self.question.clear();
        self.question.extend_from_slice(&((NUMBER_LEN + body.len()) as u64).to_be_bytes());
        self.question.extend_from_slice(&(self.number | LAST_HOP).to_be_bytes());
        self.question.extend_from_slice(body);
    }

    fn late(&self, waited: Duration) -> CallError {
        CallError::TimedOut { address: self.text.clone(), waited }
    }
}

impl Dialog for StreamDialog {
    fn ask(&mut self, body: &[u8], meanwhile: &mut dyn FnMut(), read: &mut dyn FnMut(&[u8])) -> Result<(), CallError> {
        if body.len() > FRAME_MAX - HEADER_MAX {
            return Err(CallError::TooLarge { size: body.len() });
        }
        self.write_question(body);
        let until = Instant::now() + self.limit;
        let connect_max = self.limit.min(CONNECT_MAX);
        let mut step = RECONNECT_MIN;
        loop {
            if self.connection.is_none()
                && let Err(error) = self.connect(until.min(Instant::now() + connect_max))
            {
                debug!(%error, address = self.text, "no connection");
                return Err(self.late(connect_max));
            }
            let Err(error) = self.exchange(until, meanwhile) else { break };
            debug!(%error, address = self.text, "a connection failed");
            // Whatever it may still bring is of no use.
            self.connection = None;
            let Ok(left) = left(until) else { return Err(self.late(self.limit)) };
            // Some servers take a connection only to drop it.
            pause(step.min(left));
            step = (step * 2).min(RECONNECT_MAX);
        }
        read(&self.answer[NUMBER_LEN..]);
        for frame in [&mut self.question, &mut self.answer] {
            frame.clear();
            frame.shrink_to(KEPT_MAX);
        }
        Ok(())
    }

    fn address(&self) -> &str {
        &self.text
    }
}

/// A connection over which hands were shaken.
struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects until then, for waits of at most `limit`.
    fn open(address: &Address, until: Instant, limit: Duration) -> io::Result<Self> {
        let host = address.host().trim_start_matches('[').trim_end_matches(']');
        let mut failure = ErrorKind::NotFound.into();
        for place in (host, address.port()).to_socket_addrs()? {
            match Self::greet(&place, until) {
                Ok(connection) => return connection.with_limit(limit),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn greet(place: &SocketAddr, until: Instant) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(place, left(until)?)?;
        stream.set_nodelay(true)?;
        let mut connection = Self(BufReader::with_capacity(READ_SIZE, stream)).with_limit(left(until)?)?;
        connection.send(&REQ, until)?;
        let mut said = Vec::new();
        connection.read(REP.len(), &mut said, until)?;
        if said == REP { Ok(connection) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Bounds each wait for the kernel.
    fn with_limit(self, limit: Duration) -> io::Result<Self> {
        self.0.get_ref().set_read_timeout(Some(limit))?;
        self.0.get_ref().set_write_timeout(Some(limit))?;
        Ok(self)
    }

    fn send(&mut self, mut bytes: &[u8], until: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            left(until)?;
            match self.0.get_mut().write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
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
            left(until)?;
            let some = match self.0.fill_buf() {
                Ok([]) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(some) => &some[..some.len().min(len - into.len())],
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            into.extend_from_slice(some);
            let taken = some.len();
            self.0.consume(taken);
        }
        Ok(())
    }
}

/// How long it is until then.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}
