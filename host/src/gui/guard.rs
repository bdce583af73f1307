//! Who may ask.
//!
//! Whoever has the key, where there is one. Without a key the server is for this machine alone, or
//! for a network where everybody is trusted; but the browser of a trusted person runs the pages of
//! strangers, and these must not be able to ask either. So the name that was dialled must be one
//! that no stranger can point here (DNS rebinding), and what changes something must come from our
//! own page (CSRF).

use std::{net::IpAddr, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use futures::FutureExt as _;

use super::{ApiKey, App, Refusal, is_loopback};
use crate::panics::{self, Place};

/// Who may ask.
#[derive(Debug)]
pub(super) struct Guard {
    /// The host that it listens on, as it was given.
    host: String,
    key: Option<ApiKey>,
    /// Whether whoever can reach it may know what it tells.
    is_private: bool,
}

impl Guard {
    pub(super) fn new(host: String, key: Option<ApiKey>, insecure: bool) -> Self {
        let is_private = insecure || is_loopback(&host);
        Self { host, key, is_private }
    }

    /// Whether the request shows the key, if one is needed.
    fn knows_key(&self, headers: &HeaderMap) -> bool {
        let Some(ApiKey(key)) = &self.key else { return true };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| {
            let (scheme, shown) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| shown.trim())
        });
        shown.is_some_and(|shown| is_same(shown.as_bytes(), key.as_bytes()))
    }

    /// Why a request may be the work of a stranger's page, if it may.
    fn strange(&self, method: &Method, headers: &HeaderMap) -> Option<Refusal> {
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
        let host = text(header::HOST).unwrap_or_default();
        if self.key.is_none() && !self.is_ours(host) {
            let why =
                "without an API key this is only served under an IP address, localhost and the configured host name";
            return Some(Refusal::new(StatusCode::MISDIRECTED_REQUEST, why));
        }
        let is_safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        let is_own = |origin: &str| origin.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(host));
        let own = is_safe || text(header::ORIGIN).is_none_or(is_own);
        (!own).then(|| Refusal::new(StatusCode::FORBIDDEN, "another page than this server's own sent this"))
    }

    /// Whether no stranger could have made a browser dial this name.
    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || name.eq_ignore_ascii_case(&self.host)
    }
}

/// Compares in a time that does not tell where they differ.
fn is_same(shown: &[u8], key: &[u8]) -> bool {
    let differences = shown.iter().zip(key).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differences) == 0 && shown.len() == key.len()
}

/// Lets through who shows the key.
pub(super) async fn key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.guard.knows_key(request.headers()) {
        return next.run(request).await;
    }
    let refusal =
        Refusal::new(StatusCode::UNAUTHORIZED, "this needs the API key: send it as 'Authorization: Bearer KEY'");
    ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
}

/// Lets through to the metrics of the health address who shows the key, where there is one; without
/// one only who is on this machine, or trusted as a whole: they name tasks and workers.
pub(super) async fn metrics(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.guard.key.is_none() && !app.guard.is_private {
        let why = "the health address can be reached from other machines, and metrics name tasks and workers: set an \
                   API key, listen on 127.0.0.1, or allow it with --insecure";
        return Refusal::new(StatusCode::FORBIDDEN, why).into_response();
    }
    key(State(app), request, next).await
}

/// Answers for code of ours that panics, so that nothing but this request has failed.
pub(super) async fn unharmed(request: Request, next: Next) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            panics::caught(Place::Http, &what, &*panic);
            let why = "fastworker failed to answer this, which is a bug: its log says more; other requests go on";
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
        }
    }
}

/// Lets through what no page of a stranger can have sent.
pub(super) async fn origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.guard.strange(request.method(), request.headers()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

/// Tells browsers to be careful with what they get.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    const ALWAYS: [(header::HeaderName, &str); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut response = next.run(request).await;
    for (name, value) in ALWAYS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware, routing::get};
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    #[test]
    fn a_key_is_compared_whole() {
        for (shown, same) in [("secret", true), ("secre", false), ("secrets", false), ("", false), ("Secret", false)] {
            assert_eq!(is_same(shown.as_bytes(), b"secret"), same, "{shown}");
        }
    }

    #[test]
    fn names_that_a_stranger_can_point_here_are_refused() {
        let guard = Guard::new("queue.internal".into(), None, false);
        for ours in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "10.0.0.5", "queue.internal:80"] {
            assert!(guard.is_ours(ours), "{ours}");
        }
        for other in ["", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:80"] {
            assert!(!guard.is_ours(other), "{other}");
        }
    }

    #[tokio::test]
    async fn a_panic_ends_its_request_with_a_sentence_and_is_counted() {
        async fn fails() -> &'static str {
            panic!("a document that nobody thought of")
        }
        let app = Router::new().route("/fails", get(fails)).route("/works", get(|| async { "works" }));
        let app = TowerToHyperService::new(app.layer(middleware::from_fn(unharmed)));
        let before = panics::count(Place::Http);
        for (path, status) in [("/fails", 500), ("/works", 200), ("/fails", 500)] {
            let request = Request::builder().uri(path).body(Body::empty()).expect("a request");
            let answer = app.call(request).await.expect("an answer");
            assert_eq!(answer.status(), status);
            let body = axum::body::to_bytes(answer.into_body(), 1_000).await.expect("a body");
            let body = String::from_utf8_lossy(&body).into_owned();
            assert!(body == "works" || body.starts_with("{\"error\":\"fastworker failed"), "{body}");
        }
        assert_eq!(panics::count(Place::Http) - before, 2);
    }
}
