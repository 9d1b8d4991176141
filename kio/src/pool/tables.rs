//! The statics of a pool, with their exact sizes, and the plain slices a worker is handed.
//!
//! Sizes stay here: the slices carry none, so no task's signature shows its own future's size (a type
//! cycle, E0391).

use core::cell::Cell;

use super::LISTENERS;
use crate::op::file::{Entry, FileMemory, Flight, Handle, Request};
use crate::op::{IoMemory, Listener, OutEntry, Slot, Socket};
use crate::task::{Arena, Bytes, CallHeader, Header, Owned, RoomQueue};
use crate::worker::{CoreMemory, Parts};
use crate::{buf, op};

/// The tables of one worker; all zero while idle.
#[repr(C, align(128))]
pub struct Tables<
    const SOCKETS: usize,
    const OPS: usize,
    const OUT: usize,
    const BUFFERS: usize,
    const TASKS: usize,
    const ARENAS: usize,
    const FILES: usize,
    const FILE_OPS: usize,
    const REQUESTS: usize,
    const BASE: usize,
    const CALLS: usize,
    const WORKERS: usize,
> {
    parts: Parts,
    arenas: [Arena; ARENAS],
    listeners: [Listener; LISTENERS],
    headers: [Header; TASKS],
    slots: [Slot; OPS],
    sockets: [Socket; SOCKETS],
    entries: [OutEntry; OUT],
    entry_bufs: [Cell<u32>; OUT],
    buffers: [buf::Header; BUFFERS],
    requests: [Request; REQUESTS],
    handles: [Handle; FILES],
    files: [Entry; FILES],
    flights: [Flight; FILE_OPS],
    /// Where relative paths begin.
    base: [Cell<u8>; BASE],
    calls: [CallHeader; CALLS],
    queues: [RoomQueue; WORKERS],
}

/// One worker's memory.
pub struct Memory {
    pub(crate) parts: &'static Parts,
    pub(crate) core: CoreMemory,
}

impl<
    const SOCKETS: usize,
    const OPS: usize,
    const OUT: usize,
    const BUFFERS: usize,
    const TASKS: usize,
    const ARENAS: usize,
    const FILES: usize,
    const FILE_OPS: usize,
    const REQUESTS: usize,
    const BASE: usize,
    const CALLS: usize,
    const WORKERS: usize,
>
    Tables<
        SOCKETS,
        OPS,
        OUT,
        BUFFERS,
        TASKS,
        ARENAS,
        FILES,
        FILE_OPS,
        REQUESTS,
        BASE,
        CALLS,
        WORKERS,
    >
{
    /// Tables at rest.
    #[allow(clippy::new_without_default, reason = "only statics are made of it")]
    pub const fn new() -> Owned<Self> {
        assert!(OPS == SOCKETS * op::OPS_A_SOCKET as usize);
        // One for each operation, and one to close each handle with.
        assert!(REQUESTS == FILE_OPS + FILES);
        Owned::new(Self {
            parts: Parts::new(),
            arenas: [const { Arena::new() }; ARENAS],
            listeners: [const { Listener::new() }; LISTENERS],
            headers: [const { Header::new() }; TASKS],
            slots: [const { Slot::new() }; OPS],
            sockets: [const { Socket::new() }; SOCKETS],
            entries: [const { OutEntry::new() }; OUT],
            entry_bufs: [const { Cell::new(0) }; OUT],
            buffers: [const { buf::Header::new() }; BUFFERS],
            requests: [const { Request::new() }; REQUESTS],
            handles: [const { Handle::new() }; FILES],
            files: [const { Entry::new() }; FILES],
            flights: [const { Flight::new() }; FILE_OPS],
            base: [const { Cell::new(0) }; BASE],
            calls: [const { CallHeader::new() }; CALLS],
            queues: [const { RoomQueue::new() }; WORKERS],
        })
    }

    /// A worker's memory: its tables, and its part of the bytes.
    pub fn memory<const BODIES: usize, const BYTES: usize, const RINGS: usize>(
        tables: &'static [Owned<Self>],
        bodies: &'static Bytes<BODIES>,
        buffers: &'static Bytes<BYTES>,
        rings: &'static Bytes<RINGS>,
        worker: usize,
    ) -> Memory {
        let own = tables[worker].get();
        let workers = tables.len();
        Memory {
            parts: &own.parts,
            core: CoreMemory {
                io: IoMemory {
                    slots: &own.slots,
                    sockets: &own.sockets,
                    entries: &own.entries,
                    entry_bufs: &own.entry_bufs,
                    listeners: &own.listeners,
                },
                files: FileMemory {
                    requests: &own.requests,
                    handles: &own.handles,
                    entries: &own.files,
                    flights: &own.flights,
                },
                base: &own.base,
                headers: &own.headers,
                arenas: &own.arenas,
                calls: &own.calls,
                queues: &own.queues,
                buffer_headers: &own.buffers,
                bodies: bodies.part(worker, BODIES / workers),
                buffers: buffers.part(worker, BYTES / workers),
                buffer_ring: rings.part(worker, RINGS / workers),
            },
        }
    }
}
