//! The PAIR sockets: who sends one-way messages to an address, and who listens for them.
//!
//! A PAIR socket has one peer at a time. NNG shakes hands with a second one and only then shows it the
//! door, so a connection that has just come up may be none. And it takes a message as soon as its
//! connection has passed on the last one, so what was taken last may not have left yet. Invariants:
//!
//! - A line holds one connection and never a second: what was meant for the first must not slip into
//!   another that nobody has looked at yet.
//! - A line buffers nothing, so that a message is taken by a connection or not at all.
//! - An inbox keeps its peer while that sends. A peer that has been quiet makes room for another, as its
//!   connection may have died silently: the other one is refused once more, and then let in.
//! - An inbox receives while it has room. Beyond that its peer waits, and nothing is lost when that goes.
//! - No file descriptor is asked of these sockets: NNG 1.4 never closes those of a PAIR.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use ::nng::{
    Aio, AioResult, Error, Listener, Message, Pipe, PipeEvent, Protocol, Socket,
    options::{Options as _, SendBufferSize, transport::tcp::BoundPort},
};
use tokio::sync::{oneshot, watch};

use super::{
    super::{Disconnected, Inbox, OpenError, PairSender, Waiting},
    Gate, bound, check, close_off_callbacks, new_socket, prepare, redial, refused, settle,
};
use crate::lock::lock;

/// Nobody should send anything to a line; as much of it is taken in.
const UNWANTED_MAX: usize = 64 * 1024;
/// So many messages wait in an inbox, so that its peer need not wait for each.
const WAITING_MAX: usize = 16;

/// A peer of an inbox that has sent nothing for this long makes room for another. Longer than a large
/// message is on its way.
const QUIET_MAX: Duration = Duration::from_secs(10);

/// How the connection of a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PairState {
    Dialling,
    Connected,
    Disconnected,
}

/// A dialled PAIR socket.
pub(super) struct NngPairSender {
    sender: Arc<PairSocket>,
    state: watch::Receiver<PairState>,
}

/// The socket of a line with the one `Aio` that it needs.
struct PairSocket {
    socket: Socket,
    gate: Gate,
    /// Set once, as its callback needs the sender.
    aio: OnceLock<Aio>,
    /// Hears whether the message under way was taken.
    taken: Mutex<Option<oneshot::Sender<bool>>>,
}

impl NngPairSender {
    /// Opens the socket; it connects in the background.
    pub(super) fn dial(address: &str) -> Result<Self, OpenError> {
        let fail = |error| refused(address, error);
        let socket = new_socket(Protocol::Pair0, address)?;
        prepare(&socket, address, UNWANTED_MAX)?;
        redial(&socket).and_then(|()| socket.set_opt::<SendBufferSize>(0)).map_err(fail)?;
        let state = watch_pair_state(&socket).map_err(fail)?;
        let sender = PairSocket { socket, gate: Gate::default(), aio: OnceLock::new(), taken: Mutex::default() };
        let line = Self { sender: Arc::new(sender), state };
        line.sender.set_up().map_err(fail)?;
        line.sender.socket.dial_async(address).map_err(fail)?;
        Ok(line)
    }

    /// Waits until the connection stands so, or is gone.
    async fn wait_for_state(&self, wanted: PairState) -> PairState {
        let mut state = self.state.clone();
        match state.wait_for(|state| *state == wanted || *state == PairState::Disconnected).await {
            Ok(state) => *state,
            // The socket is gone, and with it what told of its connection.
            Err(_) => PairState::Disconnected,
        }
    }
}

impl PairSender for NngPairSender {
    fn connected(&self) -> Waiting<'_, Result<(), Disconnected>> {
        Box::pin(async {
            match self.wait_for_state(PairState::Connected).await {
                PairState::Disconnected => Err(Disconnected),
                PairState::Dialling | PairState::Connected => Ok(()),
            }
        })
    }

    fn disconnected(&self) -> Waiting<'_, ()> {
        Box::pin(async {
            self.wait_for_state(PairState::Disconnected).await;
        })
    }

    fn send<'a>(&'a self, body: &'a [u8]) -> Waiting<'a, Result<(), Disconnected>> {
        Box::pin(async move {
            let taken = self.sender.send(Message::from(body))?;
            tokio::select! {
                biased;
                taken = taken => if taken == Ok(true) { Ok(()) } else { Err(Disconnected) },
                _ = self.wait_for_state(PairState::Disconnected) => Err(Disconnected),
            }
        })
    }
}

impl Drop for NngPairSender {
    fn drop(&mut self) {
        let sender = Arc::clone(&self.sender);
        close_off_callbacks(move || sender.close());
    }
}

impl PairSocket {
    fn set_up(self: &Arc<Self>) -> Result<(), Error> {
        let this: Weak<Self> = Arc::downgrade(self);
        let aio = Aio::new(move |_, result| {
            let hears = this.upgrade().and_then(|sender| lock(&sender.taken).take());
            if let Some(hears) = hears {
                // Nobody hears it who has given it up.
                let _ = hears.send(matches!(result, AioResult::Send(Ok(()))));
            }
        })?;
        self.aio.get_or_init(|| aio);
        Ok(())
    }

    /// Gives a message to the socket, which tells when its connection has taken it.
    fn send(&self, message: Message) -> Result<oneshot::Receiver<bool>, Disconnected> {
        let (hears, taken) = oneshot::channel();
        *lock(&self.taken) = Some(hears);
        let post = || {
            let aio = self.aio.get().ok_or(Error::Closed)?;
            Ok::<(), Error>(self.socket.send_async(aio, message)?)
        };
        match self.gate.pass(post) {
            Some(Ok(())) => Ok(taken),
            Some(Err(_)) | None => Err(Disconnected),
        }
    }

    /// The closing order that NNG needs. Not on a callback thread.
    fn close(&self) {
        self.gate.shut();
        settle(self.aio.get().into_iter());
        self.socket.close();
    }
}

/// Tells how the first connection of a socket stands, and refuses every further one.
fn watch_pair_state(socket: &Socket) -> Result<watch::Receiver<PairState>, Error> {
    let (told, state) = watch::channel(PairState::Dialling);
    let has_one = AtomicBool::new(false);
    socket.pipe_notify(move |pipe, event| match event {
        PipeEvent::AddPre if has_one.swap(true, SeqCst) => pipe.close(),
        PipeEvent::AddPre => {}
        PipeEvent::AddPost => {
            // It can be gone before NNG tells that it was added.
            told.send_if_modified(|state| {
                let is_new = *state == PairState::Dialling;
                if is_new {
                    *state = PairState::Connected;
                }
                is_new
            });
        }
        // There is a second, to be refused, only when the first is about to go.
        _ => drop(told.send_replace(PairState::Disconnected)),
    })?;
    Ok(state)
}

/// A listening PAIR socket.
pub(super) struct NngInbox {
    receiver: Arc<InboxSocket>,
    address: String,
}

/// The socket of an inbox with the one `Aio` that it needs.
struct InboxSocket {
    socket: Socket,
    gate: Gate,
    /// Set once, as its callback needs the receiver.
    aio: OnceLock<Aio>,
    state: Mutex<InboxState>,
}

/// What has come in.
#[derive(Default)]
struct InboxState {
    messages: VecDeque<Message>,
    /// Whoever waits for the next.
    reader: Option<Waker>,
    /// Whether the next is being received.
    receives: bool,
    has_failed: bool,
    /// The peer, and when it was last heard.
    peer: Option<(Pipe, Instant)>,
}

impl NngInbox {
    /// Opens the socket.
    pub(super) fn listen(address: &str, message_max: usize) -> Result<Self, OpenError> {
        let fail = |error| refused(address, error);
        check(address, 0)?;
        let socket = new_socket(Protocol::Pair0, address)?;
        bound(&socket, address, message_max)?;
        let state = Mutex::new(InboxState { receives: true, ..InboxState::default() });
        let receiver = Arc::new(InboxSocket { socket, gate: Gate::default(), aio: OnceLock::new(), state });
        let mut inbox = Self { receiver, address: String::new() };
        inbox.receiver.set_up().map_err(fail)?;
        inbox.receiver.receive();
        let listener = Listener::new(&inbox.receiver.socket, address).map_err(fail)?;
        let host = address.trim_end_matches('/').rsplit_once(':').map_or(address, |(host, _)| host);
        inbox.address = format!("{host}:{}", listener.get_opt::<BoundPort>().map_err(fail)?);
        Ok(inbox)
    }
}

impl Inbox for NngInbox {
    fn address(&self) -> &str {
        &self.address
    }

    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut state = lock(&self.receiver.state);
        let Some(message) = state.messages.pop_front() else {
            if state.has_failed {
                return Poll::Ready(None);
            }
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let was_full = !std::mem::replace(&mut state.receives, true);
        drop(state);
        if was_full {
            self.receiver.receive();
        }
        Poll::Ready(Some(message.as_slice().to_vec()))
    }
}

impl Drop for NngInbox {
    fn drop(&mut self) {
        let receiver = Arc::clone(&self.receiver);
        close_off_callbacks(move || receiver.close());
    }
}

impl InboxSocket {
    fn set_up(self: &Arc<Self>) -> Result<(), Error> {
        let this: Weak<Self> = Arc::downgrade(self);
        let aio = Aio::new(move |_, result| {
            if let Some(receiver) = this.upgrade() {
                receiver.step(result);
            }
        })?;
        self.aio.get_or_init(|| aio);
        let this: Weak<Self> = Arc::downgrade(self);
        self.socket.pipe_notify(move |pipe, event| {
            if let Some(receiver) = this.upgrade() {
                receiver.on_pipe_event(pipe, event);
            }
        })
    }

    /// Keeps account of the peer.
    fn on_pipe_event(&self, pipe: Pipe, event: PipeEvent) {
        let mut state = lock(&self.state);
        let has_room = state.receives;
        match (event, &state.peer) {
            // What waits with a peer because there is no room here would be lost with it.
            (PipeEvent::AddPre, Some((old, heard))) if has_room && heard.elapsed() >= QUIET_MAX => {
                let old = *old;
                drop(state);
                old.close();
            }
            (PipeEvent::AddPost, _) => state.peer = Some((pipe, Instant::now())),
            (PipeEvent::RemovePost, Some((old, _))) if *old == pipe => state.peer = None,
            _ => {}
        }
    }

    /// Waits for the next message.
    fn receive(&self) {
        let post = || self.aio.get().ok_or(Error::Closed).and_then(|aio| self.socket.recv_async(aio));
        if let Some(Err(error)) = self.gate.pass(post) {
            tracing::error!(%error, "an inbox was busy");
            self.fail();
        }
    }

    /// A message has come in, or none will.
    fn step(&self, result: AioResult) {
        match result {
            AioResult::Recv(Ok(message)) => {
                let mut state = lock(&self.state);
                if let Some((_, heard)) = &mut state.peer {
                    *heard = Instant::now();
                }
                state.messages.push_back(message);
                state.receives = state.messages.len() < WAITING_MAX;
                let (receives, reader) = (state.receives, state.reader.take());
                drop(state);
                reader.into_iter().for_each(Waker::wake);
                if receives {
                    self.receive();
                }
            }
            AioResult::Recv(Err(error)) if !matches!(error, Error::Closed | Error::Canceled) => self.receive(),
            _ => self.fail(),
        }
    }

    fn fail(&self) {
        let mut state = lock(&self.state);
        state.has_failed = true;
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// The closing order that NNG needs. Not on a callback thread.
    fn close(&self) {
        self.gate.shut();
        settle(self.aio.get().into_iter());
        self.socket.close();
    }
}
