//! The control plane: owns the queue, the leases, the schedule and the results.

pub mod core;
pub mod handler;
pub mod queue;
pub mod reports;
pub mod results;
pub mod retry;
pub mod roster;
pub mod sessions;
pub mod state;
pub mod way;
