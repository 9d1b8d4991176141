//! The numbers: one `Config`, the arenas among them.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use super::{at, site, start};
use crate::check::{Blocks, Known, Pool, Quantity, Setting};

/// The `spawn` arena, where the declaration does not say: how many futures, of how many bytes.
const SPAWN: (u64, u64) = (64, 4096);
/// The `calls` arena.
const CALLS: (u64, u64) = (64, 256);

/// The consts `__KIO_CONFIG`, and `__KIO_CONNS` that counts of arenas refer to.
pub fn config(pool: &Pool, valid: bool) -> TokenStream {
    let name = pool.name.to_string();
    let mut conns = quote_spanned!(site()=> __kio::Config::DEFAULT.conns);
    let (mut arenas, mut fields) = (Vec::new(), Vec::new());
    let (mut spawn, mut calls) = (None, None);
    if valid {
        arenas = start::arenas(pool);
        conns = pool.conns.as_ref().map_or(conns, |conns| integer(conns, "u32"));
        fields.extend(pool.fields.iter().map(field));
        (spawn, calls) = (pool.spawn.as_ref(), pool.calls.as_ref());
    }
    // kio finds the arena of unnamed futures as the first without a type, and that of calls as the
    // last of all.
    arenas.push(blocks("spawn", spawn, SPAWN));
    arenas.push(blocks("calls", calls, CALLS));
    quote_spanned! {site()=>
        const __KIO_CONNS: u32 = #conns;
        const __KIO_TASKS: &[__kio::TaskDecl] = &[#(#arenas),*];
        const __KIO_CONFIG: __kio::Config = {
            let mut config = __kio::Config::DEFAULT;
            config.name = #name;
            config.tasks = __KIO_TASKS;
            config.conns = __KIO_CONNS;
            config.routes = __KIO_ROUTES;
            #(#fields)*
            config
        };
    }
}

fn field((name, setting): &(&'static str, Setting)) -> TokenStream {
    let (name, value) = (format_ident!("{name}"), value(setting));
    quote_spanned!(site()=> config.#name = #value;)
}

/// The line of an arena that takes any future.
fn blocks(name: &str, declared: Option<&Blocks>, (count, size): (u64, u64)) -> TokenStream {
    let (count, size) = match declared {
        Some(Blocks { count, size }) => (integer(count, "u32"), integer(size, "usize")),
        None => (literal(count), literal(size)),
    };
    quote_spanned!(site()=> __kio::TaskDecl::any(#name, #count, #size))
}

/// The value of a field.
fn value(setting: &Setting) -> TokenStream {
    let some = |value| quote_spanned!(site()=> __kio::core::option::Option::Some(#value));
    match setting {
        Setting::Workers { up_to: false, count } => {
            let count = integer(count, "u32");
            quote_spanned!(site()=> __kio::Workers::Exactly(#count))
        }
        Setting::Workers { up_to: true, count } => {
            let count = integer(count, "u32");
            quote_spanned!(site()=> __kio::Workers::UpTo(#count))
        }
        Setting::U32(quantity) => integer(quantity, "u32"),
        Setting::SomeU32(quantity) => some(integer(quantity, "u32")),
        Setting::U64(quantity) => integer(quantity, "u64"),
        Setting::SomeU64(quantity) => some(integer(quantity, "u64")),
        Setting::Registered(variant) => {
            let variant = format_ident!("{variant}");
            quote_spanned!(site()=> __kio::Registered::#variant)
        }
        Setting::Bool(on) => quote!(#on),
        Setting::Pin(true) => quote_spanned!(site()=> __kio::Pin::On),
        Setting::Pin(false) => quote_spanned!(site()=> __kio::Pin::Off),
        Setting::Cpus(cpus) => quote_spanned!(site()=> __kio::Pin::Cpus(&[#(#cpus),*])),
        Setting::Park => quote_spanned!(site()=> __kio::Idle::Park),
        Setting::Spin(quantity) => {
            let nanos = integer(quantity, "u64");
            quote_spanned!(site()=> __kio::Idle::Spin(#nanos))
        }
        Setting::Signals(numbers) => quote!(&[#(#numbers),*]),
    }
}

/// A number as an integer of a type. What is a const may be of any integer type; that it fits is
/// asserted while compiling, at the user's token.
pub fn integer(quantity: &Quantity, ty: &str) -> TokenStream {
    let ty = format_ident!("{ty}");
    let wide = match &quantity.amount {
        Known::Value(value) => return literal(*value),
        Known::Integer { expr, factor } => {
            let factor = literal(*factor);
            quote_spanned!(at(quantity.span)=> (#expr as u128).saturating_mul(#factor))
        }
        Known::Duration { expr } => {
            quote_spanned!(at(quantity.span)=> __kio::core::time::Duration::as_nanos(&#expr))
        }
    };
    let (least, most) = (quantity.range.start(), quantity.range.end());
    let text = match most {
        _ if *least == 0 => format!("kio: `{}` is negative, or too large", quantity.key),
        &u64::MAX => format!("kio: `{}` must be at least {least}", quantity.key),
        _ => format!("kio: `{}` must be {least} to {most}", quantity.key),
    };
    let (least, most) = (literal(*least), literal(*most));
    quote_spanned! {at(quantity.span)=> {
        let wide: u128 = #wide;
        __kio::core::assert!(wide >= #least && wide <= #most, #text);
        wide as #ty
    }}
}

fn literal(value: u64) -> TokenStream {
    let literal = Literal::u64_unsuffixed(value);
    quote!(#literal)
}
