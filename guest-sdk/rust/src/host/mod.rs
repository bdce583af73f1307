//! The host functions: the contract's imports in a module, `testing` elsewhere.

#[cfg(target_family = "wasm")]
mod imports;
#[cfg(target_family = "wasm")]
pub(crate) use imports::{is_cancelled, log, progress, submit};

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::host::{is_cancelled, log, progress, submit};
