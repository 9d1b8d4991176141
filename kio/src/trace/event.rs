//! One event, and how it reads.

use core::fmt;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum Kind {
    /// A task was built in its slot.
    Spawn,
    /// A task was made ready: by a completion, a timer, another task.
    Wake,
    /// The poll of a task began.
    Poll,
    /// The poll of a task ended.
    PollEnd,
    /// A task's slot became free.
    End,
    /// An operation was handed to the kernel (an SQE).
    Submit,
    /// A completion of an operation was taken (a CQE); with [`Event::more`] others follow.
    Complete,
    /// The worker began to take completions.
    Take,
    /// It had taken so many ([`Event::subject`]).
    TakeEnd,
    /// The worker entered the kernel: to submit, and to wait where `subject` is 1.
    Enter,
    /// It came back.
    EnterEnd,
}

impl Kind {
    pub(super) const ALL: [Self; 11] = [
        Self::Spawn,
        Self::Wake,
        Self::Poll,
        Self::PollEnd,
        Self::End,
        Self::Submit,
        Self::Complete,
        Self::Take,
        Self::TakeEnd,
        Self::Enter,
        Self::EnterEnd,
    ];
}

/// An event of a worker. Its `Display` is a line for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Event {
    /// When: nanoseconds of the monotonic clock.
    pub ns: u64,
    /// What.
    pub kind: Kind,
    /// Of a task, its slot's number on the worker; of the loop's steps see there.
    pub subject: u32,
    /// Of a task, its name in the declaration; of an operation, what it is; else empty.
    pub name: &'static str,
    /// Of an operation, its user data: one submission's and its completions'.
    pub id: u64,
    /// Of a completion, its result: a negative error number, or what the operation gave.
    pub result: i32,
    /// Of a completion: the operation goes on, and others follow.
    pub more: bool,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ns, subject, name, id, result, .. } = self;
        write!(f, "{:>12}.{:03} us  ", ns / 1000, ns % 1000)?;
        match self.kind {
            Kind::Spawn => write!(f, "task   {name}#{subject} is spawned"),
            Kind::Wake => write!(f, "task   {name}#{subject} is woken"),
            Kind::Poll => write!(f, "task   {name}#{subject} is polled .."),
            Kind::PollEnd => write!(f, "task   {name}#{subject} .. was polled"),
            Kind::End => write!(f, "task   {name}#{subject} has ended"),
            Kind::Submit => write!(f, "SQE    {name} [{id:x}]"),
            Kind::Complete if self.more => {
                write!(f, "CQE    {name} [{id:x}] = {result}, more follow")
            }
            Kind::Complete => write!(f, "CQE    {name} [{id:x}] = {result}"),
            Kind::Take => write!(f, "loop   takes completions .."),
            Kind::TakeEnd => write!(f, "loop   .. took {subject}"),
            Kind::Enter if *subject == 0 => write!(f, "enter  submits .."),
            Kind::Enter => write!(f, "enter  submits and sleeps .."),
            Kind::EnterEnd => write!(f, "enter  .. is back"),
        }
    }
}
