//! Meters: how long tasks waited and ran, and how they ended, by name and by priority.
//!
//! Apart from [`super::events`], which tells of single tasks and forgets. Adding is a few sums in
//! arrays, and allocates only for a name that was not met before. Bounded: names beyond
//! [`NAMES_MAX`] count together, and so do names that nobody has ever had, as anybody can make
//! those up.

use std::{collections::HashMap, sync::Arc, time::Duration};

use lru::DefaultHasher;

use crate::{
    clock::micros,
    task::{TaskPriority, TaskStatus},
};

/// How many task names are measured apart.
pub const NAMES_MAX: usize = 200;
/// Stands for the names beyond [`NAMES_MAX`].
pub const OTHER: &str = "(other)";
/// Stands for the names that no worker has.
pub const UNKNOWN: &str = "(unknown)";
/// The upper bounds of what is counted together, in microseconds.
pub const BOUNDS_US: [u64; 16] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
];

/// How many spans were how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many were up to each of [`BOUNDS_US`] and over the one before, and last the longer ones.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    fn add(&mut self, span: Duration) {
        let span = micros(span);
        self.counts[BOUNDS_US.partition_point(|bound| *bound < span)] += 1;
        self.sum_us = self.sum_us.saturating_add(span);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What is measured of one task name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByName {
    /// Tasks that ended: with success, failure, or cancelled.
    pub ended: [u64; 3],
    /// How long attempts ran.
    pub run: Histogram,
}

/// What is measured of one priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByPriority {
    /// How long attempts waited before they began, from when they could have.
    pub wait: Histogram,
    /// How long tasks took in all, from when they were first due to their end.
    pub total: Histogram,
}

/// All that is measured.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    priorities: [ByPriority; 4],
    names: HashMap<Arc<str>, ByName, DefaultHasher>,
    other: ByName,
    unknown: ByName,
}

impl Metrics {
    /// Notes that an attempt ended.
    pub fn attempt(&mut self, name: &Arc<str>, priority: TaskPriority, waited: Duration, ran: Duration) {
        self.priorities[priority.level()].wait.add(waited);
        self.by_name(name).run.add(ran);
    }

    /// Notes that a task ended.
    pub fn ended(&mut self, name: &Arc<str>, status: TaskStatus) {
        self.by_name(name).ended[place(status)] += 1;
    }

    /// Notes that a task ended which nobody could run.
    pub fn refused(&mut self, status: TaskStatus) {
        self.unknown.ended[place(status)] += 1;
    }

    /// Notes how long a task took from when it was due.
    pub fn took(&mut self, priority: TaskPriority, span: Duration) {
        self.priorities[priority.level()].total.add(span);
    }

    /// What was measured of each priority, the most urgent first.
    pub fn priorities(&self) -> &[ByPriority; 4] {
        &self.priorities
    }

    /// What was measured of each name, and of those that count together.
    pub fn names(&self) -> impl Iterator<Item = (&str, &ByName)> {
        let rest = [(OTHER, &self.other), (UNKNOWN, &self.unknown)];
        let rest = rest.into_iter().filter(|(_, meter)| **meter != ByName::default());
        self.names.iter().map(|(name, meter)| (&**name, meter)).chain(rest)
    }

    fn by_name(&mut self, name: &Arc<str>) -> &mut ByName {
        if self.names.len() < NAMES_MAX && !self.names.contains_key(name) {
            self.names.insert(name.clone(), ByName::default());
        }
        self.names.get_mut(name).unwrap_or(&mut self.other)
    }
}

/// Where a final status stands among success, failure, cancelled.
pub fn place(status: TaskStatus) -> usize {
    match status {
        TaskStatus::Success => 0,
        TaskStatus::Cancelled => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_counts_at_the_first_bound_that_it_does_not_pass() {
        let mut histogram = Histogram::default();
        for micros in [0, 1_000, 1_001, 3_600_000_001] {
            histogram.add(Duration::from_micros(micros));
        }
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.counts[BOUNDS_US.len()]), (2, 1, 1));
        assert_eq!((histogram.count(), histogram.sum_us), (4, 3_600_002_002));
    }

    #[test]
    fn names_beyond_the_bound_count_together() {
        let mut metrics = Metrics::default();
        for n in 0..NAMES_MAX + 5 {
            metrics.ended(&n.to_string().into(), TaskStatus::Success);
        }
        assert_eq!(metrics.names().count(), NAMES_MAX + 1);
        assert_eq!(metrics.names().find(|(name, _)| *name == OTHER).map(|(_, meter)| meter.ended[0]), Some(5));
    }
}
