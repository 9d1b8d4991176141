//! What runs: the arenas of tasks, entry and accept loops, and `Pool::enter` that starts them.
//!
//! Entry and handlers are called through a function of ours, so that what is wrong with one is said
//! once, at its path, and not at each use. It returns the user's own future: the type is the same.

use std::net::SocketAddr;

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ExprPath;
use syn::spanned::Spanned;

use super::{at, config, site};
use crate::check::{Address, Listener, Pool, Start, name, text};

/// A handler of `listen`, and on how many addresses it serves.
struct Handler<'a> {
    path: &'a ExprPath,
    /// What gives the acceptor, where connections are TLS.
    tls: Option<&'a ExprPath>,
    function: Ident,
    addresses: u32,
}

/// The functions that make the futures of the entry or the handlers.
pub fn futures(pool: &Pool, valid: bool) -> TokenStream {
    let (this, krate) = (&pool.name, &pool.krate);
    match &pool.start {
        Start::Entry(path) if valid => quote_spanned! {at(path.span())=>
            fn __kio_entry(
                worker: #krate::Worker<#this>,
            ) -> impl __kio::core::future::Future<Output = #krate::Result<()>> + 'static {
                #path(__kio::IntoEntry::<#this>::of(worker))
            }
        },
        Start::Listen(listeners) if valid => {
            let functions = handlers(listeners).into_iter().map(|handler| {
                let Handler { path, tls, function, .. } = handler;
                let handle = match tls {
                    None => quote_spanned! {at(path.span())=>
                        __kio::Handler::handle(#path, worker, stream)
                    },
                    Some(tls) => {
                        let acceptor = quote_spanned! {at(tls.span())=>
                            __kio::acceptor(#tls(__kio::core::ops::Deref::deref(&worker.state())))
                        };
                        quote_spanned! {at(path.span())=>
                            __kio::secured(#acceptor, #path, worker, stream)
                        }
                    }
                };
                quote_spanned! {at(path.span())=>
                    fn #function(
                        worker: #krate::Worker<#this>,
                        stream: #krate::net::TcpStream,
                    ) -> impl __kio::core::future::Future<Output: #krate::Outcome> + 'static {
                        #handle
                    }
                }
            });
            functions.collect()
        }
        _ => TokenStream::new(),
    }
}

/// The lines of the arenas that hold a known future, in the order that `Config::tasks` has.
pub fn arenas(pool: &Pool) -> Vec<TokenStream> {
    let this = &pool.name;
    let mut arenas = Vec::new();
    let secured: Vec<Handler<'_>> = match &pool.start {
        Start::Listen(listeners) => {
            handlers(listeners).into_iter().filter(|h| h.tls.is_some()).collect()
        }
        _ => Vec::new(),
    };
    for task in &pool.tasks {
        let (path, label, count) = (&task.path, &task.label, config::integer(&task.count, "u32"));
        let mut handles = false;
        // The handshake is in the same slot, so what is counted is the future of both.
        for Handler { function, .. } in secured.iter().filter(|h| text(h.path) == text(path)) {
            handles = true;
            arenas.push(quote_spanned! {site()=>
                __kio::handler_layout::<#this, _, _>(&#function, #label, #count)
            });
        }
        if handles {
            continue;
        }
        arenas.push(quote_spanned!(at(path.span())=> __kio::layout(&#path, #label, #count)));
    }
    match &pool.start {
        Start::Nothing => {}
        Start::Entry(path) => {
            let label = name(path);
            arenas.push(quote_spanned! {site()=>
                __kio::entry_layout::<#this, _, _, _>(&__kio_entry, #label)
            });
        }
        Start::Listen(listeners) => {
            let handlers = handlers(listeners);
            for Handler { path, function, .. } in &handlers {
                if pool.tasks.iter().any(|task| text(&task.path) == text(path)) {
                    continue;
                }
                let label = name(path);
                arenas.push(quote_spanned! {site()=>
                    __kio::handler_layout::<#this, _, _>(&#function, #label, __KIO_CONNS)
                });
            }
            for Handler { path, function, addresses, .. } in &handlers {
                let label = format!("listen: {}", name(path));
                arenas.push(quote_spanned! {site()=>
                    __kio::accept_layout::<#this, _, _>(&#function, #label, #addresses)
                });
            }
        }
    }
    arenas
}

/// The distinct handlers.
fn handlers(listeners: &[Listener]) -> Vec<Handler<'_>> {
    let mut handlers: Vec<Handler<'_>> = Vec::new();
    for listener in listeners {
        match handlers.iter_mut().find(|handler| handler.is_of(listener)) {
            Some(handler) => handler.addresses += 1,
            None => {
                let function = format_ident!("__kio_handler_{}", handlers.len());
                let (path, tls) = (&listener.handler, listener.options.tls.as_ref());
                handlers.push(Handler { path, tls, function, addresses: 1 });
            }
        }
    }
    handlers
}

impl Handler<'_> {
    fn is_of(&self, listener: &Listener) -> bool {
        text(self.path) == text(&listener.handler)
            && self.tls.map(text) == listener.options.tls.as_ref().map(text)
    }
}

/// `Pool::enter`. Without a valid declaration it starts nothing, and names the paths of the
/// declaration all the same, so that an editor knows what they are.
pub fn enter(pool: &Pool, valid: bool) -> TokenStream {
    let krate = &pool.krate;
    let body = match &pool.start {
        _ if !valid => echo(pool),
        Start::Nothing => quote_spanned!(site()=> __kio::core::result::Result::Ok(())),
        Start::Entry(_) => quote_spanned!(site()=> __kio::enter(worker, __kio_entry)),
        Start::Listen(listeners) => {
            let handlers = handlers(listeners);
            let loops = listeners.iter().map(|listener| serve(pool, listener, &handlers));
            quote_spanned! {site()=>
                #(#loops)*
                __kio::core::result::Result::Ok(())
            }
        }
    };
    quote_spanned! {site()=>
        fn enter(worker: #krate::Worker<Self>) -> #krate::Result<()> {
            #body
        }
    }
}

/// Starts the accept loop of one address.
fn serve(pool: &Pool, listener: &Listener, handlers: &[Handler<'_>]) -> TokenStream {
    let krate = &pool.krate;
    let Listener { addr, options, .. } = listener;
    let addr = match addr {
        Address::Literal(addr, _) => address(*addr),
        Address::Function(path) => quote_spanned! {at(path.span())=>
            #path(__kio::core::ops::Deref::deref(&worker.state()))
        },
    };
    let function = handlers.iter().find(|known| known.is_of(listener)).map(|known| &known.function);
    let shared = options.shared.then(|| quote!(.shared()));
    // The kernel's TLS is set up by a real descriptor.
    let real_fds = (options.real_fds || options.tls.is_some()).then(|| quote!(.real_fds()));
    quote_spanned! {site()=>
        let options = #krate::net::ListenOptions::new() #shared #real_fds;
        __kio::serve(worker, #addr, options, #function)?;
    }
}

/// An address as an expression.
fn address(addr: SocketAddr) -> TokenStream {
    let net = quote!(__kio::core::net);
    match addr {
        SocketAddr::V4(addr) => {
            let (octets, port) = (addr.ip().octets(), addr.port());
            quote_spanned! {site()=>
                #net::SocketAddr::V4(#net::SocketAddrV4::new(
                    #net::Ipv4Addr::from_octets([#(#octets),*]),
                    #port,
                ))
            }
        }
        SocketAddr::V6(addr) => {
            let (octets, port) = (addr.ip().octets(), addr.port());
            let (flow, scope) = (addr.flowinfo(), addr.scope_id());
            quote_spanned! {site()=>
                #net::SocketAddr::V6(#net::SocketAddrV6::new(
                    #net::Ipv6Addr::from_octets([#(#octets),*]),
                    #port,
                    #flow,
                    #scope,
                ))
            }
        }
    }
}

/// Names every path, and starts nothing.
fn echo(pool: &Pool) -> TokenStream {
    let mut paths: Vec<&ExprPath> = pool.tasks.iter().map(|task| &task.path).collect();
    paths.extend(&pool.root);
    match &pool.start {
        Start::Nothing => {}
        Start::Entry(path) => paths.push(path),
        Start::Listen(listeners) => {
            for Listener { addr, handler, options } in listeners {
                paths.push(handler);
                paths.extend(&options.tls);
                if let Address::Function(path) = addr {
                    paths.push(path);
                }
            }
        }
    }
    quote_spanned! {site()=>
        #(let _ = #paths;)*
        let _ = worker;
        __kio::core::result::Result::Ok(())
    }
}
