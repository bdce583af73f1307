//! Events as they happen: `GET /api/events`, a stream of server-sent events.
//!
//! One [`Pump`] asks the state, as any client may, and is answered when something happened; it
//! writes each event once for all readers. It runs while there is a reader. A reader takes what the
//! pump hands it if that goes on from what it has, and else reads the feed itself: at its start,
//! after a pause of its own, and after being slow. So nobody waits for a slow reader, and what a
//! reader has to keep is one number.

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

use super::{App, Refusal, views::Overview};
use crate::{
    control_plane::{core::Core, reply_to::ReplyTo},
    lock::lock,
    panics::{self, Place},
    protocol::{EventQuery, Events, Reply},
    visible,
};

/// Readers at a time.
const READERS_MAX: usize = 64;
/// How long a stream is silent at most.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often an overview is told.
const OVERVIEW_EVERY: Duration = Duration::from_secs(1);
/// What happens within so long goes out together.
const GATHER: Duration = Duration::from_millis(50);
/// What the pump may be ahead of a reader before that one reads the feed itself.
const AHEAD_MAX: usize = 32;
/// How long the pump's question may stay parked, in milliseconds.
const ASK_WAIT_MS: u32 = 20_000;
/// The most events before its start that a reader may ask for.
const RECENT_MAX: u64 = 500;

/// Something for all readers.
#[derive(Clone, Debug)]
enum News {
    /// Events, from the first number to the last, as they are sent.
    Events { first: u64, last: u64, text: Bytes },
    /// The whole at a glance.
    Overview(Bytes),
}

/// Brings what happens to all readers.
#[derive(Debug)]
pub(super) struct Pump {
    core: Arc<Core>,
    readers: Arc<Semaphore>,
    news: broadcast::Sender<News>,
    runs: Mutex<bool>,
}

impl Pump {
    pub(super) fn new(core: Arc<Core>) -> Arc<Self> {
        let news = broadcast::Sender::new(AHEAD_MAX);
        Arc::new(Self { core, readers: Arc::new(Semaphore::new(READERS_MAX)), news, runs: Mutex::new(false) })
    }

    /// Joins the readers, and sees to it that the pump runs.
    fn join(self: &Arc<Self>, app: &Arc<App>) -> broadcast::Receiver<News> {
        let mut runs = lock(&self.runs);
        let joined = self.news.subscribe();
        if !std::mem::replace(&mut *runs, true) {
            tokio::spawn(Arc::clone(self).run(Arc::clone(app)));
        }
        joined
    }

    /// Runs as long as there is a reader, whatever fails on the way: readers catch up from the feed.
    async fn run(self: Arc<Self>, app: Arc<App>) {
        while let Err(panic) = AssertUnwindSafe(self.pass_on(&app)).catch_unwind().await {
            panics::caught(Place::Http, "the stream of events", &*panic);
            sleep(OVERVIEW_EVERY).await;
        }
    }

    async fn pass_on(&self, app: &App) {
        let mut after = self.core.enter(|state, _| state.event_log().last());
        let mut overview_at = Instant::now() + OVERVIEW_EVERY;
        let mut asked = self.ask(after);
        loop {
            match timeout_at(overview_at, &mut asked).await {
                Ok(Ok(Reply::Events(events))) => {
                    if let (Some(first), Some(last)) = (events.events.first(), events.events.last()) {
                        let (first, last, text) = (first.number, last.number, frames(&events));
                        drop(self.news.send(News::Events { first, last, text }));
                        sleep(GATHER).await;
                    }
                    after = events.last;
                    asked = self.ask(after);
                }
                // The state has said farewell.
                Ok(Ok(_) | Err(_)) => return,
                Err(_) => {
                    overview_at += OVERVIEW_EVERY;
                    drop(self.news.send(News::Overview(overview(app))));
                }
            }
            let mut runs = lock(&self.runs);
            if self.news.receiver_count() == 0 {
                *runs = false;
                return;
            }
        }
    }

    /// Asks what happened after number `after`. Answered when something has.
    fn ask(&self, after: u64) -> oneshot::Receiver<Reply> {
        let (reply_to, answer) = oneshot::channel();
        self.core.enter(|state, now| {
            state.events(now, EventQuery { after, wait_ms: ASK_WAIT_MS }, ReplyTo::Awaited(reply_to));
        });
        answer
    }
}

/// What `GET /api/events` may be asked.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// Begin with so many events of before.
    #[serde(default)]
    recent: u64,
    /// Send overviews, too.
    #[serde(default)]
    overview: bool,
}

/// `GET /api/events`
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Query(asked) = asked.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let seat = Arc::clone(&app.pump.readers).try_acquire_owned().map_err(|_| {
        let why = format!("{READERS_MAX} readers follow the events already: try again later");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)
    })?;
    let news = app.pump.join(&app);
    let newest = app.core.enter(|state, _| state.event_log().last());
    // A number that was never given is one of another control plane: its reader begins anew.
    let last_seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let last_seen = last_seen.filter(|number| *number <= newest);
    let reader = Reader {
        cursor: last_seen.unwrap_or(newest.saturating_sub(asked.recent.min(RECENT_MAX))),
        behind: true,
        wants_overview: asked.overview,
        opening: Some(opening(asked.overview.then(|| overview(&app)))),
        news,
        core: Arc::clone(&app.core),
        _seat: seat,
    };
    let body = futures::stream::unfold(reader, |mut reader| async move {
        let next = AssertUnwindSafe(reader.next()).catch_unwind().await;
        let text = next.map_err(|panic| panics::caught(Place::Http, "GET /api/events", &*panic)).ok()??;
        Some((Ok::<_, Infallible>(text), reader))
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body)).into_response())
}

/// One who follows the events.
struct Reader {
    /// The number of the last event that was sent.
    cursor: u64,
    /// Whether the feed has events after that, for all that is known.
    behind: bool,
    wants_overview: bool,
    opening: Option<Bytes>,
    news: broadcast::Receiver<News>,
    core: Arc<Core>,
    _seat: OwnedSemaphorePermit,
}

impl Reader {
    /// What to send next; none when there is nothing more to come.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        let silent_until = Instant::now() + HEARTBEAT;
        loop {
            if self.behind {
                let events = self.core.enter(|state, _| state.event_log().after(self.cursor));
                self.cursor = events.last;
                self.behind = !events.events.is_empty();
                if self.behind || events.missed > 0 {
                    return Some(frames(&events));
                }
            }
            match timeout_at(silent_until, self.news.recv()).await {
                Ok(Ok(News::Overview(text))) if self.wants_overview => return Some(text),
                Ok(Ok(News::Overview(_))) => {}
                Ok(Ok(News::Events { last, .. })) if last <= self.cursor => {}
                Ok(Ok(News::Events { first, last, text })) if first == self.cursor + 1 => {
                    self.cursor = last;
                    return Some(text);
                }
                Ok(Ok(News::Events { .. }) | Err(broadcast::error::RecvError::Lagged(_))) => self.behind = true,
                Ok(Err(broadcast::error::RecvError::Closed)) => return None,
                Err(_) => return Some(Bytes::from_static(b": heartbeat\n\n")),
            }
        }
    }
}

/// What a stream begins with: how soon to come back when it breaks off, and how things stand.
fn opening(overview: Option<Bytes>) -> Bytes {
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
        let data = visible::json(&data);
        let _ = write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", event.number, event.kind);
    }
    text.into()
}

fn overview(app: &App) -> Bytes {
    let data = serde_json::to_string(&Overview::of(app)).unwrap_or_default();
    let data = visible::json(&data);
    format!("event: overview\ndata: {data}\n\n").into()
}
