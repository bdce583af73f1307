//! Formatting of JSON documents.

/// Maximum indentation level of a JSON document, which may be nested deeper than any line is wide.
const INDENT_MAX: usize = 32;

/// Formats a JSON document with line breaks and indentation. Numbers and strings are unchanged: parsing them into
/// values could change them.
pub(super) fn pretty_json(document: &str) -> String {
    let (mut pretty, mut depth, mut rest) = (String::with_capacity(document.len() * 2), 0_usize, document);
    let start_line = |pretty: &mut String, depth: usize| {
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
                start_line(&mut pretty, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                start_line(&mut pretty, depth);
                pretty.push_str(part);
            }
            ',' => {
                pretty.push_str(part);
                start_line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            _ => pretty.push_str(part),
        }
        rest = after;
    }
    pretty
}

/// The length of the JSON string literal at the start of `text`.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_gets_line_breaks_and_stays_the_same() {
        let text = "{\"a\": [1e999,\n{}, [ ]],\"b, \\\"]\":\"x{\\\\\"}";
        let lines = ["{", "  \"a\": [", "    1e999,", "    {},", "    []", "  ],", "  \"b, \\\"]\": \"x{\\\\\"", "}"];
        assert_eq!(pretty_json(text), lines.join("\n"));
        let deep = 10_000;
        assert!(pretty_json(&format!("{}{}", "[".repeat(deep), "]".repeat(deep))).len() < deep * 200);
    }
}
