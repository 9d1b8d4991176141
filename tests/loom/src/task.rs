//! What `sync`'s files import of kio's `task`.

pub(crate) use gate::{Gate, Line, Place};

#[path = "../../../kio/src/task/gate.rs"]
mod gate;
#[path = "../../../kio/src/task/lock.rs"]
mod lock;
