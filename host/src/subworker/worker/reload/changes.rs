//! Applies changes of module files, and modules that were loaded, to the next catalog.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{LoadRequest, Reloader, StagedModule, failure, is_taken};
use crate::{
    escape,
    runtime::{Catalog, Change, Content, LoadError, Module, ModuleError, module_name},
    task::ModuleStatus,
};

/// First and maximum delay before a load is repeated that failed for a temporary reason. It doubles with each failure.
const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_mins(5);

/// Each method returns whether the next catalog has changed.
impl Reloader {
    /// Applies the result of a load.
    pub(super) fn apply_loaded(
        &mut self,
        next: &mut Catalog,
        path: &Path,
        loaded: Result<Option<Module>, LoadError>,
    ) -> bool {
        let Some(request) = self.requested.remove(path) else { return false };
        match loaded {
            Ok(Some(module)) => {
                let staged = StagedModule { rejection: None, module, took: request.since.elapsed() };
                self.staged.insert(path.to_owned(), staged);
                false
            }
            Ok(None) => {
                // The file has changed since.
                match &self.taken {
                    Some(taken) if is_taken(path) => taken.report_again(path),
                    _ => self.watch.report_again(path),
                }
                self.needs_recheck = true;
                false
            }
            Err(LoadError { why, .. }) => {
                if why.is_temporary() {
                    let failures = request.retry.map_or(0, |(_, failures)| failures) + 1;
                    let delay = RETRY_MIN.saturating_mul(1 << failures.min(10).saturating_sub(1)).min(RETRY_MAX);
                    let retry = Some((Instant::now() + delay, failures));
                    self.requested.insert(path.to_owned(), LoadRequest { retry, ..request });
                }
                self.reject(next, path, &why)
            }
        }
    }

    /// Records that a file cannot be loaded.
    fn reject(&mut self, next: &mut Catalog, path: &Path, why: &ModuleError) -> bool {
        self.staged.remove(path);
        let error = why.to_string();
        self.log_load_error(next, path, None, &error);
        next.set_error(path, failure(&error));
        true
    }

    /// Applies a change of a file.
    pub(super) fn apply_change(&mut self, next: &mut Catalog, change: Change) -> bool {
        match change {
            Change::New(path, Ok(content)) => return self.apply_content(next, &path, content),
            Change::New(path, Err(why)) => {
                self.cancel_load(&path);
                mark_restored(next, &path);
                return self.reject(next, &path, &why);
            }
            Change::Restored(path) => {
                if let Some(module) = next.loaded_from(&path) {
                    let (worker, module, version) = (self.worker(), module_name(&path), module.version());
                    info!(worker, module, path = %escape::path(&path), %version, "module restored");
                    next.set_status(&path, ModuleStatus::Loaded);
                }
            }
            Change::Missing(path) => match next.loaded_from(&path) {
                Some(module) => {
                    let (worker, module, version) = (self.worker(), module_name(&path), module.version());
                    let path_text = escape::path(&path);
                    warn!(worker, module, path = %path_text, %version, "module missing: the loaded version stays live");
                    next.set_status(&path, ModuleStatus::Missing);
                }
                None => self.remove_file(next, &path),
            },
            Change::Dropped(path) => match next.loaded_from(&path) {
                Some(_) => next.set_status(&path, ModuleStatus::Leaving),
                None => self.remove_file(next, &path),
            },
        }
        true
    }

    /// Applies new content of a file: requests to load it, unless it is live or staged.
    fn apply_content(&mut self, next: &mut Catalog, path: &Path, content: Content) -> bool {
        self.cancel_load(path);
        if let Some(module) = next.loaded_from(path).filter(|module| *module.content() == content) {
            let (worker, module, version) = (self.worker(), module_name(path), module.version());
            info!(worker, module, path = %escape::path(path), %version, "module unchanged");
            self.staged.remove(path);
            next.clear_state(path);
            return true;
        }
        if self.staged.get(path).is_none_or(|staged| *staged.module.content() != content) {
            self.staged.remove(path);
            let size = fs::metadata(path).map_or(0, |meta| meta.len());
            let request = LoadRequest { content, size, since: Instant::now(), retry: None };
            self.requested.insert(path.to_owned(), request);
            if next.loaded_from(path).is_none() {
                next.set_loading(path);
                return true;
            }
        }
        mark_restored(next, path)
    }

    fn cancel_load(&mut self, path: &Path) {
        self.requested.remove(path);
        self.loader.abort(Some(path));
    }

    /// Removes a file that does not exist and of which no version is live.
    pub(super) fn remove_file(&mut self, next: &mut Catalog, path: &Path) {
        next.clear_state(path);
        self.staged.remove(path);
        self.cancel_load(path);
        self.watch.remove(path);
    }
}

/// Records that the file of a live module exists again. Returns whether it was missing.
fn mark_restored(next: &mut Catalog, path: &Path) -> bool {
    let was_missing = next.loaded_from(path).is_some() && next.status(path) != ModuleStatus::Loaded;
    if was_missing {
        next.set_status(path, ModuleStatus::Loaded);
    }
    was_missing
}
