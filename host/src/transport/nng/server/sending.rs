//! The answers of a socket that are on their way, and waiting for them to have left.

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::lock::{self, lock};

/// What the kernel takes of one answer at once, in bytes.
const TAKEN_AT_ONCE: usize = 16 * 1024;
/// How long a larger answer is taken to be on its way after NNG has called it sent.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// Counts the answers that are on their way.
///
/// NNG calls an answer sent when it begins to write it, and says no more. The kernel takes a small
/// one whole; of larger ones all that we know is when the last was begun.
pub(super) struct Sending {
    count: AtomicUsize,
    begun: Instant,
    /// When the last large answer was given, in milliseconds after `begun`, and one more. 0 is never.
    last_large: AtomicU64,
    awaited: AtomicBool,
    turn: Mutex<()>,
    none: Condvar,
}

impl Sending {
    pub(super) fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            begun: Instant::now(),
            last_large: AtomicU64::new(0),
            awaited: AtomicBool::new(false),
            turn: Mutex::default(),
            none: Condvar::new(),
        }
    }

    pub(super) fn begin(&self, size: usize) {
        self.count.fetch_add(1, SeqCst);
        if size > TAKEN_AT_ONCE {
            let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last_large.fetch_max(now.saturating_add(1), SeqCst);
        }
    }

    pub(super) fn end(&self) {
        if self.count.fetch_sub(1, SeqCst) == 1 && self.awaited.load(SeqCst) {
            drop(lock(&self.turn));
            self.none.notify_all();
        }
    }

    pub(super) fn wait_for_none(&self, limit: Duration) {
        let begun = Instant::now();
        let mut turn = lock(&self.turn);
        self.awaited.store(true, SeqCst);
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let span = if self.count.load(SeqCst) == 0 { left.min(self.large_on_its_way()) } else { left };
            if span.is_zero() {
                return;
            }
            turn = lock::wait_timeout(&self.none, turn, span).0;
        }
    }

    /// For how much longer a large answer may be on its way.
    fn large_on_its_way(&self) -> Duration {
        match self.last_large.load(SeqCst) {
            0 => Duration::ZERO,
            given => Duration::from_millis(given).saturating_add(ON_ITS_WAY).saturating_sub(self.begun.elapsed()),
        }
    }
}
