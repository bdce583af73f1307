//! How much there is of everything, for whoever looks: the simulation, `/metrics` and tests.
//!
//! Nothing here decides anything or is kept for its own sake.

use uuid::Uuid;

use super::{Phase, Responder, State};
use crate::{
    clock::Moment,
    control_plane::{metrics::Metrics, queue::Position},
    protocol::LeaseId,
    task::{TaskId, TaskPriority, TaskStatus},
};

/// What the state counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks accepted.
    pub accepted: u64,
    /// Tasks ended, in order of [`TaskStatus`]: success, failure, cancelled.
    pub ended: [u64; 3],
    /// Leases granted.
    pub granted: u64,
}

/// How much there is of everything, for whoever looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tasks that have not ended.
    pub unfinished: usize,
    /// Bytes of arguments that they hold.
    pub bytes: usize,
    /// Those of them that wait in the queue.
    pub queued: usize,
    /// Leases that are live.
    pub leases: usize,
    /// Requests of clients that wait, besides those of sessions.
    pub parked: usize,
    /// Sessions whose client waits.
    pub collecting: usize,
    /// Sessions that are open.
    pub sessions: usize,
    /// Things that will happen by themselves.
    pub timers: usize,
}

/// How one unfinished task stands, for whoever looks.
#[derive(Clone, Copy, Debug)]
pub struct TaskView<'a> {
    /// Its task name.
    pub name: &'a str,
    /// How it stands.
    pub status: TaskStatus,
    /// Its lane.
    pub priority: TaskPriority,
    /// Its place in the lane; none while it is scheduled.
    pub position: Option<Position>,
    /// Since when it waits, if it waits.
    pub waiting_since: Moment,
    /// Attempts that were begun and not lost.
    pub attempt: u32,
    /// Attempts that were lost with their worker.
    pub losses: u32,
    /// Its live lease, and the key of the worker that has it.
    pub lease: Option<(LeaseId, Uuid)>,
}

impl<R: Responder> State<R> {
    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What was measured of tasks so far.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many tasks are unfinished.
    pub fn unfinished(&self) -> usize {
        self.tasks.len()
    }

    /// How much there is of everything.
    pub fn stats(&self) -> Stats {
        Stats {
            unfinished: self.tasks.len(),
            bytes: self.bytes,
            queued: self.queue.len(),
            leases: self.leases.len(),
            parked: self.parked.len(),
            collecting: self.sessions.parked(),
            sessions: self.sessions.len(),
            timers: self.timers.len(),
        }
    }

    /// How a task stands that has not ended.
    pub fn task_view(&self, id: &TaskId) -> Option<TaskView<'_>> {
        let record = self.tasks.get(id)?;
        let (position, lease) = match record.phase {
            Phase::Queued(position) => (Some(position), None),
            Phase::Due { .. } => (None, None),
            Phase::Leased { lease, position, .. } => (Some(position), Some(lease)),
        };
        Some(TaskView {
            name: &record.name,
            status: record.status(),
            priority: record.priority,
            position,
            waiting_since: record.waiting_since,
            attempt: record.attempt,
            losses: record.losses,
            lease: lease.and_then(|lease| Some((lease, self.leases.get(&lease)?.worker))),
        })
    }
}
