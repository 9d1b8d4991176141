//! HTTP/1 as far as `static_files`, `tls_files` and `https` need it: requests, ranges, and the heads of
//! replies.
#![allow(dead_code, reason = "an example may know no files")]

use std::{fmt::Write, ops::Range, str::from_utf8};

use kio::{BufMut, Result};

pub const BAD: &str = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
pub const MISSING: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// What is asked for.
#[derive(Default)]
pub struct Request<'a> {
    /// Below the root; `None` of a request that is not served here.
    pub path: Option<&'a str>,
    /// The text of `Range`.
    pub range: Option<&'a str>,
    /// The head only.
    pub head: bool,
    /// The connection stays.
    pub keep: bool,
}

/// The first request, and its length; `None` for a part of one that is no longer than `max`.
pub fn parse(data: &[u8], max: usize) -> Option<(usize, Request<'_>)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(data) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(_) if data.len() < max => return None,
        _ => return Some((0, Request::default())),
    };
    let find = |name| {
        let header = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name))?;
        from_utf8(header.value).ok()
    };
    let head = match request.method {
        _ if find("content-length").or(find("transfer-encoding")).is_some() => None, // a body
        Some("GET") => Some(false),
        Some("HEAD") => Some(true),
        _ => None,
    };
    let path = request.path?.split('?').next()?.trim_start_matches('/');
    // By text `..` would leave the root of relative paths.
    let (Some(head), false) = (head, path.split('/').any(|part| part == "..")) else {
        return Some((0, Request::default()));
    };
    let path = if path.is_empty() { "index.html" } else { path };
    let range = find("range").filter(|_| !head && find("if-range").is_none());
    let close = find("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let keep = request.version == Some(1) && !close;
    Some((len, Request { path: Some(path), range, head, keep }))
}

/// Writes the head of a reply with a file of `size` bytes, or with a range of it, and tells which
/// bytes are to follow.
pub fn put_head(head: &mut BufMut, size: u64, range: Option<&str>) -> Result<Range<u64>> {
    let part = match range.and_then(|text| parse_range(text, size)) {
        None => {
            head.put(b"HTTP/1.1 200 OK\r\n")?;
            0..size
        }
        Some(part) if part.is_empty() => {
            head.put(b"HTTP/1.1 416 Range Not Satisfiable\r\n")?;
            write!(head, "Content-Range: bytes */{size}\r\n")?;
            0..0
        }
        Some(part) => {
            head.put(b"HTTP/1.1 206 Partial Content\r\n")?;
            write!(head, "Content-Range: bytes {}-{}/{size}\r\n", part.start, part.end - 1)?;
            part
        }
    };
    let len = part.end - part.start;
    write!(head, "Content-Length: {len}\r\nAccept-Ranges: bytes\r\n\r\n")?;
    Ok(part)
}

/// What a range asks of `len` bytes: empty where there are none. `None` of what is no single range,
/// which is answered with the whole.
fn parse_range(text: &str, len: u64) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.parse::<u64>().ok();
    match (first, last) {
        ("", last) => Some(len.saturating_sub(number(last)?)..len),
        (first, "") => Some(number(first)?..len),
        (first, last) if number(first)? <= number(last)? => {
            Some(number(first)?..number(last)?.saturating_add(1).min(len))
        }
        _ => None,
    }
}
