//! The model client: submits, looks up, follows, cancels and collects tasks, and may end.

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
    network::{Actor, Alarm, SimConnection, SimRequest},
};

const PROMPT: Duration = Duration::from_secs(5);

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    me: Actor,
    connection: SimConnection,
    pub(crate) session: Uuid,
    sequence: u64,
    collecting: bool,
    /// The number of the last event it received.
    seen: u64,
    /// Number of tasks that it may still submit.
    budget: usize,
    /// Tasks whose result it received.
    pub(crate) received: BTreeSet<TaskId>,
    /// Its process has ended.
    pub(crate) ended: bool,
}

impl Client {
    /// Creates an idle client.
    pub(crate) fn new(scene: &mut Scene, number: usize) -> Self {
        let me = Actor::Client(number);
        let connection = scene.net.connect(false);
        scene.alarm_within(1, 200, me, Alarm::Act);
        let session = scene.uuid();
        let budget = if scene.rng.u8(0..4) == 0 { scene.rng.usize(100..250) } else { scene.rng.usize(20..90) };
        Self {
            me,
            connection,
            session,
            sequence: 0,
            collecting: false,
            seen: 0,
            budget,
            received: BTreeSet::new(),
            ended: false,
        }
    }

    /// Does a random action.
    pub(crate) fn act(&mut self, scene: &mut Scene) {
        if scene.over || self.ended {
            return;
        }
        if scene.calm {
            self.budget = 0;
            return self.collect(scene);
        }
        match scene.rng.u8(0..42) {
            0..15 => self.submit(scene),
            15..18 => self.hold(scene),
            18..24 => self.look_up(scene),
            24..28 => self.follow(scene),
            28..32 => self.cancel(scene),
            32..38 => self.collect(scene),
            38 => self.send_request(scene, Request::Workers, Purpose::Other),
            39 => self.list_tasks(scene),
            40 => self.wait_for_events(scene),
            _ if scene.rng.u8(0..8) == 0 => return self.end(scene),
            _ => {}
        }
        let idle = scene.rng.u8(0..12) == 0;
        let (least, most) = if idle { (1_000, 70_000) } else { (1, 900) };
        scene.alarm_within(least, most, self.me, Alarm::Act);
    }

    /// Handles a reply, or its absence.
    pub(crate) fn handle_reply(&mut self, scene: &mut Scene, purpose: &Purpose, reply: Option<AnyReply>) {
        match (purpose, reply) {
            (Purpose::Collect, reply) => {
                self.collecting = false;
                if let Some(AnyReply::Client(Reply::Collected(collected))) = reply {
                    self.received.extend(collected.results.iter().map(|result| result.task_id.clone()));
                }
                let pauses = !scene.calm && scene.rng.u8(0..6) == 0;
                if !pauses {
                    self.collect(scene);
                }
            }
            (Purpose::Submit, Some(AnyReply::Client(Reply::Submitted(submitted)))) => {
                for submitted in submitted {
                    if let Submitted::Ended(result) = submitted {
                        self.received.insert(result.task_id.clone());
                    }
                }
            }
            (Purpose::Other, Some(AnyReply::Client(Reply::Events(events)))) => self.seen = events.last,
            _ => {}
        }
    }

    fn send_request(&self, scene: &mut Scene, request: Request, purpose: Purpose) {
        let patience = Duration::from_millis(scene.rng.u64(100..25_000));
        // A collect is never given up: its results would be lost.
        let tries = if matches!(purpose, Purpose::Collect) { u32::MAX } else { scene.rng.u32(1..5) };
        scene.send_request((self.me, &self.connection), (SimRequest::Client(request), purpose), (patience, tries));
    }

    fn submit(&mut self, scene: &mut Scene) {
        let many = match scene.rng.u8(0..6) {
            0 => scene.rng.usize(2..80),
            1 => scene.rng.usize(2..6),
            _ => 1,
        };
        let tasks: Vec<NewTask> = (0..many.min(self.budget)).map(|_| new_task(scene)).collect();
        self.budget -= tasks.len();
        if tasks.is_empty() {
            return;
        }
        let notify = match scene.rng.u8(0..5) {
            0 => Notify::No,
            1 => Notify::Answer,
            _ => Notify::Session(self.session),
        };
        let collects = matches!(notify, Notify::Session(_));
        self.send_request(scene, Request::Submit(Submit { tasks, notify }), Purpose::Submit);
        if collects {
            self.collect(scene);
        }
    }

    fn hold(&mut self, scene: &mut Scene) {
        if self.budget > 0 {
            self.budget -= 1;
            let request = SimRequest::Hold(Box::new(new_task(scene)));
            scene.send_request((self.me, &self.connection), (request, Purpose::Submit), (Duration::from_mins(1), 1));
        }
    }

    fn collect(&mut self, scene: &mut Scene) {
        if self.collecting || scene.over || self.ended {
            return;
        }
        self.collecting = true;
        self.sequence += 1;
        let wait_ms = if scene.rng.u8(0..5) == 0 { 0 } else { scene.rng.u32(100..6_000) };
        let collect = Collect { session: self.session, sequence: self.sequence, wait_ms };
        let patience = Duration::from_millis(u64::from(wait_ms)) + PROMPT;
        let request = SimRequest::Client(Request::Collect(collect));
        scene.send_request((self.me, &self.connection), (request, Purpose::Collect), (patience, u32::MAX));
    }

    fn look_up(&self, scene: &mut Scene) {
        let ids: Vec<TaskId> = (0..scene.rng.usize(0..6)).map(|_| some_id(scene)).collect();
        let wait_ms = if scene.rng.bool() { 0 } else { scene.rng.u32(1..30_000) };
        self.send_request(scene, Request::Lookup(Lookup { ids, wait_ms }), Purpose::Other);
    }

    fn follow(&self, scene: &mut Scene) {
        let (id, after) = (some_id(scene), scene.rng.u64(0..4));
        let wait_ms = scene.rng.u32(0..8_000);
        self.send_request(scene, Request::Follow(Follow { id, after, wait_ms }), Purpose::Other);
    }

    fn list_tasks(&self, scene: &mut Scene) {
        let statuses = TaskStatus::ALL[scene.rng.usize(0..7)..].to_vec();
        let (offset, limit) = (scene.rng.u64(0..20), scene.rng.u32(0..50));
        self.send_request(
            scene,
            Request::Tasks(TaskQuery { statuses, offset, limit, ..TaskQuery::default() }),
            Purpose::Other,
        );
    }

    /// Waits for events, usually after the last one it received.
    fn wait_for_events(&mut self, scene: &mut Scene) {
        let after = if scene.rng.u8(0..4) == 0 { scene.rng.u64(..) } else { self.seen };
        let wait_ms = scene.rng.u32(0..30_000);
        self.send_request(scene, Request::Events(EventQuery { after, wait_ms }), Purpose::Other);
    }

    fn cancel(&self, scene: &mut Scene) {
        let ids = (0..scene.rng.usize(1..4)).map(|_| some_id(scene)).collect();
        self.send_request(scene, Request::Cancel(ids), Purpose::Other);
    }

    /// Its process ends; the control plane notices.
    fn end(&mut self, scene: &mut Scene) {
        self.ended = true;
        scene.net.silence(self.me);
        scene.net.cut(&self.connection, Some(scene.now.mono + Duration::from_millis(1)));
    }
}

/// A submitted id, usually a recent one, or an unknown id.
fn some_id(scene: &mut Scene) -> TaskId {
    if scene.submitted.is_empty() || scene.rng.u8(0..30) == 0 {
        return scene.uuid().into();
    }
    let late = scene.submitted.len().saturating_sub(12);
    let from = if scene.rng.bool() { late } else { 0 };
    scene.submitted[scene.rng.usize(from..scene.submitted.len())].id.clone()
}

/// A new task, or sometimes one that was submitted before.
fn new_task(scene: &mut Scene) -> NewTask {
    if !scene.submitted.is_empty() && scene.rng.u8(0..10) == 0 {
        let late = scene.submitted.len().saturating_sub(30);
        return scene.submitted[scene.rng.usize(late..scene.submitted.len())].clone();
    }
    let name = match scene.rng.u8(0..60) {
        0..20 => "quick",
        20..26 => "brisk",
        26..33 => "slow",
        33..40 => names::MIXED,
        40..46 => names::FRAGILE,
        46..50 => names::PARENT,
        50..55 => names::CHATTY,
        55 => names::POISON,
        56 => "quik",
        _ => names::UNAVAILABLE,
    };
    let id = match scene.rng.u8(0..4) {
        0 => format!("task {}", scene.submitted.len()).parse().unwrap_or_default(),
        _ => scene.uuid().into(),
    };
    let rng = &mut scene.rng;
    let waits = match rng.u8(0..8) {
        0 => Some(Duration::from_millis(rng.u64(0..20_000))),
        _ => None,
    };
    // Some are in the past.
    let eta = (rng.u8(0..12) == 0)
        .then(|| Timestamp::from_micros(scene.now.wall.micros() + i64::from(rng.i32(-5_000_000..15_000_000))));
    let policy = Policy {
        priority: (rng.u8(0..3) == 0).then(|| TaskPriority::ALL[rng.usize(0..4)]),
        timeout: Some(Duration::from_millis(rng.u64(500..20_000))),
        max_retries: (rng.u8(0..4) == 0).then(|| rng.u32(0..4)),
        retry_delay: Some(Duration::from_millis(rng.u64(0..4_000))),
        ..Policy::default()
    };
    let unknown = if rng.u8(0..5) == 0 { Unknown::Wait } else { Unknown::Fail };
    let kwargs = Json::empty_object();
    let callback = (rng.u8(0..4) == 0).then(|| CallbackInfo::new("tcp://127.0.0.1:1"));
    let task = NewTask { id, kwargs, policy, eta, countdown: waits, callback, unknown, ..NewTask::new(name) };
    scene.submitted.push(task.clone());
    task
}
