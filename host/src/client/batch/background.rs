//! The loops that submit the tasks of a session and collect their results.

use std::{
    mem,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::time::sleep;
use uuid::Uuid;

use super::state::BatchState;
use crate::{
    client::{ClientError, Inner, connection::STOPPING_PAUSE, millis},
    clock::after,
    protocol::{
        Collect, Collected, FRAME_ITEMS_MAX, Found, Notify, RefusalCode, Reply, Request, Submit, Submitted, WAIT_MAX,
    },
    task::NewTask,
};

/// Time without a result after which the session's tasks are looked up by their ids.
const RECHECK_AFTER: Duration = Duration::from_secs(5);
/// Maximum time between two such lookups; the time doubles with each.
const RECHECK_MAX: Duration = Duration::from_mins(1);
/// Delay before collecting again after a failed request.
const COLLECT_RETRY_DELAY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
pub(super) enum LoopKind {
    Send,
    Collect,
}

impl LoopKind {
    fn is_running(self, state: &mut BatchState) -> &mut bool {
        match self {
            Self::Send => &mut state.is_sending,
            Self::Collect => &mut state.is_collecting,
        }
    }
}

/// The permit of the one running loop of a kind. Dropping it lets another loop start, also when the
/// async runtime ends; so do not drop it while the state is locked. It does not keep the client alive.
pub(super) struct LoopPermit {
    inner: Weak<Inner>,
    session: Uuid,
    kind: LoopKind,
    released: bool,
}

impl LoopPermit {
    /// None if such a loop is running.
    pub(super) fn acquire(inner: &Arc<Inner>, state: &mut BatchState, kind: LoopKind) -> Option<Self> {
        let is_running = mem::replace(kind.is_running(state), true);
        (!is_running).then(|| Self { inner: Arc::downgrade(inner), session: state.session, kind, released: false })
    }

    /// Releases the permit under the lock that showed that no work is left, so that later work starts
    /// another loop.
    pub(super) fn release(&mut self, state: &mut BatchState) {
        *self.kind.is_running(state) = false;
        self.released = true;
    }
}

impl Drop for LoopPermit {
    fn drop(&mut self) {
        let Some(inner) = self.inner.upgrade().filter(|_| !self.released) else { return };
        if let Some(mut state) = inner.batch.state_of(self.session) {
            *self.kind.is_running(&mut state) = false;
        }
    }
}

/// Starts the send loop if there are tasks to send and it is not running.
pub(super) fn start_send_loop(inner: &Arc<Inner>) {
    let permit = {
        let mut state = inner.batch.state();
        if state.outgoing.is_empty() { None } else { LoopPermit::acquire(inner, &mut state, LoopKind::Send) }
    };
    if let Some(permit) = permit {
        tokio::spawn(send_loop(permit));
    }
}

async fn send_loop(mut permit: LoopPermit) {
    loop {
        let Some(inner) = permit.inner.upgrade() else { return };
        let tasks = {
            let Some(mut state) = inner.batch.state_of(permit.session) else { return };
            if state.outgoing.is_empty() {
                return permit.release(&mut state);
            }
            state.take_frame()
        };
        let request = Request::Submit(Submit { tasks, notify: Notify::Session(permit.session) });
        let reply = inner.unless_stopped(inner.send_request(&request)).await;
        let Request::Submit(Submit { tasks, .. }) = request else { return };
        let (collect_permit, is_stopping) = {
            let Some(mut state) = inner.batch.state_of(permit.session) else { return };
            let refused = apply_submitted(&inner, &mut state, tasks, reply);
            let is_stopping = !refused.is_empty();
            state.requeue(refused);
            let collect_permit =
                if state.expects_results() { LoopPermit::acquire(&inner, &mut state, LoopKind::Collect) } else { None };
            (collect_permit, is_stopping)
        };
        if let Some(permit) = collect_permit {
            tokio::spawn(collect_loop(permit));
        }
        if is_stopping {
            drop(inner);
            sleep(STOPPING_PAUSE).await;
        }
    }
}

/// Completes the waiters for the tasks of a frame. Returns the tasks that were refused because the
/// control plane is stopping: they are to be sent again.
pub(super) fn apply_submitted(
    inner: &Inner,
    state: &mut BatchState,
    tasks: Vec<NewTask>,
    reply: Result<Reply, ClientError>,
) -> Vec<NewTask> {
    let error = match reply {
        Ok(Reply::Submitted(submitted)) if submitted.len() == tasks.len() => {
            state.stopping = None;
            let outcomes = tasks.into_iter().zip(submitted);
            return outcomes.filter_map(|(task, submitted)| apply_one(inner, state, task, submitted)).collect();
        }
        Ok(_) => inner.unexpected_reply(),
        Err(error) if error.is_stopping() => {
            state.stopping = Some(error);
            return tasks;
        }
        Err(error) => error,
    };
    for NewTask { id, .. } in &tasks {
        if error.is_refusal() {
            inner.uncache(id);
        }
        state.fail(id, &error);
    }
    Vec::new()
}

/// Completes the waiters for one task, or returns it if it is to be sent again.
fn apply_one(inner: &Inner, state: &mut BatchState, task: NewTask, submitted: Submitted) -> Option<NewTask> {
    let id = &task.id;
    match submitted {
        Submitted::Accepted => state.complete_accepted(id),
        Submitted::Ended(result) => {
            // Cached first, so that a waiter for the acceptance finds the result.
            inner.cache_result(&result);
            state.complete_accepted(id);
            state.complete_end(&result);
        }
        Submitted::Refused(refusal) if refusal.code == RefusalCode::Stopping => {
            state.stopping = Some(ClientError::Refused(refusal));
            return Some(task);
        }
        Submitted::Refused(refusal) => {
            inner.uncache(id);
            state.fail(id, &ClientError::Refused(refusal));
        }
    }
    None
}

async fn collect_loop(mut permit: LoopPermit) {
    let (mut last_result, mut recheck_after) = (Instant::now(), RECHECK_AFTER);
    loop {
        let Some(inner) = permit.inner.upgrade() else { return };
        let collect = {
            let Some(mut state) = inner.batch.state_of(permit.session) else { return };
            if !state.expects_results() {
                return permit.release(&mut state);
            }
            let wait_ms = millis(RECHECK_AFTER.min(WAIT_MAX));
            Collect { session: state.session, sequence: state.sequence + 1, wait_ms }
        };
        let reply = inner.unless_stopped(inner.long_poll(&Request::Collect(collect), RECHECK_AFTER)).await;
        let Ok(Reply::Collected(Collected { known, results })) = reply else {
            // Each waiter has its own timeout.
            drop(inner);
            sleep(COLLECT_RETRY_DELAY).await;
            continue;
        };
        if !results.is_empty() {
            (last_result, recheck_after) = (Instant::now(), RECHECK_AFTER);
        }
        {
            let Some(mut state) = inner.batch.state_of(permit.session) else { return };
            state.sequence += 1;
            for result in results {
                inner.cache_result(&result);
                state.complete_end(&result);
            }
        }
        if !known || last_result.elapsed() >= recheck_after {
            recheck(&inner, permit.session).await;
            (last_result, recheck_after) = (Instant::now(), (recheck_after * 2).min(RECHECK_MAX));
        }
    }
}

/// Looks up all tasks whose end is expected, and submits those again that have waiters and that the
/// control plane no longer knows.
async fn recheck(inner: &Arc<Inner>, session: Uuid) {
    let Some(mut ids) = inner.batch.state_of(session).map(|mut state| state.unconfirmed()) else { return };
    while !ids.is_empty() {
        let chunk = ids[..ids.len().min(FRAME_ITEMS_MAX)].to_vec();
        let latest = after(inner.config.timeout);
        let found = inner.unless_stopped(inner.look_up(chunk, Duration::ZERO, latest)).await;
        let Some(found) = found.ok().filter(|found| !found.is_empty()) else { break };
        let Some(mut state) = inner.batch.state_of(session) else { return };
        for (id, found) in ids.drain(..found.len().min(ids.len())).zip(found) {
            match found {
                Found::Live(_) => {}
                Found::Ended(result) => {
                    inner.cache_result(&result);
                    state.complete_end(&result);
                }
                Found::Unknown => {
                    if !state.resubmit(&id) {
                        inner.uncache(&id);
                    }
                }
            }
        }
    }
    start_send_loop(inner);
}
