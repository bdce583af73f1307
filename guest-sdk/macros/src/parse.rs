//! Parses the attribute and the function, without checking their meaning.
//!
//! A syntax error does not stop the parsing of the rest, so that all mistakes are reported at once.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Ident, Item, ItemFn, Token};

use crate::mistakes::Mistakes;

/// One `#[task(…)]` and the item below it.
pub(crate) struct Parsed {
    pub(crate) settings: Vec<Setting>,
    /// None if the item is no function.
    pub(crate) function: Option<ItemFn>,
    /// Syntax errors.
    pub(crate) mistakes: Mistakes,
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
            .map_err(|error| syn::Error::new(error.span(), "a setting begins with its key, as in `max_retries = 3`"))?;
        if input.is_empty() {
            return Ok(Self { key, value: None });
        }
        input.parse::<Token![=]>().map_err(|error| {
            syn::Error::new(error.span(), format!("the value comes behind a `=`, as in `{key} = …`"))
        })?;
        if input.is_empty() {
            return Ok(Self { key, value: None });
        }
        let value = Some(input.parse()?);
        if !input.is_empty() {
            return Err(input.error("settings are separated by commas"));
        }
        Ok(Self { key, value })
    }
}

/// Reads the attribute's settings and the function.
pub(crate) fn parse(attribute: TokenStream, item: TokenStream) -> Parsed {
    let mut mistakes = Mistakes::default();
    let settings =
        between_commas(attribute).into_iter().filter_map(|tokens| mistakes.keep(syn::parse2(tokens))).collect();
    let function = match mistakes.keep(syn::parse2(item)) {
        Some(Item::Fn(function)) => Some(function),
        Some(other) => {
            let message = "#[task] goes on a function, such as `fn add(x: i64, y: i64) -> i64`";
            mistakes.add(other.to_token_stream().into_iter().next(), message);
            None
        }
        None => None,
    };
    Parsed { settings, function, mistakes }
}

fn between_commas(tokens: TokenStream) -> Vec<TokenStream> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    let mut parts: Vec<TokenStream> = tokens.split(is_comma).map(|part| part.iter().cloned().collect()).collect();
    // A trailing comma is allowed.
    parts.pop_if(|last| last.is_empty());
    parts
}
