//! Tests of the feature `trace`: see `tests/`.
