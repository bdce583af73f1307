//! Checked names of tasks, schedules and workers.

use std::{fmt, str::FromStr};

/// Maximum length of a task name in bytes.
pub const TASK_NAME_MAX: usize = 128;
/// Maximum length of a worker id in bytes.
pub const WORKER_ID_MAX: usize = 128;

/// The name of a task, or of a schedule: 1 to 128 bytes of text without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskName(String);

/// Error for a string that cannot be the name of a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task name is text of 1 to {TASK_NAME_MAX} bytes without control characters, not {0:?}")]
pub struct InvalidTaskName(String);

/// Error for a string that cannot be the name of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a schedule's name is text of 1 to {TASK_NAME_MAX} bytes without control characters")]
pub struct InvalidScheduleName;

impl From<InvalidTaskName> for InvalidScheduleName {
    fn from(_: InvalidTaskName) -> Self {
        Self
    }
}

/// The id of a worker: 1 to 128 bytes of text without control characters and colons, which end it in an announcement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkerId(String);

/// Error for a string that cannot be a worker id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a worker id is text of 1 to {WORKER_ID_MAX} bytes without colons and control characters, not {0:?}")]
pub struct InvalidWorkerId(String);

impl TaskName {
    /// Checks a name without keeping it.
    ///
    /// # Errors
    /// [`InvalidTaskName`] if it is empty, too long or has control characters.
    pub fn check(name: &str) -> Result<(), InvalidTaskName> {
        if is_text(name, TASK_NAME_MAX) { Ok(()) } else { Err(InvalidTaskName(beginning(name))) }
    }
}

impl WorkerId {
    /// Checks an id without keeping it.
    ///
    /// # Errors
    /// [`InvalidWorkerId`] if it is empty, too long or has colons or control characters.
    pub fn check(id: &str) -> Result<(), InvalidWorkerId> {
        if is_text(id, WORKER_ID_MAX) && !id.contains(':') { Ok(()) } else { Err(InvalidWorkerId(beginning(id))) }
    }
}

fn is_text(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Returns enough of a string to recognise it in a message.
fn beginning(text: &str) -> String {
    text.chars().take(64).collect()
}

impl FromStr for TaskName {
    type Err = InvalidTaskName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::check(text).map(|()| Self(text.to_owned()))
    }
}

impl FromStr for WorkerId {
    type Err = InvalidWorkerId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::check(text).map(|()| Self(text.to_owned()))
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<TaskName> for String {
    fn from(name: TaskName) -> Self {
        name.0
    }
}

impl From<WorkerId> for String {
    fn from(id: WorkerId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_strings_without_control_characters() {
        assert!(TaskName::check("resize:all").is_ok() && TaskName::check(&"x".repeat(TASK_NAME_MAX)).is_ok());
        assert!(WorkerId::check("sw1").is_ok() && WorkerId::check("a:b").is_err());
        for wrong in ["", "a\nb", &"x".repeat(TASK_NAME_MAX + 1)] {
            assert!(TaskName::check(wrong).is_err() && WorkerId::check(wrong).is_err());
        }
    }
}
