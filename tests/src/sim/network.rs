//! The network: loses, repeats, delays and reorders what is sent, as the weather wants.
//!
//! One call is one question of an actor. It can reach the control plane several times, and the
//! first answer that comes back is the one that is heard. Everything that will happen stands in
//! one list, ordered by time and then by when it was written down, so that a run can be repeated.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use fastrand::Rng;
use fastworker::{
    clock::Moment,
    control_plane::state::{Answer, CallbackEnd, Responder},
    protocol::{Request, WorkerRequest},
    task::NewTask,
    transport::Peer,
};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    Client(usize),
    Worker(usize),
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Client(Request),
    /// A submission of the original's.
    Hold(Box<NewTask>),
    Worker(WorkerRequest),
}

/// What an actor wakes up for. The number tells those of an earlier life apart.
#[derive(Clone, Debug)]
pub(crate) enum Alarm {
    /// A client does something.
    Act,
    /// A worker begins its next life.
    Start(u64),
    /// A worker says again that it is alive.
    Beat(u64),
    /// A slot is done with its attempt.
    Done(u64, u32, u64),
    /// A slot has been at its attempt for a while.
    Keeper(u64, u32, u64),
    /// Something goes wrong with a worker.
    Mishap,
}

/// What happens next.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request reaches the control plane.
    Arrives(u64, Rc<Ask>, Line),
    /// An answer reaches who asked.
    Returns(u64, Answer),
    /// Who asked has waited long enough.
    Impatient(u64, u32),
    /// The control plane notices that a connection is gone.
    Gone(Line),
    /// Somebody's alarm.
    Alarm(Actor, Alarm),
    /// It is known what became of a callback.
    Called(CallbackEnd),
}

/// A connection, as long as the control plane believes in it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// None within the process of the control plane.
    pub(crate) peer: Option<Peer>,
    open: Rc<Cell<bool>>,
    /// Whether what is sent on it still gets through.
    connected: Rc<Cell<bool>>,
}

impl Line {
    pub(crate) fn close(&self) {
        self.open.set(false);
        self.connected.set(false);
    }

    /// Dies, and neither side is told.
    pub(crate) fn die_silently(&self) {
        self.connected.set(false);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.get()
    }
}

/// The way back of one copy of a request.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) call: u64,
    pub(crate) ask: Rc<Ask>,
    line: Line,
    answered: bool,
    forgotten: Rc<RefCell<Vec<u64>>>,
}

impl Ticket {}

impl Responder for Ticket {
    fn is_open(&self) -> bool {
        self.line.open.get()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered && self.is_open() {
            self.forgotten.borrow_mut().push(self.call);
        }
    }
}

/// One question that was not answered yet.
#[derive(Debug)]
pub(crate) struct Call<P> {
    pub(crate) actor: Actor,
    pub(crate) purpose: P,
    ask: Rc<Ask>,
    line: Line,
    patience: Duration,
    tries: u32,
    /// How often it was sent.
    sent: u32,
}

/// How bad the network is, as parts of one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss: f64,
    pub(crate) repeat: f64,
    pub(crate) late: f64,
}

/// Carries questions and answers. `P` is what an actor notes about its own questions.
#[derive(Debug)]
pub(crate) struct Network<P> {
    pub(crate) weather: Weather,
    events: BTreeMap<(Moment, u64), Event>,
    calls: BTreeMap<u64, Call<P>>,
    numbers: u64,
    forgotten: Rc<RefCell<Vec<u64>>>,
}

impl<P> Network<P> {
    pub(crate) fn new(weather: Weather) -> Self {
        Self { weather, events: BTreeMap::new(), calls: BTreeMap::new(), numbers: 0, forgotten: Rc::default() }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A new connection; to the process of the control plane itself if `local`.
    pub(crate) fn connect(&mut self, local: bool) -> Line {
        let peer = (!local).then(|| Peer(self.number()));
        Line { peer, open: Rc::new(Cell::new(true)), connected: Rc::new(Cell::new(true)) }
    }

    /// Sends a question, again after each `patience`, until it is answered or `tries` are used up.
    pub(crate) fn call(
        &mut self,
        (now, dice): (Moment, &mut Rng),
        (actor, line): (Actor, &Line),
        (ask, purpose): (Ask, P),
        (patience, tries): (Duration, u32),
    ) {
        let number = self.number();
        let call = Call { actor, purpose, ask: Rc::new(ask), line: line.clone(), patience, tries, sent: 0 };
        self.calls.insert(number, call);
        self.send(now, dice, number);
    }

    fn send(&mut self, now: Moment, dice: &mut Rng, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.sent += 1;
        let (ask, line, patience, sent) = (Rc::clone(&call.ask), call.line.clone(), call.patience, call.sent);
        let local = line.peer.is_none();
        let copies = if local { 1 } else { self.copies(dice) };
        let copies = if line.is_connected() { copies } else { 0 };
        for _ in 0..copies {
            let at = now + if local { Duration::from_micros(1) } else { self.delay(dice) };
            self.write_down(at, Event::Arrives(number, Rc::clone(&ask), line.clone()));
        }
        self.write_down(now + patience, Event::Impatient(number, sent));
    }

    fn copies(&self, dice: &mut Rng) -> u32 {
        u32::from(dice.f64() >= self.weather.loss) + u32::from(dice.f64() < self.weather.repeat)
    }

    fn delay(&self, dice: &mut Rng) -> Duration {
        match dice.f64() {
            far if far < self.weather.late / 10.0 => Duration::from_millis(dice.u64(1_000..40_000)),
            late if late < self.weather.late => Duration::from_micros(dice.u64(1_000..2_000_000)),
            _ => Duration::from_micros(dice.u64(20..300)),
        }
    }

    pub(crate) fn write_down(&mut self, at: Moment, event: Event) {
        let number = self.number();
        self.events.insert((at, number), event);
    }

    pub(crate) fn alarm(&mut self, at: Moment, actor: Actor, alarm: Alarm) {
        self.write_down(at, Event::Alarm(actor, alarm));
    }

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<Moment> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// What happens next.
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.events.pop_first().map(|(_, event)| event)
    }

    /// The way back for a copy of a request that has just arrived; none if its connection is gone.
    pub(crate) fn admit(&self, call: u64, ask: &Rc<Ask>, line: &Line) -> Option<Ticket> {
        line.open.get().then(|| Ticket {
            call,
            ask: Rc::clone(ask),
            line: line.clone(),
            answered: false,
            forgotten: Rc::clone(&self.forgotten),
        })
    }

    /// Carries an answer back.
    pub(crate) fn answer(&mut self, now: Moment, dice: &mut Rng, ticket: Ticket, answer: Answer) {
        let mut ticket = ticket;
        ticket.answered = true;
        let (line, call) = (&ticket.line, ticket.call);
        if !line.connected.get() {
            return;
        }
        if line.peer.is_none() {
            return self.write_down(now + Duration::from_micros(1), Event::Returns(call, answer));
        }
        if dice.f64() >= self.weather.loss {
            let at = now + self.delay(dice);
            self.write_down(at, Event::Returns(call, answer));
        }
    }

    /// Who hears the answer to a call, if nobody heard one before.
    pub(crate) fn hears(&self, call: u64) -> Option<Actor> {
        self.calls.get(&call).map(|call| call.actor)
    }

    /// What a call is for.
    pub(crate) fn purpose(&self, call: u64) -> Option<&P> {
        self.calls.get(&call).map(|call| &call.purpose)
    }

    /// Has a call go over this connection from now on.
    pub(crate) fn move_call(&mut self, call: u64, line: &Line) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.line = line.clone();
        }
    }

    /// Ends a call.
    pub(crate) fn end(&mut self, call: u64) -> Option<Call<P>> {
        self.calls.remove(&call)
    }

    /// Asks again, or says that nobody answered.
    pub(crate) fn impatient(&mut self, now: Moment, dice: &mut Rng, (number, sent): (u64, u32)) -> Option<Call<P>> {
        let call = self.calls.get(&number).filter(|call| call.sent == sent)?;
        if call.sent >= call.tries {
            return self.calls.remove(&number);
        }
        self.send(now, dice, number);
        None
    }

    /// Forgets everything that an actor asked.
    pub(crate) fn silence(&mut self, actor: Actor) {
        self.calls.retain(|_, call| call.actor != actor);
    }

    /// Cuts a connection; the control plane notices later, if it is told at all.
    pub(crate) fn cut(&mut self, line: &Line, noticed: Option<Moment>) {
        line.connected.set(false);
        if let Some(at) = noticed {
            self.write_down(at, Event::Gone(line.clone()));
        }
    }

    /// Asks everything that an actor still waits for again on its new connection.
    pub(crate) fn move_calls(&mut self, now: Moment, dice: &mut Rng, actor: Actor, line: &Line) {
        let numbers: BTreeSet<u64> =
            self.calls.iter().filter(|(_, call)| call.actor == actor).map(|(number, _)| *number).collect();
        for number in numbers {
            if let Some(call) = self.calls.get_mut(&number) {
                call.line = line.clone();
            }
            self.send(now, dice, number);
        }
    }

    /// How many ways back the control plane holds.
    pub(crate) fn tickets(&self) -> usize {
        Rc::strong_count(&self.forgotten) - 1
    }

    /// Calls whose way back was thrown away although somebody waits at its end.
    pub(crate) fn take_forgotten(&self) -> Vec<u64> {
        self.forgotten.take()
    }
}
