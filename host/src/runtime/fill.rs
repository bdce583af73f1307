//! Fills the cache of compiled code ahead of the first start.

use std::{path::Path, sync::atomic::AtomicBool, time::Duration};

use super::{Content, LoadError, Runtime, compiler::CompileJob, load, threads_max};
use crate::task::ModuleInfo;

/// A module whose code is in the cache.
#[derive(Clone, Debug)]
pub struct CachedModule {
    /// Its description.
    pub info: ModuleInfo,
    /// BLAKE3 of its file.
    pub content: Content,
    /// Its file.
    pub bytes: Vec<u8>,
    /// Whether its code was in the cache before.
    pub was_cached: bool,
    /// Whether its code is in the cache now.
    pub is_cached: bool,
    /// The time that it took.
    pub took: Duration,
}

impl Runtime {
    /// Loads a module once, so that its code is in the cache and it is certain that it can run. It blocks.
    ///
    /// # Errors
    /// [`LoadError`] with the path and the problem of the module.
    pub fn fill_cache(&self, path: &Path) -> Result<CachedModule, LoadError> {
        let started = std::time::Instant::now();
        let failed = |why| LoadError { path: path.to_owned(), why };
        let bytes = load::read(path, self.0.config.module_max).map_err(failed)?;
        let hash = blake3::hash(&bytes);
        let is_cached = || self.0.cache.contains(&self.0.engines[0].engine, &hash);
        let (was_cached, is_unwanted) = (is_cached(), AtomicBool::new(false));
        let job = CompileJob::new(threads_max(), &is_unwanted);
        let module = load::load_bytes(&self.0, path, &bytes, &job).map_err(failed)?;
        let (info, content, took) = (module.info().clone(), hash.into(), started.elapsed());
        Ok(CachedModule { info, content, bytes, was_cached, is_cached: is_cached(), took })
    }
}
