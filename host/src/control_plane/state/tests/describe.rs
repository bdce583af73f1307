//! Descriptions of tasks.

use super::*;
use crate::transport::PAYLOAD_MAX;

#[test]
fn a_task_is_described_before_and_after_its_end() {
    let mut story = Story::with_worker(1);
    let describe = |story: &mut Story, text: &str| {
        story.state.describe(story.now, &id(text), To("client"));
        match story.replies_to("client").pop() {
            Some(AnyReply::Client(Reply::Described(task))) => task,
            other => panic!("{other:?} is not a description"),
        }
    };
    assert_eq!(describe(&mut story, "unknown"), None);
    let wait = NewTask { unknown: Unknown::Wait, ..task("other") };
    let late = NewTask { countdown: Some(secs(60)), ..task("a late") };
    let policy = Policy { max_retries: Some(1), retry_delay: Some(secs(100)), ..Policy::default() };
    let args = Json::parse("[1]").expect("JSON");
    story.submit(vec![wait, late, NewTask { args, policy, ..task("a retried") }], Notify::No);
    let other = describe(&mut story, "other").expect("it waits");
    assert_eq!((other.status, other.offered, other.due_at), (TaskStatus::Pending, false, None));
    let due = story.now.wall + secs(60);
    story.later_alive(secs(1));
    let late = describe(&mut story, "a late").expect("it is scheduled");
    assert_eq!((late.status, late.offered, late.due_at), (TaskStatus::Scheduled, true, Some(due)));

    let leases = story.work(W, 0, vec![], 1);
    let long = Failure::new(ErrorKind::Trap, "ö".repeat(LAST_FAILURE_MAX));
    story.work(W, 0, vec![ended(leases[0].id, Outcome::Failure(long))], 1);
    let retried = describe(&mut story, "a retried").expect("it is retried");
    assert_eq!((retried.status, retried.error_kind), (TaskStatus::Retrying, Some(ErrorKind::Trap)));
    assert_eq!(retried.error, Some("ö".repeat(LAST_FAILURE_MAX / 2)), "it is cut");
    let due_at = retried.due_at.expect("a time");
    assert!(due_at > story.now.wall + secs(50) && due_at < story.now.wall + secs(150), "{due_at}");
    story.later_alive(secs(1));
    assert_eq!(describe(&mut story, "a retried").and_then(|task| task.due_at), Some(due_at), "it does not change");

    story.state.cancel(story.now, &[id("a retried")], To("cancel"));
    let ended = describe(&mut story, "a retried").expect("it is kept");
    assert_eq!((ended.status, ended.attempt, ended.args.as_str()), (TaskStatus::Cancelled, 1, "[1]"));
    assert_eq!((ended.name.as_str(), ended.error.as_deref()), ("a", Some("Task cancelled")));
}

#[test]
fn arguments_that_do_not_fit_in_addition_to_a_result_are_omitted() {
    let mut story = Story::with_worker(1);
    let large = |bytes: usize| Json::of(&"x".repeat(bytes)).expect("JSON");
    let args = Json::of(&[large(PAYLOAD_MAX / 2)]).expect("JSON");
    story.submit(vec![NewTask { args, ..task("a") }], Notify::No);
    let leases = story.work(W, 0, vec![], 1);
    let result = large(PAYLOAD_MAX / 2);
    let outcome = Outcome::Success { result: result.clone(), follow_ups: Vec::new() };
    story.work(W, 0, vec![ended(leases[0].id, outcome)], 1);
    story.state.describe(story.now, &id("a"), To("client"));
    let replies = story.replies_to("client").pop();
    let Some(AnyReply::Client(Reply::Described(Some(task)))) = replies else { panic!("no description") };
    assert_eq!((task.args, task.kwargs), (Json::null(), Json::null()));
    assert!(task.result == Some(result), "it is whole");
}
