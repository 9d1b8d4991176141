//! The traits of `embedded-io-async`, as other crates would use them.

use embedded_io_async::{BufRead, ErrorKind, Read, Write};
use kio::net::{BufReader, TcpStream};
use kio::{Core, Worker};
use kio_tests::{pattern, scaled};

kio::pool! {
    struct Traits;
    entry = idle,
    spawn = 4 x 8 KiB,
    calls = 2 x 8 KiB,
    conns = 8,
    buffers = 64 x 4 KiB,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// Runs `body` with the two ends of a connection.
fn with_pair<F: AsyncFnOnce(Worker<Traits>, TcpStream, TcpStream) + Send + 'static>(body: F) {
    let pool = Traits::start_when_free().expect("the last run held nothing");
    pool.on(0, async move |worker| {
        let mut listener = worker.listen("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let near = worker.connect(addr).await.expect("it listens");
        let far = listener.accept().await.expect("somebody connected");
        drop(listener);
        body(worker, near, far).await;
    })
    .expect("the body ends");
    pool.stop();
    pool.join().expect("a clean end");
}

async fn write_all<W: Write>(mut to: W, bytes: &[u8]) {
    for part in bytes.chunks(777) {
        to.write_all(part).await.expect("the peer reads");
    }
    to.flush().await.expect("the peer reads");
}

#[test]
fn what_is_written_is_read() {
    let len = scaled(500_000);
    with_pair(async move |worker, near, mut far| {
        let (recv, send) = near.into_split();
        let writing = worker.spawn(move || async move { write_all(send, &pattern(len)).await });
        let mut got = vec![0; len];
        let mut at = 0;
        // Into slices of many lengths, an empty one among them.
        for step in (0..2000).cycle() {
            let end = (at + step).min(len);
            let n = far.read(&mut got[at..end]).await.expect("bytes");
            assert!(n > 0 || at == end);
            at += n;
            if at == len {
                break;
            }
        }
        assert!(got == pattern(len));
        writing.expect("room").await.expect("no panic");
        assert_eq!(far.read(&mut [0; 10]).await, Ok(0), "the writer is gone");
        drop(recv);
    });
}

#[test]
fn lines_are_read_through_a_buf_reader() {
    async fn read_line<R: BufRead>(from: &mut R) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let bytes = from.fill_buf().await.expect("bytes");
            if bytes.is_empty() {
                return (!line.is_empty()).then_some(line);
            }
            if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(&bytes[..end]);
                from.consume(end + 1);
                return Some(line);
            }
            let all = bytes.len();
            line.extend_from_slice(bytes);
            from.consume(all);
        }
    }
    with_pair(async |worker, near, far| {
        let count = scaled(5_000);
        let text: String = (0..count).map(|nth| format!("line {nth}\n")).collect();
        let writing = worker.spawn(move || async move {
            let text = text;
            write_all(near, text.as_bytes()).await;
        });
        let mut lines = BufReader::new(far);
        for nth in 0..count {
            let line = read_line(&mut lines).await.expect("not the end");
            assert_eq!(line, format!("line {nth}").as_bytes());
        }
        assert_eq!(read_line(&mut lines).await, None);
        writing.expect("room").await.expect("no panic");
    });
}

#[test]
fn a_buf_reader_gives_back_what_it_has_not_given_out() {
    with_pair(async |_, mut near, far| {
        near.send("headBODY").await.expect("sent");
        let mut reader = BufReader::new(far);
        let mut head = [0; 4];
        reader.read_exact(&mut head).await.expect("bytes");
        assert_eq!(&head, b"head");
        let (_far, rest) = reader.into_inner();
        assert_eq!(rest.as_deref(), Some(&b"BODY"[..]));
    });
}

#[test]
fn nothing_is_sent_before_the_flush() {
    with_pair(async |worker, mut near, far| {
        near.write_all(b"held back").await.expect("room");
        let mut far = far;
        let early = worker.timeout(std::time::Duration::from_millis(5), far.recv()).await;
        assert!(early.is_err(), "{early:?}");
        Write::flush(&mut near).await.expect("sent");
        let mut back = [0; 9];
        far.read_exact(&mut back).await.expect("bytes");
        assert_eq!(&back, b"held back");
    });
}

#[test]
fn errors_have_the_kinds_that_others_know() {
    use embedded_io_async::Error;
    with_pair(async |_, mut near, mut far| {
        near.set_recv_timeout(Some(std::time::Duration::from_millis(5)));
        let late = near.read(&mut [0; 1]).await.expect_err("nobody writes");
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        near.shutdown().await.expect("connected");
        let closed = near.write(b"more").await.expect_err("it was shut down");
        assert_eq!(closed.kind(), ErrorKind::BrokenPipe);
        assert_eq!(far.read(&mut [0; 1]).await, Ok(0));
    });
}
