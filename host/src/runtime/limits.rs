//! Limits the linear memory, tables and instances of one attempt.
//!
//! wasmtime calls it at every growth. Invariant: the memories of a store never have more than `memory_max` bytes
//! together.

use wasmtime::ResourceLimiter;

use super::host_errors::is_host_error;

/// Maximum core instances of one component.
pub(super) const INSTANCES_MAX: usize = 200;
/// Maximum linear memories of one component.
const MEMORIES_MAX: usize = 32;
/// Maximum tables of one component.
const TABLES_MAX: usize = 200;
/// Maximum elements of all tables of a component together, 8 bytes each.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// A growth of a memory that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RefusedGrowth {
    /// Bytes of memory in use.
    pub(super) memory_used: usize,
    /// Bytes requested in addition.
    pub(super) requested: usize,
    /// The limit in bytes.
    pub(super) limit: usize,
    /// Whether the host could not allocate it, although it was within the limit.
    pub(super) by_host: bool,
}

/// Counts the guest's memory, and refuses growth beyond the limits.
#[derive(Debug)]
pub(super) struct Limits {
    memory_max: usize,
    memory_used: usize,
    last_growth: usize,
    table_elements: usize,
    refused: Option<RefusedGrowth>,
    /// Bytes of growth since the last refusal.
    grown_since_refusal: usize,
}

/// A guest that grows by this much after a refusal has recovered from it, regardless of how much it had requested.
const RECOVERY_GROWTH: usize = 1 << 20;

impl Limits {
    /// Limits an attempt to `memory_max` bytes of linear memory.
    pub(super) fn new(memory_max: usize) -> Self {
        Self { memory_max, memory_used: 0, last_growth: 0, table_elements: 0, refused: None, grown_since_refusal: 0 }
    }

    /// The last growth that was refused, unless the guest grew as much later: then the refusal is
    /// not the cause of a later trap. The little memory that a panic message takes does not count.
    pub(super) fn refused_growth(&self) -> Option<RefusedGrowth> {
        self.refused
    }

    /// Bytes of linear memory in use.
    pub(super) fn memory_used(&self) -> usize {
        self.memory_used
    }

    fn refuse(&mut self, requested: usize, by_host: bool) {
        let (memory_used, limit) = (self.memory_used, self.memory_max);
        self.refused = Some(RefusedGrowth { memory_used, requested, limit, by_host });
        self.grown_since_refusal = 0;
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let fits = self.memory_used.checked_add(growth).is_some_and(|total| total <= self.memory_max);
        if fits {
            self.memory_used += growth;
            self.last_growth = growth;
            self.grown_since_refusal += growth;
            let grown = self.grown_since_refusal;
            self.refused = self.refused.filter(|refused| grown < refused.requested.min(RECOVERY_GROWTH));
        } else {
            self.refuse(growth, false);
        }
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(%error, "the host could not grow a guest's memory");
        self.memory_used -= self.last_growth;
        // wasmtime also calls this for growth beyond the memory's own maximum, which was not counted.
        self.refuse(self.last_growth, self.last_growth > 0 && is_host_error(&error));
        self.last_growth = 0;
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        let fits = total <= TABLE_ELEMENTS_MAX;
        if fits {
            self.table_elements = total;
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memories_of_a_store_share_one_limit() {
        let mut limits = Limits::new(100);
        assert!(limits.memory_growing(0, 60, None).expect("no error"));
        assert!(!limits.memory_growing(0, 60, None).expect("no error"));
        let refused = RefusedGrowth { memory_used: 60, requested: 60, limit: 100, by_host: false };
        assert_eq!(limits.refused_growth(), Some(refused));
        assert!(limits.memory_growing(60, 100, None).expect("no error"));
        assert_eq!(limits.memory_used(), 100);
    }

    #[test]
    fn a_guest_recovers_from_a_refusal_by_growing_as_much_later() {
        let mut limits = Limits::new(200);
        assert!(!limits.memory_growing(0, 201, None).expect("no error"));
        assert!(limits.memory_growing(0, 20, None).expect("no error"));
        let refused = RefusedGrowth { memory_used: 0, requested: 201, limit: 200, by_host: false };
        assert_eq!(limits.refused_growth(), Some(refused));
        assert!(!limits.memory_growing(20, 201, None).expect("no error"));
        assert!(limits.memory_growing(20, 200, None).expect("no error"));
        assert_eq!(limits.refused_growth(), Some(RefusedGrowth { memory_used: 20, requested: 181, ..refused }));

        let mut limits = Limits::new(8 * RECOVERY_GROWTH);
        assert!(!limits.memory_growing(0, 9 * RECOVERY_GROWTH, None).expect("no error"));
        assert!(limits.memory_growing(0, RECOVERY_GROWTH, None).expect("no error"));
        assert_eq!(limits.refused_growth(), None);
    }
}
