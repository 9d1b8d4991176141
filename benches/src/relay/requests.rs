//! Requests of 64 bytes there and back: clients and the upstream on one ring.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fixed;
use io_uring::{IoUring, cqueue, opcode};

use super::load::PATIENCE;
use crate::Result;
use crate::bufring::{BufRing, GROUP};
use crate::load::histogram::Histogram;
use crate::ring::{self, Ring};

/// Bytes of a request and of its reply.
const SIZE: usize = 64;

const RECV: u64 = 1;
const SEND: u64 = 2;

static REQUEST: [u8; SIZE] = [b'x'; SIZE];

/// Clients that ask, and an upstream that answers, on one ring: the slots below `streams` are the
/// clients', those above the upstream's.
pub struct Requests {
    // Dropped in this order: the ring's parts before the ring.
    ring: Ring<'static>,
    bufs: BufRing,
    missing: Vec<usize>,
    /// When each client asked.
    asked: Vec<Instant>,
    streams: usize,
    _pairs: Vec<(OwnedFd, OwnedFd)>,
}

impl Requests {
    /// Over these pairs of a client and the upstream's connection.
    pub fn new(pairs: Vec<(OwnedFd, OwnedFd)>) -> Result<Self> {
        // One a start; a few pages each.
        let uring: &'static mut IoUring = Box::leak(Box::new(ring::build(4096)?));
        let ring = Ring::over(uring)?;
        let bufs = BufRing::new(&ring, 256, 4096)?;
        let clients = pairs.iter().map(|(client, _)| client.as_raw_fd());
        let servers = pairs.iter().map(|(_, server)| server.as_raw_fd());
        let fds: Vec<i32> = clients.chain(servers).collect();
        ring.submitter().register_files(&fds)?;
        let (streams, missing) = (pairs.len(), vec![SIZE; fds.len()]);
        let asked = vec![Instant::now(); streams];
        let mut requests = Self { ring, bufs, missing, asked, streams, _pairs: pairs };
        for slot in 0..fds.len() as u32 {
            requests.recv(slot)?;
        }
        Ok(requests)
    }

    fn push(&mut self, entry: Entry, kind: u64, slot: u32) -> Result<()> {
        let entry = entry.user_data(kind << 32 | u64::from(slot));
        // SAFETY: entries point to statics.
        Ok(unsafe { self.ring.push(&entry) }?)
    }

    fn recv(&mut self, slot: u32) -> Result<()> {
        let entry = opcode::RecvMulti::new(Fixed(slot), GROUP).build();
        self.push(entry.flags(Flags::BUFFER_SELECT), RECV, slot)
    }

    fn send(&mut self, slot: u32) -> Result<()> {
        let send = opcode::Send::new(Fixed(slot), REQUEST.as_ptr(), SIZE as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.push(send.flags(Flags::SKIP_SUCCESS), SEND, slot)
    }

    /// A client asks.
    fn ask(&mut self, slot: u32, now: Instant) -> Result<()> {
        self.asked[slot as usize] = now;
        self.send(slot)
    }

    /// Has every client ask again and again for a while; how many answers came.
    pub fn slice(&mut self, began: Instant, span: Duration, seen: &mut Histogram) -> Result<u64> {
        let (mut asked, mut answered) = (0, 0);
        for slot in 0..self.streams as u32 {
            self.ask(slot, began)?;
            asked += 1;
        }
        let mut progress = began;
        while answered < asked {
            self.ring.wait(Duration::from_secs(1))?;
            let now = Instant::now();
            while let Some(cqe) = self.ring.pop() {
                let Some(slot) = self.complete(&cqe)? else { continue };
                progress = now;
                if slot as usize >= self.streams {
                    self.send(slot)?;
                    continue;
                }
                seen.record((now - self.asked[slot as usize]).as_nanos() as u64);
                answered += 1;
                if now - began < span {
                    self.ask(slot, now)?;
                    asked += 1;
                }
            }
            self.bufs.publish();
            if now - progress > PATIENCE {
                return Err(format!("{} answers do not come", asked - answered).into());
            }
        }
        Ok(answered)
    }

    /// The slot that has a whole message now, if one has.
    fn complete(&mut self, cqe: &cqueue::Entry) -> Result<Option<u32>> {
        let slot = cqe.user_data() as u32;
        if cqe.user_data() >> 32 != RECV {
            return Err(failed(cqe.result()));
        }
        if let Some(id) = cqueue::buffer_select(cqe.flags()) {
            self.bufs.take();
            self.bufs.give(id);
        }
        match cqe.result() {
            0 => return Err("the relay closed".into()),
            n if n < 0 && n != -libc::ENOBUFS => return Err(failed(n)),
            _ => {}
        }
        if !cqueue::more(cqe.flags()) {
            self.recv(slot)?;
        }
        let missing = &mut self.missing[slot as usize];
        *missing = missing.saturating_sub(cqe.result().max(0) as usize);
        if *missing > 0 {
            return Ok(None);
        }
        *missing = SIZE;
        Ok(Some(slot))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // The ring lives on; its sockets close.
        let _ = self.ring.submitter().unregister_files();
    }
}

fn failed(result: i32) -> Box<dyn std::error::Error> {
    std::io::Error::from_raw_os_error(-result).into()
}
