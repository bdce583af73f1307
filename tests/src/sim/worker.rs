//! The model worker: does what `subworker::worker` does, without threads and without running
//! anything, and is hit by everything that can hit a worker.
//!
//! What an attempt ends in is diced when it begins. A result or an error names the lease it was
//! reached under, so that the checks can tell which attempt it came from.

use std::{
    collections::{BTreeMap, VecDeque},
    iter,
    time::Duration,
};

use fastworker::{
    clock::{Moment, micros},
    control_plane::state::{Answer, LOOKAHEAD_MAX},
    json::Json,
    protocol::{
        Beat, CONFIRM_WAIT, CatalogChange, Ended, Lease, LeaseId, Note, Order, Registration, WAIT_MAX, WORK_WAIT, Work,
        WorkerReply, WorkerRequest,
    },
    task::{
        ErrorKind, Failure, FollowUp, LogLevel, ModuleInfo, ModuleStatus, Outcome, Policy, Report, TaskId, TaskInfo,
    },
};
use uuid::Uuid;

use super::{
    Purpose, Sabotage, Scene,
    names::{self, Name},
    network::{Actor, Alarm, Ask, Line},
};

/// An answer that should come at once is asked for again after so long.
const PROMPT: Duration = Duration::from_secs(5);
/// A connection that brings no answer for so much longer than a request is parked is dead.
const ANSWER_GRACE: Duration = Duration::from_millis(1_500);
const BEAT_STEP: Duration = Duration::from_millis(20);
const KEEPER_STEP: Duration = Duration::from_millis(10);
const BESIDE_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
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
    line: Line,
    /// The key of the registration that holds now.
    key: Uuid,
    /// Grows with each start, so that an alarm of an earlier life is told apart.
    life: u64,
    mood: Mood,
    catalog: Catalog,
    /// The catalog that it has asked for.
    changing: Option<Catalog>,
    changes: u64,
    /// Names that it had or was about to have, and until when it finds them still.
    beside: BTreeMap<&'static str, Moment>,
    desks: Vec<Desk>,
    /// The key that its beat goes by; none while it waits for a new one.
    beats_as: Option<Uuid>,
    notes: u64,
    pub(crate) frozen_until: Moment,
    /// For sabotage: under which lease it first ran a task.
    ran: BTreeMap<TaskId, LeaseId>,
}

/// What it can run.
#[derive(Clone, Debug, Default)]
struct Catalog {
    names: Vec<&'static Name>,
    /// For tasks that were submitted before only.
    leaving: Vec<&'static Name>,
}

impl Catalog {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().chain(&self.leaving).map(|name| name.text)
    }

    fn modules(&self) -> Vec<ModuleInfo> {
        let leaving = ModuleInfo { path: "leaving".into(), status: ModuleStatus::Leaving, ..module(&self.leaving) };
        vec![module(&self.names), leaving]
    }
}

#[derive(Debug, Default)]
struct Desk {
    /// The connection of its requests for work, once it has one of its own.
    line: Option<Line>,
    key: Uuid,
    sequence: u64,
    asking: bool,
    /// Waits for a new key.
    stuck: bool,
    waiting: VecDeque<Lease>,
    running: Option<Running>,
    /// What it has not told yet.
    ended: Vec<Ended>,
}

#[derive(Debug)]
struct Running {
    lease: Lease,
    began: Moment,
    outcome: Outcome,
    hung: bool,
    says: Vec<Report>,
}

impl Worker {
    /// A worker that has not started. The one of number 0 offers every name, always.
    pub(crate) fn new(scene: &mut Scene, number: usize, local: bool) -> Self {
        let me = Actor::Worker(number);
        let line = scene.net.connect(local);
        scene.alarm_in(Duration::from_millis(1), me, Alarm::Start(0));
        Self {
            me,
            id: format!("worker-{number}"),
            local,
            line,
            key: Uuid::nil(),
            life: 0,
            mood: Mood::Away,
            catalog: Catalog::default(),
            changing: None,
            changes: 0,
            beside: BTreeMap::new(),
            desks: Vec::new(),
            beats_as: None,
            notes: 0,
            frozen_until: Moment::default(),
            ran: BTreeMap::new(),
        }
    }

    /// Wakes up for an alarm.
    pub(crate) fn alarm(&mut self, scene: &mut Scene, alarm: &Alarm) {
        match *alarm {
            Alarm::Start(life) if life == self.life => self.start(scene),
            Alarm::Beat(life) if life == self.life => self.beat(scene),
            Alarm::Done(life, slot, lease) if life == self.life => self.done(scene, slot, LeaseId(lease)),
            Alarm::Keeper(life, slot, lease) if life == self.life => self.keep(scene, slot, LeaseId(lease)),
            Alarm::Mishap => self.mishap(scene),
            _ => {}
        }
    }

    /// Hears an answer, or that there is none.
    pub(crate) fn heard(&mut self, scene: &mut Scene, purpose: &Purpose, answer: Option<Answer>) {
        let answer = match answer {
            Some(Answer::Worker(answer)) => Some(answer),
            _ => None,
        };
        match (purpose, answer) {
            (Purpose::Register, Some(WorkerReply::Registered)) => self.registered(scene),
            (Purpose::Register, _) => self.again_in(scene, Duration::from_millis(200)),
            (Purpose::Work(slot), Some(WorkerReply::Leases(leases))) => self.take(scene, *slot, leases),
            (Purpose::Outcomes(slot, key, leases), Some(WorkerReply::Leases(_))) => {
                let desk = &mut self.desks[*slot as usize];
                if desk.key == *key {
                    desk.ended.retain(|ended| !leases.contains(&ended.lease));
                }
            }
            (Purpose::Work(slot), _) => {
                let desk = &mut self.desks[*slot as usize];
                (desk.asking, desk.stuck) = (false, true);
                let old = desk.key;
                self.renew(scene, old);
            }
            (Purpose::Beat, Some(WorkerReply::Orders(orders))) => {
                for Order::Stop(lease) in orders {
                    self.stop(scene, lease);
                }
                scene.alarm_in(BEAT_STEP, self.me, Alarm::Beat(self.life));
            }
            (Purpose::Beat, _) => {
                if let Some(old) = self.beats_as.take() {
                    self.renew(scene, old);
                }
            }
            (Purpose::Catalog, Some(WorkerReply::Noted)) => {
                if let Some(new) = self.changing.take() {
                    self.stay_beside(scene);
                    self.catalog = new;
                }
            }
            // Declined, or it is about to register anew with the old one.
            (Purpose::Catalog, _) => self.changing = None,
            (Purpose::Leave, _) => {
                self.die(scene, Some(Duration::from_millis(1)));
                let pause = scene.dice.u64(100..20_000);
                self.again_in(scene, Duration::from_millis(pause));
            }
            _ => {}
        }
    }

    fn ask(&self, scene: &mut Scene, request: WorkerRequest, purpose: Purpose, patience: Duration) {
        scene.ask((self.me, &self.line), (Ask::Worker(request), purpose), (patience, u32::MAX));
    }

    // It comes.

    fn again_in(&mut self, scene: &mut Scene, span: Duration) {
        self.life += 1;
        self.mood = Mood::Away;
        scene.alarm_in(span, self.me, Alarm::Start(self.life));
    }

    fn start(&mut self, scene: &mut Scene) {
        if scene.over {
            return;
        }
        self.life += 1;
        let slots = if self.desks.is_empty() { scene.dice.usize(1..4) } else { self.desks.len() };
        self.line = scene.net.connect(self.local);
        let own_lines = !self.local && scene.dice.bool();
        let line = |scene: &mut Scene| own_lines.then(|| scene.net.connect(false));
        self.desks = (0..slots).map(|_| Desk { line: line(scene), stuck: true, ..Desk::default() }).collect();
        self.beats_as = None;
        let names = names::catalog(&mut scene.dice, self.me == Actor::Worker(0), self.local);
        self.catalog = Catalog { names, leaving: Vec::new() };
        self.changing = None;
        self.register(scene, None);
    }

    /// Registers under a new key, after `previous` if this process did so before.
    fn register(&mut self, scene: &mut Scene, previous: Option<Uuid>) {
        self.mood = Mood::Joining;
        self.key = scene.uuid();
        let registration = Registration {
            worker: self.key,
            previous,
            worker_id: self.id.clone(),
            address: String::new(),
            slots: u32::try_from(self.desks.len()).unwrap_or(1),
            modules: self.catalog.modules(),
        };
        self.ask(scene, WorkerRequest::Register(registration), Purpose::Register, PROMPT);
    }

    fn registered(&mut self, scene: &mut Scene) {
        self.mood = Mood::Working;
        self.resume(scene);
        if scene.over {
            self.leave(scene);
        }
    }

    /// Everything that waits for a key goes on with the one that holds now.
    fn resume(&mut self, scene: &mut Scene) {
        for slot in 0..self.desks.len() {
            let desk = &mut self.desks[slot];
            if desk.stuck {
                (desk.stuck, desk.key, desk.sequence) = (false, self.key, 0);
                self.ask_for_work(scene, u32::try_from(slot).unwrap_or(0));
            }
        }
        if self.beats_as.is_none() {
            self.beats_as = Some(self.key);
            self.beat(scene);
        }
    }

    /// The control plane does not know `old` any more.
    fn renew(&mut self, scene: &mut Scene, old: Uuid) {
        match self.mood {
            Mood::Working | Mood::Leaving if self.key != old => self.resume(scene),
            Mood::Working => {
                for lease in self.holds() {
                    self.stop(scene, lease);
                }
                self.register(scene, Some(old));
            }
            Mood::Leaving => self.leave_if_done(scene),
            Mood::Away | Mood::Joining => {}
        }
    }

    // Its modules change.

    fn change(&mut self, scene: &mut Scene) {
        let names = names::catalog(&mut scene.dice, self.me == Actor::Worker(0), self.local);
        let gone = self.catalog.names.iter().chain(&self.catalog.leaving).copied();
        let gone = gone.filter(|old| names.iter().all(|name| name.text != old.text));
        let leaving = if scene.dice.bool() { gone.collect() } else { Vec::new() };
        let new = Catalog { names, leaving };
        self.changes += 1;
        let force = scene.dice.u8(0..8) == 0;
        let change = CatalogChange { worker: self.key, sequence: self.changes, modules: new.modules(), force };
        self.changing = Some(new);
        self.ask(scene, WorkerRequest::Catalog(change), Purpose::Catalog, PROMPT);
    }

    /// What it has now is found for a while longer.
    fn stay_beside(&mut self, scene: &Scene) {
        let until = scene.now.mono + BESIDE_MAX;
        self.beside.extend(self.catalog.names().map(|name| (name, until)));
    }

    fn finds(&self, now: Moment, name: &str) -> bool {
        let catalogs = iter::once(&self.catalog).chain(&self.changing);
        catalogs.flat_map(Catalog::names).any(|found| found == name)
            || self.beside.get(name).is_some_and(|until| now <= *until)
    }

    // It works.

    fn ask_for_work(&mut self, scene: &mut Scene, slot: u32) {
        let draining = self.mood == Mood::Leaving;
        let desk = &mut self.desks[slot as usize];
        if draining && desk.ended.is_empty() {
            return self.leave_if_done(scene);
        }
        desk.sequence += 1;
        desk.asking = true;
        // Sometimes it has more to tell than one frame holds; until all is told it takes nothing.
        let rest = match desk.ended.len() {
            count @ 2.. if scene.dice.u8(0..4) == 0 => desk.ended.split_off(scene.dice.usize(1..count)),
            _ => Vec::new(),
        };
        let capacity = match draining || !rest.is_empty() {
            true => 0,
            false if scene.dice.u8(0..10) == 0 => scene.dice.u32(1..4),
            false => u32::try_from(LOOKAHEAD_MAX).unwrap_or(u32::MAX),
        };
        let ended = std::mem::replace(&mut desk.ended, rest);
        let patience = match (self.local, ended.is_empty()) {
            (true, _) => WAIT_MAX + PROMPT,
            (false, true) => WORK_WAIT + ANSWER_GRACE,
            (false, false) => CONFIRM_WAIT + ANSWER_GRACE,
        };
        let work = Work { worker: desk.key, slot, sequence: desk.sequence, ended, capacity };
        let line = desk.line.clone().unwrap_or_else(|| self.line.clone());
        let ask = Ask::Worker(WorkerRequest::Work(work));
        scene.ask((self.me, &line), (ask, Purpose::Work(slot)), (patience, u32::MAX));
    }

    /// The connection of a slot whose last one brought no answer.
    pub(crate) fn redial(&mut self, scene: &mut Scene, slot: u32) -> Line {
        let desk = &mut self.desks[slot as usize];
        match desk.line.as_ref().filter(|line| line.is_connected()) {
            Some(line) => line.clone(),
            None if self.local => self.line.clone(),
            None => desk.line.insert(scene.net.connect(false)).clone(),
        }
    }

    /// A firewall forgets the connection of a slot.
    fn forget_line(&mut self, scene: &mut Scene) {
        if self.desks.is_empty() {
            return;
        }
        let slot = scene.dice.usize(0..self.desks.len());
        if let Some(line) = &self.desks[slot].line {
            line.die_silently();
        }
    }

    fn take(&mut self, scene: &mut Scene, slot: u32, leases: Vec<Lease>) {
        let desk = &mut self.desks[slot as usize];
        desk.asking = false;
        desk.waiting = leases.into();
        self.begin(scene, slot);
    }

    fn begin(&mut self, scene: &mut Scene, slot: u32) {
        let (me, life) = (self.me, self.life);
        let desk = &mut self.desks[slot as usize];
        let Some(lease) = desk.waiting.pop_front() else { return self.ask_for_work(scene, slot) };
        if !self.finds(scene.now.mono, &lease.name) {
            // An answer may come so late that its names are from a catalog before the last one.
            self.desks[slot as usize].ended.push(not_begun(lease.id));
            return self.begin(scene, slot);
        }
        let desk = &mut self.desks[slot as usize];
        let first = *self.ran.entry(lease.task_id.clone()).or_insert(lease.id);
        let signs_as = if scene.sabotage == Some(Sabotage::IgnoredFence) { first } else { lease.id };
        let plan = names::plan(&mut scene.dice, &lease.name, signs_as);
        let hung = !scene.calm && !self.local && scene.dice.u16(0..400) == 0;
        let timeout = Duration::from_micros(lease.timeout_us);
        let (span, outcome) = match hung {
            true => (Duration::from_secs(scene.dice.u64(60..400)), plan.outcome),
            false if plan.span > timeout => (timeout, failed(ErrorKind::Timeout, signs_as)),
            false => (plan.span, plan.outcome),
        };
        scene.alarm_in(span, me, Alarm::Done(life, slot, lease.id.0));
        if !desk.waiting.is_empty() || !plan.says.is_empty() || !desk.ended.is_empty() {
            scene.alarm_in(KEEPER_STEP, me, Alarm::Keeper(life, slot, lease.id.0));
        }
        desk.running = Some(Running { lease, began: scene.now.mono, outcome, hung, says: plan.says });
    }

    fn done(&mut self, scene: &mut Scene, slot: u32, lease: LeaseId) {
        let desk = &mut self.desks[slot as usize];
        let Some(running) = desk.running.take_if(|running| running.lease.id == lease) else { return };
        if &*running.lease.name == names::POISON && !matches!(running.outcome, Outcome::Stopped) {
            return self.crash(scene);
        }
        let ran_us = micros(scene.now.mono.since(running.began));
        desk.ended.push(Ended { lease, outcome: Some(running.outcome), ran_us, version: None, reports: running.says });
        if self.mood == Mood::Leaving {
            let waiting = std::mem::take(&mut desk.waiting);
            desk.ended.extend(waiting.into_iter().map(|lease| not_begun(lease.id)));
        }
        self.begin(scene, slot);
    }

    /// Ends an attempt, or sees to it that it does not begin.
    fn stop(&mut self, scene: &mut Scene, lease: LeaseId) {
        for slot in 0..self.desks.len() {
            let desk = &mut self.desks[slot];
            desk.waiting.retain(|waiting| waiting.id != lease);
            if let Some(running) = desk.running.as_mut().filter(|running| running.lease.id == lease && !running.hung) {
                running.outcome = Outcome::Stopped;
                self.done(scene, u32::try_from(slot).unwrap_or(0), lease);
            }
        }
    }

    /// Tells what a long attempt says, and returns what waits behind it.
    fn keep(&mut self, scene: &mut Scene, slot: u32, lease: LeaseId) {
        let desk = &mut self.desks[slot as usize];
        let Some(running) = desk.running.as_mut().filter(|running| running.lease.id == lease) else { return };
        let reports = running.says.drain(..).map(|report| (lease, report)).collect();
        let returned = desk.waiting.drain(..).map(|lease| lease.id).collect();
        self.notes += 1;
        let note = Note { worker: self.key, sequence: self.notes, reports, returned };
        self.ask(scene, WorkerRequest::Note(note), Purpose::Note, PROMPT);
        self.send_late_outcomes(scene, slot);
    }

    /// Sends what ended before the attempt that is under way. It is kept until that is confirmed.
    fn send_late_outcomes(&mut self, scene: &mut Scene, slot: u32) {
        let desk = &mut self.desks[slot as usize];
        if desk.ended.is_empty() {
            return;
        }
        desk.sequence += 1;
        let (worker, sequence, ended) = (desk.key, desk.sequence, desk.ended.clone());
        let leases = ended.iter().map(|ended| ended.lease).collect();
        let work = Work { worker, slot, sequence, ended, capacity: 0 };
        self.ask(scene, WorkerRequest::Work(work), Purpose::Outcomes(slot, worker, leases), PROMPT);
    }

    fn holds(&self) -> Vec<LeaseId> {
        let running = |desk: &Desk| desk.running.as_ref().map(|running| running.lease.id);
        self.desks.iter().flat_map(|desk| desk.waiting.iter().map(|lease| lease.id).chain(running(desk))).collect()
    }

    fn beat(&mut self, scene: &mut Scene) {
        let Some(worker) = self.beats_as else { return };
        let patience = if self.local { Duration::from_hours(1) } else { PROMPT };
        self.ask(scene, WorkerRequest::Beat(Beat { worker, holds: self.holds() }), Purpose::Beat, patience);
    }

    // It goes, or is made to go.

    /// Does something that workers do now and then.
    fn mishap(&mut self, scene: &mut Scene) {
        if scene.calm {
            return;
        }
        scene.alarm_within(200, 12_000, self.me, Alarm::Mishap);
        match scene.dice.u8(0..10) {
            0 | 1 if !self.local => self.crash(scene),
            2 | 3 if !self.local => self.reconnect(scene),
            4 | 5 if !self.local => {
                self.frozen_until = scene.now.mono + Duration::from_millis(scene.dice.u64(100..15_000));
            }
            6 if self.mood == Mood::Working => self.leave(scene),
            9 if !self.local => self.forget_line(scene),
            7 | 8 if self.mood == Mood::Working && self.changing.is_none() => self.change(scene),
            _ => {}
        }
    }

    /// Takes no more work, and goes when it has none left.
    pub(crate) fn leave(&mut self, scene: &mut Scene) {
        if self.mood != Mood::Working {
            return;
        }
        self.mood = Mood::Leaving;
        self.ask(scene, WorkerRequest::Drain(self.key), Purpose::Drain, PROMPT);
        self.leave_if_done(scene);
    }

    fn leave_if_done(&mut self, scene: &mut Scene) {
        let done = |desk: &Desk| !desk.asking && desk.running.is_none() && desk.ended.is_empty();
        if self.mood == Mood::Leaving && self.desks.iter().all(done) {
            self.life += 1;
            self.mood = Mood::Away;
            self.ask(scene, WorkerRequest::Leave(self.key), Purpose::Leave, PROMPT);
        }
    }

    fn crash(&mut self, scene: &mut Scene) {
        let noticed = (scene.dice.u8(0..4) != 0).then(|| Duration::from_micros(scene.dice.u64(50..400_000)));
        self.die(scene, noticed);
        let pause = scene.dice.u64(10..15_000);
        self.again_in(scene, Duration::from_millis(pause));
    }

    fn die(&mut self, scene: &mut Scene, noticed: Option<Duration>) {
        scene.net.silence(self.me);
        for line in self.desks.iter_mut().filter_map(|desk| desk.line.take()) {
            scene.net.cut(&line, noticed.map(|span| scene.now.mono + span));
        }
        scene.net.cut(&self.line, noticed.map(|span| scene.now.mono + span));
        self.life += 1;
        self.mood = Mood::Away;
        self.desks.iter_mut().for_each(|desk| *desk = Desk::default());
    }

    fn reconnect(&mut self, scene: &mut Scene) {
        let noticed = Duration::from_micros(scene.dice.u64(50..800_000));
        scene.net.cut(&self.line, Some(scene.now.mono + noticed));
        self.line = scene.net.connect(false);
        for desk in &mut self.desks {
            if let Some(line) = desk.line.take() {
                scene.net.cut(&line, Some(scene.now.mono + noticed));
            }
        }
        scene.net.move_calls(scene.now.mono, &mut scene.dice, self.me, &self.line);
    }
}

pub(crate) fn failed(kind: ErrorKind, lease: LeaseId) -> Outcome {
    Outcome::Failure(Failure::new(kind, format!("lease {}", lease.0)))
}

pub(crate) fn succeeded(lease: LeaseId, follow_ups: Vec<FollowUp>) -> Outcome {
    Outcome::Success { result: Json::of(&lease.0).unwrap_or_else(|_| Json::null()), follow_ups }
}

pub(crate) fn line(message: &str) -> Report {
    Report::Log { level: LogLevel::Info, message: message.into() }
}

fn not_begun(lease: LeaseId) -> Ended {
    Ended { lease, outcome: None, ran_us: 0, version: None, reports: Vec::new() }
}

fn module(names: &[&'static Name]) -> ModuleInfo {
    let task = |name: &&Name| TaskInfo {
        name: name.text.into(),
        documentation: String::new(),
        schema: Json::empty_object(),
        policy: Policy { max_retries: name.max_retries, ..Policy::default() },
        schedule: None,
        warnings: Vec::new(),
    };
    ModuleInfo { name: "model".into(), tasks: names.iter().map(task).collect(), ..ModuleInfo::default() }
}
