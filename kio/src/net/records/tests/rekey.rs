//! New keys on a running connection: 6.14 and later; before, what is told.

use embassy_futures::select::{Either, select};

use super::*;

/// A KeyUpdate that asks for no answer.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// Tells the peer of new keys and sets them: false where this kernel takes none.
async fn update(from: Records, generation: u8) -> Result<bool> {
    // The future outlives the loan of the keys, so they are the test's here.
    let (key, iv) = ([generation; 16], [1; 12]);
    let cipher = Cipher::Aes128Gcm;
    let keys = Keys { version: Version::Tls13, cipher, key: &key, iv: &iv, sequence: 0 };
    match from.send_record(HANDSHAKE, &KEY_UPDATE, Some(&keys)).await {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(libc::EBUSY) => {
            eprintln!("skipped: this kernel takes no second keys (6.14 does)");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[test]
fn keys_change_between_two_sends() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        let (from, to) = (a.records(), b.records());
        for generation in 1..=8 {
            a.send("old").await?;
            if !update(from, generation).await? {
                assert_eq!(a.send("after").await.map_err(|e| e.errno()), Err(Some(libc::EBUSY)));
                return Ok(());
            }
            assert_eq!(from.sealed(), 0);
            a.send("new").await?;
            assert_eq!(from.send_sequence()?, 1);
            assert_eq!(data(to).await?, b"old");
            assert_eq!(record(to).await?.bytes(), KEY_UPDATE);
            with_keys(0, generation, |keys| to.set_recv_keys(keys))?;
            assert_eq!(data(to).await?, b"new");
        }
        Ok(())
    });
}

#[test]
fn keys_change_under_a_stream_that_never_stops() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        let (from, to) = (a.records(), b.records());
        let sent = pattern(scaled(80 << 20));
        let send = async {
            let mut generation = 0;
            for some in sent.chunks(100_000) {
                if from.sealed() > 20
                    && with_keys(0, generation + 1, |keys| {
                        from.queue_record(HANDSHAKE, &KEY_UPDATE, Some(keys))
                    })?
                {
                    generation = (generation + 1) % 15;
                }
                a.push(some).await?;
            }
            a.flush().await
        };
        let take = async {
            let (mut n, mut generation, mut changed) = (0, 0, 0);
            while n < sent.len() {
                match to.wait(false).await? {
                    Arrived::Data => {
                        let buf = to.take_data().expect("it has arrived");
                        assert!(buf[..] == sent[n..n + buf.len()]);
                        n += buf.len();
                    }
                    Arrived::Record => {
                        let update = to.take_record().expect("it has arrived");
                        assert!(update.end && update.bytes() == KEY_UPDATE);
                        with_keys(0, generation + 1, |keys| to.set_recv_keys(keys))?;
                        generation = (generation + 1) % 15;
                        changed += 1;
                    }
                    Arrived::End => return Err(Error::Other("the end came early")),
                }
            }
            Ok(changed)
        };
        // Where the kernel takes no second keys the sends fail, and the rest never comes.
        let mut send = pin!(send);
        let mut take = pin!(take);
        let changed = match select(send.as_mut(), take.as_mut()).await {
            Either::First(Err(error)) if error.errno() == Some(libc::EBUSY) => {
                eprintln!("skipped: this kernel takes no second keys (6.14 does)");
                return Ok(());
            }
            Either::First(sent) => sent.and(take.await)?,
            Either::Second(taken) => taken?,
        };
        assert!(changed >= 2, "{changed} changes");
        Ok(())
    });
}

#[test]
fn reading_past_a_key_update_without_keys_is_told() {
    on_sealed!(Sealed, async |_, mut a: TcpStream, b: TcpStream| {
        if !update(a.records(), 1).await? {
            return Ok(());
        }
        a.send("new").await?;
        assert_eq!(record(b.records()).await?.bytes(), KEY_UPDATE);
        let error = b.records().wait(false).await.expect_err("no keys");
        assert_eq!(error.errno(), Some(libc::EKEYEXPIRED));
        Ok(())
    });
}
