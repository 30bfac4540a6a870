//! The terminal, which is as it was before once this is dropped.

use std::io::{self, IsTerminal as _};

use ratatui::DefaultTerminal;

use super::{model::Model, view};

/// The terminal's other screen.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal. A panic gives it back as well (ratatui's hook).
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn open() -> io::Result<Self> {
        if !io::stdout().is_terminal() {
            return Err(io::Error::other("standard output is no terminal"));
        }
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                // Raw mode may have begun already.
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }

    /// Draws the model.
    ///
    /// # Errors
    /// The terminal's answer.
    pub(super) fn draw(&mut self, model: &Model) -> io::Result<()> {
        self.terminal.draw(|frame| view::draw(frame, model))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = ratatui::try_restore();
    }
}
