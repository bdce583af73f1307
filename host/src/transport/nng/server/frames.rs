//! Limits the memory and the duration of incomplete messages.
//!
//! Separate module because NNG does not report them: it allocates the announced size and reads without a time limit. So
//! one thread compares the bytes that the kernel has received over each connection with those of complete messages; the
//! rest is an incomplete message. Invariants: a peer whose message makes no progress for [`STALLED_MAX`], or takes
//! longer than [`FrameLimits::time_max`], is disconnected; beyond [`FrameLimits::held_max`] the host with most bytes is
//! disconnected, connection by connection, until the rest fits. A peer between two messages is never disconnected.

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
    received::{self, FileDescriptor, Received},
};
use crate::lock::lock;

/// Time without a further byte after which the peer of an incomplete message is disconnected.
pub(super) const STALLED_MAX: Duration = Duration::from_secs(10);
/// Time without a further byte after which it may be disconnected to free memory for others.
const STALLED_MIN: Duration = Duration::from_millis(90);
/// Age at which the peer of a message that makes progress may be disconnected to free memory for others.
const AGE_MIN: Duration = Duration::from_secs(2);
/// Interval between two checks while no message is incomplete.
const IDLE_INTERVAL: Duration = Duration::from_millis(250);
/// Interval between two checks otherwise.
const BUSY_INTERVAL: Duration = Duration::from_millis(100);
/// A check takes at most one part in this many of the time, within [`INTERVAL_MAX`].
const CHECK_SHARE: u32 = 20;
/// Maximum interval between two checks.
const INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Delay of a check after which this process itself counts as stalled, and no peer is disconnected.
const STALL: Duration = Duration::from_secs(2);
/// Bytes of the handshake of a connection.
const HANDSHAKE_LEN: u64 = 8;
/// Maximum bytes that further hops add to a message; NNG removes them.
const HOPS_LEN_MAX: u64 = 4 * (super::HOPS_MAX as u64 - 1);
/// Maximum number of messages whose hops may account for bytes that belong to no message.
const HOP_MESSAGES_MAX: u64 = 10_000;
/// Maximum number of checks that search for a connection's file descriptor.
const SEARCHES_MAX: u32 = 20;

/// Limits of incomplete messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameLimits {
    /// Maximum bytes of all together.
    pub(super) held_max: u64,
    /// Maximum duration of one.
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
    limits: FrameLimits,
    watched: Mutex<WatchedSockets>,
}

#[derive(Debug, Default)]
struct WatchedSockets {
    sockets: Vec<Weak<ServerSocket>>,
    /// Whether the checking thread runs.
    has_thread: bool,
}

impl Frames {
    pub(super) fn new(limits: FrameLimits) -> Arc<Self> {
        Arc::new(Self { limits, watched: Mutex::default() })
    }

    /// The incomplete messages of all sockets of this process.
    pub(super) fn of_process() -> &'static Arc<Self> {
        static FRAMES: OnceLock<Arc<Frames>> = OnceLock::new();
        FRAMES.get_or_init(|| Self::new(FrameLimits::default()))
    }

    /// Checks the connections of one more socket, until it is dropped.
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
                "cannot start a thread: incomplete messages are not limited"
            ),
        }
    }

    fn run(&self) {
        let (mut wait, mut before) = (IDLE_INTERVAL, Instant::now());
        loop {
            thread::park_timeout(wait);
            let Some(sockets) = self.sockets() else { return };
            let now = Instant::now();
            let was_stalled = now.duration_since(before) > wait + STALL;
            let held = self.check(&sockets, now, was_stalled);
            let usual = if held > 0 { BUSY_INTERVAL } else { IDLE_INTERVAL };
            before = Instant::now();
            wait = now.elapsed().saturating_mul(CHECK_SHARE).clamp(usual, INTERVAL_MAX);
        }
    }

    /// Returns the sockets; `None` if all are dropped, which ends the thread.
    fn sockets(&self) -> Option<Vec<Arc<ServerSocket>>> {
        let mut watched = lock(&self.watched);
        watched.sockets.retain(|socket| socket.strong_count() > 0);
        let sockets: Vec<_> = watched.sockets.iter().filter_map(Weak::upgrade).collect();
        watched.has_thread = !sockets.is_empty();
        watched.has_thread.then_some(sockets)
    }

    /// Checks every connection, and disconnects those beyond the limits. Returns the bytes of incomplete messages.
    fn check(&self, sockets: &[Arc<ServerSocket>], now: Instant, was_stalled: bool) -> u64 {
        let mut incomplete = Vec::new();
        for socket in sockets {
            let connections = socket.connections();
            find_fds(socket.port, &connections);
            // No peer is disconnected while complete messages wait for this side.
            let is_excused = was_stalled || !socket.is_receiving();
            for connection in connections {
                let mut progress = lock(&connection.progress);
                let Some(received) = progress.fd.and_then(received::query) else { continue };
                let held = progress.update(now, received, connection.completed(), is_excused);
                let (stalled, age) = (progress.stalled(now), progress.age(now));
                drop(progress);
                if stalled > STALLED_MAX || age > self.limits.time_max {
                    connection.disconnect_logged(|peer, from| {
                        tracing::warn!(
                            peer,
                            from,
                            held,
                            "disconnected a peer whose message is incomplete for too long"
                        );
                    });
                } else if held > 0 {
                    incomplete.push(IncompleteFrame { connection, held, stalled, age });
                }
            }
        }
        let held = incomplete.iter().map(|incomplete| incomplete.held).sum();
        self.disconnect_over_limit(incomplete, held);
        held
    }

    /// Closes the connections with most bytes, until the rest fits.
    fn disconnect_over_limit(&self, mut incomplete: Vec<IncompleteFrame>, mut held: u64) {
        if held <= self.limits.held_max {
            return;
        }
        let mut hosts = HashMap::<Option<IpAddr>, u64>::new();
        for one in &incomplete {
            *hosts.entry(one.connection.host()).or_default() += one.held;
        }
        incomplete.retain(|one| one.stalled >= STALLED_MIN || one.age >= AGE_MIN);
        // Of a host, the one that is stalled longest is disconnected first: it is last.
        incomplete.sort_unstable_by_key(|one| (one.stalled, one.held));
        while held > self.limits.held_max {
            let has_some = |host: Option<IpAddr>| incomplete.iter().any(|one| one.connection.host() == host);
            let largest = hosts.iter().filter(|(host, _)| has_some(**host)).max_by_key(|(_, held)| **held);
            let Some(host) = largest.map(|(host, _)| *host) else { return };
            let Some(index) = incomplete.iter().rposition(|one| one.connection.host() == host) else { return };
            let one = incomplete.remove(index);
            held = held.saturating_sub(one.held);
            hosts.entry(host).and_modify(|held| *held = held.saturating_sub(one.held));
            one.connection.disconnect_logged(|peer, from| {
                let why = "incomplete messages use too much memory, and its host has most of them";
                tracing::warn!(peer, from, held = one.held, "disconnected a peer: {why}");
            });
        }
    }
}

/// A connection with an incomplete message.
struct IncompleteFrame {
    connection: Arc<PeerConnection>,
    held: u64,
    stalled: Duration,
    age: Duration,
}

/// Finds the file descriptors of new connections.
fn find_fds(port: u16, connections: &[Arc<PeerConnection>]) {
    let mut wanted = HashMap::<SocketAddr, &Arc<PeerConnection>>::new();
    let mut known = HashSet::<FileDescriptor>::new();
    for connection in connections {
        let mut progress = lock(&connection.progress);
        match (progress.fd, connection.remote()) {
            (Some(fd), _) => drop(known.insert(fd)),
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
    for (fd, own, remote) in received::list_connections(&|fd| known.contains(&fd)) {
        if own == port
            && let Some(connection) = wanted.get(&remote)
        {
            lock(&connection.progress).fd = Some(fd);
        }
    }
}

/// The complete messages that were received over a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CompletedMessages {
    /// Their number.
    pub(super) messages: u64,
    /// Their bytes, with headers of messages without further hops.
    pub(super) bytes: u64,
}

/// Progress of the message that is being received over a connection.
#[derive(Debug, Default)]
pub(super) struct FrameProgress {
    fd: Option<FileDescriptor>,
    searches: u32,
    received: u64,
    messages: u64,
    /// Bytes that further hops added to earlier messages.
    hops: u64,
    /// Number of messages when that was found.
    hop_messages: u64,
    /// When the message started, and when its last byte was received; `None` between messages.
    times: Option<(Instant, Instant)>,
}

impl FrameProgress {
    /// Updates the progress. Returns the bytes of an incomplete message.
    fn update(&mut self, now: Instant, received: Received, completed: CompletedMessages, is_excused: bool) -> u64 {
        let has_more = received.total != self.received;
        // Unread bytes wait for this side.
        let has_progress = has_more || received.unread > 0;
        let mut extra = received.total.saturating_sub(HANDSHAKE_LEN + completed.bytes);
        if extra > self.hops
            && !has_progress
            && extra - self.hops <= HOPS_LEN_MAX * (completed.messages - self.hop_messages).min(HOP_MESSAGES_MAX)
        {
            (self.hops, self.hop_messages) = (extra, completed.messages);
        }
        extra = extra.saturating_sub(self.hops);
        let is_another = completed.messages != self.messages;
        (self.received, self.messages) = (received.total, completed.messages);
        self.times = match self.times {
            _ if extra == 0 => None,
            None => Some((now, now)),
            Some(_) if is_another || is_excused => Some((now, now)),
            Some((started, last)) => Some((started, if has_progress { now } else { last })),
        };
        extra.saturating_sub(received.unread)
    }

    /// Time since its last byte.
    fn stalled(&self, now: Instant) -> Duration {
        self.times.map_or(Duration::ZERO, |(_, last)| now.saturating_duration_since(last))
    }

    /// Time since its first byte.
    fn age(&self, now: Instant) -> Duration {
        self.times.map_or(Duration::ZERO, |(started, _)| now.saturating_duration_since(started))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(1);

    /// Updates once a second with these: bytes in all, messages, and the bytes of those.
    fn updates(seen: &[(u64, u64, u64)]) -> Vec<(u64, u64, u64)> {
        let (mut progress, mut now) = (FrameProgress::default(), Instant::now());
        let update = |&(total, messages, bytes): &(u64, u64, u64)| {
            now += STEP;
            let held =
                progress.update(now, Received { total, unread: 0 }, CompletedMessages { messages, bytes }, false);
            (held, progress.stalled(now).as_secs(), progress.age(now).as_secs())
        };
        seen.iter().map(update).collect()
    }

    #[test]
    fn a_connection_between_two_messages_holds_nothing() {
        assert_eq!(updates(&[(8, 0, 0), (8, 0, 0), (120, 1, 112), (120, 1, 112)]), [(0, 0, 0); 4]);
    }

    #[test]
    fn an_incomplete_message_is_timed_from_its_first_and_last_byte() {
        let seen = updates(&[(8, 0, 0), (108, 0, 0), (208, 0, 0), (208, 0, 0), (208, 0, 0), (308, 1, 300)]);
        assert_eq!(seen, [(0, 0, 0), (100, 0, 0), (200, 0, 1), (200, 1, 2), (200, 2, 3), (0, 0, 0)]);
    }

    #[test]
    fn each_message_has_its_own_time() {
        let seen = updates(&[(108, 0, 0), (308, 1, 200), (508, 2, 400)]);
        assert_eq!(seen, [(100, 0, 0), (100, 0, 0), (100, 0, 0)]);
    }

    #[test]
    fn an_incomplete_length_counts_as_well() {
        assert_eq!(updates(&[(8, 0, 0), (12, 0, 0), (12, 0, 0)])[2], (4, 1, 1));
    }

    #[test]
    fn bytes_of_further_hops_are_not_an_incomplete_message() {
        let seen = updates(&[(120, 1, 108), (120, 1, 108), (120, 1, 108), (344, 3, 324), (344, 3, 324)]);
        assert_eq!(seen[1..3], [(0, 0, 0), (0, 0, 0)]);
        assert_eq!(seen[4], (0, 0, 0));
        // They do not hide a large one.
        let seen = updates(&[(120, 1, 108), (9_000, 1, 108), (9_000, 1, 108), (9_000, 1, 108)]);
        assert_eq!((seen[3].0, seen[3].1), (8_884, 2));
    }
}
