//! A head as it looks to who splits it at its line ends and colons, with none of our code.

/// A head, split.
pub(super) struct Plain<'a> {
    pub(super) line: &'a str,
    pub(super) fields: Vec<(String, &'a [u8])>,
}

impl<'a> Plain<'a> {
    /// Splits what must be a whole head and nothing behind it.
    ///
    /// # Panics
    /// Where it is not written as strictly as the gateway writes.
    pub(super) fn split(head: &'a [u8]) -> Self {
        let text = head.strip_suffix(b"\r\n\r\n");
        let text = text.unwrap_or_else(|| panic!("{head:?} does not end with an empty line"));
        let mut lines = text.split(|byte| *byte == b'\n').enumerate();
        let count = text.iter().filter(|byte| **byte == b'\n').count();
        let mut stripped = lines.by_ref().map(|(place, line)| {
            let line = match place < count {
                true => line.strip_suffix(b"\r"),
                false => Some(line),
            };
            let line = line.unwrap_or_else(|| panic!("a line of {head:?} ends without CR"));
            let is_clean = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
            assert!(line.iter().all(is_clean), "a control character in {line:?}");
            assert!(!line.is_empty(), "an empty line in {head:?}");
            line
        });
        let line = stripped.next().unwrap_or_default();
        let line = std::str::from_utf8(line).unwrap_or_else(|_| panic!("{line:?} is not text"));
        let fields = stripped.map(|line| {
            let colon = line.iter().position(|byte| *byte == b':');
            let colon = colon.unwrap_or_else(|| panic!("no colon in {line:?}"));
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            let is_token =
                |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
            assert!(
                !name.is_empty() && name.iter().all(is_token),
                "the name of {line:?}"
            );
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            (name, value.trim_ascii_start().trim_ascii_end())
        });
        Self {
            line,
            fields: fields.collect(),
        }
    }

    /// The values of a field, by its name in lower case.
    pub(super) fn all(&self, name: &str) -> Vec<&'a [u8]> {
        let named = self.fields.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| *value).collect()
    }

    /// The value of a field that must be there once.
    ///
    /// # Panics
    /// Where it is not.
    pub(super) fn one(&self, name: &str) -> &'a [u8] {
        match *self.all(name) {
            [value] => value,
            ref values => panic!("{name}: {values:?}"),
        }
    }

    /// How the content is framed: its length, or `None` for chunks; nothing where there is none.
    ///
    /// # Panics
    /// Where there are two opinions.
    pub(super) fn framing(&self) -> Option<Option<u64>> {
        match (
            &*self.all("content-length"),
            &*self.all("transfer-encoding"),
        ) {
            ([], []) => None,
            ([], [b"chunked"]) => Some(None),
            ([length], []) => {
                let text = std::str::from_utf8(length).unwrap_or_default();
                assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
                let length = text.parse();
                Some(Some(
                    length.unwrap_or_else(|_| panic!("the length {text:?}")),
                ))
            }
            both => panic!("two framings: {both:?}"),
        }
    }
}
