//! One connection, what it has open, and when the service is told that it is gone.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use ::nng::Pipe;

use super::{super::super::Peer, slot::Slot};
use crate::lock::lock;

/// One connection.
pub(super) struct Connection {
    peer: Peer,
    pipe: Pipe,
    requests: Mutex<Requests>,
    /// What waits for this peer to read it, in bytes.
    unsent: AtomicUsize,
    /// It is being closed for that.
    cut: AtomicBool,
}

/// What one connection has asked.
#[derive(Default)]
struct Requests {
    /// The open ones by their slot's place, with their generation.
    open: HashMap<usize, (Arc<Slot>, u64)>,
    /// How many are being handed to the service right now, or taken back from a peer that is gone.
    busy: usize,
    /// Whether the service knows this peer.
    known: bool,
    gone: bool,
}

impl Connection {
    pub(super) fn new(pipe: Pipe) -> Self {
        static LATEST: AtomicU64 = AtomicU64::new(0);
        let peer = Peer(LATEST.fetch_add(1, Relaxed) + 1);
        Self { peer, pipe, requests: Mutex::default(), unsent: AtomicUsize::new(0), cut: AtomicBool::new(false) }
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// Begins to hand a request to the service, unless the peer is gone.
    pub(super) fn enter(&self, slot: &Arc<Slot>, generation: u64) -> bool {
        let mut requests = lock(&self.requests);
        if requests.gone {
            return false;
        }
        requests.known = true;
        requests.busy += 1;
        requests.open.insert(slot.index(), (Arc::clone(slot), generation));
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
        lock(&self.requests).open.remove(&index);
    }

    /// Notes that the peer is gone, and gives what it had open. [`Self::exit`] must follow.
    pub(super) fn leave(&self) -> Vec<(Arc<Slot>, u64)> {
        let mut requests = lock(&self.requests);
        requests.gone = true;
        requests.busy += 1;
        mem::take(&mut requests.open).into_values().collect()
    }

    /// Notes that so much waits for this peer to read it.
    pub(super) fn owe(&self, bytes: usize) {
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

    /// Closes the connection as one whose peer does not read. Whether it is the first to do so.
    pub(super) fn cut_off(&self) -> bool {
        let is_first = !self.cut.swap(true, Relaxed);
        if is_first {
            self.disconnect();
        }
        is_first
    }

    /// Closes the connection, unless it is gone: the crate panics over a pipe that is no more. While
    /// this holds the lock, NNG cannot forget the pipe, as it tells us before.
    fn disconnect(&self) {
        let requests = lock(&self.requests);
        if !requests.gone {
            self.pipe.close();
        }
    }
}
