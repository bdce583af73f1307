//! Counts the replies that are being sent, and waits until all are sent.

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::lock::{self, lock};

/// Size up to which the kernel accepts a reply immediately, in bytes.
const SMALL_MAX: usize = 16 * 1024;
/// Time for which a larger reply counts as in flight after NNG has reported it as sent.
const LARGE_GRACE: Duration = Duration::from_millis(500);

/// Counts the replies that are being sent.
///
/// NNG reports a reply as sent when it starts to write it, and nothing after that. The kernel accepts a small one
/// immediately; of the larger ones only the start of the last is known.
pub(super) struct InFlightSends {
    count: AtomicUsize,
    created: Instant,
    /// When sending the last large reply started, in milliseconds after `created` plus one; 0 for never.
    last_large: AtomicU64,
    has_waiters: AtomicBool,
    wait_lock: Mutex<()>,
    all_sent: Condvar,
}

impl InFlightSends {
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

    /// Adds a reply of this size.
    pub(super) fn add(&self, size: usize) {
        self.count.fetch_add(1, SeqCst);
        if size > SMALL_MAX {
            let now = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last_large.fetch_max(now.saturating_add(1), SeqCst);
        }
    }

    /// Removes a reply that NNG has reported as sent or failed.
    pub(super) fn remove(&self) {
        if self.count.fetch_sub(1, SeqCst) == 1 && self.has_waiters.load(SeqCst) {
            drop(lock(&self.wait_lock));
            self.all_sent.notify_all();
        }
    }

    /// Blocks until all replies are sent, at most `limit`.
    pub(super) fn wait_until_sent(&self, limit: Duration) {
        let started = Instant::now();
        let mut guard = lock(&self.wait_lock);
        self.has_waiters.store(true, SeqCst);
        loop {
            let remaining = limit.saturating_sub(started.elapsed());
            let wait =
                if self.count.load(SeqCst) == 0 { remaining.min(self.large_grace_remaining()) } else { remaining };
            if wait.is_zero() {
                return;
            }
            guard = lock::wait_timeout(&self.all_sent, guard, wait).0;
        }
    }

    /// Time for which a large reply may still be in flight.
    fn large_grace_remaining(&self) -> Duration {
        match self.last_large.load(SeqCst) {
            0 => Duration::ZERO,
            sent_at_ms => {
                Duration::from_millis(sent_at_ms).saturating_add(LARGE_GRACE).saturating_sub(self.created.elapsed())
            }
        }
    }
}
