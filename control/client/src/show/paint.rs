//! Colours, where a terminal shows them.

use std::{borrow::Cow, env, io::IsTerminal as _};

/// What a colour means here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Nothing particular.
    #[default]
    Plain,
    /// As it should be; something is added.
    Good,
    /// To be looked at; something changes.
    Notice,
    /// Wrong; something is removed.
    Bad,
    /// Headings, and what matters less.
    Faint,
}

/// Whether colours are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    colours: bool,
}

impl Paint {
    /// Colours on a terminal that has them, unless `NO_COLOR` is set (no-color.org).
    pub(crate) fn of_stdout() -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_none_or(|name| name == "dumb");
        Self {
            colours: std::io::stdout().is_terminal() && !unwanted && !dumb,
        }
    }

    /// The text in a colour (ECMA-48 section 8.3.117, SGR). Gives the text back as it is without
    /// colours.
    pub(crate) fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Good => "32",
            Colour::Notice => "33",
            Colour::Bad => "31",
            Colour::Faint => "2",
            Colour::Plain => return text.to_owned(),
        };
        match self.colours && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colours: false };
    #[cfg(test)]
    pub(super) const COLOURS: Self = Self { colours: true };
}

/// The text without control characters: what others wrote must not steer the terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars()
            .map(|letter| {
                if letter.is_control() {
                    '\u{fffd}'
                } else {
                    letter
                }
            })
            .collect::<String>()
            .into()
    } else {
        text.into()
    }
}
