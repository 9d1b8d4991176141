//! The handle of a spawned task.

use core::fmt;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::Tasks;
use super::header::State;

/// Why a task gave no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// It panicked; `on_error` was told.
    Panicked,
    /// It was aborted.
    Aborted,
    /// The worker has stopped.
    Stopped,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "the task panicked",
            Self::Aborted => "the task was aborted",
            Self::Stopped => "the worker has stopped",
        })
    }
}

impl core::error::Error for JoinError {}

impl From<JoinError> for crate::Error {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Panicked => Self::Other("the task panicked"),
            JoinError::Aborted => Self::Other("the task was aborted"),
            JoinError::Stopped => Self::Stopped,
        }
    }
}

/// Awaits a task's value. Dropped, it detaches the task, which goes on; forgotten, it keeps the
/// task's slot for ever.
///
/// Cancel safety: awaiting `&mut handle` may be given up and taken up again.
pub struct JoinHandle<T> {
    /// `None` once the value was taken, or where the worker had stopped.
    task: Option<(&'static Tasks, u32)>,
    value: PhantomData<(T, *const ())>,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(tasks: &'static Tasks, index: u32) -> Self {
        Self { task: Some((tasks, index)), value: PhantomData }
    }

    pub(super) fn stopped() -> Self {
        Self { task: None, value: PhantomData }
    }

    fn live(&self) -> Option<(&'static Tasks, u32)> {
        self.task.filter(|(tasks, _)| tasks.owner.is_current())
    }

    /// Drops the task's future at its next turn, whatever it awaits. Awaiting then gives
    /// [`JoinError::Aborted`], unless it had ended before.
    pub fn abort(&self) {
        if let Some((tasks, index)) = self.live() {
            let (header, _) = tasks.body(index);
            if header.state.get() == State::Live {
                header.abort.set(true);
                tasks.ready(header);
            }
        }
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.live().is_none_or(|(tasks, index)| {
            matches!(tasks.body(index).0.state.get(), State::Done | State::Failed)
        })
    }
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((tasks, index)) = self.live() else {
            return Poll::Ready(Err(JoinError::Stopped));
        };
        let (header, body) = tasks.body(index);
        let value = match header.state.get() {
            State::Done => {
                header.state.set(State::Failed);
                // SAFETY: `Done` says that the body holds the output, of the type this handle was
                // made for; it is taken once, as the state has changed.
                Ok(unsafe { body.cast::<T>().read() })
            }
            State::Failed if header.abort.get() => Err(JoinError::Aborted),
            State::Failed => Err(JoinError::Panicked),
            _ => {
                header.join.register(tasks, cx);
                return Poll::Pending;
            }
        };
        self.task = None;
        tasks.free(index);
        Poll::Ready(value)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some((tasks, index)) = self.live() {
            tasks.detach(index);
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish()
    }
}
