//! A simulation of whole clusters: model clients and model workers around the pure state, with a simulated clock, a bad
//! network and failing machines.
//!
//! One seed gives one history. After every step, [`checks`] verifies the invariants. A run is a storm, then calm weather
//! in which every task must end, then a shutdown after which nothing must be left.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;
use fastworker::{
    clock::{Moment, Now, Timestamp},
    control_plane::state::{AnyReply, CallbackOutcome, Effect, Limits, State},
    protocol::{LeaseId, Reply, Request, WorkerReply, WorkerRequest},
    task::{NewTask, TaskStatus},
};
use uuid::Uuid;

mod checks;
mod client;
mod grants;
mod history;
mod names;
mod network;
mod reported;
mod shown;
mod worker;

pub use checks::Coverage;

use checks::{Cause, Checks};
use client::Client;
use history::History;
use network::{Actor, Alarm, Event, Network, SimConnection, SimRequest, Ticket, Weather};
use worker::Worker;

/// A deliberate fault that the checks must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Workers report outcomes under the first lease of a task.
    IgnoredFence,
    /// A reply is dropped.
    DroppedReply,
    /// A reported result differs from the recorded one.
    ForgedEnd,
    /// A session gets a result twice.
    RepeatedEnd,
    /// Leases are handed out in the wrong order.
    ReversedGrant,
    /// A callback is sent twice.
    RepeatedCall,
}

/// A violated invariant.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that repeats it.
    pub seed: u64,
    /// The invariant that does not hold.
    pub what: String,
    /// The events before it, the last one at the end.
    pub history: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, what, history } = self;
        writeln!(f, "{history}\nseed {seed}: {what}\nrepeat it with:")?;
        write!(
            f,
            "FASTWORKER_SIM_SEED={seed} cargo test --release --workspace --exclude fastworker-guest-macros --test simulation"
        )
    }
}

/// Runs one seed.
///
/// # Errors
/// The first [`Violation`].
pub fn run(seed: u64, sabotage: Option<Sabotage>) -> Result<Coverage, Box<Violation>> {
    play(seed, sabotage, false).map(|(coverage, _)| coverage).map_err(|what| {
        let history = match play(seed, sabotage, true) {
            Err((_, history)) | Ok((_, history)) => history.to_string(),
        };
        Box::new(Violation { seed, what: what.0, history })
    })
}

/// A hash of everything that happens in the run of one seed.
pub fn trace(seed: u64) -> u64 {
    match play(seed, None, true) {
        Ok((_, history)) | Err((_, history)) => history.hash(),
    }
}

type Played<T> = Result<(T, History), (String, History)>;

fn play(seed: u64, sabotage: Option<Sabotage>, remembers: bool) -> Played<Coverage> {
    let mut world = World::new(seed, sabotage, remembers);
    let played = catch_unwind(AssertUnwindSafe(|| world.play()));
    match played {
        Ok(Ok(())) => Ok((world.checks.seen, world.history)),
        Ok(Err(what)) => Err((what, world.history)),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err((format!("panicked: {message}"), world.history))
        }
    }
}

/// The purpose of a request, as its sender sees it.
#[derive(Debug)]
pub(crate) enum Purpose {
    Submit,
    Collect,
    Register,
    Work(u32),
    /// Reports outcomes of a slot that still runs an attempt: slot, registration key and leases.
    Outcomes(u32, Uuid, Vec<LeaseId>),
    Beat,
    Note,
    Drain,
    Leave,
    Catalog,
    Modules,
    Other,
}

/// The environment that all actors share.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) rng: Rng,
    pub(crate) now: Now,
    pub(crate) net: Network<Purpose>,
    /// Every task that was submitted so far.
    pub(crate) submitted: Vec<NewTask>,
    /// No more failures.
    pub(crate) calm: bool,
    /// All actors leave.
    pub(crate) over: bool,
    pub(crate) sabotage: Option<Sabotage>,
}

impl Scene {
    pub(crate) fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(self.rng.u128(1..))
    }

    pub(crate) fn alarm_in(&mut self, span: Duration, actor: Actor, alarm: Alarm) {
        self.net.alarm(self.now.mono + span, actor, alarm);
    }

    /// Sets an alarm after a random number of milliseconds.
    pub(crate) fn alarm_within(&mut self, least: u64, most: u64, actor: Actor, alarm: Alarm) {
        let span = Duration::from_micros(self.rng.u64(least * 1_000..most * 1_000));
        self.alarm_in(span, actor, alarm);
    }

    pub(crate) fn send_request(
        &mut self,
        who: (Actor, &SimConnection),
        what: (SimRequest, Purpose),
        patience: (Duration, u32),
    ) {
        self.net.call((self.now.mono, &mut self.rng), who, what, patience);
    }
}

/// One cluster.
#[derive(Debug)]
struct World {
    scene: Scene,
    state: State<Ticket>,
    checks: Checks,
    clients: Vec<Client>,
    workers: Vec<Worker>,
    history: History,
}

/// Maximum steps of a run.
const STEPS_MAX: u32 = 400_000;

impl World {
    fn new(seed: u64, sabotage: Option<Sabotage>, remembers: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let limits = limits(&mut rng);
        let bad = |rng: &mut Rng, most: f64| if rng.bool() { 0.0 } else { rng.f64() * most };
        let weather = Weather { loss: bad(&mut rng, 0.2), repeat: bad(&mut rng, 0.1), late: bad(&mut rng, 0.1) };
        let start = Now { mono: Moment::from_micros(1), wall: Timestamp::from_micros(1_800_000_000_000_000) };
        let net = Network::new(weather);
        let mut scene = Scene { rng, now: start, net, submitted: Vec::new(), calm: false, over: false, sabotage };
        let clients = 0..scene.rng.usize(1..5);
        let workers = 0..scene.rng.usize(1..7);
        let local = scene.rng.usize(1..8);
        let clients = clients.map(|number| Client::new(&mut scene, number)).collect();
        let workers: Vec<Worker> = workers.map(|number| Worker::new(&mut scene, number, number == local)).collect();
        for number in 0..workers.len() {
            scene.alarm_within(200, 9_000, Actor::Worker(number), Alarm::Mishap);
        }
        let mut state = State::new(limits);
        state.start(start);
        let checks = Checks::new(limits);
        Self { scene, state, checks, clients, workers, history: History::new(remembers) }
    }

    fn play(&mut self) -> Result<(), String> {
        let storm = Duration::from_millis(self.scene.rng.u64(5_000..90_000));
        self.run_until(self.scene.now.mono + storm, |_| false)?;
        self.calm_down();
        // Late messages arrive, too.
        self.run_until(self.scene.now.mono + Duration::from_mins(1), |_| false)?;
        let patience = self.scene.now.mono + Duration::from_hours(20);
        self.run_until(patience, World::is_finished)?;
        // Replies on their way arrive, and sessions deliver the last results.
        self.run_until(self.scene.now.mono + Duration::from_secs(90), |_| false)?;
        self.check_lists()?;
        let client_of = |session: Uuid| self.clients.iter().find(|client| client.session == session && !client.ended);
        self.checks.finished(&self.state, |session| client_of(session).map(|client| &client.received))?;
        if self.scene.rng.u8(0..4) == 0 { self.shut_down() } else { self.leave_all() }
    }

    /// Every worker that follows the control plane's modules must have their newest list.
    fn check_lists(&self) -> Result<(), String> {
        let newest = Some(self.state.modules_version());
        match self.workers.iter().find(|worker| worker.is_following() && worker.list != newest) {
            Some(worker) => Err(format!("a worker has the list {:?} of modules, not {newest:?}", worker.list)),
            None => Ok(()),
        }
    }

    /// Ends all failures.
    fn calm_down(&mut self) {
        self.scene.calm = true;
        self.scene.net.weather = Weather::default();
        for number in 0..self.clients.len() {
            self.scene.alarm_in(Duration::from_millis(1), Actor::Client(number), Alarm::Act);
        }
    }

    /// Whether every task has ended that could.
    fn is_finished(&self) -> bool {
        self.state.stats().leases == 0
            && self.state.queue().iter().all(|(place, _)| !names::is_offered(&place.name))
            && self.state.stats().queued == self.state.stats().unfinished
    }

    /// Stops the control plane: every open request must get a reply.
    fn shut_down(&mut self) -> Result<(), String> {
        let effects = self.apply(|state, _| {
            state.drain();
            state.close_all();
        });
        self.after(&Cause::Shutdown, effects)?;
        match self.scene.net.tickets() {
            0 => Ok(()),
            left => Err(format!("{left} requests were left without a reply by the shutdown")),
        }
    }

    /// All actors leave, and nothing must be left.
    fn leave_all(&mut self) -> Result<(), String> {
        let left = self.state.queue().iter().map(|(_, id)| id.clone()).collect();
        let connection = self.scene.net.connect(false);
        self.enter(0, &Rc::new(SimRequest::Client(Request::Cancel(left))), &connection)?;
        self.scene.over = true;
        for worker in &mut self.workers {
            worker.leave(&mut self.scene);
        }
        self.run_until(self.scene.now.mono + Duration::from_hours(10), |_| false)?;
        Checks::empty(&self.state)?;
        match self.scene.net.tickets() {
            0 => Ok(()),
            left => Err(format!("{left} requests are parked for ever")),
        }
    }

    fn run_until(&mut self, until: Moment, done: impl Fn(&World) -> bool) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            let wake = self.state.next_wake();
            let next = self.scene.net.next_at().unwrap_or(Moment::NEVER).min(wake);
            if next > until || done(self) {
                self.scene.now = later(self.scene.now, until.min(next));
                return Ok(());
            }
            self.scene.now = later(self.scene.now, next);
            self.disturb_clock();
            let ticks = wake <= self.scene.now.mono;
            if ticks && (self.scene.net.next_at().is_none_or(|at| at > next) || self.scene.rng.bool()) {
                self.tick()?;
            } else if let Some(event) = self.scene.net.next() {
                self.handle(event)?;
            }
        }
        Err(format!("no end after {STEPS_MAX} steps: {:?}", self.state.stats()))
    }

    /// Lets the wall clock jump, or the machine pause.
    fn disturb_clock(&mut self) {
        if self.scene.calm {
            return;
        }
        match self.scene.rng.u16(0..3_000) {
            0 => {
                let jump = i64::from(self.scene.rng.i32(-2_000_000_000..2_000_000_000));
                self.scene.now.wall = Timestamp::from_micros(self.scene.now.wall.micros() + jump);
            }
            1 => {
                let pause = Duration::from_millis(self.scene.rng.u64(10..30_000));
                self.scene.now = later(self.scene.now, self.scene.now.mono + pause);
            }
            _ => {}
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        self.checks.before(&self.state, self.scene.now, None);
        let effects = self.apply(State::tick);
        self.after(&Cause::Tick, effects)
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrives(call, request, connection) => return self.enter(call, &request, &connection),
            Event::Gone(connection) => {
                connection.close();
                if let Some(peer) = connection.peer {
                    self.checks.before(&self.state, self.scene.now, None);
                    let effects = self.apply(|state, now| state.peer_gone(now, peer));
                    return self.after(&Cause::Gone, effects);
                }
            }
            Event::Returns(call, reply) => {
                let Some(actor) = self.scene.net.caller(call) else { return Ok(()) };
                if let Some(until) = self.frozen(actor) {
                    self.scene.net.write_down(until, Event::Returns(call, reply));
                } else if let Some(call) = self.scene.net.end(call) {
                    self.deliver(actor, &call.purpose, Some(reply));
                }
            }
            Event::Impatient(number, sent) => {
                let Some(actor) = self.scene.net.caller(number) else { return Ok(()) };
                if let Some(until) = self.frozen(actor) {
                    self.scene.net.write_down(until, Event::Impatient(number, sent));
                } else {
                    self.reconnect_slot(actor, number);
                    let Scene { net, now, rng, .. } = &mut self.scene;
                    if let Some(call) = net.impatient(now.mono, rng, (number, sent)) {
                        self.deliver(actor, &call.purpose, None);
                    }
                }
            }
            Event::Called(end) => {
                self.checks.before(&self.state, self.scene.now, None);
                let effects = self.apply(|state, now| state.callback_ended(now, end));
                return self.after(&Cause::Called, effects);
            }
            Event::Alarm(actor, alarm) => match (actor, self.frozen(actor)) {
                (_, Some(until)) => self.scene.net.alarm(until, actor, alarm),
                (Actor::Client(number), None) => self.clients[number].act(&mut self.scene),
                (Actor::Worker(number), None) => self.workers[number].alarm(&mut self.scene, &alarm),
            },
        }
        Ok(())
    }

    /// Reconnects a slot whose connection brought no reply.
    fn reconnect_slot(&mut self, actor: Actor, call: u64) {
        let Actor::Worker(number) = actor else { return };
        let Some(Purpose::Work(slot)) = self.scene.net.purpose(call) else { return };
        let slot = *slot;
        let connection = self.workers[number].reconnect_slot(&mut self.scene, slot);
        self.scene.net.move_call(call, &connection);
    }

    fn frozen(&self, actor: Actor) -> Option<Moment> {
        match actor {
            Actor::Client(_) => None,
            Actor::Worker(number) => {
                Some(self.workers[number].frozen_until).filter(|until| *until > self.scene.now.mono)
            }
        }
    }

    fn deliver(&mut self, actor: Actor, purpose: &Purpose, reply: Option<AnyReply>) {
        match actor {
            Actor::Client(number) => self.clients[number].handle_reply(&mut self.scene, purpose, reply),
            Actor::Worker(number) => self.workers[number].handle_reply(&mut self.scene, purpose, reply),
        }
    }

    /// Passes a request to the state.
    fn enter(&mut self, call: u64, request: &Rc<SimRequest>, connection: &SimConnection) -> Result<(), String> {
        let Some(ticket) = self.scene.net.admit(call, request, connection) else { return Ok(()) };
        self.checks.before(&self.state, self.scene.now, Some(request));
        let effects = self.apply(|state, now| match (**request).clone() {
            SimRequest::Hold(task) => state.submit_and_hold(now, *task, None, ticket),
            SimRequest::Client(Request::Submit(submit)) => state.submit(now, submit, ticket),
            SimRequest::Client(Request::Collect(collect)) => state.collect(now, &collect, ticket),
            SimRequest::Client(Request::Lookup(lookup)) => state.lookup(now, lookup, ticket),
            SimRequest::Client(Request::Cancel(ids)) => state.cancel(now, &ids, ticket),
            SimRequest::Client(Request::Follow(follow)) => state.follow(now, follow, ticket),
            SimRequest::Client(Request::Workers | Request::Hello) => state.workers(now, ticket),
            SimRequest::Worker(WorkerRequest::Register(registration)) => {
                state.register(now, registration, connection.peer, ticket);
            }
            SimRequest::Worker(WorkerRequest::Work(work)) => state.work(now, work, ticket),
            SimRequest::Worker(WorkerRequest::Beat(beat)) => state.beat(now, &beat, connection.peer, ticket),
            SimRequest::Worker(WorkerRequest::Note(note)) => state.note(now, note, ticket),
            SimRequest::Client(Request::Tasks(query)) => state.tasks(now, &query, ticket),
            SimRequest::Client(Request::Events(query)) => state.events(now, query, ticket),
            SimRequest::Client(Request::Schedule(request)) => state.schedule(now, request, ticket),
            SimRequest::Client(Request::Describe(id)) => state.describe(now, &id, ticket),
            SimRequest::Worker(WorkerRequest::Drain(worker)) => state.drain_worker(now, worker, ticket),
            SimRequest::Worker(WorkerRequest::Leave(worker)) => state.leave(now, worker, ticket),
            SimRequest::Worker(WorkerRequest::Catalog(change)) => state.change_catalog(now, change, ticket),
            SimRequest::Worker(WorkerRequest::Modules(query)) => state.modules(now, &query, ticket),
            SimRequest::Worker(WorkerRequest::Chunk(_)) => state.refuse_chunk(ticket),
        });
        self.after(&Cause::Request(request), effects)
    }

    /// Runs one transition of the state.
    fn apply(&mut self, transition: impl FnOnce(&mut State<Ticket>, Now)) -> Vec<Effect<Ticket>> {
        let now = self.scene.now;
        self.state.apply(now, |state| transition(state, now)).effects
    }

    /// Checks a transition, and delivers its effects.
    fn after(&mut self, cause: &Cause<'_>, mut effects: Vec<Effect<Ticket>>) -> Result<(), String> {
        if let Some(sabotage) = self.scene.sabotage {
            sabotage_effects(sabotage, &mut self.scene.rng, &mut effects);
        }
        self.history.note(self.scene.now, cause, &effects);
        self.checks.after(&self.state, self.scene.now, cause, &effects)?;
        if let Some(call) = self.scene.net.take_dropped().first() {
            return Err(format!("call {call} was dropped without a reply"));
        }
        let replies = effects.iter().filter(|effect| matches!(effect, Effect::Reply { .. })).count();
        Checks::parked(&self.state, self.scene.net.tickets() - replies)?;
        let Scene { net, now, rng, .. } = &mut self.scene;
        for effect in effects {
            match effect {
                Effect::Reply { to, reply } => net.reply(now.mono, rng, to, reply),
                Effect::Callback(callback) => {
                    let reached = rng.u8(0..3) > 0;
                    let outcome = if reached { Ok(()) } else { Err("no reply".into()) };
                    let end = CallbackOutcome { result: callback.result, outcome, attempts: rng.u32(1..4) };
                    let after = Duration::from_millis(rng.u64(1..10_000));
                    net.write_down(now.mono + after, Event::Called(end));
                }
            }
        }
        Ok(())
    }
}

fn later(now: Now, mono: Moment) -> Now {
    Now { mono: now.mono.max(mono), wall: now.wall + mono.since(now.mono) }
}

fn limits(rng: &mut Rng) -> Limits {
    let mut limits = Limits::default();
    if rng.u8(0..5) == 0 {
        limits.tasks_max = rng.usize(5..60);
    }
    if rng.u8(0..5) == 0 {
        limits.bytes_max = rng.usize(20..300);
    }
    if rng.u8(0..5) == 0 {
        limits.results_max = rng.usize(1..30);
    }
    if rng.u8(0..6) == 0 {
        limits.result_ttl = Duration::from_millis(rng.u64(0..30_000));
    }
    if rng.bool() {
        limits.unknown_grace = Duration::from_millis(rng.u64(0..40_000));
    }
    limits
}

/// Manipulates some effects.
fn sabotage_effects(sabotage: Sabotage, rng: &mut Rng, effects: &mut Vec<Effect<Ticket>>) {
    if rng.u8(0..20) != 0 {
        return;
    }
    match sabotage {
        Sabotage::IgnoredFence => {}
        Sabotage::DroppedReply => drop(effects.pop()),
        Sabotage::RepeatedCall => {
            let again = effects.iter().find_map(|effect| match effect {
                Effect::Callback(callback) => Some(Effect::Callback(callback.clone())),
                Effect::Reply { .. } => None,
            });
            effects.extend(again);
        }
        Sabotage::ReversedGrant => {
            for effect in effects {
                if let Effect::Reply { reply: AnyReply::Worker(WorkerReply::Leases(leases)), .. } = effect {
                    leases.reverse();
                }
            }
        }
        Sabotage::ForgedEnd | Sabotage::RepeatedEnd => {
            for effect in effects {
                let Effect::Reply { reply: AnyReply::Client(Reply::Collected(collected)), .. } = effect else {
                    continue;
                };
                let Some(first) = collected.results.first_mut() else { continue };
                if sabotage == Sabotage::ForgedEnd {
                    Arc::make_mut(first).status = TaskStatus::Cancelled;
                } else {
                    let again = first.clone();
                    collected.results.push(again);
                }
            }
        }
    }
}
