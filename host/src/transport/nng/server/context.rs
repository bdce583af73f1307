//! A REP context with its `Aio`, and the reply to the request that it holds.

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
    super::guarded,
    ServerSocket,
    connection::PeerConnection,
};
use crate::lock::lock;

/// Memory of a waiting answer beyond its bytes.
const ANSWER_OVERHEAD: usize = 1024;

/// A context and its `Aio`, which carry one request at a time.
pub(super) struct ReplyContext {
    socket: Arc<ServerSocket>,
    index: usize,
    context: Context,
    /// Set once, as its callback needs the context.
    aio: OnceLock<Aio>,
    /// The generation of the open request, or 0.
    open: AtomicU64,
    /// The generation of the latest request. Written in the receive callback only.
    latest: AtomicU64,
    /// The connection to which an answer is being sent, and the size of the answer.
    answering: Mutex<Option<(Arc<PeerConnection>, usize)>>,
}

impl ReplyContext {
    /// Makes a context that does not receive yet.
    pub(super) fn new(socket: &Arc<ServerSocket>, index: usize) -> Result<Arc<Self>, Error> {
        let context = Arc::new(Self {
            socket: Arc::clone(socket),
            index,
            context: Context::new(&socket.socket)?,
            aio: OnceLock::new(),
            open: AtomicU64::new(0),
            latest: AtomicU64::new(0),
            answering: Mutex::default(),
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
                self.socket.leave_idle();
                self.receive();
            }
            AioResult::Send(sent) => self.on_sent(sent.map_err(|(_, error)| error)),
        }
    }

    /// Handles a received request.
    fn on_request(self: &Arc<Self>, mut message: Message) {
        self.socket.leave_idle();
        let Some(from) = self.socket.connection(&mut message) else { return self.receive() };
        from.count_message(message.len());
        if !self.socket.admit(&from) {
            return self.refuse(&from, &message, Rejection::Busy);
        }
        let generation = self.latest.load(Relaxed) + 1;
        self.latest.store(generation, Relaxed);
        self.open.store(generation, SeqCst);
        let request = Arc::new(OpenRequest { context: Arc::clone(self), from, generation });
        if request.from.enter(self, generation) {
            request.serve(&message);
        } else if self.claim(generation) {
            self.receive();
        }
    }

    fn refuse(&self, to: &Arc<PeerConnection>, body: &[u8], why: Rejection) {
        let answer = guarded("refuse", || self.socket.service.refuse(body, why)).unwrap_or_default();
        self.send(to, &answer);
    }

    /// Ends an open request. Returns whether this call did; then the caller posts the next operation.
    pub(super) fn claim(&self, generation: u64) -> bool {
        let won = self.open.compare_exchange(generation, 0, SeqCst, SeqCst).is_ok();
        if won {
            self.socket.open.fetch_sub(1, Relaxed);
        }
        won
    }

    pub(super) fn aio(&self) -> Option<&Aio> {
        self.aio.get()
    }

    /// The index of this context in its socket.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Ends the open request, as the socket closes. No operation may be in flight.
    pub(super) fn close(&self) {
        if self.open.swap(0, SeqCst) != 0 {
            self.socket.open.fetch_sub(1, Relaxed);
        }
        self.context.close();
    }

    fn send(&self, to: &Arc<PeerConnection>, body: &[u8]) {
        let message = Message::from(body);
        let size = body.len() + ANSWER_OVERHEAD;
        *lock(&self.answering) = Some((Arc::clone(to), size));
        self.socket.sending.begin(body.len());
        self.socket.add_unsent(to, size);
        if self.socket.gate.pass(|| self.post_send(message)).is_none() {
            self.end_sending();
        }
    }

    /// Notes that no answer is being sent any more. Returns its connection.
    fn end_sending(&self) -> Option<Arc<PeerConnection>> {
        let (to, size) = lock(&self.answering).take()?;
        self.socket.remove_unsent(&to, size);
        self.socket.sending.end();
        Some(to)
    }

    /// Inside the gate, and only after a successful `claim`.
    fn post_send(&self, message: Message) {
        let Some(aio) = self.aio.get() else { return };
        let timed = aio.set_timeout(Some(self.socket.limits.answer_limit));
        if timed.is_err() || self.context.send(aio, message).is_err() {
            tracing::error!("a context was busy when it had to send");
            self.end_sending();
        }
    }

    fn on_sent(&self, outcome: Result<(), Error>) {
        let to = self.end_sending();
        if outcome == Err(Error::TimedOut)
            && let Some(to) = to
            && to.disconnect_once()
        {
            tracing::warn!(peer = to.peer().0, "a peer does not read its answers: disconnected");
        }
        self.receive();
    }

    pub(super) fn receive(&self) {
        self.socket.gate.pass(|| self.post_receive());
    }

    /// Inside the gate. NNG forgets the request that the context still holds, if any.
    pub(super) fn post_receive(&self) {
        let Some(aio) = self.aio.get() else { return };
        self.socket.idle.fetch_add(1, AcqRel);
        if aio.set_timeout(None).is_err() || self.context.recv(aio).is_err() {
            tracing::error!("a context was busy when it had to receive");
            self.socket.idle.fetch_sub(1, AcqRel);
        }
    }
}

/// A request that was handed to the service; sends its answer.
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
        let served = guarded("request", || socket.service.request(self.from.peer(), body, reply));
        SERVING.set(None);
        if served.is_none() && self.claim() {
            self.context.refuse(&self.from, body, Rejection::Broken);
        }
        socket.exit(&self.from);
    }

    fn key(&self) -> (usize, u64) {
        (Arc::as_ptr(&self.context).addr(), self.generation)
    }

    fn claim(&self) -> bool {
        let won = self.context.claim(self.generation);
        if won {
            self.from.forget(self.context.index);
        }
        won
    }

    /// Whether a panic of the service is dropping this. Then `serve` sends the answer.
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
        self.context.open.load(SeqCst) == self.generation
    }
}
