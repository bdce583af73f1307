//! Outgoing HTTP requests (`wasi:http/outgoing-handler`): checked, then sent on a connection of their own.
//!
//! Redirects are never followed: a guest that follows one makes another request, which is checked like any.

use std::{
    error::Error as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1,
};
use tokio::time::{Sleep, sleep, timeout};
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks, io::TokioIo, p2::bindings::http::types::ErrorCode,
};

use super::{
    connect::connect,
    destination::Destination,
    network::{AddressError, Network, NetworkTimeouts, OpenConnection},
    refusal::{Excess, Refusal},
};

/// Maximum bytes of the headers of a response.
const HEADERS_SIZE_MAX: usize = 128 << 10;
/// Maximum headers of a response.
const HEADERS_MAX: usize = 256;

/// Maximum bytes of the headers that a guest makes for a request, as they are in memory. A guest can have as many of
/// them as handles, also without any grant.
const FIELDS_SIZE_MAX: usize = 64 << 10;
/// Maximum bytes of one write to the body of a request. Two are buffered, also before the request is sent.
const WRITE_MAX: usize = 64 << 10;

/// The state of `wasi:http` in an attempt.
pub(in crate::runtime) struct HttpState {
    pub(in crate::runtime) context: WasiHttpCtx,
    pub(in crate::runtime) hooks: HttpHooks,
}

impl HttpState {
    pub(in crate::runtime) fn new(network: Arc<Network>) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(FIELDS_SIZE_MAX);
        Self { context, hooks: HttpHooks { network } }
    }
}

/// Sends the requests of an attempt.
pub(in crate::runtime) struct HttpHooks {
    network: Arc<Network>,
}

/// The rest of a connection's work, once there is a response.
type Rest = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(Response<WasiBody>, Rest), Error>;

impl WasiHttpHooks for HttpHooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Rest,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let network = Arc::clone(&self.network);
        let to = match check(&network, &request) {
            Ok(to) => to,
            Err(refusal) => {
                network.report_refusal(&refusal);
                return Box::new(std::future::ready(Err(Error::HttpRequestDenied)));
            }
        };
        // Opened here and not in the future, so that the guest's earlier requests get a connection first.
        match network.open_connection() {
            Ok(connection) => Box::new(send(network, connection, to, request, options.unwrap_or_default())),
            Err(_) => Box::new(std::future::ready(Err(Error::ConnectionLimitReached))),
        }
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        WRITE_MAX
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::get_ref);
        match cause.and_then(|cause| cause.downcast_ref::<Excess>()) {
            Some(Excess::Received(_)) => ErrorCode::HttpResponseBodySize(None),
            Some(Excess::Sent(_)) => ErrorCode::HttpRequestBodySize(None),
            Some(Excess::Connections(_)) => ErrorCode::ConnectionLimitReached,
            None if error.is_parse_too_large() => ErrorCode::HttpResponseHeaderSectionSize(None),
            None if error.is_incomplete_message() => ErrorCode::HttpResponseIncomplete,
            None => ErrorCode::HttpProtocolError,
        }
    }

    fn p2_error_from_connect(&mut self, error: &io::Error) -> ErrorCode {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
            io::ErrorKind::TimedOut => ErrorCode::ConnectionTimeout,
            _ => ErrorCode::DestinationUnavailable,
        }
    }

    fn p2_error_from_tls(&mut self, error: &io::Error) -> ErrorCode {
        use tokio_rustls::rustls;
        match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_)) => ErrorCode::TlsCertificateError,
            _ => ErrorCode::TlsProtocolError,
        }
    }
}

fn check(network: &Network, request: &Request<WasiBody>) -> Result<Destination, Refusal> {
    let to = Destination::of(request.uri()).ok_or_else(Refusal::url)?;
    network.check_request(request.method().as_str(), &to)?;
    Ok(to)
}

/// Sends a request that is granted.
async fn send(
    network: Arc<Network>,
    connection: OpenConnection,
    to: Destination,
    mut request: Request<WasiBody>,
    options: RequestOptions,
) -> Sent {
    let Timeouts { connect: connect_timeout, response: response_timeout, pause } =
        Timeouts::new(&network.timeouts, options);
    let method = request.method().clone();
    let connected = timeout(connect_timeout, async {
        let addresses = network.http_addresses(method.as_str(), &to).await;
        let addresses = addresses.map_err(|error| address_error(&network, error))?;
        connect(&to, &addresses, connection, connect_timeout).await
    });
    let stream = connected.await.map_err(|_| Error::ConnectionTimeout)??;
    let mut client = http1::Builder::new();
    client.max_buf_size(HEADERS_SIZE_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await?;
    let connection = spawn(connection);
    address_to(&mut request, &to)?;
    let response = timeout(response_timeout, sender.send_request(request)).await;
    let response = response.map_err(|_| Error::HttpResponseTimeout)??;
    let rest = async move {
        // An error of the connection is that of the body, too.
        let _ = connection.await;
        Ok(())
    };
    let body = |body| ResponseBody { body, pause, deadline: None };
    Ok((response.map(|incoming| body(incoming).boxed_unsync()), Box::new(rest)))
}

fn address_error(network: &Network, error: AddressError) -> Error {
    match error {
        AddressError::NoHost => Error::HttpRequestUriInvalid,
        AddressError::NotFound => {
            Error::DnsError { rcode: Some("the name has no address".to_owned()), info_code: None }
        }
        AddressError::Refused(refusal) => {
            network.report_refusal(&refusal);
            Error::DestinationIpProhibited
        }
    }
}

/// Writes the destination as it was checked into the request: the host in its header, the path in its first line.
fn address_to(request: &mut Request<WasiBody>, to: &Destination) -> Result<(), Error> {
    let host = HeaderValue::try_from(to.authority()).map_err(|_| Error::HttpRequestUriInvalid)?;
    request.headers_mut().insert(header::HOST, host);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = Uri::builder().path_and_query(path).build().map_err(|_| Error::HttpRequestUriInvalid)?;
    *request.uri_mut() = path;
    Ok(())
}

/// The guest's timeouts, at most ours.
struct Timeouts {
    connect: Duration,
    response: Duration,
    pause: Duration,
}

impl Timeouts {
    fn new(ours: &NetworkTimeouts, options: RequestOptions) -> Self {
        let shorter = |asked: Option<Duration>, max: Duration| asked.map_or(max, |asked| asked.min(max));
        Self {
            connect: shorter(options.connect_timeout, ours.connect_timeout),
            response: shorter(options.first_byte_timeout, ours.response_timeout),
            pause: shorter(options.between_bytes_timeout, ours.pause_timeout),
        }
    }
}

/// The body of a response, which fails when the server pauses for too long.
struct ResponseBody {
    body: Incoming,
    pause: Duration,
    /// While the guest waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.deadline = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let pause = self.pause;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(pause)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
