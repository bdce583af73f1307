//! Request handler: decodes requests, checks arguments and calls the methods of the state.

use std::sync::{Arc, Once};

use super::{
    core::Core,
    reply_to::{OriginalRequest, ReplyTo},
    state::{AnyReply, State},
};
use crate::{
    clock::Now,
    protocol::{
        self, ChunkQuery, FRAME_ITEMS_MAX, Lookup, OfferedModule, RefusalCode, Reply, Request, Welcome, WorkerReply,
        WorkerRequest,
        codec::{self, Unreadable},
        python_compat::{self, Call, Malformed},
    },
    signature::ArgumentError,
    task::{NewTask, SerializationFormat, TaskId, TaskPriority},
    transport::{self, Peer, Rejection, Service},
};

/// Serves clients of this protocol and of the Python original.
#[derive(Debug)]
pub struct ClientService {
    core: Arc<Core>,
    welcome: Welcome,
    /// The priority of this address; none for the management address.
    lane: Option<TaskPriority>,
}

impl ClientService {
    /// Creates the service for the address of a priority, or for the management address.
    pub fn new(core: Arc<Core>, welcome: Welcome, lane: Option<TaskPriority>) -> Self {
        Self { core, welcome, lane }
    }

    fn serve(&self, body: &[u8], reply: transport::ReplyHandle, format: SerializationFormat) {
        let reply_to = ReplyTo::Peer { reply, format };
        let request = match codec::decode::<Request>(body) {
            Ok(request) => request,
            Err(error) => return reply_to.send(AnyReply::Client(Reply::Refused(error.into()))),
        };
        match request {
            Request::Hello => reply_to.send(AnyReply::Client(Reply::Welcome(self.welcome.clone()))),
            Request::Submit(submit) => {
                let errors = self.core.signatures().check_all(&submit.tasks);
                self.core.enter(|state, now| state.submit_checked(now, submit, errors, reply_to));
            }
            Request::Collect(collect) => self.core.enter(|state, now| state.collect(now, &collect, reply_to)),
            Request::Lookup(lookup) => self.core.enter(|state, now| state.lookup(now, lookup, reply_to)),
            Request::Cancel(ids) => self.core.enter(|state, now| state.cancel(now, &ids, reply_to)),
            Request::Workers => self.core.enter(|state, now| state.workers(now, reply_to)),
            Request::Follow(follow) => self.core.enter(|state, now| state.follow(now, follow, reply_to)),
            Request::Tasks(query) => self.core.enter(|state, now| state.tasks(now, &query, reply_to)),
            Request::Events(query) => self.core.enter(|state, now| state.events(now, query, reply_to)),
            Request::Schedule(request) => self.core.enter(|state, now| state.schedule(now, request, reply_to)),
            Request::Describe(id) => self.core.enter(|state, now| state.describe(now, &id, reply_to)),
        }
    }

    fn serve_original(&self, body: &[u8], reply: transport::ReplyHandle) {
        match python_compat::read(body, self.lane) {
            Ok(Call::Submit(task)) => {
                let request = OriginalRequest::Submit { id: task.id.clone(), callback: task.callback.clone() };
                let reply_to = ReplyTo::Original { reply, request };
                let error = self.core.signatures().check(&task);
                self.core.enter(|state, now| state.submit_and_hold(now, *task, error, reply_to));
            }
            Ok(Call::Batch(tasks)) => reply.send(&self.submit_batch(tasks)),
            Ok(Call::Query(id)) => match id.parse::<TaskId>() {
                Ok(parsed) => {
                    let lookup = Lookup { ids: vec![parsed], wait_ms: 0 };
                    let reply_to = ReplyTo::Original { reply, request: OriginalRequest::Query(id) };
                    self.core.enter(|state, now| state.lookup(now, lookup, reply_to));
                }
                Err(_) => reply.send(&python_compat::query(&id, &crate::protocol::Found::Unknown)),
            },
            Ok(Call::Cancel(id)) => match id.parse::<TaskId>() {
                Ok(parsed) => {
                    let reply_to = ReplyTo::Original { reply, request: OriginalRequest::Cancel(id) };
                    self.core.enter(|state, now| state.cancel(now, &[parsed], reply_to));
                }
                Err(_) => reply.send(&python_compat::cancel(&id, false)),
            },
            Err(Malformed { id, message }) => reply.send(&self.error_reply(id.as_deref(), &message)),
        }
    }

    /// Submits a batch, in parts, so that the lock is free between them.
    fn submit_batch(&self, tasks: Vec<(NewTask, Option<String>)>) -> Vec<u8> {
        let ids: Vec<TaskId> = tasks.iter().map(|(task, _)| task.id.clone()).collect();
        let mut submitted = Vec::with_capacity(ids.len());
        let mut tasks = tasks.into_iter().peekable();
        while tasks.peek().is_some() {
            let (part, faults): (Vec<NewTask>, Vec<Option<String>>) = tasks.by_ref().take(FRAME_ITEMS_MAX).unzip();
            let mut errors = self.core.signatures().check_all(&part);
            errors.set_all(
                faults.into_iter().map(|message| message.map(|message| ArgumentError::Unreadable(message.into()))),
            );
            submitted.extend(self.core.enter(|state, now| state.submit_detached(now, part, errors)));
        }
        python_compat::batch(&ids, &submitted)
    }

    /// Returns the reply to a request that is neither JSON nor postcard.
    fn unreadable(&self, body: &[u8], error: &Unreadable) -> Vec<u8> {
        static PICKLES: Once = Once::new();
        let message = error.to_string();
        if !matches!(error, Unreadable::Pickle) {
            return self.error_reply(None, &message);
        }
        // A client that sends one may send thousands, so this is logged once.
        PICKLES.call_once(|| tracing::warn!("a client of the original was refused: {message}; this is logged once"));
        match self.lane {
            Some(_) => python_compat::pickled_failure(body, &message),
            None => python_compat::pickled_error(&message),
        }
    }

    /// Returns a refusal in the form of the original.
    fn error_reply(&self, id: Option<&str>, message: &str) -> Vec<u8> {
        match self.lane {
            Some(_) => python_compat::failure(id.unwrap_or_default(), message),
            None => python_compat::error(message),
        }
    }
}

impl Service for ClientService {
    fn request(&self, _from: Peer, body: &[u8], reply: transport::ReplyHandle) {
        match codec::form(body) {
            Ok(SerializationFormat::Json) if !codec::is_envelope(body) => self.serve_original(body, reply),
            Ok(format) => self.serve(body, reply, format),
            Err(error) => reply.send(&self.unreadable(body, &error)),
        }
    }

    fn refuse(&self, body: &[u8], rejection: Rejection) -> Vec<u8> {
        let refusal = refusal_of(rejection);
        match codec::form(body) {
            Ok(SerializationFormat::Json) if !codec::is_envelope(body) => {
                let id = python_compat::read(body, self.lane).ok().and_then(|call| match call {
                    Call::Submit(task) => Some(task.id.to_string()),
                    Call::Batch(_) | Call::Query(_) | Call::Cancel(_) => None,
                });
                self.error_reply(id.as_deref(), &refusal.message)
            }
            Ok(format) => codec::encode(format, &Reply::Refused(refusal)),
            Err(error) => self.unreadable(body, &error),
        }
    }

    fn disconnected(&self, _peer: Peer) {}
}

/// Reads parts of modules for subworkers.
pub trait ChunkReader: Send + Sync {
    /// Replies with the part of a module that begins at `offset`, now or later, without blocking.
    fn read(&self, from: Peer, module: OfferedModule, offset: u64, reply_to: ReplyTo);
}

/// Serves subworkers.
pub struct WorkerService {
    core: Arc<Core>,
    /// None if this control plane has no modules.
    chunks: Option<Box<dyn ChunkReader>>,
}

impl std::fmt::Debug for WorkerService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerService").field("has_modules", &self.chunks.is_some()).finish_non_exhaustive()
    }
}

impl WorkerService {
    /// Creates the service for subworkers.
    pub fn new(core: Arc<Core>, chunks: Option<Box<dyn ChunkReader>>) -> Self {
        Self { core, chunks }
    }

    fn read_chunk(&self, from: Peer, query: &ChunkQuery, reply_to: ReplyTo) {
        let Some(chunks) = &self.chunks else { return self.core.enter(|state, _| state.refuse_chunk(reply_to)) };
        match self.core.enter(|state, _| state.offered_module(query.worker, &query.hash)) {
            Ok(module) => chunks.read(from, module, query.offset, reply_to),
            Err(reply) => reply_to.send(AnyReply::Worker(reply)),
        }
    }
}

impl Service for WorkerService {
    fn request(&self, from: Peer, body: &[u8], reply: transport::ReplyHandle) {
        let format = codec::form(body).unwrap_or_default();
        let reply_to = ReplyTo::Peer { reply, format };
        match codec::decode::<WorkerRequest>(body) {
            Ok(WorkerRequest::Chunk(query)) => self.read_chunk(from, &query, reply_to),
            Ok(request) => self.core.enter(|state, now| serve_worker(state, now, request, Some(from), reply_to)),
            Err(error) => reply_to.send(AnyReply::Worker(WorkerReply::Refused(error.into()))),
        }
    }

    fn refuse(&self, body: &[u8], rejection: Rejection) -> Vec<u8> {
        let format = codec::form(body).unwrap_or_default();
        codec::encode(format, &WorkerReply::Refused(refusal_of(rejection)))
    }

    fn disconnected(&self, peer: Peer) {
        self.core.enter(|state, now| state.peer_gone(now, peer));
    }
}

/// Calls the method for a worker's request. `peer` is none for the control plane's own worker.
pub fn serve_worker(
    state: &mut State<ReplyTo>,
    now: Now,
    request: WorkerRequest,
    peer: Option<Peer>,
    reply_to: ReplyTo,
) {
    match request {
        WorkerRequest::Register(registration) => state.register(now, registration, peer, reply_to),
        WorkerRequest::Work(work) => state.work(now, work, reply_to),
        WorkerRequest::Beat(beat) => state.beat(now, &beat, peer, reply_to),
        WorkerRequest::Note(note) => state.note(now, note, reply_to),
        WorkerRequest::Drain(worker) => state.drain_worker(now, worker, reply_to),
        WorkerRequest::Leave(worker) => state.leave(now, worker, reply_to),
        WorkerRequest::Catalog(change) => state.change_catalog(now, change, reply_to),
        WorkerRequest::Modules(query) => state.modules(now, &query, reply_to),
        WorkerRequest::Chunk(_) => state.refuse_chunk(reply_to),
    }
}

/// Returns the refusal for a request that the transport rejects.
fn refusal_of(rejection: Rejection) -> protocol::Refusal {
    match rejection {
        Rejection::Busy => {
            let message = "too many requests are open here: try again later";
            protocol::Refusal::new(RefusalCode::TooManyRequests, message)
        }
        Rejection::Internal => {
            let message = "this request broke something here, which is a bug in fastworker; see its log";
            protocol::Refusal::new(RefusalCode::InternalError, message)
        }
    }
}
