//! A checked declaration to code.
//!
//! The code is the pool's struct, its inherent functions, and one `const _` block with all else: the
//! numbers as one `Config`, statics of exactly their sizes, the impl of `Pool`. No token of ours has a
//! span of the user's, so lints that forbid `unsafe` or ask for documentation look at the user's code
//! only; errors of types and of const evaluation carry the place of the token that they are about.

mod config;
mod routes;
mod start;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::Attribute;
use syn::spanned::Spanned;

use crate::check::Pool;

/// Writes the code. Where the declaration is not `valid`, it is a pool of the defaults that runs
/// nothing, so that code which uses the pool has no errors of its own.
pub fn expand(pool: &Pool, valid: bool) -> TokenStream {
    let Pool { attrs, vis, name, .. } = pool;
    let outer: Vec<_> = attrs.iter().filter(|attr| goes_everywhere(attr)).collect();
    let functions = functions(pool);
    let rest = rest(pool, valid);
    quote_spanned! {site()=>
        #(#attrs)*
        #vis struct #name;
        #(#outer)*
        #functions
        #(#outer)*
        const _: () = { #rest };
    }
}

/// A span for code of ours: locals are invisible to the user's paths, and the user's to ours.
fn site() -> Span {
    Span::mixed_site()
}

/// Code of ours, whose errors show at the user's token.
fn at(span: Span) -> Span {
    span.resolved_at(site())
}

/// Attributes of the struct that concern all that comes with it.
fn goes_everywhere(attr: &Attribute) -> bool {
    ["cfg", "allow"].into_iter().any(|name| attr.path().is_ident(name))
}

/// What a user calls.
fn functions(pool: &Pool) -> TokenStream {
    let Pool { vis, name, krate, state, .. } = pool;
    let (parameter, argument) = match state {
        Some(state) => (
            quote_spanned!(at(state.span())=> args: <#state as #krate::State>::Args),
            quote_spanned!(at(state.span())=> args),
        ),
        None => (TokenStream::new(), quote!(())),
    };
    quote_spanned! {site()=>
        impl #name {
            /// The memory that is declared, all workers together, in bytes. It prints as a table.
            #vis const FOOTPRINT: #krate::Footprint =
                <Self as #krate::__private::Pool>::FOOTPRINT;

            /// Runs the pool until SIGINT or SIGTERM, or until an entry fails. A second signal ends
            /// the drain.
            ///
            /// # Errors
            /// What kept the pool from starting, with the remedy; or the first error of an entry.
            #vis fn run(#parameter) -> #krate::Result<()> {
                #krate::__private::run::<Self>(#argument)
            }

            /// Starts the pool and returns its handle, which stops the pool when it is dropped.
            ///
            /// # Errors
            /// What kept the pool from starting, with the remedy.
            #vis fn start(#parameter) -> #krate::Result<#krate::Handle<Self>> {
                #krate::__private::start::<Self>(#argument)
            }

            /// As `start`, but waits until a run that is under way has ended and been joined: many
            /// tests share one pool.
            ///
            /// # Errors
            /// What kept the pool from starting, with the remedy.
            #vis fn start_when_free(#parameter) -> #krate::Result<#krate::Handle<Self>> {
                #krate::__private::start_when_free::<Self>(#argument)
            }
        }
    }
}

/// What nobody names: numbers, statics, the impl of `Pool`.
fn rest(pool: &Pool, valid: bool) -> TokenStream {
    let Pool { name, krate, state, .. } = pool;
    let state = state.as_ref().map_or_else(|| quote!(()), |state| quote!(#state));
    let config = config::config(pool, valid);
    let asserts = if valid { asserts(pool) } else { TokenStream::new() };
    let (futures, enter) = (start::futures(pool, valid), start::enter(pool, valid));
    let (routes, root) = (routes::routes(pool, valid), routes::root(pool, valid));
    let route = routes::has_route(pool).then(|| quote_spanned!(site()=> let _ = #name::route;));
    let on_error = pool.on_error.as_ref().map(|path| {
        quote_spanned! {at(path.span())=>
            fn on_error() -> __kio::core::option::Option<fn(#krate::Core, &#krate::Failure<'_>)> {
                let told: fn(#krate::Core, &#krate::Failure<'_>) = #path;
                __kio::core::option::Option::Some(told)
            }
        }
    });
    quote_spanned! {site()=>
        use #krate::__private as __kio;

        #futures
        #routes
        #config
        #asserts

        const __KIO_WORKERS: usize = __KIO_CONFIG.max_workers() as usize;
        type __KioTables = __kio::Tables<
            { __KIO_CONFIG.conns as usize },
            { __KIO_CONFIG.ops() as usize },
            { (__KIO_CONFIG.conns * __KIO_CONFIG.outbox) as usize },
            { __KIO_CONFIG.buffers as usize },
            { __KIO_CONFIG.task_slots() as usize },
            { __KIO_CONFIG.tasks.len() },
            { __KIO_CONFIG.files as usize },
            { __KIO_CONFIG.file_ops() as usize },
            { (__KIO_CONFIG.file_ops() + __KIO_CONFIG.files) as usize },
            { __KIO_CONFIG.base_bytes() },
            { __KIO_CONFIG.calls() as usize },
            __KIO_WORKERS,
        >;
        static __KIO_SHARED: __kio::Shared = __kio::Shared::new();
        static __KIO_TABLES: [__kio::Owned<__KioTables>; __KIO_WORKERS] =
            [const { __KioTables::new() }; __KIO_WORKERS];
        static __KIO_STATES: [__kio::StateCell<#state>; __KIO_WORKERS] =
            [const { __kio::StateCell::new() }; __KIO_WORKERS];
        static __KIO_BODIES: __kio::Bytes<{ __KIO_CONFIG.body_bytes() * __KIO_WORKERS }> =
            __kio::Bytes::new();
        static __KIO_BUFFERS: __kio::Bytes<{ __KIO_CONFIG.buffer_bytes() * __KIO_WORKERS }> =
            __kio::Bytes::new();
        static __KIO_RINGS: __kio::Bytes<{ __KIO_CONFIG.ring_bytes() * __KIO_WORKERS }> =
            __kio::Bytes::new();

        // SAFETY: the statics are in a block that only this impl sees, and made of its own numbers.
        unsafe impl __kio::Pool for #name {
            type State = #state;
            const CONFIG: __kio::Config = __KIO_CONFIG;

            fn shared() -> &'static __kio::Shared {
                // All of these are offered and none has to be used: no warning may say so.
                let _ = (#name::run, #name::start, #name::start_when_free, #name::FOOTPRINT);
                #route
                &__KIO_SHARED
            }

            fn memory(worker: usize) -> __kio::Memory {
                __KioTables::memory(
                    &__KIO_TABLES,
                    &__KIO_BODIES,
                    &__KIO_BUFFERS,
                    &__KIO_RINGS,
                    worker,
                )
            }

            fn state(worker: usize) -> &'static __kio::StateCell<#state> {
                &__KIO_STATES[worker]
            }

            #enter
            #root
            #on_error
        }
    }
}

/// What is known only when consts are evaluated, and what compiles but is hardly meant.
fn asserts(pool: &Pool) -> TokenStream {
    let name = &pool.name;
    let mut code = quote_spanned!(at(name.span())=> const _: () = __KIO_CONFIG.check(););
    if let Some(span) = pool.budget {
        code.extend(quote_spanned! {at(span)=>
            const _: () = <#name as __kio::Pool>::FOOTPRINT.within(__KIO_CONFIG.budget);
        });
    }
    // A macro cannot warn; a deprecated const can.
    for (span, text) in &pool.warnings {
        code.extend(quote_spanned! {at(*span)=>
            const _: () = {
                #[deprecated(note = #text)]
                const DECLARATION: () = ();
                DECLARATION
            };
        });
    }
    code
}
