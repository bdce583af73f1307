//! The queues of callbacks, one for each address, with the number of delivery attempts.
//!
//! Pure: no I/O. Invariants: first in, first out for each address; a queued callback ends exactly once; the queues
//! are bounded, each and together.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::Arc,
};

use tokio::sync::Notify;

use crate::control_plane::state::{Callback, CallbackOutcome};

/// Maximum number of delivery attempts of a callback.
pub const TRIES_MAX: u32 = 3;

/// The bounds of the queues.
#[derive(Clone, Copy, Debug)]
pub struct CallbackLimits {
    /// Maximum number of callbacks for one address.
    pub address_max: usize,
    /// Maximum size of the callbacks for one address, in bytes.
    pub address_bytes_max: usize,
    /// Maximum number of callbacks for all addresses.
    pub all_max: usize,
    /// Maximum size of the callbacks for all addresses, in bytes.
    pub all_bytes_max: usize,
}

impl Default for CallbackLimits {
    fn default() -> Self {
        Self {
            address_max: 100_000,
            address_bytes_max: 64 * 1024 * 1024,
            all_max: 200_000,
            all_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// A callback that was not delivered yet.
#[derive(Debug)]
pub struct PendingCallback {
    /// The callback.
    pub callback: Callback,
    bytes: usize,
    /// Number of attempts for its address that had failed, or were under way, when it was queued.
    failed_before: u64,
}

/// The callbacks for one address.
#[derive(Debug, Default)]
struct AddressQueue {
    waiting: VecDeque<PendingCallback>,
    /// Number of callbacks that have not ended: those that wait, and the one that is being sent.
    count: usize,
    bytes: usize,
    /// Number of attempts that failed.
    failed: u64,
    /// Whether a sender connects, or is connected.
    has_sender: bool,
    /// Wakes the sender.
    wake: Arc<Notify>,
}

/// The callbacks for all addresses.
#[derive(Debug)]
pub struct CallbackQueue {
    limits: CallbackLimits,
    queues: HashMap<Arc<str>, AddressQueue>,
    count: usize,
    bytes: usize,
    /// Whether new callbacks are refused.
    stopped: bool,
}

/// Outcome of posting a callback.
#[derive(Debug)]
pub enum Posted {
    /// It is the first for its address: start a sender. The [`Notify`] wakes it when more are queued.
    First(Arc<str>, Arc<Notify>),
    /// It was queued, and the sender was woken.
    Queued,
    /// It was refused: the queue is full, or stopped.
    Refused(CallbackOutcome),
}

impl CallbackQueue {
    /// Creates an empty queue.
    pub fn new(limits: CallbackLimits) -> Self {
        Self { limits, queues: HashMap::new(), count: 0, bytes: 0, stopped: false }
    }

    /// Queues a callback.
    pub fn post(&mut self, callback: Callback) -> Posted {
        let bytes = callback.result.size() + callback.info.size();
        let stopped = || "the control plane has stopped".to_owned();
        let refusal = if self.stopped { Some(stopped()) } else { self.full(&callback.info.address, bytes) };
        if let Some(reason) = refusal {
            return Posted::Refused(CallbackOutcome { result: callback.result, outcome: Err(reason), attempts: 0 });
        }
        self.count += 1;
        self.bytes += bytes;
        let address: Arc<str> = callback.info.address.as_str().into();
        let entry = self.queues.entry(address.clone());
        let is_first = matches!(entry, hash_map::Entry::Vacant(_));
        let queue_of = entry.or_default();
        queue_of.count += 1;
        queue_of.bytes += bytes;
        queue_of.waiting.push_back(PendingCallback {
            callback,
            bytes,
            failed_before: queue_of.failed + u64::from(queue_of.has_sender),
        });
        if is_first {
            return Posted::First(address, queue_of.wake.clone());
        }
        queue_of.wake.notify_one();
        Posted::Queued
    }

    /// Refuses callbacks from now on.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Returns why the queue has no capacity for another callback, if it has none.
    fn full(&self, address: &str, bytes: usize) -> Option<String> {
        let CallbackLimits { address_max, address_bytes_max, all_max, all_bytes_max } = self.limits;
        let (count, held) = self.queues.get(address).map_or((0, 0), |queue_of| (queue_of.count, queue_of.bytes));
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

    /// Records that a sender connects to this address.
    pub fn start_sending(&mut self, address: &str) {
        self.set_has_sender(address, true);
    }

    /// Records that a sender has disconnected without an error. The attempt does not count for callbacks that are still
    /// queued.
    pub fn finish_sending(&mut self, address: &str) {
        self.set_has_sender(address, false);
    }

    fn set_has_sender(&mut self, address: &str, has_sender: bool) {
        if let Some(queue_of) = self.queues.get_mut(address) {
            queue_of.has_sender = has_sender;
        }
    }

    /// Returns the next callback to send. It counts as unfinished until it is [ended](CallbackQueue::end) or
    /// [put back](CallbackQueue::put_back).
    pub fn take(&mut self, address: &str) -> Option<PendingCallback> {
        self.queues.get_mut(address)?.waiting.pop_front()
    }

    /// Puts a callback back that was not sent: it is the next one again.
    pub fn put_back(&mut self, address: &str, waiting: PendingCallback) {
        if let Some(queue_of) = self.queues.get_mut(address) {
            queue_of.waiting.push_front(waiting);
        }
    }

    /// Ends a callback that was taken.
    pub fn end(&mut self, address: &str, waiting: PendingCallback, outcome: Result<(), String>) -> CallbackOutcome {
        self.count -= 1;
        self.bytes -= waiting.bytes;
        let failed = self.queues.get_mut(address).map_or(0, |queue_of| {
            queue_of.count -= 1;
            queue_of.bytes -= waiting.bytes;
            queue_of.failed
        });
        let tries = failed.saturating_sub(waiting.failed_before) + u64::from(outcome.is_ok());
        let attempts = u32::try_from(tries).unwrap_or(u32::MAX);
        CallbackOutcome { result: waiting.callback.result, outcome, attempts }
    }

    /// Records a failed attempt, and ends the callbacks that have had [`TRIES_MAX`] of them. These are the first of the
    /// queue, as it is sent in order.
    pub fn fail_overdue(&mut self, address: &str, reason: &str) -> Vec<CallbackOutcome> {
        let mut given_up = Vec::new();
        self.set_has_sender(address, false);
        if let Some(queue_of) = self.queues.get_mut(address) {
            queue_of.failed += 1;
        }
        loop {
            let Some(queue_of) = self.queues.get_mut(address) else { return given_up };
            let failed = queue_of.failed;
            let is_over =
                |waiting: &PendingCallback| failed.saturating_sub(waiting.failed_before) >= u64::from(TRIES_MAX);
            let Some(waiting) = queue_of.waiting.pop_front_if(|waiting| is_over(waiting)) else { return given_up };
            given_up.push(self.end(address, waiting, Err(reason.to_owned())));
        }
    }

    /// Removes the queue of an address if it is empty. Returns whether it was.
    pub fn remove_if_empty(&mut self, address: &str) -> bool {
        let is_over = self.queues.get(address).is_none_or(|queue_of| queue_of.count == 0);
        if is_over {
            self.queues.remove(address);
        }
        is_over
    }

    /// Number of callbacks that have not ended.
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

    fn names(ends: &[CallbackOutcome]) -> Vec<String> {
        ends.iter().map(|end| format!("{} {}", end.result.task_id, end.attempts)).collect()
    }

    fn send(queue: &mut CallbackQueue, address: &str) -> CallbackOutcome {
        let waiting = queue.take(address).expect("a queued callback");
        queue.end(address, waiting, Ok(()))
    }

    #[test]
    fn callbacks_are_sent_in_order_and_an_empty_queue_is_removed() {
        let mut queue = CallbackQueue::new(CallbackLimits::default());
        assert!(matches!(queue.post(callback(A, "1")), Posted::First(address, _) if *address == *A));
        assert!(matches!(queue.post(callback(A, "2")), Posted::Queued));
        assert!(matches!(queue.post(callback(B, "3")), Posted::First(..)));
        queue.start_sending(A);
        assert_eq!(names(&[send(&mut queue, A)]), ["1 1"]);
        let back = queue.take(A).expect("the second");
        assert!(!queue.remove_if_empty(A), "it is being sent");
        queue.put_back(A, back);
        assert_eq!(names(&[send(&mut queue, A)]), ["2 1"]);
        assert!(queue.remove_if_empty(A) && !queue.remove_if_empty(B) && queue.len() == 1);
        assert!(matches!(queue.post(callback(A, "4")), Posted::First(..)), "a new sender is needed");
    }

    #[test]
    fn each_callback_gets_all_its_attempts_whenever_it_was_queued() {
        let mut queue = CallbackQueue::new(CallbackLimits::default());
        queue.post(callback(A, "1"));
        queue.start_sending(A);
        queue.post(callback(A, "2"));
        assert!(queue.fail_overdue(A, "closed").is_empty());
        queue.start_sending(A);
        assert!(queue.fail_overdue(A, "closed").is_empty());
        queue.start_sending(A);
        let ends = queue.fail_overdue(A, "closed");
        assert_eq!((names(&ends), &ends[0].outcome), (vec!["1 3".to_owned()], &Err("closed".to_owned())));
        queue.start_sending(A);
        assert_eq!(names(&queue.fail_overdue(A, "closed")), ["2 3"]);
        assert!(queue.is_empty() && queue.remove_if_empty(A));
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_sender_that_ends_without_an_error_is_not_an_attempt() {
        let mut queue = CallbackQueue::new(CallbackLimits::default());
        queue.post(callback(A, "1"));
        queue.post(callback(A, "2"));
        for _ in 0..5 {
            queue.start_sending(A);
            queue.finish_sending(A);
        }
        queue.start_sending(A);
        assert!(queue.fail_overdue(A, "closed").is_empty());
        queue.start_sending(A);
        assert_eq!(names(&[send(&mut queue, A), send(&mut queue, A)]), ["1 2", "2 2"]);
    }

    #[test]
    fn callbacks_posted_after_the_stop_end_immediately() {
        let mut queue = CallbackQueue::new(CallbackLimits::default());
        queue.post(callback(A, "1"));
        queue.stop();
        let refused = queue.post(callback(A, "2"));
        assert!(
            matches!(refused, Posted::Refused(CallbackOutcome { outcome: Err(reason), .. }) if reason.contains("stopped"))
        );
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn callbacks_over_the_limits_end_immediately() {
        let limits = CallbackLimits { address_max: 2, all_max: 3, ..CallbackLimits::default() };
        let mut queue = CallbackQueue::new(limits);
        let reason = |posted: Posted| match posted {
            Posted::Refused(CallbackOutcome { outcome: Err(reason), attempts: 0, .. }) => reason,
            other => panic!("{other:?}"),
        };
        queue.post(callback(A, "1"));
        queue.post(callback(A, "2"));
        assert!(reason(queue.post(callback(A, "3"))).contains("2 callbacks wait for this address"));
        queue.post(callback(B, "4"));
        assert!(reason(queue.post(callback(B, "5"))).contains("for all addresses"));
        send(&mut queue, A);
        assert!(matches!(queue.post(callback(B, "6")), Posted::Queued));
        let mut queue = CallbackQueue::new(CallbackLimits { address_bytes_max: 40, all_bytes_max: 50, ..limits });
        queue.post(callback(A, "1"));
        queue.post(callback(A, "2"));
        assert!(reason(queue.post(callback(A, "3"))).contains("2 callbacks"));
        assert!(reason(queue.post(callback(B, "4"))).contains("50 bytes wait already, for all"));
    }
}
