//! The sources of modules: files, directories, and patterns.
//!
//! They are resolved at the start, when a source without files is an error, and by each scan for changes, when it is
//! not.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// A source without modules.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such file or directory.
    #[error("there is no file or folder {0}")]
    Missing(String),
    /// The pattern is not valid.
    #[error("'{pattern}' is not a pattern: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The error.
        why: glob::PatternError,
    },
    /// The pattern matches no file.
    #[error("no file matches the pattern '{0}'")]
    NoMatch(String),
    /// The directory has no module.
    #[error("the folder {0} has no .wasm file")]
    EmptyDirectory(String),
    /// The directory cannot be read.
    #[error("cannot read the folder {path}: {why}")]
    Unreadable {
        /// The directory.
        path: String,
        /// The reason.
        why: io::Error,
    },
}

/// The files of `sources`: files themselves, the `.wasm` files in directories except hidden ones, and the matches of
/// patterns such as `build/*.wasm`. Each file once, in the order of the sources.
///
/// # Errors
/// [`SourceError`] for the first source without files.
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
    let name = || source.to_owned();
    let (files, error) = match SourceKind::of(source) {
        SourceKind::File => return Ok(vec![PathBuf::from(source)]),
        SourceKind::Missing => return Err(SourceError::Missing(name())),
        SourceKind::Directory => {
            let files = modules_in(Path::new(source));
            let files = files.map_err(|why| SourceError::Unreadable { path: name(), why })?;
            (files, SourceError::EmptyDirectory(name()))
        }
        SourceKind::Pattern => {
            let found = glob::glob(source).map_err(|why| SourceError::Pattern { pattern: name(), why })?;
            (found.flatten().filter(|path| path.is_file()).collect(), SourceError::NoMatch(name()))
        }
    };
    if files.is_empty() { Err(error) } else { Ok(files) }
}

/// Like [`expand`], but skips sources without files.
pub fn existing_files(sources: &[String]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for file in sources.iter().flat_map(|source| expand_one(source).unwrap_or_default()) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

/// Returns the reason why a source has no files now, if it has none.
pub fn missing_source(source: &str) -> Option<SourceError> {
    expand_one(source).err()
}

/// The current kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceKind {
    File,
    Directory,
    Pattern,
    /// There is no such file or directory, and it is not a pattern.
    Missing,
}

impl SourceKind {
    pub(super) fn of(source: &str) -> Self {
        let path = Path::new(source);
        if path.is_dir() {
            Self::Directory
        } else if path.exists() {
            // Checked before patterns, as a file may have a star in its name.
            Self::File
        } else if source.contains(['*', '?', '[']) {
            Self::Pattern
        } else {
            Self::Missing
        }
    }
}

/// The modules in a directory. Skips hidden files, which may be temporary files of programs that write modules.
fn modules_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let is_module = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        path.extension().is_some_and(|it| it == "wasm") && !hidden && path.is_file()
    };
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?.flatten().map(|entry| entry.path()).filter(is_module).collect();
    files.sort();
    Ok(files)
}

/// The current files of sources.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files, and whether a source is this file itself.
    pub(super) files: BTreeMap<PathBuf, bool>,
    /// Directories that could not be read: their files may still exist.
    pub(super) unreadable: Vec<PathBuf>,
}

/// Finds the files of the sources, at most `files_max`.
pub(super) fn find(sources: &[String], files_max: usize) -> Found {
    let mut found = Found::default();
    for source in sources {
        let path = Path::new(source);
        let files = match SourceKind::of(source) {
            SourceKind::File => {
                found.files.insert(path.to_owned(), true);
                continue;
            }
            // It may exist and be inaccessible.
            SourceKind::Missing => {
                if fs::symlink_metadata(path).is_err_and(|error| !is_not_found(&error)) {
                    found.files.insert(path.to_owned(), true);
                }
                continue;
            }
            SourceKind::Directory => modules_in(path).unwrap_or_else(|error| {
                if !is_not_found(&error) {
                    found.unreadable.push(path.to_owned());
                }
                Vec::new()
            }),
            SourceKind::Pattern => matching(source, &mut found.unreadable),
        };
        for file in files.into_iter().take(files_max.saturating_sub(found.files.len())) {
            found.files.entry(file).or_insert(false);
        }
    }
    found
}

fn matching(pattern: &str, unreadable: &mut Vec<PathBuf>) -> Vec<PathBuf> {
    let Ok(found) = glob::glob(pattern) else { return Vec::new() };
    let readable = found.filter_map(|path| {
        path.map_err(|error| {
            if !is_not_found(error.error()) {
                unreadable.push(error.path().to_owned());
            }
        })
        .ok()
    });
    readable.filter(|path| path.is_file()).collect()
}

/// Whether an error means that a file does not exist.
pub(super) fn is_not_found(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
