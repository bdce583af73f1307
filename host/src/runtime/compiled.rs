//! Compiled code, and the directory that caches it.
//!
//! Separate module because it uses `unsafe`: wasmtime runs this code without checking it. Invariant: [`instantiable`]
//! only gets bytes that our compiler has just produced, or from a directory that only this user can write, under a name
//! derived from the module, the compiler's version and its settings, with the right BLAKE3 hash.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use wasmtime::{Config, Engine, Precompiled, component::Component};

use super::{
    Inner, cache_dir,
    compiler::{self, CompileJob, CompiledCode},
    error::ModuleError,
    fingerprint::fingerprint,
};

/// The first bytes of a cached file, with the version of the format.
const MAGIC: &[u8; 8] = b"fwcode01";
/// The extension of cached files.
const EXTENSION: &str = "fwcode";
/// Maximum bytes in the directory; beyond it, the least recently used code is removed.
const CACHE_BYTES_MAX: u64 = 2 << 30;

/// Maximum compiled code of one module in bytes.
pub(super) const CODE_MAX: u64 = 1 << 30;

/// What compiled code contains.
pub(super) enum Instantiable {
    Component(Component),
    /// A program without a component around it.
    Core(wasmtime::Module),
}

/// Loads compiled code into an engine with the settings that it was compiled for.
///
/// # Errors
/// wasmtime's, if the component does not fit into the engine's pool or the code is for another
/// version, machine or settings.
pub(super) fn instantiable(engine: &Engine, code: &Code) -> wasmtime::Result<Instantiable> {
    let is_core = Engine::detect_precompiled(&code.bytes) == Some(Precompiled::Module);
    #[allow(unsafe_code, reason = "a `Code` holds only what this host compiled: see the top of this file")]
    // SAFETY: the invariant of `Code`.
    unsafe {
        if is_core {
            wasmtime::Module::deserialize(engine, &code.bytes).map(Instantiable::Core)
        } else {
            Component::deserialize(engine, &code.bytes).map(Instantiable::Component)
        }
    }
}

/// Compiled code that this host produced. Invariant: unchanged output of [`Cache::compile`] or [`Cache::compile_here`].
pub(super) struct Code {
    bytes: Vec<u8>,
    /// Whether it was read from the directory.
    pub(super) is_cached: bool,
    /// Peak memory of its compiler in bytes, if it was compiled now and the memory is known.
    pub(super) compile_memory: Option<u64>,
}

/// The directory of compiled code. Disabled if it cannot be trusted.
#[derive(Debug)]
pub(super) struct Cache {
    dir: Option<PathBuf>,
}

impl Cache {
    /// Opens or creates `dir`. A directory that cannot be trusted is not used, with a warning.
    pub(super) fn open(dir: Option<&Path>) -> Self {
        let Some(dir) = dir else { return Self { dir: None } };
        match cache_dir::prepare(dir) {
            Ok(()) => Self { dir: Some(dir.to_owned()) },
            Err(why) => {
                tracing::warn!(dir = %dir.display(), %why, "no cache of compiled code: modules are compiled at each start");
                Self { dir: None }
            }
        }
    }

    /// The code of a component whose BLAKE3 is `hash`, if it is in the directory.
    pub(super) fn get(&self, engine: &Engine, hash: &blake3::Hash) -> Option<Code> {
        let dir = self.dir.as_ref()?;
        Some(Code { bytes: read(&dir.join(file_name(engine, hash)))?, is_cached: true, compile_memory: None })
    }

    /// Compiles a trusted component on this thread, for engines with these settings.
    ///
    /// # Errors
    /// wasmtime's, if the component is not valid.
    pub(super) fn compile_here(settings: &Config, bytes: &[u8]) -> wasmtime::Result<Code> {
        let engine = Engine::new(settings.clone().parallel_compilation(false))?;
        Ok(Code { bytes: engine.precompile_component(bytes)?, is_cached: false, compile_memory: None })
    }

    /// Whether the directory has a file for the code of a component. The file may be unusable.
    pub(super) fn contains(&self, engine: &Engine, hash: &blake3::Hash) -> bool {
        self.dir.as_ref().is_some_and(|dir| dir.join(file_name(engine, hash)).exists())
    }

    /// Compiles a component and caches its code. `hash` is the BLAKE3 of `bytes`.
    ///
    /// # Errors
    /// [`ModuleError`] if it is not a component, or cannot be compiled within its limits.
    pub(super) fn compile<'a>(
        &self,
        runtime: &'a Inner,
        hash: &blake3::Hash,
        bytes: &[u8],
        job: &CompileJob<'a>,
    ) -> Result<Code, ModuleError> {
        let engine = &runtime.engines[0].engine;
        let CompiledCode { bytes: code, memory } = compiler::compile(runtime, bytes, job)?;
        if let Some(dir) = &self.dir {
            let path = dir.join(file_name(engine, hash));
            let hash = blake3::hash(&code);
            if let Err(error) = cache_dir::write(dir, &path, &[MAGIC, hash.as_bytes(), &code]) {
                let error = crate::system::explain(&error);
                tracing::warn!(path = %crate::escape::path(&path), error, "compiled code could not be cached");
            }
            cache_dir::remove_unused(dir, &path, &[EXTENSION], CACHE_BYTES_MAX);
        }
        Ok(Code { bytes: code, is_cached: false, compile_memory: Some(memory).filter(|memory| *memory > 0) })
    }
}

/// The name of the cached file for this module, compiler and settings.
fn file_name(engine: &Engine, hash: &blake3::Hash) -> String {
    let mut key = blake3::Hasher::new();
    key.update(hash.as_bytes()).update(MAGIC).update(env!("CARGO_PKG_VERSION").as_bytes()).update(&fingerprint(engine));
    format!("{}.{EXTENSION}", key.finalize().to_hex())
}

/// The code in a file, if it exists and is intact.
fn read(path: &Path) -> Option<Vec<u8>> {
    match read_checked(path) {
        Ok(code) => Some(code),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let error = crate::system::explain(&error);
            tracing::warn!(path = %crate::escape::path(path), error, "cached code cannot be read: compiling again");
            None
        }
    }
}

/// Reads the code in a file. Never blocks on other kinds of files: a pipe, a device, a link, a directory or a file of
/// an impossible size.
fn read_checked(path: &Path) -> io::Result<Vec<u8>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(invalid("it is not a file"));
    }
    if meta.len() > CODE_MAX {
        return Err(invalid("it is too large"));
    }
    let mut head = [0; MAGIC.len() + blake3::OUT_LEN];
    file.read_exact(&mut head)?;
    let (magic, hash) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(invalid("it has another format"));
    }
    let mut code = Vec::new();
    // Limited, as the file may grow while it is read.
    (&mut file).take(CODE_MAX).read_to_end(&mut code)?;
    if blake3::hash(&code).as_bytes() != hash {
        return Err(invalid("it is damaged"));
    }
    // The time of its last use.
    file.set_modified(SystemTime::now()).ok();
    Ok(code)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::runtime::fixtures;

    #[test]
    fn anything_but_a_file_in_place_of_cached_code_never_blocks() {
        let dir = fixtures::TestDir::new();
        let path = |name: &str| dir.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status();
        assert!(made.is_ok_and(|status| status.success()));
        fs::create_dir(path("dir")).expect("a directory");
        std::os::unix::fs::symlink("/dev/zero", path("link")).expect("a link");
        let _listens = std::os::unix::net::UnixListener::bind(path("socket")).expect("a socket");
        File::create(path("huge")).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        dir.write("other", [1; 100]);
        for name in ["pipe", "dir", "link", "socket", "huge", "other", "nothing"] {
            assert_eq!(read(&path(name)), None, "{name}");
        }
        // All but the directory can be replaced.
        for name in ["pipe", "link", "socket", "huge", "other"] {
            let hash = blake3::hash(b"code");
            let parts: [&[u8]; 3] = [MAGIC, hash.as_bytes(), b"code"];
            cache_dir::write(dir.path(), &path(name), &parts).expect("enough space");
            assert_eq!(read(&path(name)).as_deref(), Some(b"code".as_slice()), "{name}");
        }
    }
}
