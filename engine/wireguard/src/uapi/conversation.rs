//! One client's requests and their answers, over a stream that never blocks.

use std::io::{self, Read, Write};

use super::{
    answer,
    request::{Reader, Request},
};
use crate::{
    change::Change,
    device::{ConfigureError, Shared},
    state::State,
};

/// The longest line: a key in hexadecimal with its name has 79 bytes.
const LINE_MAX: usize = 256;
/// What is read at a time, and before others get their turn.
const READ_BYTES: usize = 64 * 1024;

/// What is configured.
pub(super) trait Configured {
    /// Changes it; the error is an error number.
    fn configure(&self, change: Change) -> Result<(), i32>;
    /// What it is.
    fn state(&self) -> Result<State, i32>;
}

impl Configured for Shared {
    fn configure(&self, change: Change) -> Result<(), i32> {
        Self::configure(self, change).map_err(|error| match error {
            ConfigureError::Bind { source, .. } => source.raw_os_error().unwrap_or(EIO),
            ConfigureError::TooMany { .. } => E2BIG,
            ConfigureError::Gone { .. } => ENODEV,
        })
    }

    fn state(&self) -> Result<State, i32> {
        Self::state(self).map_err(|_| ENODEV)
    }
}

pub(super) const EIO: i32 = 5;
pub(super) const E2BIG: i32 = 7;
pub(super) const ENODEV: i32 = 19;
pub(super) const EINVAL: i32 = 22;
pub(super) const EOPNOTSUPP: i32 = 95;

/// What a conversation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More of a request.
    Read,
    /// The client to take the answer.
    Write,
    /// Nothing: it is over.
    End,
}

/// The state of a conversation.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    reader: Reader,
    /// What came in and is no whole line yet.
    pending: Vec<u8>,
    answer: Vec<u8>,
    answered: usize,
}

impl Conversation {
    /// Goes on as far as the stream lets it: one read at most, so that others get their turn. One
    /// request is answered at a time, and the next one looked at when the client has taken the
    /// answer, so that no client piles up answers here.
    pub(super) fn go_on(
        &mut self,
        stream: &mut (impl Read + Write),
        device: &impl Configured,
    ) -> Next {
        let mut may_read = true;
        loop {
            let written = self.write(stream);
            if written != Next::Read {
                return written;
            }
            if self.take_request(device) {
                continue;
            }
            if self.pending.len() > LINE_MAX {
                return Next::End;
            }
            if !may_read {
                return Next::Read;
            }
            may_read = false;
            let mut bytes = [0; READ_BYTES];
            match stream.read(&mut bytes) {
                Ok(0) => return Next::End,
                Ok(read) => self.pending.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Next::Read,
                Err(_) => return Next::End,
            }
        }
    }

    /// Takes whole lines up to the end of a request, and does and answers it. Answers whether there
    /// was one; what is left is less than a line.
    fn take_request(&mut self, device: &impl Configured) -> bool {
        let mut from = 0;
        let mut request = None;
        while let Some(len) = self.pending[from..].iter().position(|byte| *byte == b'\n') {
            request = self.reader.line(&self.pending[from..from + len]);
            from += len + 1;
            if request.is_some() {
                break;
            }
        }
        self.pending.drain(..from);
        match request {
            None => return false,
            Some(Request::Get) => match device.state() {
                Ok(state) => answer::write_state(&state, &mut self.answer),
                Err(errno) => answer::write_errno(errno, &mut self.answer),
            },
            Some(Request::Set(change)) => {
                let errno = device.configure(change).err().unwrap_or(0);
                answer::write_errno(errno, &mut self.answer);
            }
            Some(Request::Wrong(errno)) => answer::write_errno(errno, &mut self.answer),
        }
        true
    }

    fn write(&mut self, stream: &mut impl Write) -> Next {
        while self.answered < self.answer.len() {
            match stream.write(&self.answer[self.answered..]) {
                Ok(0) => return Next::End,
                Ok(written) => self.answered += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Write,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Next::End,
            }
        }
        self.answer = Vec::new();
        self.answered = 0;
        Next::Read
    }
}

#[cfg(test)]
mod tests;
