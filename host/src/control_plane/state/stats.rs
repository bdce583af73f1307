//! Statistics of the state, for `/metrics`, the simulation and tests. Only reads.

use super::{Phase, Responder, State, WorkerKey};
use crate::{
    clock::Moment,
    control_plane::{metrics::Metrics, queue::Position},
    protocol::LeaseId,
    task::{TaskId, TaskPriority, TaskStatus},
};

/// Numbers of tasks since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks accepted.
    pub accepted: u64,
    /// Tasks ended, in order of [`TaskStatus`]: success, failure, cancelled.
    pub ended: [u64; 3],
    /// Leases granted.
    pub granted: u64,
}

/// The current size of everything in the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Unfinished tasks.
    pub unfinished: usize,
    /// Size of their arguments, in bytes.
    pub bytes: usize,
    /// Tasks in the queue.
    pub queued: usize,
    /// Live leases.
    pub leases: usize,
    /// Parked requests of clients, without those of sessions.
    pub parked: usize,
    /// Sessions with a parked request.
    pub collecting: usize,
    /// Open sessions.
    pub sessions: usize,
    /// Timers that are set.
    pub timers: usize,
}

/// A view of one unfinished task.
#[derive(Clone, Copy, Debug)]
pub struct TaskView<'a> {
    /// Its task name.
    pub name: &'a str,
    /// Its status.
    pub status: TaskStatus,
    /// Its lane.
    pub priority: TaskPriority,
    /// Its position in the lane; none while it is scheduled.
    pub position: Option<Position>,
    /// Since when it waits in the queue.
    pub waiting_since: Moment,
    /// Number of attempts that were started and not lost.
    pub attempt: u32,
    /// Number of worker crashes while it ran.
    pub losses: u32,
    /// Its live lease, and the key of the worker that holds it.
    pub lease: Option<(LeaseId, WorkerKey)>,
}

impl<R: Responder> State<R> {
    /// Returns the numbers of tasks since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Number of unfinished tasks.
    pub fn unfinished(&self) -> usize {
        self.tasks.len()
    }

    /// Returns the current size of everything.
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

    /// Returns a view of an unfinished task.
    pub fn task_view(&self, id: &TaskId) -> Option<TaskView<'_>> {
        let record = self.tasks.get(id)?;
        let (position, lease) = match record.phase {
            Phase::Queued(position) => (Some(position), None),
            Phase::Scheduled { .. } => (None, None),
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
