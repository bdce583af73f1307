//! Watches the sources of modules, so that they are built again when they change.
//!
//! What counts is a difference between two scans: of the names, sizes and times of the files. Notifications only make a
//! scan happen sooner, so nothing is missed where there are none.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant, SystemTime},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::cli::build::{Language, Source};

/// Interval of scans without notifications.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// Debounce: the delay between the last notification and the scan.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Maximum delay between the first notification and the scan.
const DEBOUNCE_MAX: Duration = Duration::from_millis(500);
/// Maximum number of files of one source.
const FILES_MAX: usize = 20_000;
/// Maximum depth of folders.
const DEPTH_MAX: usize = 16;
/// Folders with what tools write, which are not watched. Nor are hidden ones.
const IGNORED_FOLDERS: [&str; 7] = ["target", "node_modules", "__pycache__", "venv", "zig-out", "zig-cache", "dist"];
/// Endings of files that tools and editors write.
const IGNORED_ENDINGS: [&str; 6] = ["wasm", "pyc", "swp", "swx", "tmp", "bak"];

/// The files of a source, with their sizes and times of modification.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, (u64, Option<SystemTime>)>);

impl Snapshot {
    /// Scans the files of a source: of a lone file, also those of its language beside it.
    pub(super) fn of(source: &Source) -> Self {
        let mut found = Self::default();
        let is_part = |path: &Path| source.file.is_none() || Language::of_file(path) == Some(source.language);
        let depth = if source.file.is_some() { 0 } else { DEPTH_MAX };
        found.scan(&source.folder, depth, &is_part);
        found
    }

    fn scan(&mut self, folder: &Path, depth: usize, is_part: &impl Fn(&Path) -> bool) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            // Follows links; a link in a circle ends with the depth.
            let Ok(meta) = fs::metadata(&path) else { continue };
            if name.starts_with('.') || self.0.len() >= FILES_MAX {
                continue;
            }
            if meta.is_dir() {
                if depth > 0 && !IGNORED_FOLDERS.contains(&&*name) {
                    self.scan(&path, depth - 1, is_part);
                }
            } else if meta.is_file() && !is_temporary(&path) && is_part(&path) {
                self.0.insert(path, (meta.len(), meta.modified().ok()));
            }
        }
    }

    /// The folders of the files.
    fn folders(&self) -> Vec<&Path> {
        let mut folders: Vec<&Path> = self.0.keys().filter_map(|path| path.parent()).collect();
        folders.sort();
        folders.dedup();
        folders
    }
}

fn is_temporary(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    IGNORED_ENDINGS.contains(&ending) || path.to_string_lossy().ends_with('~')
}

/// Waits for changes of several sources.
pub(super) struct SourceWatcher {
    /// None where the system has no notifications left: then scans find the changes.
    watcher: Option<RecommendedWatcher>,
    notified: mpsc::Receiver<()>,
    watched: Vec<PathBuf>,
}

impl SourceWatcher {
    pub(super) fn new() -> Self {
        let (sender, notified) = mpsc::sync_channel(1);
        let notify = move |_event| {
            let _ = sender.try_send(());
        };
        let watcher = notify::recommended_watcher(notify)
            .inspect_err(|error| tracing::debug!(%error, "sources are watched by scans only"))
            .ok();
        Self { watcher, notified, watched: Vec::new() }
    }

    /// Asks for notifications of the folders of these files, besides those asked for before.
    pub(super) fn watch(&mut self, files: &Snapshot) {
        let Some(watcher) = &mut self.watcher else { return };
        for folder in files.folders() {
            if !self.watched.iter().any(|watched| watched == folder)
                && watcher.watch(folder, RecursiveMode::NonRecursive).is_ok()
            {
                self.watched.push(folder.to_owned());
            }
        }
    }

    /// Waits until it is time for a scan: after notifications, or after the interval.
    pub(super) fn wait(&self) {
        match self.notified.recv_timeout(SCAN_INTERVAL) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return,
            // Without a watcher nothing is ever sent.
            Err(RecvTimeoutError::Disconnected) => return std::thread::park_timeout(SCAN_INTERVAL),
        }
        let first = Instant::now();
        while first.elapsed() < DEBOUNCE_MAX && self.notified.recv_timeout(DEBOUNCE).is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(folder: &Path, file: Option<&str>) -> Source {
        let path = file.map_or_else(|| folder.to_owned(), |file| folder.join(file));
        Source::find(&path, None).expect("a source")
    }

    #[test]
    fn a_snapshot_has_sources_and_not_what_tools_write() {
        let folder = std::env::temp_dir().join(format!("fastworker-watch-{}", std::process::id()));
        for path in ["a.py", "b.py", "c.txt", "a.wasm", "sub/d.py", ".git/e", "node_modules/f.js", "__pycache__/a.pyc"]
        {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            fs::write(path, "x").expect("written");
        }
        let names = |snapshot: &Snapshot| -> Vec<String> {
            let root = fs::canonicalize(&folder).expect("a folder");
            let within = |path: &PathBuf| path.strip_prefix(&root).expect("below").display().to_string();
            snapshot.0.keys().map(within).collect()
        };
        let project = Snapshot::of(&source(&folder, None));
        assert_eq!(names(&project), ["a.py", "b.py", "c.txt", "sub/d.py"]);
        assert_eq!(names(&Snapshot::of(&source(&folder, Some("a.py")))), ["a.py", "b.py"]);
        fs::write(folder.join("b.py"), "longer").expect("written");
        assert_ne!(Snapshot::of(&source(&folder, None)), project);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
