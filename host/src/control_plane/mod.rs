//! The control plane: owns the queue, the leases, the schedule and the results.
//!
//! A message arrives at [`handler`] and enters [`state`] behind the lock of [`core`]. Replies are sent by
//! [`reply_to`], callbacks by [`callbacks`]. [`crate::server`] starts and stops all of it.

// The path of a message.
pub mod handler;

pub mod core;

pub mod state;

pub mod reply_to;

// The data of the state.
pub mod queue;

pub mod worker_registry;

pub mod results;

pub mod reports;

pub mod sessions;

pub mod schedules;

pub mod retry;

pub mod events;

pub mod metrics;

// Around the state.
pub mod callbacks;
pub mod cluster;
#[cfg(feature = "runtime")]
pub(crate) mod local_link;
mod log;
pub mod signatures;
