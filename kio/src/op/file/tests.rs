//! Files against a kernel made of random choices, on two workers of one thread: whatever is asked,
//! given up, cut short, failed or cancelled, in whatever order, appends never meet, a sync answers
//! nobody who came after it began, and in the end nothing is held.
//!
//! The kernel carries an operation out at one moment and tells of it at a later one.

use std::boxed::Box;
use std::collections::HashMap;
use std::vec;
use std::vec::Vec;

use core::pin::pin;
use core::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::handle::Opened;
use super::*;
use crate::buf::{BufMut, Header, StoreMemory};
use crate::error::Held;
use crate::op::{CANCELS_MAX, Io, IoMemory, Out};
use crate::ring::{Cqe, Features, File, Opcode, Sqe};
use crate::task::{Part, Tasks, WaitNode};

const BUFFERS: usize = 12;
const SIZE: usize = 4096;
const OPS: usize = 3;
const HANDLES: usize = 4;
/// Fewer than two workers' handles: some opens wait for an entry.
const ENTRIES: usize = 2;
const FILES: usize = 3;
const FIRST_SLOT: u32 = 5;

/// A file, as the kernel has it: who appended each byte, 0 for nobody.
#[derive(Default)]
struct Inode {
    bytes: Vec<u8>,
    /// When the last sync that succeeded was pushed.
    synced: u64,
    sync_failed: bool,
}

/// What the kernel has.
struct Op {
    sqe: Sqe,
    pushed: u64,
    /// Its result, once it is carried out.
    result: Option<i32>,
}

/// What a user waits for.
struct Asking {
    io: usize,
    request: &'static Request,
    ask: Ask,
    file: usize,
    /// When it was asked, and an append's mark.
    since: u64,
    mark: u8,
    handle: u32,
}

struct World {
    ios: [&'static Io; 2],
    kernel: [Vec<Op>; 2],
    inodes: [Inode; FILES],
    /// What descriptors and slots of each table are of, and what they all duplicate.
    open: HashMap<i32, usize>,
    slots: [HashMap<u32, usize>; 2],
    memory: i32,
    /// Handles that users hold, and what they wait for.
    held: Vec<(usize, u32, usize)>,
    asking: Vec<Asking>,
    bufs: [Vec<BufMut>; 2],
    now: u64,
    marks: u8,
    /// Where each append went.
    went: HashMap<u8, u64>,
}

fn table<T>(make: impl Fn() -> T, n: usize) -> &'static [T] {
    Box::leak((0..n).map(|_| make()).collect::<Vec<_>>().into_boxed_slice())
}

fn worker(direct: bool) -> &'static Io {
    let tasks: &'static Tasks = Box::leak(Box::new(Tasks::new()));
    tasks.owner.claim();
    let io: &'static Io = Box::leak(Box::new(Io::new()));
    io.bufs.set_up(
        tasks,
        &StoreMemory {
            headers: table(Header::new, BUFFERS),
            buffers: Part::leak(BUFFERS * SIZE),
            size: SIZE as u32,
            ring: Part::leak(4096),
            ring_entries: 16,
            depth: 1,
            deepest: 1,
            reserve: BUFFERS as u32 - 1,
        },
    );
    let none = IoMemory { slots: &[], sockets: &[], entries: &[], entry_bufs: &[], listeners: &[] };
    io.set_up(tasks, none, Features { direct, set_len: true, ..Features::NONE }, 1, 1);
    let memory = FileMemory {
        requests: table(Request::new, OPS + HANDLES),
        handles: table(Handle::new, HANDLES),
        entries: table(Entry::new, ENTRIES),
        flights: table(Flight::new, OPS),
    };
    io.set_up_files(memory, FIRST_SLOT);
    io
}

impl World {
    fn new(direct: bool) -> Self {
        // SAFETY: a system call with a constant name.
        let memory = unsafe { libc::memfd_create(c"kio".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(memory >= 0);
        Self {
            ios: [worker(direct), worker(direct)],
            kernel: [Vec::new(), Vec::new()],
            inodes: Default::default(),
            open: HashMap::new(),
            slots: Default::default(),
            memory,
            held: Vec::new(),
            asking: Vec::new(),
            bufs: [Vec::new(), Vec::new()],
            now: 1,
            marks: 0,
            went: HashMap::new(),
        }
    }

    // ---- the kernel ----

    fn pump(&mut self, io: usize, n: usize) {
        for _ in 0..n {
            let from = self.ios[io];
            let mut sqe = from.next_sqe();
            if sqe.is_none() {
                from.next_file_sqe(|next| sqe = Some(*next));
            }
            let Some(sqe) = sqe else { return };
            self.now += 1;
            self.kernel[io].push(Op { sqe, pushed: self.now, result: None });
        }
    }

    fn inode_of(&self, io: usize, file: File) -> usize {
        match file {
            File::Fd(fd) => self.open[&fd],
            File::Slot(slot) => self.slots[io][&slot],
        }
    }

    /// Carries one operation out, `how` the kernel likes.
    fn execute(&mut self, io: usize, which: usize, how: u8) {
        let n = self.kernel[io].len();
        let Some(i) = (n > 0).then(|| which % n) else { return };
        if self.kernel[io][i].result.is_some() {
            return;
        }
        let sqe = self.kernel[io][i].sqe;
        let result = self.result_of(io, sqe, how);
        // A cancel may have taken others.
        let op = self.kernel[io].iter_mut().find(|op| op.sqe.user_data == sqe.user_data);
        op.expect("it is there").result = Some(result);
    }

    fn result_of(&mut self, io: usize, sqe: Sqe, how: u8) -> i32 {
        let (file, addr, off, len) = sqe.of();
        let fails = how.is_multiple_of(9);
        match sqe.opcode {
            Opcode::AsyncCancel => {
                let target = self.kernel[io].iter_mut().find(|op| op.sqe.user_data == sqe.target());
                match target {
                    Some(op) if op.result.is_none() && how.is_multiple_of(2) => {
                        op.result = Some(-libc::ECANCELED);
                        0
                    }
                    _ => -libc::ENOENT,
                }
            }
            Opcode::OpenAt if fails => -libc::ENOENT,
            Opcode::OpenAt => {
                // SAFETY: the path, which the request holds.
                let inode = usize::from(unsafe { (addr as *const u8).read() } - b'a');
                if sqe.open_flags() as i32 & libc::O_TRUNC != 0 {
                    self.inodes[inode].bytes.clear();
                }
                // SAFETY: a descriptor of the test's own.
                let fd = unsafe { libc::fcntl(self.memory, libc::F_DUPFD_CLOEXEC, 0) };
                self.open.insert(fd, inode);
                fd
            }
            Opcode::Statx if fails => -libc::EIO,
            Opcode::Statx => {
                let File::Fd(fd) = file else { panic!("statx of a slot") };
                let inode = self.open[&fd];
                // SAFETY: the kernel writes where it was told; the request holds that buffer.
                unsafe {
                    let mut stat: libc::statx = core::mem::zeroed();
                    stat.stx_ino = inode as u64 + 1;
                    stat.stx_mode = libc::S_IFREG as u16;
                    stat.stx_size = self.inodes[inode].bytes.len() as u64;
                    (off as *mut libc::statx).write(stat);
                }
                0
            }
            Opcode::FilesUpdate if fails => -libc::ENOMEM,
            Opcode::FilesUpdate => {
                // SAFETY: the number, in the entry.
                let fd = unsafe { (addr as *const i32).read() };
                let taken = self.slots[io].insert(off as u32, self.open[&fd]);
                assert!(taken.is_none(), "a slot that is taken");
                1
            }
            Opcode::Close => match sqe.slot() {
                Some(slot) => {
                    self.slots[io].remove(&slot).expect("a close of an empty slot");
                    0
                }
                None => {
                    let File::Fd(fd) = file else { panic!("a descriptor") };
                    self.open.remove(&fd).expect("a close of what is not open");
                    crate::ring::sys::close_fd(fd);
                    0
                }
            },
            Opcode::Write | Opcode::WriteFixed | Opcode::WriteV => {
                let inode = self.inode_of(io, file);
                match how % 8 {
                    0 => -libc::ENOSPC,
                    1 => 0,
                    how => self.write(inode, &bytes(&sqe), off, how < 4),
                }
            }
            Opcode::Read | Opcode::ReadFixed | Opcode::ReadV => {
                let inode = self.inode_of(io, file);
                let there = self.inodes[inode].bytes.len().saturating_sub(off as usize);
                let wanted = bytes(&sqe).len().min(there);
                if fails { -libc::EIO } else { (wanted / (usize::from(how) % 3 + 1)) as i32 }
            }
            Opcode::Fsync => {
                let inode = self.inode_of(io, file);
                self.inodes[inode].sync_failed |= fails;
                if fails { -libc::EIO } else { 0 }
            }
            Opcode::Ftruncate => {
                let inode = self.inode_of(io, file);
                if !fails {
                    self.inodes[inode].bytes.resize(off as usize, 0);
                }
                if fails { -libc::EFBIG } else { 0 }
            }
            _ => {
                let (_, _) = (self.inode_of(io, file), len);
                0
            }
        }
    }

    /// Writes bytes, of which an append's are its mark; no append may write where another did.
    fn write(&mut self, inode: usize, bytes: &[u8], at: u64, short: bool) -> i32 {
        let n = if short { bytes.len().div_ceil(2) } else { bytes.len() };
        let file = &mut self.inodes[inode].bytes;
        let at = at as usize;
        if file.len() < at + n {
            file.resize(at + n, 0);
        }
        for (place, mark) in file[at..].iter_mut().zip(&bytes[..n]) {
            assert!(*mark == 0 || *place == 0 || place == mark, "an append over another");
            *place = *mark;
        }
        if let Some(mark) = bytes.first().filter(|mark| **mark != 0) {
            self.went.entry(*mark).or_insert(at as u64);
        }
        n as i32
    }

    /// Tells of one operation that was carried out.
    fn complete(&mut self, io: usize, which: usize) {
        let done = |op: &Op| op.result.is_some();
        let n = self.kernel[io].iter().filter(|op| done(op)).count();
        let Some(nth) = (n > 0).then(|| which % n) else { return };
        let at = self.kernel[io].iter().enumerate().filter(|(_, op)| done(op)).nth(nth);
        let at = at.map(|(at, _)| at).expect("so many are done");
        let Op { sqe, pushed, result } = self.kernel[io].remove(at);
        let result = result.expect("it is done");
        if sqe.opcode == Opcode::Fsync && result == 0 {
            let inode = self.inode_of(io, sqe.of().0);
            let synced = &mut self.inodes[inode].synced;
            *synced = pushed.max(*synced);
        }
        self.ios[io].complete(Cqe::made(sqe.user_data, result, None, false));
    }

    // ---- the users ----

    fn claim(&self, io: usize) -> Option<&'static Request> {
        let cx = Context::from_waker(Waker::noop());
        let node = pin!(WaitNode::new());
        match self.ios[io].poll_request(node.as_ref(), &cx) {
            Poll::Ready(request) => Some(request),
            Poll::Pending => None,
        }
    }

    fn open(&mut self, io: usize, file: usize, how: u8) {
        let cx = Context::from_waker(Waker::noop());
        let home = self.ios[io];
        let Some(mut path) = BufMut::take(&home.bufs) else { return };
        let handle = {
            let node = pin!(WaitNode::new());
            home.poll_handle(node.as_ref(), &cx)
        };
        let Poll::Ready(handle) = handle else { return };
        let Some(request) = self.claim(io) else { return home.free_handle(handle) };
        path.put(&[b'a' + file as u8, 0]).expect("room");
        let owner = self.ios[file % 2];
        let flags = [libc::O_RDWR, libc::O_RDWR | libc::O_TRUNC, libc::O_WRONLY, libc::O_RDWR];
        let args = [flags[usize::from(how) % 4] as u32, 0];
        home.open_into(request, handle, owner);
        home.fill(request, 0, Asked { args, ..Asked::new(Ask::Open) }, Data::Paths(path, 0));
        self.posted(io, request, owner, Ask::Open, file, handle);
    }

    fn posted(
        &mut self,
        io: usize,
        request: &'static Request,
        owner: &'static Io,
        ask: Ask,
        file: usize,
        handle: u32,
    ) {
        self.now += 1;
        let (since, mark) = (self.now, self.marks);
        self.ios[io].post(request, owner);
        self.asking.push(Asking { io, request, ask, file, since, mark, handle });
    }

    /// Asks something of a handle.
    fn ask(&mut self, which: usize, what: u8, how: u8) {
        let Some(i) = (!self.held.is_empty()).then(|| which % self.held.len()) else { return };
        let (io, handle, file) = self.held[i];
        let home = self.ios[io];
        let Some(mut buf) = BufMut::take(&home.bufs) else { return };
        let second = BufMut::take(&home.bufs);
        let third = BufMut::take(&home.bufs);
        let Some(request) = self.claim(io) else { return };
        let Opened { owner, entry } = home.opened_by(handle).expect("it is open");
        let len = usize::from(how) * 16;
        let offset = u64::from(how) * 32;
        let mut asked = Asked { offset, whole: how.is_multiple_of(2), ..Asked::new(Ask::Read) };
        match (what, second, third) {
            (0, Some(second), Some(list)) => {
                home.fill(
                    request,
                    entry,
                    asked,
                    Data::IntoMany(list, &mut [buf, second].into_iter()),
                );
            }
            (0 | 1, ..) => home.fill(request, entry, asked, Data::Into(buf.into_parts(), len)),
            (2, ..) => {
                asked.ask = Ask::Write;
                buf.put(&vec![0; len]).expect("room");
                home.fill(request, entry, asked, Data::From(Out::Buf(buf.freeze())));
            }
            (3, second, third) => {
                asked = Asked { whole: true, ..Asked::new(Ask::Append) };
                self.marks += 1;
                buf.put(&vec![self.marks; len]).expect("room");
                match (second, third) {
                    (Some(mut second), Some(list)) if how.is_multiple_of(3) => {
                        second.put(&vec![self.marks; len]).expect("room");
                        let mut bufs = [buf.freeze(), second.freeze()].into_iter();
                        home.fill(request, entry, asked, Data::FromMany(list, &mut bufs));
                    }
                    _ => home.fill(request, entry, asked, Data::From(Out::Buf(buf.freeze()))),
                }
            }
            (4 | 5, ..) => {
                asked = Asked { option: how.is_multiple_of(2), ..Asked::new(Ask::Sync) };
                home.fill(request, entry, asked, Data::Nothing);
            }
            (6, ..) => {
                asked = Asked { offset, ..Asked::new(Ask::SetLen) };
                home.fill(request, entry, asked, Data::Nothing);
            }
            (7, ..) => home.fill(request, entry, Asked::new(Ask::Stat), Data::Paths(buf, 0)),
            _ => home.fill(request, entry, Asked::new(Ask::Advise), Data::Nothing),
        }
        let ask = request.ask.get();
        self.posted(io, request, owner, ask, file, handle);
    }

    /// Looks whether an answer is there.
    fn poll(&mut self, which: usize) {
        let Some(i) = (!self.asking.is_empty()).then(|| which % self.asking.len()) else { return };
        let cx = Context::from_waker(Waker::noop());
        let Asking { io, request, ask, file, since, mark, handle } = self.asking[i];
        let home = self.ios[io];
        let Poll::Ready(answer) = home.poll_answer(request, &cx) else { return };
        self.asking.swap_remove(i);
        match ask {
            Ask::Open if answer.result >= 0 => {
                home.handle_opened(request, handle, answer);
                self.held.push((io, handle, file));
            }
            Ask::Read if answer.result >= 0 => {
                if request.vectors.get() > 0 {
                    home.take_buffers(request, drop);
                } else {
                    self.bufs[io].extend(home.take_buffer(request));
                }
            }
            Ask::Append if answer.result >= 0 => {
                let went = self.went.get(&mark).copied();
                assert!(went.is_none_or(|at| at == answer.value), "told where it went");
                assert_eq!(answer.done, request.len.get(), "all or an error");
            }
            Ask::Sync if answer.result >= 0 => {
                let synced = self.inodes[file].synced;
                assert!(synced > since, "answered by a sync that began before");
            }
            _ => {}
        }
        home.give_up(request);
    }

    fn close(&mut self, which: usize, keep: bool) {
        let Some(i) = (!self.held.is_empty()).then(|| which % self.held.len()) else { return };
        let (io, handle, file) = self.held[i];
        // As long as somebody asks something of it, it is borrowed.
        let asked = |a: &Asking| a.io == io && a.handle == handle;
        if self.asking.iter().any(asked) {
            return;
        }
        self.held.swap_remove(i);
        let request = self.ios[io].close_handle(handle).expect("it is open");
        if keep {
            let (since, mark, ask) = (self.now, 0, Ask::Close);
            self.asking.push(Asking { io, request, ask, file, since, mark, handle });
        } else {
            self.ios[io].give_up(request);
        }
    }

    fn give_up(&mut self, which: usize) {
        if !self.asking.is_empty() {
            let Asking { io, request, .. } = self.asking.swap_remove(which % self.asking.len());
            self.ios[io].give_up(request);
        }
    }

    fn check(&self) {
        for (io, kernel) in self.ios.iter().zip(&self.kernel) {
            let cancels = |op: &&Op| op.sqe.opcode == Opcode::AsyncCancel;
            let cancels = kernel.iter().filter(cancels).count();
            assert!(kernel.len() - cancels <= OPS && cancels <= CANCELS_MAX as usize);
            assert_eq!((kernel.len() - cancels) as u32, io.in_flight(), "operations in the kernel");
            let (free, in_ring, held) = io.bufs.count();
            assert_eq!(free + in_ring + held, BUFFERS as u32);
        }
    }

    /// Ends everything; `cancels` says that the workers lose their patience.
    fn end(&mut self, cancels: bool) {
        for i in (0..self.asking.len()).rev() {
            self.give_up(i);
        }
        while !self.held.is_empty() {
            self.close(0, false);
        }
        self.bufs = Default::default();
        for turn in 0..400u32 {
            for io in [0, 1] {
                if cancels && turn == 3 {
                    self.ios[io].cancel_files();
                }
                self.ios[io].take_mail();
                self.pump(io, 10);
                self.execute(io, turn as usize, 5 + turn as u8 % 3);
                self.complete(io, 0);
                self.check();
            }
        }
        for io in self.ios {
            assert!(!io.files_busy());
            let mut held = Held::default();
            io.held(&mut held);
            assert!(held.is_empty(), "still held: {held:?}");
            let used = &io.files.used;
            let used = [&used.handles, &used.entries, &used.requests];
            assert_eq!(used.map(crate::metrics::Gauge::get), [0; 3]);
            assert_eq!(io.bufs.count().2, 0, "buffers");
            assert!(io.files.entries.get().iter().all(|entry| !entry.is_used()));
        }
        assert!(self.slots.iter().all(HashMap::is_empty), "slots leaked");
        let own = identity(self.memory);
        for fd in self.open.keys().filter(|fd| **fd != self.memory) {
            assert_ne!(identity(*fd), own, "a descriptor leaked");
        }
        crate::ring::sys::close_fd(self.memory);
    }
}

/// Which file a descriptor is of; none where it is closed.
fn identity(fd: i32) -> Option<(u64, u64)> {
    // SAFETY: all zero is a value, and the call writes one.
    unsafe {
        let mut stat: libc::stat = core::mem::zeroed();
        (libc::fstat(fd, &mut stat) == 0).then_some((stat.st_dev, stat.st_ino))
    }
}

/// The bytes that a submission reads or writes.
fn bytes(sqe: &Sqe) -> Vec<u8> {
    let (_, addr, _, len) = sqe.of();
    // SAFETY: what an operation in the kernel points to is there.
    unsafe {
        if matches!(sqe.opcode, Opcode::ReadV | Opcode::WriteV) {
            let pieces = core::slice::from_raw_parts(addr as *const libc::iovec, len as usize);
            let piece =
                |v: &libc::iovec| core::slice::from_raw_parts(v.iov_base.cast::<u8>(), v.iov_len);
            pieces.iter().flat_map(piece).copied().collect()
        } else {
            core::slice::from_raw_parts(addr as *const u8, len as usize).to_vec()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_and_given_up_nothing_is_lost(
        direct: bool,
        cancels: bool,
        steps in prop::collection::vec((0u8..16, 0u8..9, any::<u8>(), 0usize..64), 1..400),
    ) {
        let mut world = World::new(direct);
        for (step, what, how, which) in steps {
            let io = which % 2;
            match step {
                0..=2 => world.pump(io, usize::from(what) % 4),
                3..=5 => world.execute(io, which / 2, how),
                6..=8 => world.complete(io, which / 2),
                9 => world.open(io, usize::from(what) % FILES, how),
                10 | 11 => world.ask(which, what, how),
                12 => world.poll(which),
                13 => world.ios[io].take_mail(),
                14 if what < 3 => world.close(which, what == 0),
                14 => world.poll(which),
                _ if what < 3 => world.give_up(which),
                _ => drop(world.bufs[io].pop()),
            }
            world.check();
        }
        world.end(cancels);
    }
}

impl World {
    /// Lets everything that was asked come to its end.
    fn settle(&mut self) {
        for turn in 0..60 {
            for io in [0, 1] {
                self.ios[io].take_mail();
                self.pump(io, 10);
                self.execute(io, turn, 5);
                self.complete(io, 0);
            }
        }
        for i in (0..self.asking.len()).rev() {
            self.poll(i);
        }
    }

    /// Carries one kind of operation out, and tells of it.
    fn finish(&mut self, opcode: Opcode, how: u8) {
        self.pump(0, 10);
        let at = self.kernel[0].iter().position(|op| op.sqe.opcode == opcode);
        let at = at.expect("the kernel has one");
        self.execute(0, at, how);
        let done = |op: &&Op| op.result.is_some();
        let before = self.kernel[0][..at].iter().filter(done).count();
        self.complete(0, before);
    }
}

#[test]
fn an_open_that_fails_at_its_last_step_leaves_the_tail_to_the_others() {
    let mut world = World::new(true);
    world.open(0, 0, 0); // to read and write
    world.finish(Opcode::OpenAt, 5);
    world.finish(Opcode::Statx, 5);
    world.open(0, 0, 2); // to write: its tail is the first one's
    world.finish(Opcode::OpenAt, 5);
    world.finish(Opcode::Statx, 5);
    world.pump(0, 10);
    world.execute(0, 0, 9);
    world.complete(0, 0);
    world.settle();
    assert_eq!(world.held.len(), 1, "one was opened, one was not");
    for _ in 0..3 {
        world.ask(0, 3, 1);
        world.settle();
    }
    // Another file in the place of the one that failed.
    world.open(0, 2, 0);
    world.settle();
    for _ in 0..3 {
        world.ask(0, 3, 1);
        world.settle();
    }
    assert_eq!(world.inodes[0].bytes.len(), 6 * 16);
    world.end(false);
}

#[test]
fn an_append_that_meets_a_shortening_is_not_written_over() {
    for truncated_by_open in [false, true] {
        // Whether the append is carried out first, and whether it is told of first.
        for (first, told_first) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut world = World::new(false);
            world.open(0, 0, 0);
            world.settle();
            for _ in 0..3 {
                world.ask(0, 3, 3);
                world.settle();
            }
            let (shortens, told) = match truncated_by_open {
                true => (Opcode::OpenAt, Opcode::Statx),
                false => (Opcode::Ftruncate, Opcode::Ftruncate),
            };
            match truncated_by_open {
                true => world.open(0, 0, 1),
                false => world.ask(0, 6, 1),
            }
            world.ask(0, 3, 1);
            world.pump(0, 10);
            let write = [Opcode::Write];
            let carry_out = |world: &mut World, opcode: Opcode| {
                let at = world.kernel[0].iter().position(|op| op.sqe.opcode == opcode);
                world.execute(0, at.expect("the kernel has it"), 5);
            };
            let tell = |world: &mut World, opcode: Opcode| {
                let done = |op: &&Op| op.result.is_some();
                let nth =
                    world.kernel[0].iter().filter(done).position(|op| op.sqe.opcode == opcode);
                world.complete(0, nth.expect("it is done"));
            };
            if first {
                carry_out(&mut world, write[0]);
            }
            carry_out(&mut world, shortens);
            if told != shortens {
                tell(&mut world, shortens);
                world.pump(0, 10);
                carry_out(&mut world, told);
            }
            if !first {
                carry_out(&mut world, write[0]);
            }
            if told_first {
                tell(&mut world, write[0]);
                tell(&mut world, told);
            } else {
                tell(&mut world, told);
                tell(&mut world, write[0]);
            }
            world.settle();
            // Up to where the append is, and over it if the tail was taken back.
            for _ in 0..12 {
                world.ask(0, 3, 1);
                world.settle();
            }
            world.end(false);
        }
    }
}

#[test]
fn a_sync_that_failed_is_told_to_all_who_come_later_but_not_to_a_new_open() {
    let mut world = World::new(true);
    world.open(0, 0, 0);
    world.settle();
    let errors = |world: &mut World| {
        let cx = Context::from_waker(Waker::noop());
        let asking = core::mem::take(&mut world.asking);
        let answer = |a: &Asking| {
            let Poll::Ready(answer) = world.ios[a.io].poll_answer(a.request, &cx) else {
                panic!("not answered");
            };
            world.ios[a.io].give_up(a.request);
            answer.result
        };
        asking.iter().map(answer).collect::<Vec<_>>()
    };
    world.ask(0, 4, 1);
    world.pump(0, 1);
    world.ask(0, 4, 1); // came while it ran
    world.execute(0, 0, 9);
    world.complete(0, 0);
    world.ask(0, 4, 1); // came after
    assert_eq!(errors(&mut world), [-libc::EIO; 3]);
    world.open(0, 0, 0);
    world.settle();
    world.ask(1, 4, 1);
    world.pump(0, 1);
    world.execute(0, 0, 5);
    world.complete(0, 0);
    assert_eq!(errors(&mut world), [0], "a descriptor of its own");
    world.end(false);
}
