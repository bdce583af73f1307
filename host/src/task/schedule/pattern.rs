//! Checks of a cron pattern that croner lacks: nicknames such as `@daily`, and the range of steps.
//!
//! croner reads `*/90` in the minute field as `0`, which is never meant.

use std::borrow::Cow;

use croner::errors::CronError;

/// The usual nicknames of patterns.
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * SUN"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// A field and its range.
struct Field {
    name: &'static str,
    least: u16,
    most: u16,
    /// Names of values, from `least` on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 6] = [
    Field { name: "second", least: 0, most: 59, names: &[] },
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of month", least: 1, most: 31, names: &[] },
    Field {
        name: "month",
        least: 1,
        most: 12,
        names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    },
    // 7 is Sunday again.
    Field { name: "day of week", least: 0, most: 6, names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] },
];

/// Expands a nickname.
///
/// # Errors
/// The reason why an unknown one is refused.
pub(super) fn expand_nickname(pattern: &str) -> Result<Cow<'_, str>, String> {
    let name = pattern.trim();
    if !name.starts_with('@') {
        return Ok(pattern.into());
    }
    let known = NICKNAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    if let Some((_, fields)) = known {
        return Ok((*fields).into());
    }
    let names: Vec<&str> = NICKNAMES.iter().map(|(known, _)| *known).collect();
    let word = name.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    Err(match word.as_str() {
        "@reboot" => "a control plane has no reboot; submit the task when you start it".into(),
        "@every" => "for an interval, use every in its place".into(),
        _ => format!("there are {}", names.join(", ")),
    })
}

/// Checks that no step is 0 or larger than its range.
///
/// # Errors
/// A message about the first such step.
pub(super) fn check_steps(pattern: &str) -> Result<(), String> {
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    let Some(skipped) = FIELDS.len().checked_sub(fields.len()) else { return Ok(()) };
    for (text, field) in fields.iter().zip(&FIELDS[skipped..]) {
        for part in text.trim_start_matches('+').split(',') {
            let Some((range, step)) = part.split_once('/') else { continue };
            let Some((least, most)) = field.range(range) else { continue };
            let size = u64::from(most - least) + 1;
            // croner refuses what is not a number.
            if step.is_empty() || !step.bytes().all(|digit| digit.is_ascii_digit()) {
                continue;
            }
            match step.parse::<u64>() {
                Ok(0) => return Err(format!("the {} '{part}' has a step of 0", field.name)),
                Ok(step) if step <= size => {}
                Ok(_) | Err(_) => {
                    return Err(format!(
                        "the {} '{part}' has a step beyond its range, which is {least} to {most}, and would only match \
                         {least}; for a longer interval, use every",
                        field.name
                    ));
                }
            }
        }
    }
    Ok(())
}

impl Field {
    /// Parses a range.
    fn range(&self, text: &str) -> Option<(u16, u16)> {
        if matches!(text, "*" | "?") {
            return Some((self.least, self.most));
        }
        let (from, to) = text.split_once('-')?;
        let range = (self.value(from)?, self.value(to)?);
        let (from, mut to) = range;
        if to < from && self.names.first() == Some(&"SUN") {
            // Sunday ends a week as well.
            to += 7;
        }
        (from <= to).then_some((from, to))
    }

    fn value(&self, text: &str) -> Option<u16> {
        let named = self.names.iter().zip(self.least..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        named.map(|(_, value)| value).or_else(|| text.parse().ok())
    }
}

/// The message of an error of croner, without the names of its types.
pub(super) fn reason(error: CronError) -> String {
    match error {
        CronError::EmptyPattern => "it is empty".into(),
        CronError::InvalidPattern(_) => {
            "it has five fields (minute, hour, day of month, month, day of week), or six with seconds in front".into()
        }
        CronError::IllegalCharacters(why) | CronError::ComponentError(why) => {
            let why = why.trim_end_matches('.').replace("CronPattern contains", "it contains the");
            let mut letters = why.chars();
            letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
        }
        other => other.to_string(),
    }
}
