//! HTTP/2 frames as whoever likes may write them (RFC 9113), with none of the gateway's own code.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, ensure};

use crate::stream;

/// What a client begins with (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113 section 6).
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// The flag of DATA and HEADERS that ends a stream.
pub const END_STREAM: u8 = 1;
/// The flag of HEADERS and CONTINUATION that ends a head.
pub const END_HEADERS: u8 = 4;
/// The flag of SETTINGS and PING that answers one.
pub const ACK: u8 = 1;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// With this content.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    /// As it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        let stream = self.stream.to_be_bytes();
        [
            &length[1..],
            &[self.kind, self.flags],
            &stream,
            &self.payload,
        ]
        .concat()
    }

    /// The error code of RST_STREAM and GOAWAY.
    pub fn code(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        let code = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(code.try_into().ok()?))
    }
}

/// A head, each field as a literal without index (RFC 7541 section 6.2.2): no compression at all.
pub fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            write_length(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A length with a prefix of seven bits (RFC 7541 section 5.1), without Huffman coding.
fn write_length(length: usize, block: &mut Vec<u8>) {
    let small = |value: usize| u8::try_from(value).unwrap_or(0x7f);
    if length < 0x7f {
        return block.push(small(length));
    }
    block.push(0x7f);
    let mut rest = length - 0x7f;
    while rest >= 0x80 {
        block.push(small(rest % 0x80) | 0x80);
        rest /= 0x80;
    }
    block.push(small(rest));
}

/// The head of a request without content.
pub fn get<'a>(host: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", host),
        (":path", path),
    ]
}

/// The client's side of a connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects with prior knowledge, and these settings.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Result<Self> {
        let mut stream = stream::connect(address)?;
        let setting =
            |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let settings: Vec<u8> = settings.iter().flat_map(setting).collect();
        let settings = Frame::new(kind::SETTINGS, 0, 0, settings);
        stream.write_all(&[PREFACE, &settings.bytes()].concat())?;
        Ok(Self { stream })
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn send(&mut self, frame: &Frame) -> Result<()> {
        self.stream
            .write_all(&frame.bytes())
            .context("sending a frame")
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending frames")
    }

    /// Reads a frame; `None` at the end of the connection, however it came.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn receive(&mut self) -> Result<Option<Frame>> {
        let mut head = [0; 9];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if is_end(&error) => return Ok(None),
            Err(error) => return Err(error).context("waiting for a frame"),
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        ensure!(
            length <= 1 << 14,
            "a frame of {length} bytes that nobody allowed"
        );
        let mut payload = vec![0; usize::try_from(length)?];
        if let Err(error) = self.stream.read_exact(&mut payload) {
            ensure!(is_end(&error), "{error}");
            return Ok(None);
        }
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Ok(Some(Frame::new(head[3], head[4], stream, payload)))
    }

    /// Reads up to a frame that is like that, answering settings and pings on the way; `None` where
    /// the connection ends before.
    ///
    /// # Errors
    /// When neither comes in time.
    pub fn wait_for(&mut self, like: impl Fn(&Frame) -> bool) -> Result<Option<Frame>> {
        while let Some(frame) = self.receive()? {
            let is_asked =
                matches!(frame.kind, kind::SETTINGS | kind::PING) && frame.flags & ACK == 0;
            if is_asked {
                let payload = match frame.kind {
                    kind::PING => frame.payload.clone(),
                    _ => Vec::new(),
                };
                // It may have ended meanwhile.
                let _ = self.send(&Frame::new(frame.kind, ACK, 0, payload));
            }
            if like(&frame) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

fn is_end(error: &std::io::Error) -> bool {
    stream::is_reset(error) || error.kind() == std::io::ErrorKind::UnexpectedEof
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_lengths_are_written_as_the_rfcs_say() {
        let frame = Frame::new(kind::HEADERS, END_HEADERS, 3, [1, 2]);
        assert_eq!(frame.bytes(), [0, 0, 2, 1, 4, 0, 0, 0, 3, 1, 2]);
        // RFC 7541, C.1.2, with a prefix of seven bits.
        let mut length = Vec::new();
        write_length(1337, &mut length);
        assert_eq!(length, [0x7f, 0xba, 0x09]);
        assert_eq!(head(&[("a", "bc")]), [0, 1, b'a', 2, b'b', b'c']);
    }
}
