//! From tokens to syntax, without judging it: what the attribute says and the function it is on.

use proc_macro2::TokenStream;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Expr, Ident, Item, ItemFn, Token};

/// One `#[task(…)]` and the function below it.
pub(crate) struct Parsed {
    pub(crate) settings: Vec<Setting>,
    pub(crate) function: ItemFn,
}

/// One `key = value` of the attribute.
pub(crate) struct Setting {
    pub(crate) key: Ident,
    /// Missing in `#[task(key)]`, which `check` explains better than a parser could.
    pub(crate) value: Option<Expr>,
}

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let key = input.parse()?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Self { key, value })
    }
}

/// Reads the attribute's settings and the function.
pub(crate) fn parse(attribute: TokenStream, item: TokenStream) -> syn::Result<Parsed> {
    let settings = Punctuated::<Setting, Token![,]>::parse_terminated.parse2(attribute);
    let function = match syn::parse2(item)? {
        Item::Fn(function) => Ok(function),
        other => Err(syn::Error::new_spanned(
            first_token(&other),
            "#[task] goes on a function, such as `fn add(x: i64, y: i64) -> i64`",
        )),
    };
    match (settings, function) {
        (Ok(settings), Ok(function)) => Ok(Parsed { settings: settings.into_iter().collect(), function }),
        (Err(mut first), Err(second)) => {
            first.combine(second);
            Err(first)
        }
        (Err(mistake), _) | (_, Err(mistake)) => Err(mistake),
    }
}

fn first_token(item: &Item) -> Option<proc_macro2::TokenTree> {
    quote::ToTokens::to_token_stream(item).into_iter().next()
}
