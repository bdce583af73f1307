//! Recording of events, and long polls for them.

use std::mem;

use super::{Responder, State, WaitCondition, park_limit};
use crate::{clock::Now, control_plane::events::NewEvent, protocol::EventQuery};

impl<R: Responder> State<R> {
    /// Replies with the events after a number, once there are any or the wait is over.
    pub fn events(&mut self, now: Now, query: EventQuery, reply_to: R) {
        let condition = WaitCondition::Events { after: query.after };
        if self.event_log.last() == query.after && query.wait_ms > 0 {
            self.park(now, condition, park_limit(query.wait_ms), reply_to);
            // Closed requests are removed when the vector is full, so that they cannot accumulate.
            if self.event_waiters.len() == self.event_waiters.capacity() {
                let event_waiters = mem::take(&mut self.event_waiters);
                self.event_waiters = self.retain_open(event_waiters);
            }
            self.event_waiters.push(self.last_parked_id);
            // No event is new to this request, nor to those that waited before.
            self.last_notified_event = self.event_log.last();
        } else {
            let reply = self.reply_for(now, &condition);
            self.reply(reply_to, reply);
        }
    }

    /// Records an event. Requests that wait for one get their reply at the end of the transition.
    pub(super) fn record_event(&mut self, now: Now, event: NewEvent<'_>) {
        self.event_log.push(now.wall, event);
    }

    /// Replies to the requests that wait for events, if there are new ones.
    pub(super) fn notify_event_waiters(&mut self, now: Now) {
        if self.event_waiters.is_empty() || self.last_notified_event == self.event_log.last() {
            return;
        }
        self.last_notified_event = self.event_log.last();
        for parked_id in mem::take(&mut self.event_waiters) {
            self.unpark(now, parked_id);
        }
    }
}
