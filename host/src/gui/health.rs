//! Health checks: whether the process works, and whether it accepts tasks.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::StatusCode, response::IntoResponse};
use tokio::time::{Instant, sleep};

use super::{
    App,
    response::{JsonResponse, object},
};

/// Timeout for entering the state. It is held for microseconds only, so a longer wait means that it is stuck.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval between attempts to enter the state.
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(5);

/// `GET /healthz`: whether the process works, which means that its state can be entered.
pub(super) async fn alive(State(app): State<Arc<App>>) -> impl IntoResponse {
    match check_state(&app).await {
        Some(_) => (StatusCode::OK, JsonResponse(object! { "healthy": true })),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, JsonResponse(object! { "healthy": false, "why": "the state is stuck" }))
        }
    }
}

/// `GET /readyz`: whether the control plane accepts tasks. Does not depend on workers: subworkers connect through
/// the same load balancer, which forwards nothing before the check succeeds.
pub(super) async fn ready(State(app): State<Arc<App>>) -> impl IntoResponse {
    let (status, body) = match check_state(&app).await {
        Some((false, workers)) => (StatusCode::OK, object! { "ready": true, "workers": workers }),
        Some((true, workers)) => {
            let reason = "draining: accepted tasks are finished, new tasks are refused";
            (StatusCode::SERVICE_UNAVAILABLE, object! { "ready": false, "why": reason, "workers": workers })
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, object! { "ready": false, "why": "the state is stuck" }),
    };
    (status, JsonResponse(body))
}

/// Whether the control plane is draining, and the number of workers; none if the state cannot be entered.
async fn check_state(app: &App) -> Option<(bool, usize)> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let entered = app.core.try_enter(|state, _| (state.is_draining(), state.registry().iter().count()));
        if entered.is_some() || Instant::now() > deadline {
            return entered;
        }
        // Blocking on the lock would block the other requests of this thread.
        sleep(LOCK_RETRY_DELAY).await;
    }
}
