//! The `pool!` declaration of kio.
//!
//! Three functions over plain token streams, each testable alone: `parse` makes syntax of tokens,
//! `check` a declaration of syntax, `expand` code of a declaration. None stops at a mistake: all are
//! reported at once, each on its own token, and code for the pool comes out all the same.

mod check;
mod errors;
mod expand;
mod keys;
mod number;
mod parse;
mod route;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;

/// Declares a pool: what runs, and all the memory it may take.
///
/// ```
/// use kio::net::TcpStream;
///
/// kio::pool! {
///     /// Echoes.
///     pub struct Echo;
///     workers = 2,
///     listen  = { "127.0.0.1:7000" => echo },
///     conns   = 1024,
///     buffers = 2048 x 16 KiB,
///     budget  = 80 MiB,
/// }
///
/// async fn echo(mut conn: TcpStream) -> kio::Result<()> {
///     while let Some(data) = conn.recv_idle().await? {
///         conn.send(data).await?;
///     }
///     Ok(())
/// }
///
/// fn main() {
///     println!("{}", Echo::FOOTPRINT); // and `Echo::run()` runs it
/// }
/// ```
///
/// The struct comes with
/// - `run()`, which runs the pool until it is stopped;
/// - `start()` and `start_when_free()`, which return a `kio::Handle`;
/// - `FOOTPRINT`, its memory as a `const`;
///
/// as visible as it is itself. With `state`, the three functions take that state's `Args`.
///
/// # Keys
///
/// A number is a literal, a const path or `{ const expression }`. Sizes have a unit, `B`, `KiB`, `MiB`
/// or `GiB`, and times `ns`, `us`, `ms` or `s`; a const without one is in bytes, or a `Duration`.
/// `N x SIZE` has spaces around its `x`. Counts are for each worker.
///
/// | key | default | what it is |
/// | --- | --- | --- |
/// | `workers` | `1` | threads: `4` exactly, or `..=16`, memory for so many and as many as CPUs are allowed |
/// | `entry` | | `async fn(Worker<P>)` or `async fn(Core)`, run once on every worker. It returns `kio::Result<()>`: an error stops the pool, an end leaves the worker running |
/// | `listen` | | in place of `entry`: where to accept, and what handles a connection; see below |
/// | `state` | none | a type that implements `kio::State`, made on each worker before anything runs there |
/// | `tasks` | none | `{ path: count }`: what can be spawned by name, and how many of each may live. `path::<T> as label: count` gives it another name in errors |
/// | `spawn` | `64 x 4 KiB` | slots for futures that `tasks` does not name; `0` for none |
/// | `calls` | `64 x 256 B` | slots for calls from other threads |
/// | `conns` | `256` | sockets |
/// | `files` | `0` | files that are open on a worker, and handles of files that its tasks hold |
/// | `file_ops` | `64` | file operations in flight, 1 to 4096 |
/// | `buffers` | `256 x 16 KiB` | buffers; a size is a multiple of 4 KiB |
/// | `depth` | `64` | buffers that lie ready for the kernel at first |
/// | `reserve` | an eighth | buffers kept for sends |
/// | `window` | `4` | buffers that a connection may have received and not taken |
/// | `outbox` | `16` | entries that a connection may have pushed and not flushed |
/// | `stall` | `10 s` | how long somebody may wait for a buffer before the connections that hold some, and move nothing, are reset |
/// | `sq` | derived | entries of the submission queue |
/// | `stack` | `256 KiB` | a thread's stack |
/// | `pin` | `on` | `on`, a CPU a worker; `off`; or a list of CPUs as in `[2, 3]` |
/// | `idle` | `park` | how a worker waits: `park` in the kernel, or `spin(100 us)` first |
/// | `blocking` | `0` | helper threads |
/// | `registered` | `auto` | whether buffers are registered for files: `auto`, where the limit of locked memory allows it; `require`; or `off` |
/// | `harden` | `on` | whether the ring is restricted to what is declared |
/// | `allow` | `[]` | further rights: `paths`, to change directories and names |
/// | `signals` | `[]` | signals that reach tasks, as in `[HUP, USR1]`; INT and TERM stop the pool always |
/// | `drain` | `10 s` | how long connections may take to end after a stop |
/// | `on_error` | counted | `fn(Core, &Failure)`, told of tasks that failed |
/// | `root` | working directory at start | `fn(&State) -> P`, the directory of relative paths; `P` is anything that is `AsRef<Path>`. The same on every worker |
/// | `routes` | none | which worker opens which path; see below |
/// | `budget` | none | a sum above it does not compile |
/// | `crate` | `::kio` | where kio is found, for who has renamed it |
///
/// # Listening
///
/// A line of `listen` is `address => handler`. The address is a literal, or the path of a
/// `fn(&State) -> SocketAddr`; the handler an `async fn(TcpStream)` or `async fn(Worker<P>,
/// TcpStream)` that returns `()` or a `Result`. Its arena has a slot for each of `conns`, unless
/// `tasks` gives it a count. Options follow in braces: `accept = shared` is one listener for all
/// workers, `real_fds` gives connections real descriptors. `tls = path`, of a `fn(&State) ->
/// &TlsAcceptor`, shakes hands first, in the connection's task: the handler takes a `TlsStream` in place
/// of the `TcpStream`, and connections have real descriptors (kio's feature `tls`).
///
/// ```
/// # use kio::{Core, Result, Worker, net::TcpStream};
/// # use std::net::SocketAddr;
/// struct App {
///     admin: SocketAddr,
/// }
///
/// impl kio::State for App {
///     type Args = SocketAddr;
///
///     fn init(_: Core, admin: &SocketAddr) -> Result<Self> {
///         Ok(Self { admin: *admin })
///     }
/// }
///
/// kio::pool! {
///     struct Site;
///     workers = ..=64,
///     state = App,
///     listen = {
///         "[::]:80" => site,
///         App::admin => admin { accept = shared, real_fds },
///     },
///     tasks = { admin: 8 },
///     conns = 512,
/// }
///
/// impl App {
///     fn admin(&self) -> SocketAddr {
///         self.admin
///     }
/// }
///
/// async fn site(mut conn: TcpStream) -> Result<()> {
///     conn.send("hello\n").await
/// }
///
/// async fn admin(worker: Worker<Site>, mut conn: TcpStream) -> Result<()> {
///     let admin = worker.state().admin;
///     // ..
/// #   drop((admin, conn.send("").await));
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// # Routes
///
/// A line of `routes` is `pattern => worker`, and says where the files are opened that the pattern
/// matches: on every worker the same, so that all who use a file meet there. Without `routes`, or
/// where no line matches, a file is opened where it is asked for.
///
/// | pattern | matches |
/// | --- | --- |
/// | `"dir/file"` | this path |
/// | `"dir/*"`, `"dir/*.log"`, `"dir/app-*"` | what is directly in `dir`. One `*`, in the last segment |
/// | `"dir/**"` | all below `dir`, at any depth |
/// | `_` | every path, as `"/**"` does |
///
/// Every other character means itself. Of the lines that match, the one with the longest text before
/// its `*` wins; then an exact path over `*` over `**`; then the longest text behind the `*`. The
/// order of the lines says nothing. Relative patterns match below `root`, whose text counts as theirs;
/// absolute ones stand alone.
///
/// | worker | is |
/// | --- | --- |
/// | `0` | that one |
/// | `hash` | one of all, by a hash of the path that never changes |
/// | `hash(1..4)`, `hash(1..=3)` | one of these |
///
/// With `workers = ..=N` there may be fewer, so then only `hash` can be written. Where the number is
/// exact the struct has `const fn route(path: &str) -> Option<usize>` too:
///
/// ```
/// # use std::path::{Path, PathBuf};
/// struct Dir(PathBuf);
///
/// impl kio::State for Dir {
///     type Args = PathBuf;
///
///     fn init(_: kio::Core, dir: &PathBuf) -> kio::Result<Self> {
///         Ok(Self(dir.clone()))
///     }
/// }
///
/// impl Dir {
///     fn path(&self) -> &Path {
///         &self.0
///     }
/// }
///
/// kio::pool! {
///     struct Store;
///     workers = 4,
///     entry   = serve,
///     state   = Dir,
///     files   = 256,
///     root    = Dir::path,
///     routes  = {
///         "wal/*"          => 0,
///         "db/**"          => hash(1..4),
///         "/var/log/store" => 0,
///         _                => hash,
///     },
/// }
///
/// const _: () = assert!(matches!(Store::route("wal/000001"), Some(0)));
/// # async fn serve(_: kio::Core) -> kio::Result<()> { Ok(()) }
/// # fn main() {}
/// ```
///
/// Paths are taken as text: `.` and `//` vanish and `..` takes the segment before it away, whatever
/// links there are, and whether the file exists or not. `route` wants them like that, and knows no
/// root: to it a relative path is one below `root`. It says what opening the file will do, but for
/// two cases where the root must be known: an absolute pattern that reaches below it, and an absolute
/// path below it, which is known by its text below the root.
///
/// # Mistakes
///
/// All of a declaration's mistakes are reported at once. A budget that is exceeded tells where the
/// memory goes:
///
/// ```compile_fail,E0080
/// kio::pool! {
///     struct App;
///     entry = serve,
///     buffers = 2048 x 16 KiB,
///     budget = 16 MiB,
/// }
/// # async fn serve(_: kio::Core) -> kio::Result<()> { Ok(()) }
/// # fn main() {}
/// ```
#[proc_macro]
pub fn pool(tokens: proc_macro::TokenStream) -> proc_macro::TokenStream {
    declare(tokens.into()).into()
}

/// The code of a declaration, and its mistakes.
fn declare(tokens: TokenStream) -> TokenStream {
    let mut errors = errors::Errors::default();
    let code = parse::parse(tokens, &mut errors).map(|declaration| {
        let pool = check::check(declaration, &mut errors);
        expand::expand(&pool, errors.is_empty())
    });
    let mut all = errors.to_tokens();
    all.extend(code);
    all
}
