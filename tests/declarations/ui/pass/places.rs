//! Two pools in one module, one in a module of its own, one in a function.
#![deny(warnings)]

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

kio::pool! { struct A; entry = serve, workers = 2, pin = off }
kio::pool! { struct B; entry = serve, workers = 2, pin = off }

mod inner {
    kio::pool! {
        /// Seen one module up.
        pub(super) struct C;
        entry = super::serve,
    }
}

#[cfg(any())]
mod absent {}

kio::pool! {
    #[cfg(any())]
    struct Absent;
    entry = absent::serve,
}

fn main() {
    async fn local(_: kio::Worker<D>) -> kio::Result<()> {
        Ok(())
    }
    kio::pool! { struct D; entry = local }
    let _ = (A::run, B::run, inner::C::run, D::run);
}
