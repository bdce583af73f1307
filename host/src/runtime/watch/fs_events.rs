//! File system events: they only trigger a scan.
//!
//! Some file systems send none, and the system drops some when there are many. Only one kind is used further: that a
//! file was renamed into place. Events that arrive while no thread waits for them are merged into one, with a bounded
//! list of such files.

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

/// Maximum watched directories; changes in others are found by the next regular scan.
const DIRS_MAX: usize = 1_000;
/// Maximum recorded files that were renamed into place between two scans.
const MOVED_MAX: usize = FRAME_ITEMS_MAX;
/// Maximum links to follow from a file to its target.
const LINKS_MAX: usize = 16;

/// The reason why the watching thread woke up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Something changed; these files were renamed into place.
    Changed(BTreeSet<PathBuf>),
    /// The watcher is stopped.
    Stop,
    /// Nothing happened within the time limit.
    TimedOut,
}

/// Wakes the watching thread.
#[derive(Debug, Default)]
pub(super) struct WatcherWaker {
    pending: Mutex<Pending>,
    condvar: Condvar,
}

/// The events since the watching thread last woke up.
#[derive(Debug, Default)]
struct Pending {
    has_changes: bool,
    moved: BTreeSet<PathBuf>,
    is_stopped: bool,
}

impl WatcherWaker {
    /// Signals that something changed. `moved` are files that were renamed into place.
    pub(super) fn notify_changed(&self, moved: impl IntoIterator<Item = PathBuf>) {
        let mut pending = lock(&self.pending);
        pending.has_changes = true;
        // A file beyond the limit is handled as if it was not renamed.
        for path in moved {
            if pending.moved.len() < MOVED_MAX {
                pending.moved.insert(path);
            }
        }
        self.condvar.notify_one();
    }

    /// Stops the watcher.
    pub(super) fn stop(&self) {
        lock(&self.pending).is_stopped = true;
        self.condvar.notify_one();
    }

    /// Waits for a signal, at most `limit`.
    pub(super) fn wait(&self, limit: Duration) -> Wake {
        let until = Instant::now() + limit;
        let mut pending = lock(&self.pending);
        loop {
            if pending.is_stopped {
                return Wake::Stop;
            }
            if mem::take(&mut pending.has_changes) {
                return Wake::Changed(mem::take(&mut pending.moved));
            }
            let remaining = until.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Wake::TimedOut;
            }
            pending = lock::wait_timeout(&self.condvar, pending, remaining).0;
        }
    }
}

/// Subscribes to the system's events for some directories.
#[derive(Debug)]
pub(super) struct FsEvents {
    /// None if the system does not support it.
    watcher: Option<RecommendedWatcher>,
    /// Device and inode of each watched directory, to detect when its path leads to another one.
    watched: BTreeMap<PathBuf, (u64, u64)>,
}

impl FsEvents {
    /// Lets events wake `waker`.
    pub(super) fn new(waker: Arc<WatcherWaker>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error, such as an overflow, may hide any change.
            let moved = match event {
                Ok(event) if is_irrelevant(event.kind) => return,
                Ok(event) if is_move_to_place(event.kind) => event.paths,
                Ok(_) | Err(_) => Vec::new(),
            };
            waker.notify_changed(moved);
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "file system events are not available: changed modules are detected after up to two seconds");
        });
        Self { watcher: watcher.ok(), watched: BTreeMap::new() }
    }

    /// Watches exactly these directories.
    pub(super) fn watch(&mut self, dirs: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let identity = |dir: &PathBuf| {
            let meta = fs::metadata(dir).ok().filter(fs::Metadata::is_dir)?;
            Some((dir.clone(), (meta.dev(), meta.ino())))
        };
        let wanted: BTreeMap<PathBuf, (u64, u64)> = dirs.iter().filter_map(identity).take(DIRS_MAX).collect();
        self.watched.retain(|dir, identity| {
            let is_kept = wanted.get(dir) == Some(identity);
            if !is_kept {
                // Fails for a removed directory, which is no longer watched anyway.
                let _ = watcher.unwatch(dir);
            }
            is_kept
        });
        for (dir, identity) in wanted {
            if self.watched.contains_key(&dir) {
                continue;
            }
            match watcher.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(dir, identity)),
                Err(error) => tracing::debug!(dir = %dir.display(), %error, "cannot watch a directory"),
            }
        }
    }
}

/// Reading a file creates events as well, also by this process.
fn is_irrelevant(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn is_move_to_place(kind: EventKind) -> bool {
    matches!(kind, EventKind::Modify(ModifyKind::Name(RenameMode::To)))
}

/// The directories in which a change can affect the target of `path`: its own, and those of each link on the path to
/// the target.
pub(super) fn dirs_of(path: &Path) -> Vec<PathBuf> {
    let Ok(mut path) = std::path::absolute(path) else { return Vec::new() };
    let mut dirs = Vec::new();
    for _ in 0..LINKS_MAX {
        let Some(dir) = path.parent() else { break };
        dirs.push(dir.to_owned());
        // The directory itself may be a link: it is watched at its target.
        let Ok(target) = fs::read_link(&path) else { break };
        path = dir.join(target);
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_merged_and_no_rename_is_lost_within_the_limit() {
        let waker = WatcherWaker::default();
        waker.notify_changed([]);
        waker.notify_changed([PathBuf::from("a")]);
        waker.notify_changed([PathBuf::from("b"), PathBuf::from("a")]);
        let moved = BTreeSet::from([PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(waker.wait(Duration::ZERO), Wake::Changed(moved));
        assert_eq!(waker.wait(Duration::ZERO), Wake::TimedOut);
        waker.notify_changed((0..2 * MOVED_MAX).map(|number| PathBuf::from(number.to_string())));
        assert!(matches!(waker.wait(Duration::ZERO), Wake::Changed(moved) if moved.len() == MOVED_MAX));
        waker.notify_changed([]);
        waker.stop();
        assert_eq!(waker.wait(Duration::from_mins(1)), Wake::Stop);
    }

    #[test]
    fn an_event_ends_the_wait_of_another_thread() {
        let waker = Arc::new(WatcherWaker::default());
        let waiting = std::thread::spawn({
            let waker = Arc::clone(&waker);
            move || waker.wait(Duration::from_mins(1))
        });
        waker.notify_changed([]);
        assert_eq!(waiting.join().expect("no panic"), Wake::Changed(BTreeSet::new()));
    }
}
