//! `--allow-dir HOST::GUEST[:ro]`

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

/// What a guest may do in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DirAccess {
    /// Read files and list folders.
    ReadOnly,
    /// Also create, change and remove them.
    ReadWrite,
}

/// A folder of this host that the guest has at a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirGrant {
    /// The absolute path of the folder on this host.
    pub host: PathBuf,
    /// The absolute path in the guest, `/` or without a slash at its end.
    pub guest: String,
    /// What the guest may do there.
    pub access: DirAccess,
}

/// A text that grants no folder.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The text has another form.
    #[error("write HOST::GUEST, or HOST::GUEST:ro to forbid changes, such as /srv/data::/data:ro")]
    Syntax,
    /// The path in the guest is not one.
    #[error("the folder's path in the guest is absolute and without '.', '..' or empty parts, such as /data")]
    Guest,
    /// The folder cannot be used.
    #[error("the folder {} cannot be granted: {}", crate::escape::path(path), crate::system::explain(why))]
    Host {
        /// The folder.
        path: PathBuf,
        /// The error.
        why: io::Error,
    },
}

impl DirGrant {
    /// Grants the folder `host` of this host as `guest`.
    ///
    /// # Errors
    /// [`DirError`] if there is no such folder, or `guest` is not an absolute path.
    pub fn new(host: &Path, guest: &str, access: DirAccess) -> Result<Self, DirError> {
        let guest = guest_path(guest).ok_or(DirError::Guest)?;
        let failed = |why| DirError::Host { path: host.to_owned(), why };
        if !host.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { host: std::path::absolute(host).map_err(failed)?, guest, access })
    }

    /// `dir:/data`, or `dir:/data:ro`
    pub fn name(&self) -> String {
        dir_name(&self.guest, self.access)
    }
}

/// The name of a folder in catalogs and needs.
pub(super) fn dir_name(guest: &str, access: DirAccess) -> String {
    format!("dir:{guest}{}", suffix(access))
}

fn suffix(access: DirAccess) -> &'static str {
    match access {
        DirAccess::ReadOnly => ":ro",
        DirAccess::ReadWrite => "",
    }
}

/// Splits `PATH[:ro]`.
pub(super) fn split_access(text: &str) -> (&str, DirAccess) {
    match text.strip_suffix(":ro") {
        Some(path) => (path, DirAccess::ReadOnly),
        None => (text.strip_suffix(":rw").unwrap_or(text), DirAccess::ReadWrite),
    }
}

/// The path without a slash at its end, if it is absolute and plain.
pub(super) fn guest_path(path: &str) -> Option<String> {
    if path == "/" {
        return Some(path.to_owned());
    }
    let parts = path.strip_suffix('/').unwrap_or(path).strip_prefix('/')?;
    let is_plain =
        |part: &str| !matches!(part, "" | "." | "..") && !part.contains(|c: char| c.is_control() || c == ':');
    parts.split('/').all(is_plain).then(|| format!("/{parts}"))
}

impl FromStr for DirGrant {
    type Err = DirError;

    fn from_str(text: &str) -> Result<Self, DirError> {
        let (host, guest) = text.rsplit_once("::").filter(|(host, _)| !host.is_empty()).ok_or(DirError::Syntax)?;
        let (guest, access) = split_access(guest);
        Self::new(Path::new(host), guest, access)
    }
}

impl fmt::Display for DirGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}{}", self.host.display(), self.guest, suffix(self.access))
    }
}
