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
//!   bound is reached. `REFUSALS` slots above the bound of open requests are there to say no, or to
//!   serve one that has less open than another, who has to go for it: see `make_room`.

use std::{
    collections::HashMap,
    mem,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::{Duration, Instant},
};

use ::nng::{
    Error, Message, Pipe, PipeEvent, Protocol, Socket,
    options::{MaxTtl, Options as _},
};

use self::{connection::PeerConnection, context::ReplyContext, frames::Frames, sending::Sending};
use super::{
    super::{FRAME_MAX, OPEN_REQUESTS_MAX, OpenError, Server, Service},
    Gate, close_off_callbacks, guarded, new_socket, prepare, refused, settle,
};
use crate::lock::lock;

mod context;

mod connection;

mod frames;

mod received;

mod sending;

/// How many bytes of answers wait on one address for peers to read them.
const UNSENT_MAX: usize = 1024 * 1024 * 1024;
/// How many slots wait for requests at the start.
const IDLE_AT_START: usize = 64;
/// How many slots beyond the bound of open requests there are to refuse with.
const REFUSALS: usize = 64;
/// How long it is remembered that nobody has more open than who asked for room.
const FAIR_FOR: Duration = Duration::from_millis(100);
/// How many hops a request may have come by: devices that forward are rare, and never many.
const HOPS_MAX: u8 = 8;

/// What bounds a server socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerLimits {
    /// How many requests may be open at a time.
    pub(super) open_requests_max: usize,
    /// How long an answer may wait for a peer that reads none, before its connection is closed.
    pub(super) answer_limit: Duration,
    /// How much may wait for peers to read it, in bytes, before the one that lets most wait is cut off.
    pub(super) unsent_max: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { open_requests_max: OPEN_REQUESTS_MAX, answer_limit: Duration::from_mins(1), unsent_max: UNSENT_MAX }
    }
}

/// A listening REP socket. Dropped, it closes; from then on the service hears nothing more.
pub(super) struct NngServer {
    shared: Arc<ServerSocket>,
}

impl NngServer {
    /// Opens the socket and serves.
    pub(super) fn listen(address: &str, bounds: ServerLimits, service: Arc<dyn Service>) -> Result<Self, OpenError> {
        Self::listen_within(address, bounds, service, Frames::of_process())
    }

    /// The same, with bounds of its own for incomplete messages.
    fn listen_within(
        address: &str,
        bounds: ServerLimits,
        service: Arc<dyn Service>,
        frames: &Arc<Frames>,
    ) -> Result<Self, OpenError> {
        let fail = |error| refused(address, error);
        let socket = new_socket(Protocol::Rep0, address)?;
        prepare(&socket, address, FRAME_MAX)?;
        socket.set_opt::<MaxTtl>(HOPS_MAX).map_err(fail)?;
        let server = Self { shared: Arc::new(ServerSocket::new(socket, bounds, service, port(address))) };
        server.shared.watch_connections().map_err(fail)?;
        for _ in 0..IDLE_AT_START {
            server.shared.gate.pass(|| server.shared.add_context()).transpose().map_err(fail)?;
        }
        server.shared.socket.listen(address).map_err(fail)?;
        frames.watch(&server.shared);
        Ok(server)
    }

    /// Listens with these bounds for incomplete messages.
    #[cfg(test)]
    pub(super) fn listen_with_frames(
        address: &str,
        service: Arc<dyn Service>,
        held_max: u64,
        time_max: Duration,
    ) -> Result<Self, OpenError> {
        let frames = Frames::new(frames::FrameLimits { held_max, time_max });
        Self::listen_within(address, ServerLimits::default(), service, &frames)
    }
}

/// The port of an address that has been checked.
fn port(address: &str) -> u16 {
    address.trim_end_matches('/').rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
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
struct ServerSocket {
    socket: Socket,
    gate: Gate,
    service: Arc<dyn Service>,
    bounds: ServerLimits,
    /// All slots, until the socket is closed. They point back at this.
    contexts: Mutex<Vec<Arc<ReplyContext>>>,
    /// How many slots receive.
    idle: AtomicUsize,
    /// How many requests are with the service, unanswered.
    open: AtomicUsize,
    sending: Sending,
    /// What waits for peers to read it, in bytes.
    unsent: AtomicUsize,
    connections: Mutex<HashMap<Pipe, Arc<PeerConnection>>>,
    /// When somebody of this host with so much open last asked for room, and nobody had more.
    fair: Mutex<Option<(Instant, Option<IpAddr>, usize)>>,
    port: u16,
}

impl ServerSocket {
    fn new(socket: Socket, bounds: ServerLimits, service: Arc<dyn Service>, port: u16) -> Self {
        Self {
            socket,
            gate: Gate::default(),
            service,
            bounds,
            contexts: Mutex::default(),
            idle: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            sending: Sending::new(),
            unsent: AtomicUsize::new(0),
            connections: Mutex::default(),
            fair: Mutex::default(),
            port,
        }
    }

    /// Keeps `connections` right. `AddPre` comes before the first request.
    fn watch_connections(self: &Arc<Self>) -> Result<(), Error> {
        let shared = Arc::downgrade(self);
        self.socket.pipe_notify(move |pipe, event| {
            let Some(shared) = shared.upgrade() else { return };
            match event {
                PipeEvent::AddPre => shared.on_connect(pipe),
                PipeEvent::RemovePost => shared.on_disconnect(pipe),
                _ => {}
            }
        })
    }

    fn on_connect(&self, pipe: Pipe) {
        lock(&self.connections).insert(pipe, Arc::new(PeerConnection::new(pipe)));
    }

    fn on_disconnect(&self, pipe: Pipe) {
        let Some(connection) = lock(&self.connections).get(&pipe).cloned() else { return };
        for (context, generation) in connection.leave() {
            if context.claim(generation) {
                context.receive();
            }
        }
        // Only now, so that nobody else has to make room while this one gives back what it had.
        lock(&self.connections).remove(&pipe);
        self.exit(&connection);
    }

    /// Ends what `enter` or `leave` of a connection began. Who is last of one that is gone says so.
    fn exit(&self, connection: &PeerConnection) {
        if connection.exit() && self.gate.is_open() {
            guarded("gone", || self.service.gone(connection.peer()));
        }
    }

    fn connection(&self, message: &mut Message) -> Option<Arc<PeerConnection>> {
        let pipe = message.pipe()?;
        lock(&self.connections).get(&pipe).cloned()
    }

    /// Makes one more slot, if there is room, and lets it receive. Inside the gate.
    fn add_context(self: &Arc<Self>) -> Result<bool, Error> {
        let mut contexts = lock(&self.contexts);
        let has_room = contexts.len() < self.bounds.open_requests_max.saturating_add(REFUSALS);
        if has_room {
            let context = ReplyContext::new(self, contexts.len())?;
            contexts.push(Arc::clone(&context));
            drop(contexts);
            context.post_receive();
        }
        Ok(has_room)
    }

    /// Counts a slot out of the idle ones, and makes another if it was the last.
    fn leave_idle(self: &Arc<Self>) {
        if self.idle.fetch_sub(1, AcqRel) > 1 {
            return;
        }
        match self.gate.pass(|| self.add_context()) {
            Some(Ok(false)) => self.disconnect_slowest_reader(),
            Some(Err(error)) => tracing::error!(%error, "no room for another open request"),
            Some(Ok(true)) | None => {}
        }
    }

    /// Notes that so much waits for a peer to read it.
    fn add_unsent(&self, to: &PeerConnection, bytes: usize) {
        to.add_unsent(bytes);
        if self.unsent.fetch_add(bytes, Relaxed) > self.bounds.unsent_max {
            self.disconnect_slowest_reader();
        }
    }

    /// Notes that so much no longer waits.
    fn settle(&self, to: &PeerConnection, bytes: usize) {
        to.settle(bytes);
        self.unsent.fetch_sub(bytes, Relaxed);
    }

    /// Closes the connection of the peer that lets most wait, as it takes the room of others. One
    /// that is being closed gives its room back in a moment, so that nobody else has to go.
    fn disconnect_slowest_reader(&self) {
        let deafest = lock(&self.connections).values().max_by_key(|connection| connection.unsent()).cloned();
        if let Some(deafest) = deafest.filter(|connection| connection.unsent() > 0)
            && deafest.disconnect_once()
        {
            tracing::warn!(peer = deafest.peer().0, "a peer reads no answers, and others need its room: disconnected");
        }
    }

    /// Counts one more request open, if there is room or can be made.
    fn admit(&self, from: &PeerConnection) -> bool {
        let room = |open| (open < self.bounds.open_requests_max).then_some(open + 1);
        if self.open.fetch_update(Relaxed, Relaxed, room).is_ok() {
            return true;
        }
        let has_room = self.make_room(from);
        if has_room {
            // Beyond the bound, but only until the other one is gone, and by no more than `REFUSALS`.
            self.open.fetch_add(1, Relaxed);
        }
        has_room
    }

    /// Disconnects the peer that has most open, if that is more than this one has: of the host that
    /// has most, if that is another one. One that is being disconnected gives its room back in a
    /// moment, so that nobody else has to go.
    fn make_room(&self, from: &PeerConnection) -> bool {
        let (host, open) = (from.host(), from.open());
        let is_known_fair = |(at, of, least): (Instant, _, _)| of == host && open >= least && at.elapsed() < FAIR_FOR;
        if lock(&self.fair).is_some_and(is_known_fair) {
            return false;
        }
        let Some(greatest) = self.greatest(host, open) else {
            *lock(&self.fair) = Some((Instant::now(), host, open));
            return false;
        };
        let count = greatest.open();
        greatest.give_up(|peer, from| {
            let why = "a peer has most of the open requests, and others need room";
            tracing::warn!(peer, from, open = count, "{why}: disconnected");
        });
        true
    }

    /// The connection that has to make room for one of this host with so much open.
    fn greatest(&self, host: Option<IpAddr>, open: usize) -> Option<Arc<PeerConnection>> {
        let connections = self.connections();
        let mut hosts = HashMap::<Option<IpAddr>, usize>::new();
        for connection in &connections {
            *hosts.entry(connection.host()).or_default() += connection.open();
        }
        let own = hosts.get(&host).copied().unwrap_or_default();
        let (largest, its) = hosts.into_iter().max_by_key(|(_, open)| *open)?;
        let is_other = its > own + 1;
        let from = if is_other { largest } else { host };
        let greatest = connections.into_iter().filter(|one| one.host() == from).max_by_key(|one| one.open())?;
        (greatest.open() > if is_other { 0 } else { open + 1 }).then_some(greatest)
    }

    /// The connections at this moment.
    fn connections(&self) -> Vec<Arc<PeerConnection>> {
        lock(&self.connections).values().cloned().collect()
    }

    /// Whether whole messages are received, and do not wait for a slot.
    fn is_receiving(&self) -> bool {
        self.idle.load(Relaxed) > 0
    }

    /// The closing order that NNG needs. Not on a callback thread.
    fn close(&self) {
        self.gate.shut();
        let contexts = mem::take(&mut *lock(&self.contexts));
        settle(contexts.iter().filter_map(|context| context.aio()));
        for context in &contexts {
            context.close();
        }
        self.socket.close();
        lock(&self.connections).clear();
    }
}
