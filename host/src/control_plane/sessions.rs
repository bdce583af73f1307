//! Sessions: ended tasks, gathered for the client that submitted many.
//!
//! A client with many tasks under way parks one request here, and gets whatever has ended since
//! the last answer in one frame. An answer is kept until the next question says that it came.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use crate::{
    clock::Moment,
    protocol::{FRAME_ITEMS_MAX, FRAME_TARGET},
    task::TaskResult,
};

/// A session that nobody uses for so long is forgotten.
pub const SESSION_IDLE_MAX: Duration = Duration::from_mins(1);
/// So many ended tasks wait for their client; the oldest go first, and can still be looked up.
pub const SESSION_RESULTS_MAX: usize = 100_000;

/// One client's ended tasks.
#[derive(Debug)]
pub struct Session<R> {
    /// Its parked question, and until when.
    pub parked: Option<(R, Moment)>,
    ready: VecDeque<Arc<TaskResult>>,
    /// The number of the last question, and what it was answered with.
    sequence: u64,
    answered: Vec<Arc<TaskResult>>,
    used: Moment,
}

impl<R> Session<R> {
    /// Takes note of a question. A new number says that the last answer came; the old number
    /// again says that it did not.
    pub fn acknowledge(&mut self, sequence: u64) {
        let answered = mem::take(&mut self.answered);
        if sequence == self.sequence {
            for result in answered.into_iter().rev() {
                self.ready.push_front(result);
            }
        }
        self.sequence = sequence;
    }

    /// Whether there is something to tell.
    pub fn has_news(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What fits into one frame.
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

/// What to do about a session whose moment came.
#[derive(Debug)]
pub enum Check {
    /// Look again at that moment.
    Again(Moment),
    /// Its question waited long enough.
    WaitOver,
    /// It is gone.
    Gone,
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions<R>(BTreeMap<Uuid, Session<R>>);

impl<R> Default for Sessions<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R> Sessions<R> {
    /// Opens a session or notes its use. Returns whether it was open.
    pub fn touch(&mut self, now: Moment, id: Uuid) -> bool {
        let known = self.0.contains_key(&id);
        self.get_mut(id).used = now;
        known
    }

    /// A session, opened if it was not.
    pub fn get_mut(&mut self, id: Uuid) -> &mut Session<R> {
        self.0.entry(id).or_insert_with(|| Session {
            parked: None,
            ready: VecDeque::new(),
            sequence: 0,
            answered: Vec::new(),
            used: Moment::default(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of them have a parked question.
    pub fn parked(&self) -> usize {
        self.0.values().filter(|session| session.parked.is_some()).count()
    }

    /// Adds an ended task. Returns whether its client waits for it right now.
    pub fn tell(&mut self, id: Uuid, result: Arc<TaskResult>) -> bool {
        let Some(session) = self.0.get_mut(&id) else { return false };
        session.ready.push_back(result);
        if session.ready.len() > SESSION_RESULTS_MAX {
            session.ready.pop_front();
        }
        session.parked.is_some()
    }

    /// Takes the parked question, until when it was parked, and its answer.
    pub fn answer(&mut self, id: Uuid) -> Option<(R, Moment, Vec<Arc<TaskResult>>)> {
        let session = self.0.get_mut(&id)?;
        let (way, until) = session.parked.take()?;
        session.answered = session.frame();
        Some((way, until, session.answered.clone()))
    }

    /// Looks at a session whose moment came.
    pub fn check(&mut self, now: Moment, id: Uuid) -> Check {
        let Some(session) = self.0.get_mut(&id) else { return Check::Gone };
        match session.parked {
            Some((_, until)) if until <= now => Check::WaitOver,
            Some((_, until)) => Check::Again(until),
            None if now.since(session.used) >= SESSION_IDLE_MAX => {
                self.0.remove(&id);
                Check::Gone
            }
            None => Check::Again(session.used + SESSION_IDLE_MAX),
        }
    }

    /// Takes every parked question.
    pub fn take_parked(&mut self) -> Vec<R> {
        self.0.values_mut().filter_map(|session| session.parked.take()).map(|(way, _)| way).collect()
    }
}
