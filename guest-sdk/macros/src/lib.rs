//! The `#[task]` attribute of `fastworker-guest`, which re-exports and documents it.
//!
//! Three stations, each a file: `parse` reads tokens without judging them, `check` turns them
//! into a `Task` or into every mistake at once, each on its own token, and `expand`
//! writes the code, which cannot fail. `settings`, `schedule` and `types` are parts of `check`. The
//! function itself is passed on as it was written, also when there were mistakes, so that rustc does
//! not add complaints about a missing function.

mod mistakes;

mod parse;

mod check;

mod settings;

mod schedule;

mod types;

mod task;

mod expand;

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
        Err(mistakes) => {
            let mut tokens = item;
            tokens.extend(mistakes.to_compile_error());
            tokens.into()
        }
    }
}
