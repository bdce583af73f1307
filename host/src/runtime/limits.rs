//! What one attempt may hold: linear memory, tables, instances.
//!
//! Apart because wasmtime asks it at every growth. Invariant: the sum over all memories of a
//! store never passes `max`.

use wasmtime::ResourceLimiter;

/// Core instances that one component may consist of.
pub(super) const INSTANCES_MAX: usize = 200;
/// Linear memories that one component may have.
const MEMORIES_MAX: usize = 32;
/// Tables that one component may have.
const TABLES_MAX: usize = 200;
/// Elements that all tables of a component may have together, 8 bytes each.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// A growth that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Bytes of memory it had.
    pub(super) had: usize,
    /// Bytes it asked for in addition.
    pub(super) wanted: usize,
    /// Bytes it may have.
    pub(super) max: usize,
    /// Whether it was the host that had no more, although the guest might have had it.
    pub(super) by_host: bool,
}

/// Counts what the guest holds and refuses what is too much.
#[derive(Debug)]
pub(super) struct Limits {
    max: usize,
    used: usize,
    last_growth: usize,
    table_elements: usize,
    refused: Option<Refused>,
    /// What it got since the last growth that was refused.
    regained: usize,
}

/// A guest that gets so much after a refusal has got over it, however much it had wanted.
const OVER_IT: usize = 1 << 20;

impl Limits {
    /// Limits an attempt to `memory_max` bytes of linear memory.
    pub(super) fn new(memory_max: usize) -> Self {
        Self { max: memory_max, used: 0, last_growth: 0, table_elements: 0, refused: None, regained: 0 }
    }

    /// The growth that was refused, unless the guest went on and got as much later: then it had got
    /// over it. The little that it takes to say its last words does not count.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// Bytes of linear memory in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    fn refuse(&mut self, wanted: usize, by_host: bool) {
        self.refused = Some(Refused { had: self.used, wanted, max: self.max, by_host });
        self.regained = 0;
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let fits = self.used.checked_add(growth).is_some_and(|total| total <= self.max);
        if fits {
            self.used += growth;
            self.last_growth = growth;
            self.regained += growth;
            self.refused = self.refused.filter(|refused| self.regained < refused.wanted.min(OVER_IT));
        } else {
            self.refuse(growth, false);
        }
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(%error, "the host could not grow a guest's memory");
        self.used -= self.last_growth;
        // wasmtime also refuses what the type of the memory does not allow, where there is no growth.
        self.refuse(self.last_growth, self.last_growth > 0 && crate::runtime::ending::is_hosts(&error));
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
    fn the_memories_of_a_store_share_one_bound() {
        let mut limits = Limits::new(100);
        assert!(limits.memory_growing(0, 60, None).expect("an answer"));
        assert!(!limits.memory_growing(0, 60, None).expect("an answer"));
        assert_eq!(limits.refused(), Some(Refused { had: 60, wanted: 60, max: 100, by_host: false }));
        assert!(limits.memory_growing(60, 100, None).expect("an answer"));
        assert_eq!(limits.used(), 100);
    }

    #[test]
    fn a_guest_gets_over_a_refusal_by_going_on_and_not_by_its_last_words() {
        let mut limits = Limits::new(200);
        assert!(!limits.memory_growing(0, 201, None).expect("an answer"));
        assert!(limits.memory_growing(0, 20, None).expect("an answer"));
        assert_eq!(limits.refused(), Some(Refused { had: 0, wanted: 201, max: 200, by_host: false }));
        assert!(!limits.memory_growing(20, 201, None).expect("an answer"));
        assert!(limits.memory_growing(20, 200, None).expect("an answer"));
        assert_eq!(limits.refused(), Some(Refused { had: 20, wanted: 181, max: 200, by_host: false }));

        let mut limits = Limits::new(8 * OVER_IT);
        assert!(!limits.memory_growing(0, 9 * OVER_IT, None).expect("an answer"));
        assert!(limits.memory_growing(0, OVER_IT, None).expect("an answer"));
        assert_eq!(limits.refused(), None);
    }
}
