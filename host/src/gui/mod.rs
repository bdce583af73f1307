//! The web server over the state's read side: one page, the endpoints of the Python original, and
//! what watches over servers (metrics, health).
//!
//! It hangs off the line of a task and can be skipped: it looks into the state for a few
//! microseconds at a time and changes it only by the same methods as everybody else. Only this
//! folder names the web framework. Everything runs on one thread, [`THREAD`], that does not exist
//! when the server is off; the health address has another, [`HEALTH_THREAD`], so that nothing that
//! happens to the one can be felt by the other.
//!
//! [`server`] accepts connections, [`crowd`] decides who may stay when there are too many, [`guard`]
//! who may ask, [`api`] answers as the original does, [`views`] shows what the page needs beyond
//! that, [`answer`] writes, [`events`] streams, [`metrics`] and [`health`] are for machines, [`page`]
//! is for people. Invariants: nothing here waits for a reader; every answer has a bound; a panic ends
//! one request; a document of a task or client is never read into a value.

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
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

use self::answer::{Answer, object};
use crate::{config::Address, control_plane::core::Core};

mod answer;
mod api;
mod crowd;
mod events;
mod guard;
mod health;
mod metrics;
mod page;
mod server;
mod views;

/// The port where nobody asked for another.
pub const PORT: u16 = 8080;
/// The host where nobody asked for another.
pub const HOST: &str = "127.0.0.1";
/// The name of the thread that serves.
const THREAD: &str = "fw-gui";
/// The name of the thread that serves the health address.
const HEALTH_THREAD: &str = "fw-health";
/// The longest API key.
const KEY_MAX: usize = 512;

/// Where the web server listens, and who may ask it.
#[derive(Clone, Debug)]
pub struct GuiConfig {
    /// A host name or an IP address.
    pub host: String,
    /// The port; 0 for any that is free. None is [`PORT`], and no server at all where that is taken.
    pub port: Option<u16>,
    /// What everybody must show who asks.
    pub api_key: Option<ApiKey>,
}

impl Default for GuiConfig {
    fn default() -> Self {
        Self { host: HOST.into(), port: None, api_key: None }
    }
}

/// Where only the health checks and the metrics are served, apart from the web interface, so that no
/// crowd there can take them.
#[derive(Clone, Debug)]
pub struct HealthConfig {
    /// Where.
    pub address: HealthAddress,
    /// What must be shown for the metrics. The checks are for everybody.
    pub api_key: Option<ApiKey>,
}

/// A host and a port to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthAddress {
    /// A host name or an IP address.
    host: String,
    /// The port; 0 for any that is free.
    port: u16,
}

/// A text that is no address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a host and a port, such as 127.0.0.1:8081 or 0.0.0.0:8081")]
pub struct NotAHealthAddress;

impl std::str::FromStr for HealthAddress {
    type Err = NotAHealthAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(NotAHealthAddress)?;
        let port = port.parse().map_err(|_| NotAHealthAddress)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let bare = bare.filter(|host| host.parse::<Ipv6Addr>().is_ok());
        let host = bare.unwrap_or(host);
        let is_host = !host.is_empty() && (bare.is_some() || !host.contains([':', '/', '[', ']', ' ']));
        if is_host { Ok(Self { host: host.to_owned(), port }) } else { Err(NotAHealthAddress) }
    }
}

impl fmt::Display for HealthAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl HealthAddress {
    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A secret that whoever asks must show. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// A text that cannot be an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an API key is 1 to {KEY_MAX} visible ASCII characters, without spaces")]
pub struct NotAKey;

impl std::str::FromStr for ApiKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = !text.is_empty() && text.len() <= KEY_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(NotAKey) }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// A web server that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum GuiError {
    /// The address cannot be listened on.
    #[error("the web interface cannot listen on {host}:{port}: {why}")]
    Listen {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Why not.
        why: io::Error,
    },
    /// The health address cannot be listened on.
    #[error("the health address {address} cannot be listened on: {why}")]
    Health {
        /// The address.
        address: HealthAddress,
        /// Why not.
        why: io::Error,
    },
    /// Others could reach it without a key.
    #[error(
        "the web interface on {0} can be reached from other machines, and whoever reaches it can read results and \
         stop tasks"
    )]
    Exposed(String),
}

/// A web server that listens and does not answer yet.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    host: String,
    api_key: Option<ApiKey>,
    insecure: bool,
}

impl Bound {
    /// Listens. None where nobody asked for a certain port and the usual one is taken.
    ///
    /// # Errors
    /// [`GuiError`] says why not.
    pub(crate) fn listen(config: &GuiConfig, insecure: bool) -> Result<Option<Self>, GuiError> {
        let host = config.host.trim_start_matches('[').trim_end_matches(']');
        if !is_loopback(host) && config.api_key.is_none() && !insecure {
            return Err(GuiError::Exposed(host.to_owned()));
        }
        let port = config.port.unwrap_or(PORT);
        match Self::on(host, port, config.api_key.clone(), insecure) {
            Ok(bound) => Ok(Some(bound)),
            Err(why) if config.port.is_none() && why.kind() == io::ErrorKind::AddrInUse => {
                warn!(host, port, "the port of the web interface is in use: starting without it");
                Ok(None)
            }
            Err(why) => Err(GuiError::Listen { host: host.to_owned(), port, why }),
        }
    }

    /// Listens for health checks and metrics only.
    ///
    /// # Errors
    /// [`GuiError`] says why not.
    pub(crate) fn for_health(config: &HealthConfig, insecure: bool) -> Result<Self, GuiError> {
        let HealthConfig { address, api_key } = config;
        let bound = Self::on(&address.host, address.port, api_key.clone(), insecure);
        bound.map_err(|why| GuiError::Health { address: address.clone(), why })
    }

    fn on(host: &str, port: u16, api_key: Option<ApiKey>, insecure: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((host, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, host: host.to_owned(), api_key, insecure })
    }

    /// Begins to answer with the web interface.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub(crate) fn serve(self, core: Arc<Core>, identity: Identity) -> io::Result<Gui> {
        self.start(core, identity, THREAD, server::WEB, router)
    }

    /// Begins to answer to health checks only.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub(crate) fn serve_health(self, core: Arc<Core>, identity: Identity) -> io::Result<Gui> {
        self.start(core, identity, HEALTH_THREAD, server::HEALTH, health_router)
    }

    fn start(
        self,
        core: Arc<Core>,
        identity: Identity,
        name: &str,
        bounds: server::Bounds,
        router: fn(Arc<App>) -> Router,
    ) -> io::Result<Gui> {
        let url = format!("http://{}", self.address);
        let app = Arc::new(App {
            guard: guard::Guard::new(self.host, self.api_key, self.insecure),
            pump: events::Pump::new(Arc::clone(&core)),
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
            runtime.block_on(server::serve(listener, router(app), bounds, stopped));
            // Whatever is still open is cut with the runtime.
        })?;
        Ok(Gui { url, stop: Some(stop), thread: Some(thread) })
    }
}

/// A web server that answers. Dropped, it stops.
#[derive(Debug)]
pub(crate) struct Gui {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Gui {
    /// Where it is.
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

/// Who the control plane is, as it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) worker_id: String,
    pub(crate) base_address: Address,
    pub(crate) discovery_address: Address,
}

/// What every answer is made of.
#[derive(Debug)]
struct App {
    core: Arc<Core>,
    identity: Identity,
    started: Instant,
    guard: guard::Guard,
    pump: Arc<events::Pump>,
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
    let ours = Router::new()
        .route("/api/overview", get(views::overview))
        .route("/api/modules", get(views::modules))
        .route("/api/tasks/{id}", get(views::task))
        .route("/metrics", get(metrics::metrics));
    let guarded = original.merge(ours).layer(middleware::from_fn_with_state(Arc::clone(&app), guard::key));
    let guarded = page::routes(guarded).layer(middleware::from_fn_with_state(Arc::clone(&app), guard::origin));
    finished(guarded.merge(checks()), app)
}

fn health_router(app: Arc<App>) -> Router {
    let metrics = Router::new()
        .route("/metrics", get(metrics::metrics))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::metrics))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::origin));
    finished(metrics.merge(checks()), app)
}

/// The health checks. Under any name and without a key: they tell nothing that a stranger could use,
/// and those who ask know an address only.
fn checks() -> Router<Arc<App>> {
    Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready))
}

/// What all answers have in common.
fn finished(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    routes
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this can be asked with another method only")
        })
        .layer(middleware::from_fn(guard::unharmed))
        .layer(middleware::from_fn(guard::headers))
        .layer(middleware::from_fn(crowd::serve))
        .with_state(app)
}

/// Why a request was not answered as it wished.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }

    fn unknown_task(id: &impl fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("task {id} is not known, or its result is no longer kept"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Answer(object! { "error": self.error })).into_response()
    }
}

/// Whether only this machine can reach it.
fn is_loopback(host: &str) -> bool {
    host.parse().map_or(host.eq_ignore_ascii_case("localhost"), |ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_checked_and_never_printed() {
        assert!("".parse::<ApiKey>().is_err() && "with space".parse::<ApiKey>().is_err());
        assert!("x".repeat(KEY_MAX + 1).parse::<ApiKey>().is_err());
        let config = GuiConfig { api_key: "secret".parse().ok(), ..GuiConfig::default() };
        assert!(config.api_key.is_some() && !format!("{config:?}").contains("secret"));
    }

    #[test]
    fn a_health_address_is_a_host_and_a_port() {
        for (text, host, port) in
            [("127.0.0.1:8081", "127.0.0.1", 8081), ("[::]:0", "::", 0), ("localhost:80", "localhost", 80)]
        {
            let address: HealthAddress = text.parse().expect("an address");
            assert_eq!((address.host(), address.port(), address.to_string().as_str()), (host, port, text));
        }
        for wrong in ["", "8081", ":8081", "::1:8081", "host:port", "tcp://10.0.0.1:80", "[host]:1", "a b:1", "x:65536"]
        {
            assert!(wrong.parse::<HealthAddress>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn off_loopback_takes_a_key_or_a_word() {
        let open = GuiConfig { host: "0.0.0.0".into(), port: Some(0), api_key: None };
        assert!(matches!(Bound::listen(&open, false), Err(GuiError::Exposed(_))));
        assert!(Bound::listen(&open, true).expect("a free port").is_some());
        let keyed = GuiConfig { api_key: "secret".parse().ok(), ..open };
        assert!(Bound::listen(&keyed, false).expect("a free port").is_some());
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "localhost"] {
            assert!(is_loopback(loopback));
        }
    }

    #[test]
    fn a_taken_port_is_an_error_only_for_who_asked_for_it() {
        let first = Bound::listen(&GuiConfig { port: Some(0), ..GuiConfig::default() }, false);
        let first = first.expect("a free port").expect("it listens");
        let asked = GuiConfig { port: Some(first.address.port()), ..GuiConfig::default() };
        assert!(matches!(Bound::listen(&asked, false), Err(GuiError::Listen { .. })));
    }
}
