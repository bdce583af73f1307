//! The form of a value: what a JSON Schema or a Rust type says about it, compiled.
//!
//! Our own and not a library's, because it must hold against hostile modules: a schema is a task
//! module's word, and the control plane checks calls by it for everybody. So each check has a budget,
//! nothing recurses without a bound, nothing is fetched, and no pattern is run. What this file does
//! not know or has no budget left for is let through: the task itself still reads its arguments.
//! Invariant, checked against a complete validator: no value is refused that the schema allows.

use std::collections::HashMap;

use serde_json::Value;

mod check;
mod compile;
mod fault;
mod width;

use check::Check;
use compile::Compiler;
pub(super) use fault::{Fault, push_key};
use width::Width;

/// Says nothing about a value.
const ANY: u32 = 0;
/// The keys of an object that can be required: a bit each while one is checked.
const REQUIRED_MAX: usize = 64;

const NULL: u8 = 1;
const BOOLEAN: u8 = 2;
const NUMBER: u8 = 4;
const STRING: u8 = 8;
const ARRAY: u8 = 16;
const OBJECT: u8 = 32;
const EVERYTHING: u8 = 63;

/// The form of a value and of all values in it.
#[derive(Debug)]
pub(super) struct Form {
    nodes: Vec<Node>,
    root: u32,
}

/// What is said about one value.
#[derive(Debug)]
struct Node {
    kinds: u8,
    numbers: Numbers,
    /// What a number is read into.
    width: Option<Width>,
    bounds: Option<Box<Bounds>>,
    /// The only values, none of them an array or an object.
    choices: Option<Box<[Value]>>,
    object: Option<Box<Object>>,
    array: Option<Box<Array>>,
    /// Forms that it must have as well.
    all: Vec<u32>,
    /// Of each of these lists, it must have one.
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

#[derive(Debug, Default, PartialEq)]
struct Bounds {
    least: Option<f64>,
    most: Option<f64>,
    above: Option<f64>,
    below: Option<f64>,
    /// Of a text, in characters.
    length_least: Option<u64>,
    length_most: Option<u64>,
    /// Of an array.
    items_least: Option<u64>,
    items_most: Option<u64>,
}

#[derive(Debug, Default)]
struct Object {
    properties: HashMap<Box<str>, Property>,
    required: Vec<Box<str>>,
    /// The form of all other properties; none if there may be none.
    others: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Property {
    form: u32,
    /// Its place among the required ones.
    required: Option<u8>,
}

#[derive(Debug)]
struct Array {
    first: Vec<u32>,
    /// The form of all further items; none if there may be none.
    others: Option<u32>,
}

impl Form {
    /// The form that a JSON Schema describes.
    ///
    /// # Errors
    /// With a sentence when it cannot be used.
    pub(super) fn of_schema(schema: &Value) -> Result<Self, String> {
        Compiler::new(schema, Numbers::Integers).compile()
    }

    /// The form of what serde reads into a type of this schema: an integer is written as one.
    pub(super) fn of_type(schema: &Value) -> Result<Self, String> {
        Compiler::new(schema, Numbers::WithoutPoint).compile()
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The first fault that was found in it.
    pub(super) fn check(&self, value: &str) -> Result<(), Fault> {
        Check::new(&self.nodes, value.len()).check(self.root, value, 0)
    }
}
