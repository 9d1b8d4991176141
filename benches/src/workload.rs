//! The three workloads, and the bytes that both ends agree on.
//!
//! Every server finds the end of a request with the same `Scanner` and answers from the same `REPLIES`,
//! so that a difference between servers is a difference between runtimes.

use std::str::FromStr;

/// What a server does with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    /// Answers each HTTP request with `REPLY`, pipelined or not, and keeps the connection.
    Http,
    /// Sends back whatever arrives.
    Echo,
    /// Answers one HTTP request and closes.
    Close,
}

impl Workload {
    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Echo => "echo",
            Self::Close => "close",
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Http, Self::Echo, Self::Close]
            .into_iter()
            .find(|w| w.name() == s)
            .ok_or_else(|| format!("unknown workload `{s}`: http, echo or close"))
    }
}

/// The reply to every request: 52 bytes.
pub const REPLY: &[u8; 52] = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!";

/// How many replies one send may carry.
pub const BATCH: usize = 64;

/// `BATCH` replies in a row, to answer pipelined requests with one send.
pub static REPLIES: [u8; REPLY.len() * BATCH] = {
    let mut all = [0; REPLY.len() * BATCH];
    let mut i = 0;
    while i < all.len() {
        all[i] = REPLY[i % REPLY.len()];
        i += 1;
    }
    all
};

/// The first `min(owed, BATCH)` replies.
#[inline]
pub fn replies(owed: u32) -> &'static [u8] {
    &REPLIES[..REPLY.len() * (owed as usize).min(BATCH)]
}

/// One GET request of at least `size` bytes: what is missing is filled into a header.
pub fn request(size: usize) -> Vec<u8> {
    let mut bytes = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n".to_vec();
    let pad = size.saturating_sub(bytes.len() + "X-Pad: \r\n\r\n".len());
    if pad > 0 {
        bytes.extend_from_slice(b"X-Pad: ");
        bytes.resize(bytes.len() + pad, b'a');
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Finds "\r\n\r\n", also when it is cut by the end of a read.
#[derive(Clone, Copy, Default)]
pub struct Scanner {
    /// How many bytes of the mark have been seen.
    seen: u8,
}

impl Scanner {
    /// How many requests end in `bytes`.
    #[inline]
    pub fn count(&mut self, bytes: &[u8]) -> u32 {
        let (mut seen, mut found) = (self.seen, 0);
        for &b in bytes {
            seen = match (b, seen) {
                (b'\r', 2) => 3,
                (b'\r', _) => 1,
                (b'\n', 1) => 2,
                (b'\n', 3) => {
                    found += 1;
                    0
                }
                _ => 0,
            };
        }
        self.seen = seen;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_cut_anywhere_is_found_once() {
        let two = [request(0), request(300)].concat();
        for cut in 0..two.len() {
            let mut scanner = Scanner::default();
            let found = scanner.count(&two[..cut]) + scanner.count(&two[cut..]);
            assert_eq!(found, 2, "cut at {cut}");
        }
    }

    #[test]
    fn a_request_is_as_long_as_asked() {
        assert_eq!(request(300).len(), 300);
        assert_eq!(Scanner::default().count(&request(300)), 1);
    }

    #[test]
    fn a_half_mark_is_no_request() {
        assert_eq!(Scanner::default().count(b"\r\n\r\r\n\n\n\r\r\n\r"), 0);
    }
}
