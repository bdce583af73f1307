//! `--allow-env NAME[=VALUE]`

use std::{env, fmt, str::FromStr};

/// Maximum bytes of the value of a variable.
pub(super) const VALUE_MAX: usize = 64 << 10;

/// An environment variable of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvGrant {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether the value was taken from the environment of this process.
    pub is_inherited: bool,
}

/// A text that grants no variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The name is not a variable's.
    #[error("the name of a variable has letters, digits and underscores, and does not start with a digit")]
    Name,
    /// The process has no such variable.
    #[error("{0} is not set in the environment of fastworker: set it, or write {0}=VALUE")]
    Unset(String),
    /// The value cannot be passed to a guest.
    #[error("the value of a variable is UTF-8 text of at most {VALUE_MAX} bytes, without NUL")]
    Value,
}

/// Checks the name of a variable.
pub(super) fn check_name(name: &str) -> Result<(), EnvError> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = name.chars().all(is_name_char) && name.chars().next().is_some_and(|first| !first.is_ascii_digit());
    if is_name { Ok(()) } else { Err(EnvError::Name) }
}

/// Checks the value of a variable.
pub(super) fn check_value(value: String) -> Result<String, EnvError> {
    if value.len() > VALUE_MAX || value.contains('\0') { Err(EnvError::Value) } else { Ok(value) }
}

impl EnvGrant {
    /// A variable with a value.
    ///
    /// # Errors
    /// [`EnvError`] if the name or the value is not a variable's.
    pub fn new(name: &str, value: String) -> Result<Self, EnvError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), value: check_value(value)?, is_inherited: false })
    }

    /// A variable of this process, with its present value.
    ///
    /// # Errors
    /// [`EnvError`] if there is none of that name, or its value is not text.
    pub fn inherited(name: &str) -> Result<Self, EnvError> {
        check_name(name)?;
        let value = env::var_os(name).ok_or_else(|| EnvError::Unset(name.to_owned()))?;
        let value = value.into_string().map_err(|_| EnvError::Value)?;
        Ok(Self { name: name.to_owned(), value: check_value(value)?, is_inherited: true })
    }

    /// `env:NAME`
    pub fn name(&self) -> String {
        format!("env:{}", self.name)
    }
}

impl FromStr for EnvGrant {
    type Err = EnvError;

    fn from_str(text: &str) -> Result<Self, EnvError> {
        match text.split_once('=') {
            Some((name, value)) => Self::new(name, value.to_owned()),
            None => Self::inherited(text),
        }
    }
}

impl fmt::Display for EnvGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_inherited { f.write_str(&self.name) } else { write!(f, "{}={}", self.name, self.value) }
    }
}
