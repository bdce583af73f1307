//! Workers and clients that ask for more than there is.

use super::*;
use crate::{
    control_plane::worker_registry::{CATALOG_BYTES_MAX, CATALOGS_BYTES_MAX, SLOTS_MAX, WORKERS_MAX},
    protocol::{EventQuery, FRAME_ITEMS_MAX},
    task::TASK_NAME_MAX,
};

fn refused(story: &mut Story, registration: Registration) -> Option<String> {
    story.state.register(story.now, registration, Some(PEER), To("register"));
    match story.said("register").pop() {
        Some(Answer::Worker(WorkerReply::Registered)) => None,
        Some(Answer::Worker(WorkerReply::Refused(why))) => Some(why),
        other => panic!("{other:?} is no answer to a registration"),
    }
}

/// A worker of this number, whose catalog has about so many bytes.
fn large(number: u128, bytes: usize) -> Registration {
    let mut registration = registration(Uuid::from_u128(number), 1, &["a"]);
    registration.modules[0].tasks[0].documentation = "d".repeat(bytes);
    registration
}

#[test]
fn a_worker_that_lies_of_itself_is_refused() {
    let mut story = Story::new();
    let right = registration(W, 1, &["a"]);
    let long = "n".repeat(TASK_NAME_MAX + 1);
    let lies = [
        (Registration { slots: 0, ..right.clone() }, "slots"),
        (Registration { slots: SLOTS_MAX + 1, ..right.clone() }, "slots"),
        (Registration { worker_id: String::new(), ..right.clone() }, "worker id"),
        (Registration { worker_id: "a\u{1b}[2J".into(), ..right.clone() }, "worker id"),
        (Registration { worker_id: "w".repeat(129), ..right.clone() }, "worker id"),
        (Registration { address: "a\nb".into(), ..right.clone() }, "address"),
        (registration(W, 1, &["a", ""]), "task name"),
        (registration(W, 1, &["a\0"]), "task name"),
        (registration(W, 1, &[&long]), "task name"),
        (large(1, CATALOG_BYTES_MAX), "over the limit"),
    ];
    for (lie, what) in lies {
        let why = refused(&mut story, lie).unwrap_or_default();
        assert!(why.contains(what) && why.len() < 300, "{what}: {why}");
    }
    assert_eq!(refused(&mut story, right), None);
}

#[test]
fn workers_and_their_catalogs_are_bounded_and_leave_their_room_to_others() {
    let mut story = Story::new();
    let each = CATALOG_BYTES_MAX / 2;
    let fit = (1..10_000).take_while(|number| refused(&mut story, large(*number, each)).is_none()).count() as u128;
    assert_eq!(fit, (CATALOGS_BYTES_MAX / (each + 1)) as u128);
    // What all of them have loaded does not fit into one answer.
    story.state.workers(story.now, To("client"));
    let told = story.said("client");
    let [Answer::Client(Reply::Workers(workers))] = &told[..] else { panic!("no workers") };
    assert_eq!(workers.len() as u128, fit);
    assert_eq!(workers.iter().filter(|worker| !worker.modules.is_empty()).count(), 0);
    for number in 1..=fit {
        story.state.leave(story.now, Uuid::from_u128(number), To("leave"));
    }
    drop(story.state.take_outbox());
    let small = (1..10_000).take_while(|number| refused(&mut story, large(*number, 10)).is_none()).count();
    assert_eq!(small, WORKERS_MAX);
}

#[test]
fn a_worker_cannot_hold_more_leases_than_its_slots() {
    let mut story = Story::with_worker(2);
    let holds = |count: usize| vec![LeaseId(7); count];
    let told = story.beat(&holds(2 * LOOKAHEAD_MAX));
    assert!(matches!(&told[..], [Answer::Worker(WorkerReply::Orders(_))]), "{told:?}");
    let told = story.beat(&holds(2 * LOOKAHEAD_MAX + 1));
    assert!(matches!(&told[..], [Answer::Worker(WorkerReply::Refused(_))]), "{told:?}");
}

#[test]
fn tasks_that_requests_wait_for_are_bounded() {
    let mut story = Story::new();
    let tasks = (0..FRAME_ITEMS_MAX).map(|number| NewTask { unknown: Unknown::Wait, ..task(&number.to_string()) });
    story.submit(tasks.collect(), Notify::No);
    let ids: Vec<TaskId> = (0..FRAME_ITEMS_MAX).map(|number| id(&number.to_string())).collect();
    let waits = |story: &mut Story, whom| {
        story.state.lookup(story.now, Lookup { ids: ids.clone(), wait_ms: 20_000 }, To(whom));
        story.said(whom).is_empty()
    };
    for _ in 0..WATCHING_MAX / FRAME_ITEMS_MAX {
        assert!(waits(&mut story, "lookup"));
    }
    assert!(!waits(&mut story, "lookup"), "it is answered at once");
    story.later(secs(20));
    drop(story.state.take_outbox());
    assert_eq!(story.state.stats().parked, 0);
    assert!(waits(&mut story, "lookup"), "there is room again");
}

#[test]
fn so_many_sessions_hear_of_one_task_and_the_next_is_told_why_not() {
    let mut story = Story::with_worker(1);
    let session = |number: usize| Notify::Session(Uuid::from_u128(number as u128 + 1));
    for number in 0..=TASK_SESSIONS_MAX {
        assert_eq!(story.submit(vec![task("a 1")], session(number)), [Submitted::Accepted]);
    }
    let taken = story.submit(vec![task("a 1")], session(1_000));
    assert!(matches!(&taken[..], [Submitted::Refused(why)] if why.contains("sessions")), "{taken:?}");
    assert_eq!(story.submit(vec![task("a 1")], session(7)), [Submitted::Accepted], "which it knows");
    assert_eq!(story.state.unfinished(), 1);
    // Those that are forgotten make room.
    story.later(secs(61));
    assert_eq!(story.submit(vec![task("a 1")], session(1_000)), [Submitted::Accepted]);
}

#[test]
fn onlookers_that_gave_up_do_not_pile_up() {
    let mut story = Story::new();
    for _ in 0..10_000 {
        story.state.events(story.now, EventQuery { after: 0, wait_ms: 20_000 }, To("shut"));
    }
    assert!(story.state.stats().parked < 10, "{:?}", story.state.stats());
    assert!(story.state.event_waiters.capacity() < 20);
    story.state.events(story.now, EventQuery { after: 0, wait_ms: 20_000 }, To("client"));
    story.register(registration(W, 1, &["a"]));
    story.state.notify_event_waiters(story.now);
    assert_eq!(story.said("client").len(), 1);
}
