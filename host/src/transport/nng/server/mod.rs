//! The REP socket. Each open request has its own context and `Aio`.
//!
//! A context receives a request, keeps it open until the service replies, sends the reply, and receives again. The
//! socket is not used in raw mode, because that silently drops replies when 64 wait for a peer. Invariants:
//!
//! - A context's `open_generation` is the generation of its open request, or 0. Only the thread that sets it to 0 posts
//!   the context's next operation. So a late or second reply has no effect.
//! - While a request is being handed to the service, `Service::disconnected` for its peer is delayed: it is the last
//!   call for a peer, and no request of that peer is open then.
//! - A new context is created when the last idle one gets a request, so one is always idle until the limit is reached.
//!   `SPARE_CONTEXTS` contexts beyond the limit of open requests refuse requests, or serve a peer that has fewer open
//!   than another, which is disconnected in its favour: see `disconnect_largest_peer`.

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

use self::{connection::PeerConnection, context::ReplyContext, frames::Frames, in_flight_sends::InFlightSends};
use super::{
    super::{FRAME_MAX, OPEN_REQUESTS_MAX, OpenError, Server, Service},
    CloseGuard, cancel_all, catch_panic, close_off_callbacks, new_socket, open_error, prepare,
};
use crate::lock::lock;

mod context;

mod connection;

mod frames;

mod received;

mod in_flight_sends;

/// Maximum bytes of replies that wait on one address for peers to read them.
const UNSENT_MAX: usize = 1024 * 1024 * 1024;
/// Initial number of contexts that wait for requests.
const IDLE_AT_START: usize = 64;
/// Number of contexts beyond the limit of open requests, for refusals.
const SPARE_CONTEXTS: usize = 64;
/// Time for which requests of a host are refused immediately, after no other peer had more open requests.
const REFUSAL_CACHE_TIME: Duration = Duration::from_millis(100);
/// Maximum number of hops of a request: forwarding devices are rare.
const HOPS_MAX: u8 = 8;

/// Limits of a server socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerLimits {
    /// Maximum number of open requests.
    pub(super) open_requests_max: usize,
    /// Maximum time that a reply waits for a peer that reads none, before the peer is disconnected.
    pub(super) send_timeout: Duration,
    /// Maximum bytes that wait for peers to read them; beyond it the slowest reader is disconnected.
    pub(super) unsent_max: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { open_requests_max: OPEN_REQUESTS_MAX, send_timeout: Duration::from_mins(1), unsent_max: UNSENT_MAX }
    }
}

/// A listening REP socket. Dropping it closes it; the service is not called after that.
pub(super) struct NngServer {
    shared: Arc<ServerSocket>,
}

impl NngServer {
    /// Opens the socket and starts to serve.
    pub(super) fn listen(address: &str, limits: ServerLimits, service: Arc<dyn Service>) -> Result<Self, OpenError> {
        Self::listen_within(address, limits, service, Frames::of_process())
    }

    /// Like [`NngServer::listen`], with separate limits for incomplete messages.
    fn listen_within(
        address: &str,
        limits: ServerLimits,
        service: Arc<dyn Service>,
        frames: &Arc<Frames>,
    ) -> Result<Self, OpenError> {
        let fail = |error| open_error(address, error);
        let socket = new_socket(Protocol::Rep0, address)?;
        prepare(&socket, address, FRAME_MAX)?;
        socket.set_opt::<MaxTtl>(HOPS_MAX).map_err(fail)?;
        let server = Self { shared: Arc::new(ServerSocket::new(socket, limits, service, port(address))) };
        server.shared.watch_connections().map_err(fail)?;
        for _ in 0..IDLE_AT_START {
            server.shared.close_guard.run_if_open(|| server.shared.add_context()).transpose().map_err(fail)?;
        }
        server.shared.socket.listen(address).map_err(fail)?;
        frames.watch(&server.shared);
        Ok(server)
    }

    /// Listens with these limits for incomplete messages.
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
        self.shared.in_flight.wait_until_sent(limit);
    }

    fn open_requests(&self) -> usize {
        self.shared.open_count.load(Relaxed)
    }
}

impl Drop for NngServer {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        close_off_callbacks(move || shared.close());
    }
}

/// The socket, shared by its contexts.
struct ServerSocket {
    socket: Socket,
    close_guard: CloseGuard,
    service: Arc<dyn Service>,
    limits: ServerLimits,
    /// All contexts, until the socket is closed. They refer back to this.
    contexts: Mutex<Vec<Arc<ReplyContext>>>,
    /// Number of contexts that wait for a request.
    idle: AtomicUsize,
    /// Number of open requests.
    open_count: AtomicUsize,
    in_flight: InFlightSends,
    /// Bytes of replies that wait for peers to read them.
    unsent: AtomicUsize,
    connections: Mutex<HashMap<Pipe, Arc<PeerConnection>>>,
    /// When a request of a host with this many open requests was last refused, as no other peer had more.
    last_refusal: Mutex<Option<(Instant, Option<IpAddr>, usize)>>,
    port: u16,
}

impl ServerSocket {
    fn new(socket: Socket, limits: ServerLimits, service: Arc<dyn Service>, port: u16) -> Self {
        Self {
            socket,
            close_guard: CloseGuard::default(),
            service,
            limits,
            contexts: Mutex::default(),
            idle: AtomicUsize::new(0),
            open_count: AtomicUsize::new(0),
            in_flight: InFlightSends::new(),
            unsent: AtomicUsize::new(0),
            connections: Mutex::default(),
            last_refusal: Mutex::default(),
            port,
        }
    }

    /// Keeps `connections` up to date. `AddPre` precedes the first request.
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
        for (context, generation) in connection.mark_disconnected() {
            if context.claim(generation) {
                context.receive();
            }
        }
        // Done last, so that no other peer is disconnected while this one still frees its capacity.
        lock(&self.connections).remove(&pipe);
        self.end_handoff(&connection);
    }

    /// Ends what `begin_handoff` or `mark_disconnected` of a connection started. The last call for a disconnected peer
    /// notifies the service.
    fn end_handoff(&self, connection: &PeerConnection) {
        if connection.end_handoff() && self.close_guard.is_open() {
            catch_panic("disconnected", || self.service.disconnected(connection.peer()));
        }
    }

    fn connection(&self, message: &mut Message) -> Option<Arc<PeerConnection>> {
        let pipe = message.pipe()?;
        lock(&self.connections).get(&pipe).cloned()
    }

    /// Creates one more context, unless the limit is reached, and lets it receive. Call only while the close guard is
    /// open.
    fn add_context(self: &Arc<Self>) -> Result<bool, Error> {
        let mut contexts = lock(&self.contexts);
        let has_capacity = contexts.len() < self.limits.open_requests_max.saturating_add(SPARE_CONTEXTS);
        if has_capacity {
            let context = ReplyContext::new(self, contexts.len())?;
            contexts.push(Arc::clone(&context));
            drop(contexts);
            context.post_receive();
        }
        Ok(has_capacity)
    }

    /// Counts a context as busy, and creates another if it was the last idle one.
    fn mark_busy(self: &Arc<Self>) {
        if self.idle.fetch_sub(1, AcqRel) > 1 {
            return;
        }
        match self.close_guard.run_if_open(|| self.add_context()) {
            Some(Ok(false)) => self.disconnect_slowest_reader(),
            Some(Err(error)) => tracing::error!(%error, "cannot create another context for requests"),
            Some(Ok(true)) | None => {}
        }
    }

    /// Counts bytes that wait for a peer to read them.
    fn add_unsent(&self, to: &PeerConnection, bytes: usize) {
        to.add_unsent(bytes);
        if self.unsent.fetch_add(bytes, Relaxed) > self.limits.unsent_max {
            self.disconnect_slowest_reader();
        }
    }

    /// Subtracts bytes that no longer wait.
    fn remove_unsent(&self, to: &PeerConnection, bytes: usize) {
        to.remove_unsent(bytes);
        self.unsent.fetch_sub(bytes, Relaxed);
    }

    /// Disconnects the peer with the most unread replies, as they use the capacity of others. If it is being
    /// disconnected already, its capacity will soon be free, and no other is disconnected.
    fn disconnect_slowest_reader(&self) {
        let slowest = lock(&self.connections).values().max_by_key(|connection| connection.unsent()).cloned();
        if let Some(slowest) = slowest.filter(|connection| connection.unsent() > 0)
            && slowest.disconnect_once()
        {
            tracing::warn!(
                peer = slowest.peer().0,
                "disconnected a peer that does not read its replies, as others need the capacity"
            );
        }
    }

    /// Counts one more open request, if there is capacity or another peer can be disconnected for it.
    fn admit(&self, from: &PeerConnection) -> bool {
        let within_limit = |open| (open < self.limits.open_requests_max).then_some(open + 1);
        if self.open_count.fetch_update(Relaxed, Relaxed, within_limit).is_ok() {
            return true;
        }
        let has_capacity = self.disconnect_largest_peer(from);
        if has_capacity {
            // Beyond the limit, but only until the other peer is disconnected, and by at most `SPARE_CONTEXTS`.
            self.open_count.fetch_add(1, Relaxed);
        }
        has_capacity
    }

    /// Disconnects the peer with the most open requests, if it has more than this one: a peer of the host with the
    /// most, if that is another host. If that peer is being disconnected already, no other is.
    fn disconnect_largest_peer(&self, from: &PeerConnection) -> bool {
        let (host, open) = (from.host(), from.open_count());
        let is_recent =
            |(at, of, least): (Instant, _, _)| of == host && open >= least && at.elapsed() < REFUSAL_CACHE_TIME;
        if lock(&self.last_refusal).is_some_and(is_recent) {
            return false;
        }
        let Some(largest) = self.find_largest_peer(host, open) else {
            *lock(&self.last_refusal) = Some((Instant::now(), host, open));
            return false;
        };
        let count = largest.open_count();
        largest.disconnect_logged(|peer, from| {
            let why = "as it has the most open requests, and others need capacity";
            tracing::warn!(peer, from, open = count, "disconnected a peer, {why}");
        });
        true
    }

    /// Finds the connection to disconnect in favour of a peer of this host with this many open requests.
    fn find_largest_peer(&self, host: Option<IpAddr>, open: usize) -> Option<Arc<PeerConnection>> {
        let connections = self.connections();
        let mut hosts = HashMap::<Option<IpAddr>, usize>::new();
        for connection in &connections {
            *hosts.entry(connection.host()).or_default() += connection.open_count();
        }
        let own = hosts.get(&host).copied().unwrap_or_default();
        let (busiest_host, count) = hosts.into_iter().max_by_key(|(_, open)| *open)?;
        let is_other = count > own + 1;
        let from = if is_other { busiest_host } else { host };
        let largest = connections.into_iter().filter(|one| one.host() == from).max_by_key(|one| one.open_count())?;
        (largest.open_count() > if is_other { 0 } else { open + 1 }).then_some(largest)
    }

    /// The current connections.
    fn connections(&self) -> Vec<Arc<PeerConnection>> {
        lock(&self.connections).values().cloned().collect()
    }

    /// Whether an idle context receives complete messages, so that none has to wait.
    fn is_receiving(&self) -> bool {
        self.idle.load(Relaxed) > 0
    }

    /// Closes in the order that NNG needs. Do not call it on a callback thread.
    fn close(&self) {
        self.close_guard.close();
        let contexts = mem::take(&mut *lock(&self.contexts));
        cancel_all(contexts.iter().filter_map(|context| context.aio()));
        for context in &contexts {
            context.close();
        }
        self.socket.close();
        lock(&self.connections).clear();
    }
}
