//! Limits of one attempt: what it may use of its worker.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

use super::{ErrorKind, open_enum};
use crate::{
    clock::{DURATION_MAX, exactly, micros, seconds},
    system,
    transport::PAYLOAD_MAX,
};

open_enum! {
    /// What a limit is for. Its name is that of the key in a policy and, with hyphens, of the option.
    pub enum LimitKind: "limit" {
        /// Duration, as of the clock on the wall.
        Timeout = "max_timeout",
        /// CPU time.
        CpuTime = "max_cpu_time",
        /// Time of waiting in calls of the host: for the network, for files, for a clock.
        HostTime = "max_host_time",
        /// Linear memory.
        Memory = "max_memory",
        /// The result and the follow-up tasks.
        Result = "max_result",
        /// What is printed to stdout and stderr.
        Output = "max_output",
        /// Log lines.
        Log = "max_log",
        /// Connections at a time.
        Connections = "max_connections",
        /// Bytes received from the network.
        Received = "max_received",
        /// Bytes sent to the network.
        Sent = "max_sent",
    }
}

/// The unit of a limit's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitUnit {
    /// Microseconds.
    Time,
    /// Bytes.
    Size,
    /// Pieces.
    Count,
}

/// Maximum bytes of the result and the follow-up tasks of an attempt: what fits into a frame.
pub const RESULT_MAX: u64 = (PAYLOAD_MAX - 64 * 1024) as u64;

impl LimitKind {
    /// The kind of the error of an attempt that exceeds it.
    pub const fn error_kind(self) -> ErrorKind {
        match self {
            Self::Timeout => ErrorKind::Timeout,
            Self::CpuTime => ErrorKind::CpuTimeLimit,
            Self::HostTime => ErrorKind::HostTimeLimit,
            Self::Memory => ErrorKind::OutOfMemory,
            Self::Result => ErrorKind::ResultLimit,
            Self::Output => ErrorKind::OutputLimit,
            Self::Log => ErrorKind::LogLimit,
            Self::Connections => ErrorKind::ConnectionLimit,
            Self::Received | Self::Sent => ErrorKind::NetworkLimit,
            Self::Other(_) => ErrorKind::Failed,
        }
    }

    /// Its unit.
    pub const fn unit(self) -> LimitUnit {
        match self {
            Self::Timeout | Self::CpuTime | Self::HostTime => LimitUnit::Time,
            Self::Connections => LimitUnit::Count,
            Self::Memory | Self::Result | Self::Output | Self::Log | Self::Received | Self::Sent | Self::Other(_) => {
                LimitUnit::Size
            }
        }
    }

    /// The limit that a worker has by default, in its unit.
    pub const fn default(self) -> u64 {
        match self {
            Self::Timeout | Self::CpuTime | Self::HostTime | Self::Other(_) => self.range().1,
            Self::Memory => 512 << 20,
            Self::Result => RESULT_MAX,
            Self::Output | Self::Log => 1 << 20,
            Self::Connections => 64,
            Self::Received | Self::Sent => 256 << 20,
        }
    }

    /// The least and the greatest possible limit, in its unit.
    pub const fn range(self) -> (u64, u64) {
        match self {
            #[allow(clippy::cast_possible_truncation, reason = "ten years in microseconds fit")]
            Self::Timeout | Self::CpuTime | Self::HostTime => (1_000, DURATION_MAX.as_micros() as u64),
            Self::Memory => (64 << 10, 4 << 30),
            Self::Result => (1, RESULT_MAX),
            Self::Output | Self::Log => (0, 64 << 20),
            Self::Connections => (0, 900),
            Self::Received | Self::Sent => (0, 1 << 40),
            Self::Other(_) => (0, u64::MAX),
        }
    }

    /// The option that sets the worker's limit.
    pub fn option(self) -> String {
        format!("--{}", self.as_str().replace('_', "-"))
    }

    /// Reads a limit: a number of seconds, bytes or pieces, or text with a unit.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(self, text: &str) -> Result<u64, String> {
        let (min, max) = self.range();
        let value = match self.unit() {
            LimitUnit::Time => duration(text.trim()).map(micros),
            LimitUnit::Size => size(text.trim()),
            LimitUnit::Count => text.trim().parse().ok(),
        };
        value.filter(|value| (min..=max).contains(value)).ok_or_else(|| {
            let (min, max) = (self.show(min), self.show(max));
            match self.unit() {
                LimitUnit::Time => format!("seconds, or text like 500ms, 30s, 5m or 1h, from {min} up to ten years"),
                LimitUnit::Size => format!("bytes, or text like 64KiB, 10MiB or 1.5GiB, from {min} to {max}"),
                LimitUnit::Count => format!("a whole number from {min} to {max}"),
            }
        })
    }

    /// Formats a limit with its unit.
    pub fn show(self, value: u64) -> String {
        match self.unit() {
            LimitUnit::Time => exactly(Duration::from_micros(value)),
            LimitUnit::Size => system::bytes(value),
            LimitUnit::Count => value.to_string(),
        }
    }
}

/// Parses seconds, or text such as `500ms` and `5m`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0), ("", 1.0)];
    let (number, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let seconds = number.trim_end().parse::<f64>().ok()? * factor;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration <= DURATION_MAX)
}

/// Parses bytes, or text such as `64MiB` and `1.5 GiB`.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|char: char| char.is_ascii_alphabetic()).unwrap_or(text.len()));
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    let number = number.trim_end();
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    if factor == 1 {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "a fraction of a unit is not exact anyway")]
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    (0.0..1e18).contains(&bytes).then_some(bytes as u64)
}

/// The limits of a task: those that it declares, or those of its attempts as far as they are not the worker's own.
///
/// Sent as an array of pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskLimits(BTreeMap<LimitKind, u64>);

impl TaskLimits {
    /// The limit of this kind, in its unit.
    pub fn get(&self, kind: LimitKind) -> Option<u64> {
        self.0.get(&kind).copied()
    }

    /// Sets a limit.
    pub fn set(&mut self, kind: LimitKind, value: u64) {
        self.0.insert(kind, value);
    }

    /// Those that are set, in the order of [`LimitKind::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (LimitKind, u64)> {
        self.0.iter().map(|(kind, value)| (*kind, *value))
    }

    /// As in a policy: seconds, bytes or a count, by name.
    pub fn named(&self) -> serde_json::Map<String, serde_json::Value> {
        let value = |kind: LimitKind, value: u64| match kind.unit() {
            LimitUnit::Time => seconds(Duration::from_micros(value)).into(),
            LimitUnit::Size | LimitUnit::Count => value.into(),
        };
        self.iter().map(|(kind, limit)| (kind.as_str().to_owned(), value(kind, limit))).collect()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for TaskLimits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

/// Drops limits that this version does not know, so that a peer cannot send more than there are kinds.
impl<'de> Deserialize<'de> for TaskLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Known;

        impl<'de> Visitor<'de> for Known {
            type Value = TaskLimits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("pairs of limits and their values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<TaskLimits, A::Error> {
                let mut limits = TaskLimits::default();
                while let Some((kind, value)) = pairs.next_element::<(LimitKind, u64)>()? {
                    if kind.index().is_some() {
                        limits.set(kind, value);
                    }
                }
                Ok(limits)
            }
        }

        deserializer.deserialize_seq(Known)
    }
}

impl fmt::Display for TaskLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, value)) in self.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{kind} {}", kind.show(value))?;
        }
        Ok(())
    }
}

/// All limits of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimits([u64; LimitKind::ALL.len()]);

impl Default for AttemptLimits {
    fn default() -> Self {
        Self(LimitKind::ALL.map(LimitKind::default))
    }
}

impl AttemptLimits {
    /// The greatest possible limits.
    pub fn greatest() -> Self {
        Self(LimitKind::ALL.map(|kind| kind.range().1))
    }

    /// The limit of this kind, in its unit.
    pub fn get(&self, kind: LimitKind) -> u64 {
        kind.index().map_or(u64::MAX, |index| self.0[index])
    }

    /// These limits, but for one.
    #[must_use]
    pub fn with(mut self, kind: LimitKind, value: u64) -> Self {
        if let Some(index) = kind.index() {
            self.0[index] = value;
        }
        self
    }

    /// These limits, but for those that a task has of its own.
    #[must_use]
    pub fn of(self, task: &TaskLimits) -> Self {
        task.iter().fold(self, |limits, (kind, value)| limits.with(kind, value))
    }

    /// A limit in bytes or pieces, as a size in memory.
    pub fn size(&self, kind: LimitKind) -> usize {
        usize::try_from(self.get(kind)).unwrap_or(usize::MAX)
    }

    /// A limit in time; none if there is no limit.
    pub fn time(&self, kind: LimitKind) -> Option<Duration> {
        Some(self.get(kind)).filter(|time| *time < kind.range().1).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_and_counts_are_read_with_their_units() {
        let sizes = [("1000", 1_000), ("64 KiB", 65_536), ("1.5kib", 1_536), ("20B", 20), ("1 GiB", 1 << 30)];
        for (text, expected) in sizes {
            assert_eq!(LimitKind::Received.parse(text), Ok(expected), "{text}");
        }
        assert_eq!(LimitKind::CpuTime.parse("250ms"), Ok(250_000));
        assert_eq!(LimitKind::HostTime.parse("2"), Ok(2_000_000));
        assert_eq!(LimitKind::Connections.parse("8"), Ok(8));
        let wrong = [
            (LimitKind::Memory, "64 MB"),
            (LimitKind::Memory, "64M"),
            (LimitKind::Memory, "5GiB"),
            (LimitKind::Memory, "-1"),
            (LimitKind::Memory, "100000.5"),
            (LimitKind::Memory, "1e30"),
            (LimitKind::Memory, "lots"),
            (LimitKind::Memory, "NaN"),
            (LimitKind::CpuTime, "0"),
            (LimitKind::CpuTime, "11000000000"),
            (LimitKind::Connections, "1.5"),
        ];
        for (kind, text) in wrong {
            assert!(kind.parse(text).is_err(), "{text}");
        }
        let why = LimitKind::Memory.parse("1").expect_err("too little");
        assert_eq!(why, "bytes, or text like 64KiB, 10MiB or 1.5GiB, from 64 KiB to 4 GiB");
    }

    #[test]
    fn the_limits_of_a_task_replace_those_of_the_worker() {
        let mut task = TaskLimits::default();
        task.set(LimitKind::Memory, 1 << 20);
        task.set(LimitKind::CpuTime, 1_500_000);
        assert_eq!(task.to_string(), "max_cpu_time 1.5 s, max_memory 1 MiB");
        let limits = AttemptLimits::default().of(&task);
        assert_eq!(limits.size(LimitKind::Memory), 1 << 20);
        assert_eq!(limits.time(LimitKind::CpuTime), Some(Duration::from_millis(1500)));
        assert_eq!(limits.time(LimitKind::HostTime), None);
        assert_eq!(limits.get(LimitKind::Sent), 256 << 20);
        let json = serde_json::to_string(&task).expect("JSON").replacen('[', r#"[["max_later",1],"#, 1);
        assert_eq!(serde_json::from_str::<TaskLimits>(&json).expect("limits"), task);
        let bytes = postcard::to_stdvec(&task).expect("postcard");
        assert_eq!(postcard::from_bytes::<TaskLimits>(&bytes), Ok(task));
    }

    #[test]
    fn every_default_is_in_its_range() {
        for kind in LimitKind::ALL {
            let (min, max) = kind.range();
            assert!((min..=max).contains(&kind.default()), "{kind}");
        }
    }
}
