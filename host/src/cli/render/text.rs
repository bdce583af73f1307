//! Formatting of calls and long lines.

use std::collections::BTreeMap;

use comfy_table::Table;

use crate::{escape, json::Json};

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

/// The width of a string on a terminal, in columns.
pub(super) fn display_width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    let mut table = Table::new();
    table.add_row([text]);
    table.column_max_content_widths().first().copied().map_or(0, usize::from)
}

/// Joins the lines of a string into one, for tables and lists.
pub(super) fn single_line(text: &str) -> String {
    let joined = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    escape::line(&joined).into_owned()
}

/// Truncates a string to a number of columns.
pub(super) fn truncate(text: &str, width_max: usize) -> String {
    if display_width(text) <= width_max {
        return text.to_owned();
    }
    let mut truncated = String::new();
    for char in text.chars() {
        truncated.push(char);
        if display_width(&truncated) >= width_max {
            truncated.pop();
            break;
        }
    }
    truncated + "…"
}

/// Wraps words into lines that fit the terminal; the first is indented by `first`, the others by `rest`. A word
/// that is too wide is placed on its own line unbroken, so that it can be copied.
pub(super) fn wrap<'a>(words: impl IntoIterator<Item = &'a str>, gap: &str, first: &str, rest: &str) -> Vec<String> {
    wrap_to(terminal_width(), words, gap, first, rest)
}

fn wrap_to<'a>(
    width_max: usize,
    words: impl IntoIterator<Item = &'a str>,
    gap: &str,
    first: &str,
    rest: &str,
) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut is_empty) = (first.to_owned(), true);
    for word in words {
        if !is_empty && display_width(&line) + gap.len() + display_width(word) > width_max {
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

/// Formats a call as in most languages: `add(5, y=3)`.
pub(super) fn format_call(name: &str, args: &Json, kwargs: &Json) -> String {
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
    fn words_are_wrapped_and_never_broken() {
        let wrapped = |width, text: &str| wrap_to(width, text.split(' '), " ", "", "  ");
        assert_eq!(wrapped(9, "to be or not to be"), ["to be or", "  not to", "  be"]);
        assert_eq!(wrapped(5, "a very-long-id b"), ["a", "  very-long-id", "  b"]);
        assert_eq!(wrapped(6, "größe größe"), ["größe", "  größe"]);
        assert_eq!(wrapped(8, "日本 日本"), ["日本", "  日本"], "each of them is two columns wide");
    }

    #[test]
    fn several_lines_are_joined_for_a_table() {
        assert_eq!(single_line("\n\npanicked:\n  \x1b[31mboom\u{202e}\n"), "panicked: \\u001b[31mboom\\u202e");
    }

    #[test]
    fn truncation_keeps_whole_characters_and_fits() {
        assert_eq!(
            (truncate("short", 5), truncate("longer", 5), truncate("日本語", 5)),
            ("short".into(), "long…".into(), "日本…".into())
        );
    }

    #[test]
    fn a_call_is_written_as_in_most_languages() {
        let json = |text| Json::parse(text).expect("JSON");
        assert_eq!(format_call("add", &json("[5,\"a\"]"), &json(r#"{"y":[1]}"#)), r#"add(5, "a", y=[1])"#);
        assert_eq!(format_call("now", &json("[]"), &json("{}")), "now()");
        assert_eq!(format_call("f\u{202e}", &json("[\"\u{7f}\",\n1]"), &json("{}")), "f\\u202e(\"\\u007f\", 1)");
        assert_eq!(format_call("large", &Json::null(), &Json::null()), "large(…)");
    }
}
