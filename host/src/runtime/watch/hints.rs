//! Hints that something has changed, from the system where it gives any.
//!
//! A hint only says that it is time to look: some file systems give none, and the system drops
//! some when there are many. Only one thing is believed: that a file was moved to its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::mpsc::Sender,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};

/// Folders that are watched; changes in others show when they are looked at anyway.
const FOLDERS_MAX: usize = 1_000;
/// Links that are followed from a file to where it really is.
const LINKS_MAX: usize = 16;

/// Why the watching thread wakes up.
#[derive(Debug)]
pub(super) enum Wake {
    /// Something changed; these were moved to where they are.
    Hint(Vec<PathBuf>),
    /// Nobody needs it any more.
    Stop,
}

/// Asks the system to tell of changes in some folders.
#[derive(Debug)]
pub(super) struct Hints {
    /// None where the system does not do it.
    watcher: Option<RecommendedWatcher>,
    /// By their paths; device and inode tell whether it is still the same folder.
    watched: BTreeMap<PathBuf, (u64, u64)>,
}

impl Hints {
    /// Lets hints go to `wakes`.
    pub(super) fn new(wakes: Sender<Wake>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error, such as an overflow, may hide anything.
            let moved = match event {
                Ok(event) if is_of_no_interest(event.kind) => return,
                Ok(event) if is_arrival(event.kind) => event.paths,
                Ok(_) | Err(_) => Vec::new(),
            };
            let _ = wakes.send(Wake::Hint(moved));
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "changes of modules show after a moment only: the system cannot tell of them");
        });
        Self { watcher: watcher.ok(), watched: BTreeMap::new() }
    }

    /// Watches these folders and no others.
    pub(super) fn watch(&mut self, folders: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let identity = |folder: &PathBuf| {
            let meta = fs::metadata(folder).ok().filter(fs::Metadata::is_dir)?;
            Some((folder.clone(), (meta.dev(), meta.ino())))
        };
        let wanted: BTreeMap<PathBuf, (u64, u64)> = folders.iter().filter_map(identity).take(FOLDERS_MAX).collect();
        self.watched.retain(|folder, identity| {
            let stays = wanted.get(folder) == Some(identity);
            if !stays {
                // A folder that is gone is watched no more anyway.
                let _ = watcher.unwatch(folder);
            }
            stays
        });
        for (folder, identity) in wanted {
            if self.watched.contains_key(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(folder, identity)),
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "cannot watch a folder"),
            }
        }
    }
}

/// Reading a file makes events, too, also when it is us who reads.
fn is_of_no_interest(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn is_arrival(kind: EventKind) -> bool {
    matches!(kind, EventKind::Modify(ModifyKind::Name(RenameMode::To)))
}

/// The folders in which a change can change what `path` leads to: its own, and those of each link
/// on the way to where it really is.
pub(super) fn folders_of(path: &Path) -> Vec<PathBuf> {
    let Ok(mut path) = std::path::absolute(path) else { return Vec::new() };
    let mut folders = Vec::new();
    for _ in 0..LINKS_MAX {
        let Some(folder) = path.parent() else { break };
        folders.push(folder.to_owned());
        // Not resolved any further: a folder is watched where its path leads.
        let Ok(target) = fs::read_link(&path) else { break };
        path = folder.join(target);
    }
    folders
}
