//! fastworker: a task queue without a broker, whose tasks are WebAssembly components.

pub mod clock;
pub mod json;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod task;
pub mod transport;
