//! Compiles a JSON Schema.
//!
//! Subschemas to read are kept in a list instead of the stack, so that no schema nests too deeply. Unsupported keywords
//! are omitted, so that more values are accepted, never fewer.

use std::{borrow::Cow, collections::HashMap};

use serde_json::{Map, Value};

use super::{
    ANY, ARRAY, Array, BOOLEAN, Bounds, CompiledSchema, EVERYTHING, KEYS_MAX, Key, NULL, NUMBER, Node, Numbers, OBJECT,
    Object, Property, Rules, STRING, Width,
};

/// Maximum nodes of a compiled schema.
const NODES_MAX: usize = 4_096;

/// Compiles one schema.
pub(super) struct Compiler<'a> {
    root: &'a Value,
    rules: Rules,
    nodes: Vec<Node>,
    /// The nodes of referenced subschemas, by JSON pointer.
    named: HashMap<Cow<'a, str>, u32>,
    /// Nodes that are not compiled yet, with their subschemas.
    open: Vec<(u32, &'a Map<String, Value>)>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(root: &'a Value, rules: Rules) -> Self {
        Self { root, rules, nodes: vec![Node::default()], named: HashMap::new(), open: Vec::new() }
    }

    pub(super) fn compile(mut self) -> Result<CompiledSchema, String> {
        if !self.root.is_object() && !self.root.is_boolean() {
            return Err("a JSON Schema is an object or a boolean".into());
        }
        let root = self.reference("")?;
        while let Some((node_id, schema)) = self.open.pop() {
            let node = self.node(schema)?;
            self.nodes[node_id as usize] = node;
        }
        Ok(CompiledSchema { nodes: self.nodes, root })
    }

    /// Returns the node of a subschema, which is compiled later.
    fn subschema(&mut self, schema: &'a Value) -> Result<u32, String> {
        let node = match schema {
            Value::Object(keys) if !keys.is_empty() => {
                let node_id = self.add(Node::default())?;
                self.open.push((node_id, keys));
                return Ok(node_id);
            }
            Value::Bool(false) => Node { kinds: 0, ..Node::default() },
            _ => return Ok(ANY),
        };
        self.add(node)
    }

    fn add(&mut self, node: Node) -> Result<u32, String> {
        if self.nodes.len() >= NODES_MAX {
            return Err(format!("it has more than {NODES_MAX} parts"));
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).map_err(|error| error.to_string())
    }

    /// Returns the node of the subschema to which a JSON pointer leads.
    fn reference(&mut self, pointer: &'a str) -> Result<u32, String> {
        if let Some(node_id) = self.named.get(pointer) {
            return Ok(*node_id);
        }
        let Some(schema) = self.root.pointer(pointer) else {
            return Err(format!("its reference '#{pointer:.100}' does not exist"));
        };
        let node_id = self.subschema(schema)?;
        self.named.insert(Cow::Borrowed(pointer), node_id);
        Ok(node_id)
    }

    fn node(&mut self, schema: &'a Map<String, Value>) -> Result<Node, String> {
        if schema.contains_key("$id") && !self.root.as_object().is_some_and(|root| std::ptr::eq(root, schema)) {
            // A separate document, in which references have another base.
            return Ok(Node::default());
        }
        let mut node = Node { object: self.object(schema)?, array: self.array(schema)?, ..Node::default() };
        (node.kinds, node.numbers) = kinds_of(schema.get("type"), self.rules.integers());
        let width = schema.get("format").and_then(Value::as_str).and_then(Width::of);
        // A format of integers does not apply to other numbers, and no format applies to other types.
        let is_typed = node.kinds & NUMBER != 0 && node.kinds != EVERYTHING;
        node.width = width.filter(|width| is_typed && width.is_integer() == (node.numbers != Numbers::All));
        node.choices = choices(schema);
        let encoding = schema.get("contentEncoding").and_then(Value::as_str);
        node.is_base64 = self.rules == Rules::WitType && encoding == Some("base64");
        let bounds = Bounds::of(schema);
        node.bounds = (bounds != Bounds::default()).then(|| Box::new(bounds));
        if let Some(Value::String(reference)) = schema.get("$ref") {
            // References to other documents are not followed: nothing is fetched.
            if let Some(pointer) = reference.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/')) {
                if pointer.contains('%') {
                    return Err(format!("its reference '{reference:.100}' has escapes"));
                }
                node.all.push(self.reference(pointer)?);
            }
        }
        node.all.extend(self.subschemas(schema.get("allOf"))?);
        // `oneOf` requires exactly one match; like serde, the first match is enough here.
        for key in ["anyOf", "oneOf"] {
            let node_ids = self.subschemas(schema.get(key))?;
            if !node_ids.is_empty() {
                node.any.push(node_ids);
            }
        }
        Ok(node)
    }

    fn subschemas(&mut self, schemas: Option<&'a Value>) -> Result<Vec<u32>, String> {
        schemas.and_then(Value::as_array).into_iter().flatten().map(|schema| self.subschema(schema)).collect()
    }

    fn object(&mut self, schema: &'a Map<String, Value>) -> Result<Option<Box<Object>>, String> {
        let others = match schema.get("additionalProperties") {
            // With patterns, the other properties are known only by running them.
            None => Some(ANY),
            Some(_) if schema.contains_key("patternProperties") => Some(ANY),
            Some(Value::Bool(false)) => None,
            Some(others) => Some(self.subschema(others)?),
        };
        let is_record = self.rules == Rules::WitType && others.is_none() && !schema.contains_key("maxProperties");
        // The keys of a union with one property for each case are named in messages.
        let has_one = others.is_none() && schema.get("maxProperties").and_then(Value::as_u64) == Some(1);
        let is_map = self.rules == Rules::WitType && others.is_some();
        let mut object = Object { others, is_record, is_map, ..Object::default() };
        if let Some(Value::Object(properties)) = schema.get("properties") {
            for (key, schema) in properties {
                let property = Property { node_id: self.subschema(schema)?, place: None };
                object.properties.insert(key.as_str().into(), property);
                if is_record || has_one {
                    object.notice(key, false);
                }
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for key in required.into_iter().flatten().filter_map(Value::as_str) {
            object.notice(key, true);
        }
        let is_constrained = !object.properties.is_empty() || others != Some(ANY);
        Ok(is_constrained.then(|| Box::new(object)))
    }

    fn array(&mut self, schema: &'a Map<String, Value>) -> Result<Option<Box<Array>>, String> {
        let mut array = Array { first: self.subschemas(schema.get("prefixItems"))?, others: Some(ANY), is_set: false };
        // Comparing items of any kind would be slow, so this is for names and keys only.
        array.is_set = self.rules == Rules::WitType && schema.get("uniqueItems") == Some(&Value::Bool(true));
        match schema.get("items") {
            // The older way to write `prefixItems`.
            Some(Value::Array(_)) => array.first = self.subschemas(schema.get("items"))?,
            Some(Value::Bool(false)) => array.others = None,
            Some(items) => array.others = Some(self.subschema(items)?),
            None => {}
        }
        let is_constrained = !array.first.is_empty() || array.others != Some(ANY);
        Ok(is_constrained.then(|| Box::new(array)))
    }
}

impl Object {
    /// Notices a key during a check, as far as there are places.
    fn notice(&mut self, key: &str, required: bool) {
        let unnamed = Property { node_id: self.others.unwrap_or(ANY), place: None };
        let property = self.properties.entry(key.into()).or_insert(unnamed);
        match property.place {
            Some(place) => self.keys[place].required |= required,
            None if self.keys.len() < KEYS_MAX => {
                property.place = Some(self.keys.len());
                self.keys.push(Key { name: key.into(), required });
            }
            None => {}
        }
    }
}

impl Bounds {
    fn of(schema: &Map<String, Value>) -> Self {
        let number = |key| schema.get(key).and_then(Value::as_number).cloned();
        let count = |key| schema.get(key).and_then(Value::as_u64);
        Self {
            least: number("minimum"),
            most: number("maximum"),
            above: number("exclusiveMinimum"),
            below: number("exclusiveMaximum"),
            length_least: count("minLength"),
            length_most: count("maxLength"),
            items_least: count("minItems"),
            items_most: count("maxItems"),
            properties_least: count("minProperties"),
            properties_most: count("maxProperties"),
        }
    }
}

fn kinds_of(types: Option<&Value>, integers: Numbers) -> (u8, Numbers) {
    let names = match types {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if names.is_empty() {
        return (EVERYTHING, Numbers::All);
    }
    let mut numbers = integers;
    let kinds = names.iter().map(|name| match *name {
        "null" => NULL,
        "boolean" => BOOLEAN,
        "integer" => NUMBER,
        "number" => {
            numbers = Numbers::All;
            NUMBER
        }
        "string" => STRING,
        "array" => ARRAY,
        "object" => OBJECT,
        _ => EVERYTHING,
    });
    let kinds = kinds.fold(0, |all, kind| all | kind);
    if kinds == EVERYTHING { (EVERYTHING, Numbers::All) } else { (kinds, numbers) }
}

fn choices(schema: &Map<String, Value>) -> Option<Box<[Value]>> {
    let choices = match (schema.get("const"), schema.get("enum")) {
        (Some(only), _) => vec![only.clone()],
        (None, Some(Value::Array(choices))) => choices.clone(),
        _ => return None,
    };
    let is_plain = |choice: &Value| !choice.is_array() && !choice.is_object();
    choices.iter().all(is_plain).then(|| choices.into())
}
