//! Scenarios of tasks whose name no worker serves.

use super::*;

#[test]
fn an_unknown_name_waits_for_a_worker_after_the_start() {
    let mut story = Story::new();
    story.state.start(story.now);
    let eta = Some(story.now.wall + secs(3600));
    let submitted = story.submit(vec![task("a 1"), NewTask { eta, ..task("a later") }, task("z 1")], Notify::No);
    assert_eq!(submitted, [Submitted::Accepted, Submitted::Accepted, Submitted::Accepted]);
    story.state.submit_and_hold(story.now, task("z original"), None, To("client"));
    let urgent = Policy { priority: Some(TaskPriority::High), ..Policy::default() };
    let modules = vec![module(vec![info("a", urgent)])];
    story.later_alive(secs(29));
    story.register(Registration { modules, ..registration(W, 1, &[]) });
    let view = |story: &Story, text: &str| story.state.task_view(&id(text)).map(|view| (view.status, view.priority));
    assert_eq!(view(&story, "a 1"), Some((TaskStatus::Pending, TaskPriority::High)), "its module was loaded later");
    story.later_alive(secs(1));
    assert_eq!(story.end("z 1").error_kind, Some(ErrorKind::NotFound));
    assert_eq!(story.end("z 1").error.as_deref(), Some("Task z not found"));
    assert_eq!(story.replies_to("client").len(), 1, "clients of the original get it as well");
    assert_eq!(view(&story, "a later"), Some((TaskStatus::Scheduled, TaskPriority::High)));
    assert_eq!(ids(&story.work(W, 0, Vec::new(), 1)), ["a 1"]);
    assert!(
        matches!(story.submit(vec![task("z 2")], Notify::No)[..], [Submitted::Ended(_)]),
        "the grace period is over"
    );
}

#[test]
fn an_unknown_name_waits_as_long_as_modules_are_loaded() {
    let mut story = Story::new();
    let loading = ModuleInfo { status: ModuleStatus::Loading, path: "b.wasm".into(), ..module(Vec::new()) };
    let registration = Registration { modules: vec![loading], ..registration(W, 1, &[]) };
    story.register(registration);
    story.accept(&["b 1", "z 1"]);
    story.later_alive(secs(120));
    assert_eq!(story.status("z 1"), Some(TaskStatus::Pending));
    let modules = vec![module(vec![info("b", Policy::default())])];
    story.state.change_catalog(
        story.now,
        CatalogChange { worker: W, sequence: 1, modules, force: false },
        To("change"),
    );
    story.later_alive(secs(1));
    assert_eq!(story.end("z 1").error_kind, Some(ErrorKind::NotFound));
    assert_eq!(ids(&story.work(W, 0, Vec::new(), 1)), ["b 1"]);
}

#[test]
fn each_loss_of_a_worker_restarts_the_grace_period() {
    let mut story = Story::with_worker(1);
    story.later_alive(secs(60));
    assert!(matches!(story.submit(vec![task("z 1")], Notify::No)[..], [Submitted::Ended(_)]));
    story.crash();
    story.accept(&["z 2"]);
    story.later(secs(20));
    story.register(registration(V, 1, &["b"]));
    story.state.leave(story.now, V, To("leave"));
    story.later(secs(20));
    assert_eq!(story.status("z 2"), Some(TaskStatus::Pending), "the last loss counts");
    story.cancel("z 2");
    story.later(secs(20));
    assert_eq!(story.state.stats().unfinished, 0);
}

#[test]
fn a_task_of_a_name_that_was_known_waits_without_a_limit() {
    let mut story = Story::with_worker(1);
    story.accept(&["a 1"]);
    story.crash();
    story.later(secs(24 * 3600));
    story.register(registration(V, 1, &["a"]));
    assert_eq!(ids(&story.work(V, 0, Vec::new(), 1)), ["a 1"]);
}

#[test]
fn very_many_unknown_tasks_fail_in_steps() {
    let mut story = Story::new();
    story.state.start(story.now);
    for batch in 0..30 {
        let tasks = (0..100).map(|n| task(&format!("z{batch} {n}"))).collect();
        story.submit(tasks, Notify::No);
    }
    story.jump(secs(30));
    assert!((1..3_000).contains(&story.state.stats().unfinished), "{:?}", story.state.stats());
    story.later(secs(1));
    assert_eq!(story.state.stats(), Stats { timers: 1, ..Stats::default() }, "the results expire");
}

#[test]
fn a_name_of_a_recently_removed_worker_waits_with_its_policy() {
    let mut story = Story::new();
    let policy = Policy { max_retries: Some(2), priority: Some(TaskPriority::High), ..Policy::default() };
    let both = vec![module(vec![info("a", policy.clone())]), module(vec![info("a", policy)])];
    let registration = Registration { modules: both, ..registration(W, 1, &[]) };
    story.register(registration.clone());
    story.state.leave(story.now, W, To("leave"));
    assert!(story.state.registry().infos(story.now.mono).is_empty(), "it left and was not lost");
    story.accept(&["a 1"]);
    assert_eq!(story.state.task_view(&id("a 1")).map(|view| view.priority), Some(TaskPriority::High));
    story.submit(vec![NewTask { unknown: Unknown::Wait, ..task("b 1") }], Notify::No);
    story.later(secs(31));
    assert!(
        matches!(story.submit(vec![task("a 2")], Notify::No)[..], [Submitted::Ended(_)]),
        "the grace period is over"
    );

    story.register(registration);
    let lease = story.run(W);
    story.work(W, 0, vec![ended(lease.id, failure())], 0);
    assert_eq!(story.status("a 1"), Some(TaskStatus::Retrying));
    let late = Policy { max_retries: Some(1), ..Policy::default() };
    story.register(Registration { modules: vec![module(vec![info("b", late)])], ..self::registration(V, 1, &[]) });
    let lease = story.run(V);
    story.work(V, 0, vec![ended(lease.id, failure())], 0);
    assert_eq!(story.status("b 1"), Some(TaskStatus::Retrying), "the policy of a module that was loaded later counts");
}

#[test]
fn an_unknown_name_fails_immediately_with_the_nearest_name() {
    let mut story = Story::new();
    story.register(registration(W, 1, &["resize", "reverse"]));
    let submitted = story.submit(vec![task("resise")], Notify::No);
    let [Submitted::Ended(end)] = &submitted[..] else { panic!("{submitted:?}") };
    assert_eq!(end.error_kind, Some(ErrorKind::NotFound));
    assert_eq!(end.error.as_deref(), Some("Task resise not found: did you mean 'resize'?"));
}
