//! A REP context with its `Aio`, and the reply to its open request.

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Relaxed, SeqCst},
        },
    },
    thread,
};

use ::nng::{Aio, AioResult, Context, Error, Message};

use super::{
    super::super::{Rejection, ReplyHandle, ReplySender},
    super::catch_panic,
    ServerSocket,
    connection::PeerConnection,
};
use crate::lock::lock;

/// Memory of a waiting reply in addition to its bytes.
const REPLY_OVERHEAD: usize = 1024;

/// A context and its `Aio`, which carry one request at a time.
pub(super) struct ReplyContext {
    socket: Arc<ServerSocket>,
    index: usize,
    context: Context,
    /// Set once, as its callback needs the context.
    aio: OnceLock<Aio>,
    /// The generation of the open request, or 0 if none is open.
    open_generation: AtomicU64,
    /// The generation of the last request, open or not. Written in the receive callback only.
    last_generation: AtomicU64,
    /// The connection to which a reply is being sent, and the size of the reply.
    in_flight_reply: Mutex<Option<(Arc<PeerConnection>, usize)>>,
}

impl ReplyContext {
    /// Creates a context that does not receive yet.
    pub(super) fn new(socket: &Arc<ServerSocket>, index: usize) -> Result<Arc<Self>, Error> {
        let context = Arc::new(Self {
            socket: Arc::clone(socket),
            index,
            context: Context::new(&socket.socket)?,
            aio: OnceLock::new(),
            open_generation: AtomicU64::new(0),
            last_generation: AtomicU64::new(0),
            in_flight_reply: Mutex::default(),
        });
        let this: Weak<Self> = Arc::downgrade(&context);
        let aio = Aio::new(move |_, result| {
            if let Some(context) = this.upgrade() {
                context.on_aio(result);
            }
        })?;
        context.aio.get_or_init(|| aio);
        Ok(context)
    }

    /// Handles the end of an operation.
    fn on_aio(self: &Arc<Self>, result: AioResult) {
        match result {
            AioResult::Recv(Ok(message)) => self.on_request(message),
            AioResult::Recv(Err(Error::Closed | Error::Canceled)) | AioResult::Sleep(_) => {}
            AioResult::Recv(Err(error)) => {
                tracing::warn!(%error, "cannot receive a request");
                self.socket.mark_busy();
                self.receive();
            }
            AioResult::Send(sent) => self.on_sent(sent.map_err(|(_, error)| error)),
        }
    }

    /// Handles a received request.
    fn on_request(self: &Arc<Self>, mut message: Message) {
        self.socket.mark_busy();
        let Some(from) = self.socket.connection(&mut message) else { return self.receive() };
        from.count_message(message.len());
        if !self.socket.admit(&from) {
            return self.refuse(&from, &message, Rejection::Busy);
        }
        let generation = self.last_generation.load(Relaxed) + 1;
        self.last_generation.store(generation, Relaxed);
        self.open_generation.store(generation, SeqCst);
        let request = Arc::new(OpenRequest { context: Arc::clone(self), from, generation });
        if request.from.begin_handoff(self, generation) {
            request.serve(&message);
        } else if self.claim(generation) {
            self.receive();
        }
    }

    fn refuse(&self, to: &Arc<PeerConnection>, body: &[u8], why: Rejection) {
        let reply = catch_panic("refuse", || self.socket.service.refuse(body, why)).unwrap_or_default();
        self.send(to, &reply);
    }

    /// Closes the request if it is still open. Returns true to exactly one caller, which must then post the next
    /// operation.
    pub(super) fn claim(&self, generation: u64) -> bool {
        let claimed = self.open_generation.compare_exchange(generation, 0, SeqCst, SeqCst).is_ok();
        if claimed {
            self.socket.open_count.fetch_sub(1, Relaxed);
        }
        claimed
    }

    pub(super) fn aio(&self) -> Option<&Aio> {
        self.aio.get()
    }

    /// The index of this context in its socket.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Closes the open request when the socket closes. No operation may be in flight.
    pub(super) fn close(&self) {
        if self.open_generation.swap(0, SeqCst) != 0 {
            self.socket.open_count.fetch_sub(1, Relaxed);
        }
        self.context.close();
    }

    fn send(&self, to: &Arc<PeerConnection>, body: &[u8]) {
        let message = Message::from(body);
        let size = body.len() + REPLY_OVERHEAD;
        *lock(&self.in_flight_reply) = Some((Arc::clone(to), size));
        self.socket.in_flight.add(body.len());
        self.socket.add_unsent(to, size);
        if self.socket.close_guard.run_if_open(|| self.post_send(message)).is_none() {
            self.end_sending();
        }
    }

    /// Records that the reply is no longer being sent. Returns its connection.
    fn end_sending(&self) -> Option<Arc<PeerConnection>> {
        let (to, size) = lock(&self.in_flight_reply).take()?;
        self.socket.remove_unsent(&to, size);
        self.socket.in_flight.remove();
        Some(to)
    }

    /// Call only while the close guard is open, after `claim` returned true.
    fn post_send(&self, message: Message) {
        let Some(aio) = self.aio.get() else { return };
        let timed = aio.set_timeout(Some(self.socket.limits.send_timeout));
        if timed.is_err() || self.context.send(aio, message).is_err() {
            tracing::error!("BUG: NNG context already in use, cannot send");
            self.end_sending();
        }
    }

    fn on_sent(&self, outcome: Result<(), Error>) {
        let to = self.end_sending();
        if outcome == Err(Error::TimedOut)
            && let Some(to) = to
            && to.disconnect_once()
        {
            tracing::warn!(peer = to.peer().0, "disconnected a peer that does not read its replies");
        }
        self.receive();
    }

    pub(super) fn receive(&self) {
        self.socket.close_guard.run_if_open(|| self.post_receive());
    }

    /// Call only while the close guard is open. NNG drops the request that the context still holds, if any.
    pub(super) fn post_receive(&self) {
        let Some(aio) = self.aio.get() else { return };
        self.socket.idle.fetch_add(1, AcqRel);
        if aio.set_timeout(None).is_err() || self.context.recv(aio).is_err() {
            tracing::error!("BUG: NNG context already in use, cannot receive");
            self.socket.idle.fetch_sub(1, AcqRel);
        }
    }
}

/// A request that was handed to the service; sends its reply.
struct OpenRequest {
    context: Arc<ReplyContext>,
    from: Arc<PeerConnection>,
    generation: u64,
}

thread_local! {
    /// The request that this thread is handing to a service: its context's address and its generation.
    static SERVING: Cell<Option<(usize, u64)>> = const { Cell::new(None) };
}

impl OpenRequest {
    /// Hands the request to the service.
    fn serve(self: Arc<Self>, body: &[u8]) {
        let socket = &self.context.socket;
        let reply = ReplyHandle::new(Arc::clone(&self) as Arc<dyn ReplySender>);
        SERVING.set(Some(self.key()));
        let served = catch_panic("request", || socket.service.request(self.from.peer(), body, reply));
        SERVING.set(None);
        if served.is_none() && self.claim() {
            self.context.refuse(&self.from, body, Rejection::Internal);
        }
        socket.end_handoff(&self.from);
    }

    fn key(&self) -> (usize, u64) {
        (Arc::as_ptr(&self.context).addr(), self.generation)
    }

    fn claim(&self) -> bool {
        let claimed = self.context.claim(self.generation);
        if claimed {
            self.from.remove_request(self.context.index);
        }
        claimed
    }

    /// Whether a panic of the service is dropping this. Then `serve` sends the reply.
    fn is_dropped_by_panic(&self) -> bool {
        thread::panicking() && SERVING.get() == Some(self.key())
    }
}

impl ReplySender for OpenRequest {
    fn send(&self, body: &[u8]) {
        if !self.is_dropped_by_panic() && self.claim() {
            self.context.send(&self.from, body);
        }
    }

    fn is_open(&self) -> bool {
        self.context.open_generation.load(SeqCst) == self.generation
    }
}
