//! The tasks of a session: those to send, and their waiters.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use lru::LruCache;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Completion;
use crate::{
    client::{ClientError, RESULT_CACHE_MAX},
    protocol::{FRAME_ITEMS_MAX, FRAME_TARGET},
    task::{NewTask, TaskId, TaskResult},
};

pub(super) struct BatchState {
    pub(super) session: Uuid,
    /// Number of the last `collect` request that got a reply.
    pub(super) sequence: u64,
    /// Tasks that are not sent yet.
    pub(super) outgoing: VecDeque<NewTask>,
    /// Waiters for a task to be accepted.
    accept_waiters: HashMap<TaskId, Vec<Completion<()>>>,
    /// Waiters for a task to end.
    pending: HashMap<TaskId, PendingTask>,
    /// Tasks without waiters whose results are cached when they end: the newest
    /// [`RESULT_CACHE_MAX`].
    pub(super) watched: LruCache<TaskId, ()>,
    /// The refusal of the last frame, if the control plane refused it because it is stopping.
    pub(super) stopping: Option<ClientError>,
    pub(super) is_sending: bool,
    pub(super) is_collecting: bool,
}

/// A task with waiters for its end.
struct PendingTask {
    /// Submitted again if the control plane no longer knows it.
    task: NewTask,
    /// Whether the control plane has accepted it.
    accepted: bool,
    completions: Vec<Completion<Arc<TaskResult>>>,
}

impl Default for BatchState {
    fn default() -> Self {
        Self {
            session: Uuid::now_v7(),
            sequence: 0,
            outgoing: VecDeque::new(),
            accept_waiters: HashMap::new(),
            pending: HashMap::new(),
            watched: LruCache::unbounded(),
            stopping: None,
            is_sending: false,
            is_collecting: false,
        }
    }
}

impl BatchState {
    pub(super) fn add_accept_waiter(&mut self, task: NewTask) -> oneshot::Receiver<Result<(), ClientError>> {
        let (completion, receiver) = oneshot::channel();
        self.watched.put(task.id.clone(), ());
        if self.watched.len() > RESULT_CACHE_MAX {
            self.watched.pop_lru();
        }
        let waiters = self.accept_waiters.entry(task.id.clone()).or_default();
        // With another waiter, the task is already queued or sent.
        if waiters.iter().all(Completion::is_closed) {
            self.outgoing.push_back(task);
        }
        waiters.push(completion);
        receiver
    }

    pub(super) fn add_end_waiter(&mut self, task: NewTask) -> oneshot::Receiver<Result<Arc<TaskResult>, ClientError>> {
        let (completion, receiver) = oneshot::channel();
        if let Some(pending) = self.pending.get_mut(&task.id).filter(|pending| pending.has_waiters()) {
            pending.completions.push(completion);
        } else {
            self.outgoing.push_back(task.clone());
            let pending = PendingTask { task, accepted: false, completions: vec![completion] };
            self.pending.insert(pending.task.id.clone(), pending);
        }
        receiver
    }

    /// Removes the tasks of the next frame.
    pub(super) fn take_frame(&mut self) -> Vec<NewTask> {
        let mut bytes = 0;
        let fits = self.outgoing.iter().take(FRAME_ITEMS_MAX).take_while(|task| {
            bytes += task.size() + task.name.len();
            bytes <= FRAME_TARGET
        });
        let length = fits.count().max(1).min(self.outgoing.len());
        self.outgoing.drain(..length).collect()
    }

    /// Completes the waiters for the end of a task.
    pub(super) fn complete_end(&mut self, result: &Arc<TaskResult>) {
        self.watched.pop(&result.task_id);
        if let Some(pending) = self.pending.remove(&result.task_id) {
            complete(pending.completions, &Ok(Arc::clone(result)));
        }
    }

    /// Completes the waiters for a task that was accepted.
    pub(super) fn complete_accepted(&mut self, id: &TaskId) {
        if let Some(waiters) = self.accept_waiters.remove(id) {
            complete(waiters, &Ok(()));
        }
        if let Some(pending) = self.pending.get_mut(id) {
            pending.accepted = true;
        }
    }

    /// Fails the waiters for a task that was not accepted.
    pub(super) fn fail(&mut self, id: &TaskId, error: &ClientError) {
        self.watched.pop(id);
        if let Some(waiters) = self.accept_waiters.remove(id) {
            complete(waiters, &Err(error.clone()));
        }
        // A task that was accepted before is still running, even if submitting it again failed.
        if self.pending.get(id).is_some_and(|pending| !pending.accepted)
            && let Some(pending) = self.pending.remove(id)
        {
            complete(pending.completions, &Err(error.clone()));
        }
    }

    /// Puts tasks that still have waiters back to the front of the queue.
    pub(super) fn requeue(&mut self, tasks: Vec<NewTask>) {
        let is_open = |waiters: &Vec<Completion<()>>| waiters.iter().any(|waiter| !waiter.is_closed());
        for task in tasks.into_iter().rev() {
            let is_pending = self.pending.get(&task.id).is_some_and(PendingTask::has_waiters);
            if is_pending || self.accept_waiters.get(&task.id).is_some_and(is_open) {
                self.outgoing.push_front(task);
            }
        }
    }

    /// Removes the dropped waiters of a task. Returns whether the task is known to have been
    /// accepted.
    pub(super) fn drop_closed_waiters(&mut self, id: &TaskId) -> bool {
        let accepted = self.pending.get(id).is_some_and(|pending| pending.accepted);
        if let Some(waiters) = self.accept_waiters.get_mut(id) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                self.accept_waiters.remove(id);
            }
        }
        if let Some(pending) = self.pending.get_mut(id) {
            pending.completions.retain(|completion| !completion.is_closed());
            if pending.completions.is_empty() {
                self.pending.remove(id);
            }
        }
        accepted
    }

    /// Returns the sent tasks whose end is still expected. Removes tasks whose waiters were all dropped.
    pub(super) fn unconfirmed(&mut self) -> Vec<TaskId> {
        self.pending.retain(|_, pending| pending.has_waiters());
        let unsent: HashSet<&TaskId> = self.outgoing.iter().map(|task| &task.id).collect();
        // A watched task that is not accepted yet may be in flight, and would be reported as unknown.
        let watched = self.watched.iter().map(|(id, ())| id).filter(|id| !self.accept_waiters.contains_key(id));
        let ids: HashSet<&TaskId> = self.pending.keys().chain(watched).filter(|id| !unsent.contains(id)).collect();
        ids.into_iter().cloned().collect()
    }

    /// Queues a task again that the control plane no longer knows, if it has waiters. Returns
    /// whether it does.
    pub(super) fn resubmit(&mut self, id: &TaskId) -> bool {
        self.watched.pop(id);
        let Some(pending) = self.pending.get_mut(id).filter(|pending| pending.has_waiters()) else {
            self.pending.remove(id);
            return false;
        };
        pending.accepted = false;
        self.outgoing.push_back(pending.task.clone());
        true
    }

    /// Whether the end of any task is still expected.
    pub(super) fn expects_results(&self) -> bool {
        !self.pending.is_empty() || !self.watched.is_empty()
    }
}

impl PendingTask {
    fn has_waiters(&self) -> bool {
        self.completions.iter().any(|completion| !completion.is_closed())
    }
}

fn complete<T: Clone>(completions: Vec<Completion<T>>, outcome: &Result<T, ClientError>) {
    for completion in completions {
        drop(completion.send(outcome.clone()));
    }
}
