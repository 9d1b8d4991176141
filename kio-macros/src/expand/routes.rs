//! The routes: their table, and `route` on the pool's type. The table stands apart from the rest of
//! the numbers, which depend on the futures of tasks, so that a task may use `route` in a type.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::spanned::Spanned;

use super::{at, config, site};
use crate::check::{Pool, Quantity, Route, Setting, Target};

/// The consts `__KIO_ROUTES` and `__KIO_ROUTE_WORKERS`, and the pool's `route` where there is one.
pub fn routes(pool: &Pool, valid: bool) -> TokenStream {
    let workers = match workers(pool) {
        Some((_, count)) if valid => config::integer(count, "u32"),
        _ => quote_spanned!(site()=> __kio::Config::DEFAULT.max_workers()),
    };
    let lines = pool.routes.iter().flatten().filter(|_| valid).map(line);
    let route = has_route(pool).then(|| route(pool));
    quote_spanned! {site()=>
        const __KIO_ROUTE_WORKERS: u32 = #workers;
        const __KIO_ROUTES: &[__kio::Route] = &[#(#lines),*];
        #route
    }
}

/// Whether the pool's type has `route`: with `workers = ..=N` it is known at run time only.
pub fn has_route(pool: &Pool) -> bool {
    pool.routes.is_some() && !workers(pool).is_some_and(|(up_to, _)| up_to)
}

fn workers(pool: &Pool) -> Option<(bool, &Quantity)> {
    pool.fields.iter().find_map(|(_, setting)| match setting {
        Setting::Workers { up_to, count } => Some((*up_to, count)),
        _ => None,
    })
}

fn route(pool: &Pool) -> TokenStream {
    let (vis, name) = (&pool.vis, &pool.name);
    quote_spanned! {site()=>
        impl #name {
            /// The worker that opens a path, by `routes`; None where no line matches: then a file is
            /// opened where it is asked for. `const`: it can be asserted upon.
            ///
            /// The path is taken as written, without `.`, `..`, `//` or a `/` at its end. A relative
            /// one meets the relative patterns, an absolute one the absolute patterns. Opening a
            /// file gives the same answer, but knows where relative paths lie: there, an absolute
            /// pattern that reaches below the root counts too, and an absolute path below the root
            /// is known by its text below it.
            #vis const fn route(path: &str) -> __kio::core::option::Option<usize> {
                match __kio::route(__KIO_ROUTES, __KIO_ROUTE_WORKERS, path.as_bytes()) {
                    __kio::core::option::Option::Some(worker) => {
                        __kio::core::option::Option::Some(worker as usize)
                    }
                    __kio::core::option::Option::None => __kio::core::option::Option::None,
                }
            }
        }
    }
}

fn line(Route { pattern, target }: &Route) -> TokenStream {
    let target = self::target(target);
    match pattern {
        Some(pattern) => quote_spanned!(site()=> __kio::Route::new(#pattern, #target)),
        None => quote_spanned!(site()=> __kio::Route::all(#target)),
    }
}

fn target(target: &Target) -> TokenStream {
    match target {
        Target::Hash => quote_spanned!(site()=> __kio::Target::Hash),
        Target::Worker(worker) => {
            let (number, span) = (config::integer(worker, "u32"), at(worker.span));
            quote_spanned! {span=> {
                let worker: u32 = #number;
                __kio::core::assert!(
                    worker < __KIO_ROUTE_WORKERS,
                    "kio: a route names a worker that does not exist: they are 0 to `workers` - 1"
                );
                __kio::Target::Worker(worker)
            }}
        }
        Target::HashOf { first, end, inclusive } => {
            let (start, stop) = (config::integer(first, "u32"), config::integer(end, "u32"));
            let more = u32::from(*inclusive);
            quote_spanned! {at(end.span)=> {
                let (first, end): (u32, u32) = (#start, (#stop as u32).saturating_add(#more));
                __kio::core::assert!(
                    first < end,
                    "kio: the range of a route is empty: its first worker stands before its end"
                );
                __kio::core::assert!(
                    end <= __KIO_ROUTE_WORKERS,
                    "kio: a route names a worker that does not exist: they are 0 to `workers` - 1"
                );
                __kio::Target::HashOf { first, end }
            }}
        }
    }
}

/// `Pool::root`, where the declaration has one.
pub fn root(pool: &Pool, valid: bool) -> TokenStream {
    let Some(path) = pool.root.as_ref().filter(|_| valid) else {
        return TokenStream::new();
    };
    let krate = &pool.krate;
    quote_spanned! {at(path.span())=>
        fn root(
            state: &<Self as #krate::__private::Pool>::State,
            told: &mut dyn __kio::core::ops::FnMut(&[u8]),
        ) {
            told(__kio::root(&#path(state)))
        }
    }
}
