//! Messages between clients, control plane and subworkers.
//!
//! [`Request`] and [`Reply`] travel between a client and the control plane, [`WorkerRequest`] and
//! [`WorkerReply`] between a subworker and the control plane. [`codec`] encodes them; [`python_compat`] is
//! the protocol of the Python original. `docs/protocol.md` describes the bytes. Invariant: each message is
//! idempotent, as it may arrive twice.

use std::time::Duration;

mod callback;
mod client;
pub mod codec;
mod modules;
pub mod python_compat;
mod query;
mod refusal;
mod schedule;
mod worker;

pub use crate::bounded::FRAME_ITEMS_MAX;
pub use callback::{CALLBACK_MESSAGE_MAX, CallbackMessage, write as write_callback};
pub use client::{
    Collect, Collected, Follow, Found, Lookup, Notify, Reply, Reports, Request, Submit, Submitted, Welcome, WorkerInfo,
    WorkerStatus,
};
pub use modules::{Blob, CHUNK_MAX, Chunk, ChunkQuery, ModuleList, ModulesQuery, OfferedModule};
pub use query::{Event, EventKind, EventQuery, Events, TaskPage, TaskQuery, TaskSummary};
pub use refusal::{Refusal, RefusalCode};
pub use schedule::{NewSchedule, ScheduleInfo, ScheduleRequest, ScheduleSource, ScheduleStatus};
pub use worker::{
    Beat, CatalogChange, Ended, Lease, LeaseId, Note, Order, Registration, Work, WorkerReply, WorkerRequest,
};

/// Version of the protocol.
pub const VERSION: u32 = 1;
/// Maximum time that a request stays open.
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// Maximum time that a subworker's request for work stays open. Each reply confirms to the slot that its
/// connection works.
pub const WORK_WAIT: Duration = Duration::from_secs(3);
/// Maximum time that a request for work with outcomes stays open: the reply confirms them.
pub const CONFIRM_WAIT: Duration = Duration::from_secs(1);
/// Maximum time that a heartbeat stays open.
pub const BEAT_WAIT: Duration = Duration::from_secs(1);
/// Size in bytes of the documents in a frame after which no more are added.
pub const FRAME_TARGET: usize = 256 * 1024;
/// Maximum number of leases that a slot holds at a time.
pub const PREFETCH_MAX: usize = 256;
/// Maximum number of leases in a message of a worker.
pub const HOLDS_MAX: usize = 1 << 20;
/// Maximum number of reports in a message of a worker.
pub const NOTE_REPORTS_MAX: usize = 100_000;
