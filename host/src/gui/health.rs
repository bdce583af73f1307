//! For whoever watches over the process: does it live, and does it take work?

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::StatusCode, response::IntoResponse};
use tokio::time::{Instant, sleep};

use super::{
    App,
    answer::{Answer, object},
};

/// The state is held for microseconds; if it is not free for so long, something is wrong.
const FREE_WITHIN: Duration = Duration::from_secs(2);
/// How often to look whether it is free.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Whether the process works: its state can be entered.
pub(super) async fn alive(State(app): State<Arc<App>>) -> impl IntoResponse {
    match workers(&app).await {
        Some(_) => (StatusCode::OK, Answer(object! { "healthy": true })),
        None => (StatusCode::SERVICE_UNAVAILABLE, Answer(object! { "healthy": false, "why": "the state is stuck" })),
    }
}

/// Whether it takes tasks. Not whether a worker is there: subworkers come through the same
/// addresses, which a balancer would keep shut until one has come.
pub(super) async fn ready(State(app): State<Arc<App>>) -> impl IntoResponse {
    let (status, answer) = match workers(&app).await {
        Some((false, workers)) => (StatusCode::OK, object! { "ready": true, "workers": workers }),
        Some((true, workers)) => {
            let why = "draining: what was accepted is finished, and no more is taken";
            (StatusCode::SERVICE_UNAVAILABLE, object! { "ready": false, "why": why, "workers": workers })
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, object! { "ready": false, "why": "the state is stuck" }),
    };
    (status, Answer(answer))
}

/// Whether it drains, and how many workers there are; none if the state cannot be entered.
async fn workers(app: &App) -> Option<(bool, usize)> {
    let until = Instant::now() + FREE_WITHIN;
    loop {
        let looked = app.core.try_enter(|state, _| (state.is_draining(), state.registry().iter().count()));
        if looked.is_some() || Instant::now() > until {
            return looked;
        }
        // Not a plain wait for the lock: this thread serves others, too.
        sleep(LOOK_AGAIN).await;
    }
}
