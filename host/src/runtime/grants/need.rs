//! What a task needs: the names of grants that a worker must have to run it.

use std::{fmt, str::FromStr};

use super::{
    Grants, HttpGrant, TcpGrant,
    dir::{DirAccess, dir_name, guest_path, split_access},
    env::check_name,
};

/// A grant that a task needs, written like the name of a grant: `env:NAME`, `secret:NAME`, `dir:/data:ro`,
/// `http:api.example.com/v1`, `tcp:db:5432`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A variable, also a secret one.
    Env(String),
    /// A secret variable.
    Secret(String),
    /// A folder with at least this access.
    Dir {
        /// Its path in the guest.
        guest: String,
        /// What the guest must be able to do.
        access: DirAccess,
    },
    /// These HTTP requests, or more.
    Http(HttpGrant),
    /// TCP connections.
    Tcp(TcpGrant),
}

/// A text that names no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' names no grant: write it like env:NAME, secret:NAME, dir:/data:ro, http:api.example.com/v1 or tcp:db:5432"
)]
pub struct NeedError(String);

impl Need {
    /// The option that grants it, with a value to complete.
    pub fn flag(&self) -> String {
        match self {
            Self::Env(name) => format!("--allow-env {name}"),
            Self::Secret(name) => format!("--secret {name}=file:PATH"),
            Self::Dir { guest, access: DirAccess::ReadOnly } => format!("--allow-dir FOLDER::{guest}:ro"),
            Self::Dir { guest, access: DirAccess::ReadWrite } => format!("--allow-dir FOLDER::{guest}"),
            Self::Http(http) => format!("--allow-http {http}"),
            Self::Tcp(tcp) => format!("--allow-tcp {tcp}"),
        }
    }

    /// Whether a module with these grants has it.
    pub fn is_met_by(&self, grants: &Grants) -> bool {
        let has_secret = |name: &str| grants.secrets.iter().any(|secret| secret.name == name);
        match self {
            Self::Env(name) => has_secret(name) || grants.env.iter().any(|env| env.name == *name),
            Self::Secret(name) => has_secret(name),
            Self::Dir { guest, access } => grants.dirs.iter().any(|dir| dir.guest == *guest && dir.access >= *access),
            Self::Http(http) => grants.http.iter().any(|grant| grant.covers(http)),
            Self::Tcp(tcp) => grants.tcp.contains(tcp),
        }
    }
}

impl FromStr for Need {
    type Err = NeedError;

    fn from_str(text: &str) -> Result<Self, NeedError> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let need = match kind {
            "env" => check_name(rest).ok().map(|()| Self::Env(rest.to_owned())),
            "secret" => check_name(rest).ok().map(|()| Self::Secret(rest.to_owned())),
            "dir" => {
                let (path, access) = split_access(rest);
                guest_path(path).map(|guest| Self::Dir { guest, access })
            }
            "http" => rest.parse().ok().map(Self::Http),
            "tcp" => rest.parse().ok().map(Self::Tcp),
            _ => None,
        };
        need.ok_or_else(|| NeedError(text.chars().take(128).collect()))
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Secret(name) => write!(f, "secret:{name}"),
            Self::Dir { guest, access } => f.write_str(&dir_name(guest, *access)),
            Self::Http(http) => f.write_str(&http.name()),
            Self::Tcp(tcp) => f.write_str(&tcp.name()),
        }
    }
}
