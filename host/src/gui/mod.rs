//! The web server: one page, the endpoints of the Python original, metrics and health checks.
//!
//! It is not on the path of a task. It locks the state for a few microseconds per request, and changes it only
//! through the same methods as clients do. Only this module uses the web framework. The web interface runs on one
//! thread, [`THREAD`], and the health address on another, [`HEALTH_THREAD`], so that load on one does not
//! affect the other.
//!
//! Invariants: nothing here waits for a slow reader; every response has a size limit; a panic fails one request
//! only; documents of tasks and clients are never parsed into values.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use axum::{
    Router,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::sync::oneshot;
use tracing::warn;

use self::response::{JsonResponse, object};
use crate::{config::Address, control_plane::core::Core};

mod config;

// Connections and access.
mod connection_limits;
mod guard;
mod server;

// Responses.
mod api;
mod events;
mod health;
mod metrics;
mod page;
mod response;
mod views;

pub use config::{ApiKey, GuiConfig, GuiError, HOST, HealthAddress, HealthConfig, NotAHealthAddress, NotAKey, PORT};

/// Name of the thread of the web interface.
const THREAD: &str = "fw-gui";
/// Name of the thread of the health address.
const HEALTH_THREAD: &str = "fw-health";

/// A web server that listens, but does not serve requests yet.
#[derive(Debug)]
pub(crate) struct BoundServer {
    listener: TcpListener,
    address: SocketAddr,
    host: String,
    api_key: Option<ApiKey>,
    insecure: bool,
}

impl BoundServer {
    /// Listens for the web interface. Returns none if no port is configured and the default port is in use.
    ///
    /// # Errors
    /// [`GuiError`] with the reason.
    pub(crate) fn for_web(config: &GuiConfig, insecure: bool) -> Result<Option<Self>, GuiError> {
        let host = config.host.trim_start_matches('[').trim_end_matches(']');
        if !is_loopback(host) && config.api_key.is_none() && !insecure {
            return Err(GuiError::Exposed(host.to_owned()));
        }
        let port = config.port.unwrap_or(PORT);
        match Self::bind(host, port, config.api_key.clone(), insecure) {
            Ok(bound) => Ok(Some(bound)),
            Err(error) if config.port.is_none() && error.kind() == io::ErrorKind::AddrInUse => {
                warn!(
                    host,
                    port, "the default port of the web interface is in use: starting without it; set another port"
                );
                Ok(None)
            }
            Err(error) => Err(GuiError::Listen { host: host.to_owned(), port, error }),
        }
    }

    /// Listens for health checks and metrics only.
    ///
    /// # Errors
    /// [`GuiError`] with the reason.
    pub(crate) fn for_health(config: &HealthConfig, insecure: bool) -> Result<Self, GuiError> {
        let HealthConfig { address, api_key } = config;
        let bound = Self::bind(address.host(), address.port(), api_key.clone(), insecure);
        bound.map_err(|error| GuiError::Health { address: address.clone(), error })
    }

    fn bind(host: &str, port: u16, api_key: Option<ApiKey>, insecure: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((host, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, host: host.to_owned(), api_key, insecure })
    }

    /// Starts serving the web interface.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn serve(self, core: Arc<Core>, identity: Identity) -> io::Result<Gui> {
        self.start(core, identity, THREAD, server::WEB, router)
    }

    /// Starts serving health checks and metrics only.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn serve_health(self, core: Arc<Core>, identity: Identity) -> io::Result<Gui> {
        self.start(core, identity, HEALTH_THREAD, server::HEALTH, health_router)
    }

    fn start(
        self,
        core: Arc<Core>,
        identity: Identity,
        name: &str,
        limits: server::ServerLimits,
        router: fn(Arc<App>) -> Router,
    ) -> io::Result<Gui> {
        let url = format!("http://{}", self.address);
        let app = Arc::new(App {
            guard: guard::Guard::new(self.host, self.api_key, self.insecure),
            broadcaster: events::EventBroadcaster::new(Arc::clone(&core)),
            core,
            identity,
            started: Instant::now(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener)?
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            runtime.block_on(server::serve(listener, router(app), limits, stopped));
            // Open connections are closed with the runtime.
        })?;
        Ok(Gui { url, stop: Some(stop), thread: Some(thread) })
    }
}

/// A running web server. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Gui {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Gui {
    /// The URL of the server.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Gui {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The identity of the control plane in responses.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) worker_id: String,
    pub(crate) base_address: Address,
    pub(crate) discovery_address: Address,
}

/// The state that the handlers share.
#[derive(Debug)]
struct App {
    core: Arc<Core>,
    identity: Identity,
    started: Instant,
    guard: guard::Guard,
    broadcaster: Arc<events::EventBroadcaster>,
}

fn router(app: Arc<App>) -> Router {
    let original = Router::new()
        .route("/api/status", get(api::status))
        .route("/api/workers", get(api::workers))
        .route("/api/tasks", get(api::tasks))
        .route("/api/queues", get(api::queues))
        .route("/api/cache", get(api::cache))
        .route("/api/registered-tasks", get(api::registered_tasks))
        .route("/api/events", get(events::stream))
        .route("/api/tasks/{id}/cancel", post(api::cancel))
        .route("/api/tasks/{id}/retry", post(api::retry));
    let additional = Router::new()
        .route("/api/overview", get(views::overview))
        .route("/api/modules", get(views::modules))
        .route("/api/tasks/{id}", get(views::task))
        .route("/metrics", get(metrics::metrics));
    let guarded =
        original.merge(additional).layer(middleware::from_fn_with_state(Arc::clone(&app), guard::require_key));
    let guarded =
        page::routes(guarded).layer(middleware::from_fn_with_state(Arc::clone(&app), guard::reject_cross_origin));
    with_defaults(guarded.merge(health_check_routes()), app)
}

fn health_router(app: Arc<App>) -> Router {
    let metrics = Router::new()
        .route("/metrics", get(metrics::metrics))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::require_metrics_access))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::reject_cross_origin));
    with_defaults(metrics.merge(health_check_routes()), app)
}

/// The health checks. Served under any host name and without a key: they reveal nothing about tasks, and probes
/// often know an IP address only.
fn health_check_routes() -> Router<Arc<App>> {
    Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready))
}

/// Adds the fallbacks and layers that all routers have in common.
fn with_defaults(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    routes
        .fallback(|| async { HttpError::new(StatusCode::NOT_FOUND, "not found") })
        .method_not_allowed_fallback(|| async { HttpError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed") })
        .layer(middleware::from_fn(guard::catch_panics))
        .layer(middleware::from_fn(guard::security_headers))
        .layer(middleware::from_fn(connection_limits::track_request))
        .with_state(app)
}

/// A response with an error status.
#[derive(Debug)]
struct HttpError {
    status: StatusCode,
    message: String,
}

impl HttpError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn unknown_task(id: &impl fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("task {id} is not known, or its result has been removed"))
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        (self.status, JsonResponse(object! { "error": self.message })).into_response()
    }
}

/// Whether only this machine can reach the host.
fn is_loopback(host: &str) -> bool {
    host.parse().map_or(host.eq_ignore_ascii_case("localhost"), |ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_loopback_a_key_or_insecure_is_required() {
        let open = GuiConfig { host: "0.0.0.0".into(), port: Some(0), api_key: None };
        assert!(matches!(BoundServer::for_web(&open, false), Err(GuiError::Exposed(_))));
        assert!(BoundServer::for_web(&open, true).expect("a free port").is_some());
        let keyed = GuiConfig { api_key: "secret".parse().ok(), ..open };
        assert!(BoundServer::for_web(&keyed, false).expect("a free port").is_some());
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "localhost"] {
            assert!(is_loopback(loopback));
        }
    }

    #[test]
    fn a_port_in_use_is_an_error_only_if_it_was_configured() {
        let first = BoundServer::for_web(&GuiConfig { port: Some(0), ..GuiConfig::default() }, false);
        let first = first.expect("a free port").expect("it listens");
        let configured = GuiConfig { port: Some(first.address.port()), ..GuiConfig::default() };
        assert!(matches!(BoundServer::for_web(&configured, false), Err(GuiError::Listen { .. })));
    }
}
