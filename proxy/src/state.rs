//! What one worker knows: the configuration, its servers and how they are, and what it counted.
//!
//! A server's state is in a slot that it keeps while the configuration names it or a connection of
//! this worker is on it, so a reload loses no count.

use std::cell::{Cell, Ref, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use heapless::Vec;
use kio::Core;
use kio::sync::Event;
use kio::time::Instant;

use crate::config::{Balance, Config, Group, LISTENERS, Name, SERVERS};
use crate::server::Way;
use crate::tls::{Acceptor, Shared};

/// Servers of the configuration, and those that are gone from it and still have connections.
const SLOTS: usize = SERVERS + 32;

/// What the start is told.
pub struct Args {
    pub path: PathBuf,
    pub config: Config,
    pub tls: Shared,
}

/// A server as this worker sees it.
struct Slot {
    group: RefCell<Name>,
    addr: Cell<Option<SocketAddr>>,
    /// The configuration names it.
    named: Cell<bool>,
    max: Cell<u32>,
    active: Cell<u32>,
    up: Cell<bool>,
    /// Good and bad attempts in a row.
    good: Cell<u32>,
    bad: Cell<u32>,
    /// The last attempt failed, and was told of.
    failing: Cell<bool>,
    probing: Cell<bool>,
    probed: Cell<Option<Instant>>,
    numbers: Cell<ServerNumbers>,
}

/// What is counted of a server.
#[derive(Clone, Copy, Default)]
pub struct ServerNumbers {
    pub connections: u64,
    pub failures: u64,
    pub active: u64,
    pub up: u64,
    pub bytes_to: u64,
    pub bytes_from: u64,
}

/// What is counted of all.
#[derive(Clone, Copy, Default)]
pub struct Numbers {
    pub accepted: u64,
    pub ended: u64,
    pub wrong_headers: u64,
    pub handshakes: u64,
    pub failed_handshakes: u64,
    pub no_server: u64,
    pub waits: u64,
    pub wait_timeouts: u64,
    pub retries: u64,
    pub relays: u64,
    pub resets: u64,
    pub timeouts: u64,
    pub bytes_to: u64,
    pub bytes_from: u64,
    pub reloads: u64,
    pub failed_reloads: u64,
}

/// What a worker tells of itself.
#[derive(Clone, Copy)]
pub struct Snapshot {
    pub numbers: Numbers,
    pub servers: [ServerNumbers; SERVERS],
}

/// A worker's state.
pub struct State {
    pub path: PathBuf,
    config: RefCell<Config>,
    tls: RefCell<Shared>,
    slots: [Slot; SLOTS],
    /// The slot of each of the configuration's servers.
    places: [Cell<usize>; SERVERS],
    /// A connection to a server has ended, or the configuration changed: who waits looks again.
    room: Event,
    /// How many wait, by listener.
    waiting: [Cell<u32>; LISTENERS],
    turn: Cell<usize>,
    numbers: Cell<Numbers>,
}

impl kio::State for State {
    type Args = Args;

    fn init(_: Core, args: &Args) -> kio::Result<Self> {
        let slot = || Slot {
            group: RefCell::new(Name::new()),
            addr: Cell::new(None),
            named: Cell::new(false),
            max: Cell::new(0),
            active: Cell::new(0),
            up: Cell::new(false),
            good: Cell::new(0),
            bad: Cell::new(0),
            failing: Cell::new(false),
            probing: Cell::new(false),
            probed: Cell::new(None),
            numbers: Cell::new(ServerNumbers::default()),
        };
        let state = Self {
            path: args.path.clone(),
            config: RefCell::new(args.config.clone()),
            tls: RefCell::new(args.tls.clone()),
            slots: std::array::from_fn(|_| slot()),
            places: std::array::from_fn(|_| Cell::new(0)),
            room: Event::new(),
            waiting: std::array::from_fn(|_| Cell::new(0)),
            turn: Cell::new(0),
            numbers: Cell::new(Numbers::default()),
        };
        state.apply(&args.config, args.tls.clone()).map_err(kio::Error::Other)?;
        Ok(state)
    }
}

/// What there is for a client.
pub enum Choice {
    Server(usize),
    /// All that are up have as many connections as they may.
    Full,
    /// None is up that was not tried.
    Nothing,
}

/// Servers that a client was at, by slot.
pub type Tried = Vec<usize, SERVERS>;

impl State {
    pub fn config(&self) -> Ref<'_, Config> {
        self.config.borrow()
    }

    /// The group of a listener.
    pub fn group(&self, listener: usize) -> Group {
        let config = self.config.borrow();
        config.groups[config.listeners[listener].group].clone()
    }

    /// How a listener shakes hands, if it does.
    pub fn acceptor(&self, listener: usize) -> Option<Acceptor> {
        self.tls.borrow().acceptor(listener)
    }

    /// How the servers of a group are spoken to.
    fn way(&self, config: &Config, group: usize) -> Way {
        Way {
            proxy_out: config.groups[group].proxy_out,
            tls: self.tls.borrow().connector(group),
            limit: config.connect_timeout,
        }
    }

    /// How a listener's servers are spoken to.
    pub fn way_of(&self, listener: usize) -> Way {
        let config = self.config.borrow();
        self.way(&config, config.listeners[listener].group)
    }

    pub fn count(&self, change: impl FnOnce(&mut Numbers)) {
        let mut numbers = self.numbers.get();
        change(&mut numbers);
        self.numbers.set(numbers);
    }

    /// Takes a configuration over; one that needs more slots than there are is refused whole.
    pub fn apply(&self, config: &Config, tls: Shared) -> Result<(), &'static str> {
        let mut places: Vec<usize, SERVERS> = Vec::new();
        for server in &config.servers {
            let group = &config.groups[server.group].name;
            let same = |slot: &Slot| {
                (slot.named.get() || slot.active.get() > 0)
                    && slot.addr.get() == Some(server.addr)
                    && *slot.group.borrow() == *group
            };
            let place = self.slots.iter().position(same).or_else(|| {
                let free = |(nth, slot): &(usize, &Slot)| {
                    !slot.named.get() && slot.active.get() == 0 && !places.contains(nth)
                };
                self.slots.iter().enumerate().find(free).map(|(nth, _)| nth)
            });
            let place = place.ok_or(
                "too many servers that are gone from the configuration have connections: try again \
                 when some have ended",
            )?;
            let _ = places.push(place);
        }
        for (nth, slot) in self.slots.iter().enumerate() {
            slot.named.set(slot.named.get() && places.contains(&nth));
        }
        for (nth, (server, place)) in config.servers.iter().zip(&places).enumerate() {
            let slot = &self.slots[*place];
            if !slot.named.get() && slot.active.get() == 0 {
                slot.group.replace(config.groups[server.group].name.clone());
                slot.addr.set(Some(server.addr));
                slot.up.set(true); // until a check or a client finds it down
                slot.good.set(0);
                slot.bad.set(0);
                slot.failing.set(false);
                slot.probed.set(None);
                slot.numbers.set(ServerNumbers::default());
            }
            if config.groups[server.group].check.is_none() {
                slot.up.set(true);
            }
            slot.named.set(true);
            slot.max.set(server.max);
            self.places[nth].set(*place);
        }
        self.config.replace(config.clone());
        self.tls.replace(tls);
        self.room.set();
        Ok(())
    }

    // ---- choosing ----

    /// A server for a client of a listener, if one has room now.
    pub fn choose(&self, listener: usize, client: IpAddr, tried: &Tried) -> Choice {
        let config = self.config.borrow();
        let group_at = config.listeners[listener].group;
        let group = &config.groups[group_at];
        let mut up: Vec<usize, SERVERS> = Vec::new();
        for (nth, server) in config.servers.iter().enumerate() {
            let place = self.places[nth].get();
            if server.group == group_at && self.slots[place].up.get() && !tried.contains(&place) {
                let _ = up.push(place);
            }
        }
        if up.is_empty() {
            return Choice::Nothing;
        }
        if group.balance == Balance::Client {
            // The highest of hashes: while a server is away only its clients move.
            let addr = |place: usize| self.slots[place].addr.get();
            up.sort_unstable_by_key(|place| core::cmp::Reverse(mixed(client, addr(*place))));
            up.truncate(1);
        }
        up.retain(|place| self.slots[*place].active.get() < self.slots[*place].max.get());
        if up.is_empty() {
            return Choice::Full;
        }
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let from = turn % up.len();
        let place = match group.balance {
            Balance::RoundRobin | Balance::Client => up[from],
            Balance::Least => {
                // In turn among those that have as few.
                up.rotate_left(from);
                let least = up.iter().min_by_key(|place| self.slots[**place].active.get());
                *least.unwrap_or(&up[0])
            }
        };
        Choice::Server(place)
    }

    /// One more connection at a server; where that is.
    pub fn hold(&self, place: usize) -> Option<SocketAddr> {
        let slot = &self.slots[place];
        let addr = slot.addr.get()?;
        slot.active.set(slot.active.get() + 1);
        self.numbers_of(place, |numbers| numbers.connections += 1);
        Some(addr)
    }

    /// One less.
    pub fn let_go(&self, place: usize) {
        let slot = &self.slots[place];
        slot.active.set(slot.active.get() - 1);
        self.room.set();
    }

    /// Set when a server may have room.
    pub fn room(&self) -> &Event {
        &self.room
    }

    /// How many clients of a listener wait for room.
    pub fn waiting(&self, listener: usize) -> &Cell<u32> {
        &self.waiting[listener]
    }

    pub fn numbers_of(&self, place: usize, change: impl FnOnce(&mut ServerNumbers)) {
        let mut numbers = self.slots[place].numbers.get();
        change(&mut numbers);
        self.slots[place].numbers.set(numbers);
    }

    // ---- health ----

    /// An attempt at a server went so; tells whether it is the first in a row that failed.
    pub fn fails(&self, place: usize, fails: bool) -> bool {
        !self.slots[place].failing.replace(fails) && fails
    }

    /// An attempt at a server went so; tells whether that changed how it is.
    pub fn note(&self, place: usize, ok: bool) -> Option<bool> {
        let slot = &self.slots[place];
        let config = self.config.borrow();
        let group = config.groups.iter().find(|group| group.name == *slot.group.borrow())?;
        group.check?;
        let (count, other, need) = match ok {
            true => (&slot.good, &slot.bad, group.rise),
            false => (&slot.bad, &slot.good, group.fall),
        };
        other.set(0);
        count.set(count.get().saturating_add(1));
        let changes = slot.up.get() != ok && count.get() >= need;
        if changes {
            slot.up.set(ok);
            self.room.set();
        }
        changes.then_some(ok)
    }

    /// The next server that is to be checked, if one is due; else how long until one is.
    pub fn due(&self, now: Instant) -> Result<(usize, SocketAddr, Way), Duration> {
        let config = self.config.borrow();
        let mut left = Duration::from_secs(1);
        for (nth, server) in config.servers.iter().enumerate() {
            let place = self.places[nth].get();
            let slot = &self.slots[place];
            let Some(every) = config.groups[server.group].check.filter(|_| !slot.probing.get())
            else {
                continue;
            };
            let since = slot.probed.get().map_or(every, |probed| now.since(probed));
            if since >= every {
                slot.probing.set(true);
                slot.probed.set(Some(now));
                let way = self.way(&config, server.group);
                return Ok((place, server.addr, Way { limit: way.limit.min(every), ..way }));
            }
            left = left.min(every - since);
        }
        Err(left)
    }

    pub fn probed(&self, place: usize) {
        self.slots[place].probing.set(false);
    }

    pub fn address(&self, place: usize) -> Option<SocketAddr> {
        self.slots[place].addr.get()
    }

    // ---- telling ----

    pub fn snapshot(&self) -> Snapshot {
        let config = self.config.borrow();
        let mut servers = [ServerNumbers::default(); SERVERS];
        for (numbers, place) in servers.iter_mut().zip(&self.places).take(config.servers.len()) {
            let slot = &self.slots[place.get()];
            *numbers = slot.numbers.get();
            numbers.active = slot.active.get().into();
            numbers.up = slot.up.get().into();
        }
        Snapshot { numbers: self.numbers.get(), servers }
    }
}

/// A number of a client and a server that looks like chance.
fn mixed(client: IpAddr, server: Option<SocketAddr>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    let mut ip = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => add(&ip.octets()),
        IpAddr::V6(ip) => add(&ip.octets()),
    };
    ip(client);
    if let Some(server) = server {
        ip(server.ip());
        add(&server.port().to_be_bytes());
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
