//! Sessions: results collected for a client that submitted many tasks.
//!
//! The client parks one request here, and gets all results since the last reply in one frame. Invariants: a request
//! that is repeated gets the same reply; a reply is kept until the next request confirms it; sessions are evicted, the
//! least recently used first, when they are unused for long, when there are too many or when they hold too much.

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

/// Time after which an unused session expires.
pub const SESSION_IDLE_MAX: Duration = Duration::from_mins(1);
/// Maximum number of open sessions.
pub const SESSIONS_MAX: usize = 10_000;
/// Maximum number of results that wait in one session. The oldest are dropped first, and can still be looked up.
pub const SESSION_RESULTS_MAX: usize = 100_000;
/// Maximum size of the results in all sessions together, in bytes.
pub const SESSION_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Size of a result beyond its documents, in bytes.
const RESULT_OVERHEAD: usize = 256;

/// Id of a session, chosen by its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub Uuid);

/// The results of one client.
#[derive(Debug)]
struct Session<R> {
    /// The parked request, and its deadline.
    parked: Option<(R, Moment)>,
    ready: VecDeque<Arc<TaskResult>>,
    /// The number of the newest request, and its reply.
    sequence: u64,
    last_reply: Collected,
    used: Moment,
    /// Size of `ready` and `last_reply`, in bytes.
    bytes: usize,
}

/// Relation of a request to the one before it.
#[derive(Debug)]
pub enum PollKind<R> {
    /// The next request. It replaces the parked one, if any.
    New {
        /// Recipient and deadline of the request that was parked.
        displaced: Option<(R, Moment)>,
    },
    /// The newest request again: its reply must not change.
    Repeated {
        /// Recipient and deadline of its first copy, if that was parked.
        parked: Option<(R, Moment)>,
        /// The reply.
        reply: Collected,
    },
    /// A request older than the newest one: its client no longer waits for a reply.
    Stale,
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions<R> {
    open: BTreeMap<SessionId, Session<R>>,
    /// The least recently used first.
    by_use: BTreeSet<(Moment, SessionId)>,
    bytes: usize,
}

/// A session that was removed while its request was parked.
#[derive(Debug)]
pub struct Evicted<R> {
    /// The session.
    pub session: SessionId,
    /// The recipient of the reply.
    pub reply_to: R,
    /// The deadline of the request.
    pub until: Moment,
}

impl<R> Default for Sessions<R> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), by_use: BTreeSet::new(), bytes: 0 }
    }
}

impl<R> Sessions<R> {
    /// Opens a session, or marks it as used. Returns whether it was open.
    pub fn touch(&mut self, now: Moment, id: SessionId) -> bool {
        let was_open = self.open.contains_key(&id);
        let session = self.open.entry(id).or_insert_with(|| Session {
            parked: None,
            ready: VecDeque::new(),
            sequence: 0,
            last_reply: empty_reply(),
            used: now,
            bytes: 0,
        });
        self.by_use.remove(&(mem::replace(&mut session.used, now), id));
        self.by_use.insert((now, id));
        was_open
    }

    /// Starts a request of an open session, which confirms the reply to the one before it.
    pub fn poll(&mut self, id: SessionId, sequence: u64) -> PollKind<R> {
        let Some(session) = self.open.get_mut(&id) else { return PollKind::Stale };
        if sequence < session.sequence {
            return PollKind::Stale;
        }
        if sequence == session.sequence {
            return PollKind::Repeated { parked: session.parked.take(), reply: session.last_reply.clone() };
        }
        // A submission opened a new session: the client polled an older one, and does not know yet that it was removed.
        let known = session.sequence > 0 || sequence == 1;
        session.sequence = sequence;
        let freed = sizes(&session.last_reply.results);
        session.last_reply = Collected { known, results: Vec::new() };
        session.bytes -= freed;
        self.bytes -= freed;
        PollKind::New { displaced: session.parked.take() }
    }

    /// Parks the newest request, if there is no result. Returns the recipient if there is one.
    pub fn park(&mut self, id: SessionId, reply_to: R, until: Moment) -> Option<R> {
        let Some(session) = self.open.get_mut(&id) else { return Some(reply_to) };
        if !session.ready.is_empty() || !session.last_reply.known {
            return Some(reply_to);
        }
        session.parked = Some((reply_to, until));
        None
    }

    /// Returns the reply to the newest request: the results, and whether the session `was_open`.
    pub fn take_reply(&mut self, id: SessionId, was_open: bool) -> Collected {
        let Some(session) = self.open.get_mut(&id) else { return empty_reply() };
        session.last_reply.known &= was_open;
        session.last_reply.results = session.frame();
        session.last_reply.clone()
    }

    /// Takes the parked request, and its deadline.
    pub fn unpark(&mut self, id: SessionId) -> Option<(R, Moment)> {
        self.open.get_mut(&id)?.parked.take()
    }

    /// Adds a result. Returns whether a request is parked.
    pub fn add_result(&mut self, id: SessionId, result: Arc<TaskResult>) -> bool {
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
    pub fn is_open(&self, id: SessionId) -> bool {
        self.open.contains_key(&id)
    }

    /// Removes the least recently used session, if there are too many or they hold too much. Call it until it returns
    /// none.
    pub fn evict(&mut self) -> Option<Option<Evicted<R>>> {
        if self.open.len() <= SESSIONS_MAX && (self.bytes <= SESSION_BYTES_MAX || self.open.len() == 1) {
            return None;
        }
        let (_, id) = self.by_use.first().copied()?;
        Some(self.remove(id))
    }

    /// Removes a session that was unused for too long. Call it until it returns none.
    pub fn expire(&mut self, now: Moment) -> Option<Option<Evicted<R>>> {
        let (used, id) = self.by_use.first().copied()?;
        (now.since(used) >= SESSION_IDLE_MAX).then(|| self.remove(id))
    }

    /// Returns when the next session may expire.
    pub fn next_expiry(&self) -> Option<Moment> {
        self.by_use.first().map(|(used, _)| *used + SESSION_IDLE_MAX)
    }

    fn remove(&mut self, id: SessionId) -> Option<Evicted<R>> {
        let session = self.open.remove(&id)?;
        self.by_use.remove(&(session.used, id));
        self.bytes -= session.bytes;
        session.parked.map(|(reply_to, until)| Evicted { session: id, reply_to, until })
    }

    /// Number of open sessions.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no session is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Number of sessions with a parked request.
    pub fn parked(&self) -> usize {
        self.open.values().filter(|session| session.parked.is_some()).count()
    }

    /// Takes all parked requests.
    pub fn take_parked(&mut self) -> Vec<R> {
        self.open.values_mut().filter_map(|session| session.parked.take()).map(|(reply_to, _)| reply_to).collect()
    }
}

impl<R> Session<R> {
    /// Removes and returns as many results as fit into one frame.
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

/// Returns a reply without results.
pub fn empty_reply() -> Collected {
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

    const ID: SessionId = session(1);

    const fn session(number: u128) -> SessionId {
        SessionId(Uuid::from_u128(number))
    }

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
    fn a_repeated_request_gets_the_same_reply_although_more_has_ended() {
        let mut sessions = open();
        sessions.add_result(ID, result("a", 1));
        assert!(matches!(sessions.poll(ID, 1), PollKind::New { displaced: None }));
        assert_eq!(ids(&sessions.take_reply(ID, true)), ["a"]);
        sessions.add_result(ID, result("b", 1));
        let PollKind::Repeated { parked: None, reply } = sessions.poll(ID, 1) else { panic!("it is the same request") };
        assert_eq!(ids(&reply), ["a"]);
        assert!(matches!(sessions.poll(ID, 2), PollKind::New { .. }));
        assert_eq!(ids(&sessions.take_reply(ID, true)), ["b"]);
    }

    #[test]
    fn a_stale_request_takes_no_results() {
        let mut sessions = open();
        assert!(matches!(sessions.poll(ID, 1), PollKind::New { .. }));
        sessions.take_reply(ID, true);
        sessions.add_result(ID, result("a", 1));
        assert!(matches!(sessions.poll(ID, 2), PollKind::New { .. }));
        assert_eq!(ids(&sessions.take_reply(ID, true)), ["a"]);
        assert!(matches!(sessions.poll(ID, 1), PollKind::Stale));
        let PollKind::Repeated { reply, .. } = sessions.poll(ID, 2) else { panic!("it is the same request") };
        assert_eq!(ids(&reply), ["a"]);
    }

    #[test]
    fn a_client_learns_that_its_session_was_removed() {
        let mut sessions = open();
        assert!(matches!(sessions.poll(ID, 7), PollKind::New { .. }));
        assert_eq!(sessions.park(ID, "client", Moment::NEVER), Some("client"), "it gets a reply immediately");
        assert!(!sessions.take_reply(ID, true).known);
    }

    #[test]
    fn sessions_are_bounded_in_number_time_and_bytes() {
        let mut sessions = Sessions::<&str>::default();
        for n in 0..=SESSIONS_MAX as u128 {
            sessions.touch(Moment::from_micros(u64::try_from(n).expect("small")), session(n));
        }
        assert!(matches!(sessions.evict(), Some(None)));
        assert!(sessions.evict().is_none());
        assert!(!sessions.is_open(session(0)) && sessions.is_open(session(1)));

        let mut sessions = open();
        let other = session(2);
        sessions.touch(Moment::from_micros(1), other);
        sessions.park(ID, "client", Moment::NEVER);
        let big = result("big", SESSION_BYTES_MAX / 4);
        for _ in 0..6 {
            sessions.add_result(other, big.clone());
        }
        assert!(sessions.bytes <= SESSION_BYTES_MAX);
        sessions.add_result(ID, big);
        assert_eq!(sessions.evict().flatten().map(|evict| evict.reply_to), Some("client"));
        assert!(sessions.evict().is_none());
        while sessions.expire(Moment::default() + SESSION_IDLE_MAX * 2).is_some() {}
        assert_eq!((sessions.bytes, sessions.len(), sessions.by_use.len()), (0, 0, 0));
    }
}
