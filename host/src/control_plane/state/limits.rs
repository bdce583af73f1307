//! The bounds and delays of the state.

use std::time::Duration;

use crate::protocol::WAIT_MAX;

/// Maximum expected run time of the tasks that are granted to a slot together. The first is granted however long it runs.
pub const PREFETCH_TIME_MAX: Duration = Duration::from_millis(2);
/// Number of worker crashes while a task ran after which it fails as `worker-lost`.
pub const LOSSES_MAX: u32 = 3;
/// Interval at which the wall clock is compared with the next `eta`, as it may jump.
pub const ETA_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Delay before the next heartbeat of a worker that a lease was revoked from, to check what it holds.
pub const RECHECK_DELAY: Duration = Duration::from_millis(20);
/// Time after a grant, beyond its transfer, before heartbeats without the lease show that it never arrived.
/// Longer than a slot takes to repeat a request with outcomes: otherwise a lease that was delivered and run,
/// and whose outcome is being repeated, would look undelivered.
pub const DELIVERY_MAX: Duration = Duration::from_millis(2_800);
/// Minimum interval between two heartbeats that together show that a lease never arrived: one alone may
/// have been written before it did.
pub const BEAT_INTERVAL_MIN: Duration = Duration::from_millis(500);
/// Maximum number of tasks named by parked requests; further lookups get a reply immediately.
pub const WAITED_TASKS_MAX: usize = 1_000_000;
/// If the timer of a worker's timeout fires this late, this process was suspended, and the worker gets more time.
pub const STALL_MIN: Duration = Duration::from_secs(1);
/// Time after the end of a slot's last attempt before its leases are revoked, if it does not report.
pub const LEASE_GRACE: Duration = Duration::from_secs(30);

/// Default time that tasks wait for a worker to (re)connect, after a start of the control plane or the loss of a
/// worker.
pub const UNKNOWN_GRACE: Duration = Duration::from_secs(30);

/// The bounds of the state.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of unfinished tasks.
    pub tasks_max: usize,
    /// Maximum size of the arguments of all unfinished tasks, in bytes.
    pub bytes_max: usize,
    /// Maximum number of results in the cache.
    pub results_max: usize,
    /// Maximum size of all cached results and reports, in bytes.
    pub result_bytes_max: usize,
    /// Time to live of a result.
    pub result_ttl: Duration,
    /// Time for which tasks whose name no worker serves wait, after a start or the loss of a worker.
    pub unknown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tasks_max: 1_000_000,
            bytes_max: 1024 * 1024 * 1024,
            results_max: 10_000,
            result_bytes_max: 1024 * 1024 * 1024,
            result_ttl: Duration::from_hours(1),
            unknown_grace: UNKNOWN_GRACE,
        }
    }
}

/// Returns how long a request may be parked.
pub(super) fn park_limit(wait_ms: u32) -> Duration {
    Duration::from_millis(wait_ms.into()).min(WAIT_MAX)
}
