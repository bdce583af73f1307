//! The data of one attempt: what its wasmtime store holds.
//!
//! Calling the guest, the host functions, WASI and the classification of errors all work on an
//! [`Attempt`], and none of them on each other.

use std::sync::{Arc, Mutex};

use uuid::Uuid;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;

use super::{
    AttemptId, RuntimeConfig, contract_v1::Context, follow_ups::FollowUps, limits::Limits, output::Output,
    watchdog::AttemptTimer,
};
use crate::{
    clock::Moment,
    json::Json,
    lock::lock,
    task::{Failure, Outcome, TaskId},
};

/// Bytes that a guest can always pass to the host in one call.
const HOSTCALL_MIN: usize = 1 << 20;
/// Maximum handles that a guest may hold at once.
pub(super) const HANDLES_MAX: usize = 10_000;
/// Maximum entries of the resource table. A pollable has two, its own and that of its subject, so a
/// guest always reaches the limit of handles first.
const RESOURCES_MAX: usize = 2 * HANDLES_MAX + 100;

/// What an attempt ended in.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptResult {
    /// Its outcome.
    pub outcome: Outcome,
    /// `{"failure": {"kind": …, "details": …}}` if the guest gave a kind or details for its failure.
    pub metadata: Option<Json>,
}

impl From<Failure> for AttemptResult {
    fn from(failure: Failure) -> Self {
        Self { outcome: Outcome::Failure(failure), metadata: None }
    }
}

/// Which attempt it is.
pub(super) struct AttemptInfo {
    pub(super) id: AttemptId,
    pub(super) task_id: TaskId,
    pub(super) deadline: Moment,
    /// What the guest can ask for with `current`.
    pub(super) context: Arc<Context>,
}

impl AttemptInfo {
    /// A call that belongs to no task: `register`, or the set-up of a sandbox on trial.
    pub(super) fn without_task(deadline: Moment) -> Self {
        let task_id = TaskId::from(Uuid::nil());
        let context = Context {
            task_id: task_id.to_string(),
            name: String::new(),
            attempt: 0,
            deadline_ms: 0,
            metadata: "{}".to_owned(),
        };
        Self { id: AttemptId(0), task_id, deadline, context: Arc::new(context) }
    }
}

/// What a store holds: one attempt, its resources and its limits.
pub(super) struct Attempt {
    pub(super) info: AttemptInfo,
    pub(super) follow_ups: FollowUps,
    pub(super) wasi: WasiState,
    pub(super) limits: Limits,
    slot: Arc<SlotShared>,
}

/// The WASI resources of an attempt.
pub(super) struct WasiState {
    pub(super) table: ResourceTable,
    /// Created on first use: most attempts never need it.
    pub(super) context: Option<Box<WasiCtx>>,
}

/// What a slot shares with the stores of its attempts.
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
    /// An attempt that has used nothing yet.
    pub(super) fn new(slot: &Arc<SlotShared>, info: AttemptInfo) -> Self {
        let RuntimeConfig { memory_max, result_max, follow_ups_max, .. } = *slot.config;
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            info,
            follow_ups: FollowUps::new(follow_ups_max, result_max),
            wasi: WasiState { table, context: None },
            limits: Limits::new(memory_max),
            slot: Arc::clone(slot),
        }
    }

    pub(super) fn with_output<R>(&self, f: impl FnOnce(&mut Output) -> R) -> R {
        self.slot.with_output(f)
    }

    pub(super) fn output(&self) -> Arc<Mutex<Output>> {
        Arc::clone(&self.slot.output)
    }

    pub(super) fn timer(&self) -> &AttemptTimer {
        &self.slot.timer
    }

    pub(super) fn config(&self) -> &RuntimeConfig {
        &self.slot.config
    }

    /// Maximum bytes that one call may pass to the host: enough to recognise a result that is too
    /// large by its length and to register many tasks, and too little to keep the host busy.
    pub(super) fn hostcall_max(&self) -> usize {
        self.config().result_max.saturating_mul(2).max(HOSTCALL_MIN)
    }
}
