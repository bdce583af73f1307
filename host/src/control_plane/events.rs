//! The event log: the most recent events of the cluster.
//!
//! Events are numbered, so that a reader knows which ones it has seen and whether it missed some. Bounded, the oldest
//! are dropped first. Recorded even without readers, so that a new one gets the latest events.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    clock::Timestamp,
    protocol::{Event, EventKind, Events},
    task::{TaskId, TaskPriority, Usage},
};

/// Maximum number of events that are kept.
pub const EVENTS_MAX: usize = 4_096;
/// Maximum number of events in one reply.
pub const EVENTS_PER_REPLY_MAX: usize = 500;
/// Maximum length of the detail of an event, in bytes.
pub const DETAIL_MAX: usize = 256;

/// The newest events.
#[derive(Debug, Default)]
pub struct EventLog {
    events: VecDeque<Event>,
    /// The number of the newest; the first one is number 1.
    last: u64,
    /// When event number 1 happened.
    began: Option<Timestamp>,
    counts: [u64; EventKind::ALL.len()],
}

impl EventLog {
    /// Adds an event.
    pub fn push(&mut self, at: Timestamp, event: NewEvent<'_>) {
        self.last += 1;
        self.began.get_or_insert(at);
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        let NewEvent { kind, task, name, priority, worker, attempt, detail, usage } = event;
        if let Some(count) = kind.index().and_then(|index| self.counts.get_mut(index)) {
            *count += 1;
        }
        let detail = detail.map(|text| text[..text.floor_char_boundary(DETAIL_MAX)].into());
        self.events.push_back(Event {
            number: self.last,
            at,
            kind,
            task_id: task.cloned(),
            name: name.cloned(),
            priority,
            worker_id: worker.cloned(),
            attempt,
            detail,
            usage,
        });
    }

    /// The number of the newest event, 0 if there is none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Iterates over the events after number `after` that are still kept.
    pub fn since(&self, after: u64) -> impl Iterator<Item = &Event> {
        let first = self.events.front().map_or(self.last + 1, |event| event.number);
        let skip = usize::try_from(after.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.events.range(skip.min(self.events.len())..)
    }

    /// Number of events of a kind since the start.
    pub fn count(&self, kind: EventKind) -> u64 {
        kind.index().map_or(0, |index| self.counts[index])
    }

    /// Returns the events after number `after`, as many as fit into one reply.
    pub fn after(&self, after: u64) -> Events {
        let first = self.events.front().map_or(self.last + 1, |event| event.number);
        let events: Vec<Event> = self.since(after).take(EVENTS_PER_REPLY_MAX).cloned().collect();
        // A number that was never used comes from another control plane: the reader starts from here.
        let last = events.last().map_or(after.min(self.last), |event| event.number);
        Events { events, last, missed: (first - 1).saturating_sub(after), began: self.began }
    }
}

/// An event before it has a number.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    /// The kind of event.
    pub kind: EventKind,
    /// The task it happened to.
    pub task: Option<&'a TaskId>,
    /// Its task name.
    pub name: Option<&'a Arc<str>>,
    /// Its priority.
    pub priority: Option<TaskPriority>,
    /// The worker it happened at.
    pub worker: Option<&'a Arc<str>>,
    /// The attempt, 0 where there is none.
    pub attempt: u32,
    /// Details, human-readable.
    pub detail: Option<&'a str>,
    /// What the attempt that ended used.
    pub usage: Option<Usage>,
}

impl<'a> NewEvent<'a> {
    /// An event of a worker.
    pub fn of_worker(kind: EventKind, worker: &'a Arc<str>) -> Self {
        Self {
            kind,
            task: None,
            name: None,
            priority: None,
            worker: Some(worker),
            attempt: 0,
            detail: None,
            usage: None,
        }
    }

    /// An event of a schedule.
    pub fn of_schedule(kind: EventKind, schedule: &'a Arc<str>) -> Self {
        Self {
            kind,
            task: None,
            name: Some(schedule),
            priority: None,
            worker: None,
            attempt: 0,
            detail: None,
            usage: None,
        }
    }

    /// An event of a task.
    pub fn of_task(kind: EventKind, task: &'a TaskId, name: &'a Arc<str>, priority: TaskPriority) -> Self {
        let (task, name, priority) = (Some(task), Some(name), Some(priority));
        Self { kind, task, name, priority, worker: None, attempt: 0, detail: None, usage: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_each_event_once_and_the_number_it_missed() {
        let (mut event_log, worker) = (EventLog::default(), Arc::from("sw1"));
        let numbers = |events: &Events| events.events.iter().map(|event| event.number).collect::<Vec<_>>();
        assert_eq!(event_log.after(0), Events { events: Vec::new(), last: 0, missed: 0, began: None });
        for _ in 0..3 {
            event_log.push(Timestamp::default(), NewEvent::of_worker(EventKind::WorkerJoined, &worker));
        }
        assert_eq!((numbers(&event_log.after(0)), event_log.after(0).last), (vec![1, 2, 3], 3));
        assert_eq!((numbers(&event_log.after(2)), event_log.after(3).events.len()), (vec![3], 0));
        assert_eq!(event_log.after(99).last, 3, "a number of another control plane");
        assert_eq!(event_log.after(99).began, Some(Timestamp::default()), "the time of event 1 identifies this one");
        assert_eq!((event_log.after(u64::MAX).events.len(), event_log.after(u64::MAX).last), (0, 3));
        for _ in 0..EVENTS_MAX {
            event_log.push(Timestamp::default(), NewEvent::of_worker(EventKind::WorkerLeft, &worker));
        }
        let late = event_log.after(1);
        assert_eq!((late.missed, late.events[0].number, late.events.len()), (2, 4, EVENTS_PER_REPLY_MAX));
    }
}
