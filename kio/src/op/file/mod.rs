//! Operations on files: requests, who carries them out, and what becomes of their completions.
//!
//! A file is open on one worker, its owner: there are its descriptor, its tail and its syncs. Any
//! worker may hold a handle of it. What is asked of a file is a [`Request`] in the static memory of
//! the worker that asks, its home; it goes to the owner as a message and comes back as one, so
//! neither side waits for the other and nothing is copied. At home the message is a plain call.
//!
//! Who owns the memory that an operation uses, and what giving up does:
//!
//! | operation             | the kernel reads or writes       | owner of that memory       | its user gives up       |
//! |-----------------------|----------------------------------|----------------------------|-------------------------|
//! | read, write, append   | buffers, or static bytes         | the request holds them     | it goes on; let go then |
//! | the same, of many     | `iovec`s, in a buffer of their own | the request holds all    | the same                |
//! | open, and by path     | paths and `statx`, in a buffer   | the request holds it       | it goes on; an open file is closed |
//! | install               | the descriptor's number          | the entry, on the owner    | the same                |
//! | sync, length, advice, close | nothing                    |                            | it goes on              |
//!
//! A request is touched by one side at a time: by its home until it is posted, by the owner until it
//! is answered, then by its home again. What its user gave up is known at home only, and looked at
//! when the answer is there. So a future that is dropped or forgotten changes nothing for the owner.
//!
//! In the kernel a worker has at most `file_ops` of them at once, its own and others': the rest waits
//! in line. (`enter` can block on the tags of the block layer where too many are in flight.)

mod complete;
mod entry;
mod flight;
mod handle;
mod mailbox;
mod request;
mod sync;
#[cfg(test)]
mod tests;
mod vectored;

use core::cell::Cell;

pub(crate) use entry::Entry;
pub(crate) use flight::Flight;
pub(crate) use handle::{Handle, Opened};
pub(crate) use mailbox::Mailbox;
use mailbox::Queue;
pub(crate) use request::{Answer, Ask, Asked, Data, Request};
pub(crate) use vectored::VECTORS_MAX;

use crate::metrics::Gauge;
use crate::task::{Table, WaitList};

/// The tables of a worker's files.
#[derive(Clone, Copy)]
pub(crate) struct FileMemory {
    /// `file_ops` that tasks take, then one for each handle, to close it with.
    pub(crate) requests: &'static [Request],
    pub(crate) handles: &'static [Handle],
    pub(crate) entries: &'static [Entry],
    pub(crate) flights: &'static [Flight],
}

/// The files of one worker: what its tasks ask for, and what it owns. All zero while idle.
pub(crate) struct Files {
    requests: Table<Request>,
    pub(super) handles: Table<Handle>,
    pub(super) entries: Table<Entry>,
    pub(super) flights: Table<Flight>,
    /// Where the files of the fixed-file table begin.
    first_slot: Cell<u32>,
    /// Whether the store is one registered buffer.
    pub(crate) registered: Cell<bool>,

    /// The request freed last; of handles, entries and flights its index + 1.
    free_request: Cell<Option<&'static Request>>,
    free_handle: Cell<u32>,
    free_entry: Cell<u32>,
    free_flight: Cell<u32>,
    /// How many of each are in use.
    pub(super) used: Used,
    request_waiters: WaitList,
    handle_waiters: WaitList,

    /// From other workers: what they ask for, and what they answered.
    pub(crate) mailbox: Mailbox,
    /// What waits to be pushed, and opens that wait for a free entry.
    work: Queue,
    opens: Queue,
    /// Whether a stopping worker cancels what is in the kernel, and which flight is next.
    cancelling: Cell<bool>,
    cancel_next: Cell<u32>,
    /// How many appends have ended, of any file.
    appends: Cell<u64>,
}

/// How many of each table are in use; of requests, those that tasks take.
pub(super) struct Used {
    pub(super) handles: Gauge,
    pub(super) entries: Gauge,
    pub(super) requests: Gauge,
}

impl Files {
    pub(crate) const fn new() -> Self {
        Self {
            requests: Table::new(),
            handles: Table::new(),
            entries: Table::new(),
            flights: Table::new(),
            first_slot: Cell::new(0),
            registered: Cell::new(false),
            free_request: Cell::new(None),
            free_handle: Cell::new(0),
            free_entry: Cell::new(0),
            free_flight: Cell::new(0),
            used: Used { handles: Gauge::new(), entries: Gauge::new(), requests: Gauge::new() },
            request_waiters: WaitList::new(),
            handle_waiters: WaitList::new(),
            mailbox: Mailbox::new(),
            work: Queue::new(),
            opens: Queue::new(),
            cancelling: Cell::new(false),
            cancel_next: Cell::new(0),
            appends: Cell::new(0),
        }
    }
}
