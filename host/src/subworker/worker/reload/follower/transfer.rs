//! Transfers a module in parts.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{CHECK_INTERVAL, FollowedModule, Follower, LIST_INTERVAL, REPLY_TIMEOUT, ShutdownFlags};
use crate::{
    clock::pause,
    protocol::{CHUNK_MAX, Chunk, ChunkQuery, RefusalCode, WorkerReply, WorkerRequest},
    runtime::{Download, ModuleStore, TransferError},
    subworker::link::WorkConnection,
};

/// Time without progress after which the transfer of another process is not waited for any more.
const OTHER_STALLED_AFTER: Duration = Duration::from_secs(10);
/// Maximum number of times that a module is transferred because it arrived damaged.
const TRANSFERS_MAX: u32 = 2;

/// How the transfer of a module ended.
#[derive(Debug)]
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
            Ok(Some(mut download)) => {
                let place = (&*self.store, &*self.shutdown);
                match transfer_parts(place, key, module, &mut download, connection) {
                    Ok(()) => TransferEnd::Complete,
                    Err(end) => end,
                }
            }
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
}

/// Requests parts until the module is complete or a list is due, compares its hash, and stores it.
fn transfer_parts(
    (store, shutdown): (&ModuleStore, &ShutdownFlags),
    key: Uuid,
    module: &FollowedModule,
    download: &mut Download,
    connection: &mut dyn WorkConnection,
) -> Result<(), TransferEnd> {
    let started = Instant::now();
    for _ in 0..TRANSFERS_MAX {
        while !download.is_complete() {
            let is_list_due = started.elapsed() >= LIST_INTERVAL && !download.is_alone();
            if shutdown.is_draining() || is_list_due {
                return Err(TransferEnd::Interrupted);
            }
            let bytes = request_chunk(key, module, download.received(), connection)?;
            download.append(&bytes).map_err(TransferError::Store)?;
        }
        if download.finish(store).map_err(TransferError::Store)? {
            return Ok(());
        }
    }
    Err(TransferError::Damaged.into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        protocol::{Blob, Refusal},
        subworker::worker::reload::follower::Progress,
        transport::CallError,
    };

    const BYTES: &[u8] = b"a module of thirty-two bytes....";

    /// A control plane that gives these replies, one after the other.
    struct Replies(Vec<Result<WorkerReply, CallError>>);

    impl WorkConnection for Replies {
        fn request(
            &mut self,
            request: &WorkerRequest,
            _limit: Duration,
            _on_sent: &mut dyn FnMut(),
        ) -> Result<WorkerReply, CallError> {
            assert!(matches!(request, WorkerRequest::Chunk(_)), "{request:?}");
            self.0.remove(0)
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "as a connection replies")]
    fn chunk(offset: u64, bytes: &[u8]) -> Result<WorkerReply, CallError> {
        Ok(WorkerReply::Chunk(Chunk { offset, bytes: Blob(bytes.to_owned()) }))
    }

    #[allow(clippy::unnecessary_wraps, reason = "as a connection replies")]
    fn refused(code: RefusalCode) -> Result<WorkerReply, CallError> {
        Ok(WorkerReply::Refused(Refusal::new(code, "no")))
    }

    fn transfer(store: &ModuleStore, replies: Vec<Result<WorkerReply, CallError>>) -> Result<(), TransferEnd> {
        let hash = blake3::hash(BYTES);
        let (content, size, hash) = (hash.into(), BYTES.len() as u64, hash.to_hex().to_string());
        let (progress, is_listed, absent_since) = (Progress::Pending, true, None);
        let module = FollowedModule { content, hash, size, progress, is_listed, absent_since };
        let mut download = store.download(&content, size, false).expect("file access").expect("nobody else");
        let place = (store, &ShutdownFlags::default());
        transfer_parts(place, Uuid::nil(), &module, &mut download, &mut Replies(replies))
    }

    #[test]
    fn a_module_is_complete_after_its_last_part() {
        let store = ModuleStore::open(None);
        assert!(transfer(&store, vec![chunk(0, &BYTES[..20]), chunk(20, &BYTES[20..])]).is_ok());
        assert_eq!(store.read(&blake3::hash(BYTES).into()).as_deref(), Some(BYTES));
    }

    #[test]
    fn a_damaged_module_is_transferred_once_more() {
        let store = ModuleStore::open(None);
        let damaged = || chunk(0, &[b'x'; BYTES.len()]);
        let end = transfer(&store, vec![damaged(), damaged()]);
        assert!(matches!(end, Err(TransferEnd::Failed(TransferError::Damaged))), "{end:?}");
        assert!(transfer(&store, vec![damaged(), chunk(0, BYTES)]).is_ok());
    }

    #[test]
    fn a_part_that_was_not_requested_ends_the_transfer() {
        let store = ModuleStore::open(None);
        let wrong = [chunk(1, BYTES), chunk(0, b""), chunk(0, &[BYTES, b"more"].concat()), Ok(WorkerReply::Noted)];
        for wrong in wrong {
            let end = transfer(&store, vec![wrong]);
            assert!(matches!(end, Err(TransferEnd::Failed(TransferError::WrongPart))), "{end:?}");
        }
    }

    #[test]
    fn a_refusal_ends_the_transfer_by_its_code() {
        let store = ModuleStore::open(None);
        let end = |reply| transfer(&store, vec![reply]).expect_err("it ends");
        assert!(matches!(end(refused(RefusalCode::NoSuchModule)), TransferEnd::Gone));
        assert!(matches!(end(refused(RefusalCode::TooManyRequests)), TransferEnd::NoReply));
        assert!(matches!(end(refused(RefusalCode::BadRequest)), TransferEnd::Failed(TransferError::Refused(_))));
        assert!(matches!(end(Ok(WorkerReply::Unknown)), TransferEnd::Unregistered));
        let closed = CallError::Closed { address: "nowhere".into() };
        assert!(matches!(end(Err(closed)), TransferEnd::NoReply));
    }
}
