//! Escapes untrusted text before it is displayed: text of a task, a file name or a peer must not move the cursor, set a
//! colour, hide a part of itself or change its reading order.
//!
//! Used for all output: terminal, log, labels of metrics and responses of the web server. Nothing is removed: each such
//! character is written as its JSON escape (`\u202e`, `\n`), so an escaped JSON document has the same meaning. The page
//! does the same in `gui/page/dom.js`.

use std::{borrow::Cow, fmt::Write as _, path::Path};

/// Characters that are invisible or change how others are displayed: controls, format and bidirectional controls, line
/// separators, and blank letters. Sorted.
const HIDDEN: [(char, char); 20] = [
    ('\0', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    // Without the last two variation selectors, which many emoji need.
    ('\u{fe00}', '\u{fe0d}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{13430}', '\u{1345f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether a character is one of [`HIDDEN`].
fn is_hidden(char: char) -> bool {
    let at = HIDDEN.partition_point(|(_, last)| *last < char);
    HIDDEN.get(at).is_some_and(|(first, _)| *first <= char)
}

/// Escapes a string for one line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// Escapes the path of a file for one line.
pub(crate) fn path(path: &Path) -> String {
    line(&path.to_string_lossy()).into_owned()
}

/// Escapes a string of several lines, and keeps its line breaks.
#[cfg(feature = "cli")]
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    if text.contains("\r\n") {
        return escaped(&text.replace("\r\n", "\n"), |char| matches!(char, '\n' | '\t')).into_owned().into();
    }
    escaped(text, |char| matches!(char, '\n' | '\t'))
}

/// Escapes a string of several lines, and indents all but the first by `indent`, so that none of them looks like a line
/// of fastworker. Trailing empty lines are removed.
#[cfg(feature = "cli")]
pub(crate) fn indented(text: &str, indent: &str) -> String {
    lines(text.trim_end()).replace('\n', &format!("\n{indent}"))
}

/// Escapes JSON documents. Their meaning stays the same.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    // A raw control character can only occur between tokens, where a line break and a space mean the same.
    if text.contains('\r') {
        return escaped(&text.replace('\r', " "), |char| matches!(char, '\n' | '\t')).into_owned().into();
    }
    escaped(text, |char| matches!(char, '\n' | '\t'))
}

/// Escapes the value of a label. Different values stay different.
pub(crate) fn label(text: &str) -> Cow<'_, str> {
    let is_changed = text.contains("\\u") || text.contains(is_hidden);
    if is_changed { line(&text.replace('\\', "\\\\")).into_owned().into() } else { text.into() }
}

fn escaped(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let needs_escape = |char: char| is_hidden(char) && !is_kept(char);
    // Nearly all text is printable ASCII: skip the table.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.contains(needs_escape) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if needs_escape(char) { write_escape(&mut shown, char) } else { shown.push(char) }
    }
    shown.into()
}

fn write_escape(shown: &mut String, char: char) {
    match char {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        _ => {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn visible_text_is_unchanged() {
        for text in ["plain", "größe", "日本語", "שלום", "مرحبا", "\u{26a0}\u{fe0f} ✓ 👍🏽", "a\u{301}", "\\u202e"]
        {
            assert_eq!((line(text), lines(text), json(text)), (text.into(), text.into(), text.into()));
        }
        assert!(HIDDEN.is_sorted() && HIDDEN.iter().all(|(first, last)| first <= last));
    }

    #[test]
    fn controls_and_invisible_characters_are_escaped() {
        let cases = [
            ("\x1b[31mred\x1b[8mhidden", "\\u001b[31mred\\u001b[8mhidden"),
            ("\x1b]52;c;ZXZpbA==\x07", "\\u001b]52;c;ZXZpbA==\\u0007"),
            ("pay\u{202e}deco\u{202c}", "pay\\u202edeco\\u202c"),
            ("a\u{2066}b\u{2069}\u{200f}\u{61c}", "a\\u2066b\\u2069\\u200f\\u061c"),
            ("zero\u{200b}\u{200d}width\u{feff}", "zero\\u200b\\u200dwidth\\ufeff"),
            ("c1\u{9b}31m\u{85}\x7f\0", "c1\\u009b31m\\u0085\\u007f\\u0000"),
            ("tag\u{e0041}", "tag\\udb40\\udc41"),
            ("line\u{2028}separator", "line\\u2028separator"),
        ];
        for (text, shown) in cases {
            assert_eq!((line(text), lines(text), json(text)), (shown.into(), shown.into(), shown.into()));
        }
    }

    #[test]
    fn line_breaks_are_kept_only_by_lines_and_indented() {
        assert_eq!(line("a\nb\r\tc"), "a\\nb\\r\\tc");
        assert_eq!(lines("a\r\nb\n\tc\rd"), "a\nb\n\tc\\rd");
        assert_eq!(indented("error\nhint: none\n\n", "  "), "error\n  hint: none");
    }

    #[test]
    fn an_escaped_document_has_the_same_meaning() {
        let text = "{\"a\u{202e}\":\r\n [\"\u{7f}\u{9b}\u{e0041}\", 1e999]}";
        let shown = json(text);
        assert!(!shown.contains(|char| is_hidden(char) && char != '\n'), "{shown:?}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(&text.replace("1e999", "0")).expect("JSON");
        assert_eq!(read(&shown), read(text));
    }

    #[test]
    fn different_labels_stay_different() {
        let names = ["a\u{202e}", "a\\u202e", "a\\\\u202e", "a\\\u{202e}", "a\\b", "a"];
        let mut labels = names.map(label).to_vec();
        assert_eq!((&*labels[4], &*labels[5]), ("a\\b", "a"), "usual names are unchanged");
        labels.sort();
        labels.dedup();
        assert_eq!(labels.len(), names.len());
    }
}
