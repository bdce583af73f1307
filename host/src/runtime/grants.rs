//! Grants: what the operator lets the guests of a module reach. Without a grant they reach nothing.
//!
//! A grant is written as the value of its option, such as `api.example.com/v1#GET` of `--allow-http`, for all modules
//! or, behind `MODULE@`, for one. Parsing a grant also reads what it names: a variable, the file of a secret, a folder.
//! Invariant: [`Grant::name`], which catalogs carry, reveals no value and no path of this host.

mod dir;
mod env;
mod host;
mod http;
mod import;
mod kind;
mod need;
mod scoped;
mod secret;
mod tcp;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use self::{
    dir::{DirAccess, DirError, DirGrant},
    env::{EnvError, EnvGrant},
    host::{HostError, HostPattern},
    http::{HttpError, HttpGrant, HttpScheme},
    import::ImportAccess,
    kind::{GrantError, GrantKind},
    need::{Need, NeedError},
    scoped::Scoped,
    secret::{Secret, SecretError, SecretGrant, SecretSource},
    tcp::{TcpError, TcpGrant},
};

/// Maximum grants of a [`GrantTable`].
pub const GRANTS_MAX: usize = 1_000;

/// One thing that guests may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// An environment variable.
    Env(EnvGrant),
    /// An environment variable whose value is masked in everything that a guest writes.
    Secret(SecretGrant),
    /// A folder of this host.
    Dir(DirGrant),
    /// HTTP requests to a host.
    Http(HttpGrant),
    /// TCP connections to a host and port.
    Tcp(TcpGrant),
}

impl Grant {
    /// What it grants.
    pub fn kind(&self) -> GrantKind {
        match self {
            Self::Env(_) => GrantKind::Env,
            Self::Secret(_) => GrantKind::Secret,
            Self::Dir(_) => GrantKind::Dir,
            Self::Http(_) => GrantKind::Http,
            Self::Tcp(_) => GrantKind::Tcp,
        }
    }

    /// Its name in catalogs: `env:NAME`, `secret:NAME`, `dir:/data:ro`, `http:api.example.com/v1`, `tcp:db:5432`.
    pub fn name(&self) -> String {
        match self {
            Self::Env(env) => env.name(),
            Self::Secret(secret) => secret.name(),
            Self::Dir(dir) => dir.name(),
            Self::Http(http) => http.name(),
            Self::Tcp(tcp) => tcp.name(),
        }
    }

    /// What a module has at most once: a variable by its name, a folder by its path in the guest.
    fn key(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Env(env) => Some(("the variable", &env.name)),
            Self::Secret(secret) => Some(("the variable", &secret.name)),
            Self::Dir(dir) => Some(("the folder", &dir.guest)),
            Self::Http(_) | Self::Tcp(_) => None,
        }
    }
}

impl fmt::Display for Grant {
    /// Writes the value of its option.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(env) => env.fmt(f),
            Self::Secret(secret) => secret.fmt(f),
            Self::Dir(dir) => dir.fmt(f),
            Self::Http(http) => http.fmt(f),
            Self::Tcp(tcp) => tcp.fmt(f),
        }
    }
}

/// What the guests of one module may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Environment variables.
    pub env: Vec<EnvGrant>,
    /// Environment variables whose values are masked.
    pub secrets: Vec<SecretGrant>,
    /// Folders, no two of the same path in the guest.
    pub dirs: Vec<DirGrant>,
    /// HTTP requests.
    pub http: Vec<HttpGrant>,
    /// TCP connections.
    pub tcp: Vec<TcpGrant>,
}

impl Grants {
    /// Whether guests reach nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The names of all grants, sorted; see [`Grant::name`].
    pub fn names(&self) -> Vec<String> {
        let env = self.env.iter().map(EnvGrant::name);
        let secrets = self.secrets.iter().map(SecretGrant::name);
        let dirs = self.dirs.iter().map(DirGrant::name);
        let http = self.http.iter().map(HttpGrant::name);
        let tcp = self.tcp.iter().map(TcpGrant::name);
        let mut names: Vec<String> = env.chain(secrets).chain(dirs).chain(http).chain(tcp).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The needs that these grants do not meet, as written.
    pub fn missing<'a>(&self, needs: impl IntoIterator<Item = &'a Need>) -> Vec<String> {
        needs.into_iter().filter(|need| !need.is_met_by(self)).map(ToString::to_string).collect()
    }

    fn add(&mut self, grant: Grant) {
        match grant {
            Grant::Env(env) => self.env.push(env),
            Grant::Secret(secret) => self.secrets.push(secret),
            Grant::Dir(dir) => self.dirs.push(dir),
            Grant::Http(http) => self.http.push(http),
            Grant::Tcp(tcp) => self.tcp.push(tcp),
        }
    }
}

/// A grant cannot be added to a [`GrantTable`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantTableError {
    /// A variable or a folder is granted twice.
    #[error("{what} {name} is granted twice{}", Of(module.as_deref()))]
    Twice {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
        /// The module; none for all modules.
        module: Option<String>,
    },
    /// There are too many.
    #[error("there are more than {GRANTS_MAX} grants")]
    TooMany,
}

struct Of<'a>(Option<&'a str>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |module| write!(f, " to the module {module}"))
    }
}

/// The grants of all modules, and those of single modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantTable {
    /// By module name; none for all modules.
    grants: BTreeMap<Option<String>, Vec<Grant>>,
}

impl GrantTable {
    /// Adds a grant for all modules, or for the one that is named.
    ///
    /// # Errors
    /// [`GrantTableError`] if the same modules already have that variable or folder, or there are too many grants.
    pub fn add(&mut self, module: Option<&str>, grant: Grant) -> Result<(), GrantTableError> {
        if self.grants.values().map(Vec::len).sum::<usize>() >= GRANTS_MAX {
            return Err(GrantTableError::TooMany);
        }
        let module = module.map(str::to_owned);
        let granted = self.grants.entry(module.clone()).or_default();
        if granted.contains(&grant) {
            return Ok(());
        }
        if let Some((what, name)) = grant.key()
            && granted.iter().any(|other| other.key() == Some((what, name)))
        {
            return Err(GrantTableError::Twice { what, name: name.to_owned(), module });
        }
        granted.push(grant);
        Ok(())
    }

    /// The grants of a module: its own, and those of all modules, except for variables and folders that it has itself.
    pub fn of(&self, module: &str) -> Arc<Grants> {
        let own = self.grants.get(&Some(module.to_owned())).map_or(&[][..], Vec::as_slice);
        let shared = self.grants.get(&None).map_or(&[][..], Vec::as_slice);
        let is_replaced = |grant: &&Grant| grant.key().is_some_and(|key| own.iter().any(|it| it.key() == Some(key)));
        let mut grants = Grants::default();
        shared.iter().filter(|grant| !is_replaced(grant)).chain(own).cloned().for_each(|grant| grants.add(grant));
        Arc::new(grants)
    }

    /// The modules that have grants of their own.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.grants.keys().filter_map(Option::as_deref)
    }

    /// All grants, each with its module; none for all modules.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &Grant)> {
        self.grants.iter().flat_map(|(module, grants)| grants.iter().map(move |grant| (module.as_deref(), grant)))
    }

    /// Whether nothing is granted to any module.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }
}

#[cfg(test)]
mod tests;
