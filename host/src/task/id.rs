//! The id of a task: a UUID or other text.
//!
//! Our clients use UUIDs, which take 16 bytes; clients of the Python original may use any text. Equal texts are equal
//! ids, whichever form they were sent in.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

/// Maximum length of a task id in bytes.
pub const TASK_ID_MAX: usize = 128;

/// The id of a task: text of 1 to 128 bytes. A UUID takes 16 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Id);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Id {
    Uuid(Uuid),
    Text(Arc<str>),
}

/// Text that cannot be a task id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task id is text of 1 to {TASK_ID_MAX} bytes without control characters, not {0:?}")]
pub struct NotATaskId(String);

impl TaskId {
    /// Creates a unique id. Later ids sort later.
    pub fn new() -> Self {
        Self(Id::Uuid(Uuid::now_v7()))
    }

    /// The id of the follow-up number `index` (from 0) of this task: the same for each attempt, so that a repeated
    /// attempt does not submit it twice.
    #[must_use]
    pub fn follow_up(&self, index: usize) -> Self {
        let parent = match &self.0 {
            Id::Uuid(uuid) => *uuid,
            Id::Text(text) => Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()),
        };
        Self(Id::Uuid(Uuid::new_v5(&parent, index.to_string().as_bytes())))
    }
}

impl Default for TaskId {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Uuid> for TaskId {
    fn from(uuid: Uuid) -> Self {
        Self(Id::Uuid(uuid))
    }
}

impl FromStr for TaskId {
    type Err = NotATaskId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let canonical = |uuid: &Uuid| uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text;
        if let Some(uuid) = Uuid::try_parse(text).ok().filter(canonical) {
            return Ok(Self(Id::Uuid(uuid)));
        }
        if text.is_empty() || text.len() > TASK_ID_MAX || text.chars().any(char::is_control) {
            return Err(NotATaskId(text.chars().take(64).collect()));
        }
        Ok(Self(Id::Text(text.into())))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Id::Uuid(uuid) => f.pad(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Id::Text(text) => f.pad(text),
        }
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        match &self.0 {
            Id::Uuid(uuid) => serializer.serialize_str(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Id::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(D::Error::custom);
        }
        match Id::deserialize(deserializer)? {
            uuid @ Id::Uuid(_) => Ok(Self(uuid)),
            // Checked again: equal texts must become equal ids.
            Id::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_is_the_same_id_in_every_form() {
        for text in ["0193b0a0-0000-7000-8000-000000000000", "0193B0A0-0000-7000-8000-000000000000", "T1", "ü"] {
            let id: TaskId = text.parse().expect("an id");
            assert_eq!(id.to_string(), text);
            let bytes = postcard::to_stdvec(&id).expect("to postcard");
            assert_eq!(postcard::from_bytes::<TaskId>(&bytes), Ok(id));
        }
        for wrong in ["", "a\nb", &"x".repeat(129)] {
            assert!(wrong.parse::<TaskId>().is_err());
        }
    }
}
