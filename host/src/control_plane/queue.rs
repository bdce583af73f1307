//! The queue: waiting tasks in the order in which they are granted.
//!
//! Four lanes, one for each priority, first in first out within each. A lane keeps its tasks by name, so that
//! finding the next task of a worker visits names instead of tasks:
//!
//! ```text
//! lanes[normal]   by_name   "resize" -> { 3: task, 8: task, 9: task }    positions, in order
//!                           "mail"   -> { 5: task }
//!                           "old"    -> { 1: task }                      no worker serves this name
//!                 heads     { (3, "resize"), (5, "mail") }               first task of each served name
//!                 len       5
//! isolated        { (normal, 4): ("crashy", task) }                      granted alone, see `state/isolation.rs`
//! ```
//!
//! A leased task is not in the queue. Invariant: a task has at most one position, and keeps it when it is put back.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    iter, mem,
    sync::Arc,
    time::Duration,
};

use crate::{
    clock::Moment,
    task::{TaskId, TaskPriority},
};

/// Waiting time after which a task precedes more urgent ones, once in [`GUARD_EVERY`] grants.
pub const GUARD_AFTER: Duration = Duration::from_mins(1);
/// Number of grants between two that may ignore the priority.
pub const GUARD_EVERY: u32 = 16;
/// Maximum number of names of a lane whose tasks are merged in order for a listing.
const ORDERED_NAMES_MAX: usize = 10_000;

/// The position of a task in the queue. Grows with every task that is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// The place of a waiting task in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueKey {
    /// Its lane.
    pub priority: TaskPriority,
    /// Its task name.
    pub name: Arc<str>,
    /// Its position in the lane.
    pub position: Position,
}

#[derive(Debug)]
struct QueuedTask {
    id: TaskId,
    waiting_since: Moment,
}

/// The waiting tasks of one priority.
#[derive(Debug, Default)]
struct Lane {
    by_name: BTreeMap<Arc<str>, BTreeMap<Position, QueuedTask>>,
    /// The first task of each name that a worker serves, in order.
    heads: BTreeSet<(Position, Arc<str>)>,
    len: usize,
}

impl Lane {
    /// Returns the first position among the tasks with these `names`.
    fn first<V>(&self, names: &BTreeMap<Arc<str>, V>) -> Option<(Position, &Arc<str>)> {
        if self.heads.len() <= names.len() {
            let mut heads = self.heads.iter();
            return heads.find(|(_, name)| names.contains_key(name)).map(|(position, name)| (*position, name));
        }
        let heads = names.keys().filter_map(|name| {
            let (name, queued) = self.by_name.get_key_value(name)?;
            Some((*queued.first_key_value()?.0, name))
        });
        heads.min()
    }

    /// Iterates over the tasks in order. The names beyond [`ORDERED_NAMES_MAX`] come last, name by name.
    fn in_order(&self) -> impl Iterator<Item = (Position, &Arc<str>, &QueuedTask)> {
        let names = self.by_name.iter().take(ORDERED_NAMES_MAX);
        let mut queues: Vec<_> = names.map(|(name, queued)| (name, queued.iter().peekable())).collect();
        let heads = queues.iter_mut().enumerate();
        let mut heads: BinaryHeap<_> =
            heads.filter_map(|(index, (_, queue))| Some(Reverse((*queue.peek()?.0, index)))).collect();
        let merged = iter::from_fn(move || {
            let Reverse((position, index)) = heads.pop()?;
            let (name, queue) = &mut queues[index];
            let (_, task) = queue.next()?;
            heads.extend(queue.peek().map(|(next, _)| Reverse((**next, index))));
            Some((position, *name, task))
        });
        let rest = self.by_name.iter().skip(ORDERED_NAMES_MAX);
        merged.chain(rest.flat_map(|(name, queued)| queued.iter().map(move |(position, task)| (*position, name, task))))
    }
}

/// The waiting tasks.
#[derive(Debug, Default)]
pub struct Queue {
    lanes: [Lane; 4],
    /// Names that a worker serves.
    served_names: BTreeSet<Arc<str>>,
    /// Number of tasks with these names.
    ready: usize,
    grants_since_guard: u32,
    /// Tasks that are granted only to a worker that runs nothing else, by lane and position.
    isolated: BTreeMap<(usize, Position), (Arc<str>, QueuedTask)>,
    /// Whether a task became runnable since [`Queue::take_new_work`].
    has_new_work: bool,
}

impl Queue {
    /// Number of waiting tasks.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.len).sum::<usize>() + self.isolated.len()
    }

    /// Whether no task waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of tasks that wait at one priority.
    pub fn depth(&self, priority: TaskPriority) -> usize {
        let isolated = self.isolated.keys().filter(|(level, _)| *level == priority.level());
        self.lanes[priority.level()].len + isolated.count()
    }

    /// Number of waiting tasks that a worker could run alongside others.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Returns whether a task became runnable since the last call: it was added, or a worker started to serve its name.
    pub fn take_new_work(&mut self) -> bool {
        mem::take(&mut self.has_new_work)
    }

    /// Marks a name as served by a worker.
    pub fn mark_served(&mut self, name: Arc<str>) {
        for lane in &mut self.lanes {
            let Some(queued) = lane.by_name.get(&name) else { continue };
            let Some((head, _)) = queued.first_key_value() else { continue };
            if lane.heads.insert((*head, name.clone())) {
                self.ready += queued.len();
                self.has_new_work = true;
            }
        }
        self.served_names.insert(name);
    }

    /// Marks a name as served by no worker.
    pub fn mark_unserved(&mut self, name: &Arc<str>) {
        self.served_names.remove(name);
        for lane in &mut self.lanes {
            let Some(queued) = lane.by_name.get(name) else { continue };
            let Some((head, _)) = queued.first_key_value() else { continue };
            if lane.heads.remove(&(*head, name.clone())) {
                self.ready -= queued.len();
            }
        }
    }

    /// Adds a task that waits since `waiting_since`.
    pub fn push(&mut self, key: &QueueKey, id: TaskId, waiting_since: Moment) {
        let is_served = self.served_names.contains(&key.name);
        let lane = &mut self.lanes[key.priority.level()];
        let queued = lane.by_name.entry(key.name.clone()).or_default();
        let head = queued.first_key_value().map(|(position, _)| *position);
        if is_served && head.is_none_or(|head| key.position < head) {
            if let Some(head) = head {
                lane.heads.remove(&(head, key.name.clone()));
            }
            lane.heads.insert((key.position, key.name.clone()));
        }
        let replaced = queued.insert(key.position, QueuedTask { id, waiting_since });
        debug_assert!(replaced.is_none(), "two tasks at one position of the queue: {key:?}");
        lane.len += 1;
        self.ready += usize::from(is_served);
        self.has_new_work |= is_served;
    }

    /// Adds a task that is granted only to a worker that runs nothing else.
    pub fn push_isolated(&mut self, key: &QueueKey, id: TaskId, waiting_since: Moment) {
        let task = QueuedTask { id, waiting_since };
        self.isolated.insert((key.priority.level(), key.position), (key.name.clone(), task));
    }

    /// Whether isolated tasks wait.
    pub fn has_isolated(&self) -> bool {
        !self.isolated.is_empty()
    }

    /// Iterates over the isolated tasks, in order.
    pub fn isolated(&self) -> impl Iterator<Item = (QueueKey, &TaskId)> {
        self.isolated.iter().map(|((level, position), (name, task))| {
            let priority = TaskPriority::ALL[*level];
            (QueueKey { priority, name: name.clone(), position: *position }, &task.id)
        })
    }

    /// Removes a task. Returns it if it was there.
    pub fn remove(&mut self, key: &QueueKey) -> Option<TaskId> {
        if let Some((_, task)) = self.isolated.remove(&(key.priority.level(), key.position)) {
            return Some(task.id);
        }
        let lane = &mut self.lanes[key.priority.level()];
        let queued = lane.by_name.get_mut(&key.name)?;
        let was_head = queued.first_key_value().is_some_and(|(position, _)| *position == key.position);
        let task = queued.remove(&key.position)?;
        let next = queued.first_key_value().map(|(position, _)| *position);
        if next.is_none() {
            lane.by_name.remove(&key.name);
        }
        lane.len -= 1;
        let is_served = if was_head {
            let is_served = lane.heads.remove(&(key.position, key.name.clone()));
            lane.heads.extend(next.filter(|_| is_served).map(|next| (next, key.name.clone())));
            is_served
        } else {
            self.served_names.contains(&key.name)
        };
        self.ready -= usize::from(is_served);
        Some(task.id)
    }

    /// Returns the task that a worker with these `names` should run next, without removing it. Counts as a grant for
    /// the guard that keeps low priorities from starving.
    pub fn next<V>(&mut self, now: Moment, names: &BTreeMap<Arc<str>, V>) -> Option<(QueueKey, TaskId)> {
        let first = TaskPriority::ALL.into_iter().find_map(|priority| self.head(priority, names))?;
        self.grants_since_guard = self.grants_since_guard.saturating_add(1);
        if self.grants_since_guard < GUARD_EVERY {
            return Some(first);
        }
        let starving = self.starving(now, first.0.priority, names);
        if starving.is_some() {
            self.grants_since_guard = 0;
        }
        starving.or(Some(first))
    }

    /// Returns the first task at `priority` that a worker with these `names` can run.
    pub fn head<V>(&self, priority: TaskPriority, names: &BTreeMap<Arc<str>, V>) -> Option<(QueueKey, TaskId)> {
        let (position, name) = self.lanes[priority.level()].first(names)?;
        let id = self.lanes[priority.level()].by_name.get(name)?.get(&position)?.id.clone();
        Some((QueueKey { priority, name: name.clone(), position }, id))
    }

    /// Whether a task waits that a worker with these `names` can run.
    pub fn has<V>(&self, names: &BTreeMap<Arc<str>, V>) -> bool {
        self.lanes.iter().any(|lane| lane.first(names).is_some())
    }

    /// Iterates over the waiting tasks of a name.
    pub fn of_name(&self, name: &str) -> impl Iterator<Item = &TaskId> {
        let queued = self.lanes.iter().filter_map(move |lane| lane.by_name.get(name));
        let isolated = self.isolated.values().filter(move |(of, _)| &**of == name).map(|(_, task)| &task.id);
        isolated.chain(queued.flat_map(|queued| queued.values().map(|task| &task.id)))
    }

    /// Iterates over all waiting tasks: isolated ones first, then lane by lane, in order. Only the first
    /// [`ORDERED_NAMES_MAX`] names of a lane are merged in order; the others follow.
    pub fn iter(&self) -> impl Iterator<Item = (QueueKey, &TaskId)> {
        let lanes = TaskPriority::ALL.into_iter().zip(&self.lanes).flat_map(|(priority, lane)| {
            lane.in_order()
                .map(move |(position, name, task)| (QueueKey { priority, name: name.clone(), position }, &task.id))
        });
        self.isolated().chain(lanes)
    }

    /// Returns since when the oldest task at `priority` waits, among the first [`ORDERED_NAMES_MAX`] names.
    pub fn oldest(&self, priority: TaskPriority) -> Option<Moment> {
        let names = self.lanes[priority.level()].by_name.values().take(ORDERED_NAMES_MAX);
        let isolated = self.isolated.iter().filter(|((level, _), _)| *level == priority.level());
        let isolated = isolated.map(|(_, (_, task))| task.waiting_since);
        names.filter_map(|queued| Some(queued.first_key_value()?.1.waiting_since)).chain(isolated).min()
    }

    /// Returns the first `count` tasks at `priority`, in order, with their names.
    pub fn first(&self, priority: TaskPriority, count: usize) -> Vec<(TaskId, Arc<str>)> {
        let tasks = self.lanes[priority.level()].in_order();
        let tasks = tasks.map(|(_, name, task)| (task.id.clone(), name.clone()));
        let isolated = self.isolated().filter(|(key, _)| key.priority == priority);
        isolated.map(|(key, id)| (id.clone(), key.name)).chain(tasks).take(count).collect()
    }

    /// Returns the task below `priority` that waits longest, if it waits longer than [`GUARD_AFTER`].
    fn starving<V>(
        &self,
        now: Moment,
        priority: TaskPriority,
        names: &BTreeMap<Arc<str>, V>,
    ) -> Option<(QueueKey, TaskId)> {
        TaskPriority::ALL[priority.level() + 1..]
            .iter()
            .filter_map(|lower| {
                let (key, id) = self.head(*lower, names)?;
                let since = self.lanes[lower.level()].by_name.get(&key.name)?.get(&key.position)?.waiting_since;
                (now.since(since) > GUARD_AFTER).then_some((since, key, id))
            })
            .min_by_key(|(since, key, _)| (*since, key.position))
            .map(|(_, key, id)| (key, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_key(priority: TaskPriority, name: &str, position: u64) -> QueueKey {
        QueueKey { priority, name: name.into(), position: Position(position) }
    }

    fn task(text: &str) -> TaskId {
        text.parse().expect("an id")
    }

    fn names(names: &[&str]) -> BTreeMap<Arc<str>, u8> {
        names.iter().map(|name| ((*name).into(), 0)).collect()
    }

    fn queue() -> Queue {
        let mut queue = Queue::default();
        for name in ["a", "b", "mine", "other"] {
            queue.mark_served(name.into());
        }
        queue
    }

    fn drain(queue: &mut Queue, now: Moment) -> Vec<String> {
        let mut order = Vec::new();
        while let Some((key, id)) = queue.next(now, &names(&["a", "b"])) {
            assert_eq!(queue.remove(&key), Some(id.clone()));
            order.push(id.to_string());
        }
        assert!(queue.is_empty() && queue.ready() == 0);
        order
    }

    #[test]
    fn tasks_are_granted_by_priority_and_first_in_first_out() {
        let mut queue = queue();
        for (position, priority) in TaskPriority::ALL.into_iter().rev().flat_map(|p| [p, p]).enumerate() {
            let name = if position % 2 == 0 { "a" } else { "b" };
            queue.push(&queue_key(priority, name, position as u64), task(&position.to_string()), Moment::default());
        }
        assert_eq!(drain(&mut queue, Moment::default()), ["6", "7", "4", "5", "2", "3", "0", "1"]);
    }

    #[test]
    fn the_first_tasks_of_a_priority_are_in_order_across_names() {
        let mut queue = queue();
        for (n, name) in ["a", "b", "b", "mine", "a"].into_iter().enumerate() {
            queue.push(&queue_key(TaskPriority::Low, name, n as u64), task(&n.to_string()), Moment::default());
        }
        let first = |count| -> Vec<_> {
            queue.first(TaskPriority::Low, count).iter().map(|(id, name)| format!("{id}{name}")).collect()
        };
        assert_eq!(first(9), ["0a", "1b", "2b", "3mine", "4a"]);
        let all: Vec<u64> = queue.iter().map(|(key, _)| key.position.0).collect();
        assert_eq!(all, [0, 1, 2, 3, 4]);
        assert_eq!((first(2).len(), first(0).len(), queue.first(TaskPriority::High, 9).len()), (2, 0, 0));
    }

    #[test]
    fn a_task_that_is_put_back_takes_its_old_position() {
        let mut queue = queue();
        let keys: Vec<_> = (0..3).map(|n| queue_key(TaskPriority::Normal, "a", n)).collect();
        for (n, key) in keys.iter().enumerate() {
            queue.push(key, task(&n.to_string()), Moment::default());
        }
        assert_eq!(queue.remove(&keys[0]), Some(task("0")));
        queue.push(&keys[0], task("0"), Moment::default());
        assert_eq!(drain(&mut queue, Moment::default()), ["0", "1", "2"]);
    }

    #[test]
    fn a_starving_low_task_is_granted_once_in_sixteen_grants() {
        let mut queue = queue();
        queue.push(&queue_key(TaskPriority::Low, "a", 0), task("low"), Moment::default());
        for n in 1..40 {
            queue.push(&queue_key(TaskPriority::High, "a", n), task(&n.to_string()), Moment::default());
        }
        let order = drain(&mut queue, Moment::default() + GUARD_AFTER * 2);
        assert_eq!(order.iter().position(|id| id == "low"), Some(GUARD_EVERY as usize - 1));
    }

    #[test]
    fn new_work_is_a_task_of_a_served_name_or_a_newly_served_name() {
        let mut queue = Queue::default();
        queue.push(&queue_key(TaskPriority::Normal, "a", 0), task("0"), Moment::default());
        assert!(!queue.take_new_work(), "no worker serves the name");
        queue.mark_served("a".into());
        assert!(queue.take_new_work() && !queue.take_new_work());
        queue.push(&queue_key(TaskPriority::Normal, "a", 1), task("1"), Moment::default());
        assert!(queue.take_new_work());
    }

    #[test]
    fn a_worker_gets_only_names_that_it_can_run() {
        let mut queue = queue();
        queue.push(&queue_key(TaskPriority::Critical, "other", 0), task("other"), Moment::default());
        queue.push(&queue_key(TaskPriority::Low, "mine", 1), task("mine"), Moment::default());
        let (_, next) = queue.next(Moment::default(), &names(&["mine"])).expect("a task");
        assert_eq!(next, task("mine"));
    }

    #[test]
    fn a_name_that_no_worker_serves_is_skipped_until_one_does() {
        let mut queue = Queue::default();
        for (n, name) in ["a", "b", "a"].into_iter().enumerate() {
            queue.push(&queue_key(TaskPriority::Normal, name, n as u64), task(&n.to_string()), Moment::default());
        }
        assert!(queue.ready() == 0 && !queue.has(&names(&["a", "c", "d", "e"])));
        queue.mark_served("a".into());
        assert_eq!(queue.ready(), 2);
        assert_eq!(queue.remove(&queue_key(TaskPriority::Normal, "a", 2)), Some(task("2")));
        assert!(queue.has(&names(&["a"])) && queue.has(&names(&["a", "c", "d"])));
        queue.mark_unserved(&"a".into());
        assert!((queue.ready(), queue.len()) == (0, 2) && !queue.has(&names(&["a", "c", "d"])));
    }
}
