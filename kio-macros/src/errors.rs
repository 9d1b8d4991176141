//! The mistakes of one declaration, collected so that all of them are reported at once.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};

/// What is wrong, each with the token it is about.
#[derive(Default)]
pub struct Errors(Vec<syn::Error>);

impl Errors {
    /// Notes a mistake at a token.
    pub fn push(&mut self, at: Span, message: impl Display) {
        self.0.push(syn::Error::new(at, message));
    }

    /// Notes what a parser reported.
    pub fn add(&mut self, error: syn::Error) {
        self.0.push(error);
    }

    /// Notes the error, if it is one, and gives the value otherwise.
    pub fn take<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mistakes as code that does not compile.
    pub fn to_tokens(&self) -> TokenStream {
        self.0.iter().map(syn::Error::to_compile_error).collect()
    }

    /// The mistakes as text, for tests.
    #[cfg(test)]
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().flatten().map(|error| error.to_string()).collect()
    }
}
