//! One connection, what it has open, and when the service is told that it is gone.

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

/// One connection.
pub(super) struct PeerConnection {
    peer: Peer,
    pipe: Pipe,
    requests: Mutex<Requests>,
    /// What waits for this peer to read it, in bytes.
    unsent: AtomicUsize,
    /// It is being closed, for that or for another reason.
    cut: AtomicBool,
    /// Its requests that are with the service, unanswered.
    open: AtomicUsize,
    /// The messages and bytes that came in. Whole messages only.
    messages: AtomicU64,
    bytes: AtomicU64,
    /// How far the message is that comes in.
    pub(super) progress: Mutex<FrameProgress>,
    remote: Option<SocketAddr>,
}

/// What stands before the body of a message that came directly: its length and the request's id.
const AROUND: u64 = 8 + 4;

/// What one connection has asked.
#[derive(Default)]
struct Requests {
    /// The open ones by their slot's place, with their generation.
    open: HashMap<usize, (Arc<ReplyContext>, u64)>,
    /// How many are being handed to the service right now, or taken back from a peer that is gone.
    busy: usize,
    /// Whether the service knows this peer.
    known: bool,
    gone: bool,
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
            cut: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            progress: Mutex::default(),
            remote: remote(pipe),
        }
    }

    /// Where its peer is, if that is known.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// The host of its peer: an address, of IPv6 all those of a network, as one host has many.
    pub(super) fn host(&self) -> Option<IpAddr> {
        let host = self.remote?.ip().to_canonical();
        Some(match host {
            IpAddr::V4(_) => host,
            IpAddr::V6(host) => IpAddr::V6(Ipv6Addr::from_bits(host.to_bits() & !u128::from(u64::MAX))),
        })
    }

    /// Notes that a message has come in, with a body of this size.
    pub(super) fn take(&self, size: usize) {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        self.messages.fetch_add(1, Relaxed);
        self.bytes.fetch_add(size.saturating_add(AROUND), Relaxed);
    }

    /// What has come in.
    pub(super) fn taken(&self) -> CompletedMessages {
        CompletedMessages { messages: self.messages.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }

    /// How many of its requests are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// Begins to hand a request to the service, unless the peer is gone.
    pub(super) fn enter(&self, context: &Arc<ReplyContext>, generation: u64) -> bool {
        let mut requests = lock(&self.requests);
        if requests.gone {
            return false;
        }
        requests.known = true;
        requests.busy += 1;
        requests.open.insert(context.index(), (Arc::clone(context), generation));
        self.open.fetch_add(1, Relaxed);
        true
    }

    /// Ends handing over. Whether the service must be told now that the peer is gone.
    pub(super) fn exit(&self) -> bool {
        let mut requests = lock(&self.requests);
        requests.busy -= 1;
        requests.gone && requests.known && requests.busy == 0
    }

    /// Notes that the request of this slot is no longer open.
    pub(super) fn forget(&self, index: usize) {
        if lock(&self.requests).open.remove(&index).is_some() {
            self.open.fetch_sub(1, Relaxed);
        }
    }

    /// Notes that the peer is gone, and gives what it had open, which counts on until the last of it is
    /// no longer so. [`Self::exit`] must follow.
    pub(super) fn leave(&self) -> Vec<(Arc<ReplyContext>, u64)> {
        let mut requests = lock(&self.requests);
        requests.gone = true;
        requests.busy += 1;
        mem::take(&mut requests.open).into_values().collect()
    }

    /// Notes that so much waits for this peer to read it.
    pub(super) fn add_unsent(&self, bytes: usize) {
        self.unsent.fetch_add(bytes, Relaxed);
    }

    /// Notes that so much no longer waits.
    pub(super) fn settle(&self, bytes: usize) {
        self.unsent.fetch_sub(bytes, Relaxed);
    }

    /// What waits for this peer to read it, in bytes.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.load(Relaxed)
    }

    /// Closes the connection, as one that takes the room of others. Whether it is the first to do so.
    pub(super) fn disconnect_once(&self) -> bool {
        !self.cut.swap(true, Relaxed) && self.disconnect()
    }

    /// Closes the connection, and has the first to do so log why.
    pub(super) fn give_up(&self, log: impl FnOnce(u64, Option<&str>)) {
        if self.disconnect_once() {
            let from = self.remote.map(|remote| remote.to_string());
            log(self.peer.0, from.as_deref());
        }
    }

    /// Closes the connection, unless it is gone: the crate panics over a pipe that is no more. While
    /// this holds the lock, NNG cannot forget the pipe, as it tells us before.
    fn disconnect(&self) -> bool {
        let requests = lock(&self.requests);
        if !requests.gone {
            self.pipe.close();
        }
        !requests.gone
    }
}

/// Where the peer of a pipe is. The crate leaves ports as they are on the wire.
fn remote(pipe: Pipe) -> Option<SocketAddr> {
    match pipe.get_opt::<RemAddr>().ok()? {
        ::nng::SocketAddr::Inet(address) => Some((*address.ip(), u16::from_be(address.port())).into()),
        ::nng::SocketAddr::Inet6(address) => Some((*address.ip(), u16::from_be(address.port())).into()),
        _ => None,
    }
}
