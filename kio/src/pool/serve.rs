//! `listen = { addr => handler }`: the accept loop that nobody has to write.

use core::net::SocketAddr;

use super::worker::decl;
use super::{EntryFuture, Pool, Worker};
use crate::error::{Error, Result};
use crate::net::{ListenOptions, TcpStream};
use crate::task::{Outcome, TaskDecl, catch};

/// What may handle a connection: an `async fn` of the stream, or of the worker and the stream.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle connections: kio needs an `async fn(TcpStream)` or \
               `async fn(Worker<P>, TcpStream)` that returns `()` or a `Result`"
)]
pub trait Handler<P, Args>: Copy + 'static {
    /// The future of one connection.
    type Future: Future<Output: Outcome> + 'static;
    /// Handles one connection.
    fn handle(self, worker: Worker<P>, stream: TcpStream) -> Self::Future;
}

impl<P, F, Fut> Handler<P, (TcpStream,)> for F
where
    F: Fn(TcpStream) -> Fut + Copy + 'static,
    Fut: Future<Output: Outcome> + 'static,
{
    type Future = Fut;

    fn handle(self, _: Worker<P>, stream: TcpStream) -> Fut {
        self(stream)
    }
}

impl<P, F, Fut> Handler<P, (Worker<P>, TcpStream)> for F
where
    F: Fn(Worker<P>, TcpStream) -> Fut + Copy + 'static,
    Fut: Future<Output: Outcome> + 'static,
{
    type Future = Fut;

    fn handle(self, worker: Worker<P>, stream: TcpStream) -> Fut {
        self(worker, stream)
    }
}

/// Accepts on one address and starts a task a connection. A slot is taken first: while all are,
/// clients wait in the backlog.
async fn accept<P: Pool, Args: 'static, H: Handler<P, Args>>(
    worker: Worker<P>,
    addr: SocketAddr,
    options: ListenOptions,
    handler: H,
) -> Result<()> {
    let mut listener = worker.listen_with(addr, options).await?;
    loop {
        let place = worker.reserve_future::<H::Future>().await?;
        let stream = listener.accept().await?;
        // A handler may be any function that returns a future: one that panics ends its connection.
        if let Err(panic) = catch(|| place.spawn(move || handler.handle(worker, stream))) {
            worker.core().spawn_panicked::<H::Future>(&panic);
        }
    }
}

/// The line of a handler: one slot a connection.
pub const fn handler_layout<P: Pool, Args: 'static, H: Handler<P, Args>>(
    _: &H,
    name: &'static str,
    count: u32,
) -> TaskDecl {
    decl::<H::Future>(name, count)
}

/// The line of the accept loops of one handler.
pub const fn accept_layout<P: Pool, Args: 'static, H: Handler<P, Args>>(
    _: &H,
    name: &'static str,
    count: u32,
) -> TaskDecl {
    const fn of<A, B, C, D, F>(_: fn(A, B, C, D) -> F, name: &'static str, count: u32) -> TaskDecl
    where
        F: Future<Output = Result<()>> + 'static,
    {
        decl::<EntryFuture<F>>(name, count)
    }
    of(accept::<P, Args, H>, name, count)
}

/// Starts the accept loop of one address.
pub fn serve<P: Pool, Args: 'static, H: Handler<P, Args>>(
    worker: Worker<P>,
    addr: SocketAddr,
    options: ListenOptions,
    handler: H,
) -> Result<()> {
    let spawned = worker.spawn(|| {
        EntryFuture::new(worker.core(), accept::<P, Args, H>(worker, addr, options, handler))
    });
    spawned.map(drop).map_err(Error::from)
}
