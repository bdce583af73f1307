//! Gathering: many tasks under way share few frames.
//!
//! Two pumps run while there is something to pump. One sends what has gathered while its last
//! frame was under way; the other keeps one question parked that is answered with whatever has
//! ended. Neither delays a first item. Invariant: who waits here hears exactly once.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    time::{sleep, timeout_at},
};
use uuid::Uuid;

use super::{ClientError, FRAME_ITEMS_MAX, Inner, SEEN_MAX, Seen, frame_len, lock, millis};
use crate::{
    protocol::{Collect, Found, Notify, Reply, Request, Submit, Submitted, WAIT_MAX},
    task::{NewTask, TaskId, TaskResult},
};

/// So long after the last sign of a session its tasks are asked for one by one; twice as long the
/// next time, up to [`DOUBT_MAX`].
const DOUBT_AFTER: Duration = Duration::from_secs(5);
const DOUBT_MAX: Duration = Duration::from_mins(1);

type Verdict<T> = oneshot::Sender<Result<T, ClientError>>;

/// What has gathered.
#[derive(Default)]
pub(super) struct Gather(Mutex<Heap>);

struct Heap {
    session: Uuid,
    /// The number of the question that is asked next, or again as long as no answer came.
    sequence: u64,
    /// Not yet sent.
    outgoing: VecDeque<NewTask>,
    /// Who waits to hear that their task was taken.
    taken: HashMap<TaskId, Vec<Verdict<()>>>,
    /// Who waits for the end of their task.
    awaited: HashMap<TaskId, Awaited>,
    /// Tasks whose end nobody waits for, but which is remembered when it comes.
    watched: HashSet<TaskId>,
    sending: bool,
    collecting: bool,
}

struct Awaited {
    /// To submit it anew, should the control plane have forgotten it.
    task: NewTask,
    verdicts: Vec<Verdict<Arc<TaskResult>>>,
}

impl Default for Heap {
    fn default() -> Self {
        Self {
            session: Uuid::now_v7(),
            sequence: 1,
            outgoing: VecDeque::new(),
            taken: HashMap::new(),
            awaited: HashMap::new(),
            watched: HashSet::new(),
            sending: false,
            collecting: false,
        }
    }
}

impl Gather {
    fn heap(&self) -> MutexGuard<'_, Heap> {
        lock(&self.0)
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
        heap.taken.entry(id.clone()).or_default().push(verdict);
        heap.watch(id.clone());
        heap.outgoing.push_back(task);
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
        let awaited = self.awaited.entry(task.id.clone());
        awaited.or_insert_with(|| Awaited { task, verdicts: Vec::new() }).verdicts.push(verdict);
    }

    /// Remembers to remember the end of a task. Beyond the bound its result can still be asked for.
    fn watch(&mut self, id: TaskId) {
        if self.watched.len() < SEEN_MAX {
            self.watched.insert(id);
        }
    }

    /// Tells whoever waits that a task has ended.
    fn tell_end(&mut self, result: &Arc<TaskResult>) {
        self.watched.remove(&result.task_id);
        let waiting = self.awaited.remove(&result.task_id).map(|awaited| awaited.verdicts);
        for verdict in waiting.into_iter().flatten() {
            drop(verdict.send(Ok(result.clone())));
        }
    }

    /// Tells whoever waits that a task was not taken.
    fn tell_refusal(&mut self, id: &TaskId, refusal: impl Fn() -> ClientError) {
        self.watched.remove(id);
        for verdict in self.taken.remove(id).into_iter().flatten() {
            drop(verdict.send(Err(refusal())));
        }
        let waiting = self.awaited.remove(id).map(|awaited| awaited.verdicts);
        for verdict in waiting.into_iter().flatten() {
            drop(verdict.send(Err(refusal())));
        }
    }

    fn tell_taken(&mut self, id: &TaskId) {
        for verdict in self.taken.remove(id).into_iter().flatten() {
            drop(verdict.send(Ok(())));
        }
    }

    /// Forgets whoever no longer waits for a task. It goes on, so its end is still of interest.
    fn give_up(&mut self, id: &TaskId) {
        if let Some(verdicts) = self.taken.get_mut(id) {
            verdicts.retain(|verdict| !verdict.is_closed());
            if verdicts.is_empty() {
                self.taken.remove(id);
            }
        }
        if let Some(awaited) = self.awaited.get_mut(id) {
            awaited.verdicts.retain(|verdict| !verdict.is_closed());
            if awaited.verdicts.is_empty() {
                self.awaited.remove(id);
                self.watch(id.clone());
            }
        }
    }

    /// Whether the end of a task is still to come.
    fn expects_ends(&self) -> bool {
        !self.awaited.is_empty() || !self.watched.is_empty()
    }
}

/// Starts to send, unless that is going on already.
fn pump(inner: &Arc<Inner>) {
    let mut heap = inner.gather.heap();
    let session = heap.session;
    if !heap.outgoing.is_empty() && !mem::replace(&mut heap.sending, true) {
        tokio::spawn(send_all(Running::new(inner, session, |heap| &mut heap.sending)));
    }
}

/// A pump that runs. Says so for as long as it lives, also when its runtime ends before it.
struct Running {
    inner: Arc<Inner>,
    /// The session it runs for. A stopped client has another one afterwards.
    session: Uuid,
    flag: fn(&mut Heap) -> &mut bool,
    is_done: bool,
}

impl Running {
    fn new(inner: &Arc<Inner>, session: Uuid, flag: fn(&mut Heap) -> &mut bool) -> Self {
        Self { inner: Arc::clone(inner), session, flag, is_done: false }
    }

    /// Goes on to the next question, which tells that the last answer came. False if the client was
    /// stopped meanwhile.
    fn next_question(&mut self) -> bool {
        let session = self.session;
        let mut heap = self.inner.gather.heap();
        let is_mine = heap.session == session;
        heap.sequence += u64::from(is_mine);
        is_mine
    }

    /// The heap, as long as there is something to do: if not, the pump is down before anybody can
    /// bring something new.
    fn heap(&mut self, has_work: impl Fn(&Heap) -> bool) -> Option<MutexGuard<'_, Heap>> {
        let mut heap = self.inner.gather.heap();
        let is_mine = heap.session == self.session;
        if is_mine && has_work(&heap) {
            return Some(heap);
        }
        if is_mine {
            *(self.flag)(&mut heap) = false;
        }
        self.is_done = true;
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut heap = self.inner.gather.heap();
        if !self.is_done && heap.session == self.session {
            *(self.flag)(&mut heap) = false;
        }
    }
}

async fn send_all(mut pump: Running) {
    loop {
        let session = pump.session;
        let frame: Vec<NewTask> = {
            let Some(mut heap) = pump.heap(|heap| !heap.outgoing.is_empty()) else { return };
            let len = frame_len(&heap.outgoing);
            heap.outgoing.drain(..len).collect()
        };
        let ids: Vec<TaskId> = frame.iter().map(|task| task.id.clone()).collect();
        let request = Request::Submit(Submit { tasks: frame, notify: Notify::Session(session) });
        let answer = pump.inner.ask(&request).await;
        note_taken(&pump.inner, &ids, answer);
        start_collecting(&pump.inner);
    }
}

fn start_collecting(inner: &Arc<Inner>) {
    let mut heap = inner.gather.heap();
    let session = heap.session;
    if heap.expects_ends() && !mem::replace(&mut heap.collecting, true) {
        tokio::spawn(collect_all(Running::new(inner, session, |heap| &mut heap.collecting)));
    }
}

fn note_taken(inner: &Inner, ids: &[TaskId], answer: Result<Reply, ClientError>) {
    match answer {
        Ok(Reply::Submitted(taken)) if taken.len() == ids.len() => {
            let mut heap = inner.gather.heap();
            for (id, taken) in ids.iter().zip(taken) {
                match taken {
                    Submitted::Accepted => heap.tell_taken(id),
                    Submitted::Ended(result) => {
                        // First remembered, so that whoever hears that it was taken can see its end.
                        remember(inner, &result);
                        heap.tell_taken(id);
                        heap.tell_end(&result);
                    }
                    Submitted::Refused(why) => refuse(inner, &mut heap, id, || ClientError::Refused(why.clone())),
                }
            }
        }
        Ok(other) => {
            let what: String = format!("{other:?}").chars().take(200).collect();
            refuse_all(inner, ids, || ClientError::Refused(what.clone()));
        }
        Err(ClientError::Unreachable { address, waited }) => {
            refuse_all(inner, ids, || ClientError::Unreachable { address: address.clone(), waited });
        }
        Err(ClientError::Stopped) => refuse_all(inner, ids, || ClientError::Stopped),
        Err(other) => refuse_all(inner, ids, || ClientError::Refused(other.to_string())),
    }
}

fn refuse_all(inner: &Inner, ids: &[TaskId], refusal: impl Fn() -> ClientError) {
    let mut heap = inner.gather.heap();
    for id in ids {
        refuse(inner, &mut heap, id, &refusal);
    }
}

/// Tells that a task was not taken, and forgets it: it does not stand in any way.
fn refuse(inner: &Inner, heap: &mut Heap, id: &TaskId, refusal: impl Fn() -> ClientError) {
    lock(&inner.seen).pop(id);
    heap.tell_refusal(id, refusal);
}

async fn collect_all(mut pump: Running) {
    let (mut last_sign, mut doubt) = (Instant::now(), DOUBT_AFTER);
    loop {
        let wait = doubt.min(WAIT_MAX);
        let collect = {
            let Some(heap) = pump.heap(Heap::expects_ends) else { return };
            Collect { session: heap.session, sequence: heap.sequence, wait_ms: millis(wait) }
        };
        match pump.inner.ask_for(&Request::Collect(collect), wait).await {
            Ok(Reply::Collected(collected)) => {
                if !pump.next_question() {
                    return;
                }
                if !collected.results.is_empty() {
                    (last_sign, doubt) = (Instant::now(), DOUBT_AFTER);
                }
                note_ended(&pump.inner, &collected.results);
                if !collected.known || last_sign.elapsed() >= doubt {
                    (last_sign, doubt) = (Instant::now(), (doubt * 2).min(DOUBT_MAX));
                    ask_one_by_one(&pump.inner).await;
                }
            }
            Err(ClientError::Stopped) => return,
            // Nobody answers, or not this: whoever waits gives up in their own time.
            Ok(_) | Err(_) => sleep(PAUSE).await,
        }
    }
}

/// So long after a question that brought nothing of use it is asked again.
const PAUSE: Duration = Duration::from_millis(200);

fn note_ended(inner: &Inner, results: &[Arc<TaskResult>]) {
    let mut heap = inner.gather.heap();
    for result in results {
        remember(inner, result);
        heap.tell_end(result);
    }
}

/// Asks for every expected task by its id, and submits those anew that somebody waits for and
/// nobody knows any more.
async fn ask_one_by_one(inner: &Arc<Inner>) {
    let mut ids: Vec<TaskId> = {
        let mut heap = inner.gather.heap();
        heap.awaited.retain(|_, awaited| awaited.verdicts.iter().any(|verdict| !verdict.is_closed()));
        let unsent: HashSet<&TaskId> = heap.outgoing.iter().map(|task| &task.id).collect();
        heap.awaited.keys().chain(&heap.watched).filter(|id| !unsent.contains(id)).cloned().collect()
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
                    heap.tell_end(&result);
                }
                Found::Unknown => {
                    heap.watched.remove(&id);
                    if let Some(task) = heap.awaited.get(&id).map(|awaited| awaited.task.clone()) {
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
