//! The server name in a ClientHello, which rustls' unbuffered server keeps to itself (0.23).
//!
//! What is read here is only reported: rustls has parsed the same bytes and refused what is wrong.

use alloc::borrow::Cow;
use alloc::boxed::Box;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// The name that the ClientHello at the begin of these records asks for, if it is whole and has one.
pub(super) fn server_name(records: &[u8]) -> Option<Box<str>> {
    let hello = handshake_message(records)?;
    let mut hello = Bytes(&hello);
    if hello.u8()? != CLIENT_HELLO {
        return None;
    }
    let mut body = hello.vec(3)?;
    body.take(2 + 32)?; // version, random
    body.vec(1)?; // session id
    body.vec(2)?; // cipher suites
    body.vec(1)?; // compression methods
    let mut extensions = body.vec(2)?;
    while !extensions.0.is_empty() {
        let kind = extensions.len(2)?;
        let mut extension = extensions.vec(2)?;
        if kind == usize::from(SERVER_NAME) {
            let mut names = extension.vec(2)?;
            while !names.0.is_empty() {
                let kind = names.u8()?;
                let name = names.vec(2)?;
                if kind == HOST_NAME {
                    return core::str::from_utf8(name.0).ok().map(Box::from);
                }
            }
        }
    }
    None
}

/// The first handshake message, put together where it spans records.
fn handshake_message(records: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut records = Bytes(records);
    let mut message = Cow::Borrowed(&[][..]);
    loop {
        if records.u8()? != HANDSHAKE {
            return None;
        }
        records.take(2)?; // version
        let payload = records.vec(2)?.0;
        if message.is_empty() {
            message = Cow::Borrowed(payload);
        } else {
            message.to_mut().extend_from_slice(payload);
        }
        if Bytes(&message[1.min(message.len())..]).vec(3).is_some() {
            return Some(message);
        }
    }
}

/// Bytes to be taken from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    /// A big-endian number of so many bytes.
    fn len(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)))
    }

    /// A vector whose length is in so many bytes before it.
    fn vec(&mut self, bytes: usize) -> Option<Bytes<'a>> {
        let n = self.len(bytes)?;
        self.take(n).map(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::server_name;
    use alloc::vec::Vec;

    fn vec(len_bytes: usize, of: &[u8]) -> Vec<u8> {
        let mut bytes = of.len().to_be_bytes()[8 - len_bytes..].to_vec();
        bytes.extend_from_slice(of);
        bytes
    }

    fn hello(name: &str) -> Vec<u8> {
        let names = [&[0][..], &vec(2, name.as_bytes())].concat();
        let extension = [&[0, 0][..], &vec(2, &vec(2, &names))].concat();
        let other = [&[0, 43][..], &vec(2, &[2, 3, 4])].concat();
        let body = [
            &[3, 3][..],
            &[7; 32],
            &vec(1, &[]),
            &vec(2, &[0x13, 1]),
            &vec(1, &[0]),
            &vec(2, &[other, extension].concat()),
        ]
        .concat();
        [&[1][..], &vec(3, &body)].concat()
    }

    fn records(message: &[u8], each: usize) -> Vec<u8> {
        message.chunks(each).flat_map(|part| [&[22, 3, 1][..], &vec(2, part)].concat()).collect()
    }

    #[test]
    fn the_name_is_found_however_the_hello_is_cut_into_records() {
        for each in [1, 3, 7, 1000] {
            let records = records(&hello("kio.example"), each);
            assert_eq!(server_name(&records).as_deref(), Some("kio.example"));
            for cut in 0..records.len() {
                assert_eq!(server_name(&records[..cut]), None, "{cut} bytes are not all");
            }
        }
    }

    #[test]
    fn what_is_no_hello_has_no_name() {
        assert_eq!(server_name(b"GET / HTTP/1.1\r\n\r\n"), None);
        assert_eq!(server_name(&[22; 300]), None);
    }
}
