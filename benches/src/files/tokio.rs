//! tokio: `pread` on the threads of its pool, as its users read at an offset.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ::tokio::runtime::Builder;
use ::tokio::task::{JoinSet, spawn_blocking};

use super::{BLOCK, Blocks, DEPTH, Job, Orders, is_block};
use crate::Result;

/// A block of memory, aligned as direct reads want it.
#[repr(align(4096))]
struct Buffer([u8; BLOCK]);

/// Reads as it is told.
pub fn run(job: &Job) -> Result<()> {
    let file = Arc::new(job.open()?);
    let count = job.blocks;
    let mut buffers: Vec<Option<(Box<Buffer>, Blocks)>> = (0..DEPTH)
        .map(|reader| Some((Box::new(Buffer([0; BLOCK])), Blocks::new(reader))))
        .collect();
    let left = Arc::new(AtomicU64::new(0));
    Builder::new_current_thread().build()?.block_on(async move {
        let mut orders = Orders::ready()?;
        while let Some(reads) = orders.next()? {
            left.store(reads, Relaxed);
            let mut readers = JoinSet::new();
            for (reader, kept) in buffers.iter_mut().enumerate() {
                let (mut buffer, mut blocks) = kept.take().ok_or("a buffer was lost")?;
                let (file, left) = (file.clone(), left.clone());
                readers.spawn(async move {
                    let one_less = |left: u64| left.checked_sub(1);
                    while left.fetch_update(Relaxed, Relaxed, one_less).is_ok() {
                        let block = blocks.next(count);
                        let file = file.clone();
                        let read = spawn_blocking(move || {
                            file.read_exact_at(&mut buffer.0, block * BLOCK as u64)?;
                            Ok::<_, std::io::Error>(buffer)
                        });
                        buffer = read.await.map_err(std::io::Error::other)??;
                        if !is_block(&buffer.0, block) {
                            return Err(std::io::Error::other("another block was read"));
                        }
                    }
                    Ok((reader, buffer, blocks))
                });
            }
            while let Some(done) = readers.join_next().await {
                let (reader, buffer, blocks) = done??;
                buffers[reader] = Some((buffer, blocks));
            }
            orders.done()?;
        }
        Ok(())
    })
}
