//! Wraps core modules into components.
//!
//! Compilers that know nothing of components emit core modules; bindings of WIT leave a description of their imports and
//! exports in a custom section. wit-component builds the component from both, and the preview 1 adapter turns calls of
//! WASI preview 1 into calls of WASI 0.2.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as REACTOR,
};
use wit_component::ComponentEncoder;

/// Makes a component of a core module that has a `component-type` section.
///
/// # Errors
/// The reason why the module and its description do not match.
pub fn wrap_core_module(module: &[u8]) -> Result<Vec<u8>, String> {
    ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.validate(true).adapter(ADAPTER_NAME, REACTOR))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("it cannot be wrapped into a component: {error:#}"))
}
