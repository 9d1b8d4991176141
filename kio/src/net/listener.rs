//! Listening and accepting.

use core::future::poll_fn;
use core::net::SocketAddr;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::{TcpStream, ToAddr};
use crate::Core;
use crate::error::{Error, Result, StartError};
use crate::op::{Accepted, RawAddr};
use crate::ring::sys;
use crate::task::WaitNode;
use crate::worker::Port;

/// How long an accept rests when a resource of the system is short.
const REST: Duration = Duration::from_millis(50);

/// How to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenOptions {
    real_fds: bool,
    shared: bool,
    backlog: i32,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { real_fds: false, shared: false, backlog: 4096 }
    }
}

impl ListenOptions {
    /// The defaults: a listener of each worker's own, direct descriptors, a backlog of 4096 (the
    /// system's `net.core.somaxconn` bounds it).
    pub const fn new() -> Self {
        Self { real_fds: false, shared: false, backlog: 4096 }
    }

    /// Gives each connection a real descriptor beside its slot of the table: for socket options and
    /// `local_addr` on any kernel. Costs a descriptor and an operation a connection; `shutdown` is a
    /// system call then, where io_uring takes a thread of the kernel's for a direct one.
    pub const fn real_fds(mut self) -> Self {
        self.real_fds = true;
        self
    }

    /// One listener for all workers, who accept in turns: fairer than a listener each where
    /// connections are few and long.
    pub const fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// How many connections may wait to be accepted.
    pub const fn backlog(mut self, backlog: i32) -> Self {
        self.backlog = backlog;
        self
    }
}

/// A listening TCP socket of this worker. Dropped, it is closed at once.
pub struct Listener {
    core: Core,
    index: u8,
    asked: SocketAddr,
}

impl Core {
    /// Listens on an address, for this worker.
    ///
    /// The first worker binds it exclusively, so an address in use is an error, and resolves port
    /// 0; the others join it by SO_REUSEPORT and the kernel spreads connections over them.
    pub async fn listen(self, addr: impl ToAddr) -> Result<Listener> {
        self.listen_with(addr, ListenOptions::new()).await
    }

    /// Listens with options.
    pub async fn listen_with(self, addr: impl ToAddr, options: ListenOptions) -> Result<Listener> {
        let parts = self.parts()?;
        if parts.tasks.closed.get() {
            return Err(Error::Stopped);
        }
        let asked = addr.to_addr()?;
        let shared = parts.shared();
        let (fd, bound) = shared.with_port(asked, |port| open(asked, options, port))?;
        let local = RawAddr::new();
        local.set(bound);
        match parts.io.open_listener(fd, &local, options.real_fds) {
            Ok(index) => Ok(Listener { core: self, index, asked }),
            Err(error) => {
                leave(shared, asked);
                Err(error)
            }
        }
    }
}

/// Makes this worker's listening descriptor for the address.
fn open(
    asked: SocketAddr,
    options: ListenOptions,
    port: Option<&mut Port>,
) -> Result<(Port, (OwnedFd, SocketAddr))> {
    use rustix::fd::IntoRawFd;
    let Some(port) = port else {
        let fd = bind(asked, true)?;
        let bound = local_addr(&fd)?;
        rustix::net::listen(&fd, options.backlog).map_err(|e| refused(asked, e))?;
        let shared_fd = match options.shared {
            true => duplicate(&fd)?.into_raw_fd(),
            false => -1,
        };
        log::info!("listening on {bound}");
        return Ok((Port { asked, bound, users: 1, shared_fd }, (fd, bound)));
    };
    let fd = match port.shared_fd {
        -1 => {
            let fd = bind(port.bound, false)?;
            rustix::net::listen(&fd, options.backlog).map_err(|e| refused(asked, e))?;
            fd
        }
        shared => sys::duplicate(shared).map_err(|e| os("listen", e))?,
    };
    port.users += 1;
    Ok((*port, (fd, port.bound)))
}

fn os(doing: &'static str, errno: rustix::io::Errno) -> Error {
    Error::os(doing, errno.raw_os_error())
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|e| os("listen", e))
}

fn local_addr(fd: &OwnedFd) -> Result<SocketAddr> {
    let addr = rustix::net::getsockname(fd.as_fd()).map_err(|e| os("listen", e))?;
    SocketAddr::try_from(addr).map_err(|e| os("listen", e))
}

/// A bound socket. `first` binds exclusively, and only then lets others join by SO_REUSEPORT.
fn bind(addr: SocketAddr, first: bool) -> Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let made = rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        Some(ipproto::TCP),
    );
    let fd = made.map_err(|e| refused(addr, e))?;
    let set = || {
        // An address whose old connections are in TIME_WAIT can be bound again.
        sockopt::set_socket_reuseaddr(&fd, true)?;
        // Inherited by what is accepted.
        sockopt::set_tcp_nodelay(&fd, true)?;
        if !first {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        rustix::net::bind(&fd, &addr)?;
        sockopt::set_socket_reuseport(&fd, true)
    };
    set().map_err(|errno| refused(addr, errno))?;
    Ok(fd)
}

/// Why nobody listens there.
fn refused(addr: SocketAddr, errno: rustix::io::Errno) -> Error {
    match errno {
        rustix::io::Errno::ADDRINUSE => StartError::AddressInUse(addr).into(),
        _ => StartError::Listen { addr, errno: errno.raw_os_error() }.into(),
    }
}

fn leave(shared: &crate::worker::Shared, asked: SocketAddr) {
    if let Some(fd) = shared.leave_port(asked) {
        sys::close_fd(fd);
    }
}

impl Listener {
    /// The worker.
    pub fn core(&self) -> Core {
        self.core
    }

    /// The address it is bound to, with the real port.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        let addr = self.core.parts()?.io.listener_addr(self.index);
        addr.ok_or(Error::Other("the listener has no internet address"))
    }

    /// Waits for a connection.
    ///
    /// Transient errors are counted and retried. While every socket slot is taken it waits, and
    /// clients wait in the backlog. Once the pool stops it takes what is in the backlog and then
    /// gives `Stopped`, the normal end of an accept loop.
    ///
    /// Cancel safety: a connection accepted meanwhile waits for the next call.
    pub async fn accept(&mut self) -> Result<TcpStream> {
        let mut node = pin!(WaitNode::new());
        let _over = Over(self);
        loop {
            let found = poll_fn(|cx| {
                let parts = match self.core.parts() {
                    Ok(parts) if !parts.tasks.closed.get() => parts,
                    _ => return Poll::Ready(Err(Error::Stopped)),
                };
                let stopping = parts.stopping.get();
                parts.io.poll_accept(self.index, stopping, node.as_mut().as_ref(), cx)
            })
            .await?;
            match found {
                Accepted::Socket(at) => return Ok(TcpStream::new(self.core, at)),
                Accepted::Rest => self.core.sleep(REST).await,
                Accepted::End => return Err(Error::Stopped),
            }
        }
    }
}

/// Tells the worker that an accept is over, whichever way.
struct Over<'a>(&'a Listener);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        if let Ok(parts) = self.0.core.parts() {
            parts.io.accept_over(self.0.index);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Ok(parts) = self.core.parts() {
            parts.io.close_listener(self.index);
            leave(parts.shared(), self.asked);
        }
    }
}

impl core::fmt::Debug for Listener {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Listener({:?})", self.local_addr())
    }
}
