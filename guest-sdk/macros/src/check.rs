//! Turns the parsed attribute and function into a task, or into all mistakes, each on its own token.

use quote::ToTokens;
use syn::{Attribute, Expr, ExprLit, FnArg, GenericParam, Ident, ItemFn, Lit, Meta, Pat, PatType, Signature};

use crate::mistakes::Mistakes;
use crate::parse::Parsed;
use crate::schedule;
use crate::settings::{NAME_BYTES_MAX, check_settings, too_long};
use crate::task::{Parameter, Policy, Schedule, Task};
use crate::types::{has_reference, is_plain, option_of, owned_type, returns, type_text};

/// Checks everything and reports all mistakes.
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

/// `type` for `r#type`.
fn plain_name(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::parse::parse;

    /// Each mistake as the token it is shown on and its message.
    pub(crate) fn mistakes(attribute: &str, item: &str) -> Vec<(String, String)> {
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
    pub(crate) fn assert_mistake(attribute: &str, item: &str, token: &str, words: &str) {
        let found = mistakes(attribute, item);
        let [(on, message)] = found.as_slice() else {
            panic!("not one mistake: {found:?}");
        };
        assert_eq!(on, token, "{message}");
        assert!(message.contains(words), "{message}");
    }

    #[test]
    fn a_valid_task_has_no_mistakes() {
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
    fn functions_that_cannot_be_called_with_json_are_refused() {
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
    fn a_syntax_error_does_not_hide_other_mistakes() {
        let found = mistakes(r#"max_retries = , "high", timeout("3s"), priority = "a" "b", colour = 1"#, "enum E {}");
        let tokens: Vec<_> = found.iter().map(|(token, _)| token.as_str()).collect();
        let expected = ["\"high\"", "(", "\"b\"", "enum", "max_retries", "colour"];
        assert_eq!(tokens, expected, "{found:#?}");
        let long = "f".repeat(129);
        assert_mistake("", &format!("fn {long}() {{}}"), &long, "1 to 128 bytes");
    }

    #[test]
    fn the_doc_comment_keeps_its_lines_without_the_indentation() {
        let item = "/// Adds.\n///\n/// - one\n///   two\nfn f() {}";
        let documentation = checked("", item).map(|task| task.documentation);
        assert_eq!(documentation.ok().as_deref(), Some("Adds.\n\n- one\n  two"));
    }
}
