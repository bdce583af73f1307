//! Waits that go one by one: a question for each, which is answered when its task has ended.
//!
//! Apart from [`gather`](super::gather), which takes over where many wait at a time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{ClientError, Inner, connection::STOPPING_PAUSE, millis};
use crate::{
    protocol::{Found, Lookup, Notify, Reply, Request, Submit, Submitted, WAIT_MAX},
    task::{NewTask, TaskResult},
};

/// So many waits at a time go one by one; further ones are gathered.
pub(super) const DIRECT_MAX: usize = 2;
/// The pause before the same is asked again that should have been parked, and was not.
const EARLY_PAUSE: Duration = Duration::from_millis(250);

/// Room among the waits that go one by one.
pub(super) struct Direct<'a>(&'a Inner);

impl<'a> Direct<'a> {
    pub(super) fn enter(inner: &'a Inner) -> Option<Self> {
        if inner.direct.fetch_add(1, Ordering::Relaxed) < DIRECT_MAX {
            return Some(Self(inner));
        }
        inner.direct.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Direct<'_> {
    fn drop(&mut self) {
        self.0.direct.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    /// Submits one task by a question of its own, and waits for its end.
    pub(super) async fn run_directly(&self, task: NewTask, until: Instant) -> Result<Arc<TaskResult>, ClientError> {
        let id = task.id.clone();
        let submit = Request::Submit(Submit { tasks: vec![task], notify: Notify::Answer });
        // Asked instead of submitting, once it was taken.
        let mut lookup = None;
        let mut taken = false;
        // Why the control plane that stopped last did not take it.
        let mut refused = None;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let question = lookup.as_ref().unwrap_or(&submit);
            let asked = Instant::now();
            match self.ask_until(question, left.min(WAIT_MAX), until).await {
                Ok(Reply::Submitted(mut told)) if told.len() == 1 => match told.pop() {
                    Some(Submitted::Ended(result)) => return Ok(result),
                    Some(Submitted::Refused(refusal)) => {
                        let error = ClientError::Refused(refusal);
                        if error.is_stopping() {
                            refused = Some(error);
                            tokio::time::sleep(STOPPING_PAUSE.min(left)).await;
                            continue;
                        }
                        self.forget(&id);
                        return Err(error);
                    }
                    Some(Submitted::Accepted) | None => {}
                },
                Ok(Reply::Found(mut found)) if found.len() == 1 => match found.pop() {
                    Some(Found::Ended(result)) => return Ok(result),
                    // The control plane has forgotten it, for it started anew: so do we.
                    Some(Found::Unknown) => {
                        (lookup, taken) = (None, false);
                        continue;
                    }
                    Some(Found::Live(_)) | None => pause_if_early(asked, left.min(WAIT_MAX)).await?,
                },
                Ok(_) => return Err(self.confused()),
                // A task that was taken is waited for, however long its control plane is away.
                Err(ClientError::Unreachable { .. }) if taken => {}
                Err(ClientError::Unreachable { .. }) if Instant::now() >= until => break,
                Err(error) => {
                    if error.is_refusal() && !taken {
                        self.forget(&id);
                    }
                    return Err(error);
                }
            }
            (taken, refused) = (true, None);
            let left = until.saturating_duration_since(Instant::now()).min(WAIT_MAX);
            lookup = Some(Request::Lookup(Lookup { ids: vec![id.clone()], wait_ms: millis(left) }));
        }
        if let Some(refused) = refused {
            self.forget(&id);
            return Err(refused);
        }
        Err(self.out_of_time(id, taken))
    }
}

/// Pauses where an answer came long before its `wait` was over although nothing has ended: a control
/// plane with which too many wait lets nobody else wait, and would be asked without a pause.
pub(super) async fn pause_if_early(asked: Instant, wait: Duration) -> Result<(), ClientError> {
    let left = wait.saturating_sub(asked.elapsed());
    if left > wait / 2 {
        tokio::time::sleep(EARLY_PAUSE.min(left)).await;
    }
    Ok(())
}
