//! Connecting, and socket addresses as the kernel has them.

use core::cell::{Cell, UnsafeCell};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use core::task::{Context, Poll};

use rustix::fd::{IntoRawFd, OwnedFd};

use super::Io;
use super::slot::Kind;
use super::socket::{State, control_op, flag};
use crate::error::{Error, Result};
use crate::ring::sys::{close_fd, local_addr};

/// Room for an IPv4 or IPv6 address, `struct sockaddr_in` or `sockaddr_in6`.
pub(crate) struct RawAddr {
    bytes: UnsafeCell<Aligned>,
    len: Cell<u32>,
}

#[derive(Clone, Copy)]
#[repr(C, align(4))]
struct Aligned([u8; 28]);

impl RawAddr {
    pub(crate) const fn new() -> Self {
        Self { bytes: UnsafeCell::new(Aligned([0; 28])), len: Cell::new(0) }
    }

    fn read(&self) -> [u8; 28] {
        // SAFETY: plain bytes, written by this thread, or by the kernel during an accept that has
        // completed before anybody reads.
        unsafe { (*self.bytes.get()).0 }
    }

    pub(crate) fn copy(&self, from: &Self) {
        // SAFETY: as in `read`; nothing else reads or writes meanwhile.
        unsafe { *self.bytes.get() = Aligned(from.read()) };
        self.len.set(from.len.get());
    }

    pub(crate) fn set(&self, addr: SocketAddr) {
        let mut bytes = [0; 28];
        bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        let len = match addr {
            SocketAddr::V4(v4) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                16
            }
            SocketAddr::V6(v6) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                28
            }
        };
        // SAFETY: as in `copy`.
        unsafe { *self.bytes.get() = Aligned(bytes) };
        self.len.set(len);
    }

    pub(crate) fn clear(&self) {
        self.len.set(0);
    }

    /// The address, where there is one.
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        let bytes = self.read();
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        match self.len.get() {
            16 => Some(SocketAddrV4::new(Ipv4Addr::from(word(4)), port).into()),
            28 => {
                let ip = <[u8; 16]>::try_from(&bytes[8..24]).ok()?;
                let (flow, scope) = (u32::from_ne_bytes(word(4)), u32::from_ne_bytes(word(24)));
                Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
            }
            _ => None,
        }
    }

    /// For the kernel to read: where, and how long.
    pub(super) fn as_raw(&self) -> (u64, u32) {
        (self.bytes.get() as u64, self.len.get())
    }

    /// For the kernel to write: where, and where the length is.
    pub(super) fn as_out(&self) -> (u64, u64) {
        self.len.set(28);
        (self.bytes.get() as u64, self.len.as_ptr() as u64)
    }
}

impl Io {
    /// Starts to connect: takes the descriptor of a new socket over, puts it into the table and
    /// connects it. The caller holds the socket and closes it.
    pub(crate) fn start_connect(&self, fd: &mut Option<OwnedFd>, peer: SocketAddr) -> Option<u32> {
        let at = self.take_socket()?;
        let socket = self.socket(at);
        socket.peer.set(peer);
        let fd = fd.take().expect("a connect brings its descriptor").into_raw_fd();
        socket.fd.set(fd + 1);
        if self.features.get().direct {
            socket.install.set(fd);
            self.submit(control_op(at), Kind::Install);
        } else {
            self.submit(control_op(at), Kind::Connect);
        }
        Some(at)
    }

    pub(super) fn install_completed(&self, at: u32, result: i32) {
        let socket = self.socket(at);
        let accepted = socket.listener.get() != 0;
        match result {
            0.. if accepted => self.accepted(at),
            0.. => {
                socket.set(flag::INSTALLED);
                if socket.state.get() == State::Opening {
                    self.submit(control_op(at), Kind::Connect);
                }
            }
            // The descriptor is closed with the socket.
            _ if accepted => {
                let listener = socket.listener.get() - 1;
                self.free_socket(at);
                self.accept_failed(listener, -result);
            }
            errno => self.control_completed(at, Kind::Connect, errno),
        }
    }

    /// A connect or a shutdown has ended; who awaits it looks.
    pub(super) fn control_completed(&self, at: u32, kind: Kind, result: i32) {
        let socket = self.socket(at);
        if kind == Kind::Connect && result == 0 && socket.state.get() == State::Opening {
            socket.state.set(State::Open);
            socket.moved.set(self.now_ms.get());
            self.counters().connected.add(1);
            self.opened();
            self.learn_local(at);
        }
        socket.control.set(result);
        socket.set(flag::CONTROL_DONE);
        socket.control_waiter.wake(self.tasks());
    }

    fn learn_local(&self, at: u32) {
        let socket = self.socket(at);
        if let Some(addr) = local_addr(socket.fd.get() - 1) {
            socket.local.set(addr);
        }
    }

    /// Waits for the end of a connect.
    pub(crate) fn poll_connect(
        &self,
        at: u32,
        real_fd: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<()>> {
        let socket = self.socket(at);
        if !socket.has(flag::CONTROL_DONE) {
            socket.control_waiter.register(self.tasks(), cx);
            return Poll::Pending;
        }
        socket.unset(flag::CONTROL_DONE);
        match socket.control.get() {
            0 => {
                if real_fd {
                    socket.set(flag::REAL_FD);
                } else if self.features.get().direct {
                    // The table keeps the socket open.
                    close_fd(socket.fd.replace(0) - 1);
                }
                Poll::Ready(Ok(()))
            }
            errno => Poll::Ready(Err(Error::os("connect", -errno))),
        }
    }

    /// The peer's address.
    pub(crate) fn peer_addr(&self, at: u32) -> Option<SocketAddr> {
        self.socket(at).peer.get()
    }

    /// This side's address, where it is known: a connected socket's, or its listener's unless that
    /// is bound to any address.
    pub(crate) fn local_addr(&self, at: u32) -> Option<SocketAddr> {
        let known = self.socket(at).local.get().filter(|addr| match addr.ip() {
            IpAddr::V4(ip) => !ip.is_unspecified(),
            IpAddr::V6(ip) => !ip.is_unspecified(),
        });
        // -1 names no socket.
        known.or_else(|| local_addr(self.socket(at).fd.get() - 1))
    }

    /// The real descriptor beside the table's slot, where it was asked for.
    pub(crate) fn real_fd(&self, at: u32) -> Option<i32> {
        let socket = self.socket(at);
        socket.has(flag::REAL_FD).then(|| socket.fd.get() - 1)
    }
}
