//! fastworker: a task queue without a broker, whose tasks are WebAssembly components.

pub mod clock;
pub mod config;
pub mod control_plane;
pub mod json;
pub mod protocol;
pub mod task;
pub mod transport;
