//! The command line: positional words and `--name value` options, each taken once.

use std::fmt::Display;
use std::str::FromStr;

use crate::Result;

/// What is left of the command line.
pub struct Args {
    words: Vec<String>,
}

impl Args {
    /// All words after the sub-command.
    pub fn new(words: impl Iterator<Item = String>) -> Self {
        Self { words: words.collect() }
    }

    /// Takes the next positional word.
    pub fn word(&mut self, what: &str) -> Result<String> {
        match self.words.first() {
            Some(word) if !word.starts_with("--") => Ok(self.words.remove(0)),
            _ => Err(format!("missing: {what}").into()),
        }
    }

    /// Takes the value of `--name`, if given.
    pub fn find<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(at) = self.words.iter().position(|word| word == name) else {
            return Ok(None);
        };
        if at + 1 >= self.words.len() {
            return Err(format!("{name} needs a value").into());
        }
        let value = self.words.remove(at + 1);
        self.words.remove(at);
        value.parse().map(Some).map_err(|e| format!("{name} {value}: {e}").into())
    }

    /// Takes the value of `--name`, or `default`.
    pub fn get<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> Result<T> {
        Ok(self.find(name)?.unwrap_or(default))
    }

    /// Takes the flag `--name`.
    pub fn flag(&mut self, name: &str) -> bool {
        let at = self.words.iter().position(|word| word == name);
        at.map(|at| self.words.remove(at)).is_some()
    }

    /// Refuses what nobody took.
    pub fn end(self) -> Result<()> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(format!("not understood: {word}").into()),
        }
    }
}
