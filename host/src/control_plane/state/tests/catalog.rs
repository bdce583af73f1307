//! Scenarios of workers whose modules change.

use super::*;
use crate::{
    control_plane::worker_registry::WorkerRecord,
    protocol::{CatalogChange, EventKind},
    task::{LoadFailure, ModuleStatus, ScheduleSpec, schedule::When},
};

/// A module of that path and version with these tasks, each with its schema.
fn version(path: &str, hash: &str, tasks: &[(&str, &str)]) -> ModuleInfo {
    let task = |(name, schema): &(&str, &str)| TaskInfo {
        schema: Json::parse(schema).expect("JSON"),
        ..info(name, Policy::default())
    };
    let tasks = tasks.iter().map(task).collect();
    ModuleInfo { path: path.into(), hash: hash.repeat(64), ..module(tasks) }
}

const NONE: &str = r#"{"parameters":[]}"#;
const X: &str = r#"{"parameters":[{"name":"x","required":true}]}"#;

impl Story {
    fn with_modules(modules: Vec<ModuleInfo>) -> Self {
        let mut story = Self::new();
        story.register(Registration { modules, ..registration(W, 1, &[]) });
        story
    }

    fn change(&mut self, sequence: u64, force: bool, modules: &[ModuleInfo]) -> WorkerReply {
        let change = CatalogChange { worker: W, sequence, modules: modules.to_vec(), force };
        self.state.change_catalog(self.now, change, To("change"));
        match self.replies_to("change").pop() {
            Some(AnyReply::Worker(reply)) => reply,
            other => panic!("{other:?} is not a reply to a change"),
        }
    }

    fn declined(&mut self, sequence: u64, modules: &[ModuleInfo]) -> String {
        match self.change(sequence, false, modules) {
            WorkerReply::Declined(refusal) => refusal.message,
            other => panic!("{other:?} should be a refusal"),
        }
    }

    fn is_refused(&mut self, text: &str) -> bool {
        matches!(self.submit(vec![task(text)], Notify::No)[..], [Submitted::Ended(_)])
    }

    fn worker_events(&self) -> Vec<(EventKind, String)> {
        let events = self.state.event_log().after(0).events;
        let event = events.into_iter().filter_map(|event| Some((event.kind, event.detail?.to_string())));
        event.filter(|(kind, _)| matches!(kind, EventKind::ModulesChanged | EventKind::ModuleRefused)).collect()
    }
}

#[test]
fn a_slot_that_waits_gets_a_task_whose_name_is_added() {
    let mut story = Story::with_modules(vec![version("m", "1", &[("a", NONE)])]);
    story.submit(vec![NewTask { unknown: Unknown::Wait, ..task("b 1") }], Notify::No);
    assert_eq!(story.work(W, 0, Vec::new(), 1), []);
    let new = [version("m", "2", &[("a", NONE), ("b", NONE)])];
    let change = CatalogChange { worker: W, sequence: 1, modules: new.to_vec(), force: false };
    story.state.change_catalog(story.now, change, To("change"));
    let replies: Vec<_> =
        story.take_effects().into_iter().filter_map(Effect::into_reply).map(|(to, reply)| (to.0, reply)).collect();
    assert_eq!(replies[0], ("change", AnyReply::Worker(WorkerReply::Noted)), "the reply to the change comes first");
    assert!(matches!(&replies[1], ("slot", AnyReply::Worker(WorkerReply::Leases(leases))) if ids(leases) == ["b 1"]));
    assert_eq!(
        story.worker_events(),
        [(EventKind::ModulesChanged, "module: 1111111111111111 -> 2222222222222222".into())]
    );
}

#[test]
fn a_removed_name_is_unknown_immediately() {
    let mut story = Story::with_modules(vec![version("m", "1", &[("a", NONE)]), version("n", "3", &[("b", NONE)])]);
    assert_eq!(story.change(1, false, &[version("m", "1", &[("a", NONE)])]), WorkerReply::Noted);
    assert!(story.is_refused("b 1"));
    story.accept(&["a 1"]);
    assert_eq!(story.worker_events(), [(EventKind::ModulesChanged, "module: 3333333333333333 was removed".into())]);
    story.register(Registration { modules: vec![version("n", "3", &[("b", NONE)])], ..registration(V, 1, &[]) });
    story.accept(&["b 2"]);
    assert_eq!(ids(&story.work(V, 0, Vec::new(), 1)), ["b 2"]);
    assert_eq!(ids(&story.work(W, 0, Vec::new(), 1)), ["a 1"]);
}

#[test]
fn a_name_with_unfinished_tasks_is_only_removed_if_another_worker_has_it() {
    let both = [version("m", "1", &[("a", NONE), ("b", NONE)])];
    let only_b = [version("m", "2", &[("b", NONE)])];
    let mut story = Story::with_modules(both.to_vec());
    story.accept(&["a runs", "a waits"]);
    story.submit(vec![NewTask { countdown: Some(secs(4)), ..task("a scheduled") }], Notify::No);
    let lease = story.run(W);
    assert_eq!(story.declined(1, &only_b), "it has no 'a', which would leave 3 unfinished tasks without a worker");
    story.work(W, 0, vec![ended(lease.id, success())], 0);
    story.cancel("a waits");
    assert_eq!(story.declined(2, &only_b), "it has no 'a', which would leave 1 unfinished task without a worker");
    assert_eq!(
        story.state.registry().get(WorkerKey(W)).map(WorkerRecord::modules),
        Some(&both[..]),
        "nothing has changed"
    );
    story.register(Registration { modules: both.to_vec(), ..registration(V, 1, &[]) });
    assert_eq!(story.change(3, false, &only_b), WorkerReply::Noted);
    story.later(secs(4));
    assert_eq!(story.work(W, 0, Vec::new(), 1), []);
    assert_eq!(story.change(4, false, &both), WorkerReply::Noted);
    story.state.drain_worker(story.now, V, To("drain"));
    assert!(story.declined(5, &only_b).starts_with("it has no 'a'"), "the other one is draining");
    assert_eq!(ids(&story.work(W, 0, Vec::new(), 1)), ["a scheduled"]);
}

#[test]
fn a_signature_that_breaks_waiting_tasks_is_declined_unless_forced() {
    let mut story = Story::with_modules(vec![version("m", "1", &[("a", NONE), ("b", X)])]);
    story.accept(&["a 1", "a 2"]);
    let new = [version("m", "2", &[("a", X), ("b", NONE)])];
    let message = story.declined(1, &new);
    assert_eq!(
        message,
        "it does not accept the arguments of 2 unfinished tasks of 'a': a() missing 1 required argument: 'x'"
    );
    story.cancel("a 1");
    assert!(story.declined(1, &new).contains("2 unfinished tasks "), "the same number gets the same reply");
    assert!(story.declined(2, &new).contains("1 unfinished task "));
    assert_eq!(story.change(3, false, &[version("m", "2", &[("a", NONE), ("b", NONE)])]), WorkerReply::Noted);
    assert_eq!(story.change(4, true, &new), WorkerReply::Noted, "forced");
    assert_eq!(story.change(3, false, &[]), WorkerReply::Noted, "a late one changes nothing");
    assert_eq!(story.state.registry().get(WorkerKey(W)).map(WorkerRecord::modules), Some(&new[..]));
    assert_eq!(story.change(5, false, &[version("m", "1", &[("a", NONE), ("b", X)])]), WorkerReply::Noted);
}

#[test]
fn a_leaving_module_only_runs_tasks_that_were_submitted_before() {
    let (mut story, m) = (Story::new(), version("m", "1", &[("a", NONE)]));
    let policy = Policy { max_retries: Some(1), ..Policy::default() };
    let mut leaving = ModuleInfo { status: ModuleStatus::Leaving, ..version("n", "2", &[("b", NONE)]) };
    leaving.tasks[0].policy = policy;
    let loaded = ModuleInfo { status: ModuleStatus::Loaded, ..leaving.clone() };
    story.register(Registration { modules: vec![m.clone(), loaded], ..registration(W, 1, &[]) });
    story.accept(&["b 1", "a 1"]);
    assert_eq!(story.change(1, false, &[m.clone(), leaving.clone()]), WorkerReply::Noted);
    assert!(story.is_refused("b 2"));
    let lease = story.run(W);
    assert_eq!(lease.task_id, id("b 1"));
    let parent = Outcome::Success {
        result: Json::null(),
        follow_ups: vec![FollowUp {
            name: "b".into(),
            args: Json::empty_array(),
            kwargs: Json::empty_object(),
            policy: Policy::default(),
            countdown: None,
            metadata: Json::empty_object(),
        }],
    };
    story.work(W, 0, vec![ended(lease.id, parent)], 0);
    assert!(story.declined(2, std::slice::from_ref(&m)).starts_with("it has no 'b'"), "its follow-up still waits");
    let lease = story.run(W);
    assert_eq!(&*lease.name, "a");
    let lease = story.work(W, 0, vec![ended(lease.id, success())], 1).remove(0);
    assert_eq!(&*lease.name, "b");
    story.work(W, 0, vec![ended(lease.id, failure())], 0);
    assert_eq!(story.status(&lease.task_id.to_string()), Some(TaskStatus::Retrying), "by its own policy");
    story.cancel(&lease.task_id.to_string());
    assert_eq!(story.change(3, false, &[m]), WorkerReply::Noted);
    assert!(
        story.worker_events().iter().any(|(_, event)| event.ends_with("it only runs tasks that were submitted before"))
    );
}

#[test]
fn a_module_schedule_is_added_and_removed_with_its_module() {
    let mut story = Story::with_modules(vec![version("m", "1", &[("a", NONE)])]);
    let mut clock = version("m", "2", &[("a", NONE)]);
    clock.tasks[0].schedule = Some(ScheduleSpec::new(When::Every(secs(3_600))));
    let plain = version("m", "3", &[("a", NONE)]);
    for (sequence, modules, schedules) in [(1, &clock, 1), (2, &plain, 0), (3, &clock, 1)] {
        assert_eq!(story.change(sequence, false, std::slice::from_ref(modules)), WorkerReply::Noted);
        assert_eq!(story.state.schedules.len(), schedules);
    }
    let leaving = ModuleInfo { status: ModuleStatus::Leaving, ..clock.clone() };
    assert_eq!(story.change(4, false, &[leaving]), WorkerReply::Noted);
    assert!(story.state.schedules.is_empty(), "its schedule submits nothing either");
    assert_eq!(story.change(5, false, std::slice::from_ref(&clock)), WorkerReply::Noted);
    assert_eq!(story.state.schedules.len(), 1, "its file is back");
    assert_eq!(story.change(6, false, &[]), WorkerReply::Noted);
    assert!(story.state.schedules.is_empty(), "each run would fail");
    story.later(Duration::ZERO);
    assert_eq!(story.state.stats().timers, 1, "the timeout of the worker");
}

#[test]
fn a_load_failure_is_listed_and_reported_once() {
    let mut story = Story::with_modules(vec![version("m", "1", &[("a", NONE)])]);
    let last_error =
        Some(LoadFailure { at: Timestamp::from_micros(1), message: "is not WebAssembly".into(), code: None });
    let broken = [ModuleInfo { last_error, ..version("m", "1", &[("a", NONE)]) }];
    assert_eq!(story.change(1, false, &broken), WorkerReply::Noted);
    assert_eq!(story.change(2, false, &broken), WorkerReply::Noted);
    assert_eq!(story.worker_events(), [(EventKind::ModuleRefused, "module: is not WebAssembly".into())]);
    assert_eq!(story.state.registry().infos(story.now.mono)[0].modules, broken);
}

#[test]
fn an_unknown_worker_gets_the_reply_unknown() {
    assert_eq!(Story::new().change(1, false, &[]), WorkerReply::Unknown);
}
