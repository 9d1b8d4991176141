//! What `sync`'s files import of kio's `task`.

pub(crate) use gate::{Gate, Line, Place, let_go, wake};

#[path = "../../../kio/src/task/gate.rs"]
mod gate;
#[path = "../../../kio/src/task/lock.rs"]
mod lock;

/// As kio's: no waker of a model panics.
fn catch<R>(run: impl FnOnce() -> R) -> Result<R, ()> {
    Ok(run())
}
