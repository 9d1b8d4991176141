//! kio under another name.
#![deny(warnings)]

pub extern crate kio as runtime;

mod facade {
    pub mod kio {}
    pub use runtime as io;
}

facade::io::pool! { struct App; entry = serve, crate = crate::facade::io }
runtime::pool! { struct Other; listen = { "127.0.0.1:80" => handle }, crate = ::runtime }

async fn serve(_: runtime::Core) -> runtime::Result<()> {
    Ok(())
}

async fn handle(_: runtime::net::TcpStream) {}

fn main() {
    let _ = (App::run, Other::run);
}
