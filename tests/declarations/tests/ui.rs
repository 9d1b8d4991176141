//! Declarations that compile, and one for each mistake with what is said of it.
//!
//! The texts are rustc's in part, so they are those of the toolchain that the workspace names. After
//! a change, `TRYBUILD=overwrite cargo test -p kio-declarations` writes them anew: read the diff.

#[test]
fn declarations() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/pass/*.rs");
    cases.compile_fail("ui/fail/*.rs");
}
