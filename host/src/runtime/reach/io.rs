//! The runtime of everything for which guests wait outside: sockets, name look-ups, files.
//!
//! One runtime for all slots, started when the first module that has grants for it is loaded. A slot waits in it by
//! [`Handle::block_on`](tokio::runtime::Handle::block_on), so it needs no I/O driver of its own, and connections of an
//! attempt that has ended close without it. File operations and look-ups block a thread each: their number is bounded,
//! and an attempt whose operation never ends is ended by its deadline.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::{lock::lock, system};

/// Threads that serve sockets.
const WORKERS: usize = 2;
/// Maximum threads for file operations and name look-ups.
const BLOCKING_MAX: usize = 64;

/// The I/O runtime, once it is needed.
#[derive(Debug, Default)]
pub(in crate::runtime) struct IoRuntime(Mutex<Option<Runtime>>);

impl IoRuntime {
    /// Starts it, unless it runs.
    ///
    /// # Errors
    /// The system's if its threads cannot be started.
    pub(super) fn handle(&self) -> io::Result<Handle> {
        let mut runtime = lock(&self.0);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        system::check_threads(WORKERS)?;
        let started = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(BLOCKING_MAX)
            .thread_name("fw-io")
            .enable_io()
            .enable_time()
            .build()?;
        let handle = started.handle().clone();
        *runtime = Some(started);
        Ok(handle)
    }
}

impl Drop for IoRuntime {
    /// Does not wait for file operations. tokio panics if a runtime is dropped in async code, except by this.
    fn drop(&mut self) {
        let runtime = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.take() {
            runtime.shutdown_background();
        }
    }
}
