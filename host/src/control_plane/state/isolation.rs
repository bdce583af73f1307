//! Tasks that run alone on their worker, because the workers that ran them crashed.
//!
//! One more crash ends such a task, so it must be told apart from those that only ran beside it. A
//! worker that is idle takes it; where none is, the least loaded one that can run it is reserved:
//! it finishes what it has, and gets nothing else until the task has ended there. At most one worker
//! is held free that way at a time. Invariant: a reserved worker is granted no other task.

use uuid::Uuid;

use super::{Phase, Responder, State};
use crate::{
    clock::Now,
    control_plane::{queue::Place, worker_registry::Worker},
    protocol::WorkerReply,
    task::TaskId,
};

/// Maximum number of such tasks for which a worker is looked for in one step.
const SOUGHT_MAX: usize = 8;

impl<R: Responder> State<R> {
    /// Grants tasks that are to run alone to workers that are free of others.
    pub(super) fn dispatch_isolated(&mut self, now: Now) {
        if self.reservations.is_empty() && !self.queue.has_isolated() {
            return;
        }
        self.end_reservations();
        let waiting: Vec<(Place, TaskId)> =
            self.queue.isolated().take(SOUGHT_MAX).map(|(place, id)| (place, id.clone())).collect();
        for (place, id) in waiting {
            while let Some(key) = self.free_worker(&place, &id) {
                let Some(slot) = self.registry.get(key).and_then(Worker::first_parked) else { break };
                if self.forget_shut(key, slot) {
                    continue;
                }
                self.reserve(key, &id);
                self.queue.remove(&place);
                let leases = self.lease(now, key, slot, vec![(place.clone(), id.clone())]);
                let parked = self.registry.change_slot(key, slot, |slot| slot.parked.take());
                if let Some(reply_to) = parked.flatten() {
                    self.reply_to_worker(reply_to, WorkerReply::Leases(leases));
                }
                break;
            }
            if self.is_waiting(&id) && !self.is_a_worker_held_free() {
                self.hold_a_worker_free(&place, &id);
            }
        }
    }

    /// Ends the reservations whose task has ended, or is elsewhere.
    fn end_reservations(&mut self) {
        let over = |(key, id): (&Uuid, &TaskId)| {
            let holds = self.registry.get(*key).is_some_and(|worker| !worker.draining)
                && self.tasks.get(id).is_some_and(|record| match record.phase {
                    Phase::Queued(_) => record.runs_alone(),
                    Phase::Leased { lease, .. } => self.holds(*key, lease),
                    Phase::Due(_) => false,
                });
            (!holds).then_some(*key)
        };
        let over: Vec<Uuid> = self.reservations.iter().filter_map(over).collect();
        for key in over {
            self.reservations.remove(&key);
            self.registry.set_reserved(key, false);
        }
    }

    fn is_waiting(&self, id: &TaskId) -> bool {
        self.tasks.get(id).is_some_and(|record| matches!(record.phase, Phase::Queued(_)))
    }

    /// Whether a worker is reserved for a task that waits until the worker has nothing else.
    fn is_a_worker_held_free(&self) -> bool {
        self.reservations.values().any(|id| self.is_waiting(id))
    }

    /// A worker that can run the task, has nothing else and is not kept for another.
    fn free_worker(&self, place: &Place, id: &TaskId) -> Option<Uuid> {
        let is_kept = |key: &Uuid| self.reservations.get(key).is_some_and(|other| other != id);
        let mut workers = self.registry.iter().filter(|(key, worker)| {
            worker.load() == 0
                && worker.first_parked().is_some()
                && worker.can_run(&place.name)
                && !worker.draining
                && !is_kept(key)
        });
        workers.next().map(|(key, _)| key)
    }

    /// Reserves the least loaded worker that can run the task.
    fn hold_a_worker_free(&mut self, place: &Place, id: &TaskId) {
        let able = self.registry.iter().filter(|(key, worker)| {
            worker.can_run(&place.name)
                && !worker.draining
                && worker.disconnected.is_none()
                && !self.reservations.contains_key(key)
        });
        if let Some((key, _)) = able.min_by_key(|(_, worker)| worker.load()) {
            self.reserve(key, id);
        }
    }

    /// Reserves one worker for the task, and no other.
    fn reserve(&mut self, key: Uuid, id: &TaskId) {
        let others: Vec<Uuid> = self
            .reservations
            .iter()
            .filter(|(other, of)| **other != key && *of == id)
            .map(|(other, _)| *other)
            .collect();
        for other in others {
            self.reservations.remove(&other);
            self.registry.set_reserved(other, false);
        }
        self.reservations.insert(key, id.clone());
        self.registry.set_reserved(key, true);
    }
}
