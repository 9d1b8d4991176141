//! tokio's `copy_bidirectional` on a current-thread runtime.

use ::tokio::io::copy_bidirectional;
use ::tokio::net::{TcpListener, TcpStream};
use ::tokio::runtime::Builder;
use ::tokio::signal::unix::{SignalKind, signal};

use crate::Result;
use crate::server::ready;
use crate::sys;

/// Relays until SIGTERM.
pub fn run(upstream: u16) -> Result<()> {
    let listener = std::net::TcpListener::from(sys::listen(0)?);
    Builder::new_current_thread().enable_io().build()?.block_on(async move {
        let listener = TcpListener::from_std(listener)?;
        let mut stop = signal(SignalKind::terminate())?;
        let port = listener.local_addr()?.port();
        ::tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                ::tokio::spawn(async move {
                    let _ = client.set_nodelay(true);
                    if let Ok(mut server) = TcpStream::connect(("127.0.0.1", upstream)).await {
                        let _ = server.set_nodelay(true);
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        ready(port)?;
        stop.recv().await;
        Ok(())
    })
}
