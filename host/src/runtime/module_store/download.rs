//! A module that arrives in parts.
//!
//! Its parts are appended to one file, so that an interrupted transfer continues where it ended, also in another
//! process. The file is locked, and gets the name of a complete module once its hash was compared.

use std::{
    fs::{self, File},
    io::{self, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use super::{Content, EXTENSION, ModuleStore, PARTIAL_EXTENSION, remove_unused};
use crate::runtime::cache_dir;

/// A module that is being transferred.
#[derive(Debug)]
pub struct Download {
    content: Content,
    /// The size of the whole module in bytes.
    size: u64,
    /// Number of bytes that have arrived.
    len: u64,
    /// Whether it has a file of its own, which cannot be continued later.
    is_alone: bool,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    File(File, PathBuf),
    Memory(Vec<u8>),
}

impl ModuleStore {
    /// Begins or continues to transfer a module of this size. None while another process transfers it, unless `alone`
    /// is set: then it begins with a file of its own.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn download(&self, content: &Content, size: u64, alone: bool) -> io::Result<Option<Download>> {
        let (Some(dir), Some(path)) = (&self.dir, self.path(content, PARTIAL_EXTENSION)) else {
            return Ok(Some(Download {
                content: *content,
                size,
                len: 0,
                is_alone: true,
                sink: Sink::Memory(Vec::new()),
            }));
        };
        let path = if alone { cache_dir::unused_path(dir, PARTIAL_EXTENSION) } else { path };
        let mut options = File::options();
        options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
        let mut file = options.open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        // Another process may have completed the file since it was opened.
        let is_same = fs::symlink_metadata(&path).is_ok_and(|there| {
            file.metadata().is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
        });
        if !is_same {
            return Ok(None);
        }
        let mut len = file.seek(io::SeekFrom::End(0))?;
        if len > size {
            file.set_len(0)?;
            len = file.seek(io::SeekFrom::Start(0))?;
        }
        Ok(Some(Download { content: *content, size, len, is_alone: alone, sink: Sink::File(file, path) }))
    }

    /// Number of bytes of a module that have arrived, here or in another process.
    pub fn downloaded(&self, content: &Content) -> u64 {
        let path = self.path(content, PARTIAL_EXTENSION);
        path.and_then(|path| fs::symlink_metadata(path).ok()).map_or(0, |meta| meta.len())
    }
}

impl Download {
    /// Number of bytes that have arrived.
    pub fn received(&self) -> u64 {
        self.len
    }

    /// Whether what has arrived is lost if it is dropped before it is finished.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Whether all bytes have arrived.
    pub fn is_complete(&self) -> bool {
        self.len >= self.size
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// Those of the file system; the bytes that have arrived are removed then, so that they take no space.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.sink {
            Sink::File(file, path) => file.write_all(bytes).inspect_err(|_| {
                fs::remove_file(path).ok();
            })?,
            Sink::Memory(all) => all.extend_from_slice(bytes),
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Compares the hash, and stores the module. Returns false if it is damaged; then it begins again.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish(&mut self, store: &ModuleStore) -> io::Result<bool> {
        self.len = 0;
        match &mut self.sink {
            Sink::File(file, path) => {
                file.rewind()?;
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(&*file)?;
                if hasher.finalize() != self.content {
                    file.set_len(0)?;
                    file.rewind()?;
                    return Ok(false);
                }
                if let (Some(dir), Some(complete)) = (&store.dir, store.path(&self.content, EXTENSION)) {
                    fs::rename(path, &complete)?;
                    remove_unused(dir, &complete);
                }
            }
            Sink::Memory(all) => {
                let bytes = std::mem::take(all);
                if blake3::hash(&bytes) != self.content {
                    return Ok(false);
                }
                store.keep_in_memory(&self.content, bytes.into());
            }
        }
        Ok(true)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let (true, Sink::File(_, path)) = (self.is_alone, &self.sink) {
            // Unless it was finished, and so has another name.
            fs::remove_file(path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fixtures::TestDir;

    const BYTES: &[u8] = b"the bytes of a module";

    fn content() -> Content {
        *blake3::hash(BYTES).as_bytes()
    }

    fn begin(store: &ModuleStore) -> Option<Download> {
        store.download(&content(), BYTES.len() as u64, false).expect("file access")
    }

    #[test]
    fn an_interrupted_transfer_continues_where_it_ended() {
        let dir = TestDir::new();
        let store = ModuleStore::open(Some(dir.path()));
        let mut first = begin(&store).expect("nobody else transfers it");
        first.append(&BYTES[..8]).expect("written");
        assert!(begin(&store).is_none(), "the first one still does");
        assert_eq!(store.downloaded(&content()), 8);
        drop(first);
        let mut second = begin(&store).expect("the first one has ended");
        assert_eq!((second.received(), second.is_complete()), (8, false));
        second.append(&BYTES[8..]).expect("written");
        assert!(second.is_complete() && !store.contains(&content()));
        assert!(second.finish(&store).expect("file access"));
        assert_eq!(store.read(&content()).as_deref(), Some(BYTES));
    }

    #[test]
    fn a_damaged_transfer_begins_again() {
        let dir = TestDir::new();
        for store in [ModuleStore::open(Some(dir.path())), ModuleStore::open(None)] {
            let mut download = begin(&store).expect("nobody else transfers it");
            download.append(&[b"x", &BYTES[1..]].concat()).expect("written");
            assert!(!download.finish(&store).expect("file access"));
            assert!(download.received() == 0 && !store.contains(&content()));
            download.append(BYTES).expect("written");
            assert!(download.finish(&store).expect("file access"));
            assert_eq!(store.read(&content()).as_deref(), Some(BYTES));
        }
    }

    #[test]
    fn a_transfer_alone_waits_for_no_other() {
        let dir = TestDir::new();
        let store = ModuleStore::open(Some(dir.path()));
        let _other = begin(&store).expect("nobody else transfers it");
        let mut alone = store.download(&content(), BYTES.len() as u64, true).expect("file access").expect("its own");
        alone.append(BYTES).expect("written");
        assert!(alone.finish(&store).expect("file access") && store.contains(&content()));
        let unfinished = store.download(&[0; 32], 1, true).expect("file access");
        let count = || fs::read_dir(dir.path().join("modules")).expect("a folder").count();
        assert_eq!((unfinished.map(|_| ()), count()), (Some(()), 2), "it leaves nothing behind");
    }
}
