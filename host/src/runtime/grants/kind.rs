//! The kinds of grants, one for each option.

use super::{DirError, EnvError, Grant, HttpError, NeedError, SecretError, TcpError};

/// What a grant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrantKind {
    /// `--allow-env`
    Env,
    /// `--secret`
    Secret,
    /// `--allow-dir`
    Dir,
    /// `--allow-http`
    Http,
    /// `--allow-tcp`
    Tcp,
}

/// A text that grants nothing.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// No variable.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// No secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No folder.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// No HTTP requests.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No TCP connections.
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// No name of a grant.
    #[error(transparent)]
    Need(#[from] NeedError),
}

impl GrantError {
    /// Whether the text is right, but what it names cannot be read on this host.
    pub fn is_of_host(&self) -> bool {
        matches!(
            self,
            Self::Env(EnvError::Unset(_))
                | Self::Secret(SecretError::File { .. } | SecretError::Unset(_) | SecretError::Value)
                | Self::Dir(DirError::Host { .. })
        )
    }
}

impl GrantKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Env, Self::Secret, Self::Dir, Self::Http, Self::Tcp];

    /// The option, without its hyphens.
    pub fn option(self) -> &'static str {
        match self {
            Self::Env => "allow-env",
            Self::Secret => "secret",
            Self::Dir => "allow-dir",
            Self::Http => "allow-http",
            Self::Tcp => "allow-tcp",
        }
    }

    /// Parses the value of the option, without a module.
    ///
    /// # Errors
    /// [`GrantError`] with what to write instead, or with what cannot be read.
    pub fn parse(self, text: &str) -> Result<Grant, GrantError> {
        Ok(match self {
            Self::Env => Grant::Env(text.parse()?),
            Self::Secret => Grant::Secret(text.parse()?),
            Self::Dir => Grant::Dir(text.parse()?),
            Self::Http => Grant::Http(text.parse()?),
            Self::Tcp => Grant::Tcp(text.parse()?),
        })
    }
}
