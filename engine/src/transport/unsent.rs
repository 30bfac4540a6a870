//! Bytes that a destination did not take yet.

use std::io;

/// Bytes on their way to one destination, the only ones that a connection keeps for itself.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    /// In front `overhead` bytes of Ringway's own (a PROXY protocol header), then the source's.
    bytes: Vec<u8>,
    overhead: usize,
    sent: usize,
}

impl Unsent {
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
    /// Those of `send`.
    pub(crate) fn send(
        &mut self,
        send: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<u64> {
        let own_before = self.overhead.saturating_sub(self.sent);
        let count = send(&self.bytes[self.sent..])?;
        self.sent += count;
        if self.is_empty() {
            *self = Self::default();
        }
        Ok(count.saturating_sub(own_before) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sources_bytes_count_and_a_new_header_replaces_the_old() {
        let mut got = Vec::new();
        let mut held = Unsent::new(b"skipped hello".to_vec(), 8);
        held.introduce(|header| header.extend(b"PROXY one\r\n"));
        held.introduce(|header| header.extend(b"PROXY 2\r\n"));
        let mut piece = |bytes: &[u8]| {
            let count = bytes.len().min(10);
            got.extend_from_slice(&bytes[..count]);
            Ok(count)
        };
        assert_eq!(held.send(&mut piece).unwrap(), 1);
        assert_eq!(held.send(&mut piece).unwrap(), 4);
        assert!(held.is_empty());
        assert_eq!(held.capacity(), 0);
        assert_eq!(got, b"PROXY 2\r\nhello");
    }

    #[test]
    fn without_a_header_nothing_is_copied() {
        let mut held = Unsent::new(b"skipped hello".to_vec(), 8);
        held.introduce(|_| {});
        assert_eq!(held.overhead, 8);
        assert!(!held.is_empty());
    }
}
