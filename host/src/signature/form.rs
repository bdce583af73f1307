//! The form of a value: what a JSON Schema or a Rust type says about it, compiled.
//!
//! Our own and not a library's, because it must hold against hostile modules: a schema is a task
//! module's word, and the control plane checks calls by it for everybody. So each check has a budget,
//! nothing recurses without a bound, nothing is fetched, and no pattern is run. What this file does
//! not know or has no budget left for is let through: the task itself still reads its arguments.
//! Invariant, checked against a complete validator: no value is refused that the schema allows.

use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::HashMap,
    fmt::{self, Write as _},
    mem,
};

use serde_json::{Map, Value};

use super::text;

/// The forms that one schema or type may be made of.
const FORMS_MAX: usize = 4_096;
/// How deep a document is looked into.
const DEPTH_MAX: u32 = 64;
/// The steps that a check may take for each byte of the document, and for any document.
const STEPS_PER_BYTE: usize = 8;
const STEPS_LEAST: usize = 1 << 16;
/// What looking at one value costs besides its bytes.
const LOOK: usize = 8;
/// Numbers of so many characters are told apart after rounding.
const EXACT_DIGITS: usize = 15;
/// Bytes of a value that a complaint shows.
const SHOWN_MAX: usize = 60;
/// Alternatives that a complaint names, and references it looks through for them.
const NAMED_MAX: usize = 5;
const DESCRIBED_DEEP: u32 = 4;

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

/// A value that has not the form it should have.
#[derive(Debug)]
pub(super) struct Fault {
    /// From the inside out.
    path: Vec<Step>,
    expected: String,
    found: String,
    /// It is not the only value that there may be, such as the name of another variant.
    is_tag: bool,
}

#[derive(Debug, PartialEq)]
enum Step {
    Item(usize),
    Key(String),
}

impl Fault {
    fn here(expected: impl Into<String>, found: String) -> Self {
        Self { path: Vec::new(), expected: expected.into(), found, is_tag: false }
    }

    /// How near it is to what was meant: what is wrong inside of a value is nearer than another kind
    /// of value, and what is wrong in a variant nearer than the name of another variant.
    fn nearness(&self) -> (bool, bool, usize) {
        (!self.path.is_empty(), !self.is_tag, self.path.len())
    }

    fn at(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    /// The path behind `root`, what was expected there and what was found.
    pub(super) fn told(self, root: &str) -> (String, String, String) {
        let mut path = root.to_owned();
        for step in self.path.iter().rev() {
            match step {
                Step::Item(index) => drop(write!(path, "[{index}]")),
                Step::Key(key) => push_key(&mut path, key),
            }
        }
        (path, self.expected, self.found)
    }
}

/// Adds a key to a path: `.price`, or `["unit price"]`.
pub(super) fn push_key(path: &mut String, key: &str) {
    let is_plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let shown: String = key.chars().take(SHOWN_MAX).collect();
    if !key.is_empty() && key.chars().all(is_plain) && !key.starts_with(|c: char| c.is_ascii_digit()) {
        let _ = write!(path, ".{shown}");
    } else {
        let _ = write!(path, "[{shown:?}]");
    }
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
        let steps = value.len().saturating_mul(STEPS_PER_BYTE) + STEPS_LEAST;
        Check { nodes: &self.nodes, steps }.check(self.root, value, 0)
    }
}

/// One check and the steps it has left.
struct Check<'a> {
    nodes: &'a [Node],
    steps: usize,
}

impl Check<'_> {
    fn check(&mut self, form: u32, value: &str, depth: u32) -> Result<(), Fault> {
        if form == ANY || depth > DEPTH_MAX || !self.pay(LOOK) {
            return Ok(());
        }
        let nodes = self.nodes;
        let Some(node) = nodes.get(form as usize) else { return Ok(()) };
        let kind = kind(value);
        if node.kinds & kind == 0 {
            return Err(self.misfit(form, value));
        }
        match kind {
            NUMBER => self.check_number(form, node, value)?,
            STRING => self.check_length(node, value)?,
            ARRAY => self.check_items(node, value, depth)?,
            OBJECT => self.check_properties(node, value, depth)?,
            _ => {}
        }
        if let Some(choices) = &node.choices
            && !self.may_be_one_of(choices, kind, value)
        {
            return Err(Fault { is_tag: choices.len() == 1, ..self.misfit(form, value) });
        }
        for form in &node.all {
            self.check(*form, value, depth + 1)?;
        }
        for forms in &node.any {
            self.check_any(forms, value, depth + 1)?;
        }
        Ok(())
    }

    /// Whether these steps are left. Once they are not, everything is let through.
    fn pay(&mut self, steps: usize) -> bool {
        let left = self.steps.checked_sub(steps);
        self.steps = left.unwrap_or(0);
        left.is_some()
    }

    fn misfit(&mut self, form: u32, value: &str) -> Fault {
        self.pay(LOOK * LOOK);
        Fault::here(describe(self.nodes, form, DESCRIBED_DEEP), found(value))
    }

    fn check_number(&mut self, form: u32, node: &Node, value: &str) -> Result<(), Fault> {
        if node.numbers == Numbers::All && node.bounds.is_none() {
            return Ok(());
        }
        let is_whole = !value.contains(['.', 'e', 'E']);
        if node.numbers == Numbers::WithoutPoint && !is_whole {
            return Err(self.misfit(form, value));
        }
        // Rounding keeps the order, so a number beyond a bound here is beyond it.
        let Some(number) = value.parse::<f64>().ok().filter(|number| number.is_finite()) else { return Ok(()) };
        let is_integer = is_whole || number.fract() == 0.0;
        let is_exact = value.len() <= EXACT_DIGITS;
        let fits = node.bounds.as_ref().is_none_or(|bounds| bounds.allow(number, is_exact));
        if (is_integer || node.numbers == Numbers::All) && fits { Ok(()) } else { Err(self.misfit(form, value)) }
    }

    fn check_length(&mut self, node: &Node, value: &str) -> Result<(), Fault> {
        let Some(bounds) = &node.bounds else { return Ok(()) };
        if (bounds.length_least, bounds.length_most) == (None, None) || !self.pay(value.len()) {
            return Ok(());
        }
        let length = text::unquoted(value).chars().count() as u64;
        between(length, bounds.length_least, bounds.length_most, "character")
            .map_err(|expected| Fault::here(format!("string of {expected}"), found(value)))
    }

    fn check_items(&mut self, node: &Node, value: &str, depth: u32) -> Result<(), Fault> {
        let counts = node.bounds.as_ref().map(|bounds| (bounds.items_least, bounds.items_most));
        let counts = counts.filter(|counts| *counts != (None, None));
        if (node.array.is_none() && counts.is_none()) || !self.pay(value.len()) {
            return Ok(());
        }
        let mut count = 0;
        for (index, item) in text::items(value).enumerate() {
            count = index as u64 + 1;
            let Some(array) = &node.array else { continue };
            let checked = match array.first.get(index).copied().or(array.others) {
                Some(form) => self.check(form, item, depth + 1),
                None => Err(Fault::here(format!("no item after {index}"), found(item))),
            };
            checked.map_err(|fault| fault.at(Step::Item(index)))?;
        }
        let (least, most) = counts.unwrap_or_default();
        between(count, least, most, "item")
            .map_err(|expected| Fault::here(format!("array of {expected}"), format!("array of {count}")))
    }

    fn may_be_one_of(&mut self, choices: &[Value], kind: u8, value: &str) -> bool {
        if !self.pay(value.len() + choices.len()) {
            return true;
        }
        // Compared as a number, `1` is `1.0`.
        let number = value.parse::<f64>().ok().filter(|_| kind == NUMBER);
        let text = (kind == STRING).then(|| text::unquoted(value));
        choices.iter().any(|choice| match (choice, kind) {
            (Value::Number(choice), NUMBER) => number.is_some_and(|number| {
                choice.as_f64().is_none_or(|choice| choice.partial_cmp(&number) == Some(Ordering::Equal))
            }),
            // Those of another length are told apart at once.
            (Value::String(choice), STRING) => text
                .as_deref()
                .is_some_and(|text| choice.len() == text.len() && (!self.pay(text.len()) || choice == text)),
            (Value::Bool(choice), BOOLEAN) => (value == "true") == *choice,
            (Value::Null, NULL) => true,
            _ => false,
        })
    }

    fn check_properties(&mut self, node: &Node, value: &str, depth: u32) -> Result<(), Fault> {
        let Some(object) = &node.object else { return Ok(()) };
        if !self.pay(value.len()) {
            return Ok(());
        }
        let mut seen = 0_u64;
        for (key, value) in text::entries(value) {
            let property = object.properties.get(&*key);
            if let Some(Property { required: Some(place), .. }) = property {
                seen |= 1_u64 << place;
            }
            let checked = match property.map(|property| property.form).or(object.others) {
                Some(form) => self.check(form, value, depth + 1),
                None => Err(Fault::here("no such property", found(value))),
            };
            checked.map_err(|fault| fault.at(Step::Key(key.into_owned())))?;
        }
        // One that comes twice, with escapes or too deep down is seen all the same.
        let missing = object.required.iter().enumerate().find(|(place, _)| seen & (1_u64 << place) == 0);
        let Some((_, key)) = missing.filter(|_| self.steps > 0) else { return Ok(()) };
        let form = object.properties.get(key).map_or(ANY, |property| property.form);
        Err(Fault::here(describe(self.nodes, form, DESCRIBED_DEEP), "nothing".into()).at(Step::Key(key.to_string())))
    }

    fn check_any(&mut self, forms: &[u32], value: &str, depth: u32) -> Result<(), Fault> {
        let mut nearest: Vec<Fault> = Vec::new();
        for form in forms {
            let Err(fault) = self.check(*form, value, depth) else { return Ok(()) };
            match nearest.first().map_or(Ordering::Greater, |first| fault.nearness().cmp(&first.nearness())) {
                Ordering::Less => {}
                Ordering::Equal => nearest.push(fault),
                Ordering::Greater => nearest = vec![fault],
            }
        }
        let mut nearest = nearest.into_iter();
        let Some(mut first) = nearest.next() else { return Ok(()) };
        let mut expected = vec![mem::take(&mut first.expected)];
        for fault in nearest.filter(|fault| fault.path == first.path) {
            if !expected.contains(&fault.expected) {
                expected.push(fault.expected);
            }
        }
        first.expected = either(&expected);
        Err(first)
    }
}

impl Bounds {
    fn allow(&self, number: f64, is_exact: bool) -> bool {
        self.least.is_none_or(|least| number >= least)
            && self.most.is_none_or(|most| number <= most)
            && self.above.is_none_or(|above| number > above || (number >= above && !is_exact))
            && self.below.is_none_or(|below| number < below || (number <= below && !is_exact))
    }

    fn describe(&self) -> String {
        match (self.least, self.most, self.above, self.below) {
            (Some(least), Some(most), ..) => format!(" from {least} to {most}"),
            (Some(least), None, ..) => format!(" of at least {least}"),
            (None, Some(most), ..) => format!(" of at most {most}"),
            (None, None, Some(above), _) => format!(" above {above}"),
            (None, None, None, Some(below)) => format!(" below {below}"),
            (None, None, None, None) => String::new(),
        }
    }
}

fn between(count: u64, least: Option<u64>, most: Option<u64>, what: &str) -> Result<(), String> {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    match (least, most) {
        (Some(least), _) if count < least => Err(format!("at least {least} {what}{}", plural(least))),
        (_, Some(most)) if count > most => Err(format!("at most {most} {what}{}", plural(most))),
        _ => Ok(()),
    }
}

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

/// The value as a complaint shows it: `string "x"`.
fn found(value: &str) -> String {
    let kind = match kind(value) {
        NULL => return "null".into(),
        BOOLEAN => "boolean",
        STRING => "string",
        ARRAY => "array",
        OBJECT => "object",
        _ => "number",
    };
    let shown = &value[..value.floor_char_boundary(SHOWN_MAX)];
    let mut told = format!("{kind} ");
    told.extend(shown.chars().map(|c| if c.is_control() { ' ' } else { c }));
    if shown.len() < value.len() {
        told.push('…');
    }
    told
}

/// What a value of this form is, for people. Looks through `deep` references, as they may go round.
fn describe(nodes: &[Node], form: u32, deep: u32) -> String {
    let Some(node) = nodes.get(form as usize).filter(|_| deep > 0) else { return "a value".into() };
    if let Some(choices) = &node.choices {
        let named: Vec<String> = choices.iter().take(NAMED_MAX).map(choice).collect();
        return one_of(&named, choices.len());
    }
    if node.kinds != EVERYTHING {
        return kinds(node);
    }
    if let Some(forms) = node.any.first() {
        let mut names: Vec<String> = Vec::new();
        for form in forms.iter().take(NAMED_MAX) {
            let name = describe(nodes, *form, deep - 1);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        return either(&names);
    }
    node.all.first().map_or_else(|| "a value".into(), |form| describe(nodes, *form, deep - 1))
}

fn kinds(node: &Node) -> String {
    if node.kinds == 0 {
        return "nothing".into();
    }
    let bounds = node.bounds.as_ref().map(|bounds| bounds.describe()).unwrap_or_default();
    let number = if node.numbers == Numbers::All { "number" } else { "integer" };
    let all = [
        (NUMBER, format!("{number}{bounds}")),
        (STRING, "string".into()),
        (BOOLEAN, "boolean".into()),
        (ARRAY, "array".into()),
        (OBJECT, "object".into()),
        (NULL, "null".into()),
    ];
    let named: Vec<String> = all.into_iter().filter(|(kind, _)| node.kinds & kind != 0).map(|(_, name)| name).collect();
    either(&named)
}

/// A choice as a complaint shows it.
fn choice(value: &Value) -> String {
    let mut shown = Cut(String::new());
    if write!(shown, "{value}").is_err() {
        shown.0.push('…');
    }
    shown.0
}

/// The beginning of what is written, which ends the writing.
struct Cut(String);

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(SHOWN_MAX - self.0.len());
        self.0.push_str(&text[..fits]);
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// `a, b or c`.
fn either(names: &[String]) -> String {
    one_of(names, names.len())
}

/// The same of `count` names, of which those beyond the first few need not be given.
fn one_of(names: &[String], count: usize) -> String {
    match names {
        [] => "a value".into(),
        [only] if count == 1 => only.clone(),
        [some @ .., last] if count <= NAMED_MAX => format!("{} or {last}", some.join(", ")),
        names => format!("{} or {} others", names[..NAMED_MAX - 1].join(", "), count + 1 - NAMED_MAX),
    }
}

// Compiling a JSON Schema.

struct Compiler<'a> {
    root: &'a Value,
    /// What `integer` means.
    integers: Numbers,
    nodes: Vec<Node>,
    /// The forms of places in the schema that references name.
    named: HashMap<Cow<'a, str>, u32>,
    /// What still has to be read, so that no schema nests too deeply for the stack.
    open: Vec<(u32, &'a Map<String, Value>)>,
}

impl<'a> Compiler<'a> {
    fn new(root: &'a Value, integers: Numbers) -> Self {
        Self { root, integers, nodes: vec![Node::default()], named: HashMap::new(), open: Vec::new() }
    }

    fn compile(mut self) -> Result<Form, String> {
        if !self.root.is_object() && !self.root.is_boolean() {
            return Err("a JSON Schema is an object or a boolean".into());
        }
        let root = self.reference("")?;
        while let Some((form, schema)) = self.open.pop() {
            let node = self.node(schema)?;
            self.nodes[form as usize] = node;
        }
        Ok(Form { nodes: self.nodes, root })
    }

    /// The form of a part of the schema.
    fn form(&mut self, schema: &'a Value) -> Result<u32, String> {
        let node = match schema {
            Value::Object(keys) if !keys.is_empty() => {
                let form = self.add(Node::default())?;
                self.open.push((form, keys));
                return Ok(form);
            }
            Value::Bool(false) => Node { kinds: 0, ..Node::default() },
            _ => return Ok(ANY),
        };
        self.add(node)
    }

    fn add(&mut self, node: Node) -> Result<u32, String> {
        if self.nodes.len() >= FORMS_MAX {
            return Err(format!("it has more than {FORMS_MAX} parts"));
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).map_err(|error| error.to_string())
    }

    /// The form of the part that a JSON pointer leads to.
    fn reference(&mut self, pointer: &'a str) -> Result<u32, String> {
        if let Some(form) = self.named.get(pointer) {
            return Ok(*form);
        }
        let Some(schema) = self.root.pointer(pointer) else {
            return Err(format!("its reference '#{pointer:.100}' leads nowhere"));
        };
        let form = self.form(schema)?;
        self.named.insert(Cow::Borrowed(pointer), form);
        Ok(form)
    }

    fn node(&mut self, schema: &'a Map<String, Value>) -> Result<Node, String> {
        if schema.contains_key("$id") && !self.root.as_object().is_some_and(|root| std::ptr::eq(root, schema)) {
            // A document of its own, in which references mean something else.
            return Ok(Node::default());
        }
        let mut node = Node { object: self.object(schema)?, array: self.array(schema)?, ..Node::default() };
        (node.kinds, node.numbers) = kinds_of(schema.get("type"), self.integers);
        node.choices = choices(schema);
        let bounds = Bounds::of(schema);
        node.bounds = (bounds != Bounds::default()).then(|| Box::new(bounds));
        if let Some(Value::String(reference)) = schema.get("$ref") {
            // One to another document is not followed: nothing is fetched.
            if let Some(pointer) = reference.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/')) {
                if pointer.contains('%') {
                    return Err(format!("its reference '{reference:.100}' has escapes"));
                }
                node.all.push(self.reference(pointer)?);
            }
        }
        node.all.extend(self.forms(schema.get("allOf"))?);
        // `oneOf` allows only one to fit, and serde takes the first that does.
        for key in ["anyOf", "oneOf"] {
            let forms = self.forms(schema.get(key))?;
            if !forms.is_empty() {
                node.any.push(forms);
            }
        }
        Ok(node)
    }

    fn forms(&mut self, schemas: Option<&'a Value>) -> Result<Vec<u32>, String> {
        schemas.and_then(Value::as_array).into_iter().flatten().map(|schema| self.form(schema)).collect()
    }

    fn object(&mut self, schema: &'a Map<String, Value>) -> Result<Option<Box<Object>>, String> {
        let others = match schema.get("additionalProperties") {
            // With patterns it takes running them to know what the others are.
            None => Some(ANY),
            Some(_) if schema.contains_key("patternProperties") => Some(ANY),
            Some(Value::Bool(false)) => None,
            Some(others) => Some(self.form(others)?),
        };
        let mut object = Object { others, ..Object::default() };
        if let Some(Value::Object(properties)) = schema.get("properties") {
            for (key, schema) in properties {
                let property = Property { form: self.form(schema)?, required: None };
                object.properties.insert(key.as_str().into(), property);
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for key in required.into_iter().flatten().filter_map(Value::as_str).take(REQUIRED_MAX) {
            let unnamed = Property { form: others.unwrap_or(ANY), required: None };
            let property = object.properties.entry(key.into()).or_insert(unnamed);
            if property.required.is_none() {
                property.required = u8::try_from(object.required.len()).ok();
                object.required.push(key.into());
            }
        }
        let says_something = !object.properties.is_empty() || others != Some(ANY);
        Ok(says_something.then(|| Box::new(object)))
    }

    fn array(&mut self, schema: &'a Map<String, Value>) -> Result<Option<Box<Array>>, String> {
        let mut array = Array { first: self.forms(schema.get("prefixItems"))?, others: Some(ANY) };
        match schema.get("items") {
            // The older way to write `prefixItems`.
            Some(Value::Array(_)) => array.first = self.forms(schema.get("items"))?,
            Some(Value::Bool(false)) => array.others = None,
            Some(items) => array.others = Some(self.form(items)?),
            None => {}
        }
        let says_something = !array.first.is_empty() || array.others != Some(ANY);
        Ok(says_something.then(|| Box::new(array)))
    }
}

impl Bounds {
    fn of(schema: &Map<String, Value>) -> Self {
        let number = |key| schema.get(key).and_then(Value::as_f64);
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
