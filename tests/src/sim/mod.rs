//! A simulation of whole clusters: model clients and model workers around the pure core, with a
//! turned clock, a bad network and everything that goes wrong with machines.
//!
//! One seed gives one history. After every step the checks compare what the core did with what it
//! promises. A run is a storm, then calm weather in which everything must come to its end, then a
//! farewell after which nothing must be left.

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
    control_plane::state::{Answer, CallbackEnd, Effect, Limits, State},
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
mod shown;
mod told;
mod worker;

pub use checks::Coverage;

use checks::{Cause, Checks};
use client::Client;
use history::History;
use network::{Actor, Alarm, Ask, Event, Line, Network, Ticket, Weather};
use worker::Worker;

/// A deliberate fault, to see that the checks find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Workers answer with what they computed under the first lease of a task.
    IgnoredFence,
    /// An answer is thrown away.
    ForgottenAnswer,
    /// A result is told that is not the one that was recorded.
    ForgedEnd,
    /// A session hears of an end a second time.
    RepeatedEnd,
    /// Leases are handed out in the wrong order.
    ReversedGrant,
    /// A callback is sent twice.
    RepeatedCall,
}

/// What a run has shown to be wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that repeats it.
    pub seed: u64,
    /// What is wrong.
    pub what: String,
    /// What happened before, the last at the foot.
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

/// A number that stands for everything that is said in the run of one seed.
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
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why");
            Err((format!("panicked: {said}"), world.history))
        }
    }
}

/// What a question is for, in the eyes of who asked.
#[derive(Debug)]
pub(crate) enum Purpose {
    Submit,
    Collect,
    Register,
    Work(u32),
    /// What ended in a slot that is still at work: under which key, and these.
    Outcomes(u32, Uuid, Vec<LeaseId>),
    Beat,
    Note,
    Drain,
    Leave,
    Catalog,
    Other,
}

/// What the actors share.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) dice: Rng,
    pub(crate) now: Now,
    pub(crate) net: Network<Purpose>,
    /// Every task that was submitted so far.
    pub(crate) offered: Vec<NewTask>,
    /// Nothing goes wrong any more.
    pub(crate) calm: bool,
    /// Everybody goes home.
    pub(crate) over: bool,
    pub(crate) sabotage: Option<Sabotage>,
}

impl Scene {
    pub(crate) fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(self.dice.u128(1..))
    }

    pub(crate) fn alarm_in(&mut self, span: Duration, actor: Actor, alarm: Alarm) {
        self.net.alarm(self.now.mono + span, actor, alarm);
    }

    /// An alarm after so many milliseconds.
    pub(crate) fn alarm_within(&mut self, least: u64, most: u64, actor: Actor, alarm: Alarm) {
        let span = Duration::from_micros(self.dice.u64(least * 1_000..most * 1_000));
        self.alarm_in(span, actor, alarm);
    }

    pub(crate) fn ask(&mut self, who: (Actor, &Line), what: (Ask, Purpose), patience: (Duration, u32)) {
        self.net.call((self.now.mono, &mut self.dice), who, what, patience);
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

/// Nothing goes on for so many steps.
const STEPS_MAX: u32 = 400_000;

impl World {
    fn new(seed: u64, sabotage: Option<Sabotage>, remembers: bool) -> Self {
        let mut dice = Rng::with_seed(seed);
        let limits = limits(&mut dice);
        let bad = |dice: &mut Rng, most: f64| if dice.bool() { 0.0 } else { dice.f64() * most };
        let weather = Weather { loss: bad(&mut dice, 0.2), repeat: bad(&mut dice, 0.1), late: bad(&mut dice, 0.1) };
        let start = Now { mono: Moment::from_micros(1), wall: Timestamp::from_micros(1_800_000_000_000_000) };
        let net = Network::new(weather);
        let mut scene = Scene { dice, now: start, net, offered: Vec::new(), calm: false, over: false, sabotage };
        let clients = 0..scene.dice.usize(1..5);
        let workers = 0..scene.dice.usize(1..7);
        let local = scene.dice.usize(1..8);
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
        let storm = Duration::from_millis(self.scene.dice.u64(5_000..90_000));
        self.run_until(self.scene.now.mono + storm, |_| false)?;
        self.calm_down();
        // What is under way for long arrives, too.
        self.run_until(self.scene.now.mono + Duration::from_mins(1), |_| false)?;
        let patience = self.scene.now.mono + Duration::from_hours(20);
        self.run_until(patience, World::is_finished)?;
        // Answers that are under way get home, and sessions tell the last of it.
        self.run_until(self.scene.now.mono + Duration::from_secs(90), |_| false)?;
        let heard = |session: Uuid| self.clients.iter().find(|client| client.session == session && !client.gone);
        self.checks.finished(&self.state, |session| heard(session).map(|client| &client.heard))?;
        if self.scene.dice.u8(0..4) == 0 { self.farewell() } else { self.go_home() }
    }

    /// Nothing goes wrong any more.
    fn calm_down(&mut self) {
        self.scene.calm = true;
        self.scene.net.weather = Weather::default();
        for number in 0..self.clients.len() {
            self.scene.alarm_in(Duration::from_millis(1), Actor::Client(number), Alarm::Act);
        }
    }

    /// Whether everything has ended that could.
    fn is_finished(&self) -> bool {
        self.state.stats().leases == 0
            && self.state.queue().iter().all(|(place, _)| !names::is_offered(&place.name))
            && self.state.stats().queued == self.state.stats().unfinished
    }

    /// The control plane stops: whoever still waits is told.
    fn farewell(&mut self) -> Result<(), String> {
        self.state.drain();
        self.state.farewell();
        self.after(&Cause::Farewell)?;
        match self.scene.net.tickets() {
            0 => Ok(()),
            left => Err(format!("{left} requests were left without an answer by the farewell")),
        }
    }

    /// Everybody leaves, and nothing must be left.
    fn go_home(&mut self) -> Result<(), String> {
        let left = self.state.queue().iter().map(|(_, id)| id.clone()).collect();
        let line = self.scene.net.connect(false);
        self.enter(0, &Rc::new(Ask::Client(Request::Cancel(left))), &line)?;
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
            if ticks && (self.scene.net.next_at().is_none_or(|at| at > next) || self.scene.dice.bool()) {
                self.tick()?;
            } else if let Some(event) = self.scene.net.next() {
                self.happen(event)?;
            }
        }
        Err(format!("no end after {STEPS_MAX} steps: {:?}", self.state.stats()))
    }

    /// Wall clocks jump, and machines stand still.
    fn disturb_clock(&mut self) {
        if self.scene.calm {
            return;
        }
        match self.scene.dice.u16(0..3_000) {
            0 => {
                let jump = i64::from(self.scene.dice.i32(-2_000_000_000..2_000_000_000));
                self.scene.now.wall = Timestamp::from_micros(self.scene.now.wall.micros() + jump);
            }
            1 => {
                let pause = Duration::from_millis(self.scene.dice.u64(10..30_000));
                self.scene.now = later(self.scene.now, self.scene.now.mono + pause);
            }
            _ => {}
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        self.checks.before(&self.state, self.scene.now, None);
        self.state.tick(self.scene.now);
        self.after(&Cause::Tick)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrives(call, ask, line) => return self.enter(call, &ask, &line),
            Event::Gone(line) => {
                line.close();
                if let Some(peer) = line.peer {
                    self.checks.before(&self.state, self.scene.now, None);
                    self.state.peer_gone(self.scene.now, peer);
                    return self.after(&Cause::Gone);
                }
            }
            Event::Returns(call, answer) => {
                let Some(actor) = self.scene.net.hears(call) else { return Ok(()) };
                if let Some(until) = self.frozen(actor) {
                    self.scene.net.write_down(until, Event::Returns(call, answer));
                } else if let Some(call) = self.scene.net.end(call) {
                    self.tell(actor, &call.purpose, Some(answer));
                }
            }
            Event::Impatient(number, sent) => {
                let Some(actor) = self.scene.net.hears(number) else { return Ok(()) };
                if let Some(until) = self.frozen(actor) {
                    self.scene.net.write_down(until, Event::Impatient(number, sent));
                } else {
                    self.redial(actor, number);
                    let Scene { net, now, dice, .. } = &mut self.scene;
                    if let Some(call) = net.impatient(now.mono, dice, (number, sent)) {
                        self.tell(actor, &call.purpose, None);
                    }
                }
            }
            Event::Called(end) => {
                self.checks.before(&self.state, self.scene.now, None);
                self.state.callback_ended(self.scene.now, end);
                return self.after(&Cause::Called);
            }
            Event::Alarm(actor, alarm) => match (actor, self.frozen(actor)) {
                (_, Some(until)) => self.scene.net.alarm(until, actor, alarm),
                (Actor::Client(number), None) => self.clients[number].act(&mut self.scene),
                (Actor::Worker(number), None) => self.workers[number].alarm(&mut self.scene, &alarm),
            },
        }
        Ok(())
    }

    /// Who waited in vain on a connection of its own asks over another one.
    fn redial(&mut self, actor: Actor, call: u64) {
        let Actor::Worker(number) = actor else { return };
        let Some(Purpose::Work(slot)) = self.scene.net.purpose(call) else { return };
        let slot = *slot;
        let line = self.workers[number].redial(&mut self.scene, slot);
        self.scene.net.move_call(call, &line);
    }

    fn frozen(&self, actor: Actor) -> Option<Moment> {
        match actor {
            Actor::Client(_) => None,
            Actor::Worker(number) => {
                Some(self.workers[number].frozen_until).filter(|until| *until > self.scene.now.mono)
            }
        }
    }

    fn tell(&mut self, actor: Actor, purpose: &Purpose, answer: Option<Answer>) {
        match actor {
            Actor::Client(number) => self.clients[number].heard(&mut self.scene, purpose, answer),
            Actor::Worker(number) => self.workers[number].heard(&mut self.scene, purpose, answer),
        }
    }

    /// A request enters the core.
    fn enter(&mut self, call: u64, ask: &Rc<Ask>, line: &Line) -> Result<(), String> {
        let Some(ticket) = self.scene.net.admit(call, ask, line) else { return Ok(()) };
        self.checks.before(&self.state, self.scene.now, Some(ask));
        let (state, now) = (&mut self.state, self.scene.now);
        match (**ask).clone() {
            Ask::Hold(task) => state.submit_and_hold(now, *task, None, ticket),
            Ask::Client(Request::Submit(submit)) => state.submit(now, submit, ticket),
            Ask::Client(Request::Collect(collect)) => state.collect(now, &collect, ticket),
            Ask::Client(Request::Lookup(lookup)) => state.lookup(now, lookup, ticket),
            Ask::Client(Request::Cancel(ids)) => state.cancel(now, &ids, ticket),
            Ask::Client(Request::Follow(follow)) => state.follow(now, follow, ticket),
            Ask::Client(Request::Workers | Request::Hello) => state.workers(now, ticket),
            Ask::Worker(WorkerRequest::Register(registration)) => state.register(now, registration, line.peer, ticket),
            Ask::Worker(WorkerRequest::Work(work)) => state.work(now, work, ticket),
            Ask::Worker(WorkerRequest::Beat(beat)) => state.beat(now, &beat, line.peer, ticket),
            Ask::Worker(WorkerRequest::Note(note)) => state.note(now, note, ticket),
            Ask::Client(Request::Tasks(query)) => state.tasks(now, &query, ticket),
            Ask::Client(Request::Events(query)) => state.events(now, query, ticket),
            Ask::Client(Request::Schedule(request)) => state.schedule(now, request, ticket),
            Ask::Client(Request::Describe(id)) => state.describe(now, &id, ticket),
            Ask::Worker(WorkerRequest::Drain(worker)) => state.drain_worker(now, worker, ticket),
            Ask::Worker(WorkerRequest::Leave(worker)) => state.leave(now, worker, ticket),
            Ask::Worker(WorkerRequest::Catalog(change)) => state.change_catalog(now, change, ticket),
        }
        self.after(&Cause::Asked(ask))
    }

    /// Checks what the core did and carries away what it says.
    fn after(&mut self, cause: &Cause<'_>) -> Result<(), String> {
        self.state.notify_event_waiters(self.scene.now);
        let mut effects = self.state.take_outbox();
        if let Some(sabotage) = self.scene.sabotage {
            tamper(sabotage, &mut self.scene.dice, &mut effects);
        }
        self.history.note(self.scene.now, cause, &effects);
        self.checks.after(&self.state, self.scene.now, cause, &effects)?;
        if let Some(call) = self.scene.net.take_forgotten().first() {
            return Err(format!("call {call} was dropped without an answer"));
        }
        let answers = effects.iter().filter(|effect| matches!(effect, Effect::Say { .. })).count();
        Checks::parked(&self.state, self.scene.net.tickets() - answers)?;
        let Scene { net, now, dice, .. } = &mut self.scene;
        for effect in effects {
            match effect {
                Effect::Say { to, answer } => net.answer(now.mono, dice, to, answer),
                Effect::Call(callback) => {
                    let reached = dice.u8(0..3) > 0;
                    let outcome = if reached { Ok(()) } else { Err("nobody answers there".into()) };
                    let end = CallbackEnd { result: callback.result, outcome, attempts: dice.u32(1..4) };
                    let after = Duration::from_millis(dice.u64(1..10_000));
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

fn limits(dice: &mut Rng) -> Limits {
    let mut limits = Limits::default();
    if dice.u8(0..5) == 0 {
        limits.tasks_max = dice.usize(5..60);
    }
    if dice.u8(0..5) == 0 {
        limits.bytes_max = dice.usize(20..300);
    }
    if dice.u8(0..5) == 0 {
        limits.results_max = dice.usize(1..30);
    }
    if dice.u8(0..6) == 0 {
        limits.result_ttl = Duration::from_millis(dice.u64(0..30_000));
    }
    if dice.bool() {
        limits.unknown_grace = Duration::from_millis(dice.u64(0..40_000));
    }
    limits
}

/// Changes what the core says, now and then.
fn tamper(sabotage: Sabotage, dice: &mut Rng, effects: &mut Vec<Effect<Ticket>>) {
    if dice.u8(0..20) != 0 {
        return;
    }
    match sabotage {
        Sabotage::IgnoredFence => {}
        Sabotage::ForgottenAnswer => drop(effects.pop()),
        Sabotage::RepeatedCall => {
            let again = effects.iter().find_map(|effect| match effect {
                Effect::Call(callback) => Some(Effect::Call(callback.clone())),
                Effect::Say { .. } => None,
            });
            effects.extend(again);
        }
        Sabotage::ReversedGrant => {
            for effect in effects {
                if let Effect::Say { answer: Answer::Worker(WorkerReply::Leases(leases)), .. } = effect {
                    leases.reverse();
                }
            }
        }
        Sabotage::ForgedEnd | Sabotage::RepeatedEnd => {
            for effect in effects {
                let Effect::Say { answer: Answer::Client(Reply::Collected(collected)), .. } = effect else { continue };
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
