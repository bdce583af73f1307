//! Scenarios of the state, one by one. The simulation in `tests/` covers random combinations of faults.

use std::{mem, sync::Arc, time::Duration};

use uuid::Uuid;

use super::*;
use crate::{
    control_plane::worker_registry::{RECONNECT_GRACE, WORKER_TIMEOUT},
    json::Json,
    protocol::{
        BEAT_WAIT, Beat, CatalogChange, Collect, Collected, Ended, Follow, Found, Lease, Lookup, Note, Notify, Order,
        RefusalCode, Registration, Submit, Submitted, Work, WorkerInfo, WorkerStatus,
    },
    signature::ArgumentError,
    task::{
        ErrorKind, Failure, FollowUp, LogLevel, METADATA_MAX, ModuleInfo, ModuleStatus, NewTask, Outcome, Policy,
        Report, TIMEOUT_DEFAULT, TaskInfo, TaskLimits, TaskPriority, TaskResult, TaskStatus, Unknown, Usage,
    },
    transport::Peer,
};

mod callbacks;
mod catalog;
mod crashes;
mod delivery;
mod describe;
mod hostile;
mod metadata;
mod modules;
mod schedules;
mod unserved;

/// A recipient of replies, by name. Those that start with "shut" are closed.
#[derive(Debug)]
struct To(&'static str);

impl Responder for To {
    fn is_open(&self) -> bool {
        !self.0.starts_with("shut")
    }
}

struct Story {
    state: State<To>,
    /// The effects that no test has taken yet.
    effects: Vec<Effect<To>>,
    now: Now,
    sequence: u64,
}

const W: Uuid = Uuid::from_u128(1);
const V: Uuid = Uuid::from_u128(2);
const PEER: Peer = Peer(1);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn id(text: &str) -> TaskId {
    text.parse().expect("an id")
}

/// A task whose name is the first word of its id.
fn task(text: &str) -> NewTask {
    let name = text.split(' ').next().expect("a word");
    NewTask { id: id(text), ..NewTask::new(name) }
}

fn info(name: &str, policy: Policy) -> TaskInfo {
    let (name, documentation) = (name.into(), String::new());
    TaskInfo {
        name,
        full_name: None,
        documentation,
        schema: Json::empty_object(),
        policy,
        limits: TaskLimits::default(),
        schedule: None,
        needs: Vec::new(),
        warnings: Vec::new(),
    }
}

fn module(tasks: Vec<TaskInfo>) -> ModuleInfo {
    ModuleInfo { name: "module".into(), tasks, ..ModuleInfo::default() }
}

fn registration(worker: Uuid, slots: u32, names: &[&str]) -> Registration {
    let tasks = names.iter().map(|name| info(name, Policy::default())).collect();
    let (worker_id, address) = (format!("worker-{}", worker.as_u128()), String::new());
    Registration { worker, previous: None, worker_id, address, slots, modules: vec![module(tasks)] }
}

fn success() -> Outcome {
    Outcome::Success { result: Json::null(), follow_ups: Vec::new() }
}

fn failure() -> Outcome {
    Outcome::Failure(Failure::new(ErrorKind::Failed, "no"))
}

fn ended(lease: LeaseId, outcome: Outcome) -> Ended {
    Ended {
        lease,
        outcome: Some(outcome),
        ran_us: 100,
        usage: Usage::default(),
        version: None,
        reports: Vec::new(),
        metadata: Json::empty_object(),
    }
}

impl Story {
    fn new() -> Self {
        Self::within(Limits::default())
    }

    fn within(limits: Limits) -> Self {
        let wall = Timestamp::from_micros(1_800_000_000_000_000);
        Self {
            state: State::new(limits),
            effects: Vec::new(),
            now: Now { mono: Moment::from_micros(1), wall },
            sequence: 0,
        }
    }

    /// With a worker that can run "a" and "b".
    fn with_worker(slots: u32) -> Self {
        let mut story = Self::new();
        story.register(registration(W, slots, &["a", "b"]));
        story
    }

    fn register(&mut self, registration: Registration) {
        self.state.register(self.now, registration, Some(PEER), To("register"));
        assert_eq!(self.replies_to("register"), [AnyReply::Worker(WorkerReply::Registered)]);
    }

    /// Completes the transitions that a test called directly.
    fn settle(&mut self) {
        self.effects.extend(self.state.apply(self.now, |_| ()).effects);
    }

    fn take_effects(&mut self) -> Vec<Effect<To>> {
        self.settle();
        mem::take(&mut self.effects)
    }

    /// Takes all effects, and returns the replies to one recipient.
    fn replies_to(&mut self, recipient: &str) -> Vec<AnyReply> {
        let effects = self.take_effects().into_iter();
        effects.filter_map(Effect::into_reply).filter(|(to, _)| to.0 == recipient).map(|(_, reply)| reply).collect()
    }

    /// Lets time pass, and runs every timer when it is due.
    fn later(&mut self, span: Duration) {
        let end = self.now.mono + span;
        while self.now.mono < end {
            let next = self.state.next_wake().clamp(self.now.mono + Duration::from_micros(1), end);
            self.jump(next.since(self.now.mono));
        }
    }

    /// Closes the connection of the workers, none of which reconnects.
    fn crash(&mut self) {
        self.state.peer_gone(self.now, PEER);
        self.later(RECONNECT_GRACE);
    }

    /// Lets time pass while this process is suspended.
    fn jump(&mut self, span: Duration) {
        self.now = Now { mono: self.now.mono + span, wall: self.now.wall + span };
        self.state.tick(self.now);
        self.settle();
    }

    /// Like `later`, while all workers send messages.
    fn later_alive(&mut self, span: Duration) {
        let mut left = span;
        while !left.is_zero() {
            let step = left.min(Duration::from_secs(1));
            left -= step;
            self.now = Now { mono: self.now.mono + step, wall: self.now.wall + step };
            for (_, worker) in self.state.registry.iter_mut() {
                worker.last_seen = self.now;
            }
            self.state.tick(self.now);
            self.settle();
        }
    }

    fn submit(&mut self, tasks: Vec<NewTask>, notify: Notify) -> Vec<Submitted> {
        self.state.submit(self.now, Submit { tasks, notify }, To("client"));
        match self.replies_to("client").pop() {
            Some(AnyReply::Client(Reply::Submitted(submitted))) => submitted,
            None => Vec::new(),
            other => panic!("{other:?} is not a reply to a submission"),
        }
    }

    fn accept(&mut self, tasks: &[&str]) {
        let submitted = self.submit(tasks.iter().map(|text| task(text)).collect(), Notify::No);
        assert!(submitted.iter().all(|submitted| *submitted == Submitted::Accepted), "{submitted:?}");
    }

    /// Requests work for a slot. Returns the leases that it gets immediately.
    fn work(&mut self, worker: Uuid, slot: u32, ended: Vec<Ended>, capacity: u32) -> Vec<Lease> {
        self.sequence += 1;
        self.work_again(worker, slot, ended, capacity)
    }

    fn work_again(&mut self, worker: Uuid, slot: u32, ended: Vec<Ended>, capacity: u32) -> Vec<Lease> {
        let work = Work { worker, slot, sequence: self.sequence, ended, capacity };
        self.state.work(self.now, work, To("slot"));
        self.granted()
    }

    fn granted(&mut self) -> Vec<Lease> {
        let leases = |reply| match reply {
            AnyReply::Worker(WorkerReply::Leases(leases)) => leases,
            other => panic!("{other:?} is not a reply to a slot"),
        };
        self.replies_to("slot").into_iter().flat_map(leases).collect()
    }

    fn run(&mut self, worker: Uuid) -> Lease {
        let leases = self.work(worker, 0, Vec::new(), 1);
        leases.into_iter().next().expect("a lease")
    }

    fn beat(&mut self, holds: &[LeaseId]) -> Vec<AnyReply> {
        self.state.beat(self.now, &Beat { worker: W, holds: holds.to_vec() }, Some(PEER), To("beat"));
        self.replies_to("beat")
    }

    fn cancel(&mut self, text: &str) -> Vec<AnyReply> {
        self.state.cancel(self.now, &[id(text)], To("cancel"));
        let replies = self.take_effects().into_iter().filter_map(Effect::into_reply);
        replies.filter(|(to, _)| to.0 != "slot").map(|(_, reply)| reply).collect()
    }

    fn status(&self, text: &str) -> Option<TaskStatus> {
        self.state.task_view(&id(text)).map(|view| view.status)
    }

    fn end(&self, text: &str) -> Arc<TaskResult> {
        self.state.results().peek(self.now.mono, &id(text)).expect("an end").result.clone()
    }

    fn collect(&mut self, session: Uuid, sequence: u64, wait_ms: u32) -> Option<Collected> {
        self.state.collect(self.now, &Collect { session, sequence, wait_ms }, To("collect"));
        match self.replies_to("collect").pop() {
            Some(AnyReply::Client(Reply::Collected(collected))) => Some(collected),
            None => None,
            other => panic!("{other:?} is not a reply to a collect"),
        }
    }
}

fn ids(leases: &[Lease]) -> Vec<String> {
    leases.iter().map(|lease| lease.task_id.to_string()).collect()
}

#[test]
fn a_task_is_submitted_granted_run_and_its_result_sent() {
    let mut story = Story::with_worker(1);
    assert_eq!(story.work(W, 0, Vec::new(), 1), [], "the slot waits");
    story.state.submit(story.now, Submit { tasks: vec![task("a 1")], notify: Notify::Answer }, To("client"));
    let leases = story.granted();
    assert_eq!((ids(&leases), leases[0].attempt), (vec!["a 1".to_owned()], 1));
    assert_eq!(story.status("a 1"), Some(TaskStatus::Started));
    story.work(W, 0, vec![ended(leases[0].id, success())], 0);
    let end = story.end("a 1");
    assert_eq!((end.status, end.attempts, end.worker_id.as_deref()), (TaskStatus::Success, 1, Some("worker-1")));
    assert_eq!(
        story.state.stats(),
        Stats { timers: 2, ..Stats::default() },
        "the timeout of the worker and the expiry"
    );
}

#[test]
fn requests_that_wait_for_a_task_get_a_reply_at_its_end() {
    let mut story = Story::with_worker(1);
    story.state.submit_and_hold(story.now, task("a 1"), None, To("client"));
    story.state.lookup(story.now, Lookup { ids: vec![id("a 1")], wait_ms: 5_000 }, To("lookup"));
    story.state.follow(story.now, Follow { id: id("a 1"), after: 0, wait_ms: 5_000 }, To("follow"));
    let lease = story.run(W);
    let report = Report::Log { level: LogLevel::Info, message: "hello".into() };
    let note = Note { worker: W, sequence: 1, reports: vec![(lease.id, report.clone())], returned: Vec::new() };
    story.state.note(story.now, note.clone(), To("note"));
    let replies = story.replies_to("follow");
    assert!(
        matches!(&replies[..], [AnyReply::Client(Reply::Reports(reports))] if reports.reports == [report]),
        "{replies:?}"
    );
    story.state.note(story.now, note, To("note"));
    assert_eq!(story.replies_to("note"), [AnyReply::Worker(WorkerReply::Noted)], "a repeated report has no effect");
    story.state.work(
        story.now,
        Work { worker: W, slot: 0, sequence: 99, ended: vec![ended(lease.id, success())], capacity: 0 },
        To("slot"),
    );
    let effects: Vec<_> = story.take_effects().into_iter().filter_map(Effect::into_reply).map(|(to, _)| to.0).collect();
    assert_eq!(effects, ["client", "lookup", "slot"]);
}

#[test]
fn a_waiting_request_gets_its_reply_even_if_results_expire_immediately() {
    let mut story = Story::within(Limits { result_ttl: Duration::ZERO, ..Limits::default() });
    story.register(registration(W, 1, &["a"]));
    story.state.submit_and_hold(story.now, task("a 1"), None, To("client"));
    let lease = story.run(W);
    story.state.work(
        story.now,
        Work { worker: W, slot: 0, sequence: 99, ended: vec![ended(lease.id, success())], capacity: 1 },
        To("slot"),
    );
    assert!(
        matches!(&story.replies_to("client")[..], [AnyReply::Client(Reply::Submitted(submitted))] if matches!(submitted[..], [Submitted::Ended(_)]))
    );
}

#[test]
fn a_lost_worker_returns_its_tasks_to_the_front() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1", "a 2"]);
    assert_eq!(story.run(W).task_id, id("a 1"));
    story.state.peer_gone(story.now, PEER);
    story.later(RECONNECT_GRACE);
    assert_eq!(story.status("a 1"), Some(TaskStatus::Pending));
    let workers: Vec<WorkerInfo> = story.state.registry().infos(story.now.mono);
    assert_eq!(workers[0].status, WorkerStatus::Lost);
    story.register(registration(V, 1, &["a"]));
    let leases = story.work(V, 0, Vec::new(), 9);
    assert_eq!((ids(&leases), leases[0].attempt), (vec!["a 1".to_owned()], 1), "a loss does not count as an attempt");
}

#[test]
fn a_control_plane_that_was_suspended_does_not_lose_its_workers() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    story.run(W);
    story.jump(WORKER_TIMEOUT * 2);
    assert_eq!(story.status("a 1"), Some(TaskStatus::Started), "its heartbeats wait in the sockets");
    story.beat(&[]);
    story.later(WORKER_TIMEOUT / 2);
    assert!(story.state.registry().get(WorkerKey(W)).is_some());
    story.jump(WORKER_TIMEOUT * 2);
    story.later(STALL_MIN);
    assert!(story.state.registry().get(WorkerKey(W)).is_none(), "it sent nothing even then");
}

#[test]
fn nothing_is_granted_to_a_slot_whose_connection_is_closed() {
    let mut story = Story::with_worker(2);
    for (slot, reply_to) in [(0, "shut slot"), (1, "slot")] {
        let work = Work { worker: W, slot, sequence: 1, ended: Vec::new(), capacity: 1 };
        story.state.work(story.now, work, To(reply_to));
    }
    story.accept(&["a 1", "a 2"]);
    assert_eq!(story.status("a 2"), Some(TaskStatus::Pending), "its slot would not get it");
    let again = Work { worker: W, slot: 0, sequence: 1, ended: Vec::new(), capacity: 1 };
    story.state.work(story.now, again, To("repeated"));
    assert_eq!(
        story.replies_to("repeated"),
        [AnyReply::Worker(WorkerReply::Leases(Vec::new()))],
        "so that it repeats the request"
    );
    story.sequence = 1;
    assert_eq!(ids(&story.work(W, 0, Vec::new(), 1)), ["a 2"]);
    assert_eq!(story.state.stats().timers, 3, "two grants and the timeout of the worker");
}

#[test]
fn an_outcome_under_a_revoked_lease_does_not_count() {
    let mut story = Story::with_worker(2);
    story.accept(&["a 1"]);
    let stale = story.run(W);
    let timeout = TIMEOUT_DEFAULT + LEASE_GRACE;
    // The worker sends heartbeats, and its slot nothing.
    for _ in 0..timeout.as_secs() {
        story.later(secs(1));
        story.beat(&[]);
    }
    story.later(secs(1));
    assert_eq!(story.status("a 1"), Some(TaskStatus::Pending));
    let replies = story.beat(&[stale.id]);
    assert_eq!(replies.last(), Some(&AnyReply::Worker(WorkerReply::Orders(vec![Order::Stop(stale.id)]))));
    let fresh = story.work(W, 1, Vec::new(), 1);
    assert_eq!(story.work(W, 0, vec![ended(stale.id, success())], 1), []);
    assert_eq!(story.status("a 1"), Some(TaskStatus::Started));
    story.work(W, 1, vec![ended(fresh[0].id, failure())], 1);
    assert_eq!(story.end("a 1").status, TaskStatus::Failure);
}

#[test]
fn a_repeated_request_for_work_gets_the_same_leases_but_no_dead_ones() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 0"]);
    let lease = story.run(W);
    story.work(W, 0, vec![ended(lease.id, success())], 0);
    story.accept(&["a 1", "a 2", "a 3"]);
    let leases = story.work(W, 0, Vec::new(), 3);
    assert_eq!(ids(&leases), ["a 1", "a 2", "a 3"]);
    assert_eq!(story.work_again(W, 0, Vec::new(), 3), leases);
    story.cancel("a 2");
    assert_eq!(ids(&story.work_again(W, 0, Vec::new(), 3)), ["a 1", "a 3"]);
}

#[test]
fn a_slot_that_waits_gets_no_more_than_it_requested() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 0"]);
    let lease = story.run(W);
    story.work(W, 0, vec![ended(lease.id, success())], 1);
    assert_eq!(story.work(W, 0, Vec::new(), 1), []);
    let tasks = ["a 1", "a 2", "a 3"].map(task).to_vec();
    story.state.submit(story.now, Submit { tasks, notify: Notify::No }, To("client"));
    assert_eq!(ids(&story.granted()), ["a 1"]);
}

#[test]
fn short_tasks_are_granted_ahead_but_no_more_than_a_fair_share() {
    let mut story = Story::with_worker(4);
    story.accept(&["a 0"]);
    let lease = story.run(W);
    story.work(W, 0, vec![ended(lease.id, success())], 0);
    let tasks: Vec<String> = (1..=40).map(|n| format!("a {n}")).collect();
    story.accept(&tasks.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(story.work(W, 1, Vec::new(), 256).len(), 10, "the share of one of four slots");
    let mut story = Story::with_worker(1);
    story.accept(&["a 1", "a 2"]);
    assert_eq!(story.work(W, 0, Vec::new(), 256).len(), 1, "its run time is not known yet");
}

#[test]
fn the_least_loaded_worker_comes_first() {
    let mut story = Story::with_worker(2);
    story.register(registration(V, 2, &["a"]));
    story.accept(&["a 1"]);
    story.work(W, 0, Vec::new(), 1);
    story.work(W, 1, Vec::new(), 1);
    story.work(V, 0, Vec::new(), 1);
    story.submit(vec![task("a 2")], Notify::No);
    assert_eq!(story.state.task_view(&id("a 2")).and_then(|view| view.lease).expect("a lease").1, WorkerKey(V));
}

#[test]
fn a_task_submitted_twice_runs_once_and_every_session_gets_it() {
    let mut story = Story::with_worker(1);
    let sessions = [7, 8, 9].map(Uuid::from_u128);
    for session in sessions {
        assert_eq!(story.submit(vec![task("a 1")], Notify::Session(session)), [Submitted::Accepted]);
    }
    assert_eq!(story.collect(sessions[1], 1, 5_000), None, "it waits");
    let lease = story.run(W);
    story.state.work(
        story.now,
        Work { worker: W, slot: 0, sequence: 99, ended: vec![ended(lease.id, success())], capacity: 0 },
        To("slot"),
    );
    assert_eq!(story.replies_to("collect").len(), 1);
    for session in [sessions[0], sessions[2]] {
        assert_eq!(story.collect(session, 1, 0).map(|collected| collected.results.len()), Some(1));
    }
    assert_eq!(story.state.counts().accepted, 1);
    assert!(matches!(story.submit(vec![task("a 1")], Notify::No)[..], [Submitted::Ended(_)]));
}

#[test]
fn an_unused_session_expires_even_after_a_wait() {
    let mut story = Story::new();
    let session = Uuid::from_u128(7);
    for sequence in 1..=4 {
        assert_eq!(story.collect(session, sequence, 20_000).is_some(), sequence == 1);
        story.later(secs(20));
        assert_eq!(story.replies_to("collect").len(), usize::from(sequence > 1));
    }
    assert_eq!(story.state.stats().sessions, 1);
    story.later(secs(60));
    assert_eq!(story.state.stats(), Stats::default());
    story.submit(vec![NewTask { unknown: Unknown::Wait, ..task("x") }], Notify::Session(session));
    assert_eq!(story.collect(session, 5, 0).map(|collected| collected.known), Some(false));
}

#[test]
fn cancel_works_in_every_phase_of_a_task() {
    let mut story = Story::with_worker(1);
    let cancelled = |stopped| AnyReply::Client(Reply::Cancelled(vec![stopped]));
    story.accept(&["a 1", "a queued"]);
    story.submit(vec![NewTask { countdown: Some(secs(60)), ..task("a scheduled") }], Notify::No);
    assert_eq!(story.status("a scheduled"), Some(TaskStatus::Scheduled));
    let lease = story.run(W);
    assert_eq!(story.beat(&[lease.id]), []);
    assert_eq!(story.cancel("a queued"), [cancelled(true)]);
    assert_eq!(story.cancel("a scheduled"), [cancelled(true)]);
    let stop = AnyReply::Worker(WorkerReply::Orders(vec![Order::Stop(lease.id)]));
    assert_eq!(story.cancel("a 1"), [stop.clone(), cancelled(true)], "the heartbeat gets the command");
    assert_eq!(story.cancel("a 1"), [cancelled(false)], "it has ended");
    assert_eq!(story.beat(&[lease.id]), [stop], "as long as it is held");
    story.work(W, 0, vec![ended(lease.id, success())], 0);
    assert_eq!(story.end("a 1").status, TaskStatus::Cancelled, "the first end is final");
    story.submit(
        vec![NewTask { policy: Policy { max_retries: Some(1), ..Policy::default() }, ..task("b") }],
        Notify::No,
    );
    let lease = story.run(W);
    story.work(W, 0, vec![ended(lease.id, failure())], 0);
    assert_eq!(story.status("b"), Some(TaskStatus::Retrying));
    assert_eq!(story.cancel("b"), [cancelled(true)]);
    assert_eq!((story.end("b").attempts, story.state.stats().timers), (1, 2));
}

#[test]
fn a_heartbeat_with_a_command_does_not_shorten_later_ones() {
    let mut story = Story::with_worker(1);
    for n in 0..5 {
        story.accept(&[&format!("a {n}")]);
        let lease = story.run(W);
        story.beat(&[lease.id]);
        story.cancel(&format!("a {n}"));
    }
    assert_eq!(story.beat(&[]), []);
    story.later(RECHECK_DELAY);
    let nothing = [AnyReply::Worker(WorkerReply::Orders(Vec::new()))];
    assert_eq!(story.replies_to("beat"), nothing, "the last lease may have been in flight: check what it holds now");
    assert_eq!(story.beat(&[]), []);
    story.later(BEAT_WAIT.saturating_sub(Duration::from_millis(1)));
    assert_eq!(story.replies_to("beat"), []);
    story.later(Duration::from_millis(1));
    assert_eq!(story.replies_to("beat"), nothing);
}

#[test]
fn a_cancel_reaches_a_lease_that_was_in_flight() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    let lease = story.run(W);
    assert_eq!(story.beat(&[]), [], "the lease has not arrived yet");
    let stop = AnyReply::Worker(WorkerReply::Orders(vec![Order::Stop(lease.id)]));
    assert!(story.cancel("a 1").contains(&stop));
    assert_eq!(story.beat(&[]), [], "it still has not");
    story.later(RECHECK_DELAY);
    story.replies_to("beat");
    assert_eq!(story.beat(&[lease.id]), [stop]);
}

#[test]
fn an_outcome_that_does_not_fit_is_in_the_next_request() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    let first = story.work(W, 0, Vec::new(), 8);
    story.accept(&["a 2", "a 3"]);
    let leases = story.work(W, 0, vec![ended(first[0].id, success())], 8);
    assert_eq!(leases.len(), 2, "both are short");
    let (one, rest) = leases.split_first().expect("a lease");
    story.work(W, 0, vec![ended(one.id, success())], 0);
    for lease in rest {
        assert!(story.state.task_view(&lease.task_id).is_some(), "what was not mentioned is still held");
    }
    story.work(W, 0, rest.iter().map(|lease| ended(lease.id, success())).collect(), 0);
    for name in ["a 1", "a 2", "a 3"] {
        assert_eq!(story.end(name).attempts, 1, "{name}");
    }
}

#[test]
fn a_repeated_request_with_capacity_0_grants_nothing() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    let first = story.work(W, 0, Vec::new(), 8);
    story.accept(&["a 2", "a 3", "a 4"]);
    let leases = story.work(W, 0, vec![ended(first[0].id, success())], 8);
    assert_eq!(leases.len(), 3, "all are short");
    let part = vec![ended(leases[0].id, success())];
    assert_eq!(story.work(W, 0, part.clone(), 0), []);
    assert_eq!(story.work_again(W, 0, part, 0), [], "it has run the others already");
}

#[test]
fn an_id_that_is_used_for_another_call_is_refused() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    let other = NewTask { args: Json::of(&[2]).expect("a document"), ..task("a 1") };
    let is_refused = |story: &mut Story, task: &NewTask| {
        let submitted = story.submit(vec![task.clone()], Notify::No);
        matches!(&submitted[..], [Submitted::Refused(why)] if why.code == RefusalCode::IdTaken && why.message.contains("another call, of a"))
    };
    assert!(is_refused(&mut story, &other), "while it waits");
    let lease = story.run(W);
    story.work(W, 0, vec![ended(lease.id, success())], 0);
    assert!(is_refused(&mut story, &other), "when it has ended");
    assert!(is_refused(&mut story, &NewTask { name: "b".into(), ..task("a 1") }));
    assert!(!is_refused(&mut story, &task("a 1")), "the same call is the same task");
}

#[test]
fn a_worker_that_reconnects_often_has_one_timer() {
    let mut story = Story::with_worker(1);
    for _ in 0..20 {
        story.state.peer_gone(story.now, PEER);
        story.later(Duration::from_millis(100));
        story.beat(&[]);
        story.later(secs(2));
    }
    assert_eq!(story.state.stats().timers, 1);
    story.later(secs(3));
    assert!(story.state.registry().get(WorkerKey(W)).is_none(), "its timeout is still set");
}

#[test]
fn the_slots_of_a_draining_worker_get_a_reply_immediately() {
    let mut story = Story::with_worker(2);
    story.work(W, 0, Vec::new(), 1);
    story.state.drain_worker(story.now, W, To("drain"));
    assert_eq!(story.replies_to("slot"), [AnyReply::Worker(WorkerReply::Leases(Vec::new()))]);
    story.sequence += 1;
    story.state.work(story.now, Work { worker: W, slot: 1, sequence: 9, ended: Vec::new(), capacity: 1 }, To("slot"));
    assert_eq!(
        story.replies_to("slot"),
        [AnyReply::Worker(WorkerReply::Leases(Vec::new()))],
        "although it requested work before it was told"
    );
    story.accept(&["a 1"]);
    assert_eq!(story.status("a 1"), Some(TaskStatus::Pending));
}

#[test]
fn a_worker_that_leaves_gets_all_replies_and_no_timer_remains() {
    let mut story = Story::with_worker(2);
    story.accept(&["a 1"]);
    story.run(W);
    story.work(W, 1, Vec::new(), 1);
    story.beat(&[]);
    story.state.leave(story.now, W, To("leave"));
    let effects = story.take_effects().into_iter().filter_map(Effect::into_reply);
    let replies: Vec<_> = effects.map(|(to, reply)| (to.0, reply)).collect();
    let unknown = || AnyReply::Worker(WorkerReply::Unknown);
    assert_eq!(replies, [("slot", unknown()), ("beat", unknown()), ("leave", AnyReply::Worker(WorkerReply::Noted))]);
    let view = story.state.task_view(&id("a 1")).expect("a task");
    assert_eq!((view.status, view.losses, view.attempt), (TaskStatus::Pending, 0, 0));
    assert_eq!(story.state.stats().timers, 0);
}

#[test]
fn close_all_replies_to_every_open_request() {
    let mut story = Story::with_worker(1);
    story.submit(vec![NewTask { unknown: Unknown::Wait, ..task("x") }], Notify::Answer);
    story.collect(Uuid::from_u128(7), 1, 0);
    story.collect(Uuid::from_u128(7), 2, 5_000);
    story.work(W, 0, Vec::new(), 1);
    story.beat(&[]);
    story.state.drain();
    assert!(matches!(story.submit(vec![task("a 1")], Notify::No)[..], [Submitted::Refused(_)]));
    story.state.close_all();
    let replies: Vec<_> = story.take_effects().into_iter().filter_map(Effect::into_reply).map(|(to, _)| to.0).collect();
    assert_eq!(replies, ["client", "collect", "slot", "beat"]);
}

#[test]
fn follow_ups_are_accepted_while_the_control_plane_drains() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    let lease = story.run(W);
    story.state.drain();
    let follow_up = FollowUp {
        name: "b".into(),
        args: Json::empty_array(),
        kwargs: Json::empty_object(),
        policy: Policy::default(),
        countdown: None,
        metadata: Json::parse(r#"{"tag":1}"#).expect("JSON"),
    };
    let outcome = Outcome::Success { result: Json::null(), follow_ups: vec![follow_up] };
    assert_eq!(ids(&story.work(W, 0, vec![ended(lease.id, outcome)], 1)), [id("a 1").follow_up(0).to_string()]);
}

#[test]
fn a_task_granted_ahead_is_started_once_its_worker_reaches_it() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 0"]);
    let lease = story.run(W);
    story.work(W, 0, vec![ended(lease.id, success())], 0);
    story.accept(&["a 1", "a 2", "a 3"]);
    let leases = story.work(W, 0, Vec::new(), 3);
    assert_eq!(story.status("a 2"), Some(TaskStatus::Pending));
    story.beat(&[leases[2].id, leases[1].id]);
    assert_eq!((story.status("a 2"), story.status("a 3")), (Some(TaskStatus::Started), Some(TaskStatus::Pending)));
}

#[test]
fn invalid_requests_of_a_worker_do_no_harm() {
    let mut story = Story::with_worker(1);
    story.state.register(story.now, registration(V, 0, &[]), Some(PEER), To("register"));
    story.state.register(story.now, registration(V, u32::MAX, &[]), Some(PEER), To("register"));
    assert!(
        story.replies_to("register").iter().all(|replies| matches!(replies, AnyReply::Worker(WorkerReply::Refused(_))))
    );
    story.state.work(story.now, Work { worker: W, slot: 1, sequence: 1, ended: Vec::new(), capacity: 1 }, To("slot"));
    assert!(matches!(story.replies_to("slot")[..], [AnyReply::Worker(WorkerReply::Refused(_))]), "it has one slot");
    story.accept(&["a 1"]);
    let lease = story.run(W);
    story.now.wall = Timestamp::from_micros(-5);
    let ended = Ended { ran_us: u64::MAX, ..ended(lease.id, success()) };
    story.work(W, 0, vec![ended.clone(), ended], 1);
    assert_eq!(story.end("a 1").attempts, 1);
}

#[test]
fn closed_requests_do_not_accumulate() {
    let mut story = Story::new();
    let waits = || NewTask { unknown: Unknown::Wait, ..task("x") };
    for _ in 0..1_000 {
        story.state.submit_and_hold(story.now, waits(), None, To("shut"));
        story.state.lookup(story.now, Lookup { ids: vec![id("x")], wait_ms: 20_000 }, To("shut"));
    }
    let stats = story.state.stats();
    assert!(stats.parked < 20 && stats.timers < 20, "{stats:?}");
}

#[test]
fn refusals_at_the_bounds_name_the_bound() {
    let mut story = Story::within(Limits { tasks_max: 2, bytes_max: 10, ..Limits::default() });
    story.register(registration(W, 1, &["a"]));
    let long = NewTask { args: Json::parse("[1,2,3,4]").expect("JSON"), ..task("a long") };
    let submitted = story.submit(vec![task("a 1"), long, task("a 2"), task("a 3")], Notify::No);
    let refused = |submitted: &Submitted| match submitted {
        Submitted::Refused(refusal) => refusal.message.clone(),
        other => panic!("{other:?}"),
    };
    assert!(
        refused(&submitted[1]).contains("hold 10 bytes") && refused(&submitted[3]).contains("2 tasks are unfinished")
    );
    assert_eq!((submitted[0].clone(), submitted[2].clone()), (Submitted::Accepted, Submitted::Accepted));
    story.cancel("a 1");
    story.cancel("a 2");
    assert_eq!(story.state.stats().bytes, 0);
}

#[test]
fn a_task_with_bad_arguments_ends_immediately_and_a_known_id_attaches() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    let error = || Some(ArgumentError::Unknown { task: "a".into(), name: "x".into() });
    story.state.submit_and_hold(story.now, task("a 2"), error(), To("client"));
    let replies = story.replies_to("client");
    let [AnyReply::Client(Reply::Submitted(submitted))] = &replies[..] else { panic!("{replies:?}") };
    let [Submitted::Ended(result)] = &submitted[..] else { panic!("{submitted:?}") };
    assert_eq!((result.error_kind, result.attempts), (Some(ErrorKind::BadArguments), 0));
    assert_eq!(result.error.as_deref(), Some("a() got an unexpected keyword argument 'x'"));
    story.state.submit_and_hold(story.now, task("a 1"), error(), To("client"));
    assert_eq!(story.replies_to("client"), []);
    assert_eq!(story.state.unfinished(), 1);
    // A name that no worker serves is reported as such.
    story.state.submit_and_hold(story.now, task("z 1"), error(), To("client"));
    let replies = format!("{:?}", story.replies_to("client"));
    assert!(replies.contains("not found"), "{replies}");
}

#[test]
fn an_eta_follows_the_wall_clock_when_it_jumps() {
    let mut story = Story::with_worker(1);
    let eta = |story: &Story, text: &str| NewTask { eta: Some(story.now.wall + secs(3600)), ..task(text) };
    let tasks = vec![eta(&story, "a 1"), eta(&story, "a 2")];
    story.submit(tasks, Notify::No);
    story.now.wall = story.now.wall + secs(7200);
    story.later_alive(ETA_CHECK_INTERVAL);
    assert_eq!(story.status("a 1"), Some(TaskStatus::Pending), "the clock was set forward");
    let early = eta(&story, "a 3");
    story.submit(vec![early], Notify::No);
    story.now.wall = Timestamp::from_micros(story.now.wall.micros() - 3_600_000_000);
    story.later_alive(secs(3601));
    assert_eq!(story.status("a 3"), Some(TaskStatus::Scheduled), "it was set back by an hour");
    story.later_alive(secs(3600));
    assert_eq!(story.status("a 3"), Some(TaskStatus::Pending));
    story.submit(vec![eta(&story, "a 4")], Notify::No);
    story.cancel("a 4");
    assert_eq!(story.end("a 4").status, TaskStatus::Cancelled);
}
