//! `send-file`: files of 1 MiB from the page cache over loopback, asked for by HTTP: kio's `send_to`,
//! `sendfile(2)` by hand, and nginx with sendfile.
//!
//! All hold their files open. The load takes what comes without copying it (MSG_TRUNC); before it
//! begins, every file is taken once and compared.

mod hand;
mod kio;
mod load;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::args::Args;
use crate::child::{LOAD_CPU, SERVER_CPU, Server};
use crate::driven::{self, Dir, Pace, Rounds, Took};
use crate::foreign::{self, Foreign, Running};
use crate::server;
use crate::stats::Rng;
use crate::sys;
use load::{Client, slice};

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
                "nginx" => Running::Foreign(with_nginx(&nginx, dir.path())?),
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
            let made = server.stop()?;
            all[i].allocations = all[i].allocations.zip(made).map(|(all, made)| all + made);
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
        "kio" => kio::small::Files::run(dir)?,
        "kio-64k" => kio::large::Files::run(dir)?,
        "sendfile" => hand::run(&dir)?,
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
