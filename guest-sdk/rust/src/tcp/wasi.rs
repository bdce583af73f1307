//! Connections in a module: `wasi:sockets`.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

/// The fields are in the order in which they have to be dropped.
pub(super) struct Stream {
    input: InputStream,
    output: OutputStream,
    _socket: TcpSocket,
    timeout: Option<Duration>,
}

impl Stream {
    pub(super) fn connect(host: &str, port: u16, timeout: Option<Duration>) -> io::Result<Self> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        let failed = |code| error(code, host, port);
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in look_up(host, until, &failed)? {
            match connect(address, port, until, &failed) {
                Ok((socket, input, output)) => return Ok(Self { input, output, _socket: socket, timeout }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(super) fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.timeout = timeout;
        Ok(())
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let until = self.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            match self.input.read(buffer.len() as u64) {
                Ok(bytes) if bytes.is_empty() => wait(&self.input.subscribe(), until)?,
                Ok(bytes) => {
                    buffer[..bytes.len()].copy_from_slice(&bytes);
                    return Ok(bytes.len());
                }
                Err(StreamError::Closed) => return Ok(0),
                Err(error) => return Err(stream_error(&error)),
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let until = self.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let free = self.output.check_write().map_err(|error| stream_error(&error))?;
            let count = bytes.len().min(usize::try_from(free).unwrap_or(usize::MAX));
            if count > 0 || bytes.is_empty() {
                self.output.write(&bytes[..count]).map_err(|error| stream_error(&error))?;
                return Ok(count);
            }
            wait(&self.output.subscribe(), until)?;
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        let until = self.timeout.map(|timeout| Instant::now() + timeout);
        self.output.flush().map_err(|error| stream_error(&error))?;
        while self.output.check_write().map_err(|error| stream_error(&error))? == 0 {
            wait(&self.output.subscribe(), until)?;
        }
        Ok(())
    }
}

fn look_up(host: &str, until: Option<Instant>, failed: &dyn Fn(ErrorCode) -> io::Error) -> io::Result<Vec<IpAddress>> {
    let found = resolve_addresses(&instance_network(), host).map_err(failed)?;
    let mut addresses = Vec::new();
    loop {
        match found.resolve_next_address() {
            Ok(Some(address)) => addresses.push(address),
            Ok(None) => return Ok(addresses),
            Err(ErrorCode::WouldBlock) => wait(&found.subscribe(), until)?,
            Err(code) => return Err(failed(code)),
        }
    }
}

fn connect(
    address: IpAddress,
    port: u16,
    until: Option<Instant>,
    failed: &dyn Fn(ErrorCode) -> io::Error,
) -> io::Result<(TcpSocket, InputStream, OutputStream)> {
    let (family, address) = match address {
        IpAddress::Ipv4(address) => (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address })),
        IpAddress::Ipv6(address) => {
            let address = Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 };
            (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(address))
        }
    };
    let socket = create_tcp_socket(family).map_err(failed)?;
    socket.start_connect(&instance_network(), address).map_err(failed)?;
    loop {
        match socket.finish_connect() {
            Ok((input, output)) => return Ok((socket, input, output)),
            Err(ErrorCode::WouldBlock) => wait(&socket.subscribe(), until)?,
            Err(code) => return Err(failed(code)),
        }
    }
}

/// Waits until something is ready.
fn wait(ready: &Pollable, until: Option<Instant>) -> io::Result<()> {
    let Some(until) = until else {
        ready.block();
        return Ok(());
    };
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let timer = subscribe_duration(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
    poll(&[ready, &timer]);
    Ok(())
}

fn stream_error(error: &StreamError) -> io::Error {
    match error {
        StreamError::Closed => io::ErrorKind::BrokenPipe.into(),
        StreamError::LastOperationFailed(error) => io::Error::other(error.to_debug_string()),
    }
}

/// The error of a look-up or of connecting.
fn error(code: ErrorCode, host: &str, port: u16) -> io::Error {
    let address = match host.parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ => format!("{host}:{port}"),
    };
    let kind = match code {
        ErrorCode::AccessDenied => {
            let message = format!("{address} is not granted to this module: grant it with --allow-tcp {address}");
            return io::Error::new(io::ErrorKind::PermissionDenied, message);
        }
        ErrorCode::InvalidArgument => io::ErrorKind::InvalidInput,
        ErrorCode::NameUnresolvable | ErrorCode::PermanentResolverFailure => io::ErrorKind::NotFound,
        ErrorCode::Timeout => io::ErrorKind::TimedOut,
        ErrorCode::ConnectionRefused => io::ErrorKind::ConnectionRefused,
        ErrorCode::ConnectionReset => io::ErrorKind::ConnectionReset,
        ErrorCode::ConnectionAborted => io::ErrorKind::ConnectionAborted,
        ErrorCode::RemoteUnreachable => io::ErrorKind::HostUnreachable,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("cannot connect to {address}: {}", code.name()))
}
