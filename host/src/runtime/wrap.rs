//! Wraps core modules into components.
//!
//! Compilers that know nothing of components emit core modules; bindings of WIT leave a description of their imports and
//! exports in a custom section. wit-component builds the component from both, and the preview 1 adapter turns calls of
//! WASI preview 1 into calls of WASI 0.2.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as COMMAND,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as REACTOR,
};
use wit_component::ComponentEncoder;

use super::sections::{self, EXPORT, Section};

/// The start of the name of the section that describes a component's imports and exports.
const COMPONENT_TYPE: &str = "component-type";

/// Whether a core module has a description of the component to make of it.
pub(super) fn can_wrap(module: &[u8]) -> bool {
    sections::of(module).any(|section| section.custom_name().is_some_and(|name| name.starts_with(COMPONENT_TYPE)))
}

/// Makes a component of a core module that has a `component-type` section.
///
/// # Errors
/// The reason why the module and its description do not match.
pub fn wrap_core_module(module: &[u8]) -> Result<Vec<u8>, String> {
    // A program has `_start`, a library has not.
    let adapter = if exports_start(module) { COMMAND } else { REACTOR };
    ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.validate(true).adapter(ADAPTER_NAME, adapter))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("it cannot be wrapped into a component: {error:#}"))
}

fn exports_start(module: &[u8]) -> bool {
    let name = b"\x06_start\0";
    sections::of(module)
        .any(|Section { id, content }| id == EXPORT && content.windows(name.len()).any(|window| window == name))
}
