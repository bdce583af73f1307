//! Walking the text of a JSON document without building a value of it.
//!
//! Apart because it trusts its input: a [`crate::json::Json`] was checked once to be a document, so
//! here brackets match and texts end. Nothing is allocated but keys with escapes in them.

use std::borrow::Cow;

/// The items of an array, each as its own text. Those of anything else are none.
pub(super) fn items(array: &str) -> Items<'_> {
    Items { text: array, at: usize::from(array.starts_with('[')) }
}

/// The keys and values of an object. Those of anything else are none.
pub(super) fn entries(object: &str) -> Entries<'_> {
    Entries(Items { text: object, at: usize::from(object.starts_with('{')) })
}

#[derive(Debug)]
pub(super) struct Items<'a> {
    text: &'a str,
    /// Behind the opening bracket, or behind an item.
    at: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.value()
    }
}

impl<'a> Items<'a> {
    /// The next value behind spaces, commas and colons.
    fn value(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let from = skip(bytes, self.at, |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':'));
        if from == 0 || matches!(bytes.get(from)?, b']' | b'}') {
            return None;
        }
        self.at = end(bytes, from);
        self.text.get(from..self.at)
    }
}

#[derive(Debug)]
pub(super) struct Entries<'a>(Items<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (Cow<'a, str>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        Some((unquoted(self.0.value()?), self.0.value()?))
    }
}

/// Whether an escape in a JSON text stands for half of a character: `"\\ud800"` and nothing behind it.
/// JSON allows that, and no text of Rust can hold it.
pub(super) fn is_torn(quoted: &str) -> bool {
    let unit = |at: usize| {
        let digits = quoted.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut at, mut rest) = (0, quoted);
    while let Some(next) = rest.find('\\') {
        at += next;
        at += match unit(at) {
            Some(0xd800..=0xdbff) => match unit(at + 6) {
                Some(0xdc00..=0xdfff) => 12,
                _ => return true,
            },
            Some(0xdc00..=0xdfff) => return true,
            Some(_) => 6,
            None => 2,
        };
        let Some(left) = quoted.get(at..) else { break };
        rest = left;
    }
    false
}

/// The text that a JSON text stands for.
pub(super) fn unquoted(quoted: &str) -> Cow<'_, str> {
    let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(quoted);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    // Half of a surrogate pair is no text; whoever compares it finds nothing equal to it.
    serde_json::from_str::<String>(quoted).map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// Where the value that begins at `from` ends.
fn end(bytes: &[u8], from: usize) -> usize {
    match bytes.get(from) {
        Some(b'"') => end_of_text(bytes, from),
        Some(b'[' | b'{') => {
            let (mut at, mut depth) = (from, 0_usize);
            while let Some(byte) = bytes.get(at) {
                match byte {
                    b'"' => {
                        at = end_of_text(bytes, at);
                        continue;
                    }
                    b'[' | b'{' => depth += 1,
                    b']' | b'}' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    break;
                }
            }
            at
        }
        _ => skip(bytes, from, |byte| !matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r')),
    }
}

fn end_of_text(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn skip(bytes: &[u8], from: usize, is_skipped: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !is_skipped(*byte)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_half_of_a_character_is_found() {
        for whole in
            [r#""""#, r#""a\\ud800""#, r#""\u0041\n\"ü""#, r#""\ud83d\ude00""#, r#""\uD83D\uDE00x""#, r#""\\\n""#]
        {
            assert!(!is_torn(whole), "{whole}");
            assert!(serde_json::from_str::<String>(whole).is_ok(), "{whole}");
        }
        for torn in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\ud800\udc00""#,
            r#""ü\ud800x""#,
            r#""\\\uD83D\n""#,
            r#""\ude00\ud83d""#,
        ] {
            assert!(is_torn(torn), "{torn}");
            assert!(serde_json::from_str::<String>(torn).is_err(), "{torn}");
        }
    }

    #[test]
    fn values_are_found_between_brackets_in_texts_and_spaces() {
        let array = r#"[ 1 ,"a]\"\\", [2,[3,"}"]] , {"b":{}},true,-1.5e3 ]"#;
        let found: Vec<&str> = items(array).collect();
        assert_eq!(found, ["1", r#""a]\"\\""#, r#"[2,[3,"}"]]"#, r#"{"b":{}}"#, "true", "-1.5e3"]);
        assert_eq!(items("[]").count() + items("[ ]").count() + items("7").count() + items("{}").count(), 0);
        let object = r#"{"a" : 1, "\u0062": [","], "größe":{"c":":"}}"#;
        let found: Vec<_> = entries(object).collect();
        let expected = [("a", "1"), ("b", r#"[","]"#), ("größe", r#"{"c":":"}"#)];
        assert_eq!(found, expected.map(|(key, value)| (Cow::Borrowed(key), value)));
        assert_eq!(entries("{}").count() + entries("[1]").count() + entries("\"x\"").count(), 0);
    }
}
