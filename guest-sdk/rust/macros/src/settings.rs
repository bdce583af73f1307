//! Checks the settings in `#[task(…)]`, each value on its own token.

use std::cmp::Reverse;

use syn::spanned::Spanned;
use syn::{Ident, Lit};

use crate::errors::Errors;
use crate::parse::Setting;
use crate::task::Settings;
use crate::value::{literal, parse_count, parse_duration, parse_string, wrong_value};
use crate::{limits, schedule};

/// The keys, except those of a schedule, of limits and of needs.
const KEYS: [&str; 7] =
    ["name", "priority", "timeout", "max_retries", "retry_delay", "retry_backoff", "retry_backoff_max"];
const PRIORITIES: [&str; 4] = ["critical", "high", "normal", "low"];
pub(crate) const NAME_BYTES_MAX: usize = 128;

pub(crate) fn check_settings(settings: &[Setting], errors: &mut Errors) -> (Option<String>, Settings) {
    let mut name = None;
    let mut read = Settings::default();
    let mut seen: Vec<&Ident> = Vec::new();
    for setting in settings {
        if seen.contains(&&setting.key) {
            errors.add(&setting.key, format!("duplicate key `{}`", setting.key));
            continue;
        }
        seen.push(&setting.key);
        let policy = &mut read.policy;
        let checked = match setting.key.to_string().as_str() {
            "name" => parse_task_name(setting).map(|it| name = Some(it)),
            "priority" => parse_priority(setting).map(|it| policy.priority = Some(it)),
            "timeout" => parse_timeout(setting).map(|it| policy.timeout = Some(it)),
            "max_retries" => parse_count(setting).map(|it| policy.max_retries = Some(it)),
            "retry_delay" => parse_duration(setting).map(|it| policy.retry_delay = Some(it)),
            "retry_backoff" => parse_factor(setting).map(|it| policy.retry_backoff = Some(it)),
            "retry_backoff_max" => parse_duration(setting).map(|it| policy.retry_backoff_max = Some(it)),
            key if schedule::KEYS.contains(&key) => schedule::set(&mut read.schedule, setting),
            key if limits::KEYS.contains(&key) => limits::set(&mut read, setting),
            unknown => Err(unknown_key(&setting.key, unknown)),
        };
        errors.keep(checked);
    }
    (name, read)
}

fn unknown_key(key: &Ident, text: &str) -> syn::Error {
    let keys: Vec<&str> = KEYS.into_iter().chain(schedule::KEYS).chain(limits::KEYS).collect();
    // Of several keys at the same distance, the one with the same beginning.
    let common = |known: &str| known.chars().zip(text.chars()).take_while(|(a, b)| a == b).count();
    let nearest = keys
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, text), Reverse(common(known)), known))
        .min()
        .filter(|(distance, _, known)| *distance <= known.len() / 3 + 1);
    let message = match nearest {
        Some((_, _, known)) => format!("unknown key `{text}`; did you mean `{known}`?"),
        None => format!("unknown key `{text}`; the keys are {}", listed(&keys)),
    };
    syn::Error::new(key.span(), message)
}

fn parse_task_name(setting: &Setting) -> syn::Result<String> {
    let (text, at) = parse_string(setting, "\"reports.weekly\"")?;
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(syn::Error::new(at, name_length_error(&text)));
    }
    if text.chars().any(char::is_control) {
        return Err(syn::Error::new(at, "a task name must not contain control characters"));
    }
    Ok(text)
}

fn parse_priority(setting: &Setting) -> syn::Result<String> {
    let (text, at) = parse_string(setting, "\"high\"")?;
    if PRIORITIES.contains(&text.as_str()) {
        Ok(text)
    } else {
        let message = format!("unknown priority \"{text}\"; the priorities are {}", listed(&PRIORITIES));
        Err(syn::Error::new(at, message))
    }
}

fn parse_timeout(setting: &Setting) -> syn::Result<f64> {
    let seconds = parse_duration(setting)?;
    if seconds > 0.0 {
        Ok(seconds)
    } else {
        let message = "a timeout of zero would stop the task before it starts";
        Err(syn::Error::new(setting.value.span(), message))
    }
}

fn parse_factor(setting: &Setting) -> syn::Result<f64> {
    let parsed = match literal(setting) {
        Some(Lit::Int(number)) => number.base10_parse::<f64>().ok(),
        Some(Lit::Float(number)) => number.base10_parse::<f64>().ok(),
        _ => None,
    };
    parsed
        .filter(|factor| *factor >= 1.0 && factor.is_finite())
        .ok_or_else(|| wrong_value(setting, "a factor of at least 1", "2.0"))
}

fn listed(words: &[&str]) -> String {
    words.join(", ")
}

pub(crate) fn name_length_error(name: &str) -> String {
    format!("a task name must have 1 to {NAME_BYTES_MAX} bytes, and this one has {}", name.len())
}

#[cfg(test)]
mod tests {
    use crate::check::tests::assert_error;

    #[test]
    fn an_unknown_key_names_the_nearest_or_all() {
        let f = "fn f() {}";
        assert_error("max_retry = 3", f, "max_retry", "did you mean `max_retries`?");
        assert_error("colour = 3", f, "colour", "the keys are name, priority, timeout");
        assert_error("name = \"a\", name = \"b\"", f, "name", "duplicate key");
    }

    #[test]
    fn a_wrong_value_shows_a_right_one() {
        let f = "fn f() {}";
        assert_error("timeout", f, "timeout", "`timeout = \"30s\"`");
        assert_error("timeout = 30", f, "30", "`timeout = \"30s\"`");
        assert_error("timeout = \"30\"", f, "\"30\"", "with a unit");
        assert_error("timeout = \"30 parsecs\"", f, "\"30 parsecs\"", "with a unit");
        assert_error("timeout = \"0s\"", f, "\"0s\"", "before it starts");
        assert_error("max_retries = -1", f, "-1", "`max_retries = 3`");
        assert_error("max_retries = 4294967296", f, "4294967296", "from 0 to 4294967295");
        assert_error("retry_backoff = 0.5", f, "0.5", "at least 1");
        assert_error("priority = \"urgent\"", f, "\"urgent\"", "critical, high, normal, low");
        assert_error("name = \"\"", f, "\"\"", "1 to 128 bytes");
        assert_error("name = \"a\\nb\"", f, "\"a\\nb\"", "control characters");
    }
}
