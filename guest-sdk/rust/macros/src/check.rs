//! Turns the parsed attribute and function into a task, or into all errors, each on its token.

use quote::ToTokens;
use syn::{Attribute, Expr, ExprLit, FnArg, GenericParam, Ident, ItemFn, Lit, Meta, Pat, PatType, Signature};

use crate::errors::Errors;
use crate::parse::Parsed;
use crate::schedule;
use crate::settings::{NAME_BYTES_MAX, check_settings, name_length_error};
use crate::task::{Parameter, Settings, Task};
use crate::types::{has_reference, is_plain, option_of, owned_type, returns, type_text};

/// Checks everything and reports all errors.
pub(crate) fn check(parsed: Parsed) -> syn::Result<(ItemFn, Task)> {
    let Parsed { settings, function, mut errors } = parsed;
    let (name, read) = check_settings(&settings, &mut errors);
    let task = function.map(|function| {
        let task = check_function(&function, name, read, &mut errors);
        for error in schedule::check(&settings, &task.parameters) {
            errors.push(error);
        }
        (function, task)
    });
    errors.finish(task)
}

fn check_function(function: &ItemFn, name: Option<String>, settings: Settings, errors: &mut Errors) -> Task {
    let signature = &function.sig;
    check_signature(signature, errors);
    let parameters = signature.inputs.iter().filter_map(|input| errors.keep(check_parameter(input))).collect();
    let name = name.unwrap_or_else(|| plain_name(&signature.ident));
    if name.len() > NAME_BYTES_MAX {
        errors.add(&signature.ident, name_length_error(&name));
    }
    Task {
        function: signature.ident.clone(),
        is_async: signature.asyncness.is_some(),
        name,
        documentation: documentation(&function.attrs),
        parameters,
        result: returns(signature),
        settings,
        conditions: function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned().collect(),
    }
}

fn check_signature(signature: &Signature, errors: &mut Errors) {
    let generics = &signature.generics.params;
    if generics.iter().all(|generic| matches!(generic, GenericParam::Lifetime(_))) && !generics.is_empty() {
        errors.add(generics, "a task's arguments live as long as its call: remove the lifetime");
    } else if !generics.is_empty() {
        errors.add(
            generics,
            "a task cannot be generic: its arguments are parsed from JSON, so their types must be known",
        );
    }
    if let Some(clause) = &signature.generics.where_clause {
        errors.add(clause, "a task cannot be generic: remove the where clause");
    }
    if let Some(token) = &signature.unsafety {
        errors.add(token, "a task cannot be unsafe: any client may call it");
    }
    if let Some(abi) = &signature.abi {
        errors.add(abi, "a task is a plain Rust function: remove the ABI");
    }
    if let Some(dots) = &signature.variadic {
        errors.add(dots, "a task must have a fixed number of parameters");
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
        let message = "the parameters of a task cannot have attributes";
        return Err(syn::Error::new_spanned(attribute, message));
    }
    let name = parameter_name(parameter)?;
    let (owned, pass) = owned_type(&parameter.ty)?;
    if has_reference(owned.to_token_stream()) {
        let message = "JSON strings with escapes cannot be borrowed: use `String` instead of `&str` \
                       inside another type";
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
                           write `name: Type` and destructure it in the function";
            Err(syn::Error::new_spanned(other, message))
        }
    }
}

/// The doc comment as text, without the space after `///`.
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

    /// Each error as the token it is shown on and its message.
    pub(crate) fn errors(attribute: &str, item: &str) -> Vec<(String, String)> {
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

    /// Asserts that there is one error, on that token, with a message that contains these words.
    #[track_caller]
    pub(crate) fn assert_error(attribute: &str, item: &str, token: &str, words: &str) {
        let found = errors(attribute, item);
        let [(on, message)] = found.as_slice() else {
            panic!("not one error: {found:?}");
        };
        assert_eq!(on, token, "{message}");
        assert!(message.contains(words), "{message}");
    }

    #[test]
    fn a_valid_task_has_no_errors() {
        let attribute = r#"name = "sum.up", max_retries = 3, retry_delay = "5s", retry_backoff = 2,
            retry_backoff_max = "1h 30m", timeout = "500ms", priority = "high""#;
        let task = checked(attribute, "async fn add(x: &str, mut y: Option<&[u8]>) -> Result<Vec<u8>> {}");
        let Ok(task) = task else { panic!("errors") };
        assert_eq!(task.name, "sum.up");
        assert_eq!(task.settings.policy.timeout, Some(0.5));
        assert_eq!(task.settings.policy.retry_backoff, Some(2.0));
        assert_eq!(task.settings.policy.retry_backoff_max, Some(5400.0));
        assert!(task.is_async);
        assert!(task.result.fallible);
        assert_eq!(task.result.type_text, "Vec<u8>");
        let [x, y] = task.parameters.as_slice() else { panic!("two parameters") };
        assert_eq!((x.type_text.as_str(), x.optional), ("&str", false));
        assert_eq!((y.type_text.as_str(), y.optional), ("Option<&[u8]>", true));
        assert!(x.described.is_none() && y.described.is_none() && task.result.described.is_none());
    }

    #[test]
    fn every_error_is_reported_on_its_token() {
        let found = errors(
            r#"timeout = "soon", max_retries = "3", max_retires = 3"#,
            "unsafe fn f<T>(&self, (a, b): (T, T), c: &mut u8) {}",
        );
        let tokens: Vec<_> = found.iter().map(|(token, _)| token.as_str()).collect();
        let expected = ["\"soon\"", "\"3\"", "max_retires", "T", "unsafe", "&self", "(a, b)", "&mut u8"];
        assert_eq!(tokens, expected, "{found:#?}");
    }

    #[test]
    fn functions_that_cannot_be_called_with_json_are_refused() {
        assert_error("", "struct S;", "struct", "requires a function");
        assert_error("", "fn f<T>(x: T) {}", "T", "cannot be generic");
        assert_error("", "fn f(x: impl Copy) {}", "impl Copy", "cannot be generic");
        assert_error("", "fn f(self) {}", "self", "no `self`");
        assert_error("", "fn f(_: u8) {}", "_", "needs a name");
        assert_error("", "extern \"C\" fn f() {}", "extern \"C\"", "remove the ABI");
        assert_error("", "fn f(x: &'static str) {}", "&'static str", "remove `'static`");
        assert_error("", "fn f(x: Vec<&str>) {}", "Vec<&str>", "use `String`");
        assert_error("", "fn f(x: &[&str]) {}", "&[&str]", "use `String`");
        assert_error("", "fn f(#[cfg(a)] x: u8) {}", "#[cfg(a)]", "cannot have attributes");
    }

    #[test]
    fn a_syntax_error_does_not_hide_other_errors() {
        let found = errors(r#"max_retries = , "high", timeout("3s"), priority = "a" "b", colour = 1"#, "enum E {}");
        let tokens: Vec<_> = found.iter().map(|(token, _)| token.as_str()).collect();
        let expected = ["\"high\"", "(", "\"b\"", "enum", "max_retries", "colour"];
        assert_eq!(tokens, expected, "{found:#?}");
        let long = "f".repeat(129);
        assert_error("", &format!("fn {long}() {{}}"), &long, "1 to 128 bytes");
    }

    #[test]
    fn the_doc_comment_keeps_its_lines_without_the_indentation() {
        let item = "/// Adds.\n///\n/// - one\n///   two\nfn f() {}";
        let documentation = checked("", item).map(|task| task.documentation);
        assert_eq!(documentation.ok().as_deref(), Some("Adds.\n\n- one\n  two"));
    }
}
