//! Counts the bytes received over a connection, in complete messages or not.
//!
//! Separate module because it queries NNG's own file descriptors, which needs `unsafe`. NNG allocates a message of the
//! announced size before it reads it, and cannot tell how much of it has arrived; the kernel counts the bytes of each
//! TCP connection. A file descriptor that NNG closes at the same time gives a wrong number or none, so no decision is
//! based on a single number.

/// A file descriptor of a connection. Queried, but never read, written or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileDescriptor(i32);

/// The kernel's byte counts of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// All received bytes.
    pub(super) total: u64,
    /// Received bytes that NNG has not read yet.
    pub(super) unread: u64,
}

#[cfg(target_os = "linux")]
pub(super) use linux::{list_connections, query};

#[cfg(not(target_os = "linux"))]
pub(super) use unsupported::{list_connections, query};

#[cfg(not(target_os = "linux"))]
mod unsupported {
    use std::net::SocketAddr;

    use super::{FileDescriptor, Received};

    pub(in super::super) fn list_connections(
        _: &dyn Fn(FileDescriptor) -> bool,
    ) -> Vec<(FileDescriptor, u16, SocketAddr)> {
        Vec::new()
    }

    pub(in super::super) fn query(_: FileDescriptor) -> Option<Received> {
        None
    }
}

#[cfg(target_os = "linux")]
mod linux {
    #![allow(unsafe_code, reason = "system calls that fill a structure of the given size, on any number")]

    use std::{
        fs, mem,
        net::{Ipv6Addr, SocketAddr},
        ptr,
    };

    use super::{FileDescriptor, Received};

    /// Offset of `tcpi_bytes_received` in Linux' `struct tcp_info`, which only grows at its end.
    const BYTES_RECEIVED: usize = 128;

    /// Lists the TCP connections of this process, except those to `skip`, with their local port and their peer.
    pub(in super::super) fn list_connections(
        skip: &dyn Fn(FileDescriptor) -> bool,
    ) -> Vec<(FileDescriptor, u16, SocketAddr)> {
        let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
        let fds = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(FileDescriptor));
        let connection = |fd: FileDescriptor| {
            let peer = address(fd, libc::getpeername)?;
            Some((fd, address(fd, libc::getsockname)?.port(), peer))
        };
        fds.filter(|fd| !skip(*fd)).filter_map(connection).collect()
    }

    /// Returns the kernel's byte counts of a connection.
    pub(in super::super) fn query(FileDescriptor(fd): FileDescriptor) -> Option<Received> {
        let mut info = [0_u8; 256];
        let mut size = libc::socklen_t::try_from(info.len()).ok()?;
        // SAFETY: the kernel writes at most `size` bytes to `info`, which has as many.
        let got =
            unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut size) };
        let end = BYTES_RECEIVED + size_of::<u64>();
        if got != 0 || usize::try_from(size).ok()? < end {
            return None;
        }
        let total = u64::from_ne_bytes(info[BYTES_RECEIVED..end].try_into().ok()?);
        let mut unread: libc::c_int = 0;
        // SAFETY: the kernel writes one number to `unread`.
        let got = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut unread) };
        (got == 0).then_some(Received { total, unread: u64::try_from(unread).unwrap_or_default() })
    }

    type QueryAddress = unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

    fn address(FileDescriptor(fd): FileDescriptor, query: QueryAddress) -> Option<SocketAddr> {
        // SAFETY: all zeros is a `sockaddr_storage`.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let mut size = libc::socklen_t::try_from(size_of_val(&storage)).ok()?;
        // SAFETY: the kernel writes at most `size` bytes to `storage`, which has as many.
        let got = unsafe { query(fd, (&raw mut storage).cast(), &raw mut size) };
        if got != 0 {
            return None;
        }
        match i32::from(storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: it is one by its family, and `storage` has size and alignment for each.
                let inet: libc::sockaddr_in = unsafe { ptr::read((&raw const storage).cast()) };
                Some((inet.sin_addr.s_addr.to_ne_bytes(), u16::from_be(inet.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let inet: libc::sockaddr_in6 = unsafe { ptr::read((&raw const storage).cast()) };
                Some((Ipv6Addr::from(inet.sin6_addr.s6_addr), u16::from_be(inet.sin6_port)).into())
            }
            _ => None,
        }
    }

    #[cfg(test)]
    mod tests {
        use std::{
            io::Write as _,
            net::{TcpListener, TcpStream},
        };

        use super::*;

        #[test]
        fn received_bytes_are_counted_whether_they_are_read_or_not() {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address");
            let mut peer = TcpStream::connect(address).expect("a connection");
            let (stream, from) = listener.accept().expect("a connection");
            let find = |(_, port, peer): &(FileDescriptor, u16, SocketAddr)| *port == address.port() && *peer == from;
            let (fd, ..) = list_connections(&|_| false).into_iter().find(find).expect("it is there");
            assert_eq!(query(fd), Some(Received { total: 0, unread: 0 }));
            peer.write_all(&[1; 1000]).expect("it is sent");
            let mut bytes = [0; 400];
            std::io::Read::read_exact(&mut &stream, &mut bytes).expect("it arrives");
            assert_eq!(query(fd), Some(Received { total: 1000, unread: 600 }));
            assert!(list_connections(&|other| other == fd).iter().all(|found| found.0 != fd));
        }
    }
}
