//! Sockets that carry bytes: the traits of each kind, and their implementations.
//!
//! There are four kinds of sockets: request/reply, a blocking request socket, a bus and a pair. [`nng`] implements them
//! with NNG, except for the blocking request socket, which is a plain TCP stream. Another library for the same
//! protocols can replace NNG by implementing [`Transport`]. Invariants: a [`Service`] never blocks, every request gets
//! exactly one reply, and no method waits longer than its time limit.

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

/// Maximum size of a document or of a frame's body, in bytes.
pub const PAYLOAD_MAX: usize = 16 * 1024 * 1024;
/// Maximum size of a message that a socket receives: a payload and its envelope, in bytes.
pub const FRAME_MAX: usize = PAYLOAD_MAX + 64 * 1024;
/// Maximum size of the header before a body: eight hops and a request id, in bytes.
pub const HEADER_MAX: usize = 64;
/// Maximum size of a request's body that fits into a frame with its header, in bytes.
pub(crate) const BODY_MAX: usize = FRAME_MAX - HEADER_MAX;
/// Transfer time of a byte on the slowest supported network.
const BYTE_TIME_NS: u64 = 1_500;
/// First and maximum delay before a lost connection is dialed again.
const RECONNECT_MIN: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_millis(500);
/// Default maximum number of open requests of one server socket.
pub const OPEN_REQUESTS_MAX: usize = 65_536;

/// Maximum transfer time of a message of this size: 25 s for the largest one. Add it to the timeout of a request.
pub fn transfer_time(bytes: usize) -> Duration {
    Duration::from_nanos((bytes as u64).saturating_mul(BYTE_TIME_NS))
}

/// A connection to a server socket. Numbers are unique within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u64);

/// The reason why a socket rejects a request without a reply of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The limit of open requests is reached.
    Busy,
    /// The service panicked.
    Internal,
}

/// Handles the requests of a server socket. Called on the transport's threads: it must never block.
pub trait Service: Send + Sync + 'static {
    /// Handles a request. Send the reply through `reply`, now or later, from any thread.
    fn request(&self, from: Peer, body: &[u8], reply: ReplyHandle);

    /// Encodes the reply to a rejected request, in the codec of that request.
    fn refuse(&self, body: &[u8], why: Rejection) -> Vec<u8>;

    /// Called when a peer that has made requests has disconnected, and its open requests are closed. It is the last
    /// call for this peer.
    fn disconnected(&self, peer: Peer);
}

/// Sends the reply to a request. Dropped without one, it sends an empty reply, so that no request blocks its socket.
pub struct ReplyHandle(Option<Arc<dyn ReplySender>>);

/// A transport's part of a [`ReplyHandle`].
pub trait ReplySender: Send + Sync {
    /// Sends the reply, unless one was sent before or the peer has disconnected.
    fn send(&self, body: &[u8]);

    /// Whether the peer still waits for this reply.
    fn is_open(&self) -> bool;
}

impl ReplyHandle {
    /// Wraps a transport's sender.
    pub fn new(sender: Arc<dyn ReplySender>) -> Self {
        Self(Some(sender))
    }

    /// Sends the reply. Does nothing if the peer has disconnected.
    pub fn send(mut self, body: &[u8]) {
        if let Some(sender) = self.0.take() {
            sender.send(body);
        }
    }

    /// Whether the peer still waits for this reply.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_some_and(|sender| sender.is_open())
    }
}

impl Drop for ReplyHandle {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            sender.send(&[]);
        }
    }
}

impl fmt::Debug for ReplyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplyHandle({})", if self.is_open() { "open" } else { "closed" })
    }
}

/// A server socket that listens until it is dropped. Dropping it closes open requests and waits for running calls of
/// the service, so do not drop it under a lock that the service acquires; on a transport thread, another thread closes
/// it. The service is not called after that.
pub trait Server: Send + Sync {
    /// Blocks until the kernel has every reply sent so far, at most `limit`. For a large reply it waits half a second,
    /// as NNG does not report when its last byte was sent.
    fn flush(&self, limit: Duration);

    /// Number of open requests.
    fn open_requests(&self) -> usize;
}

/// A call that failed without a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No reply within the time limit. The server may have handled the request anyway.
    #[error("no reply from {address} within {} s", crate::clock::seconds(*waited))]
    TimedOut {
        /// The server's address.
        address: String,
        /// The time that was waited.
        waited: Duration,
    },
    /// The message is larger than a server accepts, and was not sent.
    #[error("the message of {size} bytes is over the limit of {PAYLOAD_MAX} bytes")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Too many calls are open on this socket. This one was not sent.
    #[error("{open} calls are open already, which is the limit")]
    TooMany {
        /// Maximum number of open calls.
        open: usize,
    },
    /// The socket was closed while the call was open.
    #[error("the connection to {address} was closed")]
    Closed {
        /// The server's address.
        address: String,
    },
}

/// Handles the end of a call; runs on a transport thread and must not block.
pub type OnReply = Box<dyn FnOnce(Result<&[u8], CallError>) + Send>;

/// A client socket for any number of concurrent calls to one server. It connects in the background, also after
/// each loss, and repeats open calls over the new connection. While a call is open, a slow connection attempt is
/// started again about every second. Calls that are open when it is dropped end as closed.
pub trait Caller: Send + Sync {
    /// Sends a request, and calls `on_reply` exactly once: with the reply, or with an error after `limit`.
    fn call(&self, body: &[u8], limit: Duration, on_reply: OnReply);

    /// Whether there is a connection now.
    fn is_connected(&self) -> bool;

    /// The address of the server.
    fn address(&self) -> &str;
}

/// A client socket for one thread, which blocks on one request at a time: faster than a [`Caller`], as no reply is
/// handed from thread to thread. It connects with the first request and after each loss, and repeats the open request
/// over the new connection.
pub trait BlockingReq: Send {
    /// Sends a request, calls `on_sent` each time that it was sent, and blocks until the reply, which it passes to
    /// `read`: at most `limit`, and [`transfer_time`] for both messages. After a timeout, the next request uses a new
    /// connection.
    ///
    /// # Errors
    /// [`CallError`] without a reply, or without a connection for a second. The server may have handled the request
    /// anyway.
    fn request(
        &mut self,
        body: &[u8],
        limit: Duration,
        on_sent: &mut dyn FnMut(),
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<(), CallError>;

    /// The address of the server.
    fn address(&self) -> &str;
}

/// Creates the message for new connections; runs on a transport thread and must not block.
pub type OnJoined = Box<dyn Fn() -> Vec<u8> + Send + Sync>;
/// Handles an announcement; runs on a transport thread and must not block.
pub type OnMessage = Box<dyn Fn(&[u8]) + Send + Sync>;

/// A bus socket that sends announcements to its subscribers. Best effort: repeat them.
pub trait Announcer: Send + Sync {
    /// Sends to every connection.
    fn announce(&self, message: &[u8]);
}

/// Receives the announcements of one bus until it is dropped.
pub trait Subscriber: Send + Sync {}

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The connection was lost, or was refused by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was lost")]
pub struct Disconnected;

/// A socket that dials one address and sends one-way messages there (PAIR). It connects once, in the background, and
/// cannot be used after that connection was lost. Its methods have no timeout: wrap them in one.
pub trait PairSender: Send + Sync {
    /// Waits for the connection.
    fn connected(&self) -> BoxFuture<'_, Result<(), Disconnected>>;

    /// Waits until the connection was lost.
    fn disconnected(&self) -> BoxFuture<'_, ()>;

    /// Sends a message, and waits until the connection has accepted it, which it does once it has sent the previous
    /// one. [`Disconnected`] means that it was not accepted. Send one message at a time; after a cancelled `send`
    /// the socket cannot be used.
    fn send<'a>(&'a self, body: &'a [u8]) -> BoxFuture<'a, Result<(), Disconnected>>;
}

/// A socket that listens for one-way messages (PAIR) from one peer at a time. Messages beyond the few that it
/// buffers wait with the peer.
pub trait Inbox: Send + Sync {
    /// Its address, with the actual port if it was opened with port 0.
    fn address(&self) -> &str;

    /// Polls for the next message. `None` when the socket has failed.
    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>>;
}

/// A socket that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The string is not a supported address.
    #[error("'{address}' is not an address: write it like tcp://127.0.0.1:5555")]
    BadAddress {
        /// The string.
        address: String,
    },
    /// The host is unknown, or not this machine.
    #[error("cannot listen on {address}: this machine has no such address")]
    NotHere {
        /// The address.
        address: String,
    },
    /// Another program listens there.
    #[error("{address} is in use by another program")]
    InUse {
        /// The address.
        address: String,
    },
    /// Another error of the system.
    #[error("cannot open {address}: {cause}")]
    Refused {
        /// The address.
        address: String,
        /// The system's message.
        cause: String,
    },
}

/// Opens sockets.
pub trait Transport: Send + Sync + 'static {
    /// Listens and serves (REP), with at most `open_requests_max` open requests.
    ///
    /// # Errors
    /// [`OpenError`] when the socket cannot listen there.
    fn serve(
        &self,
        address: &str,
        open_requests_max: usize,
        service: Arc<dyn Service>,
    ) -> Result<Box<dyn Server>, OpenError>;

    /// Connects to a server in the background (REQ).
    ///
    /// # Errors
    /// [`OpenError`] when the address is invalid.
    fn connect(&self, address: &str) -> Result<Arc<dyn Caller>, OpenError>;

    /// Like [`Transport::connect`], and detects within about five seconds that the connection of open calls has died
    /// silently: `probe` is a request to which the server replies immediately, even while others wait.
    ///
    /// # Errors
    /// As for [`Transport::connect`].
    fn connect_probed(&self, address: &str, probe: Vec<u8>) -> Result<Arc<dyn Caller>, OpenError>;

    /// Creates a request socket for one thread (REQ).
    ///
    /// # Errors
    /// [`OpenError`] when the address is invalid.
    fn blocking_req(&self, address: &str) -> Result<Box<dyn BlockingReq>, OpenError>;

    /// Listens on a bus (BUS). `joined` creates the message that is sent when a peer connects.
    ///
    /// # Errors
    /// [`OpenError`] when the socket cannot listen there.
    fn announcer(&self, address: &str, joined: OnJoined) -> Result<Box<dyn Announcer>, OpenError>;

    /// Dials a bus in the background and passes each message to `on_message`, which must not block.
    ///
    /// # Errors
    /// [`OpenError`] when the address is invalid.
    fn subscriber(&self, address: &str, on_message: OnMessage) -> Result<Box<dyn Subscriber>, OpenError>;

    /// Dials an address in the background, to send messages there (PAIR).
    ///
    /// # Errors
    /// [`OpenError`] when the address is invalid or the system refuses.
    fn pair_sender(&self, address: &str) -> Result<Box<dyn PairSender>, OpenError>;

    /// Listens for messages of at most `message_max` bytes (PAIR), on any free port if the port is 0.
    ///
    /// # Errors
    /// [`OpenError`] when the socket cannot listen there.
    fn inbox(&self, address: &str, message_max: usize) -> Result<Box<dyn Inbox>, OpenError>;
}
