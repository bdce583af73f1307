//! A REQ socket for one thread over a plain TCP stream.
//!
//! NNG hands each reply from thread to thread twice before the caller runs; here the calling thread itself blocks in
//! the kernel, which saves a slot two wake-ups per task. The protocol is the same; `docs/protocol.md` describes them.
//! Invariants: a request whose connection failed is repeated over the next one, and no wait is longer than its limit
//! and the transfer time of its frames ([`transfer_time`]), except for resolving a host name.
//!
//! A silent connection is not closed before a reply has arrived over another one: the server treats a closed connection
//! as the end of its peer, and a slow connection may just be slow.

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

/// Timeout of a connection attempt. Short enough for a single packet of the system: after an outage the next attempt
/// succeeds, while a long one would wait for a retransmission.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Timeout of the handshake. Longer, as the server is reachable.
const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
/// The handshake of a REQ socket, and of a REP socket.
const REQ: [u8; 8] = [0, b'S', b'P', 0, 0, 0x30, 0, 0];
const REP: [u8; 8] = [0, b'S', b'P', 0, 0, 0x31, 0, 0];
/// Bytes of the length before each frame, and of the request id at its beginning.
const LENGTH_LEN: usize = 8;
const ID_LEN: usize = 4;
/// Marks the id as the last part of the header.
const LAST_HOP: u32 = 1 << 31;
/// Size of a read, in bytes.
const READ_SIZE: usize = 64 * 1024;
/// Maximum bytes of a message in the system's send buffer.
const SEND_BUFFER_MAX: usize = 4 * 1024 * 1024;
/// Maximum capacity of a buffer that is kept for the next message, in bytes.
const KEPT_CAPACITY_MAX: usize = 1024 * 1024;
/// Maximum change of a timeout for which the kernel's timeout is not set again.
const TIMEOUT_SLACK: Duration = Duration::from_millis(100);

/// A REQ socket for one request at a time. It connects with the first request.
pub(super) struct StreamReq {
    address: Address,
    /// The address as it was given.
    text: String,
    connection: Option<StreamConnection>,
    /// A silent connection, kept open until a reply has arrived over another one.
    silent: Option<StreamConnection>,
    /// The id of the last request.
    last_id: u32,
    /// The frame of the last request, and of the last reply.
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl StreamReq {
    /// Parses the address, without connecting.
    pub(super) fn new(address: &str) -> Result<Self, OpenError> {
        let text = address.to_owned();
        let address = address.parse().map_err(|_| OpenError::BadAddress { address: text.clone() })?;
        let (request, reply) = (Vec::new(), Vec::new());
        Ok(Self { address, text, connection: None, silent: None, last_id: 0, request, reply })
    }

    fn write_request(&mut self, body: &[u8]) {
        self.last_id = (self.last_id + 1) & !LAST_HOP;
        self.request.clear();
        self.request.extend_from_slice(&((ID_LEN + body.len()) as u64).to_be_bytes());
        self.request.extend_from_slice(&(self.last_id | LAST_HOP).to_be_bytes());
        self.request.extend_from_slice(body);
    }

    /// Repeats the request until there is a reply.
    fn request_with_retries(&mut self, limit: Duration, on_sent: &mut dyn FnMut()) -> Result<(), CallError> {
        let started = Instant::now();
        let until = after(limit.saturating_add(transfer_time(self.request.len())));
        let mut delay = RECONNECT_MIN;
        loop {
            if self.connection.is_none()
                && let Err(error) = self.connect(until)
            {
                debug!(%error, address = self.text, "no connection");
                return Err(self.timed_out(started, limit));
            }
            let Err(error) = self.exchange(limit, until, on_sent) else {
                self.silent = None;
                return Ok(());
            };
            debug!(%error, address = self.text, "a connection failed");
            // A reply that may still arrive over it is not read.
            let failed = self.connection.take();
            if error.kind() == ErrorKind::TimedOut {
                self.silent = self.silent.take().or(failed);
            }
            let Ok(remaining) = remaining(until) else { return Err(self.timed_out(started, limit)) };
            // Some servers close a connection right after they accept it.
            pause(delay.min(remaining));
            delay = (delay * 2).min(RECONNECT_MAX);
        }
    }

    /// Sends the request over the current connection, and waits for the reply. Gives up after `limit` without progress,
    /// or at `until`.
    fn exchange(&mut self, limit: Duration, until: Instant, on_sent: &mut dyn FnMut()) -> io::Result<()> {
        let connection = self.connection.as_mut().ok_or(ErrorKind::NotConnected)?;
        connection.restart_silence_timer(limit);
        connection.send(&self.request, until)?;
        on_sent();
        // Its end may still be in the system's send buffer.
        connection.restart_silence_timer(limit.saturating_add(transfer_time(self.request.len().min(SEND_BUFFER_MAX))));
        connection.receive(&mut self.reply, until)?;
        // Every earlier request of this connection had its reply, so this must be the reply to the last.
        let id = &self.request[LENGTH_LEN..LENGTH_LEN + ID_LEN];
        if self.reply.starts_with(id) { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Connects, and retries for [`CONNECT_MAX`], but not beyond `until`.
    fn connect(&mut self, until: Instant) -> io::Result<()> {
        let retry_until = until.min(after(CONNECT_MAX));
        let mut delay = RECONNECT_MIN;
        let mut addresses = Vec::new();
        loop {
            if addresses.is_empty() {
                addresses = self.resolve().unwrap_or_default();
            }
            let opened = StreamConnection::open(&addresses, retry_until, until);
            match opened {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(error) => pause(delay.min(remaining(retry_until).map_err(|_| error)?)),
            }
            delay = (delay * 2).min(RECONNECT_MAX);
        }
    }

    /// Resolves the host. Repeated after a failure.
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.address.bare_host(), self.address.port()).to_socket_addrs()?.collect())
    }

    /// The error of a request that timed out.
    fn timed_out(&self, started: Instant, limit: Duration) -> CallError {
        let waited = started.elapsed().min(limit);
        // Round to seconds, for readability.
        let waited = if waited < limit { CONNECT_MAX.max(Duration::from_secs(waited.as_secs())) } else { waited };
        CallError::TimedOut { address: self.text.clone(), waited }
    }
}

impl BlockingReq for StreamReq {
    fn request(
        &mut self,
        body: &[u8],
        limit: Duration,
        on_sent: &mut dyn FnMut(),
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<(), CallError> {
        if body.len() > BODY_MAX {
            return Err(CallError::TooLarge { size: body.len() });
        }
        self.write_request(body);
        let outcome = self.request_with_retries(limit, on_sent);
        if outcome.is_ok() {
            read(&self.reply[ID_LEN..]);
        }
        for frame in [&mut self.request, &mut self.reply] {
            frame.clear();
            frame.shrink_to(KEPT_CAPACITY_MAX);
        }
        outcome
    }

    fn address(&self) -> &str {
        &self.text
    }
}

/// A connection after its handshake.
struct StreamConnection {
    stream: BufReader<TcpStream>,
    /// The kernel's timeout of reads and writes.
    kernel_timeout: Duration,
    /// When bytes were sent or received last, and the maximum time without any.
    last_progress: Instant,
    silence_max: Duration,
}

impl StreamConnection {
    /// Connects to one of these addresses. They share the time until `retry_until`; each has separate time for the
    /// handshake, within `until`.
    fn open(addresses: &[SocketAddr], retry_until: Instant, until: Instant) -> io::Result<Self> {
        let mut failure = ErrorKind::NotFound.into();
        for (address, others) in addresses.iter().zip((0..addresses.len()).rev()) {
            let part = remaining(retry_until)? / u32::try_from(others + 1).unwrap_or(u32::MAX);
            match Self::handshake(address, part, until.min(after(HANDSHAKE_MAX))) {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn handshake(address: &SocketAddr, part: Duration, until: Instant) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(address, part)?;
        stream.set_nodelay(true)?;
        let (kernel_timeout, last_progress, silence_max) = (Duration::ZERO, Instant::now(), HANDSHAKE_MAX);
        let mut connection =
            Self { stream: BufReader::with_capacity(READ_SIZE, stream), kernel_timeout, last_progress, silence_max };
        connection.send(&REQ, until)?;
        let mut greeting = Vec::new();
        connection.read(REP.len(), &mut greeting, until)?;
        if greeting == REP { Ok(connection) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Starts a new period of at most `silence_max` without progress.
    fn restart_silence_timer(&mut self, silence_max: Duration) {
        (self.last_progress, self.silence_max) = (Instant::now(), silence_max);
    }

    /// Sets the timeout of the next read or write.
    fn set_timeout(&mut self, until: Instant) -> io::Result<()> {
        let remaining = remaining(until)?.min(remaining(self.last_progress + self.silence_max)?);
        if remaining.abs_diff(self.kernel_timeout) > TIMEOUT_SLACK {
            self.stream.get_ref().set_read_timeout(Some(remaining))?;
            self.stream.get_ref().set_write_timeout(Some(remaining))?;
            self.kernel_timeout = remaining;
        }
        Ok(())
    }

    fn send(&mut self, mut bytes: &[u8], until: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            self.set_timeout(until)?;
            match self.stream.get_mut().write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    self.last_progress = Instant::now();
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
        let len = usize::try_from(len).ok().filter(|len| (ID_LEN..=FRAME_MAX).contains(len));
        let len = len.ok_or(ErrorKind::InvalidData)?;
        self.read(len, frame, until + transfer_time(len))
    }

    /// Reads `len` bytes. Allocates only for bytes that were received.
    fn read(&mut self, len: usize, into: &mut Vec<u8>, until: Instant) -> io::Result<()> {
        into.clear();
        while into.len() < len {
            if self.stream.buffer().is_empty() {
                self.set_timeout(until)?;
            }
            let some = match self.stream.fill_buf() {
                Ok([]) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(some) => &some[..some.len().min(len - into.len())],
                Err(error) if is_early(&error) => continue,
                Err(error) => return Err(error),
            };
            into.extend_from_slice(some);
            let consumed = some.len();
            self.stream.consume(consumed);
            self.last_progress = Instant::now();
        }
        Ok(())
    }
}

/// Whether the kernel's wait was interrupted or timed out: this wait may continue.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The time remaining until then.
fn remaining(until: Instant) -> io::Result<Duration> {
    let remaining = until.saturating_duration_since(Instant::now());
    if remaining.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(remaining) }
}

#[cfg(test)]
mod tests;
