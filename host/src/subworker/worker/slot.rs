//! A slot: asks for work, runs it, tells what came of it, and asks for more.
//!
//! Apart because this is the way of a task. Invariant: what a slot was granted is in one of its next
//! requests, as an outcome or as not begun, unless the keeper has sent or returned it before.

use std::{
    convert::identity,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{
    super::log::Speaker,
    NoAnswer, Shared,
    desk::{Desk, DeskReports},
    frame::{cut_down, fit, not_begun, size},
    room::{self, SlotRoom},
};
use crate::{
    clock::{self, pause},
    lock::lock,
    protocol::{Ended, FRAME_TARGET, Lease, WorkerReply, WorkerRequest},
    runtime::{AttemptId, Invocation, Slot},
    task::{ModuleVersion, Outcome, Report},
};

/// The pause before a lease is handed back whose task is not in the catalog, as its change may just
/// be under way.
const ODD_LEASE_STEP: Duration = Duration::from_millis(20);
/// The pause before work is asked for again that should have been waited for, and was not.
const EMPTY_STEP: Duration = Duration::from_millis(50);

impl Shared {
    pub(super) fn run_slot(self: &Arc<Self>, number: u32) {
        let desk = &self.desks[number as usize];
        let reports = DeskReports { shared: Arc::downgrade(self), number: number as usize };
        let mut slot = self.runtime.slot(Arc::new(reports));
        let _ = desk.stopper.set(slot.stopper());
        let mut line = self.link.line();
        let mut key = *lock(&self.key);
        let mut room = SlotRoom::default();
        desk.papers().ask_as(key);
        loop {
            let next = desk.papers().next_work(number, self.is_draining() || room.is_missing());
            let Some(work) = next else {
                if self.is_draining() || !room.is_missing() {
                    return;
                }
                self.wait_for_room(&mut slot, &mut room);
                continue;
            };
            let (asked, has_outcomes) = (Instant::now(), !work.ended.is_empty());
            let (request, limit) = (WorkerRequest::Work(work), self.link.work_limit(has_outcomes));
            // The outcomes are told before the room of the last attempt is cleared.
            match self.insist(|| line.ask(&request, limit, &mut || slot.clear())) {
                Ok(WorkerReply::Leases(leases)) if leases.is_empty() => {
                    // Such a request waits for a task, unless something is wrong or about to end.
                    if !has_outcomes && asked.elapsed() < EMPTY_STEP {
                        pause(EMPTY_STEP);
                    }
                }
                Ok(WorkerReply::Leases(leases)) => self.run_leases(desk, &mut slot, leases, &mut room),
                Ok(WorkerReply::Unknown) => match self.renew(key) {
                    Some(new) => {
                        key = new;
                        desk.papers().ask_as(key);
                    }
                    None => return,
                },
                Ok(_) if self.is_stopping() => return,
                Ok(other) => {
                    self.tell_unexpected("a request for work", &other);
                    // Told again with the next request.
                    let WorkerRequest::Work(work) = request else { return };
                    desk.papers().take_back(work.ended, identity);
                }
                Err(NoAnswer::Stopping) => return,
                // Counted too low. It did not leave, so its tasks end as too large.
                Err(NoAnswer::TooLarge) => {
                    let WorkerRequest::Work(work) = request else { return };
                    desk.papers().take_back(work.ended, cut_down);
                }
            }
        }
    }

    /// Runs them, and leaves what comes of each on the desk.
    fn run_leases(&self, desk: &Desk, slot: &mut Slot, leases: Vec<Lease>, room: &mut SlotRoom) {
        let mut bytes = 0;
        if leases.len() > 1 {
            self.keeper.call();
        }
        desk.papers().waiting = leases.into();
        while let Some(lease) = desk.begin() {
            let started = Instant::now();
            let (outcome, version) = match self.attempt(desk, slot, &lease, room) {
                Ok(made) => made,
                Err(reports) => {
                    desk.finish();
                    desk.papers().keep(Ended { reports, ..not_begun(lease.id) }, started);
                    if room.is_missing() {
                        break;
                    }
                    continue;
                }
            };
            let ended_at = Instant::now();
            let ran_us = clock::micros(ended_at.duration_since(started));
            let reports = desk.finish();
            let one = fit(Ended { lease: lease.id, outcome: Some(outcome), ran_us, version: Some(version), reports });
            bytes += size(&one);
            desk.papers().keep(one, ended_at);
            if bytes > FRAME_TARGET || self.is_draining() || room.is_missing() {
                break;
            }
        }
        let mut papers = desk.papers();
        for lease in mem::take(&mut papers.waiting) {
            papers.keep(not_begun(lease.id), Instant::now());
        }
    }

    /// # Errors
    /// What is told of a lease that is handed back: nothing here has that name, or there is no room.
    fn attempt(
        &self,
        desk: &Desk,
        slot: &mut Slot,
        lease: &Lease,
        room: &mut SlotRoom,
    ) -> Result<(Outcome, ModuleVersion), Vec<Report>> {
        let worker = &self.identity.worker_id;
        let Some(module) = self.find(&lease.name) else {
            let (task, name) = (&lease.task_id, &*lease.name);
            warn!(%task, name, worker, "a task was granted that is not in the catalog: handed back");
            pause(ODD_LEASE_STEP);
            return Err(Vec::new());
        };
        let speaker = Speaker::of(lease, worker, &module);
        if speaker.is_some() {
            desk.papers().speaker.clone_from(&speaker);
        }
        let started = Instant::now();
        let made = slot.try_run(
            &module,
            &Invocation {
                id: AttemptId(lease.id.0),
                task_id: &lease.task_id,
                name: &lease.name,
                attempt: lease.attempt,
                timeout: Duration::from_micros(lease.timeout_us),
                args: &lease.args,
                kwargs: &lease.kwargs,
            },
        );
        let outcome = match made {
            Ok(outcome) => {
                room.found();
                outcome
            }
            Err(none) => {
                let report = room::report(worker, &none.why);
                self.has_no_room(room, lease, module.clone(), none).ok_or_else(|| vec![report])?
            }
        };
        if let Some(speaker) = speaker {
            speaker.ended(&outcome, started.elapsed());
        }
        if matches!(outcome, Outcome::Stopped) && desk.papers().shut {
            let fate = if self.link.is_within_the_process() { "its task is lost" } else { "its task goes back" };
            let (task, name, attempt) = (&lease.task_id, &*lease.name, lease.attempt);
            info!(%task, name, attempt, worker, "an attempt was stopped, as the worker ends: {fate}");
        }
        Ok((outcome, module.version()))
    }
}
