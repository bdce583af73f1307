//! Single submissions: each call has its own request, whose reply is sent when its task has ended.
//!
//! [`batch`](super::batch) takes over when many calls wait at a time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{ClientError, Inner, connection::STOPPING_PAUSE, millis};
use crate::{
    protocol::{Found, Lookup, Notify, Reply, Request, Submit, Submitted, WAIT_MAX},
    task::{NewTask, TaskResult},
};

/// Maximum number of calls with their own request; further ones are batched.
pub(super) const SINGLE_MAX: usize = 2;
/// Delay before repeating a request that got an early reply.
const EARLY_PAUSE: Duration = Duration::from_millis(250);

/// The permit of a call with its own request.
pub(super) struct SinglePermit<'a>(&'a Inner);

impl<'a> SinglePermit<'a> {
    pub(super) fn acquire(inner: &'a Inner) -> Option<Self> {
        if inner.single.fetch_add(1, Ordering::Relaxed) < SINGLE_MAX {
            return Some(Self(inner));
        }
        inner.single.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for SinglePermit<'_> {
    fn drop(&mut self) {
        self.0.single.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    /// Submits one task with its own request, and waits for its end.
    pub(super) async fn run_single(&self, task: NewTask, until: Instant) -> Result<Arc<TaskResult>, ClientError> {
        let id = task.id.clone();
        let submit = Request::Submit(Submit { tasks: vec![task], notify: Notify::Answer });
        // Sent instead of the submission once the task is accepted.
        let mut lookup = None;
        let mut accepted = false;
        // The refusal of a control plane that is stopping.
        let mut refused = None;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let request = lookup.as_ref().unwrap_or(&submit);
            let sent_at = Instant::now();
            match self.request_until(request, left.min(WAIT_MAX), until).await {
                Ok(Reply::Submitted(mut submitted)) if submitted.len() == 1 => match submitted.pop() {
                    Some(Submitted::Ended(result)) => return Ok(result),
                    Some(Submitted::Refused(refusal)) => {
                        let error = ClientError::Refused(refusal);
                        if error.is_stopping() {
                            refused = Some(error);
                            tokio::time::sleep(STOPPING_PAUSE.min(left)).await;
                            continue;
                        }
                        self.uncache(&id);
                        return Err(error);
                    }
                    Some(Submitted::Accepted) | None => {}
                },
                Ok(Reply::Found(mut found)) if found.len() == 1 => match found.pop() {
                    Some(Found::Ended(result)) => return Ok(result),
                    // The control plane has restarted and does not know the task: submit it again.
                    Some(Found::Unknown) => {
                        (lookup, accepted) = (None, false);
                        continue;
                    }
                    Some(Found::Live(_)) | None => pause_if_early(sent_at, left.min(WAIT_MAX)).await?,
                },
                Ok(_) => return Err(self.unexpected_reply()),
                // Wait for an accepted task even while its control plane is unreachable.
                Err(ClientError::Unreachable { .. }) if accepted => {}
                Err(ClientError::Unreachable { .. }) if Instant::now() >= until => break,
                Err(error) => {
                    if error.is_refusal() && !accepted {
                        self.uncache(&id);
                    }
                    return Err(error);
                }
            }
            (accepted, refused) = (true, None);
            let left = until.saturating_duration_since(Instant::now()).min(WAIT_MAX);
            lookup = Some(Request::Lookup(Lookup { ids: vec![id.clone()], wait_ms: millis(left) }));
        }
        if let Some(refused) = refused {
            self.uncache(&id);
            return Err(refused);
        }
        Err(self.timed_out(id, accepted))
    }
}

/// Pauses if a reply without an ended task arrived long before its `wait` was over: a control plane
/// with too many parked requests replies immediately, and would be polled in a busy loop.
pub(super) async fn pause_if_early(sent_at: Instant, wait: Duration) -> Result<(), ClientError> {
    let left = wait.saturating_sub(sent_at.elapsed());
    if left > wait / 2 {
        tokio::time::sleep(EARLY_PAUSE.min(left)).await;
    }
    Ok(())
}
