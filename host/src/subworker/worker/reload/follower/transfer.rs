//! Transfers a module in parts.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{CHECK_INTERVAL, FollowedModule, Follower, LIST_INTERVAL, REPLY_TIMEOUT};
use crate::{
    clock::pause,
    protocol::{CHUNK_MAX, Chunk, ChunkQuery, RefusalCode, WorkerReply, WorkerRequest},
    runtime::{Download, TransferError},
    subworker::link::WorkConnection,
};

/// Time without progress after which the transfer of another process is not waited for any more.
const OTHER_STALLED_AFTER: Duration = Duration::from_secs(10);
/// Maximum number of times that a module is transferred because it arrived damaged.
const TRANSFERS_MAX: u32 = 2;

/// How the transfer of a module ended.
pub(super) enum TransferEnd {
    /// The module is in the store.
    Complete,
    /// It is to be continued: it has taken long, or the worker drains.
    Interrupted,
    /// The control plane does not know this worker.
    Unregistered,
    /// The control plane has no such module any more.
    Gone,
    /// The control plane does not reply.
    NoReply,
    /// It cannot be transferred.
    Failed(TransferError),
}

impl From<TransferError> for TransferEnd {
    fn from(error: TransferError) -> Self {
        Self::Failed(error)
    }
}

impl Follower {
    /// Transfers a module for as long as no list is due.
    pub(super) fn transfer(
        &self,
        key: Uuid,
        module: &FollowedModule,
        connection: &mut dyn WorkConnection,
    ) -> TransferEnd {
        if self.store.contains(&module.content) {
            return TransferEnd::Complete;
        }
        if module.size > self.module_max {
            return TransferError::TooLarge { size: module.size, max: self.module_max }.into();
        }
        match self.begin(module) {
            Ok(Some(mut download)) => match self.continue_transfer(key, module, &mut download, connection) {
                Ok(()) => TransferEnd::Complete,
                Err(end) => end,
            },
            Ok(None) if self.store.contains(&module.content) => TransferEnd::Complete,
            Ok(None) => TransferEnd::Interrupted,
            Err(error) => TransferError::Store(error).into(),
        }
    }

    /// Begins or continues a transfer. While another process of this machine transfers the module, waits for it; none
    /// if it is done, or this worker drains.
    fn begin(&self, module: &FollowedModule) -> std::io::Result<Option<Download>> {
        let (mut arrived, mut since) = (0, Instant::now());
        loop {
            let is_stalled = since.elapsed() >= OTHER_STALLED_AFTER;
            if let Some(download) = self.store.download(&module.content, module.size, is_stalled)? {
                return Ok(Some(download));
            }
            if self.store.contains(&module.content) || self.shutdown.is_draining() {
                return Ok(None);
            }
            let now = self.store.downloaded(&module.content);
            if now != arrived {
                (arrived, since) = (now, Instant::now());
            }
            pause(CHECK_INTERVAL);
        }
    }

    fn continue_transfer(
        &self,
        key: Uuid,
        module: &FollowedModule,
        download: &mut Download,
        connection: &mut dyn WorkConnection,
    ) -> Result<(), TransferEnd> {
        let started = Instant::now();
        let mut transfers = 0;
        loop {
            while !download.is_complete() {
                if self.shutdown.is_draining() || started.elapsed() >= LIST_INTERVAL {
                    return Err(TransferEnd::Interrupted);
                }
                let bytes = request_chunk(key, module, download.len(), connection)?;
                download.append(&bytes).map_err(TransferError::Store)?;
            }
            if download.finish(&self.store).map_err(TransferError::Store)? {
                return Ok(());
            }
            transfers += 1;
            if transfers == TRANSFERS_MAX {
                return Err(TransferError::Damaged.into());
            }
        }
    }
}

/// Requests the part of a module that begins at `offset`.
fn request_chunk(
    key: Uuid,
    module: &FollowedModule,
    offset: u64,
    connection: &mut dyn WorkConnection,
) -> Result<Vec<u8>, TransferEnd> {
    let request = WorkerRequest::Chunk(ChunkQuery { worker: key, hash: module.hash.clone(), offset });
    match connection.request(&request, REPLY_TIMEOUT, &mut || {}) {
        Ok(WorkerReply::Chunk(Chunk { offset: from, bytes })) => {
            let remaining = module.size - offset;
            let is_next = from == offset && (1..=CHUNK_MAX as u64).contains(&(bytes.0.len() as u64));
            if is_next && bytes.0.len() as u64 <= remaining {
                Ok(bytes.0)
            } else {
                Err(TransferError::WrongPart.into())
            }
        }
        Ok(WorkerReply::Unknown) => Err(TransferEnd::Unregistered),
        Ok(WorkerReply::Refused(refusal)) => Err(match refusal.code {
            RefusalCode::NoSuchModule => TransferEnd::Gone,
            RefusalCode::TooManyRequests | RefusalCode::Stopping => TransferEnd::NoReply,
            _ => TransferError::Refused(refusal.message).into(),
        }),
        Ok(_) => Err(TransferError::WrongPart.into()),
        Err(_) => Err(TransferEnd::NoReply),
    }
}
