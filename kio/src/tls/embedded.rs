//! The traits of `embedded-io-async` on TLS streams.

use embedded_io_async::{ErrorType, Read, Write};

use super::stream::{OwnedRecvHalf, OwnedSendHalf, TlsRecvHalf, TlsSendHalf, TlsStream};
use crate::error::Error;

macro_rules! error_types {
    ($($type:ty),*) => { $(impl ErrorType for $type { type Error = Error; })* };
}

macro_rules! reads {
    ($($type:ty),*) => { $(
        impl Read for $type {
            async fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
                if into.is_empty() {
                    return Ok(0);
                }
                self.shared().path.read(self.socket(), into).await
            }
        }
    )* };
}

macro_rules! writes {
    ($($type:ty),*) => { $(
        impl Write for $type {
            async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
                self.push_copy(bytes).await?;
                Ok(bytes.len())
            }

            async fn flush(&mut self) -> Result<(), Error> {
                self.flush().await
            }
        }
    )* };
}

error_types!(TlsStream, TlsRecvHalf<'_>, TlsSendHalf<'_>, OwnedRecvHalf, OwnedSendHalf);
reads!(TlsStream, TlsRecvHalf<'_>, OwnedRecvHalf);
writes!(TlsStream, TlsSendHalf<'_>, OwnedSendHalf);
