//! One open request after another: a context, its `Aio`, and the way back for each answer.

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
    super::super::{Refusal, Reply, ReplySender},
    super::guarded,
    ServerSocket,
    connection::PeerConnection,
};
use crate::lock::lock;

/// What an answer takes that waits for its peer, beyond its bytes.
const ANSWER_OVERHEAD: usize = 1024;

/// One context and its `Aio`.
pub(super) struct ReplyContext {
    shared: Arc<ServerSocket>,
    index: usize,
    context: Context,
    /// Set once, as its callback needs the slot.
    aio: OnceLock<Aio>,
    /// The generation of the open request, or 0.
    open: AtomicU64,
    /// The generation of the latest request. Written in the receive callback only.
    latest: AtomicU64,
    /// Whose answer is on its way, and what it takes.
    answering: Mutex<Option<(Arc<PeerConnection>, usize)>>,
}

impl ReplyContext {
    /// A slot that does nothing yet.
    pub(super) fn new(shared: &Arc<ServerSocket>, index: usize) -> Result<Arc<Self>, Error> {
        let context = Arc::new(Self {
            shared: Arc::clone(shared),
            index,
            context: Context::new(&shared.socket)?,
            aio: OnceLock::new(),
            open: AtomicU64::new(0),
            latest: AtomicU64::new(0),
            answering: Mutex::default(),
        });
        let this: Weak<Self> = Arc::downgrade(&context);
        let aio = Aio::new(move |_, result| {
            if let Some(context) = this.upgrade() {
                context.done(result);
            }
        })?;
        context.aio.get_or_init(|| aio);
        Ok(context)
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
        let Some(from) = self.shared.connection(&mut message) else { return self.receive() };
        from.take(message.len());
        if !self.shared.admit(&from) {
            return self.refuse(&from, &message, Refusal::Busy);
        }
        let generation = self.latest.load(Relaxed) + 1;
        self.latest.store(generation, Relaxed);
        self.open.store(generation, SeqCst);
        let way = Arc::new(OpenRequest { context: Arc::clone(self), from, generation });
        if way.from.enter(self, generation) {
            way.serve(&message);
        } else if self.claim(generation) {
            self.receive();
        }
    }

    fn refuse(&self, to: &Arc<PeerConnection>, body: &[u8], why: Refusal) {
        let words = guarded("refuse", || self.shared.service.refuse(body, why)).unwrap_or_default();
        self.send(to, &words);
    }

    /// Whether the caller is the one to end this open request.
    pub(super) fn claim(&self, generation: u64) -> bool {
        let won = self.open.compare_exchange(generation, 0, SeqCst, SeqCst).is_ok();
        if won {
            self.shared.open.fetch_sub(1, Relaxed);
        }
        won
    }

    pub(super) fn aio(&self) -> Option<&Aio> {
        self.aio.get()
    }

    /// The place of this slot among those of its socket.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Ends whatever request is open, as the socket closes. No operation may be in flight.
    pub(super) fn close(&self) {
        if self.open.swap(0, SeqCst) != 0 {
            self.shared.open.fetch_sub(1, Relaxed);
        }
        self.context.close();
    }

    fn send(&self, to: &Arc<PeerConnection>, body: &[u8]) {
        let message = Message::from(body);
        let size = body.len() + ANSWER_OVERHEAD;
        *lock(&self.answering) = Some((Arc::clone(to), size));
        self.shared.sending.begin(body.len());
        self.shared.add_unsent(to, size);
        if self.shared.gate.pass(|| self.post_send(message)).is_none() {
            self.settle();
        }
    }

    /// Notes that no answer of this slot is on its way any more, and gives whose it was.
    fn settle(&self) -> Option<Arc<PeerConnection>> {
        let (to, size) = lock(&self.answering).take()?;
        self.shared.settle(&to, size);
        self.shared.sending.end();
        Some(to)
    }

    /// Inside the gate, as the one who claimed.
    fn post_send(&self, message: Message) {
        let Some(aio) = self.aio.get() else { return };
        let timed = aio.set_timeout(Some(self.shared.bounds.answer_limit));
        if timed.is_err() || self.context.send(aio, message).is_err() {
            tracing::error!("a slot was busy when it had to send");
            self.settle();
        }
    }

    fn sent(&self, outcome: Result<(), Error>) {
        let to = self.settle();
        if outcome == Err(Error::TimedOut)
            && let Some(to) = to
            && to.disconnect_once()
        {
            tracing::warn!(peer = to.peer().0, "a peer reads no answers: disconnected");
        }
        self.receive();
    }

    pub(super) fn receive(&self) {
        self.shared.gate.pass(|| self.post_receive());
    }

    /// Inside the gate. Whatever request the context still holds is forgotten by NNG.
    pub(super) fn post_receive(&self) {
        let Some(aio) = self.aio.get() else { return };
        self.shared.idle.fetch_add(1, AcqRel);
        if aio.set_timeout(None).is_err() || self.context.recv(aio).is_err() {
            tracing::error!("a slot was busy when it had to receive");
            self.shared.idle.fetch_sub(1, AcqRel);
        }
    }
}

/// The way back for one request.
struct OpenRequest {
    context: Arc<ReplyContext>,
    from: Arc<PeerConnection>,
    generation: u64,
}

thread_local! {
    /// The request that this thread is handing to a service: its slot's place and its generation.
    static SERVING: Cell<Option<(usize, u64)>> = const { Cell::new(None) };
}

impl OpenRequest {
    /// Hands the request to the service.
    fn serve(self: Arc<Self>, body: &[u8]) {
        let shared = &self.context.shared;
        let reply = Reply::new(Arc::clone(&self) as Arc<dyn ReplySender>);
        SERVING.set(Some(self.key()));
        let served = guarded("request", || shared.service.request(self.from.peer(), body, reply));
        SERVING.set(None);
        if served.is_none() && self.claim() {
            self.context.refuse(&self.from, body, Refusal::Broken);
        }
        shared.exit(&self.from);
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

    /// Whether a panic of the service drops this right now. Then `serve` says so instead.
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
