//! Limits how many modules are compiled at a time.
//!
//! Few at a time, as each may use as much memory as its limit allows. A slow module continues, but then counts
//! separately, so that the next one may start.

use std::{
    sync::{Condvar, Mutex},
    time::Duration,
};

use crate::lock::{self, lock};

/// Maximum modules to compile at a time, without slow ones.
const FAST_MAX: usize = 2;
/// Maximum slow modules to compile at a time.
const SLOW_MAX: usize = 2;
/// Time after which a module counts as slow.
const SLOW_AFTER: Duration = Duration::from_secs(3);
/// Interval at which a waiting module checks whether it is still wanted.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Grants permits to compile.
#[derive(Debug, Default)]
pub(in crate::runtime) struct CompileSemaphore {
    counts: Mutex<Counts>,
    returned: Condvar,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    fast: usize,
    slow: usize,
}

/// The right to compile one module. Returned when it is dropped.
pub(super) struct CompilePermit<'a> {
    semaphore: &'a CompileSemaphore,
    is_slow: bool,
}

impl CompileSemaphore {
    /// Waits for a permit. None once the module is unwanted.
    pub(super) fn acquire(&self, is_unwanted: impl Fn() -> bool) -> Option<CompilePermit<'_>> {
        let mut counts = lock(&self.counts);
        while counts.fast >= FAST_MAX {
            if is_unwanted() {
                return None;
            }
            counts = lock::wait_timeout(&self.returned, counts, CHECK_INTERVAL).0;
        }
        counts.fast += 1;
        Some(CompilePermit { semaphore: self, is_slow: false })
    }
}

impl CompilePermit<'_> {
    /// Marks this module as slow after [`SLOW_AFTER`], so that another one can start.
    pub(super) fn mark_slow_after(&mut self, elapsed: Duration) {
        if self.is_slow || elapsed < SLOW_AFTER {
            return;
        }
        let mut counts = lock(&self.semaphore.counts);
        if counts.slow < SLOW_MAX {
            (counts.fast, counts.slow) = (counts.fast - 1, counts.slow + 1);
            self.is_slow = true;
            self.semaphore.returned.notify_one();
        }
    }
}

impl Drop for CompilePermit<'_> {
    fn drop(&mut self) {
        let mut counts = lock(&self.semaphore.counts);
        let count = if self.is_slow { &mut counts.slow } else { &mut counts.fast };
        *count -= 1;
        self.semaphore.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_modules_let_as_many_others_start_and_no_more() {
        let semaphore = CompileSemaphore::default();
        let acquire = || semaphore.acquire(|| true);
        let (mut first, mut second) = (acquire().expect("a permit"), acquire().expect("a permit"));
        assert!(acquire().is_none());
        first.mark_slow_after(SLOW_AFTER.mul_f32(0.9));
        assert!(acquire().is_none(), "it has not taken long yet");
        for slow in [&mut first, &mut second] {
            slow.mark_slow_after(SLOW_AFTER);
        }
        let (mut third, fourth) = (acquire().expect("a permit"), acquire().expect("a permit"));
        third.mark_slow_after(SLOW_AFTER);
        assert!(acquire().is_none(), "no more slow modules are allowed");
        drop(first);
        assert!(acquire().is_none(), "it was a slow one");
        third.mark_slow_after(SLOW_AFTER);
        let fifth = acquire().expect("a permit");
        drop((second, third, fourth, fifth));
        assert_eq!(*lock(&semaphore.counts), Counts::default());
    }
}
