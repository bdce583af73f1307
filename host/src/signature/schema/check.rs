//! Checks one value against a compiled schema, within a budget of steps.
//!
//! Runs for each call. A check pays for each part of the document that it reads, so that no schema and no document can
//! make it slow. Once the budget is used up, the rest is accepted.

use std::{cmp::Ordering, mem};

use serde_json::{Number, Value};

use super::{
    ANY, ARRAY, BOOLEAN, Bounds, EVERYTHING, NULL, NUMBER, Node, Numbers, OBJECT, Object, Property, STRING, kind,
    violation::{Cause, DESCRIBED_DEEP, Step, Violation, between, describe, describe_any, found},
};
use crate::signature::text;

/// Maximum depth to which a document is checked.
const DEPTH_MAX: u32 = 64;
/// The budget of a check: steps for each byte of the document, in addition to [`STEPS_LEAST`].
const STEPS_PER_BYTE: usize = 8;
/// The minimum budget of a check.
const STEPS_LEAST: usize = 1 << 16;
/// Steps for visiting one value, in addition to its bytes.
const VISIT: usize = 8;
/// Maximum length of numbers that stay distinct when rounded to `f64`.
const EXACT_DIGITS: usize = 15;

/// One check and the steps it has left.
pub(super) struct Check<'a> {
    nodes: &'a [Node],
    steps: usize,
}

impl<'a> Check<'a> {
    /// Starts a check of a document with this number of bytes.
    pub(super) fn new(nodes: &'a [Node], bytes: usize) -> Self {
        Self { nodes, steps: bytes.saturating_mul(STEPS_PER_BYTE) + STEPS_LEAST }
    }

    /// Checks a value at `depth` of the document.
    pub(super) fn check(&mut self, node_id: u32, value: &str, depth: u32) -> Result<(), Violation> {
        if node_id == ANY || depth > DEPTH_MAX || !self.pay(VISIT) {
            return Ok(());
        }
        let nodes = self.nodes;
        let Some(node) = nodes.get(node_id as usize) else { return Ok(()) };
        let kind = kind(value);
        if node.kinds & kind == 0 {
            return Err(self.violation(node_id, value));
        }
        match kind {
            NUMBER => {
                self.check_number(node_id, node, value)?;
                check_width(node, value)?;
            }
            STRING => self.check_text(node, value)?,
            ARRAY => self.check_items(node, value, depth)?,
            OBJECT => self.check_properties(node_id, node, value, depth)?,
            _ => {}
        }
        if let Some(choices) = &node.choices
            && !self.may_be_one_of(choices, kind, value)
        {
            let cause = if choices.len() == 1 { Cause::Tag } else { Cause::Value };
            return Err(Violation { cause, ..self.violation(node_id, value) });
        }
        for node_id in &node.all {
            self.check(*node_id, value, depth + 1)?;
        }
        for node_ids in &node.any {
            self.check_any(node_ids, value, depth + 1)?;
        }
        Ok(())
    }

    /// Takes steps from the budget. Returns false once it is used up: everything is accepted then.
    fn pay(&mut self, steps: usize) -> bool {
        let left = self.steps.checked_sub(steps);
        self.steps = left.unwrap_or(0);
        left.is_some()
    }

    fn violation(&mut self, node_id: u32, value: &str) -> Violation {
        self.pay(VISIT * VISIT);
        Violation::here(describe(self.nodes, node_id, DESCRIBED_DEEP), found(value))
    }

    fn check_number(&mut self, node_id: u32, node: &Node, value: &str) -> Result<(), Violation> {
        if node.numbers == Numbers::All && node.bounds.is_none() {
            return Ok(());
        }
        let is_whole = !value.contains(['.', 'e', 'E']);
        if node.numbers == Numbers::WithoutPoint && !is_whole {
            return Err(self.violation(node_id, value));
        }
        // Rounding keeps the order, so a number beyond a bound here is beyond it.
        let Some(number) = value.parse::<f64>().ok().filter(|number| number.is_finite()) else { return Ok(()) };
        let is_integer = is_whole || number.fract() == 0.0;
        let is_exact = value.len() <= EXACT_DIGITS;
        let fits = node.bounds.as_ref().is_none_or(|bounds| bounds.allow(number, is_exact));
        if (is_integer || node.numbers == Numbers::All) && fits { Ok(()) } else { Err(self.violation(node_id, value)) }
    }

    fn check_text(&mut self, node: &Node, value: &str) -> Result<(), Violation> {
        if node.kinds != EVERYTHING && self.pay(value.len()) && text::has_lone_surrogate(value) {
            return Err(Violation::lone_surrogate(value));
        }
        if node.is_base64 && self.pay(value.len()) && text::base64_digits(&text::unquoted(value)).is_none() {
            return Err(Violation::here("base64", found(value)));
        }
        let Some(bounds) = &node.bounds else { return Ok(()) };
        if (bounds.length_least, bounds.length_most) == (None, None) || !self.pay(value.len()) {
            return Ok(());
        }
        let length = text::unquoted(value).chars().count() as u64;
        between(length, bounds.length_least, bounds.length_most, "character")
            .map_err(|expected| Violation::here(format!("string of {expected}"), found(value)))
    }

    fn check_items(&mut self, node: &Node, value: &str, depth: u32) -> Result<(), Violation> {
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
                Some(node_id) => self.check(node_id, item, depth + 1),
                None => Err(Violation::here(format!("no item after {index}"), found(item))),
            };
            checked.map_err(|violation| violation.at(Step::Item(index)))?;
        }
        if node.array.as_ref().is_some_and(|array| array.is_set) && self.pay(value.len()) {
            check_unique(text::items(value).map(|item| text::items(item).next().unwrap_or(item)))?;
        }
        let (least, most) = counts.unwrap_or_default();
        between(count, least, most, "item")
            .map_err(|expected| Violation::here(format!("array of {expected}"), format!("array of {count}")))
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
            // Comparing the lengths is free.
            (Value::String(choice), STRING) => text
                .as_deref()
                .is_some_and(|text| choice.len() == text.len() && (!self.pay(text.len()) || choice == text)),
            (Value::Bool(choice), BOOLEAN) => (value == "true") == *choice,
            (Value::Null, NULL) => true,
            _ => false,
        })
    }

    fn check_properties(&mut self, node_id: u32, node: &Node, value: &str, depth: u32) -> Result<(), Violation> {
        let counts = node.bounds.as_ref().map(|bounds| (bounds.properties_least, bounds.properties_most));
        let counts = counts.filter(|counts| *counts != (None, None));
        if (node.object.is_none() && counts.is_none()) || !self.pay(value.len()) {
            return Ok(());
        }
        let (mut count, mut seen, whole) = (0, Places::default(), value);
        for (key, value) in text::entries(whole) {
            count += 1;
            let Some(object) = &node.object else { continue };
            let property = object.property(&key);
            let is_first = property.and_then(|property| property.place).is_none_or(|place| seen.insert(place));
            let checked = match property.map(|property| property.node_id).or(object.others) {
                Some(_) if object.is_record && !is_first => Err(Violation::here("one value", "another one".to_owned())),
                Some(node_id) => self.check(node_id, value, depth + 1),
                None => Err(Violation::unknown_key(found(value))),
            };
            let checked = checked.map_err(|violation| violation.at(Step::Key(key.into_owned())));
            if let Err(violation) = checked {
                // The other cases of a variant are what is missing in the message.
                let is_case = counts.is_some() && node.is_tagged() && violation.is_unknown_key();
                return Err(if is_case { self.violation(node_id, whole) } else { violation });
            }
        }
        if node.object.as_ref().is_some_and(|object| object.is_map) && self.pay(whole.len()) {
            check_unique(text::raw_entries(whole).map(|(key, _)| key))?;
        }
        let (least, most) = counts.unwrap_or_default();
        if let Err(expected) = between(count, least, most, "property") {
            if node.is_tagged() {
                return Err(self.violation(node_id, whole));
            }
            return Err(Violation::here(format!("object of {expected}"), found(whole)));
        }
        // Keys count as seen even if they are repeated, have escapes or are nested too deeply to be checked.
        let keys = node.object.iter().flat_map(|object| object.keys.iter().enumerate().map(|key| (&**object, key)));
        let missing = keys.into_iter().find(|(_, (place, key))| key.required && !seen.contains(*place));
        let Some((object, (_, key))) = missing.filter(|_| self.steps > 0) else { return Ok(()) };
        let node_id = object.properties.get(&key.name).map_or(ANY, |property| property.node_id);
        Err(Violation::here(describe(self.nodes, node_id, DESCRIBED_DEEP), "nothing".into())
            .at(Step::Key(key.name.to_string())))
    }

    fn check_any(&mut self, node_ids: &[u32], value: &str, depth: u32) -> Result<(), Violation> {
        // First those of the kind of the value: without a description of what the others expect, it is cheap.
        let (kind, nodes) = (kind(value), self.nodes);
        let of_kind = |node_id: &&u32| nodes.get(**node_id as usize).is_none_or(|node| node.kinds & kind != 0);
        if node_ids.iter().filter(of_kind).count() < node_ids.len() {
            for node_id in node_ids.iter().filter(of_kind) {
                if self.check(*node_id, value, depth).is_ok() {
                    return Ok(());
                }
            }
        }
        let mut nearest: Vec<(u32, Violation)> = Vec::new();
        for node_id in node_ids {
            let Err(violation) = self.check(*node_id, value, depth) else { return Ok(()) };
            let rank = |first: &(u32, Violation)| violation.nearness().cmp(&first.1.nearness());
            match nearest.first().map_or(Ordering::Greater, rank) {
                Ordering::Less => {}
                Ordering::Equal => nearest.push((*node_id, violation)),
                Ordering::Greater => nearest = vec![(*node_id, violation)],
            }
        }
        Err(self.merged(nearest, node_ids, value))
    }

    /// One violation of the nearest alternatives of a union.
    fn merged(&mut self, nearest: Vec<(u32, Violation)>, union: &[u32], value: &str) -> Violation {
        let is_case = |node_id: u32| referenced(self.nodes, node_id).is_some_and(Node::is_tagged);
        let is_unclear = nearest.len() > 1 || nearest.iter().all(|(node_id, _)| is_case(*node_id));
        if is_unclear && nearest.iter().all(|(_, violation)| violation.is_unknown_key()) {
            // None of them was meant.
            self.pay(VISIT * VISIT);
            return Violation::here(describe_any(self.nodes, union, DESCRIBED_DEEP), found(value));
        }
        let mut nearest = nearest.into_iter().map(|(_, violation)| violation);
        let mut first = nearest.next().unwrap_or_else(|| Violation::here("nothing", found(value)));
        let mut expected = mem::take(&mut first.expected);
        for violation in nearest.filter(|violation| violation.path == first.path) {
            expected.append(violation.expected);
        }
        first.expected = expected;
        first
    }
}

/// The node that a reference leads to.
fn referenced(nodes: &[Node], node_id: u32) -> Option<&Node> {
    let mut node = nodes.get(node_id as usize)?;
    for _ in 0..DESCRIBED_DEEP {
        match node.all.as_slice() {
            [only] if node.kinds == EVERYTHING => node = nodes.get(*only as usize)?,
            _ => break,
        }
    }
    Some(node)
}

/// Checks that a number fits into the type into which it is read.
fn check_width(node: &Node, value: &str) -> Result<(), Violation> {
    let Some(width) = node.width.filter(|width| !width.holds(value)) else { return Ok(()) };
    let what = if width.is_integer() { "integer" } else { "number" };
    Err(Violation::here(format!("{what}{}", width.describe()), found(value)))
}

/// Checks that each key or name is given once.
pub(crate) fn check_unique<'a>(keys: impl Iterator<Item = &'a str> + Clone) -> Result<(), Violation> {
    match text::repeated(keys) {
        Some(key) => Err(Violation::here("each one once", format!("{} twice", found(key)))),
        None => Ok(()),
    }
}

impl Object {
    /// The property of a key.
    fn property(&self, key: &str) -> Option<Property> {
        let in_snake_case = || key.contains('_') && !key.contains('-') && self.is_record;
        let property = self.properties.get(key);
        let property = property.or_else(|| in_snake_case().then(|| self.properties.get(&*key.replace('_', "-")))?);
        property.copied()
    }
}

/// A set of the places of keys.
#[derive(Default)]
struct Places {
    first: u64,
    /// Those from 64 on.
    others: Vec<u64>,
}

impl Places {
    /// Adds a place. Returns whether it is new.
    fn insert(&mut self, place: usize) -> bool {
        let word = match place.checked_sub(64) {
            None => &mut self.first,
            Some(beyond) => {
                let words = beyond / 64 + 1;
                self.others.resize(self.others.len().max(words), 0);
                &mut self.others[beyond / 64]
            }
        };
        let bit = 1 << (place % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn contains(&self, place: usize) -> bool {
        let word = match place.checked_sub(64) {
            None => Some(&self.first),
            Some(beyond) => self.others.get(beyond / 64),
        };
        word.is_some_and(|word| word >> (place % 64) & 1 == 1)
    }
}

impl Bounds {
    fn allow(&self, number: f64, is_exact: bool) -> bool {
        let value = |bound: &Option<Number>| bound.as_ref().and_then(Number::as_f64);
        value(&self.least).is_none_or(|least| number >= least)
            && value(&self.most).is_none_or(|most| number <= most)
            && value(&self.above).is_none_or(|above| number > above || (number >= above && !is_exact))
            && value(&self.below).is_none_or(|below| number < below || (number <= below && !is_exact))
    }
}
