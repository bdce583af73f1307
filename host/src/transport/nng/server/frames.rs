//! Messages that have begun to come in and are not complete: how much memory they hold, and how long.
//!
//! Separate module because NNG says nothing of them: it allocates the announced size and reads, for as
//! long as the peer likes. So one thread compares what the kernel has received over each connection
//! with what was received in whole messages; the rest is a message on its way. Invariants: a peer
//! that lets its message stand still for [`STILL_MAX`], or takes [`FrameLimits::time_max`] for it, is
//! disconnected; beyond [`FrameLimits::held_max`] the host that holds most is disconnected, connection by
//! connection, until the rest fits. A peer between two messages is never touched.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, OnceLock, Weak},
    thread,
    time::{Duration, Instant},
};

use super::{
    ServerSocket,
    connection::PeerConnection,
    received::{self, Descriptor, Received},
};
use crate::lock::lock;

/// Time without a further byte after which an incomplete message is given up.
pub(super) const STILL_MAX: Duration = Duration::from_secs(10);
/// Time without a further byte after which it may have to make room for others.
const STILL: Duration = Duration::from_millis(90);
/// Age at which a message that does move on may have to make room for others.
const OLD: Duration = Duration::from_secs(2);
/// Delay between two looks while nothing is incomplete.
const EVERY: Duration = Duration::from_millis(250);
/// Delay between two looks otherwise.
const OFTEN: Duration = Duration::from_millis(100);
/// A look takes at most one part in this many of the time, unless it would come too late then.
const LOOK_SHARE: u32 = 20;
/// Maximum delay between two looks.
const SELDOM: Duration = Duration::from_secs(1);
/// A look that comes so much later than it should says that this process stood still itself.
const STALL: Duration = Duration::from_secs(2);
/// What a connection begins with.
const GREETING: u64 = 8;
/// What each further hop adds to a message, which is taken off before we see it, in bytes at most.
const HOPS: u64 = 4 * (super::HOPS_MAX as u64 - 1);
/// Maximum number of messages whose hops are put down to what is not accounted for.
const HOPS_OF_MAX: u64 = 10_000;
/// Number of looks in which a connection's descriptor is searched for.
const SEARCHES_MAX: u32 = 20;

/// What bounds incomplete messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameLimits {
    /// Maximum memory that they hold together, in bytes.
    pub(super) held_max: u64,
    /// Maximum time that one may take.
    pub(super) time_max: Duration,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { held_max: 256 * 1024 * 1024, time_max: Duration::from_mins(5) }
    }
}

/// The incomplete messages of several sockets.
#[derive(Debug)]
pub(super) struct Frames {
    bounds: FrameLimits,
    watched: Mutex<WatchedSockets>,
}

#[derive(Debug, Default)]
struct WatchedSockets {
    sockets: Vec<Weak<ServerSocket>>,
    /// Whether there is a thread that watches them.
    has_thread: bool,
}

impl Frames {
    pub(super) fn new(bounds: FrameLimits) -> Arc<Self> {
        Arc::new(Self { bounds, watched: Mutex::default() })
    }

    /// Those of all sockets of this process.
    pub(super) fn of_process() -> &'static Arc<Self> {
        static FRAMES: OnceLock<Arc<Frames>> = OnceLock::new();
        FRAMES.get_or_init(|| Self::new(FrameLimits::default()))
    }

    /// Watches the connections of one more socket, until it is dropped.
    pub(super) fn watch(self: &Arc<Self>, socket: &Arc<ServerSocket>) {
        let mut watched = lock(&self.watched);
        watched.sockets.push(Arc::downgrade(socket));
        if watched.has_thread {
            return;
        }
        let frames = Arc::clone(self);
        match thread::Builder::new().name("fw-frames".into()).spawn(move || frames.run()) {
            Ok(_) => watched.has_thread = true,
            Err(error) => tracing::warn!(
                error = crate::system::explain(&error),
                "no thread to bound messages that stay incomplete"
            ),
        }
    }

    fn run(&self) {
        let (mut wait, mut before) = (EVERY, Instant::now());
        loop {
            thread::park_timeout(wait);
            let Some(sockets) = self.sockets() else { return };
            let now = Instant::now();
            let stood_still = now.duration_since(before) > wait + STALL;
            let held = self.look(&sockets, now, stood_still);
            let usual = if held > 0 { OFTEN } else { EVERY };
            before = Instant::now();
            wait = now.elapsed().saturating_mul(LOOK_SHARE).clamp(usual, SELDOM);
        }
    }

    /// The sockets, or none if all are gone, and this thread with them.
    fn sockets(&self) -> Option<Vec<Arc<ServerSocket>>> {
        let mut watched = lock(&self.watched);
        watched.sockets.retain(|socket| socket.strong_count() > 0);
        let sockets: Vec<_> = watched.sockets.iter().filter_map(Weak::upgrade).collect();
        watched.has_thread = !sockets.is_empty();
        watched.has_thread.then_some(sockets)
    }

    /// Looks at every connection, and disconnects those that must go. Gives how much is incomplete.
    fn look(&self, sockets: &[Arc<ServerSocket>], now: Instant, stood_still: bool) -> u64 {
        let mut incomplete = Vec::new();
        for socket in sockets {
            let connections = socket.connections();
            find_descriptors(socket.port, &connections);
            // Whole messages wait then, and this side holds them up.
            let excused = stood_still || !socket.is_receiving();
            for connection in connections {
                let mut progress = lock(&connection.progress);
                let Some(received) = progress.descriptor.and_then(received::received) else { continue };
                let held = progress.look(now, received, connection.taken(), excused);
                let (still, age) = (progress.still(now), progress.age(now));
                drop(progress);
                if still > STILL_MAX || age > self.bounds.time_max {
                    connection.give_up(|peer, from| {
                        tracing::warn!(peer, from, held, "a message stays incomplete for too long: disconnected");
                    });
                } else if held > 0 {
                    incomplete.push(IncompleteFrame { connection, held, still, age });
                }
            }
        }
        let held = incomplete.iter().map(|incomplete| incomplete.held).sum();
        self.make_room(incomplete, held);
        held
    }

    /// Disconnects those that hold most, until the rest fits.
    fn make_room(&self, mut incomplete: Vec<IncompleteFrame>, mut held: u64) {
        if held <= self.bounds.held_max {
            return;
        }
        let mut hosts = HashMap::<Option<IpAddr>, u64>::new();
        for one in &incomplete {
            *hosts.entry(one.connection.host()).or_default() += one.held;
        }
        incomplete.retain(|one| one.still >= STILL || one.age >= OLD);
        // Those that stand still longest go first. Of a host, the last is looked at first.
        incomplete.sort_unstable_by_key(|one| (one.still, one.held));
        while held > self.bounds.held_max {
            let has_some = |host: Option<IpAddr>| incomplete.iter().any(|one| one.connection.host() == host);
            let largest = hosts.iter().filter(|(host, _)| has_some(**host)).max_by_key(|(_, held)| **held);
            let Some(host) = largest.map(|(host, _)| *host) else { return };
            let Some(index) = incomplete.iter().rposition(|one| one.connection.host() == host) else { return };
            let one = incomplete.remove(index);
            held = held.saturating_sub(one.held);
            hosts.entry(host).and_modify(|held| *held = held.saturating_sub(one.held));
            one.connection.give_up(|peer, from| {
                let why = "incomplete messages hold too much memory, most of it for this host";
                tracing::warn!(peer, from, held = one.held, "{why}: disconnected");
            });
        }
    }
}

/// A connection with an incomplete message.
struct IncompleteFrame {
    connection: Arc<PeerConnection>,
    held: u64,
    still: Duration,
    age: Duration,
}

/// Finds the descriptors of new connections.
fn find_descriptors(port: u16, connections: &[Arc<PeerConnection>]) {
    let mut wanted = HashMap::<SocketAddr, &Arc<PeerConnection>>::new();
    let mut known = HashSet::<Descriptor>::new();
    for connection in connections {
        let mut progress = lock(&connection.progress);
        match (progress.descriptor, connection.remote()) {
            (Some(descriptor), _) => drop(known.insert(descriptor)),
            (None, Some(remote)) if progress.searches < SEARCHES_MAX => {
                progress.searches += 1;
                wanted.insert(remote, connection);
            }
            (None, _) => {}
        }
    }
    if wanted.is_empty() {
        return;
    }
    for (descriptor, own, remote) in received::all(&|descriptor| known.contains(&descriptor)) {
        if own == port
            && let Some(connection) = wanted.get(&remote)
        {
            lock(&connection.progress).descriptor = Some(descriptor);
        }
    }
}

/// What was received in whole messages over a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CompletedMessages {
    /// How many there were.
    pub(super) messages: u64,
    /// Their bytes, with what one that came directly has around it.
    pub(super) bytes: u64,
}

/// How far the message is that comes in over a connection.
#[derive(Debug, Default)]
pub(super) struct FrameProgress {
    descriptor: Option<Descriptor>,
    searches: u32,
    received: u64,
    messages: u64,
    /// Bytes that belong to no message, as those before came over several hops.
    hops: u64,
    /// How many messages there were when that was found.
    hops_of: u64,
    /// When the message began, and when its last byte came, if there is one.
    times: Option<(Instant, Instant)>,
}

impl FrameProgress {
    /// Takes what is known now. Gives how many bytes of an incomplete message are held.
    fn look(&mut self, now: Instant, received: Received, taken: CompletedMessages, excused: bool) -> u64 {
        let has_come = received.total != self.received;
        // What is unread waits for this side.
        let has_moved = has_come || received.unread > 0;
        let mut extra = received.total.saturating_sub(GREETING + taken.bytes);
        if extra > self.hops
            && !has_moved
            && extra - self.hops <= HOPS * (taken.messages - self.hops_of).min(HOPS_OF_MAX)
        {
            (self.hops, self.hops_of) = (extra, taken.messages);
        }
        extra = extra.saturating_sub(self.hops);
        let is_another = taken.messages != self.messages;
        (self.received, self.messages) = (received.total, taken.messages);
        self.times = match self.times {
            _ if extra == 0 => None,
            None => Some((now, now)),
            Some(_) if is_another || excused => Some((now, now)),
            Some((begun, moved)) => Some((begun, if has_moved { now } else { moved })),
        };
        extra.saturating_sub(received.unread)
    }

    /// For how long it has stood still.
    fn still(&self, now: Instant) -> Duration {
        self.times.map_or(Duration::ZERO, |(_, moved)| now.saturating_duration_since(moved))
    }

    /// For how long it has been coming in.
    fn age(&self, now: Instant) -> Duration {
        self.times.map_or(Duration::ZERO, |(begun, _)| now.saturating_duration_since(begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(1);

    /// Looks once a second at these: bytes in all, messages, and the bytes of those.
    fn looks(seen: &[(u64, u64, u64)]) -> Vec<(u64, u64, u64)> {
        let (mut progress, mut now) = (FrameProgress::default(), Instant::now());
        let look = |&(total, messages, bytes): &(u64, u64, u64)| {
            now += STEP;
            let held = progress.look(now, Received { total, unread: 0 }, CompletedMessages { messages, bytes }, false);
            (held, progress.still(now).as_secs(), progress.age(now).as_secs())
        };
        seen.iter().map(look).collect()
    }

    #[test]
    fn a_connection_between_two_messages_holds_nothing() {
        assert_eq!(looks(&[(8, 0, 0), (8, 0, 0), (120, 1, 112), (120, 1, 112)]), [(0, 0, 0); 4]);
    }

    #[test]
    fn an_incomplete_message_is_timed_from_its_first_and_last_byte() {
        let seen = looks(&[(8, 0, 0), (108, 0, 0), (208, 0, 0), (208, 0, 0), (208, 0, 0), (308, 1, 300)]);
        assert_eq!(seen, [(0, 0, 0), (100, 0, 0), (200, 0, 1), (200, 1, 2), (200, 2, 3), (0, 0, 0)]);
    }

    #[test]
    fn each_message_has_its_own_time() {
        let seen = looks(&[(108, 0, 0), (308, 1, 200), (508, 2, 400)]);
        assert_eq!(seen, [(100, 0, 0), (100, 0, 0), (100, 0, 0)]);
    }

    #[test]
    fn half_a_length_counts_as_well() {
        assert_eq!(looks(&[(8, 0, 0), (12, 0, 0), (12, 0, 0)])[2], (4, 1, 1));
    }

    #[test]
    fn what_hops_add_to_messages_is_no_incomplete_message() {
        let seen = looks(&[(120, 1, 108), (120, 1, 108), (120, 1, 108), (344, 3, 324), (344, 3, 324)]);
        assert_eq!(seen[1..3], [(0, 0, 0), (0, 0, 0)]);
        assert_eq!(seen[4], (0, 0, 0));
        // But it does not hide one that is large.
        let seen = looks(&[(120, 1, 108), (9_000, 1, 108), (9_000, 1, 108), (9_000, 1, 108)]);
        assert_eq!((seen[3].0, seen[3].1), (8_884, 2));
    }
}
