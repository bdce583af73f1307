//! The control plane: owns the queue, the leases, the schedule and the results.
//!
//! A message comes in through [`handler`] and enters [`state`] behind the lock of [`core`]. Replies leave through
//! [`reply_to`], callbacks through [`callbacks`]. The other modules hold the state's data. [`crate::server`] starts
//! and stops all of it.

pub mod callbacks;
pub mod cluster;
pub mod core;
pub mod events;
pub mod handler;
#[cfg(feature = "runtime")]
pub(crate) mod local_link;
mod log;
pub mod metrics;
pub mod queue;
pub mod reply_to;
pub mod reports;
pub mod results;
pub mod retry;
pub mod schedules;
pub mod sessions;
pub mod signatures;
pub mod state;
pub mod worker_registry;
