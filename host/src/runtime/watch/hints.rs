//! Hints that something has changed, from the system where it gives any.
//!
//! A hint only says that it is time to look: some file systems give none, and the system drops
//! some when there are many. Only one thing is believed: that a file was moved to its place.
//! However many come while nobody listens, they are one hint, with a bounded list of such files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, mem,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};

use crate::{
    lock::{self, lock},
    protocol::FRAME_ITEMS_MAX,
};

/// Folders that are watched; changes in others show when they are looked at anyway.
const FOLDERS_MAX: usize = 1_000;
/// Files of which it is known between two looks that they were moved.
const MOVED_MAX: usize = FRAME_ITEMS_MAX;
/// Links that are followed from a file to where it really is.
const LINKS_MAX: usize = 16;

/// Why the watching thread wakes up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Something changed; these were moved to where they are.
    Hint(BTreeSet<PathBuf>),
    /// Nobody needs it any more.
    Stop,
    /// Nobody said anything for as long as it waited.
    Quiet,
}

/// Wakes the watching thread.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    rings: Condvar,
}

/// What was said since the watching thread listened last.
#[derive(Debug, Default)]
struct Rung {
    /// There is something to look at.
    hint: bool,
    moved: BTreeSet<PathBuf>,
    stop: bool,
}

impl Bell {
    /// Says that something changed, and which files were moved to where they are.
    pub(super) fn hint(&self, moved: impl IntoIterator<Item = PathBuf>) {
        let mut rung = lock(&self.rung);
        rung.hint = true;
        // What does not fit is looked at as if it was not moved.
        for path in moved {
            if rung.moved.len() < MOVED_MAX {
                rung.moved.insert(path);
            }
        }
        self.rings.notify_one();
    }

    /// Says that nobody needs the watch any more.
    pub(super) fn stop(&self) {
        lock(&self.rung).stop = true;
        self.rings.notify_one();
    }

    /// Waits for word, at most `limit`.
    pub(super) fn wait(&self, limit: Duration) -> Wake {
        let until = Instant::now() + limit;
        let mut rung = lock(&self.rung);
        loop {
            if rung.stop {
                return Wake::Stop;
            }
            if mem::take(&mut rung.hint) {
                return Wake::Hint(mem::take(&mut rung.moved));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Wake::Quiet;
            }
            rung = lock::wait_timeout(&self.rings, rung, left).0;
        }
    }
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
    /// Lets hints ring `bell`.
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error, such as an overflow, may hide anything.
            let moved = match event {
                Ok(event) if is_of_no_interest(event.kind) => return,
                Ok(event) if is_arrival(event.kind) => event.paths,
                Ok(_) | Err(_) => Vec::new(),
            };
            bell.hint(moved);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hints_are_one_and_no_move_is_lost_within_the_bound() {
        let bell = Bell::default();
        bell.hint([]);
        bell.hint([PathBuf::from("a")]);
        bell.hint([PathBuf::from("b"), PathBuf::from("a")]);
        let moved = BTreeSet::from([PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(bell.wait(Duration::ZERO), Wake::Hint(moved));
        assert_eq!(bell.wait(Duration::ZERO), Wake::Quiet);
        bell.hint((0..2 * MOVED_MAX).map(|number| PathBuf::from(number.to_string())));
        assert!(matches!(bell.wait(Duration::ZERO), Wake::Hint(moved) if moved.len() == MOVED_MAX));
        bell.hint([]);
        bell.stop();
        assert_eq!(bell.wait(Duration::from_mins(1)), Wake::Stop);
    }

    #[test]
    fn a_hint_ends_the_wait_of_another_thread() {
        let bell = Arc::new(Bell::default());
        let waits = std::thread::spawn({
            let bell = Arc::clone(&bell);
            move || bell.wait(Duration::from_mins(1))
        });
        bell.hint([]);
        assert_eq!(waits.join().expect("no panic"), Wake::Hint(BTreeSet::new()));
    }
}
