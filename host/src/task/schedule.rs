//! Schedules: intervals and cron patterns.
//!
//! [`ScheduleSpec`] is what users write and messages carry; [`Recurrence`] is the same, validated, and computes due
//! times. Modules, commands and the control plane share this validation. Pure: the time zone rules are compiled in, so
//! that every machine computes the same times.
//!
//! When clocks change, croner follows the rules of Vixie cron. A pattern with one time of day (`30 2 * * *`) is due
//! once on each of its days: at the first instant after the gap if that time does not exist, or the first time if it is
//! repeated. A pattern with several times (`*/30 * * * *`) skips times that do not exist, and is due both times if a
//! time is repeated.

use std::{cmp::Ordering, fmt, sync::LazyLock, time::Duration};

use croner::{
    CivilDate, CivilDateTime, CivilTime, Cron, CronDateTime, Resolution, Weekday,
    errors::CronError,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};
use serde::{Deserialize, Serialize};

use super::{named, policy::seconds};
use crate::{
    clock::{DURATION_MAX, TimeText, Timestamp, exactly},
    nearest::nearest_by,
};

/// Minimum interval.
pub const EVERY_MIN: Duration = Duration::from_millis(100);
/// Maximum bytes of a cron pattern, and of the name of a time zone.
pub const CRON_MAX: usize = 256;
/// The default time zone of a cron pattern.
pub const TZ_DEFAULT: &str = "UTC";

/// When a task is submitted automatically.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct ScheduleSpec {
    /// When it is due.
    pub when: When,
    /// Maximum tasks.
    pub count: Option<u64>,
    /// End of the schedule.
    pub until: Option<Timestamp>,
    /// Handling of a due time while the last task is unfinished.
    pub overlap: Overlap,
}

/// A schedule as users write it: the end may lack an offset.
#[derive(Deserialize)]
#[serde(rename = "ScheduleSpec")]
struct Written {
    when: When,
    #[serde(default)]
    count: Option<u64>,
    #[serde(default)]
    until: Option<TimeText>,
    #[serde(default)]
    overlap: Overlap,
}

impl TryFrom<Written> for ScheduleSpec {
    type Error = BadSchedule;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { when, count, until, overlap } = written;
        let until = until.map(|until| when.read(until)).transpose()?;
        Ok(Self { when, count, until, overlap })
    }
}

/// When a schedule is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// At an interval; the first time after one interval.
    Every(#[serde(with = "seconds::always")] Duration),
    /// At the times of a cron pattern.
    Cron {
        /// Minute, hour, day of month, month and day of week; with six fields, the first is the second.
        pattern: String,
        /// The time zone, such as `Europe/Paris`.
        #[serde(default = "tz_default")]
        tz: String,
    },
}

impl When {
    /// Resolves a time written with the schedule: without an offset it is local time in the zone of the pattern, or UTC
    /// for an interval.
    ///
    /// # Errors
    /// [`BadSchedule::Zone`] if there is no such time zone.
    pub fn read(&self, time: TimeText) -> Result<Timestamp, BadSchedule> {
        let zone = match (self, time) {
            // The zone is checked with the pattern.
            (Self::Every(_), _) | (_, TimeText::At(_)) => TimeZone::UTC,
            (Self::Cron { tz, .. }, TimeText::Shown(_)) => zone(tz)?,
        };
        Ok(time.within(zone))
    }
}

fn tz_default() -> String {
    TZ_DEFAULT.to_owned()
}

/// Handling of a due time while the last task of the schedule is unfinished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Overlap {
    /// The due time is skipped.
    #[default]
    Skip,
    /// The next task is submitted once the last one has ended. At most one waits; further due times are skipped.
    Queue,
}

impl Overlap {
    /// Both.
    pub const ALL: [Overlap; 2] = [Self::Skip, Self::Queue];

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
        }
    }
}

named!(Overlap, "overlap");

impl ScheduleSpec {
    /// Creates a schedule without an end that skips overlapping tasks.
    pub fn new(when: When) -> Self {
        Self { when, count: None, until: None, overlap: Overlap::default() }
    }

    /// Formats a time in the zone of the schedule: `2026-11-25 09:00:00 CET`.
    pub fn local_time(&self, at: Timestamp) -> String {
        let zone = match &self.when {
            When::Every(_) => TimeZone::UTC,
            When::Cron { tz, .. } => zone(tz).unwrap_or(TimeZone::UTC),
        };
        at.civil().to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }
}

impl fmt::Display for ScheduleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.when.fmt(f)?;
        if let Some(count) = self.count {
            write!(f, ", {count} times at most")?;
        }
        if let Some(until) = self.until {
            write!(f, ", until {}", self.local_time(until))?;
        }
        match self.overlap {
            Overlap::Skip => Ok(()),
            Overlap::Queue => f.write_str(", queue"),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(span) => write!(f, "every {}", exactly(*span)),
            Self::Cron { pattern, tz } if tz == TZ_DEFAULT => f.write_str(pattern),
            Self::Cron { pattern, tz } => write!(f, "{pattern} {tz}"),
        }
    }
}

/// An invalid schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// An interval out of bounds.
    #[error("an interval must be {} s to ten years, not {} s", EVERY_MIN.as_secs_f64(), .0.as_secs_f64())]
    Interval(Duration),
    /// An invalid cron pattern.
    #[error("'{pattern}' is not a cron pattern: {why}")]
    Pattern {
        /// The given text.
        pattern: String,
        /// The reason.
        why: String,
    },
    /// A pattern that never matches a date.
    #[error("the cron pattern '{0}' is never due")]
    Never(String),
    /// An unknown time zone.
    #[error("there is no time zone '{given}'{}", did_you_mean(nearest.as_deref()))]
    Zone {
        /// The given text.
        given: String,
        /// The most similar name.
        nearest: Option<String>,
    },
    /// A count of 0.
    #[error("a count must be 1 or more")]
    Count,
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(": did you mean {name}?")).unwrap_or_default()
}

/// A validated schedule, which computes due times.
#[derive(Clone, Debug)]
pub enum Recurrence {
    /// An interval.
    Every(Duration),
    /// A cron pattern and its time zone.
    Cron(Box<CronSchedule>),
}

impl Recurrence {
    /// Validates a schedule.
    ///
    /// # Errors
    /// [`BadSchedule`] if it is invalid.
    pub fn of(spec: &ScheduleSpec) -> Result<Self, BadSchedule> {
        if spec.count == Some(0) {
            return Err(BadSchedule::Count);
        }
        match &spec.when {
            When::Every(span) if (EVERY_MIN..=DURATION_MAX).contains(span) => Ok(Self::Every(*span)),
            When::Every(span) => Err(BadSchedule::Interval(*span)),
            When::Cron { pattern, tz } => CronSchedule::of(pattern, tz).map(|it| Self::Cron(Box::new(it))),
        }
    }
}

/// A cron pattern in a time zone.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    cron: Cron,
    zone: TimeZone,
}

impl CronSchedule {
    fn of(pattern: &str, tz: &str) -> Result<Self, BadSchedule> {
        let bad = |why| BadSchedule::Pattern { pattern: pattern.chars().take(CRON_MAX).collect(), why };
        if pattern.len() > CRON_MAX {
            return Err(bad(format!("it has more than {CRON_MAX} bytes")));
        }
        let expanded = pattern::expand_nickname(pattern).map_err(&bad)?;
        pattern::check_steps(&expanded).map_err(&bad)?;
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(&expanded).map_err(|error| bad(pattern::reason(error)))?;
        let zone = zone(tz)?;
        let cron_schedule = Self { cron, zone };
        match cron_schedule.after(Timestamp::default()) {
            Some(_) => Ok(cron_schedule),
            None => Err(BadSchedule::Never(pattern.to_owned())),
        }
    }

    /// Returns the first due time after `at`, to the second, or none if it is never due again.
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        // Due times are whole seconds: the current second is over.
        let at = jiff::Timestamp::from_second(at.micros().div_euclid(1_000_000)).ok()?;
        let next = self.cron.find_next_occurrence(&Local { at, zone: &self.zone }, false).ok()?;
        Some(Timestamp::from_micros(next.at.as_microsecond()))
    }
}

fn zones() -> &'static TimeZoneDatabase {
    static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    &ZONES
}

fn zone(name: &str) -> Result<TimeZone, BadSchedule> {
    if let Some(zone) = Some(name).filter(|name| name.len() <= CRON_MAX).and_then(|name| zones().get(name).ok()) {
        return Ok(zone);
    }
    let given: String = name.chars().take(64).collect();
    let lowercase = given.to_lowercase();
    // The city alone is enough: Paris suggests Europe/Paris.
    let similarity = |known: &String| {
        let known = known.to_lowercase();
        let city = known.rsplit('/').next().unwrap_or(&known);
        strsim::jaro_winkler(&known, &lowercase).max(strsim::jaro_winkler(city, &lowercase))
    };
    let names = zones().available().map(|name| name.as_str().to_owned());
    let nearest = nearest_by(names, similarity).into_iter().next();
    Err(BadSchedule::Zone { given, nearest })
}

/// A time in a zone, as croner needs it.
#[derive(Clone, Debug)]
struct Local<'a> {
    at: jiff::Timestamp,
    zone: &'a TimeZone,
}

impl Local<'_> {
    fn civil(&self) -> DateTime {
        self.zone.to_datetime(self.at)
    }

    fn at(&self, at: Result<jiff::Timestamp, jiff::Error>) -> Result<Self, CronError> {
        at.map(|at| Self { at, zone: self.zone }).map_err(|_| CronError::InvalidTime)
    }
}

impl CronDateTime for Local<'_> {
    fn to_civil(&self) -> CivilDateTime {
        let civil = self.civil();
        let part = i8::unsigned_abs;
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(civil.year().into(), part(civil.month()).into(), part(civil.day()).into()),
            CivilTime::from_parts_unchecked(
                part(civil.hour()).into(),
                part(civil.minute()).into(),
                part(civil.second()).into(),
            ),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(self.civil().weekday().to_sunday_zero_offset().unsigned_abs().into())
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |part: u32| i8::try_from(part).map_err(|_| CronError::InvalidDate);
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let (month, day) = (part(civil.month())?, part(civil.day())?);
        let (hour, minute, second) = (part(civil.hour())?, part(civil.minute())?, part(civil.second())?);
        let datetime = DateTime::new(year, month, day, hour, minute, second, 0).map_err(|_| CronError::InvalidDate)?;
        let ambiguous = self.zone.to_ambiguous_timestamp(datetime);
        Ok(match ambiguous.offset() {
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
            AmbiguousOffset::Fold { .. } => {
                Resolution::Ambiguous(self.at(ambiguous.earlier())?, self.at(ambiguous.later())?)
            }
            AmbiguousOffset::Unambiguous { .. } => Resolution::Single(self.at(ambiguous.unambiguous())?),
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let at = jiff::Timestamp::from_second(self.at.as_second().checked_add(seconds)?).ok()?;
        Some(Self { at, zone: self.zone })
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

mod pattern;

#[cfg(test)]
mod tests;
