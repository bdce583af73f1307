//! Tasks that run alone on their worker, because the workers that ran them crashed.
//!
//! One more crash ends such a task, so it must not be blamed for a crash by another task alongside it. A worker that is
//! idle runs it. If there is none, the least loaded one that can run it is reserved: it finishes its tasks, and gets
//! nothing else until the task has ended there. At most one worker waits
//! that way at a time. Invariant: a reserved worker is granted no other task.

use super::{Phase, Responder, State, WorkerKey};
use crate::{
    clock::Now,
    control_plane::{queue::QueueKey, worker_registry::WorkerRecord},
    protocol::WorkerReply,
    task::TaskId,
};

/// Maximum number of such tasks that are dispatched in one step.
const ISOLATED_PER_STEP_MAX: usize = 8;

impl<R: Responder> State<R> {
    /// Grants tasks that run alone to workers without other tasks.
    pub(super) fn dispatch_isolated(&mut self, now: Now) {
        if self.reservations.is_empty() && !self.queue.has_isolated() {
            return;
        }
        self.end_reservations();
        let waiting: Vec<(QueueKey, TaskId)> =
            self.queue.isolated().take(ISOLATED_PER_STEP_MAX).map(|(queue_key, id)| (queue_key, id.clone())).collect();
        for (queue_key, id) in waiting {
            while let Some(key) = self.find_free_worker(&queue_key, &id) {
                let Some(slot) = self.registry.get(key).and_then(WorkerRecord::first_parked) else { break };
                if self.drop_closed(key, slot) {
                    continue;
                }
                self.reserve(key, &id);
                self.queue.remove(&queue_key);
                let leases = self.lease(now, key, slot, vec![(queue_key.clone(), id.clone())]);
                let parked = self.registry.change_slot(key, slot, |slot| slot.parked.take());
                if let Some(reply_to) = parked.flatten() {
                    self.reply_to_worker(reply_to, WorkerReply::Leases(leases));
                }
                break;
            }
            if self.is_waiting(&id) && !self.has_waiting_reservation() {
                self.reserve_least_loaded(&queue_key, &id);
            }
        }
    }

    /// Ends the reservations whose task has ended, or is leased elsewhere.
    fn end_reservations(&mut self) {
        let over = |(key, id): (&WorkerKey, &TaskId)| {
            let holds = self.registry.get(*key).is_some_and(|worker| !worker.draining)
                && self.tasks.get(id).is_some_and(|record| match record.phase {
                    Phase::Queued(_) => record.runs_alone(),
                    Phase::Leased { lease, .. } => self.holds(*key, lease),
                    Phase::Scheduled(_) => false,
                });
            (!holds).then_some(*key)
        };
        let over: Vec<WorkerKey> = self.reservations.iter().filter_map(over).collect();
        for key in over {
            self.reservations.remove(&key);
            self.registry.set_reserved(key, false);
        }
    }

    fn is_waiting(&self, id: &TaskId) -> bool {
        self.tasks.get(id).is_some_and(|record| matches!(record.phase, Phase::Queued(_)))
    }

    /// Whether a worker is reserved for a task that waits until the worker has nothing else.
    fn has_waiting_reservation(&self) -> bool {
        self.reservations.values().any(|id| self.is_waiting(id))
    }

    /// Returns a worker that can run the task, has no other and is not reserved for another.
    fn find_free_worker(&self, queue_key: &QueueKey, id: &TaskId) -> Option<WorkerKey> {
        let is_reserved_for_other = |key: &WorkerKey| self.reservations.get(key).is_some_and(|other| other != id);
        let mut workers = self.registry.iter().filter(|(key, worker)| {
            worker.load() == 0
                && worker.first_parked().is_some()
                && worker.can_run(&queue_key.name)
                && !worker.draining
                && !is_reserved_for_other(key)
        });
        workers.next().map(|(key, _)| key)
    }

    /// Reserves the least loaded worker that can run the task.
    fn reserve_least_loaded(&mut self, queue_key: &QueueKey, id: &TaskId) {
        let able = self.registry.iter().filter(|(key, worker)| {
            worker.can_run(&queue_key.name)
                && !worker.draining
                && worker.disconnected.is_none()
                && !self.reservations.contains_key(key)
        });
        if let Some((key, _)) = able.min_by_key(|(_, worker)| worker.load()) {
            self.reserve(key, id);
        }
    }

    /// Reserves a worker for the task, and ends its other reservations.
    fn reserve(&mut self, key: WorkerKey, id: &TaskId) {
        let others: Vec<WorkerKey> = self
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
