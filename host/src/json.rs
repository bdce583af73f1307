//! A JSON document that is forwarded as text.
//!
//! Arguments and results pass through the whole system, and no part of it parses them into values. Invariant: a
//! [`Json`] holds exactly one valid JSON document. It is checked where it enters the system, and never again.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;

#[cfg(feature = "runtime")]
mod portable;

/// One JSON document, checked and shared.
#[derive(Clone)]
pub struct Json(Arc<RawValue>);

/// The string is not exactly one JSON document.
#[derive(Debug, thiserror::Error)]
pub enum NotJson {
    /// NaN or Infinity, which Python writes and JSON does not have.
    #[error("JSON has no NaN or Infinity: send null or a string instead")]
    NotANumber,
    /// Any other syntax error, with its position.
    #[error("not a JSON document: {0}")]
    Syntax(serde_json::Error),
}

impl Json {
    /// Checks that a string is exactly one JSON document.
    ///
    /// # Errors
    /// [`NotJson`] if it is not.
    pub fn parse(text: &str) -> Result<Self, NotJson> {
        let holds_nan = || ["NaN", "Infinity"].iter().any(|word| text.contains(word));
        match serde_json::from_str::<&RawValue>(text) {
            Ok(document) => Ok(Self(document.to_owned().into())),
            Err(_) if holds_nan() => Err(NotJson::NotANumber),
            Err(error) => Err(NotJson::Syntax(error)),
        }
    }

    /// Serializes a value.
    ///
    /// # Errors
    /// When the value has no JSON form, such as a map with keys that are not strings.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self::from)
    }

    /// The document `null`.
    pub fn null() -> Self {
        static NULL: LazyLock<Json> = LazyLock::new(|| constant("null"));
        NULL.clone()
    }

    /// The document `[]`.
    pub fn empty_array() -> Self {
        static EMPTY: LazyLock<Json> = LazyLock::new(|| constant("[]"));
        EMPTY.clone()
    }

    /// The document `{}`.
    pub fn empty_object() -> Self {
        static EMPTY: LazyLock<Json> = LazyLock::new(|| constant("{}"));
        EMPTY.clone()
    }

    /// The text of the document.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Deserializes the document.
    ///
    /// # Errors
    /// When the document does not have the shape of `T`.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }
}

/// Whether the text is one JSON document that common readers accept: its numbers are finite, its strings are whole
/// characters, and it is nested at most 127 levels deep.
#[cfg(feature = "runtime")]
pub(crate) fn is_portable(text: &str) -> bool {
    serde_json::from_str::<portable::Value>(text).is_ok()
}

/// Makes one of the constant documents above.
fn constant(text: &str) -> Json {
    Json::parse(text).expect("the strings in this file are documents")
}

impl From<Box<RawValue>> for Json {
    fn from(document: Box<RawValue>) -> Self {
        Self(document.into())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Compares the documents as text, not their values: `1.0` is not `1`.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.0.serialize(serializer)
        } else {
            serializer.serialize_str(self.as_str())
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Box::<RawValue>::deserialize(deserializer).map(Self::from)
        } else {
            Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exactly_one_document_is_accepted() {
        assert_eq!(Json::parse(" [1, 2] ").expect("a document").as_str(), "[1, 2]");
        for wrong in ["", "1 2", "{\"a\":1}}", "[1,]", "nul", "\"open"] {
            assert!(matches!(Json::parse(wrong), Err(NotJson::Syntax(_))), "{wrong}");
        }
        assert!(matches!(Json::parse("[NaN]"), Err(NotJson::NotANumber)));
    }

    #[cfg(feature = "runtime")]
    #[test]
    fn a_document_is_portable_if_common_readers_accept_it() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        for text in ["null", "-1.5e300", r#" {"a": [true, "\ud83d\ude00"], "a": {}} "#, "1e-999", &nested(127)] {
            assert!(is_portable(text), "{text}");
        }
        for text in ["1e999", "[1,]", "1 2", r#""\ud800""#, r#"{"\udc00":1}"#, "NaN", &nested(128), &nested(1_000_000)] {
            assert!(!is_portable(text), "{}", &text[..text.len().min(20)]);
        }
        let big = "1".repeat(400);
        assert!(!is_portable(&big) && is_portable(&big[..39]));
    }

    #[test]
    fn a_document_passes_both_codecs_unchanged() {
        let document = Json::parse(r#"{"b": 1e2, "a": [null, "ü"]}"#).expect("a document");
        let text = serde_json::to_string(&document).expect("to JSON");
        assert_eq!(text, document.as_str());
        let bytes = postcard::to_stdvec(&document).expect("to postcard");
        assert_eq!(postcard::from_bytes::<Json>(&bytes).expect("from postcard"), document);
    }
}
