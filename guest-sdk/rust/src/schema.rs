//! The JSON Schemas of a task's types, with the feature `schema`.
//!
//! A parameter's type may or may not implement `schemars::JsonSchema`. Method resolution selects
//! [`Described`] if it is implemented, else [`Undescribed`], which is implemented on the reference.

#[cfg(feature = "schema")]
use std::marker::PhantomData;

#[cfg(feature = "schema")]
use schemars::{JsonSchema, generate::SchemaSettings};

/// Returns the schema of a type as JSON, or none.
#[cfg(feature = "schema")]
pub type Describe = Option<fn() -> Option<String>>;
/// There are no schemas without the feature `schema`.
#[cfg(not(feature = "schema"))]
pub type Describe = Option<std::convert::Infallible>;

/// For a type that the host knows by its name, or a type without a schema.
pub const UNKNOWN: Describe = None;

/// Selects the schema of a type.
#[cfg(feature = "schema")]
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

#[cfg(feature = "schema")]
impl<T> Probe<T> {
    /// A probe of `T`.
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
    /// The schema of the JSON that it is deserialized from.
    fn parameter(&self) -> Option<String>;
    /// The schema of the JSON that it is serialized to.
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

// As text, so that modules without schemas contain no code to serialize them.
#[cfg(feature = "schema")]
fn text<T: JsonSchema>(settings: SchemaSettings) -> Option<String> {
    serde_json::to_string(&settings.into_generator().into_root_schema_for::<T>()).ok()
}

/// All other types.
#[cfg(feature = "schema")]
pub trait Undescribed {
    /// None.
    fn parameter(&self) -> Option<String> {
        None
    }

    /// None.
    fn result(&self) -> Option<String> {
        None
    }
}

#[cfg(feature = "schema")]
impl<T> Undescribed for &Probe<T> {}

/// The function that returns the schema of a type, as a `parameter` or a `result`.
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
