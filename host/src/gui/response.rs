//! JSON responses, serialized without parsing the documents of tasks and clients.
//!
//! A value of `serde_json` cannot hold every document: numbers with 400 digits, 128 levels of nesting or
//! lone surrogates do not survive. So [`object!`] serializes each field immediately, and documents are
//! inserted as their text.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap},
};
use serde_json::value::{RawValue, to_raw_value};

use super::HttpError;
use crate::escape;

/// A JSON response, in which invisible characters are escaped.
#[derive(Debug)]
pub(super) struct JsonResponse<T>(pub(super) T);

impl<T: Serialize> IntoResponse for JsonResponse<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(&self.0) {
            Ok(text) => {
                let text = escape::json(&text).into_owned();
                ([(header::CONTENT_TYPE, "application/json")], text).into_response()
            }
            Err(error) => {
                let why = format!("the response cannot be serialized, which is a bug in fastworker: {error}");
                HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
            }
        }
    }
}

/// A JSON object whose values are already serialized.
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

/// Builds an [`Object`] from names and values, like `json!`, but without converting the values.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {{
        let mut object = $crate::gui::response::Object::default();
        $(object.put($name, &$value);)*
        object
    }};
}
pub(super) use object;

#[cfg(test)]
mod tests {
    use crate::json::Json;

    #[test]
    fn documents_that_no_value_can_hold_are_unchanged() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for text in [&"9".repeat(400), &deep, "1e999", "1e-999", "-0", r#""\ud800""#, r#"{"a":1,"a":2,"":3}"#] {
            let document = Json::parse(text).expect("JSON");
            let serialized =
                serde_json::to_string(&object! { "n": 1, "result": document, "all": [Some(&document), None] });
            assert_eq!(serialized.expect("JSON"), format!(r#"{{"n":1,"result":{text},"all":[{text},null]}}"#));
        }
    }
}
