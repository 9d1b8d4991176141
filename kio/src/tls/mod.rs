//! TLS: rustls' handshakes, then the kernel or rustls for the data.
//!
//! ```no_run
//! use std::sync::Arc;
//! use kio::tls::{Mode, TlsAcceptor, TlsStream, rustls};
//!
//! async fn echo(mut conn: TlsStream) -> kio::Result<()> {
//!     while let Some(data) = conn.recv_idle().await? {
//!         conn.send(data).await?;
//!     }
//!     conn.close().await
//! }
//! # async fn of(acceptor: &TlsAcceptor, tcp: kio::net::TcpStream) -> kio::Result<()> {
//! let conn = acceptor.accept(tcp).await?;
//! println!("{:?} by {}", conn.info().suite(), conn.data_path());
//! echo(conn).await
//! # }
//! ```
//!
//! [`TlsAcceptor`] and [`TlsConnector`] take finished configurations of [`rustls`], which choose
//! certificates, versions, ciphers, and the provider of cryptography: enable kio's feature `ring` or
//! `aws-lc-rs`, or bring another. They shake hands on a [`TcpStream`](crate::net::TcpStream) and give
//! a [`TlsStream`], which has what that has and is a [`net::Stream`](crate::net::Stream).
//!
//! # Who does the records
//!
//! Where the kernel's module `tls` is there ([`support`] tells) and the connection has a real
//! descriptor, the keys go to the kernel after the handshake: data then goes the way of plain TCP, by
//! the same operations, with no allocation. Else rustls does them. [`Mode`] chooses,
//! [`TlsStream::data_path`] tells. The two differ in no call and no result, but for:
//!
//! - the kernel changes keys from Linux 6.14 on only; before, a peer that changes its own ends the
//!   connection with [`TlsError::NoKeyUpdate`];
//! - after a record that does not decrypt the close is a reset, which may overtake the alert;
//! - records of no bytes end a connection in user space, after 32 in a row. The kernel swallows them
//!   unseen, and all that are there in one system call: a peer that sends them, over TLS 1.3, as fast as
//!   they are opened holds the worker up for as long (seen on 6.12 and 7.3). Where strangers who may
//!   want that can connect, use [`Mode::Off`];
//! - the kernel's code for TLS is then open to what strangers send.
//!
//! # Memory
//!
//! Handshakes allocate: rustls does, and kio puts their records together on the heap, at most
//! 128 KiB a handshake. In user space rustls then allocates each record once, in either direction;
//! a record that arrives in two received buffers is put together on the heap too, where a connection
//! keeps the room until it waits in `recv_idle` with nothing begun, and then its worker: one, of 64 KiB
//! at most, so that the next such record allocates nothing more. All other data is in pool buffers:
//! received ones hold their plaintext in place, and sealing goes behind the plaintext in its own
//! buffer where there is room. Buffers of a little more than 16 KiB hold a full record.
//!
//! # Giving up
//!
//! | given up | what becomes of it |
//! | --- | --- |
//! | `accept`, `connect` | the connection is closed |
//! | `recv`, `recv_into` and their kin | no byte is lost |
//! | `push`, `try_push` | nothing of it is sent, or all with the next flush |
//! | `push_copy`, `send_copy` | a part may be sent |
//! | `flush`, `send` | what was pushed goes out whole: at once, or with the next flush |
//! | `shutdown`, `close`, `finish` | close_notify may be missing |

mod acceptor;
#[cfg(feature = "embedded-io-async")]
mod embedded;
mod error;
mod handshake;
mod hello;
mod info;
mod kernel;
mod path;
mod session;
mod stream;
mod support;
mod user;

pub use acceptor::{Mode, TlsAcceptor, TlsConnector};
pub use error::{Common, Refused, TlsError};
pub use info::{DataPath, Info, Reason};
pub use rustls;
pub use stream::{OwnedRecvHalf, OwnedSendHalf, TlsRecvHalf, TlsSendHalf, TlsStream};
pub use support::{Ciphers, Support, support};
