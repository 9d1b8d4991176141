//! The PROXY protocol: who a client is, told in a header before its bytes. Versions 1 (a line of
//! text) and 2 (binary), read and written as haproxy's `proxy-protocol.txt` says.

use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use heapless::Vec;

/// Bytes of the longest header of version 1, its end of line included.
const V1_MAX: usize = 107;
/// Bytes of version 2 before the addresses, and of all that is taken: addresses and some options.
const V2_HEAD: usize = 16;
const V2_MAX: usize = 536;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The two ends of a client's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// The client.
    pub from: SocketAddr,
    /// What it connected to.
    pub to: SocketAddr,
}

/// What the first bytes of a client are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// The begin of a header: more is needed.
    Part,
    /// A header of so many bytes; without ends (LOCAL, UNKNOWN) the connection's own count.
    Header(usize, Option<Ends>),
    /// No header, or one that is wrong.
    Wrong,
}

/// Looks for a header at the begin of a client's bytes.
pub fn read(bytes: &[u8]) -> Found {
    match bytes {
        [] => Found::Part,
        [b'P', ..] => read_v1(bytes),
        [b'\r', ..] => read_v2(bytes),
        _ => Found::Wrong,
    }
}

fn read_v1(bytes: &[u8]) -> Found {
    let begin = b"PROXY ";
    let n = bytes.len().min(begin.len());
    if bytes[..n] != begin[..n] {
        return Found::Wrong;
    }
    let line = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = line.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() < V1_MAX { Found::Part } else { Found::Wrong };
    };
    match parse_v1(&line[begin.len()..end]) {
        Some(ends) => Found::Header(end + 2, ends),
        None => Found::Wrong,
    }
}

fn parse_v1(line: &[u8]) -> Option<Option<Ends>> {
    let line = core::str::from_utf8(line).ok()?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = line.split(' ');
    let family = words.next()?;
    let ip = |word: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let port = |word: &str| -> Option<u16> {
        // No sign, no leading zero.
        let plain = word.bytes().all(|byte| byte.is_ascii_digit());
        let short = word == "0" || !word.starts_with('0');
        if plain && short { word.parse().ok() } else { None }
    };
    let (from, to) = (ip(words.next()?)?, ip(words.next()?)?);
    let (from_port, to_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let ends = Ends { from: SocketAddr::new(from, from_port), to: SocketAddr::new(to, to_port) };
    Some(Some(ends))
}

fn read_v2(bytes: &[u8]) -> Found {
    let n = bytes.len().min(SIGNATURE.len());
    if bytes[..n] != SIGNATURE[..n] {
        return Found::Wrong;
    }
    let Some(head) = bytes.first_chunk::<V2_HEAD>() else { return Found::Part };
    let (version, command) = (head[12] >> 4, head[12] & 15);
    let (family, transport) = (head[13] >> 4, head[13] & 15);
    let len = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if version != 2 || command > 1 || family > 3 || transport > 2 || V2_HEAD + len > V2_MAX {
        return Found::Wrong;
    }
    let local = command == 0;
    // What addresses of that family take. Those of Unix sockets are taken and not used.
    let need = match family {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    if !local && len < need {
        return Found::Wrong;
    }
    let Some(rest) = bytes.get(V2_HEAD..V2_HEAD + len) else { return Found::Part };
    let whole = V2_HEAD + len;
    if local || !matches!(family, 1 | 2) {
        return Found::Header(whole, None);
    }
    // A datagram's addresses are not those of a client that connected.
    if transport != 1 {
        return Found::Wrong;
    }
    let ends = match family {
        1 => ends_v4(rest),
        _ => ends_v6(rest),
    };
    ends.map_or(Found::Wrong, |ends| Found::Header(whole, Some(ends)))
}

fn ends_v4(rest: &[u8]) -> Option<Ends> {
    let rest = rest.first_chunk::<12>()?;
    let ip = |at: usize| Ipv4Addr::new(rest[at], rest[at + 1], rest[at + 2], rest[at + 3]);
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    Some(Ends { from: (ip(0), port(8)).into(), to: (ip(4), port(10)).into() })
}

fn ends_v6(rest: &[u8]) -> Option<Ends> {
    let ip = |at: usize| rest.get(at..)?.first_chunk::<16>().copied().map(Ipv6Addr::from);
    let port = |at: usize| rest.get(at..)?.first_chunk::<2>().copied().map(u16::from_be_bytes);
    let (from, to) = (ip(0)?, ip(16)?);
    Some(Ends { from: (from, port(32)?).into(), to: (to, port(34)?).into() })
}

/// A header to send.
pub type Written = Vec<u8, V1_MAX>;

/// Writes a header of version 1; without ends, that of who speaks for itself.
pub fn write_v1(ends: Option<Ends>) -> Written {
    let mut bytes = Written::new();
    let Some(ends) = ends else {
        let _ = bytes.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return bytes;
    };
    let Ends { from, to } = unmapped(ends);
    // It fits: 107 bytes hold the longest.
    let _ = match (from.ip(), to.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            write!(bytes, "PROXY TCP4 {a} {b} {} {}\r\n", from.port(), to.port())
        }
        (a, b) => {
            let (a, b) = (v6(a), v6(b));
            write!(bytes, "PROXY TCP6 {a} {b} {} {}\r\n", from.port(), to.port())
        }
    };
    bytes
}

/// Writes a header of version 2; without ends, that of who speaks for itself.
pub fn write_v2(ends: Option<Ends>) -> Written {
    let mut bytes = Written::new();
    let mut put = |part: &[u8]| {
        let _ = bytes.extend_from_slice(part);
    };
    put(SIGNATURE);
    let Some(ends) = ends else {
        put(&[0x20, 0, 0, 0]);
        return bytes;
    };
    let Ends { from, to } = unmapped(ends);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            put(&[0x21, 0x11, 0, 12]);
            put(&a.octets());
            put(&b.octets());
        }
        (a, b) => {
            put(&[0x21, 0x21, 0, 36]);
            put(&v6(a).octets());
            put(&v6(b).octets());
        }
    }
    put(&from.port().to_be_bytes());
    put(&to.port().to_be_bytes());
    bytes
}

fn unmapped(ends: Ends) -> Ends {
    let plain = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    Ends { from: plain(ends.from), to: plain(ends.to) }
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(from: &str, to: &str) -> Ends {
        Ends { from: from.parse().expect("an address"), to: to.parse().expect("an address") }
    }

    const LONGEST: &str = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";

    #[test]
    fn what_is_written_is_read_again() {
        for ends in [
            ends("192.0.2.1:56324", "192.0.2.2:443"),
            ends("[2001:db8::1]:1", "[2001:db8::2]:65535"),
            ends("192.0.2.1:56324", "[2001:db8::2]:443"),
            ends(LONGEST, LONGEST),
        ] {
            for header in [write_v1(Some(ends)), write_v2(Some(ends))] {
                let Found::Header(len, Some(read_ends)) = read(&header) else {
                    panic!("{header:?} is not read")
                };
                assert_eq!((len, unmapped(read_ends)), (header.len(), unmapped(ends)));
                // Each part of it is a part, and what follows does not matter.
                for n in 0..header.len() {
                    assert_eq!(read(&header[..n]), Found::Part, "{n} bytes of {header:?}");
                }
                let mut more = header.to_vec();
                more.extend_from_slice(b"GET / HTTP/1.1\r\n");
                assert_eq!(read(&more), Found::Header(len, Some(read_ends)));
            }
        }
    }

    #[test]
    fn headers_without_addresses_are_taken() {
        for header in [write_v1(None), write_v2(None)] {
            assert_eq!(read(&header), Found::Header(header.len(), None));
        }
        assert_eq!(read(b"PROXY UNKNOWN\r\nx"), Found::Header(15, None));
        assert_eq!(read(b"PROXY UNKNOWN a b 1 2\r\n"), Found::Header(23, None));
        for tail in [&b"\x20\x00\x00\x00"[..], b"\x20\x11\x00\x02ab", b"\x21\x00\x00\x03abc"] {
            let header = [SIGNATURE, tail].concat();
            assert_eq!(read(&header), Found::Header(header.len(), None), "{tail:?}");
        }
        let unix = [SIGNATURE, &b"\x21\x31\x00\xd8"[..], &[0; 216]].concat();
        assert_eq!(read(&unix), Found::Header(unix.len(), None));
    }

    #[test]
    fn wrong_headers_are_refused() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "PROXX TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(read(line.as_bytes()), Found::Wrong, "{line:?}");
        }
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        assert_eq!(read(&long[..V1_MAX - 1]), Found::Part);
        assert_eq!(read(&long), Found::Wrong);
        for tail in [
            &b"\x11\x11\x00\x0c"[..], // version 1
            b"\x22\x11\x00\x0c",      // a command that is none
            b"\x21\x41\x00\x0c",      // a family that is none
            b"\x21\xf1\x00\x0c",
            b"\x21\x13\x00\x0c", // a transport that is none
            b"\x21\x11\x00\x0b", // too short for its family
            b"\x21\x21\x00\x0c",
            b"\x21\x31\x00\x24",
            b"\x21\x11\xff\xff",             // too long
            b"\x21\x12\x00\x0c0123456789ab", // a datagram
        ] {
            let header = [SIGNATURE, tail].concat();
            assert_eq!(read(&header), Found::Wrong, "{tail:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut random = 1u32;
        let v2 = write_v2(Some(ends("192.0.2.1:56324", "192.0.2.2:443")));
        let v1 = write_v1(Some(ends("192.0.2.1:56324", "192.0.2.2:443")));
        for _ in 0..20_000 {
            for header in [&v1, &v2] {
                let mut bytes = header.to_vec();
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (random >> 16) as usize % bytes.len();
                bytes[at] = (random >> 8) as u8;
                bytes.truncate(1 + (random >> 20) as usize % 60);
                if let Found::Header(len, _) = read(&bytes) {
                    assert!(len <= bytes.len());
                }
            }
        }
    }
}
