//! Names are resolved by a declared thread, and the worker goes on meanwhile.

use std::net::{SocketAddr, ToSocketAddrs};

async fn entry(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

kio::pool! {
    struct Resolves;
    workers = 1,
    pin = off,
    entry = entry,
    blocking = 2,
    calls = 64 x 1 KiB,
}

kio::pool! {
    struct CannotResolve;
    workers = 1,
    pin = off,
    entry = entry,
    calls = 64 x 1 KiB,
}

#[test]
fn a_name_and_a_number_are_resolved() {
    let pool = Resolves::start_when_free().unwrap();
    let number = pool.on(0, async |worker| worker.resolve("127.0.0.9:80").await).unwrap();
    assert_eq!(number.unwrap()[..], [SocketAddr::from(([127, 0, 0, 9], 80))]);
    // Where this machine knows no `localhost`, both say so.
    let system = "localhost:81".to_socket_addrs();
    let name = pool.on(0, async |worker| worker.resolve("localhost:81").await).unwrap();
    match (system, name) {
        (Ok(system), Ok(addrs)) => {
            assert_eq!(addrs.to_vec(), system.take(8).collect::<Vec<_>>());
        }
        (Err(_), Err(_)) => println!("skipped: no resolver here knows localhost"),
        (system, name) => panic!("the system says {system:?}, kio {name:?}"),
    }
}

#[test]
fn a_wrong_name_is_an_error() {
    let pool = Resolves::start_when_free().unwrap();
    let long = "a".repeat(300);
    for name in ["no port", "bad port:http:1", &*long] {
        let name = name.to_string();
        let resolved = pool.on(0, async move |worker| worker.resolve(&name).await).unwrap();
        assert!(resolved.is_err());
    }
}

#[test]
fn a_resolve_given_up_at_any_poll_frees_its_job() {
    let pool = Resolves::start_when_free().unwrap();
    // More than there are jobs.
    for _ in 0..kio_tests::scaled(1000).max(100) {
        pool.on(0, async |worker| {
            let mut resolve = Box::pin(worker.resolve("127.0.0.1:1"));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = resolve.as_mut().poll(&mut cx);
        })
        .unwrap();
    }
    let answered = pool.on(0, async |worker| worker.resolve("127.0.0.1:1").await).unwrap();
    assert!(answered.is_ok());
    drop(pool);
    // And the pool can start again.
    drop(Resolves::start_when_free().unwrap());
}

#[test]
fn without_a_thread_the_remedy_is_told() {
    let pool = CannotResolve::start_when_free().unwrap();
    let refused = pool.on(0, async |worker| worker.resolve("127.0.0.1:1").await).unwrap();
    assert!(refused.unwrap_err().to_string().contains("blocking = 1"));
}
