//! The transport over NNG. Nothing outside this folder names that library.
//!
//! NNG runs our callbacks on its task threads, of which there are two for each core, and tells of
//! lost connections on its single reaper thread. Invariants, each of which NNG answers with a hang
//! or an abort when broken:
//!
//! - A callback never blocks and never unwinds: [`guarded`] runs all code that is not ours.
//! - An operation is posted only through its socket's [`Gate`]. Closing shuts the gate, then
//!   cancels and awaits what is in flight, then closes contexts and the socket, and only then lets
//!   go of the `Aio`s.
//! - Nothing closes on a callback thread: [`close_off_callbacks`] hands it to another.
//! - Each socket bounds what it takes in before it listens or dials. Without that bound one message
//!   of 16 bytes aborts the process.
//!
//! No call may enter the same gate twice: a writer that waits would block it for good.

use std::{
    cell::Cell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, RwLock},
    thread,
    time::Duration,
};

use ::nng::{
    Aio, Error, Protocol, Socket,
    options::{
        Options as _, ReconnectMaxTime, ReconnectMinTime, RecvMaxSize, protocol::reqrep::ResendTime,
        transport::tcp::KeepAlive,
    },
};

use super::{
    Announcer, BlockingReq, Caller, FRAME_MAX, Inbox, OnJoined, OnMessage, OpenError, PairSender, RECONNECT_MAX,
    RECONNECT_MIN, Server, Service, Subscriber, Transport, stream::StreamReq,
};
use crate::{lock, panics, system};

mod server;

mod caller;

mod liveness;

mod watch;

#[cfg(test)]
mod tests;

mod bus;

mod pair;

/// NNG repeats a request by timer after this. Not never: that would end repeating altogether.
const RESEND: Duration = Duration::from_hours(24);

/// The files that NNG opens when it starts, and one for the first socket.
const NNG_DESCRIPTORS: usize = 4;

/// Sockets over TCP, driven by NNG, but for those of a single thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nng;

impl Transport for Nng {
    fn serve(
        &self,
        address: &str,
        open_requests_max: usize,
        service: Arc<dyn Service>,
    ) -> Result<Box<dyn Server>, OpenError> {
        let bounds = server::Bounds { open_requests_max, ..server::Bounds::default() };
        Ok(Box::new(server::NngServer::listen(address, bounds, service)?))
    }

    fn connect(&self, address: &str) -> Result<Arc<dyn Caller>, OpenError> {
        Ok(Arc::new(caller::NngCaller::dial(address, None)?))
    }

    fn connect_probed(&self, address: &str, probe: Vec<u8>) -> Result<Arc<dyn Caller>, OpenError> {
        Ok(Arc::new(caller::NngCaller::dial(address, Some(probe))?))
    }

    fn blocking_req(&self, address: &str) -> Result<Box<dyn BlockingReq>, OpenError> {
        Ok(Box::new(StreamReq::new(address)?))
    }

    fn announcer(&self, address: &str, joined: OnJoined) -> Result<Box<dyn Announcer>, OpenError> {
        Ok(Box::new(bus::NngAnnouncer::listen(address, joined)?))
    }

    fn subscriber(&self, address: &str, heard: OnMessage) -> Result<Box<dyn Subscriber>, OpenError> {
        Ok(Box::new(bus::NngSubscriber::dial(address, heard)?))
    }

    fn pair_sender(&self, address: &str) -> Result<Box<dyn PairSender>, OpenError> {
        Ok(Box::new(pair::NngPairSender::dial(address)?))
    }

    fn inbox(&self, address: &str, message_max: usize) -> Result<Box<dyn Inbox>, OpenError> {
        Ok(Box::new(pair::NngInbox::listen(address, message_max)?))
    }
}

/// Lets operations be posted until its socket closes.
#[derive(Debug, Default)]
struct Gate {
    shut: RwLock<bool>,
}

impl Gate {
    /// Runs `post` unless the gate is shut; [`Gate::shut`] waits for it.
    fn pass<T>(&self, post: impl FnOnce() -> T) -> Option<T> {
        let shut = lock::read(&self.shut);
        (!*shut).then(post)
    }

    fn is_open(&self) -> bool {
        !*lock::read(&self.shut)
    }

    /// Shuts the gate. What passed before has been posted when this returns.
    fn shut(&self) {
        *lock::write(&self.shut) = true;
    }
}

/// Ends what is in flight on these. Their gate must be shut, and this be no callback thread.
fn settle<'a>(aios: impl Iterator<Item = &'a Aio> + Clone) {
    aios.clone().for_each(Aio::cancel);
    aios.for_each(Aio::wait);
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs code of others inside a callback: a panic is logged and gives `None`.
fn guarded<T>(what: &'static str, code: impl FnOnce() -> T) -> Option<T> {
    let before = IN_CALLBACK.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(code));
    IN_CALLBACK.set(before);
    outcome.map_err(|panic| panics::caught(panics::Place::Transport, what, &*panic)).ok()
}

/// Closes here, or on a thread of its own when this is a callback, which closing would wait for.
fn close_off_callbacks(close: impl FnOnce() + Send + 'static) {
    if !IN_CALLBACK.get() {
        return close();
    }
    if let Err(error) = thread::Builder::new().name("close socket".to_owned()).spawn(close) {
        let error = system::explain(&error);
        tracing::error!(error, "no thread to close a socket on: it stays open");
    }
}

/// A socket of NNG. Every one is made here.
fn new_socket(protocol: Protocol, address: &str) -> Result<Socket, OpenError> {
    check_start().map_err(|error| OpenError::Refused { address: address.to_owned(), cause: error.to_string() })?;
    Socket::new(protocol).map_err(|error| refused(address, error))
}

/// Checks, before the first socket, that NNG can start: without the threads that it starts then, it
/// would wait for itself for ever.
fn check_start() -> io::Result<()> {
    static CHECKED: Mutex<bool> = Mutex::new(false);
    let mut checked = lock::lock(&CHECKED);
    if !*checked {
        system::check_descriptors(NNG_DESCRIPTORS)?;
        system::check_threads(nng_threads())?;
        *checked = true;
    }
    Ok(())
}

/// The threads that NNG starts: a poller, a reaper, a timer and four resolvers, and for each
/// processor two that run callbacks and one that watches time.
fn nng_threads() -> usize {
    const FIXED: usize = 7;
    // NNG counts the processors of the machine, not those that this process may use.
    let count = cpu_set_size();
    FIXED + 2 * count + count.min(256)
}

/// The processors that are online.
fn cpu_set_size() -> usize {
    // `0-3,8` and the like.
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    let counted = online.trim().split(',').map(range).sum::<Option<usize>>();
    counted.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

/// A REQ socket that dials again after a loss, and then repeats what is open.
fn request_socket(address: &str) -> Result<Socket, OpenError> {
    let fail = |error| refused(address, error);
    let socket = new_socket(Protocol::Req0, address)?;
    prepare(&socket, address, FRAME_MAX)?;
    redial(&socket).and_then(|()| socket.set_opt::<ResendTime>(Some(RESEND))).map_err(fail)?;
    Ok(socket)
}

/// Sets how soon a socket dials again.
fn redial(socket: &Socket) -> Result<(), Error> {
    socket.set_opt::<ReconnectMinTime>(Some(RECONNECT_MIN))?;
    socket.set_opt::<ReconnectMaxTime>(Some(RECONNECT_MAX))
}

/// Sets what every socket needs before it listens or dials.
fn prepare(socket: &Socket, address: &str, frame_max: usize) -> Result<(), OpenError> {
    check(address, 1)?;
    bound(socket, address, frame_max)
}

/// Bounds what a socket takes in, and has it notice a peer that is silently gone.
fn bound(socket: &Socket, address: &str, frame_max: usize) -> Result<(), OpenError> {
    let set = || {
        socket.set_opt::<RecvMaxSize>(frame_max)?;
        socket.set_opt::<KeepAlive>(true)
    };
    set().map_err(|error| refused(address, error))
}

/// Only TCP: it is what has been tested to hold, and no other transport may call back at once. NNG
/// itself notices a port that is no number only when it dials, and then just dials on.
fn check(address: &str, lowest_port: u16) -> Result<(), OpenError> {
    let schemes = ["tcp://", "tcp4://", "tcp6://"];
    let place = schemes.iter().find_map(|scheme| address.strip_prefix(scheme)).unwrap_or_default();
    let parts = place.strip_suffix('/').unwrap_or(place).rsplit_once(':');
    let is_host = |host: &str| !host.is_empty() && !host.contains(char::is_control);
    let is_known =
        parts.is_some_and(|(host, port)| is_host(host) && port.parse().is_ok_and(|port: u16| port >= lowest_port));
    if is_known { Ok(()) } else { Err(bad_address(address)) }
}

fn bad_address(address: &str) -> OpenError {
    OpenError::BadAddress { address: address.to_owned() }
}

/// What NNG means by an error when a socket is opened.
fn refused(address: &str, error: Error) -> OpenError {
    match error {
        Error::AddressInUse => OpenError::InUse { address: address.to_owned() },
        // Of an address that has been looked at before, so it is not how it is written.
        Error::AddressInvalid => OpenError::NotHere { address: address.to_owned() },
        Error::InvalidInput | Error::NotSupported => bad_address(address),
        other => {
            let limit = match other {
                Error::OutOfFiles => format!(": {}", system::descriptors()),
                Error::OutOfMemory => format!(": {}", system::memory()),
                _ => String::new(),
            };
            OpenError::Refused { address: address.to_owned(), cause: format!("{other}{limit}") }
        }
    }
}
