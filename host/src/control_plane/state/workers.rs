//! Registration, departure and loss of workers.

use std::{mem, sync::Arc};

use uuid::Uuid;

use super::{
    RequeueCause, Responder, STALL_MIN, State, Timer, WorkerKey,
    schedules::{ScheduleSpecs, schedule_specs},
};
use crate::{
    clock::{Moment, Now, Timestamp},
    control_plane::{
        events::NewEvent,
        worker_registry::{RECONNECT_GRACE, WORKER_TIMEOUT, WorkerRecord},
    },
    protocol::{EventKind, Refusal, RefusalCode, Registration, WorkerReply},
    transport::Peer,
};

/// Maximum number of crashes that are kept, in case the worker turns out to be alive.
const CRASHES_MAX: usize = 64;

impl<R: Responder> State<R> {
    /// Registers a worker. `peer` is none for the control plane's own.
    pub fn register(&mut self, now: Now, registration: Registration, peer: Option<Peer>, reply_to: R) {
        let key = WorkerKey(registration.worker);
        if self.registry.get(key).is_some() {
            return self.reply_to_worker(reply_to, WorkerReply::Registered);
        }
        if self.is_closed {
            return self.refuse_worker(reply_to, RefusalCode::Stopping, "the control plane is stopping");
        }
        if let Some(refusal) = self.registry.refusal(&registration, peer) {
            return self.reply_to_worker(reply_to, WorkerReply::Refused(refusal));
        }
        if peer.is_some() && registration.worker_id == self.control_plane_id {
            let id = &registration.worker_id;
            let message = format!("the control plane itself has the id '{id}'");
            return self.refuse_worker(reply_to, RefusalCode::WorkerIdReserved, message);
        }
        let existing = self.registry.iter().find(|(_, worker)| *worker.id == *registration.worker_id);
        match existing.map(|(key, worker)| (key, worker.disconnected.is_none())) {
            Some((_, true)) => {
                let id = &registration.worker_id;
                let message = format!("a worker with the id '{id}' is connected already");
                let refusal = Refusal::new(RefusalCode::WorkerIdInUse, message);
                return self.reply_to_worker(reply_to, WorkerReply::IdInUse(refusal));
            }
            Some((older, false)) => self.mark_lost(now, older),
            None => {}
        }
        if let Some(previous) = registration.previous {
            self.uncount_crash(WorkerKey(previous));
        }
        if self.lease_epoch == Timestamp::default() {
            self.lease_epoch = now.wall;
        }
        let id = Arc::from(registration.worker_id.as_str());
        self.record_event(now, NewEvent::of_worker(EventKind::WorkerJoined, &id));
        self.update_module_schedules(now, key, &ScheduleSpecs::new(), &registration.modules);
        for name in self.registry.add(now, registration, peer) {
            self.queue.mark_served(name.clone());
            self.serve(now, &name);
        }
        if peer.is_some() {
            self.set_worker_timeout(key, now.mono + WORKER_TIMEOUT);
        } else {
            self.offer_modules(now, key);
        }
        self.reply_to_worker(reply_to, WorkerReply::Registered);
    }

    /// Grants no more tasks to a worker that is stopping.
    pub fn drain_worker(&mut self, now: Now, worker: Uuid, reply_to: R) {
        let key = WorkerKey(worker);
        let Some(draining) = self.registry.get_mut(key) else {
            return self.reply_to_worker(reply_to, WorkerReply::Unknown);
        };
        if !mem::replace(&mut draining.draining, true) {
            let id = draining.id.clone();
            self.record_event(now, NewEvent::of_worker(EventKind::WorkerDraining, &id));
        }
        let Some(draining) = self.registry.get(key) else { return };
        let numbers: Vec<u32> = draining.slots.keys().copied().collect();
        for number in numbers {
            self.unpark_slot(key, number);
        }
        self.reply_to_worker(reply_to, WorkerReply::Noted);
    }

    /// Removes a worker that leaves. Its tasks return to the queue, which does not count as a loss.
    pub fn leave(&mut self, now: Now, worker: Uuid, reply_to: R) {
        let key = WorkerKey(worker);
        if let Some((removed, names)) = self.registry.remove(now, key, self.limits.unknown_grace) {
            let id = removed.id.clone();
            self.record_event(now, NewEvent::of_worker(EventKind::WorkerLeft, &id));
            self.release_worker(now, key, removed, &names, RequeueCause::WorkerLeft(&id));
        }
        self.reply_to_worker(reply_to, WorkerReply::Noted);
    }

    /// Marks the workers of a closed connection. They are lost unless they reconnect soon.
    pub fn peer_gone(&mut self, now: Now, peer: Peer) {
        let affected = self.registry.iter_mut().filter(|(_, worker)| worker.peer == Some(peer));
        let disconnected: Vec<WorkerKey> = affected
            .map(|(key, worker)| {
                worker.disconnected = Some(now.mono);
                key
            })
            .collect();
        for key in disconnected {
            self.set_worker_timeout(key, now.mono + RECONNECT_GRACE);
        }
    }

    /// Sets the timeout of a worker.
    pub(super) fn set_worker_timeout(&mut self, key: WorkerKey, at: Moment) {
        let Some(worker) = self.registry.get_mut(key) else { return };
        let before = mem::replace(&mut worker.timeout_check, at);
        self.timers.remove(&(before, Timer::WorkerTimeout(key)));
        self.timers.insert((at, Timer::WorkerTimeout(key)));
    }

    /// Removes a worker that has timed out, or sets its next timeout. `at` is when the check was due.
    pub(super) fn check_worker_timeout(&mut self, now: Now, at: Moment, key: WorkerKey) {
        let Some(worker) = self.registry.get(key) else { return };
        if now.mono.since(at) > STALL_MIN && worker.disconnected.is_none() {
            // This process itself was suspended: messages of the worker have queued up since.
            return self.set_worker_timeout(key, now.mono + STALL_MIN);
        }
        let timed_out_at = worker.last_seen.mono + WORKER_TIMEOUT;
        let lost_at = worker.disconnected.map_or(timed_out_at, |at| timed_out_at.min(at + RECONNECT_GRACE));
        if lost_at <= now.mono { self.mark_lost(now, key) } else { self.set_worker_timeout(key, lost_at) }
    }

    /// Removes a lost worker.
    pub(super) fn mark_lost(&mut self, now: Now, key: WorkerKey) {
        let Some((worker, names)) = self.registry.remove(now, key, self.limits.unknown_grace) else { return };
        self.registry.keep_lost(now, &worker);
        let id = worker.id.clone();
        self.record_event(now, NewEvent::of_worker(EventKind::WorkerLost, &id));
        let cause = if worker.disconnected.is_some() {
            RequeueCause::WorkerCrashed(&id)
        } else {
            RequeueCause::WorkerTimedOut(&id)
        };
        self.release_worker(now, key, worker, &names, cause);
    }

    /// Requeues the tasks of a worker that was removed from the registry, and replies to its parked requests. `names`
    /// are those that no worker serves any more.
    pub(super) fn release_worker(
        &mut self,
        now: Now,
        key: WorkerKey,
        worker: WorkerRecord<R>,
        names: &[Arc<str>],
        cause: RequeueCause<'_>,
    ) {
        self.expect_workers(now);
        for name in names {
            self.queue.mark_unserved(name);
        }
        let exclusive = self.exclusive_schedules(key, &schedule_specs(worker.modules()));
        let suspended: Vec<Arc<str>> = names.iter().cloned().chain(exclusive).collect();
        self.suspend_schedules(now, &suspended, self.limits.unknown_grace);
        self.timers.remove(&(worker.timeout_check, Timer::WorkerTimeout(key)));
        let mut counted = Vec::new();
        for (number, slot) in worker.slots {
            self.timers.remove(&(slot.until, Timer::SlotTimeout { worker: key, slot: number }));
            if let Some(reply_to) = slot.parked {
                self.reply_to_worker(reply_to, WorkerReply::Unknown);
            }
            counted.extend(slot.granted.into_iter().filter_map(|lease| self.requeue(now, lease, cause)));
        }
        if !counted.is_empty() {
            if self.crashes.len() == CRASHES_MAX {
                self.crashes.pop_front();
            }
            self.crashes.push_back((key, counted));
        }
        if let Some((reply_to, _, until)) = worker.module_query {
            self.timers.remove(&(until, Timer::ModuleListTimeout(key)));
            self.reply_to_worker(reply_to, WorkerReply::Unknown);
        }
        if let Some((reply_to, until)) = worker.beat {
            self.timers.remove(&(until, Timer::HeartbeatTimeout(key)));
            self.reply_to_worker(reply_to, WorkerReply::Unknown);
        }
    }
}
