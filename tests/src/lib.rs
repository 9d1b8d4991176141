//! kio's tests.
