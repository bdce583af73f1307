//! Checks what a task takes and needs: the limits of one attempt, and the names of grants.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, Lit};

use crate::parse::Setting;
use crate::task::{Limits, Settings};
use crate::value::{literal, parse_duration, wrong_value};

/// The keys of limits and needs.
pub(crate) const KEYS: [&str; 10] = [
    "needs",
    "max_memory",
    "max_cpu_time",
    "max_host_time",
    "max_output",
    "max_log",
    "max_result",
    "max_connections",
    "max_received",
    "max_sent",
];
/// What a need starts with.
const KINDS: [&str; 5] = ["env", "secret", "dir", "http", "tcp"];
/// Maximum number of needs, as in the host.
const NEEDS_MAX: usize = 100;
const UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Checks one setting and adds it to the settings.
pub(crate) fn set(settings: &mut Settings, setting: &Setting) -> syn::Result<()> {
    let limits = &mut settings.limits;
    match setting.key.to_string().as_str() {
        "needs" => settings.needs = parse_needs(setting)?,
        "max_memory" => limits.memory = Some(parse_size(setting)?),
        "max_cpu_time" => limits.cpu_time = Some(parse_time(setting)?),
        "max_host_time" => limits.host_time = Some(parse_time(setting)?),
        "max_output" => limits.output = Some(parse_size(setting)?),
        "max_log" => limits.log = Some(parse_size(setting)?),
        "max_result" => limits.result = Some(parse_size(setting)?),
        "max_connections" => limits.connections = Some(parse_connections(setting)?),
        "max_received" => limits.received = Some(parse_size(setting)?),
        _ => limits.sent = Some(parse_size(setting)?),
    }
    Ok(())
}

/// Parses bytes, or text such as "64 MiB".
fn parse_size(setting: &Setting) -> syn::Result<u64> {
    let bytes = match literal(setting) {
        Some(Lit::Int(number)) => number.base10_parse().ok(),
        Some(Lit::Str(text)) => {
            let invalid = || {
                let message = "is not a size; write a number with a unit (B, KiB, MiB, GiB, TiB), such as \"64 MiB\"";
                syn::Error::new(text.span(), format!("\"{}\" {message}", text.value()))
            };
            Some(parse_bytes(&text.value()).ok_or_else(invalid)?)
        }
        _ => None,
    };
    let bytes = bytes.ok_or_else(|| wrong_value(setting, "a size", "\"64 MiB\""))?;
    above_zero(setting, bytes)
}

/// Parses `64 MiB`, `1.5GiB` or `500 B` into bytes.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*factor);
    }
    // A fraction of a byte is dropped.
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let bytes = number.parse::<f64>().ok()? * *factor as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and below 2^53")]
    (bytes < 9e15).then_some(bytes as u64)
}

fn parse_time(setting: &Setting) -> syn::Result<f64> {
    let seconds = parse_duration(setting)?;
    if seconds > 0.0 { Ok(seconds) } else { Err(zero(setting)) }
}

fn parse_connections(setting: &Setting) -> syn::Result<u64> {
    let parsed = match literal(setting) {
        Some(Lit::Int(number)) => number.base10_parse::<u32>().ok().filter(|count| *count > 0),
        _ => None,
    };
    parsed.map(u64::from).ok_or_else(|| wrong_value(setting, "a whole number from 1 to 4294967295", "4"))
}

fn above_zero(setting: &Setting, value: u64) -> syn::Result<u64> {
    if value > 0 { Ok(value) } else { Err(zero(setting)) }
}

fn zero(setting: &Setting) -> syn::Error {
    let span = setting.value.as_ref().map_or_else(|| setting.key.span(), Spanned::span);
    syn::Error::new(span, "a limit must be more than zero; without this key, the limit is that of the operator")
}

fn parse_needs(setting: &Setting) -> syn::Result<Vec<String>> {
    let Some(Expr::Array(names)) = &setting.value else {
        return Err(wrong_value(setting, "a list of grants", "[\"http:api.example.com\", \"secret:KEY\"]"));
    };
    if names.elems.len() > NEEDS_MAX {
        return Err(syn::Error::new(names.span(), format!("a task has at most {NEEDS_MAX} needs")));
    }
    let mut needs = Vec::new();
    let mut errors: Option<syn::Error> = None;
    for element in &names.elems {
        match parse_need(element) {
            Ok(need) => needs.push(need),
            Err(error) => match &mut errors {
                Some(errors) => errors.combine(error),
                None => errors = Some(error),
            },
        }
    }
    errors.map_or(Ok(needs), Err)
}

/// The host checks the rest of the name.
fn parse_need(element: &Expr) -> syn::Result<String> {
    let invalid = |span: Span, text: &str| {
        let message = format!(
            "{text} names no grant; write it like \"env:NAME\", \"secret:NAME\", \"dir:/data:ro\", \
             \"http:api.example.com\" or \"tcp:db:5432\""
        );
        syn::Error::new(span, message)
    };
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = element else {
        return Err(invalid(element.span(), "this"));
    };
    let need = text.value();
    let is_need = need.split_once(':').is_some_and(|(kind, name)| KINDS.contains(&kind) && !name.is_empty());
    if is_need && !need.chars().any(char::is_control) {
        return Ok(need);
    }
    Err(invalid(text.span(), &format!("{need:?}")))
}

/// The keys of the descriptor's `policy` for limits and needs.
pub(crate) fn json(settings: &Settings, number: impl Fn(f64) -> String) -> Vec<(&'static str, Option<String>)> {
    let Limits { cpu_time, host_time, .. } = settings.limits;
    let limits = &settings.limits;
    let whole = |value: Option<u64>| value.map(|value| value.to_string());
    let quoted = |text: &String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let needs = || format!("[{}]", settings.needs.iter().map(quoted).collect::<Vec<_>>().join(","));
    vec![
        ("needs", (!settings.needs.is_empty()).then(needs)),
        ("max_memory", whole(limits.memory)),
        ("max_cpu_time", cpu_time.map(&number)),
        ("max_host_time", host_time.map(&number)),
        ("max_output", whole(limits.output)),
        ("max_log", whole(limits.log)),
        ("max_result", whole(limits.result)),
        ("max_connections", whole(limits.connections)),
        ("max_received", whole(limits.received)),
        ("max_sent", whole(limits.sent)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::{assert_error, errors};

    #[test]
    fn limits_and_needs_are_checked() {
        let f = "fn f() {}";
        for sound in [
            r#"max_memory = "64MiB", max_output = "1.5 KiB", max_log = 1, max_result = "2 GiB", max_connections = 4"#,
            r#"max_cpu_time = "500ms", max_host_time = "1m 30s", max_received = "1 TiB", max_sent = 1_000"#,
            r#"needs = ["env:A", "secret:B", "dir:/data:ro", "http:api.example.com:8080/v1", "tcp:[::1]:5432", "dir:/a b"]"#,
        ] {
            assert_eq!(errors(sound, f), [], "{sound}");
        }
        assert_error("max_memory = \"64MB\"", f, "\"64MB\"", "with a unit (B, KiB, MiB");
        assert_error("max_memory = \"64\"", f, "\"64\"", "such as \"64 MiB\"");
        assert_error("max_log = 2.5", f, "2.5", "`max_log = \"64 MiB\"`");
        assert_error("max_sent = -1", f, "-1", "`max_sent` takes a size");
        assert_error("max_result = 0", f, "0", "more than zero");
        assert_error("max_cpu_time = 5", f, "5", "`max_cpu_time = \"30s\"`");
        assert_error("max_host_time = \"0s\"", f, "\"0s\"", "more than zero");
        assert_error("max_connections = \"4\"", f, "\"4\"", "`max_connections = 4`");
        assert_error("max_connections = 0", f, "0", "a whole number from 1");
        assert_error("max_conections = 4", f, "max_conections", "did you mean `max_connections`?");
        assert_error("needs = \"env:A\"", f, "\"env:A\"", "`needs` takes a list of grants");
        assert_error("needs = [\"disk\"]", f, "\"disk\"", "\"disk\" names no grant");
        assert_error("needs = [\"env:\"]", f, "\"env:\"", "names no grant");
        assert_error("needs = [KEY]", f, "KEY", "this names no grant");
        assert_eq!(errors("needs = [\"a\", 1]", f).len(), 2);
    }

    #[test]
    fn sizes_are_read_exactly() {
        let read = ["500B", "64 MiB", "1.5KiB", "16777215 TiB", "0.1 KiB"].map(parse_bytes);
        assert_eq!(read, [Some(500), Some(64 << 20), Some(1536), Some(16_777_215 << 40), Some(102)]);
        for wrong in ["", "MiB", "1", "1 mib", "-1 MiB", "1.2.3 MiB", "16777216 TiB", "1 MiB 2 KiB", "9000000000.5 TiB"]
        {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }
}
