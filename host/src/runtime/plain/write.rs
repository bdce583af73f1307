//! Writes the result of a function as JSON, straight from the guest's memory.

use std::{io, ops::Range};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;
use wasmtime::{
    ValRaw, bail,
    component::{
        __internal::{
            ComponentTypes, InterfaceType, LiftContext,
            wasmtime_environ::component::{
                TypeFlagsIndex, TypeMapIndex, TypeOptionIndex, TypeRecordIndex, VariantInfo,
            },
        },
        Lift,
    },
    error::Context as _,
};

use crate::{runtime::output::cut, transport::PAYLOAD_MAX};

/// Maximum bytes of a key in a message.
const KEY_SHOWN_MAX: usize = 60;

/// A result as JSON: if the function returns a `result`, that of its branch.
pub(super) type Written = Result<String, String>;

/// The JSON of a result is larger than any result may be.
#[derive(Debug, thiserror::Error)]
#[error("its JSON is larger than {PAYLOAD_MAX} bytes")]
pub(in crate::runtime) struct ResultTooLarge;

/// Writes the result of a function, whose results are the tuple `ty`. `flat` returns the core value, which holds the
/// result or its address.
pub(super) fn result(cx: &mut LiftContext<'_>, ty: InterfaceType, flat: impl Fn() -> u64) -> wasmtime::Result<Written> {
    let (types, memory) = (cx.types, cx.memory());
    let InterfaceType::Tuple(results) = ty else { bail!("the results are no tuple") };
    let Some(result) = types[results].types.first() else { return Ok(Ok("null".to_owned())) };
    let abi = types.canonical_abi(result);
    let flat_bytes;
    let bytes = if abi.flat_count(1).is_some() {
        flat_bytes = bytes_of(types, *result, flat())?;
        flat_bytes.get(..abi.size32 as usize)
    } else {
        // A core value of a 32-bit memory.
        let pointer = usize::try_from(flat() & 0xffff_ffff)?;
        if !pointer.is_multiple_of(abi.align32 as usize) {
            bail!("return pointer not aligned");
        }
        memory.get(pointer..).and_then(|rest| rest.get(..abi.size32 as usize))
    };
    let bytes = bytes.context("return pointer out of bounds of memory")?;
    let mut writer = Writer { types, memory, json: Vec::new() };
    let InterfaceType::Result(branches) = result else {
        writer.value(cx, *result, bytes)?;
        return Ok(Ok(writer.finish()?));
    };
    let branches = &types[*branches];
    let case = discriminant(bytes, &branches.info, 2)?;
    match [branches.ok, branches.err][case] {
        Some(payload) => writer.value(cx, payload, after(bytes, branches.info.payload_offset32)?)?,
        None => writer.raw("null")?,
    }
    let json = writer.finish()?;
    Ok(if case == 0 { Ok(json) } else { Err(json) })
}

/// The bytes in memory of a value that is passed as one core value.
fn bytes_of(types: &ComponentTypes, ty: InterfaceType, flat: u64) -> wasmtime::Result<[u8; 8]> {
    let first = |field: Option<InterfaceType>| bytes_of(types, field.context("a value without a field")?, flat);
    let value = match ty {
        // Any other number than zero is true.
        InterfaceType::Bool => u64::from(flat & 0xffff_ffff != 0),
        InterfaceType::Record(record) => return first(types[record].fields.first().map(|field| field.ty)),
        InterfaceType::Tuple(tuple) => return first(types[tuple].types.first().copied()),
        InterfaceType::FixedLengthList(list) => return first(Some(types[list].element)),
        // A case is a whole core value: it must not become another one by losing bits.
        InterfaceType::Variant(_) | InterfaceType::Enum(_) | InterfaceType::Option(_) | InterfaceType::Result(_) => {
            let case = flat & 0xffff_ffff;
            let size = u64::from(types.canonical_abi(&ty).size32);
            if size < 4 && case >> (8 * size) != 0 {
                bail!("invalid discriminant {case}");
            }
            case
        }
        _ => flat,
    };
    Ok(value.to_le_bytes())
}

/// A buffer that does not grow beyond the limit of results.
struct Bounded<'a>(&'a mut Vec<u8>);

impl io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > PAYLOAD_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<'a> {
    types: &'a ComponentTypes,
    memory: &'a [u8],
    json: Vec<u8>,
}

/// The result of writing a value.
type Write = wasmtime::Result<()>;

impl<'a> Writer<'a> {
    fn finish(self) -> wasmtime::Result<String> {
        Ok(String::from_utf8(self.json)?)
    }

    fn raw(&mut self, text: &str) -> Write {
        if self.json.len() + text.len() > PAYLOAD_MAX {
            return Err(ResultTooLarge.into());
        }
        self.json.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Writes a string or a scalar.
    fn json(&mut self, value: &(impl Serialize + ?Sized)) -> Write {
        // Nothing but the limit can make it fail. A string has up to six bytes for each of the guest's.
        serde_json::to_writer(Bounded(&mut self.json), value).map_err(|_| ResultTooLarge.into())
    }

    /// Writes a boolean, a number, a character or a string.
    fn scalar(&mut self, cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Write {
        match ty {
            InterfaceType::Bool => self.json(&(chunk::<1>(bytes)? != [0])),
            InterfaceType::S8 => self.json(&i8::from_le_bytes(chunk(bytes)?)),
            InterfaceType::U8 => self.json(&u8::from_le_bytes(chunk(bytes)?)),
            InterfaceType::S16 => self.json(&i16::from_le_bytes(chunk(bytes)?)),
            InterfaceType::U16 => self.json(&u16::from_le_bytes(chunk(bytes)?)),
            InterfaceType::S32 => self.json(&i32::from_le_bytes(chunk(bytes)?)),
            InterfaceType::U32 => self.json(&u32::from_le_bytes(chunk(bytes)?)),
            InterfaceType::S64 => self.json(&i64::from_le_bytes(chunk(bytes)?)),
            InterfaceType::U64 => self.json(&u64::from_le_bytes(chunk(bytes)?)),
            InterfaceType::Float32 => {
                let number = f32::from_le_bytes(chunk(bytes)?);
                self.float(number, number.into())
            }
            InterfaceType::Float64 => {
                let number = f64::from_le_bytes(chunk(bytes)?);
                self.float(number, number)
            }
            InterfaceType::Char => {
                let code = u32::from_le_bytes(chunk(bytes)?);
                self.json(&char::from_u32(code).context("converted integer out of range for `char`")?)
            }
            InterfaceType::String => self.string(cx, bytes),
            _ => bail!("a value that has no JSON"),
        }
    }

    /// Writes the value that starts at `bytes`.
    fn value(&mut self, cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Write {
        match ty {
            InterfaceType::List(list) if self.types[list].element == InterfaceType::U8 => self.bytes(bytes),
            InterfaceType::List(list) => {
                let item = self.types[list].element;
                let (items, size) = self.list(bytes, item)?;
                self.items(cx, items.chunks_exact(size).map(|bytes| (item, Ok(bytes))))
            }
            InterfaceType::Map(map) => self.map(cx, map, bytes),
            InterfaceType::FixedLengthList(list) => {
                let list = &self.types[list];
                let size = (self.types.canonical_abi(&list.element).size32 as usize).max(1);
                let all = bytes.get(..size * list.size as usize).context("too few bytes")?;
                self.items(cx, all.chunks_exact(size).map(|bytes| (list.element, Ok(bytes))))
            }
            InterfaceType::Record(record) => self.record(cx, record, bytes),
            InterfaceType::Tuple(tuple) => {
                let (types, tuple) = (self.types, &self.types[tuple]);
                let mut at = 0;
                let fields = tuple.types.iter().map(|ty| (*ty, field(types, *ty, bytes, &mut at)));
                self.items(cx, fields)
            }
            InterfaceType::Enum(names) => {
                let names = &self.types[names];
                let case = discriminant(bytes, &names.info, names.names.len())?;
                self.json(&names.names[case])
            }
            InterfaceType::Variant(variant) => {
                let variant = &self.types[variant];
                let case = discriminant(bytes, &variant.info, variant.cases.len())?;
                let (name, payload) = variant.cases.get_index(case).context("invalid discriminant")?;
                match payload {
                    Some(payload) => self.tagged(cx, name, *payload, after(bytes, variant.info.payload_offset32)?),
                    None => self.json(name),
                }
            }
            InterfaceType::Option(option) => self.option(cx, option, bytes),
            InterfaceType::Result(result) => {
                let result = &self.types[result];
                let case = discriminant(bytes, &result.info, 2)?;
                let (name, payload) = [("ok", result.ok), ("err", result.err)][case];
                match payload {
                    Some(payload) => self.tagged(cx, name, payload, after(bytes, result.info.payload_offset32)?),
                    None => self.raw(&format!("{{\"{name}\":null}}")),
                }
            }
            InterfaceType::Flags(flags) => self.flags(flags, bytes),
            scalar => self.scalar(cx, scalar, bytes),
        }
    }

    fn option(&mut self, cx: &mut LiftContext<'_>, option: TypeOptionIndex, bytes: &[u8]) -> Write {
        let option = &self.types[option];
        match (discriminant(bytes, &option.info, 2)?, option.ty) {
            (0, _) => self.raw("null"),
            (_, InterfaceType::Option(_)) => {
                self.tagged(cx, "some", option.ty, after(bytes, option.info.payload_offset32)?)
            }
            (_, some) => self.value(cx, some, after(bytes, option.info.payload_offset32)?),
        }
    }

    /// Writes a float with the fewest digits that read back as the same one.
    fn float(&mut self, shortest: impl Serialize, number: f64) -> Write {
        match number {
            _ if number.is_nan() => self.raw("\"NaN\""),
            f64::INFINITY => self.raw("\"Infinity\""),
            f64::NEG_INFINITY => self.raw("\"-Infinity\""),
            _ => self.json(&shortest),
        }
    }

    fn string(&mut self, cx: &mut LiftContext<'_>, bytes: &[u8]) -> Write {
        let (pointer, length) = pair(bytes)?;
        // In UTF-16 the highest bit of the length may mark the encoding.
        if (length & 0x7fff_ffff) as usize > PAYLOAD_MAX {
            return Err(ResultTooLarge.into());
        }
        let pair = [pointer, length].map(ValRaw::u32);
        let text = <String as Lift>::linear_lift_from_flat(cx, InterfaceType::String, &pair)?;
        self.json(&text)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Write {
        let (content, _) = self.list(bytes, InterfaceType::U8)?;
        if content.len() > PAYLOAD_MAX {
            return Err(ResultTooLarge.into());
        }
        self.raw("\"")?;
        let at = self.json.len();
        self.json.resize(at + base64::encoded_len(content.len(), true).unwrap_or(0), b'=');
        BASE64_STANDARD.encode_slice(content, &mut self.json[at..])?;
        self.raw("\"")
    }

    /// The items of a list in memory, and the size of each.
    fn list(&self, bytes: &[u8], item: InterfaceType) -> wasmtime::Result<(&'a [u8], usize)> {
        let abi = self.types.canonical_abi(&item);
        self.memory_of(bytes, abi.size32, abi.align32)
    }

    /// The content of a list of items of this size.
    fn memory_of(&self, bytes: &[u8], size: u32, align: u32) -> wasmtime::Result<(&'a [u8], usize)> {
        let (pointer, length) = pair(bytes)?;
        if !pointer.is_multiple_of(align) || size == 0 {
            bail!("list pointer is not aligned");
        }
        let (start, size) = (pointer as usize, size as usize);
        let total = (length as usize).checked_mul(size).context("list pointer/length out of bounds of memory")?;
        let content = self.memory.get(start..).and_then(|rest| rest.get(..total));
        Ok((content.context("list pointer/length out of bounds of memory")?, size))
    }

    fn items<'b>(
        &mut self,
        cx: &mut LiftContext<'_>,
        items: impl Iterator<Item = (InterfaceType, wasmtime::Result<&'b [u8]>)>,
    ) -> Write {
        self.raw("[")?;
        for (index, (ty, bytes)) in items.enumerate() {
            if index > 0 {
                self.raw(",")?;
            }
            self.value(cx, ty, bytes?)?;
        }
        self.raw("]")
    }

    /// Writes a map: an object if its keys are strings, or else an array of pairs. A key that it has twice is an error,
    /// as JSON readers take either of the two.
    fn map(&mut self, cx: &mut LiftContext<'_>, map: TypeMapIndex, bytes: &[u8]) -> Write {
        let map = &self.types[map];
        let (pairs, size) = self.memory_of(bytes, map.entry_abi.size32, map.entry_abi.align32)?;
        let is_object = map.key == InterfaceType::String;
        let [start, between, stop] = if is_object { ["{", ":", "}"] } else { ["[", ",", "]"] };
        let mut keys = Vec::new();
        self.raw(start)?;
        for (index, pair) in pairs.chunks_exact(size).enumerate() {
            if index > 0 {
                self.raw(",")?;
            }
            self.raw(if is_object { "" } else { "[" })?;
            let key_at = u32::try_from(self.json.len())?;
            self.value(cx, map.key, pair)?;
            keys.push(key_at..u32::try_from(self.json.len())?);
            self.raw(between)?;
            self.value(cx, map.value, after(pair, map.value_offset32)?)?;
            self.raw(if is_object { "" } else { "]" })?;
        }
        let text = |key: &Range<u32>| &self.json[key.start as usize..key.end as usize];
        keys.sort_unstable_by(|one, other| text(one).cmp(text(other)));
        if let Some([key, _]) = keys.array_windows().find(|[one, other]| text(one) == text(other)) {
            let key = String::from_utf8_lossy(text(key));
            bail!("a map has the key {} twice", cut(&key, KEY_SHOWN_MAX));
        }
        self.raw(stop)
    }

    fn record(&mut self, cx: &mut LiftContext<'_>, record: TypeRecordIndex, bytes: &[u8]) -> Write {
        let (types, mut at) = (self.types, 0);
        self.raw("{")?;
        for (index, each) in types[record].fields.iter().enumerate() {
            if index > 0 {
                self.raw(",")?;
            }
            self.json(&each.name)?;
            self.raw(":")?;
            let bytes = field(types, each.ty, bytes, &mut at)?;
            self.value(cx, each.ty, bytes)?;
        }
        self.raw("}")
    }

    /// Writes `{"name": payload}`.
    fn tagged(&mut self, cx: &mut LiftContext<'_>, name: &str, payload: InterfaceType, bytes: &[u8]) -> Write {
        self.raw("{")?;
        self.json(name)?;
        self.raw(":")?;
        self.value(cx, payload, bytes)?;
        self.raw("}")
    }

    fn flags(&mut self, flags: TypeFlagsIndex, bytes: &[u8]) -> Write {
        let names = &self.types[flags].names;
        // Bits without a name are ignored, as by the canonical ABI.
        let is_set = |index: usize| bytes.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
        let mut separator = "";
        self.raw("[")?;
        for (_, name) in names.iter().enumerate().filter(|(index, _)| is_set(*index)) {
            self.raw(separator)?;
            self.json(name)?;
            separator = ",";
        }
        self.raw("]")
    }
}

/// The bytes from the field of a record or a tuple on, whose fields before it end at `at`.
fn field<'b>(types: &ComponentTypes, ty: InterfaceType, bytes: &'b [u8], at: &mut u32) -> wasmtime::Result<&'b [u8]> {
    let offset = types.canonical_abi(&ty).next_field32(at);
    after(bytes, offset)
}

fn after(bytes: &[u8], offset: u32) -> wasmtime::Result<&[u8]> {
    bytes.get(offset as usize..).context("too few bytes")
}

fn chunk<const N: usize>(bytes: &[u8]) -> wasmtime::Result<[u8; N]> {
    bytes.first_chunk().copied().context("too few bytes")
}

/// A pointer and a length.
fn pair(bytes: &[u8]) -> wasmtime::Result<(u32, u32)> {
    Ok((u32::from_le_bytes(chunk(bytes)?), u32::from_le_bytes(chunk(after(bytes, 4)?)?)))
}

/// The number of the case of a variant.
fn discriminant(bytes: &[u8], info: &VariantInfo, cases: usize) -> wasmtime::Result<usize> {
    let mut number = [0; 8];
    let size = usize::from(info.size);
    number[..size].copy_from_slice(bytes.get(..size).context("too few bytes")?);
    let case = u64::from_le_bytes(number);
    usize::try_from(case).ok().filter(|case| *case < cases).with_context(|| format!("invalid discriminant {case}"))
}
