//! The heartbeat: reports to the control plane that the worker is alive and which leases it holds, and executes the
//! orders in the reply.

use std::{sync::Arc, time::Duration};

use super::{RETRY_DELAY, RetryingLink, ShutdownFlags, Slots, WorkerRegistration, retrying_link::NoReply};
use crate::{
    clock::pause,
    protocol::{Beat, HOLDS_MAX, LeaseId, Order, WorkerReply, WorkerRequest},
};

/// Delay after an order: until it is executed, the control plane would repeat it.
const ORDER_DELAY: Duration = Duration::from_millis(20);
/// Maximum number of leases in one heartbeat, so that it fits into a frame. The next one reports the others.
const BEAT_HOLDS_MAX: usize = HOLDS_MAX / 2;

/// Sends the heartbeats of one worker.
pub(super) struct Heartbeat {
    pub(super) link: Arc<RetryingLink>,
    pub(super) registration: Arc<WorkerRegistration>,
    pub(super) slots: Slots,
    pub(super) shutdown: Arc<ShutdownFlags>,
}

impl Heartbeat {
    /// Sends heartbeats until the worker stops.
    pub(super) fn run(self) {
        let (mut key, mut connection) = (self.registration.key(), self.link.connect());
        while !self.shutdown.is_stopping() {
            let beat = WorkerRequest::Beat(Beat { worker: key, holds: self.held() });
            let timeout = self.link.beat_timeout();
            match self.link.retry_until_reply(|| connection.request(&beat, timeout, &mut || {})) {
                Ok(WorkerReply::Orders(orders)) => {
                    for Order::Stop(lease) in &orders {
                        self.slots.iter().for_each(|slot| slot.stop(*lease));
                    }
                    if !orders.is_empty() {
                        pause(ORDER_DELAY);
                    }
                }
                Ok(WorkerReply::Unknown) if self.shutdown.is_stopping() => return,
                Ok(WorkerReply::Unknown) => match self.registration.re_register(key) {
                    Some(new) => key = new,
                    None => return,
                },
                Ok(other) => self.link.log_unexpected("a heartbeat", &other),
                Err(NoReply::Stopping) => return,
                Err(NoReply::TooLarge) => pause(RETRY_DELAY),
            }
        }
    }

    /// The leases that the slots hold, as many as fit into a heartbeat.
    fn held(&self) -> Vec<LeaseId> {
        let mut held = Vec::new();
        for slot in self.slots.iter() {
            let capacity = BEAT_HOLDS_MAX - held.len();
            held.extend(slot.lock().held().take(capacity));
        }
        held
    }
}
