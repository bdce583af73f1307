//! The registry of workers: their connections, their catalogs and their slots.
//!
//! Only keeps data: [`super::state`] decides which worker gets which task. Invariants: `served_names` counts, for each
//! task name, the workers whose catalog has it, and how many of them are about to lose it; `idle` holds the workers
//! that have a parked slot and are not reserved, the least loaded first.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::signatures::TaskChange;
use crate::{
    clock::{Moment, Now},
    protocol::{Refusal, RefusalCode, Registration, WorkerInfo, WorkerStatus},
    task::{ModuleInfo, Policy, TaskName, WorkerId},
    transport::Peer,
};

mod catalog;
mod declared;
mod worker;

pub use catalog::NameDiff;
use catalog::{CatalogEntry, ServedName, catalog_bytes, is_loading, leaving, served_names};
pub use worker::{Arrival, Mean, SlotRecord, WorkerRecord};

/// Timeout of a worker that sends nothing.
pub const WORKER_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for a worker to reconnect after its connection was closed.
pub const RECONNECT_GRACE: Duration = Duration::from_millis(500);
/// Maximum number of names that are kept after their last worker was removed.
const RECENT_NAMES_MAX: usize = 10_000;
/// Maximum number of slots of a worker.
pub const SLOTS_MAX: u32 = 4_096;
/// Maximum number of workers.
pub const WORKERS_MAX: usize = 1_000;
/// Maximum size of a worker's catalog, in bytes.
pub const CATALOG_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Maximum size of the catalogs of all workers together, in bytes.
pub const CATALOGS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Maximum size of the catalogs in one reply, in bytes.
const CATALOG_REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Maximum length of the address that is displayed for a worker, in bytes.
const ADDRESS_MAX: usize = 256;
/// Maximum number of names that are compared with an unknown one, to suggest the nearest.
const SUGGESTED_FROM_MAX: usize = 1_000;
/// Time for which lost workers are listed.
const LOST_KEPT_FOR: Duration = Duration::from_mins(5);
/// Maximum number of lost workers that are listed.
const LOST_MAX: usize = 64;

/// Key of a worker's registration, new at each registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerKey(pub Uuid);

/// The connected workers.
#[derive(Debug)]
pub struct WorkerRegistry<R> {
    workers: BTreeMap<WorkerKey, WorkerRecord<R>>,
    served_names: BTreeMap<Arc<str>, ServedName>,
    /// Names that no worker serves any more, until when they may return, and their policy.
    recent_names: BTreeMap<Arc<str>, (Moment, Policy)>,
    /// Task names that the control plane's own worker has but cannot run, as it has no slots, and their policy. Their
    /// tasks wait without a limit.
    declared_names: BTreeMap<Arc<str>, Policy>,
    /// Workers that have a parked slot and are not reserved, by load.
    idle: BTreeSet<(usize, WorkerKey)>,
    /// Number of slots of all workers.
    slots: usize,
    /// Size of all catalogs, in bytes.
    catalog_bytes: usize,
    /// Workers that were lost recently.
    lost: VecDeque<(Moment, WorkerInfo)>,
    /// Tasks that were added and removed since [`WorkerRegistry::take_changes`].
    changes: Vec<TaskChange>,
    /// Whether a slot could take more tasks since [`WorkerRegistry::take_new_slots`].
    has_new_slots: bool,
}

impl<R> Default for WorkerRegistry<R> {
    fn default() -> Self {
        Self {
            workers: BTreeMap::new(),
            served_names: BTreeMap::new(),
            recent_names: BTreeMap::new(),
            declared_names: BTreeMap::new(),
            idle: BTreeSet::new(),
            slots: 0,
            catalog_bytes: 0,
            lost: VecDeque::new(),
            changes: Vec::new(),
            has_new_slots: false,
        }
    }
}

impl<R> WorkerRegistry<R> {
    /// Returns the refusal of a registration, if it is refused. `peer` is none for the control plane's own worker, which
    /// may have no slots.
    pub fn refusal(&self, registration: &Registration, peer: Option<Peer>) -> Option<Refusal> {
        let Registration { worker_id, address, slots, modules, .. } = registration;
        let (code, message) = if let Err(invalid) = WorkerId::check(worker_id) {
            (RefusalCode::WorkerIdInvalid, invalid.to_string())
        } else if address.len() > ADDRESS_MAX || address.chars().any(char::is_control) {
            let message =
                format!("the address of a worker is text of up to {ADDRESS_MAX} bytes without control characters");
            (RefusalCode::BadRequest, message)
        } else if !(u32::from(peer.is_some())..=SLOTS_MAX).contains(slots) {
            (RefusalCode::BadRequest, format!("a worker has 1 to {SLOTS_MAX} slots, not {slots}"))
        } else if self.workers.len() >= WORKERS_MAX {
            let message = format!("{WORKERS_MAX} workers are connected already, which is the limit");
            (RefusalCode::WorkerLimit, message)
        } else {
            return self.refusal_of(modules, None);
        };
        Some(Refusal::new(code, message))
    }

    /// Returns the refusal of a catalog, if it is refused. It replaces that of the worker `of`, or belongs to a new
    /// one.
    pub fn refusal_of(&self, modules: &[ModuleInfo], of: Option<WorkerKey>) -> Option<Refusal> {
        let catalog = catalog_bytes(modules);
        let before = of.and_then(|key| self.workers.get(&key)).map_or(0, |worker| worker.catalog_bytes);
        let mut names = modules.iter().flat_map(|module| &module.tasks).map(|task| &task.name);
        if let Some(invalid) = names.find_map(|name| TaskName::check(name).err()) {
            Some(Refusal::new(RefusalCode::BadRequest, invalid.to_string()))
        } else if catalog > CATALOG_BYTES_MAX {
            let message = format!("the catalog of {catalog} bytes is over the limit of {CATALOG_BYTES_MAX} bytes");
            Some(Refusal::new(RefusalCode::CatalogTooLarge, message))
        } else if self.catalog_bytes - before + catalog > CATALOGS_BYTES_MAX {
            let message =
                format!("the catalogs of all workers together are over the limit of {CATALOGS_BYTES_MAX} bytes");
            Some(Refusal::new(RefusalCode::CatalogTooLarge, message))
        } else {
            None
        }
    }

    /// Adds a worker. `peer` is none for the control plane's own. Returns the names that no worker served before.
    pub fn add(&mut self, now: Now, registration: Registration, peer: Option<Peer>) -> Vec<Arc<str>> {
        let key = WorkerKey(registration.worker);
        self.declare_names(&registration.modules, registration.slots);
        let names = served_names(&registration.modules, registration.slots);
        let new = names.into_iter().filter_map(|(name, entry)| self.add_name(name, entry)).collect();
        self.lost.retain(|(_, lost)| lost.id != registration.worker_id);
        self.slots += registration.slots as usize;
        self.changes.extend(TaskChange::of(&registration.modules, true));
        let worker = WorkerRecord::new(now, registration, peer);
        self.catalog_bytes += worker.catalog_bytes;
        let replaced = self.workers.insert(key, worker);
        debug_assert!(replaced.is_none(), "a worker registered twice under one key");
        new
    }

    /// Removes a worker, whose names may return within `grace`. Returns it and the names that no worker serves any
    /// more.
    pub fn remove(&mut self, now: Now, key: WorkerKey, grace: Duration) -> Option<(WorkerRecord<R>, Vec<Arc<str>>)> {
        let worker = self.workers.remove(&key)?;
        self.declare_names(&[], worker.size);
        self.slots -= worker.size as usize;
        self.changes.extend(TaskChange::of(&worker.modules, false));
        self.catalog_bytes -= worker.catalog_bytes;
        if let Some(idle_rank) = worker.idle_rank() {
            self.idle.remove(&(idle_rank, key));
        }
        let mut unserved = Vec::new();
        self.recent_names.retain(|_, (until, _)| *until > now.mono);
        for name in worker.names.keys() {
            let Some(policy) = self.remove_name(name, worker.leaving.contains(name)) else { continue };
            unserved.push(name.clone());
            if self.recent_names.len() < RECENT_NAMES_MAX {
                self.recent_names.insert(name.clone(), (now.mono + grace, policy));
            }
        }
        Some((worker, unserved))
    }

    /// Replaces the catalog of a worker. A name that is removed this way is not expected to return.
    pub fn change(&mut self, key: WorkerKey, modules: Vec<ModuleInfo>) -> NameDiff {
        let Some(size) = self.workers.get(&key).map(|worker| worker.size) else { return NameDiff::default() };
        self.declare_names(&modules, size);
        let Some(worker) = self.workers.get_mut(&key) else { return NameDiff::default() };
        let entries = served_names(&modules, size);
        let kept = |name: &Arc<str>| worker.names.get(name).copied().unwrap_or_default();
        let names = entries.keys().map(|name| (name.clone(), kept(name))).collect();
        let before = mem::replace(&mut worker.names, names);
        let before_leaving = mem::replace(&mut worker.leaving, leaving(&entries));
        worker.loading = is_loading(&modules);
        let bytes = catalog_bytes(&modules);
        self.catalog_bytes = self.catalog_bytes - mem::replace(&mut worker.catalog_bytes, bytes) + bytes;
        self.changes.extend(TaskChange::of(&modules, true));
        self.changes.extend(TaskChange::of(&worker.modules, false));
        worker.modules = modules;
        // Add before removing, so that a name in both catalogs is served all the time.
        let added = entries.into_iter().filter_map(|(name, entry)| self.add_name(name, entry)).collect();
        let removed = before.into_keys().filter(|name| self.remove_name(name, before_leaving.contains(name)).is_some());
        let removed = removed.collect();
        self.has_new_slots = true;
        NameDiff { added, removed }
    }

    /// Returns whether slots could take more tasks since the last call: one waits for work, or its worker serves
    /// other names.
    pub fn take_new_slots(&mut self) -> bool {
        mem::take(&mut self.has_new_slots)
    }

    /// Counts one more worker that serves a name. Returns the name if this is the first.
    fn add_name(&mut self, name: Arc<str>, entry: CatalogEntry) -> Option<Arc<str>> {
        self.recent_names.remove(&name);
        let is_new = !self.served_names.contains_key(&name);
        let served = self.served_names.entry(name.clone()).or_insert(ServedName {
            workers: 0,
            leaving: 0,
            policy: Policy::default(),
        });
        served.workers += 1;
        served.leaving += usize::from(entry.leaving);
        // The policy of the newest module applies.
        served.policy = entry.policy;
        is_new.then_some(name)
    }

    /// Counts one worker less that serves a name. Returns the policy if this was the last.
    fn remove_name(&mut self, name: &Arc<str>, leaving: bool) -> Option<Policy> {
        let served = self.served_names.get_mut(name)?;
        served.workers -= 1;
        served.leaving -= usize::from(leaving);
        if served.workers > 0 { None } else { self.served_names.remove(name).map(|served| served.policy) }
    }

    /// Keeps a lost worker for a while, to list it.
    pub fn keep_lost(&mut self, now: Now, worker: &WorkerRecord<R>) {
        let info = WorkerInfo { load: 0, ..worker.info(WorkerStatus::Lost) };
        self.lost.push_back((now.mono, info));
        let is_old = |(at, _): &(Moment, WorkerInfo)| now.mono.since(*at) >= LOST_KEPT_FOR;
        while self.lost.len() > LOST_MAX || self.lost.front().is_some_and(is_old) {
            self.lost.pop_front();
        }
    }

    /// Reserves a worker for one task that runs alone there, or ends the reservation.
    pub fn set_reserved(&mut self, key: WorkerKey, reserved: bool) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let before = worker.idle_rank();
        worker.reserved = reserved;
        let after = worker.idle_rank();
        self.move_idle(key, before, after);
    }

    /// Updates `idle` when the load of a worker changes.
    fn move_idle(&mut self, key: WorkerKey, before: Option<usize>, after: Option<usize>) {
        if before != after {
            self.has_new_slots |= after.is_some();
            self.idle.extend(after.map(|idle_rank| (idle_rank, key)));
            if let Some(idle_rank) = before {
                self.idle.remove(&(idle_rank, key));
            }
        }
    }

    /// Changes a slot, and the load of its worker accordingly. Returns none for an unknown worker or a slot that it
    /// does not have.
    pub fn change_slot<T>(
        &mut self,
        key: WorkerKey,
        number: u32,
        change: impl FnOnce(&mut SlotRecord<R>) -> T,
    ) -> Option<T> {
        let worker = self.workers.get_mut(&key).filter(|worker| number < worker.size)?;
        let before = worker.idle_rank();
        let slot = worker.slots.entry(number).or_default();
        worker.busy -= usize::from(!slot.granted.is_empty());
        let output = change(slot);
        worker.busy += usize::from(!slot.granted.is_empty());
        if slot.parked.is_some() {
            worker.parked.insert(number);
        } else {
            worker.parked.remove(&number);
        }
        let after = worker.idle_rank();
        self.move_idle(key, before, after);
        Some(output)
    }

    /// Iterates over the workers with a slot that waits, the least loaded first.
    pub fn idle(&self) -> impl Iterator<Item = (WorkerKey, &WorkerRecord<R>)> {
        self.idle.iter().filter_map(|(_, key)| Some((*key, self.workers.get(key)?)))
    }

    /// Returns a worker by its key.
    pub fn get(&self, key: WorkerKey) -> Option<&WorkerRecord<R>> {
        self.workers.get(&key)
    }

    /// Returns a worker by its key, to change it.
    pub fn get_mut(&mut self, key: WorkerKey) -> Option<&mut WorkerRecord<R>> {
        self.workers.get_mut(&key)
    }

    /// Iterates over all workers, by key.
    pub fn iter(&self) -> impl Iterator<Item = (WorkerKey, &WorkerRecord<R>)> {
        self.workers.iter().map(|(key, worker)| (*key, worker))
    }

    /// Iterates over all workers, by key, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (WorkerKey, &mut WorkerRecord<R>)> {
        self.workers.iter_mut().map(|(key, worker)| (*key, worker))
    }

    /// Returns the name as tasks share it, and its module's policy, if a worker accepts new tasks of it, or did until
    /// recently.
    pub fn served(&self, now: Moment, name: &str) -> Option<(&Arc<str>, &Policy)> {
        if self.is_leaving(name) { None } else { self.served_or_recent(now, name) }
    }

    /// Whether a worker loads modules, whose names are not known yet.
    pub fn is_loading(&self) -> bool {
        self.workers.values().any(|worker| worker.loading)
    }

    /// Whether workers run only tasks of a name that were submitted before.
    pub fn is_leaving(&self, name: &str) -> bool {
        self.served_names.get(name).is_some_and(ServedName::is_leaving)
    }

    /// Whether a worker other than this one serves a name, is connected and does not drain.
    pub fn has_other(&self, key: WorkerKey, name: &str) -> bool {
        let stays = |worker: &WorkerRecord<R>| !worker.draining && worker.disconnected.is_none();
        self.served_names.get(name).is_some_and(|served| served.workers > 1)
            && self.workers.iter().any(|(other, worker)| *other != key && stays(worker) && worker.can_run(name))
    }

    /// As [`WorkerRegistry::served`], also for names of which workers run only tasks that were submitted before.
    pub fn served_or_recent(&self, now: Moment, name: &str) -> Option<(&Arc<str>, &Policy)> {
        let served = self.served_names.get_key_value(name).map(|(name, served)| (name, &served.policy));
        served.or_else(|| {
            let recent = self.recent_names.get_key_value(name).filter(|(_, (until, _))| *until > now);
            let recent = recent.map(|(name, (_, policy))| (name, policy));
            recent.or_else(|| self.declared_names.get_key_value(name))
        })
    }

    /// Whether a worker serves a name now.
    pub fn has(&self, name: &str) -> bool {
        self.served_names.contains_key(name)
    }

    /// Returns the task names that new tasks can use, for suggestions: at most [`SUGGESTED_FROM_MAX`] of them.
    pub fn open_names(&self) -> impl Iterator<Item = &str> {
        let open = self.served_names.iter().filter(|(_, served)| !served.is_leaving()).map(|(name, _)| name);
        open.chain(self.declared_names.keys()).take(SUGGESTED_FROM_MAX).map(|name| &**name)
    }

    /// Returns the tasks that were added and removed since the last call.
    pub fn take_changes(&mut self) -> Vec<TaskChange> {
        mem::take(&mut self.changes)
    }

    /// Number of slots of all workers.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Iterates over the workers that were lost recently.
    pub fn lost(&self, now: Moment) -> impl Iterator<Item = &WorkerInfo> {
        let recent = self.lost.iter().filter(move |(at, _)| now.since(*at) < LOST_KEPT_FOR);
        recent.map(|(_, info)| info)
    }

    /// Describes all workers, without their catalogs, the lost ones last.
    pub fn briefs(&self, now: Moment) -> Vec<WorkerInfo> {
        let present = self.workers.values().map(|worker| worker.info(worker.status()));
        present.chain(self.lost(now).cloned()).collect()
    }

    /// Describes all workers, with as many catalogs as fit into one reply, the lost ones last.
    pub fn infos(&self, now: Moment) -> Vec<WorkerInfo> {
        let mut bytes = 0;
        let present = self.workers.values().map(|worker| {
            let fits = bytes + worker.catalog_bytes <= CATALOG_REPLY_BYTES_MAX;
            bytes += if fits { worker.catalog_bytes } else { 0 };
            let modules = if fits { worker.modules.clone() } else { Vec::new() };
            WorkerInfo { modules, ..worker.info(worker.status()) }
        });
        present.chain(self.lost(now).cloned()).collect()
    }
}
