//! Compiled schemas: validates the text of a value against a JSON Schema or a Rust type.
//!
//! Not a library, because schemas come from task modules, which may be hostile: each check has a budget, recursion is
//! bounded, no reference is fetched and no pattern is run. Keywords that are not supported, and values for which no
//! budget is left, are accepted: the task itself still reads its arguments. Invariant, tested against a complete
//! validator: no value is refused that the schema allows.

use std::collections::HashMap;

use serde_json::{Number, Value};

mod check;
mod compile;
mod violation;
mod width;

use check::Check;
#[cfg(feature = "runtime")]
pub(crate) use check::check_unique;
use compile::Compiler;
pub(crate) use violation::Violation;
pub(super) use violation::push_key;
#[cfg(feature = "runtime")]
pub(crate) use violation::{Alternatives, Step, found};
use width::Width;

/// The id of the node that allows every value.
const ANY: u32 = 0;
/// Maximum keys of an object that are noticed during a check: one bit each.
const KEYS_MAX: usize = 1024;

const NULL: u8 = 1;
const BOOLEAN: u8 = 2;
const NUMBER: u8 = 4;
const STRING: u8 = 8;
const ARRAY: u8 = 16;
const OBJECT: u8 = 32;
const EVERYTHING: u8 = 63;

/// A schema compiled into nodes, one for each subschema.
#[derive(Debug)]
pub(super) struct CompiledSchema {
    nodes: Vec<Node>,
    root: u32,
}

/// The constraints of one subschema.
#[derive(Debug)]
struct Node {
    kinds: u8,
    numbers: Numbers,
    /// The type into which a number is read.
    width: Option<Width>,
    bounds: Option<Box<Bounds>>,
    /// The allowed values, if only some are; no arrays or objects.
    choices: Option<Box<[Value]>>,
    object: Option<Box<Object>>,
    array: Option<Box<Array>>,
    /// Whether a string must be base64.
    is_base64: bool,
    /// Nodes that must all match.
    all: Vec<u32>,
    /// Lists of nodes of which at least one must match.
    any: Vec<Vec<u32>>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            kinds: EVERYTHING,
            numbers: Numbers::All,
            width: None,
            bounds: None,
            choices: None,
            object: None,
            array: None,
            is_base64: false,
            all: Vec::new(),
            any: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    All,
    /// `1` and `1.0`.
    Integers,
    /// `1`: serde reads no integer from `1.0`.
    WithoutPoint,
}

/// The rules by which a schema is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    /// A JSON Schema.
    Schema,
    /// A type into which serde reads.
    RustType,
    /// The schema of a type of a plain component.
    WitType,
}

impl Rules {
    /// The meaning of `integer`.
    fn integers(self) -> Numbers {
        if self == Self::Schema { Numbers::Integers } else { Numbers::WithoutPoint }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Bounds {
    least: Option<Number>,
    most: Option<Number>,
    above: Option<Number>,
    below: Option<Number>,
    /// Length of a string, in characters.
    length_least: Option<u64>,
    length_most: Option<u64>,
    /// Length of an array.
    items_least: Option<u64>,
    items_most: Option<u64>,
    /// Number of the properties of an object.
    properties_least: Option<u64>,
    properties_most: Option<u64>,
}

#[derive(Debug, Default)]
struct Object {
    properties: HashMap<Box<str>, Property>,
    /// The keys that are noticed: the required ones, or those of a record.
    keys: Vec<Key>,
    /// The node of all other properties; none if they are not allowed.
    others: Option<u32>,
    /// Whether it is a record: a key may be written in `snake_case`, and is given once.
    is_record: bool,
    /// Whether it is a map: each key is given once.
    is_map: bool,
}

#[derive(Debug)]
struct Key {
    name: Box<str>,
    required: bool,
}

#[derive(Clone, Copy, Debug)]
struct Property {
    node_id: u32,
    /// Its index in [`Object::keys`].
    place: Option<usize>,
}

#[derive(Debug)]
struct Array {
    first: Vec<u32>,
    /// The node of all further items; none if they are not allowed.
    others: Option<u32>,
    /// Whether an item, or the key with which it begins, is given once.
    is_set: bool,
}

impl CompiledSchema {
    /// Compiles a JSON Schema.
    ///
    /// # Errors
    /// The reason why it cannot be used.
    pub(super) fn of_schema(schema: &Value) -> Result<Self, String> {
        Compiler::new(schema, Rules::Schema).compile()
    }

    /// Compiles the schema of a type into which serde reads: an integer must be written without a decimal point.
    pub(super) fn of_type(schema: &Value) -> Result<Self, String> {
        Compiler::new(schema, Rules::RustType).compile()
    }

    /// Compiles the schema of a type of a plain component: an integer must be written without a decimal point, a string
    /// whose `contentEncoding` is base64 must be that, an object without other properties is a record, whose keys may be
    /// written in `snake_case`, and the keys of every object and the items of a set are given once.
    pub(super) fn of_wit(schema: &Value) -> Result<Self, String> {
        Compiler::new(schema, Rules::WitType).compile()
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The first violation.
    pub(super) fn check(&self, value: &str) -> Result<(), Violation> {
        Check::new(&self.nodes, value.len()).check(self.root, value, 0)
    }
}

/// The kind of a JSON value, from its first byte.
fn kind(value: &str) -> u8 {
    match value.as_bytes().first() {
        Some(b'n') => NULL,
        Some(b't' | b'f') => BOOLEAN,
        Some(b'"') => STRING,
        Some(b'[') => ARRAY,
        Some(b'{') => OBJECT,
        _ => NUMBER,
    }
}
