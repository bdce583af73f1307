//! Random types and values, from a seed.

use std::{collections::HashSet, fmt::Write as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use wasmtime::component::Val;

/// A WIT type.
#[derive(Clone, Debug)]
pub(super) enum Type {
    Bool,
    /// Bytes, and whether it is signed.
    Integer(usize, bool),
    Float32,
    Float64,
    Char,
    Text,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Array(Box<Type>, usize),
    Tuple(Vec<Type>),
    Record(Vec<(String, Type)>),
    Variant(Vec<(String, Option<Type>)>),
    Enum(Vec<String>),
    Option(Box<Type>),
    Result(Option<Box<Type>>, Option<Box<Type>>),
    Flags(Vec<String>),
}

impl Type {
    /// Adds its definition to a component, and returns how it is named there.
    pub(super) fn define(&self, out: &mut String, next: &mut u32) -> String {
        let mut of = |ty: &Type| ty.define(out, next);
        let (definition, is_named) = match self {
            Self::Bool => return "bool".into(),
            Self::Integer(bytes, signed) => return format!("{}{}", if *signed { 's' } else { 'u' }, 8 * bytes),
            Self::Float32 => return "f32".into(),
            Self::Float64 => return "f64".into(),
            Self::Char => return "char".into(),
            Self::Text => return "string".into(),
            Self::List(item) => (format!("(list {})", of(item)), false),
            Self::Map(key, value) => (format!("(map {} {})", of(key), of(value)), false),
            Self::Array(item, length) => (format!("(list {} {length})", of(item)), false),
            Self::Tuple(types) => (format!("(tuple {})", types.iter().map(of).collect::<Vec<_>>().join(" ")), false),
            Self::Option(some) => (format!("(option {})", of(some)), false),
            Self::Result(ok, err) => {
                let ok = ok.as_ref().map(|ok| of(ok)).unwrap_or_default();
                let err = err.as_ref().map(|err| format!("(error {})", of(err))).unwrap_or_default();
                (format!("(result {ok} {err})"), false)
            }
            Self::Record(fields) => {
                let fields = fields.iter().map(|(name, ty)| format!("(field {name:?} {})", of(ty)));
                (format!("(record {})", fields.collect::<String>()), true)
            }
            Self::Variant(cases) => {
                let cases = cases.iter().map(|(name, payload)| {
                    format!("(case {name:?} {})", payload.as_ref().map(&mut of).unwrap_or_default())
                });
                (format!("(variant {})", cases.collect::<String>()), true)
            }
            Self::Enum(names) => (format!("(enum {})", quoted(names)), true),
            Self::Flags(names) => (format!("(flags {})", quoted(names)), true),
        };
        *next += 1;
        let name = format!("$t{next}");
        if is_named {
            writeln!(out, "(type {name}' {definition}) (export {name} \"t{next}\" (type {name}'))")
        } else {
            writeln!(out, "(type {name} {definition})")
        }
        .expect("writing to a string cannot fail");
        name
    }

    /// The types of its core values.
    pub(super) fn flat(&self) -> Vec<&'static str> {
        let cases = |payloads: &mut dyn Iterator<Item = Vec<&'static str>>| {
            let mut joined = Vec::new();
            for payload in payloads {
                for (index, ty) in payload.into_iter().enumerate() {
                    match joined.get_mut(index) {
                        None => joined.push(ty),
                        Some(other) if *other == ty => {}
                        Some(other) if matches!((*other, ty), ("i32", "f32") | ("f32", "i32")) => *other = "i32",
                        Some(other) => *other = "i64",
                    }
                }
            }
            joined.insert(0, "i32");
            joined
        };
        match self {
            Self::Integer(8, _) => vec!["i64"],
            Self::Float32 => vec!["f32"],
            Self::Float64 => vec!["f64"],
            Self::Bool | Self::Integer(..) | Self::Char | Self::Enum(_) => vec!["i32"],
            Self::Text | Self::List(_) | Self::Map(..) => vec!["i32", "i32"],
            Self::Array(item, length) => (0..*length).flat_map(|_| item.flat()).collect(),
            Self::Tuple(types) => types.iter().flat_map(Self::flat).collect(),
            Self::Record(fields) => fields.iter().flat_map(|(_, ty)| ty.flat()).collect(),
            Self::Variant(all) => cases(&mut all.iter().filter_map(|(_, payload)| Some(payload.as_ref()?.flat()))),
            Self::Option(some) => cases(&mut [some.flat()].into_iter()),
            Self::Result(ok, err) => cases(&mut [ok, err].into_iter().flatten().map(|ty| ty.flat())),
            Self::Flags(names) => vec!["i32"; names.len().div_ceil(32)],
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?} ")).collect::<Vec<_>>().concat()
}

/// A generator of numbers.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.bits() % bound as u64).expect("it is below a usize")
    }

    fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    fn names(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|index| format!("{}{index}", self.one_of(&["name-", "a", "with-two-x"]))).collect()
    }

    fn key_type(&mut self) -> Type {
        match self.below(4) {
            0 => Type::Bool,
            1 => Type::Integer(1 << self.below(4), self.below(2) == 0),
            2 => Type::Char,
            _ => Type::Text,
        }
    }

    /// A type of at most this nesting.
    pub(super) fn ty(&mut self, depth: usize) -> Type {
        if depth == 0 {
            return match self.below(4) {
                0 => self.key_type(),
                1 => Type::Float32,
                2 => Type::Float64,
                _ => Type::Integer(1 << self.below(4), self.below(2) == 0),
            };
        }
        let few = 1 + self.below(3);
        match self.below(13) {
            0 => self.ty(0),
            1 | 2 => Type::List(Box::new(self.ty(depth - 1))),
            3 => Type::Map(Box::new(self.key_type()), Box::new(self.ty(depth - 1))),
            4 => Type::Array(Box::new(self.ty(depth - 1)), few),
            5 => Type::Tuple((0..few).map(|_| self.ty(depth - 1)).collect()),
            6 => Type::Record(self.names(few).into_iter().map(|name| (name, self.ty(depth - 1))).collect()),
            7 => {
                let payload = |random: &mut Self| (random.below(3) > 0).then(|| random.ty(depth - 1));
                Type::Variant(self.names(few).into_iter().map(|name| (name, payload(self))).collect())
            }
            8 => {
                let count = self.one_of(&[1, 2, 5, 300]);
                Type::Enum(self.names(count))
            }
            9 | 10 => Type::Option(Box::new(self.ty(depth - 1))),
            11 => {
                let mut branch = || (self.below(3) > 0).then(|| Box::new(self.ty(depth - 1)));
                Type::Result(branch(), branch())
            }
            _ => {
                let count = self.one_of(&[1, 8, 9, 16, 17, 32]);
                Type::Flags(self.names(count))
            }
        }
    }

    fn integer(&mut self, bytes: usize, signed: bool) -> (Val, String) {
        let bits = match self.below(4) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (8 * bytes - 1),
            _ => self.bits(),
        };
        macro_rules! scalar {
            ($val:ident, $ty:ty) => {{
                #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "any bits will do")]
                let number = bits as $ty;
                (Val::$val(number), number.to_string())
            }};
        }
        match (bytes, signed) {
            (1, true) => scalar!(S8, i8),
            (1, false) => scalar!(U8, u8),
            (2, true) => scalar!(S16, i16),
            (2, false) => scalar!(U16, u16),
            (4, true) => scalar!(S32, i32),
            (4, false) => scalar!(U32, u32),
            (_, true) => scalar!(S64, i64),
            (_, false) => scalar!(U64, u64),
        }
    }

    fn text(&mut self) -> String {
        (0..self.below(4)).map(|_| self.one_of(&['a', 'ü', '\n', '"', '\\', '😀', '\0', '/'])).collect()
    }

    /// A value of a type, and its JSON as a guest's result is written.
    pub(super) fn value(&mut self, ty: &Type) -> (Val, String) {
        match ty {
            Type::Bool => {
                let value = self.below(2) == 0;
                (Val::Bool(value), value.to_string())
            }
            Type::Integer(bytes, signed) => self.integer(*bytes, *signed),
            Type::Float32 => {
                let bits = u32::try_from(self.bits() >> 32).expect("32 bits");
                let number = self.one_of(&[0.1, -0.0, f32::NAN, f32::INFINITY, f32::MIN, f32::from_bits(bits)]);
                let number = if number.is_nan() { f32::NAN } else { number };
                (Val::Float32(number), float(number.into(), serde_json::to_string(&number)))
            }
            Type::Float64 => {
                let bits = self.bits();
                let number = self.one_of(&[0.1, -0.0, f64::NAN, f64::NEG_INFINITY, f64::MAX, f64::from_bits(bits)]);
                let number = if number.is_nan() { f64::NAN } else { number };
                (Val::Float64(number), float(number, serde_json::to_string(&number)))
            }
            Type::Char => {
                let value = self.one_of(&['a', 'ü', '\u{1f600}', '\0', '"', char::MAX]);
                (Val::Char(value), serde_json::to_string(&value).expect("JSON"))
            }
            Type::Text => {
                let text = self.text();
                (Val::String(text.clone()), serde_json::to_string(&text).expect("JSON"))
            }
            Type::List(item) => {
                let (values, json) = self.values(item, None);
                let json = match **item {
                    Type::Integer(1, false) => {
                        let bytes = values.iter().map(|value| match value {
                            Val::U8(byte) => *byte,
                            other => panic!("{other:?}"),
                        });
                        format!("\"{}\"", BASE64_STANDARD.encode(bytes.collect::<Vec<u8>>()))
                    }
                    _ => json,
                };
                (Val::List(values), json)
            }
            Type::Array(item, length) => {
                let (values, json) = self.values(item, Some(*length));
                (Val::FixedLengthList(values), json)
            }
            Type::Map(key, value) => {
                let mut pairs: Vec<_> = (0..self.below(4)).map(|_| (self.value(key), self.value(value))).collect();
                // Each key once.
                let mut keys = HashSet::new();
                pairs.retain(|((_, key), _)| keys.insert(key.clone()));
                let is_object = matches!(**key, Type::Text);
                let json =
                    pairs.iter().map(
                        |((_, key), (_, value))| {
                            if is_object { format!("{key}:{value}") } else { format!("[{key},{value}]") }
                        },
                    );
                let json = json.collect::<Vec<_>>().join(",");
                let json = if is_object { format!("{{{json}}}") } else { format!("[{json}]") };
                (Val::Map(pairs.into_iter().map(|((key, _), (value, _))| (key, value)).collect()), json)
            }
            Type::Tuple(types) => {
                let (values, json): (Vec<_>, Vec<_>) = types.iter().map(|ty| self.value(ty)).unzip();
                (Val::Tuple(values), format!("[{}]", json.join(",")))
            }
            Type::Record(fields) => {
                let fields = fields.iter().map(|(name, ty)| {
                    let (value, json) = self.value(ty);
                    ((name.clone(), value), format!("{name:?}:{json}"))
                });
                let (values, json): (Vec<_>, Vec<_>) = fields.unzip();
                (Val::Record(values), format!("{{{}}}", json.join(",")))
            }
            Type::Enum(names) => {
                let name = self.one_of(names);
                (Val::Enum(name.clone()), format!("{name:?}"))
            }
            Type::Flags(names) => {
                let set: Vec<String> = names.iter().filter(|_| self.below(2) == 0).cloned().collect();
                let json = set.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(",");
                (Val::Flags(set), format!("[{json}]"))
            }
            Type::Variant(..) | Type::Option(_) | Type::Result(..) => self.case(ty),
        }
    }

    fn case(&mut self, ty: &Type) -> (Val, String) {
        match ty {
            Type::Variant(cases) => match self.one_of(cases) {
                (name, None) => (Val::Variant(name.clone(), None), format!("{name:?}")),
                (name, Some(payload)) => {
                    let (value, json) = self.value(&payload);
                    (Val::Variant(name.clone(), Some(Box::new(value))), format!("{{{name:?}:{json}}}"))
                }
            },
            Type::Option(some) => {
                let (value, json) = self.value(some);
                match **some {
                    _ if self.below(3) == 0 => (Val::Option(None), "null".into()),
                    Type::Option(_) => (Val::Option(Some(Box::new(value))), format!("{{\"some\":{json}}}")),
                    _ => (Val::Option(Some(Box::new(value))), json),
                }
            }
            Type::Result(ok, err) => {
                let (name, branch, wrap): (_, _, fn(_) -> _) =
                    if self.below(2) == 0 { ("ok", ok, Ok) } else { ("err", err, Err) };
                let (payload, json) = branch.as_ref().map(|ty| self.value(ty)).unzip();
                let json = json.unwrap_or_else(|| "null".into());
                (Val::Result(wrap(payload.map(Box::new))), format!("{{{name:?}:{json}}}"))
            }
            other => panic!("{other:?} has no cases"),
        }
    }

    fn values(&mut self, item: &Type, length: Option<usize>) -> (Vec<Val>, String) {
        let length = length.unwrap_or_else(|| self.below(4));
        let (values, json): (Vec<_>, Vec<_>) = (0..length).map(|_| self.value(item)).unzip();
        (values, format!("[{}]", json.join(",")))
    }

    /// JSON that is a value of a type, or nearly.
    pub(super) fn almost(&mut self, ty: &Type) -> String {
        const OTHERS: [&str; 30] = [
            "null",
            "true",
            "0",
            "-0",
            "1",
            "-1",
            "255",
            "256",
            "-129",
            "65536",
            "4294967296",
            "18446744073709551616",
            "9223372036854775808",
            "1.0",
            "1e2",
            "0.5",
            "1e39",
            "1e400",
            "\"\"",
            "\"a\"",
            "\"ab\"",
            "\"AA==\"",
            "\"A\"",
            "\"NaN\"",
            "\"\\ud800\"",
            "[]",
            "[0]",
            "[null]",
            "{}",
            "{\"some\":null}",
        ];
        if self.below(20) == 0 {
            return self.one_of(&OTHERS).to_owned();
        }
        let list = |random: &mut Self, types: &mut dyn Iterator<Item = &Type>| {
            let mut items: Vec<String> = types.map(|ty| random.almost(ty)).collect();
            match random.below(15) {
                0 => drop(items.pop()),
                1 => items.push(random.one_of(&OTHERS).to_owned()),
                _ => {}
            }
            format!("[{}]", items.join(","))
        };
        match ty {
            Type::List(item) if matches!(**item, Type::Integer(1, false)) && self.below(2) == 0 => {
                self.one_of(&["\"\"", "\"AAAA\"", "\"+/8=\"", "\"AB\"", "\"A\"", "\"_-8=\""]).to_owned()
            }
            Type::List(item) => {
                let count = self.below(3);
                list(self, &mut (0..count).map(|_| &**item))
            }
            Type::Array(item, length) => list(self, &mut (0..*length).map(|_| &**item)),
            Type::Tuple(types) => list(self, &mut types.iter()),
            Type::Record(fields) => {
                let mut entries: Vec<String> = Vec::new();
                for (name, ty) in fields {
                    let is_snake = self.below(3) == 0;
                    let key = if is_snake { name.replace('-', "_") } else { name.clone() };
                    if self.below(15) > 0 {
                        entries.push(format!("{key:?}:{}", self.almost(ty)));
                    }
                    if self.below(30) == 0 {
                        entries.push(format!("{name:?}:{}", self.almost(ty)));
                    }
                }
                if self.below(20) == 0 {
                    entries.push("\"other\":1".into());
                }
                format!("{{{}}}", entries.join(","))
            }
            Type::Variant(cases) => {
                let (name, payload) = self.one_of(cases);
                let payload = payload.filter(|_| self.below(10) > 0).map(|ty| self.almost(&ty));
                let twice = if self.below(20) == 0 { ",\"name_0\":null" } else { "" };
                payload.map_or_else(|| format!("{name:?}"), |json| format!("{{{name:?}:{json}{twice}}}"))
            }
            Type::Option(some) if self.below(3) > 0 => match **some {
                Type::Option(_) if self.below(10) > 0 => format!("{{\"some\":{}}}", self.almost(some)),
                _ => self.almost(some),
            },
            Type::Result(ok, err) => {
                let (name, branch) = self.one_of(&[("ok", ok), ("err", err)]);
                let json = branch.as_ref().map_or_else(|| "null".into(), |ty| self.almost(ty));
                format!("{{{name:?}:{json}}}")
            }
            Type::Map(key, value) if matches!(**key, Type::Text) => {
                let second = self.one_of(&["ü", "ü", "\\u006b"]);
                format!("{{\"k\":{},\"{second}\":{}}}", self.almost(value), self.almost(value))
            }
            Type::Map(key, value) => {
                let pairs = [0, 1].map(|_| format!("[{},{}]", self.almost(key), self.almost(value)));
                format!("[{}]", pairs.join(","))
            }
            Type::Flags(names) => {
                let set: Vec<String> = (0..self.below(3)).map(|_| format!("{:?}", self.one_of(names))).collect();
                format!("[{}]", set.join(","))
            }
            other => self.value(other).1,
        }
    }
}

fn float(number: f64, json: serde_json::Result<String>) -> String {
    match number {
        _ if number.is_nan() => "\"NaN\"".into(),
        f64::INFINITY => "\"Infinity\"".into(),
        f64::NEG_INFINITY => "\"-Infinity\"".into(),
        _ => json.expect("JSON"),
    }
}
