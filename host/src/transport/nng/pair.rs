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
enum Stand {
    Dialling,
    Connected,
    Disconnected,
}

/// A dialled PAIR socket.
pub(super) struct NngPairSender {
    sender: Arc<Sender>,
    stand: watch::Receiver<Stand>,
}

/// The socket of a line with the one `Aio` that it needs.
struct Sender {
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
        let stand = watch_connection(&socket).map_err(fail)?;
        let sender = Sender { socket, gate: Gate::default(), aio: OnceLock::new(), taken: Mutex::default() };
        let line = Self { sender: Arc::new(sender), stand };
        line.sender.set_up().map_err(fail)?;
        line.sender.socket.dial_async(address).map_err(fail)?;
        Ok(line)
    }

    /// Waits until the connection stands so, or is gone.
    async fn until(&self, wanted: Stand) -> Stand {
        let mut stand = self.stand.clone();
        match stand.wait_for(|stand| *stand == wanted || *stand == Stand::Disconnected).await {
            Ok(stand) => *stand,
            // The socket is gone, and with it what told of its connection.
            Err(_) => Stand::Disconnected,
        }
    }
}

impl PairSender for NngPairSender {
    fn connected(&self) -> Waiting<'_, Result<(), Disconnected>> {
        Box::pin(async {
            match self.until(Stand::Connected).await {
                Stand::Disconnected => Err(Disconnected),
                Stand::Dialling | Stand::Connected => Ok(()),
            }
        })
    }

    fn parted(&self) -> Waiting<'_, ()> {
        Box::pin(async {
            self.until(Stand::Disconnected).await;
        })
    }

    fn send<'a>(&'a self, body: &'a [u8]) -> Waiting<'a, Result<(), Disconnected>> {
        Box::pin(async move {
            let taken = self.sender.send(Message::from(body))?;
            tokio::select! {
                biased;
                taken = taken => if taken == Ok(true) { Ok(()) } else { Err(Disconnected) },
                _ = self.until(Stand::Disconnected) => Err(Disconnected),
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

impl Sender {
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
fn watch_connection(socket: &Socket) -> Result<watch::Receiver<Stand>, Error> {
    let (told, stand) = watch::channel(Stand::Dialling);
    let has_one = AtomicBool::new(false);
    socket.pipe_notify(move |pipe, event| match event {
        PipeEvent::AddPre if has_one.swap(true, SeqCst) => pipe.close(),
        PipeEvent::AddPre => {}
        PipeEvent::AddPost => {
            // It can be gone before NNG tells that it was added.
            told.send_if_modified(|stand| {
                let is_new = *stand == Stand::Dialling;
                if is_new {
                    *stand = Stand::Connected;
                }
                is_new
            });
        }
        // There is a second, to be refused, only when the first is about to go.
        _ => drop(told.send_replace(Stand::Disconnected)),
    })?;
    Ok(stand)
}

/// A listening PAIR socket.
pub(super) struct NngInbox {
    receiver: Arc<Receiver>,
    address: String,
}

/// The socket of an inbox with the one `Aio` that it needs.
struct Receiver {
    socket: Socket,
    gate: Gate,
    /// Set once, as its callback needs the receiver.
    aio: OnceLock<Aio>,
    tray: Mutex<Tray>,
}

/// What has come in.
#[derive(Default)]
struct Tray {
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
        let tray = Mutex::new(Tray { receives: true, ..Tray::default() });
        let receiver = Arc::new(Receiver { socket, gate: Gate::default(), aio: OnceLock::new(), tray });
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
        let mut tray = lock(&self.receiver.tray);
        let Some(message) = tray.messages.pop_front() else {
            if tray.has_failed {
                return Poll::Ready(None);
            }
            tray.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let was_full = !std::mem::replace(&mut tray.receives, true);
        drop(tray);
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

impl Receiver {
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
                receiver.note_peer(pipe, event);
            }
        })
    }

    /// Keeps account of the peer.
    fn note_peer(&self, pipe: Pipe, event: PipeEvent) {
        let mut tray = lock(&self.tray);
        let has_room = tray.receives;
        match (event, &tray.peer) {
            // What waits with a peer because there is no room here would be lost with it.
            (PipeEvent::AddPre, Some((old, heard))) if has_room && heard.elapsed() >= QUIET_MAX => {
                let old = *old;
                drop(tray);
                old.close();
            }
            (PipeEvent::AddPost, _) => tray.peer = Some((pipe, Instant::now())),
            (PipeEvent::RemovePost, Some((old, _))) if *old == pipe => tray.peer = None,
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
                let mut tray = lock(&self.tray);
                if let Some((_, heard)) = &mut tray.peer {
                    *heard = Instant::now();
                }
                tray.messages.push_back(message);
                tray.receives = tray.messages.len() < WAITING_MAX;
                let (receives, reader) = (tray.receives, tray.reader.take());
                drop(tray);
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
        let mut tray = lock(&self.tray);
        tray.has_failed = true;
        let reader = tray.reader.take();
        drop(tray);
        reader.into_iter().for_each(Waker::wake);
    }

    /// The closing order that NNG needs. Not on a callback thread.
    fn close(&self) {
        self.gate.shut();
        settle(self.aio.get().into_iter());
        self.socket.close();
    }
}
