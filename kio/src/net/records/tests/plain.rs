//! Before there are keys: plain bytes, exact reads, and what the kernel refuses. Most of it needs no
//! module.

use super::*;

#[test]
fn an_exact_read_leaves_what_is_behind_it() {
    on_worker!(Sealed, async |worker: Worker<Sealed>| {
        let (mut a, b) = plain_pair(worker.core()).await?;
        let (sent, records) = (pattern(1000), b.records());
        a.send(sent).await?;
        let mut got = [0; 300];
        let mut at = 0;
        for len in [5, 100, 195] {
            while at < len {
                at += records.read_at_most(&mut got[at..len]).await?;
            }
        }
        assert_eq!(got[..195], sent[..195]);
        assert!(!records.read_ahead());
        // The rest comes by any other way.
        assert_eq!(exactly(records, 805).await?, sent[195..]);
        drop(a);
        assert_eq!(records.read_at_most(&mut got).await?, 0, "the end of the stream");
        Ok::<_, Error>(())
    })
    .expect("no error");
}

#[test]
fn an_exact_read_that_is_given_up_loses_no_byte_and_takes_none_too_many() {
    on_worker!(Sealed, async |worker: Worker<Sealed>| {
        let (mut a, b) = plain_pair(worker.core()).await?;
        let (sent, records) = (pattern(scaled(400) * 12), b.records());
        let mut got = Vec::new();
        for (round, some) in sent.chunks(12).enumerate() {
            let mut part = [0; 12];
            assert!(poll_once(records.read_at_most(&mut part[..5])).is_pending());
            a.send_copy(some).await?;
            let mut at = 0;
            for len in [5, 12] {
                while at < len {
                    // Given up now and then, before and after it is in the kernel.
                    let polled = poll_once(records.read_at_most(&mut part[at..len]));
                    match polled {
                        core::task::Poll::Ready(n) => at += n?,
                        core::task::Poll::Pending if round % 2 == 0 => {
                            embassy_futures::yield_now().await;
                        }
                        core::task::Poll::Pending => {
                            at += records.read_at_most(&mut part[at..len]).await?;
                        }
                    }
                }
                assert!(!records.read_ahead());
            }
            got.extend_from_slice(&part);
        }
        assert!(got == sent);
        Ok::<_, Error>(())
    })
    .expect("no error");
}

#[test]
fn exact_reads_follow_a_stream_that_was_read_before() {
    on_worker!(Sealed, async |worker: Worker<Sealed>| {
        let (mut a, mut b) = plain_pair(worker.core()).await?;
        let records = b.records();
        a.send("PROXY\r\n").await?;
        assert_eq!(b.recv().await?.as_deref(), Some(&b"PROXY\r\n"[..]));
        // The next receive takes all that comes.
        assert!(poll_once(b.recv()).is_pending());
        assert!(records.read_ahead());
        let mut got = [0; 4];
        assert!(poll_once(records.read_at_most(&mut got)).is_pending());
        a.send("hello").await?;
        let n = records.read_at_most(&mut got).await?;
        assert_eq!(got[..n], b"hello"[..n]);
        let mut at = n;
        let mut rest = [0; 5];
        while at < 5 {
            at += records.read_at_most(&mut rest[at..]).await?;
        }
        // From here on nothing is taken that was not asked for.
        a.send("more than that").await?;
        let mut at = 0;
        while at < 4 {
            at += records.read_at_most(&mut got[at..]).await?;
        }
        assert_eq!(&got, b"more");
        assert!(!records.read_ahead());
        assert_eq!(exactly(records, 10).await?, b" than that");
        Ok::<_, Error>(())
    })
    .expect("no error");
}

#[test]
fn exact_reads_wait_for_buffers_like_all_others() {
    on_worker!(Small, async |worker: Worker<Small>| {
        let core = worker.core();
        let (mut a, b) = plain_pair(core).await?;
        let (mut c, d) = plain_pair(core).await?;
        // One who takes all that receives may have, and reads nothing.
        let all = pattern(16 * 4096);
        a.send(all).await?;
        let mut held = Vec::new();
        let mut n = 0;
        while n < all.len() && held.len() < 15 {
            match embassy_futures::select::select(
                b.records().wait(false),
                core.sleep(Duration::from_millis(200)),
            )
            .await
            {
                embassy_futures::select::Either::First(arrived) => {
                    assert_eq!(arrived?, Arrived::Data)
                }
                embassy_futures::select::Either::Second(()) => break, // none is left
            }
            let buf = b.records().take_data().expect("it has arrived");
            n += buf.len();
            held.push(buf);
        }
        c.send("patience").await?;
        let mut got = [0; 3];
        assert!(poll_once(d.records().read_at_most(&mut got)).is_pending());
        for _ in 0..3 {
            embassy_futures::yield_now().await;
        }
        held.clear();
        let n = d.records().read_at_most(&mut got).await?;
        assert_eq!(got[..n], b"pat"[..n]);
        assert!(!d.records().read_ahead(), "it kept its bound while it waited");
        Ok::<_, Error>(())
    })
    .expect("no error");
}

#[test]
fn without_keys_plain_bytes_pass() {
    on_sealed!(Sealed, async |core: Core, _a: TcpStream, _b: TcpStream| {
        let (mut a, mut b) = plain_pair(core).await?;
        a.records().use_tls()?;
        b.records().use_tls()?;
        assert_eq!(a.records().use_tls(), Err(Refused::Twice));
        a.send("hello").await?;
        assert_eq!(b.recv().await?.as_deref(), Some(&b"hello"[..]));
        b.send("and back").await?;
        assert_eq!(a.recv().await?.as_deref(), Some(&b"and back"[..]));
        b.records().shutdown().await?;
        assert!(a.recv().await?.is_none(), "no alert, since there are no keys");
        Ok(())
    });
}

#[test]
fn sealed_data_that_came_before_the_keys_is_opened() {
    on_sealed!(Sealed, async |core: Core, _a: TcpStream, _b: TcpStream| {
        let (mut a, b) = plain_pair(core).await?;
        let (to, hello) = (b.records(), pattern(50));
        a.records().use_tls()?;
        to.use_tls()?;
        a.send(hello).await?;
        with_keys(0, 0, |keys| a.records().set_send_keys(keys))?;
        let sent = pattern(40_000);
        a.send(sent).await?;
        a.records().shutdown().await?;
        let mut got = [0; 50];
        let mut at = 0;
        while at < 50 {
            at += to.read_at_most(&mut got[at..]).await?;
        }
        assert_eq!(got, *hello);
        assert!(!to.read_ahead());
        with_keys(0, 0, |keys| to.set_recv_keys(keys))?;
        assert!(exactly(to, sent.len()).await? == sent);
        assert_eq!(record(to).await?.bytes(), CLOSE_NOTIFY);
        assert_eq!(to.wait(false).await?, Arrived::End);
        Ok(())
    });
}

#[test]
fn keys_wait_for_what_was_pushed_and_refuse_what_was_read_ahead() {
    on_worker!(Sealed, async |worker: Worker<Sealed>| {
        let (mut a, b) = plain_pair(worker.core()).await?;
        a.push("hello").await?;
        assert_eq!(with_keys(0, 0, |keys| a.records().set_send_keys(keys)), Err(Refused::Unsent));
        a.flush().await?;
        assert_eq!(b.records().wait(false).await?, Arrived::Data);
        let refused = with_keys(0, 0, |keys| b.records().set_recv_keys(keys));
        assert_eq!(refused, Err(Refused::ReadAhead));
        Ok::<_, Error>(())
    })
    .expect("no error");
}

#[test]
fn a_connection_that_is_over_or_has_no_descriptor_is_told() {
    on_worker!(Sealed, async |worker: Worker<Sealed>| {
        let core = worker.core();
        let mut listener = core.listen("127.0.0.1:0").await?;
        let c = core.connect(listener.local_addr()?).await?;
        let d = listener.accept().await?;
        if core.parts()?.io.has_direct() {
            assert_eq!(c.records().use_tls(), Err(Refused::NoDescriptor));
            assert_eq!(d.records().use_tls(), Err(Refused::NoDescriptor));
        }
        drop(listener);
        let (a, mut b) = plain_pair(core).await?;
        drop(a);
        assert!(b.recv().await?.is_none());
        match b.records().use_tls() {
            Err(Refused::NoModule) => eprintln!("skipped: this kernel has no module tls"),
            refused => assert_eq!(refused, Err(Refused::NotConnected)),
        }
        Ok::<_, Error>(())
    })
    .expect("no error");
}
