//! Questions that wait for their answer, and sessions.

use std::{mem, time::Duration};

use uuid::Uuid;

use super::{ParkId, Parked, Responder, State, Timer, WaitCondition};
use crate::control_plane::{reports::ReportLog, sessions::Shed};
use crate::{
    clock::{Moment, Now},
    json::Json,
    protocol::{Collected, FRAME_TARGET, Found, Reply, Reports, Submitted},
    task::TaskId,
};

impl<R: Responder> State<R> {
    pub(super) fn park(&mut self, now: Now, condition: WaitCondition, limit: Duration, reply_to: R) {
        self.last_park += 1;
        let park = self.last_park;
        for id in condition.tasks() {
            let Some(record) = self.tasks.get_mut(id) else { continue };
            // Who gave up is forgotten when the room is used up, so that it cannot pile up.
            if record.watchers.len() == record.watchers.capacity() {
                let watchers = mem::take(&mut record.watchers);
                let open = self.those_who_wait(watchers);
                if let Some(record) = self.tasks.get_mut(id) {
                    record.watchers = open;
                }
            }
            if let Some(record) = self.tasks.get_mut(id) {
                record.watchers.push(park);
            }
        }
        self.watching += condition.tasks().len();
        let until = now.mono + limit;
        if until != Moment::NEVER {
            self.timers.insert((until, Timer::Parked(park)));
        }
        self.parked.insert(park, Parked { reply_to, condition, until });
    }

    /// Takes a parked request out.
    fn take_parked(&mut self, park: ParkId) -> Option<Parked<R>> {
        let parked = self.parked.remove(&park)?;
        self.timers.remove(&(parked.until, Timer::Parked(park)));
        self.watching -= parked.condition.tasks().len();
        Some(parked)
    }

    /// Those of some parked requests for whose answer somebody waits. The others are forgotten.
    pub(super) fn those_who_wait(&mut self, parks: Vec<ParkId>) -> Vec<ParkId> {
        let waits = |park: &ParkId| self.parked.get(park).is_some_and(|parked| parked.reply_to.is_open());
        let (open, shut): (Vec<_>, Vec<_>) = parks.into_iter().partition(waits);
        for park in shut {
            drop(self.take_parked(park));
        }
        open
    }

    pub(super) fn unpark(&mut self, now: Now, park: ParkId) {
        let Some(Parked { reply_to, condition, .. }) = self.take_parked(park) else { return };
        let answer = self.answer_to(now, &condition);
        self.reply(reply_to, answer);
    }

    pub(super) fn wake_followers(&mut self, now: Now, id: &TaskId) {
        let Some(record) = self.tasks.get_mut(id) else { return };
        let is_follower = |park: &ParkId| {
            self.parked.get(park).is_some_and(|parked| matches!(parked.condition, WaitCondition::Follow { .. }))
        };
        let (followers, others) = mem::take(&mut record.watchers).into_iter().partition::<Vec<_>, _>(is_follower);
        record.watchers = others;
        for park in followers {
            self.unpark(now, park);
        }
    }

    pub(super) fn answer_to(&mut self, now: Now, condition: &WaitCondition) -> Reply {
        match condition {
            WaitCondition::Submitted(id) => Reply::Submitted(vec![match self.results.get(now.mono, id) {
                Some(kept) => Submitted::Ended(kept.result.clone()),
                None => Submitted::Accepted,
            }]),
            WaitCondition::Lookup(ids) => Reply::Found(self.found(now, ids)),
            WaitCondition::Follow { id, after } => Reply::Reports(self.reports(now, id, *after)),
            WaitCondition::Events { after } => Reply::Events(self.event_log.after(*after)),
        }
    }

    pub(super) fn found(&mut self, now: Now, ids: &[TaskId]) -> Vec<Found> {
        let mut found = Vec::with_capacity(ids.len());
        let mut bytes = 0;
        for id in ids {
            let one = self.find(now, id);
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

    pub(super) fn find(&mut self, now: Now, id: &TaskId) -> Found {
        if let Some(record) = self.tasks.get(id) {
            return Found::Live(Box::new(self.view(id, record)));
        }
        self.results.get(now.mono, id).map_or(Found::Unknown, |kept| Found::Ended(kept.result.clone()))
    }

    pub(super) fn reports(&mut self, now: Now, id: &TaskId, after: u64) -> Reports {
        let mut task = self.find(now, id);
        if let Found::Live(task) = &mut task {
            // A follower knows the arguments, and they may be large.
            (task.args, task.kwargs) = (Json::empty_array(), Json::empty_object());
        }
        let log = match &task {
            Found::Live(_) => self.tasks.get(id).map(|record| &record.reports),
            Found::Ended(_) => self.results.get(now.mono, id).map(|kept| &kept.reports),
            Found::Unknown => None,
        };
        let reports = log.map(|log| log.after(after).cloned().collect()).unwrap_or_default();
        Reports { reports, last: log.map_or(after, ReportLog::last), task }
    }

    /// Notes that a session is in use. Returns whether it was known.
    pub(super) fn touch_session(&mut self, now: Now, session: Uuid) -> bool {
        let known = self.sessions.touch(now.mono, session);
        self.shed_sessions();
        if !mem::replace(&mut self.watches_sessions, true)
            && let Some(at) = self.sessions.next_expiry()
        {
            self.timers.insert((at, Timer::Sessions));
        }
        known
    }

    /// Forgets sessions that were left alone.
    pub(super) fn check_sessions(&mut self, now: Now) {
        while let Some(shed) = self.sessions.expire(now.mono) {
            self.say_forgotten(shed);
        }
        let next = self.sessions.next_expiry();
        self.watches_sessions = next.is_some();
        self.timers.extend(next.map(|at| (at, Timer::Sessions)));
    }

    /// Forgets sessions that are too many or hold too much.
    pub(super) fn shed_sessions(&mut self) {
        while let Some(shed) = self.sessions.shed() {
            self.say_forgotten(shed);
        }
    }

    pub(super) fn say_forgotten(&mut self, shed: Option<Shed<R>>) {
        if let Some(Shed { session, reply_to, until }) = shed {
            self.timers.remove(&(until, Timer::Collect(session)));
            self.reply(reply_to, Reply::Collected(Collected { known: false, results: Vec::new() }));
        }
    }

    pub(super) fn answer_session(&mut self, session: Uuid) {
        if let Some((reply_to, until)) = self.sessions.unpark(session) {
            self.timers.remove(&(until, Timer::Collect(session)));
            let answer = self.sessions.answer(session, true);
            self.reply(reply_to, Reply::Collected(answer));
        }
    }
}
