//! A slot's desk: what was granted to it, what it runs, and what its guest says.
//!
//! Apart because it is where three threads meet: the slot works on it, the keeper tells of it, and
//! orders to stop reach it. Invariants: once it is shut, nothing on it begins; an outcome that the
//! keeper sends stays on it until that is confirmed; each request has the next number, whoever of both
//! sends it.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, Weak},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    super::log::Speaker,
    PROMPT, Shared,
    frame::{frame_len, take_frame},
};
use crate::{
    control_plane::state::LOOKAHEAD_MAX,
    lock::{self, lock},
    protocol::{Ended, Lease, LeaseId, Work},
    runtime::{AttemptId, Reports, Stopper},
    task::Report,
};

/// Untold reports that a slot holds; the oldest go first.
pub(super) const REPORTS_MAX: usize = 1_000;

/// What a slot has on its desk.
#[derive(Default)]
pub(super) struct Desk {
    papers: Mutex<Papers>,
    /// Tells the slot that its reports have arrived.
    told: Condvar,
    pub(super) stopper: OnceLock<Stopper>,
}

#[derive(Default)]
pub(super) struct Papers {
    /// The key of the registration under which the slot asks, and the number of its last request.
    key: Uuid,
    sequence: u64,
    /// What has ended and was not confirmed yet, the oldest first.
    ended: VecDeque<Ended>,
    /// When the oldest of it ended.
    unsent_since: Option<Instant>,
    /// The request with which the keeper is sending the first of it, and how many.
    sending: Option<(u64, usize)>,
    pub(super) waiting: VecDeque<Lease>,
    pub(super) running: Option<(LeaseId, Instant)>,
    pub(super) reports: VecDeque<Report>,
    /// Who says them, where that is logged.
    pub(super) speaker: Option<Speaker>,
    /// Some reports are on their way.
    pub(super) telling: bool,
    /// Nothing begins any more.
    pub(super) shut: bool,
}

impl Papers {
    /// What the slot is about to run or runs.
    pub(super) fn held(&self) -> impl Iterator<Item = LeaseId> {
        self.waiting.iter().map(|lease| lease.id).chain(self.running.map(|(lease, _)| lease))
    }

    pub(super) fn needs_keeper(&self) -> bool {
        let has_news = !self.waiting.is_empty() || !self.reports.is_empty() || self.unsent_since.is_some();
        self.running.is_some() && has_news
    }

    /// Begins to ask under a registration. What ended under another one is void.
    pub(super) fn ask_as(&mut self, key: Uuid) {
        (self.key, self.sequence, self.unsent_since, self.sending) = (key, 0, None, None);
        self.ended.clear();
    }

    /// Keeps what came of a lease until it is confirmed.
    pub(super) fn keep(&mut self, one: Ended, at: Instant) {
        self.ended.push_back(one);
        self.unsent_since.get_or_insert(at);
    }

    /// The slot's next request. It takes what has ended: also what the keeper is sending just now, as
    /// that may arrive later. None where there is nothing to say and nothing more is wanted.
    pub(super) fn next_work(&mut self, slot: u32, takes_none: bool) -> Option<Work> {
        (self.sending, self.unsent_since) = (None, None);
        let ended = take_frame(&mut self.ended);
        // What does not fit goes with the next request; until then nothing more is wanted.
        let wants_more = self.ended.is_empty() && !takes_none;
        let capacity = if wants_more { u32::try_from(LOOKAHEAD_MAX).unwrap_or(u32::MAX) } else { 0 };
        (capacity > 0 || !ended.is_empty()).then(|| self.work(slot, ended, capacity))
    }

    /// A request that sends what ended `late` ago or earlier, while the slot still runs something. The
    /// slot keeps it until [`Papers::confirm`].
    pub(super) fn late_work(&mut self, slot: u32, late: Duration) -> Option<Work> {
        self.running?;
        self.unsent_since.filter(|since| since.elapsed() >= late)?;
        let ended: Vec<Ended> = self.ended.range(..frame_len(&self.ended)).cloned().collect();
        let count = ended.len();
        let work = self.work(slot, ended, 0);
        (self.sending, self.unsent_since) = (Some((work.sequence, count)), None);
        Some(work)
    }

    fn work(&mut self, slot: u32, ended: Vec<Ended>, capacity: u32) -> Work {
        self.sequence += 1;
        Work { worker: self.key, slot, sequence: self.sequence, ended, capacity }
    }

    /// What this request of the keeper sent has arrived.
    pub(super) fn confirm(&mut self, sequence: u64) {
        let Some((_, count)) = self.sending.take_if(|(sent, _)| *sent == sequence) else { return };
        self.ended.drain(..count.min(self.ended.len()));
        if !self.ended.is_empty() {
            self.unsent_since.get_or_insert_with(Instant::now);
        }
    }

    /// Takes back what a request could not send. `change` is done to each.
    pub(super) fn take_back(&mut self, ended: Vec<Ended>, change: impl Fn(Ended) -> Ended) {
        ended.into_iter().rev().for_each(|one| self.ended.push_front(change(one)));
    }
}

impl Desk {
    pub(super) fn papers(&self) -> MutexGuard<'_, Papers> {
        lock(&self.papers)
    }

    /// Takes the next lease from it, unless it is shut.
    pub(super) fn begin(&self) -> Option<Lease> {
        let mut papers = self.papers();
        if papers.shut {
            return None;
        }
        let lease = papers.waiting.pop_front()?;
        papers.running = Some((lease.id, Instant::now()));
        papers.reports.clear();
        Some(lease)
    }

    /// Takes what the attempt said that was not told yet, once what is being told has arrived: a
    /// report counts only while its lease is live.
    pub(super) fn finish(&self) -> Vec<Report> {
        let mut papers = self.papers();
        papers.running = None;
        while papers.telling {
            let (woken, is_over) = lock::wait_timeout(&self.told, papers, PROMPT);
            papers = woken;
            papers.telling &= !is_over;
        }
        mem::take(&mut papers.reports).into()
    }

    /// Says that the reports which were on their way have arrived, or never will.
    pub(super) fn told(&self) {
        self.papers().telling = false;
        self.told.notify_all();
    }

    /// Stops everything on it.
    pub(super) fn clear(&self) {
        let held: Vec<LeaseId> = self.papers().held().collect();
        for lease in held {
            self.stop(lease);
        }
    }

    /// Ends an attempt, or sees to it that it does not begin.
    pub(super) fn stop(&self, lease: LeaseId) {
        let mut papers = self.papers();
        papers.waiting.retain(|waiting| waiting.id != lease);
        let runs = papers.running.is_some_and(|(running, _)| running == lease);
        drop(papers);
        if runs {
            self.end(lease);
        }
    }

    /// Lets nothing more begin, and ends what runs. Say it again while something runs: it may just be
    /// about to begin, when it cannot be ended yet.
    pub(super) fn shut(&self) {
        let mut papers = self.papers();
        papers.shut = true;
        let running = papers.running;
        drop(papers);
        if let Some((lease, _)) = running {
            self.end(lease);
        }
    }

    fn end(&self, lease: LeaseId) {
        if let Some(stopper) = self.stopper.get() {
            stopper.stop(AttemptId(lease.0));
        }
    }
}

/// Puts what a guest says on its slot's desk.
pub(super) struct DeskReports {
    pub(super) shared: Weak<Shared>,
    pub(super) number: usize,
}

impl Reports for DeskReports {
    fn report(&self, attempt: AttemptId, report: Report) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut papers = shared.desks[self.number].papers();
        if papers.running.is_none_or(|(lease, _)| lease.0 != attempt.0) {
            return;
        }
        let told = papers.speaker.clone().map(|speaker| (speaker, report.clone()));
        if papers.reports.len() >= REPORTS_MAX {
            papers.reports.pop_front();
        }
        papers.reports.push_back(report);
        drop(papers);
        if let Some((speaker, report)) = told {
            speaker.says(&report);
        }
        shared.keeper.call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{json::Json, task::TaskId};

    fn lease(id: u64) -> Lease {
        Lease {
            id: LeaseId(id),
            task_id: TaskId::new(),
            name: "add".into(),
            attempt: 1,
            timeout_us: 1,
            args: Json::empty_array(),
            kwargs: Json::empty_object(),
        }
    }

    fn not_begun(id: u64) -> Ended {
        super::super::frame::not_begun(LeaseId(id))
    }

    fn leases(work: &Work) -> Vec<u64> {
        work.ended.iter().map(|ended| ended.lease.0).collect()
    }

    #[test]
    fn what_ended_is_sent_while_the_slot_is_at_work_and_kept_until_confirmed() {
        let (mut papers, key) = (Papers::default(), Uuid::from_u128(7));
        papers.ask_as(key);
        let now = Instant::now();
        papers.keep(not_begun(1), now);
        papers.keep(not_begun(2), now);
        assert_eq!(papers.late_work(0, Duration::ZERO), None, "the slot's own request is next");
        papers.running = Some((LeaseId(4), now));
        assert_eq!(papers.late_work(0, Duration::from_hours(1)), None, "it is not late");
        let first = papers.late_work(0, Duration::ZERO).expect("a request");
        assert_eq!((leases(&first), first.capacity, first.worker), (vec![1, 2], 0, key));
        assert_eq!(papers.late_work(0, Duration::ZERO), None, "it is on its way");
        papers.keep(not_begun(3), now);
        papers.confirm(first.sequence);
        let second = papers.late_work(0, Duration::ZERO).expect("a request");
        assert_eq!((leases(&second), second.sequence), (vec![3], first.sequence + 1));
        // That one may arrive after the slot's own request, which therefore says it again.
        papers.keep(not_begun(4), now);
        let own = papers.next_work(0, false).expect("a request");
        assert_eq!((leases(&own), own.sequence), (vec![3, 4], second.sequence + 1));
        papers.keep(not_begun(5), now);
        papers.confirm(second.sequence);
        assert_eq!(leases(&papers.next_work(0, true).expect("a request")), [5], "a late confirmation takes nothing");
        assert_eq!(papers.next_work(0, true), None);
    }

    #[test]
    fn what_comes_to_a_shut_desk_does_not_begin_and_stays_to_be_handed_back() {
        let desk = Desk::default();
        desk.papers().waiting = VecDeque::from([lease(1), lease(2)]);
        assert_eq!(desk.begin().map(|lease| lease.id), Some(LeaseId(1)));
        desk.shut();
        // An answer that was on its way.
        desk.papers().waiting.push_back(lease(3));
        assert_eq!(desk.begin(), None);
        assert!(desk.papers().held().eq([2, 3, 1].map(LeaseId)));
    }
}
