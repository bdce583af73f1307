//! The original's dialect.
