//! Which callbacks wait for which address, and how often each was tried.
//!
//! Pure: it is told what happened. Invariants: what was first in is first out, for each address; a
//! callback that was taken in ends exactly once; what waits is bounded, for each address and in all.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::Arc,
};

use tokio::sync::Notify;

use crate::control_plane::state::{Callback, CallbackEnd};

/// A callback is tried so often.
pub const TRIES_MAX: u32 = 3;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Callbacks for one address.
    pub address_max: usize,
    /// Bytes of callbacks for one address.
    pub address_bytes_max: usize,
    /// Callbacks in all.
    pub all_max: usize,
    /// Bytes of callbacks in all.
    pub all_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            address_max: 100_000,
            address_bytes_max: 64 * 1024 * 1024,
            all_max: 200_000,
            all_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// A callback that waits.
#[derive(Debug)]
pub struct Waiting {
    /// What is to be sent, and to whom.
    pub callback: Callback,
    bytes: usize,
    /// How many tries had failed, or were under way, when it came.
    came: u64,
}

/// What waits for one address.
#[derive(Debug, Default)]
struct AddressQueue {
    waiting: VecDeque<Waiting>,
    /// Callbacks that have not ended: those that wait, and the one that is being sent.
    count: usize,
    bytes: usize,
    /// Tries that failed.
    failed: u64,
    /// Somebody is on the way, or there.
    is_visited: bool,
    news: Arc<Notify>,
}

/// Everything that waits.
#[derive(Debug)]
pub struct CallbackQueue {
    bounds: Bounds,
    lines: HashMap<Arc<str>, AddressQueue>,
    count: usize,
    bytes: usize,
    /// Nothing is sent any more.
    stopped: bool,
}

/// What is to be done about a callback that came.
#[derive(Debug)]
pub enum Posted {
    /// It is the first for its address: somebody must go there. Woken by the bell when more come.
    First(Arc<str>, Arc<Notify>),
    /// Somebody is on the way already, and was woken.
    Queued,
    /// There is no room for it, or nobody sends it any more.
    Refused(CallbackEnd),
}

impl CallbackQueue {
    /// Nothing waits yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, lines: HashMap::new(), count: 0, bytes: 0, stopped: false }
    }

    /// Takes a callback in.
    pub fn post(&mut self, callback: Callback) -> Posted {
        let bytes = callback.result.size() + callback.info.size();
        let stopped = || "the control plane has stopped".to_owned();
        let refusal = if self.stopped { Some(stopped()) } else { self.full(&callback.info.address, bytes) };
        if let Some(why) = refusal {
            return Posted::Refused(CallbackEnd { result: callback.result, outcome: Err(why), attempts: 0 });
        }
        self.count += 1;
        self.bytes += bytes;
        let address: Arc<str> = callback.info.address.as_str().into();
        let entry = self.lines.entry(address.clone());
        let is_first = matches!(entry, hash_map::Entry::Vacant(_));
        let line = entry.or_default();
        line.count += 1;
        line.bytes += bytes;
        line.waiting.push_back(Waiting { callback, bytes, came: line.failed + u64::from(line.is_visited) });
        if is_first {
            return Posted::First(address, line.news.clone());
        }
        line.news.notify_one();
        Posted::Queued
    }

    /// Takes nothing more in.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Why there is no room for one more.
    fn full(&self, address: &str, bytes: usize) -> Option<String> {
        let Bounds { address_max, address_bytes_max, all_max, all_bytes_max } = self.bounds;
        let (count, held) = self.lines.get(address).map_or((0, 0), |line| (line.count, line.bytes));
        if count >= address_max {
            Some(format!("{address_max} callbacks wait for this address already"))
        } else if held + bytes > address_bytes_max {
            Some(format!("callbacks of {address_bytes_max} bytes wait for this address already"))
        } else if self.count >= all_max {
            Some(format!("{all_max} callbacks wait already, for all addresses"))
        } else if self.bytes + bytes > all_bytes_max {
            Some(format!("callbacks of {all_bytes_max} bytes wait already, for all addresses"))
        } else {
            None
        }
    }

    /// Somebody sets out for this address.
    pub fn set_out(&mut self, address: &str) {
        self.visit(address, true);
    }

    /// Somebody was there and has left. What still waits was not tried.
    pub fn return_from(&mut self, address: &str) {
        self.visit(address, false);
    }

    fn visit(&mut self, address: &str, is_visited: bool) {
        if let Some(line) = self.lines.get_mut(address) {
            line.is_visited = is_visited;
        }
    }

    /// The next to be sent. It still counts, until it is [ended](CallbackQueue::end) or [put back](CallbackQueue::put_back).
    pub fn take(&mut self, address: &str) -> Option<Waiting> {
        self.lines.get_mut(address)?.waiting.pop_front()
    }

    /// It was not sent, and is the next again.
    pub fn put_back(&mut self, address: &str, waiting: Waiting) {
        if let Some(line) = self.lines.get_mut(address) {
            line.waiting.push_front(waiting);
        }
    }

    /// One that was taken has ended so.
    pub fn end(&mut self, address: &str, waiting: Waiting, outcome: Result<(), String>) -> CallbackEnd {
        self.count -= 1;
        self.bytes -= waiting.bytes;
        let failed = self.lines.get_mut(address).map_or(0, |line| {
            line.count -= 1;
            line.bytes -= waiting.bytes;
            line.failed
        });
        let tries = failed.saturating_sub(waiting.came) + u64::from(outcome.is_ok());
        let attempts = u32::try_from(tries).unwrap_or(u32::MAX);
        CallbackEnd { result: waiting.callback.result, outcome, attempts }
    }

    /// Nobody could be reached this time: gives up whatever was tried often enough. They are the first
    /// of their line, as all were tried in order.
    pub fn give_up(&mut self, address: &str, reason: &str) -> Vec<CallbackEnd> {
        let mut given_up = Vec::new();
        self.visit(address, false);
        if let Some(line) = self.lines.get_mut(address) {
            line.failed += 1;
        }
        loop {
            let Some(line) = self.lines.get_mut(address) else { return given_up };
            let failed = line.failed;
            let is_over = |waiting: &Waiting| failed.saturating_sub(waiting.came) >= u64::from(TRIES_MAX);
            let Some(waiting) = line.waiting.pop_front_if(|waiting| is_over(waiting)) else { return given_up };
            given_up.push(self.end(address, waiting, Err(reason.to_owned())));
        }
    }

    /// Forgets an address for which nothing waits. Whether it did.
    pub fn leave(&mut self, address: &str) -> bool {
        let is_over = self.lines.get(address).is_none_or(|line| line.count == 0);
        if is_over {
            self.lines.remove(address);
        }
        is_over
    }

    /// How many callbacks have not ended.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{CallbackInfo, Delivery, TaskId, TaskResult, TaskStatus};

    const A: &str = "tcp://127.0.0.1:1";
    const B: &str = "tcp://127.0.0.1:2";

    fn callback(address: &str, name: &str) -> Callback {
        let id: TaskId = name.parse().expect("an id");
        let callback = Some(Box::new(Delivery::pending(address)));
        let result = TaskResult { callback, ..TaskResult::new(id, TaskStatus::Success) };
        Callback { result: Arc::new(result), info: Arc::new(CallbackInfo::new(address)) }
    }

    fn names(ends: &[CallbackEnd]) -> Vec<String> {
        ends.iter().map(|end| format!("{} {}", end.result.task_id, end.attempts)).collect()
    }

    fn send(queue: &mut CallbackQueue, address: &str) -> CallbackEnd {
        let waiting = queue.take(address).expect("something waits");
        queue.end(address, waiting, Ok(()))
    }

    #[test]
    fn what_comes_first_goes_first_and_an_address_is_forgotten_when_all_is_sent() {
        let mut queue = CallbackQueue::new(Bounds::default());
        assert!(matches!(queue.post(callback(A, "1")), Posted::First(address, _) if *address == *A));
        assert!(matches!(queue.post(callback(A, "2")), Posted::Queued));
        assert!(matches!(queue.post(callback(B, "3")), Posted::First(..)));
        queue.set_out(A);
        assert_eq!(names(&[send(&mut queue, A)]), ["1 1"]);
        let back = queue.take(A).expect("the second");
        assert!(!queue.leave(A), "it is being sent");
        queue.put_back(A, back);
        assert_eq!(names(&[send(&mut queue, A)]), ["2 1"]);
        assert!(queue.leave(A) && !queue.leave(B) && queue.len() == 1);
        assert!(matches!(queue.post(callback(A, "4")), Posted::First(..)), "somebody must go there anew");
    }

    #[test]
    fn each_callback_gets_all_its_tries_whenever_it_came() {
        let mut queue = CallbackQueue::new(Bounds::default());
        queue.post(callback(A, "1"));
        queue.set_out(A);
        queue.post(callback(A, "2"));
        assert!(queue.give_up(A, "gone").is_empty());
        queue.set_out(A);
        assert!(queue.give_up(A, "gone").is_empty());
        queue.set_out(A);
        let ends = queue.give_up(A, "gone");
        assert_eq!((names(&ends), &ends[0].outcome), (vec!["1 3".to_owned()], &Err("gone".to_owned())));
        queue.set_out(A);
        assert_eq!(names(&queue.give_up(A, "gone")), ["2 3"]);
        assert!(queue.is_empty() && queue.leave(A));
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_visit_that_ends_well_before_its_turn_is_no_failed_try() {
        let mut queue = CallbackQueue::new(Bounds::default());
        queue.post(callback(A, "1"));
        queue.post(callback(A, "2"));
        for _ in 0..5 {
            queue.set_out(A);
            queue.return_from(A);
        }
        queue.set_out(A);
        assert!(queue.give_up(A, "gone").is_empty());
        queue.set_out(A);
        assert_eq!(names(&[send(&mut queue, A), send(&mut queue, A)]), ["1 2", "2 2"]);
    }

    #[test]
    fn what_comes_when_nothing_is_sent_any_more_ends_at_once() {
        let mut queue = CallbackQueue::new(Bounds::default());
        queue.post(callback(A, "1"));
        queue.stop();
        let refused = queue.post(callback(A, "2"));
        assert!(matches!(refused, Posted::Refused(CallbackEnd { outcome: Err(why), .. }) if why.contains("stopped")));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn what_does_not_fit_ends_at_once_and_the_others_go_on() {
        let bounds = Bounds { address_max: 2, all_max: 3, ..Bounds::default() };
        let mut queue = CallbackQueue::new(bounds);
        let why = |posted: Posted| match posted {
            Posted::Refused(CallbackEnd { outcome: Err(why), attempts: 0, .. }) => why,
            other => panic!("{other:?}"),
        };
        queue.post(callback(A, "1"));
        queue.post(callback(A, "2"));
        assert!(why(queue.post(callback(A, "3"))).contains("2 callbacks wait for this address"));
        queue.post(callback(B, "4"));
        assert!(why(queue.post(callback(B, "5"))).contains("for all addresses"));
        send(&mut queue, A);
        assert!(matches!(queue.post(callback(B, "6")), Posted::Queued));
        let mut queue = CallbackQueue::new(Bounds { address_bytes_max: 40, all_bytes_max: 50, ..bounds });
        queue.post(callback(A, "1"));
        queue.post(callback(A, "2"));
        assert!(why(queue.post(callback(A, "3"))).contains("2 callbacks"));
        assert!(why(queue.post(callback(B, "4"))).contains("50 bytes wait already, for all"));
    }
}
