//! Who is connected, and who has to go when there are too many.
//!
//! Apart because it is fairness, which the sockets know nothing of. A server has so many seats.
//! When all are taken, a new connection gets the seat of one that is of least use: one that has
//! sent no whole request, or rests between two, the one that has waited longest first; and among
//! those of the peer that has most seats. One that is being answered keeps its seat as long as its
//! peer has no more of them than the newcomer's would have. And one that has just come may first
//! send what it wants: until then the newcomer waits, so that not even those who connect without
//! end take the seats of all others.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use tokio::sync::Notify;

use crate::lock::lock;

/// How long a connection keeps its seat in any case: a request comes right after the connection.
pub(super) const SETTLE: Duration = Duration::from_millis(5);

/// The seats of one server.
#[derive(Debug)]
pub(super) struct Crowd {
    max: usize,
    settle: Duration,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    last: u64,
    taken: Vec<Taken>,
}

/// One that is taken.
#[derive(Debug)]
struct Taken {
    number: u64,
    peer: IpAddr,
    /// When it began to do what it does now: a number that grows.
    since: u64,
    joined: Instant,
    /// Whether a request of it is being answered.
    is_served: bool,
    leave: Arc<Notify>,
}

/// A seat in a crowd. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    number: u64,
    leave: Arc<Notify>,
}

/// What becomes of a new connection.
#[derive(Debug)]
pub(super) enum Joined {
    /// It has a seat.
    Seated(Arc<Seat>),
    /// It has one soon: others have only just come.
    Soon,
    /// There is none for it.
    Full,
}

impl Crowd {
    /// A crowd of at most `max`, who keep their seats for at least `settle`.
    pub(super) fn new(max: usize, settle: Duration) -> Arc<Self> {
        Arc::new(Self { max, settle, seats: Mutex::default() })
    }

    /// Takes a seat for a connection of `peer`. If none is free, another connection loses its own.
    pub(super) fn join(self: &Arc<Self>, peer: IpAddr) -> Joined {
        let peer = peer.to_canonical();
        let mut seats = lock(&self.seats);
        if seats.taken.len() >= self.max {
            let Some(at) = seats.least_useful(peer) else { return Joined::Full };
            if seats.taken[at].joined.elapsed() < self.settle {
                return Joined::Soon;
            }
            seats.taken.swap_remove(at).leave.notify_one();
        }
        seats.last += 1;
        let (number, leave) = (seats.last, Arc::new(Notify::new()));
        let (joined, is_served) = (Instant::now(), false);
        seats.taken.push(Taken { number, peer, since: number, joined, is_served, leave: Arc::clone(&leave) });
        Joined::Seated(Arc::new(Seat { crowd: Arc::clone(self), number, leave }))
    }

    fn mark(&self, number: u64, is_served: bool) {
        let mut seats = lock(&self.seats);
        seats.last += 1;
        let since = seats.last;
        if let Some(taken) = seats.taken.iter_mut().find(|taken| taken.number == number) {
            (taken.is_served, taken.since) = (is_served, since);
        }
    }
}

impl Seats {
    /// Which of the taken ones goes first, if one may go for a newcomer of `peer`.
    fn least_useful(&self, peer: IpAddr) -> Option<usize> {
        let mut by_peer: HashMap<IpAddr, usize> = HashMap::new();
        for taken in &self.taken {
            *by_peer.entry(taken.peer).or_default() += 1;
        }
        let count = |taken: &Taken| by_peer.get(&taken.peer).copied().unwrap_or_default();
        let own = by_peer.get(&peer).copied().unwrap_or_default() + 1;
        let may_go = |taken: &&(usize, &Taken)| !taken.1.is_served || count(taken.1) > own;
        let places = self.taken.iter().enumerate().collect::<Vec<_>>();
        let order = |(_, taken): &&(usize, &Taken)| (taken.is_served, usize::MAX - count(taken), taken.since);
        places.iter().filter(may_go).min_by_key(order).map(|(at, _)| *at)
    }
}

impl Seat {
    /// Returns when another connection has got this seat.
    pub(super) async fn lost(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.crowd.seats).taken.retain(|taken| taken.number != self.number);
    }
}

/// Marks a connection as being answered, from its request's whole head to the end of the answer.
pub(super) async fn serve(request: Request, next: Next) -> Response {
    let Some(seat) = request.extensions().get::<Arc<Seat>>().cloned() else { return next.run(request).await };
    let served = Served::new(seat);
    next.run(request).await.map(|body| Body::new(Answering { body, _served: served }))
}

/// As long as this is there, a request is being answered.
#[derive(Debug)]
struct Served(Arc<Seat>);

impl Served {
    fn new(seat: Arc<Seat>) -> Self {
        seat.crowd.mark(seat.number, true);
        Self(seat)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.crowd.mark(self.0.number, false);
    }
}

/// The body of an answer.
struct Answering {
    body: Body,
    _served: Served,
}

impl HttpBody for Answering {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn is_there(crowd: &Crowd, seat: &Seat) -> bool {
        lock(&crowd.seats).taken.iter().any(|taken| taken.number == seat.number)
    }

    fn join(crowd: &Arc<Crowd>, peer: IpAddr) -> Option<Arc<Seat>> {
        match crowd.join(peer) {
            Joined::Seated(seat) => Some(seat),
            Joined::Soon | Joined::Full => None,
        }
    }

    #[test]
    fn the_oldest_that_has_sent_no_whole_request_goes_first() {
        let crowd = Crowd::new(3, Duration::ZERO);
        let seats: Vec<_> = (0..3).map(|_| join(&crowd, ONE).expect("room")).collect();
        crowd.mark(seats[0].number, true);
        let late = join(&crowd, ONE).expect("the oldest goes");
        assert!(is_there(&crowd, &seats[0]) && !is_there(&crowd, &seats[1]) && is_there(&crowd, &late));
        crowd.mark(seats[0].number, false);
        drop(join(&crowd, ONE).expect("another goes"));
        assert!(is_there(&crowd, &seats[0]) && !is_there(&crowd, &seats[2]), "it has rested for a shorter time");
    }

    #[test]
    fn who_has_just_come_stays_for_a_moment() {
        let crowd = Crowd::new(1, Duration::MAX);
        let first = join(&crowd, ONE).expect("room");
        assert!(matches!(crowd.join(OTHER), Joined::Soon) && is_there(&crowd, &first));
        crowd.mark(first.number, true);
        assert!(matches!(crowd.join(OTHER), Joined::Full));
        drop(first);
        assert!(join(&crowd, OTHER).is_some());
    }

    #[test]
    fn the_peer_with_most_seats_loses_one_and_equals_lose_none() {
        let crowd = Crowd::new(4, Duration::ZERO);
        let seats: Vec<_> = (0..4).map(|_| join(&crowd, ONE).expect("room")).collect();
        for seat in &seats {
            crowd.mark(seat.number, true);
        }
        assert!(join(&crowd, ONE).is_none(), "all of them are being answered");
        let others = [(); 2].map(|()| {
            let seat = join(&crowd, OTHER).expect("one of those that have more");
            crowd.mark(seat.number, true);
            seat
        });
        assert!(join(&crowd, OTHER).is_none() && join(&crowd, ONE).is_none(), "each has two");
        drop(others);
        assert!(join(&crowd, ONE).is_some());
    }

    #[tokio::test]
    async fn who_loses_a_seat_hears_of_it() {
        let crowd = Crowd::new(1, Duration::ZERO);
        let first = join(&crowd, ONE).expect("room");
        let second = join(&crowd, ONE).expect("the first goes");
        first.lost().await;
        drop(first);
        assert!(is_there(&crowd, &second), "the seat is that of the second one now");
    }
}
