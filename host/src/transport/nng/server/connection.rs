//! A connection of a server socket: its open requests, and when the service is notified that it was closed.

use std::{
    collections::HashMap,
    mem,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use ::nng::{
    Pipe,
    options::{Options as _, RemAddr},
};

use super::{
    super::super::Peer,
    context::ReplyContext,
    frames::{CompletedMessages, FrameProgress},
};
use crate::lock::lock;

/// A connection to a peer.
pub(super) struct PeerConnection {
    peer: Peer,
    pipe: Pipe,
    requests: Mutex<PeerRequests>,
    /// Bytes of replies that wait for this peer to read them.
    unsent: AtomicUsize,
    /// Whether it is being closed.
    is_closing: AtomicBool,
    /// Number of its open requests.
    open_count: AtomicUsize,
    /// Number and bytes of the complete messages that were received.
    messages: AtomicU64,
    bytes: AtomicU64,
    /// Progress of the message that is being received.
    pub(super) progress: Mutex<FrameProgress>,
    remote: Option<SocketAddr>,
}

/// Bytes before the body of a message without further hops: its length and the request id.
const HEADER_LEN: u64 = 8 + 4;

/// The requests of one connection.
#[derive(Default)]
struct PeerRequests {
    /// The open requests by the index of their context, with their generation.
    open: HashMap<usize, (Arc<ReplyContext>, u64)>,
    /// Number of calls in progress that hand a request to the service, or close the requests of a disconnected peer.
    handoffs: usize,
    /// Whether the service knows this peer.
    is_known: bool,
    is_disconnected: bool,
}

impl PeerConnection {
    pub(super) fn new(pipe: Pipe) -> Self {
        static LATEST: AtomicU64 = AtomicU64::new(0);
        let peer = Peer(LATEST.fetch_add(1, Relaxed) + 1);
        Self {
            peer,
            pipe,
            requests: Mutex::default(),
            unsent: AtomicUsize::new(0),
            is_closing: AtomicBool::new(false),
            open_count: AtomicUsize::new(0),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            progress: Mutex::default(),
            remote: remote(pipe),
        }
    }

    /// The address of its peer, if known.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// The host of its peer: an IPv4 address, or a /64 network of IPv6, as one host has many of its addresses.
    pub(super) fn host(&self) -> Option<IpAddr> {
        let host = self.remote?.ip().to_canonical();
        Some(match host {
            IpAddr::V4(_) => host,
            IpAddr::V6(host) => IpAddr::V6(Ipv6Addr::from_bits(host.to_bits() & !u128::from(u64::MAX))),
        })
    }

    /// Counts a received message with a body of this size.
    pub(super) fn count_message(&self, size: usize) {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        self.messages.fetch_add(1, Relaxed);
        self.bytes.fetch_add(size.saturating_add(HEADER_LEN), Relaxed);
    }

    /// The complete messages that were received.
    pub(super) fn completed(&self) -> CompletedMessages {
        CompletedMessages { messages: self.messages.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }

    /// Number of its open requests.
    pub(super) fn open_count(&self) -> usize {
        self.open_count.load(Relaxed)
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// Starts to hand a request to the service. Returns false if the peer has disconnected.
    pub(super) fn begin_handoff(&self, context: &Arc<ReplyContext>, generation: u64) -> bool {
        let mut requests = lock(&self.requests);
        if requests.is_disconnected {
            return false;
        }
        requests.is_known = true;
        requests.handoffs += 1;
        requests.open.insert(context.index(), (Arc::clone(context), generation));
        self.open_count.fetch_add(1, Relaxed);
        true
    }

    /// Ends the handoff. Returns whether the service must now be notified that the peer has disconnected.
    pub(super) fn end_handoff(&self) -> bool {
        let mut requests = lock(&self.requests);
        requests.handoffs -= 1;
        requests.is_disconnected && requests.is_known && requests.handoffs == 0
    }

    /// Removes the request of this context, which is no longer open.
    pub(super) fn remove_request(&self, index: usize) {
        if lock(&self.requests).open.remove(&index).is_some() {
            self.open_count.fetch_sub(1, Relaxed);
        }
    }

    /// Marks the peer as disconnected, and returns its open requests. They count as open until the last of them is
    /// closed. [`Self::end_handoff`] must follow.
    pub(super) fn mark_disconnected(&self) -> Vec<(Arc<ReplyContext>, u64)> {
        let mut requests = lock(&self.requests);
        requests.is_disconnected = true;
        requests.handoffs += 1;
        mem::take(&mut requests.open).into_values().collect()
    }

    /// Counts bytes that wait for this peer to read them.
    pub(super) fn add_unsent(&self, bytes: usize) {
        self.unsent.fetch_add(bytes, Relaxed);
    }

    /// Subtracts bytes that no longer wait.
    pub(super) fn remove_unsent(&self, bytes: usize) {
        self.unsent.fetch_sub(bytes, Relaxed);
    }

    /// Bytes that wait for this peer to read them.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.load(Relaxed)
    }

    /// Closes the connection. Returns whether this call was the first to do so.
    pub(super) fn disconnect_once(&self) -> bool {
        !self.is_closing.swap(true, Relaxed) && self.close_pipe()
    }

    /// Closes the connection, and calls `log` if this call was the first to do so.
    pub(super) fn disconnect_logged(&self, log: impl FnOnce(u64, Option<&str>)) {
        if self.disconnect_once() {
            let from = self.remote.map(|remote| remote.to_string());
            log(self.peer.0, from.as_deref());
        }
    }

    /// Closes the connection, unless it was closed: the `nng` crate panics when a freed pipe is closed. NNG does not
    /// free it while this holds the lock, as `mark_disconnected` is called before.
    fn close_pipe(&self) -> bool {
        let requests = lock(&self.requests);
        if !requests.is_disconnected {
            self.pipe.close();
        }
        !requests.is_disconnected
    }
}

/// The address of a pipe's peer. The `nng` crate leaves ports in network byte order.
fn remote(pipe: Pipe) -> Option<SocketAddr> {
    match pipe.get_opt::<RemAddr>().ok()? {
        ::nng::SocketAddr::Inet(address) => Some((*address.ip(), u16::from_be(address.port())).into()),
        ::nng::SocketAddr::Inet6(address) => Some((*address.ip(), u16::from_be(address.port())).into()),
        _ => None,
    }
}
