//! A hand-written epoll loop, level-triggered: what readiness costs without a runtime on top.
//!
//! One buffer serves all reads. What a client does not take at once waits in its connection, which is
//! not read from until that is gone.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, acceptfrom_with, recv, send};

use super::{Options, ready, served};
use crate::Result;
use crate::sys;
use crate::workload::{REPLY, Scanner, Workload, replies};

/// Bytes read at once.
const READ: usize = 16 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 256;

/// Tokens of the two descriptors that are no connections; those have their descriptor's number.
const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

struct Conn {
    fd: OwnedFd,
    scanner: Scanner,
    owed: u32,
    /// What the socket did not take.
    unsent: Vec<u8>,
}

struct Server {
    poll: OwnedFd,
    conns: Vec<Option<Conn>>,
    workload: Workload,
    buf: Vec<u8>,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Then {
    Stay,
    Close,
}

/// Serves until SIGTERM.
pub fn run(options: &Options) -> Result<()> {
    if !options.spin.is_zero() {
        return Err("this server has no spinning before sleep".into());
    }
    let listener = sys::listen(options.port)?;
    let port = std::net::TcpListener::from(listener.try_clone()?).local_addr()?.port();
    let stop = sys::stop_fd()?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    epoll::add(&poll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
    let mut server = Server {
        poll,
        conns: Vec::with_capacity(1024),
        workload: options.workload,
        buf: vec![0; READ],
    };
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    ready(port)?;
    loop {
        events.clear();
        match epoll::wait(&server.poll, spare_capacity(&mut events), None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        for event in &events {
            match event.data.u64() {
                STOP => return Ok(()),
                LISTENER => server.accept(&listener)?,
                token => server.turn(token as usize, event.flags)?,
            }
        }
    }
}

impl Server {
    fn accept(&mut self, listener: &OwnedFd) -> io::Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // Only an empty backlog ends this; a client that has gone again is none of our business.
        while let Ok((fd, _)) = acceptfrom_with(listener, flags) {
            let at = fd.as_raw_fd() as usize;
            if self.conns.len() <= at {
                self.conns.resize_with(at + 1, || None);
            }
            epoll::add(&self.poll, &fd, EventData::new_u64(at as u64), EventFlags::IN)?;
            self.conns[at] =
                Some(Conn { fd, scanner: Scanner::default(), owed: 0, unsent: Vec::new() });
        }
        Ok(())
    }

    fn turn(&mut self, at: usize, flags: EventFlags) -> io::Result<()> {
        let Some(conn) = self.conns.get_mut(at).and_then(Option::as_mut) else {
            return Ok(());
        };
        let waited = !conn.unsent.is_empty();
        // A failure of one connection ends that connection.
        let then = if waited && flags.contains(EventFlags::OUT) {
            conn.flush(self.workload).unwrap_or(Then::Close)
        } else {
            conn.read(self.workload, &mut self.buf).unwrap_or(Then::Close)
        };
        let waits = !conn.unsent.is_empty();
        if then == Then::Close {
            // Dropping the descriptor takes it out of epoll.
            self.conns[at] = None;
        } else if waits != waited {
            let flags = if waits { EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.poll, &conn.fd, EventData::new_u64(at as u64), flags)?;
        }
        Ok(())
    }
}

impl Conn {
    fn read(&mut self, workload: Workload, buf: &mut [u8]) -> io::Result<Then> {
        let (n, _) = match recv(&self.fd, &mut *buf, RecvFlags::empty()) {
            Err(rustix::io::Errno::AGAIN) => return Ok(Then::Stay),
            other => other?,
        };
        if n == 0 {
            return Ok(Then::Close);
        }
        if workload == Workload::Echo {
            served(1);
            self.send(&buf[..n])?;
            return Ok(Then::Stay);
        }
        self.owed += self.scanner.count(&buf[..n]);
        self.answer(workload)
    }

    /// Sends what is owed, as far as the socket takes it.
    fn answer(&mut self, workload: Workload) -> io::Result<Then> {
        while self.owed > 0 && self.unsent.is_empty() {
            let bytes = if workload == Workload::Close { replies(1) } else { replies(self.owed) };
            let count = (bytes.len() / REPLY.len()) as u32;
            self.send(bytes)?;
            served(count);
            self.owed -= count;
            if workload == Workload::Close && self.unsent.is_empty() {
                return Ok(Then::Close);
            }
        }
        Ok(Then::Stay)
    }

    fn flush(&mut self, workload: Workload) -> io::Result<Then> {
        let bytes = std::mem::take(&mut self.unsent);
        self.send(&bytes)?;
        self.answer(workload)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = match send(&self.fd, bytes, SendFlags::NOSIGNAL) {
            Ok(n) => n,
            Err(rustix::io::Errno::AGAIN) => 0,
            Err(e) => return Err(e.into()),
        };
        if sent < bytes.len() {
            self.unsent.extend_from_slice(&bytes[sent..]);
        }
        Ok(())
    }
}
