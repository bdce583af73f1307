//! The PAIR sockets: who sends one-way messages to an address, and who listens for them.
//!
//! Neither posts an operation: NNG raises a file descriptor when a message can be sent or taken, tokio
//! waits for that, and what is then asked of NNG never blocks. So there is no `Aio` to settle, and
//! whoever reads slowly slows its peer down and nobody else.
//!
//! A PAIR socket has one peer at a time. NNG shakes hands with a second one and only then shows it the
//! door, so a connection that has just come up may be none; and it takes a message as soon as its
//! connection has taken the last, whether or not that has left. Hence:
//!
//! - A line holds one connection and never a second: what was meant for the first must not slip into
//!   another that nobody has looked at yet.
//! - It buffers nothing, so that it can be sent on again just when the kernel has the whole of what was
//!   sent before.

use std::{
    os::fd::RawFd,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use ::nng::{
    Error, Listener, Message, PipeEvent, Protocol, Socket,
    options::{
        Options as _, ReconnectMaxTime, ReconnectMinTime, RecvBufferSize, RecvFd, SendBufferSize, SendFd,
        transport::tcp::BoundPort,
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
};

use super::{
    super::{Inbox, Line, OpenError, Parted, Waiting},
    RECONNECT_MAX, RECONNECT_MIN, bound, check, prepare, refused,
};

/// Nobody should send anything to a line; as much of it is taken in.
const UNWANTED_MAX: usize = 64 * 1024;
/// So many messages wait in an inbox, so that its peer need not wait for each.
const WAITING_MAX: i32 = 16;
/// A connection that is gone so soon after it took a message most likely had it all: who gets what it
/// waits for often closes at once. After more than this, the message is known to be stuck.
const SURE: Duration = Duration::from_secs(1);

/// How the connection of a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Dialling,
    Connected,
    Parted,
}

/// A dialled PAIR socket.
pub(super) struct NngLine {
    /// Readable while the connection takes a message. Before the socket, which it belongs to: fields
    /// are dropped in this order.
    room: AsyncFd<RawFd>,
    stand: watch::Receiver<Stand>,
    socket: Socket,
}

impl NngLine {
    /// Opens the socket; it connects in the background.
    pub(super) fn dial(address: &str) -> Result<Self, OpenError> {
        let fail = |error| refused(address, error);
        let socket = Socket::new(Protocol::Pair0).map_err(fail)?;
        prepare(&socket, address, UNWANTED_MAX)?;
        let set = || {
            socket.set_opt::<ReconnectMinTime>(Some(RECONNECT_MIN))?;
            socket.set_opt::<ReconnectMaxTime>(Some(RECONNECT_MAX))?;
            socket.set_opt::<SendBufferSize>(0)?;
            socket.get_opt::<SendFd>()
        };
        let room = watched(set().map_err(fail)?, address)?;
        let stand = watch_connection(&socket).map_err(fail)?;
        let line = Self { room, stand, socket };
        line.socket.dial_async(address).map_err(fail)?;
        Ok(line)
    }

    /// Waits until the connection stands so, or is gone.
    async fn until(&self, wanted: Stand) -> Stand {
        let mut stand = self.stand.clone();
        match stand.wait_for(|stand| *stand == wanted || *stand == Stand::Parted).await {
            Ok(stand) => *stand,
            // The socket is gone, and with it what told of its connection.
            Err(_) => Stand::Parted,
        }
    }

    async fn send_whole(&self, body: &[u8]) -> Result<(), Parted> {
        let mut message = Message::from(body);
        loop {
            let mut room = tokio::select! {
                room = self.room.readable() => room.map_err(|_| Parted)?,
                _ = self.until(Stand::Parted) => return Err(Parted),
            };
            // Before it is sent: what is raised from here on tells that it has left.
            room.clear_ready();
            match self.socket.try_send(message) {
                Ok(()) => break,
                Err((back, Error::TryAgain)) => message = back,
                Err(_) => return Err(Parted),
            }
        }
        let taken = Instant::now();
        tokio::select! {
            biased;
            room = self.room.readable() => room.map(drop).map_err(|_| Parted),
            _ = self.until(Stand::Parted) => if taken.elapsed() < SURE { Ok(()) } else { Err(Parted) },
        }
    }
}

impl Line for NngLine {
    fn connected(&self) -> Waiting<'_, Result<(), Parted>> {
        Box::pin(async {
            match self.until(Stand::Connected).await {
                Stand::Parted => Err(Parted),
                Stand::Dialling | Stand::Connected => Ok(()),
            }
        })
    }

    fn parted(&self) -> Waiting<'_, ()> {
        Box::pin(async {
            self.until(Stand::Parted).await;
        })
    }

    fn send<'a>(&'a self, body: &'a [u8]) -> Waiting<'a, Result<(), Parted>> {
        Box::pin(self.send_whole(body))
    }
}

/// Tells how the first connection of a socket stands, and refuses every further one.
fn watch_connection(socket: &Socket) -> Result<watch::Receiver<Stand>, Error> {
    let (told, stand) = watch::channel(Stand::Dialling);
    let has_one = AtomicBool::new(false);
    let moved = move |from: Stand, to: Stand| {
        told.send_if_modified(|stand| {
            let moves = *stand == from;
            if moves {
                *stand = to;
            }
            moves
        })
    };
    socket.pipe_notify(move |pipe, event| match event {
        PipeEvent::AddPre if has_one.swap(true, SeqCst) => pipe.close(),
        PipeEvent::AddPre => {}
        PipeEvent::AddPost => drop(moved(Stand::Dialling, Stand::Connected)),
        // Only the first can go before it is the second's turn to be refused.
        _ => {
            if !moved(Stand::Connected, Stand::Parted) {
                moved(Stand::Dialling, Stand::Parted);
            }
        }
    })?;
    Ok(stand)
}

/// A listening PAIR socket.
pub(super) struct NngInbox {
    /// Readable while there is a message. Before the socket, which it belongs to.
    filled: AsyncFd<RawFd>,
    address: String,
    socket: Socket,
}

impl NngInbox {
    /// Opens the socket.
    pub(super) fn listen(address: &str, message_max: usize) -> Result<Self, OpenError> {
        let fail = |error| refused(address, error);
        check(address, 0)?;
        let socket = Socket::new(Protocol::Pair0).map_err(fail)?;
        bound(&socket, address, message_max)?;
        socket.set_opt::<RecvBufferSize>(WAITING_MAX).map_err(fail)?;
        let filled = watched(socket.get_opt::<RecvFd>().map_err(fail)?, address)?;
        let listener = Listener::new(&socket, address).map_err(fail)?;
        let host = address.trim_end_matches('/').rsplit_once(':').map_or(address, |(host, _)| host);
        let address = format!("{host}:{}", listener.get_opt::<BoundPort>().map_err(fail)?);
        Ok(Self { filled, address, socket })
    }
}

impl Inbox for NngInbox {
    fn address(&self) -> &str {
        &self.address
    }

    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        loop {
            let Ok(mut filled) = ready!(self.filled.poll_read_ready(context)) else { return Poll::Ready(None) };
            match self.socket.try_recv() {
                Ok(message) => return Poll::Ready(Some(message.as_slice().to_vec())),
                Err(Error::TryAgain) => filled.clear_ready(),
                Err(error) => {
                    tracing::error!(%error, address = self.address, "a socket that listens has failed");
                    return Poll::Ready(None);
                }
            }
        }
    }
}

/// Has tokio watch a descriptor of NNG's, which is open as long as its socket, and that is dropped
/// after this.
#[expect(deprecated, reason = "what takes its place is unsafe code, and would say what is said above")]
fn watched(descriptor: RawFd, address: &str) -> Result<AsyncFd<RawFd>, OpenError> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
        .map_err(|error| OpenError::Refused { address: address.to_owned(), cause: error.to_string() })
}
