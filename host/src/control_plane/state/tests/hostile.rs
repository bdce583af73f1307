//! Workers and clients that exceed the bounds.

use super::*;
use crate::{
    control_plane::worker_registry::{CATALOG_BYTES_MAX, CATALOGS_BYTES_MAX, SLOTS_MAX, WORKERS_MAX},
    protocol::{EventQuery, FRAME_ITEMS_MAX, PREFETCH_MAX},
    task::TASK_NAME_MAX,
};

fn refused(story: &mut Story, registration: Registration) -> Option<String> {
    story.state.register(story.now, registration, Some(PEER), To("register"));
    match story.replies_to("register").pop() {
        Some(AnyReply::Worker(WorkerReply::Registered)) => None,
        Some(AnyReply::Worker(WorkerReply::Refused(refusal))) => Some(refusal.message),
        other => panic!("{other:?} is not a reply to a registration"),
    }
}

/// A worker of this number, with a catalog of about this size.
fn large(number: u128, bytes: usize) -> Registration {
    let mut registration = registration(Uuid::from_u128(number), 1, &["a"]);
    registration.modules[0].tasks[0].documentation = "d".repeat(bytes);
    registration
}

#[test]
fn an_invalid_registration_is_refused() {
    let mut story = Story::new();
    let valid = registration(W, 1, &["a"]);
    let long = "n".repeat(TASK_NAME_MAX + 1);
    let invalid = [
        (Registration { slots: 0, ..valid.clone() }, "slots"),
        (Registration { slots: SLOTS_MAX + 1, ..valid.clone() }, "slots"),
        (Registration { worker_id: String::new(), ..valid.clone() }, "worker id"),
        (Registration { worker_id: "a\u{1b}[2J".into(), ..valid.clone() }, "worker id"),
        (Registration { worker_id: "w".repeat(129), ..valid.clone() }, "worker id"),
        (Registration { address: "a\nb".into(), ..valid.clone() }, "address"),
        (registration(W, 1, &["a", ""]), "task name"),
        (registration(W, 1, &["a\0"]), "task name"),
        (registration(W, 1, &[&long]), "task name"),
        (large(1, CATALOG_BYTES_MAX), "over the limit"),
    ];
    for (registration, what) in invalid {
        let why = refused(&mut story, registration).unwrap_or_default();
        assert!(why.contains(what) && why.len() < 300, "{what}: {why}");
    }
    assert_eq!(refused(&mut story, valid), None);
}

#[test]
fn workers_and_their_catalogs_are_bounded() {
    let mut story = Story::new();
    let each = CATALOG_BYTES_MAX / 2;
    let fit = (1..10_000).take_while(|number| refused(&mut story, large(*number, each)).is_none()).count() as u128;
    assert_eq!(fit, (CATALOGS_BYTES_MAX / (each + 1)) as u128);
    // The catalogs of all of them do not fit into one reply.
    story.state.workers(story.now, To("client"));
    let replies = story.replies_to("client");
    let [AnyReply::Client(Reply::Workers(workers))] = &replies[..] else { panic!("no workers") };
    assert_eq!(workers.len() as u128, fit);
    assert_eq!(workers.iter().filter(|worker| !worker.modules.is_empty()).count(), 0);
    for number in 1..=fit {
        story.state.leave(story.now, Uuid::from_u128(number), To("leave"));
    }
    drop(story.take_effects());
    let small = (1..10_000).take_while(|number| refused(&mut story, large(*number, 10)).is_none()).count();
    assert_eq!(small, WORKERS_MAX);
}

#[test]
fn a_worker_cannot_hold_more_leases_than_its_slots() {
    let mut story = Story::with_worker(2);
    let holds = |count: usize| vec![LeaseId(7); count];
    let replies = story.beat(&holds(2 * PREFETCH_MAX));
    assert!(matches!(&replies[..], [AnyReply::Worker(WorkerReply::Orders(_))]), "{replies:?}");
    let replies = story.beat(&holds(2 * PREFETCH_MAX + 1));
    assert!(matches!(&replies[..], [AnyReply::Worker(WorkerReply::Refused(_))]), "{replies:?}");
}

#[test]
fn tasks_that_requests_wait_for_are_bounded() {
    let mut story = Story::new();
    let tasks = (0..FRAME_ITEMS_MAX).map(|number| NewTask { unknown: Unknown::Wait, ..task(&number.to_string()) });
    story.submit(tasks.collect(), Notify::No);
    let ids: Vec<TaskId> = (0..FRAME_ITEMS_MAX).map(|number| id(&number.to_string())).collect();
    let waits = |story: &mut Story, recipient| {
        story.state.lookup(story.now, Lookup { ids: ids.clone(), wait_ms: 20_000 }, To(recipient));
        story.replies_to(recipient).is_empty()
    };
    for _ in 0..WAITED_TASKS_MAX / FRAME_ITEMS_MAX {
        assert!(waits(&mut story, "lookup"));
    }
    assert!(!waits(&mut story, "lookup"), "it gets a reply immediately");
    story.later(secs(20));
    drop(story.take_effects());
    assert_eq!(story.state.stats().parked, 0);
    assert!(waits(&mut story, "lookup"), "there is capacity again");
}

#[test]
fn one_session_too_many_for_a_task_is_refused() {
    let mut story = Story::with_worker(1);
    let session = |number: usize| Notify::Session(Uuid::from_u128(number as u128 + 1));
    for number in 0..=TASK_SESSIONS_MAX {
        assert_eq!(story.submit(vec![task("a 1")], session(number)), [Submitted::Accepted]);
    }
    let submitted = story.submit(vec![task("a 1")], session(1_000));
    assert!(
        matches!(&submitted[..], [Submitted::Refused(why)] if why.code == RefusalCode::SessionLimit),
        "{submitted:?}"
    );
    assert_eq!(story.submit(vec![task("a 1")], session(7)), [Submitted::Accepted], "which is attached already");
    assert_eq!(story.state.unfinished(), 1);
    // Expired sessions free capacity.
    story.later(secs(61));
    assert_eq!(story.submit(vec![task("a 1")], session(1_000)), [Submitted::Accepted]);
}

#[test]
fn closed_requests_for_events_do_not_accumulate() {
    let mut story = Story::new();
    for _ in 0..10_000 {
        story.state.events(story.now, EventQuery { after: 0, wait_ms: 20_000 }, To("shut"));
    }
    assert!(story.state.stats().parked < 10, "{:?}", story.state.stats());
    assert!(story.state.event_waiters.capacity() < 20);
    story.state.events(story.now, EventQuery { after: 0, wait_ms: 20_000 }, To("client"));
    story.state.register(story.now, registration(W, 1, &["a"]), Some(PEER), To("register"));
    assert_eq!(story.replies_to("client").len(), 1);
}
