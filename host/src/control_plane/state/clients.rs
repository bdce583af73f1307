//! Requests of clients.

use std::{collections::BTreeMap, mem, time::Duration};

use super::{Responder, SessionId, State, SubmitOutcome, Timer, WAITED_TASKS_MAX, WaitCondition, park_limit};
use crate::control_plane::{
    sessions::{self, PollKind},
    signatures::ArgumentErrors,
};
use crate::{
    clock::Now,
    protocol::{Collect, FRAME_TARGET, Follow, Lookup, Notify, Reply, Submit, Submitted, WAIT_MAX},
    signature::ArgumentError,
    task::{NewTask, TaskId},
};

impl<R: Responder> State<R> {
    /// Submits tasks without argument errors.
    pub fn submit(&mut self, now: Now, submit: Submit, reply_to: R) {
        self.submit_checked(now, submit, ArgumentErrors::default(), reply_to);
    }

    /// Submits tasks with the errors of their arguments. Those with an error end immediately.
    pub fn submit_checked(&mut self, now: Now, submit: Submit, mut errors: ArgumentErrors, reply_to: R) {
        let session = match &submit.notify {
            Notify::Session(session) => Some(SessionId(*session)),
            Notify::No | Notify::Answer => None,
        };
        if let Some(session) = session {
            self.touch_session(now, session);
        }
        let ids: Vec<TaskId> = submit.tasks.iter().map(|task| task.id.clone()).collect();
        let tasks = submit.tasks.into_iter().enumerate();
        let outcomes: Vec<SubmitOutcome> =
            tasks.map(|(index, task)| self.submit_task(now, task, errors.take(index), session)).collect();
        if let ([SubmitOutcome::Live], Notify::Answer) = (&outcomes[..], &submit.notify) {
            self.park(now, WaitCondition::Submitted(ids[0].clone()), WAIT_MAX, reply_to);
        } else {
            let reply = self.submitted(outcomes, session);
            self.reply(reply_to, reply);
        }
    }

    /// Submits tasks, and returns the outcome of each. No reply is sent when they end.
    pub fn submit_detached(&mut self, now: Now, tasks: Vec<NewTask>, mut errors: ArgumentErrors) -> Vec<Submitted> {
        let tasks = tasks.into_iter().enumerate();
        let outcomes = tasks.map(|(index, task)| self.submit_task(now, task, errors.take(index), None)).collect();
        let Reply::Submitted(submitted) = self.submitted(outcomes, None) else { return Vec::new() };
        submitted
    }

    /// Returns the reply to a submission.
    pub(super) fn submitted(&mut self, outcomes: Vec<SubmitOutcome>, session: Option<SessionId>) -> Reply {
        let (mut bytes, mut has_result) = (0, false);
        let mut replies = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            replies.push(match outcome {
                SubmitOutcome::Ended(result) => {
                    bytes += result.size();
                    // A result that does not fit into the frame is sent to the session, or can be looked up.
                    if mem::replace(&mut has_result, true) && bytes > FRAME_TARGET {
                        if let Some(session) = session
                            && self.sessions.add_result(session, result)
                        {
                            self.reply_to_session(session);
                        }
                        Submitted::Accepted
                    } else {
                        Submitted::Ended(result)
                    }
                }
                SubmitOutcome::Live => Submitted::Accepted,
                SubmitOutcome::Refused(refusal) => Submitted::Refused(refusal),
            });
        }
        self.evict_sessions();
        Reply::Submitted(replies)
    }

    /// Submits a task of the Python original, whose client waits for its end without a limit.
    pub fn submit_and_hold(&mut self, now: Now, task: NewTask, error: Option<ArgumentError>, reply_to: R) {
        let id = task.id.clone();
        let submitted = match self.submit_task(now, task, error, None) {
            SubmitOutcome::Live => {
                self.park(now, WaitCondition::Submitted(id), Duration::MAX, reply_to);
                return;
            }
            SubmitOutcome::Ended(result) => Submitted::Ended(result),
            SubmitOutcome::Refused(refusal) => Submitted::Refused(refusal),
        };
        self.reply(reply_to, Reply::Submitted(vec![submitted]));
    }

    /// Replies with the results of a session, once there are any or the wait is over.
    pub fn collect(&mut self, now: Now, collect: &Collect, reply_to: R) {
        let Collect { session, sequence, wait_ms } = *collect;
        let session = SessionId(session);
        let was_open = self.touch_session(now, session);
        let displaced = match self.sessions.poll(session, sequence) {
            PollKind::New { displaced } => {
                let until = now.mono + park_limit(wait_ms);
                let unparked =
                    if was_open && wait_ms > 0 { self.sessions.park(session, reply_to, until) } else { Some(reply_to) };
                match unparked {
                    Some(reply_to) => {
                        let collected = self.sessions.take_reply(session, was_open);
                        self.reply(reply_to, Reply::Collected(collected));
                    }
                    None => drop(self.timers.insert((until, Timer::SessionPollTimeout(session)))),
                }
                displaced
            }
            PollKind::Repeated { parked, reply } => {
                self.reply(reply_to, Reply::Collected(reply));
                parked
            }
            PollKind::Stale => return self.reply(reply_to, Reply::Collected(sessions::empty_reply())),
        };
        if let Some((reply_to, until)) = displaced {
            self.timers.remove(&(until, Timer::SessionPollTimeout(session)));
            self.reply(reply_to, Reply::Collected(sessions::empty_reply()));
        }
    }

    /// Replies with the state of tasks, once one of them has ended or the wait is over.
    pub fn lookup(&mut self, now: Now, lookup: Lookup, reply_to: R) {
        let none_ended = lookup.ids.iter().all(|id| self.tasks.contains_key(id));
        let has_capacity = self.waited_tasks + lookup.ids.len() <= WAITED_TASKS_MAX;
        if none_ended && has_capacity && lookup.wait_ms > 0 && !lookup.ids.is_empty() {
            self.park(now, WaitCondition::Lookup(lookup.ids), park_limit(lookup.wait_ms), reply_to);
        } else {
            let found = self.found(now, &lookup.ids, None);
            self.reply(reply_to, Reply::Found(found));
        }
    }

    /// Replies with the reports of a task, once there are new ones, it has ended or the wait is over.
    pub fn follow(&mut self, now: Now, follow: Follow, reply_to: R) {
        let nothing_new = self.tasks.get(&follow.id).is_some_and(|record| record.reports.last() <= follow.after);
        let condition = WaitCondition::Follow { id: follow.id, after: follow.after };
        if nothing_new && follow.wait_ms > 0 {
            self.park(now, condition, park_limit(follow.wait_ms), reply_to);
        } else {
            let reply = self.reply_for(now, &condition);
            self.reply(reply_to, reply);
        }
    }

    /// Cancels tasks. Replies for each whether it was unfinished.
    pub fn cancel(&mut self, now: Now, ids: &[TaskId], reply_to: R) {
        let mut orders = BTreeMap::new();
        let cancelled = ids.iter().map(|id| self.cancel_one(now, id, &mut orders)).collect();
        for (worker, orders) in orders {
            self.reply_to_heartbeat(worker, orders);
        }
        self.reply(reply_to, Reply::Cancelled(cancelled));
    }

    /// Replies with the workers.
    pub fn workers(&mut self, now: Now, reply_to: R) {
        let infos = self.registry.infos(now.mono);
        self.reply(reply_to, Reply::Workers(infos));
    }
}
