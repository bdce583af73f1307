//! What workers say, and what becomes of what they held when they go.

use std::{collections::BTreeSet, iter, mem, sync::Arc};

use uuid::Uuid;

use super::schedules::{Whens, whens};
use super::{BEATS_APART, LOOKAHEAD_MAX, Loss, Phase, Responder, SECOND_LOOK, STALL, State, Timer};
use crate::control_plane::events::NewEvent;
use crate::control_plane::worker_registry::{Arrival, RECONNECT_GRACE, SILENCE_MAX, Worker};
use crate::{
    clock::{Moment, Now, Timestamp},
    protocol::{
        BEAT_WAIT, Beat, CONFIRM_WAIT, EventKind, HOLDS_MAX, LeaseId, Note, Order, Registration, WAIT_MAX, WORK_WAIT,
        Work, WorkerReply,
    },
    task::Report,
    transport::Peer,
};

/// Maximum number of crashes that are remembered, in case that the worker turns out to be there.
const CRASHES_MAX: usize = 64;

impl<R: Responder> State<R> {
    /// Takes a worker in. `peer` is none for the control plane's own.
    pub fn register(&mut self, now: Now, registration: Registration, peer: Option<Peer>, reply_to: R) {
        let key = registration.worker;
        if self.registry.get(key).is_some() {
            return self.reply_to_worker(reply_to, WorkerReply::Registered);
        }
        if self.stopped {
            return self.reply_to_worker(reply_to, WorkerReply::Refused("the control plane is stopping".into()));
        }
        if let Some(why) = self.registry.refusal(&registration) {
            return self.reply_to_worker(reply_to, WorkerReply::Refused(why));
        }
        if peer.is_some() && registration.worker_id == self.own_id {
            let id = &registration.worker_id;
            let why = format!("the control plane itself has the id '{id}': give this worker another --worker-id");
            return self.reply_to_worker(reply_to, WorkerReply::Refused(why));
        }
        let existing = self.registry.iter().find(|(_, worker)| *worker.id == *registration.worker_id);
        match existing.map(|(key, worker)| (key, worker.disconnected.is_none())) {
            Some((_, true)) => {
                let id = &registration.worker_id;
                let why = format!("a worker with the id '{id}' is connected already");
                return self.reply_to_worker(reply_to, WorkerReply::IdInUse(why));
            }
            Some((older, false)) => self.lose(now, older),
            None => {}
        }
        if let Some(previous) = registration.previous {
            self.forgive_crash(previous);
        }
        if self.born == Timestamp::default() {
            self.born = now.wall;
        }
        let id = Arc::from(registration.worker_id.as_str());
        self.note_event(now, NewEvent::of_worker(EventKind::WorkerJoined, &id));
        self.offer_schedules(now, key, &Whens::new(), &registration.modules);
        for name in self.registry.add(now, registration, peer) {
            self.queue.offer(name.clone());
            self.claim(now, &name);
        }
        if peer.is_some() {
            self.watch(key, now.mono + SILENCE_MAX);
        }
        self.reply_to_worker(reply_to, WorkerReply::Registered);
        self.dispatch(now);
    }

    /// Takes what a slot ran, and gives it more or lets it wait.
    pub fn work(&mut self, now: Now, work: Work, reply_to: R) {
        let Work { worker: key, slot: number, sequence, ended, capacity } = work;
        let Some(worker) = self.registry.get_mut(key) else {
            return self.reply_to_worker(reply_to, WorkerReply::Unknown);
        };
        worker.last_seen = now;
        let draining = worker.draining;
        let wait = match (worker.peer, ended.is_empty()) {
            // Nothing gets lost on the way to the control plane's own.
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
            Some(None) => return self.answer_again(key, number, sequence, reply_to),
            None => {
                return self.reply_to_worker(
                    reply_to,
                    WorkerReply::Refused(format!("there is no slot {number} in this worker")),
                );
            }
        };
        self.timers.remove(&(until, Timer::Slot(key, number)));
        if let Some(displaced) = displaced {
            self.reply_to_worker(displaced, WorkerReply::Leases(Vec::new()));
        }
        let at_once = capacity == 0 || draining;
        let held = self.settle(now, key, granted, ended);
        if capacity > 0 {
            // A slot that asks for more has nothing left: what it did not mention, it never got.
            for lease in held {
                self.put_back(now, lease, Loss::No);
            }
        } else if !held.is_empty() {
            // It has more to tell than one request holds.
            self.registry.change_slot(key, number, |slot| {
                (slot.granted, slot.until, slot.arrival) = (held, until, Arrival::Confirmed);
            });
            self.timers.insert((until, Timer::Slot(key, number)));
        }

        let leases = self.grant(now, key, number, capacity as usize);
        if !leases.is_empty() || at_once {
            self.reply_to_worker(reply_to, WorkerReply::Leases(leases));
        } else {
            let until = now.mono + wait;
            self.registry.change_slot(key, number, |slot| {
                (slot.parked, slot.until) = (Some(reply_to), until);
            });
            self.timers.insert((until, Timer::Slot(key, number)));
        }
        // What was put back or followed up may suit a slot that waits.
        self.dispatch(now);
    }

    /// Takes a sign of life, and parks it until there is an order.
    pub fn beat(&mut self, now: Now, beat: &Beat, peer: Option<Peer>, reply_to: R) {
        let key = beat.worker;
        let Some(worker) = self.registry.get_mut(key) else {
            return self.reply_to_worker(reply_to, WorkerReply::Unknown);
        };
        let holds_max = worker.size() as usize * LOOKAHEAD_MAX;
        if beat.holds.len() > holds_max {
            let why = format!("{} leases held: {} slots hold at most {holds_max}", beat.holds.len(), worker.size());
            return self.reply_to_worker(reply_to, WorkerReply::Refused(why));
        }
        worker.last_seen = now;
        worker.peer = peer;
        worker.disconnected = None;
        self.answer_beat(key, Vec::new());
        let is_dead = |lease: &&LeaseId| !self.leases.contains_key(lease);
        let orders: Vec<Order> = beat.holds.iter().filter(is_dead).copied().map(Order::Stop).collect();
        if !orders.is_empty() {
            return self.reply_to_worker(reply_to, WorkerReply::Orders(orders));
        }
        let holds: BTreeSet<LeaseId> = beat.holds.iter().copied().collect();
        self.note_begun(now, key, &holds);
        // A beat that does not tell of all leases says nothing about those that it does not mention.
        let is_whole = peer.is_some() && holds.len() < HOLDS_MAX / 2;
        let is_missing = is_whole && self.find_undelivered(now, key, &holds);
        let is_back = is_whole && self.take_back_undelivered(now, key);
        let until = if self.forget_dead_grants(key) || is_back {
            // What was taken back may still have been on its way there: ask for its holds soon.
            now.mono + SECOND_LOOK
        } else if is_missing {
            now.mono + BEATS_APART
        } else if peer.is_some() {
            now.mono + BEAT_WAIT
        } else {
            // The control plane's own worker needs no sign of life, so its beat waits for an order.
            Moment::NEVER
        };
        if let Some(worker) = self.registry.get_mut(key) {
            worker.beat = Some((reply_to, until));
        }
        if until != Moment::NEVER {
            self.timers.insert((until, Timer::Beat(key)));
        }
        if is_back {
            self.dispatch(now);
        }
    }

    /// Looks by a beat which leases have arrived at their slots. Returns whether it misses some for the
    /// first time.
    fn find_undelivered(&mut self, now: Now, key: Uuid, holds: &BTreeSet<LeaseId>) -> bool {
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

    /// Takes back the leases that never arrived: a beat missed them a while ago, and the one that has
    /// just come does not mention them either. Their slot's connection is dead, and has not noticed it
    /// yet, which is no loss. Returns whether there were any.
    fn take_back_undelivered(&mut self, now: Now, key: Uuid) -> bool {
        let Some(worker) = self.registry.get(key) else { return false };
        let is_overdue = |arrival| matches!(arrival, Arrival::Missed(at) if at + BEATS_APART <= now.mono);
        let overdue = worker.slots.iter().filter(|(_, slot)| !slot.granted.is_empty() && is_overdue(slot.arrival));
        let overdue: Vec<u32> = overdue.map(|(number, _)| *number).collect();
        if overdue.is_empty() {
            return false;
        }
        // The connections of its other slots may be dead as well. Those whose are not ask again at once.
        let numbers: Vec<u32> = worker.slots.keys().copied().collect();
        for number in numbers {
            self.unpark_slot(key, number);
        }
        for number in overdue {
            let taken = self.registry.change_slot(key, number, |slot| {
                (mem::take(&mut slot.granted), mem::replace(&mut slot.until, Moment::NEVER))
            });
            let Some((granted, until)) = taken else { continue };
            self.timers.remove(&(until, Timer::Slot(key, number)));
            for lease in granted {
                self.put_back(now, lease, Loss::No);
            }
        }
        true
    }

    /// Strikes what was taken back from what the slots of a worker were granted. Returns whether
    /// there was any.
    fn forget_dead_grants(&mut self, key: Uuid) -> bool {
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

    /// A slot runs its leases in order: the first that it still holds has begun.
    fn note_begun(&mut self, now: Now, key: Uuid, holds: &BTreeSet<LeaseId>) {
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

    /// Takes what a worker says between two requests for work.
    pub fn note(&mut self, now: Now, note: Note, reply_to: R) {
        let Some(worker) = self.registry.get_mut(note.worker) else {
            return self.reply_to_worker(reply_to, WorkerReply::Unknown);
        };
        if worker.noted < note.sequence {
            worker.noted = note.sequence;
            let mut reports = note.reports.into_iter().peekable();
            while let Some((lease, first)) = reports.next() {
                let more = iter::from_fn(|| reports.next_if(|(next, _)| *next == lease));
                let said: Vec<Report> = iter::once(first).chain(more.map(|(_, report)| report)).collect();
                if self.holds(note.worker, lease) {
                    self.report(now, lease, said);
                }
            }
            for lease in note.returned.into_iter().filter(|lease| self.holds(note.worker, *lease)).collect::<Vec<_>>() {
                self.put_back(now, lease, Loss::No);
            }
        }
        self.reply_to_worker(reply_to, WorkerReply::Noted);
        self.dispatch(now);
    }

    /// Adds to what a task said, as long as the lease is live.
    pub(super) fn report(&mut self, now: Now, lease: LeaseId, reports: Vec<Report>) {
        let Some(id) = self.leases.get(&lease).map(|granted| granted.task.clone()) else { return };
        if let Some(record) = self.tasks.get_mut(&id) {
            for report in reports {
                record.reports.push(report);
            }
            self.wake_followers(now, &id);
        }
    }

    pub(super) fn holds(&self, worker: Uuid, lease: LeaseId) -> bool {
        self.leases.get(&lease).is_some_and(|granted| granted.worker == worker)
    }

    /// Grants nothing more to a worker that wants to finish.
    pub fn drain_worker(&mut self, now: Now, worker: Uuid, reply_to: R) {
        let Some(draining) = self.registry.get_mut(worker) else {
            return self.reply_to_worker(reply_to, WorkerReply::Unknown);
        };
        if !mem::replace(&mut draining.draining, true) {
            let id = draining.id.clone();
            self.note_event(now, NewEvent::of_worker(EventKind::WorkerDraining, &id));
        }
        let Some(draining) = self.registry.get(worker) else { return };
        let numbers: Vec<u32> = draining.slots.keys().copied().collect();
        for number in numbers {
            self.unpark_slot(worker, number);
        }
        self.reply_to_worker(reply_to, WorkerReply::Noted);
    }

    /// Answers a slot's parked request with nothing.
    pub(super) fn unpark_slot(&mut self, key: Uuid, number: u32) {
        let parked = self.registry.change_slot(key, number, |slot| {
            slot.parked.take().map(|reply_to| (reply_to, mem::replace(&mut slot.until, Moment::NEVER)))
        });
        if let Some((reply_to, until)) = parked.flatten() {
            self.timers.remove(&(until, Timer::Slot(key, number)));
            self.reply_to_worker(reply_to, WorkerReply::Leases(Vec::new()));
        }
    }

    /// Lets a worker go. What it holds goes back to the queue, and is not counted as a loss.
    pub fn leave(&mut self, now: Now, worker: Uuid, reply_to: R) {
        if let Some((gone, names)) = self.registry.remove(now, worker, self.limits.unknown_grace) {
            let id = gone.id.clone();
            self.note_event(now, NewEvent::of_worker(EventKind::WorkerLeft, &id));
            self.dismiss(now, worker, gone, &names, Loss::Left(&id));
        }
        self.reply_to_worker(reply_to, WorkerReply::Noted);
        self.dispatch(now);
    }

    /// Notes that a connection is gone. A worker on it is lost unless it comes back soon.
    pub fn peer_gone(&mut self, now: Now, peer: Peer) {
        let on_it = self.registry.iter_mut().filter(|(_, worker)| worker.peer == Some(peer));
        let gone: Vec<Uuid> = on_it
            .map(|(key, worker)| {
                worker.disconnected = Some(now.mono);
                key
            })
            .collect();
        for key in gone {
            self.watch(key, now.mono + RECONNECT_GRACE);
        }
    }

    /// Looks again at `at` whether a worker was silent for too long.
    pub(super) fn watch(&mut self, key: Uuid, at: Moment) {
        let Some(worker) = self.registry.get_mut(key) else { return };
        let before = mem::replace(&mut worker.watched, at);
        self.timers.remove(&(before, Timer::Silence(key)));
        self.timers.insert((at, Timer::Silence(key)));
    }

    /// Looks whether a worker was silent for too long. `at` is when that was due.
    pub(super) fn check_silence(&mut self, now: Now, at: Moment, key: Uuid) {
        let Some(worker) = self.registry.get(key) else { return };
        if now.mono.since(at) > STALL && worker.disconnected.is_none() {
            // It was this process that stood still: what the worker said meanwhile comes in now.
            return self.watch(key, now.mono + STALL);
        }
        let silent = worker.last_seen.mono + SILENCE_MAX;
        let lost_at = worker.disconnected.map_or(silent, |at| silent.min(at + RECONNECT_GRACE));
        if lost_at <= now.mono { self.lose(now, key) } else { self.watch(key, lost_at) }
    }

    pub(super) fn lose(&mut self, now: Now, key: Uuid) {
        let Some((worker, names)) = self.registry.remove(now, key, self.limits.unknown_grace) else { return };
        self.registry.note_lost(now, &worker);
        let id = worker.id.clone();
        self.note_event(now, NewEvent::of_worker(EventKind::WorkerLost, &id));
        let loss = if worker.disconnected.is_some() { Loss::Crashed(&id) } else { Loss::Silent(&id) };
        self.dismiss(now, key, worker, &names, loss);
    }

    /// Closes the books on a worker that is not in the roster any more. `names` are those that
    /// nobody offers now.
    pub(super) fn dismiss(&mut self, now: Now, key: Uuid, worker: Worker<R>, names: &[Arc<str>], loss: Loss<'_>) {
        self.expect_workers(now);
        for name in names {
            self.queue.withdraw(name);
        }
        let lone = self.lone_schedules(key, &whens(worker.modules()));
        let without: Vec<Arc<str>> = names.iter().cloned().chain(lone).collect();
        self.withdraw_schedules(now, &without, self.limits.unknown_grace);
        self.timers.remove(&(worker.watched, Timer::Silence(key)));
        let mut counted = Vec::new();
        for (number, slot) in worker.slots {
            self.timers.remove(&(slot.until, Timer::Slot(key, number)));
            if let Some(reply_to) = slot.parked {
                self.reply_to_worker(reply_to, WorkerReply::Unknown);
            }
            counted.extend(slot.granted.into_iter().filter_map(|lease| self.put_back(now, lease, loss)));
        }
        if !counted.is_empty() {
            if self.crashes.len() == CRASHES_MAX {
                self.crashes.pop_front();
            }
            self.crashes.push_back((key, counted));
        }
        if let Some((reply_to, until)) = worker.beat {
            self.timers.remove(&(until, Timer::Beat(key)));
            self.reply_to_worker(reply_to, WorkerReply::Unknown);
        }
    }

    /// A slot waited long enough, or did not come back from its grants.
    pub(super) fn slot_over(&mut self, now: Now, at: Moment, key: Uuid, number: u32) {
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
            self.put_back(now, lease, Loss::Silent(&id));
        }
        self.answer_beat(key, orders);
    }

    /// Answers a parked beat. The next one makes up for it if none is parked, since it tells what
    /// the worker holds.
    pub(super) fn answer_beat(&mut self, key: Uuid, orders: Vec<Order>) {
        let Some((reply_to, until)) = self.registry.get_mut(key).and_then(|worker| worker.beat.take()) else { return };
        self.timers.remove(&(until, Timer::Beat(key)));
        self.reply_to_worker(reply_to, WorkerReply::Orders(orders));
    }

    /// Gives a slot the answer again that it did not get.
    pub(super) fn answer_again(&mut self, key: Uuid, number: u32, sequence: u64, reply_to: R) {
        let again = self.registry.change_slot(key, number, |slot| {
            // Who takes none has what it holds from an earlier answer.
            if sequence < slot.sequence || slot.capacity == 0 {
                (Vec::new(), Some(reply_to))
            } else if slot.parked.is_some() {
                (Vec::new(), slot.parked.replace(reply_to))
            } else {
                (slot.granted.clone(), Some(reply_to))
            }
        });
        let Some((granted, Some(reply_to))) = again else { return };
        // A lease that is no longer live must not be begun.
        let leases = granted.into_iter().filter_map(|lease| {
            let id = &self.leases.get(&lease)?.task;
            Some(self.tasks.get(id)?.lease(lease, id))
        });
        let leases = leases.collect();
        self.reply_to_worker(reply_to, WorkerReply::Leases(leases));
    }
}
