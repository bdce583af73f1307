//! Checks the settings of a schedule.
//!
//! Only the syntax is checked here, such as the fields of a cron pattern and their characters. The host
//! checks calendars and time zones; `fastworker list` shows its errors as warnings.

use proc_macro2::Span;
use syn::Ident;

use crate::parse::Setting;
use crate::task::{Parameter, Schedule};
use crate::value::{parse_count, parse_duration, parse_string};

/// The keys of a schedule.
pub(crate) const KEYS: [&str; 6] = ["every", "cron", "tz", "overlap", "count", "until"];
const OVERLAPS: [&str; 2] = ["skip", "queue"];
/// Minimum interval in seconds.
const EVERY_MIN: f64 = 0.1;

/// Checks one setting and adds it to the schedule.
pub(crate) fn set(schedule: &mut Schedule, setting: &Setting) -> syn::Result<()> {
    match setting.key.to_string().as_str() {
        "every" => schedule.every = Some(parse_every(setting)?),
        "cron" => schedule.cron = Some(parse_cron(setting)?),
        "tz" => schedule.tz = Some(parse_zone(setting)?),
        "overlap" => schedule.overlap = Some(parse_overlap(setting)?),
        "count" => schedule.count = Some(parse_task_count(setting)?),
        _ => schedule.until = Some(parse_until(setting)?),
    }
    Ok(())
}

/// Finds settings that exclude each other, or do not fit the parameters.
pub(crate) fn check(settings: &[Setting], parameters: &[Parameter]) -> Vec<syn::Error> {
    let key = |name: &str| settings.iter().map(|setting| &setting.key).find(|key| *key == name);
    let error_at = |key: &Ident, message: String| syn::Error::new(key.span(), message);
    let mut errors = Vec::new();
    match (key("every"), key("cron")) {
        (Some(_), Some(cron)) => errors.push(error_at(cron, "`every` and `cron` are mutually exclusive".to_owned())),
        (None, None) => {
            let more = KEYS.iter().filter_map(|name| key(name));
            let incomplete = |key: &Ident| error_at(key, format!("`{key}` requires `every` or `cron`"));
            return more.map(incomplete).collect();
        }
        (Some(_), None) => errors.extend(key("tz").map(|tz| {
            error_at(tz, "`tz` applies to `cron` only: an interval does not depend on a time zone".to_owned())
        })),
        (None, Some(_)) => {}
    }
    if let (Some(when), Some(required)) =
        (key("every").or(key("cron")), parameters.iter().find(|parameter| !parameter.optional))
    {
        let name = &required.name;
        let message = format!(
            "a schedule in `#[task]` passes no arguments: make `{name}` an `Option`, or use \
             `fastworker schedule add`, which can pass arguments"
        );
        errors.push(error_at(when, message));
    }
    errors
}

fn parse_every(setting: &Setting) -> syn::Result<f64> {
    let seconds = parse_duration(setting)?;
    if seconds >= EVERY_MIN {
        return Ok(seconds);
    }
    Err(syn::Error::new(value_span(setting), "the minimum interval is \"100ms\""))
}

fn parse_cron(setting: &Setting) -> syn::Result<String> {
    let (pattern, at) = parse_string(setting, "\"0 9 * * MON-FRI\"")?;
    let invalid = |message: String| Err(syn::Error::new(at, message));
    if let Some(nickname) = pattern.strip_prefix('@') {
        const NICKNAMES: [&str; 7] = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        if NICKNAMES.contains(&nickname) {
            return Ok(pattern);
        }
        if nickname == "reboot" {
            return invalid("`@reboot` is not supported; submit the task when you start the control plane".to_owned());
        }
        return invalid(format!("unknown pattern \"{pattern}\"; the known ones are @{}", NICKNAMES.join(", @")));
    }
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    if !(5..=6).contains(&fields.len()) {
        return invalid(format!(
            "a cron pattern has five fields (minute, hour, day of month, month, day of week), or six with seconds in \
             front; this one has {}",
            fields.len()
        ));
    }
    const NAMES: [&str; 6] = ["second", "minute", "hour", "day of month", "month", "day of week"];
    const LEAST: [u32; 6] = [0, 0, 0, 1, 1, 0];
    const MOST: [u32; 6] = [59, 59, 23, 31, 12, 7];
    let skipped = 6 - fields.len();
    for (index, field) in (skipped..).zip(&fields) {
        let (name, least, most) = (NAMES[index], LEAST[index], &MOST[index]);
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "*/,-#?+".contains(c);
        if let Some(c) = field.chars().find(|c| !is_allowed(*c)) {
            return invalid(format!("unexpected character '{c}' in a cron pattern"));
        }
        for part in field.split(',') {
            // A slash is followed by a step, a # by the number of a week.
            let range = part.split(['/', '#']).next().unwrap_or_default();
            let is_beyond = |number: &u32| number > most;
            if let Some(number) = range.split('-').filter_map(|end| end.parse().ok()).find(is_beyond) {
                return invalid(format!("the {name} \"{field}\" is out of range: {number} is more than {most}"));
            }
            // A week has seven days, although both 0 and 7 are Sunday.
            let whole = (least, if name == "day of week" { 6 } else { *most });
            if let Some(error) = step_error(part, whole) {
                return invalid(format!("the {name} \"{part}\" has {error}"));
            }
        }
    }
    Ok(pattern)
}

/// Returns the error in the step of a part of a field, whose values are `whole`. A step beyond the range is
/// an error: `*/90` in the minute field would only match 0.
fn step_error(part: &str, whole: (u32, u32)) -> Option<String> {
    let (range, step) = part.split_once('/')?;
    let (least, most) = match range.split_once('-') {
        Some((from, to)) => {
            let (from, to) = (value(from)?, value(to)?);
            // Sunday may also be the end of a range.
            (from, if to < from && to == 0 { 7 } else { to })
        }
        None if matches!(range, "*" | "?") => whole,
        None => return None,
    };
    if step.is_empty() || !step.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    match step.parse::<u32>() {
        Ok(0) => Some("a step of 0".to_owned()),
        Ok(step) if step <= most.checked_sub(least)? + 1 => None,
        _ => Some(format!(
            "a step beyond its range, which is {least} to {most}, and would only match {least}; for a longer interval, \
             use `every`"
        )),
    }
}

/// A number, or the name of a month or a day of the week.
fn value(text: &str) -> Option<u32> {
    const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
    let day = DAYS.iter().zip(0..);
    let month = MONTHS.iter().zip(1..);
    let named = day.chain(month).find(|(name, _)| name.eq_ignore_ascii_case(text));
    named.map(|(_, value)| value).or_else(|| text.parse().ok())
}

fn parse_zone(setting: &Setting) -> syn::Result<String> {
    let (zone, at) = parse_string(setting, "\"Europe/Paris\"")?;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    if zone.starts_with(|c: char| c.is_ascii_alphabetic()) && zone.chars().all(is_allowed) {
        return Ok(zone);
    }
    Err(syn::Error::new(at, format!("\"{zone}\" is not a time zone; write one such as \"Europe/Paris\" or \"UTC\"")))
}

fn parse_overlap(setting: &Setting) -> syn::Result<String> {
    let (overlap, at) = parse_string(setting, "\"queue\"")?;
    if OVERLAPS.contains(&overlap.as_str()) {
        return Ok(overlap);
    }
    let message = format!("unknown overlap \"{overlap}\"; the values are skip and queue");
    Err(syn::Error::new(at, message))
}

fn parse_task_count(setting: &Setting) -> syn::Result<u32> {
    match parse_count(setting)? {
        0 => Err(syn::Error::new(value_span(setting), "a count of zero would never submit the task")),
        count => Ok(count),
    }
}

fn parse_until(setting: &Setting) -> syn::Result<String> {
    let (until, at) = parse_string(setting, "\"2026-12-31T18:00:00Z\"")?;
    // 2026-12-31T18:00:00, and then a fraction and an offset. Without one it is in the schedule's time zone.
    const SHAPE: &str = "dddd-dd-ddTdd:dd:dd";
    let fits = |(shape, c): (char, char)| if shape == 'd' { c.is_ascii_digit() } else { c == shape };
    let (time, offset) = until.split_at_checked(SHAPE.len()).unwrap_or(("", ""));
    let offset = offset.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let has_offset = matches!(offset, "" | "Z") || (offset.len() == 6 && offset.starts_with(['+', '-']));
    if !time.is_empty() && SHAPE.chars().zip(time.chars()).all(fits) && has_offset {
        return Ok(until);
    }
    let message = format!("\"{until}\" is not a time; write one such as \"2026-12-31T18:00:00Z\"");
    Err(syn::Error::new(at, message))
}

fn value_span(setting: &Setting) -> Span {
    setting.value.as_ref().map_or_else(|| setting.key.span(), syn::spanned::Spanned::span)
}

/// The keys of the descriptor's `policy` for a schedule.
pub(crate) fn json(schedule: &Schedule, number: impl Fn(f64) -> String) -> Vec<(&'static str, Option<String>)> {
    let quoted = |text: &Option<String>| text.as_ref().map(|text| format!("\"{text}\""));
    vec![
        ("every", schedule.every.map(number)),
        ("cron", quoted(&schedule.cron)),
        ("tz", quoted(&schedule.tz)),
        ("overlap", quoted(&schedule.overlap)),
        ("count", schedule.count.map(|count| count.to_string())),
        ("until", quoted(&schedule.until)),
    ]
}

#[cfg(test)]
mod tests {
    use crate::check::tests::{assert_error, errors};

    #[test]
    fn the_shape_of_a_schedule_is_checked() {
        let f = "fn f(x: Option<u8>) {}";
        for sound in [
            r#"every = "10s""#,
            r#"every = "1h 30m", count = 3, until = "2026-12-31T18:00:00+01:00", overlap = "queue""#,
            r#"cron = "0 9 * * 1-5", tz = "Europe/Paris""#,
            r#"cron = "*/20 0-59/5 1,12 L JAN-MAR FRI#2", tz = "Etc/GMT+5""#,
            r#"cron = "@daily", until = "2026-12-31T18:00:00.5Z""#,
            r#"cron = "@midnight", tz = "Europe/Paris", until = "2026-12-31T18:00:00""#,
            r#"cron = "*/60 */24 * */12 MON-FRI/2""#,
        ] {
            assert_eq!(errors(sound, f), [], "{sound}");
        }
        assert_error("every = 10", f, "10", "`every = \"30s\"`");
        assert_error("every = \"50ms\"", f, "\"50ms\"", "minimum interval");
        assert_error("cron = \"0 9 * *\"", f, "\"0 9 * *\"", "this one has 4");
        assert_error(
            "cron = \"0 24 * * *\"",
            f,
            "\"0 24 * * *\"",
            "the hour \"24\" is out of range: 24 is more than 23",
        );
        assert_error("cron = \"0 0 * * 1-8\"", f, "\"0 0 * * 1-8\"", "8 is more than 7");
        assert_error(
            "cron = \"*/90 * * * *\"",
            f,
            "\"*/90 * * * *\"",
            "the minute \"*/90\" has a step beyond its range, which is 0 to 59",
        );
        assert_error("cron = \"0 */36 * * *\"", f, "\"0 */36 * * *\"", "which is 0 to 23, and would only match 0");
        assert_error("cron = \"0 0 */36 * * *\"", f, "\"0 0 */36 * * *\"", "the hour \"*/36\" has a step beyond");
        assert_error("cron = \"1-10/20 * * * *\"", f, "\"1-10/20 * * * *\"", "which is 1 to 10");
        assert_error("cron = \"0 0 * * FRI-SUN/4\"", f, "\"0 0 * * FRI-SUN/4\"", "which is 5 to 7");
        assert_error("cron = \"*/0 * * * *\"", f, "\"*/0 * * * *\"", "a step of 0");
        assert_error("cron = \"@reboot\"", f, "\"@reboot\"", "not supported");
        assert_error("cron = \"0 0 * * !\"", f, "\"0 0 * * !\"", "unexpected character '!'");
        assert_error("cron = \"@noon\"", f, "\"@noon\"", "@hourly");
        assert_error("cron = \"@daily\", tz = \"10\"", f, "\"10\"", "not a time zone");
        assert_error("cron = \"@daily\", every = \"1s\"", f, "cron", "mutually exclusive");
        assert_error("every = \"1s\", tz = \"UTC\"", f, "tz", "`tz` applies to `cron` only");
        assert_error("count = 3", f, "count", "requires `every` or `cron`");
        assert_error("every = \"1s\", count = 0", f, "0", "never submit");
        assert_error("every = \"1s\", until = \"tomorrow\"", f, "\"tomorrow\"", "not a time");
        assert_error("every = \"1s\", overlap = \"both\"", f, "\"both\"", "skip and queue");
        assert_error("every = \"1s\"", "fn f(x: u8) {}", "every", "make `x` an `Option`");
        assert_error("evry = \"1s\"", f, "evry", "did you mean `every`?");
    }
}
