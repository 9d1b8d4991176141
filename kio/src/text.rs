//! Texts with numbers in them, put together while compiling: a `const` panic formats nothing.

/// A message put together while compiling.
pub(crate) struct Text {
    bytes: [u8; 512],
    len: usize,
}

impl Text {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; 512], len: 0 }
    }

    pub(crate) const fn put(&mut self, text: &str) {
        let text = text.as_bytes();
        let mut i = 0;
        while i < text.len() && self.len < self.bytes.len() {
            self.bytes[self.len] = text[i];
            self.len += 1;
            i += 1;
        }
    }

    /// Bytes, as KiB, rounded up.
    pub(crate) const fn kib(&mut self, bytes: u64) {
        self.number(bytes.div_ceil(1024));
        self.put(" KiB");
    }

    pub(crate) const fn number(&mut self, number: u64) {
        let mut unit = 1;
        while number / unit >= 10 {
            unit *= 10;
        }
        while unit > 0 {
            let digit = [b'0' + (number / unit % 10) as u8];
            match core::str::from_utf8(&digit) {
                Ok(digit) => self.put(digit),
                Err(_) => return,
            }
            unit /= 10;
        }
    }

    pub(crate) const fn as_str(&self) -> &str {
        match core::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => "kio: a bound of the declaration is exceeded",
        }
    }
}
