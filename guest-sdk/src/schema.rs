//! What the types of a task look like, as JSON Schema.
//!
//! Apart because it is there with the feature `schema` only. A parameter needs no schema, so whether
//! its type has one is asked in a way that takes both answers: [`Described`] is found first where
//! `schemars::JsonSchema` is implemented, [`Undescribed`] on the reference elsewhere.

#[cfg(feature = "schema")]
use std::marker::PhantomData;

#[cfg(feature = "schema")]
use schemars::{JsonSchema, generate::SchemaSettings};

/// Writes the schema of a type; none if nothing is known of it.
#[cfg(feature = "schema")]
pub type Describe = Option<fn() -> Option<String>>;
/// There are no schemas without the feature `schema`.
#[cfg(not(feature = "schema"))]
pub type Describe = Option<std::convert::Infallible>;

/// Of a type that the host knows by its name, or that is not described.
pub const UNKNOWN: Describe = None;

/// A type to be asked for its schema.
#[cfg(feature = "schema")]
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

#[cfg(feature = "schema")]
impl<T> Probe<T> {
    /// Of this type.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

#[cfg(feature = "schema")]
impl<T> Default for Probe<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The schema of a type that has one.
#[cfg(feature = "schema")]
pub trait Described {
    /// What it is read from.
    fn parameter(&self) -> Option<String>;
    /// What it is written as.
    fn result(&self) -> Option<String>;
}

#[cfg(feature = "schema")]
impl<T: JsonSchema> Described for Probe<T> {
    fn parameter(&self) -> Option<String> {
        text::<T>(settings())
    }

    fn result(&self) -> Option<String> {
        text::<T>(settings().for_serialize())
    }
}

#[cfg(feature = "schema")]
fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|settings| settings.meta_schema = None)
}

// As text, so that modules without schemas need no code that writes them.
#[cfg(feature = "schema")]
fn text<T: JsonSchema>(settings: SchemaSettings) -> Option<String> {
    serde_json::to_string(&settings.into_generator().into_root_schema_for::<T>()).ok()
}

/// The answer of all other types.
#[cfg(feature = "schema")]
pub trait Undescribed {
    /// Nothing.
    fn parameter(&self) -> Option<String> {
        None
    }

    /// Nothing.
    fn result(&self) -> Option<String> {
        None
    }
}

#[cfg(feature = "schema")]
impl<T> Undescribed for &Probe<T> {}

/// How the schema of a type is written: `parameter` or `result`.
#[cfg(feature = "schema")]
#[doc(hidden)]
#[macro_export]
macro_rules! __describe {
    ($what:ident, $type:ty) => {
        ::core::option::Option::Some({
            fn describe() -> ::core::option::Option<::std::string::String> {
                #[allow(unused_imports, reason = "one of the two is used")]
                use $crate::__private::{Described as _, Undescribed as _};
                let probe = &$crate::__private::Probe::<$type>::new();
                probe.$what()
            }
            describe
        })
    };
}

/// There are no schemas without the feature `schema`.
#[cfg(not(feature = "schema"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __describe {
    ($what:ident, $type:ty) => {
        $crate::__private::UNKNOWN
    };
}

pub use crate::__describe as describe;
