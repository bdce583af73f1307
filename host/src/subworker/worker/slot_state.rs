//! The state of a slot: its leases, the attempt that it runs, its reports and its unconfirmed outcomes.
//!
//! Three threads share it: the slot's own, the report flusher, and the heartbeat, which stops attempts. Invariants:
//! once it is closed, no attempt starts; an outcome that the flusher sends stays here until it is confirmed; each
//! request has the next sequence number, whichever thread sends it.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    super::log::AttemptLogger,
    REPLY_TIMEOUT,
    flusher::FlushSignal,
    frame::{frame_len, take_frame},
};
use crate::{
    lock::{self, lock},
    protocol::{Ended, Lease, LeaseId, PREFETCH_MAX, Work},
    runtime::{AttemptId, Reports, Stopper},
    task::Report,
};

/// Maximum number of unsent reports of a slot; beyond it the oldest are dropped.
pub(super) const REPORTS_MAX: usize = 1_000;

/// The state of one slot.
#[derive(Default)]
pub(super) struct SlotState {
    inner: Mutex<SlotInner>,
    /// Notified when the reports being sent have arrived or are lost.
    flushed: Condvar,
    pub(super) stopper: OnceLock<Stopper>,
}

/// Content of a [`SlotState`], behind its lock.
#[derive(Default)]
pub(super) struct SlotInner {
    /// The registration's key in the slot's requests, and the number of the last request.
    key: Uuid,
    sequence: u64,
    /// Attempts that have ended and are not confirmed, the oldest first.
    ended: VecDeque<Ended>,
    /// When the oldest of them ended.
    unsent_since: Option<Instant>,
    /// The number of the flusher's request, and how many of `ended` it carries.
    sending: Option<(u64, usize)>,
    /// Leases that have not started.
    pub(super) waiting: VecDeque<Lease>,
    /// The lease that runs, and since when.
    pub(super) running: Option<(LeaseId, Instant)>,
    /// Unsent reports of the running attempt.
    pub(super) reports: VecDeque<Report>,
    /// Logs the running attempt, if that is enabled.
    pub(super) logger: Option<AttemptLogger>,
    /// Whether the flusher is sending reports of this slot.
    pub(super) is_flushing: bool,
    /// Whether no more attempts may start.
    pub(super) is_closed: bool,
}

impl SlotInner {
    /// The leases that the slot runs or has yet to run.
    pub(super) fn held(&self) -> impl Iterator<Item = LeaseId> {
        self.waiting.iter().map(|lease| lease.id).chain(self.running.map(|(lease, _)| lease))
    }

    /// Whether the flusher has work for this slot.
    pub(super) fn needs_flush(&self) -> bool {
        let has_some = !self.waiting.is_empty() || !self.reports.is_empty() || self.unsent_since.is_some();
        self.running.is_some() && has_some
    }

    /// Starts to send requests under a new registration. Outcomes of an earlier one are invalid.
    pub(super) fn use_key(&mut self, key: Uuid) {
        (self.key, self.sequence, self.unsent_since, self.sending) = (key, 0, None, None);
        self.ended.clear();
    }

    /// Adds the outcome of a lease. It stays until it is confirmed.
    pub(super) fn add_ended(&mut self, ended: Ended, at: Instant) {
        self.ended.push_back(ended);
        self.unsent_since.get_or_insert(at);
    }

    /// Makes the slot's next request. It carries the unconfirmed outcomes, also those that the flusher is sending,
    /// whose request may arrive later. `None` when there are no outcomes and no lease is requested.
    pub(super) fn next_request(&mut self, slot: u32, wants_none: bool) -> Option<Work> {
        (self.sending, self.unsent_since) = (None, None);
        let ended = take_frame(&mut self.ended);
        // Outcomes that do not fit are sent with the next request; until then no lease is requested.
        let wants_more = self.ended.is_empty() && !wants_none;
        let capacity = if wants_more { u32::try_from(PREFETCH_MAX).unwrap_or(u32::MAX) } else { 0 };
        (capacity > 0 || !ended.is_empty()).then(|| self.request(slot, ended, capacity))
    }

    /// Makes the flusher's request: outcomes that have waited for `delay` while the slot runs another attempt.
    /// They stay here until [`SlotInner::confirm`].
    pub(super) fn late_request(&mut self, slot: u32, delay: Duration) -> Option<Work> {
        self.running?;
        self.unsent_since.filter(|since| since.elapsed() >= delay)?;
        let ended: Vec<Ended> = self.ended.range(..frame_len(&self.ended)).cloned().collect();
        let count = ended.len();
        let work = self.request(slot, ended, 0);
        (self.sending, self.unsent_since) = (Some((work.sequence, count)), None);
        Some(work)
    }

    fn request(&mut self, slot: u32, ended: Vec<Ended>, capacity: u32) -> Work {
        self.sequence += 1;
        Work { worker: self.key, slot, sequence: self.sequence, ended, capacity }
    }

    /// Removes the outcomes that this request of the flusher carried, which have arrived.
    pub(super) fn confirm(&mut self, sequence: u64) {
        let Some((_, count)) = self.sending.take_if(|(sent, _)| *sent == sequence) else { return };
        self.ended.drain(..count.min(self.ended.len()));
        if !self.ended.is_empty() {
            self.unsent_since.get_or_insert_with(Instant::now);
        }
    }

    /// Puts the outcomes of a failed request back, each changed by `change`.
    pub(super) fn put_back(&mut self, ended: Vec<Ended>, change: impl Fn(Ended) -> Ended) {
        ended.into_iter().rev().for_each(|one| self.ended.push_front(change(one)));
    }
}

impl SlotState {
    pub(super) fn lock(&self) -> MutexGuard<'_, SlotInner> {
        lock(&self.inner)
    }

    /// Takes the next lease and marks it as running. `None` when there is none or the slot is closed.
    pub(super) fn begin(&self) -> Option<Lease> {
        let mut inner = self.lock();
        if inner.is_closed {
            return None;
        }
        let lease = inner.waiting.pop_front()?;
        inner.running = Some((lease.id, Instant::now()));
        inner.reports.clear();
        Some(lease)
    }

    /// Ends the running attempt and takes its unsent reports. First waits for those being sent: a report
    /// counts only while its lease is live.
    pub(super) fn finish(&self) -> Vec<Report> {
        let mut inner = self.lock();
        inner.running = None;
        while inner.is_flushing {
            let (woken, has_timed_out) = lock::wait_timeout(&self.flushed, inner, REPLY_TIMEOUT);
            inner = woken;
            inner.is_flushing &= !has_timed_out;
        }
        mem::take(&mut inner.reports).into()
    }

    /// Signals that the reports being sent have arrived or are lost.
    pub(super) fn set_flushed(&self) {
        self.lock().is_flushing = false;
        self.flushed.notify_all();
    }

    /// Stops all leases of the slot.
    pub(super) fn stop_all(&self) {
        let held: Vec<LeaseId> = self.lock().held().collect();
        for lease in held {
            self.stop(lease);
        }
    }

    /// Stops the attempt of a lease, or drops the lease if it has not started.
    pub(super) fn stop(&self, lease: LeaseId) {
        let mut inner = self.lock();
        inner.waiting.retain(|waiting| waiting.id != lease);
        let is_running = inner.running.is_some_and(|(running, _)| running == lease);
        drop(inner);
        if is_running {
            self.stop_attempt(lease);
        }
    }

    /// Stops the running attempt, and lets no more start. Repeat it while an attempt runs: one that is just about to
    /// start cannot be stopped yet.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        let running = inner.running;
        drop(inner);
        if let Some((lease, _)) = running {
            self.stop_attempt(lease);
        }
    }

    fn stop_attempt(&self, lease: LeaseId) {
        if let Some(stopper) = self.stopper.get() {
            stopper.stop(AttemptId(lease.0));
        }
    }
}

/// Adds a guest's reports to its slot's state.
pub(super) struct SlotReports {
    pub(super) state: Weak<SlotState>,
    pub(super) flush: Arc<FlushSignal>,
}

impl Reports for SlotReports {
    fn report(&self, attempt: AttemptId, report: Report) {
        let Some(state) = self.state.upgrade() else { return };
        let mut inner = state.lock();
        if inner.running.is_none_or(|(lease, _)| lease.0 != attempt.0) {
            return;
        }
        let logged = inner.logger.clone().map(|logger| (logger, report.clone()));
        if inner.reports.len() >= REPORTS_MAX {
            inner.reports.pop_front();
        }
        inner.reports.push_back(report);
        drop(inner);
        if let Some((logger, report)) = logged {
            logger.log_report(&report);
        }
        self.flush.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        json::Json,
        task::{TaskId, TaskPriority},
    };

    fn lease(id: u64) -> Lease {
        Lease {
            id: LeaseId(id),
            task_id: TaskId::new(),
            name: "add".into(),
            attempt: 1,
            timeout_us: 1,
            args: Json::empty_array(),
            kwargs: Json::empty_object(),
            priority: TaskPriority::Normal,
            metadata: Json::empty_object(),
        }
    }

    fn not_started(id: u64) -> Ended {
        super::super::frame::not_started(LeaseId(id))
    }

    fn leases(work: &Work) -> Vec<u64> {
        work.ended.iter().map(|ended| ended.lease.0).collect()
    }

    #[test]
    fn outcomes_are_sent_while_the_slot_works_and_kept_until_confirmed() {
        let (mut inner, key) = (SlotInner::default(), Uuid::from_u128(7));
        inner.use_key(key);
        let now = Instant::now();
        inner.add_ended(not_started(1), now);
        inner.add_ended(not_started(2), now);
        assert_eq!(inner.late_request(0, Duration::ZERO), None, "the slot's own request comes next");
        inner.running = Some((LeaseId(4), now));
        assert_eq!(inner.late_request(0, Duration::from_hours(1)), None, "it has not waited long enough");
        let first = inner.late_request(0, Duration::ZERO).expect("a request");
        assert_eq!((leases(&first), first.capacity, first.worker), (vec![1, 2], 0, key));
        assert_eq!(inner.late_request(0, Duration::ZERO), None, "it is being sent");
        inner.add_ended(not_started(3), now);
        inner.confirm(first.sequence);
        let second = inner.late_request(0, Duration::ZERO).expect("a request");
        assert_eq!((leases(&second), second.sequence), (vec![3], first.sequence + 1));
        // It may arrive after the slot's own request, which therefore repeats the outcome.
        inner.add_ended(not_started(4), now);
        let own = inner.next_request(0, false).expect("a request");
        assert_eq!((leases(&own), own.sequence), (vec![3, 4], second.sequence + 1));
        inner.add_ended(not_started(5), now);
        inner.confirm(second.sequence);
        assert_eq!(
            leases(&inner.next_request(0, true).expect("a request")),
            [5],
            "a late confirmation removes nothing"
        );
        assert_eq!(inner.next_request(0, true), None);
    }

    #[test]
    fn a_closed_slot_starts_nothing_and_keeps_its_leases() {
        let slot = SlotState::default();
        slot.lock().waiting = VecDeque::from([lease(1), lease(2)]);
        assert_eq!(slot.begin().map(|lease| lease.id), Some(LeaseId(1)));
        slot.close();
        // A reply that was in flight.
        slot.lock().waiting.push_back(lease(3));
        assert_eq!(slot.begin(), None);
        assert!(slot.lock().held().eq([2, 3, 1].map(LeaseId)));
    }
}
