//! The fault suites: a cluster of real processes under a steady load, with repeated faults of one kind.
//! Nothing may be lost, duplicated or wrong, and the load must continue within a time limit.
//!
//! The tests run one round of each; `scripts/faults` runs more.

mod load;
mod proxy;

use std::{env, time::Duration};

use self::{load::Load, proxy::Proxy};
use crate::{Cluster, TIMEOUT, eventually};

/// Maximum time from a fault until other workers run tasks.
const WORK_ELSEWHERE: Duration = Duration::from_secs(5);
/// Maximum time from the end of a fault until tasks run.
const BACK_AT_WORK: Duration = Duration::from_secs(2);
/// Allowance for a busy machine and for a starting process.
const SLACK: Duration = Duration::from_secs(3);
/// Maximum time of a call.
const CALL_MAX: Duration = Duration::from_mins(1);
/// Number of subworkers.
const WORKERS: u16 = 3;

/// The kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Subworkers are killed one after another, and others take their place.
    KillWorkers,
    /// The control plane is killed and started again.
    KillControlPlane,
    /// Each process is stopped (SIGSTOP) for a while.
    Stop,
    /// The network between control plane and subworkers is cut, drops or resets connections, and delays.
    Cut,
    /// Each process is terminated, and started again.
    Restart,
    /// Each process gets two signals at the same time.
    SignalTwice,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::KillWorkers, Self::KillControlPlane, Self::Stop, Self::Cut, Self::Restart, Self::SignalTwice];

    /// The name that `scripts/faults` accepts.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillWorkers => "kill-workers",
            Self::KillControlPlane => "kill-control-plane",
            Self::Stop => "stop",
            Self::Cut => "cut",
            Self::Restart => "restart",
            Self::SignalTwice => "signal-twice",
        }
    }
}

/// One run of one kind.
struct Run {
    kind: Kind,
    cluster: Cluster,
    load: Load,
    proxy: Option<Proxy>,
    random: fastrand::Rng,
    /// The number of the next subworker.
    next: u32,
    /// The longest pause of the load after a fault, and descriptions of pauses over the limit.
    slowest: Duration,
    late: Vec<String>,
    faults: u32,
}

/// Runs `FASTWORKER_FAULTS_ROUNDS` rounds, by default one, with the choices of `FASTWORKER_FAULTS_SEED`.
///
/// # Panics
/// When a call was lost, duplicated, wrong or late.
pub async fn run(kind: Kind) {
    let number = |name: &str, usual: u64| match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is '{text}' and should be a whole number")),
        Err(_) => usual,
    };
    let (rounds, seed) = (number("FASTWORKER_FAULTS_ROUNDS", 1), number("FASTWORKER_FAULTS_SEED", 1));
    let mut run = Run::start(kind, seed).await;
    for round in 1..=rounds {
        run.round().await;
        let Run { faults, slowest, late, .. } = &run;
        print_progress(&format!(
            "{}: round {round} of {rounds}, {faults} faults, slowest {slowest:.1?}, {} late",
            kind.name(),
            late.len()
        ));
    }
    run.end(rounds, seed).await;
}

#[allow(clippy::print_stderr, reason = "the progress of a run that may take minutes, seen with --nocapture")]
fn print_progress(message: &str) {
    eprintln!("{message}");
}

impl Run {
    async fn start(kind: Kind, seed: u64) -> Self {
        let builder = Cluster::builder().modules(&["arithmetic", "slow"]).slots(2);
        let (mut cluster, proxy) = if kind == Kind::Cut {
            // Subworkers and clients reach the control plane through the proxy.
            let mut cluster = builder.advertise(proxy::HOST).start();
            let base = cluster.ports().base();
            let mut ports: Vec<u16> = (base..=base + 4).collect();
            ports.push(cluster.ports().subworkers());
            ports.push(cluster.ports().discovery());
            let proxy = Proxy::start(&ports);
            cluster.use_host(proxy::HOST);
            (cluster, Some(proxy))
        } else {
            (builder.start(), None)
        };
        for number in 1..=WORKERS {
            cluster.start_subworker(&format!("sw{number}"));
        }
        let client = cluster.client_with(|builder| {
            let address = cluster.base().parse().expect("valid address");
            builder.control_plane_address(address).timeout(CALL_MAX)
        });
        let load = Load::start(client.await);
        let mut run = Self {
            kind,
            cluster,
            load,
            proxy,
            random: fastrand::Rng::with_seed(seed),
            next: u32::from(WORKERS) + 1,
            slowest: Duration::ZERO,
            late: Vec::new(),
            faults: 0,
        };
        run.continues("the start", TIMEOUT).await;
        (run.slowest, run.faults) = (Duration::ZERO, 0);
        run
    }

    /// Waits until the load continues after a fault, and records how long that took.
    async fn continues(&mut self, what: &str, limit: Duration) {
        let took = self.load.continues_within(limit + CALL_MAX).await;
        self.slowest = self.slowest.max(took);
        self.faults += 1;
        if took > limit {
            print_progress(&format!(
                "{}: {what}: the load stood still for {took:.1?}, more than {limit:?}",
                self.kind.name()
            ));
            self.late.push(format!("{what}: {took:.1?}, more than {limit:?}"));
        }
    }

    /// Lets the load run for a short time before a fault.
    async fn random_pause(&mut self) {
        let span = Duration::from_millis(self.random.u64(50..400));
        tokio::time::sleep(span).await;
    }

    async fn round(&mut self) {
        match self.kind {
            Kind::KillWorkers => self.kill_workers().await,
            Kind::KillControlPlane => self.kill_control_plane().await,
            Kind::Stop => self.pause_each().await,
            Kind::Cut => self.cut().await,
            Kind::Restart => self.restart_each(&["TERM"]).await,
            Kind::SignalTwice => self.restart_each(&["TERM", "TERM", "HUP"]).await,
        }
    }

    async fn kill_workers(&mut self) {
        for _ in 0..WORKERS {
            self.random_pause().await;
            let victim = self.random.usize(..self.cluster.subworkers.len());
            let mut victim = self.cluster.subworkers.swap_remove(victim);
            victim.kill();
            self.continues("a subworker was killed", WORK_ELSEWHERE + SLACK).await;
            self.start_another_subworker();
        }
    }

    fn start_another_subworker(&mut self) {
        let id = format!("sw{}", self.next);
        self.next += 1;
        self.cluster.start_subworker(&id);
    }

    async fn kill_control_plane(&mut self) {
        self.random_pause().await;
        self.cluster.control_plane.kill();
        self.random_pause().await;
        self.cluster.restart_control_plane();
        self.continues("the control plane was killed and is back", WORK_ELSEWHERE + SLACK).await;
    }

    async fn pause_each(&mut self) {
        for place in 0..self.cluster.subworkers.len() {
            self.random_pause().await;
            self.cluster.subworkers[place].pause();
            self.continues("a subworker is stopped", WORK_ELSEWHERE + SLACK).await;
            self.cluster.subworkers[place].resume();
            self.continues("a subworker is no longer stopped", BACK_AT_WORK + SLACK).await;
        }
        self.random_pause().await;
        self.cluster.control_plane.pause();
        tokio::time::sleep(Duration::from_millis(self.random.u64(500..7000))).await;
        self.cluster.control_plane.resume();
        self.continues("the control plane is no longer stopped", BACK_AT_WORK + SLACK).await;
    }

    async fn cut(&mut self) {
        let proxy = self.proxy.take().expect("this kind has a proxy");
        self.random_pause().await;
        proxy.drop_connections();
        self.continues("the network forgot the connections", WORK_ELSEWHERE + SLACK).await;
        self.random_pause().await;
        proxy.reset();
        self.continues("the network reset the connections", BACK_AT_WORK + SLACK).await;
        self.random_pause().await;
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(self.random.u64(500..9000))).await;
        proxy.heal();
        self.continues("the network is whole again", BACK_AT_WORK + SLACK).await;
        proxy.delay(Duration::from_millis(self.random.u64(10..100)));
        self.continues("the network is slow", WORK_ELSEWHERE + SLACK).await;
        proxy.heal();
        self.continues("the network is quick again", BACK_AT_WORK + SLACK).await;
        self.proxy = Some(proxy);
    }

    /// Ends each process with these signals, which count as one and drain it, and starts it again.
    async fn restart_each(&mut self, signals: &[&str]) {
        for _ in 0..WORKERS {
            self.random_pause().await;
            let mut worker = self.cluster.subworkers.remove(0);
            worker.signals(signals);
            self.continues("a subworker drains", WORK_ELSEWHERE + SLACK).await;
            let ended = worker.wait_for_exit(TIMEOUT);
            assert_eq!(ended.code(), Some(0), "a subworker was cut off while it drained");
            // The same name, as after an upgrade.
            let id = worker.name.clone();
            self.cluster.start_subworker(&id);
        }
        self.random_pause().await;
        self.cluster.control_plane.signals(signals);
        let ended = self.cluster.control_plane.wait_for_exit(2 * TIMEOUT);
        assert_eq!(ended.code(), Some(0), "the control plane was cut off while it drained");
        self.cluster.restart_control_plane();
        self.continues("the control plane is back", WORK_ELSEWHERE + SLACK).await;
    }

    /// Ends the run, and prints its row of the table of `scripts/faults`.
    async fn end(mut self, rounds: u64, seed: u64) {
        self.proxy.iter().for_each(Proxy::heal);
        let is_kept = matches!(self.kind, Kind::KillWorkers | Kind::Stop | Kind::Cut);
        let tally = self.load.stop(is_kept).await;
        let is_good = tally.lost.is_empty() && tally.wrong.is_empty() && self.late.is_empty();
        print_progress(&format!(
            "row: {} | {rounds} | {} | {} | {} | {} | {:.1} s | {} | {}",
            self.kind.name(),
            self.faults,
            tally.right,
            tally.lost.len(),
            tally.wrong.len(),
            self.slowest.as_secs_f64(),
            self.late.len(),
            if is_good { "good" } else { "BAD" },
        ));
        let some = |words: &[String]| words.iter().take(5).cloned().collect::<Vec<_>>().join("\n  ");
        assert!(
            is_good,
            "{} with seed {seed}: {} right\n{} lost\n  {}\n{} wrong\n  {}\n{} late\n  {}",
            self.kind.name(),
            tally.right,
            tally.lost.len(),
            some(&tally.lost),
            tally.wrong.len(),
            some(&tally.wrong),
            self.late.len(),
            some(&self.late),
        );
        // The remaining processes end on SIGTERM.
        self.cluster.subworkers.iter().for_each(crate::Process::terminate);
        for worker in &mut self.cluster.subworkers {
            eventually("a subworker ends", TIMEOUT, || (!worker.is_running()).then_some(()));
        }
    }
}
