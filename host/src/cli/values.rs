//! Parsers of option values: durations, numbers, names and task arguments.
//!
//! An error says in one sentence what to write instead. It does not repeat the value, since
//! [`super::usage`] reports that together with the option.

use std::{collections::BTreeMap, fmt::Display, str::FromStr, time::Duration};

use uuid::Uuid;

use crate::{
    clock::DURATION_MAX,
    config::{Address, MANAGEMENT_OFFSET},
    json::{Json, NotJson},
    task::{InvalidScheduleName, TASK_ID_MAX, TaskId, TaskName, WorkerId},
};

/// Reads `250ms`, `30s`, `5m`, `1h 30m`, `2d`, or a number of seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const FORMS: &str = "write a duration such as 250ms, 30s, 5m, 1h 30m or 2d; a bare number is in seconds";
    const TOO_LONG: &str = "the maximum duration is ten years";
    let mut left = text.trim();
    if let Some(number) = left.strip_prefix('-')
        && number.starts_with(|first: char| first.is_ascii_digit())
    {
        return Err("a duration cannot be negative".into());
    }
    let (mut seconds, mut parts) = (0.0, 0);
    while !left.is_empty() || parts == 0 {
        let unit = left.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(left.len());
        let (number, rest) = left.split_at(unit);
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        left = rest.trim_start();
        parts += 1;
        let scale = match unit {
            "ms" => 0.001,
            // A number without a unit must be the whole text.
            "" if parts == 1 && left.is_empty() => 1.0,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(FORMS.into()),
        };
        seconds += scale * number.parse::<f64>().map_err(|_| FORMS)?;
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| TOO_LONG.into())
}

/// Reads a duration longer than zero.
pub(super) fn duration_above_zero(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("write a duration longer than 0, such as 30s".into()),
        duration => Ok(duration),
    }
}

/// Reads a whole number from `MIN` to `MAX`, both included.
pub(super) fn number<T: TryFrom<u64>, const MIN: u64, const MAX: u64>(text: &str) -> Result<T, String> {
    let read = text.trim().parse::<u64>().ok().filter(|number| (MIN..=MAX).contains(number));
    read.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match MAX {
        // Larger bounds are no practical limit.
        max if max >= u64::from(u32::MAX) => format!("write a whole number, {MIN} or more"),
        max => format!("write a whole number from {MIN} to {max}"),
    })
}

/// Reads the value of a switch from its environment variable.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "on" | "t" => Ok(true),
        "false" | "0" | "no" | "n" | "off" | "f" => Ok(false),
        _ => Err("write true, false, 1, 0, yes or no".into()),
    }
}

/// Reads a type that implements [`FromStr`]. If its error begins by quoting the value, the quotation is removed.
pub(super) fn named<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| {
        let message = error.to_string();
        match message.split_once(": ") {
            Some((quoted, what)) if quoted.starts_with('\'') => what.to_owned(),
            _ => message,
        }
    })
}

/// Reads the base address of a control plane, which also uses the four ports after it.
pub(super) fn base_address(text: &str) -> Result<Address, String> {
    const PORT_MAX: u16 = u16::MAX - MANAGEMENT_OFFSET;
    let address: Address = named(text)?;
    if address.port() > PORT_MAX {
        return Err(format!(
            "the port of a base address is at most {PORT_MAX}, since the four ports after it are used as well"
        ));
    }
    Ok(address)
}

/// Reads a task id.
pub(super) fn task_id(text: &str) -> Result<TaskId, String> {
    text.parse().map_err(|_| format!("a task id has 1 to {TASK_ID_MAX} bytes and no control characters"))
}

/// Reads the name of a task.
pub(super) fn task_name(text: &str) -> Result<String, String> {
    text.parse::<TaskName>().map(String::from).map_err(|invalid| invalid.to_string())
}

/// Reads the name of a schedule.
pub(super) fn schedule_name(text: &str) -> Result<String, String> {
    text.parse::<TaskName>().map(String::from).map_err(|invalid| InvalidScheduleName::from(invalid).to_string())
}

/// Reads the id of a worker. It cannot contain a colon, which separates the fields of an announcement.
pub(super) fn worker_id(text: &str) -> Result<String, String> {
    text.parse::<WorkerId>().map(String::from).map_err(|invalid| invalid.to_string())
}

/// Reads the id of a cluster.
pub(super) fn cluster_id(text: &str) -> Result<Uuid, String> {
    let id = text.trim().parse::<Uuid>().ok().filter(|id| !id.is_nil());
    id.ok_or_else(|| "write a UUID, such as the one that a control plane logs as cluster=… at startup".into())
}

/// Reads an argument as JSON if it is valid JSON, else as a string.
fn argument(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|_| Json::of(text).unwrap_or_else(|_| Json::null()))
}

/// Returns the arguments as a JSON array.
pub(super) fn array(arguments: &[String]) -> Json {
    let items: Vec<Json> = arguments.iter().map(|text| argument(text)).collect();
    Json::of(&items).unwrap_or_else(|_| Json::empty_array())
}

/// The named arguments in one word of the command line.
pub(super) type Pairs = Vec<(String, Json)>;

/// Returns the named arguments as a JSON object.
pub(super) fn object(pairs: &[Pairs]) -> Json {
    struct All<'a>(&'a [Pairs]);
    impl serde::Serialize for All<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().flatten().map(|(key, value)| (key, value)))
        }
    }
    Json::of(&All(pairs)).unwrap_or_else(|_| Json::empty_object())
}

/// Reads `name=value`, or a JSON object with any number of them.
pub(super) fn pairs(text: &str) -> Result<Pairs, String> {
    if text.starts_with('{') {
        let object: BTreeMap<String, Json> =
            serde_json::from_str(text).map_err(|error| format!("this is not a JSON object: {error}"))?;
        return Ok(object.into_iter().collect());
    }
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(vec![(key.to_owned(), argument(value))]),
        _ => Err("write name=value, or a JSON object such as '{\"x\": 5, \"y\": 3}'".into()),
    }
}

/// Reads a JSON document.
pub(super) fn document(text: &str) -> Result<Json, String> {
    Json::parse(text).map_err(|error| format!("write JSON; strings need quotes, as in '\"text\"': {}", reason(&error)))
}

/// Reads a JSON array.
pub(super) fn json_array(text: &str) -> Result<Json, String> {
    const FORM: &str = "write one JSON array, such as '[5, 3]'";
    match Json::parse(text) {
        Ok(json) if json.as_str().starts_with('[') => Ok(json),
        Ok(_) => Err(FORM.into()),
        Err(error) => Err(format!("{FORM}: {}", reason(&error))),
    }
}

/// The reason in a JSON error, without its introduction.
fn reason(error: &NotJson) -> String {
    match error {
        NotJson::Syntax(error) => error.to_string(),
        NotJson::NotANumber => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_json_if_valid_and_else_a_string() {
        let arguments = ["-5", "3", "true", "hello", "[1, 2]", "\"3\"", "1 2", "NaN"].map(str::to_owned);
        assert_eq!(array(&arguments).as_str(), r#"[-5,3,true,"hello",[1, 2],"3","1 2","NaN"]"#);
    }

    #[test]
    fn named_arguments_are_pairs_or_a_json_object() {
        let read = |texts: &[&str]| object(&texts.iter().filter_map(|text| pairs(text).ok()).collect::<Vec<_>>());
        assert_eq!(read(&["x=1", "y=a,b=c"]).as_str(), r#"{"x":1,"y":"a,b=c"}"#);
        assert_eq!(read(&[r#"{"x": 1, "y": [2]}"#]).as_str(), r#"{"x":1,"y":[2]}"#);
        for wrong in ["x", "=1", "{x=1}", "{\"x\": 1"] {
            assert!(pairs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("2d"), Ok(Duration::from_hours(48)));
        let refused = ["5 parsecs", "", "1h 30", "s", "1.2.3"].map(|text| duration(text).expect_err("not a duration"));
        assert!(refused.iter().all(|why| why.starts_with("write a duration such as")), "{refused:?}");
        assert_eq!(duration("-1s"), Err("a duration cannot be negative".into()));
        assert_eq!(
            [duration("11000d"), duration(&"9".repeat(400))],
            [(); 2].map(|()| Err("the maximum duration is ten years".into()))
        );
        assert!(duration_above_zero("0").is_err() && duration_above_zero("1ms").is_ok());
    }

    #[test]
    fn numbers_are_whole_and_within_their_bounds() {
        assert_eq!(["1", "1024"].map(number::<u16, 1, 1024>), [Ok(1), Ok(1024)]);
        for wrong in ["0", "1025", "-1", "many", "", "1.5"] {
            assert_eq!(number::<u16, 1, 1024>(wrong), Err("write a whole number from 1 to 1024".into()));
        }
        assert_eq!(number::<u64, 1, { u64::MAX }>("0"), Err("write a whole number, 1 or more".into()));
    }

    #[test]
    fn the_four_ports_after_a_base_address_exist() {
        assert!(base_address("tcp://127.0.0.1:65531").is_ok());
        assert!(base_address("tcp://127.0.0.1:65532").is_err_and(|why| why.contains("at most 65531")));
        assert_eq!(base_address("127.0.0.1:5555"), Err("write it like tcp://127.0.0.1:5555".into()));
    }

    #[test]
    fn errors_of_named_values_do_not_repeat_the_value() {
        assert_eq!(
            named::<crate::task::TaskPriority>("urgent"),
            Err("choose one of critical, high, normal, low".into())
        );
    }
}
