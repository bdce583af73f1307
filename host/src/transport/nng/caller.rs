//! The REQ socket: a line, which is one context and one `Aio`, for each open call.
//!
//! A line sends, then receives, then goes back to the pool. NNG repeats what is open when the
//! connection comes back; it repeats nothing by timer. A watch cancels what is out of time.
//! Invariants:
//!
//! - Whoever takes the `Call` out of its line, and only they, ends it. So `done` runs once.
//! - Only under the lock of its `Call` is a line cancelled for want of time, so that it never hits
//!   the line's next call.
//! - A line receives only after its send has ended: NNG asserts it when a send is cancelled.
//! - A line that failed or ran out of time holds no request: cancelling resets its context.
//! - A line's `Aio` never sleeps: NNG would take each later timeout of it for a success. Calls that
//!   are not sent are ended by the watch.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use ::nng::{Aio, AioResult, Context, Error, Message, PipeEvent, Socket};

use super::{
    super::{BODY_MAX, CallError, Caller, OnAnswer, OpenError},
    Gate, close_off_callbacks, guarded, refused, request_socket, settle,
    watch::{NEVER, Tick, Watch},
};
use crate::lock::lock;

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
    /// Opens the socket; it connects in the background.
    pub(super) fn dial(address: &str) -> Result<Self, OpenError> {
        let fail = |error| refused(address, error);
        let caller = Self { shared: Arc::new(Shared::new(request_socket(address)?, address)) };
        caller.shared.set_up().map_err(fail)?;
        caller.shared.socket.dial_async(address).map_err(fail)?;
        Ok(caller)
    }
}

impl Caller for NngCaller {
    fn call(&self, body: &[u8], limit: Duration, done: OnAnswer) {
        let call = Call { done, limit, until: self.shared.watch.after(limit) };
        if body.len() > BODY_MAX {
            return self.shared.fail(call, CallError::TooLarge { size: body.len() });
        }
        match self.shared.take_line() {
            Ok(line) => line.ask(call, Message::from(body)),
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
    connected: AtomicBool,
    lines: Mutex<Lines>,
    /// Calls that were not sent, for the watch to end.
    failed: Mutex<Vec<(Call, CallError)>>,
    watch: Watch,
}

/// The lines of one socket. They point back at it, so they are let go of when it closes.
#[derive(Default)]
struct Lines {
    all: Vec<Arc<Line>>,
    free: Vec<Arc<Line>>,
}

impl Shared {
    fn new(socket: Socket, address: &str) -> Self {
        Self {
            socket,
            gate: Gate::default(),
            address: address.to_owned(),
            connected: AtomicBool::new(false),
            lines: Mutex::default(),
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

    /// Cancels what is out of time, and ends what was not sent.
    fn look(&self) {
        let end_late = |now| lock(&self.lines).all.iter().map(|line| line.end_if_late(now)).min().unwrap_or(NEVER);
        if let Some(Err(error)) = self.gate.pass(|| self.watch.look(end_late)) {
            tracing::error!(%error, "the watch over calls was busy");
        }
        // Only now: what fails from here on wakes the watch again. And outside the gate, as who
        // hears of it may ask again.
        self.end_failed();
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
                PipeEvent::AddPost => drop(pipes.get_mut(&pipe).map(|added| *added = true)),
                _ => drop(pipes.remove(&pipe)),
            }
            shared.connected.store(pipes.values().any(|added| *added), Relaxed);
        })
    }

    /// A free line, or a new one.
    fn take_line(self: &Arc<Self>) -> Result<Arc<Line>, CallError> {
        let mut lines = lock(&self.lines);
        if let Some(line) = lines.free.pop() {
            return Ok(line);
        }
        if lines.all.len() >= CALLS_MAX {
            return Err(CallError::TooMany { open: CALLS_MAX });
        }
        let line = Line::new(self).map_err(|_| self.closed())?;
        lines.all.push(Arc::clone(&line));
        Ok(line)
    }

    fn give_back(&self, line: Arc<Line>) {
        if self.gate.is_open() {
            lock(&self.lines).free.push(line);
        }
    }

    fn closed(&self) -> CallError {
        CallError::Closed { address: self.address.clone() }
    }

    /// The closing order that NNG needs. Not on a callback thread.
    fn close(&self) {
        self.gate.shut();
        let lines = mem::take(&mut *lock(&self.lines)).all;
        settle(lines.iter().filter_map(|line| line.aio.get()).chain(self.watch.aio()));
        for line in &lines {
            line.finish(Err(Error::Closed));
            line.context.close();
        }
        self.end_failed();
        self.socket.close();
        // What a callback gave back meanwhile points at this, and this at it.
        *lock(&self.lines) = Lines::default();
    }
}

/// A call that has not ended.
struct Call {
    done: OnAnswer,
    limit: Duration,
    /// When it ends at the latest.
    until: Tick,
}

impl Call {
    fn end(self, answer: Result<&[u8], CallError>) {
        guarded("answer", || (self.done)(answer));
    }
}

/// One context and its `Aio`.
struct Line {
    shared: Arc<Shared>,
    context: Context,
    /// Set once, as its callback needs the line.
    aio: OnceLock<Aio>,
    call: Mutex<Option<Call>>,
}

impl Line {
    fn new(shared: &Arc<Shared>) -> Result<Arc<Self>, Error> {
        let line = Arc::new(Self {
            shared: Arc::clone(shared),
            context: Context::new(&shared.socket)?,
            aio: OnceLock::new(),
            call: Mutex::default(),
        });
        let this: Weak<Self> = Arc::downgrade(&line);
        let aio = Aio::new(move |_, result| {
            if let Some(line) = this.upgrade() {
                line.step(result);
            }
        })?;
        line.aio.get_or_init(|| aio);
        Ok(line)
    }

    /// Sends the request.
    fn ask(self: &Arc<Self>, call: Call, message: Message) {
        let until = call.until;
        *lock(&self.call) = Some(call);
        self.post(|aio| {
            self.shared.watch.mind(until)?;
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
            AioResult::Recv(Ok(message)) => self.finish(Ok(message)),
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
