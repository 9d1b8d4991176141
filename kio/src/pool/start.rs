//! Starting a pool's threads, and running one in the foreground.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsRawFd, IntoRawFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use super::handle::{Handle, on_worker, parts, reap, stop, wake_all};
use super::signals::{self, Watch};
use super::{Config, Pin, Pool, Registered, State, Worker, Workers};
use crate::error::{Error, Held, Result, StartError};
use crate::ring::{self, Features, Rights, Setup};
use crate::worker::{Barrier, Loop, LoopSetup, Parts, Phase};

/// Descriptors a pool needs beside its table: standard streams, rings, eventfds, listeners.
const OWN_DESCRIPTORS: u64 = 64;

/// Stack of a resolver's thread: the C library's resolver wants some.
const RESOLVER_STACK: u64 = 256 * 1024;

/// Starts the pool and gives its handle.
pub fn start<P: Pool>(args: <P::State as State>::Args) -> Result<Handle<P>> {
    reap::<P>();
    let shared = P::shared();
    if !shared.change(Phase::Idle, Phase::Starting) {
        return Err(match shared.phase() {
            Phase::Retired => StartError::Retired(shared.held()),
            _ => StartError::AlreadyRunning,
        }
        .into());
    }
    begin_run(args)
}

/// As [`start`], but waits until a run of the pool that is under way has been joined: many tests
/// share one declaration.
pub fn start_when_free<P: Pool>(args: <P::State as State>::Args) -> Result<Handle<P>> {
    if on_worker::<P>() {
        return Err(StartError::AlreadyRunning.into()); // and does so until this worker ends
    }
    let shared = P::shared();
    loop {
        shared.wait_rest();
        reap::<P>();
        if shared.phase() == Phase::Retired {
            return Err(StartError::Retired(shared.held()).into());
        }
        if shared.change(Phase::Idle, Phase::Starting) {
            return begin_run(args);
        }
    }
}

/// 1 of a pool: the caller has it, and starts its threads.
fn begin_run<P: Pool>(args: <P::State as State>::Args) -> Result<Handle<P>> {
    let mut handle = Handle::<P>::new();
    match start_workers::<P>(args) {
        Ok(()) => Ok(handle),
        Err(error) => {
            P::shared().fail(error);
            wake_all::<P>();
            Err(handle.wait().err().unwrap_or(error))
        }
    }
}

/// Runs the pool until SIGINT or SIGTERM (a second one ends the drain), or an entry's error.
pub fn run<P: Pool>(args: <P::State as State>::Args) -> Result<()> {
    let stops = [libc::SIGINT, libc::SIGTERM];
    let watch = Watch::new(stops.into_iter().chain(P::CONFIG.signals.iter().copied()))?;
    let handle = start::<P>(args)?;
    while !P::shared().has_ended() {
        for signal in watch.wait() {
            if stops.contains(&signal) {
                log::info!("signal {signal}: stopping");
                stop::<P>();
            } else {
                P::shared().signal(signal);
                wake_all::<P>();
            }
        }
    }
    handle.join()
}

fn start_workers<P: Pool>(args: <P::State as State>::Args) -> Result<()> {
    let config = const { &P::CONFIG };
    const { P::CONFIG.check() };
    // Whatever fails from here on is told as it is, not as the last run's error.
    P::shared().begin(0);
    distinct_tasks(config)?;
    let allowed = sched_getaffinity(None)?;
    let workers = count(config, &allowed)?;
    let features = detect()?;
    raise_limits(config, workers, features)?;
    let shared = P::shared();
    shared.begin(workers);
    // First: an entry may ask for a name as soon as it runs.
    start_resolvers::<P>()?;
    let args = Arc::new(args);
    for index in 0..workers {
        let args = Arc::clone(&args);
        let cpu = cpu_of(config, &allowed, index);
        let spawned = thread::Builder::new()
            .name(std::format!("{}-{index}", config.name)) // told by panics
            .stack_size(config.stack as usize)
            .spawn(move || worker::<P>(index, cpu, features, &args));
        match spawned {
            Ok(thread) => shared.keep(thread),
            Err(error) => {
                // Nobody shall wait for those that are not there.
                shared.pass(Barrier::Drained, workers - index);
                shared.pass(Barrier::Quiet, workers - index);
                return Err(error.into());
            }
        }
    }
    shared.wait_ready();
    shared.error().map_or(Ok(()), Err)
}

/// The threads that may block. They are not joined: one may be in a call that takes its time, and
/// touches nothing but the resolver when it returns.
fn start_resolvers<P: Pool>() -> Result<()> {
    let config = const { &P::CONFIG };
    let resolver = &P::shared().resolver;
    let run = resolver.begin(config.blocking);
    for _ in 0..config.blocking {
        let stack = config.stack.max(RESOLVER_STACK) as usize;
        let builder = thread::Builder::new().name("kio-resolver".into());
        builder.stack_size(stack).spawn(move || resolver.work(run))?;
    }
    Ok(())
}

/// Finds out what the kernel can do, on a thread of its own: the end of a ring interrupts a system
/// call of the thread that made it, some time later (`io_ring_exit_work` signals its task work).
fn detect() -> Result<Features> {
    thread::scope(|scope| {
        let probe = thread::Builder::new().spawn_scoped(scope, Features::detect)?;
        probe.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn distinct_tasks(config: &Config) -> Result<()> {
    for (i, a) in config.tasks.iter().enumerate() {
        for b in &config.tasks[..i] {
            if a.id.is_some() && a.id == b.id {
                return Err(StartError::SameTask(b.name, a.name).into());
            }
        }
    }
    Ok(())
}

/// Raises the soft limits to the hard ones, and tells what is still short.
fn raise_limits(config: &Config, workers: u32, features: Features) -> Result<()> {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let Rlimit { maximum, .. } = getrlimit(resource);
        let _ = setrlimit(resource, Rlimit { current: maximum, maximum });
    }
    // A table may be as large as the limit; sockets kept as descriptors count one by one, and files
    // always are.
    let (conns, files) = (u64::from(config.conns), u64::from(config.files));
    let need = match features.direct {
        true => (conns + files).max(files * u64::from(workers)),
        false => (conns + files) * u64::from(workers),
    };
    let need = need + OWN_DESCRIPTORS;
    match getrlimit(Resource::Nofile).current {
        Some(allowed) if allowed < need => Err(StartError::Descriptors { need, allowed }.into()),
        _ => Ok(()),
    }
}

/// How many workers run on these CPUs.
fn count(config: &Config, allowed: &CpuSet) -> Result<u32> {
    let cpus = match config.pin {
        Pin::On | Pin::Off => allowed.count(),
        Pin::Cpus(list) => {
            if let Some(cpu) = list.iter().find(|cpu| !allowed.is_set(**cpu as usize)) {
                return Err(StartError::CpuNotAllowed(*cpu).into());
            }
            list.len() as u32
        }
    };
    match config.workers {
        Workers::UpTo(most) => Ok(most.min(cpus)),
        Workers::Exactly(workers) if workers <= cpus || config.pin == Pin::Off => Ok(workers),
        Workers::Exactly(workers) => Err(StartError::TooFewCpus { workers, cpus }.into()),
    }
}

/// The CPU of a worker: the next of the list, or of those allowed.
fn cpu_of(config: &Config, allowed: &CpuSet, index: u32) -> Option<u32> {
    match config.pin {
        Pin::Off => None,
        Pin::Cpus(list) => list.get(index as usize).copied(),
        Pin::On => (0..CpuSet::MAX_CPU as u32)
            .filter(|cpu| allowed.is_set(*cpu as usize))
            .nth(index as usize),
    }
}

/// A worker's thread, from its first line to its last.
fn worker<P: Pool>(
    index: u32,
    cpu: Option<u32>,
    features: Features,
    args: &<P::State as State>::Args,
) {
    /// A panic in the driver leaves memory in no known state: it ends the process.
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            std::process::abort();
        }
    }
    let abort = Abort;
    let parts = parts::<P>(index as usize);
    name_thread(P::CONFIG.name, index);
    parts.begin();
    if let Err(error) = work::<P>(index, cpu, features, args) {
        P::shared().fail(error);
        wake_all::<P>();
    }
    parts.calls.close();
    let guards = empty_state::<P>(index);
    parts.pass(P::shared(), Barrier::Drained);
    parts.pass(P::shared(), Barrier::Quiet);
    let held = Held { guards, ..parts.held() };
    parts.tasks.settle();
    parts.leave_thread();
    parts.tasks.owner.release();
    P::shared().ended(held);
    signals::ring_all();
    core::mem::forget(abort);
}

fn work<P: Pool>(
    index: u32,
    cpu: Option<u32>,
    features: Features,
    args: &<P::State as State>::Args,
) -> Result<()> {
    let config = const { &P::CONFIG };
    let shared = P::shared();
    let memory = P::memory(index as usize);
    let parts = memory.parts;
    let helpers = pin(cpu)?;
    parts.set_up(index, shared, config, &memory.core, features);
    parts.on_error.set(P::on_error());
    let eventfd = wake_descriptor(parts)?;
    let setup = Setup {
        sq: config.sq(),
        cq: config.cq(),
        files: config.conns + config.files,
        buffer_ring: memory.core.buffer_ring,
        buffer_ring_entries: config.ring_entries() as u16,
        helpers,
        harden: config.harden,
        rights: Rights {
            files: config.files > 0,
            paths: config.paths,
            set_len: features.set_len,
            peers: config.max_workers() > 1,
        },
        registered: (config.files > 0 && config.registered != Registered::Off)
            .then_some((memory.core.buffers, config.registered == Registered::Require)),
        // What it cannot do without: buffers that may be registered are not among that.
        locked: match config.registered {
            Registered::Auto if config.files > 0 => P::FOOTPRINT.locked - P::FOOTPRINT.buffers,
            _ => P::FOOTPRINT.locked,
        },
    };
    let mut uring = ring::build(&setup)?;
    let descriptor = uring.as_raw_fd();
    let ring = ring::set_up(&mut uring, &setup)?;
    parts.io.files.registered.set(ring.is_registered());
    let mut running = Loop::new(LoopSetup { parts, ring, eventfd });
    running.enable()?;
    let drop_state = || {
        empty_state::<P>(index);
    };
    let begun = begin::<P>(parts, args);
    if let Err(error) = begun {
        // Before `end` waits for the others, who wait for this one to be ready.
        shared.fail(error);
        wake_all::<P>();
    }
    // No message is sent before all are ready, so no ring gets one that is not enabled.
    parts.tasks.ring.store(descriptor + 1, Ordering::Release);
    if begun.is_ok() && shared.ready() {
        running.run(drop_state)
    } else {
        running.end(drop_state)?;
        begun
    }
}

/// Drops the state, unless somebody holds it; returns how many do. A panic of its drop is counted.
fn empty_state<P: Pool>(index: u32) -> u32 {
    let state = P::state(index as usize);
    crate::task::catch(|| state.empty()).unwrap_or_else(|_| {
        parts::<P>(index as usize).tasks.counters.panics.add(1);
        0
    })
}

/// Makes the state and starts the entry, whose first error fails the start.
fn begin<P: Pool>(parts: &'static Parts, args: &<P::State as State>::Args) -> Result<()> {
    let core = parts.core();
    let state = crate::task::catch(|| P::State::init(core, args))
        .map_err(|_| Error::Other("the state's `init` panicked"))??;
    P::state(core.index()).fill(state);
    set_base::<P>(parts)?;
    crate::task::catch(|| P::enter(Worker::new(core)))
        .map_err(|_| Error::Other("the entry, or what names an address, panicked when called"))??;
    Loop::first_polls(parts);
    parts.calls.open();
    P::shared().error().map_or(Ok(()), Err)
}

/// Finds where relative paths begin: the declaration's `root`, or the working directory.
fn set_base<P: Pool>(parts: &'static Parts) -> Result<()> {
    use crate::fs::path::{PATH_MAX, normalise};
    if P::CONFIG.files == 0 {
        return Ok(());
    }
    let here = std::env::current_dir()?;
    let mut root = [0; PATH_MAX + 1];
    let mut len = normalise(b"/", crate::fs::path::root(&here), &mut root);
    let told = &mut |bytes: &[u8]| len = normalise(crate::fs::path::root(&here), bytes, &mut root);
    let state = P::state(parts.core().index()).guard();
    crate::task::catch(|| P::root(&state, told))
        .map_err(|_| Error::Other("the declaration's `root` panicked"))?;
    let root = &root[..len?];
    if !P::shared().has_one_base(root) {
        return Err(Error::Other("the declaration's `root` gives each worker another directory"));
    }
    parts.set_base(root);
    Ok(())
}

fn name_thread(name: &str, index: u32) {
    use core::fmt::Write;
    // Names of threads are 15 bytes at most.
    let mut text = heapless::String::<15>::new();
    let room = 15 - 1 - index.checked_ilog10().unwrap_or(0) as usize - 1;
    let cut = name.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|end| *end <= room);
    let _ = write!(text, "{}-{index}", &name[..cut.last().unwrap_or(0)]);
    let mut bytes = [0; 16];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    if let Ok(text) = core::ffi::CStr::from_bytes_until_nul(&bytes) {
        let _ = rustix::thread::set_name(text);
    }
}

/// Pins the calling thread. Returns the other CPUs, if there are any, for the kernel's helpers.
fn pin(cpu: Option<u32>) -> Result<Option<CpuSet>> {
    let Some(cpu) = cpu else { return Ok(None) };
    let mut others = sched_getaffinity(None)?;
    let mut own = CpuSet::new();
    own.set(cpu as usize);
    sched_setaffinity(None, &own).map_err(|_| StartError::CpuNotAllowed(cpu))?;
    others.unset(cpu as usize);
    Ok((others.count() > 0).then_some(others))
}

/// The eventfd that wakes this worker: made once, kept for the life of the process, since a late
/// waker may still write it.
fn wake_descriptor(parts: &Parts) -> Result<i32> {
    let known = parts.tasks.eventfd.load(Ordering::Relaxed);
    if known > 0 {
        return Ok(known - 1);
    }
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| Error::os("making an eventfd", errno.raw_os_error()))?
        .into_raw_fd();
    parts.tasks.eventfd.store(fd + 1, Ordering::Relaxed);
    parts.shared().keep_eventfd(parts.index.get(), fd);
    Ok(fd)
}
