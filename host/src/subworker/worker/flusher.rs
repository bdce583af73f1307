//! Flushes reports of running tasks, returns prefetched leases that are stuck behind a slow attempt, and sends
//! the outcomes of attempts that ended before it.
//!
//! Invariant: the items that it takes from the slots fit into a frame; the rest stays there for the next one.

use std::{
    iter, mem,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    REPLY_TIMEOUT, RetryingLink, ShutdownFlags, Slots, WorkerRegistration, frame, retrying_link::NoReply,
    slot_state::SlotState,
};
use crate::{
    clock::pause,
    lock::{self, lock},
    protocol::{FRAME_TARGET, LeaseId, Note, WorkerReply, WorkerRequest},
    task::Report,
};

/// Interval between two flushes, and the age from which a running attempt counts as slow.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);
/// Maximum number of reports in one note; a control plane accepts more.
const NOTE_REPORTS_MAX: usize = 10_000;
/// Maximum size of a lease in a note, in bytes.
const LEASE_BYTES: usize = 24;

/// Lets the flusher sleep while no slot needs it.
#[derive(Debug, Default)]
pub(super) struct FlushSignal {
    is_awake: AtomicBool,
    sleep: Mutex<()>,
    woken: Condvar,
}

impl FlushSignal {
    /// Wakes the flusher, if it sleeps.
    pub(super) fn wake(&self) {
        if !self.is_awake.swap(true, Ordering::SeqCst) {
            let _sleep = lock(&self.sleep);
            self.woken.notify_all();
        }
    }

    /// Sleeps until woken. May return early; returns whether the flusher has work.
    fn wait(&self) -> bool {
        let sleep = lock(&self.sleep);
        let is_awake = self.is_awake.load(Ordering::SeqCst);
        if !is_awake {
            drop(lock::wait(&self.woken, sleep));
        }
        is_awake
    }
}

/// Flushes the slots of one worker.
pub(super) struct ReportFlusher {
    pub(super) link: Arc<RetryingLink>,
    pub(super) registration: Arc<WorkerRegistration>,
    pub(super) slots: Slots,
    pub(super) signal: Arc<FlushSignal>,
    pub(super) shutdown: Arc<ShutdownFlags>,
    /// Sequence number of the last note.
    pub(super) last_sequence: u64,
}

impl ReportFlusher {
    /// Flushes repeatedly until the worker stops.
    pub(super) fn run(mut self) {
        while !self.shutdown.is_stopping() {
            if !self.signal.wait() {
                continue;
            }
            pause(FLUSH_INTERVAL);
            if !self.flush_slots() {
                self.signal.is_awake.store(false, Ordering::SeqCst);
                // A slot may have called `wake` between the flush and the store.
                if self.slots.iter().any(|slot| slot.lock().needs_flush()) {
                    self.signal.wake();
                }
            }
        }
    }

    /// Returns whether a slot still needs flushing.
    fn flush_slots(&mut self) -> bool {
        self.send_late_outcomes();
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        // Starts with another slot each time, so that none starves.
        let first = usize::try_from(sequence).unwrap_or(0) % self.slots.len().max(1);
        let NoteContent { reports, returned, is_needed } = collect_reports(&self.slots, first);
        if reports.is_empty() && returned.is_empty() {
            return is_needed;
        }
        let note = Note { worker: self.registration.key(), sequence, reports, returned };
        let reply = self.link.request(&WorkerRequest::Note(note), REPLY_TIMEOUT);
        self.slots.iter().for_each(|slot| slot.set_flushed());
        // Unsent items are dropped: reports, and leases that their slots account for.
        is_needed && !matches!(reply, Err(NoReply::Stopping))
    }

    /// Sends outcomes that have waited in slots that run another attempt, so that no result waits for it. Outcomes of
    /// fast attempts are sent with the slots' own requests, many at a time.
    fn send_late_outcomes(&self) {
        for (number, slot) in (0..).zip(self.slots.iter()) {
            let Some(work) = slot.lock().late_request(number, FLUSH_INTERVAL) else { continue };
            let sequence = work.sequence;
            // After any other reply the slot sends them itself.
            if let Ok(WorkerReply::Leases(_)) = self.link.request(&WorkerRequest::Work(work), REPLY_TIMEOUT) {
                slot.lock().confirm(sequence);
            }
        }
    }
}

/// Reports and returned leases for one note.
#[derive(Debug)]
struct NoteContent {
    reports: Vec<(LeaseId, Report)>,
    returned: Vec<LeaseId>,
    /// Whether a slot needs flushing.
    is_needed: bool,
}

/// Takes the reports that fit into one note from the slots, starting with slot `first`.
fn collect_reports(slots: &[Arc<SlotState>], first: usize) -> NoteContent {
    let mut note = NoteContent { reports: Vec::new(), returned: Vec::new(), is_needed: false };
    let mut bytes = 0;
    for slot in slots[first..].iter().chain(&slots[..first]) {
        let mut inner = slot.lock();
        note.is_needed |= inner.needs_flush();
        let Some((lease, since)) = inner.running else { continue };
        if since.elapsed() < FLUSH_INTERVAL || bytes > FRAME_TARGET {
            continue;
        }
        let returned = mem::take(&mut inner.waiting);
        bytes += returned.len() * LEASE_BYTES;
        note.returned.extend(returned.into_iter().map(|lease| lease.id));
        let capacity = NOTE_REPORTS_MAX.saturating_sub(note.reports.len());
        let count_before = note.reports.len();
        note.reports.extend(
            iter::from_fn(|| {
                // The last report may exceed the target, which is far below the limit of a frame.
                let report = if bytes > FRAME_TARGET { None } else { inner.reports.pop_front() }?;
                bytes += frame::report_size(&report);
                Some((lease, report))
            })
            .take(capacity),
        );
        inner.is_flushing = note.reports.len() > count_before;
    }
    note
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use uuid::Uuid;

    use super::*;
    use crate::{
        protocol::codec,
        task::{LogLevel, SerializationFormat},
        transport::PAYLOAD_MAX,
    };

    fn busy_slots(number: u64, reports: impl Fn() -> Vec<Report>) -> Vec<Arc<SlotState>> {
        let slots: Vec<Arc<SlotState>> = (0..number).map(|_| Arc::default()).collect();
        for (lease, slot) in (1..).zip(&slots) {
            let mut inner = slot.lock();
            inner.running = Some((LeaseId(lease), Instant::now().checked_sub(FLUSH_INTERVAL).expect("it was")));
            inner.reports.extend(reports());
        }
        slots
    }

    /// Collects reports until none are left, and checks the size of each note.
    fn notes(slots: &[Arc<SlotState>]) -> Vec<Vec<(LeaseId, Report)>> {
        let mut notes = Vec::new();
        loop {
            let NoteContent { reports, returned, is_needed } = collect_reports(slots, notes.len() % slots.len());
            if reports.is_empty() {
                assert!(!is_needed);
                return notes;
            }
            assert!(is_needed && reports.len() <= NOTE_REPORTS_MAX);
            let note = Note { worker: Uuid::nil(), sequence: 1, reports: reports.clone(), returned };
            for format in [SerializationFormat::Json, SerializationFormat::Postcard] {
                assert!(codec::encode(format, &WorkerRequest::Note(note.clone())).len() < PAYLOAD_MAX);
            }
            notes.push(reports);
        }
    }

    fn log_line(number: usize, message: &str) -> Report {
        Report::Log { level: LogLevel::Info, message: format!("{number} {message}") }
    }

    #[test]
    fn reports_of_all_slots_are_sent_in_order_in_notes_that_fit() {
        let text = "\u{1}".repeat(16 << 10);
        for (number, lines, message) in [(100, 1_000, ""), (5, 50, text.as_str())] {
            let logged: Vec<Report> = (0..lines).map(|number| log_line(number, message)).collect();
            let slots = busy_slots(number, || logged.clone());
            let notes = notes(&slots);
            assert!(notes.len() > 10, "{}", notes.len());
            for lease in (1..=number).map(LeaseId) {
                let own = notes.iter().flatten().filter(|(other, _)| *other == lease).map(|(_, report)| report);
                assert!(own.eq(&logged), "{lease:?}");
            }
        }
    }

    #[test]
    fn a_slot_waits_for_its_reports_only_while_some_are_being_sent() {
        let slots = busy_slots(2, || vec![log_line(0, &"x".repeat(FRAME_TARGET))]);
        assert_eq!(collect_reports(&slots, 1).reports.len(), 1);
        assert_eq!([&slots[0], &slots[1]].map(|slot| slot.lock().is_flushing), [false, true]);
        for slot in &slots {
            slot.set_flushed();
        }
        assert_eq!((slots[0].finish().len(), slots[1].finish().len()), (1, 0));
    }
}
