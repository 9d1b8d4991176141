//! One request of a file operation, from the claim to the end, for the futures of this room.

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use crate::Core;
use crate::error::{Error, Result};
use crate::op::Io;
use crate::op::file::{Answer, Asked, Data, Request};
use crate::task::WaitNode;

/// A claimed request. Dropped while it is on its way, it lets the operation go on, and its buffers go
/// when that ends.
pub(super) struct Pending {
    core: Core,
    pub(super) request: &'static Request,
}

impl Pending {
    /// Waits for a free request.
    #[inline]
    pub(super) async fn claim(core: Core) -> Result<Self> {
        let mut node = pin!(WaitNode::new());
        poll_fn(|cx| {
            let parts = core.parts()?;
            if parts.tasks.closed.get() {
                return Poll::Ready(Err(Error::Stopped));
            }
            let request = core::task::ready!(parts.io.poll_request(node.as_mut().as_ref(), cx));
            Poll::Ready(Ok(Self { core, request }))
        })
        .await
    }

    /// A request that is under way.
    pub(super) fn of(core: Core, request: &'static Request) -> Self {
        Self { core, request }
    }

    /// Asks the owner, and waits for the answer.
    #[inline]
    pub(super) async fn ask(
        &self,
        owner: &'static Io,
        entry: u32,
        asked: Asked,
        data: Data<'_>,
    ) -> Result<Answer> {
        let io = &self.core.parts()?.io;
        io.fill(self.request, entry, asked, data);
        io.post(self.request, owner);
        self.answer().await
    }

    #[inline]
    pub(super) async fn answer(&self) -> Result<Answer> {
        poll_fn(|cx| self.core.parts()?.io.poll_answer(self.request, cx).map(Ok)).await
    }
}

impl Drop for Pending {
    #[inline]
    fn drop(&mut self) {
        if let Ok(parts) = self.core.parts() {
            parts.io.give_up(self.request);
        }
    }
}
