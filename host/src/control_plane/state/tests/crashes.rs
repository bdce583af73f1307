//! Scenarios of workers that crash or leave while they run a task.

use super::*;

#[test]
fn a_task_that_is_lost_three_times_with_its_worker_ends_as_worker_lost() {
    let mut story = Story::new();
    for n in 1..=3 {
        let key = Uuid::from_u128(n);
        story.register(registration(key, 1, &["a"]));
        if n == 1 {
            story.accept(&["a poison"]);
        }
        story.run(key);
        story.crash();
    }
    let end = story.end("a poison");
    assert_eq!(end.attempts, 3);
    assert_eq!((end.error_kind, end.worker_id.as_deref()), (Some(ErrorKind::WorkerLost), Some("worker-3")));
    assert_eq!(story.state.stats().leases, 0);
}

#[test]
fn a_task_of_a_lost_worker_is_granted_alone() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 0"]);
    let lease = story.run(W);
    story.work(W, 0, vec![ended(lease.id, success())], 0);
    story.accept(&["a 1", "a 2", "a 3"]);
    assert_eq!(ids(&story.work(W, 0, Vec::new(), 2)), ["a 1", "a 2"]);
    story.crash();
    story.register(registration(W, 1, &["a"]));
    story.sequence = 0;
    assert_eq!(ids(&story.work(W, 0, Vec::new(), 9)), ["a 1"]);
    let lease = story.state.task_view(&id("a 1")).and_then(|view| view.lease).expect("a lease").0;
    assert_eq!(ids(&story.work(W, 0, vec![ended(lease, success())], 9)), ["a 2"]);
}

#[test]
fn only_a_crash_of_its_worker_counts_against_a_task() {
    let mut story = Story::new();
    story.register(registration(W, 1, &["a"]));
    story.accept(&["a 1"]);
    let loses = |story: &mut Story, lose: &mut dyn FnMut(&mut Story)| {
        story.run(W);
        lose(story);
        story.register(registration(W, 1, &["a"]));
        let view = story.state.task_view(&id("a 1")).expect("a task");
        (view.status, view.losses, view.attempt)
    };
    let uncounted = (TaskStatus::Pending, 0, 0);
    for _ in 0..5 {
        let leaves = &mut |story: &mut Story| {
            story.state.leave(story.now, W, To("leave"));
            story.replies_to("leave");
        };
        assert_eq!(loses(&mut story, leaves), uncounted);
        assert_eq!(loses(&mut story, &mut |story| story.later(WORKER_TIMEOUT)), uncounted);
    }
    let message = |story: &mut Story| {
        story.state.describe(story.now, &id("a 1"), To("described"));
        let replies = story.replies_to("described");
        let [AnyReply::Client(Reply::Described(Some(task)))] = &replies[..] else { panic!("{replies:?}") };
        task.error.clone().unwrap_or_default()
    };
    assert!(message(&mut story).contains("'worker-1' stopped responding while it ran"));
    assert_eq!(loses(&mut story, &mut Story::crash), (TaskStatus::Pending, 1, 0));
    assert!(message(&mut story).contains("'worker-1' was lost while it ran, 1 of the 3 times"));
}

#[test]
fn a_worker_that_reconnects_has_not_crashed() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    let mut key = W;
    for n in 3..9 {
        story.run(key);
        story.crash();
        assert_eq!(story.state.task_view(&id("a 1")).map(|view| view.losses), Some(1));
        let previous = Some(key);
        key = Uuid::from_u128(n);
        story.register(Registration { previous, worker_id: "worker-1".into(), ..registration(key, 1, &["a"]) });
        assert_eq!(story.state.task_view(&id("a 1")).map(|view| view.losses), Some(0));
    }
}

#[test]
fn before_the_last_crash_a_task_runs_alone_on_its_worker() {
    let mut story = Story::new();
    story.register(registration(W, 2, &["a"]));
    story.accept(&["a poison"]);
    for n in 10..12 {
        let key = Uuid::from_u128(n);
        if n == 11 {
            story.register(registration(W, 2, &["a"]));
        }
        story.run(W);
        story.crash();
        assert!(story.state.task_view(&id("a poison")).is_some(), "{key}");
    }
    // Two workers: one runs something, the other is free.
    story.register(registration(W, 2, &["b"]));
    story.register(registration(V, 2, &["a", "b"]));
    story.accept(&["b 1"]);
    assert_eq!(ids(&story.work(W, 0, Vec::new(), 1)), ["b 1"]);
    assert_eq!(story.work(W, 1, Vec::new(), 1), []);
    assert_eq!(ids(&story.work(V, 0, Vec::new(), 1)), ["a poison"]);
    story.accept(&["b 2", "b 3"]);
    assert_eq!(story.status("b 2"), Some(TaskStatus::Started), "the other worker continues");
    assert_eq!(story.work(V, 1, Vec::new(), 1), [], "no task runs alongside it");
    assert_eq!(story.status("b 3"), Some(TaskStatus::Pending));
    story.cancel("a poison");
    assert_eq!(story.status("b 3"), Some(TaskStatus::Started), "its worker is free again");
}

#[test]
fn a_busy_worker_is_reserved_for_a_task_that_must_run_alone() {
    let mut story = Story::new();
    for _ in 0..2 {
        story.register(registration(W, 2, &["a", "b"]));
        if story.state.stats().unfinished == 0 {
            story.accept(&["a poison"]);
        }
        story.run(W);
        story.crash();
    }
    story.register(registration(W, 2, &["b"]));
    story.accept(&["b 1", "b 2", "b 3"]);
    let first = story.work(W, 0, Vec::new(), 1);
    let change = CatalogChange {
        worker: W,
        sequence: 1,
        modules: vec![module(vec![info("a", Policy::default()), info("b", Policy::default())])],
        force: false,
    };
    story.state.change_catalog(story.now, change, To("change"));
    story.settle();
    assert_eq!(story.work(W, 1, Vec::new(), 1), [], "it must finish what it has");
    assert_eq!(ids(&story.work(W, 0, vec![ended(first[0].id, success())], 1)), ["a poison"]);
    let end = story.state.task_view(&id("a poison")).and_then(|view| view.lease).expect("a lease");
    story.work(W, 0, vec![ended(end.0, success())], 1);
    assert_eq!(story.end("a poison").status, TaskStatus::Success);
    assert_eq!((story.status("b 2"), story.status("b 3")), (Some(TaskStatus::Started), Some(TaskStatus::Started)));
}
