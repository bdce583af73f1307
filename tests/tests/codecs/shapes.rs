//! The shape of messages: names and types instead of bytes.
//!
//! A serializer in the place of postcard's: it gets the same fields and variants in the same order, and records them in a
//! [`ShapeTable`]. It takes several messages of each kind, because an empty field has no shape.

use std::{any::type_name, cell::RefCell, collections::BTreeMap, fmt};

use serde::{Serialize, Serializer, de::value::Error, ser};

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An option or a list that was empty so far.
    Unknown,
    Named(String),
    Optional(Box<Shape>),
    List(Box<Shape>),
    Tuple(Vec<Shape>),
}

impl Shape {
    fn named(name: &str) -> Self {
        Self::Named(name.to_owned())
    }

    /// Merges two types, each of which may be incomplete.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, shape) | (shape, Self::Unknown) => shape,
            (Self::Optional(one), Self::Optional(other)) => Self::Optional(Box::new(one.and(*other))),
            (Self::List(one), Self::List(other)) => Self::List(Box::new(one.and(*other))),
            (Self::Tuple(one), Self::Tuple(other)) => {
                Self::Tuple(one.into_iter().zip(other).map(|(one, other)| one.and(other)).collect())
            }
            (one, other) => {
                assert_eq!(one, other, "one field has two types");
                one
            }
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("(no message had one)"),
            Self::Named(name) => f.write_str(name),
            Self::Optional(inner) => write!(f, "{inner}?"),
            Self::List(item) => write!(f, "[{item}]"),
            Self::Tuple(parts) => {
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                write!(f, "({})", parts.join(", "))
            }
        }
    }
}

type Fields = Vec<(&'static str, Shape)>;

/// The fields of a variant of an enum.
#[derive(Clone, Debug)]
enum Payload {
    Nothing,
    Value(Shape),
    Fields(Fields),
}

#[derive(Clone, Debug)]
enum Definition {
    Struct(Fields),
    Enum(BTreeMap<u32, (&'static str, Payload)>),
    Open(Vec<String>),
}

/// Every struct and enum that was seen, by its name.
#[derive(Debug, Default)]
pub(crate) struct ShapeTable(RefCell<BTreeMap<String, Definition>>);

impl ShapeTable {
    /// Records the shape of a message.
    pub(crate) fn read<T: Serialize>(&self, message: &T) {
        Tracer(self).shape_of(message).expect("messages have no maps");
    }

    /// Adds a choice that is written as its number.
    pub(crate) fn choice(&self, name: &str, choices: &[&'static str]) {
        let numbered = (0..).zip(choices).map(|(number, choice)| (number, (*choice, Payload::Nothing)));
        self.0.borrow_mut().insert(name.to_owned(), Definition::Enum(numbered.collect()));
    }

    /// Adds an open value, which is written as its name.
    pub(crate) fn open<T: ToString>(&self, name: &str, known: &[T]) {
        let known = known.iter().map(ToString::to_string).collect();
        self.0.borrow_mut().insert(name.to_owned(), Definition::Open(known));
    }

    /// Each definition in a line, as `docs/protocol.md` writes it, by its name.
    pub(crate) fn lines(&self) -> BTreeMap<String, String> {
        let fields = |fields: &Fields| {
            let fields: Vec<String> = fields.iter().map(|(name, shape)| format!("{name}: {shape}")).collect();
            fields.join(", ")
        };
        let variant = |(number, (name, payload)): (&u32, &(&str, Payload))| match payload {
            Payload::Nothing => format!("{number} {name}"),
            Payload::Value(shape) => format!("{number} {name} {shape}"),
            Payload::Fields(parts) => format!("{number} {name} {{ {} }}", fields(parts)),
        };
        let line = |definition: &Definition| match definition {
            Definition::Struct(parts) => fields(parts),
            Definition::Enum(variants) => variants.iter().map(variant).collect::<Vec<_>>().join(" | "),
            Definition::Open(known) => format!("open {}", known.join(" | ")),
        };
        self.0.borrow().iter().map(|(name, it)| (name.clone(), format!("{name} = {}", line(it)))).collect()
    }

    fn learn_struct(&self, name: &str, fields: Fields) -> Shape {
        let mut table = self.0.borrow_mut();
        let known = table.entry(name.to_owned()).or_insert_with(|| Definition::Struct(fields.clone()));
        let Definition::Struct(known) = known else { panic!("{name} is a struct and an enum") };
        *known = both(known, fields);
        Shape::named(name)
    }

    fn learn_variant(&self, of: &str, number: u32, name: &'static str, payload: Payload) -> Shape {
        let mut table = self.0.borrow_mut();
        let known = table.entry(of.to_owned()).or_insert_with(|| Definition::Enum(BTreeMap::new()));
        let Definition::Enum(variants) = known else { panic!("{of} is a struct and an enum") };
        let (_, known) = variants.entry(number).or_insert_with(|| (name, payload.clone()));
        *known = match (&*known, payload) {
            (Payload::Value(one), Payload::Value(other)) => Payload::Value(one.clone().and(other)),
            (Payload::Fields(one), Payload::Fields(other)) => Payload::Fields(both(one, other)),
            (known, _) => known.clone(),
        };
        Shape::named(of)
    }
}

fn both(one: &Fields, other: Fields) -> Fields {
    assert!(one.iter().map(|(name, _)| name).eq(other.iter().map(|(name, _)| name)), "{one:?} and {other:?}");
    one.iter().zip(other).map(|((name, one), (_, other))| (*name, one.clone().and(other))).collect()
}

/// The serializer.
#[derive(Clone, Copy)]
struct Tracer<'a>(&'a ShapeTable);

impl<'a> Tracer<'a> {
    fn shape_of<T: ?Sized + Serialize>(self, value: &T) -> Result<Shape, Error> {
        let shape = value.serialize(self)?;
        let name = type_name::<T>().rsplit("::").next().unwrap_or_default();
        Ok(match name {
            "TaskId" => Shape::named("TaskId"),
            "Json" => Shape::named("document"),
            "Timestamp" => Shape::named("moment"),
            "Uuid" => Shape::named("uuid"),
            "ModuleVersion" => Shape::named("version"),
            // Open values are encoded as strings, without a name.
            "TaskStatus" | "ErrorKind" | "RefusalCode" | "WorkerStatus" | "ModuleStatus" | "ScheduleStatus"
            | "DeliveryState" | "EventKind" | "LimitKind" => Shape::named(name),
            // Choices are encoded as a byte, without a name.
            _ if shape == Shape::named("u8") => Shape::named(name),
            _ => shape,
        })
    }

    fn parts(self, name: &'static str) -> Parts<'a> {
        Parts { tracer: self, name, variant: None, fields: Vec::new() }
    }
}

/// The parts of a value recorded so far.
struct Parts<'a> {
    tracer: Tracer<'a>,
    name: &'static str,
    variant: Option<(u32, &'static str)>,
    fields: Fields,
}

impl Parts<'_> {
    fn add<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.fields.push((name, self.tracer.shape_of(value)?));
        Ok(())
    }

    fn shapes(self) -> impl Iterator<Item = Shape> {
        self.fields.into_iter().map(|(_, shape)| shape)
    }
}

/// Scalars by the names that the document uses.
macro_rules! scalars {
    ($($method:ident: $type:ty => $name:literal,)*) => {
        $(fn $method(self, _: $type) -> Result<Shape, Error> { Ok(Shape::named($name)) })*
    };
}

impl<'a> Serializer for Tracer<'a> {
    type Ok = Shape;
    type Error = Error;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = ser::Impossible<Shape, Error>;
    type SerializeTupleVariant = ser::Impossible<Shape, Error>;
    type SerializeMap = ser::Impossible<Shape, Error>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    scalars! {
        serialize_bool: bool => "bool",
        serialize_i8: i8 => "i8",
        serialize_i16: i16 => "i16",
        serialize_i32: i32 => "i32",
        serialize_i64: i64 => "i64",
        serialize_u8: u8 => "u8",
        serialize_u16: u16 => "u16",
        serialize_u32: u32 => "u32",
        serialize_u64: u64 => "u64",
        serialize_f32: f32 => "f32",
        serialize_f64: f64 => "f64",
        serialize_char: char => "char",
        serialize_str: &str => "text",
        serialize_bytes: &[u8] => "bytes",
        serialize_unit_struct: &'static str => "nothing",
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_unit(self) -> Result<Shape, Error> {
        Ok(Shape::named("nothing"))
    }

    fn serialize_none(self) -> Result<Shape, Error> {
        Ok(Shape::Optional(Box::new(Shape::Unknown)))
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<Shape, Error> {
        Ok(Shape::Optional(Box::new(self.shape_of(value)?)))
    }

    fn serialize_unit_variant(self, of: &'static str, number: u32, name: &'static str) -> Result<Shape, Error> {
        Ok(self.0.learn_variant(of, number, name, Payload::Nothing))
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Result<Shape, Error> {
        self.shape_of(value)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        of: &'static str,
        number: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Shape, Error> {
        let shape = self.shape_of(value)?;
        // A task id is encoded as an enum.
        let of = if of == "Id" { "TaskId" } else { of };
        Ok(self.0.learn_variant(of, number, name, Payload::Value(shape)))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, Error> {
        Ok(self.parts(""))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Error> {
        Ok(self.parts(""))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Error> {
        Err(ser::Error::custom(name))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(ser::Error::custom(name))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        Err(ser::Error::custom("a map"))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts<'a>, Error> {
        Ok(self.parts(name))
    }

    fn serialize_struct_variant(
        self,
        of: &'static str,
        number: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Error> {
        Ok(Parts { variant: Some((number, name)), ..self.parts(of) })
    }
}

impl ser::SerializeSeq for Parts<'_> {
    type Ok = Shape;
    type Error = Error;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        self.add("", value)
    }

    fn end(self) -> Result<Shape, Error> {
        Ok(Shape::List(Box::new(self.shapes().fold(Shape::Unknown, Shape::and))))
    }
}

impl ser::SerializeTuple for Parts<'_> {
    type Ok = Shape;
    type Error = Error;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        self.add("", value)
    }

    fn end(self) -> Result<Shape, Error> {
        Ok(Shape::Tuple(self.shapes().collect()))
    }
}

impl ser::SerializeStruct for Parts<'_> {
    type Ok = Shape;
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.add(name, value)
    }

    fn end(self) -> Result<Shape, Error> {
        Ok(self.tracer.0.learn_struct(self.name, self.fields))
    }
}

impl ser::SerializeStructVariant for Parts<'_> {
    type Ok = Shape;
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.add(name, value)
    }

    fn end(self) -> Result<Shape, Error> {
        let (number, name) = self.variant.expect("started variant");
        Ok(self.tracer.0.learn_variant(self.name, number, name, Payload::Fields(self.fields)))
    }
}
