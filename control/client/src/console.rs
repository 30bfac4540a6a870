//! Where a verb writes to.

use std::{
    cell::RefCell,
    io::{self, IsTerminal as _, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::show::Paint;

/// Where answers are written to, and how.
pub(crate) struct Console {
    pub(crate) paint: Paint,
    /// Answers are printed as they came.
    pub(crate) json: bool,
    /// A terminal's screen can be emptied.
    terminal: bool,
    out: RefCell<Box<dyn Write>>,
}

impl Console {
    /// Standard output.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            paint: Paint::of_stdout(),
            json,
            terminal: io::stdout().is_terminal(),
            out: RefCell::new(Box::new(io::stdout())),
        }
    }

    /// Writes a text at once.
    ///
    /// # Errors
    /// The system's answer: a closed pipe, a full disk.
    pub(crate) fn write(&self, text: &str) -> io::Result<()> {
        let mut out = self.out.borrow_mut();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Writes an answer as it came, as one line.
    ///
    /// # Errors
    /// The system's answer.
    pub(crate) fn write_raw(&self, body: &[u8]) -> io::Result<()> {
        let mut out = self.out.borrow_mut();
        out.write_all(body)?;
        if !body.ends_with(b"\n") {
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Before the same is shown again: the screen is emptied (ECMA-48 section 8.3.21 and 8.3.39),
    /// also what was scrolled away of the last one. A file gets one answer after the other.
    ///
    /// # Errors
    /// The system's answer.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match self.terminal && !self.json {
            true => self.write("\x1b[H\x1b[2J"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
impl Console {
    /// Something else than standard output.
    pub(crate) fn into(out: impl Write + 'static, json: bool) -> Self {
        Self {
            paint: Paint::PLAIN,
            json,
            terminal: false,
            out: RefCell::new(Box::new(out)),
        }
    }
}

/// Words beside the answer.
pub(crate) fn note(text: &str) {
    // Nobody is left to be told when this fails.
    let _ = writeln!(io::stderr().lock(), "ringway: {text}");
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
