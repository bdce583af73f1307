//! Answers in JSON, written out without reading what tasks and clients wrote.
//!
//! Apart because a value of `serde_json` cannot hold every document: not 400 digits, not 128 levels,
//! not half of a surrogate pair. So nothing here is ever read into one: [`object!`] writes its parts
//! out at once, and documents go through as their text.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap},
};
use serde_json::value::{RawValue, to_raw_value};

use super::Refusal;
use crate::visible;

/// Something as JSON, of characters that can be shown wherever it is printed.
#[derive(Debug)]
pub(super) struct Answer<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(&self.0) {
            Ok(text) => {
                let text = visible::json(&text).into_owned();
                ([(header::CONTENT_TYPE, "application/json")], text).into_response()
            }
            Err(error) => {
                let why = format!("the answer cannot be written, which is a bug in fastworker: {error}");
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
            }
        }
    }
}

/// A JSON object whose values are written already.
#[derive(Debug, Default)]
pub(super) struct Object(Vec<(&'static str, Result<Box<RawValue>, serde_json::Error>)>);

impl Object {
    /// Adds a value under a name.
    pub(super) fn put<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) {
        self.0.push((name, to_raw_value(value)));
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value.as_ref().map_err(S::Error::custom)?)?;
        }
        map.end()
    }
}

/// An [`Object`] of names and values, as `json!` writes one, but for its values: they are taken as
/// they are.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {{
        let mut object = $crate::gui::answer::Object::default();
        $(object.put($name, &$value);)*
        object
    }};
}
pub(super) use object;

#[cfg(test)]
mod tests {
    use crate::json::Json;

    #[test]
    fn documents_that_no_value_holds_go_through_as_they_are() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for text in [&"9".repeat(400), &deep, "1e999", "1e-999", "-0", r#""\ud800""#, r#"{"a":1,"a":2,"":3}"#] {
            let document = Json::parse(text).expect("JSON");
            let written =
                serde_json::to_string(&object! { "n": 1, "result": document, "all": [Some(&document), None] });
            assert_eq!(written.expect("JSON"), format!(r#"{{"n":1,"result":{text},"all":[{text},null]}}"#));
        }
    }
}
