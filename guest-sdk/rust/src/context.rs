//! The running attempt: its properties, and functions that call the host.
//!
//! The host passes the properties with the call, so reading them does not call the host: strings are
//! cloned, and each read of the metadata parses it. Outside of an attempt, such as in a plain unit
//! test, they are those of a first attempt without an id and with a day left;
//! [`crate::testing::Context`] sets others.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::follow_up::{FollowUp, Priority};
use crate::host;

/// The properties of an attempt, which the host passes with the call.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) task_id: String,
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) deadline: SystemTime,
    pub(crate) metadata: String,
}

thread_local! {
    static CURRENT: RefCell<Option<Attempt>> = const { RefCell::new(None) };
}

/// Replaces the running attempt, and returns the previous one.
pub(crate) fn set_current(attempt: Option<Attempt>) -> Option<Attempt> {
    CURRENT.with(|current| current.replace(attempt))
}

/// The id of the task, the same for each of its attempts. Use it as the idempotency key of effects
/// that must happen only once.
pub fn task_id() -> String {
    with_current(|attempt| attempt.task_id.clone()).unwrap_or_default()
}

/// The task name that the client submitted.
pub fn task_name() -> String {
    with_current(|attempt| attempt.name.clone()).unwrap_or_default()
}

/// The number of this attempt, counted from 1.
pub fn attempt() -> u32 {
    with_current(|attempt| attempt.number).unwrap_or(1)
}

/// The time at which the host stops this attempt.
pub fn deadline() -> SystemTime {
    with_current(|attempt| attempt.deadline).unwrap_or_else(|| SystemTime::now() + Duration::from_hours(24))
}

/// The time left until the [`deadline`]; zero if it has passed.
pub fn remaining() -> Duration {
    deadline().duration_since(SystemTime::now()).unwrap_or_default()
}

/// The priority of the task.
pub fn priority() -> Priority {
    metadata("priority").unwrap_or(Priority::Normal)
}

/// The id of the task that submitted this one as a follow-up.
pub fn parent() -> Option<String> {
    metadata("parent")
}

/// The tags that the client set for the task.
pub fn tags() -> Vec<String> {
    metadata("tags").unwrap_or_default()
}

/// The trace context of the task, as a `traceparent` of W3C Trace Context.
pub fn traceparent() -> Option<String> {
    metadata("traceparent")
}

/// The value of any key in the task's metadata; none if it is missing or has another type.
///
/// Each call parses the metadata, so store a value that is used often.
pub fn metadata<T: DeserializeOwned>(key: &str) -> Option<T> {
    let text = metadata_json();
    let entries: BTreeMap<String, &RawValue> = serde_json::from_str(&text).ok()?;
    serde_json::from_str(entries.get(key)?.get()).ok()
}

/// The task's metadata: a JSON object, as text. The host may add any keys to it.
pub fn metadata_json() -> String {
    with_current(|attempt| attempt.metadata.clone()).unwrap_or_else(|| "{}".to_owned())
}

/// Reports progress: `done` of `total` steps, and a description of the current step. A `total` of
/// zero means that it is unknown.
pub fn progress(done: u64, total: u64, message: &str) {
    host::progress(done, total, message);
}

/// Returns whether the attempt is about to be stopped: cancelled, or past its deadline.
///
/// An attempt that checks this regularly can clean up before it ends. One that does not is terminated
/// anyway.
pub fn is_cancelled() -> bool {
    host::is_cancelled()
}

/// Prepares a task that is submitted when this attempt succeeds. See [`FollowUp`].
///
/// `args` are its arguments by position: a tuple, an array or a `Vec`, or `()` for none.
pub fn follow_up(name: &str, args: impl Serialize) -> FollowUp {
    FollowUp::new(name, &args)
}

fn with_current<T>(f: impl FnOnce(&Attempt) -> T) -> Option<T> {
    CURRENT.with(|current| current.borrow().as_ref().map(f))
}
