//! The simulated network: loses, repeats, delays and reorders messages.
//!
//! A call is one request of an actor. It may reach the control plane several times; the first reply that returns ends it.
//! All future events are in one list, ordered by time and then by insertion, so that a run can be repeated.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use fastrand::Rng;
use fastworker::{
    clock::Moment,
    control_plane::state::{AnyReply, CallbackOutcome, Responder},
    protocol::{Request, WorkerRequest},
    task::NewTask,
    transport::Peer,
};

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    Client(usize),
    Worker(usize),
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) enum SimRequest {
    Client(Request),
    /// A submission by a client of the Python original.
    Hold(Box<NewTask>),
    Worker(WorkerRequest),
}

/// The reason why an actor wakes up. The first number identifies its run, so that alarms of earlier ones are ignored.
#[derive(Clone, Debug)]
pub(crate) enum Alarm {
    /// A client does something.
    Act,
    /// A worker starts.
    Start(u64),
    /// A worker sends a heartbeat.
    Beat(u64),
    /// A slot finishes its attempt.
    Done(u64, u32, u64),
    /// A slot flushes the reports of a long attempt.
    Flush(u64, u32, u64),
    /// A worker fails somehow.
    Mishap,
}

/// An event.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request reaches the control plane.
    Arrives(u64, Rc<SimRequest>, SimConnection),
    /// A reply reaches the sender.
    Returns(u64, AnyReply),
    /// The sender repeats or gives up.
    Impatient(u64, u32),
    /// The control plane notices that a connection is closed.
    Gone(SimConnection),
    /// An alarm of an actor.
    Alarm(Actor, Alarm),
    /// A callback was delivered or given up.
    Called(CallbackOutcome),
}

/// A connection; open until the control plane notices its end.
#[derive(Clone, Debug)]
pub(crate) struct SimConnection {
    /// None for the worker in the process of the control plane.
    pub(crate) peer: Option<Peer>,
    open: Rc<Cell<bool>>,
    /// Whether messages still get through.
    connected: Rc<Cell<bool>>,
}

impl SimConnection {
    pub(crate) fn close(&self) {
        self.open.set(false);
        self.connected.set(false);
    }

    /// Fails without a notice to either side.
    pub(crate) fn die_silently(&self) {
        self.connected.set(false);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.get()
    }
}

/// The reply target of one copy of a request.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) call: u64,
    pub(crate) request: Rc<SimRequest>,
    connection: SimConnection,
    replied: bool,
    dropped: Rc<RefCell<Vec<u64>>>,
}

impl Responder for Ticket {
    fn is_open(&self) -> bool {
        self.connection.open.get()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.replied && self.is_open() {
            self.dropped.borrow_mut().push(self.call);
        }
    }
}

/// An open request.
#[derive(Debug)]
pub(crate) struct Call<P> {
    pub(crate) actor: Actor,
    pub(crate) purpose: P,
    request: Rc<SimRequest>,
    connection: SimConnection,
    patience: Duration,
    tries: u32,
    /// Number of times it was sent.
    sent: u32,
}

/// Probabilities of failures of the network.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss: f64,
    pub(crate) repeat: f64,
    pub(crate) late: f64,
}

/// Carries requests and replies. `P` is the purpose that an actor attaches to its requests.
#[derive(Debug)]
pub(crate) struct Network<P> {
    pub(crate) weather: Weather,
    events: BTreeMap<(Moment, u64), Event>,
    calls: BTreeMap<u64, Call<P>>,
    numbers: u64,
    dropped: Rc<RefCell<Vec<u64>>>,
}

impl<P> Network<P> {
    pub(crate) fn new(weather: Weather) -> Self {
        Self { weather, events: BTreeMap::new(), calls: BTreeMap::new(), numbers: 0, dropped: Rc::default() }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Opens a connection, within the process of the control plane if `local`.
    pub(crate) fn connect(&mut self, local: bool) -> SimConnection {
        let peer = (!local).then(|| Peer(self.number()));
        SimConnection { peer, open: Rc::new(Cell::new(true)), connected: Rc::new(Cell::new(true)) }
    }

    /// Sends a request, again after each `patience`, until it gets a reply or `tries` are used up.
    pub(crate) fn call(
        &mut self,
        (now, rng): (Moment, &mut Rng),
        (actor, connection): (Actor, &SimConnection),
        (request, purpose): (SimRequest, P),
        (patience, tries): (Duration, u32),
    ) {
        let number = self.number();
        let call = Call {
            actor,
            purpose,
            request: Rc::new(request),
            connection: connection.clone(),
            patience,
            tries,
            sent: 0,
        };
        self.calls.insert(number, call);
        self.send(now, rng, number);
    }

    fn send(&mut self, now: Moment, rng: &mut Rng, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.sent += 1;
        let (request, connection, patience, sent) =
            (Rc::clone(&call.request), call.connection.clone(), call.patience, call.sent);
        let local = connection.peer.is_none();
        let copies = if local { 1 } else { self.copies(rng) };
        let copies = if connection.is_connected() { copies } else { 0 };
        for _ in 0..copies {
            let at = now + if local { Duration::from_micros(1) } else { self.delay(rng) };
            self.write_down(at, Event::Arrives(number, Rc::clone(&request), connection.clone()));
        }
        self.write_down(now + patience, Event::Impatient(number, sent));
    }

    fn copies(&self, rng: &mut Rng) -> u32 {
        u32::from(rng.f64() >= self.weather.loss) + u32::from(rng.f64() < self.weather.repeat)
    }

    fn delay(&self, rng: &mut Rng) -> Duration {
        match rng.f64() {
            far if far < self.weather.late / 10.0 => Duration::from_millis(rng.u64(1_000..40_000)),
            late if late < self.weather.late => Duration::from_micros(rng.u64(1_000..2_000_000)),
            _ => Duration::from_micros(rng.u64(20..300)),
        }
    }

    pub(crate) fn write_down(&mut self, at: Moment, event: Event) {
        let number = self.number();
        self.events.insert((at, number), event);
    }

    pub(crate) fn alarm(&mut self, at: Moment, actor: Actor, alarm: Alarm) {
        self.write_down(at, Event::Alarm(actor, alarm));
    }

    /// The time of the next event.
    pub(crate) fn next_at(&self) -> Option<Moment> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Removes the next event.
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.events.pop_first().map(|(_, event)| event)
    }

    /// Creates the reply target of a copy that has just arrived; none if its connection is closed.
    pub(crate) fn admit(&self, call: u64, request: &Rc<SimRequest>, connection: &SimConnection) -> Option<Ticket> {
        connection.open.get().then(|| Ticket {
            call,
            request: Rc::clone(request),
            connection: connection.clone(),
            replied: false,
            dropped: Rc::clone(&self.dropped),
        })
    }

    /// Sends a reply.
    pub(crate) fn reply(&mut self, now: Moment, rng: &mut Rng, ticket: Ticket, reply: AnyReply) {
        let mut ticket = ticket;
        ticket.replied = true;
        let (connection, call) = (&ticket.connection, ticket.call);
        if !connection.connected.get() {
            return;
        }
        if connection.peer.is_none() {
            return self.write_down(now + Duration::from_micros(1), Event::Returns(call, reply));
        }
        if rng.f64() >= self.weather.loss {
            let at = now + self.delay(rng);
            self.write_down(at, Event::Returns(call, reply));
        }
    }

    /// The sender of a call that is still open.
    pub(crate) fn caller(&self, call: u64) -> Option<Actor> {
        self.calls.get(&call).map(|call| call.actor)
    }

    /// The purpose of a call.
    pub(crate) fn purpose(&self, call: u64) -> Option<&P> {
        self.calls.get(&call).map(|call| &call.purpose)
    }

    /// Moves a call to another connection.
    pub(crate) fn move_call(&mut self, call: u64, connection: &SimConnection) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.connection = connection.clone();
        }
    }

    /// Ends a call.
    pub(crate) fn end(&mut self, call: u64) -> Option<Call<P>> {
        self.calls.remove(&call)
    }

    /// Repeats a call, or ends and returns it if no tries are left.
    pub(crate) fn impatient(&mut self, now: Moment, rng: &mut Rng, (number, sent): (u64, u32)) -> Option<Call<P>> {
        let call = self.calls.get(&number).filter(|call| call.sent == sent)?;
        if call.sent >= call.tries {
            return self.calls.remove(&number);
        }
        self.send(now, rng, number);
        None
    }

    /// Drops all calls of an actor.
    pub(crate) fn silence(&mut self, actor: Actor) {
        self.calls.retain(|_, call| call.actor != actor);
    }

    /// Cuts a connection; the control plane notices at `noticed`, or never.
    pub(crate) fn cut(&mut self, connection: &SimConnection, noticed: Option<Moment>) {
        connection.connected.set(false);
        if let Some(at) = noticed {
            self.write_down(at, Event::Gone(connection.clone()));
        }
    }

    /// Repeats all open calls of an actor on its new connection.
    pub(crate) fn move_calls(&mut self, now: Moment, rng: &mut Rng, actor: Actor, connection: &SimConnection) {
        let numbers: BTreeSet<u64> =
            self.calls.iter().filter(|(_, call)| call.actor == actor).map(|(number, _)| *number).collect();
        for number in numbers {
            if let Some(call) = self.calls.get_mut(&number) {
                call.connection = connection.clone();
            }
            self.send(now, rng, number);
        }
    }

    /// Number of reply targets that the control plane holds.
    pub(crate) fn tickets(&self) -> usize {
        Rc::strong_count(&self.dropped) - 1
    }

    /// Calls whose reply target was dropped without a reply.
    pub(crate) fn take_dropped(&self) -> Vec<u64> {
        self.dropped.take()
    }
}
