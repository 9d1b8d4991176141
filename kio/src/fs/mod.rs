//! Files, and which worker each belongs to.
//!
//! A declaration with `files` may open them: [`Core::open`](crate::Core::open) to read,
//! [`Core::open_with`](crate::Core::open_with) with [`OpenOptions`]. What comes is a [`File`], this
//! worker's handle; the file itself is open on its owner, the worker that `routes` names for its path
//! (see [`pool!`](crate::pool)), else the one that asks. All who open a path meet there, so the owner
//! keeps the one end that `append` writes at and makes one sync for all who wait for it. What is
//! asked of a file goes to its owner as a message and works on the caller's buffer: nothing is copied.
//!
//! What a path is, is a matter of its text alone: no system call is made, so a file that does not
//! exist yet has the worker that it will have.
//!
//! ```no_run
//! use kio::fs::OpenOptions;
//!
//! /// Adds a record, and returns once it is on the device.
//! async fn record(worker: kio::Worker<Store>, text: &'static str) -> kio::Result<u64> {
//!     let log = worker.open_with("wal/0", OpenOptions::new().create()).await?;
//!     let at = log.append(text).await?;
//!     log.sync_data().await?; // one for all who wait, on any worker
//!     Ok(at)
//! }
//!
//! kio::pool! {
//!     struct Store;
//!     workers = 4,
//!     entry   = serve,
//!     files   = 256,
//!     routes  = { "wal/*" => 0, _ => hash },
//! }
//! # async fn serve(worker: kio::Worker<Store>) -> kio::Result<()> {
//! #     record(worker, "").await.map(drop)
//! # }
//! # fn main() {}
//! ```
//!
//! # What runs where, and what it costs
//!
//! Operations are those of io_uring, counted in the ring of who runs them.
//!
//! | | runs on | operations |
//! | --- | --- | --- |
//! | `open`, `open_with` | the owner | 3: the file, what it is, its place in the ring's table (2 before Linux 6.13). 2 where it is open the same way already |
//! | `open_local` | the caller, who is its owner then | the same |
//! | [`File::read_at`], [`File::read_full_at`], [`File::read_exact_at`], [`File::write_at`], [`File::write_all_at`], [`File::append`] | the owner | 1, and 1 more after each short one where all is wanted |
//! | [`File::read_scattered_at`], [`File::write_gathered_at`] | the owner | 1 for all buffers, with a buffer for their list; 1 each where none is free |
//! | [`File::write_copy_at`] | the owner | 1 for each buffer that is filled, and the copy |
//! | [`File::sync_all`], [`File::sync_data`] | the owner | 1 for all who came before it began |
//! | [`File::set_len`] | the owner | 1; a call that blocks the owner before 6.9 |
//! | [`File::allocate`], [`File::punch_hole`], [`File::advise`], [`File::metadata`] | the owner | 1 |
//! | [`File::send_to`] | the owner reads, the caller sends | 1 read for up to 4 buffers, and a send for them |
//! | [`File::close`], and dropping | the owner | 2 for the last handle (1 before 6.13), else none |
//! | `stat`, `stat_link`, `rename`, `rename_new`, `hard_link`, `symlink`, `remove_file`, `remove_dir`, `create_dir` | the caller | 1 |
//! | `read_link`, [`ReadDir::next`] | the caller | none: io_uring has no such operation. A call that blocks the caller, for the second one for each buffer of entries |
//! | `read_dir` | the caller | as `open_local` |
//! | `write_atomic` | the caller | about 15, and a write for each buffer after the first |
//!
//! Where owner and caller are two workers, a message goes there and one comes back; a worker that
//! sleeps is woken for it. The kernel runs most of what is no read or write on threads of its own.
//!
//! # What waits
//!
//! Opening waits while all handles of the worker (`files`) are taken, and where the owner has as many
//! different files open as `files` says. Everything else waits while all of the worker's `file_ops`
//! are: so many of its own are under way at most, and so many in its ring, whoever asked. Waits for a
//! handle or an operation count as `file_waits`. A buffer is waited for as anywhere (`buf`); those of
//! `depth` lie ready for receives and are no task's, so a pool of files and few sockets says
//! `depth = 1`.
//!
//! # Giving up
//!
//! | operation | dropped before it is ready |
//! | --- | --- |
//! | `open`, `open_with`, `open_local` | what was opened is closed; what was created stays |
//! | reads | the buffer goes back to the store when the kernel has let go of it |
//! | `write_at`, `write_all_at`, `append`, `set_len`, `allocate` and so on | it is done all the same, or was not begun; the buffer goes when that has ended |
//! | `write_copy_at` | a part is written |
//! | `sync_all`, `sync_data` | the sync goes on, for whoever waits for it too |
//! | `send_to` | what was pushed goes out whole; how much that is you are not told |
//! | `read_dir`, `next`, `read_link`, `stat` | nothing is lost |
//! | `rename`, `remove_file` and the other changes of names | done all the same, or not begun |
//! | `write_atomic` | the old contents or the new are there; a temporary file may be left |
//! | `close`, and dropping a [`File`] | it closes all the same |

mod atomic;
mod file;
mod metadata;
mod names;
mod open;
mod options;
pub(crate) mod path;
mod pending;
mod read_dir;
pub(crate) mod route;
mod send;
#[cfg(test)]
mod tests;
mod transfer;

pub use file::{Advice, File};
pub use metadata::{Kind, Metadata};
pub use options::OpenOptions;
pub use path::AsPath;
pub use read_dir::{DirEntry, ReadDir};
