//! What is said about ends: never two things about one end, and to each session once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fastworker::{
    control_plane::state::{Answer, Effect},
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
    /// The recorded end of every task; none where it was let go before anybody could see it.
    ends: BTreeMap<TaskId, Option<Arc<TaskResult>>>,
    sessions: BTreeMap<Uuid, Book>,
}

/// What one session is owed and was told.
#[derive(Debug, Default)]
struct Book {
    owed: BTreeSet<TaskId>,
    /// Tasks that it must have heard of at the end.
    told: BTreeSet<TaskId>,
    /// The newest question that was answered, and how.
    newest: Option<(u64, Collected)>,
}

impl Told {
    /// A task runs anew, since nobody knows its end any more.
    pub(crate) fn forget(&mut self, id: &TaskId) {
        self.ends.remove(id);
    }

    /// A session waits for the end of a task.
    pub(crate) fn owe(&mut self, session: Uuid, id: TaskId) {
        self.sessions.entry(session).or_default().owed.insert(id);
    }

    /// The end of a task was recorded.
    pub(crate) fn ended(&mut self, id: TaskId, end: Option<Arc<TaskResult>>) {
        self.ends.insert(id, end);
    }

    pub(crate) fn after(&mut self, effects: &[Effect<Ticket>], seen: &mut Coverage) -> Result<(), String> {
        for Effect { to, answer } in effects {
            match answer {
                Answer::Client(Reply::Collected(collected)) => {
                    let Ask::Client(Request::Collect(collect)) = &*to.ask else {
                        return Err(format!("{answer:?} for somebody who asked {:?}", to.ask));
                    };
                    self.collected(collect, collected, seen)?;
                    collected.results.iter().try_for_each(|result| self.agrees(result))?;
                }
                Answer::Client(Reply::Submitted(taken)) => {
                    for taken in taken {
                        if let Submitted::Ended(result) = taken {
                            self.agrees(result)?;
                        }
                    }
                }
                Answer::Client(Reply::Found(found)) => {
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
                Answer::Client(Reply::Reports(reports)) => {
                    if let Found::Ended(result) = &reports.task {
                        self.agrees(result)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What is told is what was recorded.
    fn agrees(&mut self, result: &Arc<TaskResult>) -> Result<(), String> {
        match self.ends.get_mut(&result.task_id) {
            Some(Some(end)) => ensure(end == result, || format!("told {result:?} where {end:?} was recorded")),
            Some(unseen) => {
                *unseen = Some(result.clone());
                Ok(())
            }
            None => Err(format!("an end is told that nobody saw: {result:?}")),
        }
    }

    fn collected(&mut self, collect: &Collect, collected: &Collected, seen: &mut Coverage) -> Result<(), String> {
        let book = self.sessions.entry(collect.session).or_default();
        if !collected.known {
            seen.lost_sessions += u64::from(book.newest.is_some());
            book.owed.clear();
        }
        let newest = book.newest.as_ref().map_or(0, |(sequence, _)| *sequence);
        if collect.sequence < newest {
            return ensure(collected.results.is_empty(), || format!("an old question {collect:?} gets {collected:?}"));
        }
        if let Some((_, before)) = book.newest.as_ref().filter(|_| collect.sequence == newest) {
            seen.repeated += 1;
            return ensure(before == collected, || format!("{collect:?} got {before:?} and now {collected:?}"));
        }
        for result in &collected.results {
            seen.collected += 1;
            ensure(book.owed.remove(&result.task_id), || {
                format!("{} is told {} that is not owed it", collect.session, result.task_id)
            })?;
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
            let owed: Vec<_> = book.owed.iter().filter(|id| !live.contains_key(*id)).collect();
            ensure(owed.is_empty(), || format!("session {session} was never told of {owed:?}"))?;
            let unheard: Vec<_> = book.told.iter().filter(|id| !heard.contains(*id)).collect();
            ensure(unheard.is_empty(), || format!("session {session} never heard of {unheard:?}"))?;
        }
        Ok(())
    }
}
