//! The I/O half of a worker: tables, queues, and the way of a completion.

use core::cell::Cell;

use super::file::Files;
use super::list::List;
use super::slot::{Kind, State, Tag};
use super::socket::flag;
use super::{Listener, OutEntry, Slot, Socket};
use crate::buf::Store;
use crate::error::Held;
use crate::metrics::{Counters, Gauge, Op, Usage};
use crate::ring::{Cqe, Features, File};
use crate::task::{Table, Tasks, WaitList};
use crate::trace::{self, Trace};

/// The tables a worker's [`Io`] works on.
#[derive(Clone, Copy)]
pub(crate) struct IoMemory {
    pub(crate) slots: &'static [Slot],
    pub(crate) sockets: &'static [Socket],
    /// `outbox` entries a socket, and the buffer (index + 1) each holds.
    pub(crate) entries: &'static [OutEntry],
    pub(crate) entry_bufs: &'static [Cell<u32>],
    pub(crate) listeners: &'static [Listener],
}

/// One worker's operations, sockets and buffers. A static; all zero while idle.
pub(crate) struct Io {
    pub(crate) bufs: Store,
    pub(crate) files: Files,
    pub(super) slots: Table<Slot>,
    pub(super) sockets: Table<Socket>,
    pub(super) entries: Table<OutEntry>,
    pub(super) entry_bufs: Table<Cell<u32>>,
    pub(super) listeners: Table<Listener>,
    tasks: Cell<Option<&'static Tasks>>,
    pub(super) features: Cell<Features>,
    /// Buffers a connection may have queued.
    pub(super) window: Cell<u32>,
    /// Entries of each outbox.
    pub(super) outbox: Cell<u16>,

    /// What waits to be pushed: clean-up (cancels, closes) first.
    pub(super) cleanup: List,
    pub(super) work: List,
    pub(super) cancels: Cell<u32>,
    pub(super) in_flight: Cell<u32>,

    /// Free sockets: index + 1 of the one freed last, and how many were ever used.
    pub(super) free: Cell<u32>,
    pub(super) fresh: Cell<u32>,
    pub(super) used: Gauge,
    /// Who waits for a free socket.
    pub(super) socket_waiters: WaitList,
    /// Connects among them, who come first.
    pub(super) connect_waiters: WaitList,
    /// Sockets that found no receive buffer, in order.
    pub(super) starved: List,
    /// Those of them who are served though the ring stays dry; see `op/relay.rs`.
    pub(super) thirsty: List,
    /// Since when the ring has been dry while somebody waits, and when that was seen last.
    pub(super) dry: Cell<Option<(u32, u32)>>,
    /// The loop's turn, for what must have been in the kernel for one.
    pub(crate) turn: Cell<u32>,
    /// Milliseconds of the worker's clock at the start of this turn, or at the end of its sleep.
    pub(crate) now_ms: Cell<u32>,
}

impl Io {
    pub(crate) const fn new() -> Self {
        Self {
            bufs: Store::new(),
            files: Files::new(),
            slots: Table::new(),
            sockets: Table::new(),
            entries: Table::new(),
            entry_bufs: Table::new(),
            listeners: Table::new(),
            tasks: Cell::new(None),
            features: Cell::new(Features::NONE),
            window: Cell::new(0),
            outbox: Cell::new(0),
            cleanup: List::new(),
            work: List::new(),
            cancels: Cell::new(0),
            in_flight: Cell::new(0),
            free: Cell::new(0),
            fresh: Cell::new(0),
            used: Gauge::new(),
            socket_waiters: WaitList::new(),
            connect_waiters: WaitList::new(),
            starved: List::new(),
            thirsty: List::new(),
            dry: Cell::new(None),
            turn: Cell::new(0),
            now_ms: Cell::new(0),
        }
    }

    pub(crate) fn set_up(
        &self,
        tasks: &'static Tasks,
        memory: IoMemory,
        features: Features,
        window: u32,
        outbox: u16,
    ) {
        self.tasks.set(Some(tasks));
        self.slots.set(memory.slots);
        self.sockets.set(memory.sockets);
        self.entries.set(memory.entries);
        self.entry_bufs.set(memory.entry_bufs);
        self.listeners.set(memory.listeners);
        self.features.set(features);
        self.window.set(window);
        self.outbox.set(outbox);
        self.free.set(0);
        self.fresh.set(0);
        self.cancels.set(0);
        self.dry.set(None);
        self.used.begin();
    }

    #[inline]
    pub(crate) fn tasks(&self) -> &'static Tasks {
        self.tasks.get().expect("a worker's tasks are set up before they are used")
    }

    #[inline]
    pub(super) fn counters(&self) -> &'static Counters {
        &self.tasks().counters
    }

    #[inline]
    pub(super) fn slot(&self, index: u32) -> &'static Slot {
        self.slots.at(index as usize)
    }

    #[inline]
    pub(crate) fn socket(&self, index: u32) -> &'static Socket {
        self.sockets.at(index as usize)
    }

    /// What the operations of a socket are on.
    #[inline]
    pub(super) fn file(&self, at: u32) -> File {
        if self.features.get().direct {
            File::Slot(at)
        } else {
            File::Fd(self.socket(at).fd.get() - 1)
        }
    }

    /// Tells the time of this turn, in milliseconds of the worker's clock.
    #[inline]
    pub(crate) fn set_clock(&self, ms: u64) {
        self.now_ms.set(ms as u32);
        self.bufs.now_ms.set(ms);
    }

    /// Operations in the kernel.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Operations in the kernel whose completion somebody will want: all but idle wake-up polls.
    pub(crate) fn sockets_used(&self) -> u32 {
        self.used.get() as u32
    }

    /// How full the tables of sockets and files are; from any thread, once the worker is set up.
    pub(crate) fn usage(&self) -> impl Iterator<Item = Usage> + use<> {
        let (files, used) = (&self.files, &self.files.used);
        let declared = !files.handles.get().is_empty();
        let size = |len: usize| len as u64;
        let of_files = [
            used.entries.usage("files", false, size(files.entries.get().len())),
            used.handles.usage("file_handles", false, size(files.handles.get().len())),
            used.requests.usage("file_ops", false, size(files.flights.get().len())),
        ];
        let sockets = self.used.usage("sockets", false, size(self.sockets.get().len()));
        let of_files = of_files.into_iter().filter(move |_| declared);
        core::iter::once(sockets).chain(of_files)
    }

    // ---- completions ----

    /// Takes one completion: first what came with it, then what it means. Returns whether it was a
    /// wake-up from outside.
    #[inline]
    pub(crate) fn complete(&'static self, cqe: Cqe) -> bool {
        if Trace::ON {
            self.trace_completion(cqe);
        }
        match Tag::decode(cqe.user_data) {
            Tag::Op { slot, generation } => self.complete_op(slot, generation, cqe),
            Tag::File { flight, generation } => self.complete_file(flight, generation, cqe),
            Tag::Cancel => {
                // Its result says nothing: ENOENT and EALREADY too mean that the operation's own
                // completion tells.
                self.cancels.set(self.cancels.get().saturating_sub(1));
            }
            Tag::Wake => {
                self.counters().wake_ups.add(1);
                return true;
            }
            Tag::Message => self.counters().wake_ups.add(1),
            Tag::Sent { worker } => self.tasks().message_failed(worker),
            Tag::Unknown => self.complete_stale(cqe),
        }
        false
    }

    fn trace_completion(&self, cqe: Cqe) {
        let op = match Tag::decode(cqe.user_data) {
            Tag::Op { slot, .. } => {
                self.slots.find(slot as usize).map_or(Op::None, |slot| slot.kind.get().counted())
            }
            Tag::File { flight, .. } => self.op_in_flight(flight),
            Tag::Cancel => Op::Cancel,
            Tag::Wake => Op::Wake,
            Tag::Message | Tag::Sent { .. } => Op::Message,
            Tag::Unknown => Op::None,
        };
        let trace = &self.tasks().trace;
        trace.op(trace::Kind::Complete, op, cqe.user_data, cqe.result, cqe.more());
    }

    #[inline]
    fn complete_op(&self, index: u32, generation: u32, cqe: Cqe) {
        let slot = match self.slots.find(index as usize) {
            Some(slot)
                if slot.generation.get() == generation
                    && !matches!(slot.state.get(), State::Free | State::Queued) =>
            {
                slot
            }
            _ => return self.complete_stale(cqe),
        };
        let kind = slot.kind.get();
        let given_up = matches!(kind, Kind::RecvPoll | Kind::RecvLent) && slot.is_given_up();
        if !cqe.more() {
            self.retire(index, slot);
        }
        let at = index / super::OPS_A_SOCKET;
        let socket = self.socket(at);
        // What came with it is taken back whatever it means.
        let buffer = match cqe.buffer() {
            Some(first) if socket.has(flag::BUNDLE) && kind == Kind::Recv => {
                self.bundle_completed(at, socket, cqe, first);
                if !cqe.more() {
                    self.close_if_idle(at, socket);
                }
                return;
            }
            first => first.and_then(|id| self.bufs.taken(id)),
        };
        match kind {
            Kind::Recv => self.recv_completed(at, socket, cqe, buffer),
            Kind::RecvPoll => self.poll_completed(at, socket, given_up),
            Kind::RecvLent => self.lent_completed(at, socket, cqe.result, given_up),
            Kind::Send => self.send_completed(at, socket, cqe.result),
            Kind::SendPoll => self.writable_completed(at, socket),
            Kind::Accept => self.accept_completed(at, cqe.result),
            Kind::Install => self.install_completed(at, cqe.result),
            Kind::Connect | Kind::Shutdown => self.control_completed(at, kind, cqe.result),
            Kind::Close => self.free_socket(at),
            #[cfg(feature = "tls")]
            Kind::RecvRecord => self.record_received(at, socket, cqe, buffer),
            #[cfg(feature = "tls")]
            Kind::SendRecord => self.record_sent(at, socket, cqe.result),
            Kind::None => {}
        }
        if !cqe.more() {
            self.close_if_idle(at, socket);
        }
    }

    /// The terminal completion arrived: the slot is free again.
    #[inline]
    fn retire(&self, index: u32, slot: &'static Slot) {
        if slot.state.get() == State::Cancelling {
            self.cleanup.leave(&self.slots, index);
        }
        slot.state.set(State::Free);
        slot.kind.set(Kind::None);
        slot.generation.set(slot.generation.get().wrapping_add(1));
        self.in_flight.set(self.in_flight.get() - 1);
    }

    /// A completion of nothing we know: its buffers, a bundle perhaps, are taken back all the same.
    #[cold]
    pub(super) fn complete_stale(&self, cqe: Cqe) {
        self.counters().stale.add(1);
        if let Some(first) = cqe.buffer() {
            let bytes = u32::try_from(cqe.result).unwrap_or(0);
            self.bufs.taken_bundle(first, bytes, |index, _| self.bufs.release(index));
        }
    }

    // ---- the end ----

    /// What is still held: sockets that are not closed, and handles of those that are. A slot must
    /// not be used again while an old handle counts for it.
    pub(crate) fn held(&self, held: &mut Held) {
        held.ops += self.in_flight.get();
        // No table before a worker's set-up, which may have failed.
        held.sockets += self.sockets.get().iter().filter(|socket| socket.is_held()).count() as u32;
        held.sockets += self.open_listeners();
        self.files_held(held);
        self.bufs.held(held);
    }

    /// Empties the lists of those who wait, as the worker ends.
    pub(crate) fn wake_waiters(&self) {
        self.connect_waiters.wake_all(self.tasks());
        self.socket_waiters.wake_all(self.tasks());
        self.wake_file_waiters();
        self.bufs.wake_waiters();
    }
}

#[cfg(test)]
impl Io {
    /// Whether sockets are in the table without a descriptor of their own.
    #[cfg(feature = "tls")]
    pub(crate) fn has_direct(&self) -> bool {
        self.features.get().direct
    }

    /// The socket that an operation's user data names.
    pub(super) fn socket_of(&self, user_data: u64) -> Option<usize> {
        match Tag::decode(user_data) {
            Tag::Op { slot, .. } => Some((slot / super::OPS_A_SOCKET) as usize),
            _ => None,
        }
    }
}
