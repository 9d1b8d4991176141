//! `kio-bench`: what a server costs on one core, measured so that a few per cent can be told apart.
//!
//! `page` measures all and draws the page of the benchmarks; `serve` runs one server; `compare`,
//! `wrk`, `count` and `idle` start servers as children on CPU 0 and load them from CPU 1; `tls`
//! compares kio with tokio-rustls; `tasks` measures spawning and polling, `cross` calls between workers;
//! `files`, `append` and `send-file` are of files. See README.md for what the figures mean.

#![deny(unsafe_op_in_unsafe_fn, missing_docs, clippy::undocumented_unsafe_blocks)]

mod alloc;
mod append;
mod args;
mod bufring;
mod child;
mod compare;
mod count;
mod cross;
mod driven;
mod files;
mod foreign;
mod idle;
mod load;
mod netns;
mod page;
mod relay;
mod ring;
mod send_file;
mod series;
mod server;
mod stats;
mod sys;
mod tasks;
#[cfg(feature = "tls")]
mod tls;
mod workload;
mod wrk;

use std::process::ExitCode;
use std::time::Duration;

use args::Args;
use server::{Options, Spec};
use workload::Workload;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// What can go wrong here is told to a person and ends the run.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
usage: kio-bench page    [--quick] [--only LIST] [--out DIR] [--dir DIR]
       kio-bench serve SERVER [--workload http|echo|close] [--port P] [--spin US] [--max-requests N] [--cpu C]
       kio-bench compare [--servers LIST] [PLAN] [--rounds N] [--starts N] [--slice-ms MS] [--quick] [--json FILE]
       kio-bench wrk     [--servers LIST] [--connections N] [--rounds N] [--slice S]
       kio-bench count   --server SERVER [PLAN] [--requests N]
       kio-bench idle    --server SERVER [--connections N]
       kio-bench tls     [--time] [--count] [--rounds N] [--starts N] [--slice-ms MS] [--quick] [--requests N]
       kio-bench tasks
       kio-bench cross
       kio-bench files   [--entries LIST] [--modes cached,direct] [--mib N] [--count] [PACE]
       kio-bench append  [--entries LIST] [PACE]
       kio-bench send-file [--entries LIST] [--nginx PATH] [PACE]
       kio-bench relay   [--workload bulk|requests] [--entries LIST] [--connections N] [--haproxy PATH]
                         [--nginx PATH] [PACE]
SERVER: kio, limit, limit-hot, epoll, tokio, kio-tls, tokio-rustls; with @US it spins so long before it sleeps (limit@100)
LIST:   servers with commas; a server named twice is its own control
PACE:   [--rounds N] [--starts N] [--slice-ms MS] [--quick] [--dir DIR]
PLAN:   [--workload http|echo|close] [--connections N] [--size BYTES] [--pipeline D]
        with servers of TLS and close: [--resume] [--only-shake]";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let args = Args::new(words);
    let done = match command.as_str() {
        "serve" => serve(args),
        "compare" => compare::run(args),
        "wrk" => wrk::run(args),
        "count" => count::run(args),
        "idle" => idle::run(args),
        #[cfg(feature = "tls")]
        "tls" => tls::run(args),
        "page" => page::run(args),
        "append" => append::run(args),
        "log" => append::child(args),
        "send-file" => send_file::run(args),
        "send" => send_file::child(args),
        "files" => files::run(args),
        "read" => files::child(args),
        "relay" => relay::run(args),
        "relayed" => relay::child(args),
        "tasks" => args.end().and_then(|()| tasks::run()),
        "cross" => args.end().and_then(|()| cross::run()),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mut args: Args) -> Result<()> {
    let spec: Spec = args.word("the server's name")?.parse()?;
    let options = Options {
        workload: args.get("--workload", Workload::Http)?,
        port: args.get("--port", 0)?,
        spin: Duration::from_micros(args.get("--spin", spec.spin)?),
        max_requests: args.get("--max-requests", 0)?,
        cpu: args.get("--cpu", child::SERVER_CPU)?,
    };
    args.end()?;
    server::run(spec.kind, &options)
}
