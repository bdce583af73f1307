//! The model client: submits, asks, follows, cancels and collects, and has bad luck.

use std::{collections::BTreeSet, time::Duration};

use fastworker::{
    clock::Timestamp,
    control_plane::state::AnyReply,
    json::Json,
    protocol::{Collect, EventQuery, Follow, Lookup, Notify, Reply, Request, Submit, Submitted, TaskQuery},
    task::{CallbackInfo, NewTask, Policy, TaskId, TaskPriority, TaskStatus, Unknown},
};
use uuid::Uuid;

use super::{
    Purpose, Scene, names,
    network::{Actor, Alarm, Ask, Line},
};

const PROMPT: Duration = Duration::from_secs(5);

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    me: Actor,
    line: Line,
    pub(crate) session: Uuid,
    sequence: u64,
    collecting: bool,
    /// The last event that it was told of.
    seen: u64,
    /// Tasks that it may still submit.
    budget: usize,
    /// Ends that it was told of, in whatever way.
    pub(crate) heard: BTreeSet<TaskId>,
    /// Its process has ended.
    pub(crate) gone: bool,
}

impl Client {
    /// A client that has done nothing yet.
    pub(crate) fn new(scene: &mut Scene, number: usize) -> Self {
        let me = Actor::Client(number);
        let line = scene.net.connect(false);
        scene.alarm_within(1, 200, me, Alarm::Act);
        let session = scene.uuid();
        let budget = if scene.dice.u8(0..4) == 0 { scene.dice.usize(100..250) } else { scene.dice.usize(20..90) };
        Self { me, line, session, sequence: 0, collecting: false, seen: 0, budget, heard: BTreeSet::new(), gone: false }
    }

    /// Does something.
    pub(crate) fn act(&mut self, scene: &mut Scene) {
        if scene.over || self.gone {
            return;
        }
        if scene.calm {
            self.budget = 0;
            return self.collect(scene);
        }
        match scene.dice.u8(0..42) {
            0..15 => self.submit(scene),
            15..18 => self.hold(scene),
            18..24 => self.look_up(scene),
            24..28 => self.follow(scene),
            28..32 => self.cancel(scene),
            32..38 => self.collect(scene),
            38 => self.ask(scene, Request::Workers, Purpose::Other),
            39 => self.look_around(scene),
            40 => self.look_on(scene),
            _ if scene.dice.u8(0..8) == 0 => return self.vanish(scene),
            _ => {}
        }
        let idle = scene.dice.u8(0..12) == 0;
        let (least, most) = if idle { (1_000, 70_000) } else { (1, 900) };
        scene.alarm_within(least, most, self.me, Alarm::Act);
    }

    /// Hears an answer, or that there is none.
    pub(crate) fn heard(&mut self, scene: &mut Scene, purpose: &Purpose, answer: Option<AnyReply>) {
        match (purpose, answer) {
            (Purpose::Collect, answer) => {
                self.collecting = false;
                if let Some(AnyReply::Client(Reply::Collected(collected))) = answer {
                    self.heard.extend(collected.results.iter().map(|result| result.task_id.clone()));
                }
                let pauses = !scene.calm && scene.dice.u8(0..6) == 0;
                if !pauses {
                    self.collect(scene);
                }
            }
            (Purpose::Submit, Some(AnyReply::Client(Reply::Submitted(taken)))) => {
                for taken in taken {
                    if let Submitted::Ended(result) = taken {
                        self.heard.insert(result.task_id.clone());
                    }
                }
            }
            (Purpose::Other, Some(AnyReply::Client(Reply::Events(events)))) => self.seen = events.last,
            _ => {}
        }
    }

    fn ask(&self, scene: &mut Scene, request: Request, purpose: Purpose) {
        let patience = Duration::from_millis(scene.dice.u64(100..25_000));
        // Whoever gives up a collect would never know what it was told.
        let tries = if matches!(purpose, Purpose::Collect) { u32::MAX } else { scene.dice.u32(1..5) };
        scene.ask((self.me, &self.line), (Ask::Client(request), purpose), (patience, tries));
    }

    fn submit(&mut self, scene: &mut Scene) {
        let many = match scene.dice.u8(0..6) {
            0 => scene.dice.usize(2..80),
            1 => scene.dice.usize(2..6),
            _ => 1,
        };
        let tasks: Vec<NewTask> = (0..many.min(self.budget)).map(|_| new_task(scene)).collect();
        self.budget -= tasks.len();
        if tasks.is_empty() {
            return;
        }
        let notify = match scene.dice.u8(0..5) {
            0 => Notify::No,
            1 => Notify::Answer,
            _ => Notify::Session(self.session),
        };
        let collects = matches!(notify, Notify::Session(_));
        self.ask(scene, Request::Submit(Submit { tasks, notify }), Purpose::Submit);
        if collects {
            self.collect(scene);
        }
    }

    fn hold(&mut self, scene: &mut Scene) {
        if self.budget > 0 {
            self.budget -= 1;
            let ask = Ask::Hold(Box::new(new_task(scene)));
            scene.ask((self.me, &self.line), (ask, Purpose::Submit), (Duration::from_mins(1), 1));
        }
    }

    fn collect(&mut self, scene: &mut Scene) {
        if self.collecting || scene.over || self.gone {
            return;
        }
        self.collecting = true;
        self.sequence += 1;
        let wait_ms = if scene.dice.u8(0..5) == 0 { 0 } else { scene.dice.u32(100..6_000) };
        let collect = Collect { session: self.session, sequence: self.sequence, wait_ms };
        let patience = Duration::from_millis(u64::from(wait_ms)) + PROMPT;
        let ask = Ask::Client(Request::Collect(collect));
        scene.ask((self.me, &self.line), (ask, Purpose::Collect), (patience, u32::MAX));
    }

    fn look_up(&self, scene: &mut Scene) {
        let ids: Vec<TaskId> = (0..scene.dice.usize(0..6)).map(|_| some_id(scene)).collect();
        let wait_ms = if scene.dice.bool() { 0 } else { scene.dice.u32(1..30_000) };
        self.ask(scene, Request::Lookup(Lookup { ids, wait_ms }), Purpose::Other);
    }

    fn follow(&self, scene: &mut Scene) {
        let (id, after) = (some_id(scene), scene.dice.u64(0..4));
        let wait_ms = scene.dice.u32(0..8_000);
        self.ask(scene, Request::Follow(Follow { id, after, wait_ms }), Purpose::Other);
    }

    fn look_around(&self, scene: &mut Scene) {
        let statuses = TaskStatus::ALL[scene.dice.usize(0..7)..].to_vec();
        let (offset, limit) = (scene.dice.u64(0..20), scene.dice.u32(0..50));
        self.ask(scene, Request::Tasks(TaskQuery { statuses, offset, limit, ..TaskQuery::default() }), Purpose::Other);
    }

    /// Waits for what happens, mostly after what it has just seen.
    fn look_on(&mut self, scene: &mut Scene) {
        let after = if scene.dice.u8(0..4) == 0 { scene.dice.u64(..) } else { self.seen };
        let wait_ms = scene.dice.u32(0..30_000);
        self.ask(scene, Request::Events(EventQuery { after, wait_ms }), Purpose::Other);
    }

    fn cancel(&self, scene: &mut Scene) {
        let ids = (0..scene.dice.usize(1..4)).map(|_| some_id(scene)).collect();
        self.ask(scene, Request::Cancel(ids), Purpose::Other);
    }

    /// Its process ends; the control plane notices.
    fn vanish(&mut self, scene: &mut Scene) {
        self.gone = true;
        scene.net.silence(self.me);
        scene.net.cut(&self.line, Some(scene.now.mono + Duration::from_millis(1)));
    }
}

/// An id that was submitted, of late rather than long ago, or one that nobody knows.
fn some_id(scene: &mut Scene) -> TaskId {
    if scene.offered.is_empty() || scene.dice.u8(0..30) == 0 {
        return scene.uuid().into();
    }
    let late = scene.offered.len().saturating_sub(12);
    let from = if scene.dice.bool() { late } else { 0 };
    scene.offered[scene.dice.usize(from..scene.offered.len())].id.clone()
}

/// A task, now and then one that was submitted before.
fn new_task(scene: &mut Scene) -> NewTask {
    if !scene.offered.is_empty() && scene.dice.u8(0..10) == 0 {
        let late = scene.offered.len().saturating_sub(30);
        return scene.offered[scene.dice.usize(late..scene.offered.len())].clone();
    }
    let name = match scene.dice.u8(0..60) {
        0..20 => "quick",
        20..26 => "brisk",
        26..33 => "slow",
        33..40 => names::MIXED,
        40..46 => names::FRAGILE,
        46..50 => names::PARENT,
        50..55 => names::CHATTY,
        55 => names::POISON,
        56 => "quik",
        _ => names::NOBODY,
    };
    let id = match scene.dice.u8(0..4) {
        0 => format!("task {}", scene.offered.len()).parse().unwrap_or_default(),
        _ => scene.uuid().into(),
    };
    let dice = &mut scene.dice;
    let waits = match dice.u8(0..8) {
        0 => Some(Duration::from_millis(dice.u64(0..20_000))),
        _ => None,
    };
    // Some are early, some late, and some are in the past.
    let eta = (dice.u8(0..12) == 0)
        .then(|| Timestamp::from_micros(scene.now.wall.micros() + i64::from(dice.i32(-5_000_000..15_000_000))));
    let policy = Policy {
        priority: (dice.u8(0..3) == 0).then(|| TaskPriority::ALL[dice.usize(0..4)]),
        timeout: Some(Duration::from_millis(dice.u64(500..20_000))),
        max_retries: (dice.u8(0..4) == 0).then(|| dice.u32(0..4)),
        retry_delay: Some(Duration::from_millis(dice.u64(0..4_000))),
        ..Policy::default()
    };
    let unknown = if dice.u8(0..5) == 0 { Unknown::Wait } else { Unknown::Fail };
    let kwargs = Json::empty_object();
    let callback = (dice.u8(0..4) == 0).then(|| CallbackInfo::new("tcp://127.0.0.1:1"));
    let task = NewTask { id, kwargs, policy, eta, countdown: waits, callback, unknown, ..NewTask::new(name) };
    scene.offered.push(task.clone());
    task
}
