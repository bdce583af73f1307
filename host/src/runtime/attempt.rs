//! The data of one attempt, which its wasmtime store holds.
//!
//! Calling the guest, the host functions, WASI and the classification of errors all work on an
//! [`Attempt`], and none of them on each other.

use std::sync::{Arc, Mutex};

use uuid::Uuid;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, p1::WasiP1Ctx};

use super::{
    AttemptId, RuntimeConfig,
    contract_v1::Context,
    follow_ups::FollowUps,
    limits::Limits,
    output::Output,
    program_io::ProgramIo,
    reach::{FolderUnavailable, HttpState, Network, NetworkUsage, OpenConnection, Reach},
    watchdog::AttemptTimer,
};
use crate::{
    clock::Moment,
    json::Json,
    lock::lock,
    task::{AttemptLimits, Failure, LimitKind, Outcome, TaskId, Usage},
};

/// Bytes that a guest can always pass to the host in one call.
const HOSTCALL_MIN: usize = 1 << 20;
/// Maximum handles that a guest may hold at a time.
pub(super) const HANDLES_MAX: usize = 10_000;
/// Maximum entries of the resource table. A pollable has two, its own and that of its subject, so a
/// guest always reaches the limit of handles first.
const RESOURCES_MAX: usize = 2 * HANDLES_MAX + 100;

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptResult {
    /// Its outcome.
    pub outcome: Outcome,
    /// What it used.
    pub usage: Usage,
    /// `{"failure": {"kind": …, "details": …}}` if the guest gave a kind or details for its failure.
    pub metadata: Option<Json>,
}

impl AttemptResult {
    /// A result without metadata, of an attempt that used nothing.
    pub fn of(outcome: Outcome) -> Self {
        Self { outcome, usage: Usage::default(), metadata: None }
    }
}

impl From<Failure> for AttemptResult {
    fn from(failure: Failure) -> Self {
        Self::of(Outcome::Failure(failure))
    }
}

/// Identifies an attempt.
pub(super) struct AttemptInfo {
    pub(super) id: AttemptId,
    pub(super) task_id: TaskId,
    pub(super) deadline: Moment,
    /// Returned to the guest by `current`.
    pub(super) context: Arc<Context>,
    pub(super) limits: AttemptLimits,
}

impl AttemptInfo {
    /// A call without a task: `register`, or the creation of a trial sandbox.
    pub(super) fn without_task(deadline: Moment, limits: AttemptLimits) -> Self {
        let task_id = TaskId::from(Uuid::nil());
        let context = Context {
            task_id: task_id.to_string(),
            name: String::new(),
            attempt: 0,
            deadline_ms: 0,
            metadata: "{}".to_owned(),
        };
        Self { id: AttemptId(0), task_id, deadline, context: Arc::new(context), limits }
    }
}

/// The content of a store: one attempt, its resources and its limits.
pub(super) struct Attempt {
    pub(super) info: AttemptInfo,
    pub(super) follow_ups: FollowUps,
    pub(super) wasi: WasiState,
    pub(super) limits: Limits,
    /// Calls of the contract's host functions.
    pub(super) host_calls: u64,
    pub(super) reach: Arc<Reach>,
    /// Created on first use: most attempts never need it.
    network: Option<Arc<Network>>,
    slot: Arc<SlotShared>,
}

/// The WASI resources of an attempt.
pub(super) struct WasiState {
    pub(super) table: ResourceTable,
    /// Created on first use: most attempts never need it.
    pub(super) context: Option<Box<WasiCtx>>,
    /// Of a core module; created on first use.
    pub(super) preview1: Option<Box<WasiP1Ctx>>,
    /// What a program reads and writes.
    pub(super) program: Option<ProgramIo>,
    /// Created on first use.
    pub(super) http: Option<Box<HttpState>>,
    /// The TCP sockets, by their handle in the table.
    pub(super) connections: Vec<(u32, OpenConnection)>,
    /// Why the context lacks the granted folders, if it does.
    pub(super) folder_unavailable: Option<FolderUnavailable>,
}

/// The state that a slot shares with the stores of its attempts.
pub(super) struct SlotShared {
    pub(super) config: Arc<RuntimeConfig>,
    pub(super) timer: Arc<AttemptTimer>,
    pub(super) output: Arc<Mutex<Output>>,
}

impl SlotShared {
    pub(super) fn with_output<R>(&self, f: impl FnOnce(&mut Output) -> R) -> R {
        f(&mut lock(&self.output))
    }
}

impl Attempt {
    /// Creates an attempt that has used no resources yet.
    pub(super) fn new(slot: &Arc<SlotShared>, info: AttemptInfo, reach: &Arc<Reach>) -> Self {
        let (memory_max, result_max) = (info.limits.size(LimitKind::Memory), info.limits.size(LimitKind::Result));
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            info,
            follow_ups: FollowUps::new(slot.config.follow_ups_max, result_max),
            wasi: WasiState {
                table,
                context: None,
                preview1: None,
                program: None,
                http: None,
                connections: Vec::new(),
                folder_unavailable: None,
            },
            limits: Limits::new(memory_max),
            host_calls: 0,
            reach: Arc::clone(reach),
            network: None,
            slot: Arc::clone(slot),
        }
    }

    pub(super) fn with_output<R>(&self, f: impl FnOnce(&mut Output) -> R) -> R {
        self.slot.with_output(f)
    }

    pub(super) fn output(&self) -> Arc<Mutex<Output>> {
        Arc::clone(&self.slot.output)
    }

    /// What the attempt may reach and has used of the network. Created on first use.
    pub(super) fn network(&mut self) -> &Arc<Network> {
        let (id, limits) = (self.info.id, &self.info.limits);
        self.network.get_or_insert_with(|| self.reach.network(id, limits, Arc::clone(&self.slot.output)))
    }

    /// What the attempt has used of the network.
    pub(super) fn network_usage(&self) -> NetworkUsage {
        self.network.as_ref().map(|network| network.usage()).unwrap_or_default()
    }

    pub(super) fn timer(&self) -> &AttemptTimer {
        &self.slot.timer
    }

    /// The maximum bytes of its result.
    pub(super) fn result_max(&self) -> usize {
        self.info.limits.size(LimitKind::Result)
    }

    /// Maximum bytes that one call may pass to the host: enough to detect a result that is too large and to register
    /// many tasks, and too little to keep the host busy.
    pub(super) fn hostcall_max(&self) -> usize {
        self.result_max().saturating_mul(2).max(HOSTCALL_MIN)
    }
}
