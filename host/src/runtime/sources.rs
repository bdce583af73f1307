//! Where modules come from: files, folders, and patterns.
//!
//! Apart because it is asked twice: once at the start, where a source that leads to nothing is a
//! mistake, and then again and again, where it is something that happens.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// A source of modules that leads to none.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such file or folder.
    #[error("there is no file or folder {0}")]
    Missing(String),
    /// The pattern cannot be understood.
    #[error("'{pattern}' is not a pattern: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: glob::PatternError,
    },
    /// The pattern fits no file.
    #[error("no file fits the pattern '{0}'")]
    NoMatch(String),
    /// The folder has no module.
    #[error("the folder {0} has no .wasm file")]
    EmptyFolder(String),
    /// The folder cannot be read.
    #[error("cannot read the folder {path}: {why}")]
    Unreadable {
        /// The folder.
        path: String,
        /// Why not.
        why: io::Error,
    },
}

/// The files that `sources` stand for: files themselves, folders for all the `.wasm` files in
/// them but hidden ones, and patterns such as `build/*.wasm`. Each file once, in the order of the
/// sources.
///
/// # Errors
/// [`SourceError`] for the first source that leads to no file.
pub fn expand(sources: &[String]) -> Result<Vec<PathBuf>, SourceError> {
    let mut files = Vec::new();
    for source in sources {
        for file in expand_one(source)? {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

fn expand_one(source: &str) -> Result<Vec<PathBuf>, SourceError> {
    let shown = || source.to_owned();
    let (files, nothing) = match Kind::of(source) {
        Kind::File => return Ok(vec![PathBuf::from(source)]),
        Kind::Missing => return Err(SourceError::Missing(shown())),
        Kind::Folder => {
            let files = modules_in(Path::new(source));
            let files = files.map_err(|why| SourceError::Unreadable { path: shown(), why })?;
            (files, SourceError::EmptyFolder(shown()))
        }
        Kind::Pattern => {
            let found = glob::glob(source).map_err(|why| SourceError::Pattern { pattern: shown(), why })?;
            (found.flatten().filter(|path| path.is_file()).collect(), SourceError::NoMatch(shown()))
        }
    };
    if files.is_empty() { Err(nothing) } else { Ok(files) }
}

/// The same, without what leads to no file.
pub fn existing_files(sources: &[String]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for file in sources.iter().flat_map(|source| expand_one(source).unwrap_or_default()) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

/// What is the matter with a source that leads to no file, if it leads to none now.
pub fn missing_source(source: &str) -> Option<SourceError> {
    expand_one(source).err()
}

/// What a source is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Pattern,
    /// There is nothing of that name, and it is no pattern.
    Missing,
}

impl Kind {
    pub(super) fn of(source: &str) -> Self {
        let path = Path::new(source);
        if path.is_dir() {
            Self::Folder
        } else if path.exists() {
            // A file may have a star in its name.
            Self::File
        } else if source.contains(['*', '?', '[']) {
            Self::Pattern
        } else {
            Self::Missing
        }
    }
}

/// The modules in a folder. Hidden files are none: those are what others are writing just now.
fn modules_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_module = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        path.extension().is_some_and(|it| it == "wasm") && !hidden && path.is_file()
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).filter(is_module).collect();
    files.sort();
    Ok(files)
}

/// What the sources lead to at this moment.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files, and whether a source is that very file.
    pub(super) files: BTreeMap<PathBuf, bool>,
    /// Folders that could not be read: what was in them may still be there.
    pub(super) unread: Vec<PathBuf>,
}

/// Finds what the sources lead to now. At most `most` files.
pub(super) fn find(sources: &[String], most: usize) -> Found {
    let mut found = Found::default();
    for source in sources {
        let path = Path::new(source);
        let files = match Kind::of(source) {
            Kind::File => {
                found.files.insert(path.to_owned(), true);
                continue;
            }
            // Perhaps it is there and cannot be looked at.
            Kind::Missing => {
                if fs::symlink_metadata(path).is_err_and(|error| !is_absence(&error)) {
                    found.files.insert(path.to_owned(), true);
                }
                continue;
            }
            Kind::Folder => modules_in(path).unwrap_or_else(|error| {
                if !is_absence(&error) {
                    found.unread.push(path.to_owned());
                }
                Vec::new()
            }),
            Kind::Pattern => matching(source, &mut found.unread),
        };
        for file in files.into_iter().take(most.saturating_sub(found.files.len())) {
            found.files.entry(file).or_insert(false);
        }
    }
    found
}

fn matching(pattern: &str, unread: &mut Vec<PathBuf>) -> Vec<PathBuf> {
    let Ok(found) = glob::glob(pattern) else { return Vec::new() };
    let readable = found.filter_map(|path| {
        path.map_err(|error| {
            if !is_absence(error.error()) {
                unread.push(error.path().to_owned());
            }
        })
        .ok()
    });
    readable.filter(|path| path.is_file()).collect()
}

/// Whether an error says that something is not there.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
