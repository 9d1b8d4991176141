//! TCP: listeners, streams, connecting, relaying.

mod addr;
mod connect;
#[cfg(feature = "embedded-io-async")]
mod embedded;
#[cfg(feature = "std")]
mod listener;
#[cfg(feature = "tls")]
pub(crate) mod records;
mod recv;
mod relay;
#[cfg(feature = "std")]
mod resolve;
mod send;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod under;

pub use crate::op::Out;
pub use addr::ToAddr;
pub use connect::ConnectOptions;
#[cfg(feature = "embedded-io-async")]
pub use embedded::BufReader;
#[cfg(feature = "std")]
pub use listener::{ListenOptions, Listener};
pub use relay::{
    RelayError, RelayOptions, Relayed, relay, relay_one_way, relay_one_way_with, relay_with,
};
pub use stream::{RecvHalf, SendHalf, Stream};
#[cfg(feature = "tls")]
pub(crate) use tcp::Socket;
pub use tcp::{OwnedRecvHalf, OwnedSendHalf, TcpRecvHalf, TcpSendHalf, TcpStream};
