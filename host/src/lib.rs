//! fastworker: a task queue in a single binary, without a broker. Tasks are functions in WebAssembly components, and
//! every attempt runs in a fresh sandbox.
//!
//! Programs use this crate in one of three ways: as a client that submits tasks ([`client`]), as a control plane or
//! subworker within another program ([`server`], [`subworker`]), or through the `fastworker` command. Authors of task
//! modules use the crate `fastworker-guest` instead.
//!
//! # Submit a task
//!
//! ```no_run
#![doc = include_str!("../examples/submit.rs")]
//! ```
//!
//! It is an example of the repository: `cargo build --release --workspace --example submit` builds it as
//! `target/release/examples/submit`.
//!
//! # Layout
//!
//! The modules in reading order. `ARCHITECTURE.md` in the repository lists the files that a task passes through.
//!
//! | module | contents |
//! | --- | --- |
//! | [`task`] | the types of the domain: tasks, results, policies, modules |
//! | [`json`], [`clock`], [`config`] | checked JSON text; instants and timestamps; addresses |
//! | [`signature`] | checks the arguments of a call against its task's schema |
//! | [`protocol`] | the messages between clients, control plane and subworkers, and their codecs |
//! | [`transport`] | sockets as traits, and their implementation with NNG |
//! | [`discovery`] | announcements of the control plane on the bus |
//! | [`client`] | the asynchronous client |
//! | [`control_plane`] | queue, leases, results, schedules and callbacks: a pure state behind one lock |
//! | [`subworker`] | the threads that run tasks for a control plane |
//! | [`runtime`] | loads task modules and runs attempts, with wasmtime |
//! | [`gui`] | the web interface, health checks and metrics |
//! | [`server`] | a running control plane: its sockets, own worker and web interface |
//! | [`cli`] | the `fastworker` command |
//! | [`bench`](mod@bench) | `fastworker bench` |
//!
//! # Features
//!
//! Both are on by default:
//!
//! - `cli`: the `fastworker` command. Without it the crate is a library that embeds a control plane or a subworker.
//! - `runtime`: task modules and the web interface; `cli` needs it. Without it the crate is a light client: no wasmtime,
//!   no subworker.

// The domain.
pub mod task;

pub mod json;

pub mod clock;

pub mod config;

pub mod signature;

// Messages and sockets.
pub mod protocol;

pub mod transport;

pub mod discovery;

// The parts of a system.
pub mod client;

pub mod control_plane;

#[cfg(feature = "runtime")]
pub mod subworker;

#[cfg(feature = "runtime")]
pub mod runtime;

#[cfg(feature = "runtime")]
pub mod gui;

pub mod server;

#[cfg(feature = "cli")]
pub mod cli;

#[cfg(feature = "cli")]
pub mod bench;

// Support.
mod bounded;
#[cfg(feature = "runtime")]
mod escape;
mod lock;
pub mod memory;
mod nearest;
mod panics;
pub mod shutdown;
mod system;
