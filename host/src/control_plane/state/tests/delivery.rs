//! Leases and outcomes on connections that die silently, or while the slot runs a task.

use super::*;
use crate::protocol::{CONFIRM_WAIT, WORK_WAIT};

/// Sends heartbeats for this long, and returns the replies to the slots.
fn beats(story: &mut Story, span: Duration, holds: &[LeaseId]) {
    let end = story.now.mono + span;
    while story.now.mono < end {
        story.state.beat(story.now, &Beat { worker: W, holds: holds.to_vec() }, Some(PEER), To("beat"));
        story.later(BEAT_WAIT);
    }
}

#[test]
fn a_lease_that_never_arrived_is_granted_elsewhere_without_a_loss() {
    let mut story = Story::with_worker(2);
    story.register(registration(V, 1, &["a"]));
    story.accept(&["a 1"]);
    let lease = story.run(W);
    let parked = Work { worker: W, slot: 1, sequence: 1, ended: Vec::new(), capacity: 1 };
    story.state.work(story.now, parked, To("slot"));
    story.later(secs(1));
    beats(&mut story, secs(2), &[]);
    assert_eq!(
        story.state.task_view(&id("a 1")).expect("it lives").lease,
        Some((lease.id, WorkerKey(W))),
        "it may be in flight"
    );
    story.work(V, 0, Vec::new(), 1);
    beats(&mut story, secs(3), &[]);
    let view = story.state.task_view(&id("a 1")).expect("it lives");
    let (again, worker) = view.lease.expect("a lease");
    assert_eq!((worker, view.losses, view.attempt), (WorkerKey(V), 0, 1), "not to another connection of that worker");
    let stop = AnyReply::Worker(WorkerReply::Orders(vec![Order::Stop(lease.id)]));
    assert_eq!(story.beat(&[lease.id]).last(), Some(&stop), "it arrived after all");
    story.work(W, 0, vec![ended(lease.id, success())], 1);
    assert_eq!(story.status("a 1"), Some(TaskStatus::Started));
    story.work(V, 0, vec![ended(again, success())], 0);
    assert_eq!(story.end("a 1").worker_id.as_deref(), Some("worker-2"));
}

#[test]
fn a_lease_that_one_heartbeat_listed_counts_as_delivered() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    let lease = story.run(W);
    story.later(secs(1));
    story.beat(&[lease.id]);
    story.later(secs(1));
    // It has ended, and its outcome is in flight.
    beats(&mut story, secs(10), &[]);
    assert_eq!(story.state.task_view(&id("a 1")).expect("it lives").lease, Some((lease.id, WorkerKey(W))));
    story.work(W, 0, vec![ended(lease.id, success())], 0);
    assert_eq!(story.end("a 1").status, TaskStatus::Success);
}

#[test]
fn outcomes_sent_while_a_task_runs_are_recorded() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    let first = story.work(W, 0, Vec::new(), 8);
    story.accept(&["a 2", "a 3"]);
    let leases = story.work(W, 0, vec![ended(first[0].id, success())], 8);
    let (quick, slow) = (leases[0].id, leases[1].id);
    story.work(W, 0, vec![ended(quick, success())], 0);
    assert_eq!(story.end("a 2").status, TaskStatus::Success, "it does not wait for the other");
    assert_eq!(story.beat(&[slow]), []);
    assert_eq!(story.status("a 3"), Some(TaskStatus::Started), "the heartbeat lists it");
    // The slot sends both, as the first was not confirmed yet.
    story.work(W, 0, [quick, slow].map(|lease| ended(lease, success())).into(), 0);
    assert_eq!((story.end("a 3").status, story.state.counts().ended.iter().sum()), (TaskStatus::Success, 3));
}

#[test]
fn a_parked_slot_gets_a_reply_often_to_confirm_its_connection() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    let lease = story.run(W);
    let nothing = [AnyReply::Worker(WorkerReply::Leases(Vec::new()))];
    for (ended, wait) in [(vec![ended(lease.id, success())], CONFIRM_WAIT), (Vec::new(), WORK_WAIT)] {
        story.sequence += 1;
        let work = Work { worker: W, slot: 0, sequence: story.sequence, ended, capacity: 1 };
        story.state.work(story.now, work, To("slot"));
        story.later(wait.saturating_sub(Duration::from_millis(1)));
        assert_eq!(story.replies_to("slot"), []);
        story.later(Duration::from_millis(1));
        assert_eq!(story.replies_to("slot"), nothing);
    }
}
