//! Task names that the control plane's own worker has but cannot run, as it has no slots: it only passes its modules to
//! subworkers. Their tasks wait for a worker without a limit.

use super::{WorkerRegistry, catalog::catalog_names};
use crate::task::ModuleInfo;

impl<R> WorkerRegistry<R> {
    /// Replaces these names by those of a worker with this number of slots, if it has none.
    pub(super) fn declare_names(&mut self, modules: &[ModuleInfo], slots: u32) {
        if slots == 0 {
            let open = catalog_names(modules).into_iter().filter(|(_, entry)| !entry.leaving);
            self.declared_names = open.map(|(name, entry)| (name, entry.policy)).collect();
        }
    }

    /// Whether this is such a name.
    pub fn is_declared(&self, name: &str) -> bool {
        self.declared_names.contains_key(name)
    }
}
