//! The attempt that is running, and what it can tell the host.
//!
//! The host hands these facts over with the call, so that asking for them costs nothing. Outside
//! of an attempt, in a plain unit test for instance, they are those of a first attempt without an
//! id that has a day left; [`crate::testing::Context`] sets others.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::follow_up::FollowUp;
use crate::host;

/// What the host says about an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) task_id: String,
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) deadline: SystemTime,
}

thread_local! {
    static CURRENT: RefCell<Option<Attempt>> = const { RefCell::new(None) };
}

/// Replaces the facts about the running attempt, and returns those before.
pub(crate) fn replace(attempt: Option<Attempt>) -> Option<Attempt> {
    CURRENT.with(|current| current.replace(attempt))
}

/// The id of the task, the same for each of its attempts. Use it as the key of what must happen
/// only once.
pub fn task_id() -> String {
    read(|attempt| attempt.task_id.clone()).unwrap_or_default()
}

/// The task name that the client submitted.
pub fn task_name() -> String {
    read(|attempt| attempt.name.clone()).unwrap_or_default()
}

/// Counts the attempts of this task, from 1.
pub fn attempt() -> u32 {
    read(|attempt| attempt.number).unwrap_or(1)
}

/// When the host stops this attempt.
pub fn deadline() -> SystemTime {
    read(|attempt| attempt.deadline).unwrap_or_else(|| SystemTime::now() + Duration::from_hours(24))
}

/// How much time is left until the [`deadline`]; zero when it has passed.
pub fn remaining() -> Duration {
    deadline().duration_since(SystemTime::now()).unwrap_or_default()
}

/// Says how far the attempt is: `done` of `total` steps, and what it does now. A `total` of zero
/// means that it is not known.
pub fn progress(done: u64, total: u64, message: &str) {
    host::progress(done, total, message);
}

/// Tells whether the attempt is about to be stopped: cancelled, or past its deadline.
///
/// An attempt that asks now and then can clean up before it ends. One that does not is stopped all
/// the same, whatever it is doing.
pub fn is_cancelled() -> bool {
    host::is_cancelled()
}

/// Prepares a task that is submitted when this attempt succeeds. See [`FollowUp`].
///
/// `args` are its arguments by position: a tuple, an array or a `Vec`, or `()` for none.
pub fn follow_up(name: &str, args: impl Serialize) -> FollowUp {
    FollowUp::new(name, &args)
}

fn read<T>(of: impl FnOnce(&Attempt) -> T) -> Option<T> {
    CURRENT.with(|current| current.borrow().as_ref().map(of))
}
