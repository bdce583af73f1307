//! The transport over NNG. No code outside this directory uses that library.
//!
//! NNG runs callbacks on its task threads, two for each core, and reports lost connections on its single reaper
//! thread. Invariants, each of which causes a hang or an abort in NNG when broken:
//!
//! - A callback never blocks and never unwinds: it runs all code of other modules in [`catch_panic`].
//! - An operation is posted only through its socket's [`CloseGuard`]. Closing closes the guard, then cancels operations
//!   in flight and waits for them, then closes contexts and the socket, and only then drops the `Aio`s.
//! - Nothing is closed on a callback thread: [`close_off_callbacks`] uses another one.
//! - Each socket limits the size of messages before it listens or dials. Without that limit one message of 16 bytes
//!   aborts the process.
//!
//! Never nest [`CloseGuard::run_if_open`] of one guard: a waiting writer would block the inner call forever.

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

mod deadline_timer;

#[cfg(test)]
mod tests;

mod bus;

mod pair;

/// Delay after which NNG repeats a request by timer. Not infinite: that would also disable repeating after a loss.
const RESEND: Duration = Duration::from_hours(24);

/// Number of file descriptors that NNG opens when it starts, and one for the first socket.
const NNG_FDS: usize = 4;

/// Opens sockets over TCP with NNG, and blocking request sockets on plain streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nng;

impl Transport for Nng {
    fn serve(
        &self,
        address: &str,
        open_requests_max: usize,
        service: Arc<dyn Service>,
    ) -> Result<Box<dyn Server>, OpenError> {
        let limits = server::ServerLimits { open_requests_max, ..server::ServerLimits::default() };
        Ok(Box::new(server::NngServer::listen(address, limits, service)?))
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

    fn subscriber(&self, address: &str, on_message: OnMessage) -> Result<Box<dyn Subscriber>, OpenError> {
        Ok(Box::new(bus::NngSubscriber::dial(address, on_message)?))
    }

    fn pair_sender(&self, address: &str) -> Result<Box<dyn PairSender>, OpenError> {
        Ok(Box::new(pair::NngPairSender::dial(address)?))
    }

    fn inbox(&self, address: &str, message_max: usize) -> Result<Box<dyn Inbox>, OpenError> {
        Ok(Box::new(pair::NngInbox::listen(address, message_max)?))
    }
}

/// Allows operations to be posted until its socket closes.
#[derive(Debug, Default)]
struct CloseGuard {
    is_closed: RwLock<bool>,
}

impl CloseGuard {
    /// Runs `post` unless the guard is closed; [`CloseGuard::close`] waits until it returns.
    fn run_if_open<T>(&self, post: impl FnOnce() -> T) -> Option<T> {
        let is_closed = lock::read(&self.is_closed);
        (!*is_closed).then(post)
    }

    fn is_open(&self) -> bool {
        !*lock::read(&self.is_closed)
    }

    /// Closes the guard, after waiting until running calls of [`CloseGuard::run_if_open`] have returned.
    fn close(&self) {
        *lock::write(&self.is_closed) = true;
    }
}

/// Cancels the operations in flight on these, and waits for their end. Call it with their guard closed, and not on a
/// callback thread.
fn cancel_all<'a>(aios: impl Iterator<Item = &'a Aio> + Clone) {
    aios.clone().for_each(Aio::cancel);
    aios.for_each(Aio::wait);
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs code of other modules in a callback. Logs a panic and returns `None` for it.
fn catch_panic<T>(what: &'static str, code: impl FnOnce() -> T) -> Option<T> {
    let before = IN_CALLBACK.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(code));
    IN_CALLBACK.set(before);
    outcome.map_err(|panic| panics::caught(panics::PanicSource::Transport, what, &*panic)).ok()
}

/// Calls `close` on this thread, or on a new one if this is a callback, as `close` would wait for its end.
fn close_off_callbacks(close: impl FnOnce() + Send + 'static) {
    if !IN_CALLBACK.get() {
        return close();
    }
    if let Err(error) = thread::Builder::new().name("fw-close".to_owned()).spawn(close) {
        let error = system::explain(&error);
        tracing::error!(error, "cannot start a thread to close a socket: it stays open");
    }
}

/// Creates a socket of NNG. All sockets are created here.
fn new_socket(protocol: Protocol, address: &str) -> Result<Socket, OpenError> {
    check_start().map_err(|error| OpenError::Refused { address: address.to_owned(), cause: error.to_string() })?;
    Socket::new(protocol).map_err(|error| open_error(address, error))
}

/// Checks, before the first socket, that NNG can start: without its threads it hangs.
fn check_start() -> io::Result<()> {
    static CHECKED: Mutex<bool> = Mutex::new(false);
    let mut checked = lock::lock(&CHECKED);
    if !*checked {
        system::check_free_fds(NNG_FDS)?;
        system::check_threads(nng_threads())?;
        *checked = true;
    }
    Ok(())
}

/// Number of threads that NNG starts: a poller, a reaper, a timer and four resolvers, and for each processor two
/// for callbacks and one for timeouts.
fn nng_threads() -> usize {
    const FIXED: usize = 7;
    // NNG counts the processors of the machine, not those that this process may use.
    let count = online_processors();
    FIXED + 2 * count + count.min(256)
}

/// Number of processors that are online.
fn online_processors() -> usize {
    // `0-3,8` and the like.
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    let counted = online.trim().split(',').map(range).sum::<Option<usize>>();
    counted.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Makes a REQ socket that dials again after a loss, and then repeats open requests.
fn request_socket(address: &str) -> Result<Socket, OpenError> {
    let fail = |error| open_error(address, error);
    let socket = new_socket(Protocol::Req0, address)?;
    prepare(&socket, address, FRAME_MAX)?;
    set_reconnect_times(&socket).and_then(|()| socket.set_opt::<ResendTime>(Some(RESEND))).map_err(fail)?;
    Ok(socket)
}

/// Sets the delays before a socket dials again.
fn set_reconnect_times(socket: &Socket) -> Result<(), Error> {
    socket.set_opt::<ReconnectMinTime>(Some(RECONNECT_MIN))?;
    socket.set_opt::<ReconnectMaxTime>(Some(RECONNECT_MAX))
}

/// Checks the address, and sets the options that every socket needs before it listens or dials.
fn prepare(socket: &Socket, address: &str, frame_max: usize) -> Result<(), OpenError> {
    check_address(address, 1)?;
    set_limits(socket, address, frame_max)
}

/// Limits the size of received messages, and enables TCP keep-alive.
fn set_limits(socket: &Socket, address: &str, frame_max: usize) -> Result<(), OpenError> {
    let set = || {
        socket.set_opt::<RecvMaxSize>(frame_max)?;
        socket.set_opt::<KeepAlive>(true)
    };
    set().map_err(|error| open_error(address, error))
}

/// Checks an address. Only TCP is supported: no other transport is tested, and some call back immediately. NNG itself
/// detects an invalid port only when it dials, and then just retries.
fn check_address(address: &str, lowest_port: u16) -> Result<(), OpenError> {
    let schemes = ["tcp://", "tcp4://", "tcp6://"];
    let host_and_port = schemes.iter().find_map(|scheme| address.strip_prefix(scheme)).unwrap_or_default();
    let parts = host_and_port.strip_suffix('/').unwrap_or(host_and_port).rsplit_once(':');
    let is_host = |host: &str| !host.is_empty() && !host.contains(char::is_control);
    let is_valid =
        parts.is_some_and(|(host, port)| is_host(host) && port.parse().is_ok_and(|port: u16| port >= lowest_port));
    if is_valid { Ok(()) } else { Err(bad_address(address)) }
}

fn bad_address(address: &str) -> OpenError {
    OpenError::BadAddress { address: address.to_owned() }
}

/// Converts an error of NNG when a socket is opened.
fn open_error(address: &str, error: Error) -> OpenError {
    match error {
        Error::AddressInUse => OpenError::InUse { address: address.to_owned() },
        // The address was checked before, so its syntax is valid.
        Error::AddressInvalid => OpenError::NotHere { address: address.to_owned() },
        Error::InvalidInput | Error::NotSupported => bad_address(address),
        other => {
            let limit = match other {
                Error::OutOfFiles => format!(": {}", system::fd_limit()),
                Error::OutOfMemory => format!(": {}", system::memory_limits()),
                _ => String::new(),
            };
            OpenError::Refused { address: address.to_owned(), cause: format!("{other}{limit}") }
        }
    }
}
