//! The BUS sockets: the announcer and its subscribers.
//!
//! Best effort by design: a message for a peer with a full queue is lost, and repeated two seconds later. A bus cannot
//! send to a single peer, so the message for a new peer is sent to all; peers that connect at the same time share one
//! such message; otherwise n reconnecting peers would cause n² messages.

use std::{
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use ::nng::{
    Aio, AioResult, Dialer, Error, PipeEvent, Protocol, Socket,
    options::{Options as _, RecvBufferSize, SendBufferSize},
};

use super::{
    super::{Announcer, OnJoined, OnMessage, OpenError, Subscriber},
    CloseGuard, cancel_all, catch_panic, close_off_callbacks, new_socket, open_error, prepare, set_reconnect_times,
};
use crate::lock::lock;

/// Maximum size of an announcement, in bytes.
const ANNOUNCEMENT_MAX: usize = 64 * 1024;
/// Maximum number of announcements that wait in a socket.
const WAITING_MAX: i32 = 128;
/// Delay in which new connections are collected for one announcement.
const COALESCE: Duration = Duration::from_millis(2);

/// Silence after which a connection is dialed again.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Timeout of a connection attempt, after which it is started again.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// A listening BUS socket.
pub(super) struct NngAnnouncer {
    bus: Arc<Bus>,
}

impl NngAnnouncer {
    /// Opens the socket.
    pub(super) fn listen(address: &str, joined: OnJoined) -> Result<Self, OpenError> {
        let fail = |error| open_error(address, error);
        let announcer = Self { bus: Bus::open(address, BusRole::Announce(joined))? };
        announcer.bus.socket.listen(address).map_err(fail)?;
        Ok(announcer)
    }
}

impl Announcer for NngAnnouncer {
    fn announce(&self, message: &[u8]) {
        self.bus.send(message);
    }
}

impl Drop for NngAnnouncer {
    fn drop(&mut self) {
        let bus = Arc::clone(&self.bus);
        close_off_callbacks(move || bus.close());
    }
}

/// A dialed BUS socket.
pub(super) struct NngSubscriber {
    bus: Arc<Bus>,
}

impl NngSubscriber {
    /// Opens the socket; it connects in the background.
    pub(super) fn dial(address: &str, on_message: OnMessage) -> Result<Self, OpenError> {
        let fail = |error| open_error(address, error);
        let subscriber = Self { bus: Bus::open(address, BusRole::Subscribe(on_message))? };
        subscriber.bus.receive_next();
        subscriber.bus.dial(&mut lock(&subscriber.bus.dialer)).map_err(fail)?;
        Ok(subscriber)
    }
}

impl Subscriber for NngSubscriber {}

impl Drop for NngSubscriber {
    fn drop(&mut self) {
        let bus = Arc::clone(&self.bus);
        close_off_callbacks(move || bus.close());
    }
}

/// Role of a bus socket, with its callback.
enum BusRole {
    Announce(OnJoined),
    Subscribe(OnMessage),
}

/// A BUS socket with the one `Aio` that it needs.
struct Bus {
    socket: Socket,
    close_guard: CloseGuard,
    address: String,
    role: BusRole,
    /// Of a subscriber.
    dialer: Mutex<Option<Dialer>>,
    connections: AtomicUsize,
    /// Whether new connections wait for an announcement.
    is_announcement_due: AtomicBool,
    /// Set once, as its callback needs the bus.
    aio: OnceLock<Aio>,
}

impl Bus {
    fn open(address: &str, role: BusRole) -> Result<Arc<Self>, OpenError> {
        let socket = new_socket(Protocol::Bus0, address)?;
        prepare(&socket, address, ANNOUNCEMENT_MAX)?;
        let bus = Arc::new(Self {
            socket,
            close_guard: CloseGuard::default(),
            address: address.to_owned(),
            role,
            dialer: Mutex::default(),
            connections: AtomicUsize::new(0),
            is_announcement_due: AtomicBool::new(false),
            aio: OnceLock::new(),
        });
        bus.set_up().map_err(|error| open_error(address, error))?;
        Ok(bus)
    }

    fn set_up(self: &Arc<Self>) -> Result<(), Error> {
        set_reconnect_times(&self.socket)?;
        self.socket.set_opt::<SendBufferSize>(WAITING_MAX)?;
        // An announcer does not read what it receives.
        let receive_max = if matches!(self.role, BusRole::Announce(_)) { 1 } else { WAITING_MAX };
        self.socket.set_opt::<RecvBufferSize>(receive_max)?;
        let this: Weak<Self> = Arc::downgrade(self);
        let aio = Aio::new(move |_, result| {
            if let Some(bus) = this.upgrade() {
                bus.on_aio(result);
            }
        })?;
        self.aio.get_or_init(|| aio);
        let this: Weak<Self> = Arc::downgrade(self);
        self.socket.pipe_notify(move |_, event| {
            let Some(bus) = this.upgrade() else { return };
            match event {
                PipeEvent::AddPre => drop(bus.connections.fetch_add(1, SeqCst)),
                PipeEvent::AddPost => bus.on_connect(),
                _ => drop(bus.connections.fetch_sub(1, SeqCst)),
            }
        })
    }

    fn dial(&self, dialer: &mut Option<Dialer>) -> Result<(), Error> {
        *dialer = Some(Dialer::new(&self.socket, &self.address, true)?);
        Ok(())
    }

    /// Closes the connection or the connection attempt, and dials again. Only while the close guard is open, as NNG
    /// frees the dialer with its socket.
    fn redial(&self) {
        let dial = || {
            let mut dialer = lock(&self.dialer);
            if let Some(old) = dialer.take() {
                old.close();
            }
            self.dial(&mut dialer)
        };
        if let Some(Err(error)) = self.close_guard.run_if_open(dial) {
            tracing::debug!(%error, address = self.address, "cannot dial a bus again yet");
        }
    }

    fn on_connect(&self) {
        if matches!(self.role, BusRole::Announce(_)) && !self.is_announcement_due.swap(true, SeqCst) {
            self.post(|aio| aio.sleep(COALESCE));
        }
    }

    fn receive_next(&self) {
        let is_connected = self.connections.load(SeqCst) > 0;
        self.post(|aio| {
            aio.set_timeout(Some(if is_connected { SILENCE_MAX } else { ATTEMPT_MAX }))?;
            self.socket.recv_async(aio)
        });
    }

    fn post(&self, operation: impl FnOnce(&Aio) -> Result<(), Error>) {
        let post = || self.aio.get().ok_or(Error::Closed).and_then(operation);
        if let Some(Err(error)) = self.close_guard.run_if_open(post) {
            tracing::error!(%error, "BUG: the operation of a bus is already in use");
        }
    }

    /// Handles the end of an operation.
    fn on_aio(&self, result: AioResult) {
        match (&self.role, result) {
            (BusRole::Announce(joined), AioResult::Sleep(Ok(()))) => {
                // Before the message is created: peers that connect from here on may miss it.
                self.is_announcement_due.store(false, SeqCst);
                if let Some(message) = catch_panic("joined", joined) {
                    self.send(&message);
                }
            }
            (BusRole::Subscribe(on_message), AioResult::Recv(Ok(message))) => {
                catch_panic("on_message", || on_message(&message));
                self.receive_next();
            }
            (BusRole::Subscribe(_), AioResult::Recv(Err(Error::TimedOut))) => {
                self.redial();
                self.receive_next();
            }
            (BusRole::Subscribe(_), AioResult::Recv(Err(error)))
                if !matches!(error, Error::Closed | Error::Canceled) =>
            {
                self.receive_next();
            }
            _ => {}
        }
    }

    /// Never blocks: the socket has a buffer, and rejects a message immediately when that is full.
    fn send(&self, message: &[u8]) {
        if let Some(Err((_, error))) = self.close_guard.run_if_open(|| self.socket.try_send(message)) {
            tracing::debug!(%error, "an announcement was lost");
        }
    }

    /// Closes in the order that NNG needs. Do not call it on a callback thread.
    fn close(&self) {
        self.close_guard.close();
        cancel_all(self.aio.get().into_iter());
        self.socket.close();
    }
}
