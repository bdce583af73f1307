//! Access control of the web server, and its handling of panics.
//!
//! With an API key, every request must carry it. Without a key, the server is reachable only from this
//! machine or from a trusted network. A browser there also runs pages of other sites, which must not get
//! access: the host name of a request must be one that no other site can point at this server (DNS
//! rebinding), and requests that change something must come from the server's own page (CSRF).

use std::{net::IpAddr, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use futures::FutureExt as _;

use super::{ApiKey, App, HttpError, is_loopback};
use crate::panics::{self, PanicSource};

/// The access rules of one server.
#[derive(Debug)]
pub(super) struct Guard {
    /// The host that the server listens on, as configured.
    host: String,
    key: Option<ApiKey>,
    /// Whether everyone who can reach the server is trusted.
    is_trusted_network: bool,
}

impl Guard {
    pub(super) fn new(host: String, key: Option<ApiKey>, insecure: bool) -> Self {
        let is_trusted_network = insecure || is_loopback(&host);
        Self { host, key, is_trusted_network }
    }

    /// Whether the request carries the key, if one is required.
    fn has_key(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.key else { return true };
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = value.and_then(|value| {
            let (scheme, given) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
        });
        given.is_some_and(|given| constant_time_eq(given.as_bytes(), key.as_str().as_bytes()))
    }

    /// The refusal of a request that may come from the page of another site.
    fn cross_origin_refusal(&self, method: &Method, headers: &HeaderMap) -> Option<HttpError> {
        let header_value = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
        let host = header_value(header::HOST).unwrap_or_default();
        if self.key.is_none() && !self.is_trusted_host(host) {
            let message =
                "without an API key, only requests to an IP address, localhost or the configured host name are served";
            return Some(HttpError::new(StatusCode::MISDIRECTED_REQUEST, message));
        }
        let is_safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        let is_own =
            |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        let is_allowed = is_safe || header_value(header::ORIGIN).is_none_or(is_own);
        (!is_allowed).then(|| HttpError::new(StatusCode::FORBIDDEN, "cross-origin request refused"))
    }

    /// Whether no other site can make a browser reach this server under this name.
    fn is_trusted_host(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || name.eq_ignore_ascii_case(&self.host)
    }
}

/// Compares in constant time, so that the time does not reveal the position of a difference.
fn constant_time_eq(given: &[u8], key: &[u8]) -> bool {
    let differences = given.iter().zip(key).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differences) == 0 && given.len() == key.len()
}

/// Requires the API key, if there is one.
pub(super) async fn require_key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.guard.has_key(request.headers()) {
        return next.run(request).await;
    }
    let refusal = HttpError::new(StatusCode::UNAUTHORIZED, "API key required: send it as 'Authorization: Bearer KEY'");
    ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
}

/// Protects the metrics of the health address, since they contain the names of tasks and workers: requires the
/// API key if there is one, else that everyone who can reach the address is trusted.
pub(super) async fn require_metrics_access(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.guard.key.is_none() && !app.guard.is_trusted_network {
        let message = "the health address can be reached from other machines, and metrics name tasks and workers: set an \
                   API key, listen on 127.0.0.1, or allow insecure access";
        return HttpError::new(StatusCode::FORBIDDEN, message).into_response();
    }
    require_key(State(app), request, next).await
}

/// Responds with an error when a handler panics, so that only this request fails.
pub(super) async fn catch_panics(request: Request, next: Next) -> Response {
    let name = format!("{} {}", request.method(), request.uri().path());
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            panics::caught(PanicSource::Http, &name, &*panic);
            let message = "fastworker failed to handle this request, which is a bug: see its log; other requests are not affected";
            HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
        }
    }
}

/// Refuses requests that may come from the page of another site.
pub(super) async fn reject_cross_origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.guard.cross_origin_refusal(request.method(), request.headers()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

/// Adds the security headers for browsers.
pub(super) async fn security_headers(request: Request, next: Next) -> Response {
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
    fn the_entire_key_is_compared() {
        for (given, is_equal) in
            [("secret", true), ("secre", false), ("secrets", false), ("", false), ("Secret", false)]
        {
            assert_eq!(constant_time_eq(given.as_bytes(), b"secret"), is_equal, "{given}");
        }
    }

    #[test]
    fn host_names_that_another_site_can_control_are_refused() {
        let guard = Guard::new("queue.internal".into(), None, false);
        for ours in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "10.0.0.5", "queue.internal:80"] {
            assert!(guard.is_trusted_host(ours), "{ours}");
        }
        for other in ["", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:80"] {
            assert!(!guard.is_trusted_host(other), "{other}");
        }
    }

    #[tokio::test]
    async fn a_panic_fails_only_its_request_and_is_counted() {
        async fn fails() -> &'static str {
            panic!("an unexpected document")
        }
        let app = Router::new().route("/fails", get(fails)).route("/works", get(|| async { "works" }));
        let app = TowerToHyperService::new(app.layer(middleware::from_fn(catch_panics)));
        let before = panics::count(PanicSource::Http);
        for (path, status) in [("/fails", 500), ("/works", 200), ("/fails", 500)] {
            let request = Request::builder().uri(path).body(Body::empty()).expect("a request");
            let response = app.call(request).await.expect("a response");
            assert_eq!(response.status(), status);
            let body = axum::body::to_bytes(response.into_body(), 1_000).await.expect("a body");
            let body = String::from_utf8_lossy(&body).into_owned();
            assert!(body == "works" || body.starts_with("{\"error\":\"fastworker failed"), "{body}");
        }
        assert_eq!(panics::count(PanicSource::Http) - before, 2);
    }
}
