//! The load: one thread, one ring, connections open to every server, one server driven at a time.
//!
//! Closed loop: a connection sends (a request, or a batch of `pipeline` requests) and waits for the
//! whole reply before it sends again. A slice drives one server for a while, then lets what is
//! outstanding come in, so that the next slice finds all servers asleep.
//! `close` instead makes a new connection for each request, as one chain of linked entries.

pub mod histogram;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
pub use tls::provider;

use std::io;
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, Instant};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{DestinationSlot, Fixed};
use io_uring::{cqueue, opcode};

use crate::Result;
use crate::bufring::{BufRing, GROUP};
use crate::ring::Ring;
use crate::sys::{self, thread_cpu_time};
use crate::workload::{REPLY, Workload, request};
use histogram::Histogram;

/// Completions of the load's ring.
pub const CQ: u32 = 16 * 1024;
/// Receive buffers, and their size: larger than the largest usual reply.
const BUFFERS: u16 = 256;
const BUFFER: u32 = 32 * 1024;
/// No progress for so long means that the server hangs. Under callgrind, 50 records of 16 KiB take one
/// that shares its CPU with others some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

const RECV: u64 = 1;
const OTHER: u64 = 2;

/// What to load the servers with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which workload.
    pub workload: Workload,
    /// Connections to each server.
    pub connections: u32,
    /// Bytes of a request; for http the least.
    pub size: usize,
    /// Requests a connection sends at once.
    pub pipeline: u32,
    /// With servers of TLS, how their clients use it.
    pub tls: Tls,
}

impl Plan {
    /// One small request at once on each of so many connections.
    pub fn http(connections: u32) -> Self {
        let tls = Tls::default();
        Self { workload: Workload::Http, connections, size: 0, pipeline: 1, tls }
    }
}

/// How clients use TLS; with `close` only, since other connections shake hands once.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tls {
    /// Resume the session before.
    pub resume: bool,
    /// Ask for nothing: the handshake is the request, and its reply that the server closes.
    pub only_shake: bool,
}

/// A server to load.
#[derive(Clone, Copy)]
pub struct Target {
    /// Where it listens.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// What a connection speaks between TCP and the workload.
trait Layer {
    /// Makes the connection ready for requests, before the load begins.
    fn open(&mut self, socket: &TcpStream) -> Result<()>;
    /// What to send for a request; a connection of `close` begins with it. It stays as it is until
    /// `ask` or `take` is called again, which is after the server had all of it.
    fn ask(&mut self, request: &[u8]) -> Result<&[u8]>;
    /// Takes what was received: how many bytes of replies that was, and what to send now.
    fn take(&mut self, received: &[u8]) -> Result<(usize, &[u8])>;
}

/// The layer of a connection to `target`, if it has one.
fn layer(target: Target, plan: &Plan) -> Result<Option<Box<dyn Layer>>> {
    if !target.tls {
        return Ok(None);
    }
    #[cfg(feature = "tls")]
    return Ok(Some(Box::new(tls::Client::new(plan)?)));
    #[cfg(not(feature = "tls"))]
    Err(format!("{}: TLS needs `--features tls`", plan.workload.name()).into())
}

/// What one slice saw.
pub struct Slice {
    /// What was done: requests answered, MiB relayed.
    pub ops: f64,
    /// From the first send to the last reply.
    pub wall: Duration,
    /// CPU time of the load's thread in it.
    pub cpu: Duration,
}

/// When a slice stops sending.
#[derive(Clone, Copy)]
pub struct Bound {
    /// After so long.
    pub time: Duration,
    /// After so many requests.
    pub requests: u64,
}

#[derive(Clone, Copy, Default)]
struct Conn {
    sent_at: u64,
    missing: usize,
    /// The slot holds a socket (`close` only).
    open: bool,
}

/// The load and its connections; server `i` has those at `targets[i]`.
pub struct Load<'a> {
    ring: Ring<'a>,
    bufs: BufRing,
    conns: Vec<Conn>,
    layers: Vec<Option<Box<dyn Layer>>>,
    targets: Vec<Range<u32>>,
    addrs: Vec<libc::sockaddr_in>,
    plan: Plan,
    bytes: Vec<u8>,
    reply: usize,
    epoch: Instant,
}

impl<'a> Load<'a> {
    /// Opens `plan.connections` to each of `servers`.
    pub fn new(ring: Ring<'a>, plan: &Plan, servers: &[Target]) -> Result<Self> {
        let n = plan.connections;
        let bufs = BufRing::new(&ring, BUFFERS, BUFFER)?;
        let targets = (0..servers.len() as u32).map(|i| i * n..(i + 1) * n).collect();
        let each = servers.iter().flat_map(|&server| (0..n).map(move |_| server));
        let layers = each.map(|server| layer(server, plan)).collect::<Result<_>>()?;
        let one = match plan.workload {
            Workload::Echo => (0..plan.size.max(1)).map(|i| i as u8).collect(),
            Workload::Http | Workload::Close => request(plan.size),
        };
        let bytes = one.repeat(plan.pipeline as usize);
        let reply = match plan.workload {
            Workload::Echo => bytes.len(),
            Workload::Http => REPLY.len() * plan.pipeline as usize,
            Workload::Close if plan.tls.only_shake => 0,
            Workload::Close => REPLY.len(),
        };
        let mut load = Self {
            ring,
            bufs,
            conns: vec![Conn::default(); n as usize * servers.len()],
            layers,
            targets,
            addrs: servers.iter().map(|server| sockaddr(server.port)).collect(),
            plan: plan.clone(),
            bytes,
            reply,
            epoch: Instant::now(),
        };
        if plan.workload == Workload::Close {
            load.ring.submitter().register_files_sparse(load.conns.len() as u32)?;
        } else {
            load.connect(servers)?;
        }
        Ok(load)
    }

    fn connect(&mut self, servers: &[Target]) -> Result<()> {
        let mut fds = Vec::new();
        for server in servers {
            for _ in 0..self.plan.connections {
                let socket = TcpStream::from(sys::connect(server.port, None)?);
                if let Some(layer) = &mut self.layers[fds.len()] {
                    layer.open(&socket)?;
                }
                fds.push(socket);
            }
        }
        let raw: Vec<_> = fds.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        // The table keeps the sockets; the descriptors may go.
        self.ring.submitter().register_files(&raw)?;
        for slot in 0..raw.len() as u32 {
            self.recv(slot, Flags::empty())?;
        }
        Ok(())
    }

    /// Drives server `target` until `bound`, then waits for the replies that are still due.
    pub fn slice(&mut self, target: usize, bound: Bound, seen: &mut Histogram) -> Result<Slice> {
        let cpu = thread_cpu_time();
        let depth = u64::from(self.plan.pipeline);
        let batches = bound.requests.div_ceil(depth);
        let start = self.now();
        let deadline = start + bound.time.as_nanos() as u64;
        let (mut issued, mut done) = (0, 0);
        for slot in self.targets[target].clone() {
            if issued < batches {
                self.begin(slot, target, start)?;
                issued += 1;
            }
        }
        let mut progress = start;
        let mut now = start;
        while done < issued {
            self.ring.wait(Duration::from_secs(1))?;
            now = self.now();
            while let Some(cqe) = self.ring.pop() {
                let Some(slot) = self.complete(&cqe)? else {
                    continue;
                };
                seen.record(now - self.conns[slot as usize].sent_at);
                done += 1;
                progress = now;
                if now < deadline && issued < batches {
                    self.begin(slot, target, now)?;
                    issued += 1;
                }
            }
            self.bufs.publish();
            if now - progress > PATIENCE.as_nanos() as u64 {
                let due = issued - done;
                return Err(format!("the server owes {due} replies and sends nothing").into());
            }
        }
        let wall = Duration::from_nanos(now - start);
        Ok(Slice { ops: (done * depth) as f64, wall, cpu: thread_cpu_time().saturating_sub(cpu) })
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn push(&mut self, entry: Entry, kind: u64, slot: u32) -> io::Result<()> {
        let entry = entry.user_data(kind << 32 | u64::from(slot));
        // SAFETY: entries point to statics, to the bytes of the request and to addresses, which
        // neither move nor change while the load lives, or to a layer's bytes, which do not either
        // before the server has answered them.
        unsafe { self.ring.push(&entry) }
    }

    fn recv(&mut self, slot: u32, flags: Flags) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fixed(slot), GROUP).build();
        self.push(entry.flags(flags | Flags::BUFFER_SELECT), RECV, slot)
    }

    /// Sends the next batch on `slot`, or for `close` opens the next connection there.
    fn begin(&mut self, slot: u32, target: usize, now: u64) -> Result<()> {
        let conn = &mut self.conns[slot as usize];
        conn.sent_at = now;
        conn.missing = self.reply;
        let send = match &mut self.layers[slot as usize] {
            Some(layer) => send(slot, layer.ask(&self.bytes)?),
            None => send(slot, &self.bytes),
        };
        if self.plan.workload != Workload::Close {
            return Ok(self.push(send.flags(Flags::SKIP_SUCCESS), OTHER, slot)?);
        }
        let linked = Flags::IO_LINK | Flags::SKIP_SUCCESS;
        if std::mem::replace(&mut conn.open, true) {
            self.push(opcode::Close::new(Fixed(slot)).build().flags(linked), OTHER, slot)?;
        }
        let place = DestinationSlot::try_from_slot_target(slot)
            .map_err(|_| io::Error::other("too many slots"))?;
        let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0)
            .file_index(Some(place))
            .build();
        let reno = opcode::SetSockOpt::new(
            Fixed(slot),
            libc::IPPROTO_TCP as u32,
            libc::TCP_CONGESTION as u32,
            c"reno".as_ptr().cast(),
            4,
        )
        .build();
        let addr = &raw const self.addrs[target];
        let connect =
            opcode::Connect::new(Fixed(slot), addr.cast(), size_of::<libc::sockaddr_in>() as u32)
                .build();
        for entry in [socket, reno, connect, send] {
            self.push(entry.flags(linked), OTHER, slot)?;
        }
        Ok(self.recv(slot, Flags::empty())?)
    }

    /// Takes one completion; the slot whose reply it completed, if it did.
    fn complete(&mut self, cqe: &cqueue::Entry) -> Result<Option<u32>> {
        let slot = cqe.user_data() as u32;
        let result = cqe.result();
        if cqe.user_data() >> 32 != RECV {
            // These post failures only.
            return Err(failed("sending or connecting", result));
        }
        let mut got = result.max(0) as usize;
        if let Some(id) = cqueue::buffer_select(cqe.flags()) {
            self.bufs.take();
            if let Some(layer) = &mut self.layers[slot as usize] {
                let (taken, answer) = layer.take(self.bufs.bytes(id, got))?;
                got = taken;
                if !answer.is_empty() {
                    let send = send(slot, answer).flags(Flags::SKIP_SUCCESS);
                    self.push(send, OTHER, slot)?;
                }
            }
            self.bufs.give(id);
        }
        let close = self.plan.workload == Workload::Close;
        match result {
            0 if close && self.conns[slot as usize].missing == 0 => return Ok(Some(slot)),
            0 => return Err("the server closed a connection before its reply was complete".into()),
            n if n > 0 => {}
            n if n == -libc::ENOBUFS => {}
            n => return Err(failed("receiving", n)),
        }
        if !cqueue::more(cqe.flags()) {
            self.recv(slot, Flags::empty())?;
        }
        let conn = &mut self.conns[slot as usize];
        if got > conn.missing {
            return Err(format!("{got} bytes came where {} were due", conn.missing).into());
        }
        conn.missing -= got;
        Ok((conn.missing == 0 && got > 0 && !close).then_some(slot))
    }
}

fn send(slot: u32, bytes: &[u8]) -> Entry {
    opcode::Send::new(Fixed(slot), bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        .build()
}

fn failed(what: &str, result: i32) -> Box<dyn std::error::Error> {
    format!("{what}: {}", io::Error::from_raw_os_error(-result)).into()
}

fn sockaddr(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}
