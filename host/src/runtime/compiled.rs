//! Compiled code, and the folder that keeps it.
//!
//! Apart because it uses `unsafe`: wasmtime runs what it is given here without looking. Invariant:
//! [`instantiable`] sees only bytes that our compiler has just made, or that lay in a folder
//! which nobody else can write, under a name made of the content, the compiler's version and its
//! settings, with a BLAKE3 that fits.

use std::{
    fs::{self, DirBuilder, File},
    hash::{Hash, Hasher},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use wasmtime::{Config, Engine, component::Component};

use super::{
    Inner,
    compiler::{self, Effort},
    module::ModuleError,
};
use crate::clock::Timestamp;

/// How a file of ours begins; the number is the format's version.
const MAGIC: &[u8; 8] = b"fwcode01";
/// The files' extension.
const EXTENSION: &str = "fwcode";
/// What nobody used for so long is removed.
const UNUSED_MAX: Duration = Duration::from_hours(30 * 24);
/// Bytes that the folder may have: beyond it, what was not used for longest goes first.
const CACHE_BYTES_MAX: u64 = 2 << 30;

/// Bytes that the compiled code of one module may have.
const CODE_MAX: u64 = 1 << 30;

/// Makes compiled code ready for an engine with the settings it was compiled under.
///
/// # Errors
/// wasmtime's, if the component does not fit into the engine's pool or the code is for another
/// version, machine or settings.
pub(super) fn instantiable(engine: &Engine, code: &Code) -> wasmtime::Result<Component> {
    #[allow(unsafe_code, reason = "a `Code` holds only what this host compiled: see the top of this file")]
    // SAFETY: the invariant of `Code`.
    unsafe {
        Component::deserialize(engine, &code.bytes)
    }
}

/// Compiled code that this host made. Invariant: unchanged output of [`Cache::compile`] or
/// [`Cache::compile_here`].
pub(super) struct Code {
    bytes: Vec<u8>,
    /// Whether it was taken from the folder.
    pub(super) kept: bool,
}

/// The folder of compiled code, if there is one that can be trusted.
#[derive(Debug)]
pub(super) struct Cache {
    dir: Option<PathBuf>,
}

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
enum Untrusted {
    #[error("{}", crate::system::explain(.0))]
    Io(#[from] io::Error),
    #[error("it belongs to another user")]
    Owner,
    #[error("others may write to it (mode {mode:o}): run chmod 700 on it")]
    Mode { mode: u32 },
}

impl Cache {
    /// Takes `dir`, making it if need be. One that cannot be trusted is warned about and not used.
    pub(super) fn open(dir: Option<&Path>) -> Self {
        let Some(dir) = dir else { return Self { dir: None } };
        match prepare(dir) {
            Ok(()) => Self { dir: Some(dir.to_owned()) },
            Err(why) => {
                tracing::warn!(dir = %dir.display(), %why, "no cache of compiled code: modules are compiled at each start");
                Self { dir: None }
            }
        }
    }

    /// The code of a component whose BLAKE3 is `hash`, if it is in the folder.
    pub(super) fn kept(&self, engine: &Engine, hash: &blake3::Hash) -> Option<Code> {
        let dir = self.dir.as_ref()?;
        Some(Code { bytes: read(&dir.join(file_name(engine, hash)))?, kept: true })
    }

    /// Compiles a component of our own, on this thread alone, for engines with these settings.
    ///
    /// # Errors
    /// wasmtime's, if the component is not valid.
    pub(super) fn compile_here(settings: &Config, bytes: &[u8]) -> wasmtime::Result<Code> {
        let engine = Engine::new(settings.clone().parallel_compilation(false))?;
        Ok(Code { bytes: engine.precompile_component(bytes)?, kept: false })
    }

    /// Whether the code of a component seems to be in the folder.
    pub(super) fn has(&self, engine: &Engine, hash: &blake3::Hash) -> bool {
        self.dir.as_ref().is_some_and(|dir| dir.join(file_name(engine, hash)).exists())
    }

    /// Compiles a component and keeps its code. `bytes` are the component, whose BLAKE3 is `hash`.
    ///
    /// # Errors
    /// [`ModuleError`] if it is no component, or cannot be compiled within bounds.
    pub(super) fn compile<'a>(
        &self,
        runtime: &'a Inner,
        hash: &blake3::Hash,
        bytes: &[u8],
        effort: &Effort<'a>,
    ) -> Result<Code, ModuleError> {
        let engine = &runtime.grounds[0].engine;
        let code = compiler::compile(runtime, bytes, effort)?;
        if let Some(dir) = &self.dir {
            let path = dir.join(file_name(engine, hash));
            if let Err(error) = write(dir, &path, &code) {
                let error = crate::system::explain(&error);
                tracing::warn!(path = %crate::visible::path(&path), error, "compiled code could not be kept");
            }
            clean(dir, &path, CACHE_BYTES_MAX);
        }
        Ok(Code { bytes: code, kept: false })
    }
}

fn prepare(dir: &Path) -> Result<(), Untrusted> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let folder = fs::metadata(dir)?;
    let mode = folder.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(Untrusted::Mode { mode });
    }
    // Whoever owns a file made now is who we are.
    let probe = unique(dir);
    let created = File::create_new(&probe).and_then(|file| file.metadata());
    fs::remove_file(&probe).ok();
    if created?.uid() == folder.uid() { Ok(()) } else { Err(Untrusted::Owner) }
}

/// A path in `dir` that nobody else uses.
fn unique(dir: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    dir.join(format!(".{}-{count}-{}.{EXTENSION}", std::process::id(), Timestamp::now().micros()))
}

/// Tells engines apart whose compiled code is not the same.
pub(super) fn digest(engine: &Engine) -> [u8; 32] {
    let mut key = Key(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut key);
    *key.0.finalize().as_bytes()
}

/// A name that another content, compiler or setting does not have.
fn file_name(engine: &Engine, hash: &blake3::Hash) -> String {
    let mut key = Key(blake3::Hasher::new());
    key.0.update(hash.as_bytes());
    key.0.update(MAGIC);
    key.0.update(env!("CARGO_PKG_VERSION").as_bytes());
    engine.precompile_compatibility_hash().hash(&mut key);
    format!("{}.{EXTENSION}", key.0.finalize().to_hex())
}

/// Lets BLAKE3 hash what implements [`Hash`].
struct Key(blake3::Hasher);

impl Hasher for Key {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        self.0.finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }
}

/// The code in a file, if it is there and whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    match read_whole(path) {
        Ok(code) => Some(code),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let error = crate::system::explain(&error);
            tracing::warn!(path = %crate::visible::path(path), error, "compiled code cannot be read: it is made again");
            None
        }
    }
}

/// Reads the code in a file. Whatever else has its name does not keep anybody waiting: a pipe, a device,
/// a link, a folder or a file of another size than code can have.
fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(wrong("it is no file"));
    }
    if meta.len() > CODE_MAX {
        return Err(wrong("it is larger than compiled code can be"));
    }
    let mut head = [0; MAGIC.len() + blake3::OUT_LEN];
    file.read_exact(&mut head)?;
    let (magic, hash) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(wrong("it is of another format"));
    }
    let mut code = Vec::new();
    // It may grow meanwhile.
    (&mut file).take(CODE_MAX).read_to_end(&mut code)?;
    if blake3::hash(&code).as_bytes() != hash {
        return Err(wrong("it is damaged"));
    }
    // Says that it is still in use.
    file.set_modified(SystemTime::now()).ok();
    Ok(code)
}

/// Writes beside the place and moves it there, so that nobody reads half a file.
fn write(dir: &Path, path: &Path, code: &[u8]) -> io::Result<()> {
    let beside = unique(dir);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file
        .write_all(MAGIC)
        .and_then(|()| file.write_all(blake3::hash(code).as_bytes()))
        .and_then(|()| file.write_all(code))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        fs::remove_file(&beside).ok();
    }
    written
}

/// Removes files of ours that were not used for long, left-overs of a crash too, and then those that
/// were not used for longest until no more than `bytes_max` are left. The file at `newest` stays.
fn clean(dir: &Path, newest: &Path, bytes_max: u64) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let is_ours = |path: &PathBuf| path.extension() == Some(EXTENSION.as_ref()) && path.as_path() != newest;
    let mut files: Vec<(Duration, u64, PathBuf)> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(is_ours)
        .filter_map(|path| {
            let meta = fs::metadata(&path).ok()?;
            // A time to come is the clock's fault: as good as now.
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
    use super::*;
    use crate::runtime::fixtures;

    #[test]
    fn the_folder_keeps_what_was_used_last_within_its_bounds() {
        let folder = fixtures::Folder::new();
        let file = |name: &str, unused: Duration| {
            let path = folder.write(name, [0; 100]);
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
        clean(folder.path(), &newest, 300);
        let left = [&ancient, &old, &older, &recent, &others, &newest].map(|path| path.exists());
        assert_eq!(left, [false, true, false, true, true, true]);
        clean(folder.path(), &newest, 0);
        assert!(newest.exists() && !recent.exists() && !old.exists());
    }

    #[test]
    fn what_only_has_the_name_of_compiled_code_keeps_nobody_waiting() {
        let folder = fixtures::Folder::new();
        let place = |name: &str| folder.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(place("pipe")).status();
        assert!(made.is_ok_and(|status| status.success()));
        fs::create_dir(place("folder")).expect("a folder");
        std::os::unix::fs::symlink("/dev/zero", place("link")).expect("a link");
        let _listens = std::os::unix::net::UnixListener::bind(place("socket")).expect("a socket");
        File::create(place("huge")).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        folder.write("other", [1; 100]);
        for name in ["pipe", "folder", "link", "socket", "huge", "other", "nothing"] {
            assert_eq!(read(&place(name)), None, "{name}");
        }
        // And all but a folder make room for what is written next.
        for name in ["pipe", "link", "socket", "huge", "other"] {
            write(folder.path(), &place(name), b"code").expect("there is room");
            assert_eq!(read(&place(name)).as_deref(), Some(b"code".as_slice()), "{name}");
        }
    }
}
