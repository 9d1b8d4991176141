//! `kio-proxy`: a TCP proxy whose memory is what it declares; TLS alone takes from the heap besides.
//!
//! `kio-proxy FILE` serves what the file says; `--check` reads the file, prints the footprint and
//! serves nothing. SIGHUP reads the file again; SIGTERM drains. See README.md.

mod config;
mod header;
mod health;
mod lease;
mod page;
mod reload;
mod server;
mod session;
mod state;
mod tls;

use std::process::ExitCode;

use kio::logger::{LevelFilter, Logger};
use kio::net::ListenOptions;

use config::Config;
use health::{health, probe};
use page::{page, pages};
use reload::reload;
use session::{accept, session};
use state::{Args, State};
use tls::{Files, Tls};

/// Buffers that a connection may have pushed and not sent, and so the widest window.
const OUTBOX: u16 = 32;

const USAGE: &str = "usage: kio-proxy [--check] FILE";

kio::pool! {
    struct Proxy;
    workers = ..=4,
    entry   = serve,
    state   = State,
    tasks   = { session: 8192, accept: 8, health: 1, probe: 64, reload: 1, pages: 1, page: 4 },
    spawn   = 0,
    calls   = 8 x 8 KiB,
    conns   = 16_640,
    files   = 4,
    file_ops = 4,
    buffers = 512 x 16 KiB,
    outbox  = 32,
    signals = [HUP],
    drain   = 30 s,
}

/// What kio and TLS have to say, as why a certificate is refused; written by a thread of its own.
static LOG: Logger = Logger::new();

type Worker = kio::Worker<Proxy>;

/// Begins everything on one worker; what cannot listen fails the start.
async fn serve(worker: Worker) -> kio::Result<()> {
    let state = worker.state();
    let first = worker.index() == 0;
    let listeners = state.config().listeners.clone();
    for (nth, listen) in listeners.iter().enumerate() {
        let options = match listen.tls.is_some() && tls::real_fds() {
            true => ListenOptions::new().real_fds(),
            false => ListenOptions::new(),
        };
        let listener = worker.listen_with(listen.addr, options).await?;
        if first {
            println!("listening {} {}", listen.name, listener.local_addr()?);
        }
        drop(worker.spawn(move || accept(worker, listener, nth))?);
    }
    drop(worker.spawn(move || health(worker))?);
    if first {
        let metrics = state.config().metrics;
        if let Some(addr) = metrics {
            let listener = worker.listen(addr).await?;
            println!("listening metrics {}", listener.local_addr()?);
            drop(worker.spawn(move || pages(worker, listener))?);
        }
        drop(worker.spawn(move || reload(worker))?);
        println!("ready");
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut check = false;
    let mut path = None;
    for word in std::env::args_os().skip(1) {
        match word.to_str() {
            Some("--check") => check = true,
            Some(option) if option.starts_with('-') => return fail(USAGE),
            _ if path.is_some() => return fail(USAGE),
            _ => path = Some(std::path::PathBuf::from(word)),
        }
    }
    let Some(path) = path else { return fail(USAGE) };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => return fail(&format!("{}: {error}", path.display())),
    };
    let loaded = Config::parse(&bytes).and_then(|config| {
        let tls = Tls::load(&config, &Files::read(&config))?;
        Ok((config, tls))
    });
    let (config, tls) = match loaded {
        Ok(loaded) => loaded,
        Err(mistake) => return fail(&format!("{}: {mistake}", path.display())),
    };
    if check {
        println!("{}", Proxy::FOOTPRINT);
        if config.terms().next().is_some() {
            println!("{}", tls::costs());
        }
        println!(
            "{}: {} listeners, {} groups, {} servers: valid",
            path.display(),
            config.listeners.len(),
            config.groups.len(),
            config.servers.len()
        );
        return ExitCode::SUCCESS;
    }
    let _writer = match LOG.start(LevelFilter::Warn, std::io::stderr()) {
        Ok(writer) => writer,
        Err(error) => return fail(&error.to_string()),
    };
    match Proxy::run(Args { path, config, tls }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}
