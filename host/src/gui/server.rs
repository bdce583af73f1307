//! Accepts connections, each with its bounds: how many, how long a request may take to come, how
//! much of it is read, how long an answer may take to go. Who goes when there are too many is
//! decided in [`crowd`](super::crowd).

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

use super::crowd::{Crowd, Joined, SETTLE};

/// What a server lets its peers take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections that are served at a time.
    connections_max: usize,
    /// How long a request's head may take to come, and a connection may be idle.
    head_wait: Duration,
    /// How long a peer may take nothing of what it is sent.
    write_wait: Duration,
    /// Whether a connection may have more than one request.
    keeps_alive: bool,
}

/// The bounds of the web interface.
pub(super) const WEB: Bounds = Bounds {
    connections_max: 256,
    head_wait: Duration::from_secs(5),
    write_wait: Duration::from_secs(30),
    keeps_alive: true,
};
/// Those of the health address: each question is short, and so is each answer.
pub(super) const HEALTH: Bounds = Bounds {
    connections_max: 64,
    head_wait: Duration::from_secs(3),
    write_wait: Duration::from_secs(5),
    keeps_alive: false,
};
/// The largest head of a request, in bytes.
const HEAD_MAX: usize = 32 * 1024;
/// How long to wait when the system can give no connection, such as for want of open files.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Connections that could not be accepted are logged rarely.
static FAILED: crate::system::LogRateLimit = crate::system::LogRateLimit::new();

/// Serves until `stopped`.
pub(super) async fn serve(listener: TcpListener, app: Router, bounds: Bounds, mut stopped: oneshot::Receiver<()>) {
    let crowd = Crowd::new(bounds.connections_max, SETTLE);
    let app = TowerToHyperService::new(app);
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if FAILED.should_log() {
                    let error = crate::system::explain(&error);
                    warn!(error, "the web interface cannot accept connections, retrying");
                }
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let seat = loop {
            match crowd.join(peer.ip()) {
                Joined::Seated(seat) => break Some(seat),
                Joined::Soon => sleep(SETTLE / 4).await,
                Joined::Full => break None,
            }
        };
        let Some(seat) = seat else {
            tokio::spawn(turn_away(stream));
            continue;
        };
        let app = app.clone();
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(bounds.head_wait).max_buf_size(HEAD_MAX);
            http.keep_alive(bounds.keeps_alive);
            let holder = Arc::clone(&seat);
            let service = service_fn(move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(Arc::clone(&holder));
                app.call(request)
            });
            let stream = TokioIo::new(Patient::new(stream, bounds.write_wait));
            // A peer that breaks off, or sends nonsense, is nobody's concern.
            tokio::select! {
                served = http.serve_connection(stream, service) => drop(served),
                () = seat.lost() => {}
            }
        });
    }
}

/// Says that there are too many connections.
async fn turn_away(stream: TcpStream) {
    const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
        connection: close\r\ncontent-length: 49\r\n\r\n{\"error\":\"too many connections: try again later\"}";
    // It fits into the buffer of a new connection.
    if stream.writable().await.is_ok() {
        drop(stream.try_write(BUSY));
    }
}

/// A stream whose peer must take something of what it is sent within a while.
struct Patient<S> {
    stream: S,
    wait: Duration,
    /// Runs while the peer takes nothing.
    patience: Pin<Box<Sleep>>,
    waits: bool,
}

impl<S> Patient<S> {
    fn new(stream: S, wait: Duration) -> Self {
        Self { stream, wait, patience: Box::pin(sleep(wait)), waits: false }
    }

    /// What a write ends in, given what it ended in below.
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = false;
            return written;
        }
        if !std::mem::replace(&mut self.waits, true) {
            self.patience.as_mut().reset(Instant::now() + self.wait);
        }
        ready!(self.patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A peer that takes nothing.
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
    async fn a_peer_that_takes_nothing_is_dropped() {
        let wait = Duration::from_millis(20);
        let (mut patient, began) = (Patient::new(Stuck, wait), Instant::now());
        let written = poll_fn(|cx| Pin::new(&mut patient).poll_write(cx, b"anything")).await;
        assert_eq!(written.expect_err("nobody takes it").kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= wait);
    }
}
