//! Host names to addresses.

use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;

use crate::Core;
use crate::error::{Error, Result};
use crate::worker::Resolver;

/// A job of the pool's resolver. Dropped, it is given up.
struct Asked {
    resolver: &'static Resolver,
    job: Option<usize>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(job) = self.job {
            self.resolver.forget(job);
        }
    }
}

impl Core {
    /// Resolves a host name and port, as `"example.org:80"`, to at most eight addresses. A thread
    /// that `blocking` declares asks the system's resolver, which blocks it (and allocates there).
    ///
    /// Cancel safety: given up, the answer is dropped when it comes. Errors: no thread is declared,
    /// 32 names are being resolved already, the system's.
    pub async fn resolve(self, name: &str) -> Result<heapless::Vec<SocketAddr, 8>> {
        let resolver = &self.parts()?.shared().resolver;
        let mut asked = Asked { resolver, job: Some(resolver.ask(name)?) };
        poll_fn(|cx| {
            if self.parts().is_err() {
                return Poll::Ready(Err(Error::Stopped));
            }
            let Some(job) = asked.job else { return Poll::Ready(Err(Error::Stopped)) };
            let polled = resolver.poll(job, cx);
            if polled.is_ready() {
                asked.job = None;
            }
            polled
        })
        .await
    }
}
