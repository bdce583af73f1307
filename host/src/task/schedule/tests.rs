//! Cron patterns: weekdays, names, and the days on which clocks change.

use super::*;

fn cron_schedule(pattern: &str, tz: &str) -> CronSchedule {
    CronSchedule::of(pattern, tz).unwrap_or_else(|why| panic!("{why}"))
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a point in time")
}

/// Returns the local times at which a pattern is due, after `from` and up to `to`.
fn due(pattern: &str, tz: &str, from: &str, to: &str) -> Vec<String> {
    let (cron_schedule, mut now, mut times) = (cron_schedule(pattern, tz), at(from), Vec::new());
    let spec = ScheduleSpec::new(When::Cron { pattern: pattern.into(), tz: tz.into() });
    while let Some(next) = cron_schedule.after(now).filter(|next| *next <= at(to)) {
        assert!(next > now, "{pattern} goes back from {now} to {next}");
        times.push(spec.local_time(next));
        now = next;
    }
    times
}

fn why(spec: &ScheduleSpec) -> String {
    Recurrence::of(spec).expect_err("a bad schedule").to_string()
}

fn cron(pattern: &str, tz: &str) -> ScheduleSpec {
    ScheduleSpec::new(When::Cron { pattern: pattern.into(), tz: tz.into() })
}

#[test]
fn sunday_is_0_and_7_and_weekdays_have_names() {
    // 2026-11-22 is a Sunday.
    let days = |pattern: &str| -> Vec<String> {
        let due = due(pattern, "UTC", "2026-11-21T12:00:00Z", "2026-11-28T12:00:00Z");
        due.iter().map(|time| time[8..10].to_owned()).collect()
    };
    for sunday in ["0 9 * * 0", "0 9 * * 7", "0 9 * * SUN", "0 9 * * sun", "0 0 9 * * 7"] {
        assert_eq!(days(sunday), ["22"], "{sunday}");
    }
    for weekdays in ["0 9 * * 1-5", "0 9 * * MON-FRI", "0 9 * * mon,tue,wed,thu,fri"] {
        assert_eq!(days(weekdays), ["23", "24", "25", "26", "27"], "{weekdays}");
    }
    assert_eq!(days("0 9 * * FRI-SUN"), ["22", "27", "28"]);
    assert_eq!(days("0 9 * NOV 5-7"), ["22", "27", "28"]);
}

#[test]
fn last_days_nth_weekdays_and_nicknames_are_understood() {
    let days = |pattern: &str| due(pattern, "UTC", "2026-10-31T12:00:00Z", "2026-11-30T12:00:00Z");
    assert_eq!(days("0 0 L * *"), ["2026-11-30 00:00:00 UTC"]);
    assert_eq!(days("0 0 * * FRI#2"), ["2026-11-13 00:00:00 UTC"]);
    assert_eq!(days("0 0 * * FRI#L"), ["2026-11-27 00:00:00 UTC"]);
    assert_eq!(days("@weekly").len(), 5);
    assert_eq!(days("@daily").len(), 30);
    let leap = cron_schedule("0 0 29 2 *", "UTC").after(at("2026-01-01T00:00:00Z"));
    assert_eq!(leap, Some(at("2028-02-29T00:00:00Z")));
}

#[test]
fn a_daily_pattern_is_due_once_a_day_when_clocks_change() {
    // Paris, 29 March 2026: 02:00 becomes 03:00. 25 October 2026: 03:00 becomes 02:00.
    let march = due("30 2 * * *", "Europe/Paris", "2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z");
    let expected = ["2026-03-28 02:30:00 CET", "2026-03-29 03:00:00 CEST", "2026-03-30 02:30:00 CEST"];
    assert_eq!(march, expected, "a time that does not exist is due at the first instant after the gap");
    let october = due("30 2 * * *", "Europe/Paris", "2026-10-23T12:00:00Z", "2026-10-26T12:00:00Z");
    let expected = ["2026-10-24 02:30:00 CEST", "2026-10-25 02:30:00 CEST", "2026-10-26 02:30:00 CET"];
    assert_eq!(october, expected, "a repeated time is due the first time");

    // New York, 8 March 2026: 02:00 becomes 03:00. 1 November 2026: 02:00 becomes 01:00.
    let march = due("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z");
    assert_eq!(march, ["2026-03-08 03:00:00 EDT", "2026-03-09 02:30:00 EDT"]);
    let november = due("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z");
    assert_eq!(november, ["2026-11-01 01:30:00 EDT", "2026-11-02 01:30:00 EST"]);
}

#[test]
fn frequent_patterns_skip_the_gap_and_repeat_the_ambiguous_hour() {
    let day = |pattern: &str, tz: &str, from: &str, to: &str| due(pattern, tz, from, to).len();
    for (tz, short, long) in [
        (
            "Europe/Paris",
            ("2026-03-28T22:59:59Z", "2026-03-29T21:59:59Z"),
            ("2026-10-24T21:59:59Z", "2026-10-25T22:59:59Z"),
        ),
        (
            "America/New_York",
            ("2026-03-08T04:59:59Z", "2026-03-09T03:59:59Z"),
            ("2026-11-01T03:59:59Z", "2026-11-02T04:59:59Z"),
        ),
    ] {
        assert_eq!(day("0 * * * *", tz, short.0, short.1), 23, "{tz}");
        assert_eq!(day("0 * * * *", tz, long.0, long.1), 25, "{tz}");
        assert_eq!(day("* * * * *", tz, short.0, short.1), 23 * 60, "{tz}");
        assert_eq!(day("* * * * *", tz, long.0, long.1), 25 * 60, "{tz}");
    }
    let october = due("*/30 2 * * *", "Europe/Paris", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z");
    let expected = ["02:00:00 CEST", "02:30:00 CEST", "02:00:00 CET", "02:30:00 CET"];
    assert_eq!(october.iter().map(|time| &time[11..]).collect::<Vec<_>>(), expected);
    let march = due("*/30 2 * * *", "Europe/Paris", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
    assert_eq!(march, ["2026-03-30 02:00:00 CEST", "2026-03-30 02:30:00 CEST"]);
}

#[test]
fn a_daily_time_is_local_in_summer_and_in_winter() {
    let times = |from: &str| cron_schedule("0 9 * * 1-5", "Europe/Paris").after(at(from));
    assert_eq!(times("2026-07-06T00:00:00Z"), Some(at("2026-07-06T07:00:00Z")));
    assert_eq!(times("2026-12-07T00:00:00Z"), Some(at("2026-12-07T08:00:00Z")));
    assert_eq!(times("2026-12-11T08:00:00Z"), Some(at("2026-12-14T08:00:00Z")), "not on the weekend");
}

#[test]
fn seconds_are_a_sixth_field_in_front() {
    let times = due("*/20 30 12 * * *", "UTC", "2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z");
    assert_eq!(times.iter().map(|time| &time[11..19]).collect::<Vec<_>>(), ["12:30:00", "12:30:20", "12:30:40"]);
    let second = cron_schedule("* * * * * *", "UTC").after(at("2026-11-24T12:00:00.7Z"));
    assert_eq!(second, Some(at("2026-11-24T12:00:01Z")));
}

#[test]
fn an_invalid_schedule_is_refused_with_a_reason() {
    assert!(why(&cron("0 25 * * *", "UTC")).contains("'0 25 * * *' is not a cron pattern: "));
    for (pattern, words) in [
        ("", "it is empty"),
        ("* * * *", "it has five fields"),
        ("* * * * * * *", "it has five fields"),
        ("0 0 * * MOO", "illegal character 'M'"),
        ("0 0 30 2 *", "is never due"),
        ("99 * * * *", "out of bounds"),
        ("*/0 * * * *", "the minute '*/0' has a step of 0"),
        ("0 0-5/0 * * *", "the hour '0-5/0' has a step of 0"),
        ("5-1 * * * *", ""),
        ("@reboot", "no reboot"),
        ("@every 5m", "for an interval, use every"),
        ("@noon", "there are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually"),
        ("a b c d e", "illegal character"),
        (&"1,".repeat(200), "more than 256 bytes"),
    ] {
        let why = why(&cron(pattern, "UTC"));
        assert!(why.contains(words) && !why.contains("error"), "{pattern}: {why}");
    }
    assert_eq!(
        why(&cron("0 0 * * *", "Europe/Pariss")),
        "there is no time zone 'Europe/Pariss': did you mean Europe/Paris?"
    );
    assert_eq!(why(&cron("0 0 * * *", "tokyo")), "there is no time zone 'tokyo': did you mean Asia/Tokyo?");
    assert_eq!(why(&cron("0 0 * * *", "")), "there is no time zone ''");
    let every = |span| ScheduleSpec::new(When::Every(span));
    assert_eq!(why(&every(Duration::ZERO)), "an interval must be 0.1 s to ten years, not 0 s");
    assert!(Recurrence::of(&every(EVERY_MIN)).is_ok() && Recurrence::of(&every(DURATION_MAX)).is_ok());
    assert_eq!(why(&ScheduleSpec { count: Some(0), ..every(EVERY_MIN) }), "a count must be 1 or more");
}

#[test]
fn a_step_beyond_its_range_is_refused() {
    for (pattern, words) in [
        ("*/90 * * * *", "the minute '*/90' has a step beyond its range, which is 0 to 59, and would only match 0"),
        ("*/90 0 0 * * *", "the second '*/90' "),
        ("0 */90 * * * *", "the minute '*/90' "),
        ("0 */36 * * *", "the hour '*/36' has a step beyond its range, which is 0 to 23"),
        ("0 0 */36 * * *", "the hour '*/36' "),
        (
            "1-10/20 * * * *",
            "the minute '1-10/20' has a step beyond its range, which is 1 to 10, and would only match 1",
        ),
        ("0 0 */40 * *", "the day of month '*/40' "),
        ("0 0 ?/32 * *", "the day of month '?/32' "),
        ("0 0 1 */13 *", "the month '*/13' "),
        ("0 0 1 jan-mar/4 *", "the month 'jan-mar/4' has a step beyond its range, which is 1 to 3"),
        ("0 0 * * */8", "the day of week '*/8' "),
        ("0 0 * * +FRI-SUN/4", "the day of week 'FRI-SUN/4' has a step beyond its range, which is 5 to 7"),
        ("5,10-12/7,*/10 * * * *", "the minute '10-12/7' "),
        ("*/99999999999999999999999 * * * *", "the minute '*/99999999999999999999999' "),
    ] {
        let why = why(&cron(pattern, "UTC"));
        assert!(why.contains(words), "{pattern}: {why}");
    }
    // A step of the whole range is allowed.
    for sound in
        ["*/60 * * * *", "0 */24 * * *", "1-10/5 * * * *", "0 0 1 */12 *", "0 0 * * MON-FRI/2", "*/30 */2 * * * *"]
    {
        cron_schedule(sound, "UTC");
    }
}

#[test]
fn every_nickname_is_known() {
    let next = |pattern: &str| cron_schedule(pattern, "UTC").after(at("2026-11-25T12:30:00Z")).expect("a next time");
    for (names, expected) in [
        (&["@hourly", " @Hourly "][..], "2026-11-25T13:00:00Z"),
        (&["@daily", "@midnight", "@MIDNIGHT"], "2026-11-26T00:00:00Z"),
        (&["@weekly"], "2026-11-29T00:00:00Z"),
        (&["@monthly"], "2026-12-01T00:00:00Z"),
        (&["@yearly", "@annually"], "2027-01-01T00:00:00Z"),
    ] {
        for name in names {
            assert_eq!(next(name), at(expected), "{name}");
        }
    }
}

#[test]
fn an_end_without_an_offset_is_local_time() {
    let end = |text: &str, when: &When| when.read(text.parse().expect("a point in time")).map(|at| at.to_string());
    let paris = cron("@daily", "Europe/Paris").when;
    for text in ["2026-12-31T18:00:00", "2026-12-31 18:00"] {
        assert_eq!(end(text, &paris), Ok("2026-12-31T17:00:00.000000Z".into()));
        assert_eq!(end(text, &cron("@daily", "UTC").when), Ok("2026-12-31T18:00:00.000000Z".into()));
        assert_eq!(end(text, &When::Every(EVERY_MIN)), Ok("2026-12-31T18:00:00.000000Z".into()));
    }
    assert_eq!(end("2026-07-31T18:00:00", &paris), Ok("2026-07-31T16:00:00.000000Z".into()), "in summer");
    assert_eq!(end("2026-12-31T18:00:00-05:00", &paris), Ok("2026-12-31T23:00:00.000000Z".into()));
    assert!(end("2026-12-31T18:00:00", &cron("@daily", "Europe/Pariss").when).is_err());
    assert!("tomorrow".parse::<TimeText>().is_err());
    let sent = r#"{"when": {"cron": {"pattern": "@daily", "tz": "Europe/Paris"}}, "until": "2026-12-31T18:00:00"}"#;
    let read = serde_json::from_str::<ScheduleSpec>(sent).expect("from JSON");
    assert_eq!(read.until, Some(at("2026-12-31T17:00:00Z")));
}

#[test]
fn arbitrary_text_never_panics() {
    let pieces = [
        "*", "/", "-", ",", "#", "L", "W", "+", "?", "0", "7", "31", "99999", " ", "MON", "JAN", "@", "ß", "@daily",
        "FRI#9",
    ];
    let mut seed = 1_u64;
    for _ in 0..50_000 {
        let mut text = String::new();
        for _ in 0..seed % 14 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
        }
        seed = seed.wrapping_add(1);
        if let Ok(cron_schedule) = CronSchedule::of(&text, "Europe/Paris") {
            assert!(
                cron_schedule.after(at("2026-10-25T00:59:59Z")).is_none_or(|next| next > at("2026-10-25T00:59:59Z"))
            );
        }
    }
}

#[test]
fn schedules_are_displayed_as_users_write_them() {
    let every = |secs| ScheduleSpec::new(When::Every(Duration::from_secs_f64(secs))).to_string();
    let written = [every(10.0), every(90.0), every(3_600.0), every(86_400.0), every(1.5), every(0.25)];
    assert_eq!(written, ["every 10 s", "every 90 s", "every 1 h", "every 1 d", "every 1.5 s", "every 0.25 s"]);
    let spec = ScheduleSpec {
        count: Some(3),
        until: Some(at("2026-12-31T17:00:00Z")),
        overlap: Overlap::Queue,
        ..cron("0 9 * * 1-5", "Europe/Paris")
    };
    assert_eq!(spec.to_string(), "0 9 * * 1-5 Europe/Paris, 3 times at most, until 2026-12-31 18:00:00 CET, queue");
    let text = serde_json::to_string(&spec).expect("JSON");
    assert_eq!(serde_json::from_str::<ScheduleSpec>(&text).expect("from JSON"), spec);
    let short = r#"{"when": {"cron": {"pattern": "@daily"}}}"#;
    assert_eq!(serde_json::from_str::<ScheduleSpec>(short).expect("from JSON"), cron("@daily", "UTC"));
}
