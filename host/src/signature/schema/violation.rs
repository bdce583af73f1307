//! Human-readable violations of a schema.
//!
//! A message contains the beginning of a value, which may be large, and the first alternatives, which may be many.

use std::fmt::{self, Write as _};

use serde_json::Value;

use super::{ARRAY, BOOLEAN, Bounds, EVERYTHING, NULL, NUMBER, Node, Numbers, OBJECT, STRING, kind};

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
    pub(super) expected: String,
    pub(super) found: String,
    /// Whether a single value was expected: the tag of another variant.
    pub(super) is_tag: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Item(usize),
    Key(String),
}

impl Violation {
    pub(crate) fn here(expected: impl Into<String>, found: String) -> Self {
        Self { path: Vec::new(), expected: expected.into(), found, is_tag: false }
    }

    /// A string that no Rust string can hold.
    pub(crate) fn lone_surrogate(value: &str) -> Self {
        Self::here("string of whole characters", format!("half of one (a lone surrogate) in {}", found(value)))
    }

    /// Rank among the alternatives of `anyOf`: a violation inside a value is nearer than one of the whole value, and
    /// one inside a variant nearer than a wrong tag.
    pub(super) fn nearness(&self) -> (bool, bool, usize) {
        (!self.path.is_empty(), !self.is_tag, self.path.len())
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
        (path, self.expected, self.found)
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
pub(super) fn describe(nodes: &[Node], node_id: u32, deep: u32) -> String {
    let Some(node) = nodes.get(node_id as usize).filter(|_| deep > 0) else { return "a value".into() };
    if let Some(choices) = &node.choices {
        let named: Vec<String> = choices.iter().take(NAMED_MAX).map(choice).collect();
        return one_of(&named, choices.len());
    }
    if node.kinds != EVERYTHING {
        return kinds(node);
    }
    if let Some(node_ids) = node.any.first() {
        let mut names: Vec<String> = Vec::new();
        for node_id in node_ids.iter().take(NAMED_MAX) {
            let name = describe(nodes, *node_id, deep - 1);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        return either(&names);
    }
    node.all.first().map_or_else(|| "a value".into(), |node_id| describe(nodes, *node_id, deep - 1))
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

/// `a, b or c`.
pub(super) fn either(names: &[String]) -> String {
    one_of(names, names.len())
}

/// The same for `count` names, of which only the first ones need to be given.
fn one_of(names: &[String], count: usize) -> String {
    match names {
        [] => "a value".into(),
        [only] if count == 1 => only.clone(),
        [some @ .., last] if count <= NAMED_MAX => format!("{} or {last}", some.join(", ")),
        names => format!("{} or {} others", names[..NAMED_MAX - 1].join(", "), count + 1 - NAMED_MAX),
    }
}
