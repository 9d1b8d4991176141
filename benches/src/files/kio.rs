//! kio: a pool of one worker that owns the file, or of two of which one reads what the other owns.

use std::cell::{Cell, OnceCell, RefCell};

use ::kio::fs::{File, OpenOptions};
use ::kio::{Core, Error, Result as KioResult, State, Worker};

use super::{BLOCK, Blocks, DEPTH, Job, Orders, is_block};
use crate::Result;

/// What the readers share.
pub struct Shared {
    job: Job,
    file: OnceCell<File>,
    left: Cell<u64>,
    blocks: RefCell<Vec<Blocks>>,
}

impl State for Shared {
    type Args = Job;

    fn init(_: Core, job: &Job) -> KioResult<Self> {
        Ok(Self {
            job: job.clone(),
            file: OnceCell::new(),
            left: Cell::new(0),
            blocks: RefCell::new((0..DEPTH).map(Blocks::new).collect()),
        })
    }
}

macro_rules! declare {
    ($module:ident, workers = $workers:literal, $($routes:tt)*) => {
        mod $module {
            use super::*;

            async fn read(worker: Worker<Reads>, reader: usize) -> KioResult<()> {
                let state = worker.state();
                let file = state.file.get().ok_or(Error::Other("no file"))?;
                let mut blocks = state.blocks.borrow()[reader];
                let mut buf = worker.buf().await?;
                while let Some(left) = state.left.get().checked_sub(1) {
                    state.left.set(left);
                    let block = blocks.next(state.job.blocks);
                    buf.clear();
                    buf = file.read_at(buf, block * BLOCK as u64).await?;
                    if !is_block(&buf, block) {
                        return Err(Error::Other("another block was read"));
                    }
                }
                state.blocks.borrow_mut()[reader] = blocks;
                Ok(())
            }

            async fn serve(worker: Worker<Reads>) -> KioResult<()> {
                if worker.index() > 0 {
                    return Ok(());
                }
                let state = worker.state();
                let plain = OpenOptions::new();
                let options = if state.job.direct { plain.direct() } else { plain };
                let file = worker.open_with(&state.job.path, options).await?;
                let _ = state.file.set(file);
                let told = |_| Error::Other("the parent is gone");
                let mut orders = Orders::ready().map_err(told)?;
                while let Some(count) = orders.next().map_err(told)? {
                    state.left.set(count);
                    let mut readers = heapless::Vec::<_, DEPTH>::new();
                    for reader in 0..DEPTH {
                        let reading = worker.spawn(move || read(worker, reader))?;
                        let _ = readers.push(reading);
                    }
                    for reading in readers {
                        reading.await??;
                    }
                    orders.done().map_err(told)?;
                }
                worker.stop();
                Ok(())
            }

            ::kio::pool! {
                pub struct Reads;
                workers = $workers,
                entry = serve,
                state = Shared,
                tasks = { read: 64 },
                conns = 1,
                files = 4,
                file_ops = 64,
                buffers = 128 x 4 KiB,
                $($routes)*
            }
        }
    };
}

declare!(home, workers = 1,);
declare!(far, workers = 2, routes = { _ => 1 },);

/// Reads on the worker that owns the file.
pub fn run(job: Job) -> Result<()> {
    Ok(home::Reads::run(job)?)
}

/// Reads on another.
pub fn run_far(job: Job) -> Result<()> {
    Ok(far::Reads::run(job)?)
}
