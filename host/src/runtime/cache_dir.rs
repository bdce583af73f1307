//! Folders that cache files for all processes of one user.
//!
//! Invariants: nobody else can write to such a folder, and a file appears there complete or not at all. Readers check
//! the content nevertheless.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::clock::Timestamp;

/// A file that was not used for this long is removed.
pub(super) const UNUSED_MAX: Duration = Duration::from_hours(30 * 24);

/// The reason why a folder is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untrusted {
    #[error("{}", crate::system::explain(.0))]
    Io(#[from] io::Error),
    #[error("it belongs to another user")]
    Owner,
    #[error("others may write to it (mode {mode:o}): run chmod 700 on it")]
    Mode { mode: u32 },
}

/// Creates a folder that only this user can write to, or checks that it is one.
///
/// # Errors
/// [`Untrusted`] with the reason why it cannot be used.
pub(super) fn prepare(dir: &Path) -> Result<(), Untrusted> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let meta = fs::metadata(dir)?;
    let mode = meta.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(Untrusted::Mode { mode });
    }
    // The owner of a new file is the user of this process.
    let probe = unused_path(dir, "probe");
    let created = File::create_new(&probe).and_then(|file| file.metadata());
    fs::remove_file(&probe).ok();
    if created?.uid() == meta.uid() { Ok(()) } else { Err(Untrusted::Owner) }
}

/// Writes the parts of a file to a temporary one and renames it, so that a reader never sees half a file.
///
/// # Errors
/// Those of the file system.
pub(super) fn write(dir: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let temporary = unused_path(dir, &extension);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part)).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    written
}

/// A path in `dir` that no other process or thread uses.
pub(super) fn unused_path(dir: &Path, extension: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    dir.join(format!(".{}-{count}-{}.{extension}", std::process::id(), Timestamp::now().micros()))
}

/// Removes files with these extensions that were not used for [`UNUSED_MAX`], also temporary ones that a crash left
/// behind, and then the least recently used until at most `bytes_max` are left. Keeps `newest`.
pub(super) fn remove_unused(dir: &Path, newest: &Path, extensions: &[&str], bytes_max: u64) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let has_extension = |path: &Path| extensions.iter().any(|it| path.extension() == Some(it.as_ref()));
    let mut files: Vec<(Duration, u64, PathBuf)> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| has_extension(path) && path.as_path() != newest)
        .filter_map(|path| {
            let meta = fs::symlink_metadata(&path).ok()?;
            // An mtime in the future means clock skew; treat it as just used.
            let unused = meta.modified().ok()?.elapsed().unwrap_or_default();
            Some((unused, meta.len(), path))
        })
        .collect();
    files.sort();
    let mut bytes = fs::metadata(newest).map_or(0, |meta| meta.len());
    for (unused, size, path) in files {
        bytes = bytes.saturating_add(size);
        if unused > UNUSED_MAX || bytes > bytes_max {
            fs::remove_file(path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::runtime::fixtures::TestDir;

    #[test]
    fn the_most_recently_used_files_are_kept_within_the_limits() {
        let dir = TestDir::new();
        let file = |name: &str, unused: Duration| {
            let path = dir.write(name, [0; 100]);
            let file = File::options().append(true).open(&path).expect("a file");
            file.set_modified(SystemTime::now() - unused).expect("a time");
            path
        };
        let hours = Duration::from_hours;
        let ancient = file("ancient.fwcode", UNUSED_MAX + hours(1));
        let old = file("old.fwcode", hours(3));
        let older = file("older.fwcode", hours(4));
        let recent = file("recent.fwcode", hours(1));
        let others = file("others.txt", UNUSED_MAX + hours(1));
        let newest = file("newest.fwcode", hours(5));
        remove_unused(dir.path(), &newest, &["fwcode"], 300);
        let remaining = [&ancient, &old, &older, &recent, &others, &newest].map(|path| path.exists());
        assert_eq!(remaining, [false, true, false, true, true, true]);
        remove_unused(dir.path(), &newest, &["fwcode"], 0);
        assert!(newest.exists() && !recent.exists() && !old.exists());
    }
}
