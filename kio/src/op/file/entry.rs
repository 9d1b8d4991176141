//! Open files on their owner: the descriptor, who uses it, and where it ends.

use core::cell::Cell;

use super::Request;
use super::mailbox::Queue;
use crate::op::Io;
use crate::ring::sys::close_fd;
use crate::ring::{File, Sqe};

/// An open file's life. Its descriptor stands beside a slot of the fixed-file table where that pays:
/// some operations (`statx`) take descriptors only.
///
/// ```text
///         claim            open, stat           installed         last handle gone, no operation left
///  Free ----1----> Opening -----2----> Installing ---3---> Open ---4---> Closing ---5---> Free
///                     \ failed: Free; or the same file is open already: that one is used
/// ```
///
/// 1 `Io::begin_open`, 2 `Io::open_landed`, 3 `Io::entry_open`, 4 `Io::close_entry_if_idle`,
/// 5 `Io::free_entry`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum State {
    Free = 0,
    Opening,
    Installing,
    Open,
    Closing,
}

/// What an open file is, whatever it was called by: device, inode, and the flags that matter.
type Identity = (u64, u64, u32);

/// One open file. All zero while free.
pub(crate) struct Entry {
    pub(super) state: Cell<State>,
    /// The kernel reads it while it installs.
    fd: Cell<i32>,
    installed: Cell<bool>,
    /// Handles on it, of any worker, and its operations that are not answered.
    handles: Cell<u32>,
    ops: Cell<u32>,
    identity: Cell<Identity>,
    /// The size that its open is told may be older than what another entry of the file, closed
    /// meanwhile, made of it: to be asked for again.
    stale: Cell<bool>,
    /// Alignments of direct I/O: of memory and of offsets. 0 where it is not direct.
    aligns: Cell<[u32; 2]>,
    /// Where the file ends, as its owner knows. Kept by one entry for all of the same inode:
    leader: Cell<u32>,
    tail: Cell<u64>,
    /// Appends under way, and the worker's count of appends when the last one ended: who shortens the
    /// file must know whether he met one.
    appends: Cell<u32>,
    appended: Cell<u64>,
    /// Opens that wait until it is installed.
    joiners: Queue,
    /// The last close, which waits until no operation is left.
    closing: Cell<Option<&'static Request>>,
    /// Syncs: whether one runs, for whom besides the one in flight, and who came since.
    pub(super) syncing: Cell<bool>,
    /// The error of a sync: what was written before may be lost, and no later sync of the kernel's
    /// would say so. 0 is none.
    pub(super) sync_error: Cell<i32>,
    pub(super) synced: Queue,
    pub(super) to_sync: Queue,
    /// Index + 1 of the next free one.
    next_free: Cell<u32>,
}

impl Entry {
    pub(crate) const fn new() -> Self {
        Self {
            state: Cell::new(State::Free),
            fd: Cell::new(0),
            installed: Cell::new(false),
            handles: Cell::new(0),
            ops: Cell::new(0),
            identity: Cell::new((0, 0, 0)),
            stale: Cell::new(false),
            aligns: Cell::new([0; 2]),
            leader: Cell::new(0),
            tail: Cell::new(0),
            appends: Cell::new(0),
            appended: Cell::new(0),
            joiners: Queue::new(),
            closing: Cell::new(None),
            syncing: Cell::new(false),
            sync_error: Cell::new(0),
            synced: Queue::new(),
            to_sync: Queue::new(),
            next_free: Cell::new(0),
        }
    }

    pub(super) fn set_free(&self, next: u32) {
        self.state.set(State::Free);
        self.next_free.set(next);
    }

    pub(super) fn fd(&self) -> i32 {
        self.fd.get()
    }

    pub(super) fn is_used(&self) -> bool {
        self.state.get() != State::Free
    }
}

/// What `statx` wrote into the first buffer of a request.
pub(super) fn stat_at(request: &Request) -> libc::statx {
    // SAFETY: the buffer is page-aligned and larger, the kernel has let go of it, and every pattern of
    // bits is a value.
    unsafe { (request.addr.get() as *const libc::statx).read() }
}

fn device(major: u32, minor: u32) -> u64 {
    u64::from(major) << 32 | u64::from(minor)
}

/// In an identity: a file whose sync failed. No flag of an open is there.
const FAILED: u32 = 1 << 31;

/// Whether a file of this kind is the same however often it is open.
const fn has_one_state(mode: u32) -> bool {
    matches!(mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR)
}

/// Flags that act at the open only, or are the same for all.
const PASSING: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_CLOEXEC;

impl Io {
    #[inline]
    pub(super) fn entry(&self, index: u32) -> &'static Entry {
        self.files.entries.at(index as usize)
    }

    /// What the operations of an entry are on.
    #[inline]
    pub(super) fn entry_file(&self, index: u32) -> File {
        let entry = self.entry(index);
        if entry.installed.get() {
            File::Slot(self.files.first_slot.get() + index)
        } else {
            File::Fd(entry.fd.get())
        }
    }

    /// 1: opens, once an entry is free.
    pub(super) fn begin_open(&'static self, request: &'static Request) {
        let files = &self.files;
        let Some(index) = files.free_entry.get().checked_sub(1) else {
            files.used.entries.waited();
            files.opens.push(request);
            return;
        };
        let entry = self.entry(index);
        files.free_entry.set(entry.next_free.get());
        files.used.entries.rise();
        entry.state.set(State::Opening);
        request.entry.set(index);
        request.value.set(files.appends.get());
        files.work.push(request);
    }

    /// 2: a step of an open is done: the descriptor, then what it is of, then its slot of the table.
    pub(super) fn open_landed(&'static self, request: &'static Request, result: i32) {
        let index = request.entry.get();
        let entry = self.entry(index);
        match (request.step.get(), result) {
            (0, fd @ 0..) => {
                entry.fd.set(fd);
                self.next_step(request);
            }
            (1, 0..) => self.identify(index, request),
            (2, 0..) => {
                entry.installed.set(true);
                self.entry_open(index, request);
            }
            (step, error) => {
                if step > 0 {
                    close_fd(entry.fd.get());
                    // From here on it is found by nobody, and leads nobody.
                    entry.state.set(State::Closing);
                    self.hand_tail_on(index);
                }
                while let Some(joiner) = entry.joiners.pop() {
                    self.answer(joiner, error);
                }
                self.free_entry(index);
                self.answer(request, error);
            }
        }
    }

    /// Looks whether the same file is open already, the same way.
    fn identify(&'static self, index: u32, request: &'static Request) {
        let stat = stat_at(request);
        let flags = (request.args.get()[0] as i32 & !PASSING) as u32;
        let device = device(stat.stx_dev_major, stat.stx_dev_minor);
        let identity = (device, stat.stx_ino, flags);
        let truncated = request.args.get()[0] as i32 & libc::O_TRUNC != 0;
        // Others may have a state for each time they are opened: where a directory is read, a terminal.
        let alone = request.option.get() || !has_one_state(stat.stx_mode.into());
        let (mut same, mut leader) = (None, index);
        for (other, entry) in self.files.entries.get().iter().enumerate() {
            let other = other as u32;
            if matches!(entry.state.get(), State::Installing | State::Open) {
                let (device, inode, flags) = entry.identity.get();
                if !alone && (device, inode) == (identity.0, identity.1) {
                    leader = entry.leader.get();
                    if flags == identity.2 {
                        same = Some(other);
                        break;
                    }
                }
            }
        }
        let entry = self.entry(index);
        if leader == index {
            if entry.stale.replace(false) {
                // Once more, and known by now: only who closes this very file makes that stale too.
                entry.identity.set(identity);
                self.files.work.push(request);
                return;
            }
            entry.tail.set(stat.stx_size);
        } else if truncated {
            self.shorten_tail(leader, stat.stx_size, request.value.get());
        }
        if let Some(same) = same {
            close_fd(entry.fd.get());
            self.free_entry(index);
            request.entry.set(same);
            match self.entry(same).state.get() {
                State::Open => self.entry_open(same, request),
                _ => self.entry(same).joiners.push(request),
            }
            return;
        }
        entry.identity.set(if alone { (0, 0, 0) } else { identity });
        entry.leader.set(leader);
        let direct = flags as i32 & libc::O_DIRECT != 0;
        // What a file system does not tell (before 6.1, or tmpfs) is a page: more than any asks for.
        let align = |told: u32| if told == 0 { 4096 } else { told };
        entry.aligns.set(match direct {
            true => [align(stat.stx_dio_mem_align), align(stat.stx_dio_offset_align)],
            false => [0; 2],
        });
        entry.state.set(State::Installing);
        if self.features.get().direct {
            self.next_step(request);
        } else {
            self.entry_open(index, request);
        }
    }

    /// 3: the entry serves; its opens are answered.
    fn entry_open(&'static self, index: u32, request: &'static Request) {
        let entry = self.entry(index);
        entry.state.set(State::Open);
        // The last handle was closed, and operations of it still ran: the file stays open after all.
        if let Some(closing) = entry.closing.take() {
            self.answer(closing, 0);
        }
        // All are counted before the first is answered: one that was given up closes at once.
        let opened = Queue::new();
        let mut next = Some(request);
        while let Some(request) = next {
            entry.handles.set(entry.handles.get() + 1);
            request.value.set(index.into());
            request.args.set(entry.aligns.get());
            opened.push(request);
            next = entry.joiners.pop();
        }
        while let Some(request) = opened.pop() {
            self.answer(request, 0);
        }
    }

    /// A handle is gone: the last one closes.
    pub(super) fn begin_close(&'static self, request: &'static Request) {
        let entry = self.entry(request.entry.get());
        entry.handles.set(entry.handles.get() - 1);
        if entry.handles.get() > 0 {
            self.answer(request, 0);
            return;
        }
        entry.closing.set(Some(request));
        self.close_entry_if_idle(request.entry.get());
    }

    /// 4: closes once no operation is left.
    pub(super) fn close_entry_if_idle(&'static self, index: u32) {
        let entry = self.entry(index);
        if entry.ops.get() > 0 {
            return;
        }
        let Some(request) = entry.closing.take() else { return };
        // From here on an open of the same file is another.
        entry.state.set(State::Closing);
        self.hand_tail_on(index);
        if !entry.installed.get() {
            request.step.set(1);
        }
        self.files.work.push(request);
    }

    /// A step of a close is done: the slot of the table, then the descriptor.
    pub(super) fn close_landed(&'static self, request: &'static Request, result: i32) {
        let index = request.entry.get();
        if request.step.get() == 0 {
            self.entry(index).installed.set(false);
            self.next_step(request);
            return;
        }
        self.free_entry(index);
        self.answer(request, result);
    }

    pub(super) fn close_sqe(&self, request: &Request) -> Sqe {
        let index = request.entry.get();
        match request.step.get() {
            0 => Sqe::close(self.files.first_slot.get() + index),
            _ => Sqe::close_fd(self.entry(index).fd.get()),
        }
    }

    /// The SQE of an open's step.
    pub(super) fn open_sqe(&self, request: &Request) -> Sqe {
        let index = request.entry.get();
        let [flags, mode] = request.args.get();
        // SAFETY: the path's buffer is the request's until it is answered (what `statx` writes
        // replaces the path, which the kernel has taken); the descriptor's number is in the entry.
        unsafe {
            match request.step.get() {
                0 => Sqe::open(request.addr.get(), flags, mode),
                1 => Sqe::stat(self.entry(index).fd.get(), request.addr.get()),
                _ => {
                    let slot = self.files.first_slot.get() + index;
                    Sqe::install(slot, self.entry(index).fd.as_ptr() as u64)
                }
            }
        }
    }

    /// 5: the place is free; an open that waits takes it.
    fn free_entry(&'static self, index: u32) {
        let files = &self.files;
        let entry = self.entry(index);
        entry.fd.set(0);
        entry.installed.set(false);
        entry.identity.set((0, 0, 0));
        entry.tail.set(0);
        entry.appends.set(0);
        entry.appended.set(0);
        entry.sync_error.set(0);
        entry.stale.set(false);
        entry.leader.set(0);
        entry.set_free(files.free_entry.replace(index + 1));
        files.used.entries.fall();
        if let Some(waiting) = files.opens.pop() {
            self.begin_open(waiting);
        }
    }

    /// A sync has lost what was written: no later one of this descriptor may say that all is well, and
    /// the next open gets another.
    pub(super) fn sync_failed(&self, index: u32, error: i32) {
        let entry = self.entry(index);
        let (device, inode, flags) = entry.identity.get();
        entry.identity.set((device, inode, flags | FAILED));
        entry.sync_error.set(error);
    }

    /// One more operation of the entry is under way, or one less.
    #[inline]
    pub(super) fn entry_busy(&self, index: u32) {
        let ops = &self.entry(index).ops;
        ops.set(ops.get() + 1);
    }

    #[inline]
    pub(super) fn entry_done(&'static self, index: u32) {
        let ops = &self.entry(index).ops;
        ops.set(ops.get() - 1);
        if ops.get() == 0 {
            self.close_entry_if_idle(index);
        }
    }

    /// Whether so many bytes, read directly, are no whole blocks.
    #[inline]
    pub(super) fn ends_in_block(&self, index: u32, done: u64) -> bool {
        let [_, align] = self.entry(index).aligns.get();
        align != 0 && !done.is_multiple_of(align.into())
    }

    // ---- the tail ----

    /// The entry that keeps the tail.
    fn leader_of(&self, index: u32) -> &'static Entry {
        self.entry(self.entry(index).leader.get())
    }

    /// An append begins: takes room at the file's end, and tells where that begins.
    pub(super) fn take_tail(&self, index: u32, len: u64) -> u64 {
        let leader = self.leader_of(index);
        leader.appends.set(leader.appends.get() + 1);
        leader.tail.replace(leader.tail.get() + len)
    }

    /// An append has ended. If it wrote less than it took room for, and nobody took room behind it,
    /// the room is given back; else a hole stays.
    pub(super) fn append_ended(&self, index: u32, taken_to: u64, written_to: u64) {
        let (files, leader) = (&self.files, self.leader_of(index));
        leader.appends.set(leader.appends.get() - 1);
        files.appends.set(files.appends.get() + 1);
        leader.appended.set(files.appends.get());
        if leader.tail.get() == taken_to {
            leader.tail.set(written_to);
        }
    }

    /// Bytes were written up to here.
    #[inline]
    pub(super) fn reach_tail(&self, index: u32, to: u64) {
        let tail = &self.leader_of(index).tail;
        if tail.get() < to {
            tail.set(to);
        }
    }

    /// The file was made as long as this, by an operation that began when the worker had counted
    /// `since` appends. If one of this file was under way meanwhile, nobody knows which was first: it
    /// may stand behind the new end, so the tail is not taken back.
    pub(super) fn shorten_tail(&self, index: u32, to: u64, since: u64) {
        let leader = self.leader_of(index);
        let met = leader.appends.get() > 0 || leader.appended.get() > since;
        leader.tail.set(if met { to.max(leader.tail.get()) } else { to });
    }

    /// The entry that keeps the tail goes: another of the same inode keeps it from here on. With none
    /// the tail is what the file system tells the next open; those under way may have asked before the
    /// last bytes were written, and be told only now.
    fn hand_tail_on(&self, index: u32) {
        if self.entry(index).leader.get() != index {
            return;
        }
        let (device, inode, _) = self.entry(index).identity.get();
        let mut heir = None;
        for (other, entry) in self.files.entries.get().iter().enumerate() {
            let lives = matches!(entry.state.get(), State::Installing | State::Open);
            if lives && entry.leader.get() == index && other as u32 != index {
                entry.leader.set(*heir.get_or_insert(other as u32));
            }
            let known = entry.identity.get();
            let may_be = known == (0, 0, 0) || (known.0, known.1) == (device, inode);
            if entry.state.get() == State::Opening && may_be {
                entry.stale.set(true);
            }
        }
        if let Some(heir) = heir {
            let (heir, last) = (self.entry(heir), self.entry(index));
            heir.tail.set(last.tail.get());
            heir.appends.set(last.appends.get());
            heir.appended.set(last.appended.get());
        }
    }
}
