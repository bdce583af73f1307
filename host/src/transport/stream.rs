//! A REQ socket of one thread over a plain TCP stream.
//!
//! Apart from the sockets of NNG, whose threads hand each answer on twice before who waits for it
//! runs: here the thread itself waits in the kernel, which saves a slot two wake-ups on the way of
//! each task. The bytes are the same; `docs/protocol.md` describes them. Invariants: a question whose
//! connection failed is asked again over the next one, and no wait is longer than its limit and what
//! its frames need on a slow network ([`transfer_time`]), but for the system's search for a host by its
//! name.
//!
//! A connection that stays silent is not closed before another one has brought an answer: the server
//! takes a closed connection for the end of its peer, and a slow one may just be slow.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use tracing::debug;

use super::{BODY_MAX, BlockingReq, CallError, FRAME_MAX, OpenError, RECONNECT_MAX, RECONNECT_MIN, transfer_time};
use crate::{
    clock::{after, pause},
    config::Address,
};

/// How long a question waits for a connection. So short that the system sends a single packet in that
/// time: after an outage the next attempt succeeds, where a long one would wait for a retransmission.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long a new connection waits for the server's greeting. Longer, as the server is reachable.
const GREETING_MAX: Duration = Duration::from_secs(2);
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
/// How much the system takes of a message before the other side has it.
const SEND_BUFFER_MAX: usize = 4 * 1024 * 1024;
/// Room for a message that is kept for the next one.
const KEPT_MAX: usize = 1024 * 1024;
/// So much longer than its limit a wait may take, for which the kernel is not told a new limit.
const SLACK: Duration = Duration::from_millis(100);

/// A dialled REQ socket for one question at a time. It connects when there is something to ask.
pub(super) struct StreamReq {
    address: Address,
    /// The address as it was given.
    text: String,
    connection: Option<Connection>,
    /// A connection that stayed silent, kept open until another one has brought an answer.
    silent: Option<Connection>,
    /// The number of the last question.
    number: u32,
    /// The frame of the last question, and of the last answer.
    question: Vec<u8>,
    answer: Vec<u8>,
}

impl StreamReq {
    /// Notes where to ask.
    pub(super) fn new(address: &str) -> Result<Self, OpenError> {
        let text = address.to_owned();
        let address = address.parse().map_err(|_| OpenError::BadAddress { address: text.clone() })?;
        let (question, answer) = (Vec::new(), Vec::new());
        Ok(Self { address, text, connection: None, silent: None, number: 0, question, answer })
    }

    fn write_question(&mut self, body: &[u8]) {
        self.number = (self.number + 1) & !LAST_HOP;
        self.question.clear();
        self.question.extend_from_slice(&((NUMBER_LEN + body.len()) as u64).to_be_bytes());
        self.question.extend_from_slice(&(self.number | LAST_HOP).to_be_bytes());
        self.question.extend_from_slice(body);
    }

    /// Asks until there is an answer.
    fn converse(&mut self, limit: Duration, meanwhile: &mut dyn FnMut()) -> Result<(), CallError> {
        let begun = Instant::now();
        let until = after(limit.saturating_add(transfer_time(self.question.len())));
        let mut step = RECONNECT_MIN;
        loop {
            if self.connection.is_none()
                && let Err(error) = self.connect(until)
            {
                debug!(%error, address = self.text, "no connection");
                return Err(self.late(begun, limit));
            }
            let Err(error) = self.exchange(limit, until, meanwhile) else {
                self.silent = None;
                return Ok(());
            };
            debug!(%error, address = self.text, "a connection failed");
            // Whatever it may still bring is of no use.
            let failed = self.connection.take();
            if error.kind() == ErrorKind::TimedOut {
                self.silent = self.silent.take().or(failed);
            }
            let Ok(left) = left(until) else { return Err(self.late(begun, limit)) };
            // Some servers take a connection only to drop it.
            pause(step.min(left));
            step = (step * 2).min(RECONNECT_MAX);
        }
    }

    /// Sends the question over the connection that is there, and waits for the answer. Gives up when
    /// nothing moves for `limit`, or at `until`.
    fn exchange(&mut self, limit: Duration, until: Instant, meanwhile: &mut dyn FnMut()) -> io::Result<()> {
        let connection = self.connection.as_mut().ok_or(ErrorKind::NotConnected)?;
        connection.moves(limit);
        connection.send(&self.question, until)?;
        meanwhile();
        // The last of it may still be in the system's buffers.
        connection.moves(limit.saturating_add(transfer_time(self.question.len().min(SEND_BUFFER_MAX))));
        connection.receive(&mut self.answer, until)?;
        // Every earlier question of this connection was answered, so this answers no other.
        let number = &self.question[LENGTH_LEN..LENGTH_LEN + NUMBER_LEN];
        if self.answer.starts_with(number) { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Connects, and tries again for [`CONNECT_MAX`], but not beyond `until`.
    fn connect(&mut self, until: Instant) -> io::Result<()> {
        let tries_until = until.min(after(CONNECT_MAX));
        let mut step = RECONNECT_MIN;
        let mut places = Vec::new();
        loop {
            if places.is_empty() {
                places = self.resolve().unwrap_or_default();
            }
            let opened = Connection::open(&places, tries_until, until);
            match opened {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(error) => pause(step.min(left(tries_until).map_err(|_| error)?)),
            }
            step = (step * 2).min(RECONNECT_MAX);
        }
    }

    /// Looks for the host, which may succeed another time.
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.address.bare_host(), self.address.port()).to_socket_addrs()?.collect())
    }

    /// What a question ends in that is given up.
    fn late(&self, begun: Instant, limit: Duration) -> CallError {
        let waited = begun.elapsed().min(limit);
        // Nobody wants to read of milliseconds.
        let waited = if waited < limit { CONNECT_MAX.max(Duration::from_secs(waited.as_secs())) } else { waited };
        CallError::TimedOut { address: self.text.clone(), waited }
    }
}

impl BlockingReq for StreamReq {
    fn ask(
        &mut self,
        body: &[u8],
        limit: Duration,
        meanwhile: &mut dyn FnMut(),
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<(), CallError> {
        if body.len() > BODY_MAX {
            return Err(CallError::TooLarge { size: body.len() });
        }
        self.write_question(body);
        let outcome = self.converse(limit, meanwhile);
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
    /// When something moved on it last, and how long nothing may.
    moved: Instant,
    silence_max: Duration,
}

impl Connection {
    /// Connects to one of these. Each has its part of the time for a connection, and time of its own for
    /// the greeting, within `until`.
    fn open(places: &[SocketAddr], tries_until: Instant, until: Instant) -> io::Result<Self> {
        let mut failure = ErrorKind::NotFound.into();
        for (place, others) in places.iter().zip((0..places.len()).rev()) {
            let part = left(tries_until)? / u32::try_from(others + 1).unwrap_or(u32::MAX);
            match Self::greet(place, part, until.min(after(GREETING_MAX))) {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn greet(place: &SocketAddr, part: Duration, until: Instant) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(place, part)?;
        stream.set_nodelay(true)?;
        let (wait, moved, silence_max) = (Duration::ZERO, Instant::now(), GREETING_MAX);
        let mut connection = Self { stream: BufReader::with_capacity(READ_SIZE, stream), wait, moved, silence_max };
        connection.send(&REQ, until)?;
        let mut said = Vec::new();
        connection.read(REP.len(), &mut said, until)?;
        if said == REP { Ok(connection) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Something moved, or is about to: then nothing may for so long.
    fn moves(&mut self, silence_max: Duration) {
        (self.moved, self.silence_max) = (Instant::now(), silence_max);
    }

    /// Bounds the next wait for the kernel.
    fn bound(&mut self, until: Instant) -> io::Result<()> {
        let left = left(until)?.min(left(self.moved + self.silence_max)?);
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
                Ok(sent) => {
                    self.moved = Instant::now();
                    bytes = &bytes[sent..];
                }
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
        let len = len.ok_or(ErrorKind::InvalidData)?;
        self.read(len, frame, until + transfer_time(len))
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
            self.moved = Instant::now();
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
