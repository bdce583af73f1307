//! The types of parameters and results, their owned forms and their names.
//!
//! Only their syntax is known here. Values parsed from JSON must be owned, so a reference is
//! parsed as the type that it refers to. A type that the host knows by its name needs no schema.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{GenericArgument, PathArguments, ReturnType, Signature, Type};

use crate::task::{Pass, Returns};

/// Returns the type to parse from JSON for a parameter of type `ty`, and the way to pass it.
pub(crate) fn owned_type(ty: &Type) -> syn::Result<(Type, Pass)> {
    match ty {
        Type::ImplTrait(_) => {
            let message = "a task cannot be generic: name the type instead of `impl Trait`";
            Err(syn::Error::new_spanned(ty, message))
        }
        Type::Reference(reference) => {
            if reference.lifetime.as_ref().is_some_and(|it| it.ident == "static") {
                let message = "an argument lives only as long as the call: remove `'static`";
                return Err(syn::Error::new_spanned(ty, message));
            }
            if reference.mutability.is_some() {
                let message = "a task cannot modify its caller's values: pass the argument by value";
                return Err(syn::Error::new_spanned(ty, message));
            }
            Ok((owned_of(&reference.elem).0, Pass::Borrowed))
        }
        _ => match option_of(ty) {
            Some(Type::Reference(reference)) if reference.mutability.is_none() => {
                let (owned, unsized_type) = owned_of(&reference.elem);
                let pass = if unsized_type { Pass::OptionDeref } else { Pass::OptionRef };
                let owned = syn::parse_quote!(::core::option::Option<#owned>);
                Ok((owned, pass))
            }
            _ => Ok((ty.clone(), Pass::Owned)),
        },
    }
}

/// The owned form of a `T` behind a reference, and whether `T` is unsized.
fn owned_of(target: &Type) -> (Type, bool) {
    match target {
        Type::Slice(slice) => {
            let element = &slice.elem;
            (syn::parse_quote!(::std::vec::Vec<#element>), true)
        }
        Type::Path(path) if path.qself.is_none() && path.path.is_ident("str") => {
            (syn::parse_quote!(::std::string::String), true)
        }
        other => (other.clone(), false),
    }
}

pub(crate) fn has_reference(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Punct(punct) => punct.as_char() == '&',
        TokenTree::Group(group) => has_reference(group.stream()),
        _ => false,
    })
}

/// The `T` of `Option<T>`.
pub(crate) fn option_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident != "Option" {
        return None;
    }
    first_argument(&last.arguments)
}

fn first_argument(arguments: &PathArguments) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

pub(crate) fn returns(signature: &Signature) -> Returns {
    let ReturnType::Type(_, ty) = &signature.output else {
        return Returns { type_text: "()".to_owned(), fallible: false, described: None, span: signature.ident.span() };
    };
    let result = match &**ty {
        Type::Path(path) => path.path.segments.last().filter(|last| last.ident == "Result"),
        _ => None,
    };
    let success = result.and_then(|last| first_argument(&last.arguments));
    let success = success.unwrap_or(ty);
    // A type without a name has no schema.
    let has_name = |ty: &Type| !matches!(ty, Type::Never(_)) && !has_impl(ty.to_token_stream());
    let described = Some(success.clone()).filter(|ty| !is_plain(ty) && has_name(ty));
    Returns { type_text: type_text(success), fallible: result.is_some(), described, span: ty.span() }
}

fn has_impl(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "impl",
        TokenTree::Group(group) => has_impl(group.stream()),
        _ => false,
    })
}

/// Whether the host knows the JSON of a type by its name.
pub(crate) fn is_plain(ty: &Type) -> bool {
    const SCALARS: [&str; 19] = [
        "bool", "char", "str", "String", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32",
        "u64", "u128", "usize", "()",
    ];
    match ty {
        Type::Reference(reference) => is_plain(&reference.elem),
        Type::Slice(slice) => is_plain(&slice.elem),
        Type::Tuple(tuple) => tuple.elems.is_empty(),
        Type::Path(path) if path.qself.is_none() => {
            let Some(last) = path.path.segments.last() else { return false };
            match (last.ident.to_string().as_str(), first_argument(&last.arguments)) {
                ("Option" | "Vec" | "VecDeque" | "Box", Some(inner)) => is_plain(inner),
                (name, None) => path.path.segments.len() == 1 && SCALARS.contains(&name),
                _ => false,
            }
        }
        _ => false,
    }
}

/// The type in its usual format: `Option<Vec<u8>>`, not `Option < Vec < u8 > >`.
pub(crate) fn type_text(ty: &Type) -> String {
    let tokens = ty.to_token_stream().to_string();
    let mut text = String::with_capacity(tokens.len());
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for word in tokens.split_whitespace() {
        let spaced = text.ends_with([',', ';', '+', '='])
            || text.ends_with("->")
            || word.starts_with(['+', '='])
            || word == "->"
            || (text.ends_with(is_word) && word.starts_with(is_word));
        if spaced && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_the_host_knows_by_name_are_plain() {
        for text in ["i64", "&str", "Option<&[u8]>", "Vec<Vec<String>>", "std::vec::Vec<Box<f64>>", "()"] {
            assert!(syn::parse_str(text).is_ok_and(|ty: Type| is_plain(&ty)), "{text}");
        }
        for text in ["Order", "Vec<Order>", "(u8, u8)", "[u8; 3]", "BTreeMap<String, u8>", "my::String"] {
            assert!(syn::parse_str(text).is_ok_and(|ty: Type| !is_plain(&ty)), "{text}");
        }
    }

    #[test]
    fn types_have_their_usual_format() {
        for text in [
            "Option<HashMap<String, Vec<(u8, [i64; 3])>>>",
            "Box<dyn Fn(u8) -> u8 + Send>",
            "&'a mut str",
            "<T as Iterator>::Item",
        ] {
            let ty: syn::Result<Type> = syn::parse_str(text);
            assert_eq!(ty.map(|ty| type_text(&ty)).ok().as_deref(), Some(text));
        }
    }
}
