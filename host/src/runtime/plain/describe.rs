//! Describes the types of a function: as a signature with JSON Schemas, and in WIT.

use serde_json::{Map, Value, json};

use super::shape::{Cases, Integer, Kind, Names, Record, Shape, Types};

/// Maximum length of a type in WIT; of longer ones only the kind is named.
const TEXT_MAX: usize = 120;

/// The signature of a function, as a task's schema has it.
pub(super) fn signature(types: &Types) -> Value {
    let Kind::Record(record) = &types.parameters.kind else { unreachable!("parameters are a record") };
    let parameter = |(name, field): (&str, &super::shape::Field)| {
        let Shaped { text, schema } = describe(&field.shape);
        json!({"name": name, "type": text, "required": !field.shape.is_option(), "schema": schema})
    };
    let parameters: Vec<Value> =
        record.names.list.iter().map(AsRef::as_ref).zip(&record.fields).map(parameter).collect();
    let result = match &types.result {
        None => json!("()"),
        Some(shape) => {
            let Shaped { text, schema } = describe(shape);
            let schema = match &shape.kind {
                // The task's result is that of the ok branch.
                Kind::Result(branches) => payload_schema(branches.payloads[0].as_ref()),
                _ => schema,
            };
            json!({"type": text, "schema": schema})
        }
    };
    json!({"types": "wit", "parameters": parameters, "result": result})
}

struct Shaped {
    text: String,
    schema: Value,
}

fn describe(shape: &Shape) -> Shaped {
    let mut text = wit(shape, true);
    if text.len() > TEXT_MAX {
        text = wit(shape, false);
    }
    if text.len() > TEXT_MAX {
        "value".clone_into(&mut text);
    }
    Shaped { text, schema: schema(shape) }
}

/// The type in WIT. Types with names are written in full, or with their kind only.
fn wit(shape: &Shape, in_full: bool) -> String {
    let inner = |shape: &Shape| wit(shape, in_full);
    let payload = |shape: &Option<Shape>| shape.as_ref().map_or_else(|| "_".to_owned(), inner);
    match &shape.kind {
        Kind::Bool => "bool".to_owned(),
        Kind::Integer(Integer { bytes, signed }) => format!("{}{}", if *signed { 's' } else { 'u' }, 8 * bytes),
        Kind::Float32 => "f32".to_owned(),
        Kind::Float64 => "f64".to_owned(),
        Kind::Char => "char".to_owned(),
        Kind::Text => "string".to_owned(),
        Kind::Bytes => "list<u8>".to_owned(),
        Kind::List(item) => format!("list<{}>", inner(item)),
        Kind::Map(pair) => match &pair.kind {
            Kind::Tuple(fields) => format!("map<{}>", joined(fields.iter().map(|field| inner(&field.shape)))),
            _ => "map".to_owned(),
        },
        Kind::Array(item, length) => format!("list<{}, {length}>", inner(item)),
        Kind::Tuple(fields) => format!("tuple<{}>", joined(fields.iter().map(|field| inner(&field.shape)))),
        Kind::Option(cases) => format!("option<{}>", payload(&cases.payloads[1])),
        Kind::Result(cases) => match &cases.payloads[..] {
            [None, None] => "result".to_owned(),
            [ok @ Some(_), None] => format!("result<{}>", payload(ok)),
            [ok, err] => format!("result<{}, {}>", payload(ok), payload(err)),
            _ => "result".to_owned(),
        },
        Kind::Record(_) if !in_full => "record".to_owned(),
        Kind::Record(Record { names, fields }) => {
            let fields = names.list.iter().zip(fields).map(|(name, field)| format!("{name}: {}", inner(&field.shape)));
            format!("record {{ {} }}", joined(fields))
        }
        Kind::Variant(cases) => {
            let kind = if cases.payloads.iter().all(Option::is_none) { "enum" } else { "variant" };
            let case = |(name, payload): (&str, &Option<Shape>)| match payload {
                Some(payload) => format!("{name}({})", inner(payload)),
                None => name.to_owned(),
            };
            let cases = || joined(cases.names.list.iter().map(AsRef::as_ref).zip(&cases.payloads).map(case));
            if in_full { format!("{kind} {{ {} }}", cases()) } else { kind.to_owned() }
        }
        Kind::Flags(_) if !in_full => "flags".to_owned(),
        Kind::Flags(names) => format!("flags {{ {} }}", names.list.join(", ")),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// The JSON Schema of a type.
pub(super) fn schema(shape: &Shape) -> Value {
    match &shape.kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Integer(integer) => integer_schema(*integer),
        Kind::Float32 => float_schema("float"),
        Kind::Float64 => float_schema("double"),
        Kind::Char => json!({"type": "string", "minLength": 1, "maxLength": 1}),
        Kind::Text => json!({"type": "string"}),
        Kind::Bytes => {
            let byte = integer_schema(Integer { bytes: 1, signed: false });
            json!({"type": ["string", "array"], "contentEncoding": "base64", "items": byte})
        }
        Kind::List(item) => json!({"type": "array", "items": schema(item)}),
        Kind::Map(pair) => match &pair.kind {
            Kind::Tuple(fields) if matches!(fields[0].shape.kind, Kind::Text) => {
                json!({"type": "object", "additionalProperties": schema(&fields[1].shape)})
            }
            // Each key once, which a JSON Schema cannot say.
            _ => json!({"type": "array", "items": schema(pair), "uniqueItems": true}),
        },
        Kind::Array(item, length) => {
            json!({"type": "array", "items": schema(item), "minItems": length, "maxItems": length})
        }
        Kind::Tuple(fields) => {
            let items: Vec<Value> = fields.iter().map(|field| schema(&field.shape)).collect();
            let length = items.len();
            json!({"type": "array", "prefixItems": items, "minItems": length, "maxItems": length})
        }
        Kind::Record(record) => record_schema(record),
        Kind::Variant(cases) => variant_schema(cases),
        Kind::Option(cases) => match cases.some() {
            Some(some) if some.is_option() => or_null(tagged_schema([("some", Some(some))].into_iter())),
            Some(some) => or_null(schema(some)),
            None => json!({"type": "null"}),
        },
        Kind::Result(cases) => {
            let names = cases.names.list.iter().map(|name| &**name);
            tagged_schema(names.zip(cases.payloads.iter().map(Option::as_ref)))
        }
        Kind::Flags(names) => json!({"type": "array", "items": names_schema(names), "uniqueItems": true}),
    }
}

fn integer_schema(Integer { bytes, signed }: Integer) -> Value {
    let bits = 8 * u32::try_from(bytes).unwrap_or(8);
    let (minimum, maximum) = if signed {
        (json!(i64::MIN >> (64 - bits)), json!(i64::MAX >> (64 - bits)))
    } else {
        (json!(0), json!(u64::MAX >> (64 - bits)))
    };
    let format = format!("{}int{bits}", if signed { "" } else { "u" });
    json!({"type": "integer", "format": format, "minimum": minimum, "maximum": maximum})
}

fn float_schema(format: &str) -> Value {
    json!({"anyOf": [{"type": "number", "format": format}, {"enum": ["NaN", "Infinity", "-Infinity"]}]})
}

fn names_schema(names: &Names) -> Value {
    json!({"type": "string", "enum": names.list})
}

fn record_schema(record: &Record) -> Value {
    let fields = || record.names.list.iter().zip(&record.fields);
    let properties: Map<String, Value> =
        fields().map(|(name, field)| (name.to_string(), schema(&field.shape))).collect();
    let required: Vec<&str> = fields().filter(|(_, field)| !field.shape.is_option()).map(|(name, _)| &**name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// `"case"`, or `{"case": payload}` of the cases that have one.
fn variant_schema(cases: &Cases) -> Value {
    let all = || cases.names.list.iter().zip(&cases.payloads);
    let names: Vec<&str> = all().filter(|(_, payload)| payload.is_none()).map(|(name, _)| &**name).collect();
    let tagged = all().filter(|(_, payload)| payload.is_some()).map(|(name, payload)| (&**name, payload.as_ref()));
    let with_payload = tagged_schema(tagged);
    match names.len() {
        0 => with_payload,
        count if count == cases.payloads.len() => names_schema(&cases.names),
        _ => json!({"anyOf": [{"type": "string", "enum": names}, with_payload]}),
    }
}

/// An object with one of these keys.
fn tagged_schema<'a>(cases: impl Iterator<Item = (&'a str, Option<&'a Shape>)>) -> Value {
    let properties: Map<String, Value> =
        cases.map(|(name, payload)| (name.to_owned(), payload_schema(payload))).collect();
    json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    })
}

fn payload_schema(payload: Option<&Shape>) -> Value {
    payload.map_or_else(|| json!({"type": "null"}), schema)
}

fn or_null(mut schema: Value) -> Value {
    let has_choices = schema.get("enum").is_some();
    match schema.get_mut("type") {
        // Most types allow null beside them.
        Some(Value::Array(types)) if !has_choices => types.push(json!("null")),
        Some(kind @ Value::String(_)) if !has_choices => *kind = json!([kind, "null"]),
        _ => match schema.get_mut("anyOf") {
            Some(Value::Array(alternatives)) => alternatives.push(json!({"type": "null"})),
            _ => schema = json!({"anyOf": [schema, {"type": "null"}]}),
        },
    }
    schema
}
