//! TCP and UDP sockets.

use fastworker_guest::task;
use wasip2::io::streams::StreamError;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

fn code(error: ErrorCode) -> String {
    format!("{error:?}")
}

fn find(name: &str) -> Result<Vec<IpAddress>, String> {
    let found = resolve_addresses(&instance_network(), name).map_err(code)?;
    let mut addresses = Vec::new();
    loop {
        match found.resolve_next_address() {
            Ok(Some(address)) => addresses.push(address),
            Ok(None) => return Ok(addresses),
            Err(ErrorCode::WouldBlock) => found.subscribe().block(),
            Err(error) => return Err(code(error)),
        }
    }
}

fn with_port(address: IpAddress, port: u16) -> (IpAddressFamily, IpSocketAddress) {
    match address {
        IpAddress::Ipv4(address) => (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address })),
        IpAddress::Ipv6(address) => {
            let address = Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 };
            (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(address))
        }
    }
}

fn show(address: IpAddress) -> String {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => std::net::Ipv4Addr::new(a, b, c, d).to_string(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h).to_string(),
    }
}

fn parse(address: &str) -> Result<IpAddress, String> {
    match address.parse().map_err(|_| "no address")? {
        std::net::IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            Ok(IpAddress::Ipv4((a, b, c, d)))
        }
        std::net::IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h] = ip.segments();
            Ok(IpAddress::Ipv6((a, b, c, d, e, f, g, h)))
        }
    }
}

/// The addresses of a name.
#[task]
fn look_up(name: &str) -> Result<Vec<String>, String> {
    Ok(find(name)?.into_iter().map(show).collect())
}

/// Looks up a name, connects to its first address, sends a text and returns what the server replies until it closes.
#[task]
fn talk(name: &str, port: u16, text: &str) -> Result<String, String> {
    exchange(*find(name)?.first().ok_or("no address")?, port, text)
}

/// Connects to an address without looking it up, sends a text and returns what the server replies until it closes.
#[task]
fn talk_to_address(address: &str, port: u16, text: &str) -> Result<String, String> {
    exchange(parse(address)?, port, text)
}

fn exchange(address: IpAddress, port: u16, text: &str) -> Result<String, String> {
    let (family, address) = with_port(address, port);
    let socket = create_tcp_socket(family).map_err(code)?;
    socket.start_connect(&instance_network(), address).map_err(code)?;
    socket.subscribe().block();
    let (input, output) = socket.finish_connect().map_err(code)?;
    output.blocking_write_and_flush(text.as_bytes()).map_err(|error| format!("{error:?}"))?;
    let mut received = Vec::new();
    loop {
        match input.blocking_read(64 << 10) {
            // The start is enough.
            Ok(bytes) => {
                received.extend_from_slice(&bytes[..bytes.len().min(1000_usize.saturating_sub(received.len()))])
            }
            Err(StreamError::Closed) => return Ok(String::from_utf8_lossy(&received).into_owned()),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

/// Tries everything about sockets that no module may, and returns the error of each.
#[task]
fn forbidden_sockets() -> Vec<String> {
    let any = |port| with_port(IpAddress::Ipv4((0, 0, 0, 0)), port).1;
    let try_tcp = |what: &dyn Fn(&TcpSocket) -> Result<(), ErrorCode>| match create_tcp_socket(IpAddressFamily::Ipv4) {
        Ok(socket) => what(&socket),
        Err(error) => Err(error),
    };
    let results = [
        try_tcp(&|socket| socket.start_bind(&instance_network(), any(0))),
        try_tcp(&|socket| socket.start_bind(&instance_network(), any(8080))),
        try_tcp(&TcpSocket::start_listen),
        create_udp_socket(IpAddressFamily::Ipv4).map(drop),
        create_udp_socket(IpAddressFamily::Ipv6).map(drop),
    ];
    results.into_iter().map(|result| format!("{result:?}")).collect()
}

/// Opens sockets until it cannot, and returns their number and the error; then closes them and opens one more.
#[task]
fn open_sockets(max: usize) -> (usize, String, bool) {
    let mut sockets = Vec::new();
    let mut failed = String::new();
    while sockets.len() < max && failed.is_empty() {
        match create_tcp_socket(IpAddressFamily::Ipv4) {
            Ok(socket) => sockets.push(socket),
            Err(error) => failed = code(error),
        }
    }
    let count = sockets.len();
    sockets.clear();
    (count, failed, create_tcp_socket(IpAddressFamily::Ipv4).is_ok())
}
