//! Records as `log` writes them. A crash may leave a part of one, or zeros where it would be: so each
//! has a line of its own, begun and ended, and a sum.

use std::{fmt::Write, str::from_utf8};

use kio::{BufMut, Result, fs::File, net::TcpStream};

/// Adds a record.
pub fn put(into: &mut BufMut, text: &[u8]) -> Result<()> {
    write!(into, "\n{:08x} ", sum(text))?;
    into.put(text)?;
    Ok(into.put(b"\n")?)
}

/// Sends all records that are whole, in the order of the log.
pub async fn replay(log: &File, conn: &mut TcpStream) -> Result<()> {
    let (mut bytes, mut at, mut more) = (conn.core().buf().await?, 0, true);
    while more {
        let had = bytes.len();
        bytes = log.read_full_at(bytes, at).await?;
        at += (bytes.len() - had) as u64;
        more = bytes.spare() == 0;
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            if let Some(text) = checked(&bytes[..end]) {
                conn.push_copy(text).await?;
                conn.push("\n").await?;
            }
            bytes.consume(end + 1);
        }
        bytes.compact();
        if bytes.spare() == 0 {
            bytes.clear(); // a part of nothing: no record is so long
        }
    }
    conn.flush().await
}

/// The text of a line that is a record, and whole.
fn checked(line: &[u8]) -> Option<&[u8]> {
    let (digits, text) = line.split_at_checked(9)?;
    let told = u32::from_str_radix(from_utf8(digits).ok()?.strip_suffix(' ')?, 16).ok()?;
    (told == sum(text)).then_some(text)
}

/// FNV-1a.
fn sum(text: &[u8]) -> u32 {
    text.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
