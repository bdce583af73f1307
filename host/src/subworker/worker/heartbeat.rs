//! The heartbeat: shows the control plane that the worker lives and which leases it holds, and carries out the
//! orders that come back.

use std::{sync::Arc, time::Duration};

use super::{RETRY_DELAY, RetryingLink, ShutdownFlags, Slots, WorkerRegistration, retrying_link::NoAnswer};
use crate::{
    clock::pause,
    protocol::{Beat, HOLDS_MAX, LeaseId, Order, WorkerReply, WorkerRequest},
};

/// Delay after an order, which takes a moment to carry out: until then the same order would come again.
const ORDER_DELAY: Duration = Duration::from_millis(20);
/// Maximum number of leases in one beat, so that it fits into a frame. The next beat reports the others.
const BEAT_HOLDS_MAX: usize = HOLDS_MAX / 2;

/// Sends the beats of one worker.
pub(super) struct Heartbeat {
    pub(super) link: Arc<RetryingLink>,
    pub(super) registration: Arc<WorkerRegistration>,
    pub(super) slots: Slots,
    pub(super) shutdown: Arc<ShutdownFlags>,
}

impl Heartbeat {
    /// Sends beats until the worker stops.
    pub(super) fn run(self) {
        let (mut key, mut connection) = (self.registration.key(), self.link.connect());
        while !self.shutdown.is_stopping() {
            let beat = WorkerRequest::Beat(Beat { worker: key, holds: self.held() });
            let timeout = self.link.beat_timeout();
            match self.link.ask_until_answered(|| connection.ask(&beat, timeout, &mut || {})) {
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
                Ok(other) => self.link.log_unexpected("a beat", &other),
                Err(NoAnswer::Stopping) => return,
                Err(NoAnswer::TooLarge) => pause(RETRY_DELAY),
            }
        }
    }

    /// The leases that the slots hold, as many as fit into a beat.
    fn held(&self) -> Vec<LeaseId> {
        let mut held = Vec::new();
        for slot in self.slots.iter() {
            let room = BEAT_HOLDS_MAX - held.len();
            held.extend(slot.lock().held().take(room));
        }
        held
    }
}
