//! The feed: what happened lately, for whoever looks on.
//!
//! Numbered and bounded, the oldest go first, so that a reader can tell what it has seen and that
//! it missed something. Kept whether anybody reads or not: an event is a few words, and whoever
//! comes to look wants to see what happened just before.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    clock::Timestamp,
    protocol::{Event, EventKind, Events},
    task::{TaskId, TaskPriority},
};

/// How many events are kept.
pub const EVENTS_MAX: usize = 4_096;
/// How many events go into one answer.
pub const EVENTS_TOLD_MAX: usize = 500;
/// Bytes of a detail that are kept.
pub const DETAIL_MAX: usize = 256;

/// The newest events.
#[derive(Debug, Default)]
pub struct EventLog {
    kept: VecDeque<Event>,
    /// The number of the newest; the first one is number 1.
    last: u64,
    /// When number 1 happened.
    began: Option<Timestamp>,
    counts: [u64; EventKind::ALL.len()],
}

impl EventLog {
    /// Adds what happened.
    pub fn push(&mut self, at: Timestamp, event: NewEvent<'_>) {
        self.last += 1;
        self.began.get_or_insert(at);
        if self.kept.len() >= EVENTS_MAX {
            self.kept.pop_front();
        }
        let NewEvent { kind, task, name, priority, worker, attempt, detail } = event;
        self.counts[kind as usize] += 1;
        let detail = detail.map(|text| text[..text.floor_char_boundary(DETAIL_MAX)].into());
        self.kept.push_back(Event {
            number: self.last,
            at,
            kind,
            task_id: task.cloned(),
            name: name.cloned(),
            priority,
            worker_id: worker.cloned(),
            attempt,
            detail,
        });
    }

    /// The number of the newest event, 0 if there is none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The events after number `after`, as far as they are kept.
    pub fn since(&self, after: u64) -> impl Iterator<Item = &Event> {
        let first = self.kept.front().map_or(self.last + 1, |event| event.number);
        let skip = usize::try_from(after.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.kept.range(skip.min(self.kept.len())..)
    }

    /// How many events of a kind there were.
    pub fn count(&self, kind: EventKind) -> u64 {
        self.counts[kind as usize]
    }

    /// The events after number `after`, as many as one answer holds.
    pub fn after(&self, after: u64) -> Events {
        let first = self.kept.front().map_or(self.last + 1, |event| event.number);
        let events: Vec<Event> = self.since(after).take(EVENTS_TOLD_MAX).cloned().collect();
        // Who names a number that was never given knows another control plane: it starts anew.
        let last = events.last().map_or(after.min(self.last), |event| event.number);
        Events { events, last, missed: (first - 1).saturating_sub(after), began: self.began }
    }
}

/// What an event tells.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    /// What happened.
    pub kind: EventKind,
    /// To which task.
    pub task: Option<&'a TaskId>,
    /// Its task name.
    pub name: Option<&'a Arc<str>>,
    /// Its priority.
    pub priority: Option<TaskPriority>,
    /// At which worker.
    pub worker: Option<&'a Arc<str>>,
    /// The attempt, 0 where there is none.
    pub attempt: u32,
    /// More, for people.
    pub detail: Option<&'a str>,
}

impl<'a> NewEvent<'a> {
    /// Something that happened to a worker.
    pub fn of_worker(kind: EventKind, worker: &'a Arc<str>) -> Self {
        Self { kind, task: None, name: None, priority: None, worker: Some(worker), attempt: 0, detail: None }
    }

    /// Something that a schedule did.
    pub fn of_schedule(kind: EventKind, schedule: &'a Arc<str>) -> Self {
        Self { kind, task: None, name: Some(schedule), priority: None, worker: None, attempt: 0, detail: None }
    }

    /// Something that happened to a task.
    pub fn of_task(kind: EventKind, task: &'a TaskId, name: &'a Arc<str>, priority: TaskPriority) -> Self {
        let (task, name, priority) = (Some(task), Some(name), Some(priority));
        Self { kind, task, name, priority, worker: None, attempt: 0, detail: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_each_event_once_and_hears_how_many_it_missed() {
        let (mut event_log, worker) = (EventLog::default(), Arc::from("sw1"));
        let numbers = |events: &Events| events.events.iter().map(|event| event.number).collect::<Vec<_>>();
        assert_eq!(event_log.after(0), Events { events: Vec::new(), last: 0, missed: 0, began: None });
        for _ in 0..3 {
            event_log.push(Timestamp::default(), NewEvent::of_worker(EventKind::WorkerJoined, &worker));
        }
        assert_eq!((numbers(&event_log.after(0)), event_log.after(0).last), (vec![1, 2, 3], 3));
        assert_eq!((numbers(&event_log.after(2)), event_log.after(3).events.len()), (vec![3], 0));
        assert_eq!(event_log.after(99).last, 3, "a number of another control plane");
        assert_eq!(event_log.after(99).began, Some(Timestamp::default()), "which this tells");
        assert_eq!((event_log.after(u64::MAX).events.len(), event_log.after(u64::MAX).last), (0, 3));
        for _ in 0..EVENTS_MAX {
            event_log.push(Timestamp::default(), NewEvent::of_worker(EventKind::WorkerLeft, &worker));
        }
        let late = event_log.after(1);
        assert_eq!((late.missed, late.events[0].number, late.events.len()), (2, 4, EVENTS_TOLD_MAX));
    }
}
