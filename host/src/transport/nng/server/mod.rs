//! The REP socket: a slot, which is one context and one `Aio`, for each open request.
//!
//! A slot receives, then is open until its request is answered, then sends, then receives again.
//! Not one socket in raw mode, because that drops answers without a word when 64 wait for a peer.
//! Invariants:
//!
//! - A slot's `open` holds the generation of its open request, or 0. Whoever swaps it for 0, and
//!   only they, posts the slot's next operation. So an answer that is late or second does nothing.
//! - While a request is being handed to the service, its peer's `gone` is held back: that it is gone
//!   is the last that the service hears of a peer, and nothing of that peer is open then.
//! - Slots are made while one takes the last idle one's request, so one is always idle until their
//!   bound is reached. `REFUSALS` slots above the bound of open requests are there to say no.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::Duration,
};

use ::nng::{
    Error, Message, Pipe, PipeEvent, Protocol, Socket,
    options::{MaxTtl, Options as _},
};

use self::{connection::Connection, sending::Sending, slot::Slot};
use super::{
    super::{FRAME_MAX, OPEN_REQUESTS_MAX, OpenError, Server, Service},
    Gate, close_off_callbacks, guarded, new_socket, prepare, refused, settle,
};
use crate::lock::lock;

mod slot;

mod connection;

mod sending;

/// How many bytes of answers wait on one address for peers to read them.
const UNSENT_MAX: usize = 1024 * 1024 * 1024;
/// How many slots wait for requests at the start.
const IDLE_AT_START: usize = 64;
/// How many slots beyond the bound of open requests there are to refuse with.
const REFUSALS: usize = 64;
/// How many hops a request may have come by: devices that forward are rare, and never many.
const HOPS_MAX: u8 = 8;

/// What bounds a server socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How many requests may be open at a time.
    pub(super) open_requests_max: usize,
    /// How long an answer may wait for a peer that reads none, before its connection is closed.
    pub(super) answer_limit: Duration,
    /// How much may wait for peers to read it, in bytes, before the one that lets most wait is cut off.
    pub(super) unsent_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { open_requests_max: OPEN_REQUESTS_MAX, answer_limit: Duration::from_mins(1), unsent_max: UNSENT_MAX }
    }
}

/// A listening REP socket. Dropped, it closes; from then on the service hears nothing more.
pub(super) struct NngServer {
    shared: Arc<Shared>,
}

impl NngServer {
    /// Opens the socket and serves.
    pub(super) fn listen(address: &str, bounds: Bounds, service: Arc<dyn Service>) -> Result<Self, OpenError> {
        let fail = |error| refused(address, error);
        let socket = new_socket(Protocol::Rep0, address)?;
        prepare(&socket, address, FRAME_MAX)?;
        socket.set_opt::<MaxTtl>(HOPS_MAX).map_err(fail)?;
        let server = Self { shared: Arc::new(Shared::new(socket, bounds, service)) };
        server.shared.watch_connections().map_err(fail)?;
        for _ in 0..IDLE_AT_START {
            server.shared.gate.pass(|| server.shared.add_slot()).transpose().map_err(fail)?;
        }
        server.shared.socket.listen(address).map_err(fail)?;
        Ok(server)
    }
}

impl Server for NngServer {
    fn flush(&self, limit: Duration) {
        self.shared.sending.wait_for_none(limit);
    }

    fn open_requests(&self) -> usize {
        self.shared.open.load(Relaxed)
    }
}

impl Drop for NngServer {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        close_off_callbacks(move || shared.close());
    }
}

/// What the slots of one socket share.
struct Shared {
    socket: Socket,
    gate: Gate,
    service: Arc<dyn Service>,
    bounds: Bounds,
    /// All slots, until the socket is closed. They point back at this.
    slots: Mutex<Vec<Arc<Slot>>>,
    /// How many slots receive.
    idle: AtomicUsize,
    /// How many requests are with the service, unanswered.
    open: AtomicUsize,
    sending: Sending,
    /// What waits for peers to read it, in bytes.
    unsent: AtomicUsize,
    connections: Mutex<HashMap<Pipe, Arc<Connection>>>,
}

impl Shared {
    fn new(socket: Socket, bounds: Bounds, service: Arc<dyn Service>) -> Self {
        Self {
            socket,
            gate: Gate::default(),
            service,
            bounds,
            slots: Mutex::default(),
            idle: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            sending: Sending::new(),
            unsent: AtomicUsize::new(0),
            connections: Mutex::default(),
        }
    }

    /// Keeps `connections` right. `AddPre` comes before the first request.
    fn watch_connections(self: &Arc<Self>) -> Result<(), Error> {
        let shared = Arc::downgrade(self);
        self.socket.pipe_notify(move |pipe, event| {
            let Some(shared) = shared.upgrade() else { return };
            match event {
                PipeEvent::AddPre => shared.came(pipe),
                PipeEvent::RemovePost => shared.went(pipe),
                _ => {}
            }
        })
    }

    fn came(&self, pipe: Pipe) {
        lock(&self.connections).insert(pipe, Arc::new(Connection::new(pipe)));
    }

    fn went(&self, pipe: Pipe) {
        let Some(connection) = lock(&self.connections).remove(&pipe) else { return };
        for (slot, generation) in connection.leave() {
            if slot.claim(generation) {
                slot.receive();
            }
        }
        self.exit(&connection);
    }

    /// Ends what `enter` or `leave` of a connection began. Who is last of one that is gone says so.
    fn exit(&self, connection: &Connection) {
        if connection.exit() && self.gate.is_open() {
            guarded("gone", || self.service.gone(connection.peer()));
        }
    }

    fn connection(&self, message: &mut Message) -> Option<Arc<Connection>> {
        let pipe = message.pipe()?;
        lock(&self.connections).get(&pipe).cloned()
    }

    /// Makes one more slot, if there is room, and lets it receive. Inside the gate.
    fn add_slot(self: &Arc<Self>) -> Result<bool, Error> {
        let mut slots = lock(&self.slots);
        let has_room = slots.len() < self.bounds.open_requests_max.saturating_add(REFUSALS);
        if has_room {
            let slot = Slot::new(self, slots.len())?;
            slots.push(Arc::clone(&slot));
            drop(slots);
            slot.post_receive();
        }
        Ok(has_room)
    }

    /// Counts a slot out of the idle ones, and makes another if it was the last.
    fn leave_idle(self: &Arc<Self>) {
        if self.idle.fetch_sub(1, AcqRel) > 1 {
            return;
        }
        match self.gate.pass(|| self.add_slot()) {
            Some(Ok(false)) => self.cut_off_the_deafest(),
            Some(Err(error)) => tracing::error!(%error, "no room for another open request"),
            Some(Ok(true)) | None => {}
        }
    }

    /// Notes that so much waits for a peer to read it.
    fn owe(&self, to: &Connection, bytes: usize) {
        to.owe(bytes);
        if self.unsent.fetch_add(bytes, Relaxed) > self.bounds.unsent_max {
            self.cut_off_the_deafest();
        }
    }

    /// Notes that so much no longer waits.
    fn settle(&self, to: &Connection, bytes: usize) {
        to.settle(bytes);
        self.unsent.fetch_sub(bytes, Relaxed);
    }

    /// Closes the connection of the peer that lets most wait, as it takes the room of others. One
    /// that is being closed gives its room back in a moment, so that nobody else has to go.
    fn cut_off_the_deafest(&self) {
        let deafest = lock(&self.connections).values().max_by_key(|connection| connection.unsent()).cloned();
        if let Some(deafest) = deafest.filter(|connection| connection.unsent() > 0)
            && deafest.cut_off()
        {
            tracing::warn!(peer = deafest.peer().0, "a peer reads no answers, and others need its room: disconnected");
        }
    }

    /// Counts one more request open, if there is room.
    fn admit(&self) -> bool {
        let room = |open| (open < self.bounds.open_requests_max).then_some(open + 1);
        self.open.fetch_update(Relaxed, Relaxed, room).is_ok()
    }

    /// The closing order that NNG needs. Not on a callback thread.
    fn close(&self) {
        self.gate.shut();
        let slots = mem::take(&mut *lock(&self.slots));
        settle(slots.iter().filter_map(|slot| slot.aio()));
        for slot in &slots {
            slot.close();
        }
        self.socket.close();
        lock(&self.connections).clear();
    }
}
