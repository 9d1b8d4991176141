//! One line of the file: its words, and what they may be.

use core::net::SocketAddr;
use core::str::SplitWhitespace;
use core::time::Duration;

use super::{Cause, Mistake, Name, Result};

/// The words of one line.
pub struct Line<'a> {
    pub number: usize,
    pub words: SplitWhitespace<'a>,
    /// The word before.
    pub last: &'a str,
}

impl<'a> Line<'a> {
    pub fn new(number: usize, text: &'a str) -> Self {
        Self { number, words: text.split_whitespace(), last: "" }
    }

    /// What stands for the whole file.
    pub fn whole() -> Self {
        Self::new(0, "")
    }

    pub fn mistake(&self, cause: Cause, word: &str) -> Mistake {
        Mistake::new(self.number, cause, word)
    }

    pub fn next(&mut self, what: &'static str) -> Result<&'a str> {
        match self.words.next() {
            Some(word) => {
                self.last = word;
                Ok(word)
            }
            None => Err(self.mistake(Cause::Missing(what), self.last)),
        }
    }

    pub fn addr(&mut self) -> Result<SocketAddr> {
        let word = self.next("an address")?;
        word.parse().map_err(|_| self.mistake(Cause::NotAnAddress, word))
    }

    pub fn name(&mut self) -> Result<Name> {
        let word = self.next("a name")?;
        Name::try_from(word).map_err(|_| self.mistake(Cause::LongName, word))
    }

    pub fn span(&self, word: &str) -> Result<Duration> {
        let bad = || self.mistake(Cause::NotASpan, word);
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        let n: u32 = word[..digits].parse().map_err(|_| bad())?;
        let span = match &word[digits..] {
            "ms" => Duration::from_millis(n.into()),
            "s" => Duration::from_secs(n.into()),
            "m" => Duration::from_secs(u64::from(n) * 60),
            _ => return Err(bad()),
        };
        if span.is_zero() { Err(bad()) } else { Ok(span) }
    }

    pub fn number(&self, word: &str, low: u32, high: u32) -> Result<u32> {
        let n = word.parse().map_err(|_| self.mistake(Cause::NotANumber, word))?;
        match (low..=high).contains(&n) {
            true => Ok(n),
            false => Err(self.mistake(Cause::OutOfRange(low, high), word)),
        }
    }

    pub fn only_span(&mut self) -> Result<Duration> {
        let word = self.next("a time")?;
        self.span(word)
    }

    pub fn end(&mut self) -> Result<()> {
        match self.words.next() {
            Some(word) => Err(self.mistake(Cause::UnknownOption, word)),
            None => Ok(()),
        }
    }
}
