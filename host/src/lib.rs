//! fastworker: a task queue without a broker, whose tasks are WebAssembly components.

#[cfg(feature = "cli")]
pub mod bench;
#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control_plane;
pub mod discovery;
#[cfg(feature = "runtime")]
pub mod gui;
pub mod json;
mod lock;
pub mod memory;
mod panics;
pub mod protocol;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod shutdown;
pub mod signature;
#[cfg(feature = "runtime")]
pub mod subworker;
mod system;
pub mod task;
pub mod transport;
#[cfg(feature = "runtime")]
mod visible;
