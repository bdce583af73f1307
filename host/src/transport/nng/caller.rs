//! The REQ socket: a line, which is one context and one `Aio`, for each open call.
//!
//! A line sends, then receives, then goes back to the pool. NNG repeats what is open when the
//! connection comes back; it repeats nothing by timer. A watch cancels what is out of time, and has
//! [`Liveness`] judge the connection: a call that waits behind a dead one is repeated over the next.
//! Invariants:
//!
//! - Whoever takes the `Call` out of its line, and only they, ends it. So `done` runs once.
//! - Only under the lock of its `Call` is a line cancelled for want of time, so that it never hits
//!   the line's next call.
//! - A line receives only after its send has ended: NNG asserts it when a send is cancelled.
//! - A line that failed or ran out of time holds no request: cancelling resets its context.
//! - The dialler is closed only inside the gate: NNG knows none whose socket is closed.
//! - A line's `Aio` never sleeps: NNG would take each later timeout of it for a success. Calls that
//!   are not sent are ended by the watch.

use std::{
    collections::HashMap,
    mem,
    net::IpAddr,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ::nng::{Aio, AioResult, Context, Dialer, Error, Message, PipeEvent, Socket};

use super::{
    super::{BODY_MAX, CallError, Caller, OnAnswer, OpenError},
    Gate, close_off_callbacks, guarded,
    liveness::{self, Act, Facts, Liveness},
    refused, request_socket, settle,
    watch::{NEVER, Tick, Watch},
};
use crate::{config::Address, lock::lock};

/// How many calls may be open at a time.
const CALLS_MAX: usize = 65_536;
/// How soon to look again after a call that is out of time, which may have been between its send
/// and its receive, where nothing can be cancelled.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A dialled REQ socket. Dropped, it closes, and its open calls end as closed.
pub(super) struct NngCaller {
    shared: Arc<Shared>,
}

impl NngCaller {
    /// Opens the socket; it connects in the background. With a `probe` it notices a connection that
    /// died silently.
    pub(super) fn dial(address: &str, probe: Option<Vec<u8>>) -> Result<Self, OpenError> {
        let fail = |error| refused(address, error);
        let caller = Self { shared: Arc::new(Shared::new(request_socket(address)?, address, probe)) };
        caller.shared.set_up().map_err(fail)?;
        caller.shared.dial(&mut lock(&caller.shared.dialer)).map_err(fail)?;
        Ok(caller)
    }
}

impl Caller for NngCaller {
    fn call(&self, body: &[u8], limit: Duration, done: OnAnswer) {
        let asked = self.shared.watch.now();
        let until = self.shared.watch.after(limit);
        let call = Call { done, limit, until, asked, size: body.len(), is_probe: false };
        if body.len() > BODY_MAX {
            return self.shared.fail(call, CallError::TooLarge { size: body.len() });
        }
        match self.shared.take_context() {
            Ok(context) => context.ask(call, Message::from(body)),
            Err(error) => self.shared.fail(call, error),
        }
    }

    fn is_connected(&self) -> bool {
        self.shared.connected.load(Relaxed)
    }

    fn address(&self) -> &str {
        &self.shared.address
    }
}

impl Drop for NngCaller {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        close_off_callbacks(move || shared.close());
    }
}

/// What the lines of one socket share.
struct Shared {
    socket: Socket,
    gate: Gate,
    address: String,
    dialer: Mutex<Option<Dialer>>,
    connected: AtomicBool,
    /// Counts the connections, and when the last came up.
    connections: AtomicU64,
    since: AtomicU64,
    /// What any server answers at once.
    probe: Option<Vec<u8>>,
    liveness: Mutex<Liveness>,
    /// When the last answer arrived, and when the last probe was sent that has been answered.
    heard: AtomicU64,
    probed: AtomicU64,
    contexts: Mutex<RequestContexts>,
    /// Calls that were not sent, for the watch to end.
    failed: Mutex<Vec<(Call, CallError)>>,
    watch: Watch,
}

/// The lines of one socket. They point back at it, so they are let go of when it closes.
#[derive(Default)]
struct RequestContexts {
    all: Vec<Arc<RequestContext>>,
    free: Vec<Arc<RequestContext>>,
}

impl Shared {
    fn new(socket: Socket, address: &str, probe: Option<Vec<u8>>) -> Self {
        Self {
            socket,
            gate: Gate::default(),
            address: address.to_owned(),
            dialer: Mutex::default(),
            connected: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            since: AtomicU64::new(0),
            liveness: Mutex::new(Liveness::new(probe.is_some(), is_named(address))),
            probe,
            heard: AtomicU64::new(0),
            probed: AtomicU64::new(0),
            contexts: Mutex::default(),
            failed: Mutex::default(),
            watch: Watch::new(),
        }
    }

    fn set_up(self: &Arc<Self>) -> Result<(), Error> {
        self.watch_connection()?;
        let shared: Weak<Self> = Arc::downgrade(self);
        self.watch.set_up(move || {
            if let Some(shared) = shared.upgrade() {
                shared.look();
            }
        })
    }

    /// Cancels what is out of time, judges the connection, and ends what was not sent.
    fn look(self: &Arc<Self>) {
        let mut act = Act::Wait(NEVER);
        let look = |now| {
            let late = lock(&self.contexts).all.iter().map(|context| context.end_if_late(now)).min().unwrap_or(NEVER);
            act = self.judge(now);
            match act {
                Act::Wait(until) => late.min(until),
                // It is judged again at once.
                Act::Probe(_) | Act::Redial => late.min(now),
            }
        };
        if let Some(Err(error)) = self.gate.pass(|| self.watch.look(look)) {
            tracing::error!(%error, "the watch over calls was busy");
        }
        // Only now: what fails from here on wakes the watch again. And outside the gate, as who
        // hears of it may ask again.
        match act {
            Act::Wait(_) => {}
            Act::Probe(limit) => self.send_probe(limit),
            Act::Redial => self.redial(),
        }
        self.end_failed();
    }

    /// Asks [`Liveness`] about the connection.
    fn judge(&self, now: Tick) -> Act {
        let mut liveness = lock(&self.liveness);
        let tick = |bits: &AtomicU64| Tick::from_bits(bits.load(Relaxed));
        let (since, heard, probed) = (tick(&self.since), tick(&self.heard), tick(&self.probed));
        let connection = self.connected.load(Relaxed).then(|| (self.connections.load(Relaxed), since));
        // What was asked before a probe that was answered has left; over a new connection it is repeated.
        let delivered = if probed >= since { probed } else { Tick::ZERO };
        let (mut oldest, mut unsent) = (None, 0);
        for context in &lock(&self.contexts).all {
            let call = lock(&context.call);
            let Some(call) = call.as_ref().filter(|call| !call.is_probe) else { continue };
            oldest = Some(oldest.map_or(call.asked, |oldest: Tick| oldest.min(call.asked)));
            if call.asked > delivered {
                unsent += call.size;
            }
        }
        liveness.decide(&Facts { now, connection, oldest, heard, unsent })
    }

    /// Asks what any server answers at once.
    fn send_probe(self: &Arc<Self>, limit: Duration) {
        let Some(probe) = &self.probe else { return };
        let (asked, this) = (self.watch.now(), Arc::downgrade(self));
        let done = move |answer: Result<&[u8], CallError>| {
            if let (Ok(_), Some(shared)) = (answer, this.upgrade()) {
                shared.probed.store(asked.to_bits(), Relaxed);
            }
        };
        let until = self.watch.after(limit);
        let call = Call { done: Box::new(done), limit, until, asked, size: probe.len(), is_probe: true };
        // With as many calls open as there may be, the next look tries again.
        if let Ok(context) = self.take_context() {
            context.ask(call, Message::from(&probe[..]));
        }
    }

    /// Closes the connection, or the attempt to connect, and dials again.
    fn redial(&self) {
        let redial = || {
            let mut dialer = lock(&self.dialer);
            if let Some(old) = dialer.take() {
                old.close();
            }
            self.dial(&mut dialer)
        };
        tracing::debug!(address = self.address, "dialling again");
        if let Some(Err(error)) = self.gate.pass(redial) {
            tracing::warn!(%error, address = self.address, "cannot dial again yet");
        }
    }

    fn dial(&self, dialer: &mut Option<Dialer>) -> Result<(), Error> {
        *dialer = Some(Dialer::new(&self.socket, &self.address, true)?);
        Ok(())
    }

    /// Ends a call with an error, but on a transport thread, as its caller expects.
    fn fail(&self, call: Call, error: CallError) {
        lock(&self.failed).push((call, error));
        let wake = || self.watch.mind(self.watch.after(Duration::ZERO));
        if !matches!(self.gate.pass(wake), Some(Ok(()))) {
            self.end_failed();
        }
    }

    fn end_failed(&self) {
        let failed = mem::take(&mut *lock(&self.failed));
        for (call, error) in failed {
            call.end(Err(error));
        }
    }

    /// Keeps `connected` right. A connection can be gone before NNG tells that it was added.
    fn watch_connection(self: &Arc<Self>) -> Result<(), Error> {
        let shared: Weak<Self> = Arc::downgrade(self);
        let pipes = Mutex::new(HashMap::new());
        self.socket.pipe_notify(move |pipe, event| {
            let Some(shared) = shared.upgrade() else { return };
            let mut pipes = lock(&pipes);
            match event {
                PipeEvent::AddPre => drop(pipes.insert(pipe, false)),
                PipeEvent::AddPost => {
                    shared.since.store(shared.watch.now().to_bits(), Relaxed);
                    shared.connections.fetch_add(1, Relaxed);
                    if let Some(added) = pipes.get_mut(&pipe) {
                        *added = true;
                    }
                }
                _ => drop(pipes.remove(&pipe)),
            }
            let is_connected = pipes.values().any(|added| *added);
            drop(pipes);
            if shared.connected.swap(is_connected, Relaxed) && !is_connected {
                shared.lost();
            }
        })
    }

    /// The connection is gone: the attempt to connect that follows is minded.
    fn lost(&self) {
        let now = self.watch.now();
        lock(&self.liveness).lost(now);
        // It ends at once where no call is open.
        if let Some(Err(error)) = self.gate.pass(|| self.watch.mind(now)) {
            tracing::error!(%error, "the watch over calls was busy");
        }
    }

    /// A free line, or a new one.
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

    fn give_back(&self, context: Arc<RequestContext>) {
        if self.gate.is_open() {
            lock(&self.contexts).free.push(context);
        }
    }

    fn closed(&self) -> CallError {
        CallError::Closed { address: self.address.clone() }
    }

    /// The closing order that NNG needs. Not on a callback thread.
    fn close(&self) {
        self.gate.shut();
        let contexts = mem::take(&mut *lock(&self.contexts)).all;
        settle(contexts.iter().filter_map(|context| context.aio.get()).chain(self.watch.aio()));
        for context in &contexts {
            context.finish(Err(Error::Closed));
            context.context.close();
        }
        self.end_failed();
        self.socket.close();
        // What a callback gave back meanwhile points at this, and this at it.
        *lock(&self.contexts) = RequestContexts::default();
    }
}

/// Whether the host of an address is written as a name.
fn is_named(address: &str) -> bool {
    let host = address.parse::<Address>().map(|address| address.bare_host().to_owned());
    host.is_ok_and(|host| host.parse::<IpAddr>().is_err())
}

/// A call that has not ended.
struct Call {
    done: OnAnswer,
    limit: Duration,
    /// When it ends at the latest.
    until: Tick,
    asked: Tick,
    /// Of its request, in bytes.
    size: usize,
    /// Whether it only asks for a sign of life.
    is_probe: bool,
}

impl Call {
    fn end(self, answer: Result<&[u8], CallError>) {
        guarded("answer", || (self.done)(answer));
    }
}

/// One context and its `Aio`.
struct RequestContext {
    shared: Arc<Shared>,
    context: Context,
    /// Set once, as its callback needs the line.
    aio: OnceLock<Aio>,
    call: Mutex<Option<Call>>,
}

impl RequestContext {
    fn new(shared: &Arc<Shared>) -> Result<Arc<Self>, Error> {
        let context = Arc::new(Self {
            shared: Arc::clone(shared),
            context: Context::new(&shared.socket)?,
            aio: OnceLock::new(),
            call: Mutex::default(),
        });
        let this: Weak<Self> = Arc::downgrade(&context);
        let aio = Aio::new(move |_, result| {
            if let Some(context) = this.upgrade() {
                context.step(result);
            }
        })?;
        context.aio.get_or_init(|| aio);
        Ok(context)
    }

    /// Sends the request.
    fn ask(self: &Arc<Self>, call: Call, message: Message) {
        let shared = &self.shared;
        let first_look = liveness::first_look(shared.probe.is_some(), shared.connected.load(Relaxed));
        let until = first_look.map_or(call.until, |span| call.until.min(call.asked.plus(span)));
        *lock(&self.call) = Some(call);
        self.post(|aio| {
            shared.watch.mind(until)?;
            Ok(self.context.send(aio, message)?)
        });
    }

    /// Waits for the answer.
    fn listen(self: &Arc<Self>) {
        self.post(|aio| self.context.recv(aio));
    }

    /// Cancels a call that is out of time. When to look at this line again.
    fn end_if_late(&self, now: Tick) -> Tick {
        let call = lock(&self.call);
        match (&*call, self.aio.get()) {
            (Some(call), Some(aio)) if call.until <= now => {
                aio.cancel();
                self.shared.watch.after(LOOK_AGAIN)
            }
            (Some(call), _) => call.until,
            (None, _) => NEVER,
        }
    }

    /// Posts an operation, or ends the call if that cannot be.
    fn post(self: &Arc<Self>, operation: impl FnOnce(&Aio) -> Result<(), Error>) {
        let post = || self.aio.get().ok_or(Error::Closed).and_then(operation);
        if let Err(error) = self.shared.gate.pass(post).unwrap_or(Err(Error::Closed)) {
            self.finish(Err(error));
        }
    }

    /// An operation of this line has ended.
    fn step(self: &Arc<Self>, result: AioResult) {
        match result {
            AioResult::Send(Ok(())) => self.listen(),
            AioResult::Recv(Ok(message)) => {
                self.shared.heard.store(self.shared.watch.now().to_bits(), Relaxed);
                self.finish(Ok(message));
            }
            AioResult::Send(Err((_, error))) | AioResult::Recv(Err(error)) => self.finish(Err(error)),
            // A line never sleeps.
            AioResult::Sleep(_) => self.finish(Err(Error::Closed)),
        }
    }

    /// Ends the call, whose line is free from here on: `done` may well ask again at once.
    fn finish(self: &Arc<Self>, outcome: Result<Message, Error>) {
        let Some(call) = lock(&self.call).take() else { return };
        self.shared.give_back(Arc::clone(self));
        match outcome {
            Ok(message) => call.end(Ok(&message)),
            Err(error) => {
                let error = self.error(&call, error);
                call.end(Err(error));
            }
        }
    }

    fn error(&self, call: &Call, error: Error) -> CallError {
        match error {
            Error::Canceled if self.shared.gate.is_open() => {
                CallError::TimedOut { address: self.shared.address.clone(), waited: call.limit }
            }
            Error::Closed | Error::Canceled => self.shared.closed(),
            other => {
                tracing::error!(error = %other, address = self.shared.address, "a call failed");
                self.shared.closed()
            }
        }
    }
}
