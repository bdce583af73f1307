//! One open call: a REQ context and its `Aio`.

use std::{
    sync::{Arc, Mutex, OnceLock, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use ::nng::{Aio, AioResult, Context, Error, Message};

use super::{
    super::{
        super::{CallError, OnReply},
        catch_panic,
        deadline_timer::{NEVER, Tick},
        liveness,
    },
    CallerSocket,
};
use crate::lock::lock;

/// Delay before a call past its deadline is checked again: between its send and its receive it cannot be cancelled.
const CANCEL_RETRY_DELAY: Duration = Duration::from_millis(5);

/// A call that has not ended.
pub(super) struct PendingCall {
    pub(super) on_reply: OnReply,
    pub(super) limit: Duration,
    /// Its deadline.
    pub(super) deadline: Tick,
    /// When it was made.
    pub(super) started: Tick,
    /// Size of its request, in bytes.
    pub(super) size: usize,
    /// Whether it is a liveness probe.
    pub(super) is_probe: bool,
}

impl PendingCall {
    pub(super) fn end(self, reply: Result<&[u8], CallError>) {
        catch_panic("reply", || (self.on_reply)(reply));
    }
}

/// A context and its `Aio`, which carry one call at a time.
pub(super) struct RequestContext {
    socket: Arc<CallerSocket>,
    context: Context,
    /// Set once, as its callback needs the context.
    aio: OnceLock<Aio>,
    pub(super) call: Mutex<Option<PendingCall>>,
}

impl RequestContext {
    pub(super) fn new(socket: &Arc<CallerSocket>) -> Result<Arc<Self>, Error> {
        let context = Arc::new(Self {
            socket: Arc::clone(socket),
            context: Context::new(&socket.socket)?,
            aio: OnceLock::new(),
            call: Mutex::default(),
        });
        let this: Weak<Self> = Arc::downgrade(&context);
        let aio = Aio::new(move |_, result| {
            if let Some(context) = this.upgrade() {
                context.on_aio(result);
            }
        })?;
        context.aio.get_or_init(|| aio);
        Ok(context)
    }

    pub(super) fn aio(&self) -> Option<&Aio> {
        self.aio.get()
    }

    pub(super) fn close(self: &Arc<Self>) {
        self.finish(Err(Error::Closed));
        self.context.close();
    }

    /// Sends the request of a call.
    pub(super) fn send(self: &Arc<Self>, call: PendingCall, message: Message) {
        let socket = &self.socket;
        let first_check = liveness::first_check_delay(socket.probe.is_some(), socket.connected.load(Relaxed));
        let until = first_check.map_or(call.deadline, |delay| call.deadline.min(call.started.plus(delay)));
        *lock(&self.call) = Some(call);
        self.post(|aio| {
            socket.timer.add(until)?;
            Ok(self.context.send(aio, message)?)
        });
    }

    /// Receives the reply.
    fn receive(self: &Arc<Self>) {
        self.post(|aio| self.context.recv(aio));
    }

    /// Cancels a call past its deadline. Returns when to check this context again.
    pub(super) fn cancel_if_late(&self, now: Tick) -> Tick {
        let call = lock(&self.call);
        match (&*call, self.aio.get()) {
            (Some(call), Some(aio)) if call.deadline <= now => {
                aio.cancel();
                self.socket.timer.after(CANCEL_RETRY_DELAY)
            }
            (Some(call), _) => call.deadline,
            (None, _) => NEVER,
        }
    }

    /// Posts an operation, or ends the call if that fails.
    fn post(self: &Arc<Self>, operation: impl FnOnce(&Aio) -> Result<(), Error>) {
        let post = || self.aio.get().ok_or(Error::Closed).and_then(operation);
        if let Err(error) = self.socket.close_guard.run_if_open(post).unwrap_or(Err(Error::Closed)) {
            self.finish(Err(error));
        }
    }

    /// Handles the end of an operation.
    fn on_aio(self: &Arc<Self>, result: AioResult) {
        match result {
            AioResult::Send(Ok(())) => self.receive(),
            AioResult::Recv(Ok(message)) => {
                self.socket.last_received.store(self.socket.timer.now().to_bits(), Relaxed);
                self.finish(Ok(message));
            }
            AioResult::Send(Err((_, error))) | AioResult::Recv(Err(error)) => self.finish(Err(error)),
            // This `Aio` never sleeps.
            AioResult::Sleep(_) => self.finish(Err(Error::Closed)),
        }
    }

    /// Ends the call. The context is free from here on: `on_reply` may make another call immediately.
    fn finish(self: &Arc<Self>, outcome: Result<Message, Error>) {
        let Some(call) = lock(&self.call).take() else { return };
        self.socket.return_context(Arc::clone(self));
        match outcome {
            Ok(message) => call.end(Ok(&message)),
            Err(error) => {
                let error = self.error(&call, error);
                call.end(Err(error));
            }
        }
    }

    fn error(&self, call: &PendingCall, error: Error) -> CallError {
        match error {
            Error::Canceled if self.socket.close_guard.is_open() => {
                CallError::TimedOut { address: self.socket.address.clone(), waited: call.limit }
            }
            Error::Closed | Error::Canceled => self.socket.closed(),
            other => {
                tracing::error!(error = %other, address = self.socket.address, "a call failed");
                self.socket.closed()
            }
        }
    }
}
