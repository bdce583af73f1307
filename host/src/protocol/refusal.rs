//! Refusals of requests: a machine-readable code and a human-readable message.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::task::RefusalCode;

/// A refusal of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Machine-readable.
    pub code: RefusalCode,
    /// Human-readable. Its wording may change.
    pub message: String,
}

impl Refusal {
    /// Creates a refusal.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
