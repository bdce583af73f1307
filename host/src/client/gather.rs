//! Gathering: many tasks under way share few frames.
//!
//! Two pumps run while there is something to pump. One sends what has gathered while its last
//! frame was under way; the other keeps one question parked that is answered with whatever has
//! ended. Neither delays a first item. Invariants: who waits here hears exactly once; each session
//! has at most one pump of each kind, and a pump touches nothing of another session.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::{Duration, Instant},
};

use lru::LruCache;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout_at},
};
use uuid::Uuid;

use super::{ClientError, FRAME_ITEMS_MAX, Inner, SEEN_MAX, connection::STOPPING_PAUSE, millis};
use crate::{
    clock::after,
    lock::lock,
    protocol::{
        Collect, Collected, FRAME_TARGET, Found, Notify, RefusalCode, Reply, Request, Submit, Submitted, WAIT_MAX,
    },
    task::{NewTask, TaskId, TaskResult},
};

/// So long after the last sign of a session its tasks are asked for one by one.
const DOUBT_AFTER: Duration = Duration::from_secs(5);
/// The longest between two rounds of asking one by one, each of which doubles the time.
const DOUBT_MAX: Duration = Duration::from_mins(1);
/// How soon to collect again after a question that failed.
const PAUSE: Duration = Duration::from_secs(1);

type Verdict<T> = oneshot::Sender<Result<T, ClientError>>;

/// What has gathered.
#[derive(Default)]
pub(super) struct Gather(Mutex<Heap>);

struct Heap {
    session: Uuid,
    /// The number of the last question whose answer came.
    sequence: u64,
    /// Not yet sent.
    outgoing: VecDeque<NewTask>,
    /// Who waits to hear that their task was taken.
    taken: HashMap<TaskId, Vec<Verdict<()>>>,
    /// Who waits for the end of their task.
    ended: HashMap<TaskId, Awaited>,
    /// Tasks whose end nobody waits for, but which is remembered when it comes: the newest
    /// [`SEEN_MAX`].
    watched: LruCache<TaskId, ()>,
    /// Why the control plane that was asked last took nothing, if that is because it is stopping.
    stopping: Option<ClientError>,
    sending: bool,
    collecting: bool,
}

/// A task whose end is waited for.
struct Awaited {
    /// To submit it anew, if the control plane has forgotten it.
    task: NewTask,
    /// Whether the control plane has answered that it took it.
    taken: bool,
    verdicts: Vec<Verdict<Arc<TaskResult>>>,
}

impl Default for Heap {
    fn default() -> Self {
        Self {
            session: Uuid::now_v7(),
            sequence: 0,
            outgoing: VecDeque::new(),
            taken: HashMap::new(),
            ended: HashMap::new(),
            watched: LruCache::unbounded(),
            stopping: None,
            sending: false,
            collecting: false,
        }
    }
}

impl Gather {
    fn heap(&self) -> MutexGuard<'_, Heap> {
        lock(&self.0)
    }

    /// The heap, if it is still that of this session.
    fn heap_of(&self, session: Uuid) -> Option<MutexGuard<'_, Heap>> {
        Some(self.heap()).filter(|heap| heap.session == session)
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
    let heard = inner.gather.heap().await_taken(task);
    pump(inner);
    hear(inner, heard, id, until).await
}

/// Submits a task and waits until it has ended.
pub(super) async fn ended(inner: &Arc<Inner>, task: NewTask, until: Instant) -> Result<Arc<TaskResult>, ClientError> {
    let id = task.id.clone();
    let heard = inner.gather.heap().await_end(task);
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
        waits.extend(tasks.into_iter().map(|task| (task.id.clone(), heap.await_end(task))));
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
    let heard = timeout_at(until.into(), heard).await;
    match heard {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(_)) => Err(ClientError::Stopped),
        Err(_) => {
            let (taken, stopping) = {
                let mut heap = inner.gather.heap();
                (heap.give_up(&task_id), heap.stopping.clone())
            };
            Err(stopping.filter(|_| !taken).unwrap_or_else(|| inner.out_of_time(task_id, taken)))
        }
    }
}

impl Heap {
    fn await_taken(&mut self, task: NewTask) -> oneshot::Receiver<Result<(), ClientError>> {
        let (verdict, heard) = oneshot::channel();
        self.watched.put(task.id.clone(), ());
        if self.watched.len() > SEEN_MAX {
            self.watched.pop_lru();
        }
        let waiting = self.taken.entry(task.id.clone()).or_default();
        // A task that somebody else submits right now is on its way.
        if waiting.iter().all(Verdict::is_closed) {
            self.outgoing.push_back(task);
        }
        waiting.push(verdict);
        heard
    }

    fn await_end(&mut self, task: NewTask) -> oneshot::Receiver<Result<Arc<TaskResult>, ClientError>> {
        let (verdict, heard) = oneshot::channel();
        if let Some(awaited) = self.ended.get_mut(&task.id).filter(|awaited| awaited.is_awaited()) {
            awaited.verdicts.push(verdict);
        } else {
            self.outgoing.push_back(task.clone());
            self.ended.insert(task.id.clone(), Awaited { task, taken: false, verdicts: vec![verdict] });
        }
        heard
    }

    /// Tells whoever waits that a task has ended.
    fn tell_end(&mut self, result: &Arc<TaskResult>) {
        self.watched.pop(&result.task_id);
        if let Some(awaited) = self.ended.remove(&result.task_id) {
            tell(awaited.verdicts, &Ok(Arc::clone(result)));
        }
    }

    /// Tells whoever waits that a task was not taken.
    fn tell_refusal(&mut self, id: &TaskId, refusal: &ClientError) {
        self.watched.pop(id);
        if let Some(verdicts) = self.taken.remove(id) {
            tell(verdicts, &Err(refusal.clone()));
        }
        // One that was taken before goes on, whatever becomes of submitting it again.
        if self.ended.get(id).is_some_and(|awaited| !awaited.taken)
            && let Some(awaited) = self.ended.remove(id)
        {
            tell(awaited.verdicts, &Err(refusal.clone()));
        }
    }

    /// Puts tasks back that a control plane did not take as it is stopping, if somebody still waits for
    /// them.
    fn send_again(&mut self, tasks: Vec<NewTask>) {
        for task in tasks.into_iter().rev() {
            let is_taking = |verdicts: &Vec<Verdict<()>>| verdicts.iter().any(|verdict| !verdict.is_closed());
            let is_awaited = self.ended.get(&task.id).is_some_and(Awaited::is_awaited);
            if is_awaited || self.taken.get(&task.id).is_some_and(is_taking) {
                self.outgoing.push_front(task);
            }
        }
    }

    fn tell_taken(&mut self, id: &TaskId) {
        if let Some(verdicts) = self.taken.remove(id) {
            tell(verdicts, &Ok(()));
        }
        if let Some(awaited) = self.ended.get_mut(id) {
            awaited.taken = true;
        }
    }

    /// Forgets who waits for a task no more. Returns whether the task is known to have been taken.
    fn give_up(&mut self, id: &TaskId) -> bool {
        let taken = self.ended.get(id).is_some_and(|awaited| awaited.taken);
        if let Some(verdicts) = self.taken.get_mut(id) {
            verdicts.retain(|verdict| !verdict.is_closed());
            if verdicts.is_empty() {
                self.taken.remove(id);
            }
        }
        if let Some(awaited) = self.ended.get_mut(id) {
            awaited.verdicts.retain(|verdict| !verdict.is_closed());
            if awaited.verdicts.is_empty() {
                self.ended.remove(id);
            }
        }
        taken
    }

    /// Forgets the tasks whose waiters are all gone, and gives the others that were sent.
    fn in_doubt(&mut self) -> Vec<TaskId> {
        self.ended.retain(|_, awaited| awaited.is_awaited());
        let unsent: HashSet<&TaskId> = self.outgoing.iter().map(|task| &task.id).collect();
        // What is watched and waits to be taken may be on its way: who asks now hears of nothing.
        let watched = self.watched.iter().map(|(id, ())| id).filter(|id| !self.taken.contains_key(id));
        let ids: HashSet<&TaskId> = self.ended.keys().chain(watched).filter(|id| !unsent.contains(id)).collect();
        ids.into_iter().cloned().collect()
    }

    /// Submits a task anew that nobody knows any more, if somebody waits for it. Returns whether.
    fn submit_anew(&mut self, id: &TaskId) -> bool {
        self.watched.pop(id);
        let Some(awaited) = self.ended.get_mut(id).filter(|awaited| awaited.is_awaited()) else {
            self.ended.remove(id);
            return false;
        };
        awaited.taken = false;
        self.outgoing.push_back(awaited.task.clone());
        true
    }

    /// Whether the end of a task is still to come.
    fn expects_ends(&self) -> bool {
        !self.ended.is_empty() || !self.watched.is_empty()
    }
}

impl Awaited {
    fn is_awaited(&self) -> bool {
        self.verdicts.iter().any(|verdict| !verdict.is_closed())
    }
}

fn tell<T: Clone>(verdicts: Vec<Verdict<T>>, verdict: &Result<T, ClientError>) {
    for waiting in verdicts {
        drop(waiting.send(verdict.clone()));
    }
}

/// The kinds of pump, each with the mark that one runs.
#[derive(Clone, Copy)]
enum Kind {
    Sender,
    Collector,
}

impl Kind {
    fn mark(self, heap: &mut Heap) -> &mut bool {
        match self {
            Self::Sender => &mut heap.sending,
            Self::Collector => &mut heap.collecting,
        }
    }
}

/// The right to be the one pump of a kind. Dropped, as with a runtime that ends, it makes room for
/// another; so never drop it while holding the heap. It does not keep its client.
struct Pump {
    inner: Weak<Inner>,
    session: Uuid,
    kind: Kind,
    ended: bool,
}

impl Pump {
    /// None if one runs.
    fn start(inner: &Arc<Inner>, heap: &mut Heap, kind: Kind) -> Option<Self> {
        let runs = mem::replace(kind.mark(heap), true);
        (!runs).then(|| Self { inner: Arc::downgrade(inner), session: heap.session, kind, ended: false })
    }

    /// Ends under the lock under which nothing was left to do, so that what comes next starts another.
    fn end(&mut self, heap: &mut Heap) {
        *self.kind.mark(heap) = false;
        self.ended = true;
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let Some(inner) = self.inner.upgrade().filter(|_| !self.ended) else { return };
        if let Some(mut heap) = inner.gather.heap_of(self.session) {
            *self.kind.mark(&mut heap) = false;
        }
    }
}

/// Starts the pumps that are needed and do not run.
fn pump(inner: &Arc<Inner>) {
    let sender = {
        let mut heap = inner.gather.heap();
        if heap.outgoing.is_empty() { None } else { Pump::start(inner, &mut heap, Kind::Sender) }
    };
    if let Some(sender) = sender {
        tokio::spawn(send_all(sender));
    }
}

async fn send_all(mut pump: Pump) {
    loop {
        let Some(inner) = pump.inner.upgrade() else { return };
        let frame: Vec<NewTask> = {
            let Some(mut heap) = inner.gather.heap_of(pump.session) else { return };
            if heap.outgoing.is_empty() {
                return pump.end(&mut heap);
            }
            let len = frame_len(&heap.outgoing);
            heap.outgoing.drain(..len).collect()
        };
        let submit = Submit { tasks: frame, notify: Notify::Session(pump.session) };
        let request = Request::Submit(submit);
        let answer = inner.unless_stopped(inner.ask(&request)).await;
        let Request::Submit(Submit { tasks, .. }) = request else { return };
        let (collector, is_stopping) = {
            let Some(mut heap) = inner.gather.heap_of(pump.session) else { return };
            let again = note_taken(&inner, &mut heap, tasks, answer);
            let is_stopping = !again.is_empty();
            heap.send_again(again);
            let collector = if heap.expects_ends() { Pump::start(&inner, &mut heap, Kind::Collector) } else { None };
            (collector, is_stopping)
        };
        if let Some(collector) = collector {
            tokio::spawn(collect_all(collector));
        }
        if is_stopping {
            drop(inner);
            sleep(STOPPING_PAUSE).await;
        }
    }
}

/// Completes the waits for the tasks of a frame, and returns those to send again, as the control
/// plane that did not take them is stopping.
fn note_taken(inner: &Inner, heap: &mut Heap, tasks: Vec<NewTask>, answer: Result<Reply, ClientError>) -> Vec<NewTask> {
    let error = match answer {
        Ok(Reply::Submitted(taken)) if taken.len() == tasks.len() => {
            let mut again = Vec::new();
            heap.stopping = None;
            for (task, taken) in tasks.into_iter().zip(taken) {
                let id = &task.id;
                match taken {
                    Submitted::Accepted => heap.tell_taken(id),
                    Submitted::Ended(result) => {
                        // Remembered first, so that who hears that it was taken can see its end.
                        inner.remember(&result);
                        heap.tell_taken(id);
                        heap.tell_end(&result);
                    }
                    Submitted::Refused(refusal) if refusal.code == RefusalCode::Stopping => {
                        heap.stopping = Some(ClientError::Refused(refusal));
                        again.push(task);
                    }
                    Submitted::Refused(refusal) => {
                        inner.forget(id);
                        heap.tell_refusal(id, &ClientError::Refused(refusal));
                    }
                }
            }
            return again;
        }
        Ok(_) => inner.confused(),
        Err(error) if error.is_stopping() => {
            heap.stopping = Some(error);
            return tasks;
        }
        Err(error) => error,
    };
    for NewTask { id, .. } in &tasks {
        if error.is_refusal() {
            inner.forget(id);
        }
        heap.tell_refusal(id, &error);
    }
    Vec::new()
}

async fn collect_all(mut pump: Pump) {
    let (mut last_sign, mut doubt) = (Instant::now(), DOUBT_AFTER);
    loop {
        let Some(inner) = pump.inner.upgrade() else { return };
        let collect = {
            let Some(mut heap) = inner.gather.heap_of(pump.session) else { return };
            if !heap.expects_ends() {
                return pump.end(&mut heap);
            }
            let wait_ms = millis(DOUBT_AFTER.min(WAIT_MAX));
            Collect { session: heap.session, sequence: heap.sequence + 1, wait_ms }
        };
        let answer = inner.unless_stopped(inner.ask_for(&Request::Collect(collect), DOUBT_AFTER)).await;
        let Ok(Reply::Collected(Collected { known, results })) = answer else {
            // Nobody answers: whoever waits gives up in their own time.
            drop(inner);
            sleep(PAUSE).await;
            continue;
        };
        if !results.is_empty() {
            (last_sign, doubt) = (Instant::now(), DOUBT_AFTER);
        }
        {
            let Some(mut heap) = inner.gather.heap_of(pump.session) else { return };
            heap.sequence += 1;
            for result in results {
                inner.remember(&result);
                heap.tell_end(&result);
            }
        }
        if !known || last_sign.elapsed() >= doubt {
            ask_one_by_one(&inner, pump.session).await;
            (last_sign, doubt) = (Instant::now(), (doubt * 2).min(DOUBT_MAX));
        }
    }
}

/// Asks for every task by its id, and submits those anew that are awaited and that nobody knows any
/// more.
async fn ask_one_by_one(inner: &Arc<Inner>, session: Uuid) {
    let Some(mut ids) = inner.gather.heap_of(session).map(|mut heap| heap.in_doubt()) else { return };
    while !ids.is_empty() {
        let asked = ids[..ids.len().min(FRAME_ITEMS_MAX)].to_vec();
        let latest = after(inner.config.timeout);
        let found = inner.unless_stopped(inner.look_up(asked, Duration::ZERO, latest)).await;
        let Some(found) = found.ok().filter(|found| !found.is_empty()) else { break };
        let Some(mut heap) = inner.gather.heap_of(session) else { return };
        for (id, found) in ids.drain(..found.len().min(ids.len())).zip(found) {
            match found {
                Found::Live(_) => {}
                Found::Ended(result) => {
                    inner.remember(&result);
                    heap.tell_end(&result);
                }
                Found::Unknown => {
                    if !heap.submit_anew(&id) {
                        inner.forget(&id);
                    }
                }
            }
        }
    }
    pump(inner);
}

/// How many of these tasks go into one frame.
fn frame_len<'a>(tasks: impl IntoIterator<Item = &'a NewTask>) -> usize {
    let mut bytes = 0;
    let fits = tasks.into_iter().take(FRAME_ITEMS_MAX).take_while(|task| {
        bytes += task.size() + task.name.len();
        bytes <= FRAME_TARGET
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Refusal;
    use crate::{
        client::{Client, ClientBuilder},
        task::{SerializationFormat, TaskStatus},
    };

    fn task(id: &str) -> NewTask {
        NewTask { id: id.parse().expect("an id"), ..NewTask::new("add") }
    }

    fn ended(id: &str) -> Arc<TaskResult> {
        Arc::new(TaskResult::new(id.parse().expect("an id"), TaskStatus::Success))
    }

    fn client() -> Client {
        ClientBuilder::default().serialization_format(SerializationFormat::Json).build()
    }

    #[test]
    fn all_who_wait_for_one_task_hear_of_its_end_and_it_is_sent_once() {
        let mut heap = Heap::default();
        let (mut first, mut second) = (heap.await_end(task("T1")), heap.await_end(task("T1")));
        assert_eq!(heap.outgoing.len(), 1);
        heap.tell_end(&ended("T1"));
        assert!(matches!(first.try_recv(), Ok(Ok(_))));
        assert!(matches!(second.try_recv(), Ok(Ok(_))));
        assert!(!heap.expects_ends());
    }

    #[test]
    fn who_gives_up_leaves_the_others_waiting() {
        let mut heap = Heap::default();
        let (first, mut second) = (heap.await_end(task("T1")), heap.await_end(task("T1")));
        let watched = heap.await_taken(task("T2"));
        drop(first);
        heap.tell_taken(&task("T1").id);
        assert!(heap.give_up(&task("T1").id), "it was taken");
        heap.tell_end(&ended("T1"));
        assert!(matches!(second.try_recv(), Ok(Ok(_))));
        drop(watched);
        assert!(!heap.give_up(&task("T2").id));
        assert!(heap.expects_ends(), "the end of T2 is of interest");
        heap.tell_end(&ended("T2"));
        assert!(!heap.expects_ends());
    }

    #[test]
    fn what_nobody_waits_for_is_asked_for_and_never_submitted_anew() {
        let mut heap = Heap::default();
        let (gone, waits, taken) =
            (heap.await_end(task("gone")), heap.await_end(task("waits")), heap.await_taken(task("watched")));
        assert!(heap.in_doubt().is_empty(), "nothing was sent");
        heap.outgoing.clear();
        assert!(!heap.in_doubt().contains(&task("watched").id), "it may be on its way");
        heap.tell_taken(&task("watched").id);
        drop((gone, taken));
        let mut ids = heap.in_doubt();
        ids.sort();
        assert_eq!(ids, ["waits", "watched"].map(|id| task(id).id));
        assert!(heap.submit_anew(&ids[0]));
        assert!(!heap.submit_anew(&ids[1]));
        drop(waits);
        assert!(!heap.submit_anew(&ids[0]));
        assert_eq!(heap.outgoing.len(), 1);
        assert!(!heap.expects_ends());
    }

    #[test]
    fn no_more_than_the_newest_tasks_are_watched() {
        let mut heap = Heap::default();
        for _ in 0..=SEEN_MAX {
            drop(heap.await_taken(NewTask::new("add")));
        }
        assert_eq!(heap.watched.len(), SEEN_MAX);
    }

    #[test]
    fn a_task_that_ended_at_once_is_remembered_and_a_refused_one_is_forgotten() {
        let client = client();
        let inner = &client.0;
        let tasks = ["ended", "refused"].map(task);
        let ids = tasks.clone().map(|task| task.id);
        for id in &ids {
            inner.note_submitted(id);
        }
        let mut heap = Heap::default();
        let (mut first, mut second) = (heap.await_taken(task("ended")), heap.await_taken(task("refused")));
        let taken =
            vec![Submitted::Ended(ended("ended")), Submitted::Refused(Refusal::new(RefusalCode::BadRequest, "no"))];
        let again = note_taken(inner, &mut heap, tasks.to_vec(), Ok(Reply::Submitted(taken)));
        assert!(again.is_empty());
        assert!(matches!(first.try_recv(), Ok(Ok(()))));
        assert!(matches!(second.try_recv(), Ok(Err(ClientError::Refused(_)))));
        assert_eq!(client.get_status(&ids[0]), Some(TaskStatus::Success));
        assert_eq!(client.get_status(&ids[1]), None);
        assert!(!heap.expects_ends());
    }

    #[test]
    fn what_a_stopping_control_plane_did_not_take_is_sent_again() {
        let client = client();
        let mut heap = Heap::default();
        let (mut waits, gone) = (heap.await_end(task("waits")), heap.await_end(task("gone")));
        let tasks: Vec<NewTask> = heap.outgoing.drain(..).collect();
        drop(gone);
        let why = Refusal::new(RefusalCode::Stopping, "the control plane is stopping");
        let refused = Reply::Submitted(vec![Submitted::Refused(why.clone()); 2]);
        let again = note_taken(&client.0, &mut heap, tasks, Ok(refused));
        heap.send_again(again);
        assert!(waits.try_recv().is_err(), "it waits on");
        assert_eq!(heap.outgoing.iter().map(|task| task.id.to_string()).collect::<Vec<_>>(), ["waits"]);
        let tasks: Vec<NewTask> = heap.outgoing.drain(..).collect();
        assert_eq!(note_taken(&client.0, &mut heap, tasks, Err(ClientError::Refused(why))).len(), 1);
    }

    #[test]
    fn a_pump_that_is_dropped_makes_room_only_in_its_own_session() {
        let client = client();
        let inner = &client.0;
        let start = || Pump::start(inner, &mut inner.gather.heap(), Kind::Collector);
        let first = start().expect("none runs");
        assert!(start().is_none());
        drop(first);
        let old = start().expect("the first was dropped");
        inner.gather.stop();
        let mut new = start().expect("a new session");
        drop(old);
        assert!(start().is_none(), "the new one runs");
        new.end(&mut inner.gather.heap());
        let _next = start().expect("the last has ended");
        drop(new);
        assert!(start().is_none(), "a pump that has ended unmarks nothing");
    }
}
