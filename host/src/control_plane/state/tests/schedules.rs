//! Scenarios of schedules.

use super::*;
use crate::{
    protocol::{CatalogChange, EventKind, NewSchedule, ScheduleInfo, ScheduleRequest, ScheduleStatus},
    task::{
        ScheduleSpec,
        schedule::{Overlap, When},
    },
};

fn every(seconds: u64) -> ScheduleSpec {
    ScheduleSpec::new(When::Every(secs(seconds)))
}

/// A worker whose task "a" has a schedule.
fn clock(worker: Uuid, spec: Option<ScheduleSpec>) -> Registration {
    let tasks = vec![TaskInfo { schedule: spec, ..info("a", Policy::default()) }];
    Registration { modules: vec![module(tasks)], ..registration(worker, 1, &[]) }
}

impl Story {
    fn request(&mut self, request: ScheduleRequest) -> Result<Vec<ScheduleInfo>, String> {
        self.state.schedule(self.now, request, To("schedule"));
        match self.reply_keeping_slots("schedule") {
            AnyReply::Client(Reply::Schedules(infos)) => Ok(infos),
            AnyReply::Client(Reply::Refused(refusal)) => Err(refusal.message),
            other => panic!("{other:?} is not a reply to a schedule request"),
        }
    }

    /// Returns the reply to `recipient`, and keeps the others.
    fn reply_keeping_slots(&mut self, recipient: &str) -> AnyReply {
        let is_it = |effect: &Effect<To>| matches!(effect, Effect::Reply { to, .. } if to.0 == recipient);
        let (matching, others): (Vec<_>, Vec<_>) = self.take_effects().into_iter().partition(is_it);
        self.state.outbox = others;
        matching.into_iter().find_map(Effect::into_reply).expect("a reply").1
    }

    fn add(&mut self, name: &str, task: &str, spec: ScheduleSpec) {
        let schedule = Box::new(NewSchedule::new(name, task, spec));
        self.request(ScheduleRequest::Add { schedule, replace: false }).expect("it is accepted");
    }

    fn schedules(&mut self) -> Vec<ScheduleInfo> {
        self.request(ScheduleRequest::List).expect("a list")
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.state.event_log().after(0).events.iter().map(|event| event.kind).collect()
    }
}

#[test]
fn a_scheduled_task_is_granted_to_a_waiting_slot() {
    let mut story = Story::new();
    story.register(clock(W, Some(every(10))));
    assert_eq!(story.work(W, 0, Vec::new(), 1), []);
    story.later_alive(secs(9));
    assert_eq!(story.granted(), []);
    assert_eq!(story.work(W, 0, Vec::new(), 1), [], "as it polls");
    story.later_alive(secs(1));
    let leases = story.granted();
    assert_eq!((leases.len(), &*leases[0].name), (1, "a"));
    assert!(story.kinds().contains(&EventKind::ScheduleFired));
    let infos = story.schedules();
    assert_eq!((infos[0].last_status, infos[0].runs), (Some(TaskStatus::Started), 1));
    story.later_alive(secs(10));
    assert_eq!(story.kinds().last(), Some(&EventKind::ScheduleSkipped), "the last one is still running");
    story.work(W, 0, vec![ended(leases[0].id, success())], 1);
    let infos = story.schedules();
    assert_eq!((infos[0].last_status, infos[0].skipped), (Some(TaskStatus::Success), 1));
    story.later_alive(secs(9));
    assert_eq!(story.work(W, 0, Vec::new(), 1), []);
    story.later_alive(secs(1));
    assert_eq!(story.granted().len(), 1);
}

#[test]
fn a_queued_run_is_granted_when_the_last_task_ends() {
    let mut story = Story::with_worker(1);
    story.add("s", "a", ScheduleSpec { overlap: Overlap::Queue, ..every(10) });
    story.later_alive(secs(10));
    let first = story.run(W);
    story.later_alive(secs(10));
    assert_eq!(story.state.unfinished(), 1, "it waits outside of the queue");
    let second = story.work(W, 0, vec![ended(first.id, success())], 1);
    assert_eq!(second.len(), 1);
    assert_ne!(second[0].task_id, first.task_id);
}

#[test]
fn a_repeated_trigger_submits_one_task() {
    let mut story = Story::with_worker(1);
    story.add("s", "a", every(3_600));
    let trigger = |name: &str| ScheduleRequest::Trigger { name: name.into(), task_id: id("manual") };
    assert_eq!(story.request(trigger("t")), Ok(Vec::new()), "there is none of that name");
    for _ in 0..2 {
        let infos = story.request(trigger("s")).expect("it is accepted");
        assert_eq!((infos[0].last_task_id.clone(), infos[0].runs), (Some(id("manual")), 0));
    }
    assert_eq!(story.state.unfinished(), 1);
    let lease = story.run(W);
    story.work(W, 0, vec![ended(lease.id, success())], 1);
    story.request(trigger("s")).expect("it has ended");
    assert_eq!(story.state.unfinished(), 0);
}

#[test]
fn a_draining_control_plane_submits_nothing_more() {
    let mut story = Story::with_worker(1);
    story.add("s", "a", ScheduleSpec { overlap: Overlap::Queue, ..every(10) });
    story.later_alive(secs(10));
    let lease = story.run(W);
    story.later_alive(secs(10));
    story.state.drain();
    story.work(W, 0, vec![ended(lease.id, success())], 1);
    story.later_alive(secs(100));
    assert!(story.state.is_quiet());
    assert_eq!(story.state.unfinished(), 0);
    let late = ScheduleRequest::Trigger { name: "s".into(), task_id: id("late") };
    assert!(story.request(late).is_err_and(|why| why.contains("stopping")));
}

#[test]
fn a_schedule_of_an_unknown_name_fails_each_time_and_continues() {
    let mut story = Story::with_worker(1);
    story.add("s", "unserved", every(10));
    story.later_alive(secs(25));
    story.later_alive(secs(10));
    let infos = story.schedules();
    assert_eq!((infos[0].last_status, infos[0].runs, infos[0].skipped), (Some(TaskStatus::Failure), 3, 0));
}

#[test]
fn a_module_schedule_follows_its_newest_and_last_worker() {
    let mut story = Story::new();
    story.register(clock(W, Some(every(10))));
    story.state.leave(story.now, W, To("leave"));
    story.later(secs(29));
    assert_eq!(story.schedules().len(), 1);
    story.later(secs(2));
    assert_eq!(story.schedules(), []);
    story.register(clock(W, Some(every(10))));
    let mut newer = clock(V, Some(every(20)));
    newer.worker_id = "newer".into();
    story.register(newer);
    assert_eq!(story.schedules()[0].schedule.spec, every(20));
    story.state.leave(story.now, V, To("leave"));
    assert_eq!(story.schedules()[0].status, ScheduleStatus::Active, "another worker has it");
    story.state.leave(story.now, W, To("leave"));
    story.register(clock(W, None));
    assert_eq!(story.schedules(), [], "it has no schedule any more");
    story.state.leave(story.now, W, To("leave"));
    story.later(secs(31));
    assert_eq!(story.state.stats().timers, 0);
}

#[test]
fn an_older_module_does_not_undo_the_schedule_of_newer_ones() {
    let mut story = Story::new();
    story.register(clock(W, Some(every(20))));
    let mut other = clock(V, None);
    other.worker_id = "other".into();
    story.register(other.clone());
    assert_eq!(story.schedules()[0].schedule.spec, every(20), "it has none, and may be older");
    let mut sequence = 0;
    let mut change = |story: &mut Story, worker, modules| {
        sequence += 1;
        story.state.change_catalog(story.now, CatalogChange { worker, sequence, modules, force: false }, To("change"));
    };
    change(&mut story, W, clock(W, Some(every(30))).modules);
    other.modules[0].hash = "2".repeat(64);
    change(&mut story, V, other.modules.clone());
    assert_eq!(story.schedules()[0].schedule.spec, every(30), "nothing changed there for this task");
    story.state.leave(story.now, W, To("leave"));
    story.later_alive(secs(29));
    assert_eq!(story.schedules().len(), 1);
    story.later_alive(secs(2));
    assert_eq!(story.schedules(), [], "no connected worker has a schedule for it");
}

#[test]
fn a_module_schedule_returns_when_its_replacement_is_removed() {
    let mut story = Story::new();
    story.add("a", "a", every(3600));
    story.register(clock(W, Some(every(10))));
    assert_eq!(story.schedules()[0].schedule.spec, every(3600), "a client's schedule takes precedence");
    story.request(ScheduleRequest::Remove("a".into())).expect("it is removed");
    assert_eq!(story.schedules()[0].schedule.spec, every(10));
    story.later_alive(secs(10));
    assert!(story.kinds().contains(&EventKind::ScheduleFired), "{:?}", story.kinds());
}
