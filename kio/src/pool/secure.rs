//! `tls = fn(&State) -> &TlsAcceptor` on a listener: the handshake goes before the handler, in the
//! connection's own task, so that a slow client keeps nobody waiting.

#[cfg(feature = "tls")]
pub use with::{Secured, TlsHandler, acceptor, secured};
#[cfg(not(feature = "tls"))]
pub use without::{NeedsFeature, acceptor, secured};

#[cfg(feature = "tls")]
mod with {
    use core::fmt;

    use crate::error::Error;
    use crate::net::TcpStream;
    use crate::pool::{Pool, Worker};
    use crate::task::Outcome;
    use crate::tls::{TlsAcceptor, TlsStream};

    /// What may handle a TLS connection: an `async fn` of the stream, or of the worker and the stream.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` cannot handle TLS connections: kio needs an `async fn(TlsStream)` or \
                   `async fn(Worker<P>, TlsStream)` that returns `()` or a `Result`"
    )]
    pub trait TlsHandler<P, Args>: Copy + 'static {
        /// The future of one connection, once its handshake is done.
        type Future: Future<Output: Outcome> + 'static;
        /// Handles one connection.
        fn handle(self, worker: Worker<P>, stream: TlsStream) -> Self::Future;
    }

    impl<P, F, Fut> TlsHandler<P, (TlsStream,)> for F
    where
        F: Fn(TlsStream) -> Fut + Copy + 'static,
        Fut: Future<Output: Outcome> + 'static,
    {
        type Future = Fut;

        fn handle(self, _: Worker<P>, stream: TlsStream) -> Fut {
            self(stream)
        }
    }

    impl<P, F, Fut> TlsHandler<P, (Worker<P>, TlsStream)> for F
    where
        F: Fn(Worker<P>, TlsStream) -> Fut + Copy + 'static,
        Fut: Future<Output: Outcome> + 'static,
    {
        type Future = Fut;

        fn handle(self, worker: Worker<P>, stream: TlsStream) -> Fut {
            self(worker, stream)
        }
    }

    /// What became of a connection.
    pub enum Secured<O> {
        /// There was no handshake.
        Failed(Error),
        /// The handler ended.
        Ended(O),
    }

    impl<O: Outcome> Outcome for Secured<O> {
        fn failure(&self) -> Option<(&dyn fmt::Debug, bool)> {
            match self {
                Self::Failed(error) => Some((error, error.is_routine())),
                Self::Ended(outcome) => outcome.failure(),
            }
        }
    }

    /// The acceptor of a state, for one connection.
    pub fn acceptor(of: &TlsAcceptor) -> TlsAcceptor {
        of.clone()
    }

    /// Shakes hands and lets the handler have the connection.
    pub async fn secured<P: Pool, Args, H: TlsHandler<P, Args>>(
        acceptor: TlsAcceptor,
        handler: H,
        worker: Worker<P>,
        stream: TcpStream,
    ) -> Secured<<H::Future as Future>::Output> {
        let accepted = acceptor.accept(stream).await;
        drop(acceptor);
        match accepted {
            Ok(stream) => Secured::Ended(handler.handle(worker, stream).await),
            Err(error) => Secured::Failed(error),
        }
    }
}

/// A declaration asks for TLS and the crate was built without: said at the listener.
#[cfg(not(feature = "tls"))]
mod without {
    use crate::net::TcpStream;
    use crate::pool::{Pool, Worker};

    /// What is never implemented.
    #[diagnostic::on_unimplemented(
        message = "`tls` of a listener needs kio's feature `tls`, or one of `ring` and `aws-lc-rs`"
    )]
    pub trait NeedsFeature {}

    /// See the feature `tls`.
    pub fn acceptor<T: NeedsFeature>(_: &T) {}

    /// See the feature `tls`.
    pub async fn secured<P: Pool, H>(_: (), _: H, _: Worker<P>, _: TcpStream) {}
}
