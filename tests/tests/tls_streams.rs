//! What a TLS stream is for others: a place to send files to, and the traits of `embedded-io-async`.
//! All of it by each data path, in both versions.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use embassy_futures::join::join;
use embedded_io_async::{BufRead, ErrorKind, Read, Write};
use kio::net::BufReader;
use kio::tls::{TlsError, TlsStream};
use kio::{Core, Error, Worker};
use kio_tests::tls::Stage;
use kio_tests::{pattern, poll_then_drop, scaled};

kio::pool! {
    struct Streams;
    entry = idle,
    spawn = 4 x 16 KiB,
    calls = 4 x 128 KiB,
    conns = 8,
    files = 4,
    buffers = 32 x 8 KiB,
    allow = [paths],
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// A file for one test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("kio-tls-{}-{name}", std::process::id()));
        fs::write(&path, bytes).expect("a file");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// All that comes until the end in order.
async fn rest(conn: &mut TlsStream) -> Vec<u8> {
    let mut got = Vec::new();
    while let Some(data) = conn.recv().await.expect("an end in order") {
        got.extend_from_slice(&data);
    }
    got
}

// ---- files ----

#[test]
fn a_range_of_a_file_goes_out_over_tls() {
    Streams::with_pairs(async |worker, mut near, mut far| {
        let bytes = pattern(300_000);
        let scratch = Scratch::new("range", &bytes);
        let file = worker.open(&scratch.0).await.expect("it is there");
        let ranges = [(0, 300_000), (1, 299_999), (150_000, 150_001), (7, 7), (299_000, 600_000)];
        let wanted: Vec<u8> = ranges
            .iter()
            .flat_map(|&(from, to)| &bytes[from..usize::min(to, bytes.len())])
            .copied()
            .collect();
        let sending = async {
            for (from, to) in ranges {
                // A head before it, as servers have: it goes out with the file's first bytes.
                let sent =
                    file.send_to(&mut far, from as u64..to as u64).await.expect("it is read");
                assert_eq!(sent as usize, to.min(bytes.len()) - from);
            }
            far.close().await.expect("it is read");
        };
        let ((), got) = join(sending, rest(&mut near)).await;
        assert!(got == wanted, "{} bytes of {}", got.len(), wanted.len());
        file.close().await.expect("closes");
    });
}

#[test]
fn a_peer_that_stops_reading_a_file_holds_no_buffers() {
    Streams::with_pairs(async |worker: Worker<Streams>, near, mut far| {
        let scratch = Scratch::new("stops", &pattern(1 << 20));
        let file = worker.open(&scratch.0).await.expect("it is there");
        far.set_send_timeout(Some(Duration::from_millis(200)));
        let error = loop {
            // More than any socket holds.
            match file.send_to(&mut far, 0..1 << 20).await {
                Ok(sent) => assert_eq!(sent, 1 << 20),
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::TimedOut);
        assert_eq!(file.send_to(&mut far, 0..100).await, Err(Error::WriteCut));
        drop(far);
        drop(near);
        // What is kept for sends is to be had: nothing hangs on the file or the connection.
        let mut bufs = Vec::new();
        for _ in 0..4 {
            bufs.push(worker.buf().await.expect("one more"));
        }
        file.close().await.expect("closes");
    });
}

#[test]
fn a_file_that_becomes_shorter_is_sent_over_tls_as_far_as_it_goes() {
    Streams::with_pairs(async |worker, mut near, mut far| {
        let bytes = pattern(2_000_000);
        let scratch = Scratch::new("shorter", &bytes);
        let file = worker.open(&scratch.0).await.expect("it is there");
        let sending = async {
            let sent = file.send_to(&mut far, 0..2_000_000).await.expect("it is read");
            far.close().await.expect("it is read");
            sent as usize
        };
        let receiving = async {
            let first = near.recv().await.expect("bytes").expect("not the end").to_vec();
            let path = &scratch.0;
            let open = fs::OpenOptions::new().write(true).open(path).expect("opens");
            open.set_len(1_000_000).expect("cuts");
            [first, rest(&mut near).await].concat()
        };
        let (sent, got) = join(sending, receiving).await;
        assert_eq!(sent, got.len());
        let cut = got.len().min(1_000_000);
        assert!(cut > 0 && got[..cut] == bytes[..cut], "what is there is sent as it is");
        file.close().await.expect("closes");
    });
}

#[test]
fn a_file_that_is_given_up_leaves_whole_pushes() {
    Streams::with_pairs(async |worker, mut near, mut far| {
        let bytes = pattern(200_000);
        let scratch = Scratch::new("given-up", &bytes);
        let file = worker.open(&scratch.0).await.expect("it is there");
        for polls in 1..8 {
            let sending = file.send_to(&mut far, 0..200_000);
            let _ = poll_then_drop(polls, sending).await;
        }
        // Whatever was pushed goes out whole, and the connection goes on.
        let sending = async {
            far.send("the end").await.expect("it is read");
            far.close().await.expect("it is read");
        };
        let ((), got) = join(sending, rest(&mut near)).await;
        assert!(got.ends_with(b"the end"), "{} bytes", got.len());
        let files = &got[..got.len() - 7];
        // Each begins anew with the file's first byte, and goes on without a gap.
        let mut at = 0;
        for (i, byte) in files.iter().enumerate() {
            if *byte != bytes[at] {
                assert_eq!(*byte, bytes[0], "byte {i}");
                at = 0;
            }
            at += 1;
        }
        file.close().await.expect("closes");
    });
}

// ---- embedded-io-async ----

async fn write_all<W: Write>(mut to: W, bytes: &[u8]) {
    for part in bytes.chunks(777) {
        to.write_all(part).await.expect("the peer reads");
    }
    to.flush().await.expect("the peer reads");
}

/// Into slices of many lengths, an empty one among them.
async fn read_all<R: Read<Error = Error>>(mut from: R, len: usize) -> Vec<u8> {
    let (mut got, mut at) = (vec![0; len], 0);
    for step in (0..2000).cycle() {
        let end = (at + step).min(len);
        let n = from.read(&mut got[at..end]).await.expect("bytes");
        assert!(n > 0 || at == end);
        at += n;
        if at == len {
            return got;
        }
    }
    unreachable!("it cycles");
}

#[test]
fn what_is_written_is_read() {
    let len = scaled(300_000).max(10_000);
    Streams::with_pairs(async move |_, near, mut far| {
        let sent = pattern(len);
        // By owned halves one way, borrowed ones back, then the whole.
        let (mut recv, mut send) = near.into_split();
        let ((), got) = join(write_all(&mut send, &sent), read_all(&mut far, len)).await;
        assert!(got == sent);
        {
            let (mut back, mut forth) = far.split();
            let there = join(write_all(&mut forth, &sent), read_all(&mut recv, len));
            let here = join(write_all(&mut send, &sent), read_all(&mut back, len));
            let (((), there), ((), here)) = join(there, here).await;
            assert!(there == sent && here == sent);
        }
        let ((), got) = join(write_all(&mut far, &sent), read_all(&mut recv, len)).await;
        assert!(got == sent);
        send.shutdown().await.expect("it is read");
        assert_eq!(far.read(&mut [0; 10]).await, Ok(0), "the end is close_notify");
        far.close().await.expect("closes");
        assert_eq!(recv.read(&mut [0; 10]).await, Ok(0));
        assert_eq!(recv.read(&mut []).await, Ok(0));
    });
}

#[test]
fn nothing_is_sent_before_the_flush() {
    Streams::with_pairs(async |_, mut near, mut far| {
        near.set_recv_timeout(Some(Duration::from_millis(30)));
        Write::write(&mut far, b"hello").await.expect("room");
        let late = Read::read(&mut near, &mut [0; 5]).await;
        assert_eq!(late, Err(Error::TimedOut));
        assert_eq!(embedded_io_async::Error::kind(&Error::TimedOut), ErrorKind::TimedOut);
        Write::flush(&mut far).await.expect("it is read");
        let mut got = [0; 5];
        near.read_exact(&mut got).await.expect("bytes");
        assert_eq!(&got, b"hello");
    });
}

#[test]
fn a_read_that_is_given_up_loses_nothing() {
    Streams::with_pairs(async |_, mut near, mut far| {
        let sent = pattern(20_000);
        let sending = async {
            for part in sent.chunks(100) {
                far.send_copy(part).await.expect("it is read");
            }
            far.close().await.expect("closes");
        };
        let receiving = async {
            let (mut got, mut part) = (Vec::new(), [0; 70]);
            loop {
                match poll_then_drop(2, Read::read(&mut near, &mut part)).await {
                    Some(Ok(0)) => return got,
                    Some(Ok(n)) => got.extend_from_slice(&part[..n]),
                    Some(Err(error)) => panic!("{error}"),
                    None => kio_tests::yield_now().await,
                }
            }
        };
        let ((), got) = join(sending, receiving).await;
        assert!(got == sent);
    });
}

#[test]
fn lines_are_read_through_a_buf_reader_and_a_cut_is_an_error() {
    Streams::with_pairs(async |_, near, mut far| {
        let sending = async {
            for nth in 0..500 {
                far.send_copy(format!("line {nth}\n").as_bytes()).await.expect("it is read");
            }
            drop(far); // without close_notify
        };
        let mut lines = BufReader::new(near);
        let receiving = async {
            let mut got = Vec::new();
            loop {
                match lines.fill_buf().await {
                    Ok(bytes) => {
                        let n = bytes.len().min(7);
                        got.extend_from_slice(&bytes[..n]);
                        lines.consume(n);
                    }
                    Err(error) => return (got, error),
                }
            }
        };
        let ((), (got, error)) = join(sending, receiving).await;
        let wanted: String = (0..500).map(|nth| format!("line {nth}\n")).collect();
        assert!(got == wanted.as_bytes());
        assert_eq!(error, TlsError::Truncated.into());
    });
}
