//! The catalog that a worker runs now, and whether the control plane has acknowledged it.

use std::sync::{
    RwLock,
    atomic::{AtomicU64, Ordering},
};

use tracing::info;

use crate::{
    escape, lock,
    runtime::{Catalog, Module},
};

/// A catalog that is replaced as a whole. Its lock is held only for a lookup or a copy.
#[derive(Debug)]
pub(super) struct LiveCatalog {
    current: RwLock<Catalog>,
    /// Revision of the catalog that the control plane knows.
    acked_revision: AtomicU64,
}

impl LiveCatalog {
    pub(super) fn new(catalog: Catalog) -> Self {
        Self { current: RwLock::new(catalog), acked_revision: AtomicU64::new(0) }
    }

    /// Returns a copy, which is cheap.
    pub(super) fn get(&self) -> Catalog {
        lock::read(&self.current).clone()
    }

    pub(super) fn set(&self, catalog: Catalog) {
        *lock::write(&self.current) = catalog;
    }

    /// Finds the module that has a task of this name.
    pub(super) fn find(&self, name: &str) -> Option<Module> {
        lock::read(&self.current).find(name).cloned()
    }

    pub(super) fn task_count(&self) -> usize {
        lock::read(&self.current).modules().iter().map(|module| module.info().tasks.len()).sum()
    }

    /// Records that the control plane knows this revision.
    pub(super) fn acknowledge(&self, revision: u64) {
        self.acked_revision.store(revision, Ordering::SeqCst);
    }

    pub(super) fn is_acknowledged(&self, revision: u64) -> bool {
        self.acked_revision.load(Ordering::SeqCst) == revision
    }

    /// Logs every module that is loaded.
    pub(super) fn log_modules(&self, worker: &str) {
        for module in lock::read(&self.current).modules() {
            let (info, version, path) = (module.info(), module.version(), escape::line(&module.info().path));
            info!(worker, module = info.name, %path, %version, tasks = info.tasks.len(), "module loaded");
        }
    }
}
