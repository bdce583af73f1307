//! The PAIR sockets: the sender of one-way messages to an address, and the inbox that receives them.
//!
//! A PAIR socket has one peer at a time. NNG completes the handshake with a second peer before it disconnects it, so a
//! new connection may be closed immediately. And it accepts a message as soon as the connection has sent the previous
//! one, so the last accepted message may not have been sent yet. Invariants:
//!
//! - A sender uses one connection and never a second: a message for the first must not go to another peer.
//! - A sender buffers nothing, so that a message is accepted by a connection or not at all.
//! - An inbox keeps its peer while it sends. A silent peer is replaced by another, as its connection may be dead: the
//!   other one is refused once more, and then accepted.
//! - An inbox receives while its buffer has space. Beyond that its peer waits, and no message is lost when it
//!   disconnects.
//! - Never request a file descriptor of these sockets: NNG 1.4 does not close those of a PAIR.

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
    super::{BoxFuture, Disconnected, Inbox, OpenError, PairSender},
    CloseGuard, cancel_all, check_address, close_off_callbacks, new_socket, open_error, prepare, set_limits,
    set_reconnect_times,
};
use crate::lock::lock;

/// Maximum size of a message to a sender, which expects none, in bytes.
const UNWANTED_MAX: usize = 64 * 1024;
/// Maximum number of messages that wait in an inbox, so that its peer need not wait after each.
const WAITING_MAX: usize = 16;

/// Silence after which an inbox may replace its peer by another. Longer than the transfer of a large message.
const QUIET_MAX: Duration = Duration::from_secs(10);

/// The connection of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PairState {
    Dialing,
    Connected,
    Disconnected,
}

/// A dialed PAIR socket.
pub(super) struct NngPairSender {
    sender: Arc<PairSocket>,
    state: watch::Receiver<PairState>,
}

/// The socket of a sender with the one `Aio` that it needs.
struct PairSocket {
    socket: Socket,
    close_guard: CloseGuard,
    /// Set once, as its callback needs the sender.
    aio: OnceLock<Aio>,
    /// Completed when the connection has accepted the current message, or not.
    accepted: Mutex<Option<oneshot::Sender<bool>>>,
}

impl NngPairSender {
    /// Opens the socket; it connects in the background.
    pub(super) fn dial(address: &str) -> Result<Self, OpenError> {
        let fail = |error| open_error(address, error);
        let socket = new_socket(Protocol::Pair0, address)?;
        prepare(&socket, address, UNWANTED_MAX)?;
        set_reconnect_times(&socket).and_then(|()| socket.set_opt::<SendBufferSize>(0)).map_err(fail)?;
        let state = watch_pair_state(&socket).map_err(fail)?;
        let sender =
            PairSocket { socket, close_guard: CloseGuard::default(), aio: OnceLock::new(), accepted: Mutex::default() };
        let pair = Self { sender: Arc::new(sender), state };
        pair.sender.set_up().map_err(fail)?;
        pair.sender.socket.dial_async(address).map_err(fail)?;
        Ok(pair)
    }

    /// Waits until the connection is in this state, or lost.
    async fn wait_for_state(&self, wanted: PairState) -> PairState {
        let mut state = self.state.clone();
        match state.wait_for(|state| *state == wanted || *state == PairState::Disconnected).await {
            Ok(state) => *state,
            // The socket was closed.
            Err(_) => PairState::Disconnected,
        }
    }
}

impl PairSender for NngPairSender {
    fn connected(&self) -> BoxFuture<'_, Result<(), Disconnected>> {
        Box::pin(async {
            match self.wait_for_state(PairState::Connected).await {
                PairState::Disconnected => Err(Disconnected),
                PairState::Dialing | PairState::Connected => Ok(()),
            }
        })
    }

    fn disconnected(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.wait_for_state(PairState::Disconnected).await;
        })
    }

    fn send<'a>(&'a self, body: &'a [u8]) -> BoxFuture<'a, Result<(), Disconnected>> {
        Box::pin(async move {
            // A connection that NNG is about to close may still accept messages.
            if *self.state.borrow() == PairState::Disconnected {
                return Err(Disconnected);
            }
            let accepted = self.sender.send(Message::from(body))?;
            tokio::select! {
                biased;
                accepted = accepted => if accepted == Ok(true) { Ok(()) } else { Err(Disconnected) },
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
            let accepted = this.upgrade().and_then(|sender| lock(&sender.accepted).take());
            if let Some(accepted) = accepted {
                // Fails if `send` was cancelled.
                let _ = accepted.send(matches!(result, AioResult::Send(Ok(()))));
            }
        })?;
        self.aio.get_or_init(|| aio);
        Ok(())
    }

    /// Posts a message. The receiver completes when the connection has accepted it, or not.
    fn send(&self, message: Message) -> Result<oneshot::Receiver<bool>, Disconnected> {
        let (sender, accepted) = oneshot::channel();
        *lock(&self.accepted) = Some(sender);
        let post = || {
            let aio = self.aio.get().ok_or(Error::Closed)?;
            Ok::<(), Error>(self.socket.send_async(aio, message)?)
        };
        match self.close_guard.run_if_open(post) {
            Some(Ok(())) => Ok(accepted),
            Some(Err(_)) | None => Err(Disconnected),
        }
    }

    /// Closes in the order that NNG needs. Do not call it on a callback thread.
    fn close(&self) {
        self.close_guard.close();
        cancel_all(self.aio.get().into_iter());
        self.socket.close();
    }
}

/// Watches the first connection of a socket, and refuses every further one.
fn watch_pair_state(socket: &Socket) -> Result<watch::Receiver<PairState>, Error> {
    let (sender, state) = watch::channel(PairState::Dialing);
    let has_one = AtomicBool::new(false);
    socket.pipe_notify(move |pipe, event| match event {
        PipeEvent::AddPre if has_one.swap(true, SeqCst) => pipe.close(),
        PipeEvent::AddPre => {}
        PipeEvent::AddPost => {
            // It can be lost before NNG reports that it was added.
            sender.send_if_modified(|state| {
                let is_new = *state == PairState::Dialing;
                if is_new {
                    *state = PairState::Connected;
                }
                is_new
            });
        }
        // A second connection is established only when the first is about to close.
        _ => drop(sender.send_replace(PairState::Disconnected)),
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
    close_guard: CloseGuard,
    /// Set once, as its callback needs the receiver.
    aio: OnceLock<Aio>,
    state: Mutex<InboxState>,
}

/// The received messages and the peer of an inbox.
#[derive(Default)]
struct InboxState {
    messages: VecDeque<Message>,
    /// The task that waits for the next message.
    waker: Option<Waker>,
    /// Whether the next message is being received.
    is_receiving: bool,
    has_failed: bool,
    /// The peer, and when its last message arrived.
    peer: Option<(Pipe, Instant)>,
}

impl NngInbox {
    /// Opens the socket.
    pub(super) fn listen(address: &str, message_max: usize) -> Result<Self, OpenError> {
        let fail = |error| open_error(address, error);
        check_address(address, 0)?;
        let socket = new_socket(Protocol::Pair0, address)?;
        set_limits(&socket, address, message_max)?;
        let state = Mutex::new(InboxState { is_receiving: true, ..InboxState::default() });
        let receiver =
            Arc::new(InboxSocket { socket, close_guard: CloseGuard::default(), aio: OnceLock::new(), state });
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
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let was_full = !std::mem::replace(&mut state.is_receiving, true);
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
                receiver.on_aio(result);
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

    /// Updates the peer.
    fn on_pipe_event(&self, pipe: Pipe, event: PipeEvent) {
        let mut state = lock(&self.state);
        let has_space = state.is_receiving;
        match (event, &state.peer) {
            // Only with free space: messages that wait with a peer would be lost with it.
            (PipeEvent::AddPre, Some((old, last_received))) if has_space && last_received.elapsed() >= QUIET_MAX => {
                let old = *old;
                drop(state);
                old.close();
            }
            (PipeEvent::AddPost, _) => state.peer = Some((pipe, Instant::now())),
            (PipeEvent::RemovePost, Some((old, _))) if *old == pipe => state.peer = None,
            _ => {}
        }
    }

    /// Receives the next message.
    fn receive(&self) {
        let post = || self.aio.get().ok_or(Error::Closed).and_then(|aio| self.socket.recv_async(aio));
        if let Some(Err(error)) = self.close_guard.run_if_open(post) {
            tracing::error!(%error, "BUG: the operation of an inbox is already in use");
            self.fail();
        }
    }

    /// Handles a received message, or the end of the socket.
    fn on_aio(&self, result: AioResult) {
        match result {
            AioResult::Recv(Ok(message)) => {
                let mut state = lock(&self.state);
                if let Some((_, last_received)) = &mut state.peer {
                    *last_received = Instant::now();
                }
                state.messages.push_back(message);
                state.is_receiving = state.messages.len() < WAITING_MAX;
                let (is_receiving, waker) = (state.is_receiving, state.waker.take());
                drop(state);
                waker.into_iter().for_each(Waker::wake);
                if is_receiving {
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
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Closes in the order that NNG needs. Do not call it on a callback thread.
    fn close(&self) {
        self.close_guard.close();
        cancel_all(self.aio.get().into_iter());
        self.socket.close();
    }
}
