//! Lines of Prometheus' text format (version 0.0.4), and what must be escaped in them.

use core::fmt::{self, Display, Formatter, Write};

/// A sample: name, labels, value.
pub(super) struct Line<'a, V> {
    pub(super) name: &'a str,
    pub(super) labels: &'a [(&'a str, &'a dyn Display)],
    pub(super) value: V,
}

impl<V: Display> Display for Line<'_, V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        for (i, (label, value)) in self.labels.iter().enumerate() {
            f.write_str(if i == 0 { "{" } else { "," })?;
            write!(f, "{label}=\"{}\"", Escaped { text: value, quotes: true })?;
        }
        f.write_str(if self.labels.is_empty() { " " } else { "} " })?;
        writeln!(f, "{}", self.value)
    }
}

/// The lines that open a family of samples.
pub(super) struct Head<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'static str,
    pub(super) help: &'a str,
}

impl Display for Head<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, kind, help } = self;
        let help = Escaped { text: &help.trim(), quotes: false };
        write!(f, "# HELP {name} {help}\n# TYPE {name} {kind}\n")
    }
}

/// A text with what would end it escaped: `\` and line feeds, and in labels quotes.
struct Escaped<'a> {
    text: &'a dyn Display,
    quotes: bool,
}

struct Escaping<'a, 'b> {
    into: &'a mut Formatter<'b>,
    quotes: bool,
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaping { into: f, quotes: self.quotes }, "{}", self.text)
    }
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(['\\', '\n', '"']) {
            let (rest, escaped) = match piece.as_bytes().last() {
                Some(b'\\') => (&piece[..piece.len() - 1], "\\\\"),
                Some(b'\n') => (&piece[..piece.len() - 1], "\\n"),
                Some(b'"') if self.quotes => (&piece[..piece.len() - 1], "\\\""),
                _ => (piece, ""),
            };
            self.into.write_str(rest)?;
            self.into.write_str(escaped)?;
        }
        Ok(())
    }
}

/// Nanoseconds as seconds.
pub(super) struct Seconds(pub(super) u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Whether a family or a sample may be called so; a label without colons.
pub(super) fn is_name(name: &str, is_label: bool) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && !is_label);
    name.starts_with(|c: char| rest(c) && !c.is_ascii_digit()) && name.chars().all(rest)
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;

    use super::*;

    #[test]
    fn what_would_end_a_label_or_a_help_is_escaped() {
        let line = Line { name: "a", labels: &[("l", &"q\"b\\n\nend"), ("m", &7)], value: 1.5 };
        assert_eq!(line.to_string(), "a{l=\"q\\\"b\\\\n\\nend\",m=\"7\"} 1.5\n");
        assert_eq!(Line { name: "a", labels: &[], value: 3 }.to_string(), "a 3\n");
        let head = Head { name: "a", kind: "gauge", help: " b\\\n\"c\" " };
        assert_eq!(head.to_string(), "# HELP a b\\\\\\n\"c\"\n# TYPE a gauge\n");
    }

    #[test]
    fn seconds_keep_their_nanoseconds() {
        assert_eq!(
            format!("{} {}", Seconds(1_000_000_001), Seconds(1024)),
            "1.000000001 0.000001024"
        );
    }

    #[test]
    fn names_are_as_prometheus_has_them() {
        assert!(is_name("a_b:c9", false) && is_name("_", true));
        for bad in ["", "9a", "a-b", "ä", "a b", "a\n"] {
            assert!(!is_name(bad, false), "{bad:?}");
        }
        assert!(!is_name("a:b", true));
    }
}
