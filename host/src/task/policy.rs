//! Policies: priority, timeout and retries of a task.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

use super::TaskPriority;

/// Priority, timeout and retries of a task. A field that is `None` is inherited from the next level: the submission
/// comes first, then the policy in the module, then the defaults.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Priority; default normal.
    pub priority: Option<TaskPriority>,
    /// Timeout of an attempt; default 300 s.
    #[serde(with = "seconds")]
    pub timeout: Option<Duration>,
    /// Maximum retries after a failed attempt; default 0.
    pub max_retries: Option<u32>,
    /// Delay before the first retry; default 60 s.
    #[serde(with = "seconds")]
    pub retry_delay: Option<Duration>,
    /// Factor between successive delays; default 2.
    pub retry_backoff: Option<f64>,
    /// Maximum delay between attempts; default 3600 s.
    #[serde(with = "seconds")]
    pub retry_backoff_max: Option<Duration>,
}

impl Policy {
    /// Fills the missing fields from `other`.
    #[must_use]
    pub fn or(&self, other: &Policy) -> Policy {
        Policy {
            priority: self.priority.or(other.priority),
            timeout: self.timeout.or(other.timeout),
            max_retries: self.max_retries.or(other.max_retries),
            retry_delay: self.retry_delay.or(other.retry_delay),
            retry_backoff: self.retry_backoff.or(other.retry_backoff),
            retry_backoff_max: self.retry_backoff_max.or(other.retry_backoff_max),
        }
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let defaults = SkipDefaults::of(&serializer);
        let mut fields = serializer.serialize_struct("Policy", 6)?;
        defaults.field(&mut fields, "priority", &self.priority, self.priority.is_some())?;
        defaults.field(&mut fields, "timeout", &seconds::of(self.timeout), self.timeout.is_some())?;
        defaults.field(&mut fields, "max_retries", &self.max_retries, self.max_retries.is_some())?;
        defaults.field(&mut fields, "retry_delay", &seconds::of(self.retry_delay), self.retry_delay.is_some())?;
        defaults.field(&mut fields, "retry_backoff", &self.retry_backoff, self.retry_backoff.is_some())?;
        let longest = self.retry_backoff_max;
        defaults.field(&mut fields, "retry_backoff_max", &seconds::of(longest), longest.is_some())?;
        fields.end()
    }
}

/// Whether fields with default values are skipped. JSON skips them, which halves a submission and its parsing time.
/// Postcard writes no field names, so that every field is required.
#[derive(Clone, Copy)]
pub(super) enum SkipDefaults {
    No,
    Yes,
}

impl SkipDefaults {
    pub(super) fn of<S: Serializer>(serializer: &S) -> Self {
        if serializer.is_human_readable() { Self::Yes } else { Self::No }
    }

    pub(super) fn field<F: SerializeStruct>(
        self,
        fields: &mut F,
        name: &'static str,
        value: &impl Serialize,
        is_set: bool,
    ) -> Result<(), F::Error> {
        match self {
            Self::Yes if !is_set => fields.skip_field(name),
            Self::Yes | Self::No => fields.serialize_field(name, value),
        }
    }
}

/// Durations as seconds with a fraction, the unit of the API.
pub(super) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use crate::clock::DURATION_MAX;

    /// Writes a duration as seconds.
    #[allow(clippy::ref_option, reason = "serde calls it with a reference to the field")]
    pub(in crate::task) fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        of(*span).serialize(serializer)
    }

    /// Converts a duration to seconds.
    pub(in crate::task) fn of(span: Option<Duration>) -> Option<f64> {
        span.map(|span| span.as_secs_f64())
    }

    /// Reads seconds as a duration, to the microsecond.
    pub(in crate::task) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let Some(seconds) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
        span(seconds).map(Some).ok_or_else(|| D::Error::custom(out_of_range(seconds)))
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a duration of up to ten years")]
    fn span(seconds: f64) -> Option<Duration> {
        let span = Duration::try_from_secs_f64(seconds).ok().filter(|span| *span <= DURATION_MAX)?;
        // Binary fractions are inexact: round to whole microseconds.
        Some(if span.is_zero() { span } else { Duration::from_micros((seconds * 1e6).round() as u64) })
    }

    fn out_of_range(seconds: f64) -> String {
        format!("{seconds} is not a duration in seconds of up to ten years")
    }

    /// The same for fields that are not optional.
    pub(in crate::task) mod always {
        use std::time::Duration;

        use serde::{Deserializer, Serializer, de::Error as _};

        /// Writes a duration as seconds.
        pub(in crate::task) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_f64(span.as_secs_f64())
        }

        /// Reads seconds as a duration, to the microsecond.
        pub(in crate::task) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
            let seconds = <f64 as serde::Deserialize>::deserialize(deserializer)?;
            super::span(seconds).ok_or_else(|| D::Error::custom(super::out_of_range(seconds)))
        }
    }
}
