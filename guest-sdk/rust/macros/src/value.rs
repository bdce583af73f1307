//! Parses the values of settings.

use syn::{Expr, ExprLit, Lit};

use crate::parse::Setting;

pub(crate) fn parse_count(setting: &Setting) -> syn::Result<u32> {
    let parsed = match literal(setting) {
        Some(Lit::Int(number)) => number.base10_parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| wrong_value(setting, "a whole number from 0 to 4294967295", "3"))
}

pub(crate) fn parse_duration(setting: &Setting) -> syn::Result<f64> {
    let (text, at) = parse_string(setting, "\"30s\"")?;
    parse_seconds(&text).ok_or_else(|| {
        let message = format!(
            "\"{text}\" is not a duration; write numbers with a unit (ms, s, m, h, d), such as \
             \"500ms\", \"30s\" or \"1h 30m\""
        );
        syn::Error::new(at, message)
    })
}

/// Parses `1h 30m`, `500ms` or `1.5s` into seconds.
fn parse_seconds(text: &str) -> Option<f64> {
    let mut total = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(unit_at);
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let number: f64 = number.parse().ok()?;
        total += match unit {
            "ms" => number / 1000.0,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            "d" => number * 86400.0,
            _ => return None,
        };
        rest = after.trim_start();
    }
    total.is_finite().then_some(total)
}

pub(crate) fn parse_string(setting: &Setting, example: &str) -> syn::Result<(String, proc_macro2::Span)> {
    match literal(setting) {
        Some(Lit::Str(string)) => Ok((string.value(), string.span())),
        _ => Err(wrong_value(setting, "a string", example)),
    }
}

pub(crate) fn literal(setting: &Setting) -> Option<&Lit> {
    match &setting.value {
        Some(Expr::Lit(ExprLit { lit, .. })) => Some(lit),
        _ => None,
    }
}

pub(crate) fn wrong_value(setting: &Setting, expected: &str, example: &str) -> syn::Error {
    let key = &setting.key;
    let message = format!("`{key}` takes {expected}, as in `{key} = {example}`");
    match &setting.value {
        Some(value) => syn::Error::new_spanned(value, message),
        None => syn::Error::new(key.span(), message),
    }
}
