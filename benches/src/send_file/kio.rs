//! kio's `send_to`, with buffers of two sizes.

use ::kio::net::TcpStream;
use ::kio::{Core, Error, Result as KioResult, State, Worker};

use super::{FILES, HEADER, SIZE, asked, name};
use crate::server::{ready, served};

macro_rules! declare {
    ($module:ident, $($buffers:tt)+) => {
        pub mod $module {
            use super::*;

            pub struct Shared {
                dir: String,
                files: std::cell::OnceCell<heapless::Vec<::kio::fs::File, FILES>>,
            }

            impl State for Shared {
                type Args = String;

                fn init(_: Core, dir: &String) -> KioResult<Self> {
                    Ok(Self { dir: dir.clone(), files: std::cell::OnceCell::new() })
                }
            }

            async fn send(worker: Worker<Files>, mut conn: TcpStream) -> KioResult<()> {
                let state = worker.state();
                let files = state.files.get().ok_or(Error::Other("no files"))?;
                while let Some(request) = conn.recv_idle().await? {
                    let nth = asked(&request).ok_or(Error::Other("not understood"))?;
                    drop(request);
                    conn.push(HEADER).await?;
                    files[nth].send_to(&mut conn, 0..SIZE as u64).await?;
                    served(1);
                }
                Ok(())
            }

            async fn serve(worker: Worker<Files>) -> KioResult<()> {
                let state = worker.state();
                let mut files = heapless::Vec::new();
                for nth in 0..FILES {
                    let path = format!("{}/{}", state.dir, name(nth));
                    let _ = files.push(worker.open(&*path).await?);
                }
                let _ = state.files.set(files);
                let mut listener = worker.listen(([127, 0, 0, 1], 0)).await?;
                let port = listener.local_addr()?.port();
                ready(port).map_err(|_| Error::Other("cannot print the port"))?;
                loop {
                    let place = worker.reserve(send).await?;
                    let conn = listener.accept().await?;
                    place.spawn(move || send(worker, conn));
                }
            }

            ::kio::pool! {
                pub struct Files;
                workers = 1,
                entry = serve,
                state = Shared,
                tasks = { send: 64 },
                conns = 64,
                files = 16,
                buffers = $($buffers)+,
            }
        }
    };
}

declare!(small, 512 x 16 KiB);
declare!(large, 256 x 64 KiB);
