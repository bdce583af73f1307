//! Modules that a worker takes from its control plane, as the reloader sees them: files without a place in the file
//! system.
//!
//! Invariant: the paths of such modules begin with [`TAKEN_PREFIX`], and no other paths do.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender},
    },
};

use super::Reloader;
use crate::{
    lock::lock,
    runtime::{Catalog, Change, ModuleStore},
    subworker::ModuleFilter,
    task::TAKEN_PREFIX,
};

/// Maximum length of a path in bytes.
const PATH_MAX: usize = 4_096;

/// Whether modules travel between a worker and its control plane.
#[derive(Clone, Debug, Default)]
pub enum Transfer {
    /// They do not.
    #[default]
    None,
    /// The control plane's own worker: keeps the bytes of its modules for subworkers.
    Offer(Arc<ModuleStore>),
    /// A subworker: takes these modules from the control plane.
    Take(Arc<ModuleStore>, ModuleFilter),
}

/// What the follower reports to the reloader.
pub(super) enum TakenChange {
    /// The modules that the control plane offers now.
    Offered(BTreeSet<PathBuf>),
    /// A version that is to be transferred.
    Announced(PathBuf),
    /// A version that was transferred or cannot be, or the removal of a module.
    Change(Change),
    /// All modules of the start were transferred or cannot be.
    Complete,
}

/// The reloader's side of the follower.
pub(super) struct TakenModules {
    pub(super) store: Arc<ModuleStore>,
    changes: Receiver<TakenChange>,
    offered: BTreeSet<PathBuf>,
    /// Whether all modules of the start were transferred or cannot be.
    pub(super) is_complete: bool,
    /// Modules to be transferred again, as their stored bytes are damaged.
    damaged: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// The follower's side.
pub(super) struct TakenSender {
    pub(super) changes: Sender<TakenChange>,
    pub(super) damaged: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl TakenModules {
    pub(super) fn new(store: Arc<ModuleStore>) -> (Self, TakenSender) {
        let (sender, changes) = std::sync::mpsc::channel();
        let damaged = Arc::default();
        let sender = TakenSender { changes: sender, damaged: Arc::clone(&damaged) };
        (Self { store, changes, offered: BTreeSet::new(), is_complete: false, damaged }, sender)
    }

    /// Transfers a module again.
    pub(super) fn report_again(&self, path: &Path) {
        lock(&self.damaged).insert(path.to_owned());
    }
}

/// The path under which a worker has a module of the control plane; none if the control plane's path is not one.
pub(super) fn taken_path(path: &str) -> Option<PathBuf> {
    let is_path = (1..=PATH_MAX).contains(&path.len()) && !path.contains('\0') && !path.ends_with('/');
    let taken = is_path.then(|| PathBuf::from(format!("{TAKEN_PREFIX}{path}")));
    taken.filter(|path| path.file_stem().is_some())
}

/// Whether a module was taken from the control plane.
pub(super) fn is_taken(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(TAKEN_PREFIX.as_bytes())
}

impl Reloader {
    /// Applies what the follower has reported. Returns whether the next catalog has changed.
    pub(super) fn apply_taken(&mut self, next: &mut Catalog) -> bool {
        let mut has_changes = false;
        while let Some(change) = self.taken.as_ref().and_then(|taken| taken.changes.try_recv().ok()) {
            match change {
                TakenChange::Offered(paths) => {
                    if let Some(taken) = &mut self.taken {
                        taken.offered = paths;
                    }
                }
                TakenChange::Announced(path) => {
                    if next.loaded_from(&path).is_none() && !self.staged.contains_key(&path) {
                        next.set_loading(&path);
                        has_changes = true;
                    }
                }
                TakenChange::Change(change) => has_changes |= self.apply_change(next, change),
                TakenChange::Complete => {
                    if let Some(taken) = &mut self.taken {
                        taken.is_complete = true;
                    }
                    // Their loading has begun.
                    self.startup.pending.extend(self.requested.keys().filter(|path| is_taken(path)).cloned());
                }
            }
        }
        has_changes
    }

    /// Whether all modules of the start are known.
    pub(super) fn are_sources_known(&self) -> bool {
        self.taken.as_ref().is_none_or(|taken| taken.is_complete)
    }

    /// Whether the module at `path` can take over the tasks of the one at `other`, whose file is absent.
    pub(super) fn can_be_replaced(&self, other: &Path) -> bool {
        match &self.taken {
            Some(taken) if is_taken(other) => !taken.offered.contains(other),
            _ => self.watch.can_be_replaced(other),
        }
    }

    /// Whether the module at `path` takes over the tasks that both have: a worker's own files come before the modules
    /// of the control plane.
    pub(super) fn takes_precedence(&self, path: &Path, other: &Path) -> bool {
        match (is_taken(path), is_taken(other)) {
            (false, true) => true,
            (true, false) => false,
            _ => self.startup.takes_precedence(path, other),
        }
    }
}
