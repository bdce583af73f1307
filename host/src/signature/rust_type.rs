//! The JSON Schema of a plain Rust type, derived from its name.
//!
//! Modules send no schema for plain types: the name is shorter.

use serde_json::{Value, json};

/// Maximum nesting of a type.
const DEPTH_MAX: u32 = 16;

/// Returns the schema of the named type, or none if it is not a plain type.
pub(super) fn schema(text: &str) -> Option<Value> {
    of(text, 0)
}

fn of(text: &str, depth: u32) -> Option<Value> {
    let text = text.trim();
    if depth > DEPTH_MAX {
        return None;
    }
    let inner = |text| of(text, depth + 1);
    if let Some(scalar) = scalar(text) {
        return Some(scalar);
    }
    if let Some(target) = text.strip_prefix('&').or_else(|| generic(text, &["Box"])) {
        return inner(target);
    }
    if let Some(some) = generic(text, &["Option"]) {
        return inner(some).map(or_null);
    }
    if let Some(item) = generic(text, &["Vec", "VecDeque"]).or_else(|| slice(text)) {
        let items = inner(item).unwrap_or(Value::Bool(true));
        return Some(json!({"type": "array", "items": items}));
    }
    let value = generic(text, &["HashMap", "BTreeMap"]).and_then(|inner| inner.strip_prefix("String,"))?;
    let others = inner(value).unwrap_or(Value::Bool(true));
    Some(json!({"type": "object", "additionalProperties": others}))
}

fn or_null(mut schema: Value) -> Value {
    if let Some(kind @ Value::String(_)) = schema.get_mut("type") {
        *kind = json!([kind, "null"]);
    }
    schema
}

fn scalar(text: &str) -> Option<Value> {
    let integer = |format: &str, least: Option<i64>, most: Option<i64>| {
        let mut schema = json!({"type": "integer", "format": format});
        let bounds = [("minimum", least), ("maximum", most)];
        for (key, bound) in bounds.into_iter().filter_map(|(key, bound)| Some((key, bound?))) {
            schema[key] = bound.into();
        }
        Some(schema)
    };
    match text {
        "bool" => Some(json!({"type": "boolean"})),
        "String" | "str" => Some(json!({"type": "string"})),
        "char" => Some(json!({"type": "string", "minLength": 1, "maxLength": 1})),
        "f32" => Some(json!({"type": "number", "format": "float"})),
        "f64" => Some(json!({"type": "number", "format": "double"})),
        "()" => Some(json!({"type": "null"})),
        "i8" => integer("int8", Some(i8::MIN.into()), Some(i8::MAX.into())),
        "i16" => integer("int16", Some(i16::MIN.into()), Some(i16::MAX.into())),
        "i32" => integer("int32", Some(i32::MIN.into()), Some(i32::MAX.into())),
        "i64" => integer("int64", None, None),
        "i128" => integer("int128", None, None),
        "isize" => integer("int", None, None),
        "u8" => integer("uint8", Some(0), Some(u8::MAX.into())),
        "u16" => integer("uint16", Some(0), Some(u16::MAX.into())),
        "u32" => integer("uint32", Some(0), Some(u32::MAX.into())),
        "u64" => integer("uint64", Some(0), None),
        "u128" => integer("uint128", Some(0), None),
        "usize" => integer("uint", Some(0), None),
        _ => None,
    }
}

/// The `T` of `Name<T>`.
fn generic<'a>(text: &'a str, names: &[&str]) -> Option<&'a str> {
    let (name, rest) = text.split_once('<')?;
    let name = name.rsplit("::").next()?;
    names.contains(&name).then(|| rest.strip_suffix('>')).flatten()
}

/// The `T` of `[T]`. An array `[T; 3]` is left to the task.
fn slice(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']').filter(|item| !item.contains(';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_types_have_schemas_and_others_none() {
        assert_eq!(schema("Option<&[u8]>"), Some(json!({"type": ["array", "null"], "items": schema("u8")})));
        assert_eq!(schema("Option<Option<i64>>"), Some(json!({"type": ["integer", "null"], "format": "int64"})));
        assert_eq!(schema("Vec<Order>"), Some(json!({"type": "array", "items": true})));
        for text in ["Order", "Option<Order>", "(u8, u8)", "[u8; 3]", "&'a str", "HashMap<u8, u8>", ""] {
            assert_eq!(schema(text), None, "{text}");
        }
        assert_eq!(schema(&"&".repeat(1000)), None);
    }
}
