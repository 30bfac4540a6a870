//! Bytes that a destination did not take yet.

use std::{io, os::fd::BorrowedFd};

use engine_sys::socket;

/// Bytes on their way to one destination, the only ones that a connection keeps for itself.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// In front `overhead` bytes of Ringway's own (a PROXY protocol header), then the source's.
    bytes: Vec<u8>,
    overhead: usize,
    sent: usize,
}

impl Held {
    /// Holds `bytes` from `start` on.
    pub(crate) fn new(bytes: Vec<u8>, start: usize) -> Self {
        Self {
            bytes,
            overhead: start,
            sent: start,
        }
    }

    /// Holds `bytes` behind a header of Ringway's own.
    pub(crate) fn behind(mut header: Vec<u8>, bytes: &[u8]) -> Self {
        let overhead = header.len();
        header.extend_from_slice(bytes);
        Self {
            bytes: header,
            overhead,
            sent: 0,
        }
    }

    /// Puts a header of Ringway's own in front of the source's bytes, of which nothing was sent
    /// yet, instead of the one that was there.
    pub(crate) fn introduce(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut header = Vec::new();
        write(&mut header);
        if !header.is_empty() {
            let added = header.len();
            header.extend_from_slice(&self.bytes[self.overhead..]);
            (self.bytes, self.overhead, self.sent) = (header, added, 0);
        } else {
            self.sent = self.overhead;
        }
    }

    /// All of it, the header included.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Memory that it takes.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Sends what the destination takes now; gives how many of the source's bytes that were. When
    /// nothing is left, the memory is given back.
    ///
    /// # Errors
    /// Those of [`socket::send`].
    pub(crate) fn send(&mut self, to: BorrowedFd<'_>) -> io::Result<u64> {
        let own_before = self.overhead.saturating_sub(self.sent);
        let count = socket::send(to, &self.bytes[self.sent..])?;
        self.sent += count;
        if self.is_empty() {
            *self = Self::default();
        }
        Ok(count.saturating_sub(own_before) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    use super::*;

    #[test]
    fn only_the_sources_bytes_count_and_a_new_header_replaces_the_old() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let mut held = Held::new(b"skipped hello".to_vec(), 8);
        held.introduce(|header| header.extend(b"PROXY one\r\n"));
        held.introduce(|header| header.extend(b"PROXY 2\r\n"));
        assert_eq!(held.send(to.as_fd()).unwrap(), 5);
        assert!(held.is_empty());
        assert_eq!(held.capacity(), 0);
        drop(to);
        let mut got = Vec::new();
        other.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"PROXY 2\r\nhello");
    }

    #[test]
    fn without_a_header_nothing_is_copied() {
        let mut held = Held::new(b"skipped hello".to_vec(), 8);
        held.introduce(|_| {});
        assert_eq!(held.overhead, 8);
        assert!(!held.is_empty());
    }
}
