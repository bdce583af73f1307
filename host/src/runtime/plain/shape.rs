//! The types of a plain component's functions: their layout in a guest's memory, and what their JSON looks like.
//!
//! A [`Shape`] is made once, when a module is loaded. The layout is that of the canonical ABI for 32-bit memories.

use std::collections::HashMap;

use wasmtime::component::{Type, types::ComponentFunc};

/// Maximum nesting of a type.
const DEPTH_MAX: u32 = 20;
/// Maximum parts of the types of a function: a type that is used twice counts twice.
const PARTS_MAX: usize = 1000;
/// Maximum size of a value in a guest's memory without its lists and strings, in bytes.
const SIZE_MAX: u64 = 1 << 20;

/// A type.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    /// Size in memory, in bytes.
    pub(super) size: usize,
    /// Alignment in memory, in bytes.
    pub(super) align: usize,
    /// Number of core values if it is passed without memory.
    pub(super) flat: usize,
}

/// The kind of a type.
#[derive(Debug)]
pub(super) enum Kind {
    Bool,
    Integer(Integer),
    Float32,
    Float64,
    Char,
    Text,
    /// `list<u8>`.
    Bytes,
    List(Box<Shape>),
    /// `map<K, V>`: in memory a list of such pairs.
    Map(Box<Shape>),
    /// `list<T, N>`.
    Array(Box<Shape>, usize),
    Record(Record),
    Tuple(Vec<Field>),
    /// A variant or an enum.
    Variant(Cases),
    /// `option<T>`; its second case has the value.
    Option(Cases),
    /// `result<T, E>`; its cases are `ok` and `err`.
    Result(Cases),
    Flags(Names),
}

/// An integer type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer {
    pub(super) bytes: usize,
    pub(super) signed: bool,
}

/// Names, found by their index and by themselves.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) list: Vec<Box<str>>,
    by_name: HashMap<Box<str>, usize>,
}

impl Names {
    fn add(&mut self, name: &str) {
        self.by_name.insert(name.into(), self.list.len());
        self.list.push(name.into());
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// The fields of a record.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The names of the fields; each is also found by its name in `snake_case`.
    pub(super) names: Names,
    pub(super) fields: Vec<Field>,
}

/// A field of a record or a tuple.
#[derive(Debug)]
pub(super) struct Field {
    /// Its offset in bytes.
    pub(super) at: usize,
    pub(super) shape: Shape,
}

/// The cases of a variant.
#[derive(Debug)]
pub(super) struct Cases {
    pub(super) names: Names,
    pub(super) payloads: Vec<Option<Shape>>,
    /// Bytes of the number of the case.
    pub(super) tag: usize,
    /// The offset of the payload in bytes.
    pub(super) payload_at: usize,
}

impl Shape {
    /// Whether it is an option: then a value may be missing.
    pub(super) fn is_option(&self) -> bool {
        matches!(self.kind, Kind::Option(_))
    }

    fn scalar(kind: Kind, size: usize) -> Self {
        Self { kind, size, align: size, flat: 1 }
    }

    /// A pointer and a length.
    fn pair(kind: Kind) -> Self {
        Self { kind, size: 8, align: 4, flat: 2 }
    }

    fn integer(bytes: usize, signed: bool) -> Self {
        Self::scalar(Kind::Integer(Integer { bytes, signed }), bytes)
    }
}

impl Cases {
    /// The payload of the value of an option.
    pub(super) fn some(&self) -> Option<&Shape> {
        self.payloads.get(1)?.as_ref()
    }
}

/// The types of a function.
#[derive(Debug)]
pub(super) struct Types {
    /// The parameters as a record.
    pub(super) parameters: Shape,
    pub(super) result: Option<Shape>,
}

impl Types {
    /// Reads the types of a function.
    ///
    /// # Errors
    /// The reason why the function cannot be called.
    pub(super) fn of(function: &ComponentFunc) -> Result<Self, String> {
        if function.async_() {
            return Err("it is an async function".to_owned());
        }
        let mut builder = Builder { parts: 0 };
        let mut record = RecordBuilder::default();
        for (name, ty) in function.params() {
            let shape = builder.shape(&ty, 1).map_err(|why| format!("its parameter '{name}' {why}"))?;
            record.add(name, shape).map_err(|why| format!("its parameters take {why}"))?;
        }
        let parameters = record.finish();
        let mut results = function.results();
        let result = results.next().map(|ty| builder.shape(&ty, 1)).transpose();
        let result = result.map_err(|why| format!("its result {why}"))?;
        if results.next().is_some() {
            return Err("it has several results".to_owned());
        }
        Ok(Self { parameters, result })
    }
}

/// Makes the shapes of one function.
struct Builder {
    parts: usize,
}

impl Builder {
    /// The shape of a type, or the reason why there is none, without its subject.
    fn shape(&mut self, ty: &Type, depth: u32) -> Result<Shape, String> {
        self.parts += 1;
        if depth > DEPTH_MAX {
            return Err(format!("is nested more than {DEPTH_MAX} levels deep"));
        }
        if self.parts > PARTS_MAX {
            return Err(format!("has types of more than {PARTS_MAX} parts"));
        }
        Ok(match ty {
            Type::Bool => Shape::scalar(Kind::Bool, 1),
            Type::S8 => Shape::integer(1, true),
            Type::U8 => Shape::integer(1, false),
            Type::S16 => Shape::integer(2, true),
            Type::U16 => Shape::integer(2, false),
            Type::S32 => Shape::integer(4, true),
            Type::U32 => Shape::integer(4, false),
            Type::S64 => Shape::integer(8, true),
            Type::U64 => Shape::integer(8, false),
            Type::Float32 => Shape::scalar(Kind::Float32, 4),
            Type::Float64 => Shape::scalar(Kind::Float64, 8),
            Type::Char => Shape::scalar(Kind::Char, 4),
            Type::String => Shape::pair(Kind::Text),
            Type::List(list) if list.ty() == Type::U8 => Shape::pair(Kind::Bytes),
            Type::List(list) => Shape::pair(Kind::List(Box::new(self.shape(&list.ty(), depth + 1)?))),
            Type::Map(map) => {
                let pair = self.tuple([map.key(), map.value()].iter(), depth)?;
                Shape::pair(Kind::Map(Box::new(pair)))
            }
            Type::FixedLengthList(list) => self.array(&list.ty(), list.len(), depth)?,
            Type::Record(fields) => {
                let mut record = RecordBuilder::default();
                for field in fields.fields() {
                    record.add(field.name, self.shape(&field.ty, depth + 1)?)?;
                }
                record.finish()
            }
            Type::Tuple(tuple) => self.tuple(tuple.types().collect::<Vec<_>>().iter(), depth)?,
            Type::Variant(variant) => {
                let cases = variant.cases().map(|case| (case.name.to_owned(), case.ty)).collect();
                self.cases(cases, Kind::Variant, depth)?
            }
            Type::Enum(names) => {
                let cases = names.names().map(|name| (name.to_owned(), None)).collect();
                self.cases(cases, Kind::Variant, depth)?
            }
            Type::Option(option) => {
                let cases = vec![("none".to_owned(), None), ("some".to_owned(), Some(option.ty()))];
                self.cases(cases, Kind::Option, depth)?
            }
            Type::Result(result) => {
                let cases = vec![("ok".to_owned(), result.ok()), ("err".to_owned(), result.err())];
                self.cases(cases, Kind::Result, depth)?
            }
            Type::Flags(flags) => flags_shape(flags.names()),
            Type::Own(_) | Type::Borrow(_) => return Err("has a resource".to_owned()),
            Type::Future(_) => return Err("has a future".to_owned()),
            Type::Stream(_) => return Err("has a stream".to_owned()),
            Type::ErrorContext => return Err("has an error-context".to_owned()),
        })
    }

    fn tuple<'a>(&mut self, types: impl Iterator<Item = &'a Type>, depth: u32) -> Result<Shape, String> {
        let mut layout = Layout::default();
        let mut fields = Vec::new();
        for ty in types {
            let shape = self.shape(ty, depth + 1)?;
            fields.push(Field { at: layout.add(&shape)?, shape });
        }
        Ok(layout.finish(Kind::Tuple(fields)))
    }

    fn array(&mut self, ty: &Type, length: u32, depth: u32) -> Result<Shape, String> {
        let item = self.shape(ty, depth + 1)?;
        let size = item.size as u64 * u64::from(length);
        let length = usize::try_from(length).ok().filter(|_| size <= SIZE_MAX).ok_or_else(too_large)?;
        let (size, align, flat) = (item.size * length, item.align, item.flat.saturating_mul(length));
        Ok(Shape { kind: Kind::Array(Box::new(item), length), size, align, flat })
    }

    fn cases(
        &mut self,
        cases: Vec<(String, Option<Type>)>,
        kind: impl Fn(Cases) -> Kind,
        depth: u32,
    ) -> Result<Shape, String> {
        self.parts += cases.len();
        let mut names = Names::default();
        let mut payloads = Vec::new();
        for (name, ty) in cases {
            names.add(&name);
            payloads.push(ty.map(|ty| self.shape(&ty, depth + 1)).transpose()?);
        }
        let tag = match payloads.len() {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let of_payloads = |of: fn(&Shape) -> usize| payloads.iter().flatten().map(of).max().unwrap_or(0);
        let align = of_payloads(|shape| shape.align).max(tag);
        let payload_at = tag.next_multiple_of(of_payloads(|shape| shape.align).max(1));
        let size = (payload_at + of_payloads(|shape| shape.size)).next_multiple_of(align);
        let flat = 1 + of_payloads(|shape| shape.flat);
        Ok(Shape { kind: kind(Cases { names, payloads, tag, payload_at }), size, align, flat })
    }
}

fn flags_shape<'a>(flags: impl Iterator<Item = &'a str>) -> Shape {
    let mut names = Names::default();
    flags.for_each(|name| names.add(name));
    let words = names.list.len().div_ceil(32);
    let (size, align) = match names.list.len() {
        0 => (0, 1),
        1..=8 => (1, 1),
        9..=16 => (2, 2),
        _ => (4 * words, 4),
    };
    Shape { kind: Kind::Flags(names), size, align, flat: words }
}

fn too_large() -> String {
    format!("more than {SIZE_MAX} bytes")
}

/// Places fields one after the other.
#[derive(Default)]
struct Layout {
    size: usize,
    align: usize,
    flat: usize,
}

impl Layout {
    /// Places a field and returns its offset.
    fn add(&mut self, shape: &Shape) -> Result<usize, String> {
        let at = self.size.next_multiple_of(shape.align);
        self.size = at + shape.size;
        self.align = self.align.max(shape.align);
        self.flat = self.flat.saturating_add(shape.flat);
        if self.size as u64 > SIZE_MAX { Err(too_large()) } else { Ok(at) }
    }

    fn finish(self, kind: Kind) -> Shape {
        let align = self.align.max(1);
        Shape { kind, size: self.size.next_multiple_of(align), align, flat: self.flat }
    }
}

/// Makes a record.
#[derive(Default)]
struct RecordBuilder {
    layout: Layout,
    record: Record,
}

impl RecordBuilder {
    fn add(&mut self, name: &str, shape: Shape) -> Result<(), String> {
        let at = self.layout.add(&shape)?;
        self.record.names.add(name);
        self.record.fields.push(Field { at, shape });
        Ok(())
    }

    fn finish(mut self) -> Shape {
        let Names { list, by_name } = &mut self.record.names;
        for (index, name) in list.iter().enumerate().filter(|(_, name)| name.contains('-')) {
            by_name.entry(name.replace('-', "_").into()).or_insert(index);
        }
        self.layout.finish(Kind::Record(self.record))
    }
}
