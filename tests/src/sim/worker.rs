//! The model worker: behaves like `subworker::worker`, without threads and without running tasks, and fails in every way a
//! worker can fail.
//!
//! The outcome of an attempt is chosen at random when it starts. It names its lease, so that the checks know from which
//! attempt a result comes.

use std::{
    collections::{BTreeMap, VecDeque},
    iter,
    time::Duration,
};

use fastworker::{
    clock::{Moment, micros},
    control_plane::state::AnyReply,
    json::Json,
    protocol::{
        Beat, CONFIRM_WAIT, CatalogChange, Ended, Lease, LeaseId, ModulesQuery, Note, Order, PREFETCH_MAX,
        Registration, WAIT_MAX, WORK_WAIT, Work, WorkerReply, WorkerRequest,
    },
    task::{
        ErrorKind, Failure, FollowUp, LogLevel, ModuleInfo, ModuleStatus, Outcome, Policy, Report, TaskId, TaskInfo,
        TaskLimits, Usage,
    },
};
use uuid::Uuid;

use super::{
    Purpose, Sabotage, Scene,
    names::{self, Name},
    network::{Actor, Alarm, SimConnection, SimRequest},
};

/// Timeout after which a request with an immediate reply is repeated.
const PROMPT: Duration = Duration::from_secs(5);
/// Time beyond the parking of a request after which a silent connection counts as dead.
const ANSWER_GRACE: Duration = Duration::from_millis(1_500);
const BEAT_INTERVAL: Duration = Duration::from_millis(20);
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);
const BESIDE_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkerPhase {
    Away,
    Joining,
    Working,
    Leaving,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    me: Actor,
    id: String,
    local: bool,
    connection: SimConnection,
    /// The key of the current registration.
    key: Uuid,
    /// Grows with each start, so that alarms of earlier runs are ignored.
    life: u64,
    phase: WorkerPhase,
    catalog: Catalog,
    /// The catalog that it has proposed.
    changing: Option<Catalog>,
    changes: u64,
    /// Names of earlier catalogs, and how long they can still run.
    earlier_names: BTreeMap<&'static str, Moment>,
    model_slots: Vec<ModelSlot>,
    /// The key of its heartbeat; none while it waits for a new one.
    beats_as: Option<Uuid>,
    notes: u64,
    /// Whether it follows the modules of the control plane's own worker, and the version of their list that it has.
    follows: bool,
    pub(crate) list: Option<u64>,
    /// The key of its open request for the list.
    asks_as: Option<Uuid>,
    pub(crate) frozen_until: Moment,
    /// For sabotage: the first lease of each task it ran.
    ran: BTreeMap<TaskId, LeaseId>,
}

/// The task names that a worker can run.
#[derive(Clone, Debug, Default)]
struct Catalog {
    names: Vec<&'static Name>,
    /// Only for tasks that were submitted before.
    leaving: Vec<&'static Name>,
}

impl Catalog {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().chain(&self.leaving).map(|name| name.text)
    }

    fn modules(&self) -> Vec<ModuleInfo> {
        let hash = self.names.iter().map(|name| format!("{:x?}", name.text.as_bytes())).collect::<Vec<_>>().concat();
        let leaving = ModuleInfo { path: "leaving".into(), status: ModuleStatus::Leaving, ..module(&self.leaving) };
        vec![ModuleInfo { hash, path: "model.wasm".into(), ..module(&self.names) }, leaving]
    }
}

#[derive(Debug, Default)]
struct ModelSlot {
    /// Its own connection, if it has one.
    connection: Option<SimConnection>,
    key: Uuid,
    sequence: u64,
    polling: bool,
    /// Waits for a new key.
    stuck: bool,
    waiting: VecDeque<Lease>,
    running: Option<Running>,
    /// Outcomes that are not reported yet.
    ended: Vec<Ended>,
}

#[derive(Debug)]
struct Running {
    lease: Lease,
    started: Moment,
    outcome: Outcome,
    hung: bool,
    reports: Vec<Report>,
}

impl Worker {
    /// Creates a worker that has not started. Number 0 always has every task name.
    pub(crate) fn new(scene: &mut Scene, number: usize, local: bool) -> Self {
        let me = Actor::Worker(number);
        let connection = scene.net.connect(local);
        scene.alarm_in(Duration::from_millis(1), me, Alarm::Start(0));
        Self {
            me,
            id: format!("worker-{number}"),
            local,
            connection,
            key: Uuid::nil(),
            life: 0,
            phase: WorkerPhase::Away,
            catalog: Catalog::default(),
            changing: None,
            changes: 0,
            earlier_names: BTreeMap::new(),
            model_slots: Vec::new(),
            beats_as: None,
            notes: 0,
            follows: !local && scene.rng.bool(),
            list: None,
            asks_as: None,
            frozen_until: Moment::default(),
            ran: BTreeMap::new(),
        }
    }

    /// Handles an alarm.
    pub(crate) fn alarm(&mut self, scene: &mut Scene, alarm: &Alarm) {
        match *alarm {
            Alarm::Start(life) if life == self.life => self.start(scene),
            Alarm::Beat(life) if life == self.life => self.beat(scene),
            Alarm::Done(life, slot, lease) if life == self.life => self.done(scene, slot, LeaseId(lease)),
            Alarm::Flush(life, slot, lease) if life == self.life => self.flush(scene, slot, LeaseId(lease)),
            Alarm::Mishap => self.mishap(scene),
            _ => {}
        }
    }

    /// Handles a reply, or its absence.
    pub(crate) fn handle_reply(&mut self, scene: &mut Scene, purpose: &Purpose, reply: Option<AnyReply>) {
        let reply = match reply {
            Some(AnyReply::Worker(reply)) => Some(reply),
            _ => None,
        };
        match (purpose, reply) {
            (Purpose::Register, Some(WorkerReply::Registered)) => self.registered(scene),
            (Purpose::Register, _) => self.again_in(scene, Duration::from_millis(200)),
            (Purpose::Work(slot), Some(WorkerReply::Leases(leases))) => self.take(scene, *slot, leases),
            (Purpose::Outcomes(slot, key, leases), Some(WorkerReply::Leases(_))) => {
                let model_slot = &mut self.model_slots[*slot as usize];
                if model_slot.key == *key {
                    model_slot.ended.retain(|ended| !leases.contains(&ended.lease));
                }
            }
            (Purpose::Work(slot), _) => {
                let model_slot = &mut self.model_slots[*slot as usize];
                (model_slot.polling, model_slot.stuck) = (false, true);
                let old = model_slot.key;
                self.register_again(scene, old);
            }
            (Purpose::Beat, Some(WorkerReply::Orders(orders))) => {
                for Order::Stop(lease) in orders {
                    self.stop(scene, lease);
                }
                scene.alarm_in(BEAT_INTERVAL, self.me, Alarm::Beat(self.life));
            }
            (Purpose::Beat, _) => {
                if let Some(old) = self.beats_as.take() {
                    self.register_again(scene, old);
                }
            }
            (Purpose::Catalog, Some(WorkerReply::Noted)) => {
                if let Some(new) = self.changing.take() {
                    self.keep_earlier_names(scene);
                    self.catalog = new;
                }
            }
            (Purpose::Modules, Some(WorkerReply::Modules(list))) => {
                self.list = Some(list.version);
                self.request_list(scene);
            }
            (Purpose::Modules, Some(WorkerReply::Noted)) => self.request_list(scene),
            (Purpose::Modules, _) => {
                if let Some(old) = self.asks_as.take() {
                    self.register_again(scene, old);
                }
            }
            // Declined, or it is about to register again with the old one.
            (Purpose::Catalog, _) => self.changing = None,
            (Purpose::Leave, _) => {
                self.die(scene, Some(Duration::from_millis(1)));
                let pause = scene.rng.u64(100..20_000);
                self.again_in(scene, Duration::from_millis(pause));
            }
            _ => {}
        }
    }

    fn send_request(&self, scene: &mut Scene, request: WorkerRequest, purpose: Purpose, patience: Duration) {
        scene.send_request((self.me, &self.connection), (SimRequest::Worker(request), purpose), (patience, u32::MAX));
    }

    // Start and registration.

    fn again_in(&mut self, scene: &mut Scene, span: Duration) {
        self.life += 1;
        self.phase = WorkerPhase::Away;
        scene.alarm_in(span, self.me, Alarm::Start(self.life));
    }

    fn start(&mut self, scene: &mut Scene) {
        if scene.over {
            return;
        }
        self.life += 1;
        let slots = if self.model_slots.is_empty() { scene.rng.usize(1..4) } else { self.model_slots.len() };
        self.connection = scene.net.connect(self.local);
        let own_connections = !self.local && scene.rng.bool();
        let connection = |scene: &mut Scene| own_connections.then(|| scene.net.connect(false));
        self.model_slots = (0..slots)
            .map(|_| ModelSlot { connection: connection(scene), stuck: true, ..ModelSlot::default() })
            .collect();
        (self.beats_as, self.asks_as, self.list) = (None, None, None);
        let names = names::catalog(&mut scene.rng, self.me == Actor::Worker(0), self.local);
        self.catalog = Catalog { names, leaving: Vec::new() };
        self.changing = None;
        self.register(scene, None);
    }

    /// Registers under a new key, after `previous` if this process did so before.
    fn register(&mut self, scene: &mut Scene, previous: Option<Uuid>) {
        self.phase = WorkerPhase::Joining;
        self.key = scene.uuid();
        let registration = Registration {
            worker: self.key,
            previous,
            worker_id: self.id.clone(),
            address: String::new(),
            slots: u32::try_from(self.model_slots.len()).unwrap_or(1),
            modules: self.catalog.modules(),
        };
        self.send_request(scene, WorkerRequest::Register(registration), Purpose::Register, PROMPT);
    }

    fn registered(&mut self, scene: &mut Scene) {
        self.phase = WorkerPhase::Working;
        self.resume(scene);
        if scene.over {
            self.leave(scene);
        }
    }

    /// Resumes everything that waits for a key with the current one.
    fn resume(&mut self, scene: &mut Scene) {
        for slot in 0..self.model_slots.len() {
            let model_slot = &mut self.model_slots[slot];
            if model_slot.stuck {
                (model_slot.stuck, model_slot.key, model_slot.sequence) = (false, self.key, 0);
                self.poll(scene, u32::try_from(slot).unwrap_or(0));
            }
        }
        if self.beats_as.is_none() {
            self.beats_as = Some(self.key);
            self.beat(scene);
        }
        if self.follows && self.asks_as.is_none() {
            self.asks_as = Some(self.key);
            self.request_list(scene);
        }
    }

    /// Requests the list of modules, for which it waits if it has the newest.
    fn request_list(&mut self, scene: &mut Scene) {
        let Some(worker) = self.asks_as else { return };
        let query = ModulesQuery { worker, known: self.list.unwrap_or_default(), wait_ms: 60_000 };
        self.send_request(scene, WorkerRequest::Modules(query), Purpose::Modules, PROMPT);
    }

    /// Whether it follows the control plane's modules, and has registered.
    pub(crate) fn is_following(&self) -> bool {
        self.follows && self.phase == WorkerPhase::Working
    }

    /// Registers again after the control plane removed `old`.
    fn register_again(&mut self, scene: &mut Scene, old: Uuid) {
        match self.phase {
            WorkerPhase::Working | WorkerPhase::Leaving if self.key != old => self.resume(scene),
            WorkerPhase::Working => {
                for lease in self.holds() {
                    self.stop(scene, lease);
                }
                self.register(scene, Some(old));
            }
            WorkerPhase::Leaving => self.leave_if_done(scene),
            WorkerPhase::Away | WorkerPhase::Joining => {}
        }
    }

    // Changes of modules.

    fn change(&mut self, scene: &mut Scene) {
        let names = names::catalog(&mut scene.rng, self.me == Actor::Worker(0), self.local);
        let ended = self.catalog.names.iter().chain(&self.catalog.leaving).copied();
        let ended = ended.filter(|old| names.iter().all(|name| name.text != old.text));
        let leaving = if scene.rng.bool() { ended.collect() } else { Vec::new() };
        let new = Catalog { names, leaving };
        self.changes += 1;
        let force = scene.rng.u8(0..8) == 0;
        let change = CatalogChange { worker: self.key, sequence: self.changes, modules: new.modules(), force };
        self.changing = Some(new);
        self.send_request(scene, WorkerRequest::Catalog(change), Purpose::Catalog, PROMPT);
    }

    /// Keeps the names of the current catalog for a while.
    fn keep_earlier_names(&mut self, scene: &Scene) {
        let until = scene.now.mono + BESIDE_MAX;
        self.earlier_names.extend(self.catalog.names().map(|name| (name, until)));
    }

    fn finds(&self, now: Moment, name: &str) -> bool {
        let catalogs = iter::once(&self.catalog).chain(&self.changing);
        catalogs.flat_map(Catalog::names).any(|found| found == name)
            || self.earlier_names.get(name).is_some_and(|until| now <= *until)
    }

    // Work.

    fn poll(&mut self, scene: &mut Scene, slot: u32) {
        let draining = self.phase == WorkerPhase::Leaving;
        let model_slot = &mut self.model_slots[slot as usize];
        if draining && model_slot.ended.is_empty() {
            return self.leave_if_done(scene);
        }
        model_slot.sequence += 1;
        model_slot.polling = true;
        // Sometimes not all outcomes fit into one frame; until all are reported it requests no work.
        let rest = match model_slot.ended.len() {
            count @ 2.. if scene.rng.u8(0..4) == 0 => model_slot.ended.split_off(scene.rng.usize(1..count)),
            _ => Vec::new(),
        };
        let capacity = match draining || !rest.is_empty() {
            true => 0,
            false if scene.rng.u8(0..10) == 0 => scene.rng.u32(1..4),
            false => u32::try_from(PREFETCH_MAX).unwrap_or(u32::MAX),
        };
        let ended = std::mem::replace(&mut model_slot.ended, rest);
        let patience = match (self.local, ended.is_empty()) {
            (true, _) => WAIT_MAX + PROMPT,
            (false, true) => WORK_WAIT + ANSWER_GRACE,
            (false, false) => CONFIRM_WAIT + ANSWER_GRACE,
        };
        let work = Work { worker: model_slot.key, slot, sequence: model_slot.sequence, ended, capacity };
        let connection = model_slot.connection.clone().unwrap_or_else(|| self.connection.clone());
        let request = SimRequest::Worker(WorkerRequest::Work(work));
        scene.send_request((self.me, &connection), (request, Purpose::Work(slot)), (patience, u32::MAX));
    }

    /// Returns the connection of a slot, a new one if the last one failed.
    pub(crate) fn reconnect_slot(&mut self, scene: &mut Scene, slot: u32) -> SimConnection {
        let model_slot = &mut self.model_slots[slot as usize];
        match model_slot.connection.as_ref().filter(|connection| connection.is_connected()) {
            Some(connection) => connection.clone(),
            None if self.local => self.connection.clone(),
            None => model_slot.connection.insert(scene.net.connect(false)).clone(),
        }
    }

    /// A firewall drops the connection of a slot.
    fn drop_connection(&mut self, scene: &mut Scene) {
        if self.model_slots.is_empty() {
            return;
        }
        let slot = scene.rng.usize(0..self.model_slots.len());
        if let Some(connection) = &self.model_slots[slot].connection {
            connection.die_silently();
        }
    }

    fn take(&mut self, scene: &mut Scene, slot: u32, leases: Vec<Lease>) {
        let model_slot = &mut self.model_slots[slot as usize];
        model_slot.polling = false;
        model_slot.waiting = leases.into();
        self.begin(scene, slot);
    }

    fn begin(&mut self, scene: &mut Scene, slot: u32) {
        let (me, life) = (self.me, self.life);
        let model_slot = &mut self.model_slots[slot as usize];
        let Some(lease) = model_slot.waiting.pop_front() else { return self.poll(scene, slot) };
        if !self.finds(scene.now.mono, &lease.name) {
            // A late reply may name tasks of an older catalog.
            self.model_slots[slot as usize].ended.push(not_started(lease.id));
            return self.begin(scene, slot);
        }
        let model_slot = &mut self.model_slots[slot as usize];
        let first = *self.ran.entry(lease.task_id.clone()).or_insert(lease.id);
        let signs_as = if scene.sabotage == Some(Sabotage::IgnoredFence) { first } else { lease.id };
        let plan = names::plan(&mut scene.rng, &lease.name, signs_as);
        let hung = !scene.calm && !self.local && scene.rng.u16(0..400) == 0;
        let timeout = Duration::from_micros(lease.timeout_us);
        let (span, outcome) = match hung {
            true => (Duration::from_secs(scene.rng.u64(60..400)), plan.outcome),
            false if plan.span > timeout => (timeout, failed(ErrorKind::Timeout, signs_as)),
            false => (plan.span, plan.outcome),
        };
        scene.alarm_in(span, me, Alarm::Done(life, slot, lease.id.0));
        if !model_slot.waiting.is_empty() || !plan.reports.is_empty() || !model_slot.ended.is_empty() {
            scene.alarm_in(FLUSH_INTERVAL, me, Alarm::Flush(life, slot, lease.id.0));
        }
        model_slot.running = Some(Running { lease, started: scene.now.mono, outcome, hung, reports: plan.reports });
    }

    fn done(&mut self, scene: &mut Scene, slot: u32, lease: LeaseId) {
        let model_slot = &mut self.model_slots[slot as usize];
        let Some(running) = model_slot.running.take_if(|running| running.lease.id == lease) else { return };
        if &*running.lease.name == names::POISON && !matches!(running.outcome, Outcome::Stopped) {
            return self.crash(scene);
        }
        let ran_us = micros(scene.now.mono.since(running.started));
        let (outcome, reports) = (Some(running.outcome), running.reports);
        model_slot.ended.push(Ended { outcome, ran_us, reports, ..not_started(lease) });
        if self.phase == WorkerPhase::Leaving {
            let waiting = std::mem::take(&mut model_slot.waiting);
            model_slot.ended.extend(waiting.into_iter().map(|lease| not_started(lease.id)));
        }
        self.begin(scene, slot);
    }

    /// Stops an attempt, or removes its lease before it starts.
    fn stop(&mut self, scene: &mut Scene, lease: LeaseId) {
        for slot in 0..self.model_slots.len() {
            let model_slot = &mut self.model_slots[slot];
            model_slot.waiting.retain(|waiting| waiting.id != lease);
            if let Some(running) =
                model_slot.running.as_mut().filter(|running| running.lease.id == lease && !running.hung)
            {
                running.outcome = Outcome::Stopped;
                self.done(scene, u32::try_from(slot).unwrap_or(0), lease);
            }
        }
    }

    /// Sends the reports of a long attempt, and returns the leases behind it.
    fn flush(&mut self, scene: &mut Scene, slot: u32, lease: LeaseId) {
        let model_slot = &mut self.model_slots[slot as usize];
        let Some(running) = model_slot.running.as_mut().filter(|running| running.lease.id == lease) else { return };
        let reports = running.reports.drain(..).map(|report| (lease, report)).collect();
        let returned = model_slot.waiting.drain(..).map(|lease| lease.id).collect();
        self.notes += 1;
        let note = Note { worker: self.key, sequence: self.notes, reports, returned };
        self.send_request(scene, WorkerRequest::Note(note), Purpose::Note, PROMPT);
        self.send_late_outcomes(scene, slot);
    }

    /// Sends outcomes from before the running attempt. They are kept until confirmed.
    fn send_late_outcomes(&mut self, scene: &mut Scene, slot: u32) {
        let model_slot = &mut self.model_slots[slot as usize];
        if model_slot.ended.is_empty() {
            return;
        }
        model_slot.sequence += 1;
        let (worker, sequence, ended) = (model_slot.key, model_slot.sequence, model_slot.ended.clone());
        let leases = ended.iter().map(|ended| ended.lease).collect();
        let work = Work { worker, slot, sequence, ended, capacity: 0 };
        self.send_request(scene, WorkerRequest::Work(work), Purpose::Outcomes(slot, worker, leases), PROMPT);
    }

    fn holds(&self) -> Vec<LeaseId> {
        let running = |model_slot: &ModelSlot| model_slot.running.as_ref().map(|running| running.lease.id);
        self.model_slots
            .iter()
            .flat_map(|model_slot| model_slot.waiting.iter().map(|lease| lease.id).chain(running(model_slot)))
            .collect()
    }

    fn beat(&mut self, scene: &mut Scene) {
        let Some(worker) = self.beats_as else { return };
        let patience = if self.local { Duration::from_hours(1) } else { PROMPT };
        self.send_request(scene, WorkerRequest::Beat(Beat { worker, holds: self.holds() }), Purpose::Beat, patience);
    }

    // Failures and shutdown.

    /// Does something that workers do occasionally.
    fn mishap(&mut self, scene: &mut Scene) {
        if scene.calm {
            return;
        }
        scene.alarm_within(200, 12_000, self.me, Alarm::Mishap);
        match scene.rng.u8(0..10) {
            0 | 1 if !self.local => self.crash(scene),
            2 | 3 if !self.local => self.reconnect(scene),
            4 | 5 if !self.local => {
                self.frozen_until = scene.now.mono + Duration::from_millis(scene.rng.u64(100..15_000));
            }
            6 if self.phase == WorkerPhase::Working => self.leave(scene),
            9 if !self.local => self.drop_connection(scene),
            7 | 8 if self.phase == WorkerPhase::Working && self.changing.is_none() => self.change(scene),
            _ => {}
        }
    }

    /// Requests no more work, and leaves when it is done.
    pub(crate) fn leave(&mut self, scene: &mut Scene) {
        if self.phase != WorkerPhase::Working {
            return;
        }
        self.phase = WorkerPhase::Leaving;
        self.send_request(scene, WorkerRequest::Drain(self.key), Purpose::Drain, PROMPT);
        self.leave_if_done(scene);
    }

    fn leave_if_done(&mut self, scene: &mut Scene) {
        let done =
            |model_slot: &ModelSlot| !model_slot.polling && model_slot.running.is_none() && model_slot.ended.is_empty();
        if self.phase == WorkerPhase::Leaving && self.model_slots.iter().all(done) {
            self.life += 1;
            self.phase = WorkerPhase::Away;
            self.send_request(scene, WorkerRequest::Leave(self.key), Purpose::Leave, PROMPT);
        }
    }

    fn crash(&mut self, scene: &mut Scene) {
        let noticed = (scene.rng.u8(0..4) != 0).then(|| Duration::from_micros(scene.rng.u64(50..400_000)));
        self.die(scene, noticed);
        let pause = scene.rng.u64(10..15_000);
        self.again_in(scene, Duration::from_millis(pause));
    }

    fn die(&mut self, scene: &mut Scene, noticed: Option<Duration>) {
        scene.net.silence(self.me);
        for connection in self.model_slots.iter_mut().filter_map(|model_slot| model_slot.connection.take()) {
            scene.net.cut(&connection, noticed.map(|span| scene.now.mono + span));
        }
        scene.net.cut(&self.connection, noticed.map(|span| scene.now.mono + span));
        self.life += 1;
        self.phase = WorkerPhase::Away;
        self.model_slots.iter_mut().for_each(|model_slot| *model_slot = ModelSlot::default());
    }

    fn reconnect(&mut self, scene: &mut Scene) {
        let noticed = Duration::from_micros(scene.rng.u64(50..800_000));
        scene.net.cut(&self.connection, Some(scene.now.mono + noticed));
        self.connection = scene.net.connect(false);
        for model_slot in &mut self.model_slots {
            if let Some(connection) = model_slot.connection.take() {
                scene.net.cut(&connection, Some(scene.now.mono + noticed));
            }
        }
        scene.net.move_calls(scene.now.mono, &mut scene.rng, self.me, &self.connection);
    }
}

pub(crate) fn failed(kind: ErrorKind, lease: LeaseId) -> Outcome {
    Outcome::Failure(Failure::new(kind, format!("lease {}", lease.0)))
}

pub(crate) fn succeeded(lease: LeaseId, follow_ups: Vec<FollowUp>) -> Outcome {
    Outcome::Success { result: Json::of(&lease.0).unwrap_or_else(|_| Json::null()), follow_ups }
}

pub(crate) fn log_line(message: &str) -> Report {
    Report::Log { level: LogLevel::Info, message: message.into() }
}

fn not_started(lease: LeaseId) -> Ended {
    Ended {
        lease,
        outcome: None,
        ran_us: 0,
        usage: Usage::default(),
        version: None,
        reports: Vec::new(),
        metadata: Json::empty_object(),
    }
}

fn module(names: &[&'static Name]) -> ModuleInfo {
    let task = |name: &&Name| TaskInfo {
        name: name.text.into(),
        full_name: None,
        documentation: String::new(),
        schema: Json::empty_object(),
        policy: Policy { max_retries: name.max_retries, ..Policy::default() },
        limits: TaskLimits::default(),
        schedule: None,
        needs: Vec::new(),
        warnings: Vec::new(),
    };
    ModuleInfo { name: "model".into(), tasks: names.iter().map(task).collect(), ..ModuleInfo::default() }
}
