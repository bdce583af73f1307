//! Handles a lack of memory for sandboxes: the slot returns its lease and pauses.
//!
//! The cause is this machine, so it does not count as an attempt: another worker gets the task, or it waits.
//! Invariants: a slot that could not create a sandbox requests no work until it can, with growing pauses between its
//! tries, so that a task is not returned repeatedly; the log has one line a minute for all slots together.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tracing::{info, warn};

use super::ShutdownFlags;
use crate::{
    clock::pause,
    lock::lock,
    protocol::Lease,
    runtime::{Module, NoSandbox, Slot},
    system::LogRateLimit,
    task::{LogLevel, Outcome, Report, TaskId},
};

/// First and maximum pause of a slot that could not create a sandbox.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Interval at which a pausing slot checks whether the worker is draining.
const SHUTDOWN_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of remembered tasks that were returned after they had started.
const STARTED_MAX: usize = 256;

/// The missing sandboxes of a worker.
#[derive(Debug)]
pub(super) struct SandboxShortage {
    /// Number of slots without a sandbox.
    slots: AtomicUsize,
    log_limit: LogRateLimit,
    /// Tasks that were returned although they had started: the second time they fail.
    started: Mutex<VecDeque<TaskId>>,
}

impl Default for SandboxShortage {
    fn default() -> Self {
        Self { slots: AtomicUsize::new(0), log_limit: LogRateLimit::new(), started: Mutex::default() }
    }
}

/// A slot of the runtime, and the module for which it could not create a sandbox.
pub(super) struct SlotSandbox {
    pub(super) slot: Slot,
    /// Length of the last pause.
    pause: Duration,
    missing_for: Option<Module>,
}

impl SlotSandbox {
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot, pause: Duration::ZERO, missing_for: None }
    }

    /// Whether a sandbox could not be created.
    pub(super) fn is_missing(&self) -> bool {
        self.missing_for.is_some()
    }

    /// Resets the pause after an attempt has run.
    pub(super) fn reset_pause(&mut self) {
        self.pause = Duration::ZERO;
    }
}

impl SandboxShortage {
    /// Records that a sandbox could not be created. Returns the task's outcome if it must not be returned: it had
    /// started, and was returned before.
    pub(super) fn record(
        &self,
        worker: &str,
        sandbox: &mut SlotSandbox,
        lease: &Lease,
        module: Module,
        failure: NoSandbox,
    ) -> Option<Outcome> {
        let NoSandbox { why, failure, has_started } = failure;
        let has_started_before = has_started && self.remember_started(&lease.task_id);
        let outcome = has_started_before.then_some(Outcome::Failure(failure));
        if self.log_limit.should_log() {
            let (task, name) = (&lease.task_id, &*lease.name);
            let consequence = if outcome.is_some() { "the task fails" } else { "the task is returned" };
            warn!(worker, %task, name, why, "cannot create a sandbox (out of memory): {consequence}, and its slot pauses");
        }
        if sandbox.missing_for.replace(module).is_none() {
            self.slots.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Adds a task to the returned ones, or removes it and returns true if it was one before.
    fn remember_started(&self, task: &TaskId) -> bool {
        let mut started = lock(&self.started);
        if let Some(index) = started.iter().position(|known| known == task) {
            started.remove(index);
            return true;
        }
        if started.len() >= STARTED_MAX {
            started.pop_front();
        }
        started.push_back(task.clone());
        false
    }

    /// Blocks the slot's thread until a sandbox can be created, or the worker drains.
    pub(super) fn wait_for_sandbox(&self, worker: &str, sandbox: &mut SlotSandbox, shutdown: &ShutdownFlags) {
        let Some(module) = sandbox.missing_for.take() else { return };
        // The last attempt's sandbox may use the missing memory.
        sandbox.slot.clear();
        loop {
            sandbox.pause = (sandbox.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            let mut remaining = sandbox.pause;
            while !remaining.is_zero() && !shutdown.is_draining() {
                let part = remaining.min(SHUTDOWN_CHECK_INTERVAL);
                pause(part);
                remaining -= part;
            }
            if shutdown.is_draining() {
                self.slots.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            match sandbox.slot.try_sandbox(&module) {
                Ok(()) => {
                    sandbox.slot.clear();
                    if self.slots.fetch_sub(1, Ordering::Relaxed) == 1 {
                        info!(worker, "every slot can create a sandbox again");
                    }
                    return;
                }
                Err(why) if self.log_limit.should_log() => {
                    let slots = self.slots.load(Ordering::Relaxed);
                    warn!(
                        worker,
                        slots, why, "still cannot create sandboxes (out of memory): these slots accept no tasks"
                    );
                }
                Err(_) => {}
            }
        }
    }
}

/// The log line of a task that is returned.
pub(super) fn returned_report(worker: &str, why: &str) -> Report {
    Report::Log { level: LogLevel::Warn, message: format!("returned: worker {worker} cannot create a sandbox: {why}") }
}
