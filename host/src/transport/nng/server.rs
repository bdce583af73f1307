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
    cell::Cell,
    collections::HashMap,
    mem,
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Relaxed, SeqCst},
        },
    },
    thread,
    time::{Duration, Instant},
};

use ::nng::{
    Aio, AioResult, Context, Error, Message, Pipe, PipeEvent, Protocol, Socket,
    options::{MaxTtl, Options as _},
};

use super::{
    super::{Answer, FRAME_MAX, OPEN_REQUESTS_MAX, OpenError, Peer, Refusal, Reply, Server, Service},
    Gate, close_off_callbacks, guarded, lock, prepare, refused, settle,
};

/// How many slots wait for requests at the start.
const IDLE_AT_START: usize = 64;
/// How many slots beyond the bound of open requests there are to refuse with.
const REFUSALS: usize = 64;
/// What the kernel takes of one answer at once, in bytes.
const TAKEN_AT_ONCE: usize = 16 * 1024;
/// How long a larger answer is taken to be on its way after NNG has called it sent.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// How many hops a request may have come by: devices that forward are rare, and never many.
const HOPS_MAX: u8 = 8;

/// What bounds a server socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How many requests may be open at a time.
    pub(super) open_requests_max: usize,
    /// How long an answer may wait for a peer that reads none, before its connection is closed.
    pub(super) answer_limit: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { open_requests_max: OPEN_REQUESTS_MAX, answer_limit: Duration::from_mins(1) }
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
        let socket = Socket::new(Protocol::Rep0).map_err(fail)?;
        prepare(&socket, address, FRAME_MAX)?;
        socket.set_opt::<MaxTtl>(HOPS_MAX).map_err(fail)?;
        let server = Self { shared: Arc::new(Shared::new(socket, bounds, service)) };
        server.shared.watch_peers().map_err(fail)?;
        for _ in 0..IDLE_AT_START.min(bounds.open_requests_max + REFUSALS) {
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
    peers: Mutex<HashMap<Pipe, Arc<PeerState>>>,
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
            peers: Mutex::default(),
        }
    }

    /// Keeps `peers` in step with the connections. `AddPre` comes before the first request.
    fn watch_peers(self: &Arc<Self>) -> Result<(), Error> {
        let shared = Arc::downgrade(self);
        self.socket.pipe_notify(move |pipe, event| {
            let Some(shared) = shared.upgrade() else { return };
            match event {
                PipeEvent::AddPre => shared.peer_came(pipe),
                PipeEvent::RemovePost => shared.peer_went(pipe),
                _ => {}
            }
        })
    }

    fn peer_came(&self, pipe: Pipe) {
        lock(&self.peers).insert(pipe, Arc::new(PeerState::new(pipe)));
    }

    fn peer_went(&self, pipe: Pipe) {
        let Some(peer) = lock(&self.peers).remove(&pipe) else { return };
        for (slot, generation) in peer.leave() {
            if slot.claim(generation) {
                slot.receive();
            }
        }
        self.exit(&peer);
    }

    /// Ends what `enter` or `leave` of this peer began. Who is last tells the service of a farewell.
    fn exit(&self, peer: &PeerState) {
        if peer.exit() && self.gate.is_open() {
            guarded("gone", || self.service.gone(peer.number));
        }
    }

    fn peer(&self, message: &mut Message) -> Option<Arc<PeerState>> {
        let pipe = message.pipe()?;
        lock(&self.peers).get(&pipe).cloned()
    }

    /// Makes one more slot and lets it receive. Inside the gate.
    fn add_slot(self: &Arc<Self>) -> Result<(), Error> {
        let mut slots = lock(&self.slots);
        if slots.len() < self.bounds.open_requests_max.saturating_add(REFUSALS) {
            let slot = Slot::new(self, slots.len())?;
            slots.push(Arc::clone(&slot));
            drop(slots);
            slot.post_receive();
        }
        Ok(())
    }

    /// Counts a slot out of the idle ones, and makes another if it was the last.
    fn leave_idle(self: &Arc<Self>) {
        if self.idle.fetch_sub(1, AcqRel) == 1
            && let Some(Err(error)) = self.gate.pass(|| self.add_slot())
        {
            tracing::error!(%error, "no room for another open request");
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
        for slot in &slots {
            slot.forget();
        }
        settle(slots.iter().filter_map(|slot| slot.aio.get()));
        for slot in &slots {
            slot.context.close();
        }
        self.socket.close();
        lock(&self.peers).clear();
    }
}

/// One context and its `Aio`.
struct Slot {
    shared: Arc<Shared>,
    index: usize,
    context: Context,
    /// Set once, as its callback needs the slot.
    aio: OnceLock<Aio>,
    /// The generation of the open request, or 0.
    open: AtomicU64,
    /// The generation of the latest request. Written in the receive callback only.
    latest: AtomicU64,
    /// Whose answer is on its way.
    answering: Mutex<Option<Arc<PeerState>>>,
}

impl Slot {
    fn new(shared: &Arc<Shared>, index: usize) -> Result<Arc<Self>, Error> {
        let slot = Arc::new(Self {
            shared: Arc::clone(shared),
            index,
            context: Context::new(&shared.socket)?,
            aio: OnceLock::new(),
            open: AtomicU64::new(0),
            latest: AtomicU64::new(0),
            answering: Mutex::default(),
        });
        let this: Weak<Self> = Arc::downgrade(&slot);
        let aio = Aio::new(move |_, result| {
            if let Some(slot) = this.upgrade() {
                slot.done(result);
            }
        })?;
        slot.aio.get_or_init(|| aio);
        Ok(slot)
    }

    /// An operation of this slot has ended.
    fn done(self: &Arc<Self>, result: AioResult) {
        match result {
            AioResult::Recv(Ok(message)) => self.take(message),
            AioResult::Recv(Err(Error::Closed | Error::Canceled)) | AioResult::Sleep(_) => {}
            AioResult::Recv(Err(error)) => {
                tracing::warn!(%error, "a request was not received");
                self.shared.leave_idle();
                self.receive();
            }
            AioResult::Send(sent) => self.sent(sent.map_err(|(_, error)| error)),
        }
    }

    /// Takes a request.
    fn take(self: &Arc<Self>, mut message: Message) {
        self.shared.leave_idle();
        let Some(peer) = self.shared.peer(&mut message) else { return self.receive() };
        if !self.shared.admit() {
            return self.refuse(&peer, &message, Refusal::Busy);
        }
        let generation = self.latest.load(Relaxed) + 1;
        self.latest.store(generation, Relaxed);
        self.open.store(generation, SeqCst);
        let way = Arc::new(Way { slot: Arc::clone(self), peer, generation });
        if way.peer.enter(self, generation) {
            way.serve(&message);
        } else if self.claim(generation) {
            self.receive();
        }
    }

    fn refuse(&self, peer: &Arc<PeerState>, body: &[u8], why: Refusal) {
        let words = guarded("refuse", || self.shared.service.refuse(body, why)).unwrap_or_default();
        self.send(peer, &words);
    }

    /// Whether the caller is the one to end this open request.
    fn claim(&self, generation: u64) -> bool {
        let won = self.open.compare_exchange(generation, 0, SeqCst, SeqCst).is_ok();
        if won {
            self.shared.open.fetch_sub(1, Relaxed);
        }
        won
    }

    /// Ends whatever request is open, as the socket closes.
    fn forget(&self) {
        if self.open.swap(0, SeqCst) != 0 {
            self.shared.open.fetch_sub(1, Relaxed);
        }
    }

    fn send(&self, peer: &Arc<PeerState>, body: &[u8]) {
        let message = Message::from(body);
        *lock(&self.answering) = Some(Arc::clone(peer));
        self.shared.sending.begin(body.len());
        if self.shared.gate.pass(|| self.post_send(message)).is_none() {
            self.shared.sending.end();
        }
    }

    /// Inside the gate, as the one who claimed.
    fn post_send(&self, message: Message) {
        let Some(aio) = self.aio.get() else { return };
        let timed = aio.set_timeout(Some(self.shared.bounds.answer_limit));
        if timed.is_err() || self.context.send(aio, message).is_err() {
            tracing::error!("a slot was busy when it had to send");
            self.shared.sending.end();
        }
    }

    fn sent(&self, outcome: Result<(), Error>) {
        let peer = lock(&self.answering).take();
        self.shared.sending.end();
        if outcome == Err(Error::TimedOut)
            && let Some(peer) = peer
        {
            tracing::warn!(peer = peer.number.0, "a peer reads no answers: disconnected");
            peer.disconnect();
        }
        self.receive();
    }

    fn receive(&self) {
        self.shared.gate.pass(|| self.post_receive());
    }

    /// Inside the gate. Whatever request the context still holds is forgotten by NNG.
    fn post_receive(&self) {
        let Some(aio) = self.aio.get() else { return };
        self.shared.idle.fetch_add(1, AcqRel);
        if aio.set_timeout(None).is_err() || self.context.recv(aio).is_err() {
            tracing::error!("a slot was busy when it had to receive");
            self.shared.idle.fetch_sub(1, AcqRel);
        }
    }
}

/// The way back for one request.
struct Way {
    slot: Arc<Slot>,
    peer: Arc<PeerState>,
    generation: u64,
}

thread_local! {
    /// The request that this thread is handing to a service: its slot's place and its generation.
    static SERVING: Cell<Option<(usize, u64)>> = const { Cell::new(None) };
}

impl Way {
    /// Hands the request to the service.
    fn serve(self: Arc<Self>, body: &[u8]) {
        let shared = &self.slot.shared;
        let reply = Reply::new(Arc::clone(&self) as Arc<dyn Answer>);
        SERVING.set(Some(self.key()));
        let served = guarded("request", || shared.service.request(self.peer.number, body, reply));
        SERVING.set(None);
        if served.is_none() && self.claim() {
            self.slot.refuse(&self.peer, body, Refusal::Broken);
        }
        shared.exit(&self.peer);
    }

    fn key(&self) -> (usize, u64) {
        (Arc::as_ptr(&self.slot).addr(), self.generation)
    }

    fn claim(&self) -> bool {
        let won = self.slot.claim(self.generation);
        if won {
            self.peer.forget(self.slot.index);
        }
        won
    }

    /// Whether a panic of the service drops this right now. Then `serve` says so instead.
    fn is_dropped_by_panic(&self) -> bool {
        thread::panicking() && SERVING.get() == Some(self.key())
    }
}

impl Answer for Way {
    fn send(&self, body: &[u8]) {
        if !self.is_dropped_by_panic() && self.claim() {
            self.slot.send(&self.peer, body);
        }
    }

    fn is_open(&self) -> bool {
        self.slot.open.load(SeqCst) == self.generation
    }
}

/// One connection.
struct PeerState {
    number: Peer,
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

impl PeerState {
    fn new(pipe: Pipe) -> Self {
        static LATEST: AtomicU64 = AtomicU64::new(0);
        let number = Peer(LATEST.fetch_add(1, Relaxed) + 1);
        Self { number, pipe, requests: Mutex::default() }
    }

    /// Begins to hand a request to the service, unless the peer is gone.
    fn enter(&self, slot: &Arc<Slot>, generation: u64) -> bool {
        let mut requests = lock(&self.requests);
        if requests.gone {
            return false;
        }
        requests.known = true;
        requests.busy += 1;
        requests.open.insert(slot.index, (Arc::clone(slot), generation));
        true
    }

    /// Ends handing over. Whether the service must be told now that the peer is gone.
    fn exit(&self) -> bool {
        let mut requests = lock(&self.requests);
        requests.busy -= 1;
        requests.gone && requests.known && requests.busy == 0
    }

    /// Notes that the request of this slot is no longer open.
    fn forget(&self, index: usize) {
        lock(&self.requests).open.remove(&index);
    }

    /// Notes that the peer is gone, and gives what it had open. [`PeerState::exit`] must follow.
    fn leave(&self) -> Vec<(Arc<Slot>, u64)> {
        let mut requests = lock(&self.requests);
        requests.gone = true;
        requests.busy += 1;
        mem::take(&mut requests.open).into_values().collect()
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

/// Counts the answers that are on their way.
///
/// NNG calls an answer sent when it begins to write it, and says no more. The kernel takes a small
/// one whole; of larger ones all that we know is when the last was begun.
struct Sending {
    count: AtomicUsize,
    begun: Instant,
    /// When the last large answer was given, in milliseconds after `begun`, and one more. 0 is never.
    last_large: AtomicU64,
    awaited: AtomicBool,
    turn: Mutex<()>,
    none: Condvar,
}

impl Sending {
    fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            begun: Instant::now(),
            last_large: AtomicU64::new(0),
            awaited: AtomicBool::new(false),
            turn: Mutex::default(),
            none: Condvar::new(),
        }
    }

    fn begin(&self, size: usize) {
        self.count.fetch_add(1, SeqCst);
        if size > TAKEN_AT_ONCE {
            let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last_large.fetch_max(now.saturating_add(1), SeqCst);
        }
    }

    fn end(&self) {
        if self.count.fetch_sub(1, SeqCst) == 1 && self.awaited.load(SeqCst) {
            drop(lock(&self.turn));
            self.none.notify_all();
        }
    }

    fn wait_for_none(&self, limit: Duration) {
        let begun = Instant::now();
        let mut turn = lock(&self.turn);
        self.awaited.store(true, SeqCst);
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let span = if self.count.load(SeqCst) == 0 { left.min(self.large_on_its_way()) } else { left };
            if span.is_zero() {
                return;
            }
            turn = self.none.wait_timeout(turn, span).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// For how much longer a large answer may be on its way.
    fn large_on_its_way(&self) -> Duration {
        match self.last_large.load(SeqCst) {
            0 => Duration::ZERO,
            given => Duration::from_millis(given).saturating_add(ON_ITS_WAY).saturating_sub(self.begun.elapsed()),
        }
    }
}
