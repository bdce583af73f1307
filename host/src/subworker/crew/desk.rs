//! A slot's desk: what was granted to it, what it runs, and what its guest says.
//!
//! Apart because it is where three threads meet: the slot works on it, the keeper tells of it, and
//! orders to stop reach it. Invariant: once it is shut, nothing on it begins.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, Weak},
    time::Instant,
};

use super::{super::log::Speaker, PROMPT, Shared};
use crate::{
    lock::{self, lock},
    protocol::{Lease, LeaseId},
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
        self.running.is_some() && (!self.waiting.is_empty() || !self.reports.is_empty())
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
