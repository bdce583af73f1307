//! Watches the files that modules are loaded from.
//!
//! [`fs_events`] triggers a scan, this file scans and reads, and [`files`] decides on the actions. Regular scans find
//! changes without events: on bind mounts and network file systems, and when there were too many.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    files::{Action, FileStat, Files, FoundFile, ReadResult},
    fs_events::{FsEvents, Wake, WatcherWaker, dirs_of},
};
use super::{
    Catalog, ModuleError, load,
    sources::{self, SourceKind, is_not_found},
};
use crate::{clock::Now, protocol::FRAME_ITEMS_MAX};

mod files;

mod fs_events;

pub use self::files::Content;

/// Interval of scans without events.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Debounce: the delay between the last event and the scan.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// Maximum delay between the first event and the scan.
const DEBOUNCE_MAX: Duration = Duration::from_millis(100);
/// Maximum watched files: the maximum modules of a catalog.
const FILES_MAX: usize = FRAME_ITEMS_MAX;

/// A change of a file.
#[derive(Debug)]
pub enum Change {
    /// It has a new content, or cannot be read.
    New(PathBuf, Result<Content, ModuleError>),
    /// It was missing and exists again, with the same content.
    Restored(PathBuf),
    /// It is missing.
    Missing(PathBuf),
    /// It was missing from its directory for longer than the grace period.
    Dropped(PathBuf),
}

/// Watches the files of some sources.
#[derive(Debug)]
pub struct FileWatcher {
    sources: Vec<String>,
    files: Files,
    events: FsEvents,
    waker: Arc<WatcherWaker>,
    moved: BTreeSet<PathBuf>,
    module_max: u64,
    has_waited: bool,
    has_scanned: bool,
}

/// Controls a [`FileWatcher`] from other threads.
#[derive(Clone, Debug)]
pub struct WatcherHandle(Arc<WatcherWaker>);

impl WatcherHandle {
    /// Stops the watcher.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Triggers a scan now.
    pub fn wake(&self) {
        self.0.notify_changed([]);
    }
}

impl FileWatcher {
    /// Watches the files of `sources`, some of which are loaded in `catalog`. A file may be missing from its directory
    /// for `grace`.
    pub fn new(sources: Vec<String>, catalog: &Catalog, grace: Duration, module_max: u64) -> (Self, WatcherHandle) {
        let waker = Arc::new(WatcherWaker::default());
        let loaded = catalog.modules().iter().map(|module| (module.path().to_owned(), *module.content()));
        let files = Files::new(loaded, grace);
        let events = FsEvents::new(Arc::clone(&waker));
        let handle = WatcherHandle(Arc::clone(&waker));
        let moved = BTreeSet::new();
        (Self { sources, files, events, waker, moved, module_max, has_waited: false, has_scanned: false }, handle)
    }

    /// Waits until a scan is due; the first call does not wait. Returns false once the watcher is stopped.
    pub fn wait(&mut self) -> bool {
        if !std::mem::replace(&mut self.has_waited, true) {
            return true;
        }
        let now = Now::read().mono;
        let mut limit = self.files.next_scan().since(now).min(POLL_INTERVAL);
        let mut debounce_end = None;
        loop {
            match self.waker.wait(limit) {
                Wake::Changed(moved) => {
                    // A file beyond the limit is handled as if it was not renamed.
                    self.moved.extend(moved.into_iter().take(FILES_MAX.saturating_sub(self.moved.len())));
                    let end = *debounce_end.get_or_insert_with(|| Instant::now() + DEBOUNCE_MAX);
                    limit = end.saturating_duration_since(Instant::now()).min(DEBOUNCE);
                }
                Wake::Stop => return false,
                Wake::TimedOut => return true,
            }
        }
    }

    /// Scans all sources, and calls `report` with each change.
    pub fn scan(&mut self, mut report: impl FnMut(Change)) {
        // Done first, so that a change during the scan creates an event.
        self.events.watch(&self.dirs());
        let found = self.find_files();
        let mut moved = self.moved_files(&found);
        if !std::mem::replace(&mut self.has_scanned, true) {
            // Files that exist at the start are assumed to be complete.
            moved.extend(found.keys().cloned());
        }
        for action in self.files.scanned(Now::read().mono, &found, &moved) {
            match action {
                Action::Read(path) => {
                    if let Some(change) = self.read(path) {
                        report(change);
                    }
                }
                Action::Missing(path) => report(Change::Missing(path)),
                Action::Dropped(path) => report(Change::Dropped(path)),
            }
        }
    }

    /// Removes a file that is absent.
    pub fn remove(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// Reports the content of a file again, for a file that had changed when it was loaded.
    pub fn report_again(&mut self, path: &Path) {
        self.files.report_again(path);
    }

    /// Whether a file is absent and is not itself a source, so that another may take over its tasks.
    pub fn can_be_replaced(&self, path: &Path) -> bool {
        self.files.can_be_replaced(path)
    }

    fn read(&mut self, path: PathBuf) -> Option<Change> {
        let read = load::read(&path, self.module_max).map(|bytes| *blake3::hash(&bytes).as_bytes());
        let content = match &read {
            Ok(content) => *content,
            // The next scan reports that.
            Err(ModuleError::Missing) => return None,
            Err(why) => *blake3::hash(why.to_string().as_bytes()).as_bytes(),
        };
        match self.files.read(Now::read().mono, &path, content) {
            ReadResult::Changed => Some(Change::New(path, read)),
            ReadResult::Restored => Some(Change::Restored(path)),
            ReadResult::Unchanged | ReadResult::Unsettled => None,
        }
    }

    fn find_files(&self) -> BTreeMap<PathBuf, FoundFile> {
        let found = sources::find(&self.sources, FILES_MAX);
        let is_unreadable = |path: &Path| found.unreadable.iter().any(|dir| path.starts_with(dir));
        let hidden: Vec<PathBuf> = self.files.paths().filter(|path| is_unreadable(path)).map(Path::to_owned).collect();
        let found_file = |(path, is_named): (PathBuf, bool)| match fs::metadata(&path) {
            // A named source is always read, so that its error is reported.
            Ok(meta) if meta.is_file() || is_named => {
                Some((path, FoundFile { stat: Some(file_stat(&meta)), is_named }))
            }
            Err(error) if !is_not_found(&error) => Some((path, FoundFile { stat: None, is_named })),
            Ok(_) | Err(_) => None,
        };
        let hidden = hidden.into_iter().map(|path| (path, FoundFile { stat: None, is_named: false }));
        hidden.chain(found.files.into_iter().filter_map(found_file)).collect()
    }

    /// The files that were renamed into place, by their own or their real path.
    fn moved_files(&mut self, found: &BTreeMap<PathBuf, FoundFile>) -> BTreeSet<PathBuf> {
        let moved = std::mem::take(&mut self.moved);
        if moved.is_empty() {
            return BTreeSet::new();
        }
        let is_moved = |path: &PathBuf| {
            [std::path::absolute(path), fs::canonicalize(path)].into_iter().flatten().any(|path| moved.contains(&path))
        };
        found.keys().filter(|path| is_moved(path)).cloned().collect()
    }

    /// The directories in which changes matter.
    fn dirs(&self) -> BTreeSet<PathBuf> {
        let mut dirs = BTreeSet::new();
        for source in &self.sources {
            let path = Path::new(source);
            match SourceKind::of(source) {
                SourceKind::Directory => dirs.extend(dirs_of(path).into_iter().chain(std::path::absolute(path))),
                SourceKind::Pattern => dirs.extend(std::path::absolute(literal_prefix(path))),
                SourceKind::File | SourceKind::Missing => dirs.extend(dirs_of(path)),
            }
        }
        dirs.extend(self.files.paths().flat_map(dirs_of));
        dirs
    }
}

/// The part of a pattern before its first wildcard.
fn literal_prefix(pattern: &Path) -> PathBuf {
    let is_literal = |part: &std::path::Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let prefix: PathBuf = pattern.components().take_while(is_literal).collect();
    if prefix.as_os_str().is_empty() { PathBuf::from(".") } else { prefix }
}

fn file_stat(meta: &Metadata) -> FileStat {
    FileStat {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    }
}
