//! Grants: the choice of the slot for each waiting task.

use std::{mem, time::Duration};

use super::{DELIVERY_MAX, Granted, LEASE_GRACE, PREFETCH_TIME_MAX, Phase, Responder, State, Timer, WorkerKey};
use crate::control_plane::{events::NewEvent, queue::QueueKey, worker_registry::Arrival};
use crate::{
    clock::{Moment, Now},
    protocol::{EventKind, FRAME_TARGET, Lease, LeaseId, PREFETCH_MAX, WorkerReply},
    task::TaskId,
    transport::transfer_time,
};

impl<R: Responder> State<R> {
    /// Grants waiting tasks to waiting slots, the least loaded worker first. Only [`State::apply`] calls it, once the
    /// transition is complete.
    pub(super) fn dispatch(&mut self, now: Now) {
        while self.queue.ready() > 0
            && let Some((worker, slot)) = self.idle_slot()
        {
            if self.drop_closed(worker, slot) {
                continue;
            }
            let capacity = self.registry.change_slot(worker, slot, |slot| slot.capacity);
            let leases = self.grant(now, worker, slot, capacity.unwrap_or(1) as usize);
            let parked = self.registry.change_slot(worker, slot, |slot| slot.parked.take());
            let Some(reply_to) = parked.flatten() else { return };
            self.reply_to_worker(reply_to, WorkerReply::Leases(leases));
        }
    }

    /// Drops the parked request of a slot if its connection is closed. A worker that reconnects repeats it. Returns
    /// whether it was dropped.
    pub(super) fn drop_closed(&mut self, key: WorkerKey, number: u32) -> bool {
        let closed = self.registry.change_slot(key, number, |slot| {
            drop(slot.parked.take_if(|reply_to| !reply_to.is_open())?);
            Some(mem::replace(&mut slot.until, Moment::NEVER))
        });
        let until = closed.flatten();
        if let Some(until) = until {
            self.timers.remove(&(until, Timer::SlotTimeout { worker: key, slot: number }));
        }
        until.is_some()
    }

    /// Returns the slot that gets the next task: of those that wait and can run one, one of the least loaded worker.
    pub(super) fn idle_slot(&self) -> Option<(WorkerKey, u32)> {
        let (key, worker) = self.registry.idle().find(|(_, worker)| self.queue.has(worker.names()))?;
        Some((key, worker.first_parked()?))
    }

    /// Leases the next task that a slot can run, and as many short ones behind it as fit into the lookahead.
    pub(super) fn grant(&mut self, now: Now, key: WorkerKey, slot: u32, capacity: usize) -> Vec<Lease> {
        let Some(worker) =
            self.registry.get(key).filter(|worker| !worker.draining && !worker.is_reserved() && capacity > 0)
        else {
            return Vec::new();
        };
        // A slot gets no more than its share of the queue, so that no other slot stays idle.
        let share = self.queue.ready().div_ceil(self.registry.slots().max(1));
        let count_max = capacity.min(share).clamp(1, PREFETCH_MAX);
        let Some((queue_key, first)) = self.queue.next(now.mono, worker.names()) else { return Vec::new() };
        let mut ahead = worker.mean_run(&queue_key.name);
        let measure =
            |id: &TaskId| self.tasks.get(id).map_or((false, 0), |record| (record.quarantined, record.bytes()));
        let (mut is_quarantined, mut bytes) = measure(&first);
        let mut chosen = vec![(queue_key.clone(), first)];
        self.queue.remove(&queue_key);
        while chosen.len() < count_max
            && !is_quarantined
            && let Some(planned) = ahead
            && let Some((next, id)) = self.queue.head(queue_key.priority, worker.names())
        {
            ahead = worker.mean_run(&next.name).map(|mean| planned + mean).filter(|sum| *sum <= PREFETCH_TIME_MAX);
            let size;
            (is_quarantined, size) = measure(&id);
            bytes += size;
            if ahead.is_none() || is_quarantined || bytes > FRAME_TARGET {
                break;
            }
            self.queue.remove(&next);
            chosen.push((next, id));
        }
        self.lease(now, key, slot, chosen)
    }

    /// Leases these tasks to a slot.
    pub(super) fn lease(
        &mut self,
        now: Now,
        key: WorkerKey,
        number: u32,
        chosen: Vec<(QueueKey, TaskId)>,
    ) -> Vec<Lease> {
        let mut leases = Vec::with_capacity(chosen.len());
        let (mut longest, mut bytes) = (Duration::ZERO, 0);
        for (queue_key, id) in chosen {
            let Some(record) = self.tasks.get_mut(&id) else { continue };
            // The task may have been submitted before a worker served its name.
            if let Some((_, module_policy)) =
                self.registry.served_or_recent(now.mono, &queue_key.name).filter(|_| record.attempt == 0)
            {
                record.policy = record.policy.or(module_policy);
            }
            // Ids of an earlier control plane, which a worker may still hold, are never used again.
            self.last_lease = (self.last_lease + 1).max(u64::try_from(self.lease_epoch.micros()).unwrap_or(0));
            let lease = LeaseId(self.last_lease);
            record.attempt += 1;
            // Only the first attempt starts now.
            let started_at = leases.is_empty().then_some(now.wall);
            record.phase = Phase::Leased { lease, started_at, position: queue_key.position };
            if started_at.is_some() {
                let event = NewEvent::of_task(EventKind::TaskStarted, &id, &record.name, record.priority);
                let worker = self.registry.get(key).map(|worker| &worker.id);
                self.event_log.push(now.wall, NewEvent { worker, attempt: record.attempt, ..event });
            }
            longest = longest.saturating_add(record.timeout());
            bytes += record.bytes();
            leases.push(record.lease(lease, &id));
            self.leases.insert(lease, Granted { task: id, worker: key });
        }
        self.counts.granted += leases.len() as u64;
        let until = now.mono + longest + LEASE_GRACE;
        let arrival = Arrival::Expected(now.mono + DELIVERY_MAX + transfer_time(bytes));
        let parked_until = self.registry.change_slot(key, number, |slot| {
            slot.granted = leases.iter().map(|lease| lease.id).collect();
            slot.arrival = arrival;
            mem::replace(&mut slot.until, until)
        });
        if let Some(parked_until) = parked_until {
            self.timers.remove(&(parked_until, Timer::SlotTimeout { worker: key, slot: number }));
            self.timers.insert((until, Timer::SlotTimeout { worker: key, slot: number }));
        }
        leases
    }
}
