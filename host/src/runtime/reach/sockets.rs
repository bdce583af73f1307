//! `wasi:sockets`: look-ups of granted names, and TCP connections to what they resolved to.
//!
//! The functions here replace those of wasmtime-wasi that would do more: its look-up resolves any name, and its sockets
//! can be bound.

use std::{net::IpAddr, net::SocketAddr, pin::Pin, sync::Arc, vec};

use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::{
    WasiCtxBuilder,
    p2::{
        DynInputStream, DynOutputStream, DynPollable, Pollable, TcpSocket, UdpSocket,
        bindings::sockets::{
            network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Network as NetworkHandle},
            tcp::HostTcpSocket as _,
            tcp_create_socket::Host as _,
        },
        subscribe,
    },
    runtime::{AbortOnDropJoinHandle, poll_noop, spawn},
    sockets::{SocketAddrUse, WasiSocketsView as _},
};

use super::{
    super::attempt::Attempt,
    network::{AddressError, Network},
    refusal::Refusal,
    streams,
};

/// The version of WASI that wasmtime-wasi provides; it serves every older one.
const VERSION: &str = "0.2.12";

/// Allows connections that the network of the attempt allows.
pub(super) fn allow_tcp(context: &mut WasiCtxBuilder, network: Arc<Network>) {
    context.allow_tcp(true).socket_addr_check(move |address, usage| {
        let is_allowed = match usage {
            SocketAddrUse::TcpConnect => network.check_connection(address).is_ok(),
            // Before it connects; a guest cannot bind.
            SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
            _ => false,
        };
        Box::pin(std::future::ready(is_allowed))
    });
}

/// Replaces functions of `wasi:sockets`.
pub(in crate::runtime) fn add_to_linker(linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    add_lookup(linker)?;
    add_sockets(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn add_lookup(linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    let mut lookup = linker.instance(&format!("wasi:sockets/ip-name-lookup@{VERSION}"))?;
    lookup.resource("resolve-address-stream", ResourceType::host::<Lookup>(), |mut store, rep| {
        store.data_mut().wasi.table.delete(Resource::<Lookup>::new_own(rep))?;
        Ok(())
    })?;
    lookup.func_wrap("resolve-addresses", |mut store, (_, name): (Resource<NetworkHandle>, String)| {
        let attempt = store.data_mut();
        let lookup = Lookup::start(Arc::clone(attempt.network()), name);
        if let Lookup::Ready(Err(error)) = lookup {
            return Ok((Err(error),));
        }
        Ok((Ok(attempt.wasi.table.push(lookup)?),))
    })?;
    lookup.func_wrap("[method]resolve-address-stream.resolve-next-address", |mut store, (lookup,)| {
        let lookup: Resource<Lookup> = lookup;
        Ok((store.data_mut().wasi.table.get_mut(&lookup)?.next(),))
    })?;
    lookup.func_wrap("[method]resolve-address-stream.subscribe", |mut store, (lookup,): (Resource<Lookup>,)| {
        let pollable: Resource<DynPollable> = subscribe(&mut store.data_mut().wasi.table, lookup)?;
        Ok((pollable,))
    })
}

/// A look-up of a name.
enum Lookup {
    Pending(AbortOnDropJoinHandle<Result<vec::IntoIter<IpAddr>, ErrorCode>>),
    Ready(Result<vec::IntoIter<IpAddr>, ErrorCode>),
}

impl Lookup {
    fn start(network: Arc<Network>, name: String) -> Self {
        let mut lookup = Box::pin(async move {
            let limit = network.timeouts.connect_timeout;
            let found = tokio::time::timeout(limit, network.look_up(&name)).await;
            found.map_err(|_| ErrorCode::Timeout)?.map(Vec::into_iter).map_err(|error| match error {
                AddressError::NoHost => ErrorCode::InvalidArgument,
                AddressError::NotFound => ErrorCode::NameUnresolvable,
                AddressError::Refused(refusal) => {
                    network.report_refusal(&refusal);
                    ErrorCode::AccessDenied
                }
            })
        });
        // What is refused is refused at once.
        match poll_noop(lookup.as_mut()) {
            Some(found) => Self::Ready(found),
            None => Self::Pending(spawn(lookup)),
        }
    }

    fn next(&mut self) -> Result<Option<IpAddress>, ErrorCode> {
        if let Self::Pending(lookup) = self {
            match poll_noop(Pin::new(lookup)) {
                Some(found) => *self = Self::Ready(found),
                None => return Err(ErrorCode::WouldBlock),
            }
        }
        match self {
            Self::Ready(Ok(found)) => Ok(found.next().map(IpAddress::from)),
            Self::Ready(Err(error)) => Err(*error),
            Self::Pending(_) => Err(ErrorCode::WouldBlock),
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let Self::Pending(lookup) = self {
            let found = lookup.await;
            *self = Self::Ready(found);
        }
    }
}

fn add_sockets(linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    let mut create = linker.instance(&format!("wasi:sockets/tcp-create-socket@{VERSION}"))?;
    create.func_wrap("create-tcp-socket", |mut store, (family,): (IpAddressFamily,)| {
        Ok((create_tcp_socket(store.data_mut(), family)?,))
    })?;
    let mut tcp = linker.instance(&format!("wasi:sockets/tcp@{VERSION}"))?;
    tcp.resource("tcp-socket", ResourceType::host::<TcpSocket>(), |mut store, rep| {
        let attempt = store.data_mut();
        attempt.sockets().drop(Resource::new_own(rep))?;
        attempt.wasi.connections.retain(|(socket, _)| *socket != rep);
        Ok(())
    })?;
    type Connect = (Resource<TcpSocket>, Resource<NetworkHandle>, IpSocketAddress);
    tcp.func_wrap("[method]tcp-socket.start-connect", |mut store, (socket, network, address): Connect| {
        let attempt = store.data_mut();
        if let Err(refusal) = attempt.network().check_connection(SocketAddr::from(address)) {
            attempt.network().report_refusal(&refusal);
            return Ok((Err(ErrorCode::AccessDenied),));
        }
        let started = attempt.sockets().start_connect(socket, network, address);
        Ok((started.map_or_else(|error| error.downcast().map(Err), |()| Ok(Ok(())))?,))
    })?;
    tcp.func_wrap("[method]tcp-socket.finish-connect", |mut store, (socket,): (Resource<TcpSocket>,)| {
        Ok((finish_connect(store.data_mut(), socket)?,))
    })?;
    tcp.func_wrap("[method]tcp-socket.start-bind", |mut store, _: Connect| {
        Ok((refuse::<()>(store.data_mut(), "binding a TCP socket"),))
    })?;
    tcp.func_wrap("[method]tcp-socket.start-listen", |mut store, (_,): (Resource<TcpSocket>,)| {
        Ok((refuse::<()>(store.data_mut(), "listening for TCP connections"),))
    })?;
    let mut udp = linker.instance(&format!("wasi:sockets/udp-create-socket@{VERSION}"))?;
    udp.func_wrap("create-udp-socket", |mut store, (_,): (IpAddressFamily,)| {
        Ok((refuse::<Resource<UdpSocket>>(store.data_mut(), "opening a UDP socket"),))
    })
}

/// Refuses what no option grants.
fn refuse<T>(attempt: &mut Attempt, what: &str) -> Result<T, ErrorCode> {
    attempt.network().report_refusal(&Refusal::never(what));
    Err(ErrorCode::AccessDenied)
}

fn create_tcp_socket(
    attempt: &mut Attempt,
    family: IpAddressFamily,
) -> wasmtime::Result<Result<Resource<TcpSocket>, ErrorCode>> {
    let network = Arc::clone(attempt.network());
    if !network.has_tcp() {
        network.report_refusal(&Refusal::socket());
        return Ok(Err(ErrorCode::AccessDenied));
    }
    let Ok(connection) = network.open_connection() else { return Ok(Err(ErrorCode::NewSocketLimit)) };
    match attempt.sockets().create_tcp_socket(family) {
        Ok(socket) => {
            attempt.wasi.connections.push((socket.rep(), connection));
            Ok(Ok(socket))
        }
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

fn finish_connect(attempt: &mut Attempt, socket: Resource<TcpSocket>) -> wasmtime::Result<Result<Streams, ErrorCode>> {
    match attempt.sockets().finish_connect(socket) {
        Ok((input, output)) => {
            let network = Arc::clone(attempt.network());
            streams::count(&mut attempt.wasi.table, &network, &input, &output)?;
            Ok(Ok((input, output)))
        }
        Err(error) => Ok(Err(error.downcast()?)),
    }
}
