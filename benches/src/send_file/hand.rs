//! `sendfile(2)` by hand.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::{FILES, HEADER, SIZE, asked, name};
use crate::Result;
use crate::server::{ready, served};
use crate::sys;

/// `sendfile(2)` behind `poll(2)`.
pub fn run(dir: &str) -> Result<()> {
    struct Conn {
        fd: OwnedFd,
        sending: Option<(usize, i64)>,
    }
    let files = (0..FILES).map(|nth| File::open(format!("{dir}/{}", name(nth))));
    let files = files.collect::<io::Result<Vec<_>>>()?;
    let stop = sys::stop_fd()?;
    let listener = sys::listen(0)?;
    ready(std::net::TcpListener::from(listener.try_clone()?).local_addr()?.port())?;
    let mut conns: Vec<Conn> = Vec::with_capacity(64);
    let mut came: Vec<usize> = Vec::with_capacity(64);
    loop {
        let mut fds = heapless::Vec::<PollFd<'_>, 66>::new();
        let _ = fds.push(PollFd::new(&stop, PollFlags::IN));
        let _ = fds.push(PollFd::new(&listener, PollFlags::IN));
        for conn in &conns {
            let wanted = if conn.sending.is_some() { PollFlags::OUT } else { PollFlags::IN };
            let _ = fds.push(PollFd::new(&conn.fd, wanted));
        }
        poll(&mut fds, None)?;
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        let accepts = !fds[1].revents().is_empty();
        came.clear();
        came.extend((0..conns.len()).filter(|nth| !fds[nth + 2].revents().is_empty()));
        drop(fds);
        if accepts && conns.len() < 64 {
            let flags = rustix::net::SocketFlags::NONBLOCK;
            conns.push(Conn { fd: rustix::net::accept_with(&listener, flags)?, sending: None });
        }
        for &nth in came.iter().rev() {
            let conn = &mut conns[nth];
            if conn.sending.is_none() {
                let mut request = [0; 1024];
                let n = match rustix::io::read(&conn.fd, &mut request) {
                    Ok(0) | Err(rustix::io::Errno::CONNRESET) => {
                        conns.swap_remove(nth);
                        continue;
                    }
                    other => other?,
                };
                let file = asked(&request[..n]).ok_or("not understood")?;
                let more = rustix::net::SendFlags::MORE;
                if rustix::net::send(&conn.fd, HEADER, more)? != HEADER.len() {
                    return Err("a header did not go out whole".into());
                }
                conn.sending = Some((file, 0));
            }
            while let Some((file, at)) = &mut conn.sending {
                let left = SIZE - *at as usize;
                // SAFETY: both descriptors are open, and `at` is a local valid for writing.
                let n = unsafe {
                    libc::sendfile(conn.fd.as_raw_fd(), files[*file].as_raw_fd(), at, left)
                };
                if n < 0 {
                    let error = io::Error::last_os_error();
                    match error.kind() {
                        io::ErrorKind::WouldBlock => break,
                        _ => return Err(error.into()),
                    }
                }
                if *at as usize == SIZE {
                    conn.sending = None;
                    served(1);
                }
            }
        }
    }
}
