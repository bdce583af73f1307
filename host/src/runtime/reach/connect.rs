//! Connections of HTTP requests: dialled to checked addresses, encrypted for `https`, and counted.
//!
//! No proxy is used, whatever the environment of this process says: it would choose the address.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto, pki_types::ServerName},
};
use wasmtime_wasi_http::Error;

use super::{
    super::grants::HttpScheme,
    destination::{Destination, Host},
    network::OpenConnection,
};

/// A connection to a server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to one of the addresses, and encrypts the connection for `https`.
pub(super) async fn connect(
    to: &Destination,
    addresses: &[SocketAddr],
    connection: OpenConnection,
    limit: Duration,
) -> Result<Box<dyn Stream>, Error> {
    let stream = CountedStream { stream: dial(addresses, limit).await?, connection };
    match to.scheme {
        HttpScheme::Http => Ok(Box::new(stream)),
        HttpScheme::Https => {
            let name = match &to.host {
                Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Error::HttpRequestUriInvalid)?,
                Host::Ip(ip) => ServerName::from(*ip),
            };
            let connector = TlsConnector::from(Arc::clone(&TLS));
            Ok(Box::new(connector.connect(name, stream).await.map_err(Error::Tls)?))
        }
    }
}

/// Connects to the first address that accepts. Each gets its share of the time, so that one that does not reply leaves
/// some for the others.
async fn dial(addresses: &[SocketAddr], limit: Duration) -> Result<TcpStream, Error> {
    let mut failed = Error::DestinationNotFound;
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => failed = Error::Connect(error),
            Err(_) => failed = Error::ConnectionTimeout,
        }
    }
    Err(failed)
}

/// The certificates of Mozilla, and those of this machine.
static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    for error in found.errors {
        tracing::debug!(%error, "a certificate of this machine is not used");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions of TLS");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
});

/// A connection whose bytes count. It fails when they are too many.
struct CountedStream {
    stream: TcpStream,
    connection: OpenConnection,
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let count = buffer.filled().len() - before;
        Poll::Ready(self.connection.network().add_received(count).map_err(io::Error::other))
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.connection.network().add_sent(count).map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
