//! What a slot does that has no room for a sandbox: it gives the task back and waits.
//!
//! Apart because none of it is on the way of a task that runs. The fault is this machine's, so nothing
//! of it counts against the task: another worker gets it, or it waits. Invariants: a slot that had no
//! room asks for no work until it has set up a sandbox, with growing pauses in between, so that a task
//! does not go back and forth; the log has one line a minute, however many slots there are.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tracing::{info, warn};

use super::Shared;
use crate::{
    clock::pause,
    lock::lock,
    protocol::Lease,
    runtime::{Module, NoSandbox, Slot},
    system::Rarely,
    task::{LogLevel, Outcome, Report, TaskId},
};

/// The first pause of a slot that had no room, and the longest.
const STEP_MIN: Duration = Duration::from_millis(100);
const STEP_MAX: Duration = Duration::from_secs(30);
/// How often a slot that pauses looks whether the worker ends.
const LOOK_STEP: Duration = Duration::from_millis(100);
/// Tasks that are remembered which began and could not go on here.
const BEGUN_MAX: usize = 256;

/// Of a whole worker.
#[derive(Debug)]
pub(super) struct Room {
    /// Slots that have none.
    without: AtomicUsize,
    logged: Rarely,
    /// Tasks that were given back although they had begun: a second time they end here.
    begun: Mutex<VecDeque<TaskId>>,
}

impl Default for Room {
    fn default() -> Self {
        Self { without: AtomicUsize::new(0), logged: Rarely::new(), begun: Mutex::default() }
    }
}

/// Of one slot: what it could not set up, and how long it pauses next.
#[derive(Default)]
pub(super) struct SlotRoom {
    step: Duration,
    wanted: Option<Module>,
}

impl SlotRoom {
    /// Whether it has none at the moment.
    pub(super) fn is_missing(&self) -> bool {
        self.wanted.is_some()
    }

    /// Says that an attempt was made.
    pub(super) fn found(&mut self) {
        self.step = Duration::ZERO;
    }
}

impl Shared {
    /// Takes in that there was no room for an attempt. Returns its outcome if it is not to be given
    /// back: it had begun, and has been given back before.
    pub(super) fn has_no_room(
        &self,
        room: &mut SlotRoom,
        lease: &Lease,
        module: Module,
        none: NoSandbox,
    ) -> Option<Outcome> {
        let NoSandbox { why, otherwise, began } = none;
        let outcome = if began { self.note_begun(&lease.task_id).then_some(Outcome::Failure(otherwise)) } else { None };
        if self.room.logged.is_time() {
            let (worker, task, name) = (&self.identity.worker_id, &lease.task_id, &*lease.name);
            let fate = if outcome.is_some() { "the task fails" } else { "the task is given back" };
            warn!(worker, %task, name, why, "no room for a sandbox: {fate}, and its slot pauses");
        }
        if room.wanted.replace(module).is_none() {
            self.room.without.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Whether a task was noted before. Notes it otherwise.
    fn note_begun(&self, task: &TaskId) -> bool {
        let mut begun = lock(&self.room.begun);
        if let Some(place) = begun.iter().position(|known| known == task) {
            begun.remove(place);
            return true;
        }
        if begun.len() >= BEGUN_MAX {
            begun.pop_front();
        }
        begun.push_back(task.clone());
        false
    }

    /// Waits on this slot's thread until there is room again, or the worker ends.
    pub(super) fn wait_for_room(&self, slot: &mut Slot, room: &mut SlotRoom) {
        let Some(wanted) = room.wanted.take() else { return };
        // The room that is missing may be what the last attempt left.
        slot.clear();
        loop {
            room.step = (room.step * 2).clamp(STEP_MIN, STEP_MAX);
            let mut left = room.step;
            while !left.is_zero() && !self.is_draining() {
                let part = left.min(LOOK_STEP);
                pause(part);
                left -= part;
            }
            if self.is_draining() {
                self.room.without.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            let worker = &self.identity.worker_id;
            match slot.try_sandbox(&wanted) {
                Ok(()) => {
                    slot.clear();
                    if self.room.without.fetch_sub(1, Ordering::Relaxed) == 1 {
                        info!(worker, "there is room for sandboxes again in every slot");
                    }
                    return;
                }
                Err(why) if self.room.logged.is_time() => {
                    let slots = self.room.without.load(Ordering::Relaxed);
                    warn!(worker, slots, why, "still no room for sandboxes: these slots take no tasks");
                }
                Err(_) => {}
            }
        }
    }
}

/// What the task's own log says of it.
pub(super) fn report(worker: &str, why: &str) -> Report {
    Report::Log { level: LogLevel::Warn, message: format!("given back: worker {worker} has no room for it: {why}") }
}
