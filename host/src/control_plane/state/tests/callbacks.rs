//! Callbacks: one for each end of a task that has one, and its outcome.

use super::*;
use crate::{
    protocol::{EventKind, Found},
    task::{CallbackInfo, DeliveryState},
};

const ADDRESS: &str = "tcp://127.0.0.1:6000";

fn with_callback(text: &str) -> NewTask {
    NewTask { callback: Some(CallbackInfo::new(ADDRESS)), ..task(text) }
}

impl Story {
    /// The callbacks since the last call.
    fn callbacks(&mut self) -> Vec<Callback> {
        let effects = self.take_effects().into_iter();
        effects
            .filter_map(|effect| if let Effect::Callback(callback) = effect { Some(callback) } else { None })
            .collect()
    }

    fn one_callback(&mut self) -> Callback {
        let mut callbacks = self.callbacks();
        assert_eq!(callbacks.len(), 1, "{callbacks:?}");
        callbacks.remove(0)
    }

    fn report_outcome(&mut self, callback: Callback, outcome: Result<(), String>, attempts: u32) {
        let end = CallbackOutcome { result: callback.result, outcome, attempts };
        self.state.callback_ended(self.now, end);
    }

    fn submit_one(&mut self, task: NewTask) {
        self.state.submit(self.now, Submit { tasks: vec![task], notify: Notify::No }, To("client"));
    }
}

fn delivery(result: &TaskResult) -> (DeliveryState, u32, Option<&str>) {
    let delivery = result.callback.as_ref().expect("it has a callback");
    assert_eq!(delivery.address, ADDRESS);
    (delivery.state, delivery.attempts, delivery.reason.as_deref())
}

#[test]
fn every_end_is_called_back_once_however_the_task_ends() {
    let mut story = Story::with_worker(1);
    story.submit_one(with_callback("a 1"));
    let lease = story.run(W);
    let work = Work { worker: W, slot: 0, sequence: 99, ended: vec![ended(lease.id, success())], capacity: 0 };
    story.state.work(story.now, work, To("slot"));
    let callback = story.one_callback();
    assert_eq!((callback.result.status, &*callback.info.address), (TaskStatus::Success, ADDRESS));
    assert_eq!(delivery(&callback.result), (DeliveryState::Pending, 0, None));

    let timeout = || Outcome::Failure(Failure::new(ErrorKind::Timeout, "Task timed out after 1s"));
    story.submit_one(with_callback("a 2"));
    story.sequence = 99;
    let lease = story.run(W);
    let work = Work { worker: W, slot: 0, sequence: 200, ended: vec![ended(lease.id, timeout())], capacity: 0 };
    story.state.work(story.now, work, To("slot"));
    assert_eq!(story.one_callback().result.error_kind, Some(ErrorKind::Timeout));

    story.submit_one(with_callback("a 3"));
    story.state.cancel(story.now, &[id("a 3")], To("cancel"));
    assert_eq!(story.one_callback().result.status, TaskStatus::Cancelled);

    story.submit_one(with_callback("unserved 1"));
    assert_eq!(story.one_callback().result.error_kind, Some(ErrorKind::NotFound));

    // The same id again attaches to the ended task, and a task without a callback calls no address.
    story.submit_one(with_callback("a 1"));
    story.submit_one(task("unserved 2"));
    assert!(story.callbacks().is_empty());
    assert_eq!(story.state.stats().bytes, 0);
}

#[test]
fn a_retry_is_not_an_end() {
    let mut story = Story::with_worker(1);
    let policy = Policy { max_retries: Some(1), retry_delay: Some(secs(1)), ..Policy::default() };
    story.submit_one(NewTask { policy, ..with_callback("a 1") });
    for attempt in 1..=2 {
        let lease = story.run(W);
        story.sequence += 1;
        let (sequence, ended) = (story.sequence, vec![ended(lease.id, failure())]);
        story.state.work(story.now, Work { worker: W, slot: 0, sequence, ended, capacity: 0 }, To("slot"));
        assert_eq!(story.callbacks().len(), attempt - 1);
        story.later_alive(secs(10));
    }
}

#[test]
fn the_outcome_of_a_callback_is_in_the_result_and_in_the_events() {
    let mut story = Story::new();
    for (text, outcome, attempts) in [("x 1", Ok(()), 2), ("x 2", Err("no listener".to_owned()), 3)] {
        story.submit_one(with_callback(text));
        let callback = story.one_callback();
        story.report_outcome(callback, outcome, attempts);
    }
    assert_eq!(delivery(&story.end("x 1")), (DeliveryState::Delivered, 2, None));
    assert_eq!(delivery(&story.end("x 2")), (DeliveryState::Failed, 3, Some("no listener")));
    let events = story.state.event_log().after(0).events;
    let kinds: Vec<_> =
        events.iter().filter(|event| event.name.as_deref() == Some("x")).map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [EventKind::TaskFailure, EventKind::CallbackDelivered, EventKind::TaskFailure, EventKind::CallbackFailed]
    );
    assert_eq!(events.last().and_then(|event| event.detail.as_deref()), Some("tcp://127.0.0.1:6000: no listener"));
    let found = story.state.found(story.now, &[id("x 2")], None);
    assert!(matches!(&found[..], [Found::Ended(result)] if delivery(result).0 == DeliveryState::Failed));
}

#[test]
fn a_late_outcome_of_an_evicted_result_does_not_change_a_later_one() {
    let mut story = Story::within(Limits { results_max: 1, ..Limits::default() });
    story.submit_one(with_callback("x 1"));
    let first = story.one_callback();
    story.submit_one(task("y 1"));
    story.submit_one(with_callback("x 1"));
    let second = story.one_callback();
    story.report_outcome(first, Ok(()), 1);
    assert_eq!(delivery(&story.end("x 1")).0, DeliveryState::Pending);
    story.report_outcome(second, Ok(()), 1);
    assert_eq!(delivery(&story.end("x 1")).0, DeliveryState::Delivered);
}

#[test]
fn an_invalid_callback_is_refused_and_its_data_counts() {
    let mut story = Story::within(Limits { bytes_max: 100, ..Limits::default() });
    let wrong = NewTask { callback: Some(CallbackInfo::new("ipc:///tmp/x")), ..task("x 1") };
    let data = |length: usize| Json::of(&"x".repeat(length)).expect("JSON");
    let large = |text, length| NewTask {
        callback: Some(CallbackInfo::new(ADDRESS).with_data(data(length))),
        unknown: Unknown::Wait,
        ..task(text)
    };
    let submitted = story.submit(vec![wrong, large("x 2", 60), large("x 3", 60)], Notify::No);
    let [Submitted::Refused(wrong), Submitted::Accepted, Submitted::Refused(full)] = &submitted[..] else {
        panic!("{submitted:?}")
    };
    assert!(wrong.message.starts_with("callback address: 'ipc:///tmp/x' is not an address"), "{wrong}");
    assert!(full.message.contains("hold 100 bytes"), "{full}");
    story.cancel("x 2");
    assert_eq!(story.state.stats().bytes, 0);
}
