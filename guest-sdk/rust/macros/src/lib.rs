//! The `#[task]` attribute of `fastworker-guest`, which re-exports and documents it.
//!
//! There are three steps: `parse` reads the tokens, `check` converts them to a `Task` or to all errors,
//! each on its token, and `expand` generates the code, which cannot fail. `settings`,
//! `schedule`, `limits`, `value` and `types` are parts of `check`. The function itself is always passed on
//! unchanged, also if there are errors, so that rustc does not report a missing function as well.

mod parse;

mod check;

mod settings;

mod schedule;

mod limits;

mod value;

mod types;

mod task;

mod expand;

mod errors;

use proc_macro::TokenStream;
use quote::ToTokens;

/// Makes a function a task. Documented in `fastworker_guest`.
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    match check::check(parse::parse(attribute.into(), item.clone())) {
        Ok((function, task)) => {
            let mut tokens = function.into_token_stream();
            tokens.extend(expand::expand(&task));
            tokens.into()
        }
        Err(errors) => {
            let mut tokens = item;
            tokens.extend(errors.to_compile_error());
            tokens.into()
        }
    }
}
