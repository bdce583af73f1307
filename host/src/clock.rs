//! Time: a [`Moment`] measures durations, a [`Timestamp`] is displayed.
//!
//! The state owns no clock: it takes a [`Now`], so that a simulation can control time. Durations are always measured
//! between [`Moment`]s, which never jump; timestamps are for display only.

use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A point on the monotonic clock: microseconds since this process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// A time that is never reached.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The time `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// The duration from `earlier` to this time, zero if `earlier` is later.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(micros(duration)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(micros(duration)))
    }
}

/// A time on the wall clock: microseconds since the Unix epoch. RFC 3339 text in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The wall clock's time.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The timestamp `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The duration from `earlier` to this timestamp, zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub(crate) fn civil(self) -> jiff::Timestamp {
        let nearest = if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(nearest)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => Self(i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros)),
        }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(micros(duration)).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;

    fn sub(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(i64::try_from(micros(duration)).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.civil())
    }
}

/// A string that is not a point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a point in time: write it like 2026-11-24T17:30:00Z")]
pub struct NotATimestamp(String);

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    /// Parses RFC 3339, and the form that the Python original sends: a space instead of the `T`, and local time if
    /// there is no offset.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<TimeText>().map(|written| written.within(jiff::tz::TimeZone::system()))
    }
}

/// A point in time as written: RFC 3339, also with a space instead of the `T`, or without an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeText {
    /// With an offset: a point in time.
    At(Timestamp),
    /// Without an offset: a local date and time.
    Shown(jiff::civil::DateTime),
}

impl TimeText {
    /// Returns the point in time for a clock in `zone`. A time in a gap of that zone is moved past the gap; of a time
    /// that occurs twice, the first is used.
    pub fn within(self, zone: jiff::tz::TimeZone) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Shown(shown) => {
                let at = shown.to_zoned_datetime(zone).map_or(jiff::Timestamp::MAX, |zoned| zoned.timestamp());
                Timestamp(at.as_microsecond())
            }
        }
    }

    /// The duration from `earlier`, zero if `earlier` is later. `None` unless both are local times.
    pub fn since_shown(self, earlier: Self) -> Option<Duration> {
        match (self, earlier) {
            (Self::Shown(shown), Self::Shown(earlier)) => {
                Some(shown.duration_since(earlier).try_into().unwrap_or_default())
            }
            _ => None,
        }
    }
}

impl FromStr for TimeText {
    type Err = NotATimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::At(Timestamp(at.as_microsecond())));
        }
        text.parse().map(Self::Shown).map_err(|_| NotATimestamp(text.chars().take(64).collect()))
    }
}

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            Timestamp::deserialize(deserializer).map(Self::At)
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Measures durations; never jumps.
    pub mono: Moment,
    /// For display; may jump.
    pub wall: Timestamp,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        Self { mono: Moment(micros(START.elapsed())), wall: Timestamp::now() }
    }
}

/// Maximum duration of any wait: 10 years. Adding more to an [`Instant`] may overflow.
pub const DURATION_MAX: Duration = Duration::from_hours(10 * 365 * 24);

/// Returns the instant `duration` from now, at most [`DURATION_MAX`].
pub fn after(duration: Duration) -> Instant {
    Instant::now() + duration.min(DURATION_MAX)
}

/// Sleeps for `duration`. An `unpark` of this thread does not shorten it.
pub(crate) fn pause(duration: Duration) {
    let until = Instant::now() + duration;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// Converts a duration to seconds, rounded to the millisecond.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

/// Formats a duration in the largest unit in which it is whole: `0.25 s`, `90 s`, `5 min`, `1 h`, `2 d`.
pub fn exactly(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let secs = duration.as_secs();
    if duration.subsec_nanos() > 0 || secs == 0 {
        return format!("{} s", duration.as_secs_f64());
    }
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| secs.is_multiple_of(*unit)).unwrap_or((1, "s"));
    format!("{} {name}", secs / unit)
}

/// Converts a duration to whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_duration_does_not_overflow() {
        assert!(after(Duration::MAX) <= Instant::now() + DURATION_MAX);
    }

    #[test]
    fn seconds_are_rounded_to_milliseconds() {
        assert_eq!(seconds(Duration::from_nanos(301_428_577)).to_string(), "0.301");
        assert_eq!(seconds(Duration::from_secs(30)).to_string(), "30");
    }

    #[test]
    fn timestamps_read_what_they_print_and_what_python_prints() {
        let printed = Timestamp::from_micros(1_795_498_650_604_487).to_string();
        assert_eq!(printed.parse(), Ok(Timestamp::from_micros(1_795_498_650_604_487)));
        assert!("2026-11-24 05:37:30.604487".parse::<Timestamp>().is_ok());
        assert_eq!("2026-11-24T05:37:30+01:00".parse::<Timestamp>(), "2026-11-24T04:37:30Z".parse::<Timestamp>());
        assert!("tomorrow".parse::<Timestamp>().is_err());
        // A time beyond the calendar is formatted as its nearest end.
        for beyond in [i64::MIN, i64::MAX] {
            let shown: Timestamp = Timestamp::from_micros(beyond).to_string().parse().expect("a point in time");
            assert_eq!(shown.micros().signum(), beyond.signum());
        }
    }
}
