//! Where a session's ciphertext comes from and goes to.

use std::io;

/// A byte stream that never waits: a nonblocking socket, or memory in a test.
pub trait Wire {
    /// Reads what is there, at most `into.len()` bytes. Zero means that the peer sends no more.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there; else what the stream says.
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Takes as many bytes of `from` as there is room for.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is no room; else what the stream says.
    fn send(&mut self, from: &[u8]) -> io::Result<usize>;
}
