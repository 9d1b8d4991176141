//! Reads and writes of many buffers at once: the `iovec`s that the kernel reads, and which buffers
//! they are of, lie in a buffer of their own, which the request holds.

use super::Request;
use crate::buf::{BufMut, Store};
use crate::op::Io;

/// Buffers of one request, at most: their list fits the smallest buffer.
pub(crate) const VECTORS_MAX: usize = 64;

const VECTOR: usize = size_of::<libc::iovec>();
/// The `iovec`s, then what each piece was, as many.
const _: () = assert!(VECTORS_MAX * (VECTOR + size_of::<Piece>()) <= 4096);

/// One piece, as it was described.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) addr: u64,
    pub(super) len: u64,
    /// The buffer, which the request holds, and where its view began.
    pub(super) buf: u32,
    pub(super) start: u32,
}

/// The nth `iovec` of a list.
fn vector(list: *mut u8, nth: u8) -> *mut libc::iovec {
    list.wrapping_add(usize::from(nth) * VECTOR).cast()
}

/// What the nth piece was.
fn kept(list: *mut u8, count: u8, nth: u8) -> *mut Piece {
    let behind = usize::from(count) * VECTOR + usize::from(nth) * size_of::<Piece>();
    list.wrapping_add(behind).cast()
}

/// A piece, as it was described.
pub(super) fn piece(store: &Store, list: u32, count: u8, nth: u8) -> Piece {
    // SAFETY: `describe` wrote it, inside a buffer that the request holds.
    unsafe { kept(store.addr(list), count, nth).read() }
}

impl Io {
    /// Describes the pieces in `list`, which the request holds from here on, with their buffers.
    pub(super) fn describe(
        &self,
        request: &Request,
        list: BufMut,
        pieces: impl Iterator<Item = Piece>,
    ) {
        let mut found = heapless::Vec::<_, VECTORS_MAX>::new();
        for piece in pieces {
            found.push(piece).expect("the caller bounds how many");
        }
        let count = found.len() as u8;
        let list = list.into_parts().index;
        let memory = self.bufs.addr(list);
        let mut sum = 0;
        for (nth, piece) in found.into_iter().enumerate() {
            let nth = nth as u8;
            // SAFETY: a buffer is page-aligned and holds the longest list; only this request holds
            // it.
            unsafe {
                let (base, len) = (piece.addr as *mut _, piece.len as usize);
                vector(memory, nth).write(libc::iovec { iov_base: base, iov_len: len });
                kept(memory, count, nth).write(piece);
            }
            sum += piece.len;
        }
        request.buf.set(list + 1);
        request.addr.set(memory as u64);
        request.len.set(sum);
        request.vectors.set(count);
    }
}

/// Takes `n` moved bytes off the front of what is to be moved; on the owner, which has the request.
/// Returns where the rest of the list begins and how many pieces it has.
pub(super) fn rest(request: &Request) -> (u64, u32) {
    let (list, count) = (request.addr.get() as *mut u8, request.vectors.get());
    let mut done = request.done.get();
    for nth in 0..count {
        // SAFETY: `describe` wrote them, and no operation of this request is in the kernel.
        unsafe {
            let Piece { addr, len, .. } = kept(list, count, nth).read();
            if done < len {
                let iov = libc::iovec {
                    iov_base: (addr + done) as *mut _,
                    iov_len: (len - done) as usize,
                };
                vector(list, nth).write(iov);
                return (vector(list, nth) as u64, u32::from(count - nth));
            }
            done -= len;
        }
    }
    (list as u64, 0)
}
