//! Paths as text: absolute, without `.`, `..`, `//` or a trailing slash, and NUL-terminated for the
//! kernel. No system call and no allocation.
//!
//! By text alone `link/..` is the directory that `link` stands in, whatever `link` is, where the
//! kernel would follow it first. In return a path has one text, whether there is a file or not.

use crate::buf::{Buf, BufMut};
use crate::error::{Error, Result};

/// Bytes of a path at most, without its NUL: the kernel's `PATH_MAX` is 4,096 with it.
pub(crate) const PATH_MAX: usize = 4095;

/// Writes the normal form of `path` and a NUL to `out`, and returns its length without the NUL. A
/// relative path is below `base`, which is absolute and normal. `..` stops at `/`.
///
/// # Errors
/// `BadPath`: an empty path, one with a NUL, or one that is too long, for the kernel or for `out`,
/// before its `..` are taken away.
pub(crate) fn normalise(base: &[u8], path: &[u8], out: &mut [u8]) -> Result<usize> {
    if path.is_empty() {
        return Err(Error::BadPath("it is empty: `.` is the root of relative paths"));
    }
    if path.contains(&0) {
        return Err(Error::BadPath("it holds a NUL, where the kernel would end it: take it out"));
    }
    if path.len() > PATH_MAX {
        return Err(TOO_LONG);
    }
    let mut len = 0;
    if path[0] != b'/' {
        let base = base.strip_suffix(b"/").unwrap_or(base);
        append(out, &mut len, base)?;
    }
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => len = out[..len].iter().rposition(|byte| *byte == b'/').unwrap_or(0),
            name => {
                append(out, &mut len, b"/")?;
                append(out, &mut len, name)?;
            }
        }
    }
    if len == 0 {
        append(out, &mut len, b"/")?;
    }
    *out.get_mut(len).ok_or(TOO_LONG)? = 0;
    Ok(len)
}

const TOO_LONG: Error = Error::BadPath(
    "it is longer than 4,095 bytes, with the root of relative paths before it: the kernel takes no \
     longer one",
);

fn append(out: &mut [u8], len: &mut usize, text: &[u8]) -> Result<()> {
    let end = *len + text.len();
    if end > PATH_MAX {
        return Err(TOO_LONG);
    }
    out.get_mut(*len..end).ok_or(TOO_LONG)?.copy_from_slice(text);
    *len = end;
    Ok(())
}

/// What names a path: text, bytes, buffers, and with `std` the types of paths.
pub trait AsPath {
    /// Its bytes, without a NUL at the end.
    fn as_path(&self) -> &[u8];
}

impl AsPath for str {
    fn as_path(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsPath for [u8] {
    fn as_path(&self) -> &[u8] {
        self
    }
}

impl AsPath for core::ffi::CStr {
    fn as_path(&self) -> &[u8] {
        self.to_bytes()
    }
}

impl AsPath for Buf {
    fn as_path(&self) -> &[u8] {
        self
    }
}

impl AsPath for BufMut {
    fn as_path(&self) -> &[u8] {
        self
    }
}

impl<P: AsPath + ?Sized> AsPath for &P {
    fn as_path(&self) -> &[u8] {
        (**self).as_path()
    }
}

#[cfg(feature = "std")]
mod std_paths {
    use super::AsPath;
    use std::os::unix::ffi::OsStrExt;

    impl AsPath for std::path::Path {
        fn as_path(&self) -> &[u8] {
            self.as_os_str().as_bytes()
        }
    }

    impl AsPath for std::path::PathBuf {
        fn as_path(&self) -> &[u8] {
            self.as_os_str().as_bytes()
        }
    }

    impl AsPath for std::string::String {
        fn as_path(&self) -> &[u8] {
            self.as_bytes()
        }
    }
}

/// The text of what a pool's `root` returned.
#[cfg(feature = "std")]
pub fn root<P: AsRef<std::path::Path> + ?Sized>(path: &P) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_ref().as_os_str().as_bytes()
}
