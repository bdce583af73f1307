//! Queueing: tasks that wait in the queue, and tasks that wait for a time.

use super::{DueAt, ETA_CHECK_INTERVAL, Phase, Responder, State, TaskRecord, Timer};
use crate::{
    clock::{Moment, Now},
    control_plane::{
        events::NewEvent,
        queue::{Position, Queue},
    },
    protocol::EventKind,
    task::TaskId,
};

/// Adds a task to the queue at a position.
pub(super) fn push(queue: &mut Queue, record: &mut TaskRecord, id: TaskId, position: Position) {
    record.phase = Phase::Queued(position);
    let queue_key = record.queue_key(position);
    if record.runs_alone() {
        queue.push_isolated(&queue_key, id, record.waiting_since);
    } else {
        queue.push(&queue_key, id, record.waiting_since);
    }
}

impl<R: Responder> State<R> {
    /// Sets the timer of a delayed task.
    pub(super) fn set_delay_timer(&mut self, now: Now, wait: DueAt, id: TaskId) {
        match wait {
            DueAt::Countdown(at) | DueAt::Retry(at) => drop(self.timers.insert((at, Timer::EnqueueDelayed(id)))),
            DueAt::Eta(eta) => {
                self.etas.insert((eta, id));
                self.arm_etas(now);
            }
        }
    }

    /// Sets the timer for the first `eta`, at most [`ETA_CHECK_INTERVAL`] ahead.
    fn arm_etas(&mut self, now: Now) {
        let Some((eta, _)) = self.etas.first() else { return };
        let at = now.mono + eta.since(now.wall).min(ETA_CHECK_INTERVAL);
        if at < self.eta_check {
            self.timers.remove(&(self.eta_check, Timer::EtaReached));
            self.eta_check = at;
            self.timers.insert((at, Timer::EtaReached));
        }
    }

    /// Queues the tasks whose `eta` the wall clock has reached.
    pub(super) fn enqueue_due_etas(&mut self, now: Now) {
        self.eta_check = Moment::NEVER;
        while let Some((eta, _)) = self.etas.first()
            && *eta <= now.wall
            && let Some((_, id)) = self.etas.pop_first()
        {
            if let Some(record) = self.tasks.get_mut(&id) {
                record.due_at = now.mono;
            }
            self.enqueue(now, &id);
        }
        self.arm_etas(now);
    }

    /// Adds a task at the end of its lane.
    pub(super) fn enqueue(&mut self, now: Now, id: &TaskId) {
        self.last_position += 1;
        let position = Position(self.last_position);
        if let Some(record) = self.tasks.get_mut(id) {
            record.waiting_since = now.mono;
            let event = NewEvent::of_task(EventKind::TaskQueued, id, &record.name, record.priority);
            self.event_log.push(now.wall, NewEvent { attempt: record.attempt, ..event });
            push(&mut self.queue, record, id.clone(), position);
        }
    }

    /// Queues a task whose countdown or retry delay is over.
    pub(super) fn enqueue_delayed(&mut self, now: Now, id: &TaskId) {
        let phase = self.tasks.get(id).map(|record| &record.phase);
        let wait = phase.and_then(|phase| match phase {
            Phase::Scheduled(wait) => Some(*wait),
            Phase::Queued(_) | Phase::Leased { .. } => None,
        });
        if matches!(wait, Some(DueAt::Countdown(at) | DueAt::Retry(at)) if at <= now.mono) {
            self.enqueue(now, id);
        }
    }

    /// Removes a task from the queue, or the timer that it waits for.
    pub(super) fn stop_waiting(&mut self, id: &TaskId) {
        let Some(record) = self.tasks.get(id) else { return };
        match record.phase {
            Phase::Queued(position) => drop(self.queue.remove(&record.queue_key(position))),
            Phase::Scheduled(DueAt::Countdown(at) | DueAt::Retry(at)) => {
                self.timers.remove(&(at, Timer::EnqueueDelayed(id.clone())));
            }
            Phase::Scheduled(DueAt::Eta(eta)) => drop(self.etas.remove(&(eta, id.clone()))),
            Phase::Leased { .. } => {}
        }
    }
}
