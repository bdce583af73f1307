//! From syntax to a task that can run, or to every reason why it cannot, each on its own token.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{
    Attribute, Expr, ExprLit, FnArg, GenericArgument, GenericParam, Ident, ItemFn, Lit, Meta, Pat, PatType,
    PathArguments, ReturnType, Signature, Type,
};

use crate::mistakes::Mistakes;
use crate::parse::{Parsed, Setting};
use crate::schedule::{self, Schedule};

/// A task as `expand` writes it: everything here is known to be sound.
pub(crate) struct Task {
    /// The function to call.
    pub(crate) function: Ident,
    pub(crate) is_async: bool,
    pub(crate) name: String,
    pub(crate) documentation: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) result: Returns,
    pub(crate) policy: Policy,
    pub(crate) schedule: Schedule,
    /// The `#[cfg(…)]` of the function, which hold for its registration too.
    pub(crate) conditions: Vec<Attribute>,
}

/// One parameter of the function.
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// The type as written, for people.
    pub(crate) type_text: String,
    /// The type that is read from JSON.
    pub(crate) owned: Type,
    /// An `Option`, which is `None` when the argument is missing.
    pub(crate) optional: bool,
    pub(crate) pass: Pass,
    /// The type whose schema is told, unless the host knows it by its text.
    pub(crate) described: Option<Type>,
}

/// How the value read from JSON becomes what the function takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// `T` from `T`.
    Owned,
    /// `&T` from `T`, `&str` from `String`, `&[T]` from `Vec<T>`.
    Borrowed,
    /// `Option<&T>` from `Option<T>`.
    OptionRef,
    /// `Option<&str>` from `Option<String>`, `Option<&[T]>` from `Option<Vec<T>>`.
    OptionDeref,
}

/// What the function returns.
pub(crate) struct Returns {
    /// The type of a success as written, for people.
    pub(crate) type_text: String,
    pub(crate) fallible: bool,
    /// The type whose schema is told, unless the host knows it by its text.
    pub(crate) described: Option<Type>,
    /// Where mistakes in the type are shown.
    pub(crate) span: proc_macro2::Span,
}

/// The task's defaults. Durations are in seconds.
#[derive(Default)]
pub(crate) struct Policy {
    pub(crate) priority: Option<String>,
    pub(crate) timeout: Option<f64>,
    pub(crate) max_retries: Option<u32>,
    pub(crate) retry_delay: Option<f64>,
    pub(crate) retry_backoff: Option<f64>,
    pub(crate) retry_backoff_max: Option<f64>,
}

const KEYS: [&str; 13] = [
    "name",
    "priority",
    "timeout",
    "max_retries",
    "retry_delay",
    "retry_backoff",
    "retry_backoff_max",
    "every",
    "cron",
    "tz",
    "overlap",
    "count",
    "until",
];
const PRIORITIES: [&str; 4] = ["critical", "high", "normal", "low"];
const NAME_BYTES_MAX: usize = 128;

/// Checks all of it and reports all mistakes.
pub(crate) fn check(parsed: Parsed) -> syn::Result<(ItemFn, Task)> {
    let Parsed { settings, function, mut mistakes } = parsed;
    let (name, policy, schedule) = check_settings(&settings, &mut mistakes);
    let task = function.map(|function| {
        let task = check_function(&function, name, policy, schedule, &mut mistakes);
        for mistake in schedule::check(&settings, &task.parameters) {
            mistakes.push(mistake);
        }
        (function, task)
    });
    mistakes.finish(task)
}

fn check_function(
    function: &ItemFn,
    name: Option<String>,
    policy: Policy,
    schedule: Schedule,
    mistakes: &mut Mistakes,
) -> Task {
    let signature = &function.sig;
    check_signature(signature, mistakes);
    let parameters = signature.inputs.iter().filter_map(|input| mistakes.keep(check_parameter(input))).collect();
    let name = name.unwrap_or_else(|| plain_name(&signature.ident));
    if name.len() > NAME_BYTES_MAX {
        mistakes.add(&signature.ident, too_long(&name));
    }
    Task {
        function: signature.ident.clone(),
        is_async: signature.asyncness.is_some(),
        name,
        documentation: documentation(&function.attrs),
        parameters,
        result: returns(signature),
        policy,
        schedule,
        conditions: function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned().collect(),
    }
}

fn too_long(name: &str) -> String {
    format!("a task name has 1 to {NAME_BYTES_MAX} bytes, this one {}", name.len())
}

fn check_settings(settings: &[Setting], mistakes: &mut Mistakes) -> (Option<String>, Policy, Schedule) {
    let mut name = None;
    let mut policy = Policy::default();
    let mut schedule = Schedule::default();
    let mut seen: Vec<&Ident> = Vec::new();
    for setting in settings {
        if seen.contains(&&setting.key) {
            mistakes.add(&setting.key, format!("`{}` is given twice", setting.key));
            continue;
        }
        seen.push(&setting.key);
        let checked = match setting.key.to_string().as_str() {
            "name" => task_name(setting).map(|it| name = Some(it)),
            "priority" => priority(setting).map(|it| policy.priority = Some(it)),
            "timeout" => timeout(setting).map(|it| policy.timeout = Some(it)),
            "max_retries" => count(setting).map(|it| policy.max_retries = Some(it)),
            "retry_delay" => duration(setting).map(|it| policy.retry_delay = Some(it)),
            "retry_backoff" => factor(setting).map(|it| policy.retry_backoff = Some(it)),
            "retry_backoff_max" => duration(setting).map(|it| policy.retry_backoff_max = Some(it)),
            of_schedule if schedule::KEYS.contains(&of_schedule) => schedule.take(setting),
            unknown => Err(unknown_key(&setting.key, unknown)),
        };
        mistakes.keep(checked);
    }
    (name, policy, schedule)
}

fn unknown_key(key: &Ident, text: &str) -> syn::Error {
    let nearest = KEYS
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(known, text), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3 + 1);
    let message = match nearest {
        Some((_, known)) => format!("unknown key `{text}`; did you mean `{known}`?"),
        None => format!("unknown key `{text}`; the keys are {}", listed(&KEYS)),
    };
    syn::Error::new(key.span(), message)
}

fn task_name(setting: &Setting) -> syn::Result<String> {
    let (text, at) = text(setting, "\"reports.weekly\"")?;
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(syn::Error::new(at, too_long(&text)));
    }
    if text.chars().any(char::is_control) {
        return Err(syn::Error::new(at, "a task name has no control characters"));
    }
    Ok(text)
}

fn priority(setting: &Setting) -> syn::Result<String> {
    let (text, at) = text(setting, "\"high\"")?;
    if PRIORITIES.contains(&text.as_str()) {
        Ok(text)
    } else {
        let message = format!("unknown priority \"{text}\"; the priorities are {}", listed(&PRIORITIES));
        Err(syn::Error::new(at, message))
    }
}

fn timeout(setting: &Setting) -> syn::Result<f64> {
    let seconds = duration(setting)?;
    if seconds > 0.0 {
        Ok(seconds)
    } else {
        let message = "a timeout of zero would stop the task before it starts";
        Err(syn::Error::new(setting.value.span(), message))
    }
}

pub(crate) fn count(setting: &Setting) -> syn::Result<u32> {
    match literal(setting) {
        Some(Lit::Int(number)) => number.base10_parse().map_err(|_| wrong_value(setting, "a count", "3")),
        _ => Err(wrong_value(setting, "a count", "3")),
    }
}

fn factor(setting: &Setting) -> syn::Result<f64> {
    let parsed = match literal(setting) {
        Some(Lit::Int(number)) => number.base10_parse::<f64>().ok(),
        Some(Lit::Float(number)) => number.base10_parse::<f64>().ok(),
        _ => None,
    };
    parsed
        .filter(|factor| *factor >= 1.0 && factor.is_finite())
        .ok_or_else(|| wrong_value(setting, "a factor of at least 1", "2.0"))
}

pub(crate) fn duration(setting: &Setting) -> syn::Result<f64> {
    let (text, at) = text(setting, "\"30s\"")?;
    seconds(&text).ok_or_else(|| {
        let message = format!(
            "\"{text}\" is not a duration; write numbers with a unit (ms, s, m, h, d), such as \
             \"500ms\", \"30s\" or \"1h 30m\""
        );
        syn::Error::new(at, message)
    })
}

/// Reads `1h 30m`, `500ms`, `1.5s`, in seconds.
fn seconds(text: &str) -> Option<f64> {
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

pub(crate) fn text(setting: &Setting, example: &str) -> syn::Result<(String, proc_macro2::Span)> {
    match literal(setting) {
        Some(Lit::Str(text)) => Ok((text.value(), text.span())),
        _ => Err(wrong_value(setting, "a text", example)),
    }
}

fn literal(setting: &Setting) -> Option<&Lit> {
    match &setting.value {
        Some(Expr::Lit(ExprLit { lit, .. })) => Some(lit),
        _ => None,
    }
}

fn wrong_value(setting: &Setting, wanted: &str, example: &str) -> syn::Error {
    let key = &setting.key;
    let message = format!("`{key}` takes {wanted}, as in `{key} = {example}`");
    match &setting.value {
        Some(value) => syn::Error::new_spanned(value, message),
        None => syn::Error::new(key.span(), message),
    }
}

fn check_signature(signature: &Signature, mistakes: &mut Mistakes) {
    let generics = &signature.generics.params;
    if generics.iter().all(|generic| matches!(generic, GenericParam::Lifetime(_))) && !generics.is_empty() {
        mistakes.add(generics, "a task's arguments live as long as its call: leave the lifetime out");
    } else if !generics.is_empty() {
        mistakes.add(generics, "a task cannot be generic: its arguments come as JSON, so their types must be known");
    }
    if let Some(clause) = &signature.generics.where_clause {
        mistakes.add(clause, "a task cannot be generic: remove the where clause");
    }
    if let Some(token) = &signature.unsafety {
        mistakes.add(token, "a task cannot be unsafe: anyone may call it");
    }
    if let Some(abi) = &signature.abi {
        mistakes.add(abi, "a task is a plain Rust function: remove the ABI");
    }
    if let Some(dots) = &signature.variadic {
        mistakes.add(dots, "a task takes a fixed list of parameters");
    }
}

fn check_parameter(input: &FnArg) -> syn::Result<Parameter> {
    let parameter = match input {
        FnArg::Typed(parameter) => parameter,
        FnArg::Receiver(receiver) => {
            let message = "a task is a free function: it has no `self`";
            return Err(syn::Error::new_spanned(receiver, message));
        }
    };
    if let Some(attribute) = parameter.attrs.first() {
        let message = "a task's parameters take no attributes";
        return Err(syn::Error::new_spanned(attribute, message));
    }
    let name = parameter_name(parameter)?;
    let (owned, pass) = owned_type(&parameter.ty)?;
    if has_reference(owned.to_token_stream()) {
        let message = "JSON texts with escapes cannot be borrowed: use `String` for a `&str` \
                       inside of another type";
        return Err(syn::Error::new_spanned(&parameter.ty, message));
    }
    let described = Some(owned.clone()).filter(|_| !is_plain(&parameter.ty));
    let optional = option_of(&owned).is_some();
    Ok(Parameter { name, type_text: type_text(&parameter.ty), optional, owned, pass, described })
}

fn parameter_name(parameter: &PatType) -> syn::Result<String> {
    match &*parameter.pat {
        Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => Ok(plain_name(&name.ident)),
        other => {
            let message = "a task's parameter needs a name, since clients may pass it by name: \
                           write `name: Type` and take it apart inside";
            Err(syn::Error::new_spanned(other, message))
        }
    }
}

/// The type to read from JSON for a parameter of type `ty`, and how to pass it on.
fn owned_type(ty: &Type) -> syn::Result<(Type, Pass)> {
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
                let message = "a task cannot change its caller's values: take the value itself";
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

/// What owns a `T` behind a reference, and whether `T` itself has no size.
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

fn has_reference(tokens: TokenStream) -> bool {
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

fn returns(signature: &Signature) -> Returns {
    let ReturnType::Type(_, ty) = &signature.output else {
        return Returns { type_text: "()".to_owned(), fallible: false, described: None, span: signature.ident.span() };
    };
    let result = match &**ty {
        Type::Path(path) => path.path.segments.last().filter(|last| last.ident == "Result"),
        _ => None,
    };
    let success = result.and_then(|last| first_argument(&last.arguments));
    let success = success.unwrap_or(ty);
    // One that has no name cannot be asked for its schema.
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

/// Whether the host knows from the text of a type which JSON it is read from.
fn is_plain(ty: &Type) -> bool {
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

/// The doc comment as text: without the one space that follows `///`.
fn documentation(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes {
        if let Meta::NameValue(meta) = &attribute.meta
            && meta.path.is_ident("doc")
            && let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &meta.value
        {
            let text = text.value();
            lines.extend(text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned()));
            if text.is_empty() {
                lines.push(String::new());
            }
        }
    }
    lines.join("\n").trim().to_owned()
}

/// The type as people write it: `Option<Vec<u8>>`, not `Option < Vec < u8 > >`.
fn type_text(ty: &Type) -> String {
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

/// `type` for `r#type`.
fn plain_name(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

fn listed(words: &[&str]) -> String {
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    /// Each mistake as the token it is shown on and its message.
    fn mistakes(attribute: &str, item: &str) -> Vec<(String, String)> {
        let attribute = attribute.parse().expect("the test's attribute has tokens");
        let item = item.parse().expect("the test's item has tokens");
        match check(parse(attribute, item)) {
            Ok(_) => Vec::new(),
            Err(error) => {
                error.into_iter().map(|it| (it.span().source_text().unwrap_or_default(), it.to_string())).collect()
            }
        }
    }

    fn checked(attribute: &str, item: &str) -> syn::Result<Task> {
        check(parse(attribute.parse()?, item.parse()?)).map(|(_, task)| task)
    }

    /// Asserts that there is one mistake, on that token, with a message that has these words.
    #[track_caller]
    fn assert_mistake(attribute: &str, item: &str, token: &str, words: &str) {
        let found = mistakes(attribute, item);
        let [(on, message)] = found.as_slice() else {
            panic!("not one mistake: {found:?}");
        };
        assert_eq!(on, token, "{message}");
        assert!(message.contains(words), "{message}");
    }

    #[test]
    fn a_sound_task_has_no_mistakes() {
        let attribute = r#"name = "sum.up", max_retries = 3, retry_delay = "5s", retry_backoff = 2,
            retry_backoff_max = "1h 30m", timeout = "500ms", priority = "high""#;
        let task = checked(attribute, "async fn add(x: &str, mut y: Option<&[u8]>) -> Result<Vec<u8>> {}");
        let Ok(task) = task else { panic!("mistakes") };
        assert_eq!(task.name, "sum.up");
        assert_eq!(task.policy.timeout, Some(0.5));
        assert_eq!(task.policy.retry_backoff, Some(2.0));
        assert_eq!(task.policy.retry_backoff_max, Some(5400.0));
        assert!(task.is_async);
        assert!(task.result.fallible);
        assert_eq!(task.result.type_text, "Vec<u8>");
        let [x, y] = task.parameters.as_slice() else { panic!("two parameters") };
        assert_eq!((x.type_text.as_str(), x.optional), ("&str", false));
        assert_eq!((y.type_text.as_str(), y.optional), ("Option<&[u8]>", true));
        assert!(x.described.is_none() && y.described.is_none() && task.result.described.is_none());
    }

    #[test]
    fn every_mistake_is_reported_on_its_own_token() {
        let found = mistakes(
            r#"timeout = "soon", max_retries = "3", max_retires = 3"#,
            "unsafe fn f<T>(&self, (a, b): (T, T), c: &mut u8) {}",
        );
        let tokens: Vec<_> = found.iter().map(|(token, _)| token.as_str()).collect();
        let expected = ["\"soon\"", "\"3\"", "max_retires", "T", "unsafe", "&self", "(a, b)", "&mut u8"];
        assert_eq!(tokens, expected, "{found:#?}");
    }

    #[test]
    fn an_unknown_key_names_the_nearest_or_all() {
        let f = "fn f() {}";
        assert_mistake("max_retry = 3", f, "max_retry", "did you mean `max_retries`?");
        assert_mistake("colour = 3", f, "colour", "the keys are name, priority, timeout");
        assert_mistake("name = \"a\", name = \"b\"", f, "name", "given twice");
    }

    #[test]
    fn a_wrong_value_shows_a_right_one() {
        let f = "fn f() {}";
        assert_mistake("timeout", f, "timeout", "`timeout = \"30s\"`");
        assert_mistake("timeout = 30", f, "30", "`timeout = \"30s\"`");
        assert_mistake("timeout = \"30\"", f, "\"30\"", "with a unit");
        assert_mistake("timeout = \"30 parsecs\"", f, "\"30 parsecs\"", "with a unit");
        assert_mistake("timeout = \"0s\"", f, "\"0s\"", "before it starts");
        assert_mistake("max_retries = -1", f, "-1", "`max_retries = 3`");
        assert_mistake("retry_backoff = 0.5", f, "0.5", "at least 1");
        assert_mistake("priority = \"urgent\"", f, "\"urgent\"", "critical, high, normal, low");
        assert_mistake("name = \"\"", f, "\"\"", "1 to 128 bytes");
        assert_mistake("name = \"a\\nb\"", f, "\"a\\nb\"", "control characters");
    }

    #[test]
    fn a_schedule_is_checked_as_far_as_its_shape_goes() {
        let f = "fn f(x: Option<u8>) {}";
        for sound in [
            r#"every = "10s""#,
            r#"every = "1h 30m", count = 3, until = "2026-12-31T18:00:00+01:00", overlap = "queue""#,
            r#"cron = "0 9 * * 1-5", tz = "Europe/Paris""#,
            r#"cron = "*/20 0-59/5 1,12 L JAN-MAR FRI#2", tz = "Etc/GMT+5""#,
            r#"cron = "@daily", until = "2026-12-31T18:00:00.5Z""#,
        ] {
            assert_eq!(mistakes(sound, f), [], "{sound}");
        }
        assert_mistake("every = 10", f, "10", "`every = \"30s\"`");
        assert_mistake("every = \"50ms\"", f, "\"50ms\"", "at least \"100ms\"");
        assert_mistake("cron = \"0 9 * *\"", f, "\"0 9 * *\"", "this one has 4");
        assert_mistake(
            "cron = \"0 24 * * *\"",
            f,
            "\"0 24 * * *\"",
            "the hour \"24\" is out of range: 24 is more than 23",
        );
        assert_mistake("cron = \"0 0 * * 1-8\"", f, "\"0 0 * * 1-8\"", "8 is more than 7");
        assert_mistake("cron = \"0 0 * * !\"", f, "\"0 0 * * !\"", "'!' has no meaning");
        assert_mistake("cron = \"@noon\"", f, "\"@noon\"", "@hourly");
        assert_mistake("cron = \"@daily\", tz = \"10\"", f, "\"10\"", "no time zone");
        assert_mistake("cron = \"@daily\", every = \"1s\"", f, "cron", "exclude each other");
        assert_mistake("every = \"1s\", tz = \"UTC\"", f, "tz", "`tz` is for `cron`");
        assert_mistake("count = 3", f, "count", "needs `every` or `cron`");
        assert_mistake("every = \"1s\", count = 0", f, "0", "never submit");
        assert_mistake("every = \"1s\", until = \"tomorrow\"", f, "\"tomorrow\"", "no point in time");
        assert_mistake("every = \"1s\", overlap = \"both\"", f, "\"both\"", "skip or queue");
        assert_mistake("every = \"1s\"", "fn f(x: u8) {}", "every", "make `x` an `Option`");
        assert_mistake("evry = \"1s\"", f, "evry", "did you mean `every`?");
    }

    #[test]
    fn what_cannot_be_called_with_json_is_refused() {
        assert_mistake("", "struct S;", "struct", "goes on a function");
        assert_mistake("", "fn f<T>(x: T) {}", "T", "cannot be generic");
        assert_mistake("", "fn f(x: impl Copy) {}", "impl Copy", "cannot be generic");
        assert_mistake("", "fn f(self) {}", "self", "no `self`");
        assert_mistake("", "fn f(_: u8) {}", "_", "needs a name");
        assert_mistake("", "extern \"C\" fn f() {}", "extern \"C\"", "remove the ABI");
        assert_mistake("", "fn f(x: &'static str) {}", "&'static str", "remove `'static`");
        assert_mistake("", "fn f(x: Vec<&str>) {}", "Vec<&str>", "use `String`");
        assert_mistake("", "fn f(x: &[&str]) {}", "&[&str]", "use `String`");
        assert_mistake("", "fn f(#[cfg(a)] x: u8) {}", "#[cfg(a)]", "no attributes");
    }

    #[test]
    fn what_cannot_be_read_does_not_hide_the_rest() {
        let found = mistakes(r#"max_retries = , "high", timeout("3s"), priority = "a" "b", colour = 1"#, "enum E {}");
        let tokens: Vec<_> = found.iter().map(|(token, _)| token.as_str()).collect();
        let expected = ["\"high\"", "(", "\"b\"", "enum", "max_retries", "colour"];
        assert_eq!(tokens, expected, "{found:#?}");
        let long = "f".repeat(129);
        assert_mistake("", &format!("fn {long}() {{}}"), &long, "1 to 128 bytes");
    }

    #[test]
    fn types_that_the_host_knows_by_their_text_are_told_by_it_alone() {
        for text in ["i64", "&str", "Option<&[u8]>", "Vec<Vec<String>>", "std::vec::Vec<Box<f64>>", "()"] {
            assert!(syn::parse_str(text).is_ok_and(|ty: Type| is_plain(&ty)), "{text}");
        }
        for text in ["Order", "Vec<Order>", "(u8, u8)", "[u8; 3]", "BTreeMap<String, u8>", "my::String"] {
            assert!(syn::parse_str(text).is_ok_and(|ty: Type| !is_plain(&ty)), "{text}");
        }
    }

    #[test]
    fn types_read_as_people_write_them() {
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

    #[test]
    fn the_doc_comment_keeps_its_lines_and_loses_its_margin() {
        let item = "/// Adds.\n///\n/// - one\n///   two\nfn f() {}";
        let documentation = checked("", item).map(|task| task.documentation);
        assert_eq!(documentation.ok().as_deref(), Some("Adds.\n\n- one\n  two"));
    }
}
