//! Errors of wasmtime that are the host's own: it has no memory, address space or pool slot left.

use wasmtime::PoolConcurrencyLimitError;

use crate::system;

/// Returns whether an error means that the host lacks memory, address space or a slot in the pool.
pub(super) fn is_host_error(error: &wasmtime::Error) -> bool {
    error.is::<rustix::io::Errno>()
        || error.is::<std::io::Error>()
        || error.is::<wasmtime::OutOfMemory>()
        || error.is::<PoolConcurrencyLimitError>()
}

/// Formats an error of the engine, with the system limit that caused it, if one did.
pub(super) fn explain(error: &wasmtime::Error) -> String {
    if !is_host_error(error) {
        return format!("{error:#}");
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return error.root_cause().to_string();
    }
    format!("{}: {}", error.root_cause(), system::memory_limits())
}
