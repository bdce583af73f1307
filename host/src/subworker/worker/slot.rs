//! A slot: requests work, runs it, reports the outcomes and requests more.
//!
//! This is the hot path of a task. Invariant: every granted lease is in one of the slot's next requests, as an outcome
//! or as not started, unless the flusher has sent or returned it before.

use std::{
    convert::identity,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{info, warn};
use uuid::Uuid;

use super::{
    super::log::AttemptLogger,
    FlushSignal, LiveCatalog, RetryingLink, SandboxShortage, ShutdownFlags, SlotState, WorkerRegistration,
    frame::{cut_down, fit, not_started, size},
    retrying_link::NoReply,
    sandbox_shortage::{self, SlotSandbox},
    slot_state::SlotReports,
};
use crate::{
    clock::{self, pause},
    json::Json,
    protocol::{Ended, FRAME_TARGET, Lease, Work, WorkerReply, WorkerRequest},
    runtime::{AttemptId, AttemptResult, Invocation, Runtime},
    task::{ModuleVersion, Outcome, Report, metadata},
};

/// Delay before a lease of an unknown task name is returned: its module may just be changing.
const UNKNOWN_NAME_DELAY: Duration = Duration::from_millis(20);
/// Delay after an empty reply that arrived immediately although the request should have been parked.
const EMPTY_REPLY_DELAY: Duration = Duration::from_millis(50);

/// Runs one slot on its own thread.
pub(super) struct SlotRunner {
    pub(super) number: u32,
    pub(super) state: Arc<SlotState>,
    pub(super) runtime: Runtime,
    pub(super) link: Arc<RetryingLink>,
    pub(super) registration: Arc<WorkerRegistration>,
    pub(super) catalog: Arc<LiveCatalog>,
    pub(super) flush: Arc<FlushSignal>,
    pub(super) shutdown: Arc<ShutdownFlags>,
    pub(super) shortage: Arc<SandboxShortage>,
}

impl SlotRunner {
    /// Runs tasks until the worker has drained or stops.
    pub(super) fn run(self) {
        let reports = SlotReports { state: Arc::downgrade(&self.state), flush: Arc::clone(&self.flush) };
        let mut sandbox = SlotSandbox::new(self.runtime.slot(Arc::new(reports)));
        let _ = self.state.stopper.set(sandbox.slot.stopper());
        let mut connection = self.link.connect();
        let mut key = self.registration.key();
        self.state.lock().use_key(key);
        loop {
            let wants_none = self.shutdown.is_draining() || sandbox.is_missing();
            let next = self.state.lock().next_request(self.number, wants_none);
            let Some(work) = next else {
                if self.shutdown.is_draining() || !sandbox.is_missing() {
                    return;
                }
                self.shortage.wait_for_sandbox(self.link.worker_id(), &mut sandbox, &self.shutdown);
                continue;
            };
            let (sent_at, has_outcomes) = (Instant::now(), !work.ended.is_empty());
            let (request, timeout) = (WorkerRequest::Work(work), self.link.work_timeout(has_outcomes));
            // The last sandbox is cleared once the outcomes are sent.
            let send = || connection.request(&request, timeout, &mut || sandbox.slot.clear());
            match self.link.retry_until_reply(send) {
                Ok(WorkerReply::Leases(leases)) if leases.is_empty() => {
                    // Such a request is parked until there is a task, unless something is wrong or about to end.
                    if !has_outcomes && sent_at.elapsed() < EMPTY_REPLY_DELAY {
                        pause(EMPTY_REPLY_DELAY);
                    }
                }
                Ok(WorkerReply::Leases(leases)) => self.run_leases(&mut sandbox, leases),
                other => match self.handle_failure(request, other, key) {
                    Some(current) => key = current,
                    None => return,
                },
            }
        }
    }

    /// Handles any reply but leases. Returns the key to continue with, or `None` to end the slot.
    fn handle_failure(&self, request: WorkerRequest, reply: Result<WorkerReply, NoReply>, key: Uuid) -> Option<Uuid> {
        let WorkerRequest::Work(Work { ended, .. }) = request else { return None };
        match reply {
            Ok(WorkerReply::Unknown) => {
                let new = self.registration.re_register(key)?;
                self.state.lock().use_key(new);
                return Some(new);
            }
            Ok(_) if self.shutdown.is_stopping() => return None,
            Ok(other) => {
                self.link.log_unexpected("a request for work", &other);
                // The next request repeats them.
                self.state.lock().put_back(ended, identity);
            }
            Err(NoReply::Stopping) => return None,
            // Its size was underestimated. It was not sent, so its tasks fail as too large.
            Err(NoReply::TooLarge) => self.state.lock().put_back(ended, cut_down),
        }
        Some(key)
    }

    /// Runs the leases, and adds the outcome of each to the slot's state.
    fn run_leases(&self, sandbox: &mut SlotSandbox, leases: Vec<Lease>) {
        let mut bytes = 0;
        if leases.len() > 1 {
            self.flush.wake();
        }
        self.state.lock().waiting = leases.into();
        while let Some(lease) = self.state.begin() {
            let started = Instant::now();
            let (result, version) = match self.run_attempt(sandbox, &lease) {
                Ok(ran) => ran,
                Err(reports) => {
                    self.state.finish();
                    self.state.lock().add_ended(Ended { reports, ..not_started(lease.id) }, started);
                    if sandbox.is_missing() {
                        break;
                    }
                    continue;
                }
            };
            let ended_at = Instant::now();
            let ran_us = clock::micros(ended_at.duration_since(started));
            let reports = self.state.finish();
            let AttemptResult { outcome, usage, metadata } = result;
            let (outcome, version) = (Some(outcome), Some(version));
            let metadata = metadata.unwrap_or_else(Json::empty_object);
            let ended = fit(Ended { lease: lease.id, outcome, ran_us, usage, version, reports, metadata });
            bytes += size(&ended);
            self.state.lock().add_ended(ended, ended_at);
            if bytes > FRAME_TARGET || self.shutdown.is_draining() || sandbox.is_missing() {
                break;
            }
        }
        let mut state = self.state.lock();
        for lease in mem::take(&mut state.waiting) {
            state.add_ended(not_started(lease.id), Instant::now());
        }
    }

    /// Runs one attempt.
    ///
    /// # Errors
    /// The reports of a lease that is returned: its task name is unknown, or a sandbox cannot be created.
    fn run_attempt(
        &self,
        sandbox: &mut SlotSandbox,
        lease: &Lease,
    ) -> Result<(AttemptResult, ModuleVersion), Vec<Report>> {
        let (worker, task, name) = (self.link.worker_id(), &lease.task_id, &*lease.name);
        let Some(module) = self.catalog.find(name) else {
            warn!(%task, name, worker, "a granted task is not in the catalog: returned");
            pause(UNKNOWN_NAME_DELAY);
            return Err(Vec::new());
        };
        let logger = AttemptLogger::new(lease, worker, &module);
        if logger.is_some() {
            self.state.lock().logger.clone_from(&logger);
        }
        let started = Instant::now();
        let invocation = Invocation {
            id: AttemptId(lease.id.0),
            task_id: task,
            name: &lease.name,
            attempt: lease.attempt,
            timeout: Duration::from_micros(lease.timeout_us),
            args: &lease.args,
            kwargs: &lease.kwargs,
            metadata: &metadata::of_attempt(&lease.metadata, lease.priority),
        };
        let result = match sandbox.slot.try_run(&module, &invocation) {
            Ok(result) => {
                sandbox.reset_pause();
                result
            }
            Err(failure) => {
                let report = sandbox_shortage::returned_report(worker, &failure.why);
                let outcome = self.shortage.record(worker, sandbox, lease, module.clone(), failure);
                AttemptResult::of(outcome.ok_or_else(|| vec![report])?)
            }
        };
        if let Some(logger) = logger {
            logger.log_end(&result.outcome, started.elapsed());
        }
        if matches!(result.outcome, Outcome::Stopped) && self.state.lock().is_closed {
            let consequence = if self.link.is_local() { "its task is lost" } else { "its task is requeued" };
            let attempt = lease.attempt;
            info!(%task, name, attempt, worker, "an attempt was stopped, as the worker ends: {consequence}");
        }
        Ok((result, module.version()))
    }
}
