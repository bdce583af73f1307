//! What guests reach outside of their sandbox: the enforcement of [grants](super::grants).
//!
//! A [`Reach`] is prepared when a module is loaded and shared by its attempts. Environment, folders and masking follow
//! from it; HTTP and TCP are checked by the [`Network`] of each attempt, which also counts. Invariants: what is not
//! granted is refused by the call that needs it, with the option that grants it in the log of the task; and no attempt
//! holds files or connections once it has ended.

mod address;
mod connect;
mod destination;
mod http;
mod io;
mod mask;
mod network;
mod refusal;
mod sockets;
mod streams;

use std::{
    io as std_io,
    sync::{Arc, Mutex},
};

use tokio::runtime::Handle;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

pub use self::network::{NetworkTimeouts, NetworkUsage};
pub(super) use self::{
    http::HttpState,
    io::IoRuntime,
    mask::{Mask, MaskedStream},
    network::{Network, OpenConnection},
    sockets::add_to_linker,
};
use super::{
    AttemptId,
    attempt::HANDLES_MAX,
    grants::{DirAccess, DirGrant, Grants},
    output::Output,
};
use crate::task::AttemptLimits;

/// Maximum handles of a guest that has files or connections, as each may take a file descriptor of this process, or
/// that imports `wasi:http`, as each may take tens of kilobytes.
const IO_HANDLES_MAX: usize = 1000;

/// What the guests of one module reach.
#[derive(Debug)]
pub(super) struct Reach {
    grants: Arc<Grants>,
    timeouts: NetworkTimeouts,
    mask: Option<Arc<Mask>>,
    /// The runtime in which attempts wait, if they may have files or connections.
    io: Option<Handle>,
    /// Maximum handles of one attempt.
    handles_max: usize,
}

/// A granted folder cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the folder of --allow-dir {grant} cannot be opened: {why}")]
pub struct FolderUnavailable {
    grant: String,
    why: String,
}

impl Reach {
    /// No reach at all.
    pub(super) fn none() -> Self {
        let timeouts = NetworkTimeouts::default();
        Self { grants: Arc::default(), timeouts, mask: None, io: None, handles_max: HANDLES_MAX }
    }

    /// The reach of a module with these grants, which imports these interfaces.
    ///
    /// # Errors
    /// [`FolderUnavailable`] if a folder cannot be opened.
    pub(super) fn new(grants: Arc<Grants>, timeouts: NetworkTimeouts) -> Result<Self, FolderUnavailable> {
        grants.dirs.iter().try_for_each(|dir| std::fs::read_dir(&dir.host).map(drop).map_err(unavailable(dir)))?;
        let mask = Mask::new(grants.secrets.iter().map(|secret| &secret.value)).map(Arc::new);
        Ok(Self { grants, timeouts, mask, io: None, handles_max: HANDLES_MAX })
    }

    /// Sets up the runtime in which attempts wait, if a module with these imports can use the grants.
    ///
    /// # Errors
    /// The system's if its threads cannot be started.
    pub(super) fn with_io(self, runtime: &IoRuntime, imports: &[String]) -> std_io::Result<Self> {
        let imports = |package: &str| imports.iter().any(|interface| interface.starts_with(package));
        let has_files =
            !self.grants.dirs.is_empty() && (imports("wasi:filesystem/") || imports("wasi_snapshot_preview1"));
        let has_http = !self.grants.http.is_empty() && imports("wasi:http/");
        let has_tcp = !self.grants.tcp.is_empty() && imports("wasi:sockets/");
        let io = (has_files || has_http || has_tcp).then(|| runtime.handle()).transpose()?;
        let handles_max = if io.is_some() || imports("wasi:http/") { IO_HANDLES_MAX } else { HANDLES_MAX };
        Ok(Self { io, handles_max, ..self })
    }

    /// The runtime in which attempts wait; none if they have neither files nor connections.
    pub(super) fn io(&self) -> Option<&Handle> {
        self.io.as_ref()
    }

    /// What is masked in everything that the guests write.
    pub(super) fn mask(&self) -> Option<&Arc<Mask>> {
        self.mask.as_ref()
    }

    /// Maximum handles of one attempt.
    pub(super) fn handles_max(&self) -> usize {
        self.handles_max
    }

    /// The environment variables of the guests.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let env = self.grants.env.iter().map(|env| (env.name.clone(), env.value.clone()));
        let secrets = self.grants.secrets.iter().map(|secret| (secret.name.clone(), secret.value.reveal().to_owned()));
        env.chain(secrets).collect()
    }

    /// Adds environment and folders to the WASI context of an attempt.
    ///
    /// # Errors
    /// [`FolderUnavailable`] if a folder cannot be opened.
    pub(super) fn add_to(&self, context: &mut WasiCtxBuilder) -> Result<(), FolderUnavailable> {
        context.envs(&self.environment());
        for dir in &self.grants.dirs {
            let perms = match dir.access {
                DirAccess::ReadOnly => FsPerms::ReadOnly,
                DirAccess::ReadWrite => FsPerms::ReadWrite,
            };
            context.preopened_dir(&dir.host, &dir.guest, perms).map_err(unavailable(dir))?;
        }
        Ok(())
    }

    /// The WASI context of an attempt of a component.
    ///
    /// # Errors
    /// [`FolderUnavailable`] if a folder cannot be opened.
    pub(super) fn context(&self, network: impl FnOnce() -> Arc<Network>) -> Result<WasiCtx, FolderUnavailable> {
        let mut context = WasiCtxBuilder::new();
        self.add_to(&mut context)?;
        if !self.grants.tcp.is_empty() {
            sockets::allow_tcp(&mut context, network());
        }
        Ok(context.build())
    }

    /// The network of an attempt.
    pub(super) fn network(
        &self,
        attempt: AttemptId,
        limits: &AttemptLimits,
        output: Arc<Mutex<Output>>,
    ) -> Arc<Network> {
        Arc::new(Network::new(Arc::clone(&self.grants), self.timeouts.clone(), *limits, attempt, output))
    }
}

fn unavailable<E: std::fmt::Display>(dir: &DirGrant) -> impl FnOnce(E) -> FolderUnavailable {
    move |why| FolderUnavailable { grant: dir.to_string(), why: why.to_string() }
}
