//! Loads several modules at a time, each on its own thread, so that none waits for another and file changes are still
//! detected.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
};

use tracing::error;

use super::{LoadRequest, Reloader, is_taken, spawn};
use crate::runtime::{Content, LOADS_MAX, LoadError, LoadPriority, Module, Origin, WatcherHandle};

/// The loads in progress.
pub(super) struct Loader {
    active: Vec<ActiveLoad>,
    sender: Sender<LoadedVersion>,
    receiver: Receiver<LoadedVersion>,
    end: WatcherHandle,
}

/// A module that is being loaded.
struct ActiveLoad {
    path: PathBuf,
    content: Content,
    is_aborted: Arc<AtomicBool>,
}

/// The result of a load; `None` if the file has changed since.
pub(super) type LoadedVersion = (PathBuf, Content, Result<Option<Module>, LoadError>);

impl Loader {
    /// Wakes the reloader through `end` whenever a load has finished.
    pub(super) fn new(end: WatcherHandle) -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { active: Vec::new(), sender, receiver, end }
    }

    fn is_loading(&self, path: &Path, content: Content) -> bool {
        self.active.iter().any(|load| load.path == path && load.content == content)
    }

    /// Returns the next available result.
    pub(super) fn next_loaded(&mut self) -> Option<LoadedVersion> {
        let loaded = self.receiver.try_recv().ok()?;
        let (path, content, _) = &loaded;
        self.active.retain(|load| load.path != *path || load.content != *content);
        Some(loaded)
    }

    /// Aborts the loads from a path, or all.
    pub(super) fn abort(&self, path: Option<&Path>) {
        let loads = self.active.iter().filter(|load| path.is_none_or(|path| load.path == path));
        loads.for_each(|load| load.is_aborted.store(true, Ordering::Relaxed));
    }
}

impl Reloader {
    /// Starts to load the requested versions, the smallest first.
    pub(super) fn load_next(&mut self) {
        while self.loader.active.len() < LOADS_MAX {
            let is_next = |(path, request): &(&PathBuf, &LoadRequest)| {
                request.is_due() && !self.loader.is_loading(path, request.content)
            };
            let next = self.requested.iter().filter(is_next).min_by_key(|(_, request)| request.size);
            let Some((path, content)) = next.map(|(path, request)| (path.clone(), request.content)) else { return };
            let is_aborted = Arc::new(AtomicBool::new(false));
            let load = ActiveLoad { path: path.clone(), content, is_aborted: Arc::clone(&is_aborted) };
            let runtime = self.runtime.clone();
            let taken_from = self.taken.as_ref().filter(|_| is_taken(&path)).map(|taken| Arc::clone(&taken.store));
            let kept_in = self.kept_in.clone();
            let (sender, end) = (self.loader.sender.clone(), self.loader.end.clone());
            let priority =
                if self.startup.loading.is_in_progress() { LoadPriority::Startup } else { LoadPriority::Background };
            let run = move || {
                let origin = match &taken_from {
                    Some(store) => Origin::Store(store),
                    None => Origin::File { kept_in: kept_in.as_deref() },
                };
                let loaded = runtime.load_in_background(&path, content, origin, priority, &is_aborted);
                let _ = sender.send((path, content, loaded));
                end.wake();
            };
            match spawn("fw-loader".into(), run) {
                Ok(_) => self.loader.active.push(load),
                Err(error) => {
                    error!(%error, "cannot start a thread to load a module, retrying");
                    return;
                }
            }
        }
    }
}
