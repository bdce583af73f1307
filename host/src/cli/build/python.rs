//! Builds Python.

use super::{Artifact, Build};
use crate::cli::{CliError, EXIT_USAGE};

/// Builds the source of a [`Build`].
pub(super) fn build(build: &Build<'_>) -> Result<Artifact, CliError> {
    Err(CliError::new(EXIT_USAGE, format!("fastworker build does not build {} yet", build.source.language)))
}
