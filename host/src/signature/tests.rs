//! Refused calls and their messages, and a comparison with a complete validator.

use serde_json::json;

use super::*;
use crate::task::TaskLimits;

fn document(text: &str) -> Json {
    Json::parse(text).expect("a document")
}

fn signature(parameters: &Value) -> Signature {
    let schema = Json::of(&json!({"parameters": parameters, "result": "i64"})).expect("JSON");
    let signature = Signature::read("add", &schema);
    assert!(signature.warnings().is_empty(), "{:?}", signature.warnings());
    signature
}

fn typed(types: &[&str]) -> Signature {
    let parameters = types
        .iter()
        .zip(["a", "b", "c"])
        .map(|(text, name)| json!({"name": name, "type": text, "required": !text.starts_with("Option")}));
    signature(&parameters.collect())
}

/// A task with one parameter of this schema.
fn with_schema(schema: &Value) -> Signature {
    signature(&json!([{"name": "order", "type": "Order", "required": true, "schema": schema}]))
}

#[track_caller]
fn message(signature: &Signature, args: &str, kwargs: &str) -> String {
    signature.check(&document(args), &document(kwargs)).map_or_else(|error| error.to_string(), |()| String::new())
}

#[track_caller]
fn fits(signature: &Signature, args: &str) {
    assert_eq!(message(signature, args, "{}"), "", "{args}");
}

#[test]
fn arguments_are_bound_by_position_and_name_as_the_guest_binds_them() {
    let add = typed(&["i64", "i64", "Option<i64>"]);
    for (args, kwargs, expected) in [
        ("[1, 2]", "{}", ""),
        ("[1]", r#"{"b": 2}"#, ""),
        ("[]", r#"{"\u0062": 2, "a": 1, "c": null}"#, ""),
        ("[]", "{}", "add() missing 2 required arguments: 'a' and 'b'"),
        ("[1]", r#"{"c": 1}"#, "add() missing 1 required argument: 'b'"),
        ("[1, 2, 3, 4]", "{}", "add() takes from 2 to 3 arguments but 4 were given"),
        ("[1, 2]", r#"{"d": 1}"#, "add() got an unexpected keyword argument 'd'"),
        ("[1, 2]", r#"{"b": 1}"#, "add() got multiple values for argument 'b'"),
        ("[1]", r#"{"b": 1, "b": 1}"#, "add() got multiple values for argument 'b'"),
        ("[\"x\", \"y\"]", "{}", "args[0]: expected integer, found string \"x\""),
        ("[\"x\"]", r#"{"b": 1, "a": 2}"#, "add() got multiple values for argument 'a'"),
        ("[1, 2.5]", "{}", "args[1]: expected integer, found number 2.5"),
        ("[1]", r#"{"b": "two"}"#, r#"kwargs.b: expected integer, found string "two""#),
        ("[1, 2]", r#"{"c": []}"#, "kwargs.c: expected integer or null, found array []"),
        // Binding errors are reported before type errors, as in the guest.
        ("[\"x\"]", "{}", "add() missing 1 required argument: 'b'"),
    ] {
        assert_eq!(message(&add, args, kwargs), expected, "{args} {kwargs}");
    }
    assert_eq!(message(&typed(&[]), "[1]", "{}"), "add() takes 0 arguments but 1 was given");
}

/// The schema of a variant as plain components have it: `none`, `half(f64)`, `of-two(record)`.
fn wit_variant() -> Value {
    let record = json!({"type": "object", "properties": {"left": {"enum": ["l", "r"]}}, "required": ["left"],
        "additionalProperties": false});
    let tagged = json!({"type": "object", "properties": {"half": {"type": "number"}, "of-two": record},
        "additionalProperties": false, "minProperties": 1, "maxProperties": 1});
    json!({"anyOf": [{"type": "string", "enum": ["none"]}, tagged]})
}

#[test]
fn a_value_of_no_case_is_refused_with_the_cases() {
    let names = |names: &[&str]| json!({"type": "string", "enum": names});
    let closed = |properties: Value, required: &str| json!({"type": "object", "properties": properties, "required": [required], "additionalProperties": false});
    let tag = |kind: &str, field: &str| {
        let properties = json!({"kind": {"const": kind}, field: {"type": "number"}});
        json!({"type": "object", "properties": properties, "required": ["kind", field]})
    };
    let external = json!({"oneOf": [names(&["Unit"]), closed(json!({"Circle": {"type": "number"}}), "Circle"),
        {"$ref": "#/$defs/Square"}], "$defs": {"Square": closed(json!({"Square": {"type": "string"}}), "Square")}});
    let internal = json!({"oneOf": [tag("circle", "radius"), tag("square", "side")]});
    let flags = json!({"type": "array", "items": names(&["read", "write"])});
    let (list, record) =
        (json!({"type": "array", "items": wit_variant()}), closed(json!({"how": wit_variant()}), "how"));
    let cases = r#""none", {"half": …} or {"of-two": …}"#;
    for (schema, value, expected) in [
        (wit_variant(), r#""some""#, format!(r#"args[0]: expected {cases}, found string "some""#)),
        (wit_variant(), r#""half""#, format!(r#"args[0]: expected {cases}, found string "half""#)),
        (wit_variant(), "null", format!("args[0]: expected {cases}, found null")),
        (wit_variant(), "{}", format!("args[0]: expected {cases}, found object {{}}")),
        (wit_variant(), r#"{"all":1}"#, format!(r#"args[0]: expected {cases}, found object {{"all":1}}"#)),
        (
            wit_variant(),
            r#"{"half":1,"all":1}"#,
            format!(r#"args[0]: expected {cases}, found object {{"half":1,"all":1}}"#),
        ),
        (wit_variant(), r#"{"half":"x"}"#, r#"args[0].half: expected number, found string "x""#.to_owned()),
        (
            wit_variant(),
            r#"{"of-two":{"left":"m"}}"#,
            r#"args[0]["of-two"].left: expected "l" or "r", found string "m""#.to_owned(),
        ),
        (list, r#"["none","some"]"#, format!(r#"args[0][1]: expected {cases}, found string "some""#)),
        (record.clone(), r#"{"how":1}"#, format!("args[0].how: expected {cases}, found number 1")),
        (record.clone(), "{}", format!("args[0].how: expected {cases}, found nothing")),
        (record, r#"{"why":1}"#, "args[0].why: expected no such property, found number 1".to_owned()),
        (flags.clone(), r#""read""#, r#"args[0]: expected array of "read" or "write", found string "read""#.to_owned()),
        (flags, r#"["run"]"#, r#"args[0][0]: expected "read" or "write", found string "run""#.to_owned()),
        (
            external.clone(),
            r#""Circle""#,
            r#"args[0]: expected "Unit", {"Circle": …} or {"Square": …}, found string "Circle""#.to_owned(),
        ),
        (
            external.clone(),
            r#"{"Sphere":1}"#,
            r#"args[0]: expected "Unit", {"Circle": …} or {"Square": …}, found object {"Sphere":1}"#.to_owned(),
        ),
        (external, r#"{"Square":1}"#, "args[0].Square: expected string, found number 1".to_owned()),
        (
            internal.clone(),
            "1",
            r#"args[0]: expected {"kind": "circle", …} or {"kind": "square", …}, found number 1"#.to_owned(),
        ),
        (
            internal.clone(),
            r#"{"kind":"sphere","radius":1}"#,
            r#"args[0].kind: expected "circle" or "square", found string "sphere""#.to_owned(),
        ),
        (internal, r#"{"kind":"square","side":"x"}"#, r#"args[0].side: expected number, found string "x""#.to_owned()),
    ] {
        assert_eq!(message(&with_schema(&schema), &format!("[{value}]"), "{}"), expected, "{schema}");
    }
}

#[test]
fn of_many_cases_the_first_ones_are_named() {
    let properties =
        |count: usize| -> Value { (0..count).map(|n| (format!("c{n:04}"), json!({"type": "null"}))).collect() };
    let tagged = |count| json!({"type": "object", "properties": properties(count), "additionalProperties": false, "maxProperties": 1});
    let five = message(&with_schema(&tagged(5)), "[1]", "{}");
    assert_eq!(five.matches('…').count(), 5, "{five}");
    let many = message(&with_schema(&json!({"anyOf": [{"enum": ["a", "b", "c"]}, tagged(900)]})), "[1]", "{}");
    assert_eq!(many, r#"args[0]: expected "a", "b", "c", {"c0000": …} or 899 others, found number 1"#);
}

#[test]
fn a_plain_type_accepts_what_serde_reads_into_it() {
    for (text, accepted, refused) in [
        ("i64", &["1", "-1", "0", "-0"][..], &["1.0", "1e2", "\"1\"", "null", "true", "[1]"][..]),
        ("u8", &["0", "255"], &["256", "-1", "1.0", "null"]),
        ("i8", &["-128", "127"], &["-129", "128"]),
        ("usize", &["0", "4294967295"], &["4294967296", "-1", "0.5"]),
        ("f64", &["1", "1.5", "-1e3"], &["null", "\"1\""]),
        ("bool", &["true", "false"], &["0", "\"true\"", "null"]),
        ("&str", &["\"\"", "\"x\""], &["1", "null", "{}"]),
        ("Option<String>", &["null", "\"x\""], &["1", "[]"]),
        ("Option<&[u8]>", &["null", "[]", "[1, 2]"], &["[1, -2]", "\"x\""]),
        ("Vec<Option<f64>>", &["[]", "[1, null]"], &["[\"1\"]", "{}"]),
        ("std::collections::HashMap<String, Vec<i32>>", &["{}", r#"{"a": [1]}"#], &["[]", r#"{"a": [1.5]}"#]),
        ("Order", &["1", "null", "{}"], &[]),
        ("(u8, u8)", &["1", "[1, 2]"], &[]),
        ("Value", &["1", "[1]"], &[]),
    ] {
        let signature = signature(&json!([{"name": "a", "type": text, "required": true}]));
        for value in accepted {
            fits(&signature, &format!("[{value}]"));
        }
        for value in refused {
            assert_ne!(message(&signature, &format!("[{value}]"), "{}"), "", "{text} accepts {value}");
        }
    }
}

fn order() -> Value {
    json!({
        "$defs": {
            "Item": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "price": {"type": "number", "format": "double"},
                    "count": {"type": "integer", "format": "uint8", "minimum": 0, "maximum": 255},
                    "gift": {"anyOf": [{"$ref": "#/$defs/Gift"}, {"type": "null"}]},
                },
                "required": ["name", "price"],
            },
            "Gift": {"oneOf": [
                {"type": "object", "properties": {"kind": {"const": "card"}, "text": {"type": "string"}}, "required": ["kind", "text"]},
                {"type": "object", "properties": {"kind": {"const": "box"}, "size": {"enum": ["s", "m", "l"]}}, "required": ["kind"]},
            ]},
        },
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "maxItems": 9},
            "unit price": {"type": ["integer", "null"]},
        },
        "required": ["items"],
        "additionalProperties": false,
    })
}

#[test]
fn a_message_names_only_the_first_choices_shortened() {
    let many: Vec<String> = (0..9).map(|number| format!("{number}{}", "x".repeat(99))).collect();
    let why = message(&with_schema(&json!({"enum": many})), r#"["y"]"#, "{}");
    let shown = |number: u32| format!("\"{number}{}…", "x".repeat(58));
    assert_eq!(
        why,
        format!(
            "args[0]: expected {}, {}, {}, {} or 5 others, found string \"y\"",
            shown(0),
            shown(1),
            shown(2),
            shown(3)
        )
    );
    // Comparing long, similar choices uses up the budget, and the rest is accepted.
    let alike: Vec<String> = (0..2_000).map(|number| format!("{}{number:04}", "x".repeat(2_000))).collect();
    fits(&with_schema(&json!({"enum": alike})), &format!("[\"{}\"]", "x".repeat(2_004)));
}

#[test]
fn a_nested_violation_is_reported_with_its_path() {
    let signature = with_schema(&order());
    let item = |text: &str| format!(r#"[{{"items": [{{"name": "a", "price": 1}}, {text}]}}]"#);
    fits(&signature, &item(r#"{"price": 2.5, "name": "b", "count": 3, "gift": {"kind": "box", "size": "m"}}"#));
    for (text, expected) in [
        (r#"{"name": "b", "price": "x"}"#, r#"args[0].items[1].price: expected number, found string "x""#),
        (r#"{"name": "b"}"#, "args[0].items[1].price: expected number, found nothing"),
        (
            r#"{"name": "", "price": 1}"#,
            r#"args[0].items[1].name: expected string of at least 1 character, found string """#,
        ),
        (r#"{"count": 256}"#, "args[0].items[1].count: expected integer from 0 to 255, found number 256"),
        (r#"{"count": 1.5}"#, "args[0].items[1].count: expected integer from 0 to 255, found number 1.5"),
        (
            r#"{"gift": 1}"#,
            r#"args[0].items[1].gift: expected {"kind": "card", …}, {"kind": "box", …} or null, found number 1"#,
        ),
        (r#"{"gift": {"kind": "car"}}"#, r#"args[0].items[1].gift.kind: expected "card" or "box", found string "car""#),
        (r#"{"gift": {"kind": "card"}}"#, "args[0].items[1].gift.text: expected string, found nothing"),
        (
            r#"{"gift": {"kind": "box", "size": "xl"}}"#,
            r#"args[0].items[1].gift.size: expected "s", "m" or "l", found string "xl""#,
        ),
        ("7", "args[0].items[1]: expected object, found number 7"),
    ] {
        assert_eq!(message(&signature, &item(text), "{}"), expected, "{text}");
    }
    for (value, expected) in [
        (r#"{"items": [], "colour": 1}"#, "kwargs.order.colour: expected no such property, found number 1"),
        (
            r#"{"items": [], "unit price": ""}"#,
            r#"kwargs.order["unit price"]: expected integer or null, found string """#,
        ),
        ("{}", "kwargs.order.items: expected array, found nothing"),
        ("[[1]]", "kwargs.order: expected object, found array [[1]]"),
    ] {
        assert_eq!(message(&signature, "[]", &format!(r#"{{"order": {value}}}"#)), expected);
    }
    let ten = format!(r#"[{{"items": [{}]}}]"#, [r#"{"name": "a", "price": 1}"#; 10].join(","));
    assert_eq!(message(&signature, &ten, "{}"), "args[0].items: expected array of at most 9 items, found array of 10");
}

#[test]
fn a_long_value_is_cut_in_the_message() {
    let text = message(&typed(&["i64"]), &format!("[\"{}\"]", "ü".repeat(200)), "{}");
    assert!(text.starts_with("args[0]: expected integer, found string \"üü") && text.ends_with("ü…"), "{text}");
    assert!(text.len() < 120, "{text}");
}

#[test]
fn undeclared_parameters_are_accepted() {
    for schema in ["{}", r#"{"result": "i64"}"#, r#"{"parameters": null}"#] {
        let unknown = Signature::read("add", &document(schema));
        assert_eq!(message(&unknown, "[1, 2, 3]", r#"{"x": 1}"#), "", "{schema}");
        assert!(unknown.warnings().is_empty());
    }
    let unnamed = Signature::read("add", &document(r#"{"parameters": [{"name": "x"}]}"#));
    assert_eq!(message(&unnamed, "[]", "{}"), "");
    assert_eq!(message(&unnamed, "[{}]", "{}"), "");
}

#[test]
fn an_unusable_schema_is_a_warning_and_the_rest_is_checked() {
    for schema in [json!({"$ref": "#/$defs/None"}), json!(7), json!({"items": {"$ref": "#/a%20b"}})] {
        let schema = json!({"parameters": [{"name": "x", "schema": schema, "required": true}]});
        let signature = Signature::read("add", &Json::of(&schema).expect("JSON"));
        assert_eq!(signature.warnings().len(), 1, "{schema}");
        assert_eq!(message(&signature, "[1]", "{}"), "");
        assert_eq!(message(&signature, "[]", "{}"), "add() missing 1 required argument: 'x'");
    }
    let wrong = Signature::read("add", &document(r#"{"parameters": 7}"#));
    assert_eq!((wrong.warnings().len(), message(&wrong, "[1]", "{}")), (1, String::new()));
    let many: Vec<Value> = (0..65).map(|number| json!({"name": format!("p{number}")})).collect();
    let many = Signature::read("add", &Json::of(&json!({"parameters": many})).expect("JSON"));
    assert_eq!(many.warnings().len(), 1);
}

#[test]
fn nothing_is_fetched_and_a_hostile_schema_is_fast() {
    fits(&with_schema(&json!({"$ref": "https://example.com/schema.json"})), "[1]");
    fits(&with_schema(&json!({"$ref": "#"})), "[1]");
    // Each level doubles the work: 2^60 visits without a budget.
    let twice =
        |next: usize| json!({"allOf": [{"$ref": format!("#/$defs/d{next}")}, {"$ref": format!("#/$defs/d{next}")}]});
    let mut defs: serde_json::Map<String, Value> =
        (0..60).map(|level| (format!("d{level}"), twice(level + 1))).collect();
    defs.insert("d60".into(), json!({"type": "string"}));
    let started = std::time::Instant::now();
    message(&with_schema(&json!({"$defs": defs, "$ref": "#/$defs/d0"})), "[1]", "{}");
    let any = json!({"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}, false], "type": "array"});
    message(&with_schema(&any), &format!("[{}7{}]", "[".repeat(60), "]".repeat(60)), "{}");
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    fits(&with_schema(&json!({"type": "array", "items": {"$ref": "#"}})), &deep);
}

/// Similar values, from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn value(&mut self, deep: u64) -> Value {
        match self.below(if deep == 0 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.below(4)),
            3 => json!(-1.5 + f64::from(u32::try_from(self.below(4)).expect("small"))),
            4 => json!(["a", "b", "ü\n", ""][usize::try_from(self.below(4)).expect("small")]),
            5 => json!(u64::MAX - self.below(3)),
            6 => (0..self.below(4)).map(|_| self.value(deep - 1)).collect(),
            _ => Value::Object((0..self.below(4)).map(|_| (self.key(), self.value(deep - 1))).collect()),
        }
    }

    fn key(&mut self) -> String {
        ["a", "b", "c d"][usize::try_from(self.below(3)).expect("small")].to_owned()
    }

    fn schema(&mut self, deep: u64) -> Value {
        let kinds = ["null", "boolean", "integer", "number", "string", "array", "object"];
        let mut schema = serde_json::Map::new();
        for _ in 0..=self.below(3) {
            let inner =
                |random: &mut Self| if deep == 0 { json!(random.below(4) > 0) } else { random.schema(deep - 1) };
            let (key, value) = match self.below(16) {
                0..3 => ("type", json!(kinds[usize::try_from(self.below(7)).expect("small")])),
                3 => ("type", json!([kinds[usize::try_from(self.below(7)).expect("small")], "object"])),
                4 => ("enum", (0..3).map(|_| self.value(1)).collect()),
                5 => ("const", self.value(0)),
                6 => ("properties", json!({self.key(): inner(self), self.key(): inner(self)})),
                7 => ("required", json!([self.key()])),
                8 => ("additionalProperties", inner(self)),
                9 => ("items", inner(self)),
                10 => ("prefixItems", json!([inner(self), inner(self)])),
                11 => ("anyOf", json!([inner(self), inner(self)])),
                12 => ("oneOf", json!([inner(self), inner(self)])),
                13 => ("minimum", json!(self.below(3))),
                14 => ("exclusiveMaximum", json!(self.below(3))),
                _ => (["maxLength", "minItems"][usize::try_from(self.below(2)).expect("small")], json!(self.below(3))),
            };
            schema.insert(key.into(), value);
        }
        if self.below(8) == 0 {
            schema.insert("$ref".into(), json!("#/$defs/x"));
        }
        Value::Object(schema)
    }
}

#[test]
fn a_complete_validator_agrees_on_everything_refused() {
    let mut random = Random(7);
    let (mut refused, mut missed) = (0, 0);
    for _ in 0..4_000 {
        let mut schema = random.schema(2);
        schema["$defs"] = json!({"x": random.schema(1)});
        let Ok(complete) = jsonschema::validator_for(&schema) else { continue };
        let compiled = CompiledSchema::of_schema(&schema).expect("a schema that compiles");
        for _ in 0..10 {
            let value = random.value(2);
            let fits = compiled.check(&value.to_string()).is_ok();
            match (complete.is_valid(&value), fits) {
                (true, fits) => assert!(fits, "{value} matches {schema}"),
                (false, false) => refused += 1,
                (false, true) => missed += 1,
            }
        }
    }
    // Accepted invalid values: two matches of `oneOf`, and choices with arrays in them.
    assert!(refused > 5_000 && missed * 6 < refused, "{refused} refused, {missed} accepted");
}

#[test]
fn schemas_that_no_value_can_hold_are_passed_on_as_text() {
    let (huge, deep) = ("9".repeat(400), format!("{}{}", "[".repeat(200), "]".repeat(200)));
    let schema = format!(
        r#"{{"parameters":[{{"name":"x","type":"X","schema":{{"maximum":{huge}}}}}],"result":{{"type":"Y","schema":{deep}}}}}"#
    );
    let schema = Json::parse(&schema).expect("JSON");
    assert_eq!(Signature::read("odd", &schema).warnings().len(), 1, "it is not used");
    let task = TaskInfo { name: "odd".into(), schema, ..blank() };
    assert_eq!(line(&task), "odd(x?: X) -> Y");
    let document = serde_json::to_string(&Document::of(&task)).expect("JSON");
    assert!(document.contains(&huge) && document.contains(&deep), "{document}");
}

fn blank() -> TaskInfo {
    TaskInfo {
        name: String::new(),
        full_name: None,
        documentation: String::new(),
        schema: Json::empty_object(),
        policy: crate::task::Policy::default(),
        limits: TaskLimits::default(),
        schedule: None,
        needs: Vec::new(),
        warnings: Vec::new(),
    }
}
