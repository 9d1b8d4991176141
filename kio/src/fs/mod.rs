//! Files, and which worker each belongs to.
//!
//! A declaration may say by path which worker opens a file: `route` reads its table, at run time and
//! while compiling. What a path is, is a matter of its text alone (`path`): no system call is made, so
//! a file that does not exist yet has the worker that it will have.

mod atomic;
mod file;
mod metadata;
mod names;
mod open;
mod options;
pub(crate) mod path;
mod pending;
mod read_dir;
pub(crate) mod route;
mod send;
#[cfg(test)]
mod tests;

pub use file::{Advice, File};
pub use metadata::{Kind, Metadata};
pub use options::OpenOptions;
pub use path::AsPath;
pub use read_dir::{DirEntry, ReadDir};
