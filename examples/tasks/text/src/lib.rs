//! Example: parameters and results are plain Rust types: borrowed, optional, or your own.

use std::collections::BTreeMap;

use fastworker_guest::task;
use serde::Serialize;

/// The result of [`word_count`].
#[derive(Debug, PartialEq, Serialize)]
struct WordCount {
    words: usize,
    distinct: usize,
    /// The most frequent words first; words of equal frequency in alphabetical order.
    top: Vec<(String, usize)>,
}

/// Counts the words of a text, and finds the `top` most frequent ones (default 10).
///
/// A word consists of letters and digits; case does not matter.
#[task]
fn word_count(text: &str, top: Option<usize>) -> WordCount {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for word in words(text) {
        *counts.entry(word).or_default() += 1;
    }
    let words = counts.values().sum();
    let distinct = counts.len();
    let mut top_words: Vec<_> = counts.into_iter().collect();
    // The sort is stable and the map sorted, so words of equal frequency stay in order.
    top_words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    top_words.truncate(top.unwrap_or(10));
    WordCount { words, distinct, top: top_words }
}

/// Reverses a text, character by character.
#[task]
fn reverse(text: &str) -> String {
    text.chars().rev().collect()
}

/// Converts a text to a part of a URL: words in lower case, joined by `separator` (default `-`).
#[task]
fn slugify(text: &str, separator: Option<&str>) -> String {
    words(text).collect::<Vec<_>>().join(separator.unwrap_or("-"))
}

/// Joins strings.
#[task]
fn join(parts: &[String], separator: Option<&str>) -> String {
    parts.join(separator.unwrap_or(" "))
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use fastworker_guest::testing;

    use super::*;

    #[test]
    fn words_are_counted_regardless_of_case() {
        let counted = word_count("The cat and the hat. The end!", Some(2));
        assert_eq!(counted.words, 7);
        assert_eq!(counted.distinct, 5);
        assert_eq!(counted.top, [("the".to_owned(), 3), ("and".to_owned(), 1)]);
    }

    #[test]
    fn the_result_is_an_object_and_pairs_are_lists() {
        let counted = testing::call("word_count", r#"["to be or not to be"]"#, r#"{"top": 1}"#);
        let expected = r#"{"words":6,"distinct":4,"top":[["be",2]]}"#;
        assert_eq!(counted.as_deref(), Ok(expected));
    }

    #[test]
    fn a_text_is_reversed_by_characters_and_not_by_bytes() {
        assert_eq!(reverse("größe"), "eßörg");
    }

    #[test]
    fn an_argument_left_out_or_null_is_the_default() {
        assert_eq!(slugify("Hello, World!", None), "hello-world");
        let given_null = testing::call("slugify", r#"["Hello, World!", null]"#, "{}");
        assert_eq!(given_null.as_deref(), Ok(r#""hello-world""#));
        let named = testing::call("slugify", r#"["Hello, World!"]"#, r#"{"separator": "_"}"#);
        assert_eq!(named.as_deref(), Ok(r#""hello_world""#));
    }

    #[test]
    fn a_list_is_a_slice() {
        let joined = testing::call("join", r#"[["a", "b\n"]]"#, r#"{"separator": "\u002b"}"#);
        assert_eq!(joined.as_deref(), Ok(r#""a+b\n""#));
    }
}
