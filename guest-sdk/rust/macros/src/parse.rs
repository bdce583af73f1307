//! Parses the attribute and the function, without checking their meaning.
//!
//! A syntax error does not stop the parsing of the rest, so that all errors are reported together.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Ident, Item, ItemFn, Token};

use crate::errors::Errors;

/// One `#[task(…)]` and the item below it.
pub(crate) struct Parsed {
    pub(crate) settings: Vec<Setting>,
    /// None if the item is not a function.
    pub(crate) function: Option<ItemFn>,
    /// Syntax errors.
    pub(crate) errors: Errors,
}

/// One `key = value` of the attribute.
pub(crate) struct Setting {
    pub(crate) key: Ident,
    /// Missing in `#[task(key)]`; `check` reports this with an example.
    pub(crate) value: Option<Expr>,
}

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let key = Ident::parse_any(input)
            .map_err(|error| syn::Error::new(error.span(), "expected a key, as in `max_retries = 3`"))?;
        if input.is_empty() {
            return Ok(Self { key, value: None });
        }
        input
            .parse::<Token![=]>()
            .map_err(|error| syn::Error::new(error.span(), format!("expected `=` and a value, as in `{key} = …`")))?;
        if input.is_empty() {
            return Ok(Self { key, value: None });
        }
        let value = Some(input.parse()?);
        if !input.is_empty() {
            return Err(input.error("settings must be separated by commas"));
        }
        Ok(Self { key, value })
    }
}

/// Parses the attribute's settings and the function.
pub(crate) fn parse(attribute: TokenStream, item: TokenStream) -> Parsed {
    let mut errors = Errors::default();
    let settings =
        between_commas(attribute).into_iter().filter_map(|tokens| errors.keep(syn::parse2(tokens))).collect();
    let function = match errors.keep(syn::parse2(item)) {
        Some(Item::Fn(function)) => Some(function),
        Some(other) => {
            let message = "#[task] requires a function, such as `fn add(x: i64, y: i64) -> i64`";
            errors.add(other.to_token_stream().into_iter().next(), message);
            None
        }
        None => None,
    };
    Parsed { settings, function, errors }
}

fn between_commas(tokens: TokenStream) -> Vec<TokenStream> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    let mut parts: Vec<TokenStream> = tokens.split(is_comma).map(|part| part.iter().cloned().collect()).collect();
    // A trailing comma is allowed.
    parts.pop_if(|last| last.is_empty());
    parts
}
