//! The harness: real processes of the built binary, on free ports, which end with their test.
//!
//! ```no_run
//! # async fn example() {
//! use fastworker_tests::Cluster;
//!
//! let cluster = Cluster::builder().modules(&["arithmetic"]).subworkers(2).start();
//! let client = cluster.client().await;
//! let sum = client.submit_task("add", (5, 3)).await.expect("result expected");
//! assert_eq!(sum.result.expect("result expected").as_str(), "8");
//! # }
//! ```
//!
//! [`binary`], [`modules`], [`sdk`] and [`guests`] build what is tested, [`ports`] and [`process`] run it, [`cluster`]
//! combines them.
//! [`wait`] waits for a condition with a deadline; no test has fixed sleeps. [`snapshot`] compares wording. [`faults`] has
//! the fault suites. The log of a server is printed when its test fails. [`sim`] is separate: a seeded simulation of
//! whole clusters over the pure state.

#![allow(clippy::missing_panics_doc, reason = "the harness panics where a test fails")]

pub mod binary;
pub mod cli;
pub mod cluster;
pub mod faults;
pub mod guests;
pub mod http;
pub mod modules;
pub mod original;
pub mod peer;
pub mod ports;
pub mod process;
pub mod python;
pub mod relay;
pub mod sdk;
pub mod servers;
pub mod sim;
pub mod snapshot;
pub mod steady;
pub mod task_helpers;
pub mod wait;
pub mod wording;

pub use cli::{Ran, fastworker};
pub use cluster::Cluster;
pub use guests::Guest;
pub use modules::module;
pub use process::Process;
pub use snapshot::Transcript;
pub use wait::{TIMEOUT, eventually};
