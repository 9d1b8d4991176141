//! What the proxy's tests share: the program with its configuration, and servers behind it.
#![allow(dead_code, reason = "each test program uses a part")]

#[cfg(feature = "tls")]
pub mod tls;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before its test fails: no claim about speed.
pub const HANG: Duration = Duration::from_secs(30);

/// Two proxies at once are too much for a small machine's locked memory.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

pub struct Proxy {
    pub child: Child,
    out: mpsc::Receiver<String>,
    err: mpsc::Receiver<String>,
    pub file: PathBuf,
    listeners: Vec<(String, SocketAddr)>,
    _one: std::sync::MutexGuard<'static, ()>,
}

pub fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

pub fn file() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("kio-proxy-{}-{nth}.conf", std::process::id()))
}

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kio-proxy"))
}

impl Proxy {
    /// Starts it with that configuration, and waits until it listens.
    pub fn start(config: &str) -> Self {
        let one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let file = file();
        std::fs::write(&file, config).expect("a place for files");
        let mut child = program()
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the proxy is built");
        let out: ChildStdout = child.stdout.take().expect("piped");
        let err = child.stderr.take().expect("piped");
        let (out, err) = (lines(out), lines(err));
        let mut proxy = Self { child, out, err, file, listeners: Vec::new(), _one: one };
        loop {
            let line = proxy.line();
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["listening", name, addr] => {
                    proxy.listeners.push((name.into(), addr.parse().expect("an address")));
                }
                ["ready"] => return proxy,
                _ => panic!("the proxy said: {line}"),
            }
        }
    }

    pub fn line(&self) -> String {
        self.out.recv_timeout(HANG).unwrap_or_else(|_| {
            panic!("the proxy says nothing; before: {:?}", self.err.try_iter().collect::<Vec<_>>())
        })
    }

    /// Waits until it says something on its standard error in which that is.
    pub fn says(&self, what: &str) -> String {
        loop {
            let line = self.err.recv_timeout(HANG).expect("the proxy lives");
            if line.contains(what) {
                return line;
            }
        }
    }

    pub fn addr(&self, name: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(known, _)| known == name);
        found.expect("it is configured").1
    }

    pub fn client(&self, name: &str) -> TcpStream {
        patient(TcpStream::connect_timeout(&self.addr(name), HANG).expect("it listens"))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    pub fn reload(&self, config: &str) {
        std::fs::write(&self.file, config).expect("a place for files");
        self.signal(Signal::HUP);
    }

    /// A counter's value, all labels summed.
    pub fn count(&self, name: &str) -> u64 {
        let page = self.page();
        let of = |line: &str| {
            let (key, value) = line.rsplit_once(' ')?;
            let key = key.split('{').next()?;
            (key == name).then(|| value.parse::<u64>().expect("a number"))
        };
        let values: Vec<u64> = page.lines().filter_map(of).collect();
        assert!(!values.is_empty(), "{name} is not on the page:\n{page}");
        values.iter().sum()
    }

    pub fn page(&self) -> String {
        let mut conn = self.client("metrics");
        conn.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it listens");
        let mut page = String::new();
        conn.read_to_string(&mut page).expect("an orderly end");
        let (head, body) = page.split_once("\r\n\r\n").expect("a header");
        assert!(head.contains(" 200 OK"), "{head}");
        body.to_string()
    }

    /// Waits until a counter is what it should be.
    pub fn until(&self, name: &str, is: impl Fn(u64) -> bool) {
        let began = Instant::now();
        while !is(self.count(name)) {
            assert!(began.elapsed() < HANG, "{name} is {}", self.count(name));
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops it, and sees that it had let go of everything.
    pub fn stop(mut self) {
        self.until("kio_proxy_clients", |n| n == 0);
        self.until("kio_connections", |n| n <= 1);
        for zero in [
            "kio_overflows_total",
            "kio_panics_total",
            "kio_stale_completions_total",
            "kio_proxy_server_active",
        ] {
            assert_eq!(self.count(zero), 0, "{zero}");
        }
        self.signal(Signal::TERM);
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}: {:?}", self.err.try_iter().collect::<Vec<_>>());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let _ = std::fs::remove_file(&self.file);
    }
}

pub fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(HANG)).expect("a time above zero");
    stream.set_write_timeout(Some(HANG)).expect("a time above zero");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// A server that says its name to each client and then sends back what comes; until it is dropped.
pub struct Server {
    pub addr: SocketAddr,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    accepts: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub fn named(name: &'static str) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), name)
    }

    pub fn at(addr: SocketAddr, name: &'static str) -> Self {
        Self::serving(addr, move |mut conn| {
            let _ = conn.write_all(name.as_bytes());
            let mut bytes = [0; 16 << 10];
            while let Ok(n @ 1..) = conn.read(&mut bytes) {
                if conn.write_all(&bytes[..n]).is_err() {
                    return;
                }
            }
        })
    }

    pub fn serving(addr: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(addr).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (stopped, serve) = (stop.clone(), std::sync::Arc::new(serve));
        let accepts = thread::spawn(move || {
            for conn in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let serve = serve.clone();
                if let Ok(conn) = conn {
                    thread::spawn(move || serve(patient(conn)));
                }
            }
        });
        Self { addr, stop, accepts: Some(accepts) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
        let _ = self.accepts.take().expect("it accepts").join();
    }
}

/// An address at which nothing listens.
pub fn refused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound")
}

/// What the server says first: its name, one letter.
pub fn name(client: &mut TcpStream) -> char {
    let mut byte = [0];
    client.read_exact(&mut byte).expect("a server speaks");
    byte[0].into()
}

pub fn ends(client: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(client.read(&mut byte), Ok(0) | Err(_))
}

pub fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a TCP socket");
}

pub fn config(group: &str, servers: &[SocketAddr]) -> String {
    let mut text = format!(
        "metrics 127.0.0.2:0\nconnect-timeout 300ms\ngroup app {group}\n\
         listen web 127.0.0.1:0 to app\n"
    );
    for server in servers {
        text += &format!("server app {server}\n");
    }
    text
}

pub fn exchanges(client: &mut TcpStream, bytes: &[u8]) {
    let mut writer = client.try_clone().expect("another handle");
    let back = thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(bytes).expect("the proxy reads");
            writer.shutdown(Shutdown::Write).expect("a connection");
        });
        let mut back = Vec::new();
        client.read_to_end(&mut back).expect("an orderly end");
        back
    });
    assert!(back == bytes, "{} bytes came back of {}", back.len(), bytes.len());
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}
