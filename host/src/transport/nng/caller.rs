//! The REQ socket. Each open call has its own context and `Aio`.
//!
//! A context sends, then receives, then returns to the pool. NNG repeats open requests after a reconnect, and nothing
//! by timer. A timer cancels calls past their deadline, and lets [`Liveness`] check the connection: calls on a dead
//! connection are repeated over the next one. Invariants:
//!
//! - A call is ended by the thread that removes it from its context. So `on_reply` runs once.
//! - A context is cancelled for a timeout only under the lock of its call, so that its next call is never cancelled
//!   instead.
//! - A context receives only after its send has ended: NNG asserts this when a send is cancelled.
//! - A context that failed or timed out has no open request: cancelling resets it.
//! - The dialer is closed only while the close guard is open: NNG frees it with its socket.
//! - A context's `Aio` never sleeps: NNG would report each of its later timeouts as a success. The timer ends calls
//!   that were not sent.

use std::{
    collections::HashMap,
    mem,
    net::IpAddr,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ::nng::{Dialer, Error, Message, PipeEvent, Socket};

use self::request_context::{PendingCall, RequestContext};
use super::{
    super::{BODY_MAX, CallError, Caller, OnReply, OpenError},
    CloseGuard, cancel_all, close_off_callbacks,
    deadline_timer::{DeadlineTimer, NEVER, Tick},
    liveness::{Liveness, LivenessAction, LivenessInput},
    open_error, request_socket,
};
use crate::{config::Address, lock::lock};

mod request_context;

/// Maximum number of open calls.
const CALLS_MAX: usize = 65_536;

/// A dialed REQ socket. Dropping it closes it, and its open calls end as closed.
pub(super) struct NngCaller {
    socket: Arc<CallerSocket>,
}

impl NngCaller {
    /// Opens the socket; it connects in the background. With a `probe` it detects a connection that died silently.
    pub(super) fn dial(address: &str, probe: Option<Vec<u8>>) -> Result<Self, OpenError> {
        let fail = |error| open_error(address, error);
        let caller = Self { socket: Arc::new(CallerSocket::new(request_socket(address)?, address, probe)) };
        caller.socket.set_up().map_err(fail)?;
        caller.socket.dial(&mut lock(&caller.socket.dialer)).map_err(fail)?;
        Ok(caller)
    }
}

impl Caller for NngCaller {
    fn call(&self, body: &[u8], limit: Duration, on_reply: OnReply) {
        let started = self.socket.timer.now();
        let deadline = self.socket.timer.after(limit);
        let call = PendingCall { on_reply, limit, deadline, started, size: body.len(), is_probe: false };
        if body.len() > BODY_MAX {
            return self.socket.fail(call, CallError::TooLarge { size: body.len() });
        }
        match self.socket.take_context() {
            Ok(context) => context.send(call, Message::from(body)),
            Err(error) => self.socket.fail(call, error),
        }
    }

    fn is_connected(&self) -> bool {
        self.socket.connected.load(Relaxed)
    }

    fn address(&self) -> &str {
        &self.socket.address
    }
}

impl Drop for NngCaller {
    fn drop(&mut self) {
        let socket = Arc::clone(&self.socket);
        close_off_callbacks(move || socket.close());
    }
}

/// The socket, shared by its contexts.
struct CallerSocket {
    socket: Socket,
    close_guard: CloseGuard,
    address: String,
    dialer: Mutex<Option<Dialer>>,
    connected: AtomicBool,
    /// The number of connections so far, and when the last was established.
    connections: AtomicU64,
    since: AtomicU64,
    /// A request to which any server replies immediately.
    probe: Option<Vec<u8>>,
    liveness: Mutex<Liveness>,
    /// When the last reply arrived, and when the last probe with a reply was sent.
    last_received: AtomicU64,
    probed: AtomicU64,
    contexts: Mutex<RequestContexts>,
    /// Calls that were not sent; the timer ends them.
    failed: Mutex<Vec<(PendingCall, CallError)>>,
    timer: DeadlineTimer,
}

/// The contexts of one socket. They refer back to it, so they are dropped when it closes.
#[derive(Default)]
struct RequestContexts {
    all: Vec<Arc<RequestContext>>,
    free: Vec<Arc<RequestContext>>,
}

impl CallerSocket {
    fn new(socket: Socket, address: &str, probe: Option<Vec<u8>>) -> Self {
        Self {
            socket,
            close_guard: CloseGuard::default(),
            address: address.to_owned(),
            dialer: Mutex::default(),
            connected: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            since: AtomicU64::new(0),
            liveness: Mutex::new(Liveness::new(probe.is_some(), is_named(address))),
            probe,
            last_received: AtomicU64::new(0),
            probed: AtomicU64::new(0),
            contexts: Mutex::default(),
            failed: Mutex::default(),
            timer: DeadlineTimer::new(),
        }
    }

    fn set_up(self: &Arc<Self>) -> Result<(), Error> {
        self.watch_connection()?;
        let socket: Weak<Self> = Arc::downgrade(self);
        self.timer.set_up(move || {
            if let Some(socket) = socket.upgrade() {
                socket.on_timer();
            }
        })
    }

    /// Cancels calls past their deadline, checks the connection, and ends calls that were not sent.
    fn on_timer(self: &Arc<Self>) {
        let mut action = LivenessAction::Wait(NEVER);
        let run = |now| {
            let late =
                lock(&self.contexts).all.iter().map(|context| context.cancel_if_late(now)).min().unwrap_or(NEVER);
            action = self.check_liveness(now);
            match action {
                LivenessAction::Wait(until) => late.min(until),
                // Checked again immediately.
                LivenessAction::Probe(_) | LivenessAction::Redial => late.min(now),
            }
        };
        if let Some(Err(error)) = self.close_guard.run_if_open(|| self.timer.run_due(run)) {
            tracing::error!(%error, "BUG: the timer of calls is already in use");
        }
        // Done last, as a call that fails from here on wakes the timer again, and outside of `run_if_open`, as
        // `on_reply` may make another call.
        match action {
            LivenessAction::Wait(_) => {}
            LivenessAction::Probe(limit) => self.send_probe(limit),
            LivenessAction::Redial => self.redial(),
        }
        self.end_failed();
    }

    /// Passes the state of the connection to [`Liveness`].
    fn check_liveness(&self, now: Tick) -> LivenessAction {
        let mut liveness = lock(&self.liveness);
        let tick = |bits: &AtomicU64| Tick::from_bits(bits.load(Relaxed));
        let (since, last_received, probed) = (tick(&self.since), tick(&self.last_received), tick(&self.probed));
        let connection = self.connected.load(Relaxed).then(|| (self.connections.load(Relaxed), since));
        // Requests older than a probe with a reply have been sent; over a new connection they are repeated.
        let delivered = if probed >= since { probed } else { Tick::ZERO };
        let (mut oldest, mut unsent) = (None, 0);
        for context in &lock(&self.contexts).all {
            let call = lock(&context.call);
            let Some(call) = call.as_ref().filter(|call| !call.is_probe) else { continue };
            oldest = Some(oldest.map_or(call.started, |oldest: Tick| oldest.min(call.started)));
            if call.started > delivered {
                unsent += call.size;
            }
        }
        liveness.decide(&LivenessInput { now, connection, oldest, last_received, unsent })
    }

    /// Sends a probe.
    fn send_probe(self: &Arc<Self>, limit: Duration) {
        let Some(probe) = &self.probe else { return };
        let (started, this) = (self.timer.now(), Arc::downgrade(self));
        let on_reply = move |reply: Result<&[u8], CallError>| {
            if let (Ok(_), Some(socket)) = (reply, this.upgrade()) {
                socket.probed.store(started.to_bits(), Relaxed);
            }
        };
        let deadline = self.timer.after(limit);
        let call =
            PendingCall { on_reply: Box::new(on_reply), limit, deadline, started, size: probe.len(), is_probe: true };
        // At the limit of open calls, the next check tries again.
        if let Ok(context) = self.take_context() {
            context.send(call, Message::from(&probe[..]));
        }
    }

    /// Closes the connection or the connection attempt, and dials again.
    fn redial(&self) {
        let redial = || {
            let mut dialer = lock(&self.dialer);
            if let Some(old) = dialer.take() {
                old.close();
            }
            self.dial(&mut dialer)
        };
        tracing::debug!(address = self.address, "dialing again");
        if let Some(Err(error)) = self.close_guard.run_if_open(redial) {
            tracing::warn!(%error, address = self.address, "cannot dial again yet");
        }
    }

    fn dial(&self, dialer: &mut Option<Dialer>) -> Result<(), Error> {
        *dialer = Some(Dialer::new(&self.socket, &self.address, true)?);
        Ok(())
    }

    /// Ends a call with an error, on a transport thread, as its caller expects.
    fn fail(&self, call: PendingCall, error: CallError) {
        lock(&self.failed).push((call, error));
        let wake = || self.timer.add(self.timer.after(Duration::ZERO));
        if !matches!(self.close_guard.run_if_open(wake), Some(Ok(()))) {
            self.end_failed();
        }
    }

    fn end_failed(&self) {
        let failed = mem::take(&mut *lock(&self.failed));
        for (call, error) in failed {
            call.end(Err(error));
        }
    }

    /// Keeps `connected` up to date. A connection can be closed before NNG reports that it was added.
    fn watch_connection(self: &Arc<Self>) -> Result<(), Error> {
        let socket: Weak<Self> = Arc::downgrade(self);
        let pipes = Mutex::new(HashMap::new());
        self.socket.pipe_notify(move |pipe, event| {
            let Some(socket) = socket.upgrade() else { return };
            let mut pipes = lock(&pipes);
            match event {
                PipeEvent::AddPre => drop(pipes.insert(pipe, false)),
                PipeEvent::AddPost => {
                    socket.since.store(socket.timer.now().to_bits(), Relaxed);
                    socket.connections.fetch_add(1, Relaxed);
                    if let Some(added) = pipes.get_mut(&pipe) {
                        *added = true;
                    }
                }
                _ => drop(pipes.remove(&pipe)),
            }
            let is_connected = pipes.values().any(|added| *added);
            drop(pipes);
            if socket.connected.swap(is_connected, Relaxed) && !is_connected {
                socket.on_disconnect();
            }
        })
    }

    /// Lets the timer check the connection attempt that follows.
    fn on_disconnect(&self) {
        let now = self.timer.now();
        lock(&self.liveness).on_disconnect(now);
        // Has no effect if no call is open.
        if let Some(Err(error)) = self.close_guard.run_if_open(|| self.timer.add(now)) {
            tracing::error!(%error, "BUG: the timer of calls is already in use");
        }
    }

    /// Takes a free context, or creates one.
    fn take_context(self: &Arc<Self>) -> Result<Arc<RequestContext>, CallError> {
        let mut contexts = lock(&self.contexts);
        if let Some(context) = contexts.free.pop() {
            return Ok(context);
        }
        if contexts.all.len() >= CALLS_MAX {
            return Err(CallError::TooMany { open: CALLS_MAX });
        }
        let context = RequestContext::new(self).map_err(|_| self.closed())?;
        contexts.all.push(Arc::clone(&context));
        Ok(context)
    }

    fn return_context(&self, context: Arc<RequestContext>) {
        if self.close_guard.is_open() {
            lock(&self.contexts).free.push(context);
        }
    }

    fn closed(&self) -> CallError {
        CallError::Closed { address: self.address.clone() }
    }

    /// Closes in the order that NNG needs. Do not call it on a callback thread.
    fn close(&self) {
        self.close_guard.close();
        let contexts = mem::take(&mut *lock(&self.contexts)).all;
        cancel_all(contexts.iter().filter_map(|context| context.aio()).chain(self.timer.aio()));
        contexts.iter().for_each(RequestContext::close);
        self.end_failed();
        self.socket.close();
        // A callback may have returned a context since, which would keep this socket alive.
        *lock(&self.contexts) = RequestContexts::default();
    }
}

/// Whether the host of an address is a name.
fn is_named(address: &str) -> bool {
    let host = address.parse::<Address>().map(|address| address.bare_host().to_owned());
    host.is_ok_and(|host| host.parse::<IpAddr>().is_err())
}
