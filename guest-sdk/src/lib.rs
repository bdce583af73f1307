//! Write tasks in Rust.
//!
//! TUTORIAL

// `#[task]` writes `::fastworker_guest::…`, also in this crate's own tests.

mod task;

mod arguments;

mod error;

pub mod context;

mod log;

mod follow_up;

mod wait;

mod host;

#[cfg(target_family = "wasm")]
mod export;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use error::TaskError;
pub use fastworker_guest_macros::task;
pub use follow_up::{FollowUp, Priority};
pub use log::Level;
pub use wait::{Sleep, WaitsOnNothing, block_on, sleep};

/// What the code that `#[task]` writes uses. Not for people: it may change with any version.
#[doc(hidden)]
pub mod __private {
    pub use crate::arguments::{Arguments, optional, required};
    pub use crate::log::write as log;
    pub use crate::task::{Outcome, Parameter, Registered, Task, finish, finish_result};
    pub use crate::wait::block_on;
    pub use inventory;
}
