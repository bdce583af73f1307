//! The bounds and delays of the state.

use std::time::Duration;

use crate::protocol::WAIT_MAX;

/// Maximum expected run time of the tasks that are granted to a slot together, beyond the first.
pub const LOOKAHEAD: Duration = Duration::from_millis(2);
/// Maximum number of worker crashes while a task ran; the last one ends it as `worker-lost`.
pub const LOSSES_MAX: u32 = 3;
/// Interval at which the wall clock is compared with the next `eta`, as it may jump.
pub const ETA_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Delay before the next heartbeat of a worker that a lease was revoked from, to check what it holds.
pub const RECHECK_DELAY: Duration = Duration::from_millis(20);
/// Timeout for the delivery of a lease to its slot. Longer than a slot takes to repeat a request that
/// carried outcomes: a lease that was run in that time must not count as undelivered.
pub const DELIVERY_MAX: Duration = Duration::from_millis(2_800);
/// Minimum interval between two heartbeats that together show that a lease never arrived: one alone may
/// have been written before it did.
pub const BEAT_INTERVAL_MIN: Duration = Duration::from_millis(500);
/// Maximum number of tasks named by parked requests; further requests get a reply immediately.
pub const WAITED_TASKS_MAX: usize = 1_000_000;
/// Minimum lateness of a worker's timeout that shows that this process itself was suspended.
pub const STALL_MIN: Duration = Duration::from_secs(1);
/// Timeout of a slot that does not report, after its leases must have ended.
pub const LEASE_GRACE: Duration = Duration::from_secs(30);

/// Default time in which a worker is expected to return after a start or a loss.
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
