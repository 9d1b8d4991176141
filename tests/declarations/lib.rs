//! Declarations that compile and that do not: see `tests/ui.rs`.
