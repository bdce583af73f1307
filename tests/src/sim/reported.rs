//! Checks reported results: one result for each end of a task, and one report of it for each session.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fastworker::{
    control_plane::{
        sessions::{SessionId, empty_reply},
        state::{AnyReply, Effect, State},
    },
    protocol::{Collect, Collected, Found, Reply, Request, Submitted},
    task::{TaskId, TaskResult},
};
use uuid::Uuid;

use super::{
    checks::{Coverage, Record, ensure},
    network::{SimRequest, Ticket},
};

/// The results that were recorded and reported.
#[derive(Debug, Default)]
pub(crate) struct ReportedEnds {
    /// The recorded ends of every task: one, unless it ran again after the first was evicted. `None` where an end was
    /// evicted before it could be observed.
    ends: BTreeMap<TaskId, Vec<Option<Arc<TaskResult>>>>,
    sessions: BTreeMap<Uuid, SessionLog>,
}

/// The end of a task, the first or a later one.
type End = (TaskId, usize);

/// The ends that one session must receive, and those that it received.
#[derive(Debug, Default)]
struct SessionLog {
    expected: BTreeSet<End>,
    /// Expected before the session was evicted.
    formerly_expected: BTreeSet<End>,
    /// Tasks whose result was sent to it and must have arrived in the end.
    reported: BTreeSet<TaskId>,
    /// The newest request with a reply, and the reply.
    newest: Option<(u64, Collected)>,
    /// The newest request.
    requested: u64,
    /// The state evicted the session, and its client does not know yet.
    dropped: bool,
}

impl ReportedEnds {
    /// Notes that a session waits for the end of a task.
    pub(crate) fn expect_end(&mut self, session: Uuid, id: TaskId) {
        let number = self.ends.get(&id).map_or(0, Vec::len);
        self.sessions.entry(session).or_default().expected.insert((id, number));
    }

    /// Notes a request of a session.
    pub(crate) fn requested(&mut self, collect: &Collect) {
        let log = self.sessions.entry(collect.session).or_default();
        log.requested = log.requested.max(collect.sequence);
    }

    /// Notes the recorded end of a task.
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
                    let SimRequest::Client(Request::Collect(collect)) = &*to.request else {
                        return Err(format!("{reply:?} in reply to {:?}", to.request));
                    };
                    self.collected(collect, collected, seen)?;
                    collected.results.iter().try_for_each(|result| self.agrees(result))?;
                }
                AnyReply::Client(Reply::Submitted(submitted)) => {
                    for submitted in submitted {
                        if let Submitted::Ended(result) = submitted {
                            self.agrees(result)?;
                        }
                    }
                }
                AnyReply::Client(Reply::Found(found)) => {
                    let requested = match &*to.request {
                        SimRequest::Client(Request::Lookup(lookup)) => lookup.ids.len(),
                        _ => 0,
                    };
                    ensure(found.len() == requested, || format!("{} results for {requested} ids", found.len()))?;
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
        for (session, log) in &mut self.sessions {
            if !state.sessions().is_open(SessionId(*session)) {
                log.formerly_expected.append(&mut log.expected);
                // The last reply may have been lost, and is not repeated.
                for result in log.newest.iter().flat_map(|(_, collected)| &collected.results) {
                    log.reported.remove(&result.task_id);
                }
                log.dropped = true;
            }
        }
        Ok(())
    }

    /// Checks that a reported result was recorded.
    fn agrees(&mut self, result: &Arc<TaskResult>) -> Result<(), String> {
        let ends = self.ends.entry(result.task_id.clone()).or_default();
        if ends.iter().flatten().any(|end| is_same(end, result)) {
            return Ok(());
        }
        let unseen = ends.iter_mut().find(|end| end.is_none());
        unseen
            .map(|end| *end = Some(result.clone()))
            .ok_or_else(|| format!("reported {result:?}, but {ends:?} was recorded"))
    }

    fn collected(&mut self, collect: &Collect, collected: &Collected, seen: &mut Coverage) -> Result<(), String> {
        let log = self.sessions.entry(collect.session).or_default();
        let newest = log.newest.as_ref().map_or(0, |(sequence, _)| *sequence);
        if collect.sequence < newest {
            return ensure(collected.results.is_empty(), || format!("an old request {collect:?} gets {collected:?}"));
        }
        let dropped = std::mem::take(&mut log.dropped);
        if let Some((_, before)) = log.newest.as_ref().filter(|_| collect.sequence == newest) {
            seen.repeated += 1;
            let is_old = log.requested > newest && *collected == empty_reply();
            ensure(before == collected || dropped || is_old, || {
                format!("{collect:?} got {before:?} and now {collected:?}")
            })?;
            if dropped {
                // A new session keeps its first reply.
                log.newest = Some((newest, collected.clone()));
            }
            return Ok(());
        }
        if dropped && newest > 0 {
            seen.lost_sessions += 1;
            ensure(!collected.known, || format!("session {} does not learn that it was forgotten", collect.session))?;
        }
        for result in &collected.results {
            seen.collected += 1;
            let expected =
                take(&mut log.expected, &result.task_id) || take(&mut log.formerly_expected, &result.task_id);
            ensure(expected, || format!("{} gets {}, which is not due", collect.session, result.task_id))?;
            log.reported.insert(result.task_id.clone());
        }
        log.newest = Some((collect.sequence, collected.clone()));
        Ok(())
    }

    /// Checks after calm weather that every session has received everything.
    pub(crate) fn finished<'a>(
        &self,
        live: &BTreeMap<TaskId, Record>,
        received: impl Fn(Uuid) -> Option<&'a BTreeSet<TaskId>>,
    ) -> Result<(), String> {
        for (session, log) in &self.sessions {
            let Some(received) = received(*session) else { continue };
            let expected: Vec<_> = log.expected.iter().filter(|(id, _)| !live.contains_key(id)).collect();
            ensure(expected.is_empty(), || format!("session {session} never got {expected:?}"))?;
            let missing: Vec<_> = log.reported.iter().filter(|id| !received.contains(*id)).collect();
            ensure(missing.is_empty(), || format!("session {session} never received {missing:?}"))?;
        }
        Ok(())
    }
}

/// Whether both are the same end, ignoring the progress of its callback.
fn is_same(end: &TaskResult, reported: &TaskResult) -> bool {
    if end.callback == reported.callback {
        return end == reported;
    }
    let bare = |result: &TaskResult| TaskResult { callback: None, ..result.clone() };
    end.callback.is_some() && reported.callback.is_some() && bare(end) == bare(reported)
}

/// Removes one end of a task.
fn take(ends: &mut BTreeSet<End>, id: &TaskId) -> bool {
    let first = ends.range((id.clone(), 0)..).next().filter(|(next, _)| next == id).cloned();
    first.is_some_and(|end| ends.remove(&end))
}
