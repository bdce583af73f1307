//! Bytes out, bytes in, or a named failure.
//!
//! The line runs through four kinds of sockets; this file says what each must do and [`nng`] does
//! it with NNG, but for a slot's, which is a plain stream. Apart so that another binding of the same
//! protocols can take its place by implementing [`Transport`].
//! Invariants: a [`Service`] never blocks, every request is answered exactly once, and no method
//! here waits longer than the time it was given.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

pub mod nng;

mod stream;
mod wait;

pub use wait::{call, call_blocking};

/// The largest document or frame body that we accept, in bytes.
pub const PAYLOAD_MAX: usize = 16 * 1024 * 1024;
/// The largest message that a socket takes in: a payload and what is wrapped around it.
pub const FRAME_MAX: usize = PAYLOAD_MAX + 64 * 1024;
/// What the protocol puts before a body, at most: eight hops and a request id.
pub const HEADER_MAX: usize = 64;
/// The largest body of a request that fits a frame with its header.
pub(crate) const BODY_MAX: usize = FRAME_MAX - HEADER_MAX;
/// The slowest network that is planned for: so much of a second a byte takes.
const BYTE_TIME_NS: u64 = 1_500;
/// How soon a lost connection is dialled again, at first and at most.
const RECONNECT_MIN: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_millis(500);
/// How many requests one server socket holds open at a time by default.
pub const OPEN_REQUESTS_MAX: usize = 65_536;

/// How long a message of this size may take on a slow network: 25 s for the largest. Whoever waits for
/// one waits so much longer.
pub fn transfer_time(bytes: usize) -> Duration {
    Duration::from_nanos((bytes as u64).saturating_mul(BYTE_TIME_NS))
}

/// One connection to a server socket. Never the same number twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u64);

/// Why a request is answered by the socket and not by its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many requests are open.
    Busy,
    /// The service panicked over this request.
    Broken,
}

/// What a server socket serves. Called on the transport's own threads: it must never block.
pub trait Service: Send + Sync + 'static {
    /// Takes one request. The answer goes through `reply`, now or later, from any thread.
    fn request(&self, from: Peer, body: &[u8], reply: Reply);

    /// The answer to a request that cannot be taken, in the words of whoever asked.
    fn refuse(&self, body: &[u8], why: Refusal) -> Vec<u8>;

    /// A connection that has asked something is gone, and with it every request it had open. Nothing
    /// comes from this peer after that.
    fn gone(&self, peer: Peer);
}

/// The way back to whoever asked. Dropped without an answer, it answers with nothing, so that a
/// forgotten request cannot block its socket.
pub struct Reply(Option<Arc<dyn Answer>>);

/// How a transport takes an answer.
pub trait Answer: Send + Sync {
    /// Sends the answer, unless the request was answered before or its peer is gone.
    fn send(&self, body: &[u8]);

    /// Whether anybody still waits for this answer.
    fn is_open(&self) -> bool;
}

impl Reply {
    /// Wraps a transport's way back.
    pub fn new(answer: Arc<dyn Answer>) -> Self {
        Self(Some(answer))
    }

    /// Sends the answer. Does nothing if the peer is gone.
    pub fn send(mut self, body: &[u8]) {
        if let Some(answer) = self.0.take() {
            answer.send(body);
        }
    }

    /// Whether anybody still waits for this answer.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_some_and(|answer| answer.is_open())
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(answer) = self.0.take() {
            answer.send(&[]);
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({})", if self.is_open() { "open" } else { "closed" })
    }
}

/// A server socket that listens until it is dropped. From then on its service hears nothing more,
/// and what is open is closed. Whoever drops it waits for the service's calls under way, so they
/// must not hold a lock that the service takes; on a transport thread another one does the closing.
pub trait Server: Send + Sync {
    /// Waits until every answer given so far is with the kernel, at most `limit` long. A large one
    /// is given half a second, as nothing tells when its last byte has left.
    fn flush(&self, limit: Duration);

    /// How many requests are open.
    fn open_requests(&self) -> usize;
}

/// A call that brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody answered in time. The request may have been taken all the same.
    #[error("no answer from {address} within {} s", crate::clock::seconds(*waited))]
    TimedOut {
        /// Who was asked.
        address: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The message is larger than the other side takes, and was not sent.
    #[error("the message of {size} bytes is over the limit of {PAYLOAD_MAX} bytes")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Too many calls are open on this socket. This one was not sent.
    #[error("{open} calls are open already, which is the limit")]
    TooMany {
        /// How many may be open.
        open: usize,
    },
    /// The socket was closed while we waited.
    #[error("the connection to {address} was closed")]
    Closed {
        /// Who was asked.
        address: String,
    },
}

/// What becomes of a call; runs on a transport thread and must not block.
pub type OnAnswer = Box<dyn FnOnce(Result<&[u8], CallError>) + Send>;

/// A client socket that asks one server, as many questions at a time as one likes. It connects in
/// the background, again after each loss, and repeats what was open over the new connection. While
/// something is open, an attempt to connect that takes long is started again about every second. What
/// is open when it is dropped ends as closed.
pub trait Caller: Send + Sync {
    /// Asks, and calls `done` exactly once: with the answer, or after `limit`.
    fn call(&self, body: &[u8], limit: Duration, done: OnAnswer);

    /// Whether there is a connection at this moment.
    fn is_connected(&self) -> bool;

    /// The address of the server.
    fn address(&self) -> &str;
}

/// A client socket of one thread, which asks one question at a time and waits for its answer there:
/// quicker than a [`Caller`], as nothing is handed on between threads. It connects when there is
/// something to ask, again after each loss, and repeats what was open over the new connection.
pub trait BlockingReq: Send {
    /// Asks, does something else each time that the question is on its way, and waits for the answer,
    /// which `read` takes in: at most `limit`, and [`transfer_time`] for both messages. After that, the
    /// next question goes over a new connection.
    ///
    /// # Errors
    /// [`CallError`] when no answer came, or there was no connection for a second. The request may have been taken all the same.
    fn ask(
        &mut self,
        body: &[u8],
        limit: Duration,
        meanwhile: &mut dyn FnMut(),
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<(), CallError>;

    /// The address of the server.
    fn address(&self) -> &str;
}

/// Makes the message for a new connection; runs on a transport thread and must not block.
pub type OnJoined = Box<dyn Fn() -> Vec<u8> + Send + Sync>;
/// What becomes of an announcement; runs on a transport thread and must not block.
pub type OnMessage = Box<dyn Fn(&[u8]) + Send + Sync>;

/// A bus that hands announcements to whoever dialled it. Best effort: say it again.
pub trait Announcer: Send + Sync {
    /// Sends to every connection.
    fn announce(&self, message: &[u8]);
}

/// Hears the announcements of one bus until it is dropped.
pub trait Subscriber: Send + Sync {}

/// A wait in async code.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The connection is gone, or was refused by the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is gone")]
pub struct Disconnected;

/// A socket that dials one address and sends one-way messages there (PAIR). It connects once, in the
/// background, and is of no more use when that connection is gone. Its methods wait without a limit:
/// whoever calls them has one.
pub trait PairSender: Send + Sync {
    /// Waits for the connection.
    fn connected(&self) -> Waiting<'_, Result<(), Disconnected>>;

    /// Waits until the connection is gone.
    fn parted(&self) -> Waiting<'_, ()>;

    /// Sends a message, and waits until the connection has taken it, which it does when the message
    /// before has left. [`Disconnected`] means that it was not taken. One at a time; a wait that is given up
    /// leaves a line of no use.
    fn send<'a>(&'a self, body: &'a [u8]) -> Waiting<'a, Result<(), Disconnected>>;
}

/// A socket that listens for one-way messages (PAIR), from one peer at a time. What is not taken out
/// waits with the peer, up to a few messages.
pub trait Inbox: Send + Sync {
    /// Where it listens: with the real port, where it was asked for any.
    fn address(&self) -> &str;

    /// The next message. None when the socket has failed.
    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>>;
}

/// A socket that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The text is no address that we know.
    #[error("'{address}' is not an address: write it like tcp://127.0.0.1:5555")]
    BadAddress {
        /// The text.
        address: String,
    },
    /// The host cannot be found, or is another machine.
    #[error("cannot listen on {address}: this machine has no such address")]
    NotHere {
        /// The address.
        address: String,
    },
    /// Somebody listens there already.
    #[error("{address} is in use by another program")]
    InUse {
        /// The address.
        address: String,
    },
    /// The system refused.
    #[error("cannot open {address}: {cause}")]
    Refused {
        /// The address.
        address: String,
        /// The system's word for it.
        cause: String,
    },
}

/// Something that opens sockets.
pub trait Transport: Send + Sync + 'static {
    /// Listens and serves (REP). `open_requests_max` bounds the requests held open at a time.
    ///
    /// # Errors
    /// [`OpenError`] when the address cannot be had.
    fn serve(
        &self,
        address: &str,
        open_requests_max: usize,
        service: Arc<dyn Service>,
    ) -> Result<Box<dyn Server>, OpenError>;

    /// Connects to a server (REQ), in the background.
    ///
    /// # Errors
    /// [`OpenError`] when the address makes no sense.
    fn connect(&self, address: &str) -> Result<Arc<dyn Caller>, OpenError>;

    /// The same, and notices within about five seconds a connection that died silently while calls are
    /// open: `probe` is a request that the server answers at once, however long others wait.
    ///
    /// # Errors
    /// As for [`Transport::connect`].
    fn connect_probed(&self, address: &str, probe: Vec<u8>) -> Result<Arc<dyn Caller>, OpenError>;

    /// Talks to a server (REQ) on one thread.
    ///
    /// # Errors
    /// [`OpenError`] when the address makes no sense.
    fn blocking_req(&self, address: &str) -> Result<Box<dyn BlockingReq>, OpenError>;

    /// Listens on a bus (BUS). `joined` makes the message that a new connection hears at once.
    ///
    /// # Errors
    /// [`OpenError`] when the address cannot be had.
    fn announcer(&self, address: &str, joined: OnJoined) -> Result<Box<dyn Announcer>, OpenError>;

    /// Dials a bus in the background and hands each message to `heard`, which must not block.
    ///
    /// # Errors
    /// [`OpenError`] when the address makes no sense.
    fn subscriber(&self, address: &str, heard: OnMessage) -> Result<Box<dyn Subscriber>, OpenError>;

    /// Dials an address in the background, to send messages there (PAIR).
    ///
    /// # Errors
    /// [`OpenError`] when the address makes no sense, or the system refuses.
    fn pair_sender(&self, address: &str) -> Result<Box<dyn PairSender>, OpenError>;

    /// Listens for messages of at most `message_max` bytes (PAIR), at any free port if the address's
    /// is 0.
    ///
    /// # Errors
    /// [`OpenError`] when the address cannot be had.
    fn inbox(&self, address: &str, message_max: usize) -> Result<Box<dyn Inbox>, OpenError>;
}
