//! The modules that are there when a worker starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Instant,
};

use tracing::{info, warn};

use super::{Loading, LoadingEnd, Reloader, failure};
use crate::{
    clock,
    runtime::{Catalog, SourceError, missing_source},
};

/// Progress of loading the modules that were there at the start.
pub(super) struct Startup {
    pub(super) at: Instant,
    pub(super) loading: Loading,
    /// Index of each file. Of two modules with a task of the same name, the one with the lower index has it,
    /// whichever is loaded first.
    pub(super) order: BTreeMap<PathBuf, usize>,
    /// Files that are neither loaded nor refused.
    pub(super) left: BTreeSet<PathBuf>,
    /// Sources that led to no file.
    pub(super) missing_sources: Vec<String>,
    /// Whether the files were not checked yet.
    pub(super) is_first_turn: bool,
}

impl Startup {
    /// The position of a file; files that came later are last.
    pub(super) fn position(&self, path: &Path) -> usize {
        self.order.get(path).copied().unwrap_or(usize::MAX)
    }

    /// Whether the module at `path` has the tasks that both have, although the other was loaded first.
    pub(super) fn takes_precedence(&self, path: &Path, other: &Path) -> bool {
        let both = self.order.get(path).zip(self.order.get(other));
        self.loading.is_in_progress() && both.is_some_and(|(path, other)| path < other)
    }
}

impl Reloader {
    /// Notes in the catalog which sources lead to no file, and clears the note of those that do now. Returns
    /// whether the catalog has changed.
    pub(super) fn check_sources(&mut self, next: &mut Catalog) -> bool {
        let is_first = self.startup.is_first_turn;
        let worker = &self.registration.identity().worker_id;
        let mut has_notes = false;
        self.startup.missing_sources.retain(|source| {
            let path = Path::new(source);
            match missing_source(source) {
                Some(why @ (SourceError::Missing(_) | SourceError::Unreadable { .. })) => {
                    if is_first {
                        warn!(worker, %why, "its modules are loaded once it is there");
                        next.set_error(path, failure(&format!("{why}; its modules are loaded once it is there")));
                        has_notes = true;
                    }
                    return true;
                }
                Some(why) if is_first => warn!(worker, %why, "modules are loaded once they are there"),
                _ => {}
            }
            if !is_first {
                next.clear_state(path);
                has_notes = true;
            }
            false
        });
        has_notes
    }

    /// Logs and signals, once, that all modules of the start are loaded or refused.
    pub(super) fn finish_startup(&mut self) {
        if !self.startup.loading.is_in_progress() {
            return;
        }
        let is_left = |path: &PathBuf| self.requested.get(path).is_some_and(|request| request.retry.is_none());
        self.startup.left.retain(is_left);
        if !self.startup.left.is_empty() {
            return;
        }
        let infos = self.catalog.get().describe();
        let modules = infos.iter().filter(|info| !info.hash.is_empty()).count();
        let broken = infos.iter().filter(|info| info.last_error.is_some()).count();
        let tasks = infos.iter().map(|info| info.tasks.len()).sum();
        let took_s = clock::seconds(self.startup.at.elapsed());
        info!(worker = self.worker(), modules, broken, tasks, took_s, "all modules are loaded or refused");
        self.startup.loading.finish(LoadingEnd { modules, broken, tasks });
    }
}
