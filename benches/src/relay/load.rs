//! Both ends of the relayed connections: clients, and the upstream that they reach; in bulk, or with
//! `requests`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags};

use super::What;
use super::requests::Requests;
use crate::Result;
use crate::load::Slice;
use crate::load::histogram::Histogram;
use crate::sys::{self, thread_cpu_time};

/// Bytes that a bulk client gives at once, and an upstream takes.
const CHUNK: usize = 256 << 10;
const TAKE: usize = 1 << 20;
/// No progress for so long means that the relay hangs.
pub const PATIENCE: Duration = Duration::from_secs(5);
const CHECKED: usize = 3 << 20;

/// The connections through one relay.
pub enum Load {
    /// One direction, as fast as it goes.
    Bulk(Bulk),
    /// There and back.
    Requests(Box<Requests>),
}

impl Load {
    /// Connects through the relay at `port`, whose upstream is `upstream`.
    pub fn new(what: What, port: u16, upstream: &TcpListener, streams: usize) -> Result<Self> {
        upstream.set_nonblocking(false)?;
        let mut pairs = Vec::new();
        for nth in 0..streams {
            let client = connect(port)?;
            let server = accept(upstream)?;
            server.set_nodelay(true)?;
            if nth == 0 {
                check(&client, &server)?;
            }
            pairs.push((client, OwnedFd::from(server)));
        }
        Ok(match what {
            What::Bulk => Self::Bulk(Bulk::new(pairs)?),
            What::Requests => Self::Requests(Box::new(Requests::new(pairs)?)),
        })
    }

    /// Drives the relay for a while, then waits for what is under way.
    pub fn slice(&mut self, span: Duration, seen: &mut Histogram) -> Result<Slice> {
        let cpu = thread_cpu_time();
        let began = Instant::now();
        let ops = match self {
            Self::Bulk(bulk) => bulk.slice(began, span)? as f64 / f64::from(1 << 20),
            Self::Requests(requests) => requests.slice(began, span, seen)? as f64,
        };
        Ok(Slice { ops, wall: began.elapsed(), cpu: thread_cpu_time().saturating_sub(cpu) })
    }
}

/// A relay that has just been started may not listen yet.
fn connect(port: u16) -> Result<OwnedFd> {
    let until = Instant::now() + PATIENCE;
    loop {
        match sys::connect(port, None) {
            Ok(fd) => return Ok(fd),
            Err(e) if Instant::now() > until => return Err(e.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The relay's own connection; one that cannot be started may leave clients in its listener.
fn accept(upstream: &TcpListener) -> Result<TcpStream> {
    let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    match poll(&mut [PollFd::new(upstream, PollFlags::IN)], Some(&patience))? {
        0 => Err("no connection to the upstream".into()),
        _ => Ok(upstream.accept()?.0),
    }
}

/// Every byte arrives, both ways.
fn check(client: &OwnedFd, server: &TcpStream) -> Result<()> {
    let bytes: Vec<u8> =
        (0..CHECKED as u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
    let client = TcpStream::from(client.try_clone()?);
    for (from, to) in [(&client, server), (server, &client)] {
        let (mut from, mut to) = (from.try_clone()?, to);
        to.set_read_timeout(Some(PATIENCE))?;
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || from.write_all(&sent));
        let mut got = vec![0; CHECKED];
        to.read_exact(&mut got)?;
        writer.join().map_err(|_| "the writer panicked")??;
        to.set_read_timeout(None)?;
        if got != bytes {
            return Err("other bytes came than were sent".into());
        }
    }
    Ok(())
}

/// Clients that write without end, and an upstream that throws away.
pub struct Bulk {
    pairs: Vec<(OwnedFd, OwnedFd)>,
    bytes: Vec<u8>,
}

impl Bulk {
    fn new(pairs: Vec<(OwnedFd, OwnedFd)>) -> Result<Self> {
        for (client, server) in &pairs {
            rustix::io::ioctl_fionbio(client, true)?;
            rustix::io::ioctl_fionbio(server, true)?;
        }
        Ok(Self { pairs, bytes: vec![b'x'; CHUNK] })
    }

    fn slice(&mut self, began: Instant, span: Duration) -> Result<u64> {
        let (mut sent, mut taken) = (0, 0);
        let mut progress = began;
        let mut fds = Vec::new();
        loop {
            let now = Instant::now();
            let writes = now - began < span;
            if !writes && sent == taken {
                return Ok(taken);
            }
            if now - progress > PATIENCE {
                return Err(format!("{} bytes do not come", sent - taken).into());
            }
            fds.clear();
            for (client, server) in &self.pairs {
                let out = if writes { PollFlags::OUT } else { PollFlags::empty() };
                fds.push(PollFd::new(client, out));
                fds.push(PollFd::new(server, PollFlags::IN));
            }
            let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            poll(&mut fds, Some(&second))?;
            for (pair, ready) in self.pairs.iter().zip(fds.chunks(2)) {
                if ready[0].revents().contains(PollFlags::OUT) {
                    match rustix::net::send(&pair.0, &self.bytes, SendFlags::NOSIGNAL) {
                        Ok(n) => sent += n as u64,
                        Err(rustix::io::Errno::AGAIN) => {}
                        Err(e) => return Err(e.into()),
                    }
                }
                if !ready[1].revents().is_empty() {
                    taken += take(pair.1.as_fd())?;
                    progress = now;
                }
            }
        }
    }
}

/// Drops what has come.
fn take(fd: std::os::fd::BorrowedFd<'_>) -> Result<u64> {
    let flags = (RecvFlags::TRUNC | RecvFlags::DONTWAIT).bits() as i32;
    // SAFETY: with MSG_TRUNC a stream's bytes are dropped, and nothing is written to memory.
    let n = unsafe { libc::recv(fd.as_raw_fd(), std::ptr::null_mut(), TAKE, flags) };
    match n {
        1.. => Ok(n as u64),
        0 => Err("the relay closed".into()),
        _ => match std::io::Error::last_os_error() {
            e if e.kind() == std::io::ErrorKind::WouldBlock => Ok(0),
            e => Err(e.into()),
        },
    }
}
