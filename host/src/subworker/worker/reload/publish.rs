//! Makes the next catalog live, once the control plane has accepted it.

use std::{
    path::{Path, PathBuf},
    slice,
    time::{Duration, Instant},
};

use tracing::{error, field::display, info, warn};

use super::{REPLY_TIMEOUT, Reloader, StagedModule, failure};
use crate::{
    clock, escape,
    protocol::{CatalogChange, Refusal, RefusalCode, WorkerReply, WorkerRequest},
    runtime::{Catalog, LoadError, Module, ModuleError, module_name},
    task::{LoadFailure, ModuleStatus, NotCallable},
};

/// Maximum number of times that a change is proposed to the control plane before it is published without a reply.
const PROPOSALS_MAX: usize = 2;

/// The control plane's reply to a new catalog.
enum ProposalResult {
    Accepted,
    Declined(Refusal),
    /// The control plane does not reply.
    NoReply,
}

impl Reloader {
    /// Publishes the next catalog with as many staged modules as possible.
    pub(super) fn publish_staged(&mut self, mut next: Catalog, mut has_changes: bool) {
        // All together first: a task may have moved from one module to another.
        let paths = self.publishable(&next);
        let are_published = paths.len() > 1 && self.try_publish(&mut next, &paths, &mut has_changes).is_ok();
        if !are_published {
            // One that is published may displace another, whose tasks a third one then has to itself.
            for _ in 0..=paths.len() {
                let paths = self.publishable(&next);
                let mut is_any_published = false;
                for path in &paths {
                    match self.try_publish(&mut next, slice::from_ref(path), &mut has_changes) {
                        Ok(()) => is_any_published = true,
                        Err(failure) => has_changes |= self.record_rejection(&mut next, path, failure),
                    }
                }
                if !is_any_published {
                    break;
                }
            }
        }
        self.drop_leaving(&mut next, &mut has_changes);
        let live = self.catalog.get();
        if has_changes {
            // No task changes, so it is not declined.
            let _ = self.publish(&next, true);
        } else if !self.catalog.is_acknowledged(live.revision()) {
            self.report_live(&live);
        }
    }

    /// The staged modules that may go live, in the order of their sources. One whose file is missing again waits until it
    /// is restored.
    fn publishable(&self, next: &Catalog) -> Vec<PathBuf> {
        let exists = |path: &&PathBuf| matches!(next.status(path), ModuleStatus::Loaded | ModuleStatus::Loading);
        let mut paths: Vec<PathBuf> = self.staged.keys().filter(exists).cloned().collect();
        paths.sort_by_key(|path| self.startup.position(path));
        paths
    }

    /// Publishes the catalog without the modules whose files are permanently removed.
    fn drop_leaving(&mut self, next: &mut Catalog, has_changes: &mut bool) {
        let modules = next.modules().iter().map(|module| module.path().to_owned());
        let leaving: Vec<PathBuf> = modules.filter(|path| next.status(path) == ModuleStatus::Leaving).collect();
        for path in leaving {
            let mut without = next.clone();
            let module = without.remove(&path);
            if self.publish(&without, false).is_ok() {
                let version = module.map(|module| display(module.version()));
                let (worker, module) = (self.worker(), module_name(&path));
                info!(worker, module, path = %escape::path(&path), version, "module dropped: its file was removed");
                (*next, *has_changes) = (without, false);
                self.remove_file(next, &path);
            }
        }
    }

    /// Tries to publish the next catalog with these staged modules.
    ///
    /// # Errors
    /// The reason; the next catalog is unchanged then.
    fn try_publish(
        &mut self,
        next: &mut Catalog,
        paths: &[PathBuf],
        has_changes: &mut bool,
    ) -> Result<(), LoadFailure> {
        let mut trial = next.clone();
        let displaced = self.put_staged(&mut trial, paths).map_err(|error| failure(&error.why.to_string()))?;
        self.publish(&trial, self.force).map_err(|refusal| declined(&refusal))?;
        self.stage_displaced(next, displaced);
        self.log_published(next, &trial, paths);
        (*next, *has_changes) = (trial, false);
        Ok(())
    }

    /// Logs and records, once for each reason, that a staged module was rejected. Returns whether the next catalog has changed.
    fn record_rejection(&mut self, next: &mut Catalog, path: &Path, failure: LoadFailure) -> bool {
        let is_new = |staged: &&mut StagedModule| staged.rejection.as_ref() != Some(&failure.message);
        let Some(staged) = self.staged.get_mut(path).filter(is_new) else { return false };
        staged.rejection = Some(failure.message.clone());
        let version = staged.module.version();
        self.log_load_error(next, path, Some(version), &failure.message);
        next.set_error(path, failure);
        true
    }

    /// Puts staged modules into a catalog. Returns the modules that they displaced because they take precedence.
    fn put_staged(&self, trial: &mut Catalog, paths: &[PathBuf]) -> Result<Vec<StagedModule>, LoadError> {
        let staged = paths.iter().filter_map(|path| self.staged.get(path));
        let modules: Vec<Module> = staged.map(|staged| staged.module.clone()).collect();
        let mut displaced = Vec::new();
        for module in &modules {
            for task in module.info().tasks.iter().filter(|task| task.full_name.is_none()) {
                let other =
                    trial.find_reserved(&task.name).filter(|other| !paths.iter().any(|path| path == other.path()));
                let Some(other) = other else { continue };
                // One of two functions of plain components is not callable then; their modules stay.
                let is_exclusive = !module.is_plain() && !other.is_plain();
                let other = other.path().to_owned();
                if self.can_be_replaced(&other) {
                    // The file was renamed: it replaces itself.
                    trial.remove(&other);
                } else if is_exclusive && self.takes_precedence(module.path(), &other) {
                    let why = ModuleError::TaskTaken { task: task.name.clone(), other: module.path().to_owned() };
                    let why = why.to_string();
                    displaced.extend(trial.remove(&other).map(|module| StagedModule {
                        module,
                        rejection: Some(why.clone()),
                        took: Duration::ZERO,
                    }));
                    trial.set_error(&other, failure(&why));
                }
            }
        }
        trial.put_all(modules)?;
        // The order does not depend on which was loaded first.
        trial.sort_by_key(|path| (self.startup.position(path), path.to_owned()));
        Ok(displaced)
    }

    /// Stages the displaced modules again, in case those that displaced them are removed.
    fn stage_displaced(&mut self, old: &Catalog, displaced: Vec<StagedModule>) {
        for staged in displaced {
            let path = staged.module.path().to_owned();
            let why = "another module that takes precedence has its tasks";
            self.log_load_error(old, &path, Some(staged.module.version()), why);
            self.staged.insert(path, staged);
        }
    }

    /// Logs staged modules that are live now, and unstages them.
    fn log_published(&mut self, old: &Catalog, new: &Catalog, paths: &[PathBuf]) {
        for path in paths {
            let Some(StagedModule { module, took, .. }) = self.staged.remove(path) else { continue };
            let before = old.loaded_from(path).map(|before| display(before.version()));
            let (worker, name, version) = (self.worker(), &module.info().name, module.version());
            let (tasks, took_s) = (module.info().tasks.len(), clock::seconds(took));
            let text = if before.is_some() { "module reloaded" } else { "module loaded" };
            info!(worker, module = name, path = %escape::path(path), %version, before, tasks, took_s, "{text}");
            for NotCallable { name: function, reason } in new.taken_from(path) {
                warn!(worker, module = name, function, reason, "a function is not callable");
            }
        }
    }

    /// Proposes a catalog to the control plane, and makes it live unless it is declined.
    ///
    /// # Errors
    /// The control plane's refusal; the old catalog is live then.
    fn publish(&mut self, new: &Catalog, force: bool) -> Result<(), Refusal> {
        let old = self.catalog.get();
        let new = new.without_fallback().with_revision(old.revision() + 1);
        // Once the control plane has accepted it, tasks of new names may be granted before its reply arrives.
        self.catalog.set(old.with_fallback(&new));
        let result = self.propose(&new, force);
        if let ProposalResult::Declined(refusal) = result {
            self.catalog.set(old);
            return Err(refusal);
        }
        // Tasks that were granted before may also arrive after it.
        self.catalog.set(new.with_fallback(&old));
        self.changed = Some(Instant::now());
        if matches!(result, ProposalResult::Accepted) {
            self.catalog.acknowledge(new.revision());
        }
        Ok(())
    }

    /// Reports a catalog that became live while there was no control plane.
    fn report_live(&mut self, live: &Catalog) {
        if matches!(self.propose(live, true), ProposalResult::Accepted) {
            self.catalog.acknowledge(live.revision());
        }
    }

    fn propose(&mut self, catalog: &Catalog, force: bool) -> ProposalResult {
        self.last_proposal += 1;
        let (sequence, modules) = (self.last_proposal, catalog.describe());
        for _ in 0..PROPOSALS_MAX {
            let Some(worker) = self.registration.current_key() else { break };
            let change = CatalogChange { worker, sequence, modules: modules.clone(), force };
            match self.registration.link().request(&WorkerRequest::Catalog(change), REPLY_TIMEOUT) {
                Ok(WorkerReply::Noted) => return ProposalResult::Accepted,
                Ok(WorkerReply::Declined(refusal)) => return ProposalResult::Declined(refusal),
                // Registering again reports the live catalog.
                Ok(WorkerReply::Unknown) => break,
                Ok(other) => {
                    error!(?other, "unexpected reply to a change of modules");
                    break;
                }
                Err(error) => warn!(%error, "cannot notify the control plane of a change of modules"),
            }
        }
        ProposalResult::NoReply
    }
}

/// The error of a version that the control plane declined, with the condition under which it goes live.
fn declined(refusal: &Refusal) -> LoadFailure {
    let why = match refusal.code {
        RefusalCode::CatalogConflict => format!("{refusal}; it goes live when they have ended"),
        _ => refusal.to_string(),
    };
    LoadFailure { code: Some(refusal.code), ..failure(&why) }
}
