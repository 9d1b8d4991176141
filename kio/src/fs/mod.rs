//! Files, and which worker each belongs to.
//!
//! A declaration may say by path which worker opens a file: `route` reads its table, at run time and
//! while compiling. What a path is, is a matter of its text alone (`path`): no system call is made, so
//! a file that does not exist yet has the worker that it will have.

pub(crate) mod path;
pub(crate) mod route;
#[cfg(test)]
mod tests;
