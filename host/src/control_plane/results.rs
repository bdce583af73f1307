//! The result cache: how tasks ended, for whoever asks later.
//!
//! Bounded by count and by bytes (the least recently used goes first) and by age, counted from
//! storing. What a task said about itself is kept with its result. Invariant: the newest result is
//! known at the moment at which it is stored, so that whoever waits for it can be told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lru::LruCache;

use super::{metrics, reports::ReportLog};
use crate::{
    clock::{Moment, Now, Timestamp},
    json::Json,
    task::{Policy, TaskId, TaskPriority, TaskResult},
};

/// One ended task.
#[derive(Debug)]
pub struct Kept {
    /// How it ended.
    pub result: Arc<TaskResult>,
    /// What is known of it beside its result.
    pub about: About,
    /// What it said.
    pub reports: ReportLog,
    stored: u64,
    used_at: Moment,
    expires_at: Moment,
}

/// What is known of an ended task beside its result: all that it takes to run it again.
#[derive(Clone, Debug)]
pub struct About {
    /// Its task name.
    pub name: Arc<str>,
    /// How urgent it was.
    pub priority: TaskPriority,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// Its positional arguments.
    pub args: Json,
    /// Its named arguments.
    pub kwargs: Json,
    /// How it wanted to be treated.
    pub policy: Policy,
}

impl Kept {
    fn bytes(&self) -> usize {
        let About { args, kwargs, .. } = &self.about;
        self.result.size() + self.reports.bytes() + args.as_str().len() + kwargs.as_str().len()
    }

    /// When it was last asked for, or else stored, as the wall clock of `now` counts.
    pub fn used_at(&self, now: Now) -> Timestamp {
        now.wall - now.mono.since(self.used_at)
    }
}

/// The ended tasks that are still known.
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

/// How full the cache is.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// Results.
    pub size: usize,
    /// The most results.
    pub size_max: usize,
    /// Bytes that they hold, with their arguments and reports.
    pub bytes: usize,
    /// The most bytes.
    pub bytes_max: usize,
    /// How long a result is kept.
    pub ttl: Duration,
    /// Results by how their tasks ended: success, failure, cancelled.
    pub by_status: [usize; 3],
    /// Results that went since there was no room.
    pub evicted: u64,
    /// Results that went since they were too old.
    pub expired: u64,
}

impl Results {
    /// An empty cache of `max` results that hold `bytes_max`, each kept for `ttl`.
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

    /// Keeps a result, and lets go of what is over the bounds.
    pub fn store(&mut self, now: Moment, result: Arc<TaskResult>, about: About, reports: ReportLog) {
        self.expire(now);
        self.stored += 1;
        self.by_age.insert(self.stored, result.task_id.clone());
        let id = result.task_id.clone();
        let kept = Kept { result, about, reports, stored: self.stored, used_at: now, expires_at: now + self.ttl };
        self.bytes += kept.bytes();
        self.by_status[metrics::place(kept.result.status)] += 1;
        if let Some(older) = self.kept.put(id, kept) {
            self.let_go(&older);
        }
        while self.kept.len() > self.max || (self.bytes > self.bytes_max && self.kept.len() > 1) {
            let Some((_, least_used)) = self.kept.pop_lru() else { break };
            self.evicted += 1;
            self.let_go(&least_used);
        }
    }

    /// A result that is still known. Counts as a use.
    pub fn get(&mut self, now: Moment, id: &TaskId) -> Option<&Kept> {
        if self.kept.peek(id)?.expires_at <= now {
            self.remove(id);
            return None;
        }
        let kept = self.kept.get_mut(id)?;
        kept.used_at = now;
        Some(kept)
    }

    /// A result that is still known, without counting as a use.
    pub fn peek(&self, now: Moment, id: &TaskId) -> Option<&Kept> {
        self.kept.peek(id).filter(|kept| kept.expires_at > now)
    }

    /// Changes what is known of how a task ended, if this end of it is still known, without counting
    /// as a use. Must not change its size.
    pub fn amend(
        &mut self,
        now: Moment,
        end: &Arc<TaskResult>,
        change: impl FnOnce(&mut TaskResult),
    ) -> Option<&About> {
        let kept = self.kept.peek_mut(&end.task_id).filter(|kept| kept.expires_at > now)?;
        // A task whose end was forgotten may have run anew under its id.
        if !Arc::ptr_eq(&kept.result, end) {
            return None;
        }
        change(Arc::make_mut(&mut kept.result));
        Some(&kept.about)
    }

    /// The results that are still known, the newest first.
    pub fn newest(&self, now: Moment) -> impl Iterator<Item = &Kept> {
        let kept = self.by_age.values().rev().filter_map(|id| self.kept.peek(id));
        kept.filter(move |kept| kept.expires_at > now)
    }

    /// Lets go of what is too old.
    pub fn expire(&mut self, now: Moment) {
        while let Some((_, id)) = self.by_age.first_key_value() {
            if self.kept.peek(id).is_some_and(|kept| kept.expires_at > now) {
                return;
            }
            let id = id.clone();
            self.remove(&id);
        }
    }

    /// When the oldest result expires.
    pub fn next_expiry(&self) -> Option<Moment> {
        let (_, id) = self.by_age.first_key_value()?;
        self.kept.peek(id).map(|kept| kept.expires_at)
    }

    /// How many results are known.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// How full it is.
    pub fn fill(&self) -> Fill {
        Fill {
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

    /// Whether no result is known.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Lets go of one that is too old.
    fn remove(&mut self, id: &TaskId) {
        if let Some(kept) = self.kept.pop(id) {
            self.expired += 1;
            self.let_go(&kept);
        }
    }

    fn let_go(&mut self, kept: &Kept) {
        self.by_age.remove(&kept.stored);
        self.bytes -= kept.bytes();
        self.by_status[metrics::place(kept.result.status)] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskStatus;

    fn result(id: &str) -> Arc<TaskResult> {
        Arc::new(TaskResult::new(id.parse().expect("an id"), TaskStatus::Success))
    }

    fn about() -> About {
        About {
            name: "add".into(),
            priority: TaskPriority::Normal,
            created_at: Timestamp::default(),
            args: Json::empty_array(),
            kwargs: Json::empty_object(),
            policy: Policy::default(),
        }
    }

    fn known(results: &mut Results, now: Moment, id: &str) -> bool {
        results.get(now, &id.parse().expect("an id")).is_some()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let (mut results, now) = (Results::new(2, 1_000, Duration::from_secs(10)), Moment::default());
        results.store(now, result("a"), about(), ReportLog::default());
        results.store(now, result("b"), about(), ReportLog::default());
        assert!(known(&mut results, now, "a"));
        results.store(now, result("c"), about(), ReportLog::default());
        assert!(known(&mut results, now, "a") && !known(&mut results, now, "b"));
        assert_eq!((results.len(), results.by_age.len()), (2, 2));
    }

    #[test]
    fn a_use_does_not_lengthen_a_life() {
        let (mut results, start) = (Results::new(9, 1_000, Duration::from_secs(10)), Moment::default());
        results.store(start, result("a"), about(), ReportLog::default());
        assert!(known(&mut results, start + Duration::from_secs(9), "a"));
        assert!(!known(&mut results, start + Duration::from_secs(10), "a"));
        assert!(results.is_empty() && results.by_age.is_empty());
    }

    #[test]
    fn large_results_make_room_by_bytes_and_the_newest_is_always_known() {
        let (mut results, now) = (Results::new(9, 1_000, Duration::ZERO), Moment::default());
        for (id, size) in [("a", 400), ("b", 400), ("c", 400), ("d", 4_000)] {
            let mut large = (*result(id)).clone();
            large.error = Some("x".repeat(size));
            results.store(now, Arc::new(large), about(), ReportLog::default());
            assert!(known(&mut results, now, id));
        }
        assert_eq!((results.len(), results.bytes, results.fill().by_status), (1, 4_004, [1, 0, 0]));
        results.expire(now + Duration::from_secs(1));
        assert_eq!((results.len(), results.bytes, results.fill().by_status), (0, 0, [0; 3]));
        assert_eq!((results.fill().evicted, results.fill().expired), (3, 1));
    }
}
