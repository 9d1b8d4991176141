//! The load: connections that ask for one file after another, and drop what comes without copying it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::{CONNECTIONS, FILES, SIZE, request};
use crate::Result;
use crate::sys;

/// A connection that asks for one file after another.
pub struct Client {
    fd: OwnedFd,
    next: usize,
    /// The end of a header that has not come whole, and how much of it.
    head: [u8; 1024],
    headed: usize,
    /// Bytes of the file that have not come.
    left: usize,
    waits: bool,
}

impl Client {
    /// Connects; its first file is the `nth`.
    pub fn new(port: u16, nth: usize) -> io::Result<Self> {
        let fd = sys::connect(port, None)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, next: nth, head: [0; 1024], headed: 0, left: 0, waits: false })
    }

    fn ask(&mut self) -> Result<()> {
        let request = request(self.next % FILES);
        self.next += 1;
        self.headed = 0;
        self.left = SIZE;
        self.waits = true;
        match rustix::io::write(&self.fd, request.as_bytes())? {
            n if n == request.len() => Ok(()),
            _ => Err("a request did not go out whole".into()),
        }
    }

    /// Takes what is there.
    fn take(&mut self) -> Result<()> {
        while self.waits {
            if self.headed != usize::MAX {
                let n = match rustix::io::read(&self.fd, &mut self.head[self.headed..]) {
                    Ok(0) => return Err("the server closed".into()),
                    Ok(n) => n,
                    Err(rustix::io::Errno::AGAIN) => return Ok(()),
                    Err(e) => return Err(e.into()),
                };
                self.headed += n;
                let seen = &self.head[..self.headed];
                if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                    self.left -= self.headed - end - 4;
                    self.headed = usize::MAX;
                } else if self.headed == self.head.len() {
                    return Err("a header of more than 1024 bytes".into());
                }
                continue;
            }
            // SAFETY: with MSG_TRUNC a stream's bytes are dropped, and nothing is written to memory.
            let n = unsafe {
                let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
                libc::recv(self.fd.as_raw_fd(), std::ptr::null_mut(), self.left, flags)
            };
            match n {
                0 => return Err("the server closed".into()),
                1.. => {
                    self.left -= n as usize;
                    self.waits = self.left > 0;
                }
                _ => {
                    let error = io::Error::last_os_error();
                    return match error.kind() {
                        io::ErrorKind::WouldBlock => Ok(()),
                        _ => Err(error.into()),
                    };
                }
            }
        }
        Ok(())
    }
}

/// Has all connections ask for files for a while. Returns the bytes that came, and from the first
/// request to the last byte.
pub fn slice(clients: &mut [Client], span: Duration) -> Result<(u64, Duration)> {
    let began = Instant::now();
    let mut bytes = 0;
    clients.iter_mut().try_for_each(Client::ask)?;
    while clients.iter().any(|client| client.waits) {
        let mut ready = [false; CONNECTIONS];
        {
            let mut fds: Vec<PollFd<'_>> =
                clients.iter().map(|client| PollFd::new(&client.fd, PollFlags::IN)).collect();
            poll(&mut fds, None)?;
            for (ready, fd) in ready.iter_mut().zip(&fds) {
                *ready = !fd.revents().is_empty();
            }
        }
        for (client, _) in
            clients.iter_mut().zip(ready).filter(|(client, ready)| client.waits && *ready)
        {
            client.take()?;
            if !client.waits {
                bytes += SIZE as u64;
                if began.elapsed() < span {
                    client.ask()?;
                }
            }
        }
    }
    Ok((bytes, began.elapsed()))
}
