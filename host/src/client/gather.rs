//! Gathering: many tasks under way share few frames.
//!
//! Two pumps run while there is something to pump. One sends what has gathered while its last
//! frame was under way; the other keeps one question parked that is answered with whatever has
//! ended. Neither delays a first item. Invariant: who waits here hears exactly once.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout_at};
use uuid::Uuid;

use super::{ClientError, FRAME_ITEMS_MAX, Inner, Seen, frame_len, lock, millis};
use crate::{
    protocol::{Collect, Found, Notify, Reply, Request, Submit, Submitted, WAIT_MAX},
    task::{NewTask, TaskId, TaskResult},
};

/// So long after the last sign of a session its tasks are asked for one by one.
const DOUBT_AFTER: Duration = Duration::from_secs(5);

type Verdict<T> = oneshot::Sender<Result<T, ClientError>>;

/// What has gathered.
#[derive(Default)]
pub(super) struct Gather(Mutex<Heap>);

struct Heap {
    session: Uuid,
    sequence: u64,
    /// Not yet sent.
    outgoing: VecDeque<NewTask>,
    /// Who waits to hear that their task was taken.
    taken: HashMap<TaskId, Verdict<()>>,
    /// Who waits for the end of their task.
    ended: HashMap<TaskId, (NewTask, Verdict<Arc<TaskResult>>)>,
    /// Tasks whose end nobody waits for, but which is remembered when it comes.
    watched: usize,
    sending: bool,
    collecting: bool,
}

impl Default for Heap {
    fn default() -> Self {
        Self {
            session: Uuid::now_v7(),
            sequence: 0,
            outgoing: VecDeque::new(),
            taken: HashMap::new(),
            ended: HashMap::new(),
            watched: 0,
            sending: false,
            collecting: false,
        }
    }
}

impl Gather {
    fn heap(&self) -> MutexGuard<'_, Heap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything. Whoever waits hears that the client was stopped.
    pub(super) fn stop(&self) {
        let heap = mem::take(&mut *self.heap());
        drop(heap);
    }
}

/// Submits a task and waits until it was taken.
pub(super) async fn accepted(inner: &Arc<Inner>, task: NewTask, until: Instant) -> Result<(), ClientError> {
    let id = task.id.clone();
    let (verdict, heard) = oneshot::channel();
    {
        let mut heap = inner.gather.heap();
        heap.taken.insert(id.clone(), verdict);
        heap.outgoing.push_back(task);
        heap.watched += 1;
    }
    pump(inner);
    hear(inner, heard, id, until).await
}

/// Submits a task and waits until it has ended.
pub(super) async fn ended(inner: &Arc<Inner>, task: NewTask, until: Instant) -> Result<Arc<TaskResult>, ClientError> {
    let id = task.id.clone();
    let (verdict, heard) = oneshot::channel();
    inner.gather.heap().await_end(task, verdict);
    pump(inner);
    hear(inner, heard, id, until).await
}

/// Submits many tasks and waits until all have ended.
pub(super) async fn all_ended(
    inner: &Arc<Inner>,
    tasks: Vec<NewTask>,
    until: Instant,
) -> Vec<Result<Arc<TaskResult>, ClientError>> {
    let mut waits = Vec::with_capacity(tasks.len());
    {
        let mut heap = inner.gather.heap();
        for task in tasks {
            let id = task.id.clone();
            let (verdict, heard) = oneshot::channel();
            heap.await_end(task, verdict);
            waits.push((id, heard));
        }
    }
    pump(inner);
    let mut results = Vec::with_capacity(waits.len());
    for (id, heard) in waits {
        results.push(hear(inner, heard, id, until).await);
    }
    results
}

async fn hear<T>(
    inner: &Inner,
    heard: oneshot::Receiver<Result<T, ClientError>>,
    task_id: TaskId,
    until: Instant,
) -> Result<T, ClientError> {
    match timeout_at(until.into(), heard).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(_)) => Err(ClientError::Stopped),
        Err(_) => {
            inner.gather.heap().give_up(&task_id);
            Err(ClientError::TimedOut { task_id, waited: inner.config.timeout })
        }
    }
}

impl Heap {
    fn await_end(&mut self, task: NewTask, verdict: Verdict<Arc<TaskResult>>) {
        self.outgoing.push_back(task.clone());
        self.ended.insert(task.id.clone(), (task, verdict));
    }

    /// Tells whoever waits that a task has ended.
    fn tell_end(&mut self, result: Arc<TaskResult>) {
        match self.ended.remove(&result.task_id) {
            Some((_, verdict)) => drop(verdict.send(Ok(result))),
            None => self.watched = self.watched.saturating_sub(1),
        }
    }

    /// Tells whoever waits that a task was not taken.
    fn tell_refusal(&mut self, id: &TaskId, refusal: impl Fn() -> ClientError) {
        if let Some(verdict) = self.taken.remove(id) {
            self.watched = self.watched.saturating_sub(1);
            drop(verdict.send(Err(refusal())));
        }
        if let Some((_, verdict)) = self.ended.remove(id) {
            drop(verdict.send(Err(refusal())));
        }
    }

    fn tell_refusals(&mut self, ids: &[TaskId], refusal: impl Fn() -> ClientError) {
        for id in ids {
            self.tell_refusal(id, &refusal);
        }
    }

    /// Forgets who waited for a task.
    fn give_up(&mut self, id: &TaskId) {
        self.taken.remove(id);
        self.ended.remove(id);
    }

    fn tell_taken(&mut self, id: &TaskId) {
        if let Some(verdict) = self.taken.remove(id) {
            drop(verdict.send(Ok(())));
        }
    }

    /// Whether the end of a task is still to come.
    fn expects_ends(&self) -> bool {
        !self.ended.is_empty() || self.watched > 0
    }
}

/// Starts the pumps that are needed and do not run.
fn pump(inner: &Arc<Inner>) {
    let mut heap = inner.gather.heap();
    if !heap.outgoing.is_empty() && !mem::replace(&mut heap.sending, true) {
        tokio::spawn(send_all(Arc::clone(inner)));
    }
}

async fn send_all(inner: Arc<Inner>) {
    loop {
        let (frame, session) = {
            let mut heap = inner.gather.heap();
            if heap.outgoing.is_empty() {
                heap.sending = false;
                return;
            }
            let len = frame_len(&heap.outgoing);
            let frame: Vec<NewTask> = heap.outgoing.drain(..len).collect();
            (frame, heap.session)
        };
        let ids: Vec<TaskId> = frame.iter().map(|task| task.id.clone()).collect();
        let request = Request::Submit(Submit { tasks: frame, notify: Notify::Session(session) });
        let answer = inner.ask(&request).await;
        note_taken(&inner, &ids, answer);
        let mut heap = inner.gather.heap();
        if heap.expects_ends() && !mem::replace(&mut heap.collecting, true) {
            tokio::spawn(collect_all(Arc::clone(&inner)));
        }
    }
}

fn note_taken(inner: &Inner, ids: &[TaskId], answer: Result<Reply, ClientError>) {
    let mut heap = inner.gather.heap();
    match answer {
        Ok(Reply::Submitted(taken)) if taken.len() == ids.len() => {
            for (id, taken) in ids.iter().zip(taken) {
                match taken {
                    Submitted::Accepted => heap.tell_taken(id),
                    Submitted::Ended(result) => {
                        heap.tell_taken(id);
                        remember(inner, &result);
                        heap.tell_end(result);
                    }
                    Submitted::Refused(why) => heap.tell_refusal(id, || ClientError::Refused(why.clone())),
                }
            }
        }
        Ok(other) => {
            let what: String = format!("{other:?}").chars().take(200).collect();
            heap.tell_refusals(ids, || ClientError::Refused(what.clone()));
        }
        Err(ClientError::Unreachable { address, waited }) => {
            heap.tell_refusals(ids, || ClientError::Unreachable { address: address.clone(), waited });
        }
        Err(ClientError::Stopped) => heap.tell_refusals(ids, || ClientError::Stopped),
        Err(other) => heap.tell_refusals(ids, || ClientError::Refused(other.to_string())),
    }
}

async fn collect_all(inner: Arc<Inner>) {
    let mut last_sign = Instant::now();
    loop {
        let collect = {
            let mut heap = inner.gather.heap();
            if !heap.expects_ends() {
                heap.collecting = false;
                return;
            }
            heap.sequence += 1;
            Collect { session: heap.session, sequence: heap.sequence, wait_ms: millis(DOUBT_AFTER.min(WAIT_MAX)) }
        };
        match inner.ask_for(&Request::Collect(collect), DOUBT_AFTER).await {
            Ok(Reply::Collected(collected)) => {
                if !collected.results.is_empty() {
                    last_sign = Instant::now();
                }
                note_ended(&inner, collected.results);
                if !collected.known || last_sign.elapsed() >= DOUBT_AFTER {
                    last_sign = Instant::now();
                    ask_one_by_one(&inner).await;
                }
            }
            Err(ClientError::Stopped) => {
                inner.gather.heap().collecting = false;
                return;
            }
            // Nobody answers: whoever waits gives up in their own time.
            Ok(_) | Err(_) => {}
        }
    }
}

fn note_ended(inner: &Inner, results: Vec<Arc<TaskResult>>) {
    let mut heap = inner.gather.heap();
    for result in results {
        remember(inner, &result);
        heap.tell_end(result);
    }
}

/// Asks for every awaited task by its id, and submits those anew that nobody knows any more.
async fn ask_one_by_one(inner: &Arc<Inner>) {
    let mut ids: Vec<TaskId> = {
        let mut heap = inner.gather.heap();
        heap.watched = 0;
        let unsent: HashSet<TaskId> = heap.outgoing.iter().map(|task| task.id.clone()).collect();
        heap.ended.keys().filter(|id| !unsent.contains(id)).cloned().collect()
    };
    while !ids.is_empty() {
        let asked = ids[..ids.len().min(FRAME_ITEMS_MAX)].to_vec();
        let Ok(found) = inner.look_up(asked, Duration::ZERO).await else { return };
        if found.is_empty() {
            return;
        }
        let mut heap = inner.gather.heap();
        for (id, found) in ids.drain(..found.len().min(ids.len())).zip(found) {
            match found {
                Found::Live(_) => {}
                Found::Ended(result) => {
                    remember(inner, &result);
                    heap.tell_end(result);
                }
                Found::Unknown => {
                    if let Some((task, _)) = heap.ended.get(&id) {
                        let task = task.clone();
                        heap.outgoing.push_back(task);
                    }
                }
            }
        }
    }
    pump(inner);
}

fn remember(inner: &Inner, result: &Arc<TaskResult>) {
    lock(&inner.seen).put(result.task_id.clone(), Seen::Ended(result.clone()));
}
