//! Reads the JSON arguments of a call in one pass, exactly or not at all.

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};

use super::{
    image::{BlockId, Draft, Full, IMAGE_MAX, Image},
    shape::{Cases, Field, Integer, Kind, Names, Record, Shape},
};
use crate::{
    json::Json,
    signature::{Alternatives, ArgumentError, Bound, Step, Violation, bind, check_unique, found, text},
};

/// The arguments of a call.
#[derive(Debug)]
pub(super) struct ReadArguments {
    pub(super) image: Image,
    /// The parameters, as a record.
    pub(super) root: BlockId,
}

/// Reads the arguments of a call of `task`, whose parameters are a record.
///
/// # Errors
/// [`ArgumentError`] with the path of the first wrong value.
pub(super) fn arguments(
    task: &str,
    parameters: &Shape,
    args: &Json,
    kwargs: &Json,
) -> Result<ReadArguments, ArgumentError> {
    let Kind::Record(record) = &parameters.kind else { unreachable!("parameters are a record") };
    let fields = record.names.list.iter().zip(&record.fields);
    let names: Vec<_> = fields.map(|(name, field)| (&**name, !field.shape.is_option())).collect();
    let bound = bind(task, &names, args, kwargs)?;
    let mut reader = Reader { image: Image::default() };
    let mut draft = reader.image.draft();
    let full = |Full| too_large().into_error("the arguments");
    reader.image.grow(&mut draft, parameters.size).map_err(full)?;
    for Bound { parameter, value, path } in bound {
        let field = &record.fields[parameter];
        reader.value(&field.shape, value, &mut draft, field.at).map_err(|violation| violation.into_error(&path))?;
    }
    let root = reader.image.finish(draft, parameters.align, 1).map_err(full)?;
    Ok(ReadArguments { image: reader.image, root })
}

fn too_large() -> Violation {
    Violation::here(format!("arguments of at most {} MiB of memory", IMAGE_MAX >> 20), "more".to_owned())
}

impl From<Full> for Violation {
    fn from(Full: Full) -> Self {
        too_large()
    }
}

struct Reader {
    image: Image,
}

/// The result of reading a value.
type Read = Result<(), Violation>;

impl Reader {
    /// Reads a value into a place that holds zeros.
    fn value(&mut self, shape: &Shape, json: &str, draft: &mut Draft, at: usize) -> Read {
        match &shape.kind {
            Kind::Bool => put(draft, at, &[u8::from(boolean(json)?)]),
            Kind::Integer(integer) => put(draft, at, &integer_bytes(*integer, json)?[..integer.bytes]),
            Kind::Float32 => {
                put(draft, at, &float(json, f32::is_finite, f32::NAN, f32::INFINITY, "f32")?.to_le_bytes());
            }
            Kind::Float64 => {
                put(draft, at, &float(json, f64::is_finite, f64::NAN, f64::INFINITY, "f64")?.to_le_bytes());
            }
            Kind::Char => put(draft, at, &u32::from(character(json)?).to_le_bytes()),
            Kind::Text => self.image.link_text(draft, at, &string(json)?)?,
            Kind::Bytes => self.bytes(json, draft, at)?,
            Kind::List(item) => self.list(item, json, draft, at)?,
            Kind::Map(pair) => self.map(pair, json, draft, at)?,
            Kind::Array(item, length) => self.items(json, *length, draft, |index| (item, at + index * item.size))?,
            Kind::Tuple(fields) => {
                self.items(json, fields.len(), draft, |index| (&fields[index].shape, at + fields[index].at))?;
            }
            Kind::Record(record) => self.record(record, json, draft, at)?,
            Kind::Variant(cases) => self.variant(cases, json, draft, at)?,
            Kind::Option(cases) => self.option(cases, json, draft, at)?,
            Kind::Result(cases) => self.result(cases, json, draft, at)?,
            Kind::Flags(names) => flags(names, shape.size, json, draft, at)?,
        }
        Ok(())
    }

    fn bytes(&mut self, json: &str, draft: &mut Draft, at: usize) -> Read {
        let mut list = self.image.draft();
        if json.starts_with('"') {
            let quoted = text::unquoted(json);
            let digits = text::base64_digits(&quoted).ok_or_else(|| Violation::here("base64", found(json)))?;
            let bytes = BASE64_STANDARD_NO_PAD.decode(digits).map_err(|_| Violation::here("base64", found(json)))?;
            self.image.extend(&mut list, &bytes)?;
        } else if json.starts_with('[') {
            let byte = Integer { bytes: 1, signed: false };
            for (index, item) in text::items(json).enumerate() {
                let byte = integer_bytes(byte, item).map_err(|violation| violation.at(Step::Item(index)))?;
                self.image.extend(&mut list, &byte[..1])?;
            }
        } else {
            return Err(Violation::here("base64 string or array", found(json)));
        }
        let items = list.bytes.len();
        Ok(self.image.link_list(draft, at, list, 1, items)?)
    }

    fn list(&mut self, item: &Shape, json: &str, draft: &mut Draft, at: usize) -> Read {
        expect(json, '[', "array")?;
        let mut list = self.image.draft();
        let mut count = 0;
        for value in text::items(json) {
            let at = self.image.grow(&mut list, item.size)?;
            self.value(item, value, &mut list, at).map_err(|violation| violation.at(Step::Item(count)))?;
            count += 1;
        }
        Ok(self.image.link_list(draft, at, list, item.align, count)?)
    }

    /// Reads a map: an object if its keys are strings, or else an array of pairs.
    fn map(&mut self, pair: &Shape, json: &str, draft: &mut Draft, at: usize) -> Read {
        let Kind::Tuple(fields) = &pair.kind else { unreachable!("a map has pairs") };
        let [Field { at: key_at, shape: key }, Field { at: value_at, shape: value }] = &fields[..] else {
            unreachable!("a pair has two fields")
        };
        if !matches!(key.kind, Kind::Text) {
            self.list(pair, json, draft, at)?;
            return check_unique(text::items(json).filter_map(|pair| text::items(pair).next()));
        }
        expect(json, '{', "object")?;
        let mut list = self.image.draft();
        let mut count = 0;
        for (quoted, item) in text::raw_entries(json) {
            let at = self.image.grow(&mut list, pair.size)?;
            self.value(key, quoted, &mut list, at + key_at)?;
            self.value(value, item, &mut list, at + value_at)
                .map_err(|violation| violation.at(Step::Key(text::unquoted(quoted).into_owned())))?;
            count += 1;
        }
        check_unique(text::raw_entries(json).map(|(key, _)| key))?;
        Ok(self.image.link_list(draft, at, list, pair.align, count)?)
    }

    /// Reads an array of exactly `length` items.
    fn items<'s>(
        &mut self,
        json: &str,
        length: usize,
        draft: &mut Draft,
        item: impl Fn(usize) -> (&'s Shape, usize),
    ) -> Read {
        expect(json, '[', "array")?;
        let mut count = 0;
        for value in text::items(json) {
            if count < length {
                let (shape, at) = item(count);
                self.value(shape, value, draft, at).map_err(|violation| violation.at(Step::Item(count)))?;
            }
            count += 1;
        }
        if count == length {
            return Ok(());
        }
        let plural = if length == 1 { "" } else { "s" };
        Err(Violation::here(format!("array of {length} item{plural}"), format!("array of {count}")))
    }

    fn record(&mut self, record: &Record, json: &str, draft: &mut Draft, at: usize) -> Read {
        expect(json, '{', "object")?;
        let mut is_set = vec![false; record.fields.len()];
        for (key, value) in text::entries(json) {
            let read = match record.names.find(&key) {
                None => Err(Violation::here("no such property", found(value))),
                Some(index) if is_set[index] => Err(Violation::here("one value", "another one".to_owned())),
                Some(index) => {
                    is_set[index] = true;
                    let field = &record.fields[index];
                    self.value(&field.shape, value, draft, at + field.at)
                }
            };
            read.map_err(|violation| violation.at(Step::Key(key.into_owned())))?;
        }
        let mut fields = record.names.list.iter().zip(&record.fields).zip(is_set);
        match fields.find(|((_, field), is_set)| !is_set && !field.shape.is_option()) {
            Some(((name, _), _)) => {
                Err(Violation::here("a value", "nothing".to_owned()).at(Step::Key(name.to_string())))
            }
            None => Ok(()),
        }
    }

    /// Reads `"case"` or `{"case": payload}`.
    fn variant(&mut self, cases: &Cases, json: &str, draft: &mut Draft, at: usize) -> Read {
        let name = Some(text::unquoted(json)).filter(|_| json.starts_with('"'));
        match name.and_then(|name| cases.names.find(&name)) {
            Some(case) if cases.payloads[case].is_none() => {
                put_case(cases, case, draft, at);
                Ok(())
            }
            _ => self.tagged(cases, json, draft, at, || cases.describe()),
        }
    }

    /// Reads `{"ok": payload}` or `{"err": payload}`; a branch without payload has null.
    fn result(&mut self, cases: &Cases, json: &str, draft: &mut Draft, at: usize) -> Read {
        let mut entries = text::entries(json);
        match (entries.next().map(|(name, value)| (cases.names.find(&name), name, value)), entries.next()) {
            (Some((Some(case), name, value)), None) if cases.payloads[case].is_none() => {
                put_case(cases, case, draft, at);
                expect_null(value).map_err(|violation| violation.at(Step::Key(name.into_owned())))
            }
            // In the order of the schema.
            _ => self.tagged(cases, json, draft, at, || Alternatives::cases(&[], &["err", "ok"])),
        }
    }

    /// Reads `{"case": payload}`.
    fn tagged(
        &mut self,
        cases: &Cases,
        json: &str,
        draft: &mut Draft,
        at: usize,
        expected: impl FnOnce() -> Alternatives,
    ) -> Read {
        let mut entries = text::entries(json);
        let entry = entries.next().filter(|_| entries.next().is_none());
        let case = entry.and_then(|(key, value)| {
            let case = cases.names.find(&key)?;
            Some((key, value, case, cases.payloads[case].as_ref()?))
        });
        let Some((key, value, case, payload)) = case else { return Err(Violation::here(expected(), found(json))) };
        put_case(cases, case, draft, at);
        let read = self.value(payload, value, draft, at + cases.payload_at);
        read.map_err(|violation| violation.at(Step::Key(key.into_owned())))
    }

    /// Reads null or a value. If that is an option itself, it is written as `{"some": …}`.
    fn option(&mut self, cases: &Cases, json: &str, draft: &mut Draft, at: usize) -> Read {
        let Some(some) = cases.some().filter(|_| json != "null") else { return Ok(()) };
        if some.is_option() {
            return self.tagged(cases, json, draft, at, || {
                let mut expected = Alternatives::cases(&[], &["some"]);
                expected.append("null".into());
                expected
            });
        }
        put_case(cases, 1, draft, at);
        self.value(some, json, draft, at + cases.payload_at)
    }
}

impl Cases {
    /// The values of a variant, in the order of its schema.
    fn describe(&self) -> Alternatives {
        let of = |has_payload: bool| {
            let cases = self.names.list.iter().zip(&self.payloads);
            let names = cases.filter(|(_, payload)| payload.is_some() == has_payload).map(|(name, _)| &**name);
            names.collect::<Vec<_>>()
        };
        let mut with_payload = of(true);
        with_payload.sort_unstable();
        Alternatives::cases(&of(false), &with_payload)
    }
}

fn put(draft: &mut Draft, at: usize, bytes: &[u8]) {
    draft.bytes[at..][..bytes.len()].copy_from_slice(bytes);
}

fn put_case(cases: &Cases, case: usize, draft: &mut Draft, at: usize) {
    put(draft, at, &(case as u64).to_le_bytes()[..cases.tag]);
}

fn expect(json: &str, first: char, expected: &str) -> Read {
    if json.starts_with(first) { Ok(()) } else { Err(Violation::here(expected, found(json))) }
}

fn expect_null(json: &str) -> Read {
    if json == "null" { Ok(()) } else { Err(Violation::here("null", found(json))) }
}

fn boolean(json: &str) -> Result<bool, Violation> {
    json.parse().map_err(|_| Violation::here("boolean", found(json)))
}

/// Reads an integer: digits without a decimal point or an exponent.
fn integer_bytes(Integer { bytes, signed }: Integer, json: &str) -> Result<[u8; 8], Violation> {
    let bits = 8 * bytes;
    let (least, most) =
        if signed { (i128::MIN >> (128 - bits), i128::MAX >> (128 - bits)) } else { (0, (1 << bits) - 1) };
    let value = json.parse::<i128>().ok().filter(|value| (least..=most).contains(value));
    let value = value.ok_or_else(|| Violation::here(format!("integer from {least} to {most}"), found(json)))?;
    let bytes = value.to_le_bytes();
    Ok(bytes.first_chunk().copied().unwrap_or_default())
}

/// Reads a float: a number, or the name of one that JSON lacks.
fn float<F>(json: &str, is_finite: fn(F) -> bool, nan: F, infinity: F, name: &str) -> Result<F, Violation>
where
    F: std::str::FromStr + std::ops::Neg<Output = F> + Copy,
{
    if json.starts_with('"') {
        match &*text::unquoted(json) {
            "NaN" => return Ok(nan),
            "Infinity" => return Ok(infinity),
            "-Infinity" => return Ok(-infinity),
            _ => {}
        }
    }
    let is_number = json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let Some(number) = json.parse::<F>().ok().filter(|_| is_number) else {
        return Err(Violation::here("number, \"NaN\", \"Infinity\" or \"-Infinity\"", found(json)));
    };
    if is_finite(number) {
        return Ok(number);
    }
    Err(Violation::here(format!("number within the range of {name}"), found(json)))
}

/// Reads a string.
fn string(json: &str) -> Result<std::borrow::Cow<'_, str>, Violation> {
    expect(json, '"', "string")?;
    if text::has_lone_surrogate(json) {
        return Err(Violation::lone_surrogate(json));
    }
    Ok(text::unquoted(json))
}

fn character(json: &str) -> Result<char, Violation> {
    let text = string(json)?;
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(character), None) => Ok(character),
        _ => Err(Violation::here("string of 1 character", found(json))),
    }
}

fn flags(names: &Names, size: usize, json: &str, draft: &mut Draft, at: usize) -> Read {
    let expected = || Alternatives::names(&names.list);
    if !json.starts_with('[') {
        return Err(Violation::here(expected().array(), found(json)));
    }
    for (index, item) in text::items(json).enumerate() {
        let flag = Some(text::unquoted(item)).filter(|_| item.starts_with('"'));
        let Some(flag) = flag.and_then(|flag| names.find(&flag)) else {
            return Err(Violation::here(expected(), found(item)).at(Step::Item(index)));
        };
        // Whether it is one byte, two bytes or words: each is little-endian.
        debug_assert!(flag / 8 < size);
        draft.bytes[at + flag / 8] |= 1 << (flag % 8);
    }
    check_unique(text::items(json))
}
