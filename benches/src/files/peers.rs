//! Other runtimes on io_uring, each as its users read: a task a reader, a buffer of its own that is
//! used again, where the runtime lets it be.

use std::cell::Cell;
use std::rc::Rc;

use ::compio::BufResult;
use ::compio::io::AsyncReadAt;

use super::{BLOCK, Blocks, DEPTH, Job, Orders, is_block};
use crate::Result;

type IoResult<T> = std::io::Result<T>;

/// A block of memory, aligned as direct reads want it.
#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

/// A reader's buffer, and the blocks that it reads.
struct Reader {
    buffer: Buffer,
    blocks: Blocks,
}

struct Buffer(Box<Aligned>);

impl Reader {
    fn all() -> Vec<Option<Self>> {
        let reader = |nth| {
            let buffer = Buffer(Box::new(Aligned([0; BLOCK])));
            Some(Self { buffer, blocks: Blocks::new(nth) })
        };
        (0..DEPTH).map(reader).collect()
    }
}

// SAFETY: the bytes are in a box, so they stay where they are while the buffer is moved.
unsafe impl ::monoio::buf::IoBufMut for Buffer {
    fn write_ptr(&mut self) -> *mut u8 {
        self.0.0.as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        BLOCK
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

// SAFETY: as above, and all of them are initialised.
unsafe impl ::compio::buf::IoBuf for Buffer {
    fn as_buf_ptr(&self) -> *const u8 {
        self.0.0.as_ptr()
    }

    fn buf_len(&self) -> usize {
        BLOCK
    }

    fn buf_capacity(&self) -> usize {
        BLOCK
    }
}

impl ::compio::buf::SetBufInit for Buffer {
    unsafe fn set_buf_init(&mut self, _: usize) {}
}

// SAFETY: as above.
unsafe impl ::compio::buf::IoBufMut for Buffer {
    fn as_buf_mut_ptr(&mut self) -> *mut u8 {
        self.0.0.as_mut_ptr()
    }
}

fn one_less(left: &Cell<u64>) -> bool {
    let one = left.get() > 0;
    left.set(left.get().saturating_sub(1));
    one
}

fn look(bytes: &[u8], n: usize, block: u64) -> IoResult<()> {
    if n == BLOCK && is_block(bytes, block) {
        return Ok(());
    }
    Err(std::io::Error::other("another block was read"))
}

/// monoio: `read_at`.
pub fn monoio(job: &Job) -> Result<()> {
    let (file, count) = (job.open()?, job.blocks);
    let mut runtime =
        ::monoio::RuntimeBuilder::<::monoio::IoUringDriver>::new().with_entries(256).build()?;
    runtime.block_on(async move {
        let file = Rc::new(::monoio::fs::File::from_std(file)?);
        let left = Rc::new(Cell::new(0));
        let mut readers = Reader::all();
        let mut orders = Orders::ready()?;
        while let Some(reads) = orders.next()? {
            left.set(reads);
            let mut reading = Vec::with_capacity(DEPTH);
            for kept in &mut readers {
                let Some(Reader { mut buffer, mut blocks }) = kept.take() else { continue };
                let (file, left) = (file.clone(), left.clone());
                reading.push(::monoio::spawn(async move {
                    while one_less(&left) {
                        let block = blocks.next(count);
                        let (n, back) = file.read_at(buffer, block * BLOCK as u64).await;
                        buffer = back;
                        look(&buffer.0.0, n?, block)?;
                    }
                    Ok::<_, std::io::Error>(Reader { buffer, blocks })
                }));
            }
            for (kept, reading) in readers.iter_mut().zip(reading) {
                *kept = Some(reading.await?);
            }
            orders.done()?;
        }
        Ok(())
    })
}

/// compio: `read_at`.
pub fn compio(job: &Job) -> Result<()> {
    let (path, count, direct) = (job.path.clone(), job.blocks, job.direct);
    ::compio::runtime::Runtime::new()?.block_on(async move {
        let flags = if direct { libc::O_DIRECT } else { 0 };
        let options = ::compio::fs::OpenOptions::new().read(true).custom_flags(flags).clone();
        let file = options.open(&path).await?;
        let left = Rc::new(Cell::new(0));
        let mut readers = Reader::all();
        let mut orders = Orders::ready()?;
        while let Some(reads) = orders.next()? {
            left.set(reads);
            let mut reading = Vec::with_capacity(DEPTH);
            for kept in &mut readers {
                let Some(Reader { mut buffer, mut blocks }) = kept.take() else { continue };
                let (file, left) = (file.clone(), left.clone());
                reading.push(::compio::runtime::spawn(async move {
                    while one_less(&left) {
                        let block = blocks.next(count);
                        let BufResult(n, back) = file.read_at(buffer, block * BLOCK as u64).await;
                        buffer = back;
                        look(&buffer.0.0, n?, block)?;
                    }
                    Ok::<_, std::io::Error>(Reader { buffer, blocks })
                }));
            }
            for (kept, reading) in readers.iter_mut().zip(reading) {
                let ended = reading.await.map_err(|_| "a reader panicked")?;
                *kept = Some(ended?);
            }
            orders.done()?;
        }
        Ok(())
    })
}

/// glommio: buffered files for the page cache, DMA files past it; it makes its buffers itself.
pub fn glommio(job: &Job) -> Result<()> {
    let (path, count, direct) = (job.path.clone(), job.blocks, job.direct);
    let executor = ::glommio::LocalExecutorBuilder::default().make().map_err(|e| e.to_string())?;
    executor.run(async move {
        let told = |error: ::glommio::GlommioError<()>| std::io::Error::other(error.to_string());
        let (mut dma, mut buffered) = (None, None);
        if direct {
            dma = Some(Rc::new(::glommio::io::DmaFile::open(&path).await.map_err(told)?));
        } else {
            buffered = Some(Rc::new(::glommio::io::BufferedFile::open(&path).await.map_err(told)?));
        }
        let left = Rc::new(Cell::new(0));
        let mut blocks: Vec<Blocks> = (0..DEPTH).map(Blocks::new).collect();
        let mut orders = Orders::ready()?;
        while let Some(reads) = orders.next()? {
            left.set(reads);
            let mut reading = Vec::with_capacity(DEPTH);
            for blocks in &blocks {
                let (dma, buffered, left) = (dma.clone(), buffered.clone(), left.clone());
                let mut blocks = *blocks;
                reading.push(::glommio::spawn_local(async move {
                    while one_less(&left) {
                        let block = blocks.next(count);
                        let at = block * BLOCK as u64;
                        let bytes = match (&dma, &buffered) {
                            (Some(file), _) => file.read_at_aligned(at, BLOCK).await,
                            (_, Some(file)) => file.read_at(at, BLOCK).await,
                            _ => return Err(std::io::Error::other("no file")),
                        };
                        let bytes = bytes.map_err(told)?;
                        look(&bytes, bytes.len(), block)?;
                    }
                    Ok::<_, std::io::Error>(blocks)
                }));
            }
            for (kept, reading) in blocks.iter_mut().zip(reading) {
                *kept = reading.await?;
            }
            orders.done()?;
        }
        Ok(())
    })
}
