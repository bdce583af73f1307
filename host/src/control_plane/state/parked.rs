//! Parked requests: long polls that wait for a task or an event, and the requests of sessions.

use std::{mem, time::Duration};

use super::{Responder, SessionId, State, Timer, completion::EndedTask};
use crate::{
    clock::{Moment, Now},
    control_plane::{reports::ReportLog, sessions::Evicted},
    json::Json,
    protocol::{Collected, FRAME_TARGET, Found, Reply, Reports, Submitted},
    task::TaskId,
};

/// Number of a parked request.
pub(super) type ParkedId = u64;

/// A parked request of a client.
#[derive(Debug)]
pub(super) struct Parked<R> {
    pub(super) reply_to: R,
    condition: WaitCondition,
    until: Moment,
}

/// The condition of a parked request.
#[derive(Debug)]
pub(super) enum WaitCondition {
    /// The end of a task that was submitted with this request.
    Submitted(TaskId),
    /// The end of one of these tasks.
    Lookup(Vec<TaskId>),
    /// A report of this task after number `after`, or its end.
    Follow { id: TaskId, after: u64 },
    /// An event after number `after`.
    Events { after: u64 },
}

impl WaitCondition {
    fn tasks(&self) -> &[TaskId] {
        match self {
            WaitCondition::Submitted(id) | WaitCondition::Follow { id, .. } => std::slice::from_ref(id),
            WaitCondition::Lookup(ids) => ids,
            WaitCondition::Events { .. } => &[],
        }
    }
}

impl<R: Responder> State<R> {
    /// Parks a request until its condition holds, for at most `limit`.
    pub(super) fn park(&mut self, now: Now, condition: WaitCondition, limit: Duration, reply_to: R) {
        self.last_parked_id += 1;
        let parked_id = self.last_parked_id;
        for id in condition.tasks() {
            let Some(record) = self.tasks.get_mut(id) else { continue };
            // Closed requests are removed when the vector is full, so that they cannot accumulate.
            if record.watchers.len() == record.watchers.capacity() {
                let watchers = mem::take(&mut record.watchers);
                let open = self.retain_open(watchers);
                if let Some(record) = self.tasks.get_mut(id) {
                    record.watchers = open;
                }
            }
            if let Some(record) = self.tasks.get_mut(id) {
                record.watchers.push(parked_id);
            }
        }
        self.waited_tasks += condition.tasks().len();
        let until = now.mono + limit;
        if until != Moment::NEVER {
            self.timers.insert((until, Timer::LongPollTimeout(parked_id)));
        }
        self.parked.insert(parked_id, Parked { reply_to, condition, until });
    }

    fn take_parked(&mut self, parked_id: ParkedId) -> Option<Parked<R>> {
        let parked = self.parked.remove(&parked_id)?;
        self.timers.remove(&(parked.until, Timer::LongPollTimeout(parked_id)));
        self.waited_tasks -= parked.condition.tasks().len();
        Some(parked)
    }

    /// Removes those of these parked requests that are closed. Returns the others.
    pub(super) fn retain_open(&mut self, ids: Vec<ParkedId>) -> Vec<ParkedId> {
        let is_open = |parked_id: &ParkedId| self.parked.get(parked_id).is_some_and(|parked| parked.reply_to.is_open());
        let (open, closed): (Vec<_>, Vec<_>) = ids.into_iter().partition(is_open);
        for parked_id in closed {
            drop(self.take_parked(parked_id));
        }
        open
    }

    /// Replies to a parked request with the current state.
    pub(super) fn unpark(&mut self, now: Now, parked_id: ParkedId) {
        let Some(Parked { reply_to, condition, .. }) = self.take_parked(parked_id) else { return };
        let reply = self.reply_for(now, &condition);
        self.reply(reply_to, reply);
    }

    /// Replies to a parked request that waits for a task which has just ended.
    pub(super) fn unpark_ended(&mut self, now: Now, parked_id: ParkedId, ended: &EndedTask) {
        let Some(Parked { reply_to, condition, .. }) = self.take_parked(parked_id) else { return };
        let EndedTask { result, reports, .. } = ended;
        let reply = match condition {
            WaitCondition::Submitted(_) => Reply::Submitted(vec![Submitted::Ended(result.clone())]),
            WaitCondition::Lookup(ids) => Reply::Found(self.found(now, &ids, Some(ended))),
            WaitCondition::Follow { after, .. } => {
                Reply::Reports(reports_after(Some(reports), after, Found::Ended(result.clone())))
            }
            WaitCondition::Events { after } => Reply::Events(self.event_log.after(after)),
        };
        self.reply(reply_to, reply);
    }

    /// Replies to the requests that follow the reports of a task.
    pub(super) fn reply_to_followers(&mut self, now: Now, id: &TaskId) {
        let Some(record) = self.tasks.get_mut(id) else { return };
        let is_follower = |parked_id: &ParkedId| {
            self.parked.get(parked_id).is_some_and(|parked| matches!(parked.condition, WaitCondition::Follow { .. }))
        };
        let (followers, others) = mem::take(&mut record.watchers).into_iter().partition::<Vec<_>, _>(is_follower);
        record.watchers = others;
        for parked_id in followers {
            self.unpark(now, parked_id);
        }
    }

    /// Returns the reply to a request with this condition, by the current state.
    pub(super) fn reply_for(&mut self, now: Now, condition: &WaitCondition) -> Reply {
        match condition {
            WaitCondition::Submitted(id) => Reply::Submitted(vec![match self.results.get(now.mono, id) {
                Some(kept) => Submitted::Ended(kept.result.clone()),
                None => Submitted::Accepted,
            }]),
            WaitCondition::Lookup(ids) => Reply::Found(self.found(now, ids, None)),
            WaitCondition::Follow { id, after } => Reply::Reports(self.reports(now, id, *after)),
            WaitCondition::Events { after } => Reply::Events(self.event_log.after(*after)),
        }
    }

    /// Finds tasks, as many as fit into one frame. `ended` is a task that has just ended and is not stored yet.
    pub(super) fn found(&mut self, now: Now, ids: &[TaskId], ended: Option<&EndedTask>) -> Vec<Found> {
        let mut found = Vec::with_capacity(ids.len());
        let mut bytes = 0;
        for id in ids {
            let one = match ended.filter(|ended| ended.result.task_id == *id) {
                Some(ended) => Found::Ended(ended.result.clone()),
                None => self.find(now, id),
            };
            bytes += match &one {
                Found::Ended(ended) => ended.size(),
                Found::Live(task) => task.args.as_str().len() + task.kwargs.as_str().len(),
                Found::Unknown => 0,
            };
            if bytes > FRAME_TARGET && !found.is_empty() {
                break;
            }
            found.push(one);
        }
        found
    }

    fn find(&mut self, now: Now, id: &TaskId) -> Found {
        if let Some(record) = self.tasks.get(id) {
            return Found::Live(Box::new(self.view(id, record)));
        }
        self.results.get(now.mono, id).map_or(Found::Unknown, |kept| Found::Ended(kept.result.clone()))
    }

    fn reports(&mut self, now: Now, id: &TaskId, after: u64) -> Reports {
        let mut task = self.find(now, id);
        if let Found::Live(task) = &mut task {
            // A follower knows the arguments, which may be large.
            (task.args, task.kwargs) = (Json::empty_array(), Json::empty_object());
        }
        let log = match &task {
            Found::Live(_) => self.tasks.get(id).map(|record| &record.reports),
            Found::Ended(_) => self.results.get(now.mono, id).map(|kept| &kept.reports),
            Found::Unknown => None,
        };
        reports_after(log, after, task)
    }

    /// Marks a session as used. Returns whether it was open.
    pub(super) fn touch_session(&mut self, now: Now, session: SessionId) -> bool {
        let was_open = self.sessions.touch(now.mono, session);
        self.evict_sessions();
        if !mem::replace(&mut self.has_session_timer, true)
            && let Some(at) = self.sessions.next_expiry()
        {
            self.timers.insert((at, Timer::SessionExpiry));
        }
        was_open
    }

    /// Removes idle sessions.
    pub(super) fn expire_sessions(&mut self, now: Now) {
        while let Some(evicted) = self.sessions.expire(now.mono) {
            self.reply_evicted(evicted);
        }
        let next = self.sessions.next_expiry();
        self.has_session_timer = next.is_some();
        self.timers.extend(next.map(|at| (at, Timer::SessionExpiry)));
    }

    /// Removes sessions while there are too many or they hold too much.
    pub(super) fn evict_sessions(&mut self) {
        while let Some(evicted) = self.sessions.evict() {
            self.reply_evicted(evicted);
        }
    }

    fn reply_evicted(&mut self, evicted: Option<Evicted<R>>) {
        if let Some(Evicted { session, reply_to, until }) = evicted {
            self.timers.remove(&(until, Timer::SessionPollTimeout(session)));
            self.reply(reply_to, Reply::Collected(Collected { known: false, results: Vec::new() }));
        }
    }

    /// Replies to the parked request of a session, if there is one, with its current results.
    pub(super) fn reply_to_session(&mut self, session: SessionId) {
        if let Some((reply_to, until)) = self.sessions.unpark(session) {
            self.timers.remove(&(until, Timer::SessionPollTimeout(session)));
            let collected = self.sessions.take_reply(session, true);
            self.reply(reply_to, Reply::Collected(collected));
        }
    }
}

fn reports_after(log: Option<&ReportLog>, after: u64, task: Found) -> Reports {
    let reports = log.map(|log| log.after(after).cloned().collect()).unwrap_or_default();
    Reports { reports, last: log.map_or(after, ReportLog::last), task }
}
