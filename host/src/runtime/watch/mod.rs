//! Watching the files that modules come from.
//!
//! [`hints`] says when to look, [`files`] decides what it means, and this file does the looking and
//! the reading. A slow poll makes up for hints that do not come: from bind mounts, from network file
//! systems, and when there were too many.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    files::{Files, Sight, Stat, Step, Verdict},
    hints::{Bell, Hints, Wake, folders_of},
};
use super::{
    Catalog, ModuleError, module,
    sources::{self, Kind, is_absence},
};
use crate::{clock::Now, protocol::FRAME_ITEMS_MAX};

mod files;
mod hints;

pub use self::files::Content;

/// How often everything is looked at when nobody says that something changed.
pub const POLL: Duration = Duration::from_secs(2);
/// Hints come in crowds: so long after the last one, but no longer after the first, it is looked.
const CROWD_GAP: Duration = Duration::from_millis(10);
const CROWD_MAX: Duration = Duration::from_millis(100);
/// Files that are watched: a catalog may have so many modules.
const FILES_MAX: usize = FRAME_ITEMS_MAX;

/// What became of a file.
#[derive(Debug)]
pub enum Change {
    /// It has another content, or cannot be read.
    New(PathBuf, Result<Content, ModuleError>),
    /// It is there again, with the content that it had.
    Back(PathBuf),
    /// It is gone.
    Missing(PathBuf),
    /// It has been gone from its folder for longer than the grace.
    Dropped(PathBuf),
}

/// Watches the files that sources lead to.
#[derive(Debug)]
pub struct Watch {
    sources: Vec<String>,
    files: Files,
    hints: Hints,
    bell: Arc<Bell>,
    moved: BTreeSet<PathBuf>,
    module_max: u64,
    /// Whether it has not waited yet.
    first: bool,
    /// Whether it has not looked yet.
    new: bool,
}

/// The other end of a [`Watch`]: ends its waits.
#[derive(Clone, Debug)]
pub struct WatchEnd(Arc<Bell>);

impl WatchEnd {
    /// Ends the watch.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Ends the wait that is, so that it is looked at once.
    pub fn wake(&self) {
        self.0.hint([]);
    }
}

impl Watch {
    /// Watches what `sources` lead to, of which `catalog` was loaded. A file may be gone from its
    /// folder for `grace`.
    pub fn new(sources: Vec<String>, catalog: &Catalog, grace: Duration, module_max: u64) -> (Self, WatchEnd) {
        let bell = Arc::new(Bell::default());
        let loaded = catalog.modules().iter().map(|module| (module.path().to_owned(), *module.content()));
        let files = Files::new(loaded, grace);
        let hints = Hints::new(Arc::clone(&bell));
        let end = WatchEnd(Arc::clone(&bell));
        (Self { sources, files, hints, bell, moved: BTreeSet::new(), module_max, first: true, new: true }, end)
    }

    /// Waits until it is time to look. Returns whether to go on.
    pub fn wait(&mut self) -> bool {
        if std::mem::take(&mut self.first) {
            return true;
        }
        let now = Now::read().mono;
        let mut left = self.files.next().since(now).min(POLL);
        let mut crowd = None;
        loop {
            match self.bell.wait(left) {
                Wake::Hint(moved) => {
                    // Whatever does not fit is looked at as if it was not moved.
                    self.moved.extend(moved.into_iter().take(FILES_MAX.saturating_sub(self.moved.len())));
                    let over = *crowd.get_or_insert_with(|| Instant::now() + CROWD_MAX);
                    left = over.saturating_duration_since(Instant::now()).min(CROWD_GAP);
                }
                Wake::Stop => return false,
                Wake::Quiet => return true,
            }
        }
    }

    /// Looks at everything, and tells of each change.
    pub fn look(&mut self, mut tell: impl FnMut(Change)) {
        // First, so that what changes during the look is noticed after it.
        self.hints.watch(&self.folders());
        let sights = self.sights();
        let mut moved = self.moved(&sights);
        if std::mem::take(&mut self.new) {
            // What is there at the start is taken to be whole: nobody can say since when it is there.
            moved.extend(sights.keys().cloned());
        }
        for step in self.files.look(Now::read().mono, &sights, &moved) {
            match step {
                Step::Read(path) => {
                    if let Some(change) = self.read(path) {
                        tell(change);
                    }
                }
                Step::Missing(path) => tell(Change::Missing(path)),
                Step::Dropped(path) => tell(Change::Dropped(path)),
            }
        }
    }

    /// Forgets a file that is gone.
    pub fn forget(&mut self, path: &Path) {
        self.files.forget(path);
    }

    /// Offers the content of a file again, as it was another when it was needed.
    pub fn offer_again(&mut self, path: &Path) {
        self.files.offer_again(path);
    }

    /// Whether a file is gone, and no source names it.
    pub fn gives_way(&self, path: &Path) -> bool {
        self.files.gives_way(path)
    }

    fn read(&mut self, path: PathBuf) -> Option<Change> {
        let read = module::read(&path, self.module_max).map(|bytes| *blake3::hash(&bytes).as_bytes());
        let content = match &read {
            Ok(content) => *content,
            // The next look tells of that.
            Err(ModuleError::Missing) => return None,
            Err(why) => *blake3::hash(why.to_string().as_bytes()).as_bytes(),
        };
        match self.files.read(Now::read().mono, &path, content) {
            Verdict::New => Some(Change::New(path, read)),
            Verdict::Back => Some(Change::Back(path)),
            Verdict::Same | Verdict::Later => None,
        }
    }

    fn sights(&self) -> BTreeMap<PathBuf, Sight> {
        let found = sources::find(&self.sources, FILES_MAX);
        let unread = |path: &Path| found.unread.iter().any(|folder| path.starts_with(folder));
        let hidden: Vec<PathBuf> = self.files.paths().filter(|path| unread(path)).map(Path::to_owned).collect();
        let sight = |(path, named): (PathBuf, bool)| match fs::metadata(&path) {
            // One that a source names is read, whatever it is: that says what is wrong with it.
            Ok(meta) if meta.is_file() || named => Some((path, Sight { stat: Some(stat(&meta)), named })),
            Err(error) if !is_absence(&error) => Some((path, Sight { stat: None, named })),
            Ok(_) | Err(_) => None,
        };
        let hidden = hidden.into_iter().map(|path| (path, Sight { stat: None, named: false }));
        hidden.chain(found.files.into_iter().filter_map(sight)).collect()
    }

    /// Those of the files that were moved to where they are, by their own or their real path.
    fn moved(&mut self, sights: &BTreeMap<PathBuf, Sight>) -> BTreeSet<PathBuf> {
        let moved = std::mem::take(&mut self.moved);
        if moved.is_empty() {
            return BTreeSet::new();
        }
        let is_moved = |path: &PathBuf| {
            [std::path::absolute(path), fs::canonicalize(path)].into_iter().flatten().any(|path| moved.contains(&path))
        };
        sights.keys().filter(|path| is_moved(path)).cloned().collect()
    }

    /// The folders in which something can change.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let mut folders = BTreeSet::new();
        for source in &self.sources {
            let path = Path::new(source);
            match Kind::of(source) {
                Kind::Folder => folders.extend(folders_of(path).into_iter().chain(std::path::absolute(path))),
                Kind::Pattern => folders.extend(std::path::absolute(fixed_part(path))),
                Kind::File | Kind::Missing => folders.extend(folders_of(path)),
            }
        }
        folders.extend(self.files.paths().flat_map(folders_of));
        folders
    }
}

/// The folder in which a pattern begins.
fn fixed_part(pattern: &Path) -> PathBuf {
    let is_fixed = |part: &std::path::Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let fixed: PathBuf = pattern.components().take_while(is_fixed).collect();
    if fixed.as_os_str().is_empty() { PathBuf::from(".") } else { fixed }
}

fn stat(meta: &Metadata) -> Stat {
    Stat {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    }
}
