//! Sessions: ended tasks, gathered for the client that submitted many.
//!
//! A client with many tasks under way parks one question here, and gets whatever has ended since
//! the last answer in one frame. Invariants: a question that is asked again gets the answer that it
//! got before, whatever has happened since; an answer is kept until the next question says that it
//! came; sessions are forgotten, the longest unused first, when they are left alone for long, when
//! there are too many or when they hold too much.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use crate::{
    clock::Moment,
    protocol::{Collected, FRAME_ITEMS_MAX, FRAME_TARGET},
    task::TaskResult,
};

/// A session that nobody uses for so long is forgotten.
pub const SESSION_IDLE_MAX: Duration = Duration::from_mins(1);
/// So many sessions are open at a time.
pub const SESSIONS_MAX: usize = 10_000;
/// So many ended tasks wait for their client; the oldest go first, and can still be looked up.
pub const SESSION_RESULTS_MAX: usize = 100_000;
/// How many bytes of ended tasks wait for their clients, in all sessions together.
pub const SESSION_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What an ended task takes beyond its documents.
const RESULT_OVERHEAD: usize = 256;

/// One client's ended tasks.
#[derive(Debug)]
struct Session<R> {
    /// Its parked question, and until when.
    parked: Option<(R, Moment)>,
    ready: VecDeque<Arc<TaskResult>>,
    /// The number of the newest question, and what it was answered with.
    sequence: u64,
    answered: Collected,
    used: Moment,
    /// What `ready` and `answered` hold.
    bytes: usize,
}

/// What a question is to its session.
#[derive(Debug)]
pub enum Turn<R> {
    /// The next one. It takes the place of the one that was parked, if any.
    New {
        /// The way back and the end of the one that was parked.
        displaced: Option<(R, Moment)>,
    },
    /// The newest one again: its answer must not change any more.
    Again {
        /// The way back and the end of its first copy, where that was parked.
        parked: Option<(R, Moment)>,
        /// Its answer.
        answer: Collected,
    },
    /// One that was followed by others: nobody waits for its answer.
    Old,
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions<R> {
    open: BTreeMap<Uuid, Session<R>>,
    /// The longest unused first.
    by_use: BTreeSet<(Moment, Uuid)>,
    bytes: usize,
}

/// A session that was forgotten while its client waits: its way back, and until when.
#[derive(Debug)]
pub struct Shed<R> {
    /// The session.
    pub session: Uuid,
    /// The way back.
    pub reply_to: R,
    /// Until when it was parked.
    pub until: Moment,
}

impl<R> Default for Sessions<R> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), by_use: BTreeSet::new(), bytes: 0 }
    }
}

impl<R> Sessions<R> {
    /// Opens a session or notes its use. Returns whether it was open.
    pub fn touch(&mut self, now: Moment, id: Uuid) -> bool {
        let known = self.open.contains_key(&id);
        let session = self.open.entry(id).or_insert_with(|| Session {
            parked: None,
            ready: VecDeque::new(),
            sequence: 0,
            answered: nothing(),
            used: now,
            bytes: 0,
        });
        self.by_use.remove(&(mem::replace(&mut session.used, now), id));
        self.by_use.insert((now, id));
        known
    }

    /// Takes a question of an open session, and the word of the last one's arrival.
    pub fn ask(&mut self, id: Uuid, sequence: u64) -> Turn<R> {
        let Some(session) = self.open.get_mut(&id) else { return Turn::Old };
        if sequence < session.sequence {
            return Turn::Old;
        }
        if sequence == session.sequence {
            return Turn::Again { parked: session.parked.take(), answer: session.answered.clone() };
        }
        // Opened anew by a submission: the client has asked before and does not know it yet.
        let known = session.sequence > 0 || sequence == 1;
        session.sequence = sequence;
        let freed = sizes(&session.answered.results);
        session.answered = Collected { known, results: Vec::new() };
        session.bytes -= freed;
        self.bytes -= freed;
        Turn::New { displaced: session.parked.take() }
    }

    /// Parks the newest question, if there is nothing to tell. Gives the way back if there is.
    pub fn park(&mut self, id: Uuid, reply_to: R, until: Moment) -> Option<R> {
        let Some(session) = self.open.get_mut(&id) else { return Some(reply_to) };
        if !session.ready.is_empty() || !session.answered.known {
            return Some(reply_to);
        }
        session.parked = Some((reply_to, until));
        None
    }

    /// Answers the newest question with what there is, and whether the session was `known`.
    pub fn answer(&mut self, id: Uuid, known: bool) -> Collected {
        let Some(session) = self.open.get_mut(&id) else { return nothing() };
        session.answered.known &= known;
        session.answered.results = session.frame();
        session.answered.clone()
    }

    /// Takes the parked question and until when it was parked.
    pub fn unpark(&mut self, id: Uuid) -> Option<(R, Moment)> {
        self.open.get_mut(&id)?.parked.take()
    }

    /// Adds an ended task. Returns whether its client waits for it right now.
    pub fn tell(&mut self, id: Uuid, result: Arc<TaskResult>) -> bool {
        let Some(session) = self.open.get_mut(&id) else { return false };
        let size = size(&result);
        session.ready.push_back(result);
        session.bytes += size;
        self.bytes += size;
        while session.ready.len() > SESSION_RESULTS_MAX
            || (session.ready.len() > 1 && session.bytes > SESSION_BYTES_MAX)
        {
            let Some(oldest) = session.ready.pop_front() else { break };
            let size = self::size(&oldest);
            session.bytes -= size;
            self.bytes -= size;
        }
        session.parked.is_some()
    }

    /// Whether a session is open.
    pub fn is_open(&self, id: Uuid) -> bool {
        self.open.contains_key(&id)
    }

    /// Forgets the session that was not used for longest, if there are too many or they hold too
    /// much. To be called until it forgets none.
    pub fn shed(&mut self) -> Option<Option<Shed<R>>> {
        if self.open.len() <= SESSIONS_MAX && (self.bytes <= SESSION_BYTES_MAX || self.open.len() == 1) {
            return None;
        }
        let (_, id) = self.by_use.first().copied()?;
        Some(self.forget(id))
    }

    /// Forgets a session that was left alone for long. To be called until it forgets none.
    pub fn expire(&mut self, now: Moment) -> Option<Option<Shed<R>>> {
        let (used, id) = self.by_use.first().copied()?;
        (now.since(used) >= SESSION_IDLE_MAX).then(|| self.forget(id))
    }

    /// When the next session may have been left alone for long.
    pub fn next_expiry(&self) -> Option<Moment> {
        self.by_use.first().map(|(used, _)| *used + SESSION_IDLE_MAX)
    }

    fn forget(&mut self, id: Uuid) -> Option<Shed<R>> {
        let session = self.open.remove(&id)?;
        self.by_use.remove(&(session.used, id));
        self.bytes -= session.bytes;
        session.parked.map(|(reply_to, until)| Shed { session: id, reply_to, until })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// How many of them have a parked question.
    pub fn parked(&self) -> usize {
        self.open.values().filter(|session| session.parked.is_some()).count()
    }

    /// Takes every parked question.
    pub fn take_parked(&mut self) -> Vec<R> {
        self.open.values_mut().filter_map(|session| session.parked.take()).map(|(reply_to, _)| reply_to).collect()
    }
}

impl<R> Session<R> {
    /// Takes what fits into one frame.
    fn frame(&mut self) -> Vec<Arc<TaskResult>> {
        let (mut bytes, mut count) = (0, 0);
        for result in self.ready.iter().take(FRAME_ITEMS_MAX) {
            bytes += result.size();
            if count > 0 && bytes > FRAME_TARGET {
                break;
            }
            count += 1;
        }
        self.ready.drain(..count).collect()
    }
}

/// The answer when there is nothing to tell.
pub fn nothing() -> Collected {
    Collected { known: true, results: Vec::new() }
}

fn size(result: &TaskResult) -> usize {
    result.size() + RESULT_OVERHEAD
}

fn sizes(results: &[Arc<TaskResult>]) -> usize {
    results.iter().map(|result| size(result)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{json::Json, task::TaskStatus};

    const ID: Uuid = Uuid::from_u128(1);

    fn result(id: &str, bytes: usize) -> Arc<TaskResult> {
        let document = Json::of(&"x".repeat(bytes)).expect("JSON");
        let ended = TaskResult::new(id.parse().expect("an id"), TaskStatus::Success);
        Arc::new(TaskResult { result: Some(document), ..ended })
    }

    fn open() -> Sessions<&'static str> {
        let mut sessions = Sessions::default();
        assert!(!sessions.touch(Moment::default(), ID));
        sessions
    }

    fn ids(collected: &Collected) -> Vec<String> {
        collected.results.iter().map(|result| result.task_id.to_string()).collect()
    }

    #[test]
    fn a_question_asked_again_gets_the_same_answer_although_more_has_ended() {
        let mut sessions = open();
        sessions.tell(ID, result("a", 1));
        assert!(matches!(sessions.ask(ID, 1), Turn::New { displaced: None }));
        assert_eq!(ids(&sessions.answer(ID, true)), ["a"]);
        sessions.tell(ID, result("b", 1));
        let Turn::Again { parked: None, answer } = sessions.ask(ID, 1) else { panic!("it is the same question") };
        assert_eq!(ids(&answer), ["a"]);
        assert!(matches!(sessions.ask(ID, 2), Turn::New { .. }));
        assert_eq!(ids(&sessions.answer(ID, true)), ["b"]);
    }

    #[test]
    fn an_old_question_that_arrives_late_takes_nothing_away() {
        let mut sessions = open();
        assert!(matches!(sessions.ask(ID, 1), Turn::New { .. }));
        sessions.answer(ID, true);
        sessions.tell(ID, result("a", 1));
        assert!(matches!(sessions.ask(ID, 2), Turn::New { .. }));
        assert_eq!(ids(&sessions.answer(ID, true)), ["a"]);
        assert!(matches!(sessions.ask(ID, 1), Turn::Old));
        let Turn::Again { answer, .. } = sessions.ask(ID, 2) else { panic!("it is the same question") };
        assert_eq!(ids(&answer), ["a"]);
    }

    #[test]
    fn a_client_learns_that_its_session_was_forgotten_and_opened_anew() {
        let mut sessions = open();
        assert!(matches!(sessions.ask(ID, 7), Turn::New { .. }));
        assert_eq!(sessions.park(ID, "way", Moment::NEVER), Some("way"), "it is told at once");
        assert!(!sessions.answer(ID, true).known);
    }

    #[test]
    fn sessions_are_bounded_in_number_time_and_bytes() {
        let mut sessions = Sessions::<&str>::default();
        for n in 0..=SESSIONS_MAX as u128 {
            sessions.touch(Moment::from_micros(u64::try_from(n).expect("small")), Uuid::from_u128(n));
        }
        assert!(matches!(sessions.shed(), Some(None)));
        assert!(sessions.shed().is_none());
        assert!(!sessions.is_open(Uuid::from_u128(0)) && sessions.is_open(Uuid::from_u128(1)));

        let mut sessions = open();
        let other = Uuid::from_u128(2);
        sessions.touch(Moment::from_micros(1), other);
        sessions.park(ID, "way", Moment::NEVER);
        let big = result("big", SESSION_BYTES_MAX / 4);
        for _ in 0..6 {
            sessions.tell(other, big.clone());
        }
        assert!(sessions.bytes <= SESSION_BYTES_MAX);
        sessions.tell(ID, big);
        assert_eq!(sessions.shed().flatten().map(|shed| shed.reply_to), Some("way"));
        assert!(sessions.shed().is_none());
        while sessions.expire(Moment::default() + SESSION_IDLE_MAX * 2).is_some() {}
        assert_eq!((sessions.bytes, sessions.len(), sessions.by_use.len()), (0, 0, 0));
    }
}
