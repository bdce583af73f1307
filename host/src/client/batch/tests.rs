//! Tests of the batching of submissions.

use std::sync::Arc;

use super::{
    background::{LoopKind, LoopPermit, apply_submitted},
    state::BatchState,
};
use crate::{
    client::{Client, ClientBuilder, ClientError, RESULT_CACHE_MAX},
    protocol::{Refusal, RefusalCode, Reply, Submitted},
    task::{NewTask, SerializationFormat, TaskResult, TaskStatus},
};

fn task(id: &str) -> NewTask {
    NewTask { id: id.parse().expect("an id"), ..NewTask::new("add") }
}

fn ended(id: &str) -> Arc<TaskResult> {
    Arc::new(TaskResult::new(id.parse().expect("an id"), TaskStatus::Success))
}

fn client() -> Client {
    ClientBuilder::default().serialization_format(SerializationFormat::Json).build()
}

#[test]
fn all_waiters_of_a_task_get_its_result_and_it_is_sent_once() {
    let mut state = BatchState::default();
    let (mut first, mut second) = (state.add_end_waiter(task("T1")), state.add_end_waiter(task("T1")));
    assert_eq!(state.outgoing.len(), 1);
    state.complete_end(&ended("T1"));
    assert!(matches!(first.try_recv(), Ok(Ok(_))));
    assert!(matches!(second.try_recv(), Ok(Ok(_))));
    assert!(!state.expects_results());
}

#[test]
fn a_waiter_that_gives_up_leaves_the_others_waiting() {
    let mut state = BatchState::default();
    let (first, mut second) = (state.add_end_waiter(task("T1")), state.add_end_waiter(task("T1")));
    let watched = state.add_accept_waiter(task("T2"));
    drop(first);
    state.complete_accepted(&task("T1").id);
    assert!(state.drop_closed_waiters(&task("T1").id), "it was accepted");
    state.complete_end(&ended("T1"));
    assert!(matches!(second.try_recv(), Ok(Ok(_))));
    drop(watched);
    assert!(!state.drop_closed_waiters(&task("T2").id));
    assert!(state.expects_results(), "the end of T2 is expected");
    state.complete_end(&ended("T2"));
    assert!(!state.expects_results());
}

#[test]
fn a_task_without_waiters_is_looked_up_and_never_resubmitted() {
    let mut state = BatchState::default();
    let (dropped, waiting, watched) = (
        state.add_end_waiter(task("dropped")),
        state.add_end_waiter(task("waits")),
        state.add_accept_waiter(task("watched")),
    );
    assert!(state.unconfirmed().is_empty(), "nothing was sent");
    state.outgoing.clear();
    assert!(!state.unconfirmed().contains(&task("watched").id), "it may be in flight");
    state.complete_accepted(&task("watched").id);
    drop((dropped, watched));
    let mut ids = state.unconfirmed();
    ids.sort();
    assert_eq!(ids, ["waits", "watched"].map(|id| task(id).id));
    assert!(state.resubmit(&ids[0]));
    assert!(!state.resubmit(&ids[1]));
    drop(waiting);
    assert!(!state.resubmit(&ids[0]));
    assert_eq!(state.outgoing.len(), 1);
    assert!(!state.expects_results());
}

#[test]
fn only_the_newest_tasks_are_watched() {
    let mut state = BatchState::default();
    for _ in 0..=RESULT_CACHE_MAX {
        drop(state.add_accept_waiter(NewTask::new("add")));
    }
    assert_eq!(state.watched.len(), RESULT_CACHE_MAX);
}

#[test]
fn an_ended_task_is_cached_and_a_refused_one_is_not() {
    let client = client();
    let inner = &client.0;
    let tasks = ["ended", "refused"].map(task);
    let ids = tasks.clone().map(|task| task.id);
    for id in &ids {
        inner.cache_submitted(id);
    }
    let mut state = BatchState::default();
    let (mut first, mut second) = (state.add_accept_waiter(task("ended")), state.add_accept_waiter(task("refused")));
    let submitted =
        vec![Submitted::Ended(ended("ended")), Submitted::Refused(Refusal::new(RefusalCode::BadRequest, "no"))];
    let refused = apply_submitted(inner, &mut state, tasks.to_vec(), Ok(Reply::Submitted(submitted)));
    assert!(refused.is_empty());
    assert!(matches!(first.try_recv(), Ok(Ok(()))));
    assert!(matches!(second.try_recv(), Ok(Err(ClientError::Refused(_)))));
    assert_eq!(client.get_status(&ids[0]), Some(TaskStatus::Success));
    assert_eq!(client.get_status(&ids[1]), None);
    assert!(!state.expects_results());
}

#[test]
fn tasks_that_a_stopping_control_plane_refused_are_sent_again() {
    let client = client();
    let mut state = BatchState::default();
    let (mut waiting, dropped) = (state.add_end_waiter(task("waits")), state.add_end_waiter(task("dropped")));
    let tasks: Vec<NewTask> = state.outgoing.drain(..).collect();
    drop(dropped);
    let refusal = Refusal::new(RefusalCode::Stopping, "the control plane is stopping");
    let reply = Reply::Submitted(vec![Submitted::Refused(refusal.clone()); 2]);
    let refused = apply_submitted(&client.0, &mut state, tasks, Ok(reply));
    state.requeue(refused);
    assert!(waiting.try_recv().is_err(), "it is still waiting");
    assert_eq!(state.outgoing.iter().map(|task| task.id.to_string()).collect::<Vec<_>>(), ["waits"]);
    let tasks: Vec<NewTask> = state.outgoing.drain(..).collect();
    assert_eq!(apply_submitted(&client.0, &mut state, tasks, Err(ClientError::Refused(refusal))).len(), 1);
}

#[test]
fn a_dropped_permit_is_released_only_in_its_own_session() {
    let client = client();
    let inner = &client.0;
    let start = || LoopPermit::acquire(inner, &mut inner.batch.state(), LoopKind::Collect);
    let first = start().expect("none is running");
    assert!(start().is_none());
    drop(first);
    let old = start().expect("the first was dropped");
    inner.batch.stop();
    let mut new = start().expect("a new session");
    drop(old);
    assert!(start().is_none(), "the new one is running");
    new.release(&mut inner.batch.state());
    let _next = start().expect("the last has ended");
    drop(new);
    assert!(start().is_none(), "a released permit releases nothing");
}
