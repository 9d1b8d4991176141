//! Whether this kernel's bundles can be trusted, found by using them.
//!
//! A bundle (6.10) is one completion for several buffers of the ring: it names the first and tells the
//! bytes of all. Kernels have told it wrong: buffers out of order after a short transfer (6.13.11 to
//! 6.14.11), more than the cap. And a receive whose cap ends inside a buffer may shorten that buffer's
//! *entry*, for whoever takes it next, so how much each buffer holds is read from the entries. Here
//! two sockets take turns at one small ring, with caps that end anywhere, and every byte is compared.

use core::cell::UnsafeCell;
use core::net::{Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicU16, Ordering};
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, squeue, types};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

use super::{Cqe, File, Sqe};

const BUFFERS: usize = 8;
const SIZE: usize = 512;
/// How long bytes that are there may take before the kernel is told to lack bundles.
const PATIENCE_MS: u32 = 500;

/// One entry, `struct io_uring_buf`. The first one's `tail` is the ring's.
#[repr(C)]
struct Entry {
    addr: u64,
    len: u32,
    id: u16,
    tail: AtomicU16,
}

/// What the kernel reads and writes here, until its ring is gone.
#[repr(C, align(4096))]
struct Memory {
    ring: UnsafeCell<[Entry; BUFFERS]>,
    buffers: UnsafeCell<[[u8; SIZE]; BUFFERS]>,
}

impl Memory {
    fn new() -> Self {
        let empty = [const { Entry { addr: 0, len: 0, id: 0, tail: AtomicU16::new(0) } }; BUFFERS];
        Self { ring: UnsafeCell::new(empty), buffers: UnsafeCell::new([[0; SIZE]; BUFFERS]) }
    }

    fn entry(&self, at: u16) -> *mut Entry {
        self.ring.get().cast::<Entry>().wrapping_add(usize::from(at) % BUFFERS)
    }

    fn buffer(&self, id: u16) -> *mut u8 {
        self.buffers.get().cast::<u8>().wrapping_add(usize::from(id) % BUFFERS * SIZE)
    }
}

/// The byte that is the `n`th of every stream here.
const fn byte(n: u32) -> u8 {
    (n.wrapping_mul(2_654_435_761) >> 24) as u8
}

/// A connection whose one end receives bundles.
struct Wire {
    sends: OwnedFd,
    receives: OwnedFd,
    sent: u32,
    received: u32,
    /// What the receive in the kernel may still take; 0 is none armed.
    cap: u32,
}

impl Wire {
    fn new() -> io::Result<Self> {
        let socket = || {
            let kind = SocketType::STREAM;
            let made = rustix::net::socket_with(
                AddressFamily::INET,
                kind,
                SocketFlags::CLOEXEC,
                Some(ipproto::TCP),
            )?;
            sockopt::set_tcp_nodelay(&made, true)?;
            io::Result::Ok(made)
        };
        let listener = socket()?;
        rustix::net::bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        rustix::net::listen(&listener, 1)?;
        let sends = socket()?;
        rustix::net::connect(&sends, &rustix::net::getsockname(&listener)?)?;
        let receives = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC)?;
        Ok(Self { sends, receives, sent: 0, received: 0, cap: 0 })
    }

    fn send(&mut self, len: usize) -> io::Result<()> {
        let mut bytes = [0; SIZE * BUFFERS];
        for b in &mut bytes[..len] {
            *b = byte(self.sent);
            self.sent += 1;
        }
        let n = rustix::net::send(&self.sends, &bytes[..len], SendFlags::NOSIGNAL)?;
        if n == len { Ok(()) } else { Err(io::Error::other("a short send")) }
    }
}

struct Trial<'a> {
    ring: IoUring,
    memory: &'a Memory,
    tail: u16,
    /// The next place of the ring that nobody took.
    head: u16,
    wires: [Wire; 2],
}

/// Whether bundles within a cap are given, and told right.
pub(super) fn bundle() -> io::Result<bool> {
    let memory = Memory::new();
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun();
    let ring = builder.build(8).or_else(|_| IoUring::new(8))?;
    let wires = [Wire::new()?, Wire::new()?];
    let fds = [wires[0].receives.as_raw_fd(), wires[1].receives.as_raw_fd()];
    ring.submitter().register_files(&fds)?;
    // SAFETY: the memory outlives the ring, which is dropped first, and whose drop ends its receives
    // (they are idle polls); nobody else writes it.
    unsafe {
        let entries = memory.ring.get() as u64;
        ring.submitter().register_buf_ring_with_flags(entries, BUFFERS as u16, 0, 0)?;
    }
    let mut trial = Trial { ring, memory: &memory, tail: 0, head: 0, wires };
    for id in [3, 1, 4, 0, 6, 2, 7, 5] {
        trial.post(id);
    }
    let right = trial.run()?;
    trial.end()?;
    Ok(right)
}

impl Trial<'_> {
    fn post(&mut self, id: u16) {
        let entry = self.memory.entry(self.tail);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: a place that the kernel has passed; field by field, for the first one's last is
        // the tail, which the kernel reads with acquire.
        unsafe {
            (&raw mut (*entry).addr).write(self.memory.buffer(id) as u64);
            (&raw mut (*entry).len).write(SIZE as u32);
            (&raw mut (*entry).id).write(id);
            (*self.memory.entry(0)).tail.store(self.tail, Ordering::Release);
        }
    }

    fn arm(&mut self, wire: usize, cap: u32) {
        self.wires[wire].cap = cap;
        self.push(&Sqe::recv_bundle(File::Slot(wire as u32), cap).tagged(wire as u64));
    }

    fn push(&mut self, sqe: &Sqe) {
        // SAFETY: the layouts agree (see `Ring::push`), and these submissions point to nothing.
        let pushed = unsafe {
            self.ring.submission().push(&*core::ptr::from_ref(sqe).cast::<squeue::Entry>())
        };
        debug_assert!(pushed.is_ok(), "eight fit");
    }

    fn enter(&mut self) -> io::Result<()> {
        let patience = types::Timespec::new().nsec(PATIENCE_MS * 1_000_000);
        let args = types::SubmitArgs::new().timespec(&patience);
        self.ring.submitter().submit_with_args(1, &args)?;
        Ok(())
    }

    /// The kernel ends what is armed before the memory goes.
    fn end(&mut self) -> io::Result<()> {
        for wire in 0..2 {
            self.push(&Sqe::cancel(wire).tagged(7));
        }
        for _ in 0..16 {
            if self.wires.iter().all(|wire| wire.cap == 0) {
                return Ok(());
            }
            self.enter()?;
            while let Some(cqe) = self.pop() {
                if let Some(wire) = self.wires.get_mut(cqe.user_data as usize)
                    && !cqe.more()
                {
                    wire.cap = 0;
                }
            }
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<Cqe> {
        let entry = self.ring.completion().next()?;
        Some(Cqe { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() })
    }

    fn run(&mut self) -> io::Result<bool> {
        const HALF: usize = SIZE / 2;
        // Bytes that wait already, two buffers and a half of them, then some that come later, up to
        // a cap that ends inside a buffer.
        self.wires[0].send(2 * SIZE + HALF)?;
        self.arm(0, 4 * SIZE as u32);
        let mut right = self.take(0)?;
        self.wires[0].send(HALF / 2)?;
        right &= self.take(0)?;
        self.wires[0].send(3 * SIZE)?;
        right &= self.take(0)?;
        // What is left of one's cap, less than a buffer, shortens the entry that the other's bundle
        // begins with.
        right &= (1..SIZE as u32).contains(&self.wires[0].cap);
        self.wires[1].send(3 * SIZE + 7)?;
        self.arm(1, 5 * SIZE as u32);
        right &= self.take(1)?;
        self.wires[0].send(HALF + 3)?;
        right &= self.take(0)?;
        // And anything, by turns.
        let mut random = 12_345_u32;
        for turn in 0..48 {
            if !right {
                return Ok(false);
            }
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (wire, len) = (turn % 2, 1 + (random >> 16) as usize % (3 * SIZE));
            self.wires[wire].send(len)?;
            right &= self.take(wire)?;
        }
        Ok(right)
    }

    /// Receives what was sent to a wire, whose receive is armed again when it has ended; false where
    /// something is not as it should be.
    fn take(&mut self, wire: usize) -> io::Result<bool> {
        while self.wires[wire].received < self.wires[wire].sent {
            if self.wires[wire].cap == 0 {
                self.arm(wire, (1 + wire as u32 + self.wires[wire].sent % 3) * SIZE as u32);
            }
            match self.enter() {
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => return Ok(false),
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                entered => entered?,
            }
            while let Some(cqe) = self.pop() {
                if !self.taken(cqe) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether one completion tells the truth; its buffers go back.
    fn taken(&mut self, cqe: Cqe) -> bool {
        let Ok(n @ 1..) = u32::try_from(cqe.result) else { return false };
        let Some(wire) = self.wires.get_mut(cqe.user_data as usize) else { return false };
        let (Some(first), Some(cap)) = (cqe.buffer(), wire.cap.checked_sub(n)) else {
            return false; // more than the cap
        };
        let more = cqe.more();
        if more == (cap == 0) {
            return false; // it ends with its cap, and no sooner: here are always buffers
        }
        wire.cap = cap;
        let mut left = n;
        let mut ids = heapless::Vec::<u16, BUFFERS>::new();
        while left > 0 {
            let entry = self.memory.entry(self.head);
            // SAFETY: the kernel has passed this place, and wrote the buffer before its completion.
            let (id, len) = unsafe { ((*entry).id, (*entry).len) };
            if (ids.is_empty() && id != first) || ids.push(id).is_err() || len > SIZE as u32 {
                return false;
            }
            for i in 0..len.min(left) as usize {
                // SAFETY: as above; `i` is inside the buffer.
                let got = unsafe { self.memory.buffer(id).add(i).read() };
                if got != byte(wire.received) {
                    return false;
                }
                wire.received += 1;
            }
            left -= len.min(left);
            self.head = self.head.wrapping_add(1);
        }
        for id in ids {
            self.post(id);
        }
        true
    }
}
