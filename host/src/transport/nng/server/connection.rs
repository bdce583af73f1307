//! One connection, what it has open, and when the service is told that it is gone.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
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
        Self { peer, pipe, requests: Mutex::default() }
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

    /// Closes the connection, unless it is gone: the crate panics over a pipe that is no more. While
    /// this holds the lock, NNG cannot forget the pipe, as it tells us before.
    pub(super) fn disconnect(&self) {
        let requests = lock(&self.requests);
        if !requests.gone {
            self.pipe.close();
        }
    }
}
