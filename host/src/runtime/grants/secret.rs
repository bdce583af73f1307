//! `--secret NAME=file:PATH|env:VAR`

use std::{
    env, fmt,
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
};

use super::env::{VALUE_MAX, check_name};

/// Minimum bytes of a secret: a shorter text occurs by chance, and masking it would make output unreadable.
const SECRET_MIN: usize = 4;

/// A text that is shown as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The text itself, for the guest and for masking.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret is read from when the process starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file. One newline at its end is not part of the secret.
    File(PathBuf),
    /// A variable of this process.
    Variable(String),
}

/// An environment variable of the guest, whose value is masked in everything that the guest writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretGrant {
    /// The name of the variable.
    pub name: String,
    /// Where its value was read from.
    pub source: SecretSource,
    /// Its value.
    pub value: Secret,
}

/// A text that grants no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The text has another form.
    #[error("write NAME=file:PATH or NAME=env:VARIABLE; the secret itself never stands on the command line")]
    Syntax,
    /// The name is not a variable's.
    #[error("{0}")]
    Name(#[from] super::EnvError),
    /// The file cannot be read.
    #[error("the file of the secret, {}, cannot be read: {}", crate::escape::path(path), crate::system::explain(why))]
    File {
        /// The file.
        path: PathBuf,
        /// The error.
        why: io::Error,
    },
    /// The process has no such variable.
    #[error("the variable of the secret, {0}, is not set in the environment of fastworker")]
    Unset(String),
    /// The value cannot be passed to a guest, or cannot be masked.
    #[error("a secret is UTF-8 text of {SECRET_MIN} to {VALUE_MAX} bytes, without NUL")]
    Value,
}

impl SecretGrant {
    /// Reads the secret that `source` names.
    ///
    /// # Errors
    /// [`SecretError`] if it cannot be read, or a guest cannot have it.
    pub fn read(name: &str, source: SecretSource) -> Result<Self, SecretError> {
        check_name(name)?;
        let value = match &source {
            SecretSource::File(path) => read_file(path).map_err(|why| SecretError::File { path: path.clone(), why })?,
            SecretSource::Variable(variable) => {
                let value = env::var_os(variable).ok_or_else(|| SecretError::Unset(variable.clone()))?;
                value.into_encoded_bytes()
            }
        };
        let value = String::from_utf8(value).map_err(|_| SecretError::Value)?;
        let is_secret = (SECRET_MIN..=VALUE_MAX).contains(&value.len()) && !value.contains('\0');
        if !is_secret {
            return Err(SecretError::Value);
        }
        Ok(Self { name: name.to_owned(), source, value: value.into() })
    }

    /// `secret:NAME`
    pub fn name(&self) -> String {
        format!("secret:{}", self.name)
    }
}

/// Reads a file without the newline at its end, at most one byte more than a secret has.
fn read_file(path: &std::path::Path) -> io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(VALUE_MAX as u64 + 3).read_to_end(&mut bytes)?;
    if bytes.pop_if(|last| *last == b'\n').is_some() {
        bytes.pop_if(|last| *last == b'\r');
    }
    Ok(bytes)
}

impl FromStr for SecretGrant {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let (name, source) = text.split_once('=').ok_or(SecretError::Syntax)?;
        let source = match source.split_once(':') {
            Some(("file", path)) if !path.is_empty() => SecretSource::File(path.into()),
            Some(("env", variable)) if !variable.is_empty() => SecretSource::Variable(variable.to_owned()),
            _ => return Err(SecretError::Syntax),
        };
        Self::read(name, source)
    }
}

impl fmt::Display for SecretGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            SecretSource::File(path) => write!(f, "{}=file:{}", self.name, path.display()),
            SecretSource::Variable(variable) => write!(f, "{}=env:{variable}", self.name),
        }
    }
}
