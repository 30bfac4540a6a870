//! Why something failed, in one line for logs and answers.

use std::error::Error;

/// Longest reason that is kept: what a directory says of a failure may be a stranger's words.
const REASON_BYTES_MAX: usize = 1024;

/// An error and what is behind it, without control characters and not without end.
pub(crate) fn of(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        // Transparent errors say what their sources say.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    plain(&text)
}

/// A text without control characters, and cut.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::new();
    for char in text.chars() {
        if plain.len() + char.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        plain.push(if char.is_control() { ' ' } else { char });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("asking\nthe directory")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_reason_is_one_line_with_all_that_is_behind_it() {
        let error = Outer(std::io::Error::other("refused"));
        assert_eq!(of(&error), "asking the directory: refused");
        assert_eq!(plain(&"é".repeat(2000)).len(), REASON_BYTES_MAX);
    }
}
