//! What is sent: whole and in order, in however many parts the kernel takes it.

use super::*;

#[test]
fn megabytes_go_both_ways_at_once() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, mut b: TcpStream| {
        let (there, back) = (pattern(4 << 20), &pattern((4 << 20) + 1)[1..]);
        let (at_a, at_b) = (a.records(), b.records());
        let receive = join(exactly(at_a, back.len()), exactly(at_b, there.len()));
        let ((sent_a, sent_b), (got_a, got_b)) =
            join(join(a.send(there), b.send(back)), receive).await;
        sent_a.and(sent_b)?;
        assert!(got_b? == there);
        assert!(got_a? == back);
        Ok(())
    });
}

#[test]
fn small_buffers_take_large_records() {
    on_sealed!(Small, async |_, mut a: TcpStream, b: TcpStream| {
        let sent = pattern(scaled(8 << 20));
        let (done, got) = join(a.send(sent), exactly(b.records(), sent.len())).await;
        done?;
        assert!(got? == sent);
        Ok(())
    });
}

#[test]
fn each_send_is_a_record_and_counted() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        let n = scaled(4000);
        let sent = pattern(n);
        let send = async {
            for byte in sent.chunks(1) {
                a.send(byte).await?;
            }
            Ok::<_, Error>(())
        };
        let (done, got) = join(send, exactly(b.records(), n)).await;
        done?;
        assert!(got? == sent);
        assert_eq!(a.records().send_sequence()?, n as u64);
        assert_eq!(a.records().sealed(), n as u64);
        // Gathered, they are one.
        for byte in sent[..sent.len().min(8)].chunks(1) {
            a.push(byte).await?;
        }
        a.flush().await?;
        assert_eq!(a.records().send_sequence()?, n as u64 + 1);
        a.send(pattern(100_000)).await?;
        assert!(a.records().sealed() >= a.records().send_sequence()?);
        Ok(())
    });
}

#[test]
fn short_sends_against_a_slow_reader_are_carried_on() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        let sent = pattern(16 << 20);
        assert!(a.try_push(sent).is_ok());
        for _ in 0..200 {
            // Given up again and again: what was pushed goes on by itself.
            assert!(poll_once(a.flush()).is_pending());
            embassy_futures::yield_now().await;
        }
        let (done, got) = join(a.flush(), exactly(b.records(), sent.len())).await;
        done?;
        assert!(got? == sent);
        Ok(())
    });
}

#[test]
fn shutdown_sends_what_was_pushed_then_close_notify_then_the_end() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, mut b: TcpStream| {
        let sent = pattern(3 << 20);
        a.push(sent).await?;
        let (done, got) = join(a.records().shutdown(), exactly(b.records(), sent.len())).await;
        done?;
        assert!(got? == sent);
        assert_eq!(record(b.records()).await?.bytes(), CLOSE_NOTIFY);
        assert_eq!(b.records().wait(false).await?, Arrived::End);
        assert_eq!(a.send("more").await, Err(Error::WriteClosed));
        assert!(a.records().queue_record(ALERT, &CLOSE_NOTIFY, None).is_err());
        a.records().shutdown().await?; // once more does no harm
        // The other way still works.
        b.send("and back").await?;
        assert_eq!(data(a.records()).await?, b"and back");
        Ok(())
    });
}

#[test]
fn an_end_that_nobody_awaits_comes_whole() {
    on_sealed!(Sealed, async |_, a: TcpStream, b: TcpStream| {
        let sent = pattern(3 << 20);
        let (from, to) = (a.records(), b.records());
        let (receives, mut sends) = a.into_split();
        sends.push(sent).await?;
        assert!(from.queue_record(HANDSHAKE, b"news", None)?);
        from.end()?;
        drop(sends);
        // The record comes before what was not in flight, the alert behind all.
        let mut got = Vec::new();
        let mut records = Vec::new();
        loop {
            match to.wait(false).await? {
                Arrived::Data => got.extend_from_slice(&to.take_data().expect("it has arrived")),
                Arrived::Record => {
                    records.push(to.take_record().expect("it has arrived").bytes().to_vec());
                }
                Arrived::End => break,
            }
        }
        assert!(got == sent);
        assert_eq!(records, [&b"news"[..], &CLOSE_NOTIFY]);
        drop(receives);
        Ok(())
    });
}

#[test]
fn one_record_waits_at_a_time_and_the_next_is_told() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        let (from, to) = (a.records(), b.records());
        let sent = pattern(16 << 20);
        assert!(a.try_push(sent).is_ok());
        assert!(poll_once(a.flush()).is_pending());
        assert!(from.queue_record(HANDSHAKE, b"first", None)?);
        assert!(!from.queue_record(HANDSHAKE, b"second", None)?);
        assert!(from.queue_record(HANDSHAKE, &[0; 17], None).is_ok_and(|queued| !queued));
        let take = async {
            let (mut n, mut records) = (0, Vec::new());
            while n < sent.len() || records.len() < 2 {
                match to.wait(false).await? {
                    Arrived::Data => n += to.take_data().expect("it has arrived").len(),
                    Arrived::Record => {
                        records.push(to.take_record().expect("it has arrived").bytes().to_vec());
                    }
                    Arrived::End => return Err(Error::Other("the end came early")),
                }
            }
            Ok(records)
        };
        let (sent, records) = join(from.send_record(HANDSHAKE, b"third", None), take).await;
        sent?;
        assert_eq!(records?, [&b"first"[..], b"third"]);
        Ok(())
    });
}

#[test]
fn a_record_that_finds_no_room_in_time_cuts_the_sends_off() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, _b: TcpStream| {
        a.set_send_timeout(Some(Duration::from_millis(50)));
        let sent = pattern(64 << 20);
        assert!(a.try_push(sent).is_ok());
        assert!(poll_once(a.flush()).is_pending());
        // Some still find room, and the data behind each takes it away.
        let late = loop {
            if let Err(late) = a.records().send_record(ALERT, &[2, 20], None).await {
                break late;
            }
        };
        assert_eq!(late, Error::TimedOut);
        assert_eq!(a.send("more").await, Err(Error::WriteCut));
        assert_eq!(a.records().shutdown().await, Err(Error::WriteCut));
        Ok(())
    });
}

#[test]
fn a_reset_that_was_received_fails_the_sends_too() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, mut b: TcpStream| {
        a.send("unread").await?;
        b.send("read").await?;
        drop(b); // with unread bytes: a reset
        assert_eq!(data(a.records()).await?, b"read");
        let error = a.records().wait(false).await.expect_err("a reset");
        assert_eq!(error.errno(), Some(libc::ECONNRESET));
        // The kernel would go on to seal, and say that all is well.
        assert_eq!(a.send("more").await, Err(Error::os("send", libc::ECONNRESET)));
        assert!(a.records().queue_record(ALERT, &CLOSE_NOTIFY, None).is_err());
        assert!(a.records().shutdown().await.is_err());
        Ok(())
    });
}

#[test]
fn a_reset_that_nobody_received_fails_the_sends() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        a.send("unread").await?;
        drop(b); // with unread bytes: a reset
        let mut sent = Ok(());
        while sent.is_ok() {
            sent = a.records().send_record(ALERT, &[1, 90], None).await;
        }
        let errno = sent.map_err(|error| error.errno());
        assert!(matches!(errno, Err(Some(libc::EPIPE | libc::ECONNRESET))), "{errno:?}");
        Ok(())
    });
}

#[test]
fn an_alert_goes_out_after_a_record_that_could_not_be_opened() {
    on_sealed!(Sealed, async |core: Core, _a: TcpStream, _b: TcpStream| {
        let (mut c, d) = plain_pair(core).await?;
        for (stream, send, recv) in [(&c, 0, 1), (&d, 1, 2)] {
            stream.records().use_tls()?;
            with_keys(send, 0, |keys| stream.records().set_send_keys(keys))?;
            with_keys(recv, 0, |keys| stream.records().set_recv_keys(keys))?;
        }
        c.send("sealed with other keys").await?;
        assert!(d.records().wait(false).await.is_err());
        d.records().send_record(ALERT, &[2, 20], None).await?;
        assert_eq!(record(c.records()).await?.bytes(), [2, 20]);
        Ok(())
    });
}
