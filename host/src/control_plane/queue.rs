//! The queue: which waiting task is next.
//!
//! Apart from the leases because a leased task is nobody's to hand out. Four lanes by priority,
//! first in first out within each. Tasks of one name stand together, so that finding the next one
//! that a worker can run looks at names and not at tasks; names that no worker offers are left out
//! of that search, however many there are. Invariant: a task stands in at most one place; who is
//! put back takes the place it had.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    iter,
    sync::Arc,
    time::Duration,
};

use crate::{
    clock::Moment,
    task::{TaskId, TaskPriority},
};

/// Waiting so long, a task goes before more urgent ones, once in [`GUARD_EVERY`] grants.
pub const GUARD_AFTER: Duration = Duration::from_mins(1);
/// How many grants pass between two that ignore the priority.
pub const GUARD_EVERY: u32 = 16;
/// The tasks of how many names of a priority are put in order for whoever looks on.
const NAMES_LOOKED_AT: usize = 10_000;

/// A place in the queue: grows with every task that joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Where a waiting task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its lane.
    pub priority: TaskPriority,
    /// Its task name.
    pub name: Arc<str>,
    /// Its place in the lane.
    pub position: Position,
}

#[derive(Debug)]
struct Waiting {
    task: TaskId,
    since: Moment,
}

#[derive(Debug, Default)]
struct Lane {
    by_name: BTreeMap<Arc<str>, BTreeMap<Position, Waiting>>,
    /// The first of each name that is offered, in order.
    heads: BTreeSet<(Position, Arc<str>)>,
    len: usize,
}

impl Lane {
    /// The first place of those with `names`.
    fn first<V>(&self, names: &BTreeMap<Arc<str>, V>) -> Option<(Position, &Arc<str>)> {
        if self.heads.len() <= names.len() {
            return self
                .heads
                .iter()
                .find(|(_, name)| names.contains_key(name))
                .map(|(position, name)| (*position, name));
        }
        let heads = names.keys().filter_map(|name| {
            let (name, queued) = self.by_name.get_key_value(name)?;
            Some((*queued.first_key_value()?.0, name))
        });
        heads.min()
    }

    /// Its tasks in order. Those of the names beyond [`NAMES_LOOKED_AT`] come last, name by name.
    fn in_order(&self) -> impl Iterator<Item = (Position, &Arc<str>, &Waiting)> {
        let names = self.by_name.iter().take(NAMES_LOOKED_AT);
        let mut lines: Vec<_> = names.map(|(name, queued)| (name, queued.iter().peekable())).collect();
        let heads = lines.iter_mut().enumerate();
        let mut heads: BinaryHeap<_> =
            heads.filter_map(|(index, (_, line))| Some(Reverse((*line.peek()?.0, index)))).collect();
        let merged = iter::from_fn(move || {
            let Reverse((position, index)) = heads.pop()?;
            let (name, line) = &mut lines[index];
            let (_, waiting) = line.next()?;
            heads.extend(line.peek().map(|(next, _)| Reverse((**next, index))));
            Some((position, *name, waiting))
        });
        let rest = self.by_name.iter().skip(NAMES_LOOKED_AT);
        merged.chain(
            rest.flat_map(|(name, queued)| queued.iter().map(move |(position, waiting)| (*position, name, waiting))),
        )
    }
}

/// The waiting tasks.
#[derive(Debug, Default)]
pub struct Queue {
    lanes: [Lane; 4],
    /// Names that a worker offers.
    offered: BTreeSet<Arc<str>>,
    /// Tasks of those names.
    ready: usize,
    grants_since_guard: u32,
    /// Tasks that are to run alone on their worker, by lane: they are granted apart from the others.
    isolated: BTreeMap<(usize, Position), (Arc<str>, Waiting)>,
}

impl Queue {
    /// How many tasks wait.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.len).sum::<usize>() + self.isolated.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tasks wait at one priority.
    pub fn depth(&self, priority: TaskPriority) -> usize {
        let isolated = self.isolated.keys().filter(|(level, _)| *level == priority.level());
        self.lanes[priority.level()].len + isolated.count()
    }

    /// How many tasks wait that some worker could run beside others.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Notes that a name is offered from now on.
    pub fn offer(&mut self, name: Arc<str>) {
        for lane in &mut self.lanes {
            let Some(queued) = lane.by_name.get(&name) else { continue };
            let Some((head, _)) = queued.first_key_value() else { continue };
            if lane.heads.insert((*head, name.clone())) {
                self.ready += queued.len();
            }
        }
        self.offered.insert(name);
    }

    /// Notes that nobody offers a name any more.
    pub fn withdraw(&mut self, name: &Arc<str>) {
        self.offered.remove(name);
        for lane in &mut self.lanes {
            let Some(queued) = lane.by_name.get(name) else { continue };
            let Some((head, _)) = queued.first_key_value() else { continue };
            if lane.heads.remove(&(*head, name.clone())) {
                self.ready -= queued.len();
            }
        }
    }

    /// Takes a task in. `since` is when it began to wait.
    pub fn push(&mut self, place: &Place, task: TaskId, since: Moment) {
        let offered = self.offered.contains(&place.name);
        let lane = &mut self.lanes[place.priority.level()];
        let queued = lane.by_name.entry(place.name.clone()).or_default();
        let head = queued.first_key_value().map(|(position, _)| *position);
        if offered && head.is_none_or(|head| place.position < head) {
            if let Some(head) = head {
                lane.heads.remove(&(head, place.name.clone()));
            }
            lane.heads.insert((place.position, place.name.clone()));
        }
        let doubled = queued.insert(place.position, Waiting { task, since });
        debug_assert!(doubled.is_none(), "two tasks in one place of the queue: {place:?}");
        lane.len += 1;
        self.ready += usize::from(offered);
    }

    /// Takes a task in that is to run alone on its worker.
    pub fn push_isolated(&mut self, place: &Place, task: TaskId, since: Moment) {
        self.isolated.insert((place.priority.level(), place.position), (place.name.clone(), Waiting { task, since }));
    }

    /// Whether tasks wait that are to run alone on their worker.
    pub fn has_isolated(&self) -> bool {
        !self.isolated.is_empty()
    }

    /// The tasks that are to run alone on their worker, in order.
    pub fn isolated(&self) -> impl Iterator<Item = (Place, &TaskId)> {
        self.isolated.iter().map(|((level, position), (name, waiting))| {
            let priority = TaskPriority::ALL[*level];
            (Place { priority, name: name.clone(), position: *position }, &waiting.task)
        })
    }

    /// Takes a task out. Returns it if it stood there.
    pub fn remove(&mut self, place: &Place) -> Option<TaskId> {
        if let Some((_, waiting)) = self.isolated.remove(&(place.priority.level(), place.position)) {
            return Some(waiting.task);
        }
        let lane = &mut self.lanes[place.priority.level()];
        let queued = lane.by_name.get_mut(&place.name)?;
        let was_head = queued.first_key_value().is_some_and(|(position, _)| *position == place.position);
        let waiting = queued.remove(&place.position)?;
        let next = queued.first_key_value().map(|(position, _)| *position);
        if next.is_none() {
            lane.by_name.remove(&place.name);
        }
        lane.len -= 1;
        let offered = if was_head {
            let offered = lane.heads.remove(&(place.position, place.name.clone()));
            lane.heads.extend(next.filter(|_| offered).map(|next| (next, place.name.clone())));
            offered
        } else {
            self.offered.contains(&place.name)
        };
        self.ready -= usize::from(offered);
        Some(waiting.task)
    }

    /// The task that a worker should run next, of those with the `names` it can run. It is not
    /// taken out. Counts as a grant for the guard that keeps low tasks from starving.
    pub fn next<V>(&mut self, now: Moment, names: &BTreeMap<Arc<str>, V>) -> Option<(Place, TaskId)> {
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

    /// The first task at `priority` of those with the `names` that a worker can run.
    pub fn head<V>(&self, priority: TaskPriority, names: &BTreeMap<Arc<str>, V>) -> Option<(Place, TaskId)> {
        let (position, name) = self.lanes[priority.level()].first(names)?;
        let task = self.lanes[priority.level()].by_name.get(name)?.get(&position)?.task.clone();
        Some((Place { priority, name: name.clone(), position }, task))
    }

    /// Whether a task waits that has one of the `names` that a worker can run.
    pub fn has<V>(&self, names: &BTreeMap<Arc<str>, V>) -> bool {
        self.lanes.iter().any(|lane| lane.first(names).is_some())
    }

    /// The waiting tasks of a name.
    pub fn of_name(&self, name: &str) -> impl Iterator<Item = &TaskId> {
        let queued = self.lanes.iter().filter_map(move |lane| lane.by_name.get(name));
        let isolated = self.isolated.values().filter(move |(of, _)| &**of == name).map(|(_, waiting)| &waiting.task);
        isolated.chain(queued.flat_map(|queued| queued.values().map(|waiting| &waiting.task)))
    }

    /// Every waiting task and its place, those that are to run alone first, then lane by lane and in order. Where there are very many names,
    /// the tasks of some come behind all others.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &TaskId)> {
        let lanes = TaskPriority::ALL.into_iter().zip(&self.lanes).flat_map(|(priority, lane)| {
            lane.in_order()
                .map(move |(position, name, waiting)| (Place { priority, name: name.clone(), position }, &waiting.task))
        });
        self.isolated().chain(lanes)
    }

    /// Since when the oldest task at `priority` waits. Looks at the first names only if there are
    /// very many.
    pub fn oldest(&self, priority: TaskPriority) -> Option<Moment> {
        let names = self.lanes[priority.level()].by_name.values().take(NAMES_LOOKED_AT);
        let isolated = self.isolated.iter().filter(|((level, _), _)| *level == priority.level());
        let isolated = isolated.map(|(_, (_, waiting))| waiting.since);
        names.filter_map(|queued| Some(queued.first_key_value()?.1.since)).chain(isolated).min()
    }

    /// The first tasks at `priority`, in order, and their names.
    pub fn first(&self, priority: TaskPriority, count: usize) -> Vec<(TaskId, Arc<str>)> {
        let tasks = self.lanes[priority.level()].in_order();
        let tasks = tasks.map(|(_, name, waiting)| (waiting.task.clone(), name.clone()));
        let isolated = self.isolated().filter(|(place, _)| place.priority == priority);
        isolated.map(|(place, task)| (task.clone(), place.name)).chain(tasks).take(count).collect()
    }

    /// The task below `priority` that waits longest, if it has waited too long.
    fn starving<V>(
        &self,
        now: Moment,
        priority: TaskPriority,
        names: &BTreeMap<Arc<str>, V>,
    ) -> Option<(Place, TaskId)> {
        TaskPriority::ALL[priority.level() + 1..]
            .iter()
            .filter_map(|lower| {
                let (place, task) = self.head(*lower, names)?;
                let since = self.lanes[lower.level()].by_name.get(&place.name)?.get(&place.position)?.since;
                (now.since(since) > GUARD_AFTER).then_some((since, place, task))
            })
            .min_by_key(|(since, place, _)| (*since, place.position))
            .map(|(_, place, task)| (place, task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(priority: TaskPriority, name: &str, position: u64) -> Place {
        Place { priority, name: name.into(), position: Position(position) }
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
            queue.offer(name.into());
        }
        queue
    }

    fn drain(queue: &mut Queue, now: Moment) -> Vec<String> {
        let mut order = Vec::new();
        while let Some((place, id)) = queue.next(now, &names(&["a", "b"])) {
            assert_eq!(queue.remove(&place), Some(id.clone()));
            order.push(id.to_string());
        }
        assert!(queue.is_empty() && queue.ready() == 0);
        order
    }

    #[test]
    fn tasks_go_by_priority_and_first_in_first_out_within_each() {
        let mut queue = queue();
        for (position, priority) in TaskPriority::ALL.into_iter().rev().flat_map(|p| [p, p]).enumerate() {
            let name = if position % 2 == 0 { "a" } else { "b" };
            queue.push(&place(priority, name, position as u64), task(&position.to_string()), Moment::default());
        }
        assert_eq!(drain(&mut queue, Moment::default()), ["6", "7", "4", "5", "2", "3", "0", "1"]);
    }

    #[test]
    fn the_first_of_a_priority_are_told_in_order_whatever_their_names() {
        let mut queue = queue();
        for (n, name) in ["a", "b", "b", "mine", "a"].into_iter().enumerate() {
            queue.push(&place(TaskPriority::Low, name, n as u64), task(&n.to_string()), Moment::default());
        }
        let first = |count| -> Vec<_> {
            queue.first(TaskPriority::Low, count).iter().map(|(id, name)| format!("{id}{name}")).collect()
        };
        assert_eq!(first(9), ["0a", "1b", "2b", "3mine", "4a"]);
        let all: Vec<u64> = queue.iter().map(|(place, _)| place.position.0).collect();
        assert_eq!(all, [0, 1, 2, 3, 4]);
        assert_eq!((first(2).len(), first(0).len(), queue.first(TaskPriority::High, 9).len()), (2, 0, 0));
    }

    #[test]
    fn a_task_that_is_put_back_takes_the_place_it_had() {
        let mut queue = queue();
        let places: Vec<_> = (0..3).map(|n| place(TaskPriority::Normal, "a", n)).collect();
        for (n, place) in places.iter().enumerate() {
            queue.push(place, task(&n.to_string()), Moment::default());
        }
        assert_eq!(queue.remove(&places[0]), Some(task("0")));
        queue.push(&places[0], task("0"), Moment::default());
        assert_eq!(drain(&mut queue, Moment::default()), ["0", "1", "2"]);
    }

    #[test]
    fn a_low_task_that_starves_goes_once_in_sixteen_grants() {
        let mut queue = queue();
        queue.push(&place(TaskPriority::Low, "a", 0), task("low"), Moment::default());
        for n in 1..40 {
            queue.push(&place(TaskPriority::High, "a", n), task(&n.to_string()), Moment::default());
        }
        let order = drain(&mut queue, Moment::default() + GUARD_AFTER * 2);
        assert_eq!(order.iter().position(|id| id == "low"), Some(GUARD_EVERY as usize - 1));
    }

    #[test]
    fn a_worker_gets_only_names_that_it_can_run() {
        let mut queue = queue();
        queue.push(&place(TaskPriority::Critical, "other", 0), task("other"), Moment::default());
        queue.push(&place(TaskPriority::Low, "mine", 1), task("mine"), Moment::default());
        let (_, next) = queue.next(Moment::default(), &names(&["mine"])).expect("a task");
        assert_eq!(next, task("mine"));
    }

    #[test]
    fn a_name_that_nobody_offers_is_passed_over_until_somebody_does() {
        let mut queue = Queue::default();
        for (n, name) in ["a", "b", "a"].into_iter().enumerate() {
            queue.push(&place(TaskPriority::Normal, name, n as u64), task(&n.to_string()), Moment::default());
        }
        assert!(queue.ready() == 0 && !queue.has(&names(&["a", "c", "d", "e"])));
        queue.offer("a".into());
        assert_eq!(queue.ready(), 2);
        assert_eq!(queue.remove(&place(TaskPriority::Normal, "a", 2)), Some(task("2")));
        assert!(queue.has(&names(&["a"])) && queue.has(&names(&["a", "c", "d"])));
        queue.withdraw(&"a".into());
        assert!((queue.ready(), queue.len()) == (0, 2) && !queue.has(&names(&["a", "c", "d"])));
    }
}
