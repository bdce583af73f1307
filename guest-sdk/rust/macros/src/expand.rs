//! Generates the code of a task: its registration, and the function that calls it with JSON.
//!
//! Everything is in a `const _`, to avoid conflicts with names of the author.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use crate::task::{Parameter, Pass, Settings, Task};
use crate::types::option_of;
use crate::{limits, schedule};

/// Generates the registration of a task.
pub(crate) fn expand(task: &Task) -> TokenStream {
    let Task { name, documentation, conditions, .. } = task;
    let parameters = task.parameters.iter().map(describe);
    let result = &task.result.type_text;
    let result_schema = task
        .result
        .described
        .as_ref()
        .map_or_else(|| quote!(__sdk::UNKNOWN), |ty| quote!(__sdk::describe!(result, #ty)));
    let policy = policy_json(&task.settings);
    let run = run(task);
    quote! {
        #(#conditions)*
        const _: () = {
            use ::fastworker_guest::__private as __sdk;

            static __TASK: __sdk::Task = __sdk::Task {
                name: #name,
                documentation: #documentation,
                parameters: &[#(#parameters),*],
                result: __sdk::Returned::new(#result, #result_schema),
                policy: #policy,
                declared_at: ::core::concat!(::core::file!(), ":", ::core::line!()),
                run: __run,
            };

            #run

            __sdk::inventory::submit! { __sdk::Registered(&__TASK) }
        };
    }
}

fn describe(parameter: &Parameter) -> TokenStream {
    let Parameter { name, type_text, described, .. } = parameter;
    let required = !parameter.optional;
    let schema =
        described.as_ref().map_or_else(|| quote!(__sdk::UNKNOWN), |ty| quote!(__sdk::describe!(parameter, #ty)));
    quote! {
        __sdk::Parameter::new(#name, #type_text, #required, #schema)
    }
}

/// Generates the function that parses the arguments, calls the task and serializes its result.
fn run(task: &Task) -> TokenStream {
    let function = &task.function;
    let slots: Vec<_> = (0..task.parameters.len()).map(|index| format_ident!("__argument_{index}")).collect();
    let bind = if slots.is_empty() {
        quote!(let [] = __arguments.bind(&__TASK)?;)
    } else {
        quote!(let [#(#slots),*] = __arguments.bind(&__TASK)?;)
    };
    let reads = task.parameters.iter().zip(&slots).map(|(parameter, slot)| {
        let owned = &parameter.owned;
        let name = &parameter.name;
        // With the type written out, the compiler reports missing traits on the parameter's type.
        let inner = option_of(owned).filter(|_| parameter.optional);
        let read = if let Some(inner) = inner {
            quote_spanned!(owned.span()=> __sdk::optional::<#inner>)
        } else {
            quote_spanned!(owned.span()=> __sdk::required::<#owned>)
        };
        quote_spanned! {owned.span()=>
            let #slot: #owned = #read(#name, #slot)?;
        }
    });
    let passed = task.parameters.iter().zip(&slots).map(|(parameter, slot)| match parameter.pass {
        Pass::Owned => quote!(#slot),
        Pass::Borrowed => quote!(&#slot),
        Pass::OptionRef => quote!(#slot.as_ref()),
        Pass::OptionDeref => quote!(#slot.as_deref()),
    });
    let mut call = quote!(#function(#(#passed),*));
    if task.is_async {
        call = quote!(__sdk::block_on(#call)?);
    }
    let finish = if task.result.fallible {
        quote_spanned!(task.result.span=> __sdk::finish_result(__result))
    } else {
        quote_spanned!(task.result.span=> __sdk::finish(&__result))
    };
    quote! {
        fn __run(__arguments: __sdk::Arguments<'_>) -> __sdk::Outcome {
            #bind
            #(#reads)*
            let __result = #call;
            #finish
        }
    }
}

/// The settings as the text of the descriptor's `policy`.
fn policy_json(settings: &Settings) -> String {
    let policy = &settings.policy;
    let number = |value: f64| Literal::f64_unsuffixed(value).to_string();
    let fields = [
        ("priority", policy.priority.as_ref().map(|it| format!("\"{it}\""))),
        ("timeout", policy.timeout.map(number)),
        ("max_retries", policy.max_retries.map(|it| it.to_string())),
        ("retry_delay", policy.retry_delay.map(number)),
        ("retry_backoff", policy.retry_backoff.map(number)),
        ("retry_backoff_max", policy.retry_backoff_max.map(number)),
    ];
    let fields =
        fields.into_iter().chain(schedule::json(&settings.schedule, number)).chain(limits::json(settings, number));
    let fields: Vec<String> =
        fields.filter_map(|(key, value)| value.map(|value| format!("\"{key}\":{value}"))).collect();
    format!("{{{}}}", fields.join(","))
}
