//! Tokens to syntax: each key with its value as it was written, and every span kept.
//!
//! A mistake is noted and parsing goes on behind it, at the next key or the next line of a list.

use proc_macro2::{TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{
    Attribute, Error, ExprPath, Ident, LitInt, LitStr, Path, Result, Token, Type, Visibility,
};
use syn::{braced, bracketed, parenthesized, token};

use crate::errors::Errors;
use crate::keys::{self, Kind};
use crate::number::{Number, starts_path};
use crate::route::Route;

/// A declaration as it was written.
pub struct Declaration {
    pub attrs: Vec<Attribute>,
    pub vis: Visibility,
    pub name: Ident,
    pub entries: Vec<Entry>,
    /// Whether every key was understood.
    pub complete: bool,
}

/// One `key = value`.
pub struct Entry {
    pub key: Ident,
    pub value: Value,
}

/// What stands right of a key's `=`.
pub enum Value {
    /// `4`, or `..=16` with `up_to`.
    Workers {
        up_to: bool,
        number: Number,
    },
    Function(ExprPath),
    Listen(Vec<Listen>),
    Type(Type),
    Tasks(Vec<Task>),
    /// `64 x 4 KiB`; a lone number has no size.
    Blocks(Number, Option<Number>),
    Number(Number),
    Switch(bool),
    /// The CPUs of `pin = [0, 1]`.
    Cpus(Vec<LitInt>),
    Park,
    Spin(Number),
    Names(Vec<Ident>),
    /// `auto`, `require` or `off`.
    Registered(Ident),
    Routes(Vec<Route>),
    Crate(Path),
}

/// One line of `listen`.
pub struct Listen {
    pub addr: Addr,
    pub handler: ExprPath,
    pub options: Vec<ListenOption>,
}

/// Where to listen.
pub enum Addr {
    Literal(LitStr),
    /// A function of the state.
    Function(ExprPath),
}

/// An option of a listener: `real_fds`, `accept = shared`, or `tls = path`.
pub struct ListenOption {
    pub name: Ident,
    pub value: Option<ListenValue>,
}

/// What stands right of an option's `=`.
pub enum ListenValue {
    Word(TokenTree),
    /// A function of the state.
    Function(ExprPath),
}

/// One line of `tasks`.
pub struct Task {
    pub path: ExprPath,
    pub label: Option<Ident>,
    pub count: Number,
}

/// Parses a declaration. None if it has no name; the mistakes are in `errors`.
pub fn parse(tokens: TokenStream, errors: &mut Errors) -> Option<Declaration> {
    let parser = |input: ParseStream| Ok(declaration(input, errors));
    match parser.parse2(tokens) {
        Ok(declaration) => declaration,
        // Every parser here reads to the end, so there is nothing left to complain about.
        Err(error) => {
            errors.add(error);
            None
        }
    }
}

fn declaration(input: ParseStream, errors: &mut Errors) -> Option<Declaration> {
    let Some((attrs, vis, name)) = errors.take(header(input)) else {
        skip_until(input, |_| false);
        return None;
    };
    if input.parse::<Token![;]>().is_err() {
        errors.push(input.span(), format!("expected `;`: the keys follow after `struct {name};`"));
        skip_until(input, |input| at_key(input) || input.peek(Token![;]));
        let _ = input.parse::<Token![;]>();
    }
    let (mut entries, mut complete) = (Vec::new(), true);
    while !input.is_empty() {
        let entry = entry(input, errors);
        complete &= entry.is_some();
        entries.extend(entry);
        if !input.is_empty() && input.parse::<Token![,]>().is_err() {
            errors.push(input.span(), "expected `,`");
            skip_until(input, at_key);
        }
    }
    Some(Declaration { attrs, vis, name, entries, complete })
}

fn header(input: ParseStream) -> Result<(Vec<Attribute>, Visibility, Ident)> {
    let attrs = input.call(Attribute::parse_outer)?;
    let vis = input.parse()?;
    if !input.peek(Token![struct]) {
        return Err(input.error("a declaration begins with the pool's name: `pub struct Name;`"));
    }
    input.parse::<Token![struct]>()?;
    Ok((attrs, vis, input.parse()?))
}

/// One `key = value`. What is not understood is skipped, up to the comma before the next key.
fn entry(input: ParseStream, errors: &mut Errors) -> Option<Entry> {
    let entry = errors.take(key(input)).and_then(|(key, kind)| {
        let value = value(input, kind, errors);
        Some(Entry { key, value: errors.take(value)? })
    });
    if entry.is_none() {
        skip_until(input, |input| at_key(input) || at_key_after_comma(input));
    }
    entry
}

fn key(input: ParseStream) -> Result<(Ident, Kind)> {
    if !input.peek(Ident::peek_any) {
        return Err(input.error("expected a key, as in `workers = 2`"));
    }
    let key = input.call(Ident::parse_any)?;
    let word = key.to_string();
    let kind = keys::kind(&word).ok_or_else(|| Error::new(key.span(), keys::unknown(&word)))?;
    if !input.peek(Token![=]) || input.peek(Token![=>]) || input.peek(Token![==]) {
        return Err(input.error(format!("expected `=`, as in `{word} = ..`")));
    }
    input.parse::<Token![=]>()?;
    Ok((key, kind))
}

fn value(input: ParseStream, kind: Kind, errors: &mut Errors) -> Result<Value> {
    Ok(match kind {
        Kind::Workers => {
            let up_to = input.parse::<Option<Token![..=]>>()?.is_some();
            Value::Workers { up_to, number: Number::parse(input)? }
        }
        Kind::Function => Value::Function(path(input, "the path of a function")?),
        Kind::Listen => {
            let lines = braces(input, "{ \"127.0.0.1:80\" => handler }")?;
            Value::Listen(list(&lines, errors, listen))
        }
        Kind::Type => Value::Type(input.parse()?),
        Kind::Tasks => {
            let lines = braces(input, "{ task: 1024 }")?;
            Value::Tasks(list(&lines, errors, |input, _| task(input)))
        }
        Kind::Blocks => {
            let (count, size) = Number::parse_blocks(input)?;
            Value::Blocks(count, size)
        }
        Kind::Count | Kind::Size | Kind::Span => Value::Number(Number::parse(input)?),
        Kind::Switch => Value::Switch(switch(input, "`on` or `off`")?),
        Kind::Pin if input.peek(token::Bracket) => {
            let cpus;
            bracketed!(cpus in input);
            Value::Cpus(list(&cpus, errors, |input, _| input.parse()))
        }
        Kind::Pin => Value::Switch(switch(input, "`on`, `off` or a list of CPUs as in `[0, 1]`")?),
        Kind::Idle => idle(input, errors)?,
        Kind::Names if input.peek(token::Bracket) => {
            let names;
            bracketed!(names in input);
            Value::Names(list(&names, errors, |input, _| input.parse()))
        }
        Kind::Names => return Err(input.error("expected a list of names in brackets: `[..]`")),
        Kind::Registered => match input.fork().parse::<Ident>() {
            Ok(_) => Value::Registered(input.parse()?),
            Err(_) => return Err(input.error("expected `auto`, `require` or `off`")),
        },
        Kind::Routes => {
            let lines = braces(input, "{ \"wal/*\" => 0, _ => hash }")?;
            Value::Routes(list(&lines, errors, Route::parse))
        }
        Kind::Crate => Value::Crate(input.call(Path::parse_mod_style)?),
    })
}

/// The content of braces.
fn braces<'a>(input: ParseStream<'a>, example: &str) -> Result<syn::parse::ParseBuffer<'a>> {
    if !input.peek(token::Brace) {
        return Err(input.error(format!("expected a list in braces: `{example}`")));
    }
    let content;
    braced!(content in input);
    Ok(content)
}

/// Things with commas between them, up to the end; what is wrong is noted and left out.
fn list<T>(
    input: ParseStream,
    errors: &mut Errors,
    mut item: impl FnMut(ParseStream, &mut Errors) -> Result<T>,
) -> Vec<T> {
    let mut items = Vec::new();
    while !input.is_empty() {
        let read = item(input, errors);
        let failed = read.is_err();
        items.extend(errors.take(read));
        if !failed && !input.is_empty() && !input.peek(Token![,]) {
            errors.push(input.span(), "expected `,`");
        }
        skip_until(input, |input| input.peek(Token![,]));
        let _ = input.parse::<Token![,]>();
    }
    items
}

fn path(input: ParseStream, what: &str) -> Result<ExprPath> {
    match starts_path(input) {
        true => input.parse(),
        false => Err(input.error(format!("expected {what}"))),
    }
}

/// `addr => handler`, and options in braces.
fn listen(input: ParseStream, errors: &mut Errors) -> Result<Listen> {
    let addr = if input.peek(LitStr) {
        Addr::Literal(input.parse()?)
    } else {
        let what = "an address: \"127.0.0.1:80\", or the path of a `fn(&State) -> SocketAddr`";
        Addr::Function(path(input, what)?)
    };
    if !input.peek(Token![=>]) {
        return Err(input.error("expected `=>` and the handler of the connections"));
    }
    input.parse::<Token![=>]>()?;
    let handler = path(input, "the path of the handler, an `async fn(TcpStream)`")?;
    let options = if input.peek(token::Brace) {
        list(&braces(input, "")?, errors, |input, _| listen_option(input))
    } else {
        Vec::new()
    };
    Ok(Listen { addr, handler, options })
}

fn listen_option(input: ParseStream) -> Result<ListenOption> {
    let name: Ident = input.parse()?;
    let value = match input.parse::<Option<Token![=]>>()? {
        Some(_) if name == "tls" => {
            let what = "the path of a `fn(&State) -> &TlsAcceptor`";
            Some(ListenValue::Function(path(input, what)?))
        }
        Some(_) => Some(ListenValue::Word(input.parse()?)),
        None => None,
    };
    Ok(ListenOption { name, value })
}

/// `path: count`, or `path as label: count`.
fn task(input: ParseStream) -> Result<Task> {
    let path = path(input, "the path of an `async fn`, and how many of it may live: `echo: 1024`")?;
    let label = match input.parse::<Option<Token![as]>>()? {
        Some(_) => Some(input.parse()?),
        None => None,
    };
    if !input.peek(Token![:]) {
        return Err(input.error("expected `:` and how many of it may live on a worker"));
    }
    input.parse::<Token![:]>()?;
    Ok(Task { path, label, count: Number::parse(input)? })
}

fn switch(input: ParseStream, what: &str) -> Result<bool> {
    let word = input.fork().call(Ident::parse_any).map(|word| word.to_string());
    let on = match word.as_deref() {
        Ok("on") => true,
        Ok("off") => false,
        _ => return Err(input.error(format!("expected {what}"))),
    };
    input.parse::<Ident>()?;
    Ok(on)
}

fn idle(input: ParseStream, errors: &mut Errors) -> Result<Value> {
    let error = input.error("expected `park` or `spin(100 us)`");
    let word: Ident = input.parse().map_err(|_| error.clone())?;
    match word.to_string().as_str() {
        "park" => Ok(Value::Park),
        "spin" if input.peek(token::Paren) => {
            let content;
            parenthesized!(content in input);
            let span = Number::parse(&content);
            if span.is_ok() && !content.is_empty() {
                errors.push(content.span(), "expected `)`");
            }
            skip_until(&content, |_| false);
            span.map(Value::Spin)
        }
        _ => Err(error),
    }
}

/// Whether a key and its `=` are next.
fn at_key(input: ParseStream) -> bool {
    input.peek(Ident::peek_any) && input.peek2(Token![=])
}

fn at_key_after_comma(input: ParseStream) -> bool {
    let ahead = input.fork();
    ahead.parse::<Token![,]>().is_ok() && (ahead.is_empty() || at_key(&ahead))
}

/// Skips tokens until `there`, or to the end.
pub fn skip_until(input: ParseStream, there: impl Fn(ParseStream) -> bool) {
    while !input.is_empty() && !there(input) {
        let _ = input.parse::<TokenTree>();
    }
}
