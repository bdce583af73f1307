//! Revocation of leases, and cancellation of tasks.

use std::collections::BTreeMap;

use super::{
    Granted, LOSSES_MAX, LastFailure, Phase, RequeueCause, Responder, State, TaskOutcome, WorkerKey, queueing::push,
};
use crate::{
    clock::Now,
    protocol::{LeaseId, Order},
    task::{ErrorKind, Failure, TaskId, TaskStatus},
};

impl<R: Responder> State<R> {
    /// Revokes a lease, and puts its task back at its old position in the queue, or ends it after too many crashes.
    /// Returns the task if this counts as a worker crash.
    pub(super) fn requeue(&mut self, now: Now, lease: LeaseId, cause: RequeueCause<'_>) -> Option<TaskId> {
        let Granted { task: id, .. } = self.leases.remove(&lease)?;
        let record = self.tasks.get_mut(&id)?;
        let Phase::Leased { started_at, position, .. } = record.phase else { return None };
        record.attempt -= 1;
        let mut counts = false;
        if let RequeueCause::WorkerCrashed(worker) = cause {
            record.quarantined = true;
            counts = started_at.is_some();
            record.losses += u32::from(counts);
            if record.losses >= LOSSES_MAX {
                let message = format!(
                    "{LOSSES_MAX} workers were lost while they ran it; the last, '{worker}', ran nothing else: \
                     it is not run again"
                );
                record.attempt += record.losses;
                let failure = Some(Failure::new(ErrorKind::WorkerLost, message));
                let end =
                    TaskOutcome { failure, started_at, worker_id: Some(worker.clone()), ..TaskOutcome::default() };
                self.finish(now, &id, TaskStatus::Failure, end);
                return None;
            }
        }
        if started_at.is_some()
            && let Some(message) = cause.message(record.losses)
        {
            let message = message.into();
            record.last_failure =
                Some(Box::new(LastFailure { kind: ErrorKind::WorkerLost, message, next_at: now.wall }));
        }
        push(&mut self.queue, record, id.clone(), position);
        counts.then_some(id)
    }

    /// Reverts the losses that a worker crash counted against tasks, as the process turned out to be alive.
    pub(super) fn uncount_crash(&mut self, worker: WorkerKey) {
        let Some(index) = self.crashes.iter().position(|(key, _)| *key == worker) else { return };
        let Some((_, tasks)) = self.crashes.remove(index) else { return };
        for id in tasks {
            let Some(record) = self.tasks.get_mut(&id) else { continue };
            let ran_alone = record.runs_alone();
            record.losses = record.losses.saturating_sub(1);
            if let Phase::Queued(position) = record.phase
                && ran_alone
                && let Some(id) = self.queue.remove(&record.queue_key(position))
            {
                push(&mut self.queue, record, id, position);
            }
        }
    }

    /// Cancels a task. Adds the command for the worker that must stop its attempt to `orders`. Returns whether it was
    /// unfinished.
    pub(super) fn cancel_one(&mut self, now: Now, id: &TaskId, orders: &mut BTreeMap<WorkerKey, Vec<Order>>) -> bool {
        let Some(record) = self.tasks.get(id) else { return false };
        let mut end = TaskOutcome::default();
        if let Phase::Leased { lease, started_at, .. } = record.phase {
            end.started_at = started_at;
            if let Some(granted) = self.leases.remove(&lease) {
                let worker = self.registry.get(granted.worker).filter(|_| started_at.is_some());
                end.worker_id = worker.map(|worker| worker.id.clone());
                orders.entry(granted.worker).or_default().push(Order::Stop(lease));
            }
        }
        self.stop_waiting(id);
        self.finish(now, id, TaskStatus::Cancelled, end);
        true
    }
}
