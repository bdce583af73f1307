//! Parsers of option values: durations, numbers, names and task arguments.
//!
//! An error states in one sentence what to write instead. It does not repeat the value, since [`super::usage`]
//! reports that together with the option.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    str::FromStr,
    time::Duration,
};

use uuid::Uuid;

use crate::{
    clock::DURATION_MAX,
    config::{Address, MANAGEMENT_OFFSET},
    json::{Json, NotJson},
    signature::text,
    subworker::ModuleFilter,
    task::{InvalidScheduleName, TASK_ID_MAX, TaskId, TaskName, WorkerId},
};

/// Parses `250ms`, `30s`, `5m`, `1h 30m`, `2d`, or a number of seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    const FORMS: &str = "write a duration such as 250ms, 30s, 5m, 1h 30m or 2d; a bare number is in seconds";
    const TOO_LONG: &str = "the maximum duration is ten years";
    let mut remaining = text.trim();
    if let Some(number) = remaining.strip_prefix('-')
        && number.starts_with(|first: char| first.is_ascii_digit())
    {
        return Err("a duration cannot be negative".into());
    }
    let (mut seconds, mut parts) = (0.0, 0);
    while !remaining.is_empty() || parts == 0 {
        let unit = remaining.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(remaining.len());
        let (number, rest) = remaining.split_at(unit);
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        remaining = rest.trim_start();
        parts += 1;
        let scale = match unit {
            "ms" => 0.001,
            // A number without a unit must be the entire string.
            "" if parts == 1 && remaining.is_empty() => 1.0,
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

/// Parses a duration longer than zero.
pub(super) fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("write a duration longer than 0, such as 30s".into()),
        duration => Ok(duration),
    }
}

/// Parses `control-plane` or `control-plane:NAME,NAME`.
pub(super) fn parse_modules_from(text: &str) -> Result<ModuleFilter, String> {
    const FORMS: &str = "write control-plane for all of its modules, or control-plane:NAME,NAME for some";
    let names = text.trim().strip_prefix("control-plane").ok_or(FORMS)?;
    if names.is_empty() {
        return Ok(ModuleFilter::All);
    }
    let names: BTreeSet<String> =
        names.strip_prefix(':').ok_or(FORMS)?.split(',').map(|name| name.trim().to_owned()).collect();
    if names.contains("") { Err(FORMS.into()) } else { Ok(ModuleFilter::Named(names)) }
}

/// Parses a whole number from `MIN` to `MAX`, both included.
pub(super) fn parse_number<T: TryFrom<u64>, const MIN: u64, const MAX: u64>(text: &str) -> Result<T, String> {
    let number = text.trim().parse::<u64>().ok().filter(|number| (MIN..=MAX).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match MAX {
        // A larger bound is not a practical limit.
        max if max >= u64::from(u32::MAX) => format!("write a whole number, {MIN} or more"),
        max => format!("write a whole number from {MIN} to {max}"),
    })
}

/// Parses the value of a switch from its environment variable.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "on" | "t" => Ok(true),
        "false" | "0" | "no" | "n" | "off" | "f" => Ok(false),
        _ => Err("write true, false, 1, 0, yes or no".into()),
    }
}

/// Parses a type that implements [`FromStr`]. If its error starts by quoting the value, the quotation is removed.
pub(super) fn parse_from_str<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| {
        let message = error.to_string();
        match message.split_once(": ") {
            Some((quoted, what)) if quoted.starts_with('\'') => what.to_owned(),
            _ => message,
        }
    })
}

/// Parses the base address of a control plane, which also uses the four ports after it.
pub(super) fn parse_base_address(text: &str) -> Result<Address, String> {
    const PORT_MAX: u16 = u16::MAX - MANAGEMENT_OFFSET;
    let address: Address = parse_from_str(text)?;
    if address.port() > PORT_MAX {
        return Err(format!(
            "the port of a base address is at most {PORT_MAX}, since the four ports after it are used as well"
        ));
    }
    Ok(address)
}

/// Parses a task id.
pub(super) fn parse_task_id(text: &str) -> Result<TaskId, String> {
    text.parse().map_err(|_| format!("a task id has 1 to {TASK_ID_MAX} bytes and no control characters"))
}

/// Parses the name of a task.
pub(super) fn parse_task_name(text: &str) -> Result<String, String> {
    text.parse::<TaskName>().map(String::from).map_err(|invalid| invalid.to_string())
}

/// Parses the name of a schedule.
pub(super) fn parse_schedule_name(text: &str) -> Result<String, String> {
    text.parse::<TaskName>().map(String::from).map_err(|invalid| InvalidScheduleName::from(invalid).to_string())
}

/// Parses the id of a worker. It cannot contain a colon, which separates the fields of an announcement.
pub(super) fn parse_worker_id(text: &str) -> Result<String, String> {
    text.parse::<WorkerId>().map(String::from).map_err(|invalid| invalid.to_string())
}

/// Parses the id of a cluster.
pub(super) fn parse_cluster_id(text: &str) -> Result<Uuid, String> {
    let id = text.trim().parse::<Uuid>().ok().filter(|id| !id.is_nil());
    id.ok_or_else(|| "write a UUID, such as the one that a control plane logs as cluster=… at startup".into())
}

/// Parses an argument as JSON if it is valid JSON, else as a string.
fn parse_argument(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|_| Json::of(text).unwrap_or_else(|_| Json::null()))
}

/// Converts positional arguments to a JSON array.
pub(super) fn args_to_json(args: &[String]) -> Json {
    let items: Vec<Json> = args.iter().map(|text| parse_argument(text)).collect();
    Json::of(&items).unwrap_or_else(|_| Json::empty_array())
}

/// The named arguments in one value of `--kwargs`.
pub(super) type Kwargs = Vec<(String, Json)>;

/// Converts named arguments to a JSON object.
pub(super) fn kwargs_to_json(kwargs: &[Kwargs]) -> Json {
    struct Entries<'a>(&'a [Kwargs]);
    impl serde::Serialize for Entries<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().flatten().map(|(key, value)| (key, value)))
        }
    }
    Json::of(&Entries(kwargs)).unwrap_or_else(|_| Json::empty_object())
}

/// Parses `name=value`, or a JSON object with any number of them.
pub(super) fn parse_kwargs(text: &str) -> Result<Kwargs, String> {
    if text.starts_with('{') {
        serde_json::from_str::<BTreeMap<String, Json>>(text)
            .map_err(|error| format!("this is not a JSON object: {error}"))?;
        // A map would lose what is given twice, which is to be refused.
        let entries = text::entries(text).map(|(name, value)| Ok((name.into_owned(), Json::parse(value)?)));
        return entries.collect::<Result<_, NotJson>>().map_err(|error| error.to_string());
    }
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(vec![(key.to_owned(), parse_argument(value))]),
        _ => Err("write name=value, or a JSON object such as '{\"x\": 5, \"y\": 3}'".into()),
    }
}

/// Parses a JSON document.
pub(super) fn parse_json(text: &str) -> Result<Json, String> {
    Json::parse(text)
        .map_err(|error| format!("write JSON; strings need quotes, as in '\"text\"': {}", detail_of(&error)))
}

/// Parses a JSON array.
pub(super) fn parse_json_array(text: &str) -> Result<Json, String> {
    const FORM: &str = "write one JSON array, such as '[5, 3]'";
    match Json::parse(text) {
        Ok(json) if json.as_str().starts_with('[') => Ok(json),
        Ok(_) => Err(FORM.into()),
        Err(error) => Err(format!("{FORM}: {}", detail_of(&error))),
    }
}

/// The detail of a JSON error, without its introduction.
fn detail_of(error: &NotJson) -> String {
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
        assert_eq!(args_to_json(&arguments).as_str(), r#"[-5,3,true,"hello",[1, 2],"3","1 2","NaN"]"#);
    }

    #[test]
    fn named_arguments_are_pairs_or_a_json_object() {
        let read = |texts: &[&str]| {
            kwargs_to_json(&texts.iter().filter_map(|text| parse_kwargs(text).ok()).collect::<Vec<_>>())
        };
        assert_eq!(read(&["x=1", "y=a,b=c"]).as_str(), r#"{"x":1,"y":"a,b=c"}"#);
        assert_eq!(read(&[r#"{"x": 1, "y": [2]}"#]).as_str(), r#"{"x":1,"y":[2]}"#);
        assert_eq!(read(&[r#"{"x": 1, "x": 2}"#]).as_str(), r#"{"x":1,"x":2}"#);
        for wrong in ["x", "=1", "{x=1}", "{\"x\": 1"] {
            assert!(parse_kwargs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(parse_duration("2d"), Ok(Duration::from_hours(48)));
        let refused =
            ["5 parsecs", "", "1h 30", "s", "1.2.3"].map(|text| parse_duration(text).expect_err("not a duration"));
        assert!(refused.iter().all(|why| why.starts_with("write a duration such as")), "{refused:?}");
        assert_eq!(parse_duration("-1s"), Err("a duration cannot be negative".into()));
        assert_eq!(
            [parse_duration("11000d"), parse_duration(&"9".repeat(400))],
            [(); 2].map(|()| Err("the maximum duration is ten years".into()))
        );
        assert!(parse_positive_duration("0").is_err() && parse_positive_duration("1ms").is_ok());
    }

    #[test]
    fn numbers_are_whole_and_within_their_bounds() {
        assert_eq!(["1", "1024"].map(parse_number::<u16, 1, 1024>), [Ok(1), Ok(1024)]);
        for wrong in ["0", "1025", "-1", "many", "", "1.5"] {
            assert_eq!(parse_number::<u16, 1, 1024>(wrong), Err("write a whole number from 1 to 1024".into()));
        }
        assert_eq!(parse_number::<u64, 1, { u64::MAX }>("0"), Err("write a whole number, 1 or more".into()));
    }

    #[test]
    fn the_four_ports_after_a_base_address_exist() {
        assert!(parse_base_address("tcp://127.0.0.1:65531").is_ok());
        assert!(parse_base_address("tcp://127.0.0.1:65532").is_err_and(|why| why.contains("at most 65531")));
        assert_eq!(parse_base_address("127.0.0.1:5555"), Err("write it like tcp://127.0.0.1:5555".into()));
    }

    #[test]
    fn errors_of_named_values_do_not_repeat_the_value() {
        assert_eq!(
            parse_from_str::<crate::task::TaskPriority>("urgent"),
            Err("choose one of critical, high, normal, low".into())
        );
    }
}
