//! Neither an entry nor a listener.
kio::pool! {
    pub struct App;
    workers = 2,
}

fn main() {}
