//! Checks views of the state: pages of tasks and the event log must agree with it.

use std::collections::{BTreeMap, BTreeSet};

use fastworker::{
    clock::Now,
    control_plane::state::State,
    protocol::{Event, EventKind, TaskPage, TaskQuery},
    task::{TaskId, TaskResult, TaskStatus},
};

use super::{checks::ensure, network::Ticket};

/// Steps between two checks of pages.
const CHECK_INTERVAL: u64 = 64;
/// Tasks on a page: few, so that there are several pages.
const PAGE: u32 = 7;

/// The events read so far.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The number of the last event.
    last: u64,
    /// Number of ends by status: success, failure, cancelled.
    ended: [u64; 3],
    /// Ends in the last step.
    now: BTreeMap<TaskId, Vec<TaskStatus>>,
}

impl Shown {
    /// Checks the views after a step.
    pub(crate) fn after(&mut self, state: &State<Ticket>, now: Now, step: u64) -> Result<(), String> {
        self.read(state)?;
        ensure(self.ended == state.counts().ended, || {
            format!("{:?} ends were shown of {:?}", self.ended, state.counts().ended)
        })?;
        if step.is_multiple_of(CHECK_INTERVAL) { pages(state, now) } else { Ok(()) }
    }

    /// Reads the new events.
    fn read(&mut self, state: &State<Ticket>) -> Result<(), String> {
        self.now.clear();
        while self.last < state.event_log().last() {
            let batch = state.event_log().after(self.last);
            let first = batch.events.first().map_or(0, |event| event.number);
            ensure(batch.missed == 0 && first == self.last + 1, || format!("event {first} follows {}", self.last))?;
            for event in &batch.events {
                ensure(event.number == self.last + 1, || format!("event {} follows {}", event.number, self.last))?;
                self.last = event.number;
                self.note(event);
            }
            ensure(batch.last == self.last, || {
                format!("{} is given as the last event, not {}", batch.last, self.last)
            })?;
        }
        Ok(())
    }

    fn note(&mut self, event: &Event) {
        let (index, status) = match event.kind {
            EventKind::TaskSuccess => (0, TaskStatus::Success),
            EventKind::TaskFailure => (1, TaskStatus::Failure),
            EventKind::TaskCancelled => (2, TaskStatus::Cancelled),
            _ => return,
        };
        self.ended[index] += 1;
        if let Some(id) = &event.task_id {
            self.now.entry(id.clone()).or_default().push(status);
        }
    }

    /// Checks that the end of a task in this step has one correct event.
    pub(crate) fn end(&self, id: &TaskId, end: Option<&TaskResult>, offers: usize) -> Result<(), String> {
        let shown = self.now.get(id).map(Vec::as_slice).unwrap_or_default();
        // An end that is evicted in the same step may be followed by another.
        let is_right = match end {
            Some(end) => (1..=offers.max(1)).contains(&shown.len()) && shown.last() == Some(&end.status),
            None => !shown.is_empty(),
        };
        ensure(is_right, || format!("the end of {id} was shown as {shown:?}, and it is {end:?}"))
    }
}

/// Checks that pages show every task once, with its status.
fn pages(state: &State<Ticket>, now: Now) -> Result<(), String> {
    let whole = state.page(now, &TaskQuery { limit: u32::MAX, ..TaskQuery::default() });
    // The simulation is small enough for one page.
    let known = state.unfinished() + state.results().newest(now.mono).count();
    ensure(whole.complete && whole.total == known as u64 && whole.tasks.len() == known, || {
        format!("{} of {} tasks are on the page of all {known}", whole.tasks.len(), whole.total)
    })?;
    let ids: BTreeSet<&TaskId> = whole.tasks.iter().map(|task| &task.task_id).collect();
    ensure(ids.len() == known, || "a task is on the page twice".into())?;
    for task in &whole.tasks {
        let status = state.task_view(&task.task_id).map(|view| view.status);
        let ended = || state.results().peek(now.mono, &task.task_id).map(|kept| kept.result.status);
        ensure(status.or_else(ended) == Some(task.status), || format!("{task:?} has another status"))?;
    }
    let turned = (0..known as u64)
        .step_by(PAGE as usize)
        .flat_map(|offset| state.page(now, &TaskQuery { offset, limit: PAGE, ..TaskQuery::default() }).tasks);
    ensure(turned.eq(whole.tasks.iter().cloned()), || "the pages are not the whole".into())?;
    let of = |status| state.page(now, &TaskQuery { statuses: vec![status], limit: u32::MAX, ..TaskQuery::default() });
    let parts: Vec<TaskPage> = TaskStatus::ALL.into_iter().map(of).collect();
    let total: u64 = parts.iter().map(|part| part.total).sum();
    ensure(total == known as u64, || format!("{total} tasks are listed by status, of {known}"))
}
