//! Collects the mistakes in a task, so that one compilation reports them all.

use quote::ToTokens;

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Mistakes(Option<syn::Error>);

impl Mistakes {
    /// Adds a mistake that is reported on these tokens.
    pub(crate) fn add(&mut self, at: impl ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(at, message));
    }

    /// Returns a valid value, or adds the mistake.
    pub(crate) fn keep<T>(&mut self, checked: syn::Result<T>) -> Option<T> {
        checked.map_err(|mistake| self.push(mistake)).ok()
    }

    /// Adds a mistake.
    pub(crate) fn push(&mut self, mistake: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(mistake),
            None => self.0 = Some(mistake),
        }
    }

    /// Returns the checked value if there was no mistake.
    pub(crate) fn finish<T>(self, checked: Option<T>) -> syn::Result<T> {
        match (self.0, checked) {
            (None, Some(checked)) => Ok(checked),
            (Some(mistakes), _) => Err(mistakes),
            (None, None) => Err(syn::Error::new(proc_macro2::Span::call_site(), "this is no task")),
        }
    }
}
