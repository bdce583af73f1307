//! Requests of slots: they report outcomes and are granted leases.

use std::{iter, mem};

use super::{RequeueCause, Responder, State, Timer, WorkerKey};
use crate::{
    clock::{Moment, Now},
    control_plane::worker_registry::Arrival,
    protocol::{CONFIRM_WAIT, LeaseId, Note, Order, RefusalCode, WAIT_MAX, WORK_WAIT, Work, WorkerReply},
    task::Report,
};

impl<R: Responder> State<R> {
    /// Applies the outcomes of a slot, and grants it more tasks or parks the request.
    pub fn work(&mut self, now: Now, work: Work, reply_to: R) {
        let Work { worker, slot: number, sequence, ended, capacity } = work;
        let key = WorkerKey(worker);
        let Some(worker) = self.registry.get_mut(key) else {
            return self.reply_to_worker(reply_to, WorkerReply::Unknown);
        };
        worker.last_seen = now;
        let draining = worker.draining;
        let wait = match (worker.peer, ended.is_empty()) {
            // Messages to the control plane's own worker are never lost.
            (None, _) => WAIT_MAX,
            (Some(_), true) => WORK_WAIT,
            (Some(_), false) => CONFIRM_WAIT,
        };
        let opened = self.registry.change_slot(key, number, |slot| {
            let is_new = sequence > slot.sequence;
            is_new.then(|| {
                (slot.sequence, slot.capacity) = (sequence, capacity);
                let until = mem::replace(&mut slot.until, Moment::NEVER);
                (mem::take(&mut slot.granted), until, slot.parked.take())
            })
        });
        let (granted, until, displaced) = match opened {
            Some(Some(opened)) => opened,
            Some(None) => return self.repeat_reply(key, number, sequence, reply_to),
            None => {
                let message = format!("there is no slot {number} in this worker");
                return self.refuse_worker(reply_to, RefusalCode::NoSuchSlot, message);
            }
        };
        self.timers.remove(&(until, Timer::SlotTimeout { worker: key, slot: number }));
        if let Some(displaced) = displaced {
            self.reply_to_worker(displaced, WorkerReply::Leases(Vec::new()));
        }
        let replies_immediately = capacity == 0 || draining;
        let held = self.complete_leases(now, key, granted, ended);
        if capacity > 0 {
            // A slot that requests more holds nothing: it never received the leases that it does not report.
            for lease in held {
                self.requeue(now, lease, RequeueCause::Returned);
            }
        } else if !held.is_empty() {
            // It has more to report than fits into one request.
            self.registry.change_slot(key, number, |slot| {
                (slot.granted, slot.until, slot.arrival) = (held, until, Arrival::Confirmed);
            });
            self.timers.insert((until, Timer::SlotTimeout { worker: key, slot: number }));
        }

        let leases = self.grant(now, key, number, capacity as usize);
        if !leases.is_empty() || replies_immediately {
            self.reply_to_worker(reply_to, WorkerReply::Leases(leases));
        } else {
            self.park_slot(key, number, now.mono + wait, reply_to);
        }
    }

    fn park_slot(&mut self, key: WorkerKey, number: u32, until: Moment, reply_to: R) {
        self.registry.change_slot(key, number, |slot| (slot.parked, slot.until) = (Some(reply_to), until));
        self.timers.insert((until, Timer::SlotTimeout { worker: key, slot: number }));
    }

    /// Replies to a slot's parked request with no leases.
    pub(super) fn unpark_slot(&mut self, key: WorkerKey, number: u32) {
        let parked = self.registry.change_slot(key, number, |slot| {
            slot.parked.take().map(|reply_to| (reply_to, mem::replace(&mut slot.until, Moment::NEVER)))
        });
        if let Some((reply_to, until)) = parked.flatten() {
            self.timers.remove(&(until, Timer::SlotTimeout { worker: key, slot: number }));
            self.reply_to_worker(reply_to, WorkerReply::Leases(Vec::new()));
        }
    }

    /// Replies to the parked request of a slot with no leases, or revokes the leases of a slot that did not report.
    pub(super) fn slot_timed_out(&mut self, now: Now, at: Moment, key: WorkerKey, number: u32) {
        let over = self.registry.change_slot(key, number, |slot| {
            let over = slot.until == at;
            over.then(|| {
                slot.until = Moment::NEVER;
                (slot.parked.take(), mem::take(&mut slot.granted))
            })
        });
        let Some((parked, granted)) = over.flatten() else { return };
        if let Some(reply_to) = parked {
            return self.reply_to_worker(reply_to, WorkerReply::Leases(Vec::new()));
        }
        let Some(id) = self.registry.get(key).map(|worker| worker.id.clone()) else { return };
        let orders = granted.iter().filter(|lease| self.leases.contains_key(lease)).copied().map(Order::Stop).collect();
        for lease in granted {
            self.requeue(now, lease, RequeueCause::WorkerTimedOut(&id));
        }
        self.reply_to_heartbeat(key, orders);
    }

    /// Repeats the last reply to a slot, which did not receive it.
    pub(super) fn repeat_reply(&mut self, key: WorkerKey, number: u32, sequence: u64, reply_to: R) {
        let again = self.registry.change_slot(key, number, |slot| {
            // A slot that requests none has its leases from an earlier reply.
            if sequence < slot.sequence || slot.capacity == 0 {
                (Vec::new(), Some(reply_to))
            } else if slot.parked.is_some() {
                (Vec::new(), slot.parked.replace(reply_to))
            } else {
                (slot.granted.clone(), Some(reply_to))
            }
        });
        let Some((granted, Some(reply_to))) = again else { return };
        // A lease that is no longer live must not be run.
        let leases = granted.into_iter().filter_map(|lease| {
            let id = &self.leases.get(&lease)?.task;
            Some(self.tasks.get(id)?.lease(lease, id))
        });
        let leases = leases.collect();
        self.reply_to_worker(reply_to, WorkerReply::Leases(leases));
    }

    /// Applies a progress report of a worker: reports of running tasks, and leases that it returns.
    pub fn note(&mut self, now: Now, note: Note, reply_to: R) {
        let key = WorkerKey(note.worker);
        let Some(worker) = self.registry.get_mut(key) else {
            return self.reply_to_worker(reply_to, WorkerReply::Unknown);
        };
        if worker.last_note < note.sequence {
            worker.last_note = note.sequence;
            let mut reports = note.reports.into_iter().peekable();
            while let Some((lease, first)) = reports.next() {
                let more = iter::from_fn(|| reports.next_if(|(next, _)| *next == lease));
                let of_lease: Vec<Report> = iter::once(first).chain(more.map(|(_, report)| report)).collect();
                if self.holds(key, lease) {
                    self.report(now, lease, of_lease);
                }
            }
            for lease in note.returned.into_iter().filter(|lease| self.holds(key, *lease)).collect::<Vec<_>>() {
                self.requeue(now, lease, RequeueCause::Returned);
            }
        }
        self.reply_to_worker(reply_to, WorkerReply::Noted);
    }

    /// Adds reports to a task, if the lease is live.
    pub(super) fn report(&mut self, now: Now, lease: LeaseId, reports: Vec<Report>) {
        let Some(id) = self.leases.get(&lease).map(|granted| granted.task.clone()) else { return };
        if let Some(record) = self.tasks.get_mut(&id) {
            for report in reports {
                record.reports.push(report);
            }
            self.reply_to_followers(now, &id);
        }
    }

    /// Whether the worker holds this lease, and it is live.
    pub(super) fn holds(&self, worker: WorkerKey, lease: LeaseId) -> bool {
        self.leases.get(&lease).is_some_and(|granted| granted.worker == worker)
    }
}
