//! Heartbeats of workers, and confirmation that leases have arrived.

use std::{collections::BTreeSet, mem};

use super::{BEAT_INTERVAL_MIN, Phase, RECHECK_DELAY, RequeueCause, Responder, State, Timer, WorkerKey};
use crate::{
    clock::{Moment, Now},
    control_plane::{events::NewEvent, worker_registry::Arrival},
    protocol::{BEAT_WAIT, Beat, EventKind, HOLDS_MAX, LeaseId, Order, PREFETCH_MAX, RefusalCode, WorkerReply},
    transport::Peer,
};

impl<R: Responder> State<R> {
    /// Applies a heartbeat, and parks it until there are commands.
    pub fn beat(&mut self, now: Now, beat: &Beat, peer: Option<Peer>, reply_to: R) {
        let key = WorkerKey(beat.worker);
        let Some(worker) = self.registry.get_mut(key) else {
            return self.reply_to_worker(reply_to, WorkerReply::Unknown);
        };
        let holds_max = worker.size() as usize * PREFETCH_MAX;
        if beat.holds.len() > holds_max {
            let message = format!("{} leases held: {} slots hold at most {holds_max}", beat.holds.len(), worker.size());
            return self.refuse_worker(reply_to, RefusalCode::BadRequest, message);
        }
        worker.last_seen = now;
        worker.peer = peer;
        worker.disconnected = None;
        self.reply_to_heartbeat(key, Vec::new());
        let is_dead = |lease: &&LeaseId| !self.leases.contains_key(lease);
        let orders: Vec<Order> = beat.holds.iter().filter(is_dead).copied().map(Order::Stop).collect();
        if !orders.is_empty() {
            return self.reply_to_worker(reply_to, WorkerReply::Orders(orders));
        }
        let holds: BTreeSet<LeaseId> = beat.holds.iter().copied().collect();
        self.mark_started(now, key, &holds);
        // A heartbeat that does not list all leases proves nothing about those that it does not list.
        let is_complete = peer.is_some() && holds.len() < HOLDS_MAX / 2;
        let is_missing = is_complete && self.find_undelivered(now, key, &holds);
        let has_requeued = is_complete && self.requeue_undelivered(now, key);
        let until = if self.drop_revoked_grants(key) || has_requeued {
            // A revoked lease may still arrive there: request soon what it holds.
            now.mono + RECHECK_DELAY
        } else if is_missing {
            now.mono + BEAT_INTERVAL_MIN
        } else if peer.is_some() {
            now.mono + BEAT_WAIT
        } else {
            // The control plane's own worker needs no heartbeat, so this one only waits for commands.
            Moment::NEVER
        };
        if let Some(worker) = self.registry.get_mut(key) {
            worker.beat = Some((reply_to, until));
        }
        if until != Moment::NEVER {
            self.timers.insert((until, Timer::HeartbeatTimeout(key)));
        }
    }

    /// Updates which leases have arrived at their slots. Returns whether some are missing for the first time.
    fn find_undelivered(&mut self, now: Now, key: WorkerKey, holds: &BTreeSet<LeaseId>) -> bool {
        let Some(worker) = self.registry.get_mut(key) else { return false };
        let mut is_missing = false;
        for slot in worker.slots.values_mut().filter(|slot| !slot.granted.is_empty()) {
            let is_held = || slot.granted.iter().any(|lease| holds.contains(lease));
            slot.arrival = match slot.arrival {
                Arrival::Confirmed => continue,
                _ if is_held() => Arrival::Confirmed,
                Arrival::Expected(by) if by <= now.mono => Arrival::Missed(now.mono),
                unclear => unclear,
            };
            is_missing |= slot.arrival == Arrival::Missed(now.mono);
        }
        is_missing
    }

    /// Revokes leases that never arrived: they are missing in this heartbeat and in one at least
    /// [`BEAT_INTERVAL_MIN`] ago. The connection of their slot is dead, and the worker has not noticed it yet, which
    /// does not count as a loss. Returns whether there were any.
    fn requeue_undelivered(&mut self, now: Now, key: WorkerKey) -> bool {
        let Some(worker) = self.registry.get(key) else { return false };
        let is_overdue = |arrival| matches!(arrival, Arrival::Missed(at) if at + BEAT_INTERVAL_MIN <= now.mono);
        let overdue = worker.slots.iter().filter(|(_, slot)| !slot.granted.is_empty() && is_overdue(slot.arrival));
        let overdue: Vec<u32> = overdue.map(|(number, _)| *number).collect();
        if overdue.is_empty() {
            return false;
        }
        // The connections of its other slots may be dead, too. Slots with a live one repeat their request immediately.
        let numbers: Vec<u32> = worker.slots.keys().copied().collect();
        for number in numbers {
            self.unpark_slot(key, number);
        }
        for number in overdue {
            let requeued = self.registry.change_slot(key, number, |slot| {
                (mem::take(&mut slot.granted), mem::replace(&mut slot.until, Moment::NEVER))
            });
            let Some((granted, until)) = requeued else { continue };
            self.timers.remove(&(until, Timer::SlotTimeout { worker: key, slot: number }));
            for lease in granted {
                self.requeue(now, lease, RequeueCause::Returned);
            }
        }
        true
    }

    /// Removes revoked leases from the slots of a worker. Returns whether there were any.
    fn drop_revoked_grants(&mut self, key: WorkerKey) -> bool {
        let Some(worker) = self.registry.get(key) else { return false };
        let has_dead = |granted: &[LeaseId]| granted.iter().any(|lease| !self.leases.contains_key(lease));
        let numbers: Vec<u32> =
            worker.slots.iter().filter(|(_, slot)| has_dead(&slot.granted)).map(|(number, _)| *number).collect();
        let leases = &self.leases;
        for number in &numbers {
            self.registry.change_slot(key, *number, |slot| slot.granted.retain(|lease| leases.contains_key(lease)));
        }
        !numbers.is_empty()
    }

    /// Marks the attempts that have started: a slot runs its leases in order, so the first that it holds.
    fn mark_started(&mut self, now: Now, key: WorkerKey, holds: &BTreeSet<LeaseId>) {
        let Some(worker) = self.registry.get(key) else { return };
        for slot in worker.slots.values() {
            let Some(lease) = slot.granted.iter().find(|lease| holds.contains(lease)) else { continue };
            let Some(task) = self.leases.get(lease).map(|granted| &granted.task) else { continue };
            let Some(record) = self.tasks.get_mut(task) else { continue };
            if let Phase::Leased { started_at: started_at @ None, .. } = &mut record.phase {
                *started_at = Some(now.wall);
                let event = NewEvent::of_task(EventKind::TaskStarted, task, &record.name, record.priority);
                self.event_log.push(now.wall, NewEvent { worker: Some(&worker.id), attempt: record.attempt, ..event });
            }
        }
    }

    /// Replies to a parked heartbeat. If none is parked, the next one gets the commands, as it lists what the worker
    /// holds.
    pub(super) fn reply_to_heartbeat(&mut self, key: WorkerKey, orders: Vec<Order>) {
        let Some((reply_to, until)) = self.registry.get_mut(key).and_then(|worker| worker.beat.take()) else { return };
        self.timers.remove(&(until, Timer::HeartbeatTimeout(key)));
        self.reply_to_worker(reply_to, WorkerReply::Orders(orders));
    }
}
