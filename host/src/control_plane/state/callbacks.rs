//! The outcome of callbacks.
//!
//! The end of a task produces an [`Effect::Callback`](super::Effect); the caller that carries it out reports its
//! outcome here.

use super::{CallbackOutcome, Responder, State};
use crate::{
    clock::Now,
    control_plane::events::NewEvent,
    protocol::EventKind,
    task::{Delivery, DeliveryState},
};

impl<R: Responder> State<R> {
    /// Records the outcome of a callback.
    pub fn callback_ended(&mut self, now: Now, end: CallbackOutcome) {
        let CallbackOutcome { result, outcome, attempts } = end;
        let Some(pending) = &result.callback else { return };
        let (kind, state, reason) = match outcome {
            Ok(()) => (EventKind::CallbackDelivered, DeliveryState::Delivered, None),
            Err(reason) => (EventKind::CallbackFailed, DeliveryState::Failed, Some(reason)),
        };
        let delivery = Delivery { address: pending.address.clone(), state, attempts, reason };
        let detail = match &delivery.reason {
            Some(reason) => format!("{}: {reason}", delivery.address),
            None => delivery.address.clone(),
        };
        let meta = self.results.amend(now.mono, &result, |kept| kept.callback = Some(Box::new(delivery)));
        let (name, priority) = meta.map(|meta| (meta.name.clone(), meta.priority)).unzip();
        let task = Some(&result.task_id);
        let (detail, name) = (Some(&*detail), name.as_ref());
        self.record_event(now, NewEvent { kind, task, name, priority, worker: None, attempt: 0, detail, usage: None });
    }
}
