//! Submissions and completions as the kernel lays them out.
//!
//! The `io-uring` crate's builders lack some fields that kio sets (the peer address of a direct
//! accept, the byte cap of a multishot receive), so kio writes the 64 bytes itself:
//! one constructor an operation, no builder.

mod file;

pub(crate) use file::Bytes;

/// What a submission asks for; the numbers are the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Opcode {
    Nop = 0,
    ReadV = 1,
    WriteV = 2,
    Fsync = 3,
    ReadFixed = 4,
    WriteFixed = 5,
    PollAdd = 6,
    SendMsg = 9,
    #[cfg(feature = "tls")]
    RecvMsg = 10,
    Accept = 13,
    AsyncCancel = 14,
    Connect = 16,
    Fallocate = 17,
    OpenAt = 18,
    Close = 19,
    FilesUpdate = 20,
    Statx = 21,
    Read = 22,
    Write = 23,
    Fadvise = 24,
    Send = 26,
    Recv = 27,
    Shutdown = 34,
    RenameAt = 35,
    UnlinkAt = 36,
    MkdirAt = 37,
    SymlinkAt = 38,
    LinkAt = 39,
    MsgRing = 40,
    Ftruncate = 55,
}

const FIXED_FILE: u8 = 1 << 0;
const BUFFER_SELECT: u8 = 1 << 5;
const CQE_SKIP_SUCCESS: u8 = 1 << 6;
/// Every submission flag kio sets, for the ring's restrictions.
pub(crate) const FLAGS_USED: u8 = FIXED_FILE | BUFFER_SELECT;
/// Those it sets besides, where there are other workers.
pub(crate) const FLAGS_TO_PEERS: u8 = CQE_SKIP_SUCCESS;

const RECV_MULTISHOT: u16 = 1 << 1;
const RECVSEND_BUNDLE: u16 = 1 << 4;
const POLL_ADD_MULTI: u32 = 1 << 0;
const POLLIN: u32 = 1;
const POLLOUT: u32 = 4;
const SOCK_CLOEXEC: u32 = 0o2_000_000;
const MSG_DONTWAIT: u32 = 0x40;
const MSG_WAITALL: u32 = 0x100;
const MSG_NOSIGNAL: u32 = 0x4000;

/// What an operation is on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum File {
    /// A slot of the fixed-file table.
    Slot(u32),
    /// A descriptor.
    Fd(i32),
}

/// A submission queue entry, `struct io_uring_sqe`. Those that make the kernel follow a pointer are
/// made by `unsafe` constructors, so that pushing one is safe.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Sqe {
    pub(crate) opcode: Opcode,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    op_flags: u32,
    pub(crate) user_data: u64,
    buf_index: u16,
    personality: u16,
    /// `file_index` (slot + 1) or `optlen`, by operation.
    file_index: u32,
    addr3: u64,
    pad: u64,
}

const _: () = assert!(size_of::<Sqe>() == 64);

impl Sqe {
    const fn new(opcode: Opcode, fd: i32) -> Self {
        Self {
            opcode,
            flags: 0,
            ioprio: 0,
            fd,
            off: 0,
            addr: 0,
            len: 0,
            op_flags: 0,
            user_data: 0,
            buf_index: 0,
            personality: 0,
            file_index: 0,
            addr3: 0,
            pad: 0,
        }
    }

    const fn on(opcode: Opcode, file: File) -> Self {
        match file {
            File::Fd(fd) => Self::new(opcode, fd),
            File::Slot(slot) => {
                let mut sqe = Self::new(opcode, slot as i32);
                sqe.flags = FIXED_FILE;
                sqe
            }
        }
    }

    /// Nothing, completed at once.
    pub(crate) const fn nop() -> Self {
        Self::new(Opcode::Nop, -1)
    }

    /// A receive into provided buffers (group 0). `cap` bounds the bytes of a multishot one where
    /// the kernel honours it (optlen, 6.18); 0 is no bound.
    pub(crate) const fn recv(file: File, multishot: bool, cap: u32) -> Self {
        let mut sqe = Self::on(Opcode::Recv, file);
        sqe.flags |= BUFFER_SELECT;
        if multishot {
            sqe.ioprio |= RECV_MULTISHOT;
            sqe.file_index = cap;
        }
        sqe
    }

    /// A multishot receive whose completions may each fill several buffers: the first is named, the
    /// bytes of all are told. `cap` bounds all of it.
    pub(crate) const fn recv_bundle(file: File, cap: u32) -> Self {
        let mut sqe = Self::recv(file, true, cap);
        sqe.ioprio |= RECVSEND_BUNDLE;
        sqe
    }

    /// One receive of what is there into the memory at `addr`; EAGAIN where nothing is.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved, and nobody else's, until the operation's terminal
    /// completion.
    pub(crate) const unsafe fn recv_into(file: File, addr: u64, len: u32) -> Self {
        let mut sqe = Self::on(Opcode::Recv, file);
        sqe.addr = addr;
        sqe.len = len;
        sqe.op_flags = MSG_DONTWAIT;
        sqe
    }

    /// Completes once, when a socket has something to receive, its end or an error among it.
    pub(crate) const fn poll_received(file: File) -> Self {
        let mut sqe = Self::on(Opcode::PollAdd, file);
        sqe.op_flags = POLLIN;
        sqe
    }

    /// Completes once, when a socket has room for what is sent, or fails.
    pub(crate) const fn poll_writable(file: File) -> Self {
        let mut sqe = Self::on(Opcode::PollAdd, file);
        sqe.op_flags = POLLOUT;
        sqe
    }

    /// A send of plain bytes; the kernel carries short sends on (WAITALL), and raises no SIGPIPE.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn send(file: File, addr: u64, len: u32) -> Self {
        let mut sqe = Self::on(Opcode::Send, file);
        sqe.addr = addr;
        sqe.len = len;
        sqe.op_flags = MSG_WAITALL | MSG_NOSIGNAL;
        sqe
    }

    /// A gathered send of the `msghdr` at `addr`.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn send_msg(file: File, addr: u64) -> Self {
        let mut sqe = Self::on(Opcode::SendMsg, file);
        sqe.addr = addr;
        sqe.len = 1;
        sqe.op_flags = MSG_WAITALL | MSG_NOSIGNAL;
        sqe
    }

    /// The same, and a short send ends it: what TLS in the kernel takes.
    pub(crate) const fn in_parts(mut self) -> Self {
        self.op_flags &= !MSG_WAITALL;
        self
    }

    /// One receive into a provided buffer (group 0) of at most so many bytes.
    #[cfg(feature = "tls")]
    pub(crate) const fn recv_at_most(file: File, most: u32) -> Self {
        let mut sqe = Self::recv(file, false, 0);
        sqe.len = most;
        sqe
    }

    /// One receive into a provided buffer (group 0), with what comes beside the bytes: by the
    /// `msghdr` at `addr`, which has no entries of its own.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    #[cfg(feature = "tls")]
    pub(crate) const unsafe fn recv_msg(file: File, addr: u64) -> Self {
        let mut sqe = Self::on(Opcode::RecvMsg, file);
        sqe.flags |= BUFFER_SELECT;
        sqe.addr = addr;
        sqe.len = 1;
        sqe
    }

    /// One accept on the descriptor `listener`, into the table's `slot` or, with `None`, as an
    /// ordinary descriptor. The peer's address is written to `addr`, its length to `len`.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn accept(
        listener: i32,
        slot: Option<u32>,
        addr: u64,
        len: u64,
    ) -> Self {
        let mut sqe = Self::new(Opcode::Accept, listener);
        sqe.addr = addr;
        sqe.off = len;
        match slot {
            Some(slot) => sqe.file_index = slot + 1,
            // A direct descriptor refuses it: the table is not inherited anyway.
            None => sqe.op_flags = SOCK_CLOEXEC,
        }
        sqe
    }

    /// A connect of the socket in `slot` to the address at `addr`.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn connect(file: File, addr: u64, len: u32) -> Self {
        let mut sqe = Self::on(Opcode::Connect, file);
        sqe.addr = addr;
        sqe.off = len as u64;
        sqe
    }

    /// Puts the descriptor stored at `addr` into the table's `slot`.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn install(slot: u32, addr: u64) -> Self {
        let mut sqe = Self::new(Opcode::FilesUpdate, -1);
        sqe.addr = addr;
        sqe.len = 1;
        sqe.off = slot as u64;
        sqe
    }

    /// Ends the write side of the socket in `slot`.
    pub(crate) const fn shutdown_write(file: File) -> Self {
        let mut sqe = Self::on(Opcode::Shutdown, file);
        sqe.len = 1; // SHUT_WR
        sqe
    }

    /// Empties the table's `slot`.
    pub(crate) const fn close(slot: u32) -> Self {
        let mut sqe = Self::new(Opcode::Close, 0);
        sqe.file_index = slot + 1;
        sqe
    }

    /// Cancels the operation whose user data is `target`. Never by descriptor: that could hit the
    /// slot's next owner.
    pub(crate) const fn cancel(target: u64) -> Self {
        let mut sqe = Self::new(Opcode::AsyncCancel, -1);
        sqe.addr = target;
        sqe
    }

    /// Completes each time the descriptor becomes readable.
    pub(crate) const fn poll_readable(fd: i32) -> Self {
        let mut sqe = Self::new(Opcode::PollAdd, fd);
        sqe.len = POLL_ADD_MULTI;
        sqe.op_flags = POLLIN;
        sqe
    }

    /// A completion with that user data on another ring, by its descriptor. Completes here only if
    /// it fails.
    pub(crate) const fn message(ring: i32, user_data: u64) -> Self {
        let mut sqe = Self::new(Opcode::MsgRing, ring);
        sqe.flags = CQE_SKIP_SUCCESS;
        sqe.off = user_data;
        sqe
    }

    /// What a cancel is for.
    #[cfg(test)]
    pub(crate) fn target(&self) -> u64 {
        self.addr
    }

    /// What it is on, and its address, offset and length.
    #[cfg(test)]
    pub(crate) fn of(&self) -> (File, u64, u64, u32) {
        let file = match self.flags & FIXED_FILE {
            0 => File::Fd(self.fd),
            _ => File::Slot(self.fd as u32),
        };
        (file, self.addr, self.off, self.len)
    }

    /// The slot of the table that a close empties; none where it closes a descriptor.
    #[cfg(test)]
    pub(crate) fn slot(&self) -> Option<u32> {
        self.file_index.checked_sub(1)
    }

    /// Flags of an open.
    #[cfg(test)]
    pub(crate) fn open_flags(&self) -> u32 {
        self.op_flags
    }

    /// Bytes of a plain send.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u32 {
        self.len
    }

    /// What bounds the bytes of a multishot receive; 0 is no bound.
    #[cfg(test)]
    pub(crate) fn cap(&self) -> u32 {
        self.file_index
    }

    #[cfg(test)]
    pub(crate) fn is_multishot(&self) -> bool {
        self.ioprio & RECV_MULTISHOT != 0
    }

    #[cfg(test)]
    pub(crate) fn selects_buffer(&self) -> bool {
        self.flags & BUFFER_SELECT != 0
    }

    #[cfg(test)]
    pub(crate) fn is_bundle(&self) -> bool {
        self.ioprio & RECVSEND_BUNDLE != 0
    }

    pub(crate) const fn tagged(mut self, user_data: u64) -> Self {
        self.user_data = user_data;
        self
    }
}

/// A completion queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cqe {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Cqe {
    /// A completion as the kernel would make it.
    #[cfg(test)]
    pub(crate) fn made(user_data: u64, result: i32, buffer: Option<u16>, more: bool) -> Self {
        let flags = buffer.map_or(0, |id| Self::BUFFER | u32::from(id) << 16);
        Self { user_data, result, flags: flags | if more { Self::MORE } else { 0 } }
    }

    const BUFFER: u32 = 1 << 0;
    const MORE: u32 = 1 << 1;

    /// The provided buffer that came along; it must be taken back whatever the result.
    #[inline(always)]
    pub(crate) const fn buffer(&self) -> Option<u16> {
        if self.flags & Self::BUFFER != 0 { Some((self.flags >> 16) as u16) } else { None }
    }

    /// Whether the operation goes on.
    #[inline(always)]
    pub(crate) const fn more(&self) -> bool {
        self.flags & Self::MORE != 0
    }
}
