//! Tasks go out: which slot gets which.

use std::{mem, time::Duration};

use uuid::Uuid;

use super::{DELIVERY_MAX, Granted, LEASE_GRACE, LOOKAHEAD, LOOKAHEAD_MAX, Phase, Responder, State, Timer};
use crate::control_plane::{events::NewEvent, queue::Place, worker_registry::Arrival};
use crate::{
    clock::{Moment, Now},
    protocol::{EventKind, FRAME_TARGET, Lease, LeaseId, WorkerReply},
    task::TaskId,
    transport::transfer_time,
};

impl<R: Responder> State<R> {
    /// Gives waiting tasks to waiting slots, the freest worker first. Each entrance to the state
    /// ends with it, so that its books are complete before the first task goes out.
    pub(super) fn dispatch(&mut self, now: Now) {
        self.dispatch_isolated(now);
        while self.queue.ready() > 0
            && let Some((worker, slot)) = self.idle_slot()
        {
            if self.forget_shut(worker, slot) {
                continue;
            }
            let capacity = self.registry.change_slot(worker, slot, |slot| slot.capacity);
            let leases = self.grant(now, worker, slot, capacity.unwrap_or(1) as usize);
            let parked = self.registry.change_slot(worker, slot, |slot| slot.parked.take());
            let Some(reply_to) = parked.flatten() else { return };
            self.reply_to_worker(reply_to, WorkerReply::Leases(leases));
        }
    }

    /// Whether the parked request of a slot cannot be answered any more, as its connection is gone: then
    /// it is forgotten. A worker that comes back repeats it.
    pub(super) fn forget_shut(&mut self, key: Uuid, number: u32) -> bool {
        let shut = self.registry.change_slot(key, number, |slot| {
            drop(slot.parked.take_if(|reply_to| !reply_to.is_open())?);
            Some(mem::replace(&mut slot.until, Moment::NEVER))
        });
        let until = shut.flatten();
        if let Some(until) = until {
            self.timers.remove(&(until, Timer::Slot(key, number)));
        }
        until.is_some()
    }

    /// The slot that should have the next task: of those that wait and can run one, one of the
    /// worker that is least loaded.
    pub(super) fn idle_slot(&self) -> Option<(Uuid, u32)> {
        let (key, worker) = self.registry.idle().find(|(_, worker)| self.queue.has(worker.names()))?;
        Some((key, worker.first_parked()?))
    }

    /// Leases to a slot the next task that it can run, and as many short ones behind it as fit
    /// into the lookahead.
    pub(super) fn grant(&mut self, now: Now, key: Uuid, slot: u32, capacity: usize) -> Vec<Lease> {
        let Some(worker) =
            self.registry.get(key).filter(|worker| !worker.draining && !worker.is_reserved() && capacity > 0)
        else {
            return Vec::new();
        };
        // Nobody takes more than its share: the others would wait for work that is here.
        let share = self.queue.ready().div_ceil(self.registry.slots().max(1));
        let most = capacity.min(share).clamp(1, LOOKAHEAD_MAX);
        let Some((place, first)) = self.queue.next(now.mono, worker.names()) else { return Vec::new() };
        let mut ahead = worker.mean_run(&place.name);
        let weigh = |id: &TaskId| self.tasks.get(id).map_or((false, 0), |record| (record.suspect, record.bytes()));
        let (mut alone, mut bytes) = weigh(&first);
        let mut chosen = vec![(place.clone(), first)];
        self.queue.remove(&place);
        while chosen.len() < most
            && !alone
            && let Some(spent) = ahead
            && let Some((next, id)) = self.queue.head(place.priority, worker.names())
        {
            ahead = worker.mean_run(&next.name).map(|mean| spent + mean).filter(|sum| *sum <= LOOKAHEAD);
            let size;
            (alone, size) = weigh(&id);
            bytes += size;
            if ahead.is_none() || alone || bytes > FRAME_TARGET {
                break;
            }
            self.queue.remove(&next);
            chosen.push((next, id));
        }
        self.lease(now, key, slot, chosen)
    }

    pub(super) fn lease(&mut self, now: Now, key: Uuid, number: u32, chosen: Vec<(Place, TaskId)>) -> Vec<Lease> {
        let mut leases = Vec::with_capacity(chosen.len());
        let (mut longest, mut bytes) = (Duration::ZERO, 0);
        for (place, id) in chosen {
            let Some(record) = self.tasks.get_mut(&id) else { continue };
            // It may have been submitted before anybody knew the name.
            if let Some((_, own)) = self.registry.known(now.mono, &place.name).filter(|_| record.attempt == 0) {
                record.policy = record.policy.or(own);
            }
            // Numbers of an earlier control plane, which a worker may still hold, are never used again.
            self.last_lease = (self.last_lease + 1).max(u64::try_from(self.born.micros()).unwrap_or(0));
            let lease = LeaseId(self.last_lease);
            record.attempt += 1;
            // Only the first begins now.
            let started_at = leases.is_empty().then_some(now.wall);
            record.phase = Phase::Leased { lease, started_at, position: place.position };
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
            self.timers.remove(&(parked_until, Timer::Slot(key, number)));
            self.timers.insert((until, Timer::Slot(key, number)));
        }
        leases
    }
}
