//! The modules that exist when a worker starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Instant,
};

use tracing::{info, warn};

use super::{LoadSummary, Loading, Reloader, failure};
use crate::{
    clock,
    runtime::{Catalog, SourceError, missing_source},
};

/// Progress of loading the modules that existed at the start.
pub(super) struct Startup {
    pub(super) at: Instant,
    pub(super) loading: Loading,
    /// Index of each file. Of two modules with a task of the same name, the one with the lower index has it, regardless
    /// of which is loaded first.
    pub(super) order: BTreeMap<PathBuf, usize>,
    /// Files that are neither loaded nor refused.
    pub(super) pending: BTreeSet<PathBuf>,
    /// Sources without a file.
    pub(super) missing_sources: Vec<String>,
    /// Whether the files were not checked yet.
    pub(super) is_first_step: bool,
}

impl Startup {
    /// The position of a file; files that were added later are last.
    pub(super) fn position(&self, path: &Path) -> usize {
        self.order.get(path).copied().unwrap_or(usize::MAX)
    }

    /// Whether the module at `path` takes over the tasks that both have, although the other was loaded first.
    pub(super) fn takes_precedence(&self, path: &Path, other: &Path) -> bool {
        let both = self.order.get(path).zip(self.order.get(other));
        self.loading.is_in_progress() && both.is_some_and(|(path, other)| path < other)
    }
}

impl Reloader {
    /// Records in the catalog which sources have no file, and clears the record of those that have one now. Returns
    /// whether the catalog has changed.
    pub(super) fn check_sources(&mut self, next: &mut Catalog) -> bool {
        let is_first = self.startup.is_first_step;
        let worker = &self.registration.identity().worker_id;
        let mut has_changes = false;
        self.startup.missing_sources.retain(|source| {
            let path = Path::new(source);
            match missing_source(source) {
                Some(why @ (SourceError::Missing(_) | SourceError::Unreadable { .. })) => {
                    if is_first {
                        warn!(worker, %why, "its modules are loaded once it exists");
                        next.set_error(path, failure(&format!("{why}; its modules are loaded once it exists")));
                        has_changes = true;
                    }
                    return true;
                }
                Some(why) if is_first => warn!(worker, %why, "modules are loaded once they exist"),
                _ => {}
            }
            if !is_first {
                next.clear_state(path);
                has_changes = true;
            }
            false
        });
        has_changes
    }

    /// Logs and signals, once, that all modules of the start are loaded or refused.
    pub(super) fn finish_startup(&mut self) {
        if !self.startup.loading.is_in_progress() || !self.are_sources_known() {
            return;
        }
        let is_pending = |path: &PathBuf| self.requested.get(path).is_some_and(|request| request.retry.is_none());
        self.startup.pending.retain(is_pending);
        if !self.startup.pending.is_empty() {
            return;
        }
        let infos = self.catalog.get().describe();
        let modules = infos.iter().filter(|info| !info.hash.is_empty()).count();
        let broken = infos.iter().filter(|info| info.last_error.is_some()).count();
        let tasks = infos.iter().map(|info| info.tasks.len()).sum();
        let took_s = clock::seconds(self.startup.at.elapsed());
        info!(worker = self.worker(), modules, broken, tasks, took_s, "all modules are loaded or refused");
        self.startup.loading.finish(LoadSummary { modules, broken, tasks });
        self.registration.link().modules_loaded();
    }
}
