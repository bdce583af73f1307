//! Human-readable violations of a schema.
//!
//! A message contains the beginning of a value, which may be large, and the first alternatives, which may be many.

use std::fmt::{self, Write as _};

use serde_json::{Number, Value};

use super::{ARRAY, BOOLEAN, Bounds, EVERYTHING, NULL, NUMBER, Node, Numbers, OBJECT, Object, STRING, kind};

/// Maximum bytes of a value in a message.
const EXCERPT_MAX: usize = 60;
/// Maximum alternatives in a message.
const NAMED_MAX: usize = 5;
/// Maximum references to follow to describe a value.
pub(super) const DESCRIBED_DEEP: u32 = 4;

/// A value that violates the schema.
#[derive(Debug)]
pub(crate) struct Violation {
    /// The path to the value, innermost step first.
    pub(super) path: Vec<Step>,
    pub(super) expected: Alternatives,
    pub(super) found: String,
    pub(super) cause: Cause,
}

/// What is wrong with a value, as far as it says which alternative of a union was meant. The greatest is the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A single value was expected: the tag of another variant.
    Tag,
    /// A property that its object does not have.
    UnknownKey,
    Value,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Item(usize),
    Key(String),
}

impl Violation {
    pub(crate) fn here(expected: impl Into<Alternatives>, found: String) -> Self {
        Self { path: Vec::new(), expected: expected.into(), found, cause: Cause::Value }
    }

    /// A property that its object does not have.
    pub(super) fn unknown_key(found: String) -> Self {
        Self { cause: Cause::UnknownKey, ..Self::here("no such property", found) }
    }

    /// A string that no Rust string can hold.
    pub(crate) fn lone_surrogate(value: &str) -> Self {
        Self::here("string of whole characters", format!("half of one (a lone surrogate) in {}", found(value)))
    }

    /// Rank among the alternatives of `anyOf`: a violation inside a value is nearer than one of the whole value, and
    /// one inside a variant nearer than a wrong tag.
    pub(super) fn nearness(&self) -> (Cause, usize) {
        let cause = if self.path.is_empty() { Cause::Tag } else { self.cause };
        (cause, self.path.len())
    }

    /// Whether the value itself has a property that its object does not have.
    pub(super) fn is_unknown_key(&self) -> bool {
        self.cause == Cause::UnknownKey && self.path.len() == 1
    }

    pub(crate) fn at(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    /// Returns the path below `root`, what was expected there and what was found.
    pub(in crate::signature) fn into_parts(self, root: &str) -> (String, String, String) {
        let mut path = root.to_owned();
        for step in self.path.iter().rev() {
            match step {
                Step::Item(index) => drop(write!(path, "[{index}]")),
                Step::Key(key) => push_key(&mut path, key),
            }
        }
        (path, self.expected.to_string(), self.found)
    }
}

/// Descriptions of allowed values, formatted as `a, b or c`: the first ones, and how many there are.
#[derive(Debug, Default)]
pub(crate) struct Alternatives {
    named: Vec<String>,
    count: usize,
}

impl Alternatives {
    /// Describes each item.
    fn of<T>(items: &[T], describe: impl Fn(&T) -> String) -> Self {
        let mut all = Self { named: Vec::new(), count: items.len().saturating_sub(NAMED_MAX) };
        items.iter().take(NAMED_MAX).for_each(|item| all.add(describe(item)));
        all
    }

    /// Names: `"a"`.
    pub(crate) fn names(names: &[Box<str>]) -> Self {
        Self::of(names, |name| quoted(name))
    }

    /// Cases of a variant: those without payload as `"case"`, then the others as `{"case": …}`.
    pub(crate) fn cases(without: &[&str], with_payload: &[&str]) -> Self {
        let mut all = Self::of(without, |name| quoted(name));
        all.append(Self::of(with_payload, |name| case(name)));
        all
    }

    /// Adds one, unless it is there.
    fn add(&mut self, description: String) {
        if !self.named.contains(&description) {
            self.count += 1;
            if self.named.len() < NAMED_MAX {
                self.named.push(description);
            }
        }
    }

    /// Adds those of another one.
    pub(crate) fn append(&mut self, other: Self) {
        let unnamed = other.count - other.named.len();
        other.named.into_iter().for_each(|description| self.add(description));
        self.count += unnamed;
    }

    /// An array of these.
    pub(crate) fn array(self) -> Self {
        Self::from(format!("array of {self}"))
    }
}

impl<T: Into<String>> From<T> for Alternatives {
    fn from(description: T) -> Self {
        Self { named: vec![description.into()], count: 1 }
    }
}

impl fmt::Display for Alternatives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.named.as_slice() {
            [] => f.write_str("a value"),
            [only] if self.count == 1 => f.write_str(only),
            [some @ .., last] if self.count <= NAMED_MAX => write!(f, "{} or {last}", some.join(", ")),
            named => {
                let named = &named[..NAMED_MAX - 1];
                write!(f, "{} or {} others", named.join(", "), self.count - named.len())
            }
        }
    }
}

/// Adds a key to a path: `.price`, or `["unit price"]`.
pub(in crate::signature) fn push_key(path: &mut String, key: &str) {
    let is_plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let excerpt: String = key.chars().take(EXCERPT_MAX).collect();
    if !key.is_empty() && key.chars().all(is_plain) && !key.starts_with(|c: char| c.is_ascii_digit()) {
        let _ = write!(path, ".{excerpt}");
    } else {
        let _ = write!(path, "[{excerpt:?}]");
    }
}

impl Bounds {
    fn describe(&self) -> String {
        // A number without a fraction is written as a whole one.
        let shown = |bound: &Option<Number>| {
            bound.as_ref().map(|bound| match bound.as_f64().filter(|_| bound.is_f64()) {
                Some(number) => number.to_string(),
                None => bound.to_string(),
            })
        };
        match (shown(&self.least), shown(&self.most), shown(&self.above), shown(&self.below)) {
            (Some(least), Some(most), ..) => format!(" from {least} to {most}"),
            (Some(least), None, ..) => format!(" of at least {least}"),
            (None, Some(most), ..) => format!(" of at most {most}"),
            (None, None, Some(above), _) => format!(" above {above}"),
            (None, None, None, Some(below)) => format!(" below {below}"),
            (None, None, None, None) => String::new(),
        }
    }
}

pub(super) fn between(count: u64, least: Option<u64>, most: Option<u64>, what: &str) -> Result<(), String> {
    let counted = |count: u64| match what.strip_suffix('y') {
        _ if count == 1 => format!("1 {what}"),
        Some(stem) => format!("{count} {stem}ies"),
        None => format!("{count} {what}s"),
    };
    match (least, most) {
        (Some(least), Some(most)) if least == most && count != least => Err(counted(least)),
        (Some(least), _) if count < least => Err(format!("at least {}", counted(least))),
        (_, Some(most)) if count > most => Err(format!("at most {}", counted(most))),
        _ => Ok(()),
    }
}

/// Formats a value for a message: `string "x"`.
pub(crate) fn found(value: &str) -> String {
    let kind = match kind(value) {
        NULL => return "null".into(),
        BOOLEAN => "boolean",
        STRING => "string",
        ARRAY => "array",
        OBJECT => "object",
        _ => "number",
    };
    let excerpt = &value[..value.floor_char_boundary(EXCERPT_MAX)];
    let mut formatted = format!("{kind} ");
    formatted.extend(excerpt.chars().map(|c| if c.is_control() { ' ' } else { c }));
    if excerpt.len() < value.len() {
        formatted.push('…');
    }
    formatted
}

/// Describes the values that a node allows. Follows at most `deep` references, as they may be circular.
pub(super) fn describe(nodes: &[Node], node_id: u32, deep: u32) -> Alternatives {
    let Some(node) = nodes.get(node_id as usize).filter(|_| deep > 0) else { return "a value".into() };
    if let Some(choices) = &node.choices {
        return Alternatives::of(choices, choice);
    }
    if node.kinds != EVERYTHING {
        return describe_kinds(nodes, node, deep);
    }
    if let Some(node_ids) = node.any.first() {
        return describe_any(nodes, node_ids, deep - 1);
    }
    node.all.first().map_or_else(|| "a value".into(), |node_id| describe(nodes, *node_id, deep - 1))
}

/// Describes the values that one of several nodes allows.
pub(super) fn describe_any(nodes: &[Node], node_ids: &[u32], deep: u32) -> Alternatives {
    let mut all = Alternatives::default();
    for (index, node_id) in node_ids.iter().enumerate() {
        if all.named.len() == NAMED_MAX {
            // The rest is counted only, or a schema could make a message slow.
            all.count += node_ids.len() - index;
            break;
        }
        all.append(describe(nodes, *node_id, deep));
    }
    all
}

/// Describes the kinds of values that a node allows.
fn describe_kinds(nodes: &[Node], node: &Node, deep: u32) -> Alternatives {
    let mut all = Alternatives::default();
    if node.kinds == 0 {
        return "nothing".into();
    }
    let bounds = node.bounds.as_ref().map(|bounds| bounds.describe()).unwrap_or_default();
    let number = if node.numbers == Numbers::All { "number" } else { "integer" };
    let plain = [(NUMBER, format!("{number}{bounds}")), (STRING, "string".into()), (BOOLEAN, "boolean".into())];
    plain.into_iter().filter(|(kind, _)| node.kinds & kind != 0).for_each(|(_, name)| all.add(name));
    if node.kinds & ARRAY != 0 {
        all.append(describe_array(nodes, node, deep));
    }
    if node.kinds & OBJECT != 0 {
        all.append(describe_object(nodes, node));
    }
    if node.kinds & NULL != 0 {
        all.add("null".to_owned());
    }
    all
}

/// `array`, or `array of "a" or "b"`: what a set of names allows.
fn describe_array(nodes: &[Node], node: &Node, deep: u32) -> Alternatives {
    let items = node.array.as_ref().filter(|array| array.first.is_empty()).and_then(|array| array.others);
    let items = items.filter(|node_id| nodes.get(*node_id as usize).is_some_and(|node| node.choices.is_some()));
    items.map_or_else(|| "array".into(), |node_id| describe(nodes, node_id, deep - 1).array())
}

/// `object`, or what tells it from the other objects of a union: `{"case": …}`, `{"kind": "case", …}`.
fn describe_object(nodes: &[Node], node: &Node) -> Alternatives {
    let Some(object) = &node.object else { return "object".into() };
    if node.is_tagged() {
        return Alternatives::of(&object.keys, |key| case(&key.name));
    }
    let tag = object.keys.iter().filter(|key| key.required).find_map(|key| {
        let property = nodes.get(object.properties.get(&key.name)?.node_id as usize)?;
        let [tag @ Value::String(_)] = property.choices.as_deref()? else { return None };
        let others = if object.properties.len() == 1 { "" } else { ", …" };
        Some(format!("{{{}: {}{others}}}", quoted(&key.name), choice(tag)))
    });
    tag.map_or_else(|| "object".into(), Alternatives::from)
}

impl Node {
    /// Whether it allows only objects of one property, whose key says which case of a variant it is.
    pub(super) fn is_tagged(&self) -> bool {
        let is_one = |object: &Object| match object.keys.as_slice() {
            [] => false,
            [key] if key.required && object.properties.len() == 1 => true,
            keys => {
                let most = self.bounds.as_ref().and_then(|bounds| bounds.properties_most);
                most == Some(1) && keys.len() == object.properties.len()
            }
        };
        self.object.as_ref().is_some_and(|object| object.others.is_none() && is_one(object))
    }
}

/// Formats a case with a payload: `{"case": …}`.
fn case(name: &str) -> String {
    format!("{{{}: …}}", quoted(name))
}

fn quoted(name: &str) -> String {
    choice(&Value::from(name))
}

/// Formats an allowed value for a message.
fn choice(value: &Value) -> String {
    let mut excerpt = Cut(String::new());
    if write!(excerpt, "{value}").is_err() {
        excerpt.0.push('…');
    }
    excerpt.0
}

/// A writer that keeps the beginning of its input and then fails.
struct Cut(String);

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(EXCERPT_MAX - self.0.len());
        self.0.push_str(&text[..fits]);
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
