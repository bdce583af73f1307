//! Walks the text of a JSON document without building a value.
//!
//! The input must be valid: a [`crate::json::Json`] was checked once, so that brackets match and strings end. Only keys
//! with escapes are allocated.

use std::borrow::Cow;

/// Returns the items of an array, each as text; none for any other value.
pub(crate) fn items(array: &str) -> Items<'_> {
    Items { text: array, at: usize::from(array.starts_with('[')) }
}

/// Returns the keys and values of an object; none for any other value.
pub(crate) fn entries(object: &str) -> Entries<'_> {
    Entries(Items { text: object, at: usize::from(object.starts_with('{')) })
}

/// Like [`entries`], with each key as it is written.
pub(crate) fn raw_entries(object: &str) -> impl Iterator<Item = (&str, &str)> + Clone {
    let mut values = Items { text: object, at: usize::from(object.starts_with('{')) };
    std::iter::from_fn(move || Some((values.value()?, values.value()?)))
}

/// The first of these strings and integers, in their order, that is given twice.
pub(crate) fn repeated<'a>(values: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    // Integers have no other form than this one of zero.
    let canonical = |value: &'a str| if value == "-0" { Cow::Borrowed("0") } else { unquoted(value) };
    let mut sorted: Vec<Cow<'a, str>> = values.clone().map(canonical).collect();
    sorted.sort_unstable();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1])?;
    let mut values = values;
    values.find(|value| canonical(value) == twice[0])
}

/// The digits of base64 text in the standard alphabet, without the padding, which may be missing. None if it is no such
/// text, or if its last digit has bits beyond the last byte.
pub(crate) fn base64_digits(text: &str) -> Option<&str> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let is_padded = padding == 0 || (padding <= 2 && text.len().is_multiple_of(4));
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let last = digits.as_bytes().last();
    let is_canonical = match digits.len() % 4 {
        0 => true,
        2 => last.is_some_and(|last| b"AQgw".contains(last)),
        3 => last.is_some_and(|last| b"AEIMQUYcgkosw048".contains(last)),
        _ => false,
    };
    (is_padded && is_canonical && digits.as_bytes().iter().all(is_digit)).then_some(digits)
}

#[derive(Clone, Debug)]
pub(crate) struct Items<'a> {
    text: &'a str,
    /// Offset after the opening bracket or the last item.
    at: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.value()
    }
}

impl<'a> Items<'a> {
    /// Returns the next value after spaces, commas and colons.
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
pub(crate) struct Entries<'a>(Items<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (Cow<'a, str>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        Some((unquoted(self.0.value()?), self.0.value()?))
    }
}

/// Whether a JSON string contains a lone surrogate, such as `"\\ud800"`. JSON allows it, but no Rust string can hold
/// it.
pub(crate) fn has_lone_surrogate(quoted: &str) -> bool {
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

/// Decodes a JSON string.
pub(crate) fn unquoted(quoted: &str) -> Cow<'_, str> {
    let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(quoted);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    // A lone surrogate has no decoded form: the raw text is equal to no other string.
    serde_json::from_str::<String>(quoted).map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// Returns the end of the value that starts at `from`.
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
            assert!(!has_lone_surrogate(whole), "{whole}");
            assert!(serde_json::from_str::<String>(whole).is_ok(), "{whole}");
        }
        for broken in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\ud800\udc00""#,
            r#""ü\ud800x""#,
            r#""\\\uD83D\n""#,
            r#""\ude00\ud83d""#,
        ] {
            assert!(has_lone_surrogate(broken), "{broken}");
            assert!(serde_json::from_str::<String>(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn base64_may_lack_its_padding() {
        for text in ["", "AA", "AA==", "AAA", "AAA=", "AAAA", "+/AA", "AAAAAA=="] {
            assert_eq!(base64_digits(text), Some(text.trim_end_matches('=')), "{text}");
        }
        for text in ["A", "AA=", "A===", "=", "AAAA=", "AAAA====", "A-_A", "AA A", "ÄA", "AB==", "AB", "AP9="] {
            assert_eq!(base64_digits(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_given_twice_is_found_in_any_spelling() {
        let first = |array: &'static str| repeated(items(array));
        assert_eq!(first(r#"["b", "a", "\u0062", "c"]"#), Some(r#""b""#));
        assert_eq!(first("[1, 0, 10, -0, 11]"), Some("0"));
        assert_eq!(first(r#"["a", "A", "", "1"]"#), None);
        assert_eq!(first("[]"), None);
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
