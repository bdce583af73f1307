//! `GET /api/events`: events as they happen, as a stream of server-sent events.
//!
//! One [`EventBroadcaster`] waits for new events with a long poll, like any client, and serializes each event once
//! for all readers. It runs while there are readers. A reader passes on broadcasts as long as they continue from
//! its last event; otherwise (at its start, or after it has been slow) it reads the event log itself. So a slow
//! reader delays nothing, and the state of a reader is one event number.

use std::{
    convert::Infallible,
    fmt::Write as _,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::FutureExt as _;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, oneshot},
    time::{Instant, sleep, timeout_at},
};

use super::{App, HttpError, views::Overview};
use crate::{
    control_plane::{core::Core, reply_to::ReplyTo},
    escape,
    lock::lock,
    panics::{self, PanicSource},
    protocol::{EventQuery, Events, Reply},
};

/// Maximum number of concurrent readers.
const READERS_MAX: usize = 64;
/// Maximum time without data on a stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Interval between overviews.
const OVERVIEW_INTERVAL: Duration = Duration::from_secs(1);
/// Time over which events are batched.
const BATCH_WINDOW: Duration = Duration::from_millis(50);
/// Maximum number of broadcasts buffered for a slow reader, before it has to read the event log.
const BUFFERED_MAX: usize = 32;
/// Timeout of the broadcaster's long poll, in milliseconds.
const POLL_WAIT_MS: u32 = 20_000;
/// Maximum number of past events that a reader may request.
const RECENT_MAX: u64 = 500;

/// A message for all readers.
#[derive(Clone, Debug)]
enum Broadcast {
    /// Serialized events, from number `first` to number `last`.
    Events { first: u64, last: u64, text: Bytes },
    /// A serialized overview.
    Overview(Bytes),
}

/// Sends new events and overviews to all readers.
#[derive(Debug)]
pub(super) struct EventBroadcaster {
    core: Arc<Core>,
    readers: Arc<Semaphore>,
    broadcasts: broadcast::Sender<Broadcast>,
    is_running: Mutex<bool>,
}

impl EventBroadcaster {
    pub(super) fn new(core: Arc<Core>) -> Arc<Self> {
        let broadcasts = broadcast::Sender::new(BUFFERED_MAX);
        Arc::new(Self {
            core,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            broadcasts,
            is_running: Mutex::new(false),
        })
    }

    /// Adds a reader, and starts the broadcaster if it is not running.
    fn subscribe(self: &Arc<Self>, app: &Arc<App>) -> broadcast::Receiver<Broadcast> {
        let mut is_running = lock(&self.is_running);
        let receiver = self.broadcasts.subscribe();
        if !std::mem::replace(&mut *is_running, true) {
            tokio::spawn(Arc::clone(self).run(Arc::clone(app)));
        }
        receiver
    }

    /// Runs as long as there are readers. After a panic it starts again, and readers catch up from the event log.
    async fn run(self: Arc<Self>, app: Arc<App>) {
        while let Err(panic) = AssertUnwindSafe(self.broadcast_events(&app)).catch_unwind().await {
            panics::caught(PanicSource::Http, "the stream of events", &*panic);
            sleep(OVERVIEW_INTERVAL).await;
        }
    }

    async fn broadcast_events(&self, app: &App) {
        let mut after = self.core.enter(|state, _| state.event_log().last());
        let mut overview_at = Instant::now() + OVERVIEW_INTERVAL;
        let mut poll = self.poll(after);
        loop {
            match timeout_at(overview_at, &mut poll).await {
                Ok(Ok(Reply::Events(events))) => {
                    if let (Some(first), Some(last)) = (events.events.first(), events.events.last()) {
                        let (first, last, text) = (first.number, last.number, frames(&events));
                        drop(self.broadcasts.send(Broadcast::Events { first, last, text }));
                        sleep(BATCH_WINDOW).await;
                    }
                    after = events.last;
                    poll = self.poll(after);
                }
                // The control plane is shutting down.
                Ok(Ok(_) | Err(_)) => return,
                Err(_) => {
                    overview_at += OVERVIEW_INTERVAL;
                    drop(self.broadcasts.send(Broadcast::Overview(overview(app))));
                }
            }
            let mut is_running = lock(&self.is_running);
            if self.broadcasts.receiver_count() == 0 {
                *is_running = false;
                return;
            }
        }
    }

    /// Starts a long poll for events after number `after`.
    fn poll(&self, after: u64) -> oneshot::Receiver<Reply> {
        let (reply_to, reply) = oneshot::channel();
        self.core.enter(|state, now| {
            state.events(now, EventQuery { after, wait_ms: POLL_WAIT_MS }, ReplyTo::Oneshot(reply_to));
        });
        reply
    }
}

/// The query parameters of `GET /api/events`.
#[derive(Debug, Deserialize)]
pub(super) struct EventStreamParams {
    /// The number of past events to start with.
    #[serde(default)]
    recent: u64,
    /// Whether to send overviews as well.
    #[serde(default)]
    overview: bool,
}

/// `GET /api/events`
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    params: Result<Query<EventStreamParams>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let Query(params) = params.map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let permit = Arc::clone(&app.broadcaster.readers).try_acquire_owned().map_err(|_| {
        let why = format!("too many readers follow the events ({READERS_MAX}): try again later");
        HttpError::new(StatusCode::SERVICE_UNAVAILABLE, why)
    })?;
    let broadcasts = app.broadcaster.subscribe(&app);
    let newest = app.core.enter(|state, _| state.event_log().last());
    // A number beyond the newest event comes from another control plane: the reader starts over.
    let last_seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let last_seen = last_seen.filter(|number| *number <= newest);
    let reader = EventReader {
        cursor: last_seen.unwrap_or(newest.saturating_sub(params.recent.min(RECENT_MAX))),
        is_behind: true,
        wants_overview: params.overview,
        prelude: Some(prelude(params.overview.then(|| overview(&app)))),
        broadcasts,
        core: Arc::clone(&app.core),
        _permit: permit,
    };
    let body = futures::stream::unfold(reader, |mut reader| async move {
        let next = AssertUnwindSafe(reader.next()).catch_unwind().await;
        let text = next.map_err(|panic| panics::caught(PanicSource::Http, "GET /api/events", &*panic)).ok()??;
        Some((Ok::<_, Infallible>(text), reader))
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body)).into_response())
}

/// A client that follows the events.
struct EventReader {
    /// The number of the last event that was sent.
    cursor: u64,
    /// Whether the event log may contain events after that.
    is_behind: bool,
    wants_overview: bool,
    prelude: Option<Bytes>,
    broadcasts: broadcast::Receiver<Broadcast>,
    core: Arc<Core>,
    _permit: OwnedSemaphorePermit,
}

impl EventReader {
    /// The next data to send; none at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(prelude) = self.prelude.take() {
            return Some(prelude);
        }
        let silent_until = Instant::now() + HEARTBEAT;
        loop {
            if self.is_behind {
                let events = self.core.enter(|state, _| state.event_log().after(self.cursor));
                self.cursor = events.last;
                self.is_behind = !events.events.is_empty();
                if self.is_behind || events.missed > 0 {
                    return Some(frames(&events));
                }
            }
            match timeout_at(silent_until, self.broadcasts.recv()).await {
                Ok(Ok(Broadcast::Overview(text))) if self.wants_overview => return Some(text),
                Ok(Ok(Broadcast::Overview(_))) => {}
                Ok(Ok(Broadcast::Events { last, .. })) if last <= self.cursor => {}
                Ok(Ok(Broadcast::Events { first, last, text })) if first == self.cursor + 1 => {
                    self.cursor = last;
                    return Some(text);
                }
                Ok(Ok(Broadcast::Events { .. }) | Err(broadcast::error::RecvError::Lagged(_))) => self.is_behind = true,
                Ok(Err(broadcast::error::RecvError::Closed)) => return None,
                Err(_) => return Some(Bytes::from_static(b": heartbeat\n\n")),
            }
        }
    }
}

/// The start of a stream: the reconnection delay, and the current overview.
fn prelude(overview: Option<Bytes>) -> Bytes {
    const RETRY: &[u8] = b"retry: 2000\n\n";
    overview.map_or(Bytes::from_static(RETRY), |overview| [RETRY, &overview].concat().into())
}

fn frames(events: &Events) -> Bytes {
    let mut text = String::with_capacity(events.events.len() * 256);
    if events.missed > 0 {
        let _ = write!(text, "event: missed\ndata: {}\n\n", format_args!("{{\"missed\":{}}}", events.missed));
    }
    for event in &events.events {
        // JSON has no line breaks of its own.
        let data = serde_json::to_string(event).unwrap_or_default();
        let data = escape::json(&data);
        let _ = write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", event.number, event.kind);
    }
    text.into()
}

fn overview(app: &App) -> Bytes {
    let data = serde_json::to_string(&Overview::of(app)).unwrap_or_default();
    let data = escape::json(&data);
    format!("event: overview\ndata: {data}\n\n").into()
}
