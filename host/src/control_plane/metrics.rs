//! Metrics of tasks: wait and run times and final statuses, by name and by priority.
//!
//! Recording adds to a few counters, and allocates only for a new name. Bounded: names beyond [`NAMES_MAX`] are
//! counted together, and so are names that no worker has served, as clients can invent any number of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use lru::DefaultHasher;

use crate::{
    clock::micros,
    task::{TaskPriority, TaskStatus, Usage},
};

/// Maximum number of task names that are measured separately.
pub const NAMES_MAX: usize = 200;
/// The label of the names beyond [`NAMES_MAX`].
pub const OTHER: &str = "(other)";
/// The label of the names that no worker serves.
pub const UNKNOWN: &str = "(unknown)";
/// The upper bounds of the buckets, in microseconds.
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

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Number of durations in each bucket of [`BOUNDS_US`], and last of longer ones.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// Sum of the durations, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    fn add(&mut self, duration: Duration) {
        let duration = micros(duration);
        self.counts[BOUNDS_US.partition_point(|bound| *bound < duration)] += 1;
        self.sum_us = self.sum_us.saturating_add(duration);
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The metrics of one task name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByName {
    /// Number of tasks by status: success, failure, cancelled.
    pub ended: [u64; 3],
    /// Run time of attempts.
    pub run: Histogram,
    /// What attempts used together: CPU time, and bytes received and sent.
    pub used: Used,
}

/// What the attempts of one task name used together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// CPU time in microseconds.
    pub cpu_us: u64,
    /// The largest memory of an attempt, in bytes.
    pub memory_bytes_max: u64,
    /// Bytes received from the network.
    pub received_bytes: u64,
    /// Bytes sent to the network.
    pub sent_bytes: u64,
}

impl Used {
    fn add(&mut self, usage: Usage) {
        self.cpu_us = self.cpu_us.saturating_add(usage.cpu_us);
        self.memory_bytes_max = self.memory_bytes_max.max(usage.memory_bytes);
        self.received_bytes = self.received_bytes.saturating_add(usage.received_bytes);
        self.sent_bytes = self.sent_bytes.saturating_add(usage.sent_bytes);
    }
}

/// The metrics of one priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByPriority {
    /// Time between when an attempt was due and its start.
    pub wait: Histogram,
    /// Time between when a task was first due and its end.
    pub total: Histogram,
}

/// All metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    priorities: [ByPriority; 4],
    names: HashMap<Arc<str>, ByName, DefaultHasher>,
    other: ByName,
    unknown: ByName,
}

impl Metrics {
    /// Records an attempt that ended.
    pub fn record_attempt(
        &mut self,
        name: &Arc<str>,
        priority: TaskPriority,
        waited: Duration,
        ran: Duration,
        usage: Usage,
    ) {
        self.priorities[priority.level()].wait.add(waited);
        let by_name = self.by_name(name);
        by_name.run.add(ran);
        by_name.used.add(usage);
    }

    /// Records a task that ended.
    pub fn record_end(&mut self, name: &Arc<str>, status: TaskStatus) {
        self.by_name(name).ended[status_index(status)] += 1;
    }

    /// Records a task that ended because no worker served its name.
    pub fn record_unknown(&mut self, status: TaskStatus) {
        self.unknown.ended[status_index(status)] += 1;
    }

    /// Records the time between when a task was due and its end.
    pub fn record_total(&mut self, priority: TaskPriority, duration: Duration) {
        self.priorities[priority.level()].total.add(duration);
    }

    /// The metrics of each priority, the most urgent first.
    pub fn priorities(&self) -> &[ByPriority; 4] {
        &self.priorities
    }

    /// Iterates over the metrics of each name, and of those that are counted together.
    pub fn names(&self) -> impl Iterator<Item = (&str, &ByName)> {
        let rest = [(OTHER, &self.other), (UNKNOWN, &self.unknown)];
        let rest = rest.into_iter().filter(|(_, metrics)| **metrics != ByName::default());
        self.names.iter().map(|(name, metrics)| (&**name, metrics)).chain(rest)
    }

    fn by_name(&mut self, name: &Arc<str>) -> &mut ByName {
        if self.names.len() < NAMES_MAX && !self.names.contains_key(name) {
            self.names.insert(name.clone(), ByName::default());
        }
        self.names.get_mut(name).unwrap_or(&mut self.other)
    }
}

/// Returns the index of a final status in arrays by status: success, failure, cancelled.
pub fn status_index(status: TaskStatus) -> usize {
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
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        for micros in [0, 1_000, 1_001, 3_600_000_001] {
            histogram.add(Duration::from_micros(micros));
        }
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.counts[BOUNDS_US.len()]), (2, 1, 1));
        assert_eq!((histogram.count(), histogram.sum_us), (4, 3_600_002_002));
    }

    #[test]
    fn names_beyond_the_bound_are_counted_together() {
        let mut metrics = Metrics::default();
        for n in 0..NAMES_MAX + 5 {
            metrics.record_end(&n.to_string().into(), TaskStatus::Success);
        }
        assert_eq!(metrics.names().count(), NAMES_MAX + 1);
        assert_eq!(metrics.names().find(|(name, _)| *name == OTHER).map(|(_, metrics)| metrics.ended[0]), Some(5));
    }
}
