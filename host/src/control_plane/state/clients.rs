//! What clients ask of the state.

use std::{collections::BTreeMap, mem, time::Duration};

use uuid::Uuid;

use super::{Responder, State, SubmitOutcome, Timer, WATCHING_MAX, WaitCondition, wait};
use crate::control_plane::{
    sessions::{self, Turn},
    signatures::ArgumentErrors,
};
use crate::{
    clock::Now,
    protocol::{Collect, FRAME_TARGET, Follow, Lookup, Notify, Reply, Submit, Submitted, WAIT_MAX},
    signature::ArgumentError,
    task::{NewTask, TaskId},
};

impl<R: Responder> State<R> {
    /// Takes tasks in.
    pub fn submit(&mut self, now: Now, submit: Submit, reply_to: R) {
        self.submit_checked(now, submit, ArgumentErrors::default(), reply_to);
    }

    /// Takes tasks in that were checked. Those that do not fit end at once.
    pub fn submit_checked(&mut self, now: Now, submit: Submit, mut errors: ArgumentErrors, reply_to: R) {
        let session = match &submit.notify {
            Notify::Session(session) => Some(*session),
            Notify::No | Notify::Answer => None,
        };
        if let Some(session) = session {
            self.touch_session(now, session);
        }
        let ids: Vec<TaskId> = submit.tasks.iter().map(|task| task.id.clone()).collect();
        let tasks = submit.tasks.into_iter().enumerate();
        let taken: Vec<SubmitOutcome> =
            tasks.map(|(place, task)| self.offer(now, task, errors.take(place), session)).collect();
        if let ([SubmitOutcome::Live], Notify::Answer) = (&taken[..], &submit.notify) {
            self.park(now, WaitCondition::Submitted(ids[0].clone()), WAIT_MAX, reply_to);
        } else {
            let answer = self.submitted(taken, session);
            self.reply(reply_to, answer);
        }
        self.dispatch(now);
    }

    /// Takes tasks in and returns what became of each. Nobody is told of their ends.
    pub fn take(&mut self, now: Now, tasks: Vec<NewTask>, mut errors: ArgumentErrors) -> Vec<Submitted> {
        let tasks = tasks.into_iter().enumerate();
        let taken = tasks.map(|(place, task)| self.offer(now, task, errors.take(place), None)).collect();
        let Reply::Submitted(answers) = self.submitted(taken, None) else { return Vec::new() };
        self.dispatch(now);
        answers
    }

    /// What became of each task of a frame.
    pub(super) fn submitted(&mut self, taken: Vec<SubmitOutcome>, session: Option<Uuid>) -> Reply {
        let (mut bytes, mut told) = (0, false);
        let mut answers = Vec::with_capacity(taken.len());
        for taken in taken {
            answers.push(match taken {
                SubmitOutcome::Ended(result) => {
                    bytes += result.size();
                    // What is too much for one frame is told by the session, or looked up.
                    if mem::replace(&mut told, true) && bytes > FRAME_TARGET {
                        if let Some(session) = session
                            && self.sessions.tell(session, result)
                        {
                            self.answer_session(session);
                        }
                        Submitted::Accepted
                    } else {
                        Submitted::Ended(result)
                    }
                }
                SubmitOutcome::Live => Submitted::Accepted,
                SubmitOutcome::Refused(why) => Submitted::Refused(why),
            });
        }
        self.shed_sessions();
        Reply::Submitted(answers)
    }

    /// Takes one task of the Python original in, whose submitter waits for its end however long
    /// that takes.
    pub fn submit_and_hold(&mut self, now: Now, task: NewTask, error: Option<ArgumentError>, reply_to: R) {
        let id = task.id.clone();
        let answer = match self.offer(now, task, error, None) {
            SubmitOutcome::Live => {
                self.park(now, WaitCondition::Submitted(id), Duration::MAX, reply_to);
                return self.dispatch(now);
            }
            SubmitOutcome::Ended(result) => Submitted::Ended(result),
            SubmitOutcome::Refused(why) => Submitted::Refused(why),
        };
        self.reply(reply_to, Reply::Submitted(vec![answer]));
    }

    /// Tells a client which tasks of its session have ended.
    pub fn collect(&mut self, now: Now, collect: &Collect, reply_to: R) {
        let Collect { session, sequence, wait_ms } = *collect;
        let known = self.touch_session(now, session);
        let displaced = match self.sessions.ask(session, sequence) {
            Turn::New { displaced } => {
                let until = now.mono + wait(wait_ms);
                let at_once =
                    if known && wait_ms > 0 { self.sessions.park(session, reply_to, until) } else { Some(reply_to) };
                match at_once {
                    Some(reply_to) => {
                        let answer = self.sessions.answer(session, known);
                        self.reply(reply_to, Reply::Collected(answer));
                    }
                    None => drop(self.timers.insert((until, Timer::Collect(session)))),
                }
                displaced
            }
            Turn::Again { parked, answer } => {
                self.reply(reply_to, Reply::Collected(answer));
                parked
            }
            Turn::Old => return self.reply(reply_to, Reply::Collected(sessions::nothing())),
        };
        if let Some((reply_to, until)) = displaced {
            self.timers.remove(&(until, Timer::Collect(session)));
            self.reply(reply_to, Reply::Collected(sessions::nothing()));
        }
    }

    /// Tells a client how tasks stand, once one of them has ended or the wait is over.
    pub fn lookup(&mut self, now: Now, lookup: Lookup, reply_to: R) {
        let none_ended = lookup.ids.iter().all(|id| self.tasks.contains_key(id));
        let has_room = self.watching + lookup.ids.len() <= WATCHING_MAX;
        if none_ended && has_room && lookup.wait_ms > 0 && !lookup.ids.is_empty() {
            self.park(now, WaitCondition::Lookup(lookup.ids), wait(lookup.wait_ms), reply_to);
        } else {
            let found = self.found(now, &lookup.ids);
            self.reply(reply_to, Reply::Found(found));
        }
    }

    /// Tells a client what a task says about itself, once there is something to tell.
    pub fn follow(&mut self, now: Now, follow: Follow, reply_to: R) {
        let nothing_new = self.tasks.get(&follow.id).is_some_and(|record| record.reports.last() <= follow.after);
        let condition = WaitCondition::Follow { id: follow.id, after: follow.after };
        if nothing_new && follow.wait_ms > 0 {
            self.park(now, condition, wait(follow.wait_ms), reply_to);
        } else {
            let answer = self.answer_to(now, &condition);
            self.reply(reply_to, answer);
        }
    }

    /// Stops tasks. Tells of each whether it was stopped by this: not if it had ended.
    pub fn cancel(&mut self, now: Now, ids: &[TaskId], reply_to: R) {
        let mut orders = BTreeMap::new();
        let stopped = ids.iter().map(|id| self.cancel_one(now, id, &mut orders)).collect();
        for (worker, orders) in orders {
            self.answer_beat(worker, orders);
        }
        self.reply(reply_to, Reply::Cancelled(stopped));
        self.dispatch(now);
    }

    /// Tells a client which workers there are.
    pub fn workers(&mut self, now: Now, reply_to: R) {
        let infos = self.registry.infos(now.mono);
        self.reply(reply_to, Reply::Workers(infos));
    }
}
