//! Counts the answers that are being sent, and waits until all have left.

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::lock::{self, lock};

/// Size up to which the kernel takes an answer at once, in bytes.
const SMALL_MAX: usize = 16 * 1024;
/// Time for which a larger answer counts as being sent after NNG has reported it as sent.
const LARGE_GRACE: Duration = Duration::from_millis(500);

/// Counts the answers that are being sent.
///
/// NNG reports an answer as sent when it begins to write it, and nothing after that. The kernel takes a small one
/// at once; of the larger ones only the start of the last is known.
pub(super) struct SendCounter {
    count: AtomicUsize,
    created: Instant,
    /// When the last large answer was begun, in milliseconds after `created` plus one; 0 for never.
    last_large: AtomicU64,
    has_waiters: AtomicBool,
    wait_lock: Mutex<()>,
    all_sent: Condvar,
}

impl SendCounter {
    pub(super) fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            created: Instant::now(),
            last_large: AtomicU64::new(0),
            has_waiters: AtomicBool::new(false),
            wait_lock: Mutex::default(),
            all_sent: Condvar::new(),
        }
    }

    /// Counts an answer of this size.
    pub(super) fn begin(&self, size: usize) {
        self.count.fetch_add(1, SeqCst);
        if size > SMALL_MAX {
            let now = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last_large.fetch_max(now.saturating_add(1), SeqCst);
        }
    }

    /// Uncounts an answer that NNG has reported as sent or failed.
    pub(super) fn end(&self) {
        if self.count.fetch_sub(1, SeqCst) == 1 && self.has_waiters.load(SeqCst) {
            drop(lock(&self.wait_lock));
            self.all_sent.notify_all();
        }
    }

    /// Blocks until all answers have left, at most `limit`.
    pub(super) fn wait_until_sent(&self, limit: Duration) {
        let begun = Instant::now();
        let mut guard = lock(&self.wait_lock);
        self.has_waiters.store(true, SeqCst);
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let wait = if self.count.load(SeqCst) == 0 { left.min(self.large_grace_left()) } else { left };
            if wait.is_zero() {
                return;
            }
            guard = lock::wait_timeout(&self.all_sent, guard, wait).0;
        }
    }

    /// Time for which a large answer may still be being sent.
    fn large_grace_left(&self) -> Duration {
        match self.last_large.load(SeqCst) {
            0 => Duration::ZERO,
            given => Duration::from_millis(given).saturating_add(LARGE_GRACE).saturating_sub(self.created.elapsed()),
        }
    }
}
