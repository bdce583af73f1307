//! Whether the connection of a REQ socket is alive, and when to dial again.
//!
//! TCP reports a connection that died silently (a firewall that forgot it, a host that vanished) only
//! after minutes, and a connection attempt that lost its first packet is repeated at growing
//! intervals. So while calls are open for long, the socket sends a probe that any server answers at
//! once; a connection that answers nothing is closed, and an attempt that takes long is started
//! again. Pure: it decides, and [`super::caller`] acts. Invariant: it never acts while no call is
//! open, and never before a call has been open for a second.

use std::time::Duration;

use super::deadline_timer::{NEVER, Tick};

/// A connection is probed when its oldest call has been open, and nothing has arrived, for this long.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// How long a probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// How long a probe may take at most, after others were not answered although there was a connection:
/// the link may be slow, and a large message on its way.
const PROBE_LIMIT_MAX: Duration = Duration::from_secs(64);
/// How many bytes of requests a slow link takes in a second.
const SLOW_BYTES_PER_SECOND: u64 = 256 * 1024;
/// How long an attempt to connect may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
/// Each so many-th attempt may take longer: for a link that is slow, and for a name server.
const LONG_ATTEMPT_EVERY: u32 = 4;
const LONG_ATTEMPT_MAX: Duration = Duration::from_secs(2);
const NAMED_ATTEMPT_MAX: Duration = Duration::from_secs(8);

/// How long after a call to look first. None where nothing needs a look.
pub(super) fn first_look(probes: bool, is_connected: bool) -> Option<Duration> {
    if is_connected { probes.then_some(QUIET_MAX) } else { Some(ATTEMPT_MAX) }
}

/// What to do about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LivenessAction {
    /// Nothing, before this moment.
    Wait(Tick),
    /// Send a probe that may take this long, and look again when that is over.
    Probe(Duration),
    /// Close the connection, or the attempt to connect, and dial again.
    Redial,
}

/// What the socket knows at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct LivenessInput {
    pub(super) now: Tick,
    /// The number of the connection, and since when it is there; none if there is none.
    pub(super) connection: Option<(u64, Tick)>,
    /// When the oldest open call was made; none if none is open.
    pub(super) oldest: Option<Tick>,
    /// When the last answer arrived.
    pub(super) last_received: Tick,
    /// The bytes of open calls that may not have left yet.
    pub(super) unsent: usize,
}

/// The liveness of one socket.
#[derive(Debug)]
pub(super) struct Liveness {
    probes: bool,
    /// When the connection attempt under way began, as far as is known.
    dialling: Tick,
    attempts: u32,
    long_attempt: Duration,
    /// The connection that was there last.
    connection: u64,
    /// The connection that was closed for its silence, and may not be gone yet.
    closed: Option<u64>,
    probe: Option<Probe>,
    /// Probes without an answer, one after another.
    missed: u32,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    sent: Tick,
    due: Tick,
}

impl Liveness {
    /// The liveness of a socket that dials now a host by its name or its address, and that has something
    /// to probe with or not.
    pub(super) fn new(probes: bool, is_named: bool) -> Self {
        Self {
            probes,
            long_attempt: if is_named { NAMED_ATTEMPT_MAX } else { LONG_ATTEMPT_MAX },
            dialling: Tick::ZERO,
            attempts: 0,
            connection: 0,
            closed: None,
            probe: None,
            missed: 0,
        }
    }

    /// The connection was lost: the socket dials by itself.
    pub(super) fn lost(&mut self, now: Tick) {
        (self.dialling, self.attempts, self.probe) = (now, 0, None);
    }

    /// What to do now.
    pub(super) fn decide(&mut self, facts: &LivenessInput) -> LivenessAction {
        let now = facts.now;
        let Some(oldest) = facts.oldest else {
            self.probe = None;
            return LivenessAction::Wait(NEVER);
        };
        let Some((connection, since)) = facts.connection.filter(|(number, _)| Some(*number) != self.closed) else {
            return self.check_attempt(now);
        };
        self.attempts = 0;
        if connection != self.connection {
            (self.connection, self.probe) = (connection, None);
        }
        if !self.probes {
            return LivenessAction::Wait(NEVER);
        }
        if facts.last_received >= since {
            self.missed = 0;
        }
        let quiet_since = facts.last_received.max(oldest).max(since);
        if let Some(probe) = self.probe {
            if facts.last_received < probe.sent && now < probe.due {
                return LivenessAction::Wait(probe.due);
            }
            self.probe = None;
            if facts.last_received < probe.sent {
                self.missed += 1;
                self.closed = Some(connection);
                return self.redial(now);
            }
        }
        let due = quiet_since.plus(QUIET_MAX);
        if now < due {
            return LivenessAction::Wait(due);
        }
        let limit = self.probe_limit(facts.unsent);
        self.probe = Some(Probe { sent: now, due: now.plus(limit) });
        LivenessAction::Probe(limit)
    }

    fn check_attempt(&mut self, now: Tick) -> LivenessAction {
        self.probe = None;
        let is_long = self.attempts % LONG_ATTEMPT_EVERY == LONG_ATTEMPT_EVERY - 1;
        let due = self.dialling.plus(if is_long { self.long_attempt } else { ATTEMPT_MAX });
        if now < due {
            return LivenessAction::Wait(due);
        }
        self.attempts = self.attempts.wrapping_add(1);
        self.redial(now)
    }

    fn redial(&mut self, now: Tick) -> LivenessAction {
        self.dialling = now;
        LivenessAction::Redial
    }

    fn probe_limit(&self, unsent: usize) -> Duration {
        let patience = (PROBE_LIMIT * 4_u32.saturating_pow(self.missed.min(8))).min(PROBE_LIMIT_MAX);
        patience + Duration::from_millis(unsent as u64 * 1000 / SLOW_BYTES_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Tick {
        Tick::ZERO.plus(Duration::from_secs_f64(seconds))
    }

    /// One call, made at the beginning, over the first connection.
    fn facts(now: f64) -> LivenessInput {
        let zero = Tick::ZERO;
        LivenessInput { now: at(now), connection: Some((1, zero)), oldest: Some(zero), last_received: zero, unsent: 0 }
    }

    fn connected() -> Liveness {
        let mut liveness = Liveness::new(true, false);
        assert_eq!(liveness.decide(&facts(0.0)), LivenessAction::Wait(at(2.0)));
        liveness
    }

    #[test]
    fn a_silent_connection_is_closed_four_seconds_after_its_last_answer() {
        let mut liveness = connected();
        assert_eq!(liveness.decide(&facts(2.0)), LivenessAction::Probe(PROBE_LIMIT));
        assert_eq!(liveness.decide(&facts(3.0)), LivenessAction::Wait(at(4.0)));
        let answered = LivenessInput { last_received: at(3.5), ..facts(4.0) };
        assert_eq!(liveness.decide(&answered), LivenessAction::Wait(at(5.5)), "it has answered");
        let silent = |now| LivenessInput { now: at(now), ..answered };
        assert_eq!(liveness.decide(&silent(5.5)), LivenessAction::Probe(PROBE_LIMIT));
        assert_eq!(liveness.decide(&silent(7.5)), LivenessAction::Redial);
        assert_eq!(liveness.decide(&silent(7.6)), LivenessAction::Wait(at(8.5)), "the old one may not be gone yet");
        let next = |now| LivenessInput { connection: Some((2, at(8.0))), ..silent(now) };
        assert_eq!(liveness.decide(&next(8.0)), LivenessAction::Wait(at(10.0)));
        assert_eq!(liveness.decide(&next(10.0)), LivenessAction::Probe(PROBE_LIMIT * 4), "the link may be slow");
        let last_received = |now| LivenessInput { last_received: at(11.0), ..next(now) };
        assert_eq!(liveness.decide(&last_received(13.0)), LivenessAction::Probe(PROBE_LIMIT));
    }

    #[test]
    fn answers_to_others_are_a_sign_of_life_and_nothing_open_needs_none() {
        let mut liveness = connected();
        assert_eq!(
            liveness.decide(&LivenessInput { last_received: at(1.5), ..facts(2.0) }),
            LivenessAction::Wait(at(3.5))
        );
        let idle = LivenessInput { oldest: None, ..facts(100.0) };
        assert_eq!(liveness.decide(&idle), LivenessAction::Wait(NEVER));
        let asked = LivenessInput { oldest: Some(at(200.0)), ..facts(200.0) };
        assert_eq!(liveness.decide(&asked), LivenessAction::Wait(at(202.0)));
        let mut without = Liveness::new(false, false);
        assert_eq!(without.decide(&facts(50.0)), LivenessAction::Wait(NEVER));
    }

    #[test]
    fn an_attempt_that_takes_long_is_started_again_about_every_second() {
        let mut liveness = Liveness::new(false, false);
        let none = |now| LivenessInput { connection: None, ..facts(now) };
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
        liveness.lost(at(20.0));
        assert_eq!(liveness.decide(&none(20.5)), LivenessAction::Wait(at(21.0)));
    }

    #[test]
    fn a_probe_behind_a_large_request_may_take_longer() {
        let mut liveness = connected();
        let large = LivenessInput { unsent: 1024 * 1024, ..facts(2.0) };
        assert_eq!(liveness.decide(&large), LivenessAction::Probe(PROBE_LIMIT + Duration::from_secs(4)));
    }
}
