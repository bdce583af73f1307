//! Decides, per watched file, whether to load, keep or drop the module.
//!
//! Pure: from file states and the time to actions. A change counts once two reads [`SETTLE`] apart agree, as the file
//! may still be written to; or immediately if the file was renamed into place, as it was complete before. Invariant:
//! the same content is reported once, until there was a different one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::clock::Moment;

/// Time between two reads of a file that must agree, and for which a file must be absent to count as missing.
pub(super) const SETTLE: Duration = Duration::from_millis(200);

/// BLAKE3 of the content of a file.
pub type Content = [u8; 32];

/// The metadata that distinguishes two versions of a file without reading them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileStat {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// mtime as seconds and nanoseconds.
    pub(super) modified: (i64, i64),
    /// ctime as seconds and nanoseconds.
    pub(super) changed: (i64, i64),
}

/// A file that exists.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundFile {
    /// None if it cannot be accessed now.
    pub(super) stat: Option<FileStat>,
    /// Whether a source is this file itself, not its directory.
    pub(super) is_named: bool,
}

/// An action for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Read it, and pass the content to [`Files::read`].
    Read(PathBuf),
    /// Report that it is missing. Its module stays loaded.
    Missing(PathBuf),
    /// Report that it was missing from its directory for too long.
    Dropped(PathBuf),
}

/// The result of reading a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadResult {
    /// The same version as before.
    Unchanged,
    /// The file was missing, and exists again with the same version.
    Restored,
    /// It may still be written to: read it again later.
    Unsettled,
    /// It is another version.
    Changed,
}

/// The last reported presence of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Presence {
    #[default]
    Present,
    Missing,
    Dropped,
}

#[derive(Debug, Default)]
struct File {
    is_named: bool,
    stat: Option<FileStat>,
    /// The content that was last reported.
    content: Option<Content>,
    /// Whether it may have changed since then.
    is_dirty: bool,
    /// Whether it was renamed into place, so that it is complete.
    was_moved: bool,
    /// The first of two reads that must agree.
    first_read: Option<(Content, Moment)>,
    absent_since: Option<Moment>,
    presence: Presence,
}

/// All watched files.
#[derive(Debug)]
pub(super) struct Files {
    files: BTreeMap<PathBuf, File>,
    grace: Duration,
}

impl Files {
    /// Files that are loaded already, with their contents. `grace` is the time for which a file may be missing from its
    /// directory.
    pub(super) fn new(loaded: impl IntoIterator<Item = (PathBuf, Content)>, grace: Duration) -> Self {
        let known = |content| File { content: Some(content), is_dirty: true, ..File::default() };
        Self { files: loaded.into_iter().map(|(path, content)| (path, known(content))).collect(), grace }
    }

    /// Processes the result of a scan. `moved` are the files that were renamed into place since the last one.
    pub(super) fn scanned(
        &mut self,
        now: Moment,
        found: &BTreeMap<PathBuf, FoundFile>,
        moved: &BTreeSet<PathBuf>,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        for (path, found_file) in found {
            let file = self.files.entry(path.clone()).or_insert_with(|| File { is_dirty: true, ..File::default() });
            if file.found(now, *found_file, moved.contains(path)) {
                actions.push(Action::Read(path.clone()));
            }
        }
        for (path, file) in self.files.iter_mut().filter(|(path, _)| !found.contains_key(*path)) {
            actions.extend(file.not_found(now, self.grace).map(|action| action(path.clone())));
        }
        actions
    }

    /// Processes the content of a file that was read.
    pub(super) fn read(&mut self, now: Moment, path: &Path, content: Content) -> ReadResult {
        let Some(file) = self.files.get_mut(path) else { return ReadResult::Unchanged };
        let is_settled = file.first_read.is_some_and(|(first, at)| first == content && at + SETTLE <= now);
        let result = if file.content == Some(content) {
            if file.presence == Presence::Present { ReadResult::Unchanged } else { ReadResult::Restored }
        } else if file.was_moved || is_settled {
            ReadResult::Changed
        } else {
            let same = file.first_read.filter(|(first, _)| *first == content);
            file.first_read = same.or(Some((content, now)));
            return ReadResult::Unsettled;
        };
        (file.content, file.presence) = (Some(content), Presence::Present);
        (file.is_dirty, file.was_moved, file.first_read) = (false, false, None);
        result
    }

    /// Removes a file that is absent.
    pub(super) fn remove(&mut self, path: &Path) {
        if self.files.get(path).is_some_and(|file| file.absent_since.is_some()) {
            self.files.remove(path);
        }
    }

    /// Reports the content of a file once more.
    pub(super) fn report_again(&mut self, path: &Path) {
        if let Some(file) = self.files.get_mut(path) {
            (file.content, file.is_dirty) = (None, true);
        }
    }

    /// Whether a file is absent from its directory, so that another may take over its tasks.
    pub(super) fn can_be_replaced(&self, path: &Path) -> bool {
        self.files.get(path).is_none_or(|file| file.absent_since.is_some() && !file.is_named)
    }

    /// The paths of all watched files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// The latest time for the next scan.
    pub(super) fn next_scan(&self) -> Moment {
        self.files.values().map(|file| file.next_scan(self.grace)).min().unwrap_or(Moment::NEVER)
    }
}

impl File {
    /// Returns whether to read it.
    fn found(&mut self, now: Moment, found: FoundFile, moved: bool) -> bool {
        self.is_named = found.is_named;
        // If it was absent, it may be another file now.
        self.is_dirty |= self.absent_since.take().is_some();
        let Some(stat) = found.stat else {
            self.first_read = None;
            return false;
        };
        if self.stat != Some(stat) {
            // A file that was written to after it was renamed may be incomplete.
            self.was_moved = moved && self.stat.is_none_or(|before| before.inode != stat.inode);
            (self.stat, self.is_dirty) = (Some(stat), true);
        }
        self.is_dirty && (self.was_moved || self.first_read.is_none_or(|(_, at)| at + SETTLE <= now))
    }

    /// Returns the report of its absence, if one is due.
    fn not_found(&mut self, now: Moment, grace: Duration) -> Option<fn(PathBuf) -> Action> {
        let since = *self.absent_since.get_or_insert(now);
        (self.stat, self.first_read, self.was_moved) = (None, None, false);
        match self.presence {
            Presence::Present if since + SETTLE <= now => {
                self.presence = Presence::Missing;
                Some(Action::Missing)
            }
            Presence::Missing if !self.is_named && since + grace <= now => {
                self.presence = Presence::Dropped;
                Some(Action::Dropped)
            }
            _ => None,
        }
    }

    fn next_scan(&self, grace: Duration) -> Moment {
        match (self.absent_since, self.first_read, self.presence) {
            (Some(since), _, Presence::Present) => since + SETTLE,
            (Some(since), _, Presence::Missing) if !self.is_named => since + grace.max(SETTLE),
            (None, Some((_, at)), _) if self.is_dirty => at + SETTLE,
            _ => Moment::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "dir/a.wasm";
    const OLD: Content = [1; 32];
    const NEW: Content = [2; 32];
    const HALF: Content = [3; 32];

    /// One file, and the clock.
    struct Fixture {
        files: Files,
        now: Moment,
    }

    fn path() -> PathBuf {
        PATH.into()
    }

    fn stat(inode: u64, size: u64) -> FileStat {
        FileStat { inode, size, ..FileStat::default() }
    }

    impl Fixture {
        /// Creates a fixture with a loaded file.
        fn new() -> Self {
            let files = Files::new([(path(), OLD)], Duration::from_secs(5));
            let mut fixture = Self { files, now: Moment::from_micros(1) };
            assert_eq!(fixture.find(stat(1, 1), false), [Action::Read(path())], "it may have changed since");
            assert_eq!(fixture.read(OLD), ReadResult::Unchanged);
            assert_eq!(fixture.find(stat(1, 1), false), []);
            fixture
        }

        fn scan(&mut self, found: Option<FoundFile>, moved: bool) -> Vec<Action> {
            let moved = moved.then(path).into_iter().collect();
            self.files.scanned(self.now, &found.map(|file| (path(), file)).into_iter().collect(), &moved)
        }

        fn find(&mut self, stat: FileStat, moved: bool) -> Vec<Action> {
            self.scan(Some(FoundFile { stat: Some(stat), is_named: false }), moved)
        }

        fn read(&mut self, content: Content) -> ReadResult {
            self.files.read(self.now, Path::new(PATH), content)
        }

        fn advance(&mut self, millis: u64) {
            self.now = self.now + Duration::from_millis(millis);
        }
    }

    #[test]
    fn a_file_being_written_counts_when_two_reads_agree() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.find(stat(1, 2), false), [Action::Read(path())]);
        assert_eq!(fixture.read(HALF), ReadResult::Unsettled);
        fixture.advance(100);
        assert_eq!(fixture.find(stat(1, 3), false), [], "it was just read");
        fixture.advance(100);
        assert_eq!(fixture.find(stat(1, 3), false), [Action::Read(path())]);
        assert_eq!(fixture.read(NEW), ReadResult::Unsettled, "it has grown since");
        assert_eq!(fixture.files.next_scan(), fixture.now + SETTLE);
        fixture.advance(200);
        assert_eq!(fixture.find(stat(1, 3), false), [Action::Read(path())]);
        assert_eq!(fixture.read(NEW), ReadResult::Changed);
        assert_eq!((fixture.find(stat(1, 3), false), fixture.files.next_scan()), (vec![], Moment::NEVER));
    }

    #[test]
    fn an_inaccessible_file_schedules_no_scan_until_it_is_accessible() {
        let mut fixture = Fixture::new();
        fixture.find(stat(1, 2), false);
        assert_eq!(fixture.read(HALF), ReadResult::Unsettled);
        let inaccessible = || Some(FoundFile { stat: None, is_named: false });
        assert_eq!((fixture.scan(inaccessible(), false), fixture.files.next_scan()), (vec![], Moment::NEVER));
        fixture.advance(1_000);
        assert_eq!((fixture.scan(inaccessible(), false), fixture.files.next_scan()), (vec![], Moment::NEVER));
        assert_eq!(fixture.find(stat(1, 2), false), [Action::Read(path())], "it is read then");
    }

    #[test]
    fn a_file_that_was_renamed_into_place_counts_immediately() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.find(stat(2, 2), true), [Action::Read(path())]);
        assert_eq!(fixture.read(NEW), ReadResult::Changed);
        assert_eq!(fixture.find(stat(1, 1), true), [Action::Read(path())], "a rollback restores the old file");
        assert_eq!(fixture.read(OLD), ReadResult::Changed);
        fixture.find(stat(1, 2), true);
        assert_eq!(fixture.read(HALF), ReadResult::Unsettled, "it was written to after it was renamed");
        assert_eq!(fixture.find(stat(3, 2), true), [Action::Read(path())]);
        fixture.now = fixture.now + Duration::from_millis(1);
        fixture.find(stat(3, 3), false);
        assert_eq!(fixture.read(HALF), ReadResult::Unsettled, "or before it was read");
    }

    #[test]
    fn a_touched_or_rewritten_file_of_the_same_content_is_unchanged() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.find(stat(2, 1), false), [Action::Read(path())]);
        assert_eq!(fixture.read(OLD), ReadResult::Unchanged);
        assert_eq!(fixture.find(stat(2, 1), false), []);
    }

    #[test]
    fn a_file_that_is_absent_briefly_is_not_missing() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.scan(None, false), []);
        fixture.advance(199);
        assert_eq!(fixture.scan(None, false), []);
        assert_eq!(fixture.find(stat(2, 1), false), [Action::Read(path())]);
        assert_eq!(fixture.read(OLD), ReadResult::Unchanged);
    }

    #[test]
    fn a_file_absent_from_its_directory_is_missing_and_then_dropped() {
        let mut fixture = Fixture::new();
        fixture.scan(None, false);
        fixture.advance(200);
        assert_eq!(fixture.scan(None, false), [Action::Missing(path())]);
        assert!(fixture.files.can_be_replaced(Path::new(PATH)));
        fixture.advance(100);
        assert_eq!(fixture.find(stat(2, 1), false), [Action::Read(path())]);
        assert_eq!(fixture.read(OLD), ReadResult::Restored);
        fixture.scan(None, false);
        fixture.advance(4_999);
        assert_eq!(fixture.scan(None, false), [Action::Missing(path())]);
        assert_eq!(fixture.files.next_scan(), fixture.now + Duration::from_millis(1));
        fixture.advance(1);
        assert_eq!(fixture.scan(None, false), [Action::Dropped(path())]);
        assert_eq!((fixture.scan(None, false), fixture.files.next_scan()), (vec![], Moment::NEVER));
        assert_eq!(fixture.find(stat(2, 1), false), [Action::Read(path())]);
        assert_eq!(fixture.read(OLD), ReadResult::Restored, "it was not removed yet");
        fixture.scan(None, false);
        fixture.files.remove(Path::new(PATH));
        fixture.find(stat(2, 1), true);
        assert_eq!(fixture.read(OLD), ReadResult::Changed);
    }

    #[test]
    fn a_file_that_a_source_names_is_never_dropped() {
        let mut fixture = Fixture::new();
        let here = FoundFile { stat: Some(stat(1, 1)), is_named: true };
        fixture.scan(Some(here), false);
        fixture.scan(None, false);
        fixture.advance(60_000);
        assert_eq!(fixture.scan(None, false), [Action::Missing(path())]);
        assert_eq!((fixture.scan(None, false), fixture.files.next_scan()), (vec![], Moment::NEVER));
        assert!(!fixture.files.can_be_replaced(Path::new(PATH)));
        assert_eq!(fixture.scan(Some(here), false), [Action::Read(path())]);
        assert_eq!(fixture.read(OLD), ReadResult::Restored);
    }

    #[test]
    fn an_inaccessible_file_is_not_missing() {
        let mut fixture = Fixture::new();
        fixture.advance(60_000);
        assert_eq!(fixture.scan(Some(FoundFile { stat: None, is_named: false }), false), []);
        assert_eq!(fixture.find(stat(1, 1), false), []);
    }

    #[test]
    fn a_broken_file_is_reported_once() {
        let mut fixture = Fixture::new();
        fixture.find(stat(2, 2), true);
        assert_eq!(fixture.read(HALF), ReadResult::Changed);
        for _ in 0..3 {
            fixture.advance(2_000);
            assert_eq!(fixture.find(stat(2, 2), false), []);
        }
        fixture.find(stat(3, 1), true);
        assert_eq!(fixture.read(OLD), ReadResult::Changed, "the previous content is new again");
    }
}
