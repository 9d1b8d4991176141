//! Nothing, in the form of a trace: the places that write one compile to nothing.

use crate::metrics::Op;

/// See the module of the feature.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Spawn,
    Wake,
    Poll,
    PollEnd,
    End,
    Submit,
    Complete,
    Take,
    TakeEnd,
    Enter,
    EnterEnd,
}

pub(crate) struct Trace;

impl Trace {
    /// Whether anything is written.
    pub(crate) const ON: bool = false;

    pub(crate) const fn new() -> Self {
        Self
    }

    pub(crate) fn clear(&self) {}

    #[inline(always)]
    pub(crate) fn task(&self, _: Kind, _: u32) {}

    #[inline(always)]
    pub(crate) fn op(&self, _: Kind, _: Op, _: u64, _: i32, _: bool) {}

    #[inline(always)]
    pub(crate) fn step(&self, _: Kind, _: u32) {}
}
