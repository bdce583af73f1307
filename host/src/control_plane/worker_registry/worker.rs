//! The records of a worker and of its slots.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::catalog::{catalog_bytes, is_loading, leaving, served_names};
use crate::{
    clock::{Moment, Now, Timestamp},
    protocol::{LeaseId, Refusal, Registration, WorkerInfo, WorkerStatus},
    task::{ModuleInfo, ModuleVersion},
    transport::Peer,
};

/// A worker.
#[derive(Debug)]
pub struct WorkerRecord<R> {
    /// Its worker id.
    pub id: Arc<str>,
    /// The connection of its last message; none for the control plane's own worker.
    pub peer: Option<Peer>,
    /// When its last message arrived.
    pub last_seen: Now,
    /// When its connection was closed, if it has no other yet.
    pub disconnected: Option<Moment>,
    /// Time of its timeout; never for the control plane's own worker.
    pub timeout_check: Moment,
    /// Gets no more tasks.
    pub draining: bool,
    /// Runs one task alone, or finishes others in order to do so: it gets no other task.
    pub(super) reserved: bool,
    /// Its slots that have requested work, by number.
    pub slots: BTreeMap<u32, SlotRecord<R>>,
    /// Its parked heartbeat, and its deadline.
    pub beat: Option<(R, Moment)>,
    /// Its parked request for the list of modules, the version that it has, and its deadline.
    pub module_query: Option<(R, u64, Moment)>,
    /// The number of its last progress report.
    pub last_note: u64,
    /// The number of its last catalog change, and its refusal, if it was declined.
    pub last_change: (u64, Option<Refusal>),
    /// Number of attempts that it has ended.
    pub attempts: u64,
    /// The task names that it can run, with the mean run time of each.
    pub(super) names: BTreeMap<Arc<str>, Mean>,
    /// Those of them whose module was removed: it runs only tasks that were submitted before.
    pub(super) leaving: BTreeSet<Arc<str>>,
    /// Whether it loads modules, whose names are not known yet.
    pub(super) loading: bool,
    /// Number of slots that hold leases.
    pub(super) busy: usize,
    /// Slots whose request is parked.
    pub(super) parked: BTreeSet<u32>,
    pub(super) size: u32,
    address: String,
    pub(super) modules: Vec<ModuleInfo>,
    pub(super) catalog_bytes: usize,
    registered_at: Timestamp,
}

/// A slot of a worker.
#[derive(Debug)]
pub struct SlotRecord<R> {
    /// The number of its last request.
    pub sequence: u64,
    /// The leases that the last reply granted.
    pub granted: Vec<LeaseId>,
    /// Its parked request.
    pub parked: Option<R>,
    /// Maximum number of leases that it requested.
    pub capacity: u32,
    /// The deadline of the parked request, or of the leases.
    pub until: Moment,
    /// Whether the leases have arrived.
    pub arrival: Arrival,
}

/// Whether the leases of a slot have arrived there. They travel in one reply, so they arrive together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// They should arrive until then.
    Expected(Moment),
    /// They should have arrived, and a heartbeat at this time did not list them.
    Missed(Moment),
    /// They have arrived.
    Confirmed,
}

impl<R> Default for SlotRecord<R> {
    fn default() -> Self {
        let (until, arrival) = (Moment::NEVER, Arrival::Confirmed);
        Self { sequence: 0, granted: Vec::new(), parked: None, capacity: 0, until, arrival }
    }
}

/// An exponential moving average, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean(Option<f64>);

impl Mean {
    fn add(&mut self, micros: f64) {
        const WEIGHT: f64 = 0.1;
        self.0 = Some(self.0.map_or(micros, |mean| mean + WEIGHT * (micros - mean)));
    }
}

impl<R> WorkerRecord<R> {
    pub(super) fn new(now: Now, registration: Registration, peer: Option<Peer>) -> Self {
        let entries = served_names(&registration.modules, registration.slots);
        Self {
            id: registration.worker_id.into(),
            peer,
            last_seen: now,
            disconnected: None,
            timeout_check: Moment::NEVER,
            draining: false,
            reserved: false,
            slots: BTreeMap::new(),
            beat: None,
            module_query: None,
            last_note: 0,
            last_change: (0, None),
            attempts: 0,
            leaving: leaving(&entries),
            loading: is_loading(&registration.modules),
            names: entries.into_keys().map(|name| (name, Mean::default())).collect(),
            busy: 0,
            parked: BTreeSet::new(),
            size: registration.slots,
            address: registration.address,
            catalog_bytes: catalog_bytes(&registration.modules),
            modules: registration.modules,
            registered_at: now.wall,
        }
    }

    /// Whether it can run a task name.
    pub fn can_run(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The mean run time of a task name on this worker, if one ran.
    pub fn mean_run(&self, name: &str) -> Option<Duration> {
        self.names.get(name)?.0.map(|micros| Duration::from_secs_f64(micros / 1e6))
    }

    /// Records that an attempt ran for this long.
    pub fn record_run(&mut self, name: &str, ran: Duration) {
        self.attempts += 1;
        if let Some(mean) = self.names.get_mut(name) {
            mean.add(ran.as_secs_f64() * 1e6);
        }
    }

    /// The name of its module with this version.
    pub fn module(&self, version: ModuleVersion) -> Option<&str> {
        let module = self.modules.iter().find(|module| ModuleVersion::of_hash(&module.hash) == Some(version));
        module.map(|module| module.name.as_str())
    }

    /// Its number of slots.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The address that is displayed for it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its loaded modules.
    pub fn modules(&self) -> &[ModuleInfo] {
        &self.modules
    }

    /// When it registered.
    pub fn registered_at(&self) -> Timestamp {
        self.registered_at
    }

    /// The task names that it can run.
    pub fn names(&self) -> &BTreeMap<Arc<str>, Mean> {
        &self.names
    }

    /// Number of slots that hold leases.
    pub fn load(&self) -> usize {
        self.busy
    }

    /// Whether it is reserved for one task.
    pub fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// The first slot that waits for work.
    pub fn first_parked(&self) -> Option<u32> {
        self.parked.first().copied()
    }

    /// Its load in thousandths, if a slot waits and it is not reserved.
    pub(super) fn idle_rank(&self) -> Option<usize> {
        (!self.parked.is_empty() && !self.reserved).then(|| self.busy * 1_000 / self.size.max(1) as usize)
    }

    pub(super) fn status(&self) -> WorkerStatus {
        if self.draining { WorkerStatus::Draining } else { WorkerStatus::Active }
    }

    /// Describes it, without its catalog.
    pub fn info(&self, status: WorkerStatus) -> WorkerInfo {
        WorkerInfo {
            id: self.id.to_string(),
            address: self.address.clone(),
            status,
            is_control_plane: self.peer.is_none(),
            slots: self.size,
            load: u32::try_from(self.load()).unwrap_or(u32::MAX),
            registered_at: self.registered_at,
            last_seen: self.last_seen.wall,
            attempts: self.attempts,
            modules: Vec::new(),
        }
    }
}
