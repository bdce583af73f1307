//! Collects the errors in a task, so that one compilation reports them all.

use quote::ToTokens;

/// The errors found so far.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// Adds an error that is reported on these tokens.
    pub(crate) fn add(&mut self, at: impl ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(at, message));
    }

    /// Returns a valid value, or adds the error.
    pub(crate) fn keep<T>(&mut self, checked: syn::Result<T>) -> Option<T> {
        checked.map_err(|error| self.push(error)).ok()
    }

    /// Adds an error.
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// Returns the checked value if there was no error.
    pub(crate) fn finish<T>(self, checked: Option<T>) -> syn::Result<T> {
        match (self.0, checked) {
            (None, Some(checked)) => Ok(checked),
            (Some(errors), _) => Err(errors),
            (None, None) => Err(syn::Error::new(proc_macro2::Span::call_site(), "this is not a task")),
        }
    }
}
