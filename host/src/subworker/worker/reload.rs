//! Hot reload: changed module files take effect while the slots work.
//!
//! A new version is loaded in the background. Then the change is proposed to the control plane, which declines it while
//! there are tasks that could no longer run. Only then the catalog changes, for all slots at the same time; running
//! attempts finish on the version that they started with. Invariant: every task name that may be granted is found at
//! any time, so no change loses a task.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, field::display, warn};

use super::{LiveCatalog, LoadSummary, Loading, REPLY_TIMEOUT, ShutdownFlags, WorkerRegistration, spawn};
use crate::{
    clock::Timestamp,
    escape,
    runtime::{
        Catalog, Content, FileWatcher, Module, ModuleStore, Runtime, WatcherHandle, existing_files, module_name,
    },
    task::{LoadFailure, ModuleVersion},
};

mod startup;

mod taken;

mod follower;

mod changes;

mod loader;

mod publish;

use follower::Follower;
use loader::Loader;
use startup::Startup;
pub use taken::Transfer;
use taken::{TakenModules, is_taken};

/// Time for which a removed task name is still found: every lease granted before its removal starts within it.
const FALLBACK_MAX: Duration = Duration::from_secs(30);
/// Maximum length of an error message that is kept, in bytes.
const MESSAGE_MAX: usize = 2_000;

/// Sources of a worker's modules, and how changes take effect.
#[derive(Clone, Debug)]
pub struct Reload {
    /// Files, globs and directories.
    pub sources: Vec<String>,
    /// Time for which a module's file may be missing before the module is dropped.
    pub grace: Duration,
    /// Whether modules change although there are tasks that could no longer run.
    pub force: bool,
    /// Whether changes after the start take effect.
    pub watch: bool,
    /// Whether modules travel between this worker and its control plane.
    pub transfer: Transfer,
}

/// The thread that loads and reloads modules.
pub(super) struct Reloader {
    runtime: Runtime,
    registration: Arc<WorkerRegistration>,
    catalog: Arc<LiveCatalog>,
    shutdown: Arc<ShutdownFlags>,
    watch: FileWatcher,
    /// Whether changes after the start take effect.
    is_watching: bool,
    /// Whether to check the files once more, even if changes after the start have no effect.
    needs_recheck: bool,
    force: bool,
    /// Versions to be loaded.
    requested: BTreeMap<PathBuf, LoadRequest>,
    loader: Loader,
    /// The modules that it takes from the control plane.
    taken: Option<TakenModules>,
    /// Keeps the bytes of its modules for subworkers.
    kept_in: Option<Arc<ModuleStore>>,
    /// Versions that are loaded and not live yet.
    staged: BTreeMap<PathBuf, StagedModule>,
    /// When the catalog changed last, while the previous one is still its fallback.
    changed: Option<Instant>,
    startup: Startup,
    /// Number of the last proposal to the control plane.
    last_proposal: u64,
}

/// A version to be loaded.
struct LoadRequest {
    content: Content,
    /// Small files are loaded first.
    size: u64,
    since: Instant,
    /// When to try again after a failure that may pass, and the number of failures.
    retry: Option<(Instant, u32)>,
}

impl LoadRequest {
    fn is_due(&self) -> bool {
        self.retry.is_none_or(|(at, _)| at <= Instant::now())
    }
}

/// A version that is loaded and not live yet.
struct StagedModule {
    module: Module,
    /// The last reason why it was rejected, which is logged once.
    rejection: Option<String>,
    /// The duration of loading.
    took: Duration,
}

impl Reloader {
    pub(super) fn new(
        runtime: Runtime,
        registration: Arc<WorkerRegistration>,
        catalog: Arc<LiveCatalog>,
        shutdown: Arc<ShutdownFlags>,
        reload: Reload,
    ) -> (Self, WatcherHandle, Loading, Option<Follower>) {
        let Reload { sources, grace, force, watch: is_watching, transfer } = reload;
        let order = existing_files(&sources).into_iter().enumerate().map(|(index, path)| (path, index)).collect();
        let loading = Loading::start();
        let startup = Startup {
            at: Instant::now(),
            loading: loading.clone(),
            order,
            pending: BTreeSet::new(),
            missing_sources: sources.clone(),
            is_first_step: true,
        };
        let (watch, end) = FileWatcher::new(sources, &catalog.get(), grace, runtime.config().module_max);
        let mut follower = None;
        let (mut taken, mut kept_in) = (None, None);
        match transfer {
            Transfer::None => {}
            Transfer::Offer(store) => kept_in = Some(store),
            Transfer::Take(store, filter) => {
                let context = (Arc::clone(&registration), Arc::clone(&shutdown));
                let limits = (grace, runtime.config().module_max);
                let (modules, new) = Follower::new(store, filter, context, limits, end.clone());
                (taken, follower) = (Some(modules), Some(new));
            }
        }
        let this = Self {
            runtime,
            registration,
            catalog,
            shutdown,
            watch,
            is_watching,
            needs_recheck: false,
            force,
            requested: BTreeMap::new(),
            loader: Loader::new(end.clone()),
            taken,
            kept_in,
            staged: BTreeMap::new(),
            changed: None,
            startup,
            last_proposal: 0,
        };
        (this, end, loading, follower)
    }

    /// Loads and reloads until the worker drains.
    pub(super) fn run(mut self) {
        while self.watch.wait() && !self.shutdown.is_draining() {
            self.step();
            if !self.is_watching && self.is_done() {
                break;
            }
        }
        self.loader.abort(None);
        self.startup.loading.abort();
    }

    fn is_done(&self) -> bool {
        let is_acknowledged = self.catalog.is_acknowledged(self.catalog.get().revision());
        self.requested.is_empty() && !self.needs_recheck && self.are_sources_known() && is_acknowledged
    }

    /// Checks all files once, and applies what has changed.
    fn step(&mut self) {
        if self.changed.is_some_and(|at| at.elapsed() >= FALLBACK_MAX) {
            self.changed = None;
            self.catalog.set(self.catalog.get().without_fallback());
        }
        let mut next = self.catalog.get().without_fallback();
        let mut has_changes = self.check_sources(&mut next);
        has_changes |= self.apply_taken(&mut next);
        if self.is_watching || self.startup.is_first_step || self.needs_recheck {
            self.needs_recheck = false;
            let mut changes = Vec::new();
            self.watch.scan(|change| changes.push(change));
            for change in changes {
                has_changes |= self.apply_change(&mut next, change);
            }
        }
        if std::mem::take(&mut self.startup.is_first_step) {
            self.startup.pending.extend(self.requested.keys().cloned());
        }
        while let Some((path, content, loaded)) = self.loader.next_loaded() {
            // Unless the file has changed again since.
            if self.requested.get(&path).is_some_and(|request| request.content == content) {
                has_changes |= self.apply_loaded(&mut next, &path, loaded);
            }
        }
        self.load_next();
        self.publish_staged(next, has_changes);
        self.finish_startup();
    }

    fn worker(&self) -> &str {
        &self.registration.identity().worker_id
    }

    /// Logs that a version is not loaded: at level debug if a control plane in this process logs it as well.
    fn log_load_error(&self, catalog: &Catalog, path: &Path, version: Option<ModuleVersion>, error: &str) {
        let text = match catalog.loaded_from(path) {
            Some(_) => "module not reloaded; the live version stays",
            None => "module not loaded",
        };
        let (worker, module, version) = (self.worker(), module_name(path), version.map(display));
        if self.registration.link().is_local() {
            debug!(worker, module, path = %escape::path(path), version, error, "{text}");
        } else {
            warn!(worker, module, path = %escape::path(path), version, error, "{text}");
        }
    }
}

/// The error of a version that is not loaded.
fn failure(why: &str) -> LoadFailure {
    LoadFailure { at: Timestamp::now(), message: why[..why.floor_char_boundary(MESSAGE_MAX)].to_owned(), code: None }
}
