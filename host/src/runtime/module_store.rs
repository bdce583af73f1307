//! The bytes of modules that travel from the control plane to its workers, by their hash.
//!
//! A folder for all processes of one user: the control plane keeps its live versions there, as their files may be
//! replaced at any time, and workers what they have taken, so that nothing is transferred twice. Invariant: nothing is
//! returned from here whose BLAKE3 was not compared.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use super::{Content, cache_dir};
use crate::{escape, lock::lock, system};

mod download;

pub use download::Download;

/// The extension of modules.
const EXTENSION: &str = "wasm";
/// The extension of modules that are not complete.
const PARTIAL_EXTENSION: &str = "part";
/// Maximum bytes in the folder; beyond it, the least recently used modules are removed.
const STORE_BYTES_MAX: u64 = 4 << 30;
/// Maximum bytes of modules that are kept in memory because the folder cannot be used; beyond it, the oldest are
/// dropped.
const MEMORY_BYTES_MAX: usize = 256 << 20;

/// A store of modules.
#[derive(Debug)]
pub struct ModuleStore {
    dir: Option<PathBuf>,
    /// Modules that could not be written to the folder, the oldest first.
    memory: Mutex<VecDeque<(Content, Arc<[u8]>)>>,
}

impl ModuleStore {
    /// Opens or creates the folder `modules` in the cache folder. If it cannot be trusted, modules are kept in memory,
    /// with a warning.
    pub fn open(cache_dir: Option<&Path>) -> Self {
        let dir = cache_dir.map(|cache_dir| cache_dir.join("modules"));
        let dir = dir.filter(|dir| match cache_dir::prepare(dir) {
            Ok(()) => true,
            Err(why) => {
                tracing::warn!(dir = %escape::path(dir), %why, "no folder for the control plane's modules: they are kept in memory");
                false
            }
        });
        Self { dir, memory: Mutex::default() }
    }

    fn path(&self, content: &Content, extension: &str) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(format!("{}.{extension}", blake3::Hash::from(*content).to_hex())))
    }

    /// Whether it has a module, or a file in its place that turns out to be damaged.
    pub fn contains(&self, content: &Content) -> bool {
        self.kept_in_memory(content).is_some()
            || self.path(content, EXTENSION).is_some_and(|path| fs::symlink_metadata(path).is_ok())
    }

    fn kept_in_memory(&self, content: &Content) -> Option<Arc<[u8]>> {
        lock(&self.memory).iter().find(|(other, _)| other == content).map(|(_, bytes)| Arc::clone(bytes))
    }

    /// Keeps the bytes of a module, whose hash is `content`.
    pub fn keep(&self, content: &Content, bytes: &[u8]) {
        let (Some(dir), Some(path)) = (&self.dir, self.path(content, EXTENSION)) else {
            return self.keep_in_memory(content, bytes.into());
        };
        if touch(&path, Some(bytes.len() as u64)) {
            return;
        }
        if let Err(error) = cache_dir::write(dir, &path, &[bytes]) {
            let error = system::explain(&error);
            tracing::warn!(path = %escape::path(&path), error, "a module for subworkers is kept in memory");
            return self.keep_in_memory(content, bytes.into());
        }
        remove_unused(dir, &path);
    }

    fn keep_in_memory(&self, content: &Content, bytes: Arc<[u8]>) {
        let mut memory = lock(&self.memory);
        memory.retain(|(other, _)| other != content);
        memory.push_back((*content, bytes));
        let mut total: usize = memory.iter().map(|(_, bytes)| bytes.len()).sum();
        while total > MEMORY_BYTES_MAX && memory.len() > 1 {
            total -= memory.pop_front().map_or(0, |(_, bytes)| bytes.len());
        }
    }

    /// The bytes of a module; none if it is not here. A damaged file is removed.
    pub fn read(&self, content: &Content) -> Option<Vec<u8>> {
        if let Some(bytes) = self.kept_in_memory(content) {
            return Some(bytes.to_vec());
        }
        let path = self.path(content, EXTENSION)?;
        usable(&path, read_checked(&path, content))
    }

    /// Opens a module to read parts of it; none if it is not here. A damaged file is removed.
    pub fn open_module(&self, content: &Content) -> Option<OpenModule> {
        if let Some(bytes) = self.kept_in_memory(content) {
            return Some(OpenModule(Source::Memory(bytes)));
        }
        let path = self.path(content, EXTENSION)?;
        usable(&path, OpenModule::of_file(&path, content))
    }
}

/// The value that was read from a stored file, if it exists. Marks the file as used now, or removes it if it is not
/// usable.
fn usable<T>(path: &Path, read: io::Result<T>) -> Option<T> {
    match read {
        Ok(value) => {
            touch(path, None);
            Some(value)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let error = system::explain(&error);
            tracing::warn!(path = %escape::path(path), error, "a stored module is not usable, and was removed");
            fs::remove_file(path).ok();
            None
        }
    }
}

fn read_checked(path: &Path, content: &Content) -> io::Result<Vec<u8>> {
    let mut file = open_checked(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if blake3::hash(&bytes) == *content { Ok(bytes) } else { Err(damaged()) }
}

/// Marks a stored file as used now. Returns whether it exists and has this size, if one is given.
fn touch(path: &Path, size: Option<u64>) -> bool {
    let Ok(file) = open_checked(path) else { return false };
    let is_complete = size.is_none_or(|size| file.metadata().is_ok_and(|meta| meta.len() == size));
    is_complete && file.set_modified(SystemTime::now()).is_ok()
}

fn remove_unused(dir: &Path, newest: &Path) {
    cache_dir::remove_unused(dir, newest, &[EXTENSION, PARTIAL_EXTENSION], STORE_BYTES_MAX);
}

/// Opens a regular file. Never blocks on another kind of file.
fn open_checked(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(invalid("it is not a file")) }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn damaged() -> io::Error {
    invalid("it is damaged: its content does not have its hash")
}

/// A module whose hash was compared when it was opened.
#[derive(Debug)]
pub struct OpenModule(Source);

#[derive(Debug)]
enum Source {
    File(File, Stamp),
    Memory(Arc<[u8]>),
}

/// The parts of a file's metadata that change with its content, and when the file is marked as used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self { size: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }
}

impl OpenModule {
    /// Opens a file with this content.
    ///
    /// # Errors
    /// Those of the file system, or `InvalidData` if its content is another one.
    pub fn of_file(path: &Path, content: &Content) -> io::Result<Self> {
        let file = open_checked(path)?;
        let stamp = Stamp::of(&file)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader((&file).take(stamp.size))?;
        if hasher.finalize() != *content {
            return Err(damaged());
        }
        Ok(Self(Source::File(file, stamp)))
    }

    /// Whether its content is certainly what it was.
    pub fn is_unchanged(&self) -> bool {
        match &self.0 {
            Source::File(file, stamp) => Stamp::of(file).is_ok_and(|now| now == *stamp),
            Source::Memory(_) => true,
        }
    }

    /// Reads at most `max` bytes from `offset` on; none at the end.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read_at(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        match &self.0 {
            Source::File(file, stamp) => {
                let left = usize::try_from(stamp.size.saturating_sub(offset)).unwrap_or(usize::MAX);
                let mut bytes = vec![0; left.min(max)];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes)
            }
            Source::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes[start..bytes.len().min(start.saturating_add(max))].to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fixtures::TestDir;

    const BYTES: &[u8] = b"not a module, which does not matter here";

    fn content() -> Content {
        *blake3::hash(BYTES).as_bytes()
    }

    #[test]
    fn a_kept_module_is_read_whole_and_in_parts() {
        let dir = TestDir::new();
        for store in [ModuleStore::open(Some(dir.path())), ModuleStore::open(None)] {
            assert!(!store.contains(&content()) && store.read(&content()).is_none());
            store.keep(&content(), BYTES);
            store.keep(&content(), BYTES);
            assert!(store.contains(&content()));
            assert_eq!(store.read(&content()).as_deref(), Some(BYTES));
            let module = store.open_module(&content()).expect("it was kept");
            let read = |offset, max| module.read_at(offset, max).expect("readable");
            assert_eq!((&*read(0, 7), &*read(4, 1000)), (&BYTES[..7], &BYTES[4..]));
            assert_eq!((read(BYTES.len() as u64, 7), read(u64::MAX, 7)), (vec![], vec![]));
        }
    }

    #[test]
    fn a_damaged_or_foreign_file_is_not_read_and_is_removed() {
        let dir = TestDir::new();
        let store = ModuleStore::open(Some(dir.path()));
        let path = store.path(&content(), EXTENSION).expect("there is a folder");
        let damages: [&dyn Fn(); 4] = [
            &|| fs::write(&path, &BYTES[1..]).expect("written"),
            &|| fs::write(&path, [BYTES, b"more"].concat()).expect("written"),
            &|| std::os::unix::fs::symlink("/dev/zero", &path).expect("a link"),
            &|| {
                // A socket's own path must be short.
                let socket = dir.path().join("s");
                drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
                fs::rename(&socket, &path).expect("renamed");
            },
        ];
        for damage in damages {
            damage();
            assert!(store.contains(&content()), "its content was not compared yet");
            assert!(store.read(&content()).is_none() && store.open_module(&content()).is_none());
            assert!(!store.contains(&content()));
            store.keep(&content(), BYTES);
            let open = OpenModule::of_file(&path, &content()).expect("intact");
            assert!(open.is_unchanged());
            fs::write(&path, [b"x", &BYTES[1..]].concat()).expect("written");
            assert!(!open.is_unchanged());
            fs::remove_file(&path).expect("removed");
        }
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_not_used() {
        let dir = TestDir::new();
        fs::create_dir(dir.path().join("modules")).expect("a folder");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(dir.path().join("modules"), open).expect("permissions");
        let store = ModuleStore::open(Some(dir.path()));
        store.keep(&content(), BYTES);
        assert_eq!(store.read(&content()).as_deref(), Some(BYTES), "from memory");
        assert_eq!(fs::read_dir(dir.path().join("modules")).expect("a folder").count(), 0);
    }

    #[test]
    fn modules_in_memory_are_bounded() {
        let store = ModuleStore::open(None);
        for number in 0..5_u8 {
            store.keep(&[number; 32], &vec![number; MEMORY_BYTES_MAX / 4]);
        }
        assert!(!store.contains(&[0; 32]) && (1..5).all(|number| store.contains(&[number; 32])));
    }
}
