//! Accepts connections, with limits on their number, on the time and size of requests, and on the time to write
//! responses. [`connection_limits`](super::connection_limits) decides which connection is closed when there are
//! too many.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Instant, Sleep, sleep},
};
use tracing::warn;

use super::connection_limits::{ADMISSION_GRACE, Admission, ConnectionLimits};

/// Limits of one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerLimits {
    /// Maximum number of connections.
    connections_max: usize,
    /// Timeout for receiving the head of a request, and for idle connections.
    head_timeout: Duration,
    /// Timeout for a peer that accepts no data.
    write_timeout: Duration,
    /// Whether a connection may be used for more than one request.
    keeps_alive: bool,
}

/// Limits of the web interface.
pub(super) const WEB: ServerLimits = ServerLimits {
    connections_max: 256,
    head_timeout: Duration::from_secs(5),
    write_timeout: Duration::from_secs(30),
    keeps_alive: true,
};
/// Limits of the health address, where requests and responses are short.
pub(super) const HEALTH: ServerLimits = ServerLimits {
    connections_max: 64,
    head_timeout: Duration::from_secs(3),
    write_timeout: Duration::from_secs(5),
    keeps_alive: false,
};
/// Maximum size of the head of a request in bytes.
const HEAD_MAX: usize = 32 * 1024;
/// Delay after a connection could not be accepted, for example because no file descriptors are left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Rate limit for logging that connections cannot be accepted.
static ACCEPT_ERRORS: crate::system::LogRateLimit = crate::system::LogRateLimit::new();

/// Serves `app` until `stopped`.
pub(super) async fn serve(
    listener: TcpListener,
    app: Router,
    limits: ServerLimits,
    mut stopped: oneshot::Receiver<()>,
) {
    let connections = ConnectionLimits::new(limits.connections_max, ADMISSION_GRACE);
    let app = TowerToHyperService::new(app);
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if ACCEPT_ERRORS.should_log() {
                    let error = crate::system::explain(&error);
                    warn!(error, "the web interface cannot accept connections, retrying");
                }
                sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let permit = loop {
            match connections.admit(peer.ip()) {
                Admission::Admitted(permit) => break Some(permit),
                Admission::RetryLater => sleep(ADMISSION_GRACE / 4).await,
                Admission::Full => break None,
            }
        };
        let Some(permit) = permit else {
            tokio::spawn(reject_busy(stream));
            continue;
        };
        let app = app.clone();
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_buf_size(HEAD_MAX);
            http.keep_alive(limits.keeps_alive);
            let request_permit = Arc::clone(&permit);
            let service = service_fn(move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(Arc::clone(&request_permit));
                app.call(request)
            });
            let stream = TokioIo::new(WriteTimeout::new(stream, limits.write_timeout));
            // Errors of a connection, such as invalid requests, are the fault of the peer and are not logged.
            tokio::select! {
                served = http.serve_connection(stream, service) => drop(served),
                () = permit.evicted() => {}
            }
        });
    }
}

/// Responds that there are too many connections.
async fn reject_busy(stream: TcpStream) {
    const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
        connection: close\r\ncontent-length: 49\r\n\r\n{\"error\":\"too many connections: try again later\"}";
    // The response fits into the buffer of a new connection.
    if stream.writable().await.is_ok() {
        drop(stream.try_write(BUSY));
    }
}

/// A stream that fails if its peer accepts no data within a timeout.
struct WriteTimeout<S> {
    stream: S,
    timeout: Duration,
    /// Runs while a write is blocked.
    timer: Pin<Box<Sleep>>,
    is_blocked: bool,
}

impl<S> WriteTimeout<S> {
    fn new(stream: S, timeout: Duration) -> Self {
        Self { stream, timeout, timer: Box::pin(sleep(timeout)), is_blocked: false }
    }

    /// Turns a write that has been blocked for too long into an error.
    fn check_progress<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.is_blocked = false;
            return written;
        }
        if !std::mem::replace(&mut self.is_blocked, true) {
            self.timer.as_mut().reset(Instant::now() + self.timeout);
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.check_progress(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.check_progress(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.check_progress(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A peer that accepts no data.
    struct Stuck;

    impl AsyncWrite for Stuck {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_peer_that_accepts_no_data_is_dropped() {
        let timeout = Duration::from_millis(20);
        let (mut stream, started) = (WriteTimeout::new(Stuck, timeout), Instant::now());
        let written = poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"anything")).await;
        assert_eq!(written.expect_err("the peer accepts nothing").kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= timeout);
    }
}
