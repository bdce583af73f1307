//! The keeper: tells what running tasks say, returns what waits behind one that takes its time, and
//! sends the outcomes of those that ended before it.
//!
//! Apart because it alone looks at all desks. Invariant: what it takes from them fits into a frame; the
//! rest stays where it is for the next one.

use std::{
    iter, mem,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{NoAnswer, PROMPT, Shared, desk::Desk, frame};
use crate::{
    clock::pause,
    lock::{self, lock},
    protocol::{FRAME_TARGET, LeaseId, Note, WorkerReply, WorkerRequest},
    task::Report,
};

/// How long the keeper lets a slot work before it helps.
const KEEPER_STEP: Duration = Duration::from_millis(10);
/// How many reports go into one note; a control plane reads more.
const NOTE_REPORTS: usize = 10_000;
/// What a lease takes in a note, at most.
const LEASE_BYTES: usize = 24;

/// Lets the keeper sleep while no slot needs it.
#[derive(Default)]
pub(super) struct Keeper {
    awake: AtomicBool,
    asleep: Mutex<()>,
    called: Condvar,
}

impl Keeper {
    pub(super) fn call(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            let _asleep = lock(&self.asleep);
            self.called.notify_all();
        }
    }
}

impl Shared {
    pub(super) fn run_keeper(&self) {
        while !self.is_stopping() {
            let asleep = lock(&self.keeper.asleep);
            if !self.keeper.awake.load(Ordering::SeqCst) {
                drop(lock::wait(&self.keeper.called, asleep));
                continue;
            }
            drop(asleep);
            pause(KEEPER_STEP);
            if !self.look_after_slots() {
                self.keeper.awake.store(false, Ordering::SeqCst);
                // A slot may have called between the look and the store.
                if self.desks.iter().any(|desk| desk.papers().needs_keeper()) {
                    self.keeper.call();
                }
            }
        }
    }

    /// Returns whether a slot still needs looking after.
    fn look_after_slots(&self) -> bool {
        self.send_late_outcomes();
        let sequence = self.notes.fetch_add(1, Ordering::SeqCst) + 1;
        // Another desk comes first each time, so that none is kept waiting by the others.
        let first = usize::try_from(sequence).unwrap_or(0) % self.desks.len().max(1);
        let Gathered { reports, returned, needed } = gather(&self.desks, first);
        if reports.is_empty() && returned.is_empty() {
            return needed;
        }
        let note = Note { worker: *lock(&self.key), sequence, reports, returned };
        let told = self.ask(&WorkerRequest::Note(note), PROMPT);
        self.desks.iter().for_each(Desk::told);
        // What could not be told is lost: reports, and leases that their slots account for.
        needed && !matches!(told, Err(NoAnswer::Stopping))
    }
}

impl Shared {
    /// Sends what ended a while ago in slots that are still at work: nobody is to wait for a result that
    /// is there. The slot's own requests carry what ends quickly, many at a time.
    fn send_late_outcomes(&self) {
        for (number, desk) in (0..).zip(&self.desks) {
            let Some(work) = desk.papers().late_work(number, KEEPER_STEP) else { continue };
            let sequence = work.sequence;
            // Whatever else is answered, the slot hears itself, and what was not sent it sends.
            if let Ok(WorkerReply::Leases(_)) = self.ask(&WorkerRequest::Work(work), PROMPT) {
                desk.papers().confirm(sequence);
            }
        }
    }
}

/// What goes into one note.
#[derive(Debug)]
struct Gathered {
    reports: Vec<(LeaseId, Report)>,
    returned: Vec<LeaseId>,
    /// Whether a slot needs looking after.
    needed: bool,
}

/// Takes from the desks what goes into one note, beginning with the desk of that number.
fn gather(desks: &[Desk], first: usize) -> Gathered {
    let mut gathered = Gathered { reports: Vec::new(), returned: Vec::new(), needed: false };
    let mut bytes = 0;
    for desk in desks[first..].iter().chain(&desks[..first]) {
        let mut papers = desk.papers();
        gathered.needed |= papers.needs_keeper();
        let Some((lease, since)) = papers.running else { continue };
        if since.elapsed() < KEEPER_STEP || bytes > FRAME_TARGET {
            continue;
        }
        let returned = mem::take(&mut papers.waiting);
        bytes += returned.len() * LEASE_BYTES;
        gathered.returned.extend(returned.into_iter().map(|lease| lease.id));
        let room = NOTE_REPORTS.saturating_sub(gathered.reports.len());
        let told = gathered.reports.len();
        gathered.reports.extend(
            iter::from_fn(|| {
                // One that goes beyond the target goes along: it is small beside the limit.
                let report = if bytes > FRAME_TARGET { None } else { papers.reports.pop_front() }?;
                bytes += frame::report_size(&report);
                Some((lease, report))
            })
            .take(room),
        );
        papers.telling = gathered.reports.len() > told;
    }
    gathered
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

    fn busy_desks(number: u64, reports: impl Fn() -> Vec<Report>) -> Vec<Desk> {
        let desks: Vec<Desk> = (0..number).map(|_| Desk::default()).collect();
        for (lease, desk) in (1..).zip(&desks) {
            let mut papers = desk.papers();
            papers.running = Some((LeaseId(lease), Instant::now().checked_sub(KEEPER_STEP).expect("it was")));
            papers.reports.extend(reports());
        }
        desks
    }

    /// Gathers until nothing is left, and checks each note.
    fn notes(desks: &[Desk]) -> Vec<Vec<(LeaseId, Report)>> {
        let mut notes = Vec::new();
        loop {
            let Gathered { reports, returned, needed } = gather(desks, notes.len() % desks.len());
            if reports.is_empty() {
                assert!(!needed);
                return notes;
            }
            assert!(needed && reports.len() <= NOTE_REPORTS);
            let note = Note { worker: Uuid::nil(), sequence: 1, reports: reports.clone(), returned };
            for format in [SerializationFormat::Json, SerializationFormat::Postcard] {
                assert!(codec::encode(format, &WorkerRequest::Note(note.clone())).len() < PAYLOAD_MAX);
            }
            notes.push(reports);
        }
    }

    fn line(number: usize, message: &str) -> Report {
        Report::Log { level: LogLevel::Info, message: format!("{number} {message}") }
    }

    #[test]
    fn whatever_all_slots_say_goes_in_notes_that_can_be_sent_and_in_order() {
        let text = "\u{1}".repeat(16 << 10);
        for (number, lines, message) in [(100, 1_000, ""), (5, 50, text.as_str())] {
            let said: Vec<Report> = (0..lines).map(|number| line(number, message)).collect();
            let desks = busy_desks(number, || said.clone());
            let notes = notes(&desks);
            assert!(notes.len() > 10, "{}", notes.len());
            for lease in (1..=number).map(LeaseId) {
                let of_it = notes.iter().flatten().filter(|(other, _)| *other == lease).map(|(_, report)| report);
                assert!(of_it.eq(&said), "{lease:?}");
            }
        }
    }

    #[test]
    fn a_desk_waits_for_its_reports_only_while_some_are_on_their_way() {
        let desks = busy_desks(2, || vec![line(0, &"x".repeat(FRAME_TARGET))]);
        assert_eq!(gather(&desks, 1).reports.len(), 1);
        assert_eq!([&desks[0], &desks[1]].map(|desk| desk.papers().telling), [false, true]);
        desks.iter().for_each(Desk::told);
        assert_eq!((desks[0].finish().len(), desks[1].finish().len()), (1, 0));
    }
}
