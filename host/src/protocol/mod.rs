//! Messages between clients, control plane and subworkers.
//!
//! [`Request`] and [`Reply`] travel between a client and the control plane, [`WorkerRequest`] and
//! [`WorkerReply`] between a subworker and the control plane. [`codec`] encodes them; [`python_compat`] is
//! the protocol of the Python original. `docs/protocol.md` describes the bytes. Invariant: each message is
//! idempotent, as it may arrive twice.

use std::time::Duration;

mod bounded;
mod callback;
mod client;
pub mod codec;
pub mod python_compat;
mod query;
mod refusal;
mod schedule;
mod worker;

pub(crate) use bounded::at_most;
pub use callback::{CALLBACK_MESSAGE_MAX, CallbackMessage, write as write_callback};
pub use client::{
    Collect, Collected, Follow, Found, Lookup, Notify, Reply, Reports, Request, Submit, Submitted, Welcome, WorkerInfo,
    WorkerStatus,
};
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
/// Maximum time that a subworker's request for work stays open. Each answer shows the slot that its
/// connection works.
pub const WORK_WAIT: Duration = Duration::from_secs(3);
/// Maximum time that a request for work with outcomes stays open: the answer confirms them.
pub const CONFIRM_WAIT: Duration = Duration::from_secs(1);
/// Maximum time that a heartbeat stays open.
pub const BEAT_WAIT: Duration = Duration::from_secs(1);
/// Size in bytes of the documents in a frame after which no more are added.
pub const FRAME_TARGET: usize = 256 * 1024;
/// Maximum number of items in a frame; a longer list is not read.
pub const FRAME_ITEMS_MAX: usize = 1_000;
/// Maximum number of leases in a message of a worker.
pub const HOLDS_MAX: usize = 1 << 20;
/// Maximum length of a worker id in bytes.
pub const WORKER_ID_MAX: usize = 128;
/// Maximum number of reports in a message of a worker.
pub const NOTE_REPORTS_MAX: usize = 100_000;

/// Whether a text is a valid worker id. A colon is not: it ends the id in an announcement.
pub fn is_worker_id(id: &str) -> bool {
    (1..=WORKER_ID_MAX).contains(&id.len()) && !id.contains(|c: char| c == ':' || c.is_control())
}
