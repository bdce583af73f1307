//! Periodic tasks: when one is due, as it is said and as it is reckoned.
//!
//! [`ScheduleSpec`] is what travels and what people write; [`Recurrence`] is the same, checked and ready to
//! reckon with. Apart from the book of schedules because modules, commands and the control plane
//! all check alike. Pure: the rules of time zones are those that this program was built with, so
//! that every machine reckons alike.
//!
//! When clocks change, croner's rules hold, which are those of Vixie cron. A pattern with one time
//! of day (`30 2 * * *`) is due once on each of its days: where that time does not exist, at the first
//! moment after the gap; where it comes twice, the first time. A pattern with several (`*/30 * * * *`)
//! leaves out what does not exist, and is due both times where a time comes twice.

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

/// The shortest interval.
pub const EVERY_MIN: Duration = Duration::from_millis(100);
/// Bytes of a cron pattern, and of the name of a time zone.
pub const CRON_MAX: usize = 256;
/// The time zone of a cron pattern where nobody says.
pub const TZ_DEFAULT: &str = "UTC";

/// When tasks are submitted by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct ScheduleSpec {
    /// When it is due.
    pub when: When,
    /// How many tasks at most.
    pub count: Option<u64>,
    /// No task after this moment.
    pub until: Option<Timestamp>,
    /// What to do while the last task has not ended.
    pub overlap: Overlap,
}

/// The same as it is written: its end may lack an offset.
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
    /// Each time so much has passed, the first time after as much.
    Every(#[serde(with = "seconds::always")] Duration),
    /// When a clock shows what the pattern says.
    Cron {
        /// Minute, hour, day of month, month, day of week; in front of them seconds, if there are six.
        pattern: String,
        /// The clock's time zone, such as `Europe/Paris`.
        #[serde(default = "tz_default")]
        tz: String,
    },
}

impl When {
    /// A point in time that is written beside it: without an offset it is what the pattern's clock shows. An
    /// interval has the clock of UTC, in which its times are shown as well.
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

/// What to do when a schedule is due while its last task has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Overlap {
    /// Leave it out.
    #[default]
    Skip,
    /// Submit it as soon as the last one has ended. One waits; further ones are left out.
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
    /// Without an end, and leaving out what would overlap.
    pub fn new(when: When) -> Self {
        Self { when, count: None, until: None, overlap: Overlap::default() }
    }

    /// A point in time as its clock shows it: `2026-11-25 09:00:00 CET`.
    pub fn shown(&self, at: Timestamp) -> String {
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
            write!(f, ", until {}", self.shown(until))?;
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

/// A schedule that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// An interval out of bounds.
    #[error("an interval must be {} s to ten years, not {} s", EVERY_MIN.as_secs_f64(), .0.as_secs_f64())]
    Interval(Duration),
    /// No cron pattern.
    #[error("'{pattern}' is not a cron pattern: {why}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A pattern for a day that no year has.
    #[error("the cron pattern '{0}' is never due")]
    Never(String),
    /// No time zone.
    #[error("there is no time zone '{given}'{}", did_you_mean(nearest.as_deref()))]
    Zone {
        /// What was given.
        given: String,
        /// The name that is most like it.
        nearest: Option<String>,
    },
    /// A count of nothing.
    #[error("a count must be 1 or more")]
    Count,
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(": did you mean {name}?")).unwrap_or_default()
}

/// A schedule that is sound: what tells the next time that it is due.
#[derive(Clone, Debug)]
pub enum Recurrence {
    /// An interval.
    Every(Duration),
    /// A pattern and its clock.
    Cron(Box<Clockwork>),
}

impl Recurrence {
    /// Checks what was said.
    ///
    /// # Errors
    /// [`BadSchedule`] if there can be no such schedule.
    pub fn of(spec: &ScheduleSpec) -> Result<Self, BadSchedule> {
        if spec.count == Some(0) {
            return Err(BadSchedule::Count);
        }
        match &spec.when {
            When::Every(span) if (EVERY_MIN..=DURATION_MAX).contains(span) => Ok(Self::Every(*span)),
            When::Every(span) => Err(BadSchedule::Interval(*span)),
            When::Cron { pattern, tz } => Clockwork::of(pattern, tz).map(|it| Self::Cron(Box::new(it))),
        }
    }
}

/// A cron pattern and the clock that it looks at.
#[derive(Clone, Debug)]
pub struct Clockwork {
    cron: Cron,
    zone: TimeZone,
}

impl Clockwork {
    fn of(pattern: &str, tz: &str) -> Result<Self, BadSchedule> {
        let bad = |why| BadSchedule::Pattern { pattern: pattern.chars().take(CRON_MAX).collect(), why };
        if pattern.len() > CRON_MAX {
            return Err(bad(format!("it has more than {CRON_MAX} bytes")));
        }
        let spelled_out = pattern::spelled_out(pattern).map_err(&bad)?;
        pattern::check_steps(&spelled_out).map_err(&bad)?;
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(&spelled_out).map_err(|error| bad(pattern::reason(error)))?;
        let zone = zone(tz)?;
        let clockwork = Self { cron, zone };
        match clockwork.after(Timestamp::default()) {
            Some(_) => Ok(clockwork),
            None => Err(BadSchedule::Never(pattern.to_owned())),
        }
    }

    /// The first time after `at` that it is due, to the second. None if that is never.
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        // A clock shows whole seconds: what is due within this one is over.
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
    let asked = given.to_lowercase();
    // The city alone is enough: Paris suggests Europe/Paris.
    let similarity = |known: &String| {
        let known = known.to_lowercase();
        let city = known.rsplit('/').next().unwrap_or(&known);
        strsim::jaro_winkler(&known, &asked).max(strsim::jaro_winkler(city, &asked))
    };
    let names = zones().available().map(|name| name.as_str().to_owned());
    let nearest = nearest_by(names, similarity).into_iter().next();
    Err(BadSchedule::Zone { given, nearest })
}

/// A moment and the clock that croner reads there.
#[derive(Clone, Debug)]
struct Local<'a> {
    at: jiff::Timestamp,
    zone: &'a TimeZone,
}

impl Local<'_> {
    fn shown(&self) -> DateTime {
        self.zone.to_datetime(self.at)
    }

    fn at(&self, at: Result<jiff::Timestamp, jiff::Error>) -> Result<Self, CronError> {
        at.map(|at| Self { at, zone: self.zone }).map_err(|_| CronError::InvalidTime)
    }
}

impl CronDateTime for Local<'_> {
    fn to_civil(&self) -> CivilDateTime {
        let shown = self.shown();
        let part = i8::unsigned_abs;
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(shown.year().into(), part(shown.month()).into(), part(shown.day()).into()),
            CivilTime::from_parts_unchecked(
                part(shown.hour()).into(),
                part(shown.minute()).into(),
                part(shown.second()).into(),
            ),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(self.shown().weekday().to_sunday_zero_offset().unsigned_abs().into())
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |part: u32| i8::try_from(part).map_err(|_| CronError::InvalidDate);
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let (month, day) = (part(civil.month())?, part(civil.day())?);
        let (hour, minute, second) = (part(civil.hour())?, part(civil.minute())?, part(civil.second())?);
        let shown = DateTime::new(year, month, day, hour, minute, second, 0).map_err(|_| CronError::InvalidDate)?;
        let ambiguous = self.zone.to_ambiguous_timestamp(shown);
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
