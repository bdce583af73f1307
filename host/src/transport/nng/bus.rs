//! The BUS sockets: who announces, and who hears it.
//!
//! Best effort by design: what finds a peer's queue full is lost, and said again two seconds later.
//! A bus cannot speak to one peer, so what a new one should hear at once goes to all; newcomers that
//! come together share one such message, or a crowd that reconnects would get it squared.

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
    Gate, close_off_callbacks, guarded, new_socket, prepare, redial, refused, settle,
};
use crate::lock::lock;

/// The largest announcement that is taken in, in bytes.
const ANNOUNCEMENT_MAX: usize = 64 * 1024;
/// How many announcements may wait in a socket.
const WAITING_MAX: i32 = 128;
/// How long newcomers are gathered before they are greeted.
const GATHER: Duration = Duration::from_millis(2);

/// A connection on which nothing was heard for this long is dialled again.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long an attempt to connect may take before it is started again.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// A listening BUS socket.
pub(super) struct NngAnnouncer {
    bus: Arc<Bus>,
}

impl NngAnnouncer {
    /// Opens the socket.
    pub(super) fn listen(address: &str, joined: OnJoined) -> Result<Self, OpenError> {
        let fail = |error| refused(address, error);
        let announcer = Self { bus: Bus::open(address, Does::Greet(joined))? };
        announcer.bus.socket.listen(address).map_err(fail)?;
        Ok(announcer)
    }
}

impl Announcer for NngAnnouncer {
    fn announce(&self, message: &[u8]) {
        self.bus.say(message);
    }
}

impl Drop for NngAnnouncer {
    fn drop(&mut self) {
        let bus = Arc::clone(&self.bus);
        close_off_callbacks(move || bus.close());
    }
}

/// A dialled BUS socket.
pub(super) struct NngSubscriber {
    bus: Arc<Bus>,
}

impl NngSubscriber {
    /// Opens the socket; it connects in the background.
    pub(super) fn dial(address: &str, heard: OnMessage) -> Result<Self, OpenError> {
        let fail = |error| refused(address, error);
        let subscriber = Self { bus: Bus::open(address, Does::Hear(heard))? };
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

/// What a bus socket is for.
enum Does {
    Greet(OnJoined),
    Hear(OnMessage),
}

/// A BUS socket with the one `Aio` that it needs.
struct Bus {
    socket: Socket,
    gate: Gate,
    address: String,
    does: Does,
    /// Of one who hears.
    dialer: Mutex<Option<Dialer>>,
    connections: AtomicUsize,
    /// Whether a greeting is due.
    greeting: AtomicBool,
    /// Set once, as its callback needs the bus.
    aio: OnceLock<Aio>,
}

impl Bus {
    fn open(address: &str, does: Does) -> Result<Arc<Self>, OpenError> {
        let socket = new_socket(Protocol::Bus0, address)?;
        prepare(&socket, address, ANNOUNCEMENT_MAX)?;
        let bus = Arc::new(Self {
            socket,
            gate: Gate::default(),
            address: address.to_owned(),
            does,
            dialer: Mutex::default(),
            connections: AtomicUsize::new(0),
            greeting: AtomicBool::new(false),
            aio: OnceLock::new(),
        });
        bus.set_up().map_err(|error| refused(address, error))?;
        Ok(bus)
    }

    fn set_up(self: &Arc<Self>) -> Result<(), Error> {
        redial(&self.socket)?;
        self.socket.set_opt::<SendBufferSize>(WAITING_MAX)?;
        // Nobody reads what comes to the one who announces: it would only be kept.
        let heard = if matches!(self.does, Does::Greet(_)) { 1 } else { WAITING_MAX };
        self.socket.set_opt::<RecvBufferSize>(heard)?;
        let this: Weak<Self> = Arc::downgrade(self);
        let aio = Aio::new(move |_, result| {
            if let Some(bus) = this.upgrade() {
                bus.step(result);
            }
        })?;
        self.aio.get_or_init(|| aio);
        let this: Weak<Self> = Arc::downgrade(self);
        self.socket.pipe_notify(move |_, event| {
            let Some(bus) = this.upgrade() else { return };
            match event {
                PipeEvent::AddPre => drop(bus.connections.fetch_add(1, SeqCst)),
                PipeEvent::AddPost => bus.newcomer(),
                _ => drop(bus.connections.fetch_sub(1, SeqCst)),
            }
        })
    }

    fn dial(&self, dialer: &mut Option<Dialer>) -> Result<(), Error> {
        *dialer = Some(Dialer::new(&self.socket, &self.address, true)?);
        Ok(())
    }

    /// Closes the connection, or the attempt to connect, and dials again. Inside the gate, as NNG
    /// knows no dialler whose socket is closed.
    fn dial_again(&self) {
        let dial = || {
            let mut dialer = lock(&self.dialer);
            if let Some(old) = dialer.take() {
                old.close();
            }
            self.dial(&mut dialer)
        };
        if let Some(Err(error)) = self.gate.pass(dial) {
            tracing::debug!(%error, address = self.address, "cannot dial a bus again yet");
        }
    }

    fn newcomer(&self) {
        if matches!(self.does, Does::Greet(_)) && !self.greeting.swap(true, SeqCst) {
            self.post(|aio| aio.sleep(GATHER));
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
        if let Some(Err(error)) = self.gate.pass(post) {
            tracing::error!(%error, "a bus was busy");
        }
    }

    /// The operation has ended.
    fn step(&self, result: AioResult) {
        match (&self.does, result) {
            (Does::Greet(joined), AioResult::Sleep(Ok(()))) => {
                // Before the message is made: who comes from here on may miss it.
                self.greeting.store(false, SeqCst);
                if let Some(message) = guarded("joined", joined) {
                    self.say(&message);
                }
            }
            (Does::Hear(heard), AioResult::Recv(Ok(message))) => {
                guarded("heard", || heard(&message));
                self.receive_next();
            }
            (Does::Hear(_), AioResult::Recv(Err(Error::TimedOut))) => {
                self.dial_again();
                self.receive_next();
            }
            (Does::Hear(_), AioResult::Recv(Err(error))) if !matches!(error, Error::Closed | Error::Canceled) => {
                self.receive_next();
            }
            _ => {}
        }
    }

    /// Never blocks: with a buffer, what cannot be taken at once is refused at once.
    fn say(&self, message: &[u8]) {
        if let Some(Err((_, error))) = self.gate.pass(|| self.socket.try_send(message)) {
            tracing::debug!(%error, "an announcement was lost");
        }
    }

    /// The closing order that NNG needs. Not on a callback thread.
    fn close(&self) {
        self.gate.shut();
        settle(self.aio.get().into_iter());
        self.socket.close();
    }
}
