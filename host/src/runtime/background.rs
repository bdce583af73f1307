//! Loads modules while others run.

use std::{
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::atomic::AtomicBool,
};

use super::{
    CompileError, Content, LoadError, Module, ModuleError, ModuleStore, Runtime, compiler::CompileJob, load,
    threads_max,
};

/// Where the bytes of a module come from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// The file at its path.
    File {
        /// Where to keep them if it can be loaded, for workers that take it from this control plane.
        kept_in: Option<&'a ModuleStore>,
    },
    /// What a worker has taken from the control plane.
    Store(&'a ModuleStore),
}

/// The priority with which modules are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPriority {
    /// On several threads, as tasks may wait for the modules.
    Startup,
    /// On one thread, as the slots run tasks.
    Background,
}

impl Runtime {
    /// Loads the module at `path` on this thread, whose priority is lowered before the module runs. Its bytes come from
    /// there, or from the store if it was taken from the control plane. None if they are not there any more: the file
    /// was changed or removed since `content` was read; or once `is_unwanted` is set.
    ///
    /// # Errors
    /// [`LoadError`] with the path and the problem of the module.
    pub fn load_in_background(
        &self,
        path: &Path,
        content: Content,
        origin: Origin<'_>,
        priority: LoadPriority,
        is_unwanted: &AtomicBool,
    ) -> Result<Option<Module>, LoadError> {
        let threads = if priority == LoadPriority::Startup { threads_max() } else { 1 };
        let job = CompileJob::in_background(threads, is_unwanted);
        let is_cached = self.0.cache.contains(&self.0.engines[0].engine, &content.into());
        if !is_cached && !job.acquire_permit(&self.0.semaphore) {
            return Ok(None);
        }
        let read = match origin {
            Origin::File { .. } => load::read(path, self.0.config.module_max),
            Origin::Store(store) => store.read(&content).ok_or(ModuleError::Missing),
        };
        let bytes = match read {
            Ok(bytes) if blake3::hash(&bytes) == content => bytes,
            Ok(_) | Err(ModuleError::Missing) => return Ok(None),
            Err(why) => return Err(LoadError { path: path.to_owned(), why }),
        };
        // A panic in the compiler must not end this thread, as others wait for it.
        let loaded = panic::catch_unwind(AssertUnwindSafe(|| load::load_bytes(&self.0, path, &bytes, &job)));
        let panicked = || Err(ModuleError::Invalid("fastworker crashed on it, which is a bug".to_owned()));
        match loaded.unwrap_or_else(|_| panicked()) {
            Ok(module) => {
                if let Origin::File { kept_in: Some(store) } = origin {
                    store.keep(&content, &bytes);
                }
                Ok(Some(module))
            }
            Err(ModuleError::Compile(CompileError::Unwanted)) => Ok(None),
            Err(why) => Err(LoadError { path: path.to_owned(), why }),
        }
    }
}
