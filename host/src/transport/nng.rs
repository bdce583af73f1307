//! NNG.
