//! Tokens: their texts are secrets, and neither `Debug` nor an error nor a rendering shows one.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{
    document::Spot,
    field::{Field, text_field},
    problem::Problems,
};

/// Longest token; every attempt is hashed.
pub const TOKEN_BYTES_MAX: usize = 1024;
/// A token shorter than this is warned of: 16 letters and digits hold some 95 bits.
pub const TOKEN_BYTES_WEAK: usize = 16;
/// Longest name of a token.
const NAME_BYTES_MAX: usize = 64;
/// What a rendering has in the place of a token.
const HIDDEN: &str = "(hidden)";

/// The text of a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

/// Why a text is no token. It never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing, or more than [`TOKEN_BYTES_MAX`].
    #[error("a token has from 1 to {TOKEN_BYTES_MAX} characters")]
    Length,
    /// Something that the value of a header cannot have everywhere.
    #[error("a token has letters, digits and other visible ASCII characters, and no space")]
    Character,
    /// What a rendering has in the place of a token.
    #[error("{HIDDEN} is the placeholder of a hidden token, not a token")]
    Hidden,
}

impl Token {
    /// The secret's text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads the content of a token file: white space around the token is not part of it.
    ///
    /// # Errors
    /// If what is left is no token.
    pub fn from_file(content: &str) -> Result<Self, TokenError> {
        content.trim_ascii().parse()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if !(1..=TOKEN_BYTES_MAX).contains(&text.len()) {
            return Err(TokenError::Length);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Character);
        }
        if text == HIDDEN {
            return Err(TokenError::Hidden);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Field for Token {
    const SYNTAX: &'static str = "text";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        // Not repeated in what is said about it.
        let token: Self = spot
            .text(problems)?
            .parse()
            .map_err(|error| spot.error(problems, error))
            .ok()?;
        if token.0.len() < TOKEN_BYTES_WEAK {
            let message = format_args!(
                "a token of less than {TOKEN_BYTES_WEAK} characters may be guessed: take a random one"
            );
            spot.warning(problems, message);
        }
        Some(token)
    }

    fn write(&self) -> serde_json::Value {
        HIDDEN.into()
    }
}

/// The name of a token's file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenFile(PathBuf);

/// Why a text names no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path of a file is expected")]
pub struct TokenFileError;

impl TokenFile {
    /// Where the file may be, the first place that has it counts. `credentials` is
    /// `$CREDENTIALS_DIRECTORY` (systemd.exec(5), "CREDENTIALS"), `folder` the boot file's.
    pub fn places(&self, credentials: Option<&Path>, folder: &Path) -> Vec<PathBuf> {
        let is_name = self.0.components().count() == 1 && !self.0.is_absolute();
        let credential = credentials.filter(|_| is_name);
        let credential = credential.map(|credentials| credentials.join(&self.0));
        credential
            .into_iter()
            .chain([folder.join(&self.0)])
            .collect()
    }
}

impl FromStr for TokenFile {
    type Err = TokenFileError;

    fn from_str(text: &str) -> Result<Self, TokenFileError> {
        if text.is_empty() || text.contains('\0') {
            return Err(TokenFileError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

text_field!(TokenFile, "path");

/// Who has a token: letters, digits, `-`, `_`, `.` and `@`, the first a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenName(Box<str>);

/// Why a text is not the name of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has from 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_`, `.` and `@`, the first a letter or a digit"
)]
pub struct TokenNameError;

impl TokenName {
    /// The name of the token that has no other.
    pub(super) const ADMIN: &'static str = "admin";

    pub(super) fn admin() -> Self {
        Self(Self::ADMIN.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = TokenNameError;

    fn from_str(text: &str) -> Result<Self, TokenNameError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
        let starts = text.starts_with(|char: char| char.is_ascii_alphanumeric());
        if !starts || text.len() > NAME_BYTES_MAX || !text.bytes().all(known) {
            return Err(TokenNameError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_field!(TokenName, "name");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_is_refused() {
        let long = "a".repeat(1025);
        for (text, error) in [
            ("", TokenError::Length),
            (&*long, TokenError::Length),
            ("two words", TokenError::Character),
            ("line\n", TokenError::Character),
            ("müßig", TokenError::Character),
            ("(hidden)", TokenError::Hidden),
        ] {
            assert_eq!(text.parse::<Token>(), Err(error), "{text}");
        }
        assert_eq!(Token::from_file(" abc\r\n\n"), "abc".parse());
        assert_eq!(Token::from_file("\n"), Err(TokenError::Length));
        let token: Token = "abc".parse().unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn a_name_is_looked_for_among_the_credentials_first() {
        let places = |text: &str, credentials: Option<&str>| {
            let file: TokenFile = text.parse().unwrap();
            file.places(credentials.map(Path::new), Path::new("/etc/ringway"))
        };
        assert_eq!(
            places("token", Some("/run/credentials/ringway.service")),
            [
                Path::new("/run/credentials/ringway.service/token"),
                Path::new("/etc/ringway/token"),
            ]
        );
        assert_eq!(places("token", None), [Path::new("/etc/ringway/token")]);
        assert_eq!(
            places("../token", Some("/run/c")),
            [Path::new("/etc/ringway/../token")]
        );
        assert_eq!(places("/token", Some("/run/c")), [Path::new("/token")]);
    }

    #[test]
    fn names_are_safe_in_logs() {
        for text in ["ci", "ops@example.com", "A-1_b.c"] {
            assert_eq!(
                text.parse::<TokenName>().map(|name| name.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in ["", "-", "a b", "a\n", ".a", &"a".repeat(65)] {
            assert_eq!(text.parse::<TokenName>(), Err(TokenNameError), "{text}");
        }
    }
}
