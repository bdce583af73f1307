//! Decides whether the connection of a REQ socket is alive, and when to dial again.
//!
//! TCP reports a connection that died silently (dropped by a firewall, or with its host) only after minutes, and
//! repeats the lost first packet of a connection attempt at growing intervals. So while calls are open for long, the
//! socket sends a probe to which any server replies immediately; a connection without replies is closed, and a slow
//! attempt is started again. Pure: it decides, and [`super::caller`] acts. Invariant: it never acts while no call is
//! open, and never before a call has been open for a second.

use std::time::Duration;

use super::deadline_timer::{NEVER, Tick};

/// Delay of a probe after the oldest open call, and after the last reply.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// Timeout of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum timeout of a probe after others had no reply although there was a connection: the link may be slow, and a
/// large message on its way.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(64);
/// Throughput of a slow link.
const SLOW_BYTES_PER_SECOND: u64 = 256 * 1024;
/// Timeout of a connection attempt.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
/// One attempt in this many has a longer timeout, for a slow link or a slow name server.
const LONG_ATTEMPT_EVERY: u32 = 4;
const LONG_ATTEMPT_MAX: Duration = Duration::from_secs(2);
const NAMED_ATTEMPT_MAX: Duration = Duration::from_secs(8);

/// Delay between a call and the first check of its connection. `None` if no check is needed.
pub(super) fn first_check_delay(probes: bool, is_connected: bool) -> Option<Duration> {
    if is_connected { probes.then_some(QUIET_MAX) } else { Some(ATTEMPT_MAX) }
}

/// Action for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LivenessAction {
    /// Check again at this time.
    Wait(Tick),
    /// Send a probe with this timeout, and check again after it.
    Probe(Duration),
    /// Close the connection or the connection attempt, and dial again.
    Redial,
}

/// The state of the socket at `now`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LivenessInput {
    pub(super) now: Tick,
    /// The number of the connection, and when it was established; `None` if there is none.
    pub(super) connection: Option<(u64, Tick)>,
    /// When the oldest open call was made; `None` if none is open.
    pub(super) oldest: Option<Tick>,
    /// When the last reply arrived.
    pub(super) last_received: Tick,
    /// Bytes of open requests that may not have been sent.
    pub(super) unsent: usize,
}

/// The liveness of one socket.
#[derive(Debug)]
pub(super) struct Liveness {
    probes: bool,
    /// When the current connection attempt started, as far as known.
    attempt_since: Tick,
    attempts: u32,
    long_attempt: Duration,
    /// Number of the last connection.
    connection: u64,
    /// Number of the connection that was closed for its silence; it may not be removed yet.
    closed: Option<u64>,
    probe: Option<SentProbe>,
    /// Number of consecutive probes without a reply.
    missed: u32,
}

#[derive(Clone, Copy, Debug)]
struct SentProbe {
    sent: Tick,
    due: Tick,
}

impl Liveness {
    /// Starts with a connection attempt now. `probes`: whether there is a request to probe with. `is_named`:
    /// whether the host is a name and not an IP address.
    pub(super) fn new(probes: bool, is_named: bool) -> Self {
        Self {
            probes,
            long_attempt: if is_named { NAMED_ATTEMPT_MAX } else { LONG_ATTEMPT_MAX },
            attempt_since: Tick::ZERO,
            attempts: 0,
            connection: 0,
            closed: None,
            probe: None,
            missed: 0,
        }
    }

    /// Records that the connection was lost; the socket dials again by itself.
    pub(super) fn on_disconnect(&mut self, now: Tick) {
        (self.attempt_since, self.attempts, self.probe) = (now, 0, None);
    }

    /// Decides what to do now.
    pub(super) fn decide(&mut self, input: &LivenessInput) -> LivenessAction {
        let now = input.now;
        let Some(oldest) = input.oldest else {
            self.probe = None;
            return LivenessAction::Wait(NEVER);
        };
        let Some((connection, since)) = input.connection.filter(|(number, _)| Some(*number) != self.closed) else {
            return self.check_attempt(now);
        };
        self.attempts = 0;
        if connection != self.connection {
            (self.connection, self.probe) = (connection, None);
        }
        if !self.probes {
            return LivenessAction::Wait(NEVER);
        }
        if input.last_received >= since {
            self.missed = 0;
        }
        let quiet_since = input.last_received.max(oldest).max(since);
        if let Some(probe) = self.probe {
            if input.last_received < probe.sent && now < probe.due {
                return LivenessAction::Wait(probe.due);
            }
            self.probe = None;
            if input.last_received < probe.sent {
                self.missed += 1;
                self.closed = Some(connection);
                return self.redial(now);
            }
        }
        let due = quiet_since.plus(QUIET_MAX);
        if now < due {
            return LivenessAction::Wait(due);
        }
        let limit = self.probe_timeout(input.unsent);
        self.probe = Some(SentProbe { sent: now, due: now.plus(limit) });
        LivenessAction::Probe(limit)
    }

    fn check_attempt(&mut self, now: Tick) -> LivenessAction {
        self.probe = None;
        let is_long = self.attempts % LONG_ATTEMPT_EVERY == LONG_ATTEMPT_EVERY - 1;
        let due = self.attempt_since.plus(if is_long { self.long_attempt } else { ATTEMPT_MAX });
        if now < due {
            return LivenessAction::Wait(due);
        }
        self.attempts = self.attempts.wrapping_add(1);
        self.redial(now)
    }

    fn redial(&mut self, now: Tick) -> LivenessAction {
        self.attempt_since = now;
        LivenessAction::Redial
    }

    fn probe_timeout(&self, unsent: usize) -> Duration {
        let timeout = (PROBE_TIMEOUT * 4_u32.saturating_pow(self.missed.min(8))).min(PROBE_TIMEOUT_MAX);
        timeout + Duration::from_millis(unsent as u64 * 1000 / SLOW_BYTES_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Tick {
        Tick::ZERO.plus(Duration::from_secs_f64(seconds))
    }

    /// One call, made at the beginning, over the first connection.
    fn input(now: f64) -> LivenessInput {
        let zero = Tick::ZERO;
        LivenessInput { now: at(now), connection: Some((1, zero)), oldest: Some(zero), last_received: zero, unsent: 0 }
    }

    fn connected() -> Liveness {
        let mut liveness = Liveness::new(true, false);
        assert_eq!(liveness.decide(&input(0.0)), LivenessAction::Wait(at(2.0)));
        liveness
    }

    #[test]
    fn a_silent_connection_is_closed_four_seconds_after_its_last_reply() {
        let mut liveness = connected();
        assert_eq!(liveness.decide(&input(2.0)), LivenessAction::Probe(PROBE_TIMEOUT));
        assert_eq!(liveness.decide(&input(3.0)), LivenessAction::Wait(at(4.0)));
        let replied = LivenessInput { last_received: at(3.5), ..input(4.0) };
        assert_eq!(liveness.decide(&replied), LivenessAction::Wait(at(5.5)), "it replied");
        let silent = |now| LivenessInput { now: at(now), ..replied };
        assert_eq!(liveness.decide(&silent(5.5)), LivenessAction::Probe(PROBE_TIMEOUT));
        assert_eq!(liveness.decide(&silent(7.5)), LivenessAction::Redial);
        assert_eq!(liveness.decide(&silent(7.6)), LivenessAction::Wait(at(8.5)), "the old one may not be removed yet");
        let next = |now| LivenessInput { connection: Some((2, at(8.0))), ..silent(now) };
        assert_eq!(liveness.decide(&next(8.0)), LivenessAction::Wait(at(10.0)));
        assert_eq!(liveness.decide(&next(10.0)), LivenessAction::Probe(PROBE_TIMEOUT * 4), "the link may be slow");
        let last_received = |now| LivenessInput { last_received: at(11.0), ..next(now) };
        assert_eq!(liveness.decide(&last_received(13.0)), LivenessAction::Probe(PROBE_TIMEOUT));
    }

    #[test]
    fn any_reply_shows_liveness_and_an_idle_connection_needs_none() {
        let mut liveness = connected();
        assert_eq!(
            liveness.decide(&LivenessInput { last_received: at(1.5), ..input(2.0) }),
            LivenessAction::Wait(at(3.5))
        );
        let idle = LivenessInput { oldest: None, ..input(100.0) };
        assert_eq!(liveness.decide(&idle), LivenessAction::Wait(NEVER));
        let requested = LivenessInput { oldest: Some(at(200.0)), ..input(200.0) };
        assert_eq!(liveness.decide(&requested), LivenessAction::Wait(at(202.0)));
        let mut without = Liveness::new(false, false);
        assert_eq!(without.decide(&input(50.0)), LivenessAction::Wait(NEVER));
    }

    #[test]
    fn a_slow_connection_attempt_is_restarted_about_every_second() {
        let mut liveness = Liveness::new(false, false);
        let none = |now| LivenessInput { connection: None, ..input(now) };
        assert_eq!(liveness.decide(&none(0.5)), LivenessAction::Wait(at(1.0)));
        let mut redials = Vec::new();
        for tenth in 10..=160 {
            let now = f64::from(tenth) / 10.0;
            if liveness.decide(&none(now)) == LivenessAction::Redial {
                redials.push(tenth);
            }
        }
        assert_eq!(redials, [10, 20, 30, 50, 60, 70, 80, 100, 110, 120, 130, 150, 160]);
        let mut named = Liveness::new(false, true);
        let mut redials =
            (10..=130).filter(|tenth| named.decide(&none(f64::from(*tenth) / 10.0)) == LivenessAction::Redial);
        assert_eq!(redials.by_ref().take(5).collect::<Vec<_>>(), [10, 20, 30, 110, 120], "the name server may be slow");
        liveness.on_disconnect(at(20.0));
        assert_eq!(liveness.decide(&none(20.5)), LivenessAction::Wait(at(21.0)));
    }

    #[test]
    fn a_probe_behind_a_large_request_has_a_longer_timeout() {
        let mut liveness = connected();
        let large = LivenessInput { unsent: 1024 * 1024, ..input(2.0) };
        assert_eq!(liveness.decide(&large), LivenessAction::Probe(PROBE_TIMEOUT + Duration::from_secs(4)));
    }
}
