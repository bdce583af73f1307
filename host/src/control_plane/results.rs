//! The result cache: the results of finished tasks, for later look-ups.
//!
//! Bounded by count and by bytes (the least recently used is evicted first) and by age since storing. The reports of a
//! task are kept with its result. Invariant: the newest result is in the cache, however large it is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lru::LruCache;

use super::{metrics, reports::ReportLog};
use crate::{
    clock::{Moment, Now, Timestamp},
    json::Json,
    task::{Policy, TaskId, TaskPriority, TaskResult},
};

/// A finished task.
#[derive(Debug)]
pub struct Kept {
    /// Its result.
    pub result: Arc<TaskResult>,
    /// Its call, and when it was submitted.
    pub meta: TaskMeta,
    /// Its reports.
    pub reports: ReportLog,
    stored: u64,
    used_at: Moment,
    expires_at: Moment,
}

/// The submission of a task: its call, with everything that is needed to run it again, and when it was submitted.
#[derive(Clone, Debug)]
pub struct TaskMeta {
    /// Its task name.
    pub name: Arc<str>,
    /// Its priority.
    pub priority: TaskPriority,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// Its positional arguments.
    pub args: Json,
    /// Its named arguments.
    pub kwargs: Json,
    /// Its policy.
    pub policy: Policy,
}

impl Kept {
    fn bytes(&self) -> usize {
        let TaskMeta { args, kwargs, .. } = &self.meta;
        self.result.size() + self.reports.bytes() + args.as_str().len() + kwargs.as_str().len()
    }

    /// When it was last used, or else stored, by the wall clock of `now`.
    pub fn used_at(&self, now: Now) -> Timestamp {
        now.wall - now.mono.since(self.used_at)
    }
}

/// The results of finished tasks.
#[derive(Debug)]
pub struct Results {
    kept: LruCache<TaskId, Kept>,
    /// By the order of storing, which is the order of expiry.
    by_age: BTreeMap<u64, TaskId>,
    stored: u64,
    bytes: usize,
    max: usize,
    bytes_max: usize,
    ttl: Duration,
    by_status: [usize; 3],
    evicted: u64,
    expired: u64,
}

/// Statistics of the result cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheStats {
    /// Number of results.
    pub size: usize,
    /// Maximum number of results.
    pub size_max: usize,
    /// Size of the results with their arguments and reports, in bytes.
    pub bytes: usize,
    /// Maximum size, in bytes.
    pub bytes_max: usize,
    /// Time to live of a result.
    pub ttl: Duration,
    /// Number of results by status: success, failure, cancelled.
    pub by_status: [usize; 3],
    /// Number of results that were evicted because the cache was full.
    pub evicted: u64,
    /// Number of results that expired.
    pub expired: u64,
}

impl Results {
    /// Creates an empty cache for `max` results of `bytes_max` together, each kept for `ttl`.
    pub fn new(max: usize, bytes_max: usize, ttl: Duration) -> Self {
        let (max, ttl) = (max.max(1), ttl.max(Duration::from_micros(1)));
        Self {
            kept: LruCache::unbounded(),
            by_age: BTreeMap::new(),
            stored: 0,
            bytes: 0,
            max,
            bytes_max,
            ttl,
            by_status: [0; 3],
            evicted: 0,
            expired: 0,
        }
    }

    /// Stores a result, and evicts those over the bounds.
    pub fn store(&mut self, now: Moment, result: Arc<TaskResult>, meta: TaskMeta, reports: ReportLog) {
        self.expire(now);
        self.stored += 1;
        self.by_age.insert(self.stored, result.task_id.clone());
        let id = result.task_id.clone();
        let kept = Kept { result, meta, reports, stored: self.stored, used_at: now, expires_at: now + self.ttl };
        self.bytes += kept.bytes();
        self.by_status[metrics::status_index(kept.result.status)] += 1;
        if let Some(older) = self.kept.put(id, kept) {
            self.subtract(&older);
        }
        while self.kept.len() > self.max || (self.bytes > self.bytes_max && self.kept.len() > 1) {
            let Some((_, least_used)) = self.kept.pop_lru() else { break };
            self.evicted += 1;
            self.subtract(&least_used);
        }
    }

    /// Returns a result. Counts as a use.
    pub fn get(&mut self, now: Moment, id: &TaskId) -> Option<&Kept> {
        if self.kept.peek(id)?.expires_at <= now {
            self.remove(id);
            return None;
        }
        let kept = self.kept.get_mut(id)?;
        kept.used_at = now;
        Some(kept)
    }

    /// Returns a result, without counting as a use.
    pub fn peek(&self, now: Moment, id: &TaskId) -> Option<&Kept> {
        self.kept.peek(id).filter(|kept| kept.expires_at > now)
    }

    /// Changes a result, if it is still the one of this `end`, without counting as a use. `change` must not change its
    /// size.
    pub fn amend(
        &mut self,
        now: Moment,
        end: &Arc<TaskResult>,
        change: impl FnOnce(&mut TaskResult),
    ) -> Option<&TaskMeta> {
        let kept = self.kept.peek_mut(&end.task_id).filter(|kept| kept.expires_at > now)?;
        // A task whose result was evicted may have run again under its id.
        if !Arc::ptr_eq(&kept.result, end) {
            return None;
        }
        change(Arc::make_mut(&mut kept.result));
        Some(&kept.meta)
    }

    /// Iterates over the results, the newest first.
    pub fn newest(&self, now: Moment) -> impl Iterator<Item = &Kept> {
        let kept = self.by_age.values().rev().filter_map(|id| self.kept.peek(id));
        kept.filter(move |kept| kept.expires_at > now)
    }

    /// Removes the results that are too old.
    pub fn expire(&mut self, now: Moment) {
        while let Some((_, id)) = self.by_age.first_key_value() {
            if self.kept.peek(id).is_some_and(|kept| kept.expires_at > now) {
                return;
            }
            let id = id.clone();
            self.remove(&id);
        }
    }

    /// Returns when the oldest result expires.
    pub fn next_expiry(&self) -> Option<Moment> {
        let (_, id) = self.by_age.first_key_value()?;
        self.kept.peek(id).map(|kept| kept.expires_at)
    }

    /// Number of results.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Returns its statistics.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            size: self.kept.len(),
            size_max: self.max,
            bytes: self.bytes,
            bytes_max: self.bytes_max,
            ttl: self.ttl,
            by_status: self.by_status,
            evicted: self.evicted,
            expired: self.expired,
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Removes a result that is too old.
    fn remove(&mut self, id: &TaskId) {
        if let Some(kept) = self.kept.pop(id) {
            self.expired += 1;
            self.subtract(&kept);
        }
    }

    /// Updates the totals after a result was removed.
    fn subtract(&mut self, kept: &Kept) {
        self.by_age.remove(&kept.stored);
        self.bytes -= kept.bytes();
        self.by_status[metrics::status_index(kept.result.status)] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskStatus;

    fn result(id: &str) -> Arc<TaskResult> {
        Arc::new(TaskResult::new(id.parse().expect("an id"), TaskStatus::Success))
    }

    fn meta() -> TaskMeta {
        TaskMeta {
            name: "add".into(),
            priority: TaskPriority::Normal,
            created_at: Timestamp::default(),
            args: Json::empty_array(),
            kwargs: Json::empty_object(),
            policy: Policy::default(),
        }
    }

    fn is_cached(results: &mut Results, now: Moment, id: &str) -> bool {
        results.get(now, &id.parse().expect("an id")).is_some()
    }

    #[test]
    fn the_least_recently_used_is_evicted_first() {
        let (mut results, now) = (Results::new(2, 1_000, Duration::from_secs(10)), Moment::default());
        results.store(now, result("a"), meta(), ReportLog::default());
        results.store(now, result("b"), meta(), ReportLog::default());
        assert!(is_cached(&mut results, now, "a"));
        results.store(now, result("c"), meta(), ReportLog::default());
        assert!(is_cached(&mut results, now, "a") && !is_cached(&mut results, now, "b"));
        assert_eq!((results.len(), results.by_age.len()), (2, 2));
    }

    #[test]
    fn a_use_does_not_extend_the_time_to_live() {
        let (mut results, start) = (Results::new(9, 1_000, Duration::from_secs(10)), Moment::default());
        results.store(start, result("a"), meta(), ReportLog::default());
        assert!(is_cached(&mut results, start + Duration::from_secs(9), "a"));
        assert!(!is_cached(&mut results, start + Duration::from_secs(10), "a"));
        assert!(results.is_empty() && results.by_age.is_empty());
    }

    #[test]
    fn results_are_evicted_by_bytes_and_the_newest_stays() {
        let (mut results, now) = (Results::new(9, 1_000, Duration::ZERO), Moment::default());
        for (id, size) in [("a", 400), ("b", 400), ("c", 400), ("d", 4_000)] {
            let mut large = (*result(id)).clone();
            large.error = Some("x".repeat(size));
            results.store(now, Arc::new(large), meta(), ReportLog::default());
            assert!(is_cached(&mut results, now, id));
        }
        assert_eq!((results.len(), results.bytes, results.stats().by_status), (1, 4_004, [1, 0, 0]));
        results.expire(now + Duration::from_secs(1));
        assert_eq!((results.len(), results.bytes, results.stats().by_status), (0, 0, [0; 3]));
        assert_eq!((results.stats().evicted, results.stats().expired), (3, 1));
    }
}
