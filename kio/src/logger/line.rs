//! One record as a line of text, put together on the stack of the thread that logs.

use core::fmt::{self, Write};

use super::ring::RECORD_MAX;

/// Room that a cut record's end takes.
const CUT_MAX: usize = 32;

/// A line that is being written: what does not fit is counted.
pub(super) struct Line {
    bytes: [u8; RECORD_MAX],
    len: usize,
    cut: usize,
}

impl Line {
    /// The record, made one line: `2026-11-28T16:51:07.123456Z WARN  target: text`.
    pub(super) fn of(record: &log::Record<'_>, micros: u64) -> Self {
        let mut line = Self { bytes: [0; RECORD_MAX], len: 0, cut: 0 };
        let (stamp, level, target) = (Stamp(micros), record.level(), record.target());
        // It takes everything, so what fails is a `Display` of the user's.
        let _ = write!(line, "{stamp} {level:<5} ");
        let _ = write!(Plain(&mut line), "{target}: {}", record.args());
        line.end();
        line
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn end(&mut self) {
        if self.cut > 0 {
            let cut = core::mem::take(&mut self.cut);
            let _ = write!(Tail(self), " [{cut} bytes cut]");
        }
        self.bytes[self.len] = b'\n';
        self.len += 1;
    }

    fn put(&mut self, text: &str, most: usize) {
        let mut n = text.len().min(most - self.len);
        if self.cut > 0 {
            n = 0; // nothing follows what was cut
        }
        while !text.is_char_boundary(n) {
            n -= 1;
        }
        self.bytes[self.len..self.len + n].copy_from_slice(&text.as_bytes()[..n]);
        self.len += n;
        self.cut += text.len() - n;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text, RECORD_MAX - CUT_MAX);
        Ok(())
    }
}

/// What is behind the text of a cut line: there is room for it.
struct Tail<'a>(&'a mut Line);

impl Write for Tail<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.put(text, RECORD_MAX - 1);
        Ok(())
    }
}

/// Text without control characters, so that what a stranger sent looks like no other record and says
/// nothing to a terminal. A line feed is followed by a tab: one record, of several lines.
struct Plain<'a>(&'a mut Line);

impl Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(|c: char| c.is_control() && c != '\t') {
            match piece.chars().next_back().filter(|c| c.is_control() && *c != '\t') {
                None => self.0.write_str(piece)?,
                Some(control) => {
                    self.0.write_str(&piece[..piece.len() - control.len_utf8()])?;
                    match control {
                        '\n' => self.0.write_str("\n\t")?,
                        _ => write!(self.0, "\\x{:02x}", u32::from(control))?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// A moment of the system's clock, in microseconds, as UTC.
struct Stamp(u64);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// The date that is so many days after 1970-01-01. Years begin in March here, so that a leap day is
/// the last of its year.
const fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + 719_468; // since 0000-03-01
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 31, 30, 31, 30, 31 days, again and again.
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, of_month)
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};

    use super::*;

    fn line(text: &str) -> String {
        let args = format_args!("{text}");
        let record =
            log::Record::builder().args(args).target("here").level(log::Level::Warn).build();
        String::from_utf8(Line::of(&record, 0).bytes().to_vec()).expect("text stays text")
    }

    const HEAD: &str = "1970-01-01T00:00:00.000000Z WARN  here: ";

    #[test]
    fn a_record_is_a_line() {
        assert_eq!(line("hello"), [HEAD, "hello\n"].concat());
        assert_eq!(line(""), [HEAD, "\n"].concat());
    }

    #[test]
    fn control_characters_are_told_and_do_nothing() {
        assert_eq!(
            line("a\nb\r\x1b[31m\t\u{9b}"),
            [HEAD, "a\n\tb\\x0d\\x1b[31m\t\\x9b\n"].concat()
        );
    }

    #[test]
    fn what_is_too_long_is_cut_at_a_character_and_says_so() {
        for pad in 0..8 {
            let text = ["x".repeat(pad), "ä€🦀".repeat(300)].concat();
            let line = line(&text);
            assert!(line.len() <= RECORD_MAX, "{}", line.len());
            let (kept, cut) = line.trim_end().rsplit_once(" [").expect("it tells");
            let cut: usize = cut.strip_suffix(" bytes cut]").unwrap().parse().unwrap();
            assert_eq!(kept.len() - HEAD.len() + cut, text.len());
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_709_164_799, "2024-02-28T23:59:59.000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(Stamp(seconds * 1_000_000).to_string(), text);
        }
        assert_eq!(Stamp(1_000_001).to_string(), "1970-01-01T00:00:01.000001Z");
    }
}
