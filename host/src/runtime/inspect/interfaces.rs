//! The exports and imports of a module, with their types in WIT.

use std::fmt::{self, Write as _};

use wasmtime::{
    Engine, ExternType, Module as CoreModule,
    component::{
        Component,
        types::{ComponentFunc, ComponentItem, Type},
    },
};

/// Maximum length of a type in bytes; longer ones are cut.
const TYPE_MAX: usize = 1_000;
/// Maximum functions that are listed of an interface.
const FUNCTIONS_MAX: usize = 1_000;

/// An interface or a function that a module exports or imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name: `wasi:cli/run@0.2.0`, or that of a function.
    pub name: String,
    /// Its functions in WIT, such as `add: func(x: s32, y: s32) -> s32`. A function has itself only.
    pub functions: Vec<String>,
}

/// The exports and imports of a component, in its order.
pub(super) fn of_component(engine: &Engine, component: &Component) -> (Vec<Interface>, Vec<Interface>) {
    let ty = component.component_type();
    let exports = ty.exports(engine).map(|(name, item)| interface(engine, name, &item.ty));
    let imports = ty.imports(engine).map(|(name, item)| interface(engine, name, &item.ty));
    (exports.collect(), imports.collect())
}

/// The exported functions of a core module, and the namespaces of its imports.
pub(super) fn of_core_module(module: &CoreModule) -> (Vec<Interface>, Vec<Interface>) {
    let functions = module.exports().filter(|export| matches!(export.ty(), ExternType::Func(_)));
    let exports = functions.map(|function| Interface { name: function.name().to_owned(), functions: Vec::new() });
    let mut namespaces: Vec<String> = module.imports().map(|import| import.module().to_owned()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let imports = namespaces.into_iter().map(|name| Interface { name, functions: Vec::new() });
    (exports.take(FUNCTIONS_MAX).collect(), imports.collect())
}

fn interface(engine: &Engine, name: &str, item: &ComponentItem) -> Interface {
    let functions = match item {
        ComponentItem::ComponentFunc(function) => vec![function_text(name, function)],
        ComponentItem::ComponentInstance(instance) => {
            let functions = instance.exports(engine).filter_map(|(name, item)| match &item.ty {
                ComponentItem::ComponentFunc(function) => Some(function_text(name, function)),
                _ => None,
            });
            functions.take(FUNCTIONS_MAX).collect()
        }
        _ => Vec::new(),
    };
    Interface { name: name.to_owned(), functions }
}

/// `add: func(x: s32, y: s32) -> s32`
fn function_text(name: &str, function: &ComponentFunc) -> String {
    let mut text = Bounded::default();
    let written = (|| {
        write!(text, "{name}: {}func(", if function.async_() { "async " } else { "" })?;
        for (index, (parameter, ty)) in function.params().enumerate() {
            write!(text, "{}{parameter}: ", if index > 0 { ", " } else { "" })?;
            write_type(&mut text, &ty)?;
        }
        text.write_str(")")?;
        function.results().try_for_each(|ty| {
            text.write_str(" -> ")?;
            write_type(&mut text, &ty)
        })
    })();
    text.finish(written)
}

/// A text of limited length: a type can be exponentially longer than the component that has it.
#[derive(Default)]
struct Bounded(String);

impl Bounded {
    fn finish(self, written: fmt::Result) -> String {
        if written.is_ok() { self.0 } else { self.0 + "…" }
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let rest = TYPE_MAX.saturating_sub(self.0.len());
        self.0.push_str(&text[..text.floor_char_boundary(rest)]);
        if text.len() > rest { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Writes a type in WIT. Names of types are not known, so records and variants are written in full.
fn write_type(out: &mut Bounded, ty: &Type) -> fmt::Result {
    let name = match ty {
        Type::Bool => "bool",
        Type::S8 => "s8",
        Type::U8 => "u8",
        Type::S16 => "s16",
        Type::U16 => "u16",
        Type::S32 => "s32",
        Type::U32 => "u32",
        Type::S64 => "s64",
        Type::U64 => "u64",
        Type::Float32 => "f32",
        Type::Float64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        // Their names are not part of the compiled type.
        Type::Own(_) => "own<resource>",
        Type::Borrow(_) => "borrow<resource>",
        other => return write_compound(out, other),
    };
    out.write_str(name)
}

fn write_compound(out: &mut Bounded, ty: &Type) -> fmt::Result {
    match ty {
        Type::List(list) => write_generic(out, "list", &[Some(list.ty())]),
        Type::FixedLengthList(list) => {
            out.write_str("list<")?;
            write_type(out, &list.ty())?;
            write!(out, ", {}>", list.len())
        }
        Type::Map(map) => write_generic(out, "map", &[Some(map.key()), Some(map.value())]),
        Type::Tuple(tuple) => write_generic(out, "tuple", &tuple.types().map(Some).collect::<Vec<_>>()),
        Type::Option(option) => write_generic(out, "option", &[Some(option.ty())]),
        Type::Result(result) => match (result.ok(), result.err()) {
            (None, None) => out.write_str("result"),
            (ok, None) => write_generic(out, "result", &[ok]),
            (ok, err) => write_generic(out, "result", &[ok, err]),
        },
        Type::Future(future) => write_generic(out, "future", &future.ty().map(Some).into_iter().collect::<Vec<_>>()),
        Type::Stream(stream) => write_generic(out, "stream", &stream.ty().map(Some).into_iter().collect::<Vec<_>>()),
        Type::Record(record) => {
            let fields = record.fields().map(|field| (field.name.to_owned(), Some(field.ty)));
            write_named(out, "record", ": ", "", fields)
        }
        Type::Variant(variant) => {
            let cases = variant.cases().map(|case| (case.name.to_owned(), case.ty));
            write_named(out, "variant", "(", ")", cases)
        }
        Type::Enum(cases) => write_named(out, "enum", "", "", cases.names().map(|name| (name.to_owned(), None))),
        Type::Flags(flags) => write_named(out, "flags", "", "", flags.names().map(|name| (name.to_owned(), None))),
        _ => out.write_str("_"),
    }
}

/// `list<u8>`, `tuple<s32, string>`, `result<_, string>`
fn write_generic(out: &mut Bounded, name: &str, types: &[Option<Type>]) -> fmt::Result {
    out.write_str(name)?;
    for (index, ty) in types.iter().enumerate() {
        out.write_str(if index == 0 { "<" } else { ", " })?;
        match ty {
            Some(ty) => write_type(out, ty)?,
            None => out.write_str("_")?,
        }
    }
    if types.is_empty() { Ok(()) } else { out.write_str(">") }
}

/// `record { name: string }`, `variant { ok(u8), none }`
fn write_named(
    out: &mut Bounded,
    kind: &str,
    before: &str,
    after: &str,
    items: impl Iterator<Item = (String, Option<Type>)>,
) -> fmt::Result {
    write!(out, "{kind} {{ ")?;
    for (index, (name, ty)) in items.enumerate() {
        write!(out, "{}{name}", if index > 0 { ", " } else { "" })?;
        if let Some(ty) = ty {
            out.write_str(before)?;
            write_type(out, &ty)?;
            out.write_str(after)?;
        }
    }
    out.write_str(" }")
}
