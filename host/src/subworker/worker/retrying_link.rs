//! Requests to the control plane, repeated until there is a reply.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tracing::{error, info, warn};

use super::{RETRY_DELAY, ShutdownFlags};
use crate::{
    clock::pause,
    protocol::{Refusal, WorkerReply, WorkerRequest},
    subworker::link::{Link, WorkConnection},
    transport::CallError,
};

/// A link whose requests are repeated until there is a reply or the worker stops. Logs once when the control plane
/// becomes unreachable, and once when it replies again.
pub(super) struct RetryingLink {
    link: Arc<dyn Link>,
    worker_id: String,
    shutdown: Arc<ShutdownFlags>,
    /// Whether it was logged that the control plane does not reply.
    is_unreachable: AtomicBool,
}

/// The reason why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// The worker stops.
    Stopping,
    /// The request is too large to be sent: retrying cannot help.
    TooLarge,
}

impl RetryingLink {
    pub(super) fn new(link: Arc<dyn Link>, worker_id: String, shutdown: Arc<ShutdownFlags>) -> Self {
        Self { link, worker_id, shutdown, is_unreachable: AtomicBool::new(false) }
    }

    pub(super) fn worker_id(&self) -> &str {
        &self.worker_id
    }

    /// Opens a connection for one thread.
    pub(super) fn connect(&self) -> Box<dyn WorkConnection + '_> {
        self.link.connect()
    }

    /// Timeout of a parked request for work.
    pub(super) fn work_timeout(&self, has_outcomes: bool) -> Duration {
        self.link.work_timeout(has_outcomes)
    }

    /// Timeout of a parked beat.
    pub(super) fn beat_timeout(&self) -> Duration {
        self.link.beat_timeout()
    }

    /// Whether the control plane runs in this process.
    pub(super) fn is_local(&self) -> bool {
        self.link.is_local()
    }

    /// Sends a request until there is a reply. `limit` applies to each try.
    ///
    /// # Errors
    /// [`NoReply`] when the request is not repeated any more.
    pub(super) fn request(&self, request: &WorkerRequest, limit: Duration) -> Result<WorkerReply, NoReply> {
        self.retry_until_reply(|| self.link.request(request, limit))
    }

    /// Calls `send` until it returns a reply.
    ///
    /// # Errors
    /// [`NoReply`] when the request is not repeated any more.
    pub(super) fn retry_until_reply(
        &self,
        mut send: impl FnMut() -> Result<WorkerReply, CallError>,
    ) -> Result<WorkerReply, NoReply> {
        let worker = &self.worker_id;
        loop {
            match send() {
                Ok(WorkerReply::Refused(Refusal { code, message })) => {
                    error!(worker, %code, why = message, "the control plane refused a request, retrying");
                    if self.shutdown.is_draining() {
                        return Err(NoReply::Stopping);
                    }
                    pause(RETRY_DELAY);
                }
                Ok(reply) => {
                    if self.is_unreachable.load(Ordering::Relaxed) && self.is_unreachable.swap(false, Ordering::SeqCst)
                    {
                        info!(worker, "the control plane replies again");
                    }
                    return Ok(reply);
                }
                Err(_) if self.shutdown.is_stopping() => return Err(NoReply::Stopping),
                Err(error @ CallError::TooLarge { .. }) => {
                    error!(worker, %error, "BUG: a request is too large to be sent");
                    return Err(NoReply::TooLarge);
                }
                Err(error @ CallError::TimedOut { .. }) => {
                    if !self.is_unreachable.swap(true, Ordering::SeqCst) {
                        warn!(worker, %error, "no reply, retrying");
                    }
                    self.link.rediscover();
                }
                Err(error) => {
                    error!(worker, %error, "cannot send a request to the control plane, retrying");
                    pause(RETRY_DELAY);
                    self.link.rediscover();
                }
            }
        }
    }

    /// Logs a reply of a type that the request cannot have, and waits before the next request.
    pub(super) fn log_unexpected(&self, request: &str, reply: &WorkerReply) {
        error!(worker = self.worker_id, ?reply, "unexpected reply to {request}, retrying");
        pause(RETRY_DELAY);
    }
}
