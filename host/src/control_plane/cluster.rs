//! The id of a cluster: random, created when a control plane first starts, and kept on disk.
//!
//! A client or a subworker uses it to recognise its own cluster among those that are announced on the same bus. If it
//! is lost, peers that have the address join again; those that follow announcements to another address do not.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// Maximum size of the file, in bytes. An id and a line end take 37.
const FILE_MAX: u64 = 64;

/// Returns the directory for the state of this program, by the XDG base directory specification.
pub fn default_state_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("fastworker"))
}

/// Returns the id of the control plane with this worker id and base port: the one in `directory`, or a new one, which
/// is written there.
///
/// # Errors
/// A new id, with the reason why it cannot be stored.
pub fn id_in(directory: &Path, worker_id: &str, port: u16) -> Result<Uuid, (Uuid, io::Error)> {
    let path = directory.join(file_name(worker_id, port));
    match read(&path) {
        Ok(Some(id)) => Ok(id),
        Ok(None) => {
            let id = Uuid::new_v4();
            store(directory, &path, id).map(|()| id).map_err(|error| (id, error))
        }
        Err(error) => Err((Uuid::new_v4(), error)),
    }
}

/// Returns the file name for a worker id: with the id itself if that is short and plain, else with its hash.
fn file_name(worker_id: &str, port: u16) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    if worker_id.len() <= 64 && worker_id.bytes().all(|byte| is_plain(&byte)) {
        return format!("cluster-{port}-{worker_id}");
    }
    let digest = blake3::hash(worker_id.as_bytes()).to_hex();
    format!("cluster-{port}-%{}", &digest[..32])
}

/// Reads the id from a file. None if there is no such file, or it holds no id.
fn read(path: &Path) -> io::Result<Option<Uuid>> {
    // Do not block if this is a pipe.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes)?;
    let id = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse::<Uuid>().ok());
    Ok(id.filter(|id| !id.is_nil()))
}

/// Writes the file atomically.
fn store(directory: &Path, path: &Path, id: Uuid) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let written = directory.join(format!(".cluster-{}", Uuid::new_v4()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&written)?;
        writeln!(file, "{id}")?;
        file.sync_all()?;
        fs::rename(&written, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&written)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn directory() -> PathBuf {
        let directory = std::env::temp_dir().join(format!("fastworker-cluster-{}", Uuid::new_v4()));
        directory.join("state")
    }

    #[test]
    fn an_id_is_stored_for_each_worker_id_and_port_with_private_access() {
        let directory = directory();
        let id = |worker: &str, port| id_in(&directory, worker, port).expect("it is stored");
        let first = id("control-plane", 5555);
        assert_eq!(id("control-plane", 5555), first);
        let others = [id("control-plane", 6555), id("other", 5555), id("a/b", 5555), id("a b", 5555)];
        assert!(!others.contains(&first));
        assert_eq!(id("a/b", 5555), others[2]);
        assert_ne!(others[2], others[3]);
        let mode = |path: &Path| fs::metadata(path).expect("the file exists").permissions().mode() & 0o777;
        let file = directory.join("cluster-5555-control-plane");
        assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
        fs::write(&file, "not an id").expect("it can be written");
        assert_ne!(id("control-plane", 5555), first, "an unreadable file is replaced");
        drop(fs::remove_dir_all(directory.parent().expect("a parent")));
    }

    #[test]
    fn an_id_that_cannot_be_stored_is_new_each_time() {
        let directory = directory();
        fs::create_dir_all(directory.join("cluster-1-cp")).expect("a directory");
        let (first, error) = id_in(&directory, "cp", 1).expect_err("it cannot be stored");
        assert!(!error.to_string().is_empty());
        assert_ne!(id_in(&directory, "cp", 1).expect_err("it cannot be stored").0, first);
        drop(fs::remove_dir_all(directory.parent().expect("a parent")));
    }
}
