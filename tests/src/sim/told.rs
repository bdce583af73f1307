//! What is said about ends: never two things about one end, and to each session once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fastworker::{
    control_plane::{
        sessions::empty_reply,
        state::{AnyReply, Effect, State},
    },
    protocol::{Collect, Collected, Found, Reply, Request, Submitted},
    task::{TaskId, TaskResult},
};
use uuid::Uuid;

use super::{
    checks::{Coverage, Record, ensure},
    network::{Ask, Ticket},
};

/// What was said.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The recorded ends of every task, one unless it ran anew when the first was forgotten; none
    /// where one was let go before anybody could see it.
    ends: BTreeMap<TaskId, Vec<Option<Arc<TaskResult>>>>,
    sessions: BTreeMap<Uuid, Book>,
}

/// The end of a task, the first or a later one.
type End = (TaskId, usize);

/// What one session is owed and was told.
#[derive(Debug, Default)]
struct Book {
    owed: BTreeSet<End>,
    /// What it was owed before it was forgotten.
    once_owed: BTreeSet<End>,
    /// Tasks that it must have heard of at the end.
    told: BTreeSet<TaskId>,
    /// The newest question that was answered, and how.
    newest: Option<(u64, Collected)>,
    /// The newest question.
    asked: u64,
    /// The core has forgotten it, and its client has not heard of that yet.
    forgotten: bool,
}

impl Told {
    /// A session waits for the end of a task.
    pub(crate) fn owe(&mut self, session: Uuid, id: TaskId) {
        let number = self.ends.get(&id).map_or(0, Vec::len);
        self.sessions.entry(session).or_default().owed.insert((id, number));
    }

    /// A session asks.
    pub(crate) fn asked(&mut self, collect: &Collect) {
        let book = self.sessions.entry(collect.session).or_default();
        book.asked = book.asked.max(collect.sequence);
    }

    /// The end of a task was recorded.
    pub(crate) fn ended(&mut self, id: TaskId, end: Option<Arc<TaskResult>>) {
        self.ends.entry(id).or_default().push(end);
    }

    pub(crate) fn after(
        &mut self,
        state: &State<Ticket>,
        effects: &[Effect<Ticket>],
        seen: &mut Coverage,
    ) -> Result<(), String> {
        for effect in effects {
            let Effect::Reply { to, reply } = effect else { continue };
            match reply {
                AnyReply::Client(Reply::Collected(collected)) => {
                    let Ask::Client(Request::Collect(collect)) = &*to.ask else {
                        return Err(format!("{reply:?} for somebody who asked {:?}", to.ask));
                    };
                    self.collected(collect, collected, seen)?;
                    collected.results.iter().try_for_each(|result| self.agrees(result))?;
                }
                AnyReply::Client(Reply::Submitted(taken)) => {
                    for taken in taken {
                        if let Submitted::Ended(result) = taken {
                            self.agrees(result)?;
                        }
                    }
                }
                AnyReply::Client(Reply::Found(found)) => {
                    let asked = match &*to.ask {
                        Ask::Client(Request::Lookup(lookup)) => lookup.ids.len(),
                        _ => 0,
                    };
                    ensure(found.len() == asked, || format!("{} answers to {asked} questions", found.len()))?;
                    for found in found {
                        if let Found::Ended(result) = found {
                            self.agrees(result)?;
                        }
                    }
                }
                AnyReply::Client(Reply::Reports(reports)) => {
                    if let Found::Ended(result) = &reports.task {
                        self.agrees(result)?;
                    }
                }
                _ => {}
            }
        }
        for (session, book) in &mut self.sessions {
            if !state.sessions().is_open(*session) {
                book.once_owed.append(&mut book.owed);
                // Nobody knows whether the last answer came, and it will not be given again.
                for result in book.newest.iter().flat_map(|(_, collected)| &collected.results) {
                    book.told.remove(&result.task_id);
                }
                book.forgotten = true;
            }
        }
        Ok(())
    }

    /// What is told is what was recorded.
    fn agrees(&mut self, result: &Arc<TaskResult>) -> Result<(), String> {
        let ends = self.ends.entry(result.task_id.clone()).or_default();
        if ends.iter().flatten().any(|end| is_same(end, result)) {
            return Ok(());
        }
        let unseen = ends.iter_mut().find(|end| end.is_none());
        unseen
            .map(|end| *end = Some(result.clone()))
            .ok_or_else(|| format!("told {result:?} where {ends:?} was recorded"))
    }

    fn collected(&mut self, collect: &Collect, collected: &Collected, seen: &mut Coverage) -> Result<(), String> {
        let book = self.sessions.entry(collect.session).or_default();
        let newest = book.newest.as_ref().map_or(0, |(sequence, _)| *sequence);
        if collect.sequence < newest {
            return ensure(collected.results.is_empty(), || format!("an old question {collect:?} gets {collected:?}"));
        }
        let forgotten = std::mem::take(&mut book.forgotten);
        if let Some((_, before)) = book.newest.as_ref().filter(|_| collect.sequence == newest) {
            seen.repeated += 1;
            let is_old = book.asked > newest && *collected == empty_reply();
            ensure(before == collected || forgotten || is_old, || {
                format!("{collect:?} got {before:?} and now {collected:?}")
            })?;
            if forgotten {
                // A session opened anew keeps its first answer to it.
                book.newest = Some((newest, collected.clone()));
            }
            return Ok(());
        }
        if forgotten && newest > 0 {
            seen.lost_sessions += 1;
            ensure(!collected.known, || format!("session {} is not told that it was forgotten", collect.session))?;
        }
        for result in &collected.results {
            seen.collected += 1;
            let owed = take(&mut book.owed, &result.task_id) || take(&mut book.once_owed, &result.task_id);
            ensure(owed, || format!("{} is told {} that is not owed it", collect.session, result.task_id))?;
            book.told.insert(result.task_id.clone());
        }
        book.newest = Some((collect.sequence, collected.clone()));
        Ok(())
    }

    /// After calm weather every session has heard of everything.
    pub(crate) fn finished<'a>(
        &self,
        live: &BTreeMap<TaskId, Record>,
        heard: impl Fn(Uuid) -> Option<&'a BTreeSet<TaskId>>,
    ) -> Result<(), String> {
        for (session, book) in &self.sessions {
            let Some(heard) = heard(*session) else { continue };
            let owed: Vec<_> = book.owed.iter().filter(|(id, _)| !live.contains_key(id)).collect();
            ensure(owed.is_empty(), || format!("session {session} was never told of {owed:?}"))?;
            let unheard: Vec<_> = book.told.iter().filter(|id| !heard.contains(*id)).collect();
            ensure(unheard.is_empty(), || format!("session {session} never heard of {unheard:?}"))?;
        }
        Ok(())
    }
}

/// Whether it is the same end, whatever has become of its callback since.
fn is_same(end: &TaskResult, told: &TaskResult) -> bool {
    if end.callback == told.callback {
        return end == told;
    }
    let bare = |result: &TaskResult| TaskResult { callback: None, ..result.clone() };
    end.callback.is_some() && told.callback.is_some() && bare(end) == bare(told)
}

/// Takes one end of a task out.
fn take(ends: &mut BTreeSet<End>, id: &TaskId) -> bool {
    let first = ends.range((id.clone(), 0)..).next().filter(|(next, _)| next == id).cloned();
    first.is_some_and(|end| ends.remove(&end))
}
