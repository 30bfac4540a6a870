//! Server-sent events: the bytes of a stream into messages (WHATWG HTML section 9.2.6).

/// Bytes of one message; a longer one ends the stream.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// What `Last-Event-ID` takes; the last one that was given.
    pub(crate) id: Option<String>,
    /// Its lines, with line feeds between them.
    pub(crate) data: String,
}

/// The stream sends a message longer than is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {MESSAGE_BYTES_MAX} bytes")]
pub(crate) struct TooLong;

/// A stream that is being read.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The bytes of a line that has not ended.
    line: Vec<u8>,
    /// The last byte was a carriage return, which a line feed may complete.
    returned: bool,
    data: String,
    id: Option<String>,
}

impl Reader {
    /// Takes bytes, and gives the messages that they complete.
    ///
    /// # Errors
    /// [`TooLong`].
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Message>, TooLong> {
        let mut messages = Vec::new();
        for &byte in bytes {
            let completes = std::mem::replace(&mut self.returned, byte == b'\r');
            match byte {
                b'\n' if completes => {}
                b'\n' | b'\r' => messages.extend(self.end_of_line()),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > MESSAGE_BYTES_MAX {
                return Err(TooLong);
            }
        }
        Ok(messages)
    }

    fn end_of_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.end_of_message();
        }
        let line = String::from_utf8_lossy(&line);
        // A comment is a field without a name.
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            _ => {}
        }
        None
    }

    fn end_of_message(&mut self) -> Option<Message> {
        let mut data = std::mem::take(&mut self.data);
        data.pop()?;
        Some(Message {
            id: self.id.clone(),
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": heartbeat\n\nid: 7\nevent: peer_connected\ndata: {\"a\":\ndata:1}\n\n\
                          retry: 10\n\r\nid: 8\r\ndata: x\r\n\r\ndata: y\r\rdata: cut off";

    fn message(id: &str, data: &str) -> Message {
        Message {
            id: Some(id.into()),
            data: data.into(),
        }
    }

    #[test]
    fn messages_are_the_same_however_the_stream_is_cut() {
        let expected = [
            message("7", "{\"a\":\n1}"),
            message("8", "x"),
            message("8", "y"),
        ];
        for cut in 0..=STREAM.len() {
            let mut reader = Reader::default();
            let (first, rest) = STREAM.as_bytes().split_at(cut);
            let mut messages = reader.take(first).unwrap();
            messages.extend(reader.take(rest).unwrap());
            assert_eq!(messages, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_message_without_end_is_given_up() {
        let mut reader = Reader::default();
        let line = [b'x'; 4096];
        let taken = (0..=MESSAGE_BYTES_MAX / line.len()).map(|_| reader.take(&line));
        assert_eq!(taken.last(), Some(Err(TooLong)));
        let mut reader = Reader::default();
        let lines = "data: x\n".repeat(MESSAGE_BYTES_MAX);
        assert_eq!(reader.take(lines.as_bytes()), Err(TooLong));
    }
}
