//! A slot: asks for work, runs it, tells what came of it, and asks for more.
//!
//! Apart because this is the way of a task. Invariant: what a slot was granted is in one of its next
//! requests, as an outcome or as not begun.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{
    super::log::Speaker,
    NoAnswer, Shared,
    desk::{Desk, DeskReports},
    frame::{cut_down, fit, not_begun, size, take_frame},
    room::{self, SlotRoom},
};
use crate::{
    clock::{self, pause},
    control_plane::state::LOOKAHEAD_MAX,
    lock::lock,
    protocol::{Ended, FRAME_TARGET, Lease, Work, WorkerReply, WorkerRequest},
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
        let (mut key, mut sequence, mut ended) = (*lock(&self.key), 0, VecDeque::new());
        let mut room = SlotRoom::default();
        loop {
            let frame = take_frame(&mut ended);
            // What does not fit goes with the next request; until then nothing more is wanted.
            let wants_more = ended.is_empty() && !self.is_draining() && !room.is_missing();
            let capacity = if wants_more { u32::try_from(LOOKAHEAD_MAX).unwrap_or(u32::MAX) } else { 0 };
            if capacity == 0 && frame.is_empty() {
                if room.is_missing() && !self.is_draining() {
                    self.wait_for_room(&mut slot, &mut room);
                    continue;
                }
                return;
            }
            sequence += 1;
            let (asked, tells) = (Instant::now(), !frame.is_empty());
            let work = Work { worker: key, slot: number, sequence, ended: frame, capacity };
            let request = WorkerRequest::Work(work);
            // The outcomes are told before the room of the last attempt is cleared.
            match self.insist(|| line.ask(&request, &mut || slot.clear())) {
                Ok(WorkerReply::Leases(leases)) if leases.is_empty() => {
                    // Such a request waits for a task, unless something is wrong or about to end.
                    if !tells && asked.elapsed() < EMPTY_STEP {
                        pause(EMPTY_STEP);
                    }
                }
                Ok(WorkerReply::Leases(leases)) => {
                    ended.extend(self.run_leases(desk, &mut slot, leases, &mut room));
                }
                Ok(WorkerReply::Unknown) => match self.renew(key) {
                    Some(new) => {
                        (key, sequence) = (new, 0);
                        ended.clear();
                    }
                    None => return,
                },
                Ok(_) if self.is_stopping() => return,
                Ok(other) => {
                    self.tell_unexpected("a request for work", &other);
                    // Told again with the next request.
                    let WorkerRequest::Work(work) = request else { return };
                    work.ended.into_iter().rev().for_each(|one| ended.push_front(one));
                }
                Err(NoAnswer::Stopping) => return,
                // Counted too low. It did not leave, so its tasks end as too large.
                Err(NoAnswer::TooLarge) => {
                    let WorkerRequest::Work(work) = request else { return };
                    work.ended.into_iter().rev().for_each(|one| ended.push_front(cut_down(one)));
                }
            }
        }
    }

    fn run_leases(&self, desk: &Desk, slot: &mut Slot, leases: Vec<Lease>, room: &mut SlotRoom) -> Vec<Ended> {
        let mut ended = Vec::with_capacity(leases.len());
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
                    ended.push(Ended { reports, ..not_begun(lease.id) });
                    if room.is_missing() {
                        break;
                    }
                    continue;
                }
            };
            let ran_us = clock::micros(started.elapsed());
            let reports = desk.finish();
            let one = fit(Ended { lease: lease.id, outcome: Some(outcome), ran_us, version: Some(version), reports });
            bytes += size(&one);
            ended.push(one);
            if bytes > FRAME_TARGET || self.is_draining() || room.is_missing() {
                break;
            }
        }
        let left = mem::take(&mut desk.papers().waiting);
        ended.extend(left.into_iter().map(|lease| not_begun(lease.id)));
        ended
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
