//! One check of one value, within its steps.
//!
//! Apart from the form because it is all that runs for each call. A check pays for what it looks at, so
//! that no schema and no document makes it long; what it can no longer pay for is let through.

use std::{cmp::Ordering, mem};

use serde_json::Value;

use super::{
    ANY, ARRAY, BOOLEAN, Bounds, EVERYTHING, NULL, NUMBER, Node, Numbers, OBJECT, Property, STRING,
    fault::{DESCRIBED_DEEP, Fault, Step, between, describe, either, found},
};
use crate::signature::text;

/// How deep a document is looked into.
const DEPTH_MAX: u32 = 64;
/// The steps that a check may take for each byte of the document, and for any document.
const STEPS_PER_BYTE: usize = 8;
const STEPS_LEAST: usize = 1 << 16;
/// What looking at one value costs besides its bytes.
const LOOK: usize = 8;
/// Numbers of so many characters are told apart after rounding.
const EXACT_DIGITS: usize = 15;

/// One check and the steps it has left.
pub(super) struct Check<'a> {
    nodes: &'a [Node],
    steps: usize,
}

impl<'a> Check<'a> {
    /// The check of a document of so many bytes.
    pub(super) fn new(nodes: &'a [Node], bytes: usize) -> Self {
        Self { nodes, steps: bytes.saturating_mul(STEPS_PER_BYTE) + STEPS_LEAST }
    }

    /// Checks a value, `depth` deep in the document.
    pub(super) fn check(&mut self, form: u32, value: &str, depth: u32) -> Result<(), Fault> {
        if form == ANY || depth > DEPTH_MAX || !self.pay(LOOK) {
            return Ok(());
        }
        let nodes = self.nodes;
        let Some(node) = nodes.get(form as usize) else { return Ok(()) };
        let kind = kind(value);
        if node.kinds & kind == 0 {
            return Err(self.fault(form, value));
        }
        match kind {
            NUMBER => {
                self.check_number(form, node, value)?;
                check_width(node, value)?;
            }
            STRING => self.check_text(node, value)?,
            ARRAY => self.check_items(node, value, depth)?,
            OBJECT => self.check_properties(node, value, depth)?,
            _ => {}
        }
        if let Some(choices) = &node.choices
            && !self.may_be_one_of(choices, kind, value)
        {
            return Err(Fault { is_tag: choices.len() == 1, ..self.fault(form, value) });
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

    fn fault(&mut self, form: u32, value: &str) -> Fault {
        self.pay(LOOK * LOOK);
        Fault::here(describe(self.nodes, form, DESCRIBED_DEEP), found(value))
    }

    fn check_number(&mut self, form: u32, node: &Node, value: &str) -> Result<(), Fault> {
        if node.numbers == Numbers::All && node.bounds.is_none() {
            return Ok(());
        }
        let is_whole = !value.contains(['.', 'e', 'E']);
        if node.numbers == Numbers::WithoutPoint && !is_whole {
            return Err(self.fault(form, value));
        }
        // Rounding keeps the order, so a number beyond a bound here is beyond it.
        let Some(number) = value.parse::<f64>().ok().filter(|number| number.is_finite()) else { return Ok(()) };
        let is_integer = is_whole || number.fract() == 0.0;
        let is_exact = value.len() <= EXACT_DIGITS;
        let fits = node.bounds.as_ref().is_none_or(|bounds| bounds.allow(number, is_exact));
        if (is_integer || node.numbers == Numbers::All) && fits { Ok(()) } else { Err(self.fault(form, value)) }
    }

    fn check_text(&mut self, node: &Node, value: &str) -> Result<(), Fault> {
        if node.kinds != EVERYTHING && self.pay(value.len()) && text::is_torn(value) {
            return Err(Fault::here(
                "string of whole characters",
                format!("half of one (a lone surrogate) in {}", found(value)),
            ));
        }
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

/// Checks that a number fits into the type that it is read into.
fn check_width(node: &Node, value: &str) -> Result<(), Fault> {
    let Some(width) = node.width.filter(|width| !width.holds(value)) else { return Ok(()) };
    let what = if width.is_integer() { "integer" } else { "number" };
    Err(Fault::here(format!("{what}{}", width.describe()), found(value)))
}

impl Bounds {
    fn allow(&self, number: f64, is_exact: bool) -> bool {
        self.least.is_none_or(|least| number >= least)
            && self.most.is_none_or(|most| number <= most)
            && self.above.is_none_or(|above| number > above || (number >= above && !is_exact))
            && self.below.is_none_or(|below| number < below || (number <= below && !is_exact))
    }
}

pub(super) fn kind(value: &str) -> u8 {
    match value.as_bytes().first() {
        Some(b'n') => NULL,
        Some(b't' | b'f') => BOOLEAN,
        Some(b'"') => STRING,
        Some(b'[') => ARRAY,
        Some(b'{') => OBJECT,
        _ => NUMBER,
    }
}
