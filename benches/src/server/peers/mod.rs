//! Other runtimes on io_uring, each as its users write a server: a task and a 16 KiB buffer a connection.
//! Where a runtime lets its ring be set up, it is for cooperative task work, which is faster.

pub mod compio;
pub mod glommio;
pub mod monoio;
pub mod tokio_uring;

use std::net::TcpListener;

use super::{Options, report};
use crate::Result;
use crate::sys;

/// Bytes a connection reads at once.
const READ: usize = 16 * 1024;

/// Listens, and has SIGTERM end the process with its report: none of these runtimes shares a way to
/// wait for a signal.
fn begin(options: &Options, name: &str) -> Result<(TcpListener, u16)> {
    if !options.spin.is_zero() {
        return Err(format!("{name} is measured without spinning").into());
    }
    let listener = TcpListener::from(sys::listen(options.port)?);
    let port = listener.local_addr()?.port();
    let stop = sys::stop_fd()?;
    std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
        let mut fds = [rustix::event::PollFd::new(&stop, rustix::event::PollFlags::IN)];
        while rustix::event::poll(&mut fds, None).is_err() {}
        report();
        std::process::exit(0);
    })?;
    Ok((listener, port))
}

/// The flags that `monoio` and `tokio-uring` take from their users.
fn cooperative() -> io_uring_06::Builder {
    let mut builder = ::tokio_uring::uring_builder();
    builder.setup_coop_taskrun();
    builder
}
