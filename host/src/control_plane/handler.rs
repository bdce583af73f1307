//! From bytes to the state: reads a request and calls the method that it names. No decisions.

use std::sync::{Arc, Once};

use super::{
    core::Core,
    reply_to::{OriginalRequest, ReplyTo},
    state::State,
};
use crate::{
    clock::Now,
    protocol::{
        FRAME_ITEMS_MAX, Lookup, Reply, Request, Welcome, WorkerReply, WorkerRequest,
        codec::{self, Unreadable},
        python_compat::{self, Call, Malformed},
    },
    signature::ArgumentError,
    task::{NewTask, SerializationFormat, TaskId, TaskPriority},
    transport::{self, Peer, Refusal, Service},
};

/// Serves clients: ours, and the original's.
#[derive(Debug)]
pub struct Clients {
    core: Arc<Core>,
    welcome: Welcome,
    /// The priority whose address this is; none at the management address.
    lane: Option<TaskPriority>,
}

impl Clients {
    /// Serves clients at the address of a priority, or at the management address.
    pub fn new(core: Arc<Core>, welcome: Welcome, lane: Option<TaskPriority>) -> Self {
        Self { core, welcome, lane }
    }

    fn serve(&self, body: &[u8], reply: transport::Reply, format: SerializationFormat) {
        let reply_to = ReplyTo::Peer { reply, format };
        let request = match codec::decode::<Request>(body) {
            Ok(request) => request,
            Err(error) => return reply_to.send(super::state::Answer::Client(Reply::Refused(error.to_string()))),
        };
        match request {
            Request::Hello => reply_to.send(super::state::Answer::Client(Reply::Welcome(self.welcome.clone()))),
            Request::Submit(submit) => {
                let errors = self.core.signatures().errors(&submit.tasks);
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

    fn serve_original(&self, body: &[u8], reply: transport::Reply) {
        match python_compat::read(body, self.lane) {
            Ok(Call::Submit(task)) => {
                let request = OriginalRequest::Submit { id: task.id.clone(), callback: task.callback.clone() };
                let reply_to = ReplyTo::Original { reply, request };
                let error = self.core.signatures().check(&task);
                self.core.enter(|state, now| state.submit_and_hold(now, *task, error, reply_to));
            }
            Ok(Call::Batch(tasks)) => reply.send(&self.take_batch(tasks)),
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
            Err(Malformed { id, why }) => reply.send(&self.complaint(id.as_deref(), &why)),
        }
    }

    /// Takes a batch, in parts, so that others get their turn between them.
    fn take_batch(&self, tasks: Vec<(NewTask, Option<String>)>) -> Vec<u8> {
        let ids: Vec<TaskId> = tasks.iter().map(|(task, _)| task.id.clone()).collect();
        let mut taken = Vec::with_capacity(ids.len());
        let mut tasks = tasks.into_iter().peekable();
        while tasks.peek().is_some() {
            let (part, faults): (Vec<NewTask>, Vec<Option<String>>) = tasks.by_ref().take(FRAME_ITEMS_MAX).unzip();
            let mut errors = self.core.signatures().errors(&part);
            errors.set_all(faults.into_iter().map(|why| why.map(|why| ArgumentError::Unreadable(why.into()))));
            taken.extend(self.core.enter(|state, now| state.take(now, part, errors)));
        }
        python_compat::batch(&ids, &taken)
    }

    /// Answers what is neither JSON nor postcard.
    fn unreadable(&self, body: &[u8], error: &Unreadable) -> Vec<u8> {
        static PICKLES: Once = Once::new();
        let why = error.to_string();
        if !matches!(error, Unreadable::Pickle) {
            return self.complaint(None, &why);
        }
        // A client that sends one may send thousands: log one line that says what to do.
        PICKLES.call_once(|| tracing::warn!("a client of the original was refused: {why}; this is logged once"));
        match self.lane {
            Some(_) => python_compat::pickled_failure(body, &why),
            None => python_compat::pickled_error(&why),
        }
    }

    /// What a client of the original understands as "no".
    fn complaint(&self, id: Option<&str>, why: &str) -> Vec<u8> {
        match self.lane {
            Some(_) => python_compat::failure(id.unwrap_or_default(), why),
            None => python_compat::error(why),
        }
    }
}

impl Service for Clients {
    fn request(&self, _from: Peer, body: &[u8], reply: transport::Reply) {
        match codec::form(body) {
            Ok(SerializationFormat::Json) if !codec::is_envelope(body) => self.serve_original(body, reply),
            Ok(format) => self.serve(body, reply, format),
            Err(error) => reply.send(&self.unreadable(body, &error)),
        }
    }

    fn refuse(&self, body: &[u8], why: Refusal) -> Vec<u8> {
        let why = excuse(why);
        match codec::form(body) {
            Ok(SerializationFormat::Json) if !codec::is_envelope(body) => {
                let id = python_compat::read(body, self.lane).ok().and_then(|call| match call {
                    Call::Submit(task) => Some(task.id.to_string()),
                    Call::Batch(_) | Call::Query(_) | Call::Cancel(_) => None,
                });
                self.complaint(id.as_deref(), why)
            }
            Ok(format) => codec::encode(format, &Reply::Refused(why.into())),
            Err(error) => self.unreadable(body, &error),
        }
    }

    fn gone(&self, _peer: Peer) {}
}

/// Serves subworkers.
#[derive(Debug)]
pub struct Workers {
    core: Arc<Core>,
}

impl Workers {
    /// Serves subworkers.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

impl Service for Workers {
    fn request(&self, from: Peer, body: &[u8], reply: transport::Reply) {
        let format = codec::form(body).unwrap_or_default();
        let reply_to = ReplyTo::Peer { reply, format };
        match codec::decode::<WorkerRequest>(body) {
            Ok(request) => self.core.enter(|state, now| serve_worker(state, now, request, Some(from), reply_to)),
            Err(error) => reply_to.send(super::state::Answer::Worker(WorkerReply::Refused(error.to_string()))),
        }
    }

    fn refuse(&self, body: &[u8], why: Refusal) -> Vec<u8> {
        let format = codec::form(body).unwrap_or_default();
        codec::encode(format, &WorkerReply::Refused(excuse(why).into()))
    }

    fn gone(&self, peer: Peer) {
        self.core.enter(|state, now| state.peer_gone(now, peer));
    }
}

/// Calls the method that a worker's request names. `peer` is none for the control plane's own.
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
    }
}

fn excuse(why: Refusal) -> &'static str {
    match why {
        Refusal::Busy => "too many requests are open here: try again later",
        Refusal::Broken => "this request broke something here, which is a bug in fastworker; see its log",
    }
}
