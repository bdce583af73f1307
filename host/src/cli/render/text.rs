//! How durations, times, calls and long lines are formatted.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use comfy_table::Table;

use crate::{clock::Timestamp, escape, json::Json};

/// Width of the output if it is not a terminal, in columns.
const WIDTH: usize = 80;
/// Minimum width of the output, in columns.
const WIDTH_MIN: usize = 40;
/// Maximum size of a formatted call, in bytes.
const CALL_MAX: usize = 400;

/// The width of the output: the variable `COLUMNS`, else the width of the terminal.
pub(super) fn terminal_width() -> usize {
    let variable =
        std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    variable.or_else(|| Table::new().width().map(usize::from)).unwrap_or(WIDTH).max(WIDTH_MIN)
}

/// The number of columns that a text takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    let mut table = Table::new();
    table.add_row([text]);
    table.column_max_content_widths().first().copied().map_or(0, usize::from)
}

/// Joins the lines of a text into one, for tables and lists.
pub(super) fn flat(text: &str) -> String {
    let words = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    escape::line(&words).into_owned()
}

/// Maximum indentation level of a JSON document, which may be nested deeper than any line is wide.
const INDENT_MAX: usize = 32;

/// Formats a JSON document with line breaks and indentation. Numbers and strings stay as they are written: parsing
/// them into values could change them.
pub(super) fn pretty_json(document: &str) -> String {
    let (mut pretty, mut depth, mut rest) = (String::with_capacity(document.len() * 2), 0_usize, document);
    let line = |pretty: &mut String, depth: usize| {
        pretty.push('\n');
        pretty.push_str(&"  ".repeat(depth.min(INDENT_MAX)));
    };
    while let Some(char) = rest.chars().next() {
        let length = if char == '"' { string_length(rest) } else { char.len_utf8() };
        let (part, after) = rest.split_at(length);
        let inner = after.trim_start();
        match char {
            ' ' | '\t' | '\r' | '\n' => {}
            '{' | '[' if inner.starts_with(['}', ']']) => {
                pretty.push_str(part);
                pretty.push_str(&inner[..1]);
                rest = &inner[1..];
                continue;
            }
            '{' | '[' => {
                depth += 1;
                pretty.push_str(part);
                line(&mut pretty, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut pretty, depth);
                pretty.push_str(part);
            }
            ',' => {
                pretty.push_str(part);
                line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            _ => pretty.push_str(part),
        }
        rest = after;
    }
    pretty
}

/// The length of the JSON string at the start of a text.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Truncates a text to a number of columns.
pub(super) fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut cut = String::new();
    for char in text.chars() {
        cut.push(char);
        if width(&cut) >= room {
            cut.pop();
            break;
        }
    }
    cut + "…"
}

/// Wraps words into lines that fit the terminal; the first is indented by `first`, the others by `rest`. A word
/// that is too wide is placed on its own line unbroken, so that it can be copied.
pub(super) fn fold<'a>(words: impl IntoIterator<Item = &'a str>, gap: &str, first: &str, rest: &str) -> Vec<String> {
    fold_to(terminal_width(), words, gap, first, rest)
}

fn fold_to<'a>(
    room: usize,
    words: impl IntoIterator<Item = &'a str>,
    gap: &str,
    first: &str,
    rest: &str,
) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut is_empty) = (first.to_owned(), true);
    for word in words {
        if !is_empty && width(&line) + gap.len() + width(word) > room {
            lines.push(std::mem::replace(&mut line, rest.to_owned()));
            is_empty = true;
        }
        if !is_empty {
            line.push_str(gap);
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// Formats a duration: `195 µs`, `3 ms`, `4.2 s`, `5 min`, `3 h`, `12 d`.
pub(super) fn duration(duration: Duration) -> String {
    match duration.as_micros() {
        0 => "0 s".to_owned(),
        micros @ 1..1_000 => format!("{micros} µs"),
        micros @ 1_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..10_000_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => rounded(duration),
    }
}

/// Formats a duration in the largest unit that it has at least two of: `0 s`, `9 s`, `5 min`, `3 h`, `12 d`.
pub(super) fn rounded(duration: Duration) -> String {
    match duration.as_secs() {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7_200 => format!("{} min", (secs + 30) / 60),
        secs @ 7_200..172_800 => format!("{} h", (secs + 1_800) / 3_600),
        secs => format!("{} d", (secs + 43_200) / 86_400),
    }
}

/// Formats the distance of a time from now: `in 9 s`, `3 h ago`.
pub(super) fn from_now(at: Timestamp, now: Timestamp) -> String {
    // Rounded to the nearest second: 9.9 s ahead is "in 10 s".
    match at.since(now) {
        Duration::ZERO => format!("{} ago", rounded(now.since(at))),
        ahead => format!("in {}", rounded(ahead + Duration::from_millis(500))),
    }
}

/// Formats a time with its distance: `2026-11-24 14:12:07 UTC (9 s ago)`.
pub(super) fn moment(at: Timestamp) -> String {
    with_distance(at.civil().strftime("%Y-%m-%d %H:%M:%S UTC"), at)
}

/// Adds the distance from now to a formatted time.
pub(super) fn with_distance(formatted: impl Display, at: Timestamp) -> String {
    format!("{formatted} ({})", from_now(at, Timestamp::now()))
}

/// Formats a call as in most languages: `add(5, y=3)`.
pub(super) fn call(name: &str, args: &Json, kwargs: &Json) -> String {
    let (Ok(args), Ok(kwargs)) = (args.read::<Vec<Json>>(), kwargs.read::<BTreeMap<String, Json>>()) else {
        return format!("{name}(…)");
    };
    let args = args.iter().map(ToString::to_string);
    let kwargs = kwargs.iter().map(|(name, value)| format!("{name}={value}"));
    let call = format!("{name}({})", args.chain(kwargs).collect::<Vec<_>>().join(", "));
    let call = escape::line(&call);
    match call.len() {
        0..=CALL_MAX => call.into_owned(),
        _ => format!("{}…", &call[..call.floor_char_boundary(CALL_MAX)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = [0, 195, 3_999, 4_200_000, 42_900_000, 65_000_000, 7_200_000_000, 172_800_000_000]
            .map(|micros| duration(Duration::from_micros(micros)));
        assert_eq!(shown, ["0 s", "195 µs", "3 ms", "4.2 s", "42 s", "65 s", "2 h", "2 d"]);
    }

    #[test]
    fn words_are_wrapped_and_never_broken() {
        let folded = |room, text: &str| fold_to(room, text.split(' '), " ", "", "  ");
        assert_eq!(folded(9, "to be or not to be"), ["to be or", "  not to", "  be"]);
        assert_eq!(folded(5, "a very-long-id b"), ["a", "  very-long-id", "  b"]);
        assert_eq!(folded(6, "größe größe"), ["größe", "  größe"]);
        assert_eq!(folded(8, "日本 日本"), ["日本", "  日本"], "each of them takes two columns");
    }

    #[test]
    fn several_lines_are_joined_for_a_table() {
        assert_eq!(flat("\n\npanicked:\n  \x1b[31mboom\u{202e}\n"), "panicked: \\u001b[31mboom\\u202e");
    }

    #[test]
    fn a_document_gets_line_breaks_and_stays_the_same() {
        let text = "{\"a\": [1e999,\n{}, [ ]],\"b, \\\"]\":\"x{\\\\\"}";
        let lines = ["{", "  \"a\": [", "    1e999,", "    {},", "    []", "  ],", "  \"b, \\\"]\": \"x{\\\\\"", "}"];
        assert_eq!(pretty_json(text), lines.join("\n"));
        let deep = 10_000;
        assert!(pretty_json(&format!("{}{}", "[".repeat(deep), "]".repeat(deep))).len() < deep * 200);
    }

    #[test]
    fn truncation_keeps_whole_characters_and_fits() {
        assert_eq!(
            (cut("short", 5), cut("longer", 5), cut("日本語", 5)),
            ("short".into(), "long…".into(), "日本…".into())
        );
    }

    #[test]
    fn a_call_is_written_as_in_most_languages() {
        let json = |text| Json::parse(text).expect("JSON");
        assert_eq!(call("add", &json("[5,\"a\"]"), &json(r#"{"y":[1]}"#)), r#"add(5, "a", y=[1])"#);
        assert_eq!(call("now", &json("[]"), &json("{}")), "now()");
        assert_eq!(call("f\u{202e}", &json("[\"\u{7f}\",\n1]"), &json("{}")), "f\\u202e(\"\\u007f\", 1)");
        assert_eq!(call("large", &Json::null(), &Json::null()), "large(…)");
    }
}
