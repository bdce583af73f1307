//! What became of callbacks.
//!
//! That one is due is an effect of the end of its task; whoever carries it out tells here how it went.

use super::{CallbackEnd, Responder, State};
use crate::{
    clock::Now,
    control_plane::events::NewEvent,
    protocol::EventKind,
    task::{Delivery, DeliveryState},
};

impl<R: Responder> State<R> {
    /// Notes what became of a callback.
    pub fn callback_ended(&mut self, now: Now, end: CallbackEnd) {
        let CallbackEnd { result, outcome, attempts } = end;
        let Some(pending) = &result.callback else { return };
        let (state, reason) = match outcome {
            Ok(()) => (DeliveryState::Delivered, None),
            Err(reason) => (DeliveryState::Failed, Some(reason)),
        };
        let delivery = Delivery { address: pending.address.clone(), state, attempts, reason };
        let kind = match state {
            DeliveryState::Failed => EventKind::CallbackFailed,
            DeliveryState::Pending | DeliveryState::Delivered => EventKind::CallbackDelivered,
        };
        let detail = match &delivery.reason {
            Some(reason) => format!("{}: {reason}", delivery.address),
            None => delivery.address.clone(),
        };
        let about = self.results.amend(now.mono, &result, |kept| kept.callback = Some(Box::new(delivery)));
        let (name, priority) = about.map(|about| (about.name.clone(), about.priority)).unzip();
        let task = Some(&result.task_id);
        let (detail, name) = (Some(&*detail), name.as_ref());
        self.note_event(now, NewEvent { kind, task, name, priority, worker: None, attempt: 0, detail });
    }
}
