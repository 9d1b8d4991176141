//! What a call from one worker to another costs, to and fro: both spinning, and both parked, the
//! latter against two bare rings that send each other MSG_RING messages.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{opcode, squeue, types};
use kio::Worker;

use crate::Result;
use crate::ring::{Ring, build};
use crate::sys;

/// Calls a measurement, and how often each is measured, in turn.
const CALLS: u32 = 20_000;
const ROUNDS: usize = 20;

kio::pool! {
    struct Spins;
    workers = 2,
    entry = spins,
    idle = spin(100 ms),
    conns = 1,
}

kio::pool! {
    struct Parks;
    workers = 2,
    entry = parks,
    conns = 1,
}

async fn spins(_: Worker<Spins>) -> kio::Result<()> {
    Ok(())
}

async fn parks(_: Worker<Parks>) -> kio::Result<()> {
    Ok(())
}

/// Microseconds of a round trip, measured by a task of worker 0, outside of any call.
macro_rules! measure {
    ($pool:expr, $of:ty) => {{
        let (tell, told) = mpsc::channel();
        $pool.on(0, async move |worker: Worker<$of>| {
            let calls = async move || {
                let began = Instant::now();
                for nth in 0..CALLS {
                    let answer = worker.on(1, async move |_| nth + 1).await;
                    assert_eq!(answer.ok(), Some(nth + 1));
                }
                let _ = tell.send(began.elapsed());
            };
            worker.spawn(calls).map(drop).map_err(kio::Error::from)
        })??;
        micros(told.recv()?)
    }};
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6 / f64::from(CALLS)
}

/// One side of the bare exchange: answers each message with one, and begins if it is told to.
fn side(cpu: usize, own: mpsc::Sender<RawFd>, other: mpsc::Receiver<RawFd>, begins: bool) -> f64 {
    sys::pin(cpu).expect("a CPU that may be used");
    let mut uring = build(1024).expect("a ring");
    own.send(uring.as_raw_fd()).expect("the other side");
    let mut ring = Ring::over(&mut uring).expect("a ring");
    let other = other.recv().expect("the other side");
    let message = opcode::MsgRingData::new(types::Fd(other), 0, 1, None)
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS);
    let began = Instant::now();
    for nth in 0..CALLS + u32::from(begins) {
        if nth > 0 || !begins {
            while ring.pop().is_none() {
                ring.turn(Duration::ZERO).expect("an enter");
            }
        }
        if nth < CALLS {
            // SAFETY: a message points to nothing.
            unsafe { ring.push(&message) }.expect("room");
            if !begins && nth + 1 == CALLS {
                ring.wait(Duration::from_millis(1)).expect("an enter"); // the last
            }
        }
    }
    micros(began.elapsed())
}

fn bare() -> Result<f64> {
    let (to_a, from_b) = mpsc::channel();
    let (to_b, from_a) = mpsc::channel();
    let answers = thread::spawn(move || side(1, to_a, from_a, false));
    let took = thread::spawn(move || side(0, to_b, from_b, true)).join();
    let took = took.map_err(|_| "the bare exchange failed")?;
    answers.join().map_err(|_| "the bare exchange failed")?;
    Ok(took)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Measures and prints.
pub fn run() -> Result<()> {
    let pool = Spins::start()?;
    let spun = (0..ROUNDS).map(|_| Ok(measure!(pool, Spins))).collect::<Result<Vec<_>>>()?;
    pool.stop();
    pool.join()?;
    println!("worker.on, both spinning   {:6.2} us", median(spun));
    let pool = Parks::start()?;
    let (mut kio, mut by_hand, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (a, b) = (measure!(pool, Parks), bare()?);
        kio.push(a);
        by_hand.push(b);
        ratios.push(a / b);
    }
    pool.stop();
    pool.join()?;
    println!("worker.on, both parked     {:6.2} us", median(kio));
    println!("bare MSG_RING              {:6.2} us", median(by_hand));
    println!("parked / bare              {:6.3}", median(ratios));
    Ok(())
}
