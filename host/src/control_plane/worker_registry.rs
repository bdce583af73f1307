//! The registry of workers: which ones are connected, what they have loaded and what their slots do.
//!
//! Keeps books, decides nothing: who gets what is decided in [`super::state`]. Invariants: `offers`
//! counts, for each task name, the workers in the roster whose catalog has it, and how many of them
//! are about to lose it; `idle` holds the
//! workers that have a parked slot, the freest first.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::signatures::Change;
use crate::{
    clock::{Moment, Now, Timestamp},
    protocol::{LeaseId, Registration, WORKER_ID_MAX, WorkerInfo, WorkerStatus, is_worker_id},
    task::{ModuleInfo, ModuleStatus, ModuleVersion, Policy, TASK_NAME_MAX, TaskInfo, is_task_name},
    transport::Peer,
};

/// A worker that was not heard for so long is lost.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);
/// A worker whose connection is gone may come back on a new one for so long.
pub const RECONNECT_GRACE: Duration = Duration::from_millis(500);
/// How many names are kept that may come back.
const MISSED_MAX: usize = 10_000;
/// The most slots that a worker may have.
pub const SLOTS_MAX: u32 = 4_096;
/// How many workers there may be.
pub const WORKERS_MAX: usize = 1_000;
/// How many bytes of catalog a worker has.
pub const CATALOG_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many bytes of catalogs all workers have together.
pub const CATALOGS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How many bytes of catalogs go into one answer.
const CATALOGS_TOLD_MAX: usize = 4 * 1024 * 1024;
/// How many bytes the address has that is shown for a worker.
const ADDRESS_MAX: usize = 256;
/// How many names are looked through for those that look like one that nobody has.
const ALIKE_AMONG_MAX: usize = 1_000;
/// How long, and how many, lost workers are shown.
const DEPARTED_SHOWN: Duration = Duration::from_mins(5);
const DEPARTED_MAX: usize = 64;

/// One worker.
#[derive(Debug)]
pub struct Worker<R> {
    /// Its worker id.
    pub id: Arc<str>,
    /// The connection it was last heard on; none for the control plane's own.
    pub peer: Option<Peer>,
    /// When it was last heard.
    pub last_seen: Now,
    /// When its connection went, if it has no other yet.
    pub disconnected: Option<Moment>,
    /// When somebody looks whether it was silent for too long; never for the control plane's own.
    pub watched: Moment,
    /// Takes no more work.
    pub draining: bool,
    /// Runs one task alone, or finishes what it has in order to do so: it gets no other task.
    reserved: bool,
    /// Its slots, by number, from the first time each asked for work.
    pub slots: BTreeMap<u32, Slot<R>>,
    /// Its parked beat, and until when.
    pub beat: Option<(R, Moment)>,
    /// The number of its last note.
    pub noted: u64,
    /// The number of its last change of modules, and why that was not taken, if it was not.
    pub changed: (u64, Option<String>),
    /// Attempts that it has ended.
    pub attempts: u64,
    /// What it can run, and how long each takes.
    names: BTreeMap<Arc<str>, Mean>,
    /// Those of them that it runs for tasks submitted before only.
    leaving: BTreeSet<Arc<str>>,
    /// Whether modules are being loaded, whose names are not known yet.
    loading: bool,
    /// Slots that hold leases, and slots whose request is parked.
    busy: usize,
    parked: BTreeSet<u32>,
    size: u32,
    address: String,
    modules: Vec<ModuleInfo>,
    catalog_bytes: usize,
    registered_at: Timestamp,
}

/// One slot of a worker.
#[derive(Debug)]
pub struct Slot<R> {
    /// The number of its last request.
    pub sequence: u64,
    /// The leases that its last answer granted.
    pub granted: Vec<LeaseId>,
    /// Its parked request.
    pub parked: Option<R>,
    /// How many leases that takes.
    pub capacity: u32,
    /// When the park or the grant is over.
    pub until: Moment,
    /// What is known of the answer with the grant.
    pub arrival: Arrival,
}

/// Whether the leases that a slot was granted have arrived there. They come in one answer, so one stands
/// for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// They should have by then.
    Expected(Moment),
    /// They should have, and a beat that came at this moment did not mention them.
    Missed(Moment),
    /// They have.
    Confirmed,
}

impl<R> Default for Slot<R> {
    fn default() -> Self {
        let (until, arrival) = (Moment::NEVER, Arrival::Confirmed);
        Self { sequence: 0, granted: Vec::new(), parked: None, capacity: 0, until, arrival }
    }
}

/// A mean that follows the newest values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean(Option<f64>);

impl Mean {
    fn add(&mut self, micros: f64) {
        const WEIGHT: f64 = 0.1;
        self.0 = Some(self.0.map_or(micros, |mean| mean + WEIGHT * (micros - mean)));
    }
}

impl<R> Worker<R> {
    fn new(now: Now, registration: Registration, peer: Option<Peer>) -> Self {
        let offered = names_in(&registration.modules);
        Self {
            id: registration.worker_id.into(),
            peer,
            last_seen: now,
            disconnected: None,
            watched: Moment::NEVER,
            draining: false,
            reserved: false,
            slots: BTreeMap::new(),
            beat: None,
            noted: 0,
            changed: (0, None),
            attempts: 0,
            leaving: leaving(&offered),
            loading: is_loading(&registration.modules),
            names: offered.into_keys().map(|name| (name, Mean::default())).collect(),
            busy: 0,
            parked: BTreeSet::new(),
            size: registration.slots,
            address: registration.address,
            catalog_bytes: catalog_bytes(&registration.modules),
            modules: registration.modules,
            registered_at: now.wall,
        }
    }

    /// Whether its catalog has a task name.
    pub fn can_run(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// How long a task takes here, if one ran.
    pub fn mean_run(&self, name: &str) -> Option<Duration> {
        self.names.get(name)?.0.map(|micros| Duration::from_secs_f64(micros / 1e6))
    }

    /// Notes that an attempt ended.
    pub fn ran(&mut self, name: &str, span: Duration) {
        self.attempts += 1;
        if let Some(mean) = self.names.get_mut(name) {
            mean.add(span.as_secs_f64() * 1e6);
        }
    }

    /// The name of its module of this version.
    pub fn module(&self, version: ModuleVersion) -> Option<&str> {
        let module = self.modules.iter().find(|module| ModuleVersion::of_hash(&module.hash) == Some(version));
        module.map(|module| module.name.as_str())
    }

    /// Room for running attempts.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The address that is shown for it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it has loaded.
    pub fn modules(&self) -> &[ModuleInfo] {
        &self.modules
    }

    /// When it registered.
    pub fn registered_at(&self) -> Timestamp {
        self.registered_at
    }

    /// The names that it can run.
    pub fn names(&self) -> &BTreeMap<Arc<str>, Mean> {
        &self.names
    }

    /// Slots that hold leases.
    pub fn load(&self) -> usize {
        self.busy
    }

    /// Whether it gets no task but the one that it is reserved for.
    pub fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// A slot that waits for work.
    pub fn first_parked(&self) -> Option<u32> {
        self.parked.first().copied()
    }

    /// How full it is, in thousandths, if a slot waits.
    fn freedom(&self) -> Option<usize> {
        (!self.parked.is_empty() && !self.reserved).then(|| self.busy * 1_000 / self.size.max(1) as usize)
    }

    fn status(&self) -> WorkerStatus {
        if self.draining { WorkerStatus::Draining } else { WorkerStatus::Active }
    }

    /// How it is shown, without its catalog.
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

/// One task name that workers offer.
#[derive(Debug)]
struct Offer {
    workers: usize,
    /// How many of them run it for tasks submitted before only.
    leaving: usize,
    policy: Policy,
}

/// What a catalog says of one task name.
struct Has {
    policy: Policy,
    leaving: bool,
}

impl Offer {
    fn is_leaving(&self) -> bool {
        self.leaving == self.workers
    }
}

fn names_in(modules: &[ModuleInfo]) -> BTreeMap<Arc<str>, Has> {
    let tasks = modules.iter().flat_map(|module| module.tasks.iter().map(move |task| (module.status, task)));
    let has = |status, policy: &Policy| Has { policy: policy.clone(), leaving: status == ModuleStatus::Leaving };
    tasks.map(|(status, task)| (task.name.as_str().into(), has(status, &task.policy))).collect()
}

fn is_loading(modules: &[ModuleInfo]) -> bool {
    modules.iter().any(|module| module.status == ModuleStatus::Loading)
}

fn leaving(names: &BTreeMap<Arc<str>, Has>) -> BTreeSet<Arc<str>> {
    names.iter().filter(|(_, has)| has.leaving).map(|(name, _)| name.clone()).collect()
}

/// What a change of a worker's modules means for all.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turnover {
    /// Names that nobody offered before.
    pub new: Vec<Arc<str>>,
    /// Names that nobody offers any more.
    pub gone: Vec<Arc<str>>,
}

/// The workers.
#[derive(Debug)]
pub struct WorkerRegistry<R> {
    workers: BTreeMap<Uuid, Worker<R>>,
    offers: BTreeMap<Arc<str>, Offer>,
    /// Names that nobody offers any more, until when they may come back, and their policy.
    missed: BTreeMap<Arc<str>, (Moment, Policy)>,
    /// Workers that have a parked slot, by how full they are.
    idle: BTreeSet<(usize, Uuid)>,
    slots: usize,
    catalog_bytes: usize,
    departed: VecDeque<(Moment, WorkerInfo)>,
    /// Tasks that came and went since somebody asked.
    changes: Vec<Change>,
}

impl<R> Default for WorkerRegistry<R> {
    fn default() -> Self {
        Self {
            workers: BTreeMap::new(),
            offers: BTreeMap::new(),
            missed: BTreeMap::new(),
            idle: BTreeSet::new(),
            slots: 0,
            catalog_bytes: 0,
            departed: VecDeque::new(),
            changes: Vec::new(),
        }
    }
}

impl<R> WorkerRegistry<R> {
    /// Why a worker cannot be taken in, if it cannot.
    pub fn refusal(&self, registration: &Registration) -> Option<String> {
        let Registration { worker_id, address, slots, modules, .. } = registration;
        if !is_worker_id(worker_id) {
            Some(format!("a worker id is text of 1 to {WORKER_ID_MAX} bytes without colons and control characters"))
        } else if address.len() > ADDRESS_MAX || address.chars().any(char::is_control) {
            Some(format!("the address of a worker is text of up to {ADDRESS_MAX} bytes without control characters"))
        } else if !(1..=SLOTS_MAX).contains(slots) {
            Some(format!("a worker has 1 to {SLOTS_MAX} slots, not {slots}"))
        } else if self.workers.len() >= WORKERS_MAX {
            Some(format!("{WORKERS_MAX} workers are connected already, which is the limit"))
        } else {
            self.refusal_of(modules, None)
        }
    }

    /// Why a catalog is not taken, if it is not: a new one, or in the place of that of a worker.
    pub fn refusal_of(&self, modules: &[ModuleInfo], of: Option<Uuid>) -> Option<String> {
        let catalog = catalog_bytes(modules);
        let before = of.and_then(|key| self.workers.get(&key)).map_or(0, |worker| worker.catalog_bytes);
        let mut names = modules.iter().flat_map(|module| &module.tasks).map(|task| &task.name);
        if let Some(wrong) = names.find(|name| !is_task_name(name)) {
            let shown: String = wrong.chars().take(64).collect();
            Some(format!("a task name is text of 1 to {TASK_NAME_MAX} bytes without control characters, not {shown:?}"))
        } else if catalog > CATALOG_BYTES_MAX {
            Some(format!("the catalog of {catalog} bytes is over the limit of {CATALOG_BYTES_MAX} bytes"))
        } else if self.catalog_bytes - before + catalog > CATALOGS_BYTES_MAX {
            Some(format!("the catalogs of all workers together are over the limit of {CATALOGS_BYTES_MAX} bytes"))
        } else {
            None
        }
    }

    /// Takes a worker in. `peer` is none for the control plane's own. Returns the names that
    /// nobody offered before.
    pub fn add(&mut self, now: Now, registration: Registration, peer: Option<Peer>) -> Vec<Arc<str>> {
        let key = registration.worker;
        let names = names_in(&registration.modules);
        let new = names.into_iter().filter_map(|(name, has)| self.offer(name, has)).collect();
        self.departed.retain(|(_, gone)| gone.id != registration.worker_id);
        self.slots += registration.slots as usize;
        self.changes.extend(Change::of(&registration.modules, true));
        let worker = Worker::new(now, registration, peer);
        self.catalog_bytes += worker.catalog_bytes;
        let replaced = self.workers.insert(key, worker);
        debug_assert!(replaced.is_none(), "a worker registered twice under one key");
        new
    }

    /// Takes a worker out, whose names may come back within `grace`. Returns it and the names that
    /// nobody offers any more.
    pub fn remove(&mut self, now: Now, key: Uuid, grace: Duration) -> Option<(Worker<R>, Vec<Arc<str>>)> {
        let worker = self.workers.remove(&key)?;
        self.slots -= worker.size as usize;
        self.changes.extend(Change::of(&worker.modules, false));
        self.catalog_bytes -= worker.catalog_bytes;
        if let Some(freedom) = worker.freedom() {
            self.idle.remove(&(freedom, key));
        }
        let mut gone = Vec::new();
        self.missed.retain(|_, (until, _)| *until > now.mono);
        for name in worker.names.keys() {
            let Some(policy) = self.withdraw(name, worker.leaving.contains(name)) else { continue };
            gone.push(name.clone());
            if self.missed.len() < MISSED_MAX {
                self.missed.insert(name.clone(), (now.mono + grace, policy));
            }
        }
        Some((worker, gone))
    }

    /// Changes what a worker has loaded. A name that goes this way is not expected to come back.
    pub fn change(&mut self, key: Uuid, modules: Vec<ModuleInfo>) -> Turnover {
        let Some(worker) = self.workers.get_mut(&key) else { return Turnover::default() };
        let offered = names_in(&modules);
        let kept = |name: &Arc<str>| worker.names.get(name).copied().unwrap_or_default();
        let names = offered.keys().map(|name| (name.clone(), kept(name))).collect();
        let before = mem::replace(&mut worker.names, names);
        let before_leaving = mem::replace(&mut worker.leaving, leaving(&offered));
        worker.loading = is_loading(&modules);
        let bytes = catalog_bytes(&modules);
        self.catalog_bytes = self.catalog_bytes - mem::replace(&mut worker.catalog_bytes, bytes) + bytes;
        self.changes.extend(Change::of(&modules, true));
        self.changes.extend(Change::of(&worker.modules, false));
        worker.modules = modules;
        // In this order, so that a name that stays is never nobody's.
        let new = offered.into_iter().filter_map(|(name, has)| self.offer(name, has)).collect();
        let gone = before.into_keys().filter(|name| self.withdraw(name, before_leaving.contains(name)).is_some());
        let gone = gone.collect();
        Turnover { new, gone }
    }

    /// Counts one worker more that has a name. Gives the name back if it is the first.
    fn offer(&mut self, name: Arc<str>, has: Has) -> Option<Arc<str>> {
        self.missed.remove(&name);
        let is_new = !self.offers.contains_key(&name);
        let offer =
            self.offers.entry(name.clone()).or_insert(Offer { workers: 0, leaving: 0, policy: Policy::default() });
        offer.workers += 1;
        offer.leaving += usize::from(has.leaving);
        // The newest module's word counts.
        offer.policy = has.policy;
        is_new.then_some(name)
    }

    /// Counts one worker less that has a name. Gives the policy back if it was the last.
    fn withdraw(&mut self, name: &Arc<str>, leaving: bool) -> Option<Policy> {
        let offer = self.offers.get_mut(name)?;
        offer.workers -= 1;
        offer.leaving -= usize::from(leaving);
        if offer.workers > 0 { None } else { self.offers.remove(name).map(|offer| offer.policy) }
    }

    /// Notes that a worker was lost, so that it is shown a while longer.
    pub fn note_lost(&mut self, now: Now, worker: &Worker<R>) {
        let info = WorkerInfo { load: 0, ..worker.info(WorkerStatus::Lost) };
        self.departed.push_back((now.mono, info));
        let is_old = |(at, _): &(Moment, WorkerInfo)| now.mono.since(*at) >= DEPARTED_SHOWN;
        while self.departed.len() > DEPARTED_MAX || self.departed.front().is_some_and(is_old) {
            self.departed.pop_front();
        }
    }

    /// Reserves a worker for one task that is to run alone there, or ends that.
    pub fn set_reserved(&mut self, key: Uuid, reserved: bool) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let before = worker.freedom();
        worker.reserved = reserved;
        let after = worker.freedom();
        self.move_idle(key, before, after);
    }

    /// Keeps `idle` in order when the load of a worker changes.
    fn move_idle(&mut self, key: Uuid, before: Option<usize>, after: Option<usize>) {
        if before != after {
            self.idle.extend(after.map(|freedom| (freedom, key)));
            if let Some(freedom) = before {
                self.idle.remove(&(freedom, key));
            }
        }
    }

    /// Changes a worker's slot, with what is known of the worker's load. Opens the slot if it was
    /// not. Returns nothing for a worker that is not here or a slot that it does not have.
    pub fn change_slot<T>(&mut self, key: Uuid, number: u32, change: impl FnOnce(&mut Slot<R>) -> T) -> Option<T> {
        let worker = self.workers.get_mut(&key).filter(|worker| number < worker.size)?;
        let before = worker.freedom();
        let slot = worker.slots.entry(number).or_default();
        worker.busy -= usize::from(!slot.granted.is_empty());
        let given = change(slot);
        worker.busy += usize::from(!slot.granted.is_empty());
        if slot.parked.is_some() {
            worker.parked.insert(number);
        } else {
            worker.parked.remove(&number);
        }
        let after = worker.freedom();
        self.move_idle(key, before, after);
        Some(given)
    }

    /// Workers with a slot that waits, the freest first.
    pub fn idle(&self) -> impl Iterator<Item = (Uuid, &Worker<R>)> {
        self.idle.iter().filter_map(|(_, key)| Some((*key, self.workers.get(key)?)))
    }

    /// A worker.
    pub fn get(&self, key: Uuid) -> Option<&Worker<R>> {
        self.workers.get(&key)
    }

    /// A worker, to note something.
    pub fn get_mut(&mut self, key: Uuid) -> Option<&mut Worker<R>> {
        self.workers.get_mut(&key)
    }

    /// All workers, by key.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, &Worker<R>)> {
        self.workers.iter().map(|(key, worker)| (*key, worker))
    }

    /// All workers, by key, to note something.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Uuid, &mut Worker<R>)> {
        self.workers.iter_mut().map(|(key, worker)| (*key, worker))
    }

    /// The name as it is shared among tasks, and its module's policy, if a worker takes new tasks
    /// of it or one that did went only a moment ago.
    pub fn offered(&self, now: Moment, name: &str) -> Option<(&Arc<str>, &Policy)> {
        if self.is_leaving(name) { None } else { self.known(now, name) }
    }

    /// Whether a worker is loading modules, whose names are not known yet.
    pub fn is_loading(&self) -> bool {
        self.workers.values().any(|worker| worker.loading)
    }

    /// Whether workers run a name for tasks submitted before only.
    pub fn is_leaving(&self, name: &str) -> bool {
        self.offers.get(name).is_some_and(Offer::is_leaving)
    }

    /// Whether another worker than this one has a name and goes on taking work.
    pub fn has_other(&self, key: Uuid, name: &str) -> bool {
        let stays = |worker: &Worker<R>| !worker.draining && worker.disconnected.is_none();
        self.offers.get(name).is_some_and(|offer| offer.workers > 1)
            && self.workers.iter().any(|(other, worker)| *other != key && stays(worker) && worker.can_run(name))
    }

    /// As [`WorkerRegistry::offered`], for tasks submitted before, too.
    pub fn known(&self, now: Moment, name: &str) -> Option<(&Arc<str>, &Policy)> {
        let offer = self.offers.get_key_value(name).map(|(name, offer)| (name, &offer.policy));
        offer.or_else(|| {
            let (name, (until, policy)) = self.missed.get_key_value(name)?;
            (*until > now).then_some((name, policy))
        })
    }

    /// Whether a worker has a name now.
    pub fn has(&self, name: &str) -> bool {
        self.offers.contains_key(name)
    }

    /// Names that look like `name`, the most alike first.
    pub fn nearest(&self, name: &str) -> Vec<Arc<str>> {
        const ALIKE: f64 = 0.75;
        const SHOWN: usize = 3;
        let name = name.to_lowercase();
        let mut alike: Vec<_> = self
            .offers
            .iter()
            .filter(|(_, offer)| !offer.is_leaving())
            .take(ALIKE_AMONG_MAX)
            .map(|(offered, _)| (strsim::jaro_winkler(&offered.to_lowercase(), &name), offered))
            .filter(|(likeness, _)| *likeness > ALIKE)
            .collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        alike.into_iter().take(SHOWN).map(|(_, offered)| offered.clone()).collect()
    }

    /// Takes what came and went since the last time.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// How many slots there are in all.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Those that were lost lately, as they were last.
    pub fn lost(&self, now: Moment) -> impl Iterator<Item = &WorkerInfo> {
        let recent = self.departed.iter().filter(move |(at, _)| now.since(*at) < DEPARTED_SHOWN);
        recent.map(|(_, info)| info)
    }

    /// How all workers are shown, without their catalogs, those that went lately last.
    pub fn briefs(&self, now: Moment) -> Vec<WorkerInfo> {
        let present = self.workers.values().map(|worker| worker.info(worker.status()));
        present.chain(self.lost(now).cloned()).collect()
    }

    /// The same, with their catalogs.
    pub fn infos(&self, now: Moment) -> Vec<WorkerInfo> {
        let mut bytes = 0;
        let present = self.workers.values().map(|worker| {
            let fits = bytes + worker.catalog_bytes <= CATALOGS_TOLD_MAX;
            bytes += if fits { worker.catalog_bytes } else { 0 };
            let modules = if fits { worker.modules.clone() } else { Vec::new() };
            WorkerInfo { modules, ..worker.info(worker.status()) }
        });
        present.chain(self.lost(now).cloned()).collect()
    }
}

/// About how many bytes a catalog takes.
fn catalog_bytes(modules: &[ModuleInfo]) -> usize {
    /// What an item takes beyond its texts.
    const ITEM: usize = 128;
    let texts = |texts: &[String]| texts.iter().map(|text| text.len() + ITEM).sum::<usize>();
    let task = |task: &TaskInfo| {
        task.name.len() + task.documentation.len() + task.schema.as_str().len() + texts(&task.warnings) + ITEM
    };
    let module = |module: &ModuleInfo| {
        let own = module.name.len() + module.path.len() + module.hash.len() + module.engine.len();
        let error = module.last_error.as_ref().map_or(0, |error| error.message.len());
        own + error + texts(&module.imports) + module.tasks.iter().map(task).sum::<usize>() + ITEM
    };
    modules.iter().map(module).sum()
}
