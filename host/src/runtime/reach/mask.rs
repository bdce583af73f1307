//! Masks secrets in what a guest writes.
//!
//! Each secret is searched in every form in which common serializers write it. A stream is masked before it is split
//! into lines or cut, so that no secret passes in two parts. The search (Knuth-Morris-Pratt) takes one step a byte for
//! each form, whatever the guest prints.

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt::{self, Write as _},
    mem,
    ops::Range,
};

use serde::{Deserialize, Deserializer, de::Visitor};

use super::super::grants::Secret;
use crate::{json::Json, task::TaskInfo};

/// What replaces a secret.
const MASKED: &str = "***";

/// The secrets of a module.
pub(in crate::runtime) struct Mask {
    forms: Vec<Spelling>,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mask")
    }
}

/// One form of a secret.
struct Spelling {
    bytes: Box<[u8]>,
    /// For each number of matched bytes, the next smaller number that can still become a match.
    fallback: Box<[usize]>,
}

impl Spelling {
    fn new(text: &str) -> Self {
        let bytes: Box<[u8]> = text.as_bytes().into();
        let mut fallback = vec![0; bytes.len() + 1];
        let mut matched = 0;
        for index in 1..bytes.len() {
            while matched > 0 && bytes[matched] != bytes[index] {
                matched = fallback[matched];
            }
            matched += usize::from(bytes[matched] == bytes[index]);
            fallback[index + 1] = matched;
        }
        Self { bytes, fallback: fallback.into() }
    }

    /// The number of matched bytes after one more byte.
    fn step(&self, mut matched: usize, byte: u8) -> usize {
        loop {
            if matched < self.bytes.len() && self.bytes[matched] == byte {
                return matched + 1;
            }
            if matched == 0 {
                return 0;
            }
            matched = self.fallback[matched];
        }
    }
}

impl Mask {
    /// The mask of these secrets; none if there are none.
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Option<Self> {
        let mut forms: Vec<String> = secrets.flat_map(|secret| forms(secret.reveal())).collect();
        forms.sort_unstable();
        forms.dedup();
        let forms: Vec<Spelling> =
            forms.iter().filter(|form| !form.is_empty()).map(|form| Spelling::new(form)).collect();
        (!forms.is_empty()).then_some(Self { forms })
    }

    /// The text with every secret replaced.
    pub(in crate::runtime) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut stream = MaskedStream::default();
        let mut masked = stream.push(self, text.as_bytes());
        masked.append(&mut stream.finish());
        if masked == text.as_bytes() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(String::from_utf8_lossy(&masked).into_owned())
    }

    /// The document with every secret in a string, a key or a number replaced.
    pub(in crate::runtime) fn json(&self, document: &Json) -> Json {
        let masked = self.json_text(document.as_str());
        // What replaces a string or number is a string, so the text stays a document.
        masked.and_then(|masked| Json::parse(&masked).ok()).unwrap_or_else(|| document.clone())
    }

    /// The description of a task with every secret replaced.
    pub(in crate::runtime) fn task(&self, task: TaskInfo) -> TaskInfo {
        let text = |text: &String| self.text(text).into_owned();
        TaskInfo {
            name: text(&task.name),
            documentation: text(&task.documentation),
            schema: self.json(&task.schema),
            warnings: task.warnings.iter().map(text).collect(),
            ..task
        }
    }

    /// The text of a document, masked; none if it has no secret.
    fn json_text(&self, text: &str) -> Option<String> {
        let mut masked = String::new();
        let mut copied = 0;
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
            let token = &rest[start..];
            let token = &token[..token_length(token)];
            let offset = text.len() - rest.len() + start;
            rest = &rest[start + token.len()..];
            if let Some(replacement) = self.json_token(token) {
                masked.push_str(&text[copied..offset]);
                masked.push_str(&replacement);
                copied = offset + token.len();
            }
        }
        if copied == 0 {
            return None;
        }
        masked.push_str(&text[copied..]);
        Some(masked)
    }

    /// The string that replaces a string or a number of a document.
    fn json_token(&self, token: &str) -> Option<String> {
        let value: Cow<'_, str> = match token.strip_prefix('"') {
            Some(_) if token.contains('\\') => Cow::Owned(serde_json::from_str::<AnyString>(token).ok()?.0),
            Some(inner) => Cow::Borrowed(inner.strip_suffix('"')?),
            None => Cow::Borrowed(token),
        };
        match self.text(&value) {
            Cow::Borrowed(_) => None,
            Cow::Owned(masked) => serde_json::to_string(&masked).ok(),
        }
    }
}

/// A string of JSON, which may have halves of surrogate pairs; they are replaced.
struct AnyString(String);

impl<'de> Deserialize<'de> for AnyString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = AnyString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<AnyString, E> {
                Ok(AnyString(String::from_utf8_lossy(bytes).into_owned()))
            }
        }

        // As bytes, since text could not have them.
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The forms of a secret: as it is, and as a string of JSON.
fn forms(secret: &str) -> [String; 4] {
    let json = serde_json::to_string(secret).unwrap_or_default();
    let json = json.trim_start_matches('"').strip_suffix('"').map_or_else(String::new, str::to_owned);
    // Python writes ASCII only.
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // A string takes all.
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    // Go also escapes what has a meaning in HTML.
    let html = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    [secret.to_owned(), json, ascii, html]
}

/// The length of the string or the number with which a part of a valid document starts.
fn token_length(token: &str) -> usize {
    if !token.starts_with('"') {
        let is_in_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        return token.find(|c| !is_in_number(c)).unwrap_or(token.len());
    }
    let mut is_escaped = false;
    for (index, byte) in token.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !is_escaped => return index + 1,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    token.len()
}

/// A stream of bytes while it is masked.
#[derive(Debug, Default)]
pub(in crate::runtime) struct MaskedStream {
    /// For each form of the mask, the number of its bytes that the end of the stream matches.
    matched: Vec<usize>,
    /// The bytes that were not returned yet.
    pending: Vec<u8>,
    /// The position of the first of them.
    start: u64,
    /// The secrets in them, in order, not overlapping.
    found: VecDeque<Range<u64>>,
    /// Whether the last byte that was returned, or left out, is a secret's.
    is_in_secret: bool,
}

impl MaskedStream {
    /// Adds bytes, and returns those of which it is now certain that no secret begins in them.
    pub(in crate::runtime) fn push(&mut self, mask: &Mask, bytes: &[u8]) -> Vec<u8> {
        self.matched.resize(mask.forms.len(), 0);
        for byte in bytes {
            self.pending.push(*byte);
            let end = self.start + self.pending.len() as u64;
            for (form, matched) in mask.forms.iter().zip(&mut self.matched) {
                *matched = form.step(*matched, *byte);
                if *matched == form.bytes.len() {
                    let mut found = end - form.bytes.len() as u64..end;
                    while let Some(last) = self.found.pop_back_if(|last| last.end >= found.start) {
                        found.start = found.start.min(last.start);
                    }
                    self.found.push_back(found);
                    // Secrets may overlap.
                    *matched = form.fallback[*matched];
                }
            }
        }
        let held = self.matched.iter().copied().max().unwrap_or(0);
        self.release(self.pending.len() - held)
    }

    /// Returns the rest, and clears the stream.
    pub(in crate::runtime) fn finish(&mut self) -> Vec<u8> {
        let rest = self.release(self.pending.len());
        *self = Self::default();
        rest
    }

    /// Returns the first `count` pending bytes, masked.
    fn release(&mut self, count: usize) -> Vec<u8> {
        let rest = self.pending.split_off(count);
        let released = mem::replace(&mut self.pending, rest);
        if self.found.is_empty() && !self.is_in_secret {
            self.start += count as u64;
            return released;
        }
        let mut masked = Vec::with_capacity(released.len());
        for byte in released {
            self.found.pop_front_if(|found| found.end <= self.start);
            if self.found.front().is_some_and(|found| found.contains(&self.start)) {
                if !mem::replace(&mut self.is_in_secret, true) {
                    masked.extend_from_slice(MASKED.as_bytes());
                }
            } else {
                self.is_in_secret = false;
                masked.push(byte);
            }
            self.start += 1;
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(secrets: &[&str]) -> Mask {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::from((*secret).to_owned())).collect();
        Mask::new(secrets.iter()).expect("there are secrets")
    }

    /// Masks the text in pieces of every size, and checks that all give the same.
    fn streamed(mask: &Mask, text: &str) -> String {
        let whole = mask.text(text).into_owned();
        for size in 1..=text.len() {
            let mut stream = MaskedStream::default();
            let mut masked = Vec::new();
            text.as_bytes().chunks(size).for_each(|piece| masked.append(&mut stream.push(mask, piece)));
            masked.append(&mut stream.finish());
            assert_eq!(String::from_utf8_lossy(&masked), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn secrets_are_masked_wherever_a_text_is_split() {
        let mask = mask(&["hunter2", "two\nlines", "ter2two"]);
        let cases = [
            ("plain", "plain"),
            ("hunter2", "***"),
            ("a hunter2, hunter", "a ***, hunter"),
            ("hunthunter2", "hunt***"),
            ("say two\nlines!", "say ***!"),
            ("hunter2two\nlines", "***"),
            ("hunter2hunter2x", "***x"),
            ("", ""),
        ];
        for (text, masked) in cases {
            assert_eq!(streamed(&mask, text), masked, "{text}");
        }
    }

    #[test]
    fn overlapping_secrets_leave_no_part_of_one() {
        let nested = mask(&["abcd", "abcdef", "cdefgh"]);
        assert_eq!(streamed(&nested, "xabcdefghx"), "x***x");
        assert_eq!(streamed(&nested, "xabcdx abcdex"), "x***x ***ex");
        let periodic = mask(&["aaaa"]);
        assert_eq!(streamed(&periodic, "aaa b aaaaaaaaa b"), "aaa b *** b");
    }

    #[test]
    fn a_stream_holds_back_no_more_than_a_part_of_a_secret() {
        let mask = mask(&["aaaa"]);
        let mut stream = MaskedStream::default();
        for _ in 0..1000 {
            stream.push(&mask, &[b'a'; 1000]);
            assert!(stream.pending.len() < 4 && stream.found.len() < 2);
        }
        assert_eq!(stream.finish(), b"");
    }

    #[test]
    fn forms_of_json_are_masked_in_text() {
        let mask = mask(&["pä\"<s>\n"]);
        for text in ["pä\"<s>\n", r#"{"key":"pä\"<s>\n"}"#, r#""p\u00e4\"<s>\n""#, r#""pä\"\u003cs\u003e\n""#] {
            let masked = streamed(&mask, text);
            assert!(masked.contains("***") && !masked.contains("s>") && !masked.contains("u003cs"), "{masked}");
        }
    }

    #[test]
    fn a_document_stays_one_when_it_is_masked() {
        let mask = mask(&["se\"cret", "12345678"]);
        let cases = [
            (r#"{"se\"cret": [1, "a se\u0022cret b"]}"#, r#"{"***": [1, "a *** b"]}"#),
            (r"[12345678, 123456780, -1.5e3, true]", r#"["***", "***0", -1.5e3, true]"#),
            (r#"["\\", "\"", "se\\cret"]"#, r#"["\\", "\"", "se\\cret"]"#),
            (r#""12345678""#, r#""***""#),
            (r#"["\ud800se\u0022cret"]"#, "[\"\u{fffd}\u{fffd}\u{fffd}***\"]"),
            (r#"["\ud800"]"#, r#"["\ud800"]"#),
            ("null", "null"),
        ];
        for (document, masked) in cases {
            let document = Json::parse(document).expect("a document");
            assert_eq!(mask.json(&document).as_str(), masked);
        }
    }
}
