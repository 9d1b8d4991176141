//! What a task may return, and what becomes of an error nobody waits for.

use core::any::Any;
use core::fmt;

use crate::error::Error;

/// What a task's future may return: nothing, or a `Result`.
///
/// The error of a task whose join handle was dropped is counted, and told to `on_error` unless it
/// is routine (see [`Error::is_routine`]).
#[diagnostic::on_unimplemented(
    message = "a kio task returns `()` or a `Result`, not `{Self}`",
    note = "to hand another value back, return `Ok(value)` and await the join handle"
)]
pub trait Outcome: 'static {
    /// The error in it, where there is one, and whether it is routine.
    #[doc(hidden)]
    fn failure(&self) -> Option<(&dyn fmt::Debug, bool)>;
}

impl Outcome for () {
    fn failure(&self) -> Option<(&dyn fmt::Debug, bool)> {
        None
    }
}

impl<T: 'static, E: fmt::Debug + 'static> Outcome for Result<T, E> {
    fn failure(&self) -> Option<(&dyn fmt::Debug, bool)> {
        let error = self.as_ref().err()?;
        let routine = (error as &dyn Any).downcast_ref::<Error>().is_some_and(Error::is_routine);
        Some((error, routine))
    }
}

/// What `on_error` is told of a task that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure<'a> {
    /// The task's name in the declaration.
    pub task: &'static str,
    /// How it ended.
    pub kind: FailureKind<'a>,
}

/// How a task failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum FailureKind<'a> {
    /// It returned an error that nobody awaited.
    Error(&'a dyn fmt::Debug),
    /// It panicked, with this message where it was text.
    Panic(&'a str),
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FailureKind::Error(error) => write!(f, "task `{}` failed: {error:?}", self.task),
            FailureKind::Panic(text) => write!(f, "task `{}` panicked: {text}", self.task),
        }
    }
}
