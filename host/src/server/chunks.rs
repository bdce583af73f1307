//! Reads parts of modules for subworkers, on a thread of low priority: neither the state nor the sockets wait for disks.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use crate::{
    control_plane::{handler::ChunkReader, reply_to::ReplyTo, state::AnyReply},
    lock::lock,
    protocol::{Blob, CHUNK_MAX, Chunk, OfferedModule, Refusal, RefusalCode, WorkerReply},
    runtime::{Content, ModuleStore, OpenModule, lower_thread_priority},
    transport::Peer,
};

/// Maximum number of requests that wait. A subworker sends the next one after the reply.
const WAITING_MAX: usize = 4_096;
/// Maximum number of waiting requests of one connection.
const PEER_WAITING_MAX: usize = 4;
/// Maximum number of modules that are kept open.
const OPEN_MAX: usize = 16;

/// Passes requests to the thread. Dropping it ends the thread.
pub(super) struct ChunkServer {
    requests: SyncSender<ChunkRequest>,
    waiting: Arc<Mutex<HashMap<Peer, usize>>>,
}

struct ChunkRequest {
    from: Peer,
    module: OfferedModule,
    offset: u64,
    reply_to: ReplyTo,
}

impl ChunkServer {
    /// Starts the thread, which reads from `store`, and from the files of modules that are not there.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub(super) fn start(store: Arc<ModuleStore>) -> std::io::Result<Self> {
        let (requests, receiver) = mpsc::sync_channel(WAITING_MAX);
        let waiting = Arc::default();
        let this = Self { requests, waiting: Arc::clone(&waiting) };
        thread::Builder::new().name("fw-chunks".into()).spawn(move || run(&store, &receiver, &waiting))?;
        Ok(this)
    }
}

impl ChunkReader for ChunkServer {
    fn read(&self, from: Peer, module: OfferedModule, offset: u64, reply_to: ReplyTo) {
        let mut waiting = lock(&self.waiting);
        let count = waiting.entry(from).or_default();
        if *count < PEER_WAITING_MAX {
            match self.requests.try_send(ChunkRequest { from, module, offset, reply_to }) {
                Ok(()) => *count += 1,
                Err(mpsc::TrySendError::Full(request) | mpsc::TrySendError::Disconnected(request)) => {
                    drop(waiting);
                    request.reply_to.send(busy());
                }
            }
        } else {
            drop(waiting);
            reply_to.send(busy());
        }
    }
}

fn busy() -> AnyReply {
    let message = "too many requests for parts of modules wait here: try again later";
    AnyReply::Worker(WorkerReply::Refused(Refusal::new(RefusalCode::TooManyRequests, message)))
}

fn run(store: &ModuleStore, requests: &Receiver<ChunkRequest>, waiting: &Mutex<HashMap<Peer, usize>>) {
    lower_thread_priority();
    let mut open = OpenModules { store, modules: Vec::new() };
    while let Ok(ChunkRequest { from, module, offset, reply_to }) = requests.recv() {
        let reply = open.read(&module, offset);
        let mut counts = lock(waiting);
        if let Some(count) = counts.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&from);
            }
        }
        drop(counts);
        reply_to.send(AnyReply::Worker(reply));
    }
}

/// The modules that are open, the most recently used last.
struct OpenModules<'a> {
    store: &'a ModuleStore,
    modules: Vec<(Content, OpenModule)>,
}

impl OpenModules<'_> {
    fn read(&mut self, module: &OfferedModule, offset: u64) -> WorkerReply {
        let read = self.open(module, offset).and_then(|open| open.read_at(offset, CHUNK_MAX).ok());
        if let Some(bytes) = read {
            WorkerReply::Chunk(Chunk { offset, bytes: Blob(bytes) })
        } else {
            let message = "this version of the module is not on the control plane any more";
            WorkerReply::Refused(Refusal::new(RefusalCode::NoSuchModule, message))
        }
    }

    /// Opens a module, or finds it among the open ones. Its hash is compared again when a transfer begins and its file
    /// may have changed.
    fn open(&mut self, module: &OfferedModule, offset: u64) -> Option<&OpenModule> {
        let content: Content = blake3::Hash::from_hex(&module.hash).ok()?.into();
        let found = self.modules.iter().position(|(other, _)| *other == content);
        let found = found.map(|index| self.modules.remove(index));
        let usable = found.filter(|(_, open)| offset > 0 || open.is_unchanged());
        let opened = usable.or_else(|| {
            let open = self.store.open_module(&content);
            let open = open.or_else(|| OpenModule::of_file(Path::new(&module.path), &content).ok());
            open.map(|open| (content, open))
        });
        if self.modules.len() >= OPEN_MAX {
            self.modules.remove(0);
        }
        self.modules.push(opened?);
        self.modules.last().map(|(_, open)| open)
    }
}
