//! Running a test of TLS on a pool: one that ends with anything held fails the test, and so does a
//! kernel that did not do the records where it was to.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;

use kio::__private::{Pool, start, start_when_free};
use kio::net::{ConnectOptions, ListenOptions};
use kio::tls::{DataPath, Mode, Reason, TlsAcceptor, TlsConnector, TlsStream};
use kio::{Error, StartError, Worker};

use super::{Authority, Choice, NAME, VERSIONS};

/// What any pool without a state can run.
pub trait Stage: Pool<State = ()> {
    /// Runs `body` on the first worker, which must end with nothing held.
    fn on_worker<R, F>(body: F) -> R
    where
        F: AsyncFnOnce(Worker<Self>) -> R + Send + 'static,
        R: Send + 'static,
    {
        let pool = start_when_free::<Self>(()).expect("the last run held nothing");
        let value = pool.on(0, body).expect("the body ends");
        pool.stop();
        pool.join().expect("a clean end");
        if let Err(Error::Start(StartError::Retired(held))) = start::<Self>(()).map(drop) {
            panic!("something is still held: {held:?}");
        }
        value
    }

    /// Accepts `times` connections, one after another, of `client`, which runs on a thread of its own,
    /// and tells what became of each.
    fn serve<C: Send + 'static, S: Send + 'static>(
        acceptor: TlsAcceptor,
        times: usize,
        client: impl FnOnce(SocketAddr) -> C + Send + 'static,
        mut serve: impl AsyncFnMut(kio::Result<TlsStream>) -> S + Send + 'static,
    ) -> (C, Vec<S>) {
        let (tell, told) = mpsc::channel();
        let client = thread::spawn(move || client(told.recv().expect("the server listens")));
        let before = kernel_sessions();
        let (by_kernel, served) = Self::on_worker(async move |worker| {
            let options = ListenOptions::new().real_fds();
            let listening = worker.listen_with("127.0.0.1:0", options).await;
            let mut listener = listening.expect("a free port");
            tell.send(listener.local_addr().expect("it listens")).expect("the client waits");
            let (mut by_kernel, mut served) = (0, Vec::new());
            for _ in 0..times {
                let tcp = listener.accept().await.expect("a client");
                let conn = acceptor.accept(tcp).await;
                by_kernel += u64::from(conn.as_ref().is_ok_and(is_by_kernel));
                served.push(serve(conn).await);
            }
            (by_kernel, served)
        });
        assert_by_kernel(before, by_kernel);
        (client.join().expect("the client ends well"), served)
    }

    /// Runs `body` with the two ends of a connection, the client's first, by each data path and in
    /// each version.
    fn with_pairs<F>(body: F)
    where
        F: AsyncFnOnce(Worker<Self>, TlsStream, TlsStream) + Clone + Send + 'static,
    {
        let authority = Authority::new();
        let identity = authority.issue(NAME);
        for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
            println!("{mode:?} {:?}", version.version);
            let choice = Choice::version(version);
            let acceptor = TlsAcceptor::new(Arc::new(choice.server(&identity)), mode);
            let connector = TlsConnector::new(Arc::new(choice.client(&authority)), mode);
            let (acceptor, connector) = (acceptor.expect("a mode"), connector.expect("a mode"));
            let (before, body) = (kernel_sessions(), body.clone());
            Self::on_worker(async move |worker: Worker<Self>| {
                let options = ListenOptions::new().real_fds();
                let listening = worker.listen_with("127.0.0.1:0", options).await;
                let mut listener = listening.expect("a free port");
                let addr = listener.local_addr().expect("it listens");
                let near = async {
                    let options = ConnectOptions::new().real_fd();
                    connector.connect(NAME, worker.connect_with(addr, options).await?).await
                };
                let far = async { acceptor.accept(listener.accept().await?).await };
                let (near, far) = embassy_futures::join::join(near, far).await;
                let (near, far) = (near.expect("it listens"), far.expect("a client"));
                drop(listener);
                assert_eq!([near.data_path(), far.data_path()], [path_of(mode); 2]);
                body(worker, near, far).await;
            });
            assert_by_kernel(before, if mode == Mode::Require { 2 } else { 0 });
        }
    }

    /// As `serve`, for one connection.
    fn serve_one<C: Send + 'static, S: Send + 'static>(
        acceptor: TlsAcceptor,
        client: impl FnOnce(SocketAddr) -> C + Send + 'static,
        serve: impl AsyncFnOnce(kio::Result<TlsStream>) -> S + Send + 'static,
    ) -> (C, S) {
        let mut serve = Some(serve);
        let (client, mut served) = Self::serve(acceptor, 1, client, async move |conn| {
            serve.take().expect("one connection")(conn).await
        });
        (client, served.remove(0))
    }
}

impl<P: Pool<State = ()>> Stage for P {}

/// Both ways the data can go; the kernel's where this one has TLS.
pub fn modes() -> Vec<Mode> {
    match kio::tls::support().missing {
        None => vec![Mode::Off, Mode::Require],
        Some(why) => {
            println!("skipped: the kernel's data path ({why})");
            vec![Mode::Off]
        }
    }
}

/// What [`Mode`] leads to where it is possible.
pub fn path_of(mode: Mode) -> DataPath {
    if mode == Mode::Off { DataPath::UserSpace(Reason::Off) } else { DataPath::Kernel }
}

/// Whether the kernel is said to do its records.
pub fn is_by_kernel(conn: &TlsStream) -> bool {
    conn.data_path() == DataPath::Kernel
}

/// What the kernel has counted on this machine.
fn tls_stat(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/net/tls_stat").unwrap_or_default();
    let words = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let found = words.into_iter().find(|(word, _)| *word == name);
    found.and_then(|(_, n)| n.trim().parse().ok()).unwrap_or(0)
}

/// How often the kernel did the records of a direction, on this machine: [sent, received].
pub fn kernel_sessions() -> [u64; 2] {
    ["TlsTxSw", "TlsRxSw"].map(tls_stat)
}

/// Of how many connections the kernel does the records of a direction now: [sent, received].
pub fn kernel_now() -> [u64; 2] {
    ["TlsCurrTxSw", "TlsCurrRxSw"].map(tls_stat)
}

/// How often the kernel took new keys for a direction, on this machine: [sent, received].
pub fn kernel_rekeys() -> [u64; 2] {
    ["TlsTxRekeyOk", "TlsRxRekeyOk"].map(tls_stat)
}

/// Fails where the kernel has done the records of fewer connections than it is said to, since then.
pub fn assert_by_kernel(before: [u64; 2], connections: u64) {
    for (before, after) in before.into_iter().zip(kernel_sessions()) {
        assert!(after >= before + connections, "{connections} by the kernel: {before}, {after}");
    }
}

/// Sends back what comes, until it ends.
pub async fn echo(conn: &mut TlsStream) -> kio::Result<()> {
    while let Some(data) = conn.recv().await? {
        conn.send(data).await?;
    }
    Ok(())
}

/// What a connection ends with that is read to its end.
pub async fn read_out(conn: kio::Result<TlsStream>) -> kio::Result<usize> {
    let mut conn = conn?;
    let mut n = 0;
    while let Some(data) = conn.recv().await? {
        n += data.len();
    }
    Ok(n)
}
