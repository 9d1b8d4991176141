//! Records between two ends of one worker, sealed with keys that both know: what a handshake would give.
//! Needs the kernel's module `tls`; without it each test says that it is skipped.

use std::eprintln;
use std::vec::Vec;

use super::{Arrived, Record, Records};
use crate::net::{ConnectOptions, ListenOptions, TcpStream};
use crate::ring::ktls::{Cipher, Keys, Refused, Version};
use crate::{Core, Error, Result, Worker};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

crate::pool! {
    struct Sealed;
    workers = 1,
    entry = idle,
    calls = 4 x 64 KiB,
    spawn = 16 x 8 KiB,
    conns = 16,
    buffers = 64 x 16 KiB,
    pin = off,
}

async fn idle(_: Core) -> Result<()> {
    Ok(())
}

/// Runs `body` on the worker of a pool that ends with nothing held.
fn on_worker<R, F>(body: F) -> R
where
    F: AsyncFnOnce(Worker<Sealed>) -> R + Send + 'static,
    R: Send + 'static,
{
    let pool = Sealed::start_when_free().expect("the last run held nothing");
    let value = pool.on(0, body).expect("the body ends");
    pool.stop();
    pool.stop(); // without a drain
    pool.join().expect("a clean end");
    value
}

/// Keys for what goes from the first end (0) to the second, or back (1), of that generation.
fn with_keys<R>(way: u8, generation: u8, run: impl FnOnce(&Keys<'_>) -> R) -> R {
    let (key, iv) = ([way * 16 + generation; 16], [way + 1; 12]);
    run(&Keys {
        version: Version::Tls13,
        cipher: Cipher::Aes128Gcm,
        key: &key,
        iv: &iv,
        sequence: 0,
    })
}

/// Two ends of a connection, of plain bytes.
async fn plain(core: Core) -> Result<(TcpStream, TcpStream)> {
    let options = ListenOptions::new().real_fds();
    let mut listener = core.listen_with("127.0.0.1:0", options).await?;
    let addr = listener.local_addr()?;
    let a = core.connect_with(addr, ConnectOptions::new().real_fd()).await?;
    let b = listener.accept().await?;
    Ok((a, b))
}

/// Two ends whose records the kernel seals and opens; `None` where it does not.
async fn sealed(core: Core) -> Result<Option<(TcpStream, TcpStream)>> {
    let (a, b) = plain(core).await?;
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

/// Runs `body` on two such ends, and asks the kernel's counters whether it had a part in it.
fn on_sealed<F>(body: F)
where
    F: AsyncFnOnce(Core, TcpStream, TcpStream) -> Result<()> + Send + 'static,
{
    let before = counted("TlsTxSw");
    let ran = on_worker(async move |worker: Worker<Sealed>| match sealed(worker.core()).await? {
        None => Ok(false),
        Some((a, b)) => body(worker.core(), a, b).await.map(|()| true),
    });
    match ran.expect("no error") {
        true => assert!(counted("TlsTxSw") >= before + 2, "the kernel sealed nothing"),
        false => eprintln!("skipped: this kernel has no module tls"),
    }
}

/// A counter of the kernel's: nothing where it does no TLS.
fn counted(name: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/net/tls_stat").unwrap_or_default();
    let line = all.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// The next bytes; control records are an error.
async fn data(records: Records) -> Result<Vec<u8>> {
    match records.wait(false).await? {
        Arrived::Data => Ok(records.take_data().expect("it has arrived").to_vec()),
        Arrived::End => Ok(Vec::new()),
        Arrived::Record => Err(Error::Other("a record came where data was due")),
    }
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
    on_sealed(async |_, mut a, b| {
        let (from, to) = (a.records(), b.records());
        a.send("before").await?;
        from.send_record(HANDSHAKE, b"news", None).await?;
        a.send("between").await?;
        a.send("and more").await?;
        from.send_record(ALERT, &CLOSE_NOTIFY, None).await?;
        assert_eq!(data(to).await?, b"before");
        let news = record(to).await?;
        assert_eq!((news.kind, news.bytes(), news.end), (HANDSHAKE, &b"news"[..], true));
        let mut between = data(to).await?;
        while between.len() < 15 {
            between.extend(data(to).await?);
        }
        assert_eq!(between, b"betweenand more");
        let alert = record(to).await?;
        assert_eq!((alert.kind, alert.bytes()), (ALERT, &CLOSE_NOTIFY[..]));
        assert!(to.take_record().is_none());
        Ok(())
    });
}
