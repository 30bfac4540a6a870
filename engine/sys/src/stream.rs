//! The descriptor of a runtime's stream.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use monoio::net::UnixStream;

/// monoio's stream, which owns its descriptor without saying so in its type ([`AsFd`]).
pub struct Stream(pub UnixStream);

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor and closes it when it is dropped, which the
        // borrow of `self` outlasts not.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stream").field(&self.0.as_raw_fd()).finish()
    }
}
