//! What is known of each file, and what is to be done about what is seen of it.
//!
//! Pure: what was seen and the moment come in, what to do comes out, so that tests can turn the
//! clock. A changed file counts once two reads [`SETTLE`] apart agree, as it may still be written;
//! or at once if it was moved there, as it was whole before. Invariant: a content is offered once,
//! until there was another.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::clock::Moment;

/// A file that is being written counts when two reads so far apart agree; one that is gone, when it
/// was away so long.
pub(super) const SETTLE: Duration = Duration::from_millis(200);

/// BLAKE3 of what was read.
pub type Content = [u8; 32];

/// What tells two versions of a file apart without reading them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Seconds and nanoseconds: of its content, and of everything about it.
    pub(super) modified: (i64, i64),
    pub(super) changed: (i64, i64),
}

/// What is seen of a file that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    /// None when it cannot be looked at just now.
    pub(super) stat: Option<Stat>,
    /// Whether a source is this very file, and not its folder.
    pub(super) named: bool,
}

/// What is to be done about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read it, and see what [`Files::read`] says.
    Read(PathBuf),
    /// It is gone, and what was loaded from it runs on.
    Missing(PathBuf),
    /// It has been gone from its folder for too long.
    Dropped(PathBuf),
}

/// What a read of a file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing new.
    Same,
    /// What was there before is there again.
    Back,
    /// It may still be written: read it again later.
    Later,
    /// It is another version.
    New,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Here,
    Missing,
    Dropped,
}

#[derive(Debug, Default)]
struct File {
    named: bool,
    stat: Option<Stat>,
    /// The content that was offered last.
    offered: Option<Content>,
    /// Something about it has changed since.
    suspect: bool,
    /// It was moved there, so it is whole.
    moved: bool,
    /// The first of the reads that must agree.
    read: Option<(Content, Moment)>,
    gone_since: Option<Moment>,
    told: Told,
}

/// All files that were seen.
#[derive(Debug)]
pub(super) struct Files {
    files: BTreeMap<PathBuf, File>,
    grace: Duration,
}

impl Files {
    /// Files that were loaded already, and what was in them. `grace` is how long one may be gone
    /// from its folder.
    pub(super) fn new(loaded: impl IntoIterator<Item = (PathBuf, Content)>, grace: Duration) -> Self {
        let known = |content| File { offered: Some(content), suspect: true, ..File::default() };
        Self { files: loaded.into_iter().map(|(path, content)| (path, known(content))).collect(), grace }
    }

    /// Takes in what is there now. `moved` are those that were moved there since the last time.
    pub(super) fn look(
        &mut self,
        now: Moment,
        sights: &BTreeMap<PathBuf, Sight>,
        moved: &BTreeSet<PathBuf>,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for (path, sight) in sights {
            let file = self.files.entry(path.clone()).or_insert_with(|| File { suspect: true, ..File::default() });
            if file.see(now, *sight, moved.contains(path)) {
                steps.push(Step::Read(path.clone()));
            }
        }
        for (path, file) in self.files.iter_mut().filter(|(path, _)| !sights.contains_key(*path)) {
            steps.extend(file.miss(now, self.grace).map(|step| step(path.clone())));
        }
        steps
    }

    /// Takes in what was read.
    pub(super) fn read(&mut self, now: Moment, path: &Path, content: Content) -> Verdict {
        let Some(file) = self.files.get_mut(path) else { return Verdict::Same };
        let agrees = file.read.is_some_and(|(first, at)| first == content && at + SETTLE <= now);
        let verdict = if file.offered == Some(content) {
            if file.told == Told::Here { Verdict::Same } else { Verdict::Back }
        } else if file.moved || agrees {
            Verdict::New
        } else {
            let first = file.read.filter(|(first, _)| *first == content);
            file.read = first.or(Some((content, now)));
            return Verdict::Later;
        };
        (file.offered, file.told) = (Some(content), Told::Here);
        (file.suspect, file.moved, file.read) = (false, false, None);
        verdict
    }

    /// Forgets a file that is gone.
    pub(super) fn forget(&mut self, path: &Path) {
        if self.files.get(path).is_some_and(|file| file.gone_since.is_some()) {
            self.files.remove(path);
        }
    }

    /// Offers what is in a file once more.
    pub(super) fn offer_again(&mut self, path: &Path) {
        if let Some(file) = self.files.get_mut(path) {
            (file.offered, file.suspect) = (None, true);
        }
    }

    /// Whether a file of a folder is not there any more, so that another may take over from it.
    pub(super) fn gives_way(&self, path: &Path) -> bool {
        self.files.get(path).is_none_or(|file| file.gone_since.is_some() && !file.named)
    }

    /// Every file that is known.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// When to look again at the latest, for the sake of what is under way.
    pub(super) fn next(&self) -> Moment {
        self.files.values().map(|file| file.next(self.grace)).min().unwrap_or(Moment::NEVER)
    }
}

impl File {
    /// Returns whether to read it.
    fn see(&mut self, now: Moment, sight: Sight, moved: bool) -> bool {
        self.named = sight.named;
        // It may have come back as another.
        self.suspect |= self.gone_since.take().is_some();
        let Some(stat) = sight.stat else {
            // There is nothing to read until it can be seen again.
            self.read = None;
            return false;
        };
        if self.stat != Some(stat) {
            // Nothing is known of one that was written to after it was moved there.
            self.moved = moved && self.stat.is_none_or(|before| before.inode != stat.inode);
            (self.stat, self.suspect) = (Some(stat), true);
        }
        self.suspect && (self.moved || self.read.is_none_or(|(_, at)| at + SETTLE <= now))
    }

    /// Returns what to do about its absence.
    fn miss(&mut self, now: Moment, grace: Duration) -> Option<fn(PathBuf) -> Step> {
        let since = *self.gone_since.get_or_insert(now);
        (self.stat, self.read, self.moved) = (None, None, false);
        match self.told {
            Told::Here if since + SETTLE <= now => {
                self.told = Told::Missing;
                Some(Step::Missing)
            }
            Told::Missing if !self.named && since + grace <= now => {
                self.told = Told::Dropped;
                Some(Step::Dropped)
            }
            _ => None,
        }
    }

    fn next(&self, grace: Duration) -> Moment {
        match (self.gone_since, self.read, self.told) {
            (Some(since), _, Told::Here) => since + SETTLE,
            (Some(since), _, Told::Missing) if !self.named => since + grace.max(SETTLE),
            (None, Some((_, at)), _) if self.suspect => at + SETTLE,
            _ => Moment::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "folder/a.wasm";
    const OLD: Content = [1; 32];
    const NEW: Content = [2; 32];
    const HALF: Content = [3; 32];

    /// One file, and the clock.
    struct Story {
        files: Files,
        now: Moment,
    }

    fn path() -> PathBuf {
        PATH.into()
    }

    fn stat(inode: u64, size: u64) -> Stat {
        Stat { inode, size, ..Stat::default() }
    }

    impl Story {
        /// Of a file that is loaded.
        fn new() -> Self {
            let files = Files::new([(path(), OLD)], Duration::from_secs(5));
            let mut story = Self { files, now: Moment::from_micros(1) };
            assert_eq!(story.look(stat(1, 1), false), [Step::Read(path())], "it may have changed meanwhile");
            assert_eq!(story.read(OLD), Verdict::Same);
            assert_eq!(story.look(stat(1, 1), false), []);
            story
        }

        fn see(&mut self, sight: Option<Sight>, moved: bool) -> Vec<Step> {
            let moved = moved.then(path).into_iter().collect();
            self.files.look(self.now, &sight.map(|sight| (path(), sight)).into_iter().collect(), &moved)
        }

        fn look(&mut self, stat: Stat, moved: bool) -> Vec<Step> {
            self.see(Some(Sight { stat: Some(stat), named: false }), moved)
        }

        fn read(&mut self, content: Content) -> Verdict {
            self.files.read(self.now, Path::new(PATH), content)
        }

        fn later(&mut self, millis: u64) {
            self.now = self.now + Duration::from_millis(millis);
        }
    }

    #[test]
    fn a_file_that_is_written_counts_when_two_reads_agree() {
        let mut story = Story::new();
        assert_eq!(story.look(stat(1, 2), false), [Step::Read(path())]);
        assert_eq!(story.read(HALF), Verdict::Later);
        story.later(100);
        assert_eq!(story.look(stat(1, 3), false), [], "it was just read");
        story.later(100);
        assert_eq!(story.look(stat(1, 3), false), [Step::Read(path())]);
        assert_eq!(story.read(NEW), Verdict::Later, "it has grown since");
        assert_eq!(story.files.next(), story.now + SETTLE);
        story.later(200);
        assert_eq!(story.look(stat(1, 3), false), [Step::Read(path())]);
        assert_eq!(story.read(NEW), Verdict::New);
        assert_eq!((story.look(stat(1, 3), false), story.files.next()), (vec![], Moment::NEVER));
    }

    #[test]
    fn a_file_that_cannot_be_seen_any_more_wakes_nobody_until_it_can() {
        let mut story = Story::new();
        story.look(stat(1, 2), false);
        assert_eq!(story.read(HALF), Verdict::Later);
        let unseen = || Some(Sight { stat: None, named: false });
        assert_eq!((story.see(unseen(), false), story.files.next()), (vec![], Moment::NEVER));
        story.later(1_000);
        assert_eq!((story.see(unseen(), false), story.files.next()), (vec![], Moment::NEVER));
        assert_eq!(story.look(stat(1, 2), false), [Step::Read(path())], "it is looked into then");
    }

    #[test]
    fn a_file_that_was_moved_there_counts_at_once() {
        let mut story = Story::new();
        assert_eq!(story.look(stat(2, 2), true), [Step::Read(path())]);
        assert_eq!(story.read(NEW), Verdict::New);
        assert_eq!(story.look(stat(1, 1), true), [Step::Read(path())], "going back is putting the old file back");
        assert_eq!(story.read(OLD), Verdict::New);
        story.look(stat(1, 2), true);
        assert_eq!(story.read(HALF), Verdict::Later, "but it was written to after it was moved");
        assert_eq!(story.look(stat(3, 2), true), [Step::Read(path())]);
        story.now = story.now + Duration::from_millis(1);
        story.look(stat(3, 3), false);
        assert_eq!(story.read(HALF), Verdict::Later, "or before it was read");
    }

    #[test]
    fn a_file_that_was_touched_or_written_as_it_was_is_not_new() {
        let mut story = Story::new();
        assert_eq!(story.look(stat(2, 1), false), [Step::Read(path())]);
        assert_eq!(story.read(OLD), Verdict::Same);
        assert_eq!(story.look(stat(2, 1), false), []);
    }

    #[test]
    fn a_file_that_is_gone_for_a_moment_is_not_missed() {
        let mut story = Story::new();
        assert_eq!(story.see(None, false), []);
        story.later(199);
        assert_eq!(story.see(None, false), []);
        assert_eq!(story.look(stat(2, 1), false), [Step::Read(path())]);
        assert_eq!(story.read(OLD), Verdict::Same);
    }

    #[test]
    fn a_file_that_is_gone_from_its_folder_is_missing_then_dropped_and_may_come_back() {
        let mut story = Story::new();
        story.see(None, false);
        story.later(200);
        assert_eq!(story.see(None, false), [Step::Missing(path())]);
        assert!(story.files.gives_way(Path::new(PATH)));
        story.later(100);
        assert_eq!(story.look(stat(2, 1), false), [Step::Read(path())]);
        assert_eq!(story.read(OLD), Verdict::Back);
        story.see(None, false);
        story.later(4_999);
        assert_eq!(story.see(None, false), [Step::Missing(path())]);
        assert_eq!(story.files.next(), story.now + Duration::from_millis(1));
        story.later(1);
        assert_eq!(story.see(None, false), [Step::Dropped(path())]);
        assert_eq!((story.see(None, false), story.files.next()), (vec![], Moment::NEVER));
        assert_eq!(story.look(stat(2, 1), false), [Step::Read(path())]);
        assert_eq!(story.read(OLD), Verdict::Back, "nobody has forgotten it yet");
        story.see(None, false);
        story.files.forget(Path::new(PATH));
        story.look(stat(2, 1), true);
        assert_eq!(story.read(OLD), Verdict::New);
    }

    #[test]
    fn a_file_that_a_source_names_is_never_dropped() {
        let mut story = Story::new();
        let here = Sight { stat: Some(stat(1, 1)), named: true };
        story.see(Some(here), false);
        story.see(None, false);
        story.later(60_000);
        assert_eq!(story.see(None, false), [Step::Missing(path())]);
        assert_eq!((story.see(None, false), story.files.next()), (vec![], Moment::NEVER));
        assert!(!story.files.gives_way(Path::new(PATH)));
        assert_eq!(story.see(Some(here), false), [Step::Read(path())]);
        assert_eq!(story.read(OLD), Verdict::Back);
    }

    #[test]
    fn a_file_that_cannot_be_looked_at_is_not_gone() {
        let mut story = Story::new();
        story.later(60_000);
        assert_eq!(story.see(Some(Sight { stat: None, named: false }), false), []);
        assert_eq!(story.look(stat(1, 1), false), []);
    }

    #[test]
    fn a_broken_file_is_offered_once() {
        let mut story = Story::new();
        story.look(stat(2, 2), true);
        assert_eq!(story.read(HALF), Verdict::New);
        for _ in 0..3 {
            story.later(2_000);
            assert_eq!(story.look(stat(2, 2), false), []);
        }
        story.look(stat(3, 1), true);
        assert_eq!(story.read(OLD), Verdict::New, "what was there before is new again");
    }
}
