//! Parses the JSON in which a guest describes its tasks and follow-up tasks.
//!
//! Unlike elsewhere, parsing is lenient: the guest may be newer or older than this host, so unknown keys are a warning
//! and never an error.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde_json::Value;

use super::grants::Need;
use crate::{
    clock::{DURATION_MAX, TimeText},
    json::Json,
    task::{
        LimitKind, Policy, ScheduleSpec, TaskLimits, TaskPriority, duration as parse_duration,
        schedule::{Overlap, Recurrence, TZ_DEFAULT, When},
    },
};

/// Maximum bytes of a policy: parsed values take several times as much memory.
const POLICY_BYTES_MAX: usize = 16 << 10;
/// Maximum bytes of a schema, as it is sent with each catalog.
pub(super) const SCHEMA_BYTES_MAX: usize = 256 << 10;

/// A policy or options, as far as they could be read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ParsedPolicy {
    /// The task's defaults.
    pub(super) policy: Policy,
    /// The delay before the first attempt of a follow-up task.
    pub(super) countdown: Option<Duration>,
    /// The schedule of the task.
    pub(super) schedule: Option<ScheduleSpec>,
    /// The grants that the task needs.
    pub(super) needs: Option<Vec<Need>>,
    /// The limits of its attempts.
    pub(super) limits: TaskLimits,
    /// Keys that this version does not know.
    pub(super) unknown: Vec<String>,
    /// Values that could not be read, and what is expected.
    pub(super) errors: Vec<String>,
}

/// The set of allowed keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// The keys of a descriptor's `policy`.
    Policy,
    /// The keys of a follow-up's `options`: no schedule, but `countdown`.
    Options,
}

/// Parses a descriptor's `policy` or a follow-up's `options`. An empty string sets nothing.
pub(super) fn parse_policy(text: &str, keys: Keys) -> ParsedPolicy {
    let mut parsed = ParsedPolicy::default();
    if text.trim().is_empty() {
        return parsed;
    }
    if text.len() > POLICY_BYTES_MAX {
        parsed.errors.push(format!("{keys} too large: {} bytes, limit {POLICY_BYTES_MAX}", text.len()));
        return parsed;
    }
    // Key by key, so that a value that cannot be represented, such as 1e999, does not affect the others.
    match serde_json::from_str::<BTreeMap<String, Json>>(text) {
        Ok(object) => {
            let mut schedule = ScheduleKeys::default();
            for (key, json) in &object {
                let value = json.read().unwrap_or_else(|_| Value::String(json.to_string()));
                parsed.set(key, &value, keys, &mut schedule);
            }
            parsed.schedule = schedule.into_spec().unwrap_or_else(|why| {
                parsed.errors.push(why);
                None
            });
        }
        Err(error) => parsed.errors.push(format!("not a JSON object: {error}")),
    }
    parsed
}

/// The keys of a schedule.
#[derive(Default)]
struct ScheduleKeys {
    every: Option<Duration>,
    cron: Option<String>,
    tz: Option<String>,
    count: Option<u64>,
    until: Option<TimeText>,
    overlap: Option<Overlap>,
    /// A key could not be read; the rest would be a different schedule.
    is_broken: bool,
}

impl ScheduleKeys {
    fn into_spec(self) -> Result<Option<ScheduleSpec>, String> {
        let Self { every, cron, tz, count, until, overlap, is_broken } = self;
        let has_more = tz.is_some() || count.is_some() || until.is_some() || overlap.is_some();
        if is_broken {
            return Ok(None);
        }
        let when = match (every, cron) {
            (Some(_), Some(_)) => return Err("every and cron exclude each other: the task is not scheduled".into()),
            (Some(_), None) if tz.is_some() => {
                return Err("tz is for cron and not for every: the task is not scheduled".into());
            }
            (Some(interval), None) => When::Every(interval),
            (None, Some(pattern)) => When::Cron { pattern, tz: tz.unwrap_or_else(|| TZ_DEFAULT.to_owned()) },
            (None, None) if has_more => {
                return Err("tz, count, until and overlap need every or cron as well".into());
            }
            (None, None) => return Ok(None),
        };
        let not_scheduled = |why| format!("the task is not scheduled: {why}");
        let until = until.map(|until| when.read(until)).transpose().map_err(not_scheduled)?;
        let spec = ScheduleSpec { when, count, until, overlap: overlap.unwrap_or_default() };
        Recurrence::of(&spec).map_err(not_scheduled)?;
        Ok(Some(spec))
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "the policy is",
            Self::Options => "the options are",
        })
    }
}

impl ParsedPolicy {
    fn set(&mut self, key: &str, value: &Value, keys: Keys, schedule: &mut ScheduleKeys) {
        if value.is_null() {
            return;
        }
        if keys == Keys::Policy && SCHEDULE_KEYS.contains(&key) {
            let read = match key {
                "every" => set(&mut schedule.every, duration(value), DURATION),
                "cron" => set(&mut schedule.cron, value.as_str().map(str::to_owned), "a cron pattern"),
                "tz" => set(&mut schedule.tz, value.as_str().map(str::to_owned), "a time zone such as Europe/Paris"),
                "count" => set(&mut schedule.count, value.as_u64(), "a whole number"),
                "until" => set(
                    &mut schedule.until,
                    value.as_str().and_then(|text| text.parse().ok()),
                    "a point in time like 2026-11-24T17:30:00Z",
                ),
                _ => set(&mut schedule.overlap, value.as_str().and_then(|text| text.parse().ok()), "skip or queue"),
            };
            if let Err(expected) = read {
                schedule.is_broken = true;
                self.errors.push(format!("{key} is {value} and should be {expected}: the task is not scheduled"));
            }
            return;
        }
        if keys == Keys::Policy
            && let Some(kind) = LimitKind::ALL.into_iter().find(|kind| kind.as_str() == key)
        {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            match kind.parse(&text) {
                Ok(limit) => self.limits.set(kind, limit),
                Err(expected) => self.errors.push(format!("{key} is {value} and should be {expected}")),
            }
            return;
        }
        let policy = &mut self.policy;
        let read = match key {
            "priority" => set(&mut policy.priority, priority(value), "critical, high, normal or low"),
            "timeout" => set(&mut policy.timeout, duration(value).filter(|duration| !duration.is_zero()), DURATION),
            "max_retries" => set(&mut policy.max_retries, count(value), "a whole number"),
            "retry_delay" => set(&mut policy.retry_delay, duration(value), DURATION),
            "retry_backoff" => set(&mut policy.retry_backoff, factor(value), "a number of 1 or more"),
            "retry_backoff_max" => set(&mut policy.retry_backoff_max, duration(value), DURATION),
            "needs" if keys == Keys::Policy => set(&mut self.needs, needs(value), NEEDS),
            "countdown" if keys == Keys::Options => set(&mut self.countdown, duration(value), DURATION),
            unknown => return self.unknown.push(unknown.to_owned()),
        };
        if let Err(expected) = read {
            self.errors.push(format!("{key} is {value} and should be {expected}"));
        }
    }
}

/// The keys of a schedule.
pub(super) const SCHEDULE_KEYS: [&str; 6] = ["every", "cron", "tz", "count", "until", "overlap"];
/// The other keys of a policy.
pub(super) const POLICY_KEYS: [&str; 17] = [
    "priority",
    "timeout",
    "max_retries",
    "retry_delay",
    "retry_backoff",
    "retry_backoff_max",
    "needs",
    "max_timeout",
    "max_cpu_time",
    "max_host_time",
    "max_memory",
    "max_result",
    "max_output",
    "max_log",
    "max_connections",
    "max_received",
    "max_sent",
];
/// Maximum grants that a task needs.
const NEEDS_MAX: usize = 100;
const NEEDS: &str = "up to 100 names of grants, such as [\"http:api.example.com\", \"secret:KEY\"]";
const DURATION: &str = "seconds, or text like 30s, 5m or 1h, up to ten years";

fn set<T>(slot: &mut Option<T>, value: Option<T>, expected: &'static str) -> Result<(), &'static str> {
    *slot = Some(value.ok_or(expected)?);
    Ok(())
}

fn priority(value: &Value) -> Option<TaskPriority> {
    value.as_str()?.parse().ok()
}

fn count(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn needs(value: &Value) -> Option<Vec<Need>> {
    let names = value.as_array().filter(|names| names.len() <= NEEDS_MAX)?;
    names.iter().map(|name| name.as_str()?.parse().ok()).collect()
}

fn factor(value: &Value) -> Option<f64> {
    value.as_f64().filter(|factor| *factor >= 1.0)
}

/// Seconds as a number, or text with a unit; at most [`DURATION_MAX`].
fn duration(value: &Value) -> Option<Duration> {
    match value {
        Value::String(text) => parse_duration(text.trim()),
        other => Duration::try_from_secs_f64(other.as_f64()?).ok().filter(|duration| *duration <= DURATION_MAX),
    }
}

/// Parses the schema of a descriptor, a JSON object. An empty string is an empty schema.
///
/// # Errors
/// A description of the problem.
pub(super) fn parse_schema(text: &str) -> Result<Json, String> {
    if text.trim().is_empty() {
        return Ok(Json::empty_object());
    }
    if text.len() > SCHEMA_BYTES_MAX {
        return Err(format!("schema is too large: {} bytes, limit {SCHEMA_BYTES_MAX}", text.len()));
    }
    parse_object(text).map_err(|why| format!("schema {why}"))
}

/// The names of a schema's required parameters.
pub(super) fn required_parameters(schema: &Json) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Schema {
        #[serde(default)]
        parameters: Vec<Parameter>,
    }
    #[derive(serde::Deserialize)]
    struct Parameter {
        name: String,
        #[serde(default)]
        required: bool,
    }
    let parameters = schema.read::<Schema>().map(|schema| schema.parameters).unwrap_or_default();
    parameters.into_iter().filter(|parameter| parameter.required).map(|parameter| parameter.name).collect()
}

/// Parses a string that must be one JSON array.
///
/// # Errors
/// A description of the problem.
pub(super) fn parse_array(text: &str) -> Result<Json, String> {
    parse_document(text, '[', "a JSON array")
}

/// Parses a string that must be one JSON object.
///
/// # Errors
/// A description of the problem.
pub(super) fn parse_object(text: &str) -> Result<Json, String> {
    parse_document(text, '{', "a JSON object")
}

fn parse_document(text: &str, first: char, expected: &str) -> Result<Json, String> {
    let json = Json::parse(text).map_err(|why| format!("should be {expected}: {why}"))?;
    if json.as_str().starts_with(first) { Ok(json) } else { Err(format!("should be {expected}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_be_represented_does_not_affect_the_others() {
        let read =
            parse_policy(&format!(r#"{{"timeout":"30s","max_retries":{},"x":1e999}}"#, "9".repeat(400)), Keys::Policy);
        assert_eq!(read.policy.timeout, Some(Duration::from_secs(30)));
        assert_eq!((read.errors.len(), read.unknown), (1, vec!["x".to_owned()]));
    }

    #[test]
    fn limits_are_read_with_their_units() {
        for kind in LimitKind::ALL {
            assert!(POLICY_KEYS.contains(&kind.as_str()), "{kind}");
        }
        let text =
            r#"{"max_memory": "1MiB", "max_cpu_time": 0.5, "max_connections": 2, "max_log": "much", "max_sent": 1.5}"#;
        let read = parse_policy(text, Keys::Policy);
        assert_eq!(read.limits.to_string(), "max_cpu_time 0.5 s, max_memory 1 MiB, max_connections 2");
        assert_eq!(read.errors.len(), 2);
        assert!(read.errors[0].starts_with(r#"max_log is "much" and should be bytes, or text"#), "{:?}", read.errors);
        assert_eq!(parse_policy(text, Keys::Options).unknown.len(), 5);
    }

    #[test]
    fn durations_are_seconds_or_text_with_a_unit() {
        let text =
            r#"{"timeout": "5m", "retry_delay": 1.5, "retry_backoff_max": "1h", "priority": "HIGH", "max_retries": 3}"#;
        let read = parse_policy(text, Keys::Policy);
        assert_eq!(read.policy.timeout, Some(Duration::from_mins(5)));
        assert_eq!(read.policy.retry_delay, Some(Duration::from_millis(1500)));
        assert_eq!(read.policy.retry_backoff_max, Some(Duration::from_hours(1)));
        assert_eq!((read.policy.priority, read.policy.max_retries), (Some(TaskPriority::High), Some(3)));
        assert_eq!((read.unknown, read.errors), (vec![], vec![]));
        let written = [("250ms", 250), ("2", 2000), ("1.5 s", 1500), ("0s", 0)];
        for (text, millis) in written {
            assert_eq!(duration(&text.into()), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn values_that_cannot_be_parsed_are_reported_others_are_used() {
        let read = parse_policy(r#"{"timeout": "soon", "colour": 1, "countdown": 2, "max_retries": 1}"#, Keys::Policy);
        assert_eq!(read.unknown, ["colour", "countdown"]);
        assert_eq!(
            read.errors,
            [r#"timeout is "soon" and should be seconds, or text like 30s, 5m or 1h, up to ten years"#]
        );
        assert_eq!(read.policy, Policy { max_retries: Some(1), ..Policy::default() });
        for wrong in ["-1", "\"-1s\"", "\"s\"", "1e300", "\"NaN\"", "true"] {
            let read = parse_policy(&format!(r#"{{"retry_delay": {wrong}}}"#), Keys::Policy);
            assert_eq!(read.errors.len(), 1, "{wrong}");
        }
        assert_eq!(parse_policy("[]", Keys::Policy).errors.len(), 1);
        assert_eq!(parse_policy(&" {}".repeat(POLICY_BYTES_MAX), Keys::Policy).errors.len(), 1);
        assert_eq!(parse_policy(r#"{"countdown": 2}"#, Keys::Options).countdown, Some(Duration::from_secs(2)));
        let beyond = parse_policy(r#"{"countdown": "3651d", "timeout": 1e12}"#, Keys::Options);
        assert_eq!((beyond.countdown, beyond.policy.timeout, beyond.errors.len()), (None, None, 2));
    }

    #[test]
    fn a_schedule_is_read_whole_or_not_at_all() {
        let spec = |text: &str| (parse_policy(text, Keys::Policy).schedule, parse_policy(text, Keys::Policy).errors);
        assert_eq!(spec(r#"{"every": "10s"}"#).0, Some(ScheduleSpec::new(When::Every(Duration::from_secs(10)))));
        let text = r#"{"cron": "0 9 * * 1-5", "tz": "Europe/Paris", "count": 3, "until": "2027-01-01T00:00:00Z", "overlap": "queue"}"#;
        let when = When::Cron { pattern: "0 9 * * 1-5".into(), tz: "Europe/Paris".into() };
        let until = Some("2027-01-01T00:00:00Z".parse().expect("a point in time"));
        assert_eq!(spec(text), (Some(ScheduleSpec { when, count: Some(3), until, overlap: Overlap::Queue }), vec![]));
        for (wrong, words) in [
            (r#"{"every": 1, "cron": "* * * * *"}"#, "exclude each other"),
            (r#"{"every": 1, "tz": "UTC"}"#, "tz is for cron"),
            (r#"{"every": "0.01s"}"#, "an interval must be 0.1 s to ten years"),
            (r#"{"every": "soon"}"#, "every is \"soon\" and should be seconds"),
            (r#"{"every": 1e300}"#, "should be seconds"),
            (r#"{"every": 1, "count": -1}"#, "count is -1"),
            (r#"{"count": 1}"#, "need every or cron"),
            (r#"{"cron": "0 25 * * *"}"#, "'0 25 * * *' is not a cron pattern: "),
            (r#"{"cron": "0 9 * * *", "tz": "Paris"}"#, "no time zone 'Paris': did you mean Europe/Paris?"),
        ] {
            let (read, why) = spec(wrong);
            assert_eq!((read, why.len()), (None, 1), "{wrong} {why:?}");
            assert!(why[0].contains(words) && !why[0].contains('\n'), "{wrong}: {why:?}");
        }
        assert_eq!(parse_policy(r#"{"every": 1}"#, Keys::Options).unknown, ["every"], "a follow-up has no schedule");
    }

    #[test]
    fn documents_must_have_the_expected_shape() {
        assert!(parse_array(" [1] ").is_ok() && parse_object("{}").is_ok());
        assert!(parse_array("{}").is_err() && parse_object("[]").is_err() && parse_array("[1").is_err());
    }
}
