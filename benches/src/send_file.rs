//! `send-file`: files of 1 MiB from the page cache over loopback, asked for by HTTP: kio's `send_to`,
//! `sendfile(2)` by hand, and nginx with sendfile.
//!
//! All hold their files open. The load takes what comes without copying it (MSG_TRUNC); before it
//! begins, every file is taken once and compared.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use ::kio::net::TcpStream as KioStream;
use ::kio::{Core, Error, Result as KioResult, State, Worker};
use rustix::event::{PollFd, PollFlags, poll};

use crate::Result;
use crate::args::Args;
use crate::child::{LOAD_CPU, SERVER_CPU, Server};
use crate::driven::{self, Dir, Pace, Rounds, Took};
use crate::foreign::{self, Foreign};
use crate::server::{self, ready, served};
use crate::stats::Rng;
use crate::sys;

/// Files, and the bytes of each.
const FILES: usize = 16;
const SIZE: usize = 1 << 20;
/// Connections, each asking for one file after another.
const CONNECTIONS: usize = 8;
const ENTRIES: [&str; 4] = ["kio", "kio-64k", "sendfile", "nginx"];
/// What precedes a file, from those that write it themselves.
static HEADER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n";
/// A server that has nothing to do sleeps before this is over.
const SETTLE: Duration = Duration::from_millis(1);

/// Runs the sub-command.
pub fn run(mut args: Args) -> Result<()> {
    let default = "sendfile,kio,kio-64k,nginx,sendfile".to_string();
    let names = args.get("--entries", default)?;
    let names: Vec<&str> = names.split(',').collect();
    if let Some(unknown) = names.iter().find(|name| !ENTRIES.contains(name)) {
        return Err(format!("unknown entry `{unknown}`: {}", ENTRIES.join(", ")).into());
    }
    let nginx = args.get("--nginx", "nginx".to_string())?;
    let pace = Pace::read(&mut args)?;
    let dir = Dir::new(&mut args)?;
    args.end()?;
    let mut rng = Rng::new(0x5DEE_CE66_D1CE_4E5B);
    for nth in 0..FILES {
        std::fs::write(dir.file(&name(nth)), contents(nth))?;
    }
    let mut all = Rounds::all(&names);
    sys::pin(LOAD_CPU)?;
    for _ in 0..pace.starts {
        let mut running = Vec::new();
        for name in &names {
            let server = match *name {
                "nginx" => Running::Nginx(with_nginx(&nginx, dir.path())?),
                name => {
                    let path = dir.path().to_str().ok_or("a path of text")?;
                    let cpu = SERVER_CPU.to_string();
                    let args = ["send", name, "--files", path, "--cpus", &cpu];
                    Running::Ours(Server::start_as(&args)?)
                }
            };
            let clients = (0..CONNECTIONS).map(|nth| Client::new(server.port(), nth));
            let clients = clients.collect::<io::Result<Vec<_>>>()?;
            compare(server.port())?;
            running.push((server, clients));
        }
        let mut order: Vec<usize> = (0..names.len()).collect();
        // The first round warms up and is not counted.
        for round in 0..=pace.rounds / pace.starts {
            rng.shuffle(&mut order);
            for &i in &order {
                let (server, clients) = &mut running[i];
                let before = server.cpu()?;
                let (bytes, wall) = slice(clients, pace.slice)?;
                std::thread::sleep(SETTLE);
                let cpu = server.cpu()?.saturating_sub(before);
                if round > 0 {
                    all[i].add(bytes >> 20, Took { wall, cpu, allocations: Some(0) });
                }
            }
        }
        for (i, (server, clients)) in running.into_iter().enumerate() {
            drop(clients);
            if let Running::Ours(server) = server {
                let made = server.stop()?.allocations;
                all[i].allocations = all[i].allocations.map(|all| all + made);
            } else {
                all[i].allocations = None;
            }
        }
    }
    println!(
        "files of {} KiB over loopback, {CONNECTIONS} connections, {} rounds of {} ms, {} starts; an \
         operation is a MiB: CPU us/MiB x 1.024 is CPU ms/GiB\n",
        SIZE >> 10,
        pace.rounds,
        pace.slice.as_millis(),
        pace.starts
    );
    print!("{}", driven::table(&all, &["sendfile", "nginx"], pace.starts, "MiB"));
    println!("\nAllocations are those of all connections too.");
    Ok(())
}

fn name(nth: usize) -> String {
    format!("{nth:02}")
}

fn contents(nth: usize) -> Vec<u8> {
    (0..SIZE).map(|at| (at / 4 + at * 7 + nth) as u8).collect()
}

/// Asks for a file; sent by one call, so that it comes whole.
fn request(nth: usize) -> String {
    format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", name(nth))
}

/// Takes every file once, and compares.
fn compare(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    for nth in 0..FILES {
        stream.write_all(request(nth).as_bytes())?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let mut body = vec![0; SIZE];
        stream.read_exact(&mut body)?;
        if body != contents(nth) {
            return Err(format!("file {nth} came with other bytes").into());
        }
    }
    Ok(())
}

// ---- the load ----

/// A connection that asks for one file after another.
struct Client {
    fd: OwnedFd,
    next: usize,
    /// The end of a header that has not come whole, and how much of it.
    head: [u8; 1024],
    headed: usize,
    /// Bytes of the file that have not come.
    left: usize,
    waits: bool,
}

impl Client {
    fn new(port: u16, nth: usize) -> io::Result<Self> {
        let fd = sys::connect(port, None)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, next: nth, head: [0; 1024], headed: 0, left: 0, waits: false })
    }

    fn ask(&mut self) -> Result<()> {
        let request = request(self.next % FILES);
        self.next += 1;
        self.headed = 0;
        self.left = SIZE;
        self.waits = true;
        match rustix::io::write(&self.fd, request.as_bytes())? {
            n if n == request.len() => Ok(()),
            _ => Err("a request did not go out whole".into()),
        }
    }

    /// Takes what is there.
    fn take(&mut self) -> Result<()> {
        while self.waits {
            if self.headed != usize::MAX {
                let n = match rustix::io::read(&self.fd, &mut self.head[self.headed..]) {
                    Ok(0) => return Err("the server closed".into()),
                    Ok(n) => n,
                    Err(rustix::io::Errno::AGAIN) => return Ok(()),
                    Err(e) => return Err(e.into()),
                };
                self.headed += n;
                let seen = &self.head[..self.headed];
                if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                    self.left -= self.headed - end - 4;
                    self.headed = usize::MAX;
                } else if self.headed == self.head.len() {
                    return Err("a header of more than 1024 bytes".into());
                }
                continue;
            }
            // SAFETY: with MSG_TRUNC a stream's bytes are dropped, and nothing is written to memory.
            let n = unsafe {
                let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
                libc::recv(self.fd.as_raw_fd(), std::ptr::null_mut(), self.left, flags)
            };
            match n {
                0 => return Err("the server closed".into()),
                1.. => {
                    self.left -= n as usize;
                    self.waits = self.left > 0;
                }
                _ => {
                    let error = io::Error::last_os_error();
                    return match error.kind() {
                        io::ErrorKind::WouldBlock => Ok(()),
                        _ => Err(error.into()),
                    };
                }
            }
        }
        Ok(())
    }
}

/// Has all connections ask for files for a while. Returns the bytes that came, and from the first
/// request to the last byte.
fn slice(clients: &mut [Client], span: Duration) -> Result<(u64, Duration)> {
    let began = Instant::now();
    let mut bytes = 0;
    clients.iter_mut().try_for_each(Client::ask)?;
    while clients.iter().any(|client| client.waits) {
        let mut ready = [false; CONNECTIONS];
        {
            let mut fds: Vec<PollFd<'_>> =
                clients.iter().map(|client| PollFd::new(&client.fd, PollFlags::IN)).collect();
            poll(&mut fds, None)?;
            for (ready, fd) in ready.iter_mut().zip(&fds) {
                *ready = !fd.revents().is_empty();
            }
        }
        for (client, _) in
            clients.iter_mut().zip(ready).filter(|(client, ready)| client.waits && *ready)
        {
            client.take()?;
            if !client.waits {
                bytes += SIZE as u64;
                if began.elapsed() < span {
                    client.ask()?;
                }
            }
        }
    }
    Ok((bytes, began.elapsed()))
}

// ---- the servers ----

enum Running {
    Ours(Server),
    Nginx(Foreign),
}

impl Running {
    fn port(&self) -> u16 {
        match self {
            Self::Ours(server) => server.port,
            Self::Nginx(nginx) => nginx.port,
        }
    }

    fn cpu(&self) -> io::Result<Duration> {
        match self {
            Self::Ours(server) => server.cpu(),
            Self::Nginx(nginx) => nginx.cpu(),
        }
    }
}

/// nginx with sendfile, which holds the files open.
fn with_nginx(exe: &str, files: &Path) -> Result<Foreign> {
    let exe = foreign::find(exe)
        .ok_or_else(|| format!("no `{exe}` here; `apt install nginx`, or --nginx PATH"))?;
    foreign::nginx(files, &exe, None, |dir, port| {
        let base = dir.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|of| format!("{of}_temp_path {base}/{of};\n"))
            .concat();
        format!(
            "http {{ access_log off; sendfile on; tcp_nodelay on; {temporary}\n\
             open_file_cache max=64; keepalive_requests 1000000000;\n\
             server {{ listen 127.0.0.1:{port}; root {}; }} }}\n",
            files.display()
        )
    })
}

/// The child: serves the files of a directory.
pub fn child(mut args: Args) -> Result<()> {
    let name = args.word("the entry's name")?;
    let dir: String = args.find("--files")?.ok_or("missing: --files")?;
    driven::pin(&mut args)?;
    args.end()?;
    match name.as_str() {
        "kio" => small::Files::run(dir)?,
        "kio-64k" => large::Files::run(dir)?,
        "sendfile" => by_hand(&dir)?,
        _ => return Err(format!("unknown entry `{name}`").into()),
    }
    server::report();
    Ok(())
}

/// The number of the file that a request asks for; requests come whole.
fn asked(request: &[u8]) -> Option<usize> {
    let digits = request.strip_prefix(b"GET /")?.get(..2)?;
    let nth: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (nth < FILES && request.ends_with(b"\r\n\r\n")).then_some(nth)
}

macro_rules! declare {
    ($module:ident, $($buffers:tt)+) => {
        mod $module {
            use super::*;

            pub struct Shared {
                dir: String,
                files: std::cell::OnceCell<heapless::Vec<::kio::fs::File, FILES>>,
            }

            impl State for Shared {
                type Args = String;

                fn init(_: Core, dir: &String) -> KioResult<Self> {
                    Ok(Self { dir: dir.clone(), files: std::cell::OnceCell::new() })
                }
            }

            async fn send(worker: Worker<Files>, mut conn: KioStream) -> KioResult<()> {
                let state = worker.state();
                let files = state.files.get().ok_or(Error::Other("no files"))?;
                while let Some(request) = conn.recv_idle().await? {
                    let nth = asked(&request).ok_or(Error::Other("not understood"))?;
                    drop(request);
                    conn.push(HEADER).await?;
                    files[nth].send_to(&mut conn, 0..SIZE as u64).await?;
                    served(1);
                }
                Ok(())
            }

            async fn serve(worker: Worker<Files>) -> KioResult<()> {
                let state = worker.state();
                let mut files = heapless::Vec::new();
                for nth in 0..FILES {
                    let path = format!("{}/{}", state.dir, name(nth));
                    let _ = files.push(worker.open(&*path).await?);
                }
                let _ = state.files.set(files);
                let mut listener = worker.listen(([127, 0, 0, 1], 0)).await?;
                let port = listener.local_addr()?.port();
                ready(port).map_err(|_| Error::Other("cannot print the port"))?;
                loop {
                    let place = worker.reserve(send).await?;
                    let conn = listener.accept().await?;
                    place.spawn(move || send(worker, conn));
                }
            }

            ::kio::pool! {
                pub struct Files;
                workers = 1,
                entry = serve,
                state = Shared,
                tasks = { send: 64 },
                conns = 64,
                files = 16,
                buffers = $($buffers)+,
            }
        }
    };
}

declare!(small, 512 x 16 KiB);
declare!(large, 256 x 64 KiB);

/// `sendfile(2)` behind `poll(2)`.
fn by_hand(dir: &str) -> Result<()> {
    struct Conn {
        fd: OwnedFd,
        sending: Option<(usize, i64)>,
    }
    let files = (0..FILES).map(|nth| File::open(format!("{dir}/{}", name(nth))));
    let files = files.collect::<io::Result<Vec<_>>>()?;
    let stop = sys::stop_fd()?;
    let listener = sys::listen(0)?;
    ready(std::net::TcpListener::from(listener.try_clone()?).local_addr()?.port())?;
    let mut conns: Vec<Conn> = Vec::with_capacity(64);
    let mut came: Vec<usize> = Vec::with_capacity(64);
    loop {
        let mut fds = heapless::Vec::<PollFd<'_>, 66>::new();
        let _ = fds.push(PollFd::new(&stop, PollFlags::IN));
        let _ = fds.push(PollFd::new(&listener, PollFlags::IN));
        for conn in &conns {
            let wanted = if conn.sending.is_some() { PollFlags::OUT } else { PollFlags::IN };
            let _ = fds.push(PollFd::new(&conn.fd, wanted));
        }
        poll(&mut fds, None)?;
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        let accepts = !fds[1].revents().is_empty();
        came.clear();
        came.extend((0..conns.len()).filter(|nth| !fds[nth + 2].revents().is_empty()));
        drop(fds);
        if accepts && conns.len() < 64 {
            let flags = rustix::net::SocketFlags::NONBLOCK;
            conns.push(Conn { fd: rustix::net::accept_with(&listener, flags)?, sending: None });
        }
        for &nth in came.iter().rev() {
            let conn = &mut conns[nth];
            if conn.sending.is_none() {
                let mut request = [0; 1024];
                let n = match rustix::io::read(&conn.fd, &mut request) {
                    Ok(0) | Err(rustix::io::Errno::CONNRESET) => {
                        conns.swap_remove(nth);
                        continue;
                    }
                    other => other?,
                };
                let file = asked(&request[..n]).ok_or("not understood")?;
                let more = rustix::net::SendFlags::MORE;
                if rustix::net::send(&conn.fd, HEADER, more)? != HEADER.len() {
                    return Err("a header did not go out whole".into());
                }
                conn.sending = Some((file, 0));
            }
            while let Some((file, at)) = &mut conn.sending {
                let left = SIZE - *at as usize;
                // SAFETY: both descriptors are open, and `at` is a local valid for writing.
                let n = unsafe {
                    libc::sendfile(conn.fd.as_raw_fd(), files[*file].as_raw_fd(), at, left)
                };
                if n < 0 {
                    let error = io::Error::last_os_error();
                    match error.kind() {
                        io::ErrorKind::WouldBlock => break,
                        _ => return Err(error.into()),
                    }
                }
                if *at as usize == SIZE {
                    conn.sending = None;
                    served(1);
                }
            }
        }
    }
}
