//! A worker's registration at the control plane: its key, registering, and registering again once the control
//! plane no longer knows it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{BEST_EFFORT_TIMEOUT, LiveCatalog, REPLY_TIMEOUT, ShutdownFlags, Slots, WorkerError, WorkerIdentity};
use crate::{
    clock::{pause, seconds},
    lock::{lock, try_lock},
    protocol::{Registration, WorkerReply, WorkerRequest},
    subworker::link::Link,
};

/// Delay between two tries to register.
const REGISTER_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Minimum interval between two warnings that a worker cannot register.
const WARN_INTERVAL: Duration = Duration::from_mins(1);

/// The registration of one worker.
pub(super) struct WorkerRegistration {
    identity: WorkerIdentity,
    link: Arc<dyn Link>,
    shutdown: Arc<ShutdownFlags>,
    catalog: Arc<LiveCatalog>,
    slots: Slots,
    /// The key of the current registration. Locked while a thread registers the worker again.
    key: Mutex<Uuid>,
    /// The control plane does not know this worker, and a thread registers it again.
    is_lost: AtomicBool,
}

impl WorkerRegistration {
    pub(super) fn new(
        identity: WorkerIdentity,
        link: Arc<dyn Link>,
        shutdown: Arc<ShutdownFlags>,
        catalog: Arc<LiveCatalog>,
        slots: Slots,
    ) -> Self {
        let key = Mutex::new(Uuid::now_v7());
        Self { identity, link, shutdown, catalog, slots, key, is_lost: AtomicBool::new(false) }
    }

    pub(super) fn identity(&self) -> &WorkerIdentity {
        &self.identity
    }

    pub(super) fn link(&self) -> &dyn Link {
        &*self.link
    }

    /// The key of the registration. Blocks while the worker registers again.
    pub(super) fn key(&self) -> Uuid {
        *lock(&self.key)
    }

    /// The key of the registration, or `None` while the worker is not registered.
    pub(super) fn current_key(&self) -> Option<Uuid> {
        loop {
            if self.is_lost() {
                return None;
            }
            // Otherwise the lock is held only briefly.
            match try_lock(&self.key) {
                Some(key) => return Some(*key),
                None => thread::yield_now(),
            }
        }
    }

    /// Whether the worker is not registered, and a thread registers it again.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::SeqCst)
    }

    /// Registers for the first time. Waits at most `timeout` for another worker of the same id to leave, and for a
    /// control plane that does not reply.
    pub(super) fn register_within(&self, timeout: Duration) -> Result<(), WorkerError> {
        let (worker, key) = (&self.identity.worker_id, self.key());
        let (started, mut is_logged) = (Instant::now(), false);
        loop {
            let failure = match self.register(key, None, REPLY_TIMEOUT) {
                Ok(()) if is_logged => {
                    info!(worker, "the other worker has left: registered");
                    return Ok(());
                }
                Err(failure @ (WorkerError::IdInUse { .. } | WorkerError::Call(_))) => failure,
                other => return other,
            };
            let waited = started.elapsed();
            if waited >= timeout {
                return Err(match failure {
                    WorkerError::IdInUse { worker_id, .. } => {
                        WorkerError::IdInUse { worker_id, waited: timeout.max(Duration::from_secs(waited.as_secs())) }
                    }
                    other => other,
                });
            }
            if !is_logged && waited >= BEST_EFFORT_TIMEOUT && matches!(failure, WorkerError::IdInUse { .. }) {
                is_logged = true;
                let timeout_s = seconds(timeout);
                warn!(worker, timeout_s, "another worker with this id is still connected: waiting until it leaves");
            }
            pause(REGISTER_RETRY_DELAY.min(timeout.saturating_sub(waited)));
        }
    }

    fn register(&self, key: Uuid, previous: Option<Uuid>, limit: Duration) -> Result<(), WorkerError> {
        let WorkerIdentity { worker_id, address, slots } = self.identity.clone();
        let catalog = self.catalog.get();
        let registration =
            Registration { worker: key, previous, worker_id, address, slots, modules: catalog.describe() };
        match self.link.request(&WorkerRequest::Register(registration), limit)? {
            WorkerReply::Registered => {
                self.catalog.acknowledge(catalog.revision());
                Ok(())
            }
            WorkerReply::Refused(refusal) => Err(WorkerError::Refused(refusal)),
            WorkerReply::IdInUse(_) => {
                let worker_id = self.identity.worker_id.clone();
                Err(WorkerError::IdInUse { worker_id, waited: Duration::ZERO })
            }
            other => {
                debug!(?other, "unexpected reply to a registration");
                Err(WorkerError::UnexpectedReply)
            }
        }
    }

    /// Registers again after the control plane did not know the key `old`, unless another thread has done so.
    /// Returns the new key, or `None` when the worker is draining.
    pub(super) fn re_register(&self, old: Uuid) -> Option<Uuid> {
        let mut key = lock(&self.key);
        if *key != old {
            return Some(*key);
        }
        if self.shutdown.is_draining() {
            // Its leases are invalid, and it accepts no more work.
            return None;
        }
        let worker = &self.identity.worker_id;
        warn!(worker, "the control plane no longer knows this worker: registering again");
        self.slots.iter().for_each(|slot| slot.stop_all());
        let new = Uuid::now_v7();
        self.is_lost.store(true, Ordering::SeqCst);
        let mut warned: Option<Instant> = None;
        while !self.shutdown.is_draining() {
            match self.register(new, Some(old), BEST_EFFORT_TIMEOUT) {
                Ok(()) => {
                    self.is_lost.store(false, Ordering::SeqCst);
                    *key = new;
                    info!(worker, "registered again");
                    return Some(new);
                }
                Err(error) => {
                    if warned.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
                        warned = Some(Instant::now());
                        warn!(worker, %error, "registration failed, retrying");
                    } else {
                        debug!(worker, %error, "registration failed, retrying");
                    }
                    self.link.rediscover();
                    pause(REGISTER_RETRY_DELAY);
                }
            }
        }
        None
    }

    /// Notifies the control plane that this worker leaves, so that it requeues its leases. Best effort.
    pub(super) fn leave(&self) {
        if let Some(key) = self.current_key()
            && let Err(error) = self.link.request(&WorkerRequest::Leave(key), BEST_EFFORT_TIMEOUT)
        {
            let worker = &self.identity.worker_id;
            debug!(worker, %error, "cannot notify the control plane that this worker has left");
        }
    }
}
