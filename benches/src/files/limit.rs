//! The yardstick: a loop by hand on the io-uring crate. Registered buffers, a fixed file, deferred
//! task work, one system call a turn that submits and waits.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::{opcode, types};

use super::{BLOCK, Blocks, DEPTH, Job, Orders, is_block};
use crate::Result;
use crate::ring::{self, Ring};

/// Completion entries: no fewer than of the submission queue.
const CQ: u32 = 1024;

/// The buffers, aligned as direct reads want it.
#[repr(align(4096))]
struct Buffers([[u8; BLOCK]; DEPTH]);

/// One read after another, each into the same buffer.
#[derive(Clone, Copy)]
struct Reader {
    blocks: Blocks,
    wanted: u64,
    into: *mut [u8; BLOCK],
}

impl Reader {
    /// Asks for the next block.
    #[inline]
    fn ask(&mut self, nth: usize, ring: &mut Ring<'_>, count: u64) -> io::Result<()> {
        self.wanted = self.blocks.next(count);
        let read = opcode::ReadFixed::new(types::Fixed(0), self.into.cast(), BLOCK as u32, 0)
            .offset(self.wanted * BLOCK as u64)
            .build()
            .user_data(nth as u64);
        // SAFETY: the buffer is leaked, and this reader's, which has no other read under way.
        unsafe { ring.push(&read) }
    }

    /// Looks at what came.
    #[inline]
    fn look(&self, result: i32) -> io::Result<()> {
        // SAFETY: its read has completed, and no other is asked for yet.
        let bytes = unsafe { &*self.into };
        match result {
            ..0 => Err(io::Error::from_raw_os_error(-result)),
            n if n == BLOCK as i32 && is_block(bytes, self.wanted) => Ok(()),
            _ => Err(io::Error::other("another block was read")),
        }
    }
}

/// Reads as it is told.
pub fn run(job: &Job) -> Result<()> {
    let file = job.open()?;
    let mut uring = ring::build(CQ)?;
    let mut ring = Ring::over(&mut uring)?;
    ring.submitter().register_files(&[file.as_raw_fd()])?;
    let memory = Box::leak(Box::new(Buffers([[0; BLOCK]; DEPTH])));
    let base = memory.0.as_mut_ptr();
    let all = libc::iovec { iov_base: base.cast(), iov_len: size_of::<Buffers>() };
    // SAFETY: leaked, so valid for as long as the ring.
    unsafe { ring.submitter().register_buffers(&[all]) }?;
    let mut readers: [Reader; DEPTH] = std::array::from_fn(|nth| Reader {
        blocks: Blocks::new(nth),
        wanted: 0,
        into: base.wrapping_add(nth),
    });
    let mut orders = Orders::ready()?;
    while let Some(count) = orders.next()? {
        let mut left = count;
        let mut under_way = 0;
        for (nth, reader) in readers.iter_mut().enumerate() {
            if left > 0 {
                reader.ask(nth, &mut ring, job.blocks)?;
                (left, under_way) = (left - 1, under_way + 1);
            }
        }
        while under_way > 0 {
            ring.turn(Duration::ZERO)?;
            while let Some(cqe) = ring.pop() {
                let nth = cqe.user_data() as usize;
                let reader = &mut readers[nth];
                reader.look(cqe.result())?;
                if left > 0 {
                    reader.ask(nth, &mut ring, job.blocks)?;
                    left -= 1;
                } else {
                    under_way -= 1;
                }
            }
        }
        orders.done()?;
    }
    Ok(())
}
