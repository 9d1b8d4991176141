//! Records between two ends of one worker, sealed with keys that both know: what a handshake would give.
//! Needs the kernel's module `tls`; without it a test says that it is skipped.

use core::pin::pin;
use core::time::Duration;
use std::boxed::Box;
use std::eprintln;
use std::vec::Vec;

use embassy_futures::join::join;
use embassy_futures::poll_once;

use super::{Arrived, Record, Records};
use crate::net::{ConnectOptions, ListenOptions, TcpStream};
use crate::ring::ktls::{Cipher, Keys, Refused, Version, send_record_now};
use crate::{Core, Error, Result, Worker};

mod plain;
mod rekey;
mod sending;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

crate::pool! {
    struct Sealed;
    workers = 1,
    entry = idle,
    calls = 4 x 64 KiB,
    conns = 16,
    buffers = 64 x 16 KiB,
    pin = off,
}

crate::pool! {
    struct Small;
    workers = 1,
    entry = idle,
    calls = 4 x 64 KiB,
    conns = 8,
    buffers = 16 x 4 KiB,
    window = 2,
    pin = off,
}

async fn idle(_: Core) -> Result<()> {
    Ok(())
}

/// Runs `$body` on the worker of a pool that ends with nothing held.
macro_rules! on_worker {
    ($pool:ident, $body:expr) => {{
        let pool = $pool::start_when_free().expect("the last run held nothing");
        let value = pool.on(0, $body).expect("the body ends");
        pool.stop();
        pool.stop(); // without a drain
        pool.join().expect("a clean end");
        value
    }};
}
use on_worker;

/// Keys for what goes from the first end (0) to the second, or back (1), of that generation.
fn with_keys<R>(way: u8, generation: u8, run: impl FnOnce(&Keys<'_>) -> R) -> R {
    let (key, iv) = ([way * 16 + generation; 16], [way + 1; 12]);
    let cipher = Cipher::Aes128Gcm;
    run(&Keys { version: Version::Tls13, cipher, key: &key, iv: &iv, sequence: 0 })
}

/// Two ends of a connection, of plain bytes.
async fn plain_pair(core: Core) -> Result<(TcpStream, TcpStream)> {
    let options = ListenOptions::new().real_fds();
    let mut listener = core.listen_with("127.0.0.1:0", options).await?;
    let addr = listener.local_addr()?;
    let a = core.connect_with(addr, ConnectOptions::new().real_fd()).await?;
    let b = listener.accept().await?;
    Ok((a, b))
}

/// Two ends whose records the kernel seals and opens; `None` where it does not.
async fn sealed_pair(core: Core) -> Result<Option<(TcpStream, TcpStream)>> {
    let (a, b) = plain_pair(core).await?;
    for (stream, way) in [(&a, 0), (&b, 1)] {
        match stream.records().use_tls() {
            Err(Refused::NoModule) => return Ok(None),
            done => done?,
        }
        with_keys(way, 0, |keys| stream.records().set_send_keys(keys))?;
        with_keys(1 - way, 0, |keys| stream.records().set_recv_keys(keys))?;
    }
    Ok(Some((a, b)))
}

/// Asserts that the kernel had its part in what `run` did, unless it says that there was none.
fn counted_by_the_kernel(run: impl FnOnce() -> Result<bool>) {
    let before = counted("TlsTxSw");
    match run().expect("no error") {
        true => assert!(counted("TlsTxSw") >= before + 2, "the kernel sealed nothing"),
        false => eprintln!("skipped: this kernel has no module tls"),
    }
}

/// Runs `$body` on two sealed ends.
macro_rules! on_sealed {
    ($pool:ident, $body:expr) => {
        counted_by_the_kernel(|| {
            on_worker!($pool, async |worker: Worker<$pool>| {
                match sealed_pair(worker.core()).await? {
                    None => Ok(false),
                    Some((a, b)) => {
                        let run: Result<()> = Box::pin(($body)(worker.core(), a, b)).await;
                        run.map(|()| true)
                    }
                }
            })
        })
    };
}
use on_sealed;

/// A counter of the kernel's: nothing where it does no TLS.
fn counted(name: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/net/tls_stat").unwrap_or_default();
    let line = all.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// `n`, or less of it on the slow machine that `KIO_TEST_SCALE` tells of.
fn scaled(n: usize) -> usize {
    let scale = std::env::var("KIO_TEST_SCALE").ok().and_then(|text| text.parse().ok());
    (n / scale.unwrap_or(1)).max(1)
}

/// `len` bytes in an order that shows what is lost, doubled or swapped.
fn pattern(len: usize) -> &'static [u8] {
    let byte = |i: usize| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    Vec::leak((0..len).map(byte).collect())
}

/// The next bytes, none at the end; a control record is an error.
async fn data(records: Records) -> Result<Vec<u8>> {
    match records.wait(false).await? {
        Arrived::Data => Ok(records.take_data().expect("it has arrived").to_vec()),
        Arrived::End => Ok(Vec::new()),
        Arrived::Record => Err(Error::Other("a record came where data was due")),
    }
}

/// So many bytes.
async fn exactly(records: Records, len: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < len {
        match data(records).await? {
            some if some.is_empty() => return Err(Error::Other("the end came early")),
            some => all.extend(some),
        }
    }
    Ok(all)
}

/// The next control record, or its part.
async fn record(records: Records) -> Result<Record> {
    match records.wait(false).await? {
        Arrived::Record => Ok(records.take_record().expect("it has arrived")),
        _ => Err(Error::Other("no record came")),
    }
}

#[test]
fn control_records_come_in_their_place_among_the_data() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        let (from, to) = (a.records(), b.records());
        a.send("before").await?;
        from.send_record(HANDSHAKE, b"news", None).await?;
        a.send("between").await?;
        a.send("and more").await?;
        from.send_record(ALERT, &CLOSE_NOTIFY, None).await?;
        assert_eq!(data(to).await?, b"before");
        let news = record(to).await?;
        assert_eq!((news.kind, news.bytes(), news.end), (HANDSHAKE, &b"news"[..], true));
        assert_eq!(exactly(to, 15).await?, b"betweenand more");
        let alert = record(to).await?;
        assert_eq!((alert.kind, alert.bytes()), (ALERT, &CLOSE_NOTIFY[..]));
        assert!(to.take_record().is_none());
        // Copied too.
        a.send("once more").await?;
        assert_eq!(to.wait(false).await?, Arrived::Data);
        let mut first = [0; 5];
        let n = to.copy_data(|bytes| {
            first.copy_from_slice(&bytes[..5]);
            5
        });
        let mut rest = a.core().buf().await?;
        assert_eq!((n, to.read_data(&mut rest)), (5, 4));
        assert_eq!((&first, &rest[..]), (b"once ", &b"more"[..]));
        Ok(())
    });
}

#[test]
fn messages_that_share_a_record_come_together() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        // As a server sends two tickets.
        let tickets = pattern(162);
        let fd = a.real_fd().expect("asked for");
        assert_eq!(send_record_now(fd, HANDSHAKE, tickets), Ok(162));
        a.send("data").await?;
        let got = record(b.records()).await?;
        assert_eq!((got.kind, got.bytes(), got.end), (HANDSHAKE, tickets, true));
        assert_eq!(data(b.records()).await?, b"data");
        Ok(())
    });
}

#[test]
fn a_record_larger_than_a_buffer_comes_in_parts() {
    on_sealed!(Small, async |_, mut a: TcpStream, b: TcpStream| {
        let long = pattern(16 << 10);
        let fd = a.real_fd().expect("asked for");
        for (round, kind) in [HANDSHAKE, ALERT].into_iter().enumerate() {
            assert_eq!(send_record_now(fd, kind, long), Ok(long.len()));
            a.send("behind").await?;
            let mut all = Vec::new();
            loop {
                let part = record(b.records()).await?;
                assert_eq!(part.kind, kind);
                all.extend_from_slice(part.bytes());
                if part.end {
                    break;
                }
            }
            assert!(all == long, "round {round}");
            assert_eq!(data(b.records()).await?, b"behind");
        }
        Ok(())
    });
}

#[test]
fn a_storm_of_alerts_holds_one_buffer() {
    on_sealed!(Small, async |core: Core, a: TcpStream, b: TcpStream| {
        let (from, to) = (a.records(), b.records());
        let n = scaled(20_000);
        let send = async {
            for i in 0..n {
                from.send_record(ALERT, &[1, i as u8], None).await?;
            }
            Ok::<_, Error>(())
        };
        let take = async {
            for i in 0..n {
                let alert = record(to).await?;
                assert_eq!(alert.bytes(), [1, i as u8]);
                let held = 16 - core.parts()?.io.bufs.count().0 - core.parts()?.io.bufs.in_ring();
                assert!(held <= 1, "{held} buffers held");
            }
            Ok::<_, Error>(())
        };
        let (sent, taken) = join(send, take).await;
        sent.and(taken)
    });
}

#[test]
fn an_empty_record_is_no_end() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        let fd = a.real_fd().expect("asked for");
        // This kernel sends none without a byte: then there is nothing to see.
        let sent = send_record_now(fd, HANDSHAKE, &[]);
        a.send("data").await?;
        if sent.is_ok()
            && let Arrived::Record = b.records().wait(false).await?
        {
            let empty = b.records().take_record().expect("it has arrived");
            assert_eq!((empty.kind, empty.bytes().len(), empty.end), (HANDSHAKE, 0, true));
        }
        assert_eq!(data(b.records()).await?, b"data");
        Ok(())
    });
}

#[test]
fn a_wait_that_is_given_up_loses_no_record() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        let (from, to) = (a.records(), b.records());
        for i in 0..scaled(400) {
            // Armed, given up, and asked again while the record is anywhere on its way.
            assert!(poll_once(to.wait(false)).is_pending());
            from.send_record(HANDSHAKE, &[i as u8; 5], None).await?;
            a.send("x").await?;
            for _ in 0..i % 7 {
                if poll_once(to.wait(false)).is_ready() {
                    break;
                }
                embassy_futures::yield_now().await;
            }
            assert_eq!(record(to).await?.bytes(), [i as u8; 5]);
            assert_eq!(data(to).await?, b"x");
        }
        Ok(())
    });
}

#[test]
fn a_record_that_nobody_takes_is_let_go_with_its_connection() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        a.send("data").await?;
        a.records().send_record(HANDSHAKE, b"news", None).await?;
        assert_eq!(data(b.records()).await?, b"data");
        assert_eq!(b.records().wait(false).await?, Arrived::Record);
        drop(b);
        // The pool's clean end says that the buffer came back.
        Ok(())
    });
}

#[test]
fn what_was_sealed_with_other_keys_is_refused_for_good() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        drop(b);
        let (mut c, d) = plain_pair(a.core()).await?;
        c.records().use_tls()?;
        d.records().use_tls()?;
        with_keys(0, 1, |keys| c.records().set_send_keys(keys))?;
        with_keys(0, 2, |keys| d.records().set_recv_keys(keys))?;
        c.send("sealed").await?;
        for _ in 0..2 {
            let error = d.records().wait(false).await.expect_err("not to be opened");
            assert_eq!(error.errno(), Some(libc::EBADMSG));
        }
        a.send("to nobody").await.or(Ok(()))
    });
}

#[test]
fn bytes_that_are_no_record_are_refused() {
    on_sealed!(Sealed, async |core: Core, _a: TcpStream, _b: TcpStream| {
        let (mut c, d) = plain_pair(core).await?;
        d.records().use_tls()?;
        with_keys(0, 0, |keys| d.records().set_recv_keys(keys))?;
        c.send("GET / HTTP/1.1\r\n\r\n").await?;
        let error = d.records().wait(false).await.expect_err("no record");
        assert!(matches!(error.errno(), Some(libc::EINVAL | libc::EMSGSIZE)), "{error}");
        Ok(())
    });
}

#[test]
fn the_end_without_close_notify_brings_no_record() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        a.send("last words").await?;
        drop(a);
        assert_eq!(data(b.records()).await?, b"last words");
        assert_eq!(b.records().wait(false).await?, Arrived::End);
        Ok(())
    });
}

#[test]
fn an_idle_wait_ends_as_the_pool_stops_unless_something_has_arrived() {
    on_sealed!(Sealed, async |core: Core, mut a: TcpStream, b: TcpStream| {
        let (from, to) = (a.records(), b.records());
        let mut waits = pin!(to.wait(true));
        assert!(embassy_futures::poll_once(waits.as_mut()).is_pending());
        from.send_record(HANDSHAKE, b"news", None).await?;
        a.send("a request").await?;
        core.stop();
        core.stopping().await;
        assert_eq!(waits.await?, Arrived::Record);
        assert_eq!(to.take_record().expect("it has arrived").bytes(), b"news");
        assert_eq!(to.wait(true).await?, Arrived::Data);
        assert_eq!(to.take_data().as_deref(), Some(&b"a request"[..]));
        assert_eq!(to.wait(true).await?, Arrived::End);
        Ok(())
    });
}

#[test]
fn a_wait_ends_past_the_receive_timeout() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        b.set_recv_timeout(Some(Duration::from_millis(20)));
        assert_eq!(b.records().wait(false).await, Err(Error::TimedOut));
        a.send("late").await?;
        assert_eq!(data(b.records()).await?, b"late");
        Ok(())
    });
}
